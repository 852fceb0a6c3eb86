#!/usr/bin/env bash
# The smallest job, for `sbatch --test-only`: would Slurm take such options? (helpers/cluster/facts.py)
true
