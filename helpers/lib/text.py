"""Text that others wrote, fit for a terminal and for a sentence."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

LOG_BYTES = 64 * 1024
# an agent's output could drive the terminal, or turn the order of what is shown
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def tail(path: Path | None) -> str:
    """The end of a log, printable; empty where there is none."""
    if path is None:
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return ""
    with open(descriptor, "rb") as file:
        file.seek(max(0, status.st_size - LOG_BYTES))
        return clean(file.read(LOG_BYTES).decode("utf-8", "replace"))


def clean(text: Any) -> str:
    """Text that drives no terminal."""
    return UNPRINTABLE.sub(" ", str(text))


def literal(text: str) -> str:
    """Text from a file, safe in a sentence that is filled in afterwards."""
    return " ".join(clean(text).split()).replace("{", "{{").replace("}", "}}")
