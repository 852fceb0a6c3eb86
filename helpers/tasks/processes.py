"""Runs a command with a time limit and an environment of its own, and leaves no process of it behind."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

from helpers.config.sites import ROOT
from helpers.lib.commands import marked
from helpers.lib.errors import ConfigError

GRACE_SECONDS = 5.0  # between TERM and KILL
POLL_SECONDS = 0.02
SHOWN = 10_000  # bytes of a log's end
# of the caller's environment, what programs need to start; all else, such as tokens and keys, stays out
KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|CONDA_PREFIX|MPLBACKEND"
    r"|PYTHON\w+|CUDA_\w+|(ROCR|HIP)_VISIBLE_DEVICES|\w+_NUM_THREADS"
)
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL", re.IGNORECASE)
MARK = "HAB_TASK_RUN"  # every process of a command carries it, daemons included


def run(
    command: list[str], folder: Path, variables: dict[str, str], limit: float, out: IO[bytes], err: IO[bytes]
) -> tuple[int, bool]:
    """Run a command in a folder; returns its exit status (negative: the signal), and whether its time was over.

    limit: seconds; then, or when an exception such as KeyboardInterrupt comes, its processes get TERM, and KILL after a grace.
    Raises ConfigError when it can't be started.
    """
    mark = secrets.token_hex(16)
    process = _start(command, folder, environment() | variables | {MARK: mark}, out, err)
    try:
        in_time = _ended(process, limit)
        if not in_time:
            _end(process, mark)
    except BaseException:
        _end(process, mark)
        raise
    finally:
        until = time.monotonic() + GRACE_SECONDS
        _signal(process, mark, signal.SIGKILL)
        while any(marked(MARK, mark)) and time.monotonic() < until:  # what they started meanwhile
            _signal(process, mark, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        process.wait()
    return process.returncode, not in_time


def environment() -> dict[str, str]:
    """What a program gets of the caller's environment: no secrets, and none of this project's own settings."""
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name) and not SECRET.search(name)}
    # set by scripts_hpc: with them a program could not import what lies beside it
    kept.pop("PYTHONSAFEPATH", None)
    path = [part for part in kept.pop("PYTHONPATH", "").split(os.pathsep) if part and part != str(ROOT)]
    return kept | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def tail(file: IO[bytes]) -> str:
    """The end of a log, read through the handle that was written to: the program could have put a link in its place."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - SHOWN))
    text = file.read(SHOWN).decode("utf-8", "replace")
    return text if size <= SHOWN else f"[the first {size - SHOWN} bytes stand in {file.name}]\n{text}"


def _start(
    command: list[str], folder: Path, variables: dict[str, str], out: IO[bytes], err: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError([f"{command[0]}: can't be run: {error.strerror}."]) from error


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends within `seconds`. It stays a zombie, so that the number of its group can be nobody else's."""
    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    _signal(process, mark, signal.SIGTERM)
    _ended(process, GRACE_SECONDS)


def _signal(process: subprocess.Popen[bytes], mark: str, number: signal.Signals) -> None:
    """To its group, and to its descendants that made groups of their own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
    for pid in marked(MARK, mark):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) != process.pid:
                os.kill(pid, number)
