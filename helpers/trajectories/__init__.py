"""What agents did, step by step, in one format: ATIF-v1.7. Runs where a person types, and at the end of a run in its agent's container.

What agents left (AIDE's journal, mini-swe-agent's trajectory) stays as it is; what is made of it is bounded, whatever it holds. All but the
command needs nothing but Python.
"""
