"""Jobs that were submitted together: the note of their ids, and what the scheduler says of them, with doubt where one must doubt."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from helpers.lib import disk
from helpers.scheduler.query import Job, Scheduler, SchedulerUnavailable

JOB_ID = re.compile(r"\d+(_\d+)?")
NOTED = re.compile(r"^([a-z_]+)=(\d+(?:_\d+)?)(?:_\[0-(\d+)\])?(?: (\S.*))?$", re.MULTILINE)
DOUBT_SECONDS = (
    4.0  # how far two looks must be apart to be believed that a job is gone: a shared file system shows last words late
)
END_SECONDS = 60.0  # how long cancelled jobs may take to end
POLL_SECONDS = {"slurm": 1.0, "local": 0.2}
ASK_SECONDS = {
    "slurm": (3.0, 60.0),
    "local": (0.0, 0.0),
}  # between two questions: at the quickest, and when all is quiet
QUIET = 4.0  # what has been quiet for so many seconds is asked about after one


@dataclass(frozen=True)
class Noted:
    """What was submitted: a job, or an array, whose elements it has. command: its script's name and arguments."""

    role: str
    job: str
    elements: int | None
    command: list[str]

    @property
    def jobs(self) -> list[str]:
        """The jobs that it is, as squeue calls them."""
        return [self.job] if self.elements is None else [f"{self.job}_{index}" for index in range(self.elements)]


def noted(folder: Path) -> list[Noted]:
    """All that was submitted from a folder, in that order; what is no line of the note is passed over.

    Written by scripts_hpc/lib/submit.sh alone.
    """
    try:
        text = disk.read_file(folder / "jobs" / "submitted").decode("utf-8", "replace")
    except (OSError, ValueError):
        return []
    found = NOTED.findall(text[: text.rfind("\n") + 1])  # the last line may be half written
    return [Noted(role, job, int(last) + 1 if last else None, _words(said)) for role, job, last, said in found]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def submitted(folder: Path) -> list[tuple[str, str]]:
    """Role and job of all that was submitted from a folder; the job is the whole array where it is one."""
    return [(one.role, one.job) for one in noted(folder)]


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
        self.looked = self._asked = 0.0
        self.patient = False
        self.stir()

    def stir(self) -> None:
        """Something has changed: more may change soon."""
        self._stirred = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds from one question to the next: few while something has just changed or is in doubt, then more and more."""
        least, most = ASK_SECONDS[self.scheduler.kind]
        quiet = 0.0 if any(not self.gone(job) for job in self._missing_since) else self._asked - self._stirred
        return min(max(quiet / QUIET, least), most)

    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked >= self.pause

    def look(self, ids: Iterable[str]) -> None:
        """Ask once for all of these jobs that aren't known to have ended. Raises SchedulerUnavailable: then nothing new is known.

        Where nothing presses (patient), an answer will do that another job of this user was given.
        """
        pause = self.pause
        fresh = int(pause / 2) if self.patient and pause > ASK_SECONDS["slurm"][0] else 0
        self._asked = time.monotonic()
        try:
            with self.waiting():
                states = self.scheduler.states([job for job in ids if not self.gone(job)], fresh)
        except SchedulerUnavailable as error:
            self.silence = str(error) or "no message"
            raise
        self.silence = ""
        if any(job not in self.jobs or said(self.jobs[job]) != said(states[job]) for job in states):
            self.stir()
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
        until, pause = time.monotonic() + END_SECONDS, POLL_SECONDS[self.scheduler.kind] / 2
        self.stir()
        with contextlib.suppress(SchedulerUnavailable):  # it may have heard all the same
            self.scheduler.cancel(names or ids)
        while left := self._left(ids):
            if time.monotonic() > until:
                return left
            with self.waiting():
                time.sleep(pause)
            pause = min(pause * 1.5, 5.0)
        return []

    def _left(self, ids: list[str]) -> list[str]:
        try:
            self.look(ids)
        except SchedulerUnavailable:
            return ids  # not known is not gone
        # that it was cancelled is an answer; that there is no such job is none
        return [job for job in ids if self.jobs[job].alive or (self.jobs[job].state == "GONE" and not self.gone(job))]


def said(job: Job) -> tuple[str, str]:
    """What may change of a job while it is asked about."""
    return job.state, job.reason


def elapsed(text: str) -> str:
    """A time as a person reads it: as squeue prints it, or from seconds."""
    return f"{int(text) // 60}:{int(text) % 60:02d}" if text.isdigit() else text
