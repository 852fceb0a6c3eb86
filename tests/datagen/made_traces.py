"""Workflows as jobs leave them, with what agents left in their runs: for tests of traces, and for their figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trajectories.left_by_agents import USAGE, journal, mini_swe

FINGERPRINT = "f" * 64
VLLM = {"engine": "vllm", "served_name": "qwen", "repo": "org/model", "revision": "main"}
REPLAY = {"engine": "replay", "served_name": "replay", "revision": "main"}
CLOCK = "2026-01-01T0{}:00:00Z".format


def make_group(folder: Path, name: str = "one", **record: Any) -> Path:
    """A workflow's folder with its record, of one cell. record: what differs from that of a model served by vLLM."""
    group = folder / f"2026-01-01T00-00-00-UTC_run-group_{name}"
    group.mkdir(parents=True)
    told = {
        "competition": "toy",
        "agent": "mini-swe",
        "model": "30b",
        "language_model": True,
        "seed": 0,
        "config_hash": "c" * 64,
        "data_fingerprint": FINGERPRINT,
        "git_commit": "a" * 40,
        "git_dirty": False,
        "model_config": VLLM,
        "images": {"agent": {"path": "/images/agent.sif", "sha256": "b" * 64}},
        "config": {"paths": {"data": str(folder / "data")}},
        "jobs": {"agents": []},
        **record,
    }
    (group / "workflow.json").write_text(json.dumps(told))
    return group


def make_run(
    group: Path,
    job: int,
    state: str = "scored",
    score: float | None = None,
    left: dict[str, Any] | None = None,
    report: dict[str, Any] | None = None,
    **metadata: Any,
) -> Path:
    """A run in it. left: files among its logs, by name; report: what its grading report says beside the score."""
    record = json.loads((group / "workflow.json").read_text())
    task = metadata.get("competition", record["competition"])
    run = group / f"{task}_{job}"
    (run / "logs").mkdir(parents=True)
    told = {
        "schema": 1,
        "run_id": run.name,
        "competition": task,
        "agent": record["agent"],
        "model": record["model"],
        "seed": job,
        "cell": 0,
        "state": state,
        "job_id": str(job),
        "created_at": CLOCK(0),
        "agent_started_at": CLOCK(1),
        "agent_ended_at": CLOCK(2),
        "ended_at": CLOCK(2),
        "data_fingerprint": record["data_fingerprint"],
        **metadata,
    }
    files: dict[str, Any] = {"run_metadata.json": told, "evaluation_results.json": {"task_id": task, "state": state}}
    if score is not None:
        files["grading_report.json"] = {
            "score": score,
            "total_score": score,
            "valid_submission": True,
            "is_lower_better": False,
            **(report or {}),
        }
    elif report:
        files["grading_report.json"] = report
    left = {"mini-swe.traj.json": mini_swe(), "usage.json": USAGE} if left is None else left
    files |= {f"logs/{name}": content for name, content in left.items()}
    for name, content in files.items():
        (run / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return run


def aides() -> dict[str, Any]:
    """What AIDE leaves."""
    return {"journal.json": journal(), "usage.json": USAGE}


def said(*texts: str) -> dict[str, Any]:
    """A trajectory as a file among the logs: what the user and the agent said, in turns."""
    sources = ("user", "agent")
    steps = [{"step_id": at + 1, "source": sources[at % 2], "message": text} for at, text in enumerate(texts)]
    agent = {"name": "mini-swe", "version": "2.4.6"}
    return {"trajectory.json": {"schema_version": "ATIF-v1.7", "agent": agent, "steps": steps}}


def prepare(data: Path, task: str, words: str, fingerprint: str = FINGERPRINT) -> None:
    """A prepared task with its description and its fingerprint."""
    folder = data / task / "prepared" / "public"
    folder.mkdir(parents=True)
    (folder / "description.md").write_text(words)
    (folder.parent / "fingerprint.json").write_text(json.dumps({"data_fingerprint": fingerprint}))
