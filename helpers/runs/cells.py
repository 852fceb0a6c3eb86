"""What the runs of a workflow are of: the cells of workflow.json. A cell is a task, an agent and a model with all that can change a result.

Schema 2 has a list of them. A record of schema 1 is of one cell, whose keys stand beside the workflow's own; all readers see both alike.
"""

from __future__ import annotations

from typing import Any

from helpers.lib import values

SCHEMA = 2
# what a cell says for itself
KEYS = (
    *(
        "competition",
        "agent",
        "model",
        "language_model",
        "seed",
        "rollouts",
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
    told, at = cells(record), values.count(number) or 0
    return {key: value for key, value in record.items() if key != "cells"} | (told[at] if at < len(told) else {})


def place(record: dict[str, Any], key: str, number: Any = 0) -> str:
    """Where in workflow.json a key of such a view stands, for a person."""
    return f"cells[{values.count(number) or 0}].{key}" if key in KEYS and "cells" in record else key


def rollout(record: dict[str, Any], number: int) -> tuple[int, int]:
    """The cell and the seed of a rollout, counted over all cells."""
    told = cells(record)
    for at, cell in enumerate(told):
        count = values.count(cell.get("rollouts"))
        if count is None or number < count or at == len(told) - 1:
            return at, (values.count(cell.get("seed")) or 0) + number
        number -= count
    return 0, number
