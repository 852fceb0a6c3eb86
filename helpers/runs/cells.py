"""What the runs of a workflow are of: the cells of workflow.json. A cell is a task, an agent and a model with all that can change a result.

Schema 2 has a list of them. A record of schema 1 is of one cell, whose keys stand beside the workflow's own; all readers see both alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.lib import values

SCHEMA = 2
MOST = 1_000_000  # rollouts of a cell; a record may be damaged
# what a cell says for itself
KEYS = (
    *(
        "competition",
        "agent",
        "model",
        "language_model",
        "seed",
        "rollouts",
        "seeds",
        "variables",
        "config_hash",
        "data_fingerprint",
    ),
    *("model_config", "feedback_model_config", "agent_config", "agent_limits", "images"),
)


def cells(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of a workflow's record, in their order."""
    told = record.get("cells")
    if isinstance(told, list):
        return [one if isinstance(one, dict) else {} for one in told]
    return [{key: record[key] for key in KEYS if key in record}]


def view(record: dict[str, Any], number: Any = 0) -> dict[str, Any]:
    """A workflow's record as that of one cell alone, as schema 1 has it. number: as a run's record says it."""
    told, at = record.get("cells"), values.count(number) or 0
    if isinstance(told, list):  # of many cells, for each of many runs: only the one is looked at
        its = told[at] if at < len(told) and isinstance(told[at], dict) else {}
    else:
        its = {} if at else cells(record)[0]
    return {key: value for key, value in record.items() if key != "cells"} | its


def place(record: dict[str, Any], key: str, number: Any = 0) -> str:
    """Where in workflow.json a key of such a view stands, for a person."""
    return f"cells[{values.count(number) or 0}].{key}" if key in KEYS and "cells" in record else key


def seeds(cell: dict[str, Any]) -> list[int]:
    """The seeds of a cell's rollouts: those that it lists, else as many as it says, from the first on."""
    if isinstance(cell.get("seeds"), list):
        return [values.count(seed) or 0 for seed in cell["seeds"]]
    first = values.count(cell.get("seed")) or 0
    return list(range(first, first + min(values.count(cell.get("rollouts")) or 0, MOST)))


def rollouts(record: dict[str, Any]) -> list[tuple[int, int]]:
    """Cell and seed of every rollout of a workflow, by its number: all of the first cell, then all of the next."""
    return [(at, seed) for at, cell in enumerate(cells(record)) for seed in seeds(cell)]


def rollout(record: dict[str, Any], number: int) -> tuple[int, int]:
    """The cell and the seed of a rollout; of one that was never asked for, as if the last cell had more of them."""
    return _rollout(record, rollouts(record), number)


def _rollout(record: dict[str, Any], every: list[tuple[int, int]], number: int) -> tuple[int, int]:
    if number < len(every):
        return every[number]
    told = cells(record)
    first = values.count(told[-1].get("seed")) if told else None
    return max(len(told) - 1, 0), (first or 0) + number - sum(at < len(told) - 1 for at, _ in every)


@dataclass(frozen=True)
class Agent:
    """A job that was submitted for a rollout. attempt: which try at it; cell: which of the record's it is of."""

    job: str
    rollout: int
    attempt: int
    cell: int
    seed: int


def agents(record: dict[str, Any]) -> list[Agent]:
    """The jobs that were submitted for rollouts, in that order: as the record's `jobs` lists them, else one for each rollout."""
    told = values.section(record, "jobs")
    listed = told.get("agents")
    jobs = [str(job) for job in listed] if isinstance(listed, list) else []
    rollout_of, attempt_of = (_numbers(told.get(key), len(jobs)) for key in ("rollouts", "attempts"))
    every = rollouts(record)
    found = []
    for place, job in enumerate(jobs):
        number = rollout_of[place] if rollout_of else place
        attempt = attempt_of[place] if attempt_of else 0
        found.append(Agent(job, number, attempt, *_rollout(record, every, number)))
    return found


def _numbers(told: Any, most: int) -> list[int]:
    """A list of so many numbers; empty where it is none."""
    found = [values.count(number) for number in told] if isinstance(told, list) else []
    return [number for number in found if number is not None] if len(found) == most and None not in found else []
