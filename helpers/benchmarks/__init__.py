"""Many tasks × models × agents × rollouts as one round: what is asked, and what it came to.

Runs where a person types.
"""
