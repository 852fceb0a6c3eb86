"""The front of our servers: takes HTTP requests, and gives them to an application. One process, no thread waits for anybody.

Why this one: uvicorn's protocol class, on asyncio, gives an idle or slow connection no thread, and takes our deadlines for
the head and the whole of a request (with gunicorn's threads, some strangers made all of them wait).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from helpers.serving.server import Certificate, Rejected

SECONDS_FOR_HEAD = 10  # also for a TLS handshake
SECONDS_FOR_BODY = 30  # and one more for each megabyte
SECONDS_TO_REFUSE = 2
SECONDS_TO_STOP = 3
SECONDS_KEPT_ALIVE = 5
LARGEST_HEAD = 2**16
MOST_DESCRIPTORS = 2**16


class Events(str):
    """A text of server-sent events."""


class Application:
    """An ASGI application that answers each request with a status and JSON, or a plain text, or events."""

    async def answer(self, scope: dict[str, Any], body: Body) -> tuple[int, dict[str, Any] | str]:
        raise NotImplementedError

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        upload = Body(receive)
        status, answer = await self.answer(scope, upload)
        is_text = isinstance(answer, str)
        body = (answer if is_text else json.dumps(answer) + "\n").encode()
        kind = b"text/plain; charset=utf-8" if is_text else b"application/json"
        if isinstance(answer, Events):
            kind = b"text/event-stream"
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if not upload.is_complete:
            # a client that is still sending sees the answer; without this the connection is reset under it
            await send({"type": "http.response.body", "body": body, "more_body": True})
            with contextlib.suppress(asyncio.TimeoutError, Rejected):
                await asyncio.wait_for(upload.discard(), SECONDS_TO_REFUSE)
            body = b""
        await send({"type": "http.response.body", "body": body})


class Body:
    """The body of a request, in the pieces in which it comes."""

    def __init__(self, receive: Any) -> None:
        self.receive, self.is_complete = receive, False

    async def read(self) -> bytes:
        """Read a piece. Raises Rejected where the client is gone before the end."""
        message = await self.receive()
        if message["type"] != "http.request":
            raise Rejected(400, "the upload broke off before its end")
        self.is_complete = not message.get("more_body")
        return message["body"]

    async def whole(self, limit: int) -> bytes:
        """Read all of it. Raises Rejected where it is larger than `limit` bytes, or the client is gone."""
        data = bytearray()
        while not self.is_complete:
            data += await self.read()
            if len(data) > limit:
                raise Rejected(413, f"the request is larger than {limit / 2**20:g} MB")
        return bytes(data)

    async def discard(self) -> None:
        while not self.is_complete:
            await self.read()


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with deadlines: for the head of a request, and for the whole of it."""

    most_connections = MOST_DESCRIPTORS
    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._expect(SECONDS_FOR_HEAD, "the head of the request")

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect(SECONDS_FOR_HEAD, "the head of the request")  # whatever it is that came between two requests
        if self._in_head:
            self._head += len(data)
            if self._head > LARGEST_HEAD and not self.transport.is_closing():
                self._refuse(431, f"the head of the request is larger than {LARGEST_HEAD} bytes")

    def eof_received(self) -> bool:
        """Keep a connection whose request is there in whole: the client waits for the answer."""
        cycle = self.cycle
        return self.scheme == "http" and cycle is not None and not (cycle.more_body or cycle.response_complete)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        if self._timer is None:
            self._expect(SECONDS_FOR_HEAD, "the head of the request")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head, self._head = False, 0
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        megabytes = int(length) / 2**20 if length.isdigit() else self.config.largest / 2**20
        self._expect(SECONDS_FOR_BODY + min(megabytes, self.config.largest / 2**20), "the upload")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._expect(None)

    def on_response_complete(self) -> None:
        if self.cycle.more_body and not self.transport.is_closing():
            self.transport.close()  # refused, and still sending
        super().on_response_complete()

    def leave(self) -> None:
        """Close once the answer that is due is out; who is still sending gets none."""
        if self.cycle and self.cycle.more_body:
            self.transport.abort()
        self.shutdown()

    def _expect(self, seconds: float | None, what: str = "") -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(
                seconds, self._refuse, 408, f"{what} broke off before its end: it was not there after {seconds:.0f} s"
            )

    def _refuse(self, status: int, message: str) -> None:
        """Say why and close, whoever reads it."""
        self._expect(None)
        if not (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            body = json.dumps({"error": message}).encode()
            head = b"HTTP/1.1 %d \r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % (status, len(body)) + body)
        self.transport.close()
        self.loop.call_later(SECONDS_TO_REFUSE, self.transport.abort)


def serve(
    listener: socket.socket,
    certificate: Certificate | None,
    make: Callable[[], Application],
    limit: int,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM. `make` is called in the loop that serves, `ready` once connections are taken; limit: bytes of a body."""
    asyncio.run(_serve(listener, certificate, make, limit, ready))


async def _serve(listener, certificate, make, limit, ready) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = Config(
        make(),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=SECONDS_KEPT_ALIVE,
        server_header=False,
    )
    config.load()
    config.largest = limit
    Protocol.most_connections = _raise_descriptors() - 256
    state = ServerState()
    tls = {"ssl": certificate.server_context(), "ssl_handshake_timeout": SECONDS_FOR_HEAD} if certificate else {}
    server = await loop.create_server(lambda: Protocol(config, state, {}), sock=listener, backlog=1024, **tls)
    ready()
    await stop.wait()
    server.close()
    for connection in list(state.connections):
        connection.leave()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_finished(state), SECONDS_TO_STOP)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what isn't finished is cancelled, which is no error


async def _finished(state: ServerState) -> None:
    while state.tasks:
        await asyncio.wait(set(state.tasks))


def _raise_descriptors() -> int:
    """Allow as many sockets as this process may have. Returns their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    most = max(most, soft)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
