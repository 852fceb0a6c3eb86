"""The files that a Dockerfile copies: what lies in its context, less what .dockerignore leaves out."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from helpers.images.docker import ignore


@dataclass(frozen=True)
class Entry:
    """One file, link or folder to copy. target: its place in the copy; text: of a here-document, instead of a source."""

    target: str
    kind: str  # file, link or folder
    source: Path | None = None
    text: str = ""
    executable: bool = False


@dataclass
class Copy:
    """What one COPY (or ADD) copies. destination: absolute; it ends in / where it is a folder."""

    number: int
    destination: str
    mode: str | None = None
    entries: list[Entry] = field(default_factory=list)


class Context:
    """A folder that COPY copies from."""

    def __init__(self, folder: Path, ignored: ignore.Ignored):
        self.folder = folder
        self._root = Path(os.path.realpath(folder))
        self._ignored = ignored

    def entries(self, source: str) -> tuple[list[Entry], bool]:
        """What a source of COPY names, and whether that is, or holds, the inside of a folder. Raises ValueError, OSError."""
        if ".." in source.split("/"):
            raise ValueError(
                f"{source} may lie outside of the Dockerfile's folder: only what is in {self.folder} can be copied"
            )
        path = posixpath.normpath(source.lstrip("/") or ".")
        if not ignore.has_wildcard(path):
            return self._named(path)
        found = [self._named(match) for match in self._matches(path)]
        return [entry for entries, _ in found for entry in entries], any(folder for _, folder in found)

    def _matches(self, pattern: str) -> list[str]:
        level = ["."]
        for part in pattern.split("/"):
            fits = ignore.compiled(part)
            level = [
                posixpath.normpath(f"{folder}/{name}")
                for folder in level
                if (self._root / folder).is_dir()
                for name in sorted(os.listdir(self._inside(folder)))
                if fits.fullmatch(name)
            ]
        return [path for path in level if path not in self._ignored]

    def _inside(self, path: str) -> Path:
        real = Path(os.path.realpath(self._root / path))
        if real != self._root and self._root not in real.parents:
            raise ValueError(
                f"{path} is a link out of the Dockerfile's folder ({real}): only what is in {self.folder} can be copied"
            )
        return real

    def _named(self, path: str) -> tuple[list[Entry], bool]:
        real = self._inside(path)
        if not real.exists():
            raise ValueError(f"there is no {path} in {self.folder}")
        if real.is_dir():
            entries = list(self._below(real, path, ""))
            if path in self._ignored and not entries:
                raise ValueError(f"{path} is left out by .dockerignore")
            return entries, True
        if path in self._ignored:
            raise ValueError(f"{path} is left out by .dockerignore")
        return [self._entry(real, posixpath.basename(path))], False

    def _below(self, folder: Path, path: str, target: str) -> Iterator[Entry]:
        """What a folder holds. path: of it in the context; target: in the copy."""
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            inner = name if path == "." else f"{path}/{name}"
            there = f"{target}/{name}" if target else name
            real = folder / name
            out = inner in self._ignored
            if real.is_dir() and not real.is_symlink():
                if out and not self._ignored.has_exceptions:
                    continue
                entries = list(self._below(real, inner, there))
                if entries or not out:
                    yield Entry(there, "folder")
                    yield from entries
            elif not out:
                yield self._entry(real, there)

    def _entry(self, real: Path, target: str) -> Entry:
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            return Entry(target, "link", real)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{real} is neither a file, a folder nor a link")
        return Entry(target, "file", real, executable=bool(status.st_mode & 0o111))


def describe(entry: Entry) -> str:
    """One line that is the same wherever the copy would be: kind, rights, place, and content. Raises OSError."""
    content = ""
    if entry.kind == "link":
        content = os.readlink(entry.source or "")
    elif entry.source:
        content = _digest(entry.source)
    elif entry.kind == "file":
        content = hashlib.sha256(entry.text.encode()).hexdigest()
    return f"{entry.kind}{'+x' * entry.executable} {entry.target!r} {content!r}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def stage(copies: list[Copy], folder: Path) -> None:
    """Put what is copied into <folder>/<number of the copy>/. Readable to all, as nobody is root in a container. Raises OSError."""
    for copy in copies:
        base = folder / str(copy.number)
        base.mkdir(parents=True)
        for entry in copy.entries:
            _place(entry, base / entry.target)


def _place(entry: Entry, target: Path) -> None:
    if entry.kind == "folder":
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
        return
    target.unlink(missing_ok=True)  # a later source of the same name replaces it
    if entry.kind == "link":
        target.symlink_to(os.readlink(entry.source or ""))
        return
    if entry.source:
        shutil.copyfile(entry.source, target)
        status = entry.source.stat()
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        target.write_text(entry.text, encoding="utf-8")
    target.chmod(0o755 if entry.executable else 0o644)
