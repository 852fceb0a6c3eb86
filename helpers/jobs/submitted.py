"""What was submitted of a workflow: job ids into its record, and a waiting run for each agent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers.jobs import parts
from helpers.jobs.arrays import STOP, take
from helpers.jobs.fleet import Noted, noted
from helpers.lib import disk, values
from helpers.lib.values import section
from helpers.runs import cells, claims, metadata

LISTS = ("agents", "rollouts", "attempts")
MODEL_SCRIPT = re.compile(r"vllm_(.+)\.sh")


def jobs_of(group: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The job ids by role; `servers` all of those; `models` by their model's name; `agents` a list, and which try (`attempts`) at which
    rollout (`rollouts`) each of them was submitted for.

    By the note of what was submitted, which grows while the record stands still; by the record where there is none.
    """
    jobs: dict[str, Any] = {"agents": [], "rollouts": [], "attempts": []}
    models: dict[str, str] = {}
    servers: list[str] = []
    for one in noted(group):
        if one.role == "agent":
            for rollout, attempt in _taken(group, one, len(jobs["agents"])):
                jobs["rollouts"].append(rollout)
                jobs["attempts"].append(attempt)
            jobs["agents"] += one.jobs
        else:
            # of a round that went on, the last one serves
            jobs[one.role] = one.job
            servers.append(one.job)
            if model := MODEL_SCRIPT.fullmatch(one.command[0] if one.command else ""):
                # its number, where a model has several
                number = "".join(f"#{word}" for word in one.command[1:2])
                models[model[1] + number] = one.job
    jobs |= ({"models": models} if models else {}) | ({"servers": servers} if servers else {})
    if jobs["agents"] or len(jobs) > len(LISTS):
        return jobs
    listed = cells.agents(record)
    told = ([one.job for one in listed], [one.rollout for one in listed], [one.attempt for one in listed])
    return section(record, "jobs") | dict(zip(LISTS, told, strict=True))


def _taken(group: Path, one: Noted, before: int) -> list[tuple[int, int]]:
    """Rollout and attempt of jobs that were submitted together: PARTS and FIRST are the first arguments of their script."""
    count = len(one.jobs)
    if len(one.command) > 2 and one.command[1].isdecimal() and one.command[2].isdecimal():
        first = int(one.command[2])
        found = parts.read(group, one.command[1])[first : first + count]
        if len(found) == count:
            return found
    return [(before + place, 0) for place in range(count)]


def submitted(group: Path) -> None:
    """Put the job ids into workflow.json, and a waiting run's folder in place for each agent job that has none."""
    record = disk.read_json(group / "workflow.json") or {}
    ids = record["jobs"] = jobs_of(group, record)
    disk.write_json(group / "workflow.json", record)
    views: dict[int, dict[str, Any]] = {}
    asked = cells.agents(record)
    beaten = claims.beaten(group, asked)
    told = {job: one for one in noted(group) if one.role == "agent" for job in one.jobs}
    for one in asked:
        if one.job in beaten:
            continue
        its = views.setdefault(one.cell, cells.view(record, one.cell))
        folder = group / metadata.run_name(its["competition"], one.job)
        folder.mkdir(exist_ok=True)
        disk.write_new_json(folder / "run_metadata.json", _waiting(its, ids, one, told.get(one.job)))


def abandoned(group: Path, jobs: Iterable[str]) -> None:
    """Note that a submission was broken off, its jobs (an array by its own number) cancelled; their runs end as cancelled."""
    take(group, STOP)
    submitted(group)
    record = disk.read_json(group / "workflow.json") or {}
    disk.write_json(group / "workflow.json", record | {"abandoned": True})
    ended = set(jobs)
    for run in (one for one in metadata.runs_of(group) if ended & {one.job_id, one.job_id.partition("_")[0]}):
        run.settle("cancelled", "the submission was broken off: a job was refused, or Ctrl-C")
    metadata.tell_aggregate(group)


def _waiting(record: dict[str, Any], ids: dict[str, Any], one: cells.Agent, told: Noted | None) -> dict[str, Any]:
    # PARTS FIRST ELEMENTS GRADING MODEL behind its script: which of a model's servers is its own
    own = told.command[5].partition("auto:")[2] if told and len(told.command) > 5 else None
    return {
        "schema": 1,
        "run_id": metadata.run_name(record["competition"], one.job),
        "competition": record["competition"],
        "agent": record["agent"],
        "model": record["model"],
        **{"cell": one.cell, "seed": one.seed, "rollout": one.rollout, "attempt": one.attempt, "job_id": one.job},
        "state": "waiting",
        "reason": "in the queue",
        "grading_job": ids.get("grading_server"),
        "model_job": own or section(ids, "models").get(record["model"], ids.get("model_server")),
        "data_fingerprint": record.get("data_fingerprint"),
        "isolated": record["config"]["container"]["runtime"] != "none",
        "cpus": record["config"]["jobs"]["agent"]["cpus"],
        "created_at": values.now(),
        "agent_started_at": None,
        "agent_ended_at": None,
        "ended_at": None,
    }
