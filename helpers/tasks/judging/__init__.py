"""Judges what a solution of a task has written, hostile files included.

Runs where a task is validated, and in the grading server."""
