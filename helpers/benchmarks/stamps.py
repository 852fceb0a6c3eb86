"""The folders of rounds: <rollouts>/<benchmark>/<stamp>. A stamp is the time of a round's beginning, and no two rounds have the same."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path

from helpers.jobs.parts import FOLDERS

FORMAT = "%Y%m%d__%H-%M-%S"  # UTC, as the specification writes it
STAMP = re.compile(r"\d{8}__\d{2}-\d{2}-\d{2}")
INDEX = "temp"  # beside the benchmarks' folders


def make(rollouts: Path, name: str) -> Path:
    """The folder of a new round, with those that its jobs need; its stamp is no other round's, of any benchmark. Raises OSError."""
    index = rollouts / INDEX
    index.mkdir(parents=True, exist_ok=True)
    while True:
        stamp = datetime.now(timezone.utc).strftime(FORMAT)
        try:
            os.close(os.open(index / f".{stamp}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            break
        except FileExistsError:
            time.sleep(1 - time.time() % 1)  # the next second
    group = rollouts / name / stamp
    group.mkdir(parents=True)
    for folder in ("jobs", "logs", "task_results", "ends", *FOLDERS):
        (group / folder).mkdir()
    return group


def rounds(rollouts: Path, name: str) -> list[str]:
    """The stamps of a benchmark's rounds, the oldest first."""
    try:
        return sorted(one for one in os.listdir(rollouts / name) if STAMP.fullmatch(one))
    except OSError:
        return []


def names(rollouts: Path) -> list[str]:
    """The benchmarks that have rounds."""
    try:
        found = sorted(os.listdir(rollouts))
    except OSError:
        return []
    return [name for name in found if name != INDEX and rounds(rollouts, name)]
