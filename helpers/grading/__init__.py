"""What a submission is worth: this project's metrics, and mle-bench's graders where that is installed.

Runs in the image of the grading server, and wherever a task is validated."""
