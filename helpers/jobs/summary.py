"""Several rollouts in one sentence: how many were scored, their mean, their spread, the best. Runs where a person types.

helpers/benchmarks/outcomes.py makes of it what a benchmark tells of a cell: rates and intervals too, for which scipy is needed.
"""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.lib import values
from helpers.runs import metadata
from helpers.runs.metadata import Run

SHOWN = 5  # of those that weren't scored


@dataclass(frozen=True)
class Result:
    """One rollout. lower: whether less is better, None where that isn't known."""

    name: str
    subject: tuple[str, ...]
    state: str
    reason: str
    score: float | None
    metric: str | None
    lower: bool | None

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Result:
        """From a row of the export."""
        subject = tuple(str(row[key]) for key in ("task", "agent", "model") if row[key])
        told = (row["state"], row["reason"] or "", row["score"], row["metric"], row["is_lower_better"])
        return cls(row["run_directory"].rpartition("/")[2], subject, *told)

    @classmethod
    def of_run(cls, run: Run) -> Result:
        """From a run's folder: no accounting is asked."""
        told = (values.text(run.metadata.get(key)) for key in ("competition", "agent", "model"))
        score = metadata.score_of(run.report) if run.state == "scored" else None
        metric, lower = values.text(run.report.get("metric")), values.flag(run.report.get("is_lower_better"))
        return cls(run.directory.name, tuple(filter(None, told)), run.state, run.reason, score, metric, lower)


@dataclass(frozen=True)
class Summary:
    """All rollouts of one agent with one model on one task.

    deviation: the standard deviation of the sample, sqrt(sum((x - mean)^2) / (n - 1)); None for fewer than two scores.
    """

    results: list[Result]

    @property
    def subject(self) -> str:
        return " / ".join(self.results[0].subject)

    @property
    def scored(self) -> list[Result]:
        return [one for one in self.results if one.score is not None]

    @property
    def scores(self) -> list[float]:
        return [float(one.score) for one in self.results if one.score is not None]

    @property
    def metrics(self) -> list[str]:
        """The metrics that their reports name. Scores of several have no mean, no spread and no best."""
        return sorted({one.metric for one in self.scored if one.metric})

    @property
    def mixed(self) -> bool:
        return len(self.metrics) > 1

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores and not self.mixed else None

    @property
    def deviation(self) -> float | None:
        with contextlib.suppress(OverflowError):
            return statistics.stdev(self.scores) if len(self.scores) > 1 and not self.mixed else None
        return None

    @property
    def lower(self) -> bool | None:
        """The direction, where all that were scored agree on it."""
        told = {one.lower for one in self.scored}
        return told.pop() if len(told) == 1 else None

    @property
    def metric(self) -> str | None:
        told = {one.metric for one in self.scored}
        return told.pop() if len(told) == 1 else None

    @property
    def best(self) -> Result | None:
        """The best of them; None where it isn't known whether more or less is better."""
        if self.lower is None or not self.scored or self.mixed:
            return None
        return (min if self.lower else max)(self.scored, key=lambda one: float(one.score or 0))

    def data(self) -> dict[str, Any]:
        """For programs."""
        best = self.best
        return {
            "subject": self.subject,
            "runs": len(self.results),
            "scored": len(self.scored),
            "mean": self.mean,
            "standard_deviation": self.deviation,
            "lowest": None if self.mixed else min(self.scores, default=None),
            "highest": None if self.mixed else max(self.scores, default=None),
            "best": best and best.score,
            "best_run": best and best.name,
            "states": dict(Counter(one.state for one in self.results)),
        }

    def lines(self) -> list[str]:
        """One sentence on the scores, and one on each rollout that has none, or on the first of them."""
        told = [f"  {one.name}: {one.state}: {one.reason}" for one in self.results if one.score is None]
        more = len(told) - SHOWN
        return [self.sentence(), *told[:SHOWN], *([f"  … and {more} more without a score"] if more > 0 else [])]

    def sentence(self) -> str:
        """How many were scored, and what the scores are together."""
        others = Counter(one.state for one in self.results if one.score is None)
        without = f" ({', '.join(f'{count} {state}' for state, count in others.most_common())})" if others else ""
        parts = [f"{self.subject}: {len(self.scored)} of {len(self.results)} rollouts scored{without}"]
        if self.mean is not None:
            parts += [f"mean {self.mean:.6g}", self._spread(), self._best()]
        elif self.mixed:
            parts.append(f"no mean, for they are of several metrics: {', '.join(self.metrics)}")
        return ", ".join(parts)

    def _spread(self) -> str:
        if len(self.scores) == 1:
            return "no spread (one score alone has none)"
        told = "not known" if self.deviation is None else f"{self.deviation:.3g}"
        return f"standard deviation {told} (of the sample, n-1)"

    def _best(self) -> str:
        metric = self.metric or "the competition's metric"
        if (best := self.best) is None:
            told = f"lowest {min(self.scores):.6g}, highest {max(self.scores):.6g}"
            return f"{told} ({metric}; whether higher or lower is better is not known)"
        better = "lower" if self.lower else "higher"
        return f"best {best.score:.6g} by {best.name} ({metric}, {better} is better)"


def busy(row: Mapping[str, Any]) -> str:
    """What a row, or a sum of rows, tells of models' endpoints that were busy; empty where they weren't."""
    told = (("rate_limited", "429"), ("server_errors", "5xx"))
    parts = [f"{int(count):,} after {status}" for column, status in told if (count := row.get(column))]
    return f"asked again later: {' and '.join(parts)}" if parts else ""


def summaries(results: Iterable[Result]) -> list[Summary]:
    """One for each agent with a model on a task that has several rollouts."""
    apart: dict[tuple[str, ...], list[Result]] = {}
    for one in results:
        apart.setdefault(one.subject, []).append(one)
    return [Summary(its) for its in apart.values() if len(its) > 1]
