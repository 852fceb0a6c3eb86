"""Which job runs which rollout: the links in a workflow's claims/, made by scripts_hpc/lib/part.sh, never removed."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "claims"


def owner(group: Path, rollout: int, attempt: int = 0) -> str | None:
    """The job that has claimed a try at a rollout; None where none has."""
    try:
        return os.readlink(group / FOLDER / (f"{rollout}.{attempt}" if attempt else str(rollout)))
    except OSError:
        return None


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
