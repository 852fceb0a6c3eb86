"""A comparison of two rounds written down for people."""

from __future__ import annotations

from helpers.benchmarks import figures, statistics
from helpers.benchmarks.compare import Alone, Compared, Comparison, Differing, Matched
from helpers.benchmarks.figures import table
from helpers.benchmarks.report import measure
from helpers.benchmarks.summary import Group

MOST_VALUES = 3  # of a field that differs
WORDS = {"task", "B is"}


def markdown(one: Compared) -> str:
    """A comparison as markdown: first what B differs by, then each task, then what else differs and what isn't compared."""
    parts = [
        [f"# {figures.cell(one.b)} against {figures.cell(one.a)}: {one.of.replace('_', ' ')}"],
        [f"A: {figures.cell(one.a)}", "", f"B: {figures.cell(one.b)}"],
    ]
    for each in one.matched:
        parts += _matched(each, one)
    if not one.matched:
        parts.append(["Nothing can be compared."])
    if one.alone:
        parts += [["## Without a partner"], _alone(one.alone)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _matched(each: Matched, whole: Compared) -> list[list[str]]:
    parts = [[f"## {figures.cell(each.label)}"]]
    counts = (f"{side}: {one.graded} graded, {one.failed} failed of {one.asked}" for side, one in _sides(each))
    parts.append([f"Rollouts: {'; '.join(counts)}."])
    for one in each.comparisons:
        parts += [[sentence(one, whole)], _lines(one)]
    if not each.comparisons:
        parts.append(["No task can be compared."])
    if each.differing:
        parts += [["What else differs:"], [_differs(one) for one in each.differing]]
    if each.alone:
        parts += [["Tasks that are not compared:"], _alone(each.alone)]
    return parts


def _sides(each: Matched) -> tuple[tuple[str, Group], tuple[str, Group]]:
    return (("A", each.a), ("B", each.b))


def sentence(one: Comparison, whole: Compared) -> str:
    """What a comparison came to."""
    name = measure(one.metric, one.lower) if one.of == "score" else one.of.replace("_", " ")
    found, count = one.difference, len(one.lines)
    head = f"**{name}**, {count} {'task' if count == 1 else 'tasks'}:"
    if found is None:
        return f"{head} their metrics are not known, so there is no mean of their differences."
    value = found.estimate
    told = f"B - A = {figures.signed(value.value, value.error)}, B is {one.verdict(value.value)} on average"
    if found.p is None:
        return f"{head} {told}. One task alone has no interval, and no test."
    way = "exact" if found.exact else f"{statistics.RESAMPLES:,} resamples"
    corrected = f", {figures.chance(one.adjusted)} after Holm's correction for {whole.tests}" if whole.tests > 1 else ""
    interval = f"{figures.interval(value)}{', which holds 0' if one.holds_zero else ''}"
    least = f"{count} tasks can't reach less than {figures.chance(found.least)}"
    return f"{head} {told} (95% interval {interval}; sign-flip test, {way}: p {_is(found.p)}{corrected}; {least})."


def _is(p: float | None) -> str:
    text = figures.chance(p)
    return text if text.startswith("<") else f"= {text}"


def _lines(one: Comparison) -> list[str]:
    shown = figures.mean if one.of == "score" else lambda rate: figures.percent(rate.value)
    rows = [
        (
            figures.cell(line.task),
            *(told for side in (line.a, line.b) for told in (shown(side), str(side.n))),
            figures.signed(line.difference, line.error if one.of == "score" else None),
            one.verdict(line.difference),
        )
        for line in one.lines
    ]
    return table(("task", "A", "n", "B", "n", "B - A", "B is"), rows, WORDS)


def _differs(one: Differing) -> str:
    sides = (", ".join(map(figures.cell, side[:MOST_VALUES])) or "not known" for side in (one.a, one.b))
    more = max(len(one.a), len(one.b)) > MOST_VALUES
    shown = "" if more else f" ({' → '.join(sides)})"
    return f"- {one.field} on {one.tasks} {'task' if one.tasks == 1 else 'tasks'}{shown}"


def _alone(alone: tuple[Alone, ...]) -> list[str]:
    return [f"- {figures.cell(one.what)}: {one.reason}" for one in alone]
