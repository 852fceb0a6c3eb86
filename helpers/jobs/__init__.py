"""What is submitted, followed, settled and ended: workflows, preparations, notebooks, later gradings.

Runs where a person types. One submitter (scripts_hpc/lib/submit.sh), one follower (follow.py), a class for each kind (kinds/)."""
