"""What servers leave in the folder of addresses, where their job died without a word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from helpers.jobs.fleet import Fleet
from helpers.lib import folders

ENDS = ("", ".failed", ".consumers")  # behind SERVICE_JOB


def forget(folder: Path, fleet: Fleet, servers: Iterable[str]) -> None:
    """Remove what is left of servers whose job is gone for sure. Raises SchedulerUnavailable."""
    left = {job: [path for end in ENDS for path in folder.glob(f"*_{job}{end}")] for job in servers}
    fleet.ask_again(job for job, files in left.items() if files)
    for job, files in left.items():
        if not fleet.gone(job):
            continue
        for path in files:
            folders.remove(path)
