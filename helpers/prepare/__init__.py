"""Prepares many tasks in parallel on one machine: with our generator, mle-bench, BioML-bench or a prepare.py.

Runs where a person types, or in the jobs of prepare_tasks.sh, in the preparation image."""
