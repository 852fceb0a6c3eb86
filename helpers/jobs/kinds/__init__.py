"""A module for each kind of jobs that jobs.sh knows; base.py says what a kind has to tell."""
