"""Commands that run beside each other and end with us, with all their children, however we end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from helpers.lib import folders

GRACE_SECONDS = 3.0  # from TERM to KILL
MARK = "HAB_PREPARATION"  # in the environment of every command, so that none is missed at the end


class Stopped(Exception):
    """The run is being ended."""


class Commands:
    """The commands that run now, each with its children in a session of its own; none is started once `stop` is set."""

    def __init__(self, mark: str):
        self.stop = threading.Event()
        self._mark = mark
        self._lock = threading.Lock()
        self._running: set[int] = set()

    def run(
        self, command: list[str], env: dict[str, str], cwd: str, output: IO[bytes], seconds: float | None
    ) -> int | None:
        """Run a command to its end; its exit code, or None when the time was up. Raises Stopped and OSError."""
        with self._lock:
            if self.stop.is_set():
                raise Stopped
            process = subprocess.Popen(
                command,
                env={**env, MARK: self._mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process.pid)
        late = threading.Event()
        timers = [] if seconds is None else self._end_after(process.pid, seconds, late)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # while it isn't reaped, nobody else gets its number
        with self._lock:
            self._running.discard(process.pid)
            _signal(process.pid, signal.SIGKILL)  # what it left behind must not write on
        for timer in timers:
            timer.cancel()
        returncode = process.wait()
        return None if late.is_set() else returncode

    def _end_after(self, pid: int, seconds: float, late: threading.Event) -> list[threading.Timer]:
        def expire(number: int) -> None:
            with self._lock:
                if pid in self._running:
                    late.set()
                    _signal(pid, number)

        steps = ((seconds, signal.SIGTERM), (seconds + GRACE_SECONDS, signal.SIGKILL))
        return [_timer(max(0.0, delay), expire, number) for delay, number in steps]

    def end_all(self, number: int = signal.SIGTERM) -> None:
        """End what runs, with all its children, and start nothing more; what won't end is killed after a few seconds."""
        self.stop.set()
        with self._lock:
            for pid in self._running:
                _signal(pid, number)
        if number != signal.SIGKILL:
            _timer(GRACE_SECONDS, self.end_all, signal.SIGKILL)


def _timer(seconds: float, function: Callable[..., None], *arguments: Any) -> threading.Timer:
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()
    return timer


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def guard(mark: str, scratch: str) -> None:
    """Leave a process behind that kills every command marked so, and deletes their scratch folder, once we are gone: however."""
    read_end, write_end = os.pipe()  # closed by the kernel when we end; nobody else holds it
    if os.fork():
        os.close(read_end)
        return
    os.close(write_end)
    with contextlib.suppress(BaseException):
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.closerange(3, read_end)
        os.closerange(read_end + 1, 256)
        os.read(read_end, 1)
        clean = 0
        while clean < 2:  # one that was just being started bears no mark at the first look
            pids = list(marked(MARK, mark))
            clean = 0 if pids else clean + 1
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            folders.remove(Path(scratch))
    os._exit(0)


def marked(variable: str, value: str) -> Iterator[int]:
    """The processes that were started with a variable of this value in their environment, of the ones that we may look at."""
    wanted = f"{variable}={value}".encode()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if wanted in file.read().split(b"\0"):
                yield int(name)
