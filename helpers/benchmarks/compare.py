"""Two rounds beside each other: what B does better or worse than A, task by task, and how far chance alone would go.

Pairs are tasks: of each the mean over its rollouts, for seeds don't pair what is sampled. Compared is what an agent with a model did in A
with what the same two did in B; where each round has one agent with one model alone, these, whatever they are called. Of several settings
of variables each goes with its like. What has no partner is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from helpers.benchmarks import statistics
from helpers.benchmarks.outcomes import RATES, Cell, leaderboards
from helpers.benchmarks.statistics import Difference, Estimate
from helpers.benchmarks.summary import Group, Round

OF = ("score", *RATES)  # what can be compared
FIELDS = ("config_hash", "image_digest", "git_commit", "data_fingerprint", "site")  # of a row: what else may differ


@dataclass(frozen=True)
class Line:
    """A task in both rounds: the mean of its rollouts, and of how many."""

    task: str
    a: Estimate
    b: Estimate

    @property
    def difference(self) -> float:
        return float(self.b.value or 0) - float(self.a.value or 0)

    @property
    def error(self) -> float | None:
        """The standard error of the difference, where both means have one."""
        return None if self.a.error is None or self.b.error is None else math.hypot(self.a.error, self.b.error)

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {"task": self.task, "a": self.a.data(), "b": self.b.data(), "difference": self.difference}


@dataclass(frozen=True)
class Comparison:
    """One test: of rates over all tasks, of scores over those of one metric. lower: whether less is better, None where nobody knows.

    adjusted: p after Holm's correction.
    """

    of: str
    metric: str | None
    lower: bool | None
    lines: tuple[Line, ...]
    difference: Difference | None  # None: of tasks whose metrics aren't known nothing is averaged
    adjusted: float | None = None

    @property
    def holds_zero(self) -> bool:
        """Whether the interval of the difference holds 0: then these tasks don't tell the two apart."""
        found = self.difference.estimate if self.difference else None
        return found is not None and found.low is not None and found.high is not None and found.low <= 0 <= found.high

    def verdict(self, value: float | None) -> str:
        """What a difference is for B."""
        if not value:
            return "" if value is None else "equal"
        if self.lower is None:
            return "higher" if value > 0 else "lower"
        return "better" if (value < 0) == self.lower else "worse"

    def data(self) -> dict[str, Any]:
        """For programs. least_p: what so few tasks can reach at best."""
        found = self.difference
        return {
            "metric": self.metric,
            "is_lower_better": self.lower,
            "tasks": [line.data() for line in self.lines],
            "difference": found and found.estimate.data(),
            "b_is": self.verdict(found.estimate.value if found else None) or None,
            "p": found and found.p,
            "exact": found and found.exact,
            "least_p": found and found.least,
            "p_holm": self.adjusted,
        }


@dataclass(frozen=True)
class Differing:
    """What else is not the same in A and B, on how many of the tasks that are compared."""

    field: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    tasks: int

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {"field": self.field, "a": list(self.a), "b": list(self.b), "tasks": self.tasks}


@dataclass(frozen=True)
class Alone:
    """What isn't compared, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Matched:
    """An agent with a model in A, and its partner in B."""

    a: Group
    b: Group
    comparisons: tuple[Comparison, ...]
    differing: tuple[Differing, ...]
    alone: tuple[Alone, ...]

    @property
    def label(self) -> str:
        return self.a.label if self.a.label == self.b.label else f"{self.a.label} → {self.b.label}"

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {
            **{
                side: {"agent": one.agent, "model": one.model, "setting": dict(one.setting)}
                | {"runs": one.asked, "graded": one.graded, "failed": one.failed}
                for side, one in (("a", self.a), ("b", self.b))
            },
            "comparisons": [one.data() for one in self.comparisons],
            "differing": [one.data() for one in self.differing],
            "alone": [{"task": one.what, "reason": one.reason} for one in self.alone],
        }


@dataclass(frozen=True)
class Compared:
    """Two rounds compared. of: what, one of OF; a, b: what they are called; alone: what has no partner."""

    of: str
    a: str
    b: str
    matched: tuple[Matched, ...]
    alone: tuple[Alone, ...]

    @cached_property
    def tests(self) -> int:
        """How many p-values Holm's correction holds together."""
        return sum(one.adjusted is not None for each in self.matched for one in each.comparisons)

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "of": self.of,
            "a": self.a,
            "b": self.b,
            "tests": self.tests,
            "matched": [one.data() for one in self.matched],
            "alone": [{"what": one.what, "reason": one.reason} for one in self.alone],
        }


def compare(a: Round, b: Round, of: str = "score") -> Compared:
    """Compare two rounds. of: `score`, or a rate: `any_medal`, `above_median`, `success`. Raises ValueError for another word."""
    if of not in OF:
        raise ValueError(f"{of!r} can't be compared: {', '.join(OF)}")
    boards = leaderboards(
        [*a.outcomes, *b.outcomes]
    )  # a task on which all failed in one round may have a score in the other
    first, second = ([_told(group, boards) for group in one.groups] for one in (a, b))
    together, alone = partners(first, second)
    found = [_matched(*pair, of) for pair in together]
    return Compared(of, a.label or "A", b.label or "B", tuple(_corrected(found)), tuple(alone))


def _told(group: Group, boards: dict[str, frozenset[str]]) -> Group:
    return replace(group, cells=[replace(cell, flags=boards[cell.task]) for cell in group.cells])


# ---- who goes with whom


def partners(first: Sequence[Group], second: Sequence[Group]) -> tuple[list[tuple[Group, Group]], list[Alone]]:
    """The groups that are compared, and those that have no partner."""
    if not first or not second:
        return [], [Alone(f"round {name}", "has no rollouts") for name, its in (("A", first), ("B", second)) if not its]
    theirs = ({_pair(group) for group in its} for its in (first, second))
    is_single = all(len(pairs) == 1 for pairs in theirs)
    found, left = [], list(second)
    alone = []
    for group in first:
        like = [other for other in second if is_single or _pair(other) == _pair(group)]
        mine = [other for other in first if is_single or _pair(other) == _pair(group)]
        if len(mine) > 1 or len(like) > 1:
            like = [other for other in like if _setting(group, mine, like) == _setting(other, mine, like)]
        if like and like[0] in left:
            found.append((group, like[0]))
            left.remove(like[0])
        else:
            alone.append(Alone(group.label, "is in A alone"))
    return found, alone + [Alone(group.label, "is in B alone") for group in left]


def _pair(group: Group) -> tuple[str | None, str | None]:
    return group.agent, group.model


def _setting(group: Group, *sides: list[Group]) -> tuple[frozenset[str | None], ...]:
    """The values of the variables that differ within one of two rounds, as a group has them on its tasks."""
    names = sorted({name for side in sides for one in side for name, _ in one.setting})
    return tuple(frozenset(dict(cell.variables).get(name) for cell in group.cells) for name in names)


# ---- one pair of them


def _matched(a: Group, b: Group, of: str) -> Matched:
    cells = [{cell.task: cell for cell in one.cells} for one in (a, b)]
    alone, both, lines = [], [], []
    for task in dict.fromkeys([*cells[0], *cells[1]]):
        pair = cells[0].get(task), cells[1].get(task)
        if reason := _unlike(*pair, of):
            alone.append(Alone(task, reason))
        elif pair[0] and pair[1]:
            both.append(pair)
            lines.append((Line(task, *(_value(cell, of) for cell in pair if cell)), *_measure(*pair, of)))
    return Matched(a, b, tuple(_comparisons(lines, of)), tuple(_differing(a, b, both)), tuple(alone))


def _value(cell: Cell, of: str) -> Estimate:
    return cell.estimate if of == "score" else cell.rates[of]


def _unlike(a: Cell | None, b: Cell | None, of: str) -> str:
    """Why a task can't be compared; empty where it can."""
    if a is None or b is None:
        return f"is in {'A' if a else 'B'} alone"
    metrics = [(set(cell.metrics), {one.lower for one in cell.scored if one.lower is not None}) for cell in (a, b)]
    for (mine, theirs), word in zip(zip(*metrics, strict=True), ("metric", "direction of its metric"), strict=True):
        if mine and theirs and mine != theirs or len(mine) > 1 or len(theirs) > 1:
            return f"the {word} is not the same"
    data = [_values(cell, "data_fingerprint") for cell in (a, b)]
    if all(data) and data[0] != data[1] or any(len(one) > 1 for one in data):
        return "the data are not the same"
    missing = [name for name, cell in (("A", a), ("B", b)) if _value(cell, of).value is None]
    return f"no {of.replace('_', ' ')} is known in {' and '.join(missing)}" if missing else ""


def _measure(a: Cell | None, b: Cell | None, of: str) -> tuple[str | None, bool | None]:
    """Metric and direction of a task, as either of the rounds knows them."""
    if of != "score":
        return None, False
    cells = [cell for cell in (a, b) if cell]
    metric = next((name for cell in cells for name in cell.metrics), None)
    return metric, next((one.lower for cell in cells for one in cell.scored if one.lower is not None), None)


def _values(cell: Cell, field: str) -> set[str]:
    """What the rows that count say of themselves."""
    return {str(one.row[field]) for one in cell.results if one.counts and one.row.get(field) is not None}


def _comparisons(lines: list[tuple[Line, str | None, bool | None]], of: str) -> list[Comparison]:
    apart: dict[tuple[str | None, bool | None], list[Line]] = {}
    for line, metric, lower in lines:
        apart.setdefault((metric, lower), []).append(line)
    found = []
    for (metric, lower), its in sorted(apart.items(), key=lambda item: str(item[0])):
        is_one = of != "score" or metric is not None or len(its) == 1
        paired = statistics.paired([line.difference for line in its]) if is_one else None
        found.append(Comparison(of, metric, lower, tuple(its), paired))
    return found


def _corrected(found: Sequence[Matched]) -> list[Matched]:
    """With the p-values of all tests corrected for there being so many."""
    ps = [one.difference.p for each in found for one in each.comparisons if one.difference]
    adjusted = iter(statistics.holm([p for p in ps if p is not None]))

    def one_more(one: Comparison) -> Comparison:
        has_p = one.difference is not None and one.difference.p is not None
        return replace(one, adjusted=next(adjusted)) if has_p else one

    return [replace(each, comparisons=tuple(map(one_more, each.comparisons))) for each in found]


def _differing(a: Group, b: Group, both: Sequence[tuple[Cell | None, Cell | None]]) -> list[Differing]:
    found = [
        Differing(name, (str(mine),), (str(theirs),), len(both))
        for name in ("agent", "model")
        if (mine := getattr(a, name)) != (theirs := getattr(b, name))
    ]
    for field in (*FIELDS, "variables"):
        sets = [
            tuple(_variables(cell) if field == "variables" else _values(cell, field) for cell in pair if cell)
            for pair in both
        ]
        unlike = [pair for pair in sets if pair[0] != pair[1]]
        if unlike:
            sides = (tuple(sorted(set().union(*(pair[side] for pair in unlike)))) for side in (0, 1))
            found.append(Differing(field, *sides, len(unlike)))
    return found


def _variables(cell: Cell) -> set[str]:
    return {f"{name}={value}" for name, value in cell.variables}
