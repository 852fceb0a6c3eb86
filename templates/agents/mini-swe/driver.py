"""Runs mini-swe-agent on one task, within a step limit and a deadline, and leaves no process behind.

Usage: driver.py (no arguments; reads the variables that the host sets for every agent, see start.sh)
Exit code: 0 when the agent has handed in, all steps are done or the time is over, 1 otherwise, with one line on stderr.
"""

import sys

from agent_driver import drive
from agent_settings import Settings


def work(settings: Settings) -> int:
    import mini_worker  # takes seconds, and isn't needed by the watcher

    return mini_worker.run(settings)


if __name__ == "__main__":
    sys.exit(drive(__doc__, "mini-swe-agent", work))
