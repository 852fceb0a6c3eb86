"""Ends all processes that an agent has started, daemons too. Linux only: reads /proc and calls prctl(2)."""

import ctypes
import os
import signal
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that a daemon can't leave our tree."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """Be killed when the process `parent`, which has just forked us, ends in any way."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def descendants() -> list[int]:
    """The process ids of all descendants of this process."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # the command's name may hold spaces and brackets: the fields start behind the last bracket (proc(5))
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_descendants() -> None:
    """Send SIGKILL to all descendants."""
    for pid in descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_descendants(patience: float = 5.0) -> bool:
    """Kill all descendants and wait until they are gone; True when none is left after at most `patience` seconds."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        kill_descendants()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        time.sleep(0.01)
    return False
