"""Which data a result was made with: one number for both halves of a prepared task, the same wherever the data are the same.

It hashes every file's name and size, and what is in the files: all of it, or of large data an even sample of about BUDGET bytes,
read by several threads, so that it takes seconds whatever the size. Kept beside the data (prepared/fingerprint.json), outside of
the half that agents see, with the count, size and newest change of the files, which tell when it must be made anew.

No agent is shown it: with few answers, or most of them guessed, the number would tell which guess is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from helpers.lib import disk
from helpers.runs import metadata

FILE, KEY = "fingerprint.json", "data_fingerprint"
HALVES = ("public", "private")
BUDGET = 4 * 2**30  # bytes that are read at most, about
MOST_FILES = 20_000  # whose content is read; those nearest to the top first, where the tables lie
PIECE = 64 * 2**10
THREADS = 8
REPLACED = (
    "{task}: the data that its results were made with (the newest: {name}) are replaced; scores on the new ones don't compare with "
    "those on the old ones, and the export keeps them apart (data_fingerprint)"
)


class _File(NamedTuple):
    name: str  # public/… or private/…
    size: int
    changed: int  # nanoseconds


def known(folder: Path, keep: bool = True) -> str:
    """The fingerprint of a prepared/ folder: the one kept there, or made now and (keep) kept where that can be written. Raises OSError."""
    files = _files(folder)
    kept = disk.read_json(folder / FILE) or {}
    said = kept.pop(KEY, None)
    if isinstance(said, str) and kept == _state(files):
        return said
    return _keep(folder, files) if keep else _digest(folder, files)


def anew(folder: Path) -> tuple[str, float]:
    """The fingerprint of a prepared/ folder, made now, and the newest change of its files (seconds since 1970). Raises OSError."""
    files = _files(folder)
    return _digest(folder, files), max((file.changed for file in files), default=0) / 1e9


def results_with(data_dir: str | Path, task: str, runs_dir: str | Path | None) -> str | None:
    """The newest workflow on a task, where it ran on the data that lie prepared there now; None: no results would lose their data."""
    folder = Path(data_dir, task, "prepared")
    newest = metadata.latest_data(Path(runs_dir), task) if runs_dir else None
    try:
        return newest[0] if newest and newest[1] == known(folder, keep=False) else None
    except OSError:
        return None


def stamp(folder: Path) -> str:
    """Make the fingerprint of a prepared/ folder, and keep it there. Raises OSError."""
    return _keep(folder, _files(folder))


def _keep(folder: Path, files: list[_File]) -> str:
    made = _digest(folder, files)
    with contextlib.suppress(OSError):  # somebody else's data
        disk.write_json(folder / FILE, {KEY: made, **_state(files)})
    return made


def _state(files: list[_File]) -> dict[str, Any]:
    newest = max((file.changed for file in files), default=0)
    return {"schema": 1, "files": len(files), "bytes": sum(file.size for file in files), "newest": newest}


def _files(folder: Path) -> list[_File]:
    return sorted(file for half in HALVES for file in _below(folder / half, half))


def _below(path: str | Path, name: str) -> Iterator[_File]:
    with os.scandir(path) as entries:
        for entry in entries:
            inside = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, inside)
            elif entry.is_file():
                status = entry.stat()
                yield _File(inside, status.st_size, status.st_mtime_ns)


def _digest(folder: Path, files: list[_File]) -> str:
    from concurrent.futures import ThreadPoolExecutor  # of no use to most that import this

    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{file.size}\0".encode("utf-8", "surrogateescape"))
    read = files
    if len(files) > MOST_FILES:
        read = sorted(sorted(files, key=lambda file: (file.name.count("/"), _order(file.name)))[:MOST_FILES])
    limit = _limit([file.size for file in read])
    with ThreadPoolExecutor(THREADS) as pool:
        for digest in pool.map(lambda file: _content(folder, file, limit), read):
            total.update(digest)
    return total.hexdigest()


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _limit(sizes: list[int]) -> int:
    """How much of each file is read, so that it is no more than BUDGET in all."""
    limit = max(sizes, default=0)
    while limit > PIECE and sum(min(size, limit) for size in sizes) > BUDGET:
        limit //= 2
    return max(limit, PIECE)


def _content(folder: Path, file: _File, limit: int) -> bytes:
    digest = hashlib.sha256()
    with open(folder / file.name, "rb", buffering=0) as opened:
        if file.size <= limit:
            while piece := opened.read(2**20):
                digest.update(piece)
        else:
            pieces = max(limit // PIECE, 2)
            for number in range(pieces):  # the first and the last byte are among them
                opened.seek((file.size - PIECE) * number // (pieces - 1))
                digest.update(opened.read(PIECE))
    return digest.digest()
