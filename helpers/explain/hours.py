"""The hours of a row derived anew: a term for each job of each try, from the scheduler's records. Beside runs/costs.py, to check it.

gpu_hours = sum of GPUs x hours x part; cpu_hours the same with CPUs. part: 1 of an agent's own job; of a server, the agent's seconds of
this run by those of all runs that used it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.lib.values import number, seconds_of, section
from helpers.runs import costs

ROLES = {"grading": "grading_server", "model": "model_server", "feedback": "feedback_server"}


@dataclass(frozen=True)
class Term:
    """What one job adds to a row.

    gpus, cpus, seconds: None where nobody tells; basis: accounting or estimate; doubt: what a record says otherwise.
    """

    job: str
    name: str
    gpus: float | None
    cpus: float | None
    seconds: float | None
    part: float
    basis: str
    doubt: str = ""

    def hours(self, unit: str) -> float | None:
        """Its hours; unit: gpus or cpus."""
        count = getattr(self, unit)
        if count == 0 or self.seconds == 0:
            return 0.0
        return None if count is None or self.seconds is None else count * self.seconds / 3600 * self.part

    def said(self, unit: str) -> str:
        """`job 12 (model): 2 GPUs x 1802 s x 0.25`."""
        count, seconds = ("?" if value is None else f"{value:g}" for value in (getattr(self, unit), self.seconds))
        part = "" if self.part == 1 else f" x {self.part:.6g}"
        return f"job {self.job} ({self.name}): {count} {unit[:-1].upper()}{'' if count == '1' else 's'} x {seconds} s{part}"


def terms(tries: list[Any], collection: Any) -> list[Term]:
    """The terms of a row. tries: the runs whose cost it bears; collection: the one that they are of (export_results.Collection)."""
    book, found = collection.book, []
    for run in tries:
        found.append(_own(run, book))
        jobs: dict[str, str] = {}
        for role, job in run.servers.items():
            jobs.setdefault(job, role)  # the same model may do both
        found += [_server(run, role, job, collection, book) for job, role in jobs.items()]
    return found


def _own(run: Any, book: costs.Book) -> Term:
    noted = seconds_of(run.metadata.get("created_at")) if "host" in run.metadata else None
    asked = number(section(section(section(run.workflow, "config"), "jobs"), "agent").get("cpus"))
    told = number(run.metadata.get("cpus"))
    cpus, doubt = told if asked is None else asked, ""
    if None not in (asked, told) and asked != told:
        doubt = f"run_metadata.json: cpus {told}, but ../workflow.json: config.jobs.agent.cpus {asked}"
    if found := book.of(run, run.job_id, noted):
        return Term(run.job_id, "agent", found.gpus or 0.0, found.cpus or cpus, found.seconds, 1, "accounting", doubt)
    begun = noted if noted is not None else seconds_of(run.metadata.get("agent_started_at"))
    ended = run.now if run.is_open else seconds_of(run.metadata.get("ended_at"))
    if run.ended is not None and not run.metadata.get("agent_ended_at"):
        ended = min(ended or run.ended, run.ended)
    if begun is None:
        return Term(run.job_id, "agent", 0.0, cpus, 0.0 if run.metadata else None, 1, "estimate", doubt)
    seconds = None if ended is None else max(0.0, ended - begun)
    return Term(run.job_id, "agent", 0.0, cpus, seconds, 1, "estimate", doubt)


def _server(run: Any, role: str, job: str, collection: Any, book: costs.Book) -> Term:
    users, whole = collection.users(run, job)
    part = (run.agent_seconds or 0.0) / whole if whole else 1 / len(users)
    record = collection.server(run, job)
    (gpus, cpus), doubt = _asked(run, role, job, record), ""
    for unit, asked in (("gpus", gpus), ("cpus", cpus)):
        if (told := number(record.get(unit))) not in (None, asked):
            doubt += f"../services/{record.get('service')}_{job}.json: {unit} {told}, but ../workflow.json: {asked}; "
    doubt = doubt.removesuffix("; ")
    if found := book.of(run, job, seconds_of(record.get("started_at"))):
        gpus = gpus if found.gpus is None else found.gpus
        return Term(job, role, gpus, found.cpus or cpus, found.seconds, part, "accounting", doubt)
    started, ended = (seconds_of(record.get(key)) for key in ("started_at", "ended_at"))
    if ended is None:
        ended = max((one.ended for one in users if one.ended is not None), default=None)
    if not record and run.agent_seconds is not None and section(run.workflow, "reused").get(role) is True:
        return Term(job, role, gpus, cpus, run.agent_seconds, 1, "estimate")
    if not record and run.agent_seconds is None and run.metadata:
        return Term(job, role, gpus, cpus, 0.0, 1, "estimate")
    seconds = None if started is None or ended is None else max(0.0, ended - started)
    return Term(job, role, gpus, cpus, seconds, part, "estimate", doubt)


def _asked(run: Any, role: str, job: str, record: dict[str, Any]) -> tuple[float | None, float | None]:
    """GPUs and CPUs of a server: as its workflow's configuration has them, where it is this run's own; else as it noted them itself."""
    noted = number(record.get("gpus")), number(record.get("cpus"))
    config = section(run.workflow, "config")
    if record and section(run.workflow, "jobs").get(ROLES[role]) != job:
        return noted
    if role == "grading":
        wants = section(section(config, "jobs"), "grading_server")
        gpus: float | None = 0.0
    else:
        wants = section(run.workflow, "model_config" if role == "model" else "feedback_model_config")
        gpus = number(wants.get("gpus"))
        if gpus and section(config, "gpu").get("whole_node") is True:
            gpus = number(section(config, "gpu").get("per_node"))
    cpus = number(wants.get("cpus"))
    return (noted[0] if gpus is None else gpus), (noted[1] if cpus is None else cpus)


def total(found: list[Term], unit: str) -> float | None:
    """The sum of the terms' hours, rounded as the export does; None where one isn't known."""
    hours = [term.hours(unit) for term in found]
    return None if None in hours else round(sum(hour for hour in hours if hour is not None), 6)
