"""Calls a function in a process of its own, with a deadline and a bound on memory: a file may be made to be slow, or huge, to read.

A deadline inside the process would not do: image and compression libraries don't come back to Python while they work.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# not spawn: what is loaded stays loaded, open files stay open, and a caller's script isn't run once more
_FORK = multiprocessing.get_context("fork")


class Exceeded(Exception):
    """The call took too long or too much memory; the message goes on from the name of what was read: `takes over 20 s to read`."""


def call(function: Callable[..., Any], *arguments: Any, seconds: float, memory: int) -> Any:
    """Call a function; returns what it returns, and raises what it raises, both as copies.

    seconds: of the clock; memory: bytes, beside what this process has. Raises Exceeded beyond either.
    """
    answer, end = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_serve, args=(end, seconds, memory, function, arguments))
    process.start()
    end.close()
    try:
        kind, value = answer.recv()
    except EOFError:
        process.join()
        kind, value = "killed", process.exitcode
    finally:
        answer.close()
        process.kill()
        process.join()
        process.close()
    if kind == "returned":
        return value
    if kind == "raised":
        raise value
    if value == -signal.SIGALRM:
        raise Exceeded(f"takes over {seconds:g} s to read")
    raise Exceeded(f"needs over {memory // 2**20} MB of memory to read, or breaks its reader")


def _serve(
    end: Connection, seconds: float, memory: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # the caller's handlers are the caller's
    signal.setitimer(
        signal.ITIMER_REAL, seconds
    )  # the kernel's alarm ends it whatever it does, and whoever waits for it
    limit_memory(memory)
    try:
        answer = ("returned", function(*arguments))
    except MemoryError:
        answer = ("killed", None)
    except Exception as error:
        answer = ("raised", error)
    try:
        end.send(answer)
    except MemoryError:
        end.send(("killed", None))
    os._exit(0)


def limit_memory(memory: int) -> None:
    """Let this process have no more memory than it has, and `memory` bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most, hard = pages * resource.getpagesize() + memory, resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory runs out all the same, the kernel should take this one
        Path("/proc/self/oom_score_adj").write_text("800")
