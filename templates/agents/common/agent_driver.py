"""What the drivers of agents in Python share: one runs until its deadline, and leaves no process behind.

The process that is started only watches: the agent runs in a child, which can hang in a model's code, in a request or in a
library without keeping us from ending in time. All that the child leaves is written at each step, so it is simply killed.
Exit code: 0 when the agent is done or the time is over, 1 otherwise, with one line on stderr.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from agent_processes import adopt_orphans, die_with, end_descendants
from agent_settings import AgentError, Settings, deadline_of, read_bounded, read_endpoints, write_file

WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def drive(help_text: str, name: str, work: Callable[[Settings], int]) -> int:
    """Run an agent; the exit code. name: what people call it; work: runs it, in the child, and returns its exit code or raises."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(help_text.strip())
        return 0
    try:
        settings = Settings.from_environment()
    except AgentError as error:
        return fail(name, error)
    # blocked before the fork, so that none is missed between it and the first wait
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    adopt_orphans()
    watcher = os.getpid()
    worker = os.fork()
    if worker == 0:
        _work(settings, watcher, name, work)
    try:
        code, problem = watch(worker, settings, name)
    finally:
        gone = end_descendants()
    if not gone:
        problem = f"{problem or 'finished'}; some of its processes could not be killed"
    return fail(name, problem) if problem else code


def fail(name: str, problem: object) -> int:
    print(f"{name.lower()} driver: {problem}", file=sys.stderr, flush=True)
    return 1


def watch(worker: int, settings: Settings, agent: str) -> tuple[int, str | None]:
    """Wait for the worker, the deadline or a signal; the exit code and, where the worker didn't say it, the problem."""
    deadline = None
    while True:
        if deadline is None:
            deadline = known_deadline(settings)
        left = 0.2 if deadline is None else min(deadline - time.time(), 60)
        if left <= 0:
            print(f"time is over after {steps_done(settings)} steps", flush=True)
            return 0, None
        event = signal.sigtimedwait(WATCHED, left)
        if event and event.si_signo != signal.SIGCHLD:
            name = signal.Signals(event.si_signo).name
            return 1, f"stopped by {name} after {steps_done(settings)} steps"
        pid, status = os.waitpid(worker, os.WNOHANG)
        if pid and os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return 1, f"{agent}'s process was ended by {name}{hint} after {steps_done(settings)} steps"
        if pid:
            return os.WEXITSTATUS(status), None


def known_deadline(settings: Settings) -> float | None:
    """The deadline, once the host has announced it; a malformed one is left to the worker to report."""
    try:
        return deadline_of(read_endpoints(settings.endpoints_file))
    except (OSError, ValueError, AgentError):
        return None


def steps_done(settings: Settings) -> int:
    try:
        return int(json.loads(read_bounded(settings.logs_dir / "usage.json"))["steps"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0


def _work(settings: Settings, watcher: int, name: str, work: Callable[[Settings], int]) -> None:
    """Run the agent in this process, the watcher's child, and end it without exit handlers of libraries, which can hang."""
    code = 1
    try:
        die_with(watcher)
        adopt_orphans()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        code = work(settings)
    except AgentError as error:
        fail(name, error)
    except BaseException as error:
        place = settings.logs_dir / "driver_error.txt"
        write_file(place, traceback.format_exc())
        fail(name, f"{type(error).__name__}: {error} (more in {place.name} among the logs)")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
