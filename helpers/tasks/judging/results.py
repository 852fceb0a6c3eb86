"""Reads a folder that an agent wrote: no links, no pipes, no hidden data, and no more than a bound of anything."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from helpers.tasks.judging.pickles import MB, BadFile

FOLDER_ONLY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LARGEST = {
    ".csv": 64 * MB,
    ".json": 8 * MB,
    ".md": 2 * MB,
    ".txt": 2 * MB,
    ".png": 64 * MB,
    ".jpg": 64 * MB,
    ".jpeg": 64 * MB,
}
LARGEST_OTHER = 4096 * MB
MOST_ENTRIES, DEEPEST = 1000, 3  # of the folder


class Results:
    """A folder that an agent wrote. Raises OSError where it can't be opened, is a link or no folder.

    hidden: a folder, hard links to whose files are refused.
    """

    def __init__(self, folder: str | Path, hidden: Path | None = None) -> None:
        self._hidden = {_identity(path.stat()) for path in hidden.rglob("*") if path.is_file()} if hidden else set()
        self._folder = os.open(os.fspath(Path(folder)), FOLDER_ONLY)

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def names(self) -> list[str]:
        """Paths of what is in it, folders aside, in the order of their names; at most MOST_ENTRIES of those."""
        found: list[str] = []
        folders: list[tuple[str, ...]] = [()]
        for parts in folders:  # which grows meanwhile
            with contextlib.suppress(OSError), self._inside(parts) as folder, os.scandir(folder) as entries:
                for entry in itertools.islice(entries, MOST_ENTRIES):
                    path = (*parts, entry.name)
                    if not entry.is_dir(follow_symlinks=False):
                        found.append("/".join(path))
                    elif len(parts) < DEEPEST and len(folders) < MOST_ENTRIES:
                        folders.append(path)
        return sorted(found[:MOST_ENTRIES])

    @contextlib.contextmanager
    def _inside(self, parts: Sequence[str]) -> Iterator[int]:
        """A descriptor of a folder inside, no part of whose path is a link. Raises OSError."""
        folder = os.dup(self._folder)
        try:
            for part in parts:
                inner = os.open(part, FOLDER_ONLY, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def open(self, name: str, largest: int | None = None) -> BinaryIO:
        """Open a file to read. Raises BadFile where it is missing, a link, no regular file, hidden, empty or too large."""
        *folders, last = name.split("/")
        if {"", ".", ".."}.intersection([*folders, last]):
            raise BadFile("is no path inside the results")
        try:
            with self._inside(folders) as folder:
                self._refuse_special(os.stat(last, dir_fd=folder, follow_symlinks=False))
                # what was looked at may have been replaced meanwhile: neither follow a link nor wait for a pipe
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
                file = os.fdopen(os.open(last, flags, dir_fd=folder), "rb")
        except FileNotFoundError:
            raise BadFile("is missing") from None
        except OSError as error:
            raise BadFile(f"can't be read ({error.strerror})") from None
        try:
            info = os.fstat(file.fileno())
            self._refuse_special(info)
            limit = largest or LARGEST.get(suffix(name), LARGEST_OTHER)
            if info.st_size > limit:
                raise BadFile(f"has {info.st_size} bytes, more than the {limit} that are read")
            if info.st_size == 0:
                raise BadFile("is empty")
        except BadFile:
            file.close()
            raise
        return file

    def _refuse_special(self, info: os.stat_result) -> None:
        if stat.S_ISLNK(info.st_mode):
            raise BadFile("is a link; write the file itself")
        if not stat.S_ISREG(info.st_mode):
            raise BadFile("is not a regular file")
        if _identity(info) in self._hidden:
            raise BadFile("is a hard link to hidden data")

    def read(self, name: str, largest: int | None = None) -> bytes:
        """The content of a file. Raises BadFile as `open` does."""
        limit = largest or LARGEST.get(suffix(name), LARGEST_OTHER)
        with self.open(name, limit) as file:
            return file.read(limit)


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def suffix(name: str) -> str:
    """The ending of a file's name, in small letters."""
    return os.path.splitext(name)[1].lower()


def printable(name: str) -> str:
    """A name that an agent chose, safe to print and to write as JSON."""
    return repr(name)[1:-1][:100]


def same_content(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether two open files hold the same bytes; leaves both at their start."""
    same = os.fstat(one.fileno()).st_size == os.fstat(other.fileno()).st_size
    while same:
        piece = one.read(MB)
        same = piece == other.read(MB)
        if not piece:
            break
    one.seek(0)
    other.seek(0)
    return same
