"""Judge one upload: read the form, find the grader, ask it. Runs in a process that may be killed at any moment.

A judge gets its work over a socket: a line about the request, and a descriptor of the body. It first tells what it was
given, then its answer, so that who waits can still say what was judged when the judge didn't survive it. The deadline is
the kernel's timers, which end the process whatever it does: for time on a CPU, so that a busy node makes nothing invalid,
and for a grader that waits, a longer one by the clock. Memory is bounded by RLIMIT_AS.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from helpers.lib.bounded import limit_memory
from helpers.serving.grading_access import Tokens
from helpers.serving.server import Rejected

if TYPE_CHECKING:
    from helpers.grading.graders import Grader

SMALL_UPLOAD = 2**20  # uploads up to this size stay in memory: they work on a full disk, too
LARGEST_MESSAGE = 2**18
FORM_PARTS, FORM_MEMORY, LARGEST_PART_HEAD = 8, 500_000, 2**14
BUSY_NICENESS = 10
TIMES_BY_THE_CLOCK = 5


@dataclass(frozen=True)
class Bounds:
    """What one judgement may take: seconds of a CPU, and megabytes beyond what the server holds anyway."""

    seconds: float = 120
    megabytes: int = 2048

    @property
    def too_long(self) -> str:
        return f"judging it took longer than {self.seconds:g} s (limits.judgement_seconds of the site)."

    @property
    def broke_down(self) -> str:
        return (
            f"judging it broke down, twice; if it was memory, the limit is {self.megabytes} MB (limits.judgement_mb)."
        )

    @property
    def too_large(self) -> str:
        return f"judging it needs more than {self.megabytes} MB of memory (limits.judgement_mb of the site)."


def spool(small: bool) -> BinaryIO:
    """Make a file for an upload: its own, anonymous, so that nothing stays behind even after kill -9."""
    if small and hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return open(os.memfd_create("upload"), "w+b")
    return tempfile.TemporaryFile()


class Judge:
    """Answer requests whose body is complete. `tell` gets what is known before the grader starts."""

    def __init__(self, graders: dict[str, Grader], tokens: Tokens, limit: int, bounds: Bounds) -> None:
        self.graders, self.tokens, self.limit, self.bounds = graders, tokens, limit, bounds

    def answer(
        self, endpoint: str, kind: str, upload: BinaryIO, tell: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Answer /validate, /grade or /token: `status` (HTTP), `answer` (JSON) and `entry` (what the log says of it).

        kind: the content type; upload: the whole body. Nothing but JSON gets out, whatever happens.
        """
        entry: dict[str, Any] = {"verdict": "error"}
        status = 200
        try:
            answer = self._judged(endpoint, kind, upload, entry, tell)
        except Rejected as error:
            status, answer = error.status, {"error": str(error)}
        except Exception:
            status, answer = 500, {"error": "internal error, see the server's log"}
            entry["traceback"] = traceback.format_exc()
        return {"status": status, "answer": answer, "entry": entry}

    def _judged(self, endpoint: str, kind: str, upload: BinaryIO, entry: dict, tell: Any) -> dict[str, Any]:
        form, files = self._form(kind, upload)
        if endpoint == "/token":
            return self._token(form.get("run", ""), entry)
        file = _chosen_file(form, files)
        entry["competition"], grader = _chosen_grader(self.graders, form.get("competition"))
        entry["sha256"], entry["bytes"] = _digest(file)
        if tell:
            tell(entry)
        try:
            answer = grader.grade(file) if endpoint == "/grade" else {"result": grader.validate(file)[1]}
        except MemoryError:
            answer = refusal(endpoint, entry, self.bounds.too_large)
        return noted(endpoint, entry, answer)

    def _token(self, run: str, entry: dict) -> dict[str, Any]:
        answer = {"token": self.tokens.issue(run)}
        entry.update(run=run, verdict="issued")
        return answer

    def _form(self, kind: str, upload: BinaryIO) -> tuple[Any, Any]:
        from multipart import ParserLimitReached, parse_form_data

        size = upload.seek(0, os.SEEK_END)
        upload.seek(0)
        asked = {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(size), "wsgi.input": upload}
        limits = {"part_limit": FORM_PARTS, "headersize_limit": LARGEST_PART_HEAD, "spool_limit": SMALL_UPLOAD}
        try:
            form, files = parse_form_data(asked, ignore_errors=False, memory_limit=FORM_MEMORY + SMALL_UPLOAD, **limits)
            is_long = any(len(text) > FORM_MEMORY for _, text in form.iterallitems())
            if is_long or not all(part.filename for _, part in files.iterallitems()):  # longer text is given as a file
                raise ParserLimitReached
            return form, files
        except ParserLimitReached:
            raise Rejected(413, too_large(self.limit)) from None
        except (ValueError, LookupError) as error:  # LookupError: by a charset that is none for text
            raise Rejected(400, f"the form can't be read: {error}") from None


def too_large(limit: int) -> str:
    """Say that a request is too large; limit: bytes."""
    return f"the upload is larger than {limit / 2**20:g} MB, or its form has too much text or too many parts"


def refusal(endpoint: str, entry: dict[str, Any], reason: str) -> dict[str, Any]:
    """Make the answer about a submission that nobody could judge to the end: it is invalid, and the log says why."""
    from helpers.grading.report import INVALID, unjudged

    entry["stopped"] = reason
    return unjudged(entry["competition"], reason) if endpoint == "/grade" else {"result": f"{INVALID}{reason}"}


def noted(endpoint: str, entry: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Put verdict and score of an answer into the log's entry; returns the answer."""
    from helpers.grading.report import VALID

    is_valid = answer["valid_submission"] if endpoint == "/grade" else answer["result"] == VALID
    entry["verdict"] = "valid" if is_valid else "invalid"
    if "score" in answer:
        entry["score"] = answer["score"]
    return answer


def _chosen_file(form: Any, files: Any) -> BinaryIO:
    """Take the one uploaded file out of a form; its name is ignored. Raises Rejected."""
    uploads = files.getall("file")
    if len(uploads) == 1 and uploads[0].filename:
        return uploads[0].file
    if len(uploads) > 1:
        raise Rejected(400, "send exactly one file in the field `file`")
    if "file" in form:
        hint = "(with curl: -F file=@submission.csv)"
        raise Rejected(400, f"the field `file` holds text, not a file, or one with an empty file name {hint}")
    raise Rejected(400, "no file came with the request: send it as multipart form data, in the field `file`")


def _chosen_grader(graders: dict[str, Grader], asked: str | None) -> tuple[str, Grader]:
    """Choose the grader that a request asks for. Raises Rejected."""
    served = ", ".join(graders)
    if not asked and len(graders) > 1:
        raise Rejected(400, f"say which competition, in the form field `competition`; served here: {served}")
    name = asked or next(iter(graders))
    if name not in graders:
        raise Rejected(404, f"competition {name[:100]!r} is not served here; served: {served}")
    return name, graders[name]


def _digest(upload: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := upload.read(2**20):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def work(channel: socket.socket, judge: Judge) -> None:
    """Judge what comes over a channel (SOCK_SEQPACKET) until it closes, or until a fresh process does better.

    A message in: {"endpoint", "kind", "large"} and a descriptor. Messages out: that it has begun, the entry, the
    answer.
    """
    limit_memory(judge.bounds.megabytes * 2**20)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, LARGEST_MESSAGE, 1)
        if not message:
            return
        _set_timers(judge.bounds.seconds)
        _send(channel, {})
        request = json.loads(message)
        if request["large"]:
            os.nice(BUSY_NICENESS)
        with open(descriptors[0], "rb") as upload:
            reply = judge.answer(request["endpoint"], request["kind"], upload, lambda entry: _send(channel, entry))
        _set_timers(0)
        is_spent = request["large"] or "stopped" in reply["entry"] or "traceback" in reply["entry"]
        _send(channel, {**reply, "last": is_spent})
        if is_spent:  # what it holds, and its niceness, end with it
            return


def _set_timers(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, TIMES_BY_THE_CLOCK * seconds)


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode())
