"""Files that others may read or lay meanwhile: whole or not at all, bounded, and no link followed."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

CHUNK = 64 * 1024  # bytes of one read: a buffer for the largest file would cost more than reading most files


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old text or the new, never a part; raises OSError."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_new_json(path: Path, data: Any) -> bool:
    """Write JSON where nothing lies; False where something does, also where it came to be meanwhile. Raises OSError."""
    if path.exists():
        return False
    temporary = path.with_name(f".{path.name}.new{os.getpid()}")
    write_json(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text so that a reader sees the old one or the new, never a part; raises OSError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)  # the temporary one means nothing to a person
        raise
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)  # a full disk doesn't say where
        raise


def fill(path: str | Path, write: Callable[[IO[Any]], None], **options: Any) -> None:
    """Let `write` fill a file, so that a reader sees the old one or the new; options: of open(). Raises OSError.

    What is no file, a pipe or /dev/stdout, is written to as it is; of a link, what it points to is replaced.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a folder is an error here
        with open(path, **options) as file:
            write(file)
        return
    path = os.path.realpath(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with open(descriptor, **options) as file:
            write(file)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_file(path: str | Path, limit: int = 16 * 2**20) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    A link is not followed and a pipe not waited on: an agent could lay either. Raises OSError, or ValueError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        chunks, left = [], limit + 1
        while left and (chunk := os.read(descriptor, min(CHUNK, left))):
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        os.close(descriptor)
    if not left:
        raise ValueError(f"is larger than {limit} bytes")
    return b"".join(chunks)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a regular file, or None where it is missing, a link, broken, or no object."""
    try:
        data = json.loads(decoded(read_file(path))[0])
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def decoded(data: bytes) -> tuple[str, bool]:
    """The text of a file in UTF-8, and whether all of it is: a text that was cut within a character is no reason to lose the rest."""
    text = data.decode("utf-8-sig", "replace")
    return text, "\ufffd" not in text or "\ufffd".encode() in data
