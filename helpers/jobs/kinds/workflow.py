"""Workflows: agents' runs, and the servers that they share. scripts_hpc/run_workflow.sh, or job scripts alone with sbatch."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs import addresses, progress
from helpers.jobs.fleet import JOB_ID
from helpers.jobs.kinds.base import Entry, Kind
from helpers.jobs.submitted import LISTS, jobs_of, submitted
from helpers.jobs.summary import Result, Summary, summaries
from helpers.lib import disk, text
from helpers.lib.values import section
from helpers.runs import cells, claims, metadata
from helpers.runs.metadata import Run
from helpers.scheduler import reasons
from helpers.scheduler.query import SchedulerUnavailable

AGENT_LOG = "agent.log"  # in a run's folder: what the agent printed
SERVERS = {"grading_server": "grading", "model_server": "model", "feedback_server": "model"}
SERVER_SECONDS = 20.0  # how long servers may take to end by themselves once the last run is done


class Workflow(Kind):
    """A run group. runs: by their job's id."""

    RECORD, MARK, COMMAND, ITEMS = "workflow.json", "_run-group_", "scripts_hpc/run_workflow.sh", "runs"
    PARTS = ("agent", "grading", "model")
    WATCHER = "helpers.jobs.watch"
    LOG_FOLDERS, OTHER_LOGS = ("logs", "../logs"), "../*/logs"  # beside all runs: a job submitted by hand

    def __init__(self, path: Path, site: AskedSite, only: str | None = None):
        super().__init__(path, site, only)
        self.jobs = jobs_of(path, self.record)
        self.looks = progress.Looks()
        self.runs = self.read_runs()
        self._claims = 0  # whoever follows looks at them first
        beaten = self._beaten()
        every = [entry for entry in self._entries() if entry.id not in beaten]
        self.agents = [entry.id for entry in every if entry.part == "agent"]
        self.only = only if only in self.agents and len(self.agents) > 1 else None
        self.others = [job for job in self.agents if self.only and job != self.only]
        apart = set(self.others)
        self.entries = [entry for entry in every if entry.id not in apart]

    @classmethod
    def item_of(cls, folder: Path, inner: Path) -> str | None:
        return Run(inner, disk.read_json(inner / "run_metadata.json") or {}).job_id or None

    @classmethod
    def holds(cls, folder: Path, word: str) -> str | None:
        if not JOB_ID.fullmatch(word):
            return cls.item_of(folder, folder / word)
        jobs = jobs_of(folder, disk.read_json(folder / cls.RECORD) or {})
        if word in jobs["agents"]:
            return word
        if word in [str(jobs.get(role)) for role in SERVERS]:
            return ""
        # scripts that were submitted alone have no record but their runs'
        return word if set(jobs) <= set(LISTS) and word in {run.job_id for run in metadata.runs_of(folder)} else None

    def read_runs(self) -> dict[str, Run]:
        return {run.job_id: run for run in metadata.runs_of(self.path)}

    def _beaten(self) -> set[str]:
        """The jobs whose rollout another one has claimed: they end at once, and nothing is to be said of them."""
        found = claims.beaten(self.path, self._asked())
        self.runs = {job: run for job, run in self.runs.items() if job not in found}
        return found

    def _asked(self) -> list[cells.Agent]:
        return cells.agents({**self.record, "jobs": self.jobs})

    def _entries(self) -> list[Entry]:
        reused = section(self.record, "reused")
        found: dict[str, Entry] = {}

        def add(job: Any, part: str, name: str, own: bool) -> None:
            if JOB_ID.fullmatch(str(job)):
                found.setdefault(str(job), Entry(str(job), part, name, own))

        add(self.jobs.get("grading_server"), "grading", "grading server", reused.get("grading") is not True)
        cell, feedback = cells.view(self.record), self.jobs.get("feedback_server")
        for model, job in section(self.jobs, "models").items():
            add(job, "model", "feedback model" if job == feedback else f"model {model}", True)
        model = f"model {cell.get('model') or ''}".strip()
        add(self.jobs.get("model_server"), "model", model, reused.get("model") is not True)
        add(feedback, "model", "feedback model", True)
        for run in self.runs.values():  # servers that were there before this run
            add(run.metadata.get("grading_job"), "grading", "grading server", False)
            add(run.metadata.get("model_job"), "model", f"model {run.metadata.get('model') or ''}".strip(), False)
        told = cells.cells(self.record)
        names = {one.job: told[one.cell].get("agent") for one in self._asked() if one.cell < len(told)}
        agents = dict.fromkeys([*self.jobs["agents"], *self.runs])
        for number, job in enumerate(agents):
            name = names.get(job) or (job in self.runs and self.runs[job].metadata.get("agent")) or cell.get("agent")
            add(job, "agent", f"agent {name or ''}".strip() + (f" #{number}" if len(agents) > 1 else ""), True)
        return list(found.values())

    def run_of(self, entry: Entry) -> Run | None:
        return self.runs.get(entry.id) if entry.part == "agent" else None

    @property
    def shown_runs(self) -> list[Run]:
        apart = set(self.others)
        return [run for job, run in self.runs.items() if job not in apart]

    @property
    def servers(self) -> list[str]:
        """The servers that this workflow submitted."""
        return [entry.id for entry in self.entries if entry.part != "agent" and entry.own]

    def users(self, server: str) -> list[str]:
        """The jobs of others that have told a server that they use it, but for those known to have ended."""
        ours = {*self.agents, *(job.partition("_")[0] for job in self.agents)}
        # (a Path's own glob fails where the server's end removes the folder meanwhile)
        noted = map(os.path.basename, glob.glob(f"*_{server}.consumers/*", root_dir=self.addresses))
        return [job for job in noted if JOB_ID.fullmatch(job) and job not in ours and not self.fleet.gone(job)]

    @property
    def lent(self) -> dict[str, list[str]]:
        """The servers of this workflow that jobs of others use, and which jobs: they go on without it."""
        used = {server: self.fleet.alive(self.users(server)) for server in self.fleet.alive(self.servers)}
        return {server: jobs for server, jobs in used.items() if jobs}

    def look(self) -> None:
        users = (job for server in self.servers for job in self.users(server))
        self.fleet.look([*(entry.id for entry in self.entries), *self.others, *users])

    # ---- following

    def open_jobs(self) -> list[str]:
        return [job for job in self.agents if job in self.runs and self.runs[job].is_open]

    def hear(self) -> None:
        """Read again what isn't known to have ended."""
        for job in self.open_jobs():
            before = self.runs[job].metadata
            self.runs[job].reread()
            if self.runs[job].metadata != before:
                self.fleet.stir()
        now = claims.changed(self.path)
        if now != self._claims or any(job not in self.runs for job in self.agents):
            self._claims = now
            self.runs = self.read_runs() | self.runs
            self._follow_claims()

    def _follow_claims(self) -> None:
        """Whoever has claimed a rollout is followed, also one whose submission nobody was told of; and nobody whom he has beaten."""
        beaten = self._beaten()
        self.agents = [job for job in self.agents if job not in beaten]
        self.entries = [entry for entry in self.entries if entry.id not in beaten]
        owners = [] if self.only else claims.owners(self.path).values()
        strays = [job for job in owners if job not in self.agents]
        self.agents += strays
        self.entries += [Entry(job, "agent", f"agent #{job}") for job in strays if JOB_ID.fullmatch(job)]

    def settle(self) -> None:
        for job in self.open_jobs():
            if (gone := self.fleet.gone(job)) and (verdict := metadata.verdict(gone, self.runs[job].metadata)):
                self._end(job, *verdict)

    def stopped(self, ids: list[str], reason: str) -> None:
        for job in set(ids) & set(self.open_jobs()):
            self._end(job, "cancelled", reason)

    def _end(self, job: str, state: str, reason: str) -> None:
        """The one place where a run gets its end from outside; one that it has got by itself stays."""
        run = self.runs[job]
        try:
            run.settle(state, reason)
        except OSError as error:
            print(f"can't write {run.directory}/run_metadata.json: {error.strerror}", file=sys.stderr)

    def note_jobs(self) -> None:
        """Put the jobs into the record, and a folder in place for each run that has none."""
        submitted(self.path)
        self.hear()

    def end_servers(self) -> None:
        """Servers that nobody uses end by themselves when told; what is left after a while is cancelled."""
        if self.record.get("cleanup") == "off":
            return
        told, until, pause = False, time.monotonic() + SERVER_SECONDS, 0.2
        self.fleet.stir()
        # nobody answers: they end by themselves, when their last consumer is gone
        with contextlib.suppress(SchedulerUnavailable):
            while True:
                Workflow.look(self)
                lent = self.lent
                if not (unused := [job for job in self.fleet.alive(self.servers) if job not in lent]):
                    break
                if not told:
                    self.fleet.scheduler.dismiss(unused)
                    told = True
                if time.monotonic() > until:
                    self.fleet.ask_again(job for one in unused for job in self.users(one))
                    self.fleet.cancel([job for job in unused if not self.users(job)])
                    return
                with self.fleet.waiting():
                    time.sleep(pause)
                pause = min(pause * 1.5, 3.0)
            self.forget_servers()

    def forget_servers(self) -> None:
        """Remove the addresses of this workflow's servers that died without a word. Raises SchedulerUnavailable."""
        addresses.forget(self.addresses, self.fleet, self.servers)

    def groups(self) -> list[Path]:
        """The folders of workflows that its runs lie in."""
        return [self.path]

    def tidy(self) -> None:
        metadata.tell_aggregate(self.path, list(self.runs.values()))

    # ---- what jobs.sh says

    def stoppable(self) -> list[Entry]:
        kept = {*self.lent, *(self.servers if self.fleet.alive(self.others) else [])}
        return [entry for entry in super().stoppable() if entry.id not in kept]

    def remarks(self) -> list[str]:
        if self.fleet.alive(self.others):
            return ["its servers go on: other runs of the same workflow use them"]
        lent = self.lent
        return [
            f"{entry} goes on: job {', '.join(lent[entry.id])} uses it" for entry in self.entries if entry.id in lent
        ]

    def items(self) -> list[dict[str, Any]]:
        return [
            {
                "run_directory": str(run.directory),
                "job_id": run.job_id,
                "state": run.state,
                "reason": run.reason or None,
                "score": metadata.score_of(run.report) if run.state == "scored" else None,
                "progress": self.looks.agent(run).data(time.time()) if run.state == "running" else None,
            }
            for run in self.shown_runs
        ]

    def item_lines(self) -> list[tuple[str, ...]]:
        return [(run.directory.name, run.state, self._told(run)) for run in self.shown_runs] or [
            ("no runs: nothing was submitted",)
        ]

    def summaries(self) -> list[Summary]:
        return summaries(map(Result.of_run, self.shown_runs))

    def _told(self, run: Run) -> str:
        """The score of a run, how far it is, or why it ended so."""
        score = metadata.score_of(run.report) if run.state == "scored" else None
        if run.state == "running" and (words := self.looks.agent(run).words(time.time())):
            return words
        return run.reason if score is None else f"score {score}"

    @cached_property
    def _services(self) -> dict[str, dict[str, Any]]:
        """What each server's job has noted of its times."""
        return {
            path.stem.rpartition("_")[2]: disk.read_json(path) or {} for path in self.path.glob("services/*_*.json")
        }

    def serves(self, entry: Entry) -> str:
        """How far a server is that runs: starting, ready or ending."""
        record = self._services.get(entry.id, {})
        return "ending" if record.get("ended_at") else "ready" if record.get("ready_at") else "starting"

    def doing(self, entry: Entry) -> str:
        if entry.part == "agent" or entry.id not in self._services:  # of others' servers nothing is known
            return ""
        said, loaded = self.serves(entry), self.loaded(entry)
        return f"{said}: {loaded}" if said == "starting" and loaded else said

    def loaded(self, entry: Entry) -> str:
        """How far a model's server has loaded it, by its log."""
        return self.looks.server(entry.id, lambda: self.log(entry)) if entry.part == "model" else ""

    def ended(self, entry: Entry) -> tuple[str, str] | None:
        run = self.run_of(entry)
        if run is None or run.is_open or run.state == "scored":
            return None
        cause = f"is {run.state}: {run.reason or 'no reason was noted'}"
        note = run.report.get("note")
        if run.state == "invalid_submission" and isinstance(note, str):
            cause += f" ({note[:300]})"
        if run.state == "agent_failed" and "more than limits.run_" in run.reason:
            return cause, f"have it write less, or raise that limit {self.words(entry)['at_site']}"
        return cause, metadata.END_STATES.get(run.state, "see its log")

    def own_words(self, entry: Entry) -> Path | None:
        """What an agent printed; while there is more than the job keeps of the beginning, the newest part of it."""
        run = self.run_of(entry)
        paths = [run.directory / f"{AGENT_LOG}{end}" for end in (".last", "")] if run else []
        return next((Path(os.path.abspath(path)) for path in paths if path.is_file()), None)

    def failed_by_itself(self, entry: Entry) -> bool:
        run = self.run_of(entry)
        return run is not None and run.state == "agent_failed"

    def log_knows_better(self, entry: Entry) -> bool:
        run = self.run_of(entry)
        return run is not None and run.state in ("agent_failed", "lost")

    @cached_property
    def _all_done(self) -> bool:
        shown = self.shown_runs
        return bool(shown) and all(run.state in ("scored", "invalid_submission", "no_submission") for run in shown)

    def is_done(self, entry: Entry) -> bool:
        if entry.part == "agent":
            run = self.run_of(entry)
            return run is not None and run.state == "scored"
        # servers are told to end, or cancelled, when all is done
        return not self.job(entry).alive and (self._all_done or super().is_done(entry))

    @cached_property
    def _awaited(self) -> str:
        servers = [one for one in self.entries if one.part != "agent" and self.serves(one) != "ready"]
        return " and ".join(f"{one.name} ({self.job(one).state.lower()})" for one in servers) or "its servers"

    def at_work(self, entry: Entry) -> tuple[str, str]:
        if entry.part == "agent":
            run = self.run_of(entry)
            if run is None or run.state != "waiting":
                return super().at_work(entry)
            return text.literal(f"has started and waits for {self._awaited}"), "see their lines"
        if self.serves(entry) == "ready":
            return "serves", "nothing to do, it ends by itself after its last run"
        if self.serves(entry) == "ending":
            return "ends", "nothing to do"
        if entry.part == "model":
            loaded = self.loaded(entry)
            said = f" ({reasons.literal(loaded)})" if loaded else ""
            return f"is loading the model{said}, which takes 5 to 15 minutes the first time", "follow it with `{logs}`"
        return "is starting", "follow it with `{logs}`"

    def words(self, entry: Entry) -> dict[str, str]:
        gpus = entry.part == "model" and section(self.record, "model_config").get("engine") == "vllm"
        role = "gpu" if gpus else "cpu"
        job = {"agent": "agent", "grading": "grading_server", "model": "model_server"}[entry.part]
        partition = section(section(self.config, "partitions"), role).get("name") or f"of role {role}"
        return reasons.keys(job, role, self.record.get("site")) | {"partition": partition}
