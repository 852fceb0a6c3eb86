"""Connections whose calls have an end: a socket's own timeout begins anew with each byte, and a thread that reads can't be called off.

So one thread of the client watches the calls, and shuts the connection of one whose time is up, or of all.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter

# a node that died says no word: after a minute its kernel is asked whether it is there, 4 times in another (tcp(7))
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class Call:
    """A call that is under way: until when (time.monotonic), over which socket, and whether it was cut."""

    def __init__(self, deadline: float):
        self.deadline = deadline
        self.socket: socket.socket | None = None
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True
        if self.socket is not None:
            with contextlib.suppress(OSError):  # closed already
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # not TLS' own, which would talk first


class Watch:
    """The calls of all threads, each with its deadline. over: set once nothing is waited for any more."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._calls: dict[int, Call] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._next = float("inf")

    @contextlib.contextmanager
    def until(self, deadline: float) -> Iterator[Call]:
        """A call of this thread, which is cut at its deadline."""
        call, me = Call(deadline), threading.get_ident()
        with self._changed:
            self._calls[me] = call
            if self._thread is None and not self.over.is_set():
                self._thread = threading.Thread(target=self._cut_late_ones, name="deadlines", daemon=True)
                self._thread.start()
            elif deadline < self._next:
                self._changed.notify()
        try:
            yield call
        finally:
            with self._changed:
                del self._calls[me]

    def using(self, connected: socket.socket) -> None:
        """This thread's call goes over this socket."""
        with self._changed:
            call = self._calls.get(threading.get_ident())
            if call is not None:
                call.socket = connected
                if call.is_cut or self.over.is_set():
                    call.cut()

    def close(self) -> None:
        """Cut all calls, and those to come."""
        with self._changed:
            self.over.set()
            for call in self._calls.values():
                call.cut()
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _cut_late_ones(self) -> None:
        with self._changed:
            while not self.over.is_set():
                now = time.monotonic()
                open_calls = [call for call in self._calls.values() if not call.is_cut]
                for call in open_calls:
                    if call.deadline <= now:
                        call.cut()
                self._next = min((call.deadline for call in open_calls if not call.is_cut), default=float("inf"))
                self._changed.wait(None if self._next == float("inf") else self._next - now)


class Watched:
    """What a connection of urllib3 does besides: it tells the watch which socket it uses."""

    watch: Watch
    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        for level, option, value in KEEPALIVE:
            self.sock.setsockopt(level, option, value)
        self.watch.using(self.sock)

    def request(self, *arguments: Any, **options: Any) -> None:
        if self.sock is not None:  # kept from an earlier call
            self.watch.using(self.sock)
        super().request(*arguments, **options)  # type: ignore[misc]


class WatchedAdapter(HTTPAdapter):
    """Connections that are kept for further calls, at most `most` to one address, under a watch."""

    def __init__(self, most: int):
        self.watch = Watch()
        super().__init__(pool_connections=8, pool_maxsize=most)

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool = super().get_connection_with_tls_context(*arguments, **options)
        if not issubclass(pool.ConnectionCls, Watched):
            pool.ConnectionCls = type("Connection", (Watched, pool.ConnectionCls), {"watch": self.watch})
        return pool
