"""What a shell script evaluates that has asked us: assignments, each a line."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any


def assignments(told: Mapping[str, Any], lists: Mapping[str, Iterable[Any]] | None = None) -> str:
    """NAME=VALUE lines, quoted; of lists NAME=(VALUE…)."""
    lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in told.items()]
    for name, its in (lists or {}).items():
        lines.append(f"{name}=({' '.join(shlex.quote(str(value)) for value in its)})\n")
    return "".join(lines)
