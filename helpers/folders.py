"""Folders of jobs, named by the time of their making."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

MOST = 100  # of one name within a second


def make(base: Path, name: str, *inner: str) -> Path:
    """Make a new folder <UTC time><name> in base, with folders in it. Raises OSError."""
    while True:
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S-UTC")
        for suffix in ("", *(f"-{number}" for number in range(2, MOST))):
            path = base / f"{stamp}{name}{suffix}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            for one in inner:
                (path / one).mkdir()
            return path
        time.sleep(0.1)
