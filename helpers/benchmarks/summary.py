"""A round of a benchmark as figures: its cells, and what an agent with a model did over all tasks. report.py writes them down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from helpers.benchmarks import statistics, usage
from helpers.benchmarks.outcomes import KS, RATES, Cell, Outcome, Pairs, leaderboards, used_data
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.usage import Total
from helpers.runs.load import Served

Key = tuple[str, "str | None", "str | None", Pairs]


@dataclass(frozen=True)
class Measure:
    """The mean over the tasks of one metric, in one direction. unknown: nobody knows whether it is one metric, so there is no mean.

    tasks: whose scores these are.
    """

    metric: str | None
    lower: bool | None
    tasks: tuple[str, ...]
    estimate: Estimate

    def data(self) -> dict[str, Any]:
        """For programs."""
        known = {"metric": self.metric, "is_lower_better": self.lower, "tasks": list(self.tasks)}
        return known | {"mean": self.estimate.data()}


@dataclass(frozen=True)
class Group:
    """The cells of one agent with one model over all tasks. setting: the variables that differ in the round."""

    agent: str | None
    model: str | None
    setting: Pairs
    cells: list[Cell]

    @property
    def label(self) -> str:
        """For a person."""
        names = [one for one in (self.agent, self.model) if one]
        return " / ".join([*names, *(f"{name}={value}" for name, value in self.setting)]) or "no agent"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return [row for cell in self.cells for row in cell.rows]

    @cached_property
    def states(self) -> dict[str, int]:
        return dict(sum((Counter(cell.states) for cell in self.cells), Counter()))

    @property
    def asked(self) -> int:
        return sum(len(cell.results) for cell in self.cells)

    @property
    def graded(self) -> int:
        return sum(cell.graded for cell in self.cells)

    @property
    def failed(self) -> int:
        return sum(cell.failed for cell in self.cells)

    @cached_property
    def measures(self) -> list[Measure]:
        """The means over tasks, one a metric: scores of different metrics are never averaged, nor those of which it isn't known."""
        apart: dict[tuple[str | None, bool | None], dict[str, list[float]]] = {}
        for cell in self.cells:
            if cell.graded and not cell.mixed:
                apart.setdefault((cell.metric, cell.lower), {})[cell.task] = cell.scores
        found = []
        for (metric, lower), scores in sorted(apart.items(), key=lambda item: str(item[0])):
            is_one = metric is not None or len(scores) == 1
            mean = statistics.over_tasks(scores) if is_one else Estimate(None, len(scores))
            found.append(Measure(metric, lower, tuple(scores), mean))
        return found

    @property
    def mixed(self) -> list[str]:
        """The tasks whose own scores are of several metrics."""
        return [cell.task for cell in self.cells if cell.mixed]

    @cached_property
    def rates(self) -> dict[str, Estimate]:
        """The means of the tasks' rates; n: tasks of which there is one. The intervals stay within what a rate can be."""
        found = {}
        for name in RATES:
            each = [rate.value for cell in self.cells if (rate := cell.rates[name]).value is not None]
            mean = statistics.mean(each)
            if mean.low is not None and mean.high is not None:
                mean = replace(mean, low=max(0.0, mean.low), high=min(1.0, mean.high))
            found[name] = mean
        return found

    def pass_at(self, name: str) -> dict[int, tuple[float, int]]:
        """pass@k by k: the mean over the tasks that have at least k rollouts, and how many these are."""
        each = [cell.pass_at(name) for cell in self.cells]
        found = {}
        for k in KS:
            if some := [chances[k] for chances in each if k in chances]:
                found[k] = (sum(some) / len(some), len(some))
        return found

    @cached_property
    def used(self) -> dict[str, Total]:
        return usage.totals(self.rows)

    def data(self) -> dict[str, Any]:
        """For programs."""
        passed = {
            name: {str(k): {"value": value, "tasks": tasks} for k, (value, tasks) in self.pass_at(name).items()}
            for name in RATES
        }
        return {
            "agent": self.agent,
            "model": self.model,
            "setting": dict(self.setting),
            "tasks": len(self.cells),
            "runs": self.asked,
            "graded": self.graded,
            "failed": self.failed,
            "states": self.states,
            "scores": [one.data() for one in self.measures],
            "tasks_of_several_metrics": self.mixed,
            "rates": {name: one.data() for name, one in self.rates.items()},
            "pass_at": passed,
            **used_data(self.rows, self.graded, self.used),
        }


@dataclass(frozen=True)
class Round:
    """A round. outcomes: of all rollouts, in the order in which they were asked for. notes: sentences on it, such as a budget used up.
    served: how busy the servers of each model were."""

    name: str
    stamp: str
    outcomes: list[Outcome]
    cells: list[Cell]
    groups: list[Group]
    notes: tuple[str, ...] = ()
    served: tuple[Served, ...] = ()

    @property
    def label(self) -> str:
        """For a person."""
        return " ".join(filter(None, (self.name, self.stamp)))

    @cached_property
    def states(self) -> dict[str, int]:
        return dict(Counter(one.state for one in self.outcomes))

    @property
    def graded(self) -> int:
        return sum(cell.graded for cell in self.cells)

    @property
    def failed(self) -> int:
        return sum(cell.failed for cell in self.cells)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return [one.row for one in self.outcomes]

    @cached_property
    def used(self) -> dict[str, Total]:
        return usage.totals(self.rows)

    def data(self) -> dict[str, Any]:
        """For programs: the whole, its cells, and each agent with a model over all tasks."""
        return {
            "name": self.name,
            "stamp": self.stamp,
            "notes": list(self.notes),
            "runs": len(self.outcomes),
            "graded": self.graded,
            "failed": self.failed,
            "states": self.states,
            **used_data(self.rows, self.graded, self.used),
            "cells": [cell.data() for cell in self.cells],
            "over_tasks": [group.data() for group in self.groups],
            "model_servers": [one.data() for one in self.served],
        }


def round_of(
    asked: Iterable[Mapping[str, Any]],
    name: str = "",
    stamp: str = "",
    notes: Iterable[str] = (),
    served: Iterable[Served] = (),
) -> Round:
    """A round from what was asked for, and the load of its model servers.

    asked: a mapping a rollout, with run_id, task, model, agent, variables (a dict or pairs), seed, and row: its row of the table of
    results (OneRun.row), or None where it has not begun. Of a row these are read besides, where they are there: success (as a task's own
    report says it), custom_metrics and standard_metrics (numbers by name), usd, lm_score, tool_calls.
    """
    outcomes = [Outcome.of(one) for one in asked]
    boards = leaderboards(outcomes)
    apart: dict[Key, list[Outcome]] = {}
    for one in outcomes:
        apart.setdefault((one.task, one.model, one.agent, one.variables), []).append(one)
    names = differing(list(apart))
    cells = [
        Cell(its, tuple(pair for pair in variables if pair[0] in names), boards[task])
        for (task, _, _, variables), its in apart.items()
    ]
    return Round(name, stamp, outcomes, cells, _groups(cells), tuple(notes), tuple(served))


def differing(keys: Sequence[Key]) -> set[str]:
    """The variables that tell apart cells of one task with one model and agent. What differs between tasks alone is part of the task."""
    apart: dict[tuple[Any, ...], list[dict[str, str]]] = {}
    for *same, variables in keys:
        apart.setdefault(tuple(same), []).append(dict(variables))
    found = set()
    for its in apart.values():
        names = {name for one in its for name in one}
        found |= {name for name in names if len({one.get(name) for one in its}) > 1}
    return found


def _groups(cells: list[Cell]) -> list[Group]:
    apart: dict[tuple[str | None, str | None, Pairs], list[Cell]] = {}
    for cell in cells:
        apart.setdefault((cell.agent, cell.model, cell.setting), []).append(cell)
    return [Group(*key, its) for key, its in apart.items()]
