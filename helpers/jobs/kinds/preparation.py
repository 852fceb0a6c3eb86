"""Preparations by job arrays: what their elements do. scripts_hpc/prepare_tasks.sh.

Each element runs helpers.prepare_all_tasks on its part of the list and appends what happens to a file of events. The watcher
makes of them the report that prepare_all_tasks itself would give: log lines, summary, failed_tasks.txt.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.data import layout
from helpers.jobs.fleet import submitted
from helpers.jobs.follow import follow
from helpers.jobs.kinds.base import Entry, Kind
from helpers.lib import disk
from helpers.lib import text as text_module
from helpers.lib.errors import ConfigError, Refused
from helpers.prepare.one import Outcome
from helpers.prepare.report import Report, log
from helpers.scheduler import reasons
from helpers.scheduler.query import Job, SchedulerUnavailable

RECORD = "preparation.json"
TOLD = "told.json"  # how many bytes of each element's events were reported
INTERRUPTED = "interrupted"
# what an element says of its tasks when it is being ended, or for want of memory (Slurm signals every process of a job at once,
# so some of the commands die before their parent knows why): the state of its job may know better
DOUBTFUL = re.compile(rf"{INTERRUPTED}$|ended by SIG(TERM|INT|KILL)|exit code 1(37|43)\b|killed by signal 9")
NEVER_SUBMITTED = Job("", "NEVER_SUBMITTED")
EVERYDAY = {"", "None", "Priority", "Resources"}  # reasons to wait that nobody can mend
ERROR = re.compile(r"^error: (.+)$", re.MULTILINE)
INSIDE = re.compile(r"(?<![\w./-])/(data|tasks)(?![\w.-])")  # where the container has paths.data and paths.tasks


@dataclass
class Element:
    """One element of a job array. job: the scheduler's id, empty while it isn't known; read: bytes of its events."""

    number: int
    tasks: list[str]
    job: str = ""
    read: int = 0


class Preparation(Kind):
    """A preparation's folder. outcomes: of the tasks that have ended, as its elements told. Raises Refused where its record is damaged."""

    RECORD, MARK, COMMAND, PARTS = RECORD, "-UTC_prepare", "scripts_hpc/prepare_tasks.sh", ("prepare",)

    def __init__(self, path: Path, site: AskedSite, only: str | None = None):
        super().__init__(path, site)
        try:
            self.paths: dict[str, Any] = self.config["paths"]
            lists = ((path / "parts" / str(number)).read_text("utf-8") for number in range(self.record["elements"]))
            self.elements = [Element(number, text.split()) for number, text in enumerate(lists)]
            self.known = [Outcome(task, "skipped") for task in self.record["skipped"]]
            self.known += [Outcome(task, "failed", 0.0, reason) for task, reason in self.record["refused"].items()]
            self.tasks: list[str] = self.record["tasks"]
        except (KeyError, TypeError, AttributeError, OSError, ValueError):
            raise Refused(
                f"{path}: no preparation of prepare_tasks.sh: its {RECORD} or its parts are missing or damaged"
            ) from None
        self.outcomes: dict[str, Outcome] = {outcome.task: outcome for outcome in self.known}
        self.began: dict[str, float] = {}
        self.doubtful: dict[str, Outcome] = {}
        self.arrays: list[str] = []
        self._read_submitted()
        every = [Entry(one.job, "prepare", f"preparation #{one.number}") for one in self.elements if one.job]
        self.entries = [entry for entry in every if only is None or entry.id == only]

    @classmethod
    def holds(cls, folder: Path, word: str) -> str | None:
        arrays = {job for _, job in submitted(folder)}
        return "" if word in arrays else word if word.partition("_")[0] in arrays else None

    def _read_submitted(self) -> None:
        """Learn the jobs' ids: the arrays stand in the note in the order of the elements."""
        arrays = [job for role, job in submitted(self.path) if role == "prepare"]
        first = 0
        for job, count in zip(arrays, self.record.get("arrays") or [len(self.elements)], strict=False):
            for index, element in enumerate(self.elements[first : first + count]):
                element.job = f"{job}_{index}" if self.fleet.scheduler.kind == "slurm" else job
            first += count
        self.arrays = arrays

    def open_elements(self) -> list[Element]:
        return [element for element in self.elements if any(self._unfinished(element))]

    def _unfinished(self, element: Element) -> Iterator[str]:
        return (task for task in element.tasks if task not in self.outcomes)

    # ---- what is new

    def open_jobs(self) -> list[str]:
        return [element.job for element in self.open_elements() if element.job]

    def look(self) -> None:
        self.fleet.look(dict.fromkeys(entry.id for entry in self.entries))

    def hear(self, elements: list[Element]) -> None:
        """Take in what the elements told since."""
        for element in elements:
            for news in self._news(element):
                if isinstance(news, Outcome):
                    self._end(news)
                else:
                    self._began(news)

    def _began(self, task: str) -> None: ...

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.task] = outcome

    def _news(self, element: Element, length: int = -1) -> Iterator[str | Outcome]:
        """What an element told since: a task that it started, or the outcome of one. length: no more bytes than these."""
        try:
            with open(self.path / "events" / str(element.number), "rb") as file:
                file.seek(element.read)
                text = file.read(length)
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be half written
        element.read += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                task, state, when = event["task"], event["state"], datetime.fromisoformat(event["time"])
                seconds, reason = float(event.get("seconds") or 0), str(event.get("reason") or "")
            except (ValueError, KeyError, TypeError):
                continue
            if task not in element.tasks or task in self.outcomes:
                continue
            if state == "started":
                self.began[task] = when.timestamp()
                yield task
            elif state in ("prepared", "skipped", "failed"):
                outcome = Outcome(task, state, seconds, self._outside(reason), self._output(task) if reason else "")
                if state == "failed" and DOUBTFUL.match(reason):
                    self.doubtful[task] = outcome
                else:
                    yield outcome

    def _output(self, task: str) -> str:
        path = Path(self.paths["data"], ".preparing", "logs", f"{task}.log")
        return str(path) if path.is_file() else ""

    def _outside(self, text: str) -> str:
        """A reason with the paths that the user knows instead of the container's."""
        if self.config["container"]["runtime"] == "none":
            return text
        return INSIDE.sub(lambda match: self.paths[match[1]] or match[0], text)

    # ---- jobs that died

    def settle(self) -> None:
        """Give the tasks of elements whose job is gone their end."""
        self.hear(self.open_elements())
        for element in self.open_elements():
            job = self.fleet.gone(element.job) if element.job else NEVER_SUBMITTED
            if job is None:
                continue
            for task in list(self._unfinished(element)):
                said = self.doubtful.get(task)
                if said and said.reason != INTERRUPTED and job.state in ("FAILED", "COMPLETED", "GONE"):
                    self._end(said)
                else:
                    self._end(self._settled(task, "failed", self.why(element, job)))

    def stopped(self, ids: list[str], reason: str) -> None:
        ended = set(ids)
        self.hear(self.open_elements())
        for element in self.open_elements():
            if element.job in ended or not element.job:
                for task in list(self._unfinished(element)):
                    self._end(self._settled(task, "unfinished", INTERRUPTED))

    def _settled(self, task: str, state: str, reason: str) -> Outcome:
        """The outcome of a task whose element died: it may have prepared the task, and not have come to saying so."""
        seconds = max(0.0, time.time() - self.began[task]) if task in self.began else 0.0
        # where old data lay before, nothing tells whether these are the old ones
        if not self.record["force"] and is_prepared(self.paths["data"], task):
            return Outcome(task, "prepared", seconds)
        return Outcome(task, state, seconds, reason, self._output(task) if task in self.began else "")

    def why(self, element: Element, job: Job) -> str:
        """One line on a job that ended and left tasks undone."""
        if job is NEVER_SUBMITTED:
            return "its job was never submitted: prepare_tasks.sh was ended before"
        if job.state == "GONE" and not (self.path / "events" / str(element.number)).exists():
            return f"job {job.id} was cancelled before it started, or the scheduler lost it"
        log_file = self.path / "logs" / f"prepare-{job.id}.out"
        cause, advice = reasons.ending(job.state)
        if job.state in ("FAILED", "COMPLETED", "GONE") and (said := _last_words(log_file)):
            cause, advice = reasons.ending("FAILED")[0], text_module.literal(said)
        words = {"node": job.node, "logs": str(log_file)} | self.words(Entry(job.id, "prepare", ""))
        return f"job {job.id} {cause.format(**words)}: {advice.format(**words)}"

    # ---- what jobs.sh says

    def names(self, ids: list[str]) -> list[str]:
        return ids if len(ids) < len(self.entries) else self.arrays

    def items(self) -> list[dict[str, Any]]:
        return [
            {"task": task, "state": state, "reason": reason or None, "job_id": job or None}
            for task, state, reason, job in self._tasks()
        ]

    def item_lines(self) -> list[tuple[str, ...]]:
        return [(task, state, reason) for task, state, reason, _ in self._tasks()] or [("no tasks",)]

    def _tasks(self) -> Iterator[tuple[str, str, str, str]]:
        jobs = {task: element.job for element in self.elements for task in element.tasks}
        shown = {entry.id for entry in self.entries}
        for task in self.tasks:
            job = jobs.get(task, "")
            if job and job not in shown:
                continue
            if outcome := self.outcomes.get(task):
                yield task, outcome.state, outcome.reason, job
            else:
                yield task, "running" if task in self.began else "waiting", "", job

    def ended(self, entry: Entry) -> tuple[str, str] | None:
        element = next(one for one in self.elements if one.job == entry.id)
        failed = [task for task in element.tasks if task in self.outcomes and self.outcomes[task].state == "failed"]
        if not failed or any(self._unfinished(element)):
            return None
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        cause = f"could not prepare {failed[0]}{more}: {self.outcomes[failed[0]].reason}"
        return cause, f"prepare_tasks.sh --task-list {self.record.get('failed_tasks')} tries them again"

    def is_done(self, entry: Entry) -> bool:
        element = next(one for one in self.elements if one.job == entry.id)
        states = {self.outcomes[task].state for task in element.tasks if task in self.outcomes}
        return not any(self._unfinished(element)) and states <= {"prepared", "skipped"}

    def words(self, entry: Entry) -> dict[str, str]:
        words = reasons.keys("prepare", "cpu", self.record.get("site"))
        words["memory"] += ", or lower --threads"
        partition = ((self.config.get("partitions") or {}).get("cpu") or {}).get("name") or "of role cpu"
        return words | {"partition": partition}

    def attach(self, as_json: bool, emit: Any) -> int:
        return watch(self.path)


class Watch(Preparation):
    """A preparation under watch, reported as prepare_all_tasks does."""

    def __init__(self, folder: Path):
        if not (folder / RECORD).exists():
            raise ConfigError([f"{folder}: no {RECORD} in it: not a preparation of prepare_tasks.sh."])
        super().__init__(folder, AskedSite())
        self.reachable, self.interrupted = True, False
        self.reasons = set(EVERYDAY)  # that were told, or needn't be
        self.report = self._open_report()

    def _open_report(self) -> Report:
        """A report on all tasks; of a preparation that was watched before, on those that hadn't ended by then."""
        told = disk.read_json(self.path / TOLD) or {}
        for element in self.elements:
            for outcome in self._news(element, told.get(str(element.number), 0)):
                if isinstance(outcome, Outcome):
                    self.outcomes[outcome.task] = outcome
        done = {task for task, outcome in self.outcomes.items() if outcome.state != "failed"}
        skipped = set(self.record["skipped"]) if not told else set()
        left = [task for task in self.tasks if task not in done or task in skipped]
        report = Report(self.record["log_file"], self.record["failed_tasks"], None, left)
        report.begin(sum(min(self.record["threads"], len(element.tasks)) for element in self.elements))
        log.info("%d jobs (%s); files: %s", len(self.elements), ", ".join(self.arrays) or "none", self.path)
        if not told:
            for warning in self.record["warnings"]:
                log.warning(warning)
            for outcome in self.known:
                report.ended(outcome)
        return report

    def look(self, ask: bool = True) -> bool:
        """Ask the scheduler once for all jobs, read what the elements told, and settle those that died without a word."""
        self._read_submitted()
        try:
            if ask:
                self.fleet.look(dict.fromkeys(self.open_jobs()))
        except SchedulerUnavailable as error:
            if self.reachable:
                log.warning("the scheduler doesn't answer (%s); asking again", error)
            self.reachable = False
            self.hear(self.open_elements())
            return bool(self.open_elements())
        self.reachable = True
        jobs = self.fleet.jobs
        # those that wait have said nothing: thousands of files needn't be looked for
        self.hear([one for one in self.open_elements() if one.job not in jobs or jobs[one.job].state != "PENDING"])
        self.settle()
        self._tell_reasons()
        return bool(self.open_elements())

    def _tell_reasons(self) -> None:
        for job in self.fleet.jobs.values():
            if job.state == "PENDING" and job.reason not in self.reasons:
                self.reasons.add(job.reason)
                log.warning("job %s waits, the scheduler says why: %s", job.id, job.reason)

    def hear(self, elements: list[Element]) -> None:
        """Report what the elements told since, and note that it was reported."""
        before = sum(element.read for element in elements)
        super().hear(elements)
        if sum(element.read for element in elements) != before:
            disk.write_json(self.path / TOLD, {str(element.number): element.read for element in self.elements})

    def _began(self, task: str) -> None:
        self.report.started(task)

    def _end(self, outcome: Outcome) -> None:
        super()._end(outcome)
        self.report.ended(outcome)

    def finish(self) -> None: ...

    def cancel(self, reason: str) -> bool:
        """End all jobs with one call, and report what they still told; False when they aren't known to have ended."""
        log.warning("Preparation ended (%s), ending all jobs", reason)
        self.interrupted = True
        self._read_submitted()
        jobs = list(dict.fromkeys(self.open_jobs()))
        left = self.fleet.cancel(jobs, self.arrays)
        self.stopped(jobs, INTERRUPTED)
        return not left

    def tell(self) -> int:
        self.report.end([self.outcomes[task] for task in self.tasks if task in self.outcomes])
        return 1 if any(outcome.state == "failed" for outcome in self.outcomes.values()) else 0


def is_prepared(data_dir: str, task: str) -> bool:
    """Whether a task lies there whole; one that can't be looked at doesn't: who prepares it will say why."""
    try:
        return layout.problem(data_dir, task) is None
    except OSError:
        return False


def _last_words(log_file: Path) -> str:
    text = text_module.tail(log_file)
    found = reasons.LAST_WORDS.findall(text) or ERROR.findall(text)
    return found[-1] if found else ""


def watch(folder: Path) -> int:
    """Watch until every task has ended; returns 0, 1 when a task failed, 130 after Ctrl-C (which ends all jobs)."""
    return follow(Watch(folder))
