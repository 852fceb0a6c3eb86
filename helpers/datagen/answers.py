"""The answers that were got already, in a file that is only added to: who goes on after a kill asks nothing twice.

A line of JSON for each: `digest` (of the request, see digest_of), `text`, `prompt_tokens`, `completion_tokens`. In memory is only
where each lies in the file, some hundred bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers.data.layout import NO_LOCKS
from helpers.datagen.schemas import InputValidationError


def digest_of(request: Any, occurrence: int = 0) -> str:
    """The SHA-256 of a request's canonical JSON (keys sorted, no blanks), in hexadecimal digits.

    occurrence: how many equal requests came before it. Who asks the same twice wants two answers, and gets the same two after a kill.
    """
    data = {"request": request, "occurrence": occurrence} if occurrence else {"request": request}
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerFile:
    """The file, open and locked as long as the `with` lasts; for as many threads as like.

    A last line that a kill tore is dropped, a broken one is as if it weren't there. Raises InputValidationError where another process
    has the file open, and OSError.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._places: dict[bytes, int] = {}
        self._descriptor = -1
        self.end = 0

    def __enter__(self) -> AnswerFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._claim()
            self._read()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._descriptor)
        finally:
            self._close()

    def _close(self) -> None:
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1

    def _claim(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = f"{self.path}: another process adds to these answers just now; wait for it, or name another file"
            raise InputValidationError(said) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise

    def _read(self) -> None:
        with open(self._descriptor, "rb", closefd=False) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if (digest := _digest_in(line)) is not None:
                    self._places.setdefault(digest, self.end)
                self.end += len(line)
        os.ftruncate(self._descriptor, self.end)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, digest: str) -> str | None:
        """The text of an answer, None where there is none yet."""
        place = self._places.get(bytes.fromhex(digest))
        if place is None:
            return None
        with self._lock:
            line, wanted = b"", 4096
            while not line.endswith(b"\n"):
                part = os.pread(self._descriptor, wanted, place + len(line))
                line += part.partition(b"\n")[0] + (b"\n" if b"\n" in part else b"")
                if not part:
                    raise OSError(f"{self.path} was cut while it was read")
                wanted = min(wanted * 2, 2**20)
        return str(json.loads(line)["text"])

    def add(self, digest: str, text: str, tokens: tuple[int, int]) -> None:
        """Keep an answer. Raises OSError, and then keeps no part of it."""
        told = {"digest": digest, "text": text, "prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        line = json.dumps(told).encode() + b"\n"
        with self._lock:
            if self._descriptor < 0:
                return  # the call was ended, and this answer came too late
            done = 0
            try:
                while done < len(line):
                    done += os.pwrite(self._descriptor, line[done:], self.end + done)
            except OSError as error:
                os.ftruncate(self._descriptor, self.end)
                error.filename = str(self.path)
                raise
            self._places.setdefault(bytes.fromhex(digest), self.end)
            self.end += len(line)


def _digest_in(line: bytes) -> bytes | None:
    try:
        data = json.loads(line)
        return bytes.fromhex(data["digest"]) if isinstance(data["text"], str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
