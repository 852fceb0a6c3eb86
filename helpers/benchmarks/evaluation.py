"""Watches a round being graded anew: each new grade becomes its run's result; eval_manifest.json grows, and at the end all is summed up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helpers.benchmarks import manifest, report, stamps
from helpers.benchmarks.rounds import Round
from helpers.config.asked import AskedSite
from helpers.jobs import counted, regrade, watch_grading
from helpers.jobs import watch as workflow_watch
from helpers.jobs.kinds.benchmark import Benchmark
from helpers.jobs.kinds.evaluation import Evaluation
from helpers.jobs.kinds.grading import GRADED
from helpers.jobs.regrade import AgainRun
from helpers.lib import disk
from helpers.lib.values import section
from helpers.runs import metadata
from helpers.runs.metadata import Run

NAME = "eval_manifest.json"  # of the specification: evaluated_at, results[run_dir, task_dir, eval_rc, status]; the rest is ours
STATUS: dict[int | None, str | None] = {None: None, 0: "ok"}  # of an eval_rc; of any other eval_failed
LOST = 3


class Watch(Evaluation, watch_grading.Watch):
    """The jobs that grade a round anew, under watch."""

    def __init__(self, folder: Path, as_json: bool = False, emit: Callable[[Any], None] = print):
        super().__init__(folder, as_json, emit)
        self.round = Path(str(self.record.get("round")))
        self.numbers: list[int] = self.record.get("rollouts") or []
        self.earlier: list[float | None] = self.record.get("earlier") or []
        self.results: dict[int, tuple[int, str | None]] = {}  # of what has ended, by rollout: eval_rc and why
        for number, why in section(self.record, "failed").items():
            self.results[int(number)] = (LOST, why)

    def _show(self) -> None:
        """A line for each run whose grade has come since."""
        before = len(self.results)
        for place, run in enumerate(self._runs()):
            number = self.numbers[place]
            if number not in self.results and run and not run.is_open:
                self.results[number] = _counted(run)
                self._say(number, run, self.earlier[place])
        if len(self.results) != before:
            self._write()

    def _runs(self) -> list[Run | None]:
        """The run of each of `numbers`, None where no job was submitted for it."""
        jobs = self.jobs["agents"]
        return [self.runs.get(jobs[place]) if place < len(jobs) else None for place in range(len(self.numbers))]

    def _say(self, number: int, run: Run, earlier: float | None) -> None:
        code, why = self.results[number]
        score = _score(run)
        before = "as before" if score == earlier else f"before {_shown(earlier)}"
        told = f"{run.state}, score {_shown(score)}, {before}" if code == 0 else f"{why}; its result stays"
        status = STATUS.get(code, "eval_failed")
        print(
            f"[rollouts] graded anew: run_id={manifest.run_id(self.round, number)} status={status} ({told})",
            file=sys.stderr,
            flush=True,
        )

    def told(self) -> list[dict[str, Any]]:
        """The results of eval_manifest.json, one for each rollout of the round."""
        listed = (disk.read_json(self.round / manifest.NAME) or {}).get("results") or []
        runs = dict(zip(self.numbers, self._runs(), strict=True))
        earlier = dict(zip(self.numbers, self.earlier, strict=True))
        found = []
        for number, one in enumerate(listed):
            code, why = self.results.get(number, (None, None))
            run = runs.get(number)
            found.append(
                {
                    "run_dir": one.get("run_dir"),
                    "task_dir": one.get("task_dir"),
                    "eval_rc": code,
                    "status": STATUS.get(code, "eval_failed"),
                    "run_id": one.get("run_id"),
                    "state": run.state if run else one.get("state"),
                    "score": _score(run) if run else one.get("score"),
                    "earlier_score": earlier.get(number, one.get("score")),
                    "reason": why,
                }
            )
        return found

    def _write(self) -> None:
        now = datetime.now(timezone.utc).strftime(stamps.FORMAT)
        data = {"evaluated_at": now, "results": self.told(), "jobs": str(self.path)}
        try:
            disk.write_json(self.round / NAME, data)
        except OSError as error:
            print(f"can't write {self.round}/{NAME}: {error.strerror}", file=sys.stderr)

    def code(self, rows: list[dict[str, Any]]) -> int:
        return regrade.worst([code for code, _ in self.results.values()])

    def tell(self) -> int:
        """The files of the round anew, what has become another score, and the summary; the exit code."""
        self.close()
        for place, run in enumerate(self._runs()):
            number = self.numbers[place]
            if run:
                run.reread()
                self.results[number] = _counted(run)
            else:
                self.results.setdefault(number, (LOST, "no job was submitted for it"))
        code = self.code([])
        try:
            _sum_up(self.round)
        except OSError as error:
            print(f"can't write {error.filename or self.round}: {error.strerror}", file=sys.stderr)
            code = LOST
        self._write()
        told, one = self.told(), Round(self.round)
        if self.as_json:
            data = {"round": str(self.round), "exit_code": code, "evaluated": told, "jobs": str(self.path)}
            self.emit(data | one.summary.data())
        else:
            print("\n".join([*_sentences(told), "", report.sentence(one.summary), *report.aggregates(one.summary)]))
            print(f"files: {self.round}")
        return code


def _counted(run: Run) -> tuple[int, str | None]:
    """eval_rc of a run, and why where it isn't 0; a grade becomes its result."""
    if not isinstance(run, AgainRun):  # which its job has done
        return (0, None) if run.state in GRADED else (LOST, run.reason)
    try:
        return (0, None) if counted.count(run) else regrade.outcome(run)
    except OSError as error:
        return LOST, f"can't write {error.filename or run.directory}: {error.strerror}"


def _score(run: Run) -> float | None:
    return metadata.score_of(run.report) if run.state == "scored" else None


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:g}"


def _sentences(told: list[dict[str, Any]]) -> list[str]:
    """What a person is told of the results."""
    graded = [one for one in told if one["eval_rc"] == 0]
    other = [one for one in graded if one["score"] != one["earlier_score"]]
    failed = [one for one in told if one["eval_rc"]]
    said = [f"{len(graded)} of {len(graded) + len(failed)} graded anew, {len(graded) - len(other)} with the same score"]
    said += [f"{one['run_id']}: score {_shown(one['score'])}, before {_shown(one['earlier_score'])}" for one in other]
    return said + [f"{one['run_id']}: its result stays, it was not graded anew: {one['reason']}" for one in failed]


def _sum_up(path: Path) -> None:
    """manifest.json, summary.md and the aggregate report of a round, as its runs are now. Raises OSError."""
    jobs = Benchmark(path, AskedSite())
    manifest.refresh(path)
    metadata.write_aggregate(path, list(jobs.runs.values()))
    Round(path).write_summary()


def watch(folder: Path, as_json: bool, emit: Callable[[Any], None]) -> int:
    """Watch until all are graded; the exit code: 0, 3 where one was not graded anew, 130 where that was cancelled."""
    return workflow_watch.watch(folder, as_json, emit, Watch)
