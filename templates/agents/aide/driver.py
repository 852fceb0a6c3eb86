"""Runs AIDE (aideml) on one competition, within a step limit and a deadline, and leaves no process behind.

Usage: driver.py (no arguments; reads the variables that the host sets for every agent, see start.sh)

This process only watches: AIDE runs in a child, which can hang in a model's code, in a request or in AIDE itself
without keeping us from ending in time. All that the child leaves is written at each step, so it is simply killed.
Exit code: 0 when all steps are done or the time is over, 1 otherwise, with one line on stderr.
"""

import json
import os
import signal
import sys
import time
import traceback
from types import ModuleType

from agent_processes import adopt_orphans, die_with, end_descendants
from aide_settings import AgentError, Settings, deadline_of, read_bounded, read_endpoints, write_file

WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    try:
        settings = Settings.from_environment()
    except AgentError as error:
        return fail(error)
    # blocked before the fork, so that none is missed between it and the first wait
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    adopt_orphans()
    watcher = os.getpid()
    worker = os.fork()
    if worker == 0:
        work(settings, watcher)
    try:
        code, problem = watch(worker, settings)
    finally:
        gone = end_descendants()
    if not gone:
        problem = f"{problem or 'finished'}; some of its processes could not be killed"
    return fail(problem) if problem else code


def fail(problem: object) -> int:
    print(f"aide driver: {problem}", file=sys.stderr, flush=True)
    return 1


def watch(worker: int, settings: Settings) -> tuple[int, str | None]:
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
            return 1, f"AIDE's process was ended by {name}{hint} after {steps_done(settings)} steps"
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


def spare_imports() -> None:
    """Stand in for the parts of AIDE that nothing here uses: four companies' clients and a plotter, half of its start-up."""
    backends = [f"backend.backend_{name}" for name in ("anthropic", "gemini", "openai", "openrouter")]
    for name in (f"aide.{part}" for part in (*backends, "utils.tree_export")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].query = None  # AIDE lists it; aide_models.py takes its place


def work(settings: Settings, watcher: int) -> None:
    """Run AIDE in this process, the watcher's child, and end it without AIDE's exit handlers, which can hang."""
    code = 1
    try:
        die_with(watcher)
        adopt_orphans()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        spare_imports()
        import aide_worker  # takes seconds, and isn't needed by the watcher

        code = aide_worker.run(settings)
    except AgentError as error:
        fail(error)
    except BaseException as error:
        place = settings.logs_dir / "driver_error.txt"
        write_file(place, traceback.format_exc())
        fail(f"{type(error).__name__}: {error} (more in {place.name} among the logs)")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
