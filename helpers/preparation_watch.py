"""Watches a preparation by job arrays: one report of what its elements do. Killing the watcher harms nothing.

Each element runs helpers.prepare_all_tasks on its part of the list and appends what happens to a file of events. The watcher
makes of them the report that prepare_all_tasks itself would give: log lines, summary, failed_tasks.txt.
"""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from helpers import jobs, runs
from helpers.preparation import Outcome
from helpers.preparation_report import Report, log
from helpers.scheduler import Job, Scheduler, SchedulerUnavailable
from helpers.signals import ctrl_c
from helpers.site_config import ConfigError
from helpers.tasks import layout
from helpers.watch import GONE_SECONDS, POLL_SECONDS

RECORD = "preparation.json"
TOLD = "told.json"  # how many bytes of each element's events were reported
END_SECONDS = 60.0  # how long cancelled jobs may take to end
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
    silent_since: float | None = None


class Watch:
    """One preparation under watch. folder: its directory; outcomes: of the tasks that have ended."""

    def __init__(self, folder: Path):
        record = runs.read_json(folder / RECORD)
        if record is None:
            raise ConfigError([f"{folder}: no {RECORD} in it: not a preparation of prepare_tasks.sh."])
        self.folder, self.record, self.config = folder, record, record["config"]
        self.paths = self.config["paths"]
        self.scheduler = Scheduler(self.config["scheduler"]["kind"], self.paths["address_dir"])
        lists = ((folder / "parts" / str(number)).read_text("utf-8") for number in range(record["elements"]))
        self.elements = [Element(number, text.split()) for number, text in enumerate(lists)]
        self.outcomes: dict[str, Outcome] = {}
        self.began: dict[str, float] = {}
        self.doubtful: dict[str, Outcome] = {}
        self.arrays: list[str] = []
        self.reachable = True
        self.reasons = set(EVERYDAY)  # that were told, or needn't be
        self.report = self._open_report()

    def _open_report(self) -> Report:
        """A report on all tasks; of a preparation that was watched before, on those that hadn't ended by then."""
        told = runs.read_json(self.folder / TOLD) or {}
        known = [Outcome(task, "skipped") for task in self.record["skipped"]]
        known += [Outcome(task, "failed", 0.0, reason) for task, reason in self.record["refused"].items()]
        if told:
            self.outcomes = {outcome.task: outcome for outcome in known}
            for element in self.elements:
                for outcome in self._news(element, told.get(str(element.number), 0)):
                    if isinstance(outcome, Outcome):
                        self.outcomes[outcome.task] = outcome
        done = {task for task, outcome in self.outcomes.items() if outcome.state != "failed"}
        left = [task for task in self.record["tasks"] if task not in done]
        report = Report(self.record["log_file"], self.record["failed_tasks"], None, left)
        report.begin(sum(min(self.record["threads"], len(element.tasks)) for element in self.elements))
        self._read_submitted()
        log.info("%d jobs (%s); files: %s", len(self.elements), ", ".join(self.arrays) or "none", self.folder)
        if not told:
            for warning in self.record["warnings"]:
                log.warning(warning)
            for outcome in known:
                self.outcomes[outcome.task] = outcome
                report.ended(outcome)
        return report

    def _read_submitted(self) -> None:
        """Learn the arrays' ids from the note of what was submitted (scripts_hpc/lib/submit.sh); what is no line of it is passed over."""
        try:
            text = (self.folder / "jobs" / "submitted").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        first = 0
        for job, count in zip(
            re.findall(r"^prepare=(\d+)\n", text, re.MULTILINE), self.record.get("arrays", []), strict=False
        ):
            for index, element in enumerate(self.elements[first : first + count]):
                element.job = f"{job}_{index}" if self.scheduler.kind == "slurm" else job
            first += count
            if job not in self.arrays:
                self.arrays.append(job)

    def open_elements(self) -> list[Element]:
        return [element for element in self.elements if any(self._unfinished(element))]

    def _unfinished(self, element: Element) -> Iterator[str]:
        return (task for task in element.tasks if task not in self.outcomes)

    def _states(self) -> dict[str, Job]:
        return self.scheduler.states([element.job for element in self.open_elements() if element.job])

    # ---- what is new

    def look(self) -> None:
        """Ask the scheduler once for all jobs, read what the elements told, and settle those that died without a word."""
        self._read_submitted()
        try:
            states = self._states()
        except SchedulerUnavailable as error:
            if self.reachable:
                log.warning("the scheduler doesn't answer (%s); asking again", error)
            self.reachable = False
            self._hear(self.open_elements())
            return
        self.reachable = True
        # those that wait have said nothing: thousands of files needn't be looked for
        self._hear([one for one in self.open_elements() if one.job not in states or states[one.job].state != "PENDING"])
        for element in self.open_elements():
            self._settle(element, states.get(element.job, NEVER_SUBMITTED))
        self._tell_reasons(states)

    def _tell_reasons(self, states: dict[str, Job]) -> None:
        for job in states.values():
            if job.state == "PENDING" and job.reason not in self.reasons:
                self.reasons.add(job.reason)
                log.warning("job %s waits, the scheduler says why: %s", job.id, job.reason)

    def _hear(self, elements: list[Element]) -> None:
        """Report what the elements told since, and note that it was reported."""
        before = sum(element.read for element in elements)
        for element in elements:
            for news in self._news(element):
                if isinstance(news, Outcome):
                    self._end(news)
                else:
                    self.report.started(news)
        if sum(element.read for element in elements) != before:
            runs.write_json(self.folder / TOLD, {str(element.number): element.read for element in self.elements})

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.task] = outcome
        self.report.ended(outcome)

    def _news(self, element: Element, length: int = -1) -> Iterator[str | Outcome]:
        """What an element told since: a task that it started, or the outcome of one. length: no more bytes than these."""
        try:
            with open(self.folder / "events" / str(element.number), "rb") as file:
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

    def _settle(self, element: Element, job: Job) -> None:
        """Give an element's tasks their end once its job has been gone for a while: files show late on shared file systems."""
        now = time.monotonic()
        if job.alive:
            element.silent_since = None
            return
        element.silent_since = element.silent_since or now
        if now - element.silent_since >= GONE_SECONDS:
            for task in list(self._unfinished(element)):
                said = self.doubtful.get(task)
                if said and said.reason != INTERRUPTED and job.state in ("FAILED", "COMPLETED", "GONE"):
                    self._end(said)
                else:
                    self._end(self._settled(task, "failed", self.why(element, job)))

    def _settled(self, task: str, state: str, reason: str) -> Outcome:
        """The outcome of a task whose element died: it may have prepared the task, and not have come to saying so."""
        seconds = max(0.0, time.time() - self.began[task]) if task in self.began else 0.0
        # where old data lay before, nothing tells whether these are the old ones
        if not self.record["force"] and is_prepared(self.paths["data"], task):
            return Outcome(task, "prepared", seconds)
        return Outcome(task, state, seconds, reason, self._output(task) if task in self.began else "")

    def why(self, element: Element, job: Job) -> str:
        """One line on a job that ended and left tasks undone. Slurm's states: helpers/jobs.py."""
        if job is NEVER_SUBMITTED:
            return "its job was never submitted: prepare_tasks.sh was ended before"
        if job.state == "GONE" and not (self.folder / "events" / str(element.number)).exists():
            return f"job {job.id} was cancelled before it started, or the scheduler lost it"
        log_file = self.folder / "logs" / f"prepare-{job.id}.out"
        cause, advice = jobs.ENDS.get(job.state, jobs.ENDS["FAILED"])
        if job.state in ("FAILED", "COMPLETED", "GONE") and (said := _last_words(log_file)):
            cause, advice = jobs.ENDS["FAILED"][0], jobs._literal(said)
        site = f"of site {self.record['site']}"
        words = {
            "node": job.node,
            "at_site": site,
            "memory": f"jobs.prepare.memory_gb {site}, or lower --threads",
            "time": f"jobs.prepare.time {site}",
            "account": f"scheduler.account or scheduler.qos {site}",
            "logs": str(log_file),
        }
        return f"job {job.id} {cause.format(**words)}: {advice.format(**words)}"

    # ---- the end

    def cancel(self) -> bool:
        """End all jobs with one call, and report what they still told; False when they aren't known to have ended."""
        self._read_submitted()
        self.scheduler.cancel(self.arrays)
        until, ended = time.monotonic() + END_SECONDS, False
        while not ended and time.monotonic() < until:
            time.sleep(POLL_SECONDS[self.scheduler.kind] / 4)
            try:
                ended = not any(job.alive for job in self._states().values())
            except SchedulerUnavailable:
                continue
            finally:
                self._hear(self.open_elements())
        for element in self.open_elements():
            for task in list(self._unfinished(element)):
                self._end(self._settled(task, "unfinished", INTERRUPTED))
        return ended

    def summarise(self) -> None:
        self.report.end([self.outcomes[task] for task in self.record["tasks"] if task in self.outcomes])


def is_prepared(data_dir: str, task: str) -> bool:
    """Whether a task lies there whole; one that can't be looked at doesn't: who prepares it will say why."""
    try:
        return layout.problem(data_dir, task) is None
    except OSError:
        return False


def _last_words(log_file: Path) -> str:
    text = jobs._tail(log_file)
    found = jobs.LAST_WORDS.findall(text) or ERROR.findall(text)
    return found[-1] if found else ""


def watch(folder: Path) -> int:
    """Watch until every task has ended; returns 0, 1 when a task failed, 130 when interrupted (which ends all jobs)."""
    stop = threading.Event()
    for number in (ctrl_c(), signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    one = Watch(folder)
    one.look()
    while one.open_elements() and not stop.wait(POLL_SECONDS[one.scheduler.kind]):
        one.look()
    if stop.is_set():
        log.warning("Preparation interrupted, ending all jobs")
        if not one.cancel():
            log.error("not all jobs are known to have ended: `scancel %s` tries again", " ".join(one.arrays))
    one.summarise()
    if stop.is_set():
        return 130
    return 1 if any(outcome.state == "failed" for outcome in one.outcomes.values()) else 0
