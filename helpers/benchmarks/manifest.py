"""manifest.json, runs.txt and the index of a round, as the specification has them, and how each of its rollouts stands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.benchmarks.stamps import INDEX
from helpers.lib import disk
from helpers.lib.values import section
from helpers.runs import cells, claims, metadata
from helpers.runs.metadata import Run

NAME = "manifest.json"


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
    write(group, record, [Standing(number) for number in numbers])
    tasks = list(dict.fromkeys(_task_dir(record, cell) for cell in cells.cells(record)))
    index = {"created_at": group.name, "rollout_dir": str(group), "runs": folders, "tasks": tasks}
    disk.write_json(index_of(group), index)


def index_of(group: Path) -> Path:
    """temp/rollout_<name>__<stamp>.json"""
    return group.parents[1] / INDEX / f"rollout_{group.parent.name}__{group.name}.json"


@dataclass(frozen=True)
class Standing:
    """How a rollout stands. run: its last try, None where nothing was submitted; attempts: how many tries there were."""

    rollout: int
    run: Run | None = None
    attempts: int = 0
    is_submitted: bool = False

    @property
    def state(self) -> str:
        return self.run.state if self.run else "waiting"

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
    found = []
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
        found.append(Standing(number, run, len(attempts), last is not None or bool(attempts)))
    return found


def write(group: Path, record: dict[str, Any], told: list[Standing]) -> None:
    """manifest.json anew, where it has changed. Raises OSError."""
    views = cells.cells(record)
    places = cells.rollouts(record)
    benchmark = section(record, "benchmark")
    broken_off = record.get("abandoned") is True
    results = []
    for one in told:
        cell, seed = places[one.rollout]
        launched = one.is_submitted
        results.append(
            {
                "task_dir": _task_dir(record, views[cell]),
                "run_dir": str(run_dir(group, one.rollout)),
                "run_id": run_id(group, one.rollout),
                "launch_rc": 0 if launched else 3 if broken_off else None,
                "status": "launched" if launched else "launch_failed" if broken_off else None,
                "state": one.state,
                "score": one.score,
                "model": views[cell].get("model"),
                "agent": views[cell].get("agent"),
                "seed": seed,
                "attempts": one.attempts,
            }
        )
    data = {
        "config": benchmark.get("config"),
        "name": benchmark.get("name"),
        "created_at": group.name,
        "results": results,
    }
    if disk.read_json(group / NAME) != data:
        disk.write_json(group / NAME, data)


def _task_dir(record: dict[str, Any], cell: dict[str, Any]) -> str:
    return str(Path(section(section(record, "config"), "paths").get("data") or "", str(cell.get("competition"))))
