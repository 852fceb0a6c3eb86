"""Prepare many tasks in parallel on this machine, into the folder that agents and the grading server read.

Tasks are named on the command line, in a task list (an id a line), or in a jobs file (lines `agent,task_id`); else all known ones
are meant (--all). Each is prepared by a
command of its own: this project's generator, a prepare.py of yours (<tasks dir>/<id>/{prepare.py,raw/}), BioML-bench for ids
like folder/task, else mle-bench. What is prepared already is checked and skipped. A task appears in the data folder when it is
whole, or not at all; two invocations at once never prepare the same one twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from helpers.lib import errors
from helpers.lib.commands import Commands, guard
from helpers.lib.signals import ctrl_c
from helpers.prepare.one import Outcome, Preparation, Settings
from helpers.prepare.report import Report

if TYPE_CHECKING:
    pass
from helpers.prepare.arguments import UsageError, known_tasks, parse, settings_of, tasks_and_folder, tasks_of

log = logging.getLogger("prepare_all_tasks")


def run(settings: Settings, tasks: list[str], threads: int, report: Report) -> int:
    """Prepare tasks in parallel; the exit code."""
    mark = f"{os.getpid()}.{os.urandom(4).hex()}"
    results: queue.SimpleQueue[Outcome | int] = queue.SimpleQueue()
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)
    with tempfile.TemporaryDirectory(prefix="prepare.", ignore_cleanup_errors=True) as scratch, _signals(results.put):
        guard(mark, scratch)  # forks, so before there are threads
        report.begin(threads)
        commands = Commands(mark)
        preparation = Preparation(settings, commands, scratch, report.started)

        def work() -> None:
            with contextlib.suppress(queue.Empty):
                while task := todo.get_nowait():
                    results.put(preparation.prepare(task))

        for _ in range(settings.at_once):
            threading.Thread(target=work, daemon=True).start()
        outcomes = _collect(results, len(tasks), commands, report)
    order = {task: position for position, task in enumerate(tasks)}
    report.end(sorted(outcomes, key=lambda outcome: order[outcome.task]))
    if commands.stop.is_set():
        return 130
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _collect(results: queue.SimpleQueue[Any], count: int, commands: Commands, report: Report) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        found = results.get()
        if isinstance(found, Outcome):
            outcomes.append(found)
            report.ended(found, more=not results.empty())
        elif commands.stop.is_set():  # asked a second time
            commands.end_all(signal.SIGKILL)
        else:
            log.warning("Preparation interrupted, ending what runs")
            commands.end_all()
    return outcomes


@contextlib.contextmanager
def _signals(tell: Callable[[int], None]) -> Iterator[None]:
    """Hand the signals that end a run to `tell`. One that was ignored (nohup) stays so."""
    before = {number: signal.getsignal(number) for number in (ctrl_c(), signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: tell(int(number)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        tasks, warnings = tasks_of(options, lambda: known_tasks(*tasks_and_folder(options)))
        settings = settings_of(options, len(tasks))
        try:
            report = Report(options.log_file, options.failed_tasks, options.events, tasks)
        except OSError as error:
            said = f"{error.filename}: can't be written ({error.strerror})"
            raise UsageError(f"{said}; --log-file and --failed-tasks name other files") from error
    except UsageError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return errors.fault_code(error.__cause__) if isinstance(error.__cause__, OSError) else 2
    for warning in [*warnings, *settings.warnings(tasks)]:
        log.warning(warning)
    if settings.timeout:
        log.info("Each task may take %g s (--timeout)", settings.timeout)
    return run(settings, tasks, options.threads, report)


def command() -> None:
    """The command: main, and Ctrl-C before it is ready for that."""
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    command()
