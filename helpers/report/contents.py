"""What the page's charts and tables are drawn from, as plain data. Each number is the summary's or the table of results' own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from helpers.benchmarks import report, usage
from helpers.benchmarks.outcomes import NOT_BEGUN, RATES, Cell, Outcome
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.summary import Group, Round
from helpers.lib import text
from helpers.report.gathered import Gathered
from helpers.report.verdict import name_of, plain
from helpers.runs import load
from helpers.runs.columns import COLUMNS

BINS = 240  # of a server's strip
MOST_SERVERS = 64
MOST_REASONS = 60
NEW = ("usd", "tokens")  # what the summary adds up besides the columns


def groups_of(one: Round) -> list[dict[str, Any]]:
    """The agents with their models, in the summary's order."""
    return [
        {
            "label": _line(name_of(group)),
            "runs": group.asked,
            "graded": group.graded,
            "failed": group.failed,
            "states": group.states,
        }
        for group in one.groups
    ]


def panels_of(one: Round) -> list[dict[str, Any]]:
    """A panel for each metric, one for each rate that is known of some cell; of each the tasks, and what each group did over all.

    A cell is [group, value, low, high, n]; a score's has its runs' scores besides.
    """
    at = {id(cell): place for place, group in enumerate(one.groups) for cell in group.cells}
    apart: dict[tuple[str | None, bool | None], list[Cell]] = {}
    for cell in one.cells:
        if cell.graded and not cell.mixed:
            apart.setdefault((cell.metric, cell.lower), []).append(cell)
    found = []
    for (metric, lower), cells in sorted(apart.items(), key=lambda item: (-len(item[1]), str(item[0]))):
        over = [
            (place, measure.estimate)
            for place, group in enumerate(one.groups)
            for measure in group.measures
            if (measure.metric, measure.lower) == (metric, lower)
        ]
        told = [(cell.task, at[id(cell)], cell.estimate, cell.scores) for cell in cells]
        found.append(_panel(_line(_measure(metric, lower)), "score", told, over))
    for name in RATES:
        rated = [
            (cell.task, at[id(cell)], rate, []) for cell in one.cells if (rate := cell.rates[name]).value is not None
        ]
        over = [(place, group.rates[name]) for place, group in enumerate(one.groups)]
        if rated:
            found.append(_panel(f"rate of {report.RATES[name]}", "rate", rated, over))
    return found


def _panel(
    title: str,
    kind: str,
    told: Iterable[tuple[str, int, Estimate, list[float]]],
    over: Iterable[tuple[int, Estimate]],
) -> dict[str, Any]:
    tasks: dict[str, list[Any]] = {}
    for task, group, estimate, scores in told:
        tasks.setdefault(task, []).append([group, *_interval(estimate), scores])
    whole = [[group, *_interval(estimate), []] for group, estimate in over if estimate.value is not None]
    return {
        "title": title,
        "kind": kind,
        "tasks": [{"task": _line(task), "cells": cells} for task, cells in tasks.items()],
        "over": whole if len(tasks) > 1 else [],
    }


def _interval(one: Estimate) -> list[Any]:
    return [one.value, one.low, one.high, one.n]


def table_of(outcomes: Sequence[Outcome], places: dict[int, int]) -> dict[str, Any]:
    """All runs by columns. A column is {"values", "at"} where its values repeat, else {"all"}.

    places: which group an outcome is of, by its id().
    """
    whole: dict[str, list[Any]] = {"run": [_line(one.name) for one in outcomes]}
    whole["group"] = [places[id(one)] for one in outcomes]
    for name in COLUMNS:
        whole[name] = [_shown(one.row.get(name)) for one in outcomes]
    asked = {"task": [one.task for one in outcomes], "seed": [one.seed for one in outcomes]}
    asked |= {"model": [one.model for one in outcomes], "agent": [one.agent for one in outcomes]}
    for name, told in asked.items():
        whole[name] = [_shown(other if one is None else one) for one, other in zip(whole[name], told, strict=True)]
    whole["state"] = [one.state for one in outcomes]
    for name in NEW:
        whole[name] = [usage.used(one.row, name) for one in outcomes]
    return {name: _packed(its) for name, its in whole.items()}


def _packed(its: list[Any]) -> dict[str, Any]:
    if any(isinstance(one, (list, dict)) for one in its):
        return {"all": its}
    known = {(type(one), one): None for one in its}
    if len(known) > max(1, len(its) // 3):
        return {"all": its}
    order = {key: place for place, key in enumerate(known)}
    return {"values": [value for _, value in known], "at": [order[type(one), one] for one in its]}


def _shown(value: Any) -> Any:
    return text.clean(value) if isinstance(value, str) else value


def _measure(metric: str | None, lower: bool | None) -> str:
    return plain(report.measure(metric, lower))


def _line(told: str) -> str:
    return " ".join(text.clean(told).split())


def reasons_of(outcomes: Iterable[Outcome]) -> tuple[list[dict[str, Any]], int]:
    """Why runs have no score, those of most runs first, and how many reasons more there are. first: one such run's place."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    for place, one in enumerate(outcomes):
        if one.is_graded or one.state in (*report.OPEN, NOT_BEGUN):
            continue
        key = one.state, _line(one.reason)
        counts[key] += 1
        first.setdefault(key, place)
    told = [
        {"state": state, "reason": reason, "runs": count, "first": first[state, reason]}
        for (state, reason), count in counts.most_common(MOST_REASONS)
    ]
    return told, max(0, len(counts) - MOST_REASONS)


def servers_of(gathered: Gathered) -> tuple[list[dict[str, Any]], int]:
    """The servers' strips, and how many more there are. bins: seconds busy and idle of each part of a server's time, as it was seen."""
    found = []
    known = sorted(gathered.servers.items(), key=lambda item: (item[1].started or 0.0, item[0]))
    for job, seen in known[:MOST_SERVERS]:
        if seen.started is None or seen.ended is None:
            continue
        parts = load.strip(seen.path, seen.started, seen.ended, BINS)
        found.append(
            {
                "job": job,
                "started": seen.started,
                "ended": seen.ended,
                "sentence": seen.served.sentence() or f"model {seen.served.model}: nothing was seen of its GPUs",
                **seen.served.data(),
                "bins": [[round(part.busy_seconds, 1), round(part.idle_seconds, 1)] for part in parts],
            }
        )
    return found, max(0, len(known) - MOST_SERVERS)


def cells_of(one: Round) -> list[dict[str, Any]]:
    """The cells as their table has them."""
    at = {id(cell): place for place, group in enumerate(one.groups) for cell in group.cells}
    return [_cell_of(cell, at[id(cell)]) for cell in one.cells]


def _cell_of(of: Cell, group: int) -> dict[str, Any]:
    return {
        "task": _line(of.task),
        "group": group,
        "asked": len(of.results),
        "graded": of.graded,
        "failed": of.failed,
        "metric": _line(_measure(of.metric, of.lower)) if of.graded else "",
        "value": None if of.mixed else of.estimate.value,
        "low": of.estimate.low,
        "high": of.estimate.high,
        "rates": {name: [*_interval(rate)] for name, rate in of.rates.items()},
        **_used(of),
    }


def _used(of: Cell | Group) -> dict[str, Any]:
    whole = of.used
    return {
        "gpu_hours": whole["gpu_hours"].sum,
        "gpu_hours_each": usage.each(whole["gpu_hours"], of.graded),
        "usd": whole["usd"].sum,
        "tokens": whole["tokens"].sum,
    }


def over_of(one: Round) -> list[dict[str, Any]]:
    """A line an agent with a model, for the table below the picture."""
    found = []
    for place, group in enumerate(one.groups):
        scores = [
            {
                "metric": _line(_measure(each.metric, each.lower)),
                "estimate": each.estimate,
                "tasks": len(each.tasks),
            }
            for each in group.measures
        ]
        found.append({"group": place, "scores": scores, "rates": group.rates, "of": group} | _used(group))
    return found


def places_of(one: Round) -> dict[int, int]:
    """Which group each outcome is of, by its id()."""
    return {id(run): place for place, group in enumerate(one.groups) for cell in group.cells for run in cell.results}
