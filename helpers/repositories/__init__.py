"""Repository tasks: what is prepared of them, overrides, the agents' diffs, and scores.

Runs where tasks are prepared; diff, checkout and score run at the end of jobs, on nodes or in images, with git and nothing but Python."""
