"""What each job of a workflow takes: a line of a file in its folder's parts/, read by scripts_hpc/lib/part.sh."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from helpers.lib import disk

FOLDERS = ("parts", "claims", "left")  # what such jobs need in their workflow's folder
SCRIPT = re.compile(r" SCRIPT=(\S+)")
NUMBERS = re.compile(r"^ROLLOUT=(\d+) ATTEMPT=(\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Part:
    """One try at a rollout.

    rollout: its number in the workflow; cell: which of its cells it is of; script: of its job; kind, instance, image (in which it is
    judged): of its task, where that is no competition.
    """

    rollout: int
    cell: int
    competition: str
    seed: int
    attempt: int = 0
    script: str = "agent.sh"
    task_type: str = ""
    tokens: int | None = None
    kind: str = ""
    instance: Path | None = None
    image: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    def line(self) -> str:
        """As part::take reads it. No value may hold a line break."""
        told = {"ROLLOUT": self.rollout, "ATTEMPT": self.attempt, "CELL": self.cell, "COMPETITION": self.competition}
        told |= (
            {"SEED": self.seed}
            | ({"SCRIPT": self.script} if self.script != "agent.sh" else {})
            | ({"TASK_TYPE": self.task_type} if self.task_type else {})
            | ({"TOKEN_LIMIT": self.tokens} if self.tokens else {})
            | (
                {"TASK_KIND": self.kind, "INSTANCE": str(self.instance), "TEST_IMAGE": self.image}
                if self.instance
                else {}
            )
        )
        line = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in told.items())
        pairs = " ".join(shlex.quote(f"{name}={value}") for name, value in self.variables)
        return f"{line} VARIABLES=({pairs})" if pairs else line


def write(group: Path, parts: list[Part]) -> str:
    """Put the lines for jobs that are submitted together into a file of their own; its name. Raises OSError."""
    return write_lines(group, [part.line() for part in parts])


def write_lines(group: Path, lines: list[str]) -> str:
    """The same, of lines that are written already. The file is whole from its first moment."""
    descriptor, temporary = tempfile.mkstemp(dir=group / "parts", prefix=".")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        for number in itertools.count():
            try:
                os.link(temporary, group / "parts" / str(number))
                return str(number)
            except FileExistsError:
                continue
    finally:
        os.unlink(temporary)
    raise AssertionError("numbers have no end")


def read(group: Path, name: str) -> list[tuple[int, int]]:
    """Rollout and attempt of each line of a file of parts; empty where it can't be read."""
    return [(int(rollout), int(attempt)) for rollout, attempt in NUMBERS.findall(_text(group, name))]


def again(group: Path, attempts: dict[int, int]) -> list[tuple[str, str]]:
    """The first lines of some rollouts, by their numbers, as of other attempts: each with its job's script.

    Raises KeyError with a rollout that has none.
    """
    found = {int(match[1]): line for line in _text(group, "0").splitlines() if (match := NUMBERS.match(line))}
    lines = [NUMBERS.sub(f"ROLLOUT={rollout} ATTEMPT={attempts[rollout]} ", found[rollout]) for rollout in attempts]
    return [(match[1] if (match := SCRIPT.search(line)) else "agent.sh", line) for line in lines]


def _text(group: Path, name: str) -> str:
    try:
        return disk.read_file(group / "parts" / Path(name).name).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
