"""The grading server's front: takes requests in whole, and hands them to judges.

It holds no answers, no grader and no pandas, and it reads nothing of an upload: what a stranger or an agent sends can
cost it a socket, a file, and the time to copy bytes. What an upload may cost is bounded by its judge: a process that the
kernel ends, forked by a keeper that has neither thread nor client. Not Pebble's pool: its workers are forked by the process
that serves, so they would inherit the clients' sockets, and the loaded answers only if the front held them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from helpers.serving.grading_access import Caller, Tokens
from helpers.serving.grading_judge import LARGEST_MESSAGE, SMALL_UPLOAD, Bounds, noted, refusal, spool, too_large
from helpers.serving.http_front import Application, Body
from helpers.serving.server import CallLog, Rejected

PAUSE_OF_LARGE = 0.001
MOST_UPLOADS, MOST_LARGE_UPLOADS = 256, 8  # of one run at a time: they take memory, and the large ones disk


class Stopped(Exception):
    """A judge ended before it had answered; `entry`: what it had told of its upload, None where it had not begun."""

    def __init__(self, entry: dict[str, Any] | None, seconds: float) -> None:
        super().__init__()
        self.entry, self.seconds = entry, seconds


class Judges:
    """The judges that are there: who is idle, and who waits for one.

    New ones come as descriptors over `control`. Small uploads go first and large ones leave a judge to them; a run has
    one judgement at a time, so that none can take all judges.
    """

    def __init__(self, control: socket.socket, count: int) -> None:
        self.control, self.most_large = control, max(count - 1, 1)
        self.idle: list[socket.socket] = []
        self.large, self.runs = 0, set()
        self.waiting: list[tuple[asyncio.Future, bool, str | None]] = []
        self.generation = 0
        control.setblocking(False)
        asyncio.get_running_loop().add_reader(control, self._welcome)

    def _welcome(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, 16, 1)
        except BlockingIOError:
            return
        if not message:  # the keeper is gone
            asyncio.get_running_loop().remove_reader(self.control)
            return
        if message == b"renew":  # those that follow know more than those that are here
            self.generation += 1
            while self.idle:
                self.idle.pop().close()
        for descriptor in descriptors:
            judge = socket.socket(fileno=descriptor)
            judge.setblocking(False)
            self.idle.append(judge)
            self._assign()

    def _assign(self) -> None:
        """Give idle judges to those who wait: the small first, then in the order of their coming."""
        for waiter in sorted(self.waiting, key=lambda waiter: waiter[1]):
            future, is_large, run = waiter
            if not self.idle:
                return
            if run in self.runs or (is_large and self.large >= self.most_large):
                continue
            self.waiting.remove(waiter)
            if not future.done():
                self.large += is_large
                if run:
                    self.runs.add(run)
                future.set_result(self.idle.pop())

    async def ask(self, endpoint: str, kind: str, upload: BinaryIO, is_large: bool, run: str | None) -> dict[str, Any]:
        """Have an upload judged. Raises Stopped where the judge didn't survive it."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.waiting.append((future, is_large, run))
        self._assign()
        judge = await future
        generation, reply, entry = self.generation, None, None
        began = time.monotonic()
        try:
            request = json.dumps({"endpoint": endpoint, "kind": kind, "large": is_large}).encode()
            with contextlib.suppress(OSError):
                socket.send_fds(judge, [request], [upload.fileno()])
                while message := await loop.sock_recv(judge, LARGEST_MESSAGE):
                    reply = json.loads(message)
                    if "status" in reply:
                        break
                    entry, reply = reply, None
        finally:
            self.large -= is_large
            self.runs.discard(run)
            if reply and not reply["last"] and generation == self.generation:
                self.idle.append(judge)
            else:
                judge.close()
            self._assign()
        if reply is None:
            raise Stopped(entry, time.monotonic() - began)
        return reply


class Front(Application):
    """Checks who asks, takes the upload, has it judged, logs the call."""

    def __init__(
        self,
        competitions: list[str],
        tokens: Tokens,
        judges: Judges,
        log: CallLog,
        instance: str,
        limit: int,
        bounds: Bounds,
    ) -> None:
        self.competitions, self.tokens, self.judges, self.log = competitions, tokens, judges, log
        self.instance, self.limit, self.bounds = instance, limit, bounds
        self.large_one = asyncio.Lock()
        self.places: Counter[tuple[Caller, bool]] = Counter()

    async def answer(self, scope: dict[str, Any], body: Body) -> tuple[int, dict[str, Any]]:
        path, method = scope["path"], scope["method"]
        allowed = {"/health": "GET", "/validate": "POST", "/grade": "POST", "/token": "POST"}.get(path)
        if allowed is None:
            return 404, {"error": f"not found: {path[:100]}"}
        if method != allowed and (method, allowed) != ("HEAD", "GET"):
            return 405, {"error": f"method not allowed: {path} takes {allowed}"}
        if path == "/health":
            names = self.competitions
            return 200, {
                "status": "running",
                "competition": names[0],
                "competitions": names,
                "instance": self.instance,
            }
        return await self._logged(path, scope, body)

    async def _logged(self, path: str, scope: dict[str, Any], body: Body) -> tuple[int, dict[str, Any]]:
        started = time.monotonic()
        entry: dict[str, Any] = {"endpoint": path, "run": None, "remote": (scope["client"] or [None])[0]}
        entry["verdict"], status = "error", 200
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            caller = self._caller(path, headers, entry)
            status, answer = await self._judged(path, headers, body, caller, entry)
        except Rejected as error:
            status, answer = error.status, {"error": str(error)}
        except Exception:  # no room for the upload, say
            status, answer = 500, {"error": "internal error, see the server's log"}
            entry["traceback"] = traceback.format_exc()
        if status != 200:
            entry["error"] = answer["error"]
        self.log.write(**entry, status=status, ms=round((time.monotonic() - started) * 1000, 1))
        return status, answer

    def _caller(self, path: str, headers: dict[bytes, str], entry: dict[str, Any]) -> Caller:
        caller = self.tokens.caller(headers.get(b"authorization", ""))
        # a name that anybody can send is believed of nobody but the host
        entry["run"] = _run_id(headers) if caller.is_admin else caller.run
        if path != "/validate" and not caller.is_admin:
            raise Rejected(403, "this token may validate, but not grade")
        return caller

    async def _judged(
        self, path: str, headers: dict[bytes, str], body: Body, caller: Caller, entry: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        length = int(headers.get(b"content-length", self.limit))
        if length > self.limit and b"content-length" in headers:
            raise Rejected(413, too_large(self.limit))
        with self._place(caller, length > SMALL_UPLOAD), spool(length <= SMALL_UPLOAD) as upload:
            size = await self._take(body, upload)
            kind = headers.get(b"content-type", "")
            reply, tries = None, 0
            while not reply:
                try:
                    reply = await self.judges.ask(path, kind, upload, size > SMALL_UPLOAD, caller.run)
                except Stopped as stop:
                    # one that was killed from outside says nothing about the submission
                    tries += stop.entry is not None
                    if tries == 2 or stop.seconds >= self.bounds.seconds:
                        reply = self._stopped(path, stop)
        entry.update(reply["entry"])
        return reply["status"], reply["answer"]

    @contextlib.contextmanager
    def _place(self, caller: Caller, is_large: bool) -> Iterator[None]:
        """Count an upload as one of a run's, until it is answered. Raises Rejected where the run has too many; the host may."""
        key, most = (caller, is_large), MOST_LARGE_UPLOADS if is_large else MOST_UPLOADS
        if self.places[key] >= most and not caller.is_admin:
            raise Rejected(429, f"{most} uploads of this token wait for their answers already: wait for them first")
        self.places[key] += 1
        try:
            yield
        finally:
            self.places[key] -= 1
            self.places += Counter()  # drops what is zero

    def _stopped(self, path: str, stop: Stopped) -> dict[str, Any]:
        """Answer for a judge that was killed: by the deadline, or twice by something else."""
        is_late = stop.seconds >= self.bounds.seconds
        reason = self.bounds.too_long if is_late else self.bounds.broke_down
        if "competition" not in (stop.entry or {}):  # the form itself was too much
            return {"status": 400, "answer": {"error": f"the upload can't be read: {reason}"}, "entry": {}}
        answer = refusal(path, stop.entry, reason)
        return {"status": 200, "answer": noted(path, stop.entry, answer), "entry": stop.entry}

    async def _take(self, body: Body, upload: BinaryIO) -> int:
        """Write a body to a file, large ones in turns. Returns its size in bytes. Raises Rejected."""
        size = 0
        while not body.is_complete:
            data = await body.read()
            size += len(data)
            if size > self.limit:
                raise Rejected(413, too_large(self.limit))
            upload.write(data)
            if size > SMALL_UPLOAD:
                async with self.large_one:
                    await asyncio.sleep(PAUSE_OF_LARGE)
        upload.flush()
        return size


def _run_id(headers: dict[bytes, str]) -> str | None:
    return re.sub(r"[^A-Za-z0-9._:-]", "", headers.get(b"x-run-id", ""))[:128] or None
