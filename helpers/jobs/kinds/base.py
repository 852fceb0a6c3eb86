"""The kinds of jobs that jobs.sh knows, a module each. Runs where a person types.

A kind is a folder with a record of what was asked; jobs that were submitted together; items that each end in one word.
A new kind is one module with a subclass of Kind, and its line in KINDS.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs.fleet import JOB_ID, Fleet, submitted
from helpers.jobs.summary import Summary
from helpers.lib import disk
from helpers.lib.values import section
from helpers.scheduler import reasons
from helpers.scheduler.query import Job, Scheduler

KINDS = (
    "benchmark.Benchmark",
    "workflow.Workflow",
    "evaluation.Evaluation",
    "grading.Grading",
    "preparation.Preparation",
    "notebook.Notebook",
    "doctor.Doctor",
)


@dataclass(frozen=True)
class Entry:
    """A job. part: which logs, e.g. agent; own: submitted from this folder, so that stopping it ends the job."""

    id: str
    part: str
    name: str
    own: bool = True

    def __str__(self) -> str:
        return f"{self.name} (job {self.id})"


class Kind:
    """A folder of jobs. record: what was asked; entries: the jobs that are meant; only: the one item's job that is meant, if it is one."""

    WATCHER = ""  # the module whose `watch` follows its jobs to their end, where it isn't its own
    RECORD = ""  # the file in its folder that says which kind it is
    MARK = "\0"  # part of its folders' names, for those that have lost the record
    COMMAND = ""  # that starts it, and watches it again with --attach
    ITEMS = "tasks"  # what `status --json` calls the items
    PARTS: tuple[str, ...] = ()  # of its jobs, in the order in which to read their logs

    def __init__(self, path: Path, site: AskedSite, only: str | None = None):
        self.path, self.only = path, only
        self.record = disk.read_json(path / self.RECORD) or {}
        self.config = section(self.record, "config")
        kind, folder = section(self.config, "scheduler").get("kind"), section(self.config, "paths").get("address_dir")
        if kind not in ("slurm", "local") or not isinstance(folder, str):
            kind, folder = site.scheduler
        self.fleet = Fleet(Scheduler(kind, folder))
        self.addresses = Path(folder)
        self.others: list[str] = []  # jobs of the same folder that aren't meant
        self.entries: list[Entry] = []

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        return cls.MARK in folder.name or (folder / cls.RECORD).is_file()

    @classmethod
    def item_of(cls, folder: Path, inner: Path) -> str | None:
        """The job of the item whose folder, in this kind's, `inner` is."""
        return None

    @classmethod
    def holds(cls, folder: Path, word: str) -> str | None:
        """The item's job that a word means in this folder; empty for another job of it; None where it means none."""
        return "" if word in {job for _, job in submitted(folder)} else None

    @property
    def again(self) -> str:
        return f"{self.COMMAND} --attach {self.path}"

    def look(self) -> None:
        """Ask the scheduler once for all jobs. Raises SchedulerUnavailable."""
        self.fleet.look([*(entry.id for entry in self.entries), *self.others])

    def job(self, entry: Entry) -> Job:
        return self.fleet.jobs.get(entry.id, Job(entry.id, "GONE"))

    def open_jobs(self) -> list[str]:
        """The jobs of items that have no end yet."""
        return []

    def settle(self) -> None:
        """Give the items whose job is gone for sure, and that said nothing, their end."""

    def settle_sure(self) -> None:
        """The same for whoever looks only once: a second look where the first leaves doubt. Raises SchedulerUnavailable."""
        self.settle()  # what has told its end leaves no doubt
        self.fleet.ask_again(self.open_jobs())
        self.settle()

    def stoppable(self) -> list[Entry]:
        """The jobs that live and end when this is stopped."""
        return [entry for entry in self.entries if entry.own and self.job(entry).alive]

    def names(self, ids: list[str]) -> list[str]:
        """What the scheduler is told to cancel these jobs."""
        return ids

    def hold(self) -> None:
        """What stops it comes first to this: from here on, none of its jobs begins to submit another. Raises OSError."""

    def late(self) -> bool:
        """Take in what a job has submitted until then; whether there is any. Raises SchedulerUnavailable."""
        return False

    def stopped(self, ids: list[str], reason: str) -> None:
        """These jobs were ended on purpose."""

    def items(self) -> list[dict[str, Any]]:
        """What `status --json` says of the items."""
        return []

    def item_lines(self) -> list[tuple[str, ...]]:
        """The same as columns, all of the same width in cells; never empty."""
        return [("",)]

    def doing(self, entry: Entry) -> str:
        """A word on what a job that runs is doing, where there is more to say than that it runs."""
        return ""

    def facts(self) -> dict[str, Any]:
        """What `status --json` says besides."""
        return {}

    def whys(self) -> list[str]:
        """Sentences of `why` on what has no job."""
        return []

    def summaries(self) -> list[Summary]:
        """Several items in one sentence each, where they are of one sort."""
        return []

    def remarks(self) -> list[str]:
        """Lines of `stop` beside what was stopped."""
        return []

    def forget_servers(self) -> None:
        """Remove what its servers have left that died without a word. Raises SchedulerUnavailable."""

    def tidy(self) -> None:
        """What is due once all items have ended."""

    def attach(self, as_json: bool, emit: Any) -> int:
        """Watch again; the exit code."""
        return import_module(self.WATCHER).watch(self.path, as_json, emit)

    def job_data(self, entry: Entry) -> dict[str, Any]:
        job = self.job(entry)
        doing = self.doing(entry) if job.state == "RUNNING" else ""
        return {"name": entry.name, "part": entry.part, **asdict(job), "doing": doing or None}

    # ---- logs, and why

    LOG_FOLDERS: tuple[str, ...] = ("logs",)
    OTHER_LOGS = ""  # a pattern of folders, for jobs of others

    @cached_property
    def _logs(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in reversed(self.LOG_FOLDERS):
            found |= {file.stem.rpartition("-")[2]: file for file in sorted((self.path / folder).glob("*-*.out"))}
        return found

    def log(self, entry: Entry) -> Path | None:
        """The log: in this folder, or where the job was submitted."""
        found = self._logs.get(entry.id)
        if found is None and self.OTHER_LOGS and not entry.own and JOB_ID.fullmatch(entry.id):
            found = max(self.path.glob(f"{self.OTHER_LOGS}/*-{entry.id}.out"), default=None)
        return None if found is None else Path(os.path.abspath(found))

    def own_words(self, entry: Entry) -> Path | None:
        """What the work in a job printed itself, apart from the job's log: shown as that, never believed."""
        return None

    def failed_by_itself(self, entry: Entry) -> bool:
        """Whether it was the work in a job that failed: its own words may tell why."""
        return False

    def ended(self, entry: Entry) -> tuple[str, str] | None:
        """Cause and advice on a job whose item has ended; the sentence is left to the scheduler's word where this is None."""
        return None

    def log_knows_better(self, entry: Entry) -> bool:
        """Whether what the log of a job says is added to how its item ended."""
        return False

    def is_done(self, entry: Entry) -> bool:
        """Whether nothing needs to be said of a job."""
        return self.job(entry).state == "COMPLETED"

    def at_work(self, entry: Entry) -> tuple[str, str]:
        """Cause and advice on a job that runs."""
        return "is at work", "nothing to do"

    def words(self, entry: Entry) -> dict[str, str]:
        """The words that sentences are filled in with, beside those that all kinds have."""
        return {}

    def filled(self, entry: Entry, found: reasons.Sentence) -> str:
        """One sentence on a job."""
        job, command = self.job(entry), f"scripts_hpc/jobs.sh {{}} {self.path}"
        words = {
            "id": entry.id,
            "reason": job.reason,
            "node": job.node or "(unknown)",
            "stop": command.format("stop"),
            "logs": f"{command.format('logs')} {entry.part}",
            **self.words(entry),
        }
        cause, advice = (part.format(**words) for part in found)
        return f"{entry} {cause}{'; ' if ': ' in cause else ': '}{advice}."

    def stuck(self) -> dict[str, str]:
        """Sentences on the jobs that will never start; one for all of a part that wait for the same."""
        found: dict[str, str] = {}
        for entry in self.entries:
            job = self.job(entry)
            if entry.own and job.never and (key := f"{entry.part} {job.reason}") not in found:
                found[key] = self.filled(entry, reasons.waiting(job.reason))
        return found


def kinds() -> list[type[Kind]]:
    """All kinds, in the order in which a folder is tried."""
    pairs = (name.split(".") for name in KINDS)
    return [getattr(import_module(f"{__package__}.{module}"), name) for module, name in pairs]


def kind_of(folder: Path) -> type[Kind] | None:
    """Which kind of jobs a folder holds, None for none."""
    return next((kind for kind in kinds() if kind.is_one(folder)), None)
