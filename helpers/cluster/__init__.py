"""The first hour on a new cluster: what it says of itself, and the first site file from that.

Runs where a person types, on a login node."""
