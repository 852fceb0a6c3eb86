"""What was submitted of a workflow: job ids into its record, and a waiting run for each agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.lib import disk, values
from helpers.runs import cells, metadata


def submitted(group: Path, jobs: list[list[str]]) -> None:
    """Put the job ids into workflow.json, and a waiting run's folder in place for each agent job.

    jobs: [role, id] pairs; roles grading_server, model_server, feedback_server, agent (once a rollout, in order).
    """
    record = disk.read_json(group / "workflow.json") or {}
    ids: dict[str, Any] = {"agents": []}
    for role, job in jobs:
        if role == "agent":
            ids["agents"].append(job)
        else:
            ids[role] = job
    record["jobs"] = ids
    disk.write_json(group / "workflow.json", record)
    for rollout, job in enumerate(ids["agents"]):
        cell, seed = cells.rollout(record, rollout)
        its = cells.view(record, cell)
        folder = group / metadata.run_name(its["competition"], job)
        folder.mkdir(exist_ok=True)
        if not (folder / "run_metadata.json").exists():
            told = {"cell": cell, "seed": seed, "rollout": rollout, "job_id": job}
            disk.write_json(folder / "run_metadata.json", _waiting(its, ids, told))


def abandoned(group: Path, jobs: list[list[str]]) -> None:
    """Note that the submission was broken off, its jobs cancelled; the runs that were submitted end as cancelled."""
    submitted(group, jobs)
    for run in metadata.runs_of(group):
        run.settle("cancelled", "the submission was broken off: a job was refused, or Ctrl-C")
    metadata.tell_aggregate(group)


def _waiting(record: dict[str, Any], ids: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "run_id": metadata.run_name(record["competition"], told["job_id"]),
        "competition": record["competition"],
        "agent": record["agent"],
        "model": record["model"],
        **told,
        "state": "waiting",
        "reason": "in the queue",
        "grading_job": ids.get("grading_server"),
        "model_job": ids.get("model_server"),
        "data_fingerprint": record.get("data_fingerprint"),
        "isolated": record["config"]["container"]["runtime"] != "none",
        "cpus": record["config"]["jobs"]["agent"]["cpus"],
        "created_at": values.now(),
        "agent_started_at": None,
        "agent_ended_at": None,
        "ended_at": None,
    }
