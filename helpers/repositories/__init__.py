"""Repository tasks: what is prepared of them, overrides, diffs, scores.

Runs where a person types and in the jobs of prepare_tasks.sh (`prepare`, `instance`); on nodes and in images what judges an agent's
work, which needs nothing but Python and git.
"""
