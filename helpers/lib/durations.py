"""Lengths of time: as Slurm writes them, and as a person says them."""

from __future__ import annotations

import re


def seconds(text: str) -> int | None:
    """Seconds of a time as Slurm writes it, [D-]HH:MM:SS, D-HH[:MM], MM[:SS]; None for UNLIMITED and whatever is no time."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return None
    days, *parts = (int(part or 0) for part in found.groups())
    if found[1] is None and found[4] is None:  # minutes come first
        parts = [0, *parts[:2]]
    return days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


def clock(length: float) -> str:
    """Seconds as Slurm's D-HH:MM:SS or HH:MM:SS."""
    days, rest = divmod(int(length), 86400)
    text = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text


def words(length: float) -> str:
    """Seconds as a person says them: 50 s, 12 min, 3 h 20 min, 2 d 5 h."""
    if length < 60:
        return f"{length:.0f} s"
    minutes = int(length) // 60
    for unit, name, small, smaller in ((1440, "d", 60, "h"), (60, "h", 1, "min")):
        if minutes >= unit:
            return f"{minutes // unit} {name}" + (f" {rest} {smaller}" if (rest := minutes % unit // small) else "")
    return f"{minutes} min"
