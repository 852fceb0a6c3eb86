"""Whether a run would work on a site, before a GPU-hour is spent: checks here (login, slurm) and by probe jobs (nodes, network, equipment).

Runs where a person types, on a login node; peer.py on nodes, in the image, and it needs nothing but Python.
"""
