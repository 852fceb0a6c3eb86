"""Asks the scheduler through scripts_hpc/lib/scheduler.sh, the one place that knows Slurm and its local twin."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.lib.checkout import ROOT
from helpers.scheduler import reasons

# not from site_config: results are read with Pythons that have none of this project's packages
SCRIPT = ROOT / "scripts_hpc" / "lib" / "scheduler.sh"
IDS_AT_ONCE = 5000  # jobs that one scancel is told to end
QUESTIONS = ("states", "accounting", "jobs_of", "ask")
CALL_SECONDS = 60.0  # for any question, whatever hangs in it; scheduler.sh has shorter times for Slurm's own commands
ALIVE = set(
    "PENDING RUNNING CONFIGURING COMPLETING SUSPENDED RESIZING REQUEUED REQUEUE_HOLD REQUEUE_FED SIGNALING STAGE_OUT "
    "STOPPED SPECIAL_EXIT RESV_DEL_HOLD".split()
)


class SchedulerUnavailable(Exception):
    """The scheduler did not answer: nothing is known about any job."""


def ask(*command: str) -> str:
    """What one of Slurm's own commands prints; raises SchedulerUnavailable with its last words."""
    (answer,) = ask_all(command)
    if isinstance(answer, SchedulerUnavailable):
        raise answer
    return answer


def ask_all(*commands: tuple[str, ...], seconds: float | None = None) -> list[str | SchedulerUnavailable]:
    """What several of Slurm's own commands print, run at the same time. seconds: for each, where scheduler.sh's own limit is longer."""
    env = {**os.environ}
    if seconds is not None:
        env["SCHEDULER_SECONDS"] = f"{min(seconds, float(env.get('SCHEDULER_SECONDS') or seconds)):g}"
    running = [_start("slurm", "ask", *command, env=env) for command in commands]
    try:
        return [_told(process, command[0]) for process, command in zip(running, commands, strict=True)]
    finally:
        for process in running:
            if process.poll() is None:
                _end(process)


def _told(process: subprocess.Popen[str], name: str) -> str | SchedulerUnavailable:
    try:
        done = _finish(process, "ask")
    except SchedulerUnavailable as error:
        return error
    if done.returncode:
        return SchedulerUnavailable(done.stderr.strip() or f"{name} ended with code {done.returncode}")
    return done.stdout


def _run(
    kind: str, verb: str, *arguments: str, env: dict[str, str] | None = None, said: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Raises SchedulerUnavailable when there is no answer in time; what is in the way then is ended. said: on its standard input."""
    stdin = subprocess.DEVNULL if said is None else subprocess.PIPE
    return _finish(_start(kind, verb, *arguments, env=env, stdin=stdin), verb, said)


def _start(
    kind: str, verb: str, *arguments: str, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(SCRIPT), kind, verb, *arguments],
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # what sites and other users write into it may be anything
        # a Ctrl-C meant for us must not cut a cancellation short
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[str], verb: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        answer = process.communicate(said, timeout=CALL_SECONDS)
    except subprocess.TimeoutExpired:
        _end(process)
        raise SchedulerUnavailable(f"no answer within {CALL_SECONDS:g} s to `{verb}`") from None
    except BaseException:  # Ctrl-C: nobody waits for the answer any more
        if verb in QUESTIONS:
            _end(process)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, *answer)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _lines_of(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of an answer. Raises SchedulerUnavailable where it is none."""
    if answer.returncode:
        raise SchedulerUnavailable(answer.stderr.strip())
    return answer.stdout.splitlines()


@dataclass(frozen=True)
class Job:
    """What the scheduler says of a job. state: Slurm's long word, or GONE. elapsed: as squeue prints it, or seconds."""

    id: str
    state: str
    reason: str = ""
    elapsed: str = ""
    node: str = ""

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    @property
    def never(self) -> bool:
        """Whether it waits for something that no waiting brings."""
        return self.state == "PENDING" and reasons.never(self.reason)


@dataclass(frozen=True)
class Allocation:
    """What the accounting says that a job was given. start: seconds since 1970; None for what it doesn't tell."""

    start: float | None
    seconds: float
    cpus: float | None
    gpus: float | None


class Scheduler:
    """The scheduler of a site. kind: "slurm" or "local"; address_dir: where the local twin keeps its jobs."""

    def __init__(self, kind: str, address_dir: str):
        self.kind = kind
        self.environment = {**os.environ, "ADDRESS_DIR": address_dir, "LOCAL_JOBS": f"{address_dir}/local_jobs"}

    def _call(self, *arguments: str, fresh: int = 0, said: str | None = None) -> subprocess.CompletedProcess[str]:
        return _run(self.kind, *arguments, env={**self.environment, "SCHEDULER_FRESH": str(fresh)}, said=said)

    def states(self, ids: list[str], fresh: int = 0) -> dict[str, Job]:
        """The jobs by id, in one question to the scheduler; raises SchedulerUnavailable when it doesn't answer.

        fresh: how many seconds old an answer may be that another of this user's jobs was given.
        """
        lines = self._lines("states", ids, fresh)
        jobs = (Job(*line.split("|", 4)) for line in lines if line.count("|") >= 4)
        return {job.id: job for job in jobs}

    def _lines(self, verb: str, ids: list[str], fresh: int = 0) -> Iterator[str]:
        if ids:
            # not as arguments: they may be more than those can hold
            yield from _lines_of(self._call(verb, "-", fresh=fresh, said="".join(f"{one}\n" for one in ids)))

    def accounting(self, ids: list[str]) -> dict[str, Allocation]:
        """What the jobs were allocated, of those that the accounting knows, asked for all at once.

        Raises SchedulerUnavailable where there is no accounting.
        """
        found = {}
        for line in self._lines("accounting", ids):
            job, _, rest = line.partition("|")
            numbers = [float(part) if part.isdecimal() else None for part in rest.split("|")]
            if len(numbers) == 4:
                found[job] = Allocation(numbers[0], numbers[1] or 0.0, numbers[2], numbers[3])
        return found

    def jobs_of(self, prefix: str) -> list[str]:
        """The user's jobs that the scheduler knows and whose command begins so, an array by its own number. Raises SchedulerUnavailable."""
        return [line.partition("|")[0] for line in _lines_of(self._call("jobs_of", prefix))]

    def cancel(self, ids: list[str]) -> None:
        """Ends the jobs; those that have ended already are no error. Raises SchedulerUnavailable."""
        for first in range(0, len(ids), IDS_AT_ONCE):
            self._call("cancel", *ids[first : first + IDS_AT_ONCE])

    def dismiss(self, ids: list[str]) -> None:
        """Tells servers that their last consumer is done, so that they end by themselves. Raises SchedulerUnavailable."""
        for job in ids:
            self._call("signal", "USR1", job)
