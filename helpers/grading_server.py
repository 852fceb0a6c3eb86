"""Serve the grading of one or several competitions over HTTP: agents learn whether a submission is valid, no score.

GET /health: which competitions, which instance. POST /validate, POST /grade: multipart field `file`, and field
`competition` where several are served. /validate answers {"result": message}, /grade a report (helpers/graders.py).
POST /token: field `run`, answers {"token": …}, which may validate only and names its run in the log.

Tokens come from the environment: GRADING_TOKEN lets agents validate, GRADING_ADMIN_TOKEN also lets the host grade and
make runs' own tokens; they are sent as `Authorization: Bearer …`. With neither, no token is asked and only a loopback
address is bound. With --tls-cert and --tls-key the server speaks https, and is ready when its own certificate answers.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import hmac
import http.client
import io
import ipaddress
import json
import logging
import math
import os
import random
import re
import secrets
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # imported where used, so that --help is fast
    import ssl

    import flask
    from werkzeug.exceptions import HTTPException

    from helpers.graders import Grader

    Judge = Callable[[Grader, BinaryIO], tuple[bool, dict[str, Any]]]

SMALL_UPLOAD = 2**20  # uploads up to this size stay in memory: they work on a full disk, too
STALLED_UPLOAD_SECONDS = 30
SECONDS_TO_START = 60
THREADS = 8
SECONDS_TO_STOP = 3
SECONDS_TO_REFUSE = 2
RUN_NAME = r"[A-Za-z0-9._:-]{1,128}"


class ServerError(Exception):
    """The server can't start; the message is for the user."""


class Refused(Exception):
    """A request that gets an error: HTTP status and a message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CallLog:
    """Append one JSON line a call to a file descriptor; safe to share between threads and forked processes."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, **entry: Any) -> None:
        line = json.dumps({"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **entry}) + "\n"
        with contextlib.suppress(OSError):  # a full disk must not stop the grading
            os.write(self.descriptor, line.encode())


@dataclass(frozen=True)
class Caller:
    """Who sent a request: whether it may do all, and the run that its token was made for."""

    is_admin: bool
    run: str | None = None


class Tokens:
    """The agents' token, the host's, and those of runs: RUN.CODE, where the code is an HMAC with the host's as key.

    Nothing is kept, so all processes and a server that was started again agree.
    """

    def __init__(self, token: str | None, admin_token: str | None) -> None:
        self.token, self.admin_token = token, admin_token

    def issue(self, run: str) -> str:
        """Make the token of a run. Raises Refused where the run's name is none, or no tokens are asked for."""
        if not self.admin_token:
            raise Refused(400, "this server asks for no tokens, so it makes none")
        if not re.fullmatch(RUN_NAME, run):
            raise Refused(400, "say which run, in the form field `run`: 1 to 128 letters, digits and . _ : -")
        code = hmac.new(self.admin_token.encode(), b"run " + run.encode(), hashlib.sha256).hexdigest()
        return f"{run}.{code}"

    def caller(self, authorization: str) -> Caller:
        """Say whose token a header holds. Raises Refused where it is nobody's."""
        if not self.admin_token:
            return Caller(is_admin=True)
        given = authorization.removeprefix("Bearer ").strip()
        if _is_same(given, self.admin_token):
            return Caller(is_admin=True)
        if self.token and _is_same(given, self.token):
            return Caller(is_admin=False)
        run = given.rpartition(".")[0]
        if re.fullmatch(RUN_NAME, run) and _is_same(given, self.issue(run)):
            return Caller(is_admin=False, run=run)
        raise Refused(401, "a valid token is needed: send the header `Authorization: Bearer TOKEN`")


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


class Service:
    """Answer requests: check the token, take the upload, judge it, log the call."""

    def __init__(self, graders: dict[str, Grader], tokens: Tokens, limit: int, log: CallLog) -> None:
        self.graders, self.tokens, self.limit, self.log = graders, tokens, limit, log
        self.lock = threading.Lock()  # graders and the metrics below them need not be thread-safe

    def answer(self, request: flask.Request, judge: Judge | None, admin_only: bool) -> tuple[dict[str, Any], int]:
        """Answer one call; returns JSON and an HTTP status. Nothing but JSON gets out, whatever happens."""
        from werkzeug.exceptions import HTTPException

        started = time.monotonic()
        entry: dict[str, Any] = {"endpoint": request.path, "run": None, "remote": request.remote_addr}
        entry["verdict"], status = "error", 200
        try:
            self._check_token(request, admin_only, entry)
            answer = self._judged(request, judge, entry) if judge else self._token(request, entry)
        except Refused as error:
            status, answer = error.status, {"error": str(error)}
        except HTTPException as error:
            status, answer = error.code or 500, {"error": describe(error, self.limit)}
        except Exception:
            status, answer = 500, {"error": "internal error, see the server's log"}
            entry["traceback"] = traceback.format_exc()
        if status != 200:
            entry["error"] = answer["error"]
        self.log.write(**entry, status=status, ms=round((time.monotonic() - started) * 1000, 1))
        return answer, status

    def _check_token(self, request: flask.Request, admin_only: bool, entry: dict[str, Any]) -> None:
        caller = self.tokens.caller(request.headers.get("Authorization", ""))
        # a name that anybody can send is believed of nobody but the host
        entry["run"] = _run_id(request) if caller.is_admin else caller.run
        if admin_only and not caller.is_admin:
            raise Refused(403, "this token may validate, but not grade")

    def _token(self, request: flask.Request, entry: dict[str, Any]) -> dict[str, Any]:
        run = request.form.get("run", "")
        answer = {"token": self.tokens.issue(run)}
        entry.update(run=run, verdict="issued")
        return answer

    def _judged(self, request: flask.Request, judge: Judge, entry: dict[str, Any]) -> dict[str, Any]:
        upload = _upload(request)
        entry["competition"], grader = _chosen(self.graders, request.form.get("competition"))
        entry["sha256"], entry["bytes"] = _digest(upload)
        with self.lock:
            valid, answer = judge(grader, upload)
        entry["verdict"] = "valid" if valid else "invalid"
        if "score" in answer:
            entry["score"] = answer["score"]
        return answer


def _validate(grader: Grader, upload: BinaryIO) -> tuple[bool, dict[str, Any]]:
    valid, message = grader.validate(upload)
    return valid, {"result": message}


def _grade(grader: Grader, upload: BinaryIO) -> tuple[bool, dict[str, Any]]:
    # JSON has no NaN and no infinity
    report = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in grader.grade(upload).items()
    }
    return report["valid_submission"], report


def create_app(
    graders: dict[str, Grader],
    token: str | None = None,
    admin_token: str | None = None,
    *,
    instance: str = "",
    max_upload_bytes: int = 512 * 2**20,
    log: CallLog | None = None,
) -> flask.Flask:
    """Make the WSGI application that serves `graders`, by competition id; without tokens none is asked for."""
    import flask
    from werkzeug.exceptions import HTTPException

    class Request(flask.Request):
        def _get_file_stream(self, total_content_length: int | None, *_: Any, **__: Any) -> BinaryIO:
            # each upload its own; anonymous, so that nothing stays behind even after kill -9
            small = total_content_length is not None and total_content_length <= SMALL_UPLOAD
            return io.BytesIO() if small else tempfile.TemporaryFile()

    app = flask.Flask("grading_server", static_folder=None)
    app.request_class = Request
    app.config.update(MAX_CONTENT_LENGTH=max_upload_bytes, MAX_FORM_PARTS=8)
    service = Service(graders, Tokens(token, admin_token), max_upload_bytes, log or CallLog(2))

    def respond(judge: Judge | None, admin_only: bool) -> flask.Response:
        response = flask.make_response(service.answer(flask.request, judge, admin_only))
        if response.status_code != 200:
            environ = flask.request.environ
            response.call_on_close(lambda: _discard_body(environ))
        return response

    @app.get("/health")
    def health() -> dict[str, Any]:
        names = list(graders)
        return {"status": "running", "competition": names[0], "competitions": names, "instance": instance}

    @app.post("/validate")
    def validate() -> flask.Response:
        return respond(_validate, admin_only=False)

    @app.post("/grade")
    def grade() -> flask.Response:
        return respond(_grade, admin_only=True)

    @app.post("/token")
    def token_of_run() -> flask.Response:
        return respond(None, admin_only=True)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[dict[str, Any], int]:
        return {"error": describe(error, max_upload_bytes)}, error.code or 500

    return app


def describe(error: HTTPException, limit: int) -> str:
    """Say what is wrong with a request; limit: the largest upload in bytes."""
    if error.code == 413:
        return f"the upload is larger than {limit / 2**20:g} MB, or its form has too much text or too many parts"
    return f"{error.name.lower()}: {error.description}"


def _upload(request: flask.Request) -> BinaryIO:
    """Take the one uploaded file out of a request; its name is ignored. Raises Refused."""
    from werkzeug.exceptions import ClientDisconnected

    try:
        files, form = request.files.getlist("file"), request.form
    except Exception as error:
        # gunicorn has errors of its own for a body that turns out not to be HTTP
        if isinstance(error, ClientDisconnected) or type(error).__module__ == "gunicorn.http.errors":
            raise Refused(400, "the upload broke off before its end") from None
        raise
    if len(files) == 1 and files[0].filename:
        return files[0].stream
    if len(files) > 1:
        raise Refused(400, "send exactly one file in the field `file`")
    if files:
        raise Refused(400, "the field `file` has an empty file name: no file was chosen")
    if "file" in form:
        raise Refused(400, "the field `file` holds text, not a file (with curl: -F file=@submission.csv)")
    raise Refused(400, "no file came with the request: send it as multipart form data, in the field `file`")


def _chosen(graders: dict[str, Grader], asked: str | None) -> tuple[str, Grader]:
    """Choose the grader that a request asks for. Raises Refused."""
    served = ", ".join(graders)
    if not asked and len(graders) > 1:
        raise Refused(400, f"say which competition, in the form field `competition`; served here: {served}")
    name = asked or next(iter(graders))
    if name not in graders:
        raise Refused(404, f"competition {name[:100]!r} is not served here; served: {served}")
    return name, graders[name]


def _discard_body(environ: dict[str, Any]) -> None:
    """Throw the unread rest of a refused upload away for a while: a client that is still sending sees the answer.

    Without it, the connection is reset and curl reports a broken pipe.
    """
    deadline = time.monotonic() + SECONDS_TO_REFUSE
    with contextlib.suppress(Exception):
        while (left := deadline - time.monotonic()) > 0:
            if "gunicorn.socket" in environ:
                environ["gunicorn.socket"].settimeout(left)
            if not environ["wsgi.input"].read(2**16):
                return


def _digest(upload: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := upload.read(2**20):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def _run_id(request: flask.Request) -> str | None:
    return re.sub(r"[^A-Za-z0-9._:-]", "", request.headers.get("X-Run-Id", ""))[:128] or None


def read_tokens(environment: dict[str, str] | os._Environ[str]) -> tuple[str | None, str | None]:
    """Read the agents' and the host's token. Raises ServerError unless there are two different ones, or none."""
    token, admin_token = (environment.get(name, "").strip() for name in ("GRADING_TOKEN", "GRADING_ADMIN_TOKEN"))
    if bool(token) != bool(admin_token):
        given, missing = ("GRADING_TOKEN", "GRADING_ADMIN_TOKEN")[:: 1 if token else -1]
        raise ServerError(f"{given} is set and {missing} is not: set both, or neither (loopback only, no token asked)")
    if token and hmac.compare_digest(token.encode(), admin_token.encode()):
        raise ServerError("GRADING_TOKEN and GRADING_ADMIN_TOKEN are the same: with it, agents could grade themselves")
    return token or None, admin_token or None


def bind(host: str, port: int, *, loopback_only: bool) -> socket.socket:
    """Bind and listen; port 0 is any free one. Raises ServerError where the address is taken or not allowed."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ServerError(f"the host {host!r} is not known (--host): {error}") from None
    if loopback_only and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise ServerError(
            f"{host} is not a loopback address (--host), and without tokens only those are served: "
            "set GRADING_TOKEN and GRADING_ADMIN_TOKEN"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted connections inherit it: a client that stops in the middle of an upload frees its thread
        timeout = struct.pack("@ll", STALLED_UPLOAD_SECONDS, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
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


def serve(app: flask.Flask, listener: socket.socket, workers: int, certificate: Certificate | None) -> None:
    """Serve with gunicorn until SIGTERM, SIGINT or SIGHUP; the forked workers share what is loaded by now."""
    from gunicorn.app.base import BaseApplication

    ends_on_hangup = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # nohup
    for name in ("SCRIPT_NAME", "GUNICORN_PID"):  # a user's variables of these names would confuse gunicorn
        os.environ.pop(name, None)
    # gunicorn writes a traceback about a client that stops in the middle of its headers
    logging.getLogger("gunicorn.error").addFilter(lambda record: not _is_stall(record.exc_info))
    heartbeats = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    settings = {
        "bind": f"fd://{listener.detach()}",
        "workers": workers,
        "worker_class": "gthread",
        "threads": THREADS,
        "preload_app": True,
        "timeout": 300,
        "graceful_timeout": SECONDS_TO_STOP,
        "keepalive": 5,
        "worker_tmp_dir": heartbeats,
        "loglevel": "warning",
        "control_socket_disable": True,  # or gunicorn writes into the home folder
        "when_ready": lambda arbiter: _set_signals(arbiter, ends_on_hangup),
        "pre_request": _spread_connections,
        "worker_exit": lambda server, worker: _leave_at_once(worker),
    }
    if certificate:
        settings |= {"certfile": str(certificate.certificate), "keyfile": str(certificate.key)}
        settings["ssl_context"] = lambda config, default: certificate.server_context()

    class Server(BaseApplication):
        def load_config(self) -> None:
            for name, value in settings.items():
                if name in self.cfg.settings:  # older gunicorns have no control socket
                    self.cfg.set(name, value)

        def load(self) -> flask.Flask:
            return app

    Server().run()


def _is_stall(problem: Any) -> bool:
    return bool(problem) and isinstance(problem[1], BlockingIOError)


def _set_signals(arbiter: Any, ends_on_hangup: bool) -> None:
    """End with the terminal, where gunicorn would reload; and never start a second master."""
    if ends_on_hangup:
        signal.signal(signal.SIGHUP, lambda *_: arbiter.signal(signal.SIGTERM, None))
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _spread_connections(_worker: Any, request: Any) -> None:
    """End a kept-alive connection now and then: the client's next one is accepted by the worker that is less busy."""
    if random.random() < 1 / 16:
        request.headers.insert(0, ("CONNECTION", "close"))


def _leave_at_once(worker: Any) -> None:
    """End a worker without waiting for threads that hang on a stalled client."""
    if worker.pid == os.getpid():
        os._exit(0)


def announce(
    host: str, port: int, instance: str, ready_file: Path | None, certificate: Certificate | None = None
) -> None:
    """Fork a process that prints the URL, and writes the port to `ready_file`, once this very server answers /health."""
    server = os.getpid()
    if os.fork():
        return
    status = 0
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        deadline = time.monotonic() + SECONDS_TO_START
        while os.getppid() == server and _instance_at(reachable, port, certificate) != instance:
            if time.monotonic() > deadline:
                print(f"grading_server: no answer from /health in {SECONDS_TO_START} s", file=sys.stderr, flush=True)
                os.kill(server, signal.SIGTERM)
                os._exit(3)
            time.sleep(0.02)
        if os.getppid() == server:
            if ready_file:
                _write(ready_file, f"{port}\n")
            print(f"grading server: {_url(host, port, certificate)}", flush=True)
    except OSError as error:
        print(f"grading_server: can't announce the server: {error}", file=sys.stderr, flush=True)
        status = 3
    finally:
        os._exit(status)


def _url(host: str, port: int, certificate: Certificate | None) -> str:
    return f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _instance_at(host: str, port: int, certificate: Certificate | None) -> str | None:
    if certificate:
        connection = http.client.HTTPSConnection(host, port, timeout=5, context=certificate.client_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health", headers={"Connection": "close"})
        return json.loads(connection.getresponse().read()).get("instance")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.rename(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.grading_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--competition-id", action="append", required=True, metavar="ID", help="may be given several times"
    )
    parser.add_argument("--data-dir", required=True, metavar="DIR", help="folder of the prepared competitions")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=0, metavar="P", help="port to listen on (default: 0, any free one)"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="F", help="serve https with this certificate, and --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="F", help="its key; both are PEM files")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="write the port here once the server answers")
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes (default: one a CPU, at most 4)")
    parser.add_argument("--log", type=Path, metavar="F", help="append one JSON line a call here (default: stderr)")
    parser.add_argument("--max-upload-mb", type=_positive, default=512, metavar="N", help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="only say whether the competitions can be served")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _open_log(path: Path | None) -> CallLog:
    if path is None:
        return CallLog(2)
    try:
        return CallLog(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as error:
        raise ServerError(f"can't write the log {path} (--log): {error.strerror}") from None


def _certificate(arguments: argparse.Namespace) -> Certificate | None:
    if arguments.tls_cert is None and arguments.tls_key is None:
        return None
    if arguments.tls_cert is None or arguments.tls_key is None:
        raise ServerError("--tls-cert and --tls-key belong together: give both, or neither (http)")
    certificate = Certificate(arguments.tls_cert, arguments.tls_key)
    certificate.server_context()
    return certificate


def _load(arguments: argparse.Namespace) -> dict[str, Grader]:
    from helpers.graders import load

    return {name: load(name, arguments.data_dir) for name in arguments.competition_id}


def run(arguments: argparse.Namespace) -> None:
    """Check everything, then serve until ended. Raises ServerError and GradingError."""
    token, admin_token = read_tokens(os.environ)
    # one thread a request is enough, and OpenMP's own threads don't survive a fork
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if arguments.check:
        print(f"grading_server: ready to serve {', '.join(_load(arguments))}")
        return
    if arguments.ready_file:
        if not os.access(arguments.ready_file.parent, os.W_OK):
            raise ServerError(f"can't write {arguments.ready_file} (--ready-file): its folder is missing or read-only")
        arguments.ready_file.unlink(missing_ok=True)  # an earlier server's
    certificate = _certificate(arguments)
    log = _open_log(arguments.log)
    listener = bind(arguments.host, arguments.port, loopback_only=token is None)
    graders = _load(arguments)
    instance = os.environ.get("HAB_INSTANCE") or secrets.token_hex(8)
    app = create_app(
        graders,
        token,
        admin_token,
        instance=instance,
        max_upload_bytes=arguments.max_upload_mb * 2**20,
        log=log,
    )
    announce(arguments.host, listener.getsockname()[1], instance, arguments.ready_file, certificate)
    serve(app, listener, arguments.workers or min(len(os.sched_getaffinity(0)), 4), certificate)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from helpers.graders import GradingError

    try:
        run(arguments)
    except (ServerError, GradingError) as error:
        print(f"grading_server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
