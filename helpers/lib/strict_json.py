"""JSON that people write: what Python's reader lets pass and nobody means is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.lib.errors import ConfigError


def read(path: Path, source: str) -> dict[str, Any]:
    """The object in a file; `source` is what messages call it. Raises ConfigError."""
    try:
        return parse(path.read_text(encoding="utf-8"), source)
    except OSError as error:
        raise ConfigError([f"{source}: can't be read ({error.strerror})."]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{source}: not valid JSON: {error}."]) from error


def parse(text: str, source: str) -> dict[str, Any]:
    """The object that a text holds: no key twice, no NaN. Raises ConfigError."""
    try:
        data = json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{source}: not valid JSON: {error}."]) from error
    if not isinstance(data, dict):
        raise ConfigError([f"{source}: must hold an object, found a {type(data).__name__}."])
    return data


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"{key} is given twice")
        seen.add(key)
    return dict(pairs)
