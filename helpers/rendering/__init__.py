"""Job scripts and container definitions from templates/, and the copy of the code that a run is sealed with.

Runs where a person types."""
