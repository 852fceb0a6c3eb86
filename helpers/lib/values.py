"""Values of files that may hold anything, for an agent wrote some of them: what is not of the right type is not known."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def text(value: Any) -> str | None:
    """A text of one line, of at most 1000 characters; of a whole number, its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    value = value[:1000]
    return (value if value.isprintable() else CONTROL.sub(" ", value)).strip()


def number(value: Any) -> int | float | None:
    """A number, neither infinite nor NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1e300 else None


def count(value: Any) -> int | None:
    """A whole number, not negative."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else None


def flag(value: Any) -> bool | None:
    """True or false."""
    return value if isinstance(value, bool) else None


def section(data: dict[str, Any], key: str) -> dict[str, Any]:
    """An object in an object; empty where there is none."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 time in UTC."""
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except (AttributeError, TypeError, ValueError, OverflowError, OSError):
        return None


def time_of(value: Any) -> str | None:
    """An ISO 8601 time in UTC, as it is written."""
    return text(value) if seconds_of(value) is not None else None


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
