"""A round, or some runs, as one HTML file that needs no network: `results.sh report`.

Runs where a person types.
"""
