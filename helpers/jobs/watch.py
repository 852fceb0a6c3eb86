"""Watches a workflow: a line a job while it lives, the results when it has ended. Killing the watcher harms nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from helpers.config.asked import AskedSite
from helpers.jobs import progress
from helpers.jobs.fleet import elapsed
from helpers.jobs.follow import follow
from helpers.jobs.kinds.workflow import Workflow
from helpers.jobs.summary import Result, busy, summaries
from helpers.lib import tables, values
from helpers.lib.values import section
from helpers.runs import cells, load, metadata
from helpers.runs.metadata import Run
from helpers.scheduler.query import Job, SchedulerUnavailable


class Watch(Workflow):
    """One workflow under watch, shown on stderr. emit: what the results are given to with as_json. Raises FileNotFoundError."""

    def __init__(self, group: Path, as_json: bool = False, emit: Callable[[Any], None] = print):
        if not (group / self.RECORD).exists():
            raise FileNotFoundError(2, "no workflow.json: not a run of run_workflow.sh", str(group))
        super().__init__(group, AskedSite())
        self.as_json, self.emit = as_json, emit
        self.console = Console(stderr=True, no_color=not tables.has_colour())
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.looks = progress.Looks(progress.LOOK_SECONDS["table" if self.live else "lines"])
        self.said: dict[str, tuple[str, str]] = {}
        if self.jobs["agents"] and not section(self.record, "jobs").get("agents"):
            self.note_jobs()  # run_workflow.sh was killed before it could

    def look(self, ask: bool = True) -> bool:
        """Ask the scheduler once for all jobs, read the runs, and settle those whose job ended without a word."""
        if ask:
            with contextlib.suppress(SchedulerUnavailable):
                super().look()
        self.hear()
        self.settle()
        self._show()
        if self.agents:
            return bool(self.open_jobs()) or any(job not in self.runs for job in self.agents)
        return not all(self.fleet.gone(job) for job in self.servers)

    def settle(self) -> None:
        # what is followed are jobs: the folder of one may have gone missing, or never have come to be
        if any(job not in self.runs and self.fleet.gone(job) for job in self.agents):
            self.note_jobs()
            # one that nobody submitted, and that left nothing
            self.agents = [job for job in self.agents if job in self.runs or not self.fleet.gone(job)]
        super().settle()

    def _show(self) -> None:
        silence = self.fleet.silence
        note = f"the scheduler doesn't answer ({silence}); asking again" if silence else ""
        if self.live:
            self.live.start()
            self.live.update(_table(self.lines(), note), refresh=True)
        else:
            _plain(self.lines(), self.said)

    def lines(self) -> list[tuple[str, str, str, str, str]]:
        """name, job id, state, elapsed, remark of every job."""
        rows = []
        for known in ("_services", "_logs"):
            self.__dict__.pop(known, None)
        for entry in self.entries:
            if not entry.own:
                continue
            seen, run = self.fleet.jobs.get(entry.id, Job(entry.id, "?")), self.run_of(entry)
            remark = seen.reason if seen.reason not in ("None", "") else ""
            if run and seen.state != "PENDING":
                remark = self._at(run) if run.is_open else f"{run.state}: {run.reason}"
            elif not run and seen.state == "RUNNING":
                remark = self.doing(entry) or self.serves(entry)
            rows.append((entry.name, entry.id, seen.state.lower(), elapsed(seen.elapsed), remark))
        return rows

    def _at(self, run: Run) -> str:
        """How far an open run is. Where each change is a line, the time that is left is no change."""
        seen = self.looks.agent(run) if run.state == "running" else None
        words = seen.words(time.time() if self.live else seen.seen) if seen else ""
        return f"{run.state}: {words}" if words else run.state

    def finish(self) -> None:
        self.end_servers()
        self._tell_lent()

    def _tell_lent(self) -> None:
        for line in self.remarks():
            print(line, file=sys.stderr)

    def cancel(self, reason: str) -> bool:
        """Cancel the jobs of the workflow, but for servers that others use, and settle what was open; False when it isn't known
        whether all have ended."""
        with contextlib.suppress(OSError):
            self.hold()
        self._tell_lent()
        lent = self.lent
        ids = [entry.id for entry in self.entries if entry.own and entry.id not in lent]
        if self.fleet.cancel(ids):
            return False
        try:
            while self.late() and (more := [entry.id for entry in self.stoppable() if entry.id not in lent]):
                if self.fleet.cancel(more):
                    return False
                ids += more
        except SchedulerUnavailable:
            return False
        with contextlib.suppress(SchedulerUnavailable):
            self.forget_servers()
        self.hear()
        self.stopped(ids, reason)
        return True

    def rows(self) -> list[dict[str, Any]]:
        from helpers.runs.collection import rows_of

        return rows_of([self.path], keep_all=True)

    def code(self, rows: list[dict[str, Any]]) -> int:
        return exit_code([row["state"] for row in rows] + ["lost"] * (len(self.agents) - len(rows)))

    def close(self) -> None:
        if self.live:
            self.live.stop()

    def tell(self) -> int:
        """State and score of every run, where the score stands, what it cost, where the files are; the exit code, from the same look."""
        self.close()
        for group in self.groups():
            metadata.tell_aggregate(group)
        rows = self.rows()
        code, served = self.code(rows), load.by_model(load.servers(str(self.path)).values())
        if self.as_json:
            told = {
                "summary": [one.data() for one in summaries(map(Result.of_row, rows))],
                "model_servers": [one.data() for one in served],
            }
            self.emit({"run": str(self.path), "exit_code": code, "results": rows, **told})
            return code
        for line in [*_result_lines(rows), *filter(None, (one.sentence() for one in served))]:
            print(line)
        if not rows:
            print("no agent was submitted: the submission was broken off before.")
        if cells.view(self.record).get("language_model") is False:
            print(
                "model 'replay' is not a language model: this run shows that everything works, not what an agent can do."
            )
        if not all(run.metadata.get("isolated") for run in self.runs.values()):
            print("the agent ran without a container: it could have read the answers, so don't publish this score.")
        print(f"files: {self.path}")
        return code


def _table(rows: list[tuple[str, ...]], note: str) -> Table:
    table = tables.build(rows, ("", "job", "state", "time", ""), states=(2, 4))
    table.caption, table.caption_justify = note or None, "left"
    return table


def watch(group: Path, as_json: bool, emit: Callable[[Any], None], kind: type[Watch] = Watch) -> int:
    """Watch until every run has ended; prints the results; returns the exit code of the README."""
    one = kind(group, as_json, emit)
    try:
        return follow(one)
    finally:
        one.close()


def _plain(rows: list[tuple[str, str, str, str, str]], said: dict[str, tuple[str, str]]) -> None:
    for name, job, state, took, remark in rows:
        if said.get(job) != (state, remark):
            said[job] = (state, remark)
            words = [
                time.strftime("%H:%M:%S"),
                name,
                f"(job {job}):",
                state,
                took and f"after {took}",
                remark and f"- {remark}",
            ]
            print(" ".join(word for word in words if word), file=sys.stderr, flush=True)


def exit_code(states: Iterable[str]) -> int:
    """0 all scored, 3 something was lost, 130 cancelled, 4 an agent ended without a valid submission."""
    found = set(states)
    if not found or "lost" in found or found & set(metadata.OPEN_STATES):
        return 3
    if "cancelled" in found:
        return 130
    return 0 if found == {"scored"} else 4


def _result_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each run; for several rollouts one on all of them, and what they cost together."""
    several = summaries(map(Result.of_row, rows))
    covered = {one.name for summary in several for one in summary.results}
    alone = [row for row in rows if Path(row["run_directory"]).name not in covered]
    together = [row for row in rows if row not in alone]
    lines = [line for summary in several for line in summary.lines()]
    return lines + ([_together(together)] if together else []) + [_sentence(row) for row in alone]


def _together(rows: list[dict[str, Any]]) -> str:
    """Medals, cost and requests of several runs."""

    def total(column: str) -> float | None:
        known = [row[column] for row in rows]
        return None if None in known else sum(known)

    medals = {medal: sum(row[f"{medal}_medal"] is True for row in rows) for medal in metadata.MEDALS}
    basis = "estimate" if any(row["cost_basis"] == "estimate" for row in rows) else None
    won = ", ".join(f"{count} {medal}" for medal, count in medals.items() if count)
    parts = [f"medals: {won}"] if won else []
    parts.append(f"cost {_cost({key: total(key) for key in ('gpu_hours', 'cpu_hours')} | {'cost_basis': basis})}")
    if requests := sum(row["requests"] or 0 for row in rows):
        tokens = sum((row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0) for row in rows)
        parts.append(f"{requests} requests, {tokens} tokens")
        told = busy({key: sum(row[key] or 0 for row in rows) for key in ("rate_limited", "server_errors")})
        parts += [told] if told else []
    return f"all together: {'; '.join(parts)}"


def _sentence(row: dict[str, Any]) -> str:
    head = f"{row['task']} / {row['agent']}" + (f" / {row['model']}" if row["model"] else "") + f" (seed {row['seed']})"
    if row["state"] != "scored":
        return f"{head}: {row['state']}: {row['reason']}"
    if row["score"] is None:
        return f"{head}: scored, but the score can't be read: {row['reason']}"
    data = Run(Path(row["run_directory"])).report
    parts = [f"{head}: score {row['score']} ({_measure(row)})", *_standing(row, data)]
    if row["cut_short"]:
        parts.append(f"cut short: {row['cut_short']}")
    parts.append(f"cost {_cost(row)}")
    if row["requests"]:
        parts.append(
            f"{row['requests']} requests, {int(row['prompt_tokens'] or 0) + int(row['completion_tokens'] or 0)} tokens"
        )
        parts += [told] if (told := busy(row)) else []
    return "; ".join(parts)


def _cost(row: dict[str, Any]) -> str:
    told = (
        f"{name} not known" if row[column] is None else f"{row[column]:.3f} {name}"
        for column, name in (("gpu_hours", "GPU-hours"), ("cpu_hours", "CPU-hours"))
    )
    return ", ".join(told) + (" (estimated: no accounting)" if row["cost_basis"] == "estimate" else "")


def _measure(row: dict[str, Any]) -> str:
    metric = row["metric"] or "the competition's metric"
    if row["is_lower_better"] is None:
        return f"{metric}; whether higher or lower is better is not known"
    return f"{metric}, {'lower' if row['is_lower_better'] else 'higher'} is better"


def _standing(row: dict[str, Any], data: dict[str, Any]) -> list[str]:
    """Where a score stands, as far as that is known: by the leaderboard, else beside what is easy to reach."""
    for medal in metadata.MEDALS:
        if row[f"{medal}_medal"]:
            return [f"{medal} medal"]
    if row["above_median"] is not None and values.number(data.get("median_threshold")) is not None:
        return ["above the median" if row["above_median"] else "below the median"]
    reference = values.section(data, "reference")
    return [f"{name.replace('_', ' ')} {value:.4f}" for name, value in reference.items() if isinstance(value, float)]
