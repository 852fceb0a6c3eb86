"""Which job runs which rollout: the links in a workflow's claims/, made by scripts_hpc/lib/part.sh, never removed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from helpers.runs.cells import Agent

FOLDER = "claims"


def owner(group: Path, rollout: int, attempt: int = 0) -> str | None:
    """The job that has claimed a try at a rollout; None where none has."""
    try:
        return os.readlink(group / FOLDER / (f"{rollout}.{attempt}" if attempt else str(rollout)))
    except OSError:
        return None


def changed(group: Path) -> int:
    """Another number whenever a claim was made; 0 where there are none."""
    try:
        return (group / FOLDER).stat().st_mtime_ns
    except OSError:
        return 0


def owners(group: Path) -> dict[tuple[int, int], str]:
    """All claims of a workflow: by rollout and attempt the job."""
    found = {}
    try:
        names = os.listdir(group / FOLDER)
    except OSError:
        return {}
    for name in names:
        rollout, _, attempt = name.partition(".")
        if rollout.isdecimal() and (attempt or "0").isdecimal():
            key = int(rollout), int(attempt or 0)
            if (job := owner(group, *key)) is not None:
                found[key] = job
    return found


def beaten(group: Path, agents: Iterable[Agent]) -> set[str]:
    """Those of some jobs whose rollout another one has claimed."""
    taken = owners(group)
    return {one.job for one in agents if taken.get((one.rollout, one.attempt), one.job) != one.job}
