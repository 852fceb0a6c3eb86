"""How a run of preparations goes: its log, the list of what is left, its events, a progress display, and the summary."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helpers.prepare.one import Outcome

LOG_FORMAT = "%(asctime)s - %(levelname)s - %(message)s"
RULE = "=" * 60
log = logging.getLogger("prepare_all_tasks")


class LogFile(logging.FileHandler):
    """A log that can't be written is said once, and doesn't end the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not getattr(self, "told", False):
            print(f"error: {self.baseFilename}: {sys.exc_info()[1]}; going on without it", file=sys.stderr)
        self.told = True


class LogScreen(logging.StreamHandler):
    """Lines on stdout, above the progress display where that is on the same terminal. A closed pipe doesn't end the work."""

    console: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.console is None:
            super().emit(record)
        else:
            self.console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class Report:
    """The log on stdout and in a file, the list of what is to be done, the events, and a progress display on a terminal."""

    def __init__(self, log_file: str, failed_file: str, events: str | None, tasks: list[str]):
        """Open the log, and note that all is to be done. Raises OSError when that can't be written."""
        self._failed_file, self._events = Path(os.path.abspath(failed_file)), events
        self._left, self._total = list(tasks), len(tasks)
        self._progress: Any = None
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        self._screen = LogScreen(sys.stdout)
        log.handlers = [LogFile(log_file, encoding="utf-8", errors="backslashreplace"), self._screen]
        for handler in log.handlers:
            handler.setFormatter(logging.Formatter(LOG_FORMAT))
        log.setLevel(logging.INFO)
        log.propagate = False
        self._write_left()

    def begin(self, threads: int) -> None:
        if sys.stderr.isatty():
            self._show_progress()
        log.info("Found %d unique tasks to prepare", self._total)
        log.info("Preparing %d tasks with %d threads", self._total, threads)
        log.info("Starting parallel preparation of %d tasks using %d threads", self._total, threads)

    def _show_progress(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._progress = Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._bar, self._running = self._progress.add_task("", total=self._total), dict[str, None]()
        self._progress.start()
        if sys.stdout.isatty():
            self._screen.console = console

    def started(self, task: str) -> None:
        log.info("Starting preparation of task: %s", task)
        self._event(task, "started")
        self._now_running(lambda running: running.setdefault(task))

    def ended(self, outcome: Outcome, *, more: bool = False) -> None:
        """Tell of a task. more: others have ended too, and the list is written with the last of them."""
        task, state, seconds, reason, output = outcome
        if state == "prepared":
            log.info("✓ Successfully prepared %s in %.1fs", task, seconds)
        elif state == "skipped":
            log.info("Skipping %s: it is already prepared (--force prepares it again)", task)
        elif state == "failed":
            log.error(
                "✗ Failed to prepare %s after %.1fs: %s%s",
                task,
                seconds,
                reason,
                f" (output: {output})" if output else "",
            )
        if state in ("prepared", "skipped"):
            self._left.remove(task)
        if not more:
            self._try_to_write_left()
        self._event(task, "failed" if state == "unfinished" else state, seconds, reason)
        self._now_running(lambda running: running.pop(task, None), advance=1)

    def end(self, outcomes: list[Outcome]) -> None:
        """Write the summary, and the list of what is left for the last time."""
        if self._progress:
            self._progress.stop()
        self._screen.console = None
        log.info("%s", summary(outcomes))
        if self._left and self._try_to_write_left():
            log.info("Failed task IDs written to: %s", shown(self._failed_file))

    def _now_running(self, change: Callable[[dict[str, None]], object], advance: int = 0) -> None:
        if self._progress:
            change(self._running)
            self._progress.update(self._bar, advance=advance, description=", ".join(list(self._running)))

    def _try_to_write_left(self) -> bool:
        try:
            self._write_left()
            return True
        except OSError as error:
            log.error("%s can't be written (%s), so it isn't up to date", shown(self._failed_file), error.strerror)
            return False

    def _write_left(self) -> None:
        # in the order of the run, so that a retry starts like this run
        if not self._left:
            self._failed_file.unlink(missing_ok=True)
            return
        temporary = self._failed_file.with_name(f".{self._failed_file.name}.{os.getpid()}")
        try:
            temporary.write_text("".join(f"{task}\n" for task in self._left), encoding="utf-8")
            temporary.replace(self._failed_file)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _event(self, task: str, state: str, seconds: float | None = None, reason: str = "") -> None:
        if self._events is None:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        seconds = None if seconds is None else round(seconds, 3)
        line = {"time": now, "task": task, "state": state, "seconds": seconds, "reason": reason}
        try:
            with open(self._events, "ab", buffering=0) as file:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            log.error("%s can't be written (%s)", self._events, error.strerror)


def shown(path: Path) -> str:
    """A path as short as it can be said here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def summary(outcomes: Iterable[Outcome]) -> str:
    """The summary at the end of a run; starts with an empty line, so that it stands alone in the log."""
    groups: dict[str, list[Outcome]] = {"prepared": [], "skipped": [], "failed": [], "unfinished": []}
    for outcome in outcomes:
        groups[outcome.state].append(outcome)
    prepared, skipped, failed, unfinished = groups.values()
    lines = ["", RULE, "PREPARATION SUMMARY", RULE, f"Total tasks: {sum(map(len, groups.values()))}"]
    lines += [f"Successful: {len(prepared)}", f"Failed: {len(failed)}"]
    lines += [f"Already prepared: {len(skipped)}"] if skipped else []
    lines += [f"Not finished: {len(unfinished)}"] if unfinished else []
    if prepared:
        lines += ["", "✓ Successfully prepared tasks:", *(f"  - {outcome.task}" for outcome in prepared)]
    if failed:
        lines += ["", "✗ Failed tasks:", *(f"  - {outcome.task}: {outcome.reason}" for outcome in failed)]
    if unfinished:
        lines += ["", "Not finished, interrupted:", *(f"  - {outcome.task}" for outcome in unfinished)]
    return "\n".join(lines)
