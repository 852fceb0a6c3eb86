"""What runs cost: the GPU- and CPU-hours of their own jobs, and their share of the servers that they used.

A job costs what the scheduler's accounting says that it was allocated, whoever ended it and however; where there is no accounting,
what the job noted of itself, and the row says that it is an estimate. A server is shared out over all runs that used it, of whatever
workflow, by the time that their agents worked: the runs' hours add up to what was allocated.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from helpers.lib.values import number, seconds_of, section, text
from helpers.scheduler.query import Allocation, Scheduler, SchedulerUnavailable

FOREIGN = 7 * 86400.0  # a job's longest life, nearly everywhere
EARLY, LATE = 300.0, 3600.0  # clocks differ, and a job notes its start when the site's modules are loaded


class User(Protocol):
    """A run, as far as its cost is concerned. servers: jobs of those that it used, by role; homes: the folder of each job's workflow."""

    job_id: str
    metadata: dict[str, Any]
    workflow: dict[str, Any]
    servers: dict[str, str]
    homes: dict[str, str]
    now: float
    created: float
    is_open: bool
    ended: float | None
    agent_seconds: float | None

    def owns(self, job: str) -> bool: ...


@dataclass
class Cost:
    """Hours; None where a part of them isn't known. agent_cpu_hours: of the agent's job alone; is_estimate: not the accounting's."""

    gpu_hours: float | None = 0.0
    cpu_hours: float | None = 0.0
    agent_cpu_hours: float | None = 0.0
    is_estimate: bool = False

    def add(self, gpu_hours: float | None, cpu_hours: float | None, is_estimate: bool) -> None:
        self.gpu_hours = _plus(self.gpu_hours, gpu_hours)
        self.cpu_hours = _plus(self.cpu_hours, cpu_hours)
        self.is_estimate |= is_estimate


def _plus(one: float | None, other: float | None) -> float | None:
    """The sum; not known where a part isn't."""
    return None if one is None or other is None else one + other


def _times(count: float | None, hours: float | None) -> float | None:
    if hours == 0:
        return 0.0  # however many there were
    return None if count is None or hours is None else count * hours


def total(costs: Iterable[Cost]) -> Cost:
    """The cost of several runs."""
    whole = Cost()
    for one in costs:
        whole.add(one.gpu_hours, one.cpu_hours, one.is_estimate)
        whole.agent_cpu_hours = _plus(whole.agent_cpu_hours, one.agent_cpu_hours)
    return whole


class Book:
    """The accounting of the schedulers of some runs. complaints: sentences on those that have none."""

    def __init__(self, users: Iterable[User]):
        self.complaints: list[str] = []
        wanted: dict[tuple[str, str], dict[str, None]] = {}
        for user in users:
            jobs = dict.fromkeys([user.job_id, *user.servers.values()])
            wanted.setdefault(_scheduler(user.workflow), {}).update(jobs)
        self._known = {which: self._ask(*which, list(jobs)) for which, jobs in wanted.items()}

    def _ask(self, kind: str, folder: str, jobs: list[str]) -> dict[str, Allocation]:
        jobs = [job for job in jobs if job.replace("_", "").isdecimal()]
        said = "there is no sacct here"
        if kind == "local" or shutil.which("sacct"):
            try:
                return Scheduler("local" if kind == "local" else "slurm", folder).accounting(jobs)
            except SchedulerUnavailable as error:
                said = " ".join(str(error).split()) or "it didn't answer"
        if kind == "slurm" and jobs:
            self.complaints.append(f"no accounting ({said}): GPU- and CPU-hours are estimates")
        return {}

    def of(self, user: User, job: str, noted: float | None) -> Allocation | None:
        """What a job was allocated. noted: when it began by its own account.

        A job of this number that began at another time is another one, of another cluster.
        """
        found = self._known.get(_scheduler(user.workflow), {}).get(job)
        if found is None or found.start is None:
            never_started = found is not None and noted is None and not found.seconds
            return found if never_started else None
        if noted is not None:
            first, last = noted - LATE, noted
        else:
            begun = [user.created, seconds_of(user.workflow.get("created_at")) or user.created]
            first, last = min(begun), user.now if user.is_open else user.ended or user.now
            if job != user.job_id and not user.owns(job):
                first -= FOREIGN  # it was there before
        return found if first - EARLY <= found.start <= last + EARLY else None


def _scheduler(workflow: dict[str, Any]) -> tuple[str, str]:
    config = section(workflow, "config")
    kind = text(section(config, "scheduler").get("kind"))
    if kind == "local":
        return kind, text(section(config, "paths").get("address_dir")) or ""
    return kind or "unknown", ""


def settle(users: list[User], services: dict[tuple[str, str], dict[str, Any]], book: Book) -> Iterator[Cost]:
    """The cost of each run. services: what servers noted of themselves, by the folder of their workflow and job."""
    costs = {id(user): _own(user, book) for user in users}
    sharing: dict[tuple[str, str], list[User]] = {}
    for user in users:
        for job in dict.fromkeys(user.servers.values()):
            sharing.setdefault((user.homes[job], job), []).append(user)
    for server, its in sharing.items():
        for user, share in zip(its, _shares(its, server[1], services.get(server), book), strict=True):
            costs[id(user)].add(*share)
    return (costs[id(user)] for user in users)


def _own(user: User, book: Book) -> Cost:
    noted = (
        seconds_of(user.metadata.get("created_at")) if "host" in user.metadata else None
    )  # the job's own, once it runs
    cpus = number(user.metadata.get("cpus"))
    if found := book.of(user, user.job_id, noted):
        hours, gpus = found.seconds / 3600, found.gpus or 0.0
        cpu_hours = _times(found.cpus or cpus, hours)
        return Cost(gpus * hours, cpu_hours, cpu_hours)
    ended = user.now if user.is_open else seconds_of(user.metadata.get("ended_at")) or user.ended
    if ended is not None and user.ended is not None and not user.metadata.get("agent_ended_at"):
        ended = min(ended, user.ended)  # killed without a word, and noticed later
    begun = noted if noted is not None else seconds_of(user.metadata.get("agent_started_at"))
    if begun is None:  # it never started, as far as is known
        begun, ended = 0.0, 0.0 if user.metadata else None
    cpu_hours = None if ended is None else _times(cpus, max(0.0, ended - begun) / 3600)
    return Cost(0.0, cpu_hours, cpu_hours, is_estimate=True)


Share = tuple["float | None", "float | None", bool]


def _shares(users: list[User], job: str, record: dict[str, Any] | None, book: Book) -> list[Share]:
    noted = record or {}
    started = seconds_of(noted.get("started_at"))
    found = next((one for user in users if (one := book.of(user, job, started))), None)
    if found is None and record is None:
        return [(*_without_record(user, job), True) for user in users]
    gpus, cpus = number(noted.get("gpus")), number(noted.get("cpus"))
    if found:
        hours: float | None = found.seconds / 3600
        gpus = gpus if found.gpus is None else found.gpus
        cpus = found.cpus or cpus
        if gpus is None and record is None:
            gpus = _asked(users[0], job)[0]
    else:
        ended = seconds_of(noted.get("ended_at"))
        if ended is None:  # killed with its last word unsaid, or still there
            ended = max((user.ended for user in users if user.ended is not None), default=None)
        hours = None if started is None or ended is None else max(0.0, ended - started) / 3600
    total_gpu, total_cpu = 0.0 if gpus == 0 else _times(gpus, hours), _times(cpus, hours)
    return [(_part(total_gpu, part), _part(total_cpu, part), found is None) for part in _parts(users)]


def _part(total: float | None, part: float) -> float | None:
    return None if total is None else total * part


def _parts(users: list[User]) -> list[float]:
    weights = [user.agent_seconds or 0.0 for user in users]
    whole = sum(weights)
    return [weight / whole if whole else 1 / len(users) for weight in weights]


def _asked(user: User, job: str) -> tuple[float | None, float | None]:
    """GPUs and CPUs of a server as the workflow's configuration has them."""
    is_feedback = job == user.servers.get("feedback") != user.servers.get("model")
    config, model = (
        section(user.workflow, key) for key in ("config", "feedback_model_config" if is_feedback else "model_config")
    )
    if job == user.servers.get("grading"):
        return 0.0, number(section(section(config, "jobs"), "grading_server").get("cpus"))
    gpus = number(model.get("gpus"))
    if gpus and section(config, "gpu").get("whole_node") is True:
        gpus = number(section(config, "gpu").get("per_node"))
    return gpus, number(model.get("cpus"))


def _without_record(user: User, job: str) -> tuple[float | None, float | None]:
    """The cost of a server that neither the accounting nor a record knows: it never started, or somebody started it by hand."""
    role = "grading" if job == user.servers.get("grading") else "model"
    hours = None
    if user.agent_seconds is None and user.metadata:
        hours = 0.0
    elif user.agent_seconds is not None and section(user.workflow, "reused").get(role) is True:
        hours = user.agent_seconds / 3600
    gpus, cpus = _asked(user, job)
    return (0.0 if gpus == 0 else _times(gpus, hours)), _times(cpus, hours)
