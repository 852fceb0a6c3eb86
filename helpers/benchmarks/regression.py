"""Whether a round is worse than an earlier one beyond chance: what a benchmark that runs every night has to know.

compare.py asks how two rounds would differ on tasks like these, so its pairs are tasks, and three tasks can never be enough. Every night
the tasks are the same, so here rollouts are what chance draws: of each task those of both rounds are dealt out anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from helpers.benchmarks import figures, statistics
from helpers.benchmarks.compare import Comparison, Line, Matched, compare
from helpers.benchmarks.outcomes import Cell
from helpers.benchmarks.report import measure
from helpers.benchmarks.summary import Round

LEVEL = 0.01  # of all tests of two rounds together: one false alarm in a hundred nights
WATCHED = ("score", "success")  # what failed has no score
MOST_EXACT = 20_000  # ways to deal that are all tried
RESAMPLES = 20_000
Sides = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Shift:
    """One test: how often chance alone would make B so much worse. least: the smallest p that so few rollouts can reach.

    fallen: the tasks on which B is worse, the worst first. adjusted: p after Holm's correction for so many tests.
    """

    label: str
    what: str
    rates: bool
    fallen: tuple[Line, ...]
    p: float
    least: float
    adjusted: float = 1.0
    tests: int = 1

    @property
    def reach(self) -> float:
        """The least p after the correction: above the level the test can tell nothing."""
        return min(1.0, self.least * self.tests)

    @property
    def is_worse(self) -> bool:
        return self.adjusted <= LEVEL

    def data(self) -> dict[str, Any]:
        """For programs."""
        told = {"of": self.label, "what": self.what, "is_worse": self.is_worse, "p": self.p, "p_holm": self.adjusted}
        return told | {
            "least_p": self.least,
            "least_p_holm": self.reach,
            "fallen": [line.data() for line in self.fallen],
        }


def shifts(a: Round, b: Round) -> list[Shift]:
    """A test of each metric and of the rate of success, for each agent with a model that both rounds have.

    A metric of which nobody knows whether less is better is left out.
    """
    found = [
        shift
        for what in WATCHED
        for matched in compare(a, b, of=what).matched
        for comparison in matched.comparisons
        if comparison.lower is not None
        for shift in _tests(matched, comparison)
    ]
    adjusted = statistics.holm([one.p for one in found])
    return [replace(one, adjusted=p, tests=len(found)) for one, p in zip(found, adjusted, strict=True)]


def _tests(matched: Matched, one: Comparison) -> list[Shift]:
    """One over all its tasks; one a task where their metrics aren't known to be the same."""
    cells = [{cell.task: cell for cell in group.cells} for group in (matched.a, matched.b)]
    what = measure(one.metric, one.lower) if one.of == "score" else one.of
    parts = [one.lines] if one.difference else [(line,) for line in one.lines]
    found = []
    for lines in parts:
        sides = [tuple(values_of(side[line.task], one.of) for side in cells) for line in lines]
        p, least = chance([(a, b) if one.lower else (_negative(a), _negative(b)) for a, b in sides])
        moved = [line for line in lines if abs(line.difference) > figures.NOISE * abs(float(line.a.value or 0))]
        fallen = [line for line in moved if one.verdict(line.difference) == "worse"]
        fallen.sort(key=lambda line: -abs(line.difference))
        found.append(Shift(matched.label, what, one.of != "score", tuple(fallen), p, least))
    return found


def values_of(cell: Cell, of: str) -> list[float]:
    """What the rollouts of a cell came to: their scores, or for a rate 1 of each that won it and 0 of each that didn't."""
    if of == "score":
        return cell.scores
    return [float(won) for one in cell.results if (won := one.flag(of)) is not None]


def _negative(values: Sequence[float]) -> list[float]:
    return [-value for value in values]


def chance(tasks: Sequence[Sides]) -> tuple[float, float]:
    """How often the mean over tasks of B's mean less A's is as large as found, where chance deals; and how often at least.

    tasks: of each the values of A and of B, at least one each. One-sided and stratified by task: exact up to 20,000 ways, else seeded
    resamples, with 1 added to both counts (Ernst 2004, https://doi.org/10.1214/088342304000000396; Phipson & Smyth 2010,
    https://doi.org/10.2202/1544-6115.1585).
    """
    import numpy as np

    least = max(1 / _ways(tasks), 1 / (RESAMPLES + 1))
    noise = 1e-9 * max(abs(value) for side in tasks for values in side for value in values)
    tasks = [(a, b) for a, b in tasks if len({*a, *b}) > 1]  # where all are equal every way is
    found = math.fsum(np.mean(b) - np.mean(a) for a, b in tasks)
    if _ways(tasks) <= MOST_EXACT:
        dealt = np.zeros(1)
        for a, b in tasks:
            dealt = np.add.outer(dealt, _all_deals(a, b)).ravel()
        return float(np.mean(dealt >= found - noise)), least
    random = np.random.default_rng(statistics.SEED)
    drawn = np.zeros(RESAMPLES)
    for a, b in tasks:
        pool = np.asarray([*a, *b], dtype=float)
        mixed = random.permuted(np.broadcast_to(pool, (RESAMPLES, len(pool))), axis=1)
        drawn += mixed[:, len(a) :].mean(axis=1) - mixed[:, : len(a)].mean(axis=1)
    return float(1 + np.sum(drawn >= found - noise)) / (RESAMPLES + 1), least


def _ways(tasks: Sequence[Sides]) -> int:
    return math.prod(math.comb(len(a) + len(b), len(b)) for a, b in tasks)


def _all_deals(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """B's mean less A's, for every way to deal their values to the two."""
    pool = [*a, *b]
    whole = math.fsum(pool)
    sums = (math.fsum(pool[at] for at in chosen) for chosen in combinations(range(len(pool)), len(b)))
    return [one / len(b) - (whole - one) / len(a) for one in sums]


def markdown(found: Sequence[Shift]) -> str:
    """What the tests came to, for people."""
    head = (
        f"Each task's rollouts of both rounds dealt out anew: worse where chance alone does it in at most {LEVEL:.0%} of cases, of all "
        "tests together (Holm)."
    )
    lines = [f"- {_told(one)}" for one in found] or ["- Nothing can be compared, so nothing is known."]
    return "\n".join(["", "## Is B worse?", "", head, "", *lines, ""])


def _told(one: Shift) -> str:
    name = f"{figures.cell(one.label)}, {one.what}"
    p = figures.chance(one.adjusted)
    if one.is_worse:
        return f"{name}: **worse beyond chance** (p {p}): {'; '.join(_where(line, one.rates) for line in one.fallen)}."
    if one.reach > LEVEL:
        return f"{name}: not known, as so few rollouts can't reach less than p = {figures.chance(one.reach)}: ask for more."
    return f"{name}: no worse than chance makes it (p {p})."


def _where(line: Line, rates: bool) -> str:
    shown: Callable[[float | None], str] = figures.percent if rates else figures.number
    return f"{figures.cell(line.task)} {shown(line.a.value)} → {shown(line.b.value)}"
