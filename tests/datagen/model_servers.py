"""Stand-ins for models' servers on loopback, whose answers a test scripts: they answer, stall, refuse, cut the connection, trickle."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def chat(text: str | None, prompt_tokens: int = 5, completion_tokens: int = 2) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}}


def asked(body: dict[str, Any]) -> str:
    """The words of a request's last message."""
    return str(body["messages"][-1]["content"])


def echo(handler: Handler, body: dict[str, Any]) -> None:
    """Answer with the prompt in capitals."""
    handler.reply(200, chat(asked(body).upper()))


def status(code: int, body: Any = None, **headers: str) -> Manner:
    return lambda handler, _: handler.reply(
        code, body if body is not None else {"error": {"message": f"said {code}"}}, headers
    )


def stall(handler: Handler, _: Any) -> None:
    """Never answer."""
    handler.server.over.wait(60)
    handler.close_connection = True


def cut(handler: Handler, _: Any) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def half(handler: Handler, _: Any) -> None:
    """Close it within an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def trickle(handler: Handler, _: Any) -> None:
    """Blanks, for ever, as gateways send them that keep a connection open."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")


def free_port() -> int:
    """A port on which nobody listens just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


Manner = Callable[["Handler", Any], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.listings += 1
        if self.server.lists:
            self.reply(200, {"data": [{"id": "m"}]})
        else:
            stall(self, None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.times.append(time.monotonic())
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)
        try:
            manners = self.server.manners
            manners[min(number, len(manners) - 1)](self, body)
        finally:
            with self.server.lock:
                self.server.open -= 1

    def reply(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The n-th request is answered by the n-th manner, all later ones by the last. requests: path, headers, body."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, *manners: Manner, port: int = 0, certificate: tuple[Path, Path] | None = None, lists: bool = True
    ):
        super().__init__(("127.0.0.1", port), Handler)
        self.manners, self.lists = manners or (echo,), lists
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.times: list[float] = []
        self.lock, self.over = threading.Lock(), threading.Event()
        self.open = self.most = self.listings = 0
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        pass  # clients are ended, too
