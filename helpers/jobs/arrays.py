"""The arrays of a workflow: which its command submits, and which wait until there is room for them in the queue.

What waits lies beside the scripts: jobs/next.PARTS.FIRST is what follows the array that begins with part FIRST of parts/PARTS. One of that
array's last elements submits it (scripts_hpc/lib/chain.sh), and has taken it first: a link next.PARTS.FIRST.taken points to its job, or to
who took it so that nobody submits it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.jobs import parts
from helpers.jobs.fleet import noted
from helpers.lib import disk

NEXT = re.compile(r"next\.(\d+)\.(\d+)")
TAKEN = ".taken"
STOP, RESUME = "stop", "resume"  # who takes what waits, and submits nothing of it


@dataclass(frozen=True)
class Fleet:
    """Jobs of one script that are submitted together. first: the number of their first part; at_once: of an array, 0 for jobs of their
    own; before: the number of those that have to end first; waits: it is submitted by one of those."""

    script: str
    first: int
    count: int
    at_once: int
    before: int | None
    model: str
    feedback: str
    waits: bool = False

    def words(self, before: int | None) -> str:
        """As scripts_hpc/lib/workflow.sh reads it."""
        told = "-" if before is None else before
        return " ".join(map(str, (self.script, self.first, self.count, self.at_once, told, self.model, self.feedback)))


def submitted_now(made: Sequence[Fleet]) -> list[str]:
    """What scripts_hpc/lib/workflow.sh is told to submit: all but those that wait."""
    numbers = {number: place for place, number in enumerate(n for n, one in enumerate(made) if not one.waits)}
    return [made[number].words(None if (one := made[number].before) is None else numbers[one]) for number in numbers]


def write_waiting(group: Path, name: str, made: Sequence[Fleet]) -> None:
    """Write those that wait where the jobs before them look. name: of the file of parts. Raises OSError."""
    for one in made:
        if one.waits and one.before is not None:
            disk.write_text(group / "jobs" / f"next.{name}.{made[one.before].first}", f"{one.words(None)}\n")


@dataclass(frozen=True)
class Waiting:
    """An array that isn't submitted. rollouts: those of its elements; taken: by which job, or STOP, empty: by nobody."""

    path: Path
    parts: str
    rollouts: tuple[int, ...]
    taken: str


def waiting(group: Path) -> list[Waiting]:
    """All that wait, or that somebody has taken who submitted nothing."""
    files = _files(group)
    told = {tuple(one.command[1:3]) for one in noted(group) if one.role == "agent"} if files else set()
    found = []
    for path, name in files:
        words = _words(path)
        if len(words) > 2 and words[1].isdecimal() and words[2].isdecimal() and (name, words[1]) not in told:
            first, count = int(words[1]), int(words[2])
            rollouts = tuple(rollout for rollout, _ in parts.read(group, name)[first : first + count])
            found.append(Waiting(path, name, rollouts, _taker(path)))
    return found


def waited(group: Path) -> bool:
    """Whether anything had to wait when it was planned."""
    return bool(_files(group))


def take(group: Path, who: str) -> None:
    """Take all that nobody has taken: from here on no job begins to submit one. who: STOP or RESUME. Raises OSError."""
    for path, _ in _files(group):
        with contextlib.suppress(FileExistsError):
            os.symlink(who, f"{path}{TAKEN}")
        if who == RESUME:  # which makes other arrays of what is left
            path.unlink(missing_ok=True)


def _files(group: Path) -> list[tuple[Path, str]]:
    """The files of arrays that waited when they were planned, and the file of parts of each."""
    try:
        names = sorted(os.listdir(group / "jobs"))
    except OSError:
        return []
    return [(group / "jobs" / name, match[1]) for name in names if (match := NEXT.fullmatch(name))]


def _words(path: Path) -> list[str]:
    try:
        return disk.read_file(path).decode("utf-8", "replace").split()
    except (OSError, ValueError):
        return []


def _taker(path: Path) -> str:
    try:
        return os.readlink(f"{path}{TAKEN}")
    except OSError:
        return ""
