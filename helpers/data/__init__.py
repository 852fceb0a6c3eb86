"""Where a prepared task lies, how it gets there whole or not at all, and what tells its data from others.

Runs where a person types, in jobs and in the images of preparing and grading."""
