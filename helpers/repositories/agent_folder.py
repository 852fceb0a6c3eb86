"""An agent's folder, read from outside: no link is followed, no pipe waited for, and nothing of what lies there is run.

Each folder on the way is opened by itself, so that nobody can put a link in its place meanwhile. What its owner has closed (mode 000)
is opened, as the owner is this user.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from helpers.lib.errors import DISK_FULL, Infrastructure
from helpers.repositories.steps import shown, theirs

MOST_FILES = 1_000_000  # in the folder, whatever they are
DEEPEST = 256  # folders in one another
LONGEST = 4000  # bytes of a path; git and the system take 4096
CHUNK = 1 << 20
FILE, PROGRAM, LINK, MODULE = "100644", "100755", "120000", "160000"  # git's modes
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class File:
    """mode: git's; size: in bytes."""

    mode: str
    size: int


@dataclass
class Found:
    """What a folder holds, by path. left_out: what git can't hold, and why; nested: folders that are repositories of their own."""

    files: dict[bytes, File] = field(default_factory=dict)
    left_out: dict[bytes, str] = field(default_factory=dict)
    nested: list[bytes] = field(default_factory=list)
    own_git: str = "missing"  # what became of the .git that the agent was given
    seen: int = 0


class AgentFolder:
    """Raises Refused with code 4 where the folder, or a file, can't be read, and Infrastructure where the disk is to blame."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._top = _open_folder(os.fspath(path), None)
        except FileNotFoundError:
            theirs(f"the repository was removed: there is no folder {shown(path)} any more")
        except NotADirectoryError:
            theirs(f"the repository was replaced: {shown(path)} is no folder any more")
        except OSError as error:
            _unreadable(os.fsencode(path), error)

    def close(self) -> None:
        os.close(self._top)

    def look(self, modules: set[bytes]) -> Found:
        """All files, but for those of git itself. modules: folders that stand for other repositories, which aren't looked into."""
        found = Found()
        self._look(self._top, b"", 0, modules, found)
        return found

    def _look(self, folder: int, prefix: bytes, depth: int, modules: set[bytes], found: Found) -> None:
        for name in sorted(_names(folder, prefix, found)):
            path = prefix + name
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                is_folder = stat.S_ISDIR(status.st_mode)
                if name.lower() == b".git":
                    _note_git(path, prefix, status.st_mode, found)
                elif (problem := _problem(name, path, depth, status.st_mode)) is not None:
                    found.left_out[path] = problem
                elif is_folder and path not in modules:
                    inner = _open_folder(name, folder)
                    try:
                        self._look(inner, path + b"/", depth + 1, modules, found)
                    finally:
                        os.close(inner)
                elif not is_folder:
                    mode = LINK if stat.S_ISLNK(status.st_mode) else PROGRAM if status.st_mode & 0o100 else FILE
                    found.files[path] = File(mode, status.st_size)
            except OSError as error:
                _unreadable(path, error)

    def read(self, path: bytes, file: File) -> Iterator[bytes]:
        """The content of a file that was seen, or where a link points: as many bytes as were seen."""
        with contextlib.ExitStack() as stack:
            try:
                *above, name = path.split(b"/")
                folder = self._top
                for one in above:
                    folder = _open_folder(one, folder)
                    stack.callback(os.close, folder)
                if file.mode == LINK:
                    chunk = os.readlink(name, dir_fd=folder)
                    _expect(len(chunk) == file.size, path)
                    yield chunk
                    return
                opened = _open_file(name, folder)
                stack.callback(os.close, opened)
                _expect(stat.S_ISREG(os.fstat(opened).st_mode), path)
                left = file.size
                while left and (chunk := os.read(opened, min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
                _expect(not left and not os.read(opened, 1), path)
            except OSError as error:
                _unreadable(path, error)

    def blob(self, path: bytes, file: File, algorithm: str) -> str:
        """The name that git gives its content. https://git-scm.com/book/en/v2/Git-Internals-Git-Objects"""
        digest = hashlib.new(algorithm, b"blob %d\0" % file.size)
        for chunk in self.read(path, file):
            digest.update(chunk)
        return digest.hexdigest()


def _names(folder: int, prefix: bytes, found: Found) -> list[bytes]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found.seen += 1
            if found.seen > MOST_FILES:
                theirs(
                    f"the repository holds more than {MOST_FILES:,} files and folders (at {shown(prefix or b'its top')})"
                )
            names.append(os.fsencode(entry.name))
    return names


def _note_git(path: bytes, prefix: bytes, mode: int, found: Found) -> None:
    if prefix:
        found.nested.append(prefix.rstrip(b"/"))
    elif path == b".git":
        found.own_git = "a folder" if stat.S_ISDIR(mode) else "replaced"
    else:
        found.left_out[path] = "git takes no file of this name"


def _problem(name: bytes, path: bytes, depth: int, mode: int) -> str | None:
    """Why git can't hold it."""
    if (kind := KINDS.get(stat.S_IFMT(mode))) is not None:
        return kind
    if len(path) > LONGEST or (depth >= DEEPEST and stat.S_ISDIR(mode)):
        return f"too deep: more than {DEEPEST} folders in one another, or a path of more than {LONGEST} bytes"
    if stat.S_ISLNK(mode) and name.lower() == b".gitmodules":
        return "git takes no link of this name"
    return None


def _open_folder(name: Any, above: int | None) -> int:
    """Open a folder to be listed; NotADirectoryError for a link, too."""
    place = os.open(name, os.O_PATH | FOLDER, dir_fd=above)
    try:
        mode = os.fstat(place).st_mode
        if mode & 0o500 != 0o500:
            _allow(place, mode | 0o700)
        return os.open(".", os.O_RDONLY | FOLDER, dir_fd=place)
    finally:
        os.close(place)


def _open_file(name: bytes, folder: int) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except PermissionError:
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            mode = os.fstat(place).st_mode
            if stat.S_ISREG(mode):
                _allow(place, mode | 0o600)
        finally:
            os.close(place)
        return os.open(name, flags, dir_fd=folder)


def _allow(place: int, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # somebody else's: the next step says so
        os.chmod(f"/proc/self/fd/{place}", stat.S_IMODE(mode))


def _expect(is_so: bool, path: bytes) -> None:
    if not is_so:
        theirs(f"{shown(path)} was being changed while it was read")


def _unreadable(path: bytes, error: OSError) -> NoReturn:
    said = f"{shown(path)} can't be read: {error.strerror or error}"
    if error.errno in DISK_FULL:
        raise Infrastructure(said) from None
    theirs(said)
