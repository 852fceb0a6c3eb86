"""Watches a round: the lines that the specification shows, manifest.json as it grows, and at the end summary.md."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.benchmarks import figures, manifest, report
from helpers.benchmarks.rounds import Round
from helpers.jobs import watch as workflow_watch
from helpers.jobs.follow import follow
from helpers.jobs.kinds.benchmark import Benchmark
from helpers.jobs.log_follow import Source
from helpers.lib import disk
from helpers.lib.values import section
from helpers.runs import metadata

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Watch(workflow_watch.Watch, Benchmark):
    """A round under watch. verbose: 0 with icons, 1 without, 2 with all that the rollouts' jobs write."""

    def __init__(self, group: Path, as_json: bool = False, emit: Callable[[Any], None] = print, verbose: int = 0):
        group = Path(os.path.abspath(group))  # what is told of it is true in any folder
        super().__init__(group, as_json, emit)
        self.verbose, self.spin, self.told = verbose, itertools.cycle(SPINNER), 0
        self.ended: set[int] = set()
        self.logs: dict[str, list[Source]] = {}  # of the jobs that write
        self.count = len(manifest.standings(group, self.record, {}))
        self._begin()

    def _begin(self) -> None:
        """The specification's first lines."""
        benchmark = section(self.record, "benchmark")
        self._say(
            f"config={benchmark.get('config')} name={benchmark.get('name')} tasks={benchmark.get('entries')} "
            f"parallel={benchmark.get('parallel')}"
        )
        self._say(f"output={self.path}")
        if not self.verbose:
            self._say("Running in quiet mode - use -vv for full output")
        self._say(f"Starting {self.count} tasks with parallel={benchmark.get('parallel')}")

    def _say(self, text: str) -> None:
        print(f"[rollouts] {text}", file=sys.stderr, flush=True)

    def look(self, ask: bool = True) -> bool:
        # what a job submitted is noted before that job is gone, and the note is read after the scheduler was asked
        return super().look(ask) or (self.goes_on and bool(self.waiting()))

    def stand(self) -> None:
        """Take in how each rollout stands, also into manifest.json."""
        self.record["jobs"] = self.jobs
        self.standings = manifest.standings(self.path, self.record, self.runs)
        with contextlib.suppress(OSError):  # a disk that is full now: the next look writes it
            self.standings = manifest.keep(self.path, self.record, self.runs, self.standings)

    def _show(self) -> None:
        """A line for each rollout that has ended since; where lines can be written over, one that turns."""
        self.stand()
        if self.verbose > 1:
            self._show_logs()
        for one in self.standings:
            if one.run and one.rollout not in self.ended and one.state not in metadata.OPEN_STATES:
                self.ended.add(one.rollout)
                self._finished(one)
        if self.verbose or not (sys.stderr.isatty() or len(self.ended) != self.told):
            return
        self.told = len(self.ended)
        if self.told < self.count:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(
                f"{next(self.spin)} Running tasks... {self.told}/{self.count} completed",
                end=end,
                file=sys.stderr,
                flush=True,
            )

    def _show_logs(self) -> None:
        """What the jobs of rollouts have written since, each line behind the run's id."""
        self.__dict__.pop("_logs", None)  # a log is there once its job has started
        entries = {entry.id: entry for entry in self.entries}
        for one in self.standings:
            run = one.run
            if run is None or run.state == "waiting" or run.job_id not in entries:
                continue
            # what a job writes after its result is shown by the next look
            over = one.rollout in self.ended
            if over and run.job_id not in self.logs:
                continue
            sources = self.logs.setdefault(
                run.job_id, [Source(self, entries[run.job_id], is_own) for is_own in (False, True)]
            )
            for line in (line for source in sources for line in source.more(over)):
                print(f"[{manifest.run_id(self.path, one.rollout)}] {line}", file=sys.stderr, flush=True)
            if over:
                del self.logs[run.job_id]

    def _finished(self, one: manifest.Standing) -> None:
        run_id = manifest.run_id(self.path, one.rollout)
        if self.verbose:
            self._say(f"finished: run_id={run_id} status=launched")
        else:
            print(f"✓ Task {run_id} completed (launched)", file=sys.stderr, flush=True)

    def code(self, rows: list[dict[str, Any]]) -> int:
        return workflow_watch.exit_code(one.state for one in self.standings)

    def tell(self) -> int:
        """The specification's last lines, and the summary; the exit code."""
        for run in self.runs.values():
            run.reread()
        self._show()
        if not self.verbose and len(self.ended) == self.count:
            print(f"✓ All {self.count} tasks completed!", file=sys.stderr, flush=True)
        code = self.code([])
        if any(one.run is None and not one.kept for one in self.standings):
            for said in self.whys():
                self._say(said)
        self._say(f"temp index: {manifest.index_of(self.path)}")
        one = Round(self.path)
        if self.as_json:
            self.emit({"round": str(self.path), "exit_code": code, **one.summary.data()})
        else:
            self._say("Summary:")
            print("\n".join(_table(self.path)))
            print()
            print("\n".join([report.sentence(one.summary), *one.summary.notes, *report.aggregates(one.summary)]))
        try:
            one.write_summary()
            self._say(f"summary: {self.path}/summary.md")
        except OSError as error:
            self._say(f"can't write {self.path}/summary.md: {error.strerror}")
        return code


def _table(group: Path) -> list[str]:
    results = (disk.read_json(group / manifest.NAME) or {}).get("results") or []
    rows = [(Path(str(one["task_dir"])).name, one["run_id"], one["status"] or "") for one in results]
    return figures.table(("task", "run_id", "status"), rows, ("task", "run_id", "status"))


def watch(group: Path, as_json: bool, emit: Callable[[Any], None], verbose: int = 0) -> int:
    """Watch until every rollout has ended; the exit code of the README."""
    one = Watch(group, as_json, emit, verbose)
    try:
        return follow(one)
    finally:
        one.close()
