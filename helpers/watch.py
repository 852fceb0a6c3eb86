"""Watches a workflow: a line a job while it lives, the results when it has ended. Killing the watcher harms nothing."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from helpers import runs, values
from helpers.runs import Run
from helpers.scheduler import Job, Scheduler, SchedulerUnavailable
from helpers.signals import ctrl_c, ignore_signals, interrupt

POLL_SECONDS = {"slurm": 2.0, "local": 0.25}
GONE_SECONDS = (
    6.0  # how long a job must be missing before that is believed: a shared file system shows its last words late
)
SERVER_SECONDS = 20.0  # how long servers may take to end by themselves once the last run is done


class Watch:
    """One workflow under watch. group: its directory; `jobs`: what the scheduler said last."""

    def __init__(self, group: Path):
        self.group = group
        self.record = self._read_record()
        self.ids = runs.job_ids(self.record)
        self.scheduler = Scheduler(
            self.record["config"]["scheduler"]["kind"], self.record["config"]["paths"]["address_dir"]
        )
        self.jobs: dict[str, Job] = {}
        self.missing_since: dict[str, float] = {}
        self.note = ""

    def _read_record(self) -> dict[str, Any]:
        record = runs.read_json(self.group / "workflow.json")
        if record is None:
            raise FileNotFoundError(2, "no workflow.json: not a run of run_workflow.sh", str(self.group))
        submitted = self.group / "jobs" / "submitted"
        if runs.job_ids(record) or not submitted.exists():
            return record
        # run_workflow.sh was killed before it could note them
        from helpers.workflow import submitted as note

        note(self.group, [line.split("=", 1) for line in submitted.read_text(encoding="utf-8").split() if "=" in line])
        return runs.read_json(self.group / "workflow.json") or record

    @property
    def server_ids(self) -> list[str]:
        return [job for job in self.ids if job not in self.record["jobs"]["agents"]]

    def names(self) -> dict[str, str]:
        jobs = self.record["jobs"]
        model, agent = self.record.get("model"), self.record.get("agent")
        names = {str(jobs.get("grading_server")): "grading server", str(jobs.get("model_server")): f"model {model}"}
        if jobs.get("feedback_server"):
            names[str(jobs["feedback_server"])] = "feedback model"
        many = len(jobs["agents"]) > 1
        names |= {job: f"agent {agent}" + (f" #{number}" if many else "") for number, job in enumerate(jobs["agents"])}
        return names

    def look(self) -> list[Run]:
        """Ask the scheduler once for all jobs, read the runs, and settle those whose job ended without a word."""
        try:
            self.jobs |= self.scheduler.states(self.ids)
            self.note = ""
        except SchedulerUnavailable as error:
            self.note = f"the scheduler doesn't answer ({error}); asking again"
            return runs.runs_of(self.group)
        found = runs.runs_of(self.group)
        for run in found:
            if run.is_open:
                self._settle(run)
        return found

    def _settle(self, run: Run) -> None:
        verdict = runs.verdict(self.jobs[run.job_id]) if run.job_id in self.jobs else None
        if verdict is None:
            self.missing_since.pop(run.job_id, None)
            return
        since = self.missing_since.setdefault(run.job_id, time.monotonic())
        run.reread()
        if run.is_open and time.monotonic() - since >= GONE_SECONDS:
            run.settle(*verdict)

    def lines(self, found: list[Run]) -> list[tuple[str, str, str, str, str]]:
        """name, job id, state, elapsed, remark of every job."""
        by_job = {run.job_id: run for run in found}
        rows = []
        for job, name in self.names().items():
            if job not in self.ids:
                continue
            seen = self.jobs.get(job, Job(job, "?"))
            run = by_job.get(job)
            remark = seen.reason if seen.reason not in ("None", "") else ""
            if run and not (seen.state == "PENDING"):
                remark = run.state if run.is_open else f"{run.state}: {run.reason}"
            elif not run and seen.state == "RUNNING":
                remark = "ready" if self._is_ready(job) else "starting"
            rows.append((name, job, seen.state.lower(), _elapsed(seen.elapsed), remark))
        return rows

    def _is_ready(self, job: str) -> bool:
        files = self.group.glob(f"services/*_{job}.json")
        return any((runs.read_json(file) or {}).get("ready_at") for file in files)

    def end_servers(self) -> None:
        """Servers end by themselves when told; what is left after a while is cancelled."""
        if self.record.get("cleanup") == "off":
            return
        until = time.monotonic() + SERVER_SECONDS
        told = False
        while alive := self._servers_left():
            if not told:
                self.scheduler.dismiss(alive)
                told = True
            if time.monotonic() > until:
                self.scheduler.cancel(alive)
                return
            time.sleep(0.2)
        self._forget_servers()

    def _forget_servers(self) -> None:
        """Remove the addresses of this workflow's servers that died without a word."""
        with contextlib.suppress(SchedulerUnavailable, OSError):
            alive = self.alive(self.server_ids)
            folder = Path(self.record["config"]["paths"]["address_dir"])
            for job in set(self.server_ids) - set(alive):
                for path in (*folder.glob(f"*_{job}"), *folder.glob(f"*_{job}.failed")):
                    path.unlink(missing_ok=True)
                for path in folder.glob(f"*_{job}.consumers"):
                    shutil.rmtree(path, ignore_errors=True)

    def _servers_left(self) -> list[str]:
        try:
            return self.alive(self.server_ids)
        except SchedulerUnavailable:
            return []  # they end by themselves, when their last consumer is gone

    def alive(self, ids: list[str]) -> list[str]:
        """Those of the jobs that live; raises SchedulerUnavailable."""
        return [job.id for job in self.scheduler.states(ids).values() if job.alive]

    def cancel(self) -> bool:
        """Cancel every job of the workflow and settle what was open; False when it isn't known whether all have ended."""
        self.scheduler.cancel(self.ids)
        started = time.monotonic()
        while time.monotonic() - started < 60:
            try:
                if not self.alive(self.ids):
                    break
            except SchedulerUnavailable:
                if time.monotonic() - started > 10:
                    return False
            time.sleep(0.2)
        else:
            return False
        self._forget_servers()
        for run in runs.runs_of(self.group):
            if run.is_open:
                run.settle("cancelled", "interrupted with Ctrl-C")
        return True


def _elapsed(text: str) -> str:
    return f"{int(text) // 60}:{int(text) % 60:02d}" if text.isdigit() else text


def _table(rows: list[tuple[str, ...]], note: str) -> Table:
    table = Table(box=None, caption=note or None, caption_justify="left")
    for title in ("", "job", "state", "time", ""):
        table.add_column(title, no_wrap=title != "", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def watch(group: Path, as_json: bool, emit: Callable[[Any], None]) -> int:
    """Watch until every run has ended; prints the results; returns the exit code of the README."""
    console = Console(stderr=True)
    one = Watch(group)
    try:
        for number in (ctrl_c(), signal.SIGTERM):
            signal.signal(number, interrupt)
        found = _follow(one, console)
        one.end_servers()
        ignore_signals()
    except KeyboardInterrupt:
        console.print("ending all jobs of this run …")
        if not one.cancel():
            console.print(f"not all jobs are known to have ended: scripts_hpc/jobs.sh stop {group} tries again")
        found = runs.runs_of(group)
        report(one, found, as_json, emit)
        return 130
    report(one, found, as_json, emit)
    return exit_code(found)


def _follow(one: Watch, console: Console) -> list[Run]:
    pause = POLL_SECONDS[one.scheduler.kind]
    said: dict[str, tuple[str, str]] = {}
    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else _Nothing() as live:
        while True:
            found = one.look()
            rows = one.lines(found)
            if console.is_terminal:
                live.update(_table(rows, one.note), refresh=True)
            else:
                _plain(rows, said, console)
            if found and not any(run.is_open for run in found):
                return found
            if not found and not one.note and not any(job.alive for job in one.jobs.values()):
                return found
            time.sleep(pause)


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: Any) -> None: ...


def _plain(rows: list[tuple[str, str, str, str, str]], said: dict[str, tuple[str, str]], console: Console) -> None:
    for name, job, state, elapsed, remark in rows:
        if said.get(job) != (state, remark):
            said[job] = (state, remark)
            words = [
                time.strftime("%H:%M:%S"),
                name,
                f"(job {job}):",
                state,
                elapsed and f"after {elapsed}",
                remark and f"- {remark}",
            ]
            print(" ".join(word for word in words if word), file=sys.stderr, flush=True)


def exit_code(found: list[Run]) -> int:
    """0 all scored, 3 something was lost, 130 cancelled, 4 an agent ended without a valid submission."""
    states = {run.state for run in found}
    if not states or "lost" in states or states & set(runs.OPEN_STATES):
        return 3
    if "cancelled" in states:
        return 130
    return 0 if states == {"scored"} else 4


def report(one: Watch, found: list[Run], as_json: bool, emit: Callable[[Any], None]) -> None:
    """The end of it: state and score of every run, where the score stands, what it cost, where the files are."""
    from helpers.export_results import rows_of

    runs.tell_aggregate(one.group)
    rows = rows_of([one.group], keep_all=True)
    if as_json:
        emit({"run": str(one.group), "exit_code": exit_code(found), "results": rows})
        return
    for row in rows:
        print(_sentence(row))
    if not found:
        print("no agent was submitted: the submission was broken off before.")
    if one.record.get("language_model") is False:
        print("model 'replay' is not a language model: this run shows that everything works, not what an agent can do.")
    if not all(run.metadata.get("isolated") for run in found):
        print("the agent ran without a container: it could have read the answers, so don't publish this score.")
    print(f"files: {one.group}")


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
    for medal in runs.MEDALS:
        if row[f"{medal}_medal"]:
            return [f"{medal} medal"]
    if row["above_median"] is not None and values.number(data.get("median_threshold")) is not None:
        return ["above the median" if row["above_median"] else "below the median"]
    reference = values.section(data, "reference")
    return [f"{name.replace('_', ' ')} {value:.4f}" for name, value in reference.items() if isinstance(value, float)]
