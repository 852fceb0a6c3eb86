"""Where each value of a run's row comes from, and that value derived anew: `results.sh explain`.

Runs where a person types.
"""
