"""The servers of a run, grading and replay, and what they have in common: TLS, tokens, the announcing of their address.

Runs in jobs, in the grading image."""
