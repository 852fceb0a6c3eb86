"""Pipelines: a folder each, whose generate.py says all that its tasks are made of, and generate_abstract.py takes that from flags.

Runs where a person types, and in the jobs of the launcher. A pipeline is a file to run, by its path and from anywhere.
"""
