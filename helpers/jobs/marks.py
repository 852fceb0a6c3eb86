"""The files by which `site.sh doctor` and its probes know one another, in the folders that they look for.

Runs where a person types; jobs.sh loads it, so it needs Python's own library alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = ".hab-doctor."  # the doctor's file in each folder: MARK<nonce>; what probes write begins so, too
STALE_SECONDS = 3600.0  # files of a doctor that was killed are no older than its last job
LENGTH = 1000  # of the doctor's file, so that it is written over in place


class Marks:
    """The doctor's file in each of the folders that probes look for; one folder may stand for several keys."""

    def __init__(self, nonce: str, folders: dict[str, str]):
        self.nonce, self.folders = nonce, folders

    def paths(self) -> dict[str, list[str]]:
        """Folder -> keys."""
        found: dict[str, list[str]] = {}
        for key, folder in self.folders.items():
            found.setdefault(folder, []).append(key)
        return found

    def write(self, seen: list[str]) -> None:
        """Write the time, and whose end was seen, over what stands there. Raises OSError."""
        for folder, keys in self.paths().items():
            words = [self.nonce, *keys, f"time={time.time():.3f}", *(f"seen={name}" for name in seen)]
            path = Path(folder, MARK + self.nonce)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.pwrite(descriptor, f" {' '.join(words)} ".lstrip().ljust(LENGTH).encode(), 0)
            finally:
                os.close(descriptor)

    def files(self, probe: str, end: str = "") -> Iterator[tuple[str, Path]]:
        """The places of a probe's file, with the key of each."""
        for key, folder in self.folders.items():
            yield key, Path(folder, f"{MARK}{self.nonce}.{probe}{end}")

    def remove(self) -> None:
        """Remove all that has this nonce."""
        _remove(self.folders.values(), f"{MARK}{self.nonce}*")

    def sweep(self) -> None:
        """Remove what a doctor of ours that was killed has left an hour ago, or earlier."""
        _remove(self.folders.values(), f"{MARK}*", time.time() - STALE_SECONDS)


def _remove(folders: Iterable[str], pattern: str, before: float = float("inf")) -> None:
    for folder in dict.fromkeys(folders):
        for path in Path(folder).glob(pattern):
            with contextlib.suppress(OSError):
                status = path.lstat()
                if status.st_uid == os.getuid() and status.st_mtime < before:
                    path.unlink()
