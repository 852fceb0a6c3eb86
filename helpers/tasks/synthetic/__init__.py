"""Makes the data of a task from its definition: public and hidden halves, a description, a reference solution.

Runs where tasks are prepared."""
