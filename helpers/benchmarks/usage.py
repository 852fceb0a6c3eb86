"""What rollouts took: tokens, steps, requests, hours, money; a sum says of how many it is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.benchmarks import bounds
from helpers.lib import values

TOKENS = ("prompt_tokens", "completion_tokens")
# the columns that are added up; `tokens` are both kinds
USED = (
    *("tokens", *TOKENS, "steps", "requests", "rate_limited", "server_errors"),
    *("gpu_hours", "cpu_hours", "agent_seconds", "usd"),
)
UNBORN = ("waiting", "not_begun")  # have taken nothing yet


@dataclass(frozen=True)
class Total:
    """A sum over the rollouts of which it is known: `known` of `of`. sum: None where it is known of none."""

    sum: float | None
    known: int
    of: int

    @property
    def whole(self) -> float | None:
        """The sum, where it is known of all."""
        return self.sum if self.known == self.of else None

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {"sum": self.sum, "known": self.known, "of": self.of}


def used(row: dict[str, Any], column: str) -> float | None:
    """What one rollout took of it; None where that isn't known."""
    if column != "tokens":
        return values.number(row.get(column))
    parts = [values.number(row.get(one)) for one in TOKENS]
    return None if None in parts else sum(one for one in parts if one is not None)


def totals(rows: Iterable[dict[str, Any]]) -> dict[str, Total]:
    """The totals of USED over all rollouts that have begun, lost and running ones too: they cost as much."""
    begun = [row for row in rows if row and row.get("state") not in UNBORN]
    begun = [row for row in begun if not bounds.was_not_begun(row.get("state"), row.get("reason"))]
    found = {}
    for column in USED:
        known = [value for row in begun if (value := used(row, column)) is not None]
        found[column] = Total(sum(known) if known else None, len(known), len(begun))
    return found


def each(total: Total, count: int) -> float | None:
    """How much that is for one of `count`; None where the total isn't known of all, or there are none."""
    return total.whole / count if total.whole is not None and count else None


def is_estimate(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether some of the hours are by the jobs' own notes, for want of accounting."""
    return any(row.get("cost_basis") == "estimate" for row in rows)
