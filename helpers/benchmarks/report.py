"""A round written down for people: the specification's tables first, then this project's. markdown() is summary.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from helpers.benchmarks import figures, statistics, usage
from helpers.benchmarks.figures import NONE, table
from helpers.benchmarks.outcomes import Cell, Outcome, Pairs
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.summary import Group, Measure, Round
from helpers.benchmarks.usage import Total
from helpers.jobs.summary import busy
from helpers.lib import values

WHO = ("task", "agent", "model", "variables")
WORDS = {*WHO, "run", "state", "states", "reason", "metric", "of"}  # columns of words
PASSED = {"success": "success", "any_medal": "any medal"}  # what pass@k is told of
RATES = {"any_medal": "any medal", "above_median": "above median", "success": "success"}
MOST_METRICS = 12  # columns of what tasks report besides their score
MOST_REASONS = 20
OPEN = ("running", "waiting", "not_begun")  # have no reason yet
ALL = "all"
COMPETITIONS = "the competition's"  # a metric whose name only the competition knows


def markdown(one: Round) -> str:
    """A round as markdown. What runs and tasks are called can't break its tables."""
    parts = [
        [f"# Summary of {figures.cell(one.label)}"],
        runs_table(one.outcomes),
        ["## Aggregates"],
        aggregates(one),
        ["## Per-task aggregates (mean and max over rollouts)"],
        tasks_table(one),
        ["## Rollouts"],
        [sentence(one), *(f"- {figures.line(note)}" for note in one.notes)],
        *_section("Scores", _scores(one.cells), SCORES),
        *_section("Rates", _rates(one.cells), RATES_TOLD),
        *_section("pass@k", _passed(one.cells), PASSED_TOLD),
        *(_over_tasks(one.groups) if any(len(group.cells) > 1 for group in one.groups) else []),
        *_section("What it took", _took(one), " ".join(filter(None, (_estimated(one.rows), _busy(one))))),
        *_section("Model servers", _served(one)),
        *_section("Reported metrics", *_reported(one.cells)),
        *_section("Without a score", *_reasons(one.outcomes)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


SCORES = "Mean ± standard error of what was graded, and its 95% interval by Student's t; of one score there is none."
RATES_TOLD = (
    "With Wilson's 95% interval. What failed (no submission or an invalid one, an agent that broke, or its time up without a score) counts "
    "as a failure; what was lost or cancelled, runs or waits counts nowhere."
)
PASSED_TOLD = "The chance that at least one of k rollouts succeeds, unbiased: 1 - C(n-c, k) / C(n, k)."
OVER_TASKS = (
    "Means of the tasks' means, tasks weighing the same: ± the standard error clustered by task, 95% interval by t with tasks - 1 degrees "
    "of freedom. Scores of different metrics are never averaged."
)


def _section(title: str, lines: list[str], told: str = "") -> list[list[str]]:
    return [[f"## {title}"], *([[told]] if told else []), lines] if lines else []


# ---- the specification's tables


def runs_table(outcomes: Iterable[Outcome]) -> list[str]:
    """A line a rollout. unit: its score; lm: a model's judgement of it; what isn't known is N/A."""
    rows = [
        (
            figures.cell(one.task),
            figures.cell(one.name),
            figures.number(one.score, 6),
            figures.number(values.number(one.row.get("lm_score"))),
            figures.number(usage.used(one.row, "tokens"), 15),
            figures.number(values.count(one.row.get("tool_calls")), 15),
        )
        for one in outcomes
    ]
    return table(("task", "run", "unit", "lm", "tokens", "tools"), rows, WORDS, whole=True)


def _by_task(one: Round) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in one.outcomes:
        found.setdefault(outcome.task, []).append(outcome)
    return found


def _judged(outcomes: Iterable[Outcome]) -> list[float]:
    return [score for one in outcomes if (score := values.number(one.row.get("lm_score"))) is not None]


def tasks_table(one: Round) -> list[str]:
    """A line a task, over all models and agents. max: the largest, whether or not that is the best."""
    rows = []
    for task, outcomes in sorted(_by_task(one).items()):
        of = Cell(outcomes)
        unit = [] if of.mixed else of.scores
        told = [(statistics.mean(some).value, max(some, default=None)) for some in (unit, _judged(outcomes))]
        rows.append(
            (figures.cell(task), str(len(outcomes)), *(figures.number(value) for pair in told for value in pair))
        )
    return table(("task", "rollouts", "unit_mean", "unit_max", "lm_mean", "lm_max"), rows, WORDS, whole=True)


def aggregates(one: Round) -> list[str]:
    """The mean of the tasks' means over everything, where it is of one metric."""
    by_task = _by_task(one)
    whole = Group(None, None, (), [Cell(outcomes) for outcomes in by_task.values()])
    judged = statistics.over_tasks({task: _judged(outcomes) for task, outcomes in by_task.items()})
    is_one = len(whole.measures) == 1 and not whole.mixed
    unit = figures.number(whole.measures[0].estimate.value) if is_one else NONE
    metrics = sorted({name for cell in whole.cells for name in cell.metrics})
    why = f" (scores are not averaged over {len(metrics)} metrics: {', '.join(map(figures.cell, metrics))})"
    unknown = " (scores are averaged only over tasks that are known to have one metric)"
    said = "" if unit != NONE or not whole.graded else why if len(metrics) > 1 else unknown
    return [f"- Unit tests average: {unit}{said}", f"- LM rubric average: {figures.number(judged.value)}"]


# ---- this project's


def sentence(one: Round) -> str:
    """What became of all that was asked for."""
    asked = len(one.outcomes)
    nowhere = asked - one.graded - one.failed
    told = f"{asked} asked for: {one.graded} graded, {one.failed} failed, {nowhere} that count nowhere"
    return f"{told}. By state: {by_state(one.states)}."


def by_state(states: Mapping[str, int]) -> str:
    """How many there are of each state, the most first."""
    return ", ".join(f"{count} {figures.cell(state)}" for state, count in Counter(states).most_common()) or "none"


def _who(task: str, of: Cell | Group) -> tuple[str, ...]:
    return (task, figures.cell(of.agent), figures.cell(of.model), _setting(of.setting))


def _cell_who(cell: Cell) -> tuple[str, ...]:
    return _who(figures.cell(cell.task), cell)


def _setting(setting: Pairs) -> str:
    return figures.cell(", ".join(f"{name}={value}" for name, value in setting))


def measure(metric: str | None, lower: bool | None) -> str:
    """A metric with its direction."""
    way = "" if lower is None else f", {'lower' if lower else 'higher'} is better"
    return f"{figures.cell(metric) if metric else COMPETITIONS}{way}"


def _scores(cells: list[Cell]) -> list[str]:
    head = (*WHO, "asked", "graded", "failed", "states", "metric", "mean", "95% interval", "best")
    rows = []
    for cell in cells:
        metric = measure(cell.metric, cell.lower) if cell.graded else NONE
        if cell.mixed:
            metric = f"{', '.join(map(figures.cell, cell.metrics))}: not averaged"
        counts = (len(cell.results), cell.graded, cell.failed)
        told = (figures.mean(cell.estimate), figures.interval(cell.estimate))
        best = figures.number(cell.best.score, 6) if cell.best else NONE
        states = by_state(cell.states) + (f" ({cell.at_limit} graded at the time limit)" if cell.at_limit else "")
        rows.append((*_cell_who(cell), *map(str, counts), states, metric, *told, best))
    return table(head, rows, WORDS)


def _rates(cells: list[Cell]) -> list[str]:
    rows = [(*_cell_who(cell), *(figures.rate(cell.rates[name]) for name in RATES)) for cell in cells]
    return table((*WHO, *RATES.values()), rows, WORDS)


def _passed(cells: list[Cell]) -> list[str]:
    told = [(cell, said, cell.pass_at(name)) for cell in cells for name, said in PASSED.items()]
    rows = [((*_cell_who(cell), said), chances) for cell, said, chances in told if chances]
    ks = sorted({k for _, chances in rows for k in chances})
    if not any(k > 1 for k in ks):
        return []  # pass@1 is the rate
    lines = [(*who, *(figures.percent(chances.get(k)) for k in ks)) for who, chances in rows]
    return table((*WHO, "of", *(f"pass@{k}" for k in ks)), lines, WORDS)


def _over_tasks(groups: list[Group]) -> list[list[str]]:
    scores, rates, passed = [], [], []
    for group in groups:
        who = _who("", group)[1:]
        scores += [(*who, *_measured(one)) for one in group.measures]
        if group.mixed:
            scores.append((*who, "several in one task", str(len(group.mixed)), NONE, NONE))
        each = (figures.rate(group.rates[name], _tasks(group.rates[name].n)) for name in RATES)
        rates.append((*who, str(len(group.cells)), *each))
        passed += [((*who, said), chances) for name, said in PASSED.items() if (chances := group.pass_at(name))]
    ks = sorted({k for _, chances in passed for k in chances})
    lines = [(*who, *(_chance(chances, k) for k in ks)) for who, chances in passed]
    parts = [
        table((*WHO[1:], "metric", "tasks", "mean", "95% interval"), scores, WORDS) if scores else [],
        table((*WHO[1:], "tasks", *RATES.values()), rates, WORDS),
        table((*WHO[1:], "of", *(f"pass@{k}" for k in ks)), lines, WORDS) if any(k > 1 for k in ks) else [],
    ]
    return [["## Over tasks"], [OVER_TASKS], *(part for part in parts if part)]


def _measured(one: Measure) -> tuple[str, ...]:
    return (
        measure(one.metric, one.lower),
        str(len(one.tasks)),
        figures.mean(one.estimate),
        figures.interval(one.estimate),
    )


def _tasks(count: int) -> str:
    return "task" if count == 1 else "tasks"


def _chance(chances: dict[int, tuple[float, int]], k: int) -> str:
    """pass@k over tasks; and over how many, where these are fewer than for k = 1."""
    if k not in chances:
        return NONE
    value, count = chances[k]
    return figures.percent(value) + (f" ({count} {_tasks(count)})" if count < chances[1][1] else "")


def _took(one: Round) -> list[str]:
    head = (*WHO, "began", "tokens", "steps", "requests", "USD", "GPU-hours", "GPU-hours a graded run", "CPU-hours")
    has_cost = one.used["usd"].sum is not None
    rows = [(*_cell_who(cell), *_used(cell.used, cell.graded, has_cost)) for cell in one.cells]
    if len(one.groups) < len(one.cells):
        rows += [(*_who(ALL, group), *_used(group.used, group.graded, has_cost)) for group in one.groups]
    if len(one.groups) > 1:
        rows.append((ALL, ALL, ALL, "", *_used(one.used, one.graded, has_cost)))
    return table(head, rows, WORDS)


def _used(used: Mapping[str, Total], graded: int, has_cost: bool) -> tuple[str, ...]:
    hours = usage.each(used["gpu_hours"], graded)
    return (
        str(used["steps"].of),
        *(figures.total(used[column]) for column in ("tokens", "steps", "requests")),
        figures.total(used["usd"], 2) if has_cost else "",
        figures.total(used["gpu_hours"], 3),
        NONE if hours is None else f"{hours:.3f}",
        figures.total(used["cpu_hours"], 3),
    )


def _served(one: Round) -> list[str]:
    """How busy the GPUs of each model's servers were."""
    return [f"- {figures.line(said)}" for served in one.served if (said := served.sentence())]


def _estimated(rows: list[dict[str, Any]]) -> str:
    return "Hours are estimates where there is no accounting, as for some here." if usage.is_estimate(rows) else ""


def _busy(one: Round) -> str:
    told = busy({column: one.used[column].sum for column in ("rate_limited", "server_errors")})
    return f"Requests {told}." if told else ""


def _reported(cells: list[Cell]) -> tuple[list[str], str]:
    """A column for each metric that tasks report, with its mean."""
    told = [(cell, {kind: cell.reported(f"{kind}_metrics") for kind in ("custom", "standard")}) for cell in cells]
    names = list(dict.fromkeys((kind, name) for _, kinds in told for kind, its in kinds.items() for name in its))
    twice = {name for name, count in Counter(name for _, name in names).items() if count > 1}
    shown = sorted(names)[:MOST_METRICS]
    if not shown:
        return [], ""
    rows = [
        (*_cell_who(cell), *(figures.mean(kinds[kind].get(name, Estimate(None, 0))) for kind, name in shown))
        for cell, kinds in told
        if any(kinds.values())
    ]
    head = (figures.cell(f"{name} ({kind})" if name in twice else name) for kind, name in shown)
    more = len(names) - len(shown)
    return table((*WHO, *head), rows, WHO), f"{more} more are told by --json." if more else ""


def _reasons(outcomes: Iterable[Outcome]) -> tuple[list[str], str]:
    found = [one for one in outcomes if not one.is_graded and one.state not in OPEN]
    rows = [tuple(map(figures.cell, (one.task, one.name, one.state, one.reason))) for one in found[:MOST_REASONS]]
    more = len(found) - len(rows)
    lines = table(("task", "run", "state", "reason"), rows, WORDS) if rows else []
    return lines, f"The first {len(rows)} of {len(found)}." if more else ""
