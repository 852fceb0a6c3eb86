"""Which agent with which model is better, by how much, how sure that is, and what it cost: in sentences.

The numbers are compare's: of each task the mean over its rollouts, pairs are tasks. So few tasks that no chance could be told from them
are dealt out anew by their rollouts instead (regression): that is about these tasks, not about tasks like these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.benchmarks import compare, figures, regression, report, statistics, usage
from helpers.benchmarks.compare import Comparison
from helpers.benchmarks.outcomes import RATES
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.summary import Group, Round
from helpers.lib import text

SURE = 0.05  # chance alone, after the correction for so many comparisons
FEW = 6  # tasks: of five pairs no p is below 0.06
MOST = 12  # groups that are compared


@dataclass(frozen=True)
class Against:
    """The best one beside another. p: after Holm's correction for as many comparisons; these: whether it is about these tasks alone."""

    other: Group
    compared: Comparison
    p: float | None
    these: bool

    @property
    def is_sure(self) -> bool:
        return self.p is not None and self.p <= SURE and (self.these or not self.compared.holds_zero)


@dataclass(frozen=True)
class Verdict:
    """claim: the sentence; cost: what the two took; others: a sentence for each of the others; of: what was compared, for a person."""

    claim: str
    cost: str
    others: tuple[str, ...] = ()
    of: str = ""
    best: int | None = None
    is_sure: bool = False


def name_of(group: Group) -> str:
    """Agent and model; replay says what it is."""
    plain = any(row.get("language_model") is False for row in group.rows)
    return text.clean(group.label) + (" (not a language model)" if plain and group.model else "")


def plain(told: str) -> str:
    """A name without what only markdown needs."""
    return told.replace("\\", "")


def verdict(one: Round) -> Verdict:
    """What a round comes to."""
    if not one.outcomes:
        return Verdict("Nothing was asked for, so there is nothing to tell.", "")
    groups = [group for group in one.groups if group.graded or group.failed]
    if not groups:
        return Verdict(
            f"No run came to a result: nothing can be said of any model. {report.sentence(one)}", _cost(one.groups)
        )
    if len(groups) == 1:
        return _alone(groups[0])
    of = _measure(groups)
    if of is None:
        claim = "There is no measure that all of these have in common, so none can be called the better one"
        return Verdict(f"{claim}: scores of different metrics are never averaged.", _cost(groups))
    return _best(one, groups, of)


def _alone(group: Group) -> Verdict:
    told = [f"{plain(report.measure(one.metric, one.lower))} {_value(one.estimate, 'score')}" for one in group.measures]
    success = figures.rate(group.rates["success"], "tasks" if len(group.cells) > 1 else "task")
    scores = f", mean score {'; '.join(told)}" if told else ""
    claim = f"{name_of(group)}: {group.graded} of {group.asked} runs graded, success {success}{scores}."
    return Verdict(f"{claim} There is no other model or agent here to compare it with.", _cost([group]), best=0)


def _measure(groups: Sequence[Group]) -> str | None:
    """What can be compared: the score, where it is of one metric; else the first rate that tells any two apart, or success."""
    kinds = {(one.metric, one.lower) for group in groups for one in group.measures}
    if len(kinds) == 1 and not any(group.mixed for group in groups) and all(group.measures for group in groups):
        metric, lower = next(iter(kinds))
        tasks = {task for group in groups for one in group.measures for task in one.tasks}
        if lower is not None and (metric is not None or len(tasks) == 1):
            return "score"
    told = {name: [group.rates[name].value for group in groups] for name in RATES}
    known = [name for name in RATES if None not in told[name]]
    return next((name for name in known if len(set(told[name])) > 1), "success" if "success" in known else None)


def _estimate(group: Group, of: str) -> Estimate:
    return group.measures[0].estimate if of == "score" else group.rates[of]


def _best(one: Round, groups: list[Group], of: str) -> Verdict:
    lower = bool(groups[0].measures[0].lower) if of == "score" else False

    def worth(group: Group) -> float:
        value = _estimate(group, of).value
        return float("inf") if value is None else value if lower else -value

    first, *others = sorted(groups, key=worth)
    told = [against for other in others[:MOST] if (against := _against(one, first, other, of)) is not None]
    corrected = iter(statistics.holm([each.p for each in told if each.p is not None]))
    told = [
        each if each.p is None else Against(each.other, each.compared, next(corrected), each.these) for each in told
    ]
    what = _what(groups[0].measures[0].metric, lower) if of == "score" else f"rate of {report.RATES[of]}"
    place = one.groups.index(first)
    if not told:
        claim = f"No task with a result is common to {name_of(first)} and any other: nothing can be compared."
        return Verdict(claim, _cost([first, *others]), of=what, best=place)
    if told[0].compared.difference is None or not any(line.difference for line in told[0].compared.lines):
        claim = f"{name_of(first)} and {name_of(told[0].other)} came to the same {what} on every task."
    else:
        claim = _claim(first, told, of, what)
    rest = tuple(_beside(each, of) for each in told[1:])
    return Verdict(claim, _cost([first, *(each.other for each in told)]), rest, what, place, told[0].is_sure)


def _against(one: Round, first: Group, other: Group, of: str) -> Against | None:
    sides = [
        Round(one.name, group.label, [run for cell in group.cells for run in cell.results], group.cells, [group])
        for group in (other, first)
    ]
    matched = compare.compare(*sides, of=of).matched
    found = matched[0].comparisons if matched else ()
    if len(found) != 1 or found[0].difference is None:
        return None
    compared = found[0]
    if len(compared.lines) >= FEW and compared.difference:
        return Against(other, compared, compared.difference.p, False)
    tasks = [line.task for line in compared.lines]
    return Against(other, compared, _dealt(other, first, tasks, of), True)


def _dealt(a: Group, b: Group, tasks: Sequence[str], of: str) -> float | None:
    """Two-sided: how often chance alone sets the two so far apart when it deals the rollouts of each task."""
    cells = [{cell.task: cell for cell in group.cells} for group in (a, b)]
    sides = [(regression.values_of(cells[0][task], of), regression.values_of(cells[1][task], of)) for task in tasks]
    ways = (regression.chance(sides)[0], regression.chance([(b, a) for a, b in sides])[0])
    return min(1.0, 2 * min(ways))


def _what(metric: str | None, lower: bool) -> str:
    """A score, in a sentence."""
    name = plain(report.measure(metric, None)) if metric else "the competition's score"
    return f"{name} ({'lower' if lower else 'higher'} is better)"


def _value(estimate: Estimate, of: str) -> str:
    if of == "score":
        told = f" (95% interval {figures.interval(estimate)})" if estimate.low is not None else ""
        return figures.like(estimate.value, estimate.error) + told
    return figures.percent(estimate.value)


def _claim(first: Group, told: list[Against], of: str, what: str) -> str:
    second = told[0]
    sides = f"{_mean(second.compared, 'b', of)} against {_mean(second.compared, 'a', of)}"
    tasks = len(second.compared.lines)
    these = f"{tasks} task{'' if tasks == 1 else 's'}"
    middle = f"{what} {sides} on {these}, {_difference(second, of)}"
    if second.is_sure:
        everyone = all(each.is_sure for each in told)
        whom = "every other one here" if everyone and len(told) > 1 else name_of(second.other)
        about = " That is about these tasks; so few can't speak for others." if second.these else ""
        if whom == name_of(second.other):
            return f"{name_of(first)} is better than {whom}: {middle}.{about}"
        return (
            f"{name_of(first)} is better than {whom}. Against {name_of(second.other)}, the next best: {middle}.{about}"
        )
    verb = "doesn't" if tasks == 1 else "don't"
    this = "This task" if tasks == 1 else f"These {tasks} tasks"
    return f"{this} {verb} tell {name_of(first)} and {name_of(second.other)} apart: {middle}; chance alone may do that."


def _mean(compared: Comparison, side: str, of: str) -> str:
    value = statistics.mean([float(getattr(line, side).value) for line in compared.lines]).value
    return figures.number(value) if of == "score" else figures.percent(value)


def _difference(one: Against, of: str) -> str:
    found = one.compared.difference.estimate if one.compared.difference else Estimate(None, 0)
    shown = _points if of != "score" else _plain(found.error)
    parts = [f"95% interval {shown(found.low)} to {shown(found.high)}"] if found.low is not None else []
    if one.p is not None:
        parts.append(f"p {'' if one.p < 0.001 else '= '}{figures.chance(one.p)}")
    return f"a difference of {shown(found.value)}" + (f" ({', '.join(parts)})" if parts else "")


def _plain(error: float | None) -> Callable[[float | None], str]:
    return lambda value: figures.signed(value, error)


def _points(value: float | None) -> str:
    return figures.NONE if value is None else f"{100 * value:+.0f} points"


def _beside(one: Against, of: str) -> str:
    tasks = len(one.compared.lines)
    sure = "beyond chance" if one.is_sure else "which chance alone may do"
    return f"Beside {name_of(one.other)}: {_difference(one, of)} on {tasks} task{'' if tasks == 1 else 's'}, {sure}."


def _cost(groups: Sequence[Group]) -> str:
    """What each took, those that know of none of it left out."""
    told = [f"{name_of(group)} took {what}" for group in groups[:2] if (what := _took(group))]
    return "; ".join(told) + "." if told else "What it cost isn't known."


def _took(group: Group) -> str:
    used: dict[str, Any] = group.used
    parts = []
    if used["usd"].sum is not None:
        parts.append(f"{figures.total(used['usd'], 2)} USD")
    if used["gpu_hours"].sum is not None:
        each = usage.each(used["gpu_hours"], group.graded)
        more = "" if each is None else f" ({each:.3g} a graded run)"
        parts.append(f"{figures.total(used['gpu_hours'], 2)} GPU-hours{more}")
    if used["tokens"].sum is not None:
        parts.append(f"{figures.total(used['tokens'])} tokens")
    return ", ".join(parts)
