"""Rounds as tests ask for them: rollouts with rows such as the table of results has."""

from __future__ import annotations

import itertools
from typing import Any

NUMBER = itertools.count()
# of a row that tells no more: OneRun.row has all of these
ROW: dict[str, Any] = {
    **{
        "metric": "accuracy",
        "is_lower_better": False,
        "any_medal": None,
        "above_median": None,
        "reason": "so it ended",
    },
    **{
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "steps": 5,
        "requests": 10,
        "agent_seconds": 60.0,
        "attempts": 1,
    },
    **{"gpu_hours": 0.5, "cpu_hours": 1.5, "cost_basis": "accounting", "time_limit_reached": False},
    **{"config_hash": "c0", "image_digest": "i0", "git_commit": "g0", "data_fingerprint": "d0", "site": "alpha"},
}


def asked(
    task: str = "toy", model: str | None = "30b", agent: str | None = "aide", variables: Any = (), **row: Any
) -> dict:
    """A rollout with its row; with state=None it has not begun."""
    number = next(NUMBER)
    given = {"run_id": f"20250101__00-00-00-{number}", "task": task, "model": model, "agent": agent}
    given |= {"variables": variables, "seed": number, "row": None}
    if row.get("state", "scored") is None:
        return given
    known = {**ROW, "state": "scored", "score": None, "valid_submission": row.get("score") is not None, **row}
    return given | {"row": {"task": task, "model": model, "agent": agent, "seed": number, **known}}


def scored(*scores: float, **more: Any) -> list[dict]:
    """A rollout for each score."""
    return [asked(score=score, **more) for score in scores]
