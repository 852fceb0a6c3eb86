#!/usr/bin/env python3
"""Runs one task, by the name that the specification gives it; helpers/jobs/run_task.py does it."""

import os
import sys

if not __package__:  # run as a file
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from helpers.jobs.run_task import main
from helpers.lib.signals import catch_signals

__all__ = ["main"]

if __name__ == "__main__":
    catch_signals()
    sys.exit(main())
