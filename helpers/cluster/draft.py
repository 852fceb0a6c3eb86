"""A site file to be: values with who told them, written as YAML that a person can read; and the questions to that person."""

from __future__ import annotations

import json
import re
from typing import Any

import click

GUESS = "a guess"
SECTIONS = ("scheduler", "partitions", "gpu", "jobs", "environment", "paths", "container", "limits", "models")


class Draft:
    """A site file to be: values by dotted key, each with a comment."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Any, str]] = {}
        self.notes: list[str] = []

    def put(self, key: str, value: Any, told: str) -> None:
        """Set a key. told: what told the value, or GUESS and why."""
        self.entries[key] = (value, told)

    @property
    def guesses(self) -> int:
        return sum(told.startswith(GUESS) for _, told in self.entries.values())

    def text(self, head: list[str]) -> str:
        """The file, its sections in the order of default.yaml."""
        lines = [f"# {line}" for line in head]
        order = {name: number for number, name in enumerate(SECTIONS)}
        keys = sorted(self.entries, key=lambda key: (order.get(key.partition(".")[0], -1), key.split(".")[1:-1]))
        before: list[str] = []
        for key in keys:
            parts = key.split(".")
            same = next((depth for depth, (a, b) in enumerate(zip(parts, before, strict=False)) if a != b), 0)
            for depth in range(same, len(parts) - 1):
                lines += ["", f"{parts[0]}:"] if depth == 0 else [f"{'  ' * depth}{parts[depth]}:"]
            value, told = self.entries[key]
            line = f"{'  ' * (len(parts) - 1)}{parts[-1]}: {_scalar(value)}"
            lines.append(f"{line:<40}  # {told}" if told else line)
            before = parts
        return "\n".join([*lines, *([""] if self.notes else []), *(f"# {note}" for note in self.notes)]) + "\n"


def _scalar(value: Any) -> str:
    if (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z][\w./-]*", value)
        and value.lower() not in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    ):
        return value
    return json.dumps(value, ensure_ascii=False)


class Questions:
    """What is asked of a person, where there is one: a choice with a default."""

    def __init__(self, ask: bool):
        self.ask = ask

    def choose(self, what: str, options: list[str], key: str) -> tuple[str | None, str]:
        """One of several, the first by default, and what told it; None where there is none."""
        if len(options) < 2:
            return next(iter(options), None), "the only one"
        if not self.ask:
            return options[0], f"{GUESS}, of {', '.join(options)}"
        return click.prompt(
            f"{what} ({key})", type=click.Choice(options), default=options[0], err=True
        ), "chosen by you"

    def text(self, what: str, default: str, key: str) -> str:
        return click.prompt(f"{what} ({key})", default=default, err=True) if self.ask else default
