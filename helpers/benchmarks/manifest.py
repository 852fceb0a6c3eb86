"""manifest.json, runs.txt and the index of a round, as the specification has them, and how each of its rollouts stands.

manifest.json is also written by the rollouts' own jobs, each its own entry (run::_manifest in scripts_hpc/lib/run.sh): one at a time, by a
lock. What a killed job couldn't tell is told by whoever looks at the round next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.benchmarks import bounds
from helpers.benchmarks.stamps import INDEX
from helpers.data.layout import NO_LOCKS
from helpers.jobs.submitted import jobs_of
from helpers.lib import disk
from helpers.lib.values import section
from helpers.runs import cells, claims, metadata
from helpers.runs.metadata import Run

NAME, LOCK = "manifest.json", "jobs/.manifest"


def run_id(group: Path, rollout: int) -> str:
    """<stamp>-<index>"""
    return f"{group.name}-{rollout}"


def run_dir(group: Path, rollout: int) -> Path:
    """Where a rollout's run is found, whichever job it was: a link beside the rounds."""
    return group.parents[2] / "runs" / run_id(group, rollout)


def begin(group: Path, record: dict[str, Any]) -> None:
    """Write all that is known of a round before its jobs are submitted. Raises OSError."""
    numbers = range(len(cells.rollouts(record)))
    runs = group.parents[2] / "runs"
    runs.mkdir(exist_ok=True)
    for number in numbers:
        target = group / "task_results" / run_id(group, number)
        os.symlink(os.path.relpath(target, runs), runs / run_id(group, number))
    folders = [str(run_dir(group, number)) for number in numbers]
    disk.write_text(group / "runs.txt", "".join(f"{folder}\n" for folder in folders))
    disk.write_json(group / NAME, _data(group, record, [Standing(number) for number in numbers]))
    tasks = list(dict.fromkeys(_task_dir(record, cell) for cell in cells.cells(record)))
    index = {"created_at": group.name, "rollout_dir": str(group), "runs": folders, "tasks": tasks}
    disk.write_json(index_of(group), index)


def index_of(group: Path) -> Path:
    """temp/rollout_<name>__<stamp>.json"""
    return group.parents[1] / INDEX / f"rollout_{group.parent.name}__{group.name}.json"


@dataclass(frozen=True)
class Standing:
    """How a rollout stands. run: its last try, None where nothing was submitted; attempts: how many tries there were; kept: why it isn't
    submitted any more, where it was to be."""

    rollout: int
    run: Run | None = None
    attempts: int = 0
    is_submitted: bool = False
    kept: str = ""

    @property
    def state(self) -> str:
        return self.run.state if self.run else "cancelled" if self.kept else "waiting"

    @property
    def score(self) -> float | None:
        return metadata.score_of(self.run.report) if self.run and self.run.state == "scored" else None


def standings(group: Path, record: dict[str, Any], runs: dict[str, Run]) -> list[Standing]:
    """Each rollout of a round. runs: by their job's id, as far as they are there."""
    count = len(cells.rollouts(record))
    taken = claims.owners(group)
    submitted = {one.rollout: one for one in cells.agents(record)}  # the last job of each
    tries: dict[int, list[int]] = {}
    for rollout, attempt in sorted(taken):
        tries.setdefault(rollout, []).append(attempt)
    kept, found = bounds.kept(group), []
    for number in range(count):
        attempts = tries.get(number, [])
        run = runs.get(taken[number, attempts[-1]]) if attempts else None
        last = submitted.get(number)
        # what nobody has claimed waits in the queue, or was cancelled there: a retry counts while it waits
        if (
            last
            and last.attempt >= len(attempts)
            and (queued := runs.get(last.job))
            and (queued.is_open or not attempts)
        ):
            run = queued
        found.append(Standing(number, run, len(attempts), last is not None or bool(attempts), kept.get(number, "")))
    return found


def refresh(group: Path, runs: dict[str, Run] | None = None) -> None:
    """manifest.json anew by what the round's files say. runs: by their job's id, where they were read just now. Raises OSError."""
    record = disk.read_json(group / "workflow.json") or {}
    record["jobs"] = jobs_of(group, record)
    runs = {run.job_id: run for run in metadata.runs_of(group)} if runs is None else runs
    keep(group, record, runs, standings(group, record, runs))


def keep(group: Path, record: dict[str, Any], runs: dict[str, Run], told: list[Standing]) -> list[Standing]:
    """manifest.json anew where it says anything else; how the rollouts stand then: a job may have told more meanwhile. Raises OSError."""
    if disk.read_json(group / NAME) == _data(group, record, told):
        return told
    with _alone(group):
        for run in runs.values():
            if run.is_open:
                run.reread()
        told = standings(group, record, _with_claimed(group, record, runs))
        disk.write_json(group / NAME, _data(group, record, told))
    return told


@contextlib.contextmanager
def _alone(group: Path) -> Iterator[None]:
    with open(group / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def _with_claimed(group: Path, record: dict[str, Any], runs: dict[str, Run]) -> dict[str, Run]:
    """The runs, and those of the jobs that have claimed a rollout since they were read."""
    places, views, found = cells.rollouts(record), cells.cells(record), dict(runs)
    for (rollout, _), job in claims.owners(group).items():
        if job not in runs and rollout < len(places):
            name = metadata.run_name(str(views[places[rollout][0]].get("competition")), job)
            if told := disk.read_json(group / name / "run_metadata.json"):
                found[job] = Run(group / name, told)
    return found


def _data(group: Path, record: dict[str, Any], told: list[Standing]) -> dict[str, Any]:
    views = cells.cells(record)
    places = cells.rollouts(record)
    benchmark = section(record, "benchmark")
    results = []
    for one in told:
        cell, seed = places[one.rollout]
        results.append(_result(group, record, one, views[cell], seed))
    return {
        "config": benchmark.get("config"),
        "name": benchmark.get("name"),
        "created_at": group.name,
        "results": results,
    }


def _result(group: Path, record: dict[str, Any], one: Standing, cell: dict[str, Any], seed: int) -> dict[str, Any]:
    broken_off = record.get("abandoned") is True
    return {
        "task_dir": _task_dir(record, cell),
        "run_dir": str(run_dir(group, one.rollout)),
        "run_id": run_id(group, one.rollout),
        "launch_rc": 0 if one.is_submitted else 3 if broken_off else None,
        "status": "launched" if one.is_submitted else "launch_failed" if broken_off else None,
        "state": one.state,
        "score": one.score,
        "model": cell.get("model"),
        "agent": cell.get("agent"),
        "seed": seed,
        "attempts": one.attempts,
    }


def _task_dir(record: dict[str, Any], cell: dict[str, Any]) -> str:
    return str(Path(section(section(record, "config"), "paths").get("data") or "", str(cell.get("competition"))))
