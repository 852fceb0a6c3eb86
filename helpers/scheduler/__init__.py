"""What is asked of the scheduler, what it says of jobs, what it takes, and why a job waits or died.

Runs where a person types; container_faults.py in jobs too, and it needs nothing but Python."""
