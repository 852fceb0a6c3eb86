"""Serve the grading of one or several competitions over HTTP: agents learn whether a submission is valid, no score.

GET /health: which competitions, which instance. POST /validate, POST /grade: multipart field `file`, and field
`competition` where several are served. /validate answers {"result": message}, /grade a report (helpers/grading/graders.py).
POST /token: field `run`, answers {"token": …}, which may validate only and names its run in the log.

Tokens come from the environment: GRADING_TOKEN lets agents validate, GRADING_ADMIN_TOKEN also lets the host grade and
make runs' own tokens; they are sent as `Authorization: Bearer …`. With neither, no token is asked and only a loopback
address is bound. With --tls-cert and --tls-key the server speaks https, and is ready when its own certificate answers.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hmac
import http.client
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.serving import server
from helpers.serving.grading_access import Tokens
from helpers.serving.grading_judge import Bounds, Judge, work
from helpers.serving.server import Certificate, ServerError

if TYPE_CHECKING:  # imported where used, so that --help is fast
    from helpers.grading.graders import Grader

SECONDS_TO_START = 60
SECONDS_TO_STOP = 3
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # prctl(2)


def read_tokens(environment: dict[str, str] | os._Environ[str]) -> tuple[str | None, str | None]:
    """Read the agents' and the host's token. Raises ServerError unless there are two different ones, or none."""
    token, admin_token = (environment.get(name, "").strip() for name in ("GRADING_TOKEN", "GRADING_ADMIN_TOKEN"))
    if bool(token) != bool(admin_token):
        given, missing = ("GRADING_TOKEN", "GRADING_ADMIN_TOKEN")[:: 1 if token else -1]
        raise ServerError(f"{given} is set and {missing} is not: set both, or neither (loopback only, no token asked)")
    if token and hmac.compare_digest(token.encode(), admin_token.encode()):
        raise ServerError("GRADING_TOKEN and GRADING_ADMIN_TOKEN are the same: with it, agents could grade themselves")
    return token or None, admin_token or None


class Keeper:
    """The process that holds the answers: forks the front, then loads, forks judges, and replaces those that end.

    It has no thread and no client's socket, so a fork of it is clean; forking a judge takes some milliseconds.
    """

    def __init__(self, settings: argparse.Namespace, tokens: Tokens, opened: server.Opened) -> None:
        self.settings, self.tokens = settings, tokens
        self.listener, self.certificate, self.log = opened
        self.limit = settings.max_upload_mb * 2**20
        self.bounds = Bounds(settings.judgement_seconds, settings.judgement_mb)
        # one more than work on large uploads at a time: it is left to the small ones
        self.count = (settings.workers or min(len(os.sched_getaffinity(0)), 4)) + 1
        self.judges: dict[int, float] = {}  # by process id, when it began
        self.front = self.announcer = 0

    def run(self, instance: str) -> int:
        """Serve until a signal ends it. Returns an exit code. Raises GradingError and ServerError."""
        for number in ENDING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, _end)
        try:
            self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.front = _fork(self._front, theirs, instance)
            theirs.close()
            self.graders = _load(self.settings)
            for _ in range(self.count):
                self._start_judge()
            self.announcer = _fork(announce, self.settings, self.listener, instance, self.certificate, self.tokens)
            self.listener.close()
            return self._keep()
        except Ended:
            return 0
        finally:
            self._stop()

    def _keep(self) -> int:
        while True:
            process, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            if process == self.announcer:
                if code:
                    return code
                self._renew()
            elif process == self.front:
                print(f"grading_server: the front died (code {code})", file=sys.stderr, flush=True)
                return 3
            elif process in self.judges and time.monotonic() - self.judges.pop(process) < 0.1 and code > 0:
                time.sleep(0.1)  # one that can't even start must not take the machine
            if len(self.judges) < self.count:
                self._start_judge()

    def _renew(self) -> None:
        """Load what was left out to be ready sooner, and let judges that have it take over."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # an import that is broken off may raise anything
        for grader in self.graders.values():
            grader.warm()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        with contextlib.suppress(OSError):
            self.control.send(b"renew")
        self.judges.clear()  # the old ones end when the front lets go of them
        for _ in range(self.count):
            self._start_judge()

    def _start_judge(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine, theirs:
            self.judges[_fork(self._judge, theirs, mine)] = time.monotonic()
            with contextlib.suppress(OSError):  # no front: that is noticed, and said, when its death is
                socket.send_fds(self.control, [b"judge"], [mine.fileno()])

    def _judge(self, channel: socket.socket, other: socket.socket) -> None:
        for end in (other, self.control, self.listener):
            end.close()
        work(channel, Judge(self.graders, self.tokens, self.limit, self.bounds))

    def _front(self, control: socket.socket, instance: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.control.close()
        from helpers.serving import http_front
        from helpers.serving.grading_front import Front, Judges

        def make() -> Front:
            names, judges = self.settings.competition_id, Judges(control, self.count)
            return Front(names, self.tokens, judges, self.log, instance, self.limit, self.bounds)

        http_front.serve(self.listener, self.certificate, make, self.limit)

    def _stop(self) -> None:
        """End all children, the front first, so that who waits for an answer still gets it."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        if self.front:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.front, signal.SIGTERM)
            _await(self.front, SECONDS_TO_STOP + 1)
        for process in filter(None, (self.front, self.announcer, *self.judges)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class Ended(BaseException):
    """A signal asked the server to end."""


def _end(*_: Any) -> None:
    raise Ended


def _fork(work: Callable[..., Any], *arguments: Any) -> int:
    """Run a function in a process of its own, which dies with this one. Returns its id."""
    parent = os.getpid()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # or a signal could hit the child before it is one
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return process
    code = 1
    try:
        for number in ENDING:  # the parent ends its children itself, in its order
            signal.signal(number, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if os.getppid() == parent:
            code = work(*arguments) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _await(process: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # then it waits to be asked for
    with contextlib.suppress(ChildProcessError):
        while not os.waitpid(process, os.WNOHANG)[0] and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)


def announce(
    settings: argparse.Namespace,
    listener: socket.socket,
    instance: str,
    certificate: Certificate | None,
    tokens: Tokens,
) -> int:
    """Print the URL, and write the port to --ready-file, once this very server refuses a bad upload. Returns an exit code."""
    host, port = settings.host, listener.getsockname()[1]
    listener.close()
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    deadline = time.monotonic() + SECONDS_TO_START
    while not is_ready(reachable, port, instance, certificate, tokens, settings.competition_id):
        if time.monotonic() > deadline:
            print(f"grading_server: no right answer in {SECONDS_TO_START} s", file=sys.stderr, flush=True)
            return 3
        time.sleep(0.01)  # after a wrong answer: the right one is waited for, from the first request on
    try:
        server.announce("grading server", settings, port)
    except OSError as error:
        print(f"grading_server: can't announce the server: {error}", file=sys.stderr, flush=True)
        return 3
    return 0


def is_ready(
    host: str, port: int, instance: str, certificate: Certificate | None, tokens: Tokens, competitions: list[str]
) -> bool:
    """Ask whether the server there is ours, by its certificate and its name, and refuses a bad upload to each competition."""
    if certificate:
        connection = http.client.HTTPSConnection(host, port, timeout=5, context=certificate.client_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        if json.loads(connection.getresponse().read()).get("instance") != instance:
            return False
        return all(_refuses_bad(connection, competition, tokens) for competition in competitions)
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return False
    finally:
        connection.close()


def _refuses_bad(connection: http.client.HTTPConnection, competition: str, tokens: Tokens) -> bool:
    parts = ('name="competition"', competition), ('name="file"; filename="bad.csv"', "no,submission\n?,?,?\n")
    form = "".join(f"--b\r\nContent-Disposition: form-data; {name}\r\n\r\n{text}\r\n" for name, text in parts)
    headers = {"Content-Type": "multipart/form-data; boundary=b", "X-Run-Id": "start"}
    if tokens.admin_token:
        headers["Authorization"] = f"Bearer {tokens.admin_token}"
    from helpers.grading.report import INVALID

    connection.request("POST", "/validate", f"{form}--b--\r\n", headers)
    return json.loads(connection.getresponse().read()).get("result", "").startswith(INVALID)


def _parser() -> argparse.ArgumentParser:
    parser = server.parser("grading_server", __doc__)
    parser.add_argument(
        "--competition-id", action="append", required=True, metavar="ID", help="may be given several times"
    )
    parser.add_argument("--data-dir", required=True, metavar="DIR", help="folder of the prepared competitions")
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="judges, beside one for small uploads (default: one a CPU, at most 4)",
    )
    parser.add_argument("--max-upload-mb", type=_positive, default=512, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--judgement-seconds",
        type=_positive,
        default=120,
        metavar="N",
        help="a submission that takes longer is invalid (default: %(default)s)",
    )
    parser.add_argument(
        "--judgement-mb",
        type=_positive,
        default=2048,
        metavar="N",
        help="memory that judging one may take (default: %(default)s)",
    )
    parser.add_argument("--check", action="store_true", help="only say whether the competitions can be served")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _load(arguments: argparse.Namespace) -> dict[str, Grader]:
    from helpers.grading.graders import load

    return {name: load(name, arguments.data_dir) for name in arguments.competition_id}


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then serve until ended. Returns an exit code. Raises ServerError and GradingError."""
    token, admin_token = read_tokens(os.environ)
    # one thread a judgement is enough, and OpenMP's own threads don't survive a fork
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if arguments.check:
        print(f"grading_server: ready to serve {', '.join(_load(arguments))}")
        return 0
    opened = server.opened(arguments, None if token else "GRADING_TOKEN and GRADING_ADMIN_TOKEN")
    instance = os.environ.get("HAB_INSTANCE") or secrets.token_hex(8)
    return Keeper(arguments, Tokens(token, admin_token), opened).run(instance)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from helpers.grading.report import GradingError

    try:
        return run(arguments)
    except (ServerError, GradingError) as error:
        print(f"grading_server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
