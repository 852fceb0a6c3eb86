#!/usr/bin/env python3
"""Prepares many tasks in parallel on this machine, by the name that the specification gives it; helpers/prepare/main.py does it."""

import os
import sys

if not __package__:  # run as a file
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from helpers.prepare.main import command, main

__all__ = ["command", "main"]

if __name__ == "__main__":
    command()
