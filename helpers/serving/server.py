"""What the servers of grading and of the replay model have in common: options, certificate, log, address, and how they say where.

What takes their requests is in http_front, which only the process that serves imports.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import ipaddress
import json
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # imported where used, so that --help is fast
    import ssl


class ServerError(Exception):
    """The server can't start; the message is for the user."""


class Rejected(Exception):
    """A request that gets an error: HTTP status and a message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Certificate:
    """What a server proves itself with: files of a certificate and its key, both PEM."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Make what serves. Raises ServerError where the files can't be read or don't belong together."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise ServerError(
                f"can't serve with {self.certificate} (--tls-cert) and {self.key} (--tls-key): {error}"
            ) from None
        return context

    def client_context(self) -> ssl.SSLContext:
        """Make what asks: trusts this one certificate, whatever name it was made for."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certificate)
        return context


class CallLog:
    """Append one JSON line a call to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, **entry: Any) -> None:
        line = json.dumps({"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **entry}) + "\n"
        with contextlib.suppress(OSError):  # a full disk must not stop the grading
            os.write(self.descriptor, line.encode())


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a server's command line, with the options that all have."""
    parser = argparse.ArgumentParser(
        prog=f"python -m helpers.{program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=0, metavar="P", help="port to listen on (default: 0, any free one)"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="F", help="serve https with this certificate, and --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="F", help="its key; both are PEM files")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="write the port here once the server answers")
    parser.add_argument("--log", type=Path, metavar="F", help="append one JSON line a call here (default: stderr)")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


class Opened(NamedTuple):
    """What a server has before it serves."""

    listener: socket.socket
    certificate: Certificate | None
    log: CallLog


def opened(options: argparse.Namespace, lacking: str | None) -> Opened:
    """Open what the options name; lacking: the tokens without which only loopback is served. Raises ServerError."""
    if options.ready_file:
        if not os.access(options.ready_file.parent, os.W_OK):
            raise ServerError(f"can't write {options.ready_file} (--ready-file): its folder is missing or read-only")
        options.ready_file.unlink(missing_ok=True)  # an earlier server's
    certificate, log = _certificate(options), CallLog(_open_log(options.log))
    return Opened(_bind(options.host, options.port, lacking), certificate, log)


def _certificate(options: argparse.Namespace) -> Certificate | None:
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise ServerError("--tls-cert and --tls-key belong together: give both, or neither (http)")
    certificate = Certificate(options.tls_cert, options.tls_key)
    certificate.server_context()
    return certificate


def _open_log(path: Path | None) -> int:
    if path is None:
        return 2
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise ServerError(f"can't write the log {path} (--log): {error.strerror}") from None


def _bind(host: str, port: int, lacking: str | None) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ServerError(f"the host {host!r} is not known (--host): {error}") from None
    if lacking and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise ServerError(
            f"{host} is not a loopback address (--host), and without tokens only those are served: set {lacking}"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServerError(
                f"port {port} of {host} is taken (--port): choose another, or 0 for any free one"
            ) from None
        raise ServerError(f"can't listen on {host} port {port} (--host, --port): {error}") from None
    return listener


def announce(name: str, options: argparse.Namespace, port: int) -> None:
    """Write the port to --ready-file, and print the URL. Raises OSError."""
    if options.ready_file:
        scratch = options.ready_file.with_name(f".{options.ready_file.name}.{os.getpid()}")
        scratch.write_text(f"{port}\n")
        scratch.rename(options.ready_file)
    scheme, host = "https" if options.tls_cert else "http", f"[{options.host}]" if ":" in options.host else options.host
    print(f"{name}: {scheme}://{host}:{port}", flush=True)
