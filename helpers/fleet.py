"""Jobs that were submitted together: the note of their ids, and what the scheduler says of them, with doubt where one must doubt."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from helpers import runs
from helpers.scheduler import Job, Scheduler, SchedulerUnavailable

JOB_ID = re.compile(r"\d+(_\d+)?")
NOTED = re.compile(r"^([a-z_]+)=(\d+(?:_\d+)?)$", re.MULTILINE)
DOUBT_SECONDS = (
    4.0  # how far two looks must be apart to be believed that a job is gone: a shared file system shows last words late
)
END_SECONDS = 60.0  # how long cancelled jobs may take to end
POLL_SECONDS = {"slurm": 1.0, "local": 0.2}


def submitted(folder: Path) -> list[tuple[str, str]]:
    """Role and job of all that was submitted from a folder, in that order; what is no line of the note is passed over.

    Written by scripts_hpc/lib/submit.sh alone. The job is the whole array where it is one.
    """
    try:
        text = runs.read_file(folder / "jobs" / "submitted").decode("utf-8", "replace")
    except (OSError, ValueError):
        return []
    return NOTED.findall(text[: text.rfind("\n") + 1])  # the last line may be half written


class Fleet:
    """jobs: what the scheduler said last of each; silence: why it didn't answer the last time, or empty.

    A job is gone when two looks, DOUBT_SECONDS apart, say so. waiting: entered around whatever may take long.
    """

    def __init__(self, scheduler: Scheduler):
        self.scheduler = scheduler
        self.jobs: dict[str, Job] = {}
        self.silence = ""
        self.waiting: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self._missing_since: dict[str, float] = {}
        self.looked = 0.0

    def look(self, ids: Iterable[str]) -> None:
        """Ask once for all of these jobs. Raises SchedulerUnavailable: then nothing new is known about any."""
        try:
            with self.waiting():
                states = self.scheduler.states(list(ids))
        except SchedulerUnavailable as error:
            self.silence = str(error) or "no message"
            raise
        self.silence = ""
        self.jobs |= states
        self.looked = time.monotonic()
        for job in states.values():
            if job.alive:
                self._missing_since.pop(job.id, None)
            else:
                self._missing_since.setdefault(job.id, self.looked)

    def alive(self, ids: Iterable[str]) -> list[str]:
        """Those that live, as far as is known."""
        return [job for job in ids if job in self.jobs and self.jobs[job].alive]

    def gone(self, job: str) -> Job | None:
        """What the scheduler says of a job that has ended for sure; None for all others."""
        since = self._missing_since.get(job)
        return None if since is None or self.looked - since < DOUBT_SECONDS else self.jobs[job]

    def ask_again(self, ids: Iterable[str]) -> None:
        """A second look at those that seem to be gone, when it counts. Raises SchedulerUnavailable."""
        if doubtful := [job for job in ids if job in self._missing_since and not self.gone(job)]:
            with self.waiting():
                time.sleep(DOUBT_SECONDS)
            self.look(doubtful)

    def cancel(self, ids: list[str], names: list[str] | None = None) -> list[str]:
        """Cancel jobs and wait until they have ended; those that aren't known to have. names: what the scheduler is told, for arrays."""
        until = time.monotonic() + END_SECONDS
        with contextlib.suppress(SchedulerUnavailable):  # it may have heard all the same
            self.scheduler.cancel(names or ids)
        while left := self._left(ids):
            if time.monotonic() > until:
                return left
            with self.waiting():
                time.sleep(POLL_SECONDS[self.scheduler.kind] / 2)
        return []

    def _left(self, ids: list[str]) -> list[str]:
        try:
            self.look(ids)
        except SchedulerUnavailable:
            return ids  # not known is not gone
        # that it was cancelled is an answer; that there is no such job is none
        return [job for job in ids if self.jobs[job].alive or (self.jobs[job].state == "GONE" and not self.gone(job))]


def elapsed(text: str) -> str:
    """A time as a person reads it: as squeue prints it, or from seconds."""
    return f"{int(text) // 60}:{int(text) % 60:02d}" if text.isdigit() else text
