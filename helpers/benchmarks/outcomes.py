"""What became of each rollout that a round asked for, and of those of one cell: a task with a model, an agent and variables.

A rollout ends in one of three ways. It is graded, and has a score. It failed: that counts in rates, and is left out of mean scores.
Or it counts nowhere: it was lost or cancelled, runs, waits, or has not begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from helpers.benchmarks import statistics, usage
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.usage import Total
from helpers.jobs.summary import Result, Summary
from helpers.lib import values
from helpers.runs.metadata import FAILED

GRADED = ("scored", "timed_out")  # with a score; without one they are FAILED
NOT_BEGUN = "not_begun"
FLAGS = ("any_medal", "above_median")  # what only a leaderboard can tell
RATES = (*FLAGS, "success")
KS = (1, 2, 3, 5, 10, 25, 50, 100)
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Outcome(Result):
    """One rollout that was asked for. row: of the table of results; empty while there is none."""

    task: str
    model: str | None
    agent: str | None
    variables: Pairs
    seed: int | None
    row: dict[str, Any]

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Outcome:
        """From what was asked: run_id, task, model, agent, variables (a dict or pairs), seed, and row (None: not begun)."""
        row = asked.get("row") or {}
        task, model, agent = (asked.get(key) or row.get(key) for key in ("task", "model", "agent"))
        state = str(row.get("state") or "not known") if row else NOT_BEGUN
        return cls(
            str(asked["run_id"]),
            tuple(str(one) for one in (task, agent, model) if one),
            state,
            str(row.get("reason") or ""),
            values.number(row.get("score")) if state in GRADED else None,
            values.text(row.get("metric")),
            values.flag(row.get("is_lower_better")),
            str(task),
            model and str(model),
            agent and str(agent),
            pairs(asked.get("variables")),
            asked.get("seed"),
            row,
        )

    @property
    def is_graded(self) -> bool:
        return self.score is not None

    @property
    def is_failed(self) -> bool:
        return not self.is_graded and self.state in FAILED

    @property
    def counts(self) -> bool:
        return self.is_graded or self.is_failed

    def flag(self, name: str) -> bool | None:
        """Whether it won what a rate counts. None: it counts nowhere, or nobody knows."""
        if self.is_failed:
            return False
        if not self.is_graded:
            return None
        if name != "success":
            return values.flag(self.row.get(name))
        own = values.flag(self.row.get("success"))  # what a task of ours says of it
        return self.row.get("valid_submission") is not False if own is None else own


def pairs(variables: Any) -> Pairs:
    """Variables as pairs, by name."""
    items = variables.items() if isinstance(variables, Mapping) else variables or ()
    return tuple(sorted((str(name), str(value)) for name, value in items))


def leaderboards(outcomes: Iterable[Outcome]) -> dict[str, frozenset[str]]:
    """Which of FLAGS each task's leaderboard tells. Where it tells none, a failure is none of a medal either."""
    found: dict[str, frozenset[str]] = {}
    for one in outcomes:
        told = {name for name in FLAGS if one.is_graded and one.flag(name) is not None}
        found[one.task] = found.get(one.task, frozenset()) | told
    return found


@dataclass(frozen=True)
class Cell(Summary):
    """The rollouts of one task with one model, agent and variables. setting: those of the variables that differ in the round.

    flags: what the task's leaderboard tells, of FLAGS.
    """

    results: list[Outcome]
    setting: Pairs = ()
    flags: frozenset[str] = frozenset()

    @property
    def task(self) -> str:
        return self.results[0].task

    @property
    def model(self) -> str | None:
        return self.results[0].model

    @property
    def agent(self) -> str | None:
        return self.results[0].agent

    @property
    def variables(self) -> Pairs:
        return self.results[0].variables

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [one.row for one in self.results]

    @cached_property
    def states(self) -> dict[str, int]:
        return dict(Counter(one.state for one in self.results))

    @cached_property
    def graded(self) -> int:
        return sum(one.is_graded for one in self.results)

    @cached_property
    def failed(self) -> int:
        return sum(one.is_failed for one in self.results)

    @cached_property
    def estimate(self) -> Estimate:
        """The mean of the scores; none where they are of several metrics."""
        return Estimate(None, self.graded) if self.mixed else statistics.mean(self.scores)

    @property
    def mean(self) -> float | None:
        return self.estimate.value

    @cached_property
    def at_limit(self) -> int:
        """How many of the graded ones were still working when their time was up."""
        return sum(one.is_graded and one.row.get("time_limit_reached") is True for one in self.results)

    def tally(self, name: str) -> tuple[int, int]:
        """How many won it, of how many that count and of which it is known."""
        if name in FLAGS and name not in self.flags:
            return 0, 0
        told = [won for one in self.results if (won := one.flag(name)) is not None]
        return sum(told), len(told)

    @cached_property
    def rates(self) -> dict[str, Estimate]:
        return {name: statistics.rate(*self.tally(name)) for name in RATES}

    def pass_at(self, name: str) -> dict[int, float]:
        """pass@k by k, for the ks of KS that so many rollouts allow."""
        won, n = self.tally(name)
        found = ((k, statistics.pass_at(k, n, won)) for k in KS)
        return {k: chance for k, chance in found if chance is not None}

    @cached_property
    def used(self) -> dict[str, Total]:
        return usage.totals(self.rows)

    def reported(self, kind: str) -> dict[str, Estimate]:
        """The means of what graded rollouts' reports tell besides the score. kind: custom_metrics, standard_metrics."""
        found: dict[str, list[float]] = {}
        for one in self.results:
            if one.is_graded:
                for name, value in values.section(one.row, kind).items():
                    if (number := values.number(value)) is not None:
                        found.setdefault(str(name), []).append(number)
        return {name: statistics.mean(some) for name, some in sorted(found.items())}

    def data(self) -> dict[str, Any]:
        """For programs: what a workflow's summary tells, and more."""
        more = self.estimate.data()
        return super().data() | {
            "task": self.task,
            "model": self.model,
            "agent": self.agent,
            "variables": dict(self.variables),
            "setting": dict(self.setting),
            "graded": self.graded,
            "failed": self.failed,
            "graded_at_time_limit": self.at_limit,
            "metric": self.metric,
            "is_lower_better": self.lower,
            **{key: more[key] for key in ("standard_error", "low", "high")},
            "rates": {name: one.data() for name, one in self.rates.items()},
            "pass_at": {name: _keyed(self.pass_at(name)) for name in RATES},
            **used_data(self.rows, self.graded, self.used),
            **{
                kind: {name: one.data() for name, one in self.reported(kind).items()}
                for kind in ("custom_metrics", "standard_metrics")
            },
        }


def _keyed(found: dict[int, float]) -> dict[str, float]:
    return {str(k): value for k, value in found.items()}


def used_data(rows: list[dict[str, Any]], graded: int, used: dict[str, Total]) -> dict[str, Any]:
    """What some rollouts took, for programs."""
    return {
        "attempts": sum(values.count(row.get("attempts")) or 0 for row in rows),
        "used": {column: one.data() for column, one in used.items()},
        "gpu_hours_per_graded": usage.each(used["gpu_hours"], graded),
        "hours_are_estimates": usage.is_estimate(rows),
    }
