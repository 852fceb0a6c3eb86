"""A round live in the terminal: its summary as far as it is, refreshed as runs end, and what runs now. Runs where a person types.

A view of what the watcher sees: nothing ends here but the view.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.text import Text

from helpers.benchmarks import bounds, figures, manifest, report, watch
from helpers.benchmarks.outcomes import Cell
from helpers.benchmarks.rounds import Round
from helpers.benchmarks.summary import Group as Over
from helpers.jobs import progress
from helpers.lib import durations, tables, values
from helpers.lib.text import clean
from helpers.runs import metadata

REFRESH_SECONDS = {"slurm": 15.0, "local": 1.0}  # at least, between two summaries: each asks the scheduler's accounting
PATIENCE = 10  # times as long as a summary took, there is none after it
WIDE = 110  # columns from which there is room for standard errors
LEAST_SHOWN = 3  # of the runs that run now


class Live(watch.Watch):
    """A round under view, on standard output: tables at a terminal, else a line for each cell in which runs have ended."""

    LOOKS_ONLY, LEFT = True, "its jobs go on"

    def __init__(self, group: Path, as_json: bool = False, emit: Callable[[Any], None] = print):
        super().__init__(group, as_json, emit)
        self.show_on(Console(no_color=not tables.has_colour(), force_terminal=sys.stdout.isatty()))
        self.sum_up()

    def show_on(self, console: Console) -> None:
        """Where the view goes; whatever is written meanwhile stands above it."""
        self.console = console
        is_screen = console.is_terminal and not console.is_dumb_terminal
        self.live = Screen(console=console, auto_refresh=False) if is_screen else None
        self.looks = progress.Looks(progress.LOOK_SECONDS["table"])
        self.cells_told: dict[
            tuple[Any, ...], dict[str, int]
        ] = {}  # the ended ones of each cell, as they were told last
        self.silent = ""

    @property
    def again(self) -> str:
        return f"scripts_hpc/results.sh watch {self.path}"

    def _begin(self) -> None:
        self.stand()

    def sum_up(self) -> None:
        """The summary anew."""
        begun = time.monotonic()
        self.summed = [one.state for one in self.standings]
        self.summary = Round(self.path).summary
        took = time.monotonic() - begun
        self.due = begun + took + max(REFRESH_SECONDS[self.fleet.scheduler.kind], PATIENCE * took)

    def _show(self) -> None:
        self.stand()
        if [one.state for one in self.standings] != self.summed and time.monotonic() >= self.due:
            self.sum_up()
        if self.live:
            self.live.start()
            self.live.update(self.view(self.console.height), refresh=True)
        else:
            self._plain()

    def finish(self) -> None:
        """Its servers end by themselves."""

    def cancel(self, reason: str) -> bool:
        return False

    def tell(self) -> int:
        """The whole summary, as it is in the end; the exit code that `run_benchmark.sh attach` has."""
        for run in self.runs.values():
            run.reread()
        self.stand()
        self.sum_up()
        if self.live:
            self.live.update(self.view(None), refresh=True)
        else:
            self._plain()
        self.close()
        for line in [report.sentence(self.summary), *self.summary.notes]:
            print(clean(line))
        print(f"more: scripts_hpc/run_benchmark.sh summarize {self.path}")
        return self.code([])

    # ---- at a terminal

    def view(self, height: int | None) -> Group:
        """All that is shown. height: the lines that there are; None: all of the tables, and nothing of what runs now."""
        running = [] if height is None else self.running(max(LEAST_SHOWN, height // 3))
        cells, groups = self.summary.cells, self.summary.groups
        parts: list[RenderableType] = [*map(Text, self.head())]
        if running:
            parts += [Text(), tables.build(running, ("now", "state", ""), states=(1,), cut=(0,), fold=(2,))]
        if any(len(group.cells) > 1 for group in groups):
            parts += [Text(), _over_tasks(groups[:height])]
        return Group(*parts, Text(), _cells(cells[:height], self.console.width >= WIDE))

    def head(self) -> list[str]:
        """How long it has run, how many have ended and how, and what all of it has used."""
        states = [one.state for one in self.standings]
        ended = sum(state not in metadata.OPEN_STATES for state in states)
        name = self.summary.label
        lines = [clean(name), f"{ended} of {self.count} ended after {self._elapsed()}; {self._used()}"]
        lines.append(f"by state: {report.by_state(Counter(states))}")
        if self.fleet.silence:
            lines.append(clean(f"the scheduler doesn't answer ({self.fleet.silence}); asking again"))
        return lines

    def _elapsed(self) -> str:
        """From the round's beginning to its last end, or to now."""
        begun = values.seconds_of(self.record.get("created_at"))
        ends = [values.seconds_of(run.metadata.get("ended_at")) for run in self.runs.values()]
        is_over = all(one.state not in metadata.OPEN_STATES for one in self.standings)
        last = max((end for end in ends if end), default=None) if is_over else time.time()
        return "a time that isn't known" if begun is None or last is None else durations.words(max(0.0, last - begun))

    def _used(self) -> str:
        """GPU-hours of its model servers, and whatever else its budget bounds."""
        most = bounds.read(self.path)
        found = bounds.used(self.path, [job for job in self.servers if self.fleet.gone(job)])
        told = [
            f"{found[key]:,.{bounds.PLACES[key]}f}" + (f" of {most[key]:,.15g}" if key in most else "") + f" {word}"
            for key, word in bounds.WORDS.items()
            if key == "gpu_hours" or key in most
        ]
        return f"{', '.join(told)} used"

    def running(self, most: int) -> list[tuple[str, str, str]]:
        """Servers that aren't ready, and the runs that run: what it is, its state, how far it is. most: of the runs."""
        for known in ("_services", "_logs"):
            self.__dict__.pop(known, None)
        now = [one for one in self.standings if one.state == "running"]
        rows = [*self._starting(), *(self._run_row(one) for one in now[:most])]
        return rows + ([(f"{len(now) - most} more", "running", "")] if len(now) > most else [])

    def _starting(self) -> Iterator[tuple[str, str, str]]:
        for entry in self.entries:
            job = self.job(entry)
            if entry.part == "agent" or not entry.own or not job.alive or self.serves(entry) != "starting":
                continue
            is_running = job.state == "RUNNING"
            reason = "" if job.reason == "None" else job.reason
            yield entry.name, job.state.lower(), self.doing(entry) if is_running else reason

    def _run_row(self, one: manifest.Standing) -> tuple[str, str, str]:
        outcome = self.summary.outcomes[one.rollout]
        name = " / ".join(filter(None, (outcome.task, outcome.agent, outcome.model)))
        words = self.looks.agent(one.run).words(time.time()) if one.run else ""
        return f"#{one.rollout} {name}", one.state, words

    # ---- anywhere else

    def _plain(self) -> None:
        """A line for each cell in which runs have ended since."""
        if self.fleet.silence != self.silent:
            self.silent = self.fleet.silence
            self._line(f"the scheduler doesn't answer ({self.silent}); asking again" if self.silent else "it answers")
        for cell in self.summary.cells:
            key = (cell.task, cell.agent, cell.model, cell.setting)
            ended = {state: count for state, count in cell.states.items() if state not in report.OPEN}
            if self.cells_told.get(key, {}) != ended:
                self.cells_told[key] = ended
                self._line(_sentence(cell))

    def _line(self, words: str) -> None:
        print(clean(f"{time.strftime('%H:%M:%S')} {words}"), file=self.console.file, flush=True)


def _setting(of: Cell | Over) -> str:
    return ", ".join(f"{name}={value}" for name, value in of.setting)


def _counts(cell: Cell) -> str:
    return f"{cell.graded} of {len(cell.results)}"


def _sentence(cell: Cell) -> str:
    who = " / ".join(filter(None, (cell.task, cell.agent, cell.model, _setting(cell))))
    parts = [f"{_counts(cell)} graded"]
    if cell.estimate.value is not None:
        parts.append(f"mean {figures.mean(cell.estimate)}")
    if cell.estimate.low is not None:
        parts.append(f"95% interval {figures.interval(cell.estimate)}")
    return f"{who}: {', '.join(parts)}; {report.by_state(cell.states)}"


def _cells(cells: list[Cell], is_wide: bool) -> RenderableType:
    """A line for each task with an agent and a model."""
    rows = []
    for cell in cells:
        told = cell.estimate
        mean = figures.mean(told) if is_wide else figures.like(told.value, told.error)
        who = (cell.task, cell.agent or "", cell.model or "", _setting(cell))
        rows.append((*who, _counts(cell), mean, figures.interval(told), report.by_state(cell.states)))
    head = ("task", "agent", "model", "variables", "graded", "mean", "95% interval", "states")
    return _table(head, rows, words=4, fold="states")


def _over_tasks(groups: list[Over]) -> RenderableType:
    """A line for each agent with a model and each metric: the mean of its tasks' means."""
    rows = []
    for group in groups:
        who = (group.agent or "", group.model or "", _setting(group))
        for one in group.measures:
            metric = one.metric or report.COMPETITIONS
            told = (figures.like(one.estimate.value, one.estimate.error), figures.interval(one.estimate))
            rows.append((*who, f"{metric} over {len(one.tasks)}", *told))
    return _table(("agent", "model", "variables", "over tasks", "mean", "95% interval"), rows, words=4)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], words: int, fold: str = "") -> RenderableType:
    """A table without the columns in which nothing stands. words: how many columns hold names, which may be cut."""
    kept = [at for at in range(len(head)) if any(row[at] for row in rows)]
    places = {head[at]: place for place, at in enumerate(kept)}
    return tables.build(
        [[row[at] for at in kept] for row in rows],
        list(places),
        cut=[places[head[at]] for at in kept if at < words],
        right=[places[name] for name in ("graded", "mean", "95% interval") if name in places],
        fold=[places[fold]] if fold in places else (),
    )
