"""The preparation of one task: alone, in a folder of its own, with retries, and published when it is whole."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import random
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers.data import fingerprint, layout
from helpers.lib import errors, folders, room
from helpers.lib.commands import Commands, Stopped
from helpers.prepare import backends, failures
from helpers.prepare.backends import Backend, Options
from helpers.prepare.failures import Failure

if TYPE_CHECKING:
    from helpers.tasks.catalogue import TaskRegistry

LOCK_POLL_SECONDS = 0.5
log = logging.getLogger("prepare_all_tasks")


class Failed(Exception):
    """A task can't be prepared; the message says why. output: the file of what its command printed."""

    def __init__(self, failure: Failure, output: str = ""):
        super().__init__(failure.reason)
        self.output = output


class Outcome(NamedTuple):
    """How a task ended: prepared, skipped (it was already), failed, or unfinished (interrupted). output: file of what was printed."""

    task: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    output: str = ""


class Settings(NamedTuple):
    """What holds for all tasks of a run. data_from: who set the data folder. tasks_dir: the user's folder of tasks."""

    data_dir: Path
    data_from: str
    tasks_dir: str | None
    registry: TaskRegistry | None
    backend: str | None
    options: Options
    force: bool
    at_once: int
    retries: int
    retry_wait: float
    timeout: float | None
    min_free: float
    runs_dir: str | None = None  # where results lie that were made with these data
    raw: Path | None = None  # raw files that lie here, of the one task that is asked for

    def backend_of(self, task: str) -> Backend:
        """Who prepares a task. Raises ConfigError for broken definitions."""
        return backends.choose(task, self.registry, self.tasks_dir, self.backend)

    def takes_options(self, task: str) -> bool:
        """Whether `options` mean something for a task: they mean files of mle-bench and BioML-bench."""
        return backends.takes_options(self.backend_of(task), task, self.tasks_dir)

    def again(self, task: str) -> bool:
        """Whether a task that is prepared is prepared again."""
        return self.force or (self.options.overwrites and self.takes_options(task))

    def replaced(self, task: str) -> str:
        """What a person must know of results that lose their data; empty where there are none. Raises Failed without --force."""
        name = fingerprint.results_with(self.data_dir, task, self.runs_dir)
        if name is None:
            return ""
        if not self.force:
            raise Failed(
                Failure(
                    f"its results were made with the data that lie there (the newest: {name}): --force replaces them"
                )
            )
        return fingerprint.REPLACED.format(task=task, name=name)

    def warnings(self, tasks: list[str]) -> list[str]:
        """That options mean nothing for some of the tasks."""
        others = [task for task in tasks if not self.takes_options(task)] if self.options.flags else []
        shown = ", ".join([*others[:5], *(["…"] if len(others) > 5 else [])])
        flags = ", ".join(self.options.flags)
        return [f"{flags}: of mle-bench's and BioML-bench's files; without effect on {shown}"] if others else []


class Preparation:
    """Prepares tasks, one a call of `prepare`; safe to call from several threads, with different tasks.

    started: called with the id of each task whose command is about to run.
    """

    def __init__(self, settings: Settings, commands: Commands, scratch: str, started: Callable[[str], None]):
        self.settings, self.commands = settings, commands
        self._scratch, self._started = scratch, started
        self._full: Failure | None = None  # what the disk said when it was full
        self._has_room = False
        self._sharing = threading.Lock()
        self._numbers = itertools.count()

    def prepare(self, task: str) -> Outcome:
        """Prepare one task. Raises nothing: the outcome tells."""
        began = time.monotonic()
        state, reason, output = "failed", "", ""
        try:
            if self.commands.stop.is_set():
                raise Stopped
            if self._is_done(task):
                return Outcome(task, "skipped", time.monotonic() - began)
            backend = self.settings.backend_of(task)
            self._check_room(backend, task)
            with self._sharing_first(backend, task), self._alone(task) as folder:
                if self._is_done(task):  # by whoever was waited for
                    return Outcome(task, "skipped", time.monotonic() - began)
                if said := self.settings.replaced(task):
                    log.warning("%s", said)
                self._started(task)
                began = time.monotonic()
                self._make(backend, task, folder)
                backend.share(task, folder, self.settings.data_dir)
                layout.publish(folder / task, self.settings.data_dir, task, backend.name)
                state = "prepared"
                with contextlib.suppress(OSError):
                    (folder / task).rmdir()  # empty now
        except Stopped:
            state, reason = "unfinished", "interrupted"
        except Failed as error:
            reason, output = str(error), error.output
        except OSError as error:
            reason = self._disk_error(error)
        except Exception as error:  # a fault of ours must not leave the run waiting for this task
            reason = f"{type(error).__name__}: {error}"
        return Outcome(task, state, time.monotonic() - began, reason, output)

    def _is_done(self, task: str) -> bool:
        return not self.settings.again(task) and layout.problem(self.settings.data_dir, task) is None

    def _check_room(self, backend: Backend, task: str) -> None:
        if self._full:
            raise Failed(self._full)
        settings = self.settings
        if not self._has_room and (lacking := room.lacking(settings.data_dir)):
            raise Failed(Failure(f"{settings.data_dir} ({settings.data_from}): {lacking}", disk_full=True))
        self._has_room = True  # once: later a disk says itself that it is full
        needed = max(settings.min_free * 1e9, backends.bytes_needed(backend, task, settings.tasks_dir, settings.raw))
        free = shutil.disk_usage(settings.data_dir).free
        if free < needed:
            raise Failed(
                Failure(
                    f"only {free / 1e9:.2f} GB free in {settings.data_dir} ({settings.data_from}), at least {needed / 1e9:.2f} GB "
                    "are needed: make room, or name another --data-dir (--min-free sets the least)"
                )
            )

    @contextlib.contextmanager
    def _alone(self, task: str) -> Iterator[Path]:
        """The folder to prepare a task in, once no other process prepares the same one. Raises Stopped and OSError."""
        with contextlib.ExitStack() as stack:
            told = False
            while True:
                try:
                    folder = stack.enter_context(layout.staging(self.settings.data_dir, task, wait=False))
                    break
                except errors.Busy:
                    if not told:
                        log.info("%s is being prepared by another process, waiting for it", task)
                    told = True
                if self.commands.stop.wait(LOCK_POLL_SECONDS):
                    raise Stopped
            yield folder

    @contextlib.contextmanager
    def _sharing_first(self, backend: Backend, task: str) -> Iterator[None]:
        """Let one task alone download what it shares with the tasks beside it; then they run at once."""
        with contextlib.ExitStack() as stack:
            if backend.name == "biomlbench" and backends.needs_sharing(task):
                while not self._sharing.acquire(timeout=LOCK_POLL_SECONDS):
                    if self.commands.stop.is_set():
                        raise Stopped
                stack.callback(self._sharing.release)
                stack.enter_context(self._alone(task.partition("/")[0]))
                if backends.shared(task, self.settings.data_dir):
                    stack.close()
            yield

    def _make(self, backend: Backend, task: str, folder: Path) -> None:
        """Run the backend's command until it has made the task, again after faults of the network. Raises Failed."""
        settings = self.settings
        try:
            command = backend.command(task, folder, settings.options, settings.tasks_dir, settings.raw)
        except backends.Unavailable as error:
            raise Failed(Failure(f"{error}{self._guess(task)}")) from None
        ends = None if settings.timeout is None else time.monotonic() + settings.timeout
        backend.lend(task, folder, settings.data_dir)
        output = settings.data_dir / ".preparing" / "logs" / f"{task}.log"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        attempt = 0
        while failure := self._attempt(backend, task, command, folder, output, ends):
            if failure.done in command:
                command.remove(failure.done)
            elif failure.retry and attempt < settings.retries:
                self._pause(task, attempt, failure)
                attempt += 1
            else:
                if not failure.disk_full:
                    backend.keep(task, folder, settings.data_dir)
                raise Failed(failure, str(output))
            backend.clear(task, folder)
        for note in failures.notes(output):
            log.warning("%s: %s", task, note)

    def _attempt(
        self, backend: Backend, task: str, command: list[str], folder: Path, output: Path, ends: float | None
    ) -> Failure | None:
        settings = self.settings
        env = backend.environment(settings.at_once)
        with open(output, "ab", buffering=0) as file, self._start_folder() as start_folder:
            file.write(f"$ {shlex.join(command)}\n".encode())
            start = file.tell()
            seconds = None if ends is None else ends - time.monotonic()
            returncode = self.commands.run(command, env, start_folder, file, seconds)
        if returncode is None:
            return Failure(f"timed out after {settings.timeout:g} s (--timeout)")
        problem = layout.problem(folder, task) if returncode == 0 else None
        if returncode == 0 and problem is None:
            return None
        if self.commands.stop.is_set():
            raise Stopped
        if problem:
            return Failure(f"{backend.program} ended well, but made no whole task: {problem}".replace(f"{folder}/", ""))
        said = failures.tail(output, start)
        failure = failures.failure(backend, task, settings.data_dir, returncode, said, settings.raw)
        if failure.disk_full:
            self._full = self._full or failure._replace(reason=f"{failure.reason} ({self._left()})")
            return self._full
        return failure

    @contextlib.contextmanager
    def _start_folder(self) -> Iterator[str]:
        """An empty folder to start a command in: mlebench and biomlbench leave a cache/ there."""
        folder = os.path.join(self._scratch, str(next(self._numbers)))
        os.mkdir(folder)
        yield folder
        with contextlib.suppress(OSError):
            folders.remove(Path(folder))

    def _guess(self, task: str) -> str:
        """What may have been meant, where nobody but a program that isn't there would know the id."""
        registry = self.settings.registry
        if registry is None or self.settings.backend:
            return ""
        from helpers.config.layers import meant

        near = meant(task, [one.id for one in registry.list_tasks()])
        return near and f".{near}"

    def _pause(self, task: str, attempt: int, failure: Failure) -> None:
        seconds = self.settings.retry_wait * 2**attempt * random.uniform(0.75, 1.25)
        counted = f"retry {attempt + 1} of {self.settings.retries}"
        log.warning("%s: %s; trying again in %.1fs (%s)", task, failure.reason, seconds, counted)
        self.commands.stop.wait(seconds)  # cut short by the end, when no command is started any more

    def _left(self) -> str:
        free = shutil.disk_usage(self.settings.data_dir).free
        return f"{free / 1e9:.2f} GB left in {self.settings.data_dir}, {self.settings.data_from}: make room, then run this again"

    def _disk_error(self, error: OSError) -> str:
        where = error.filename or self.settings.data_dir
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return f"{where}: {error.strerror or error}"
        self._full = self._full or Failure(f"the disk is full: {where} ({self._left()})", disk_full=True)
        return self._full.reason
