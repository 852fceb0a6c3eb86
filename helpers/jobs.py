"""What the jobs of a run are doing, their logs, ending them, and why one waits or died. scripts_hpc/jobs.sh runs it."""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from helpers import container_faults, runs
from helpers.runs import Run
from helpers.scheduler import Job, Scheduler, SchedulerUnavailable

PARTS = ("agent", "grading", "model")  # the order in which to read logs
DOUBT_SECONDS = 2.0  # a job is asked for twice before its run is settled: a shared file system shows last words late
STOP_SECONDS = 60.0
LOG_LINES, LOG_BYTES = 40, 64 * 1024
NEWEST = 5
JOB_ID = re.compile(r"\d+(_\d+)?")
RUN_NAME = re.compile(r".+_\d+")
# an agent's output could drive the terminal, or turn the order of what is shown
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
AGENT_LOG = "agent.log"  # in a run's folder: what the agent printed, which only `logs` repeats, as the agent's
# `<script>: message`, as die of scripts_hpc/lib/common.sh says it; Slurm runs every script under the name slurm_script
LAST_WORDS = re.compile(r"^(?:\S*/)?(?:slurm_script|[\w.-]+\.sh): (?!line \d+:)(.+)$", re.MULTILINE)

# Why a job waits: Slurm's reason (https://slurm.schedmd.com/job_reason_codes.html), what it means, what to do.
# The first that fits the whole reason counts.
REASONS = (
    (r"|None", "was just submitted", "ask again in a minute"),
    (
        r"Priority",
        "waits behind jobs of higher priority",
        "nothing to mend, `squeue --start --jobs={id}` shows when Slurm means to start it",
    ),
    (
        r"Resources",
        "is at the head of the queue and waits until enough of partition {partition} is free",
        "wait, or ask for less: {size}",
    ),
    (r"Dependency", "waits until the jobs before it have started", "see what those wait for"),
    (r"DependencyNeverSatisfied", "waits for a job that can't start any more", "`{stop}`, and start the run again"),
    (
        r"BeginTime",
        "was put back for a while, usually after a failed start",
        "wait some minutes, or `scontrol update jobid={id} starttime=now`",
    ),
    (r"JobHeldUser", "is held by its owner", "`scontrol release {id}`"),
    (r"JobHeldAdmin", "is held by an administrator", "ask the cluster's support why, naming job {id}"),
    (
        r"(?i:.*requeued.*held.*|JobHoldMaxRequeue|RequeueExitHold|JobLaunchFailure|Prolog failed.*)",
        "could not be started on its node, and is held",
        "`scontrol release {id}`, and if it comes back keep away from that node: scheduler.extra_sbatch {at_site}",
    ),
    (
        r"\w*Submit\w*",
        "would be one job too many in the queue for its owner",
        "wait until others have ended, or ask for fewer --rollouts (limits.max_submit {at_site})",
    ),
    (
        r"\w*(Max|Grp)Jobs\w*|QOSJobLimit|AssociationJobLimit",
        "waits because as many jobs run as the account or QOS allows at once",
        "wait until one ends (`squeue --me`), or use another: {account}",
    ),
    (
        r"\w+WallDurationPerJob\w*|PartitionTimeLimit|QOSTimeLimit|AssociationTimeLimit|\w+TimeLimit",
        "asks for more time than its partition, account or QOS allows, and will never start",
        "`{stop}`, then lower {time}, or choose another partition: {partition_key}",
    ),
    (
        r"\w*Grp\w*(Minutes|WallLimit)\w*",
        "waits because the account's or QOS's budget of hours is used up",
        "get more hours, or use another account or QOS: {account}",
    ),
    (
        r"(Assoc|QOS)Grp\w*|QOSResourceLimit|AssociationResourceLimit",
        "waits because the jobs of its account or QOS use all that they may have at once",
        "wait until some end, or use another account or QOS: {account}",
    ),
    (
        r"\w*Max\w+Per(User|Account)\w*|Max\w+PerAccount",
        "waits because its owner's jobs use all that one user or account may have at once",
        "wait until some end (`squeue --me`), or stop one",
    ),
    (
        r"(QOS|Assoc)Max\w*|MaxMemPerLimit|MaxMemPerCPU",
        "asks for more than one job may have, and will never start",
        "`{stop}`, then lower {size}, or use another QOS: {account}",
    ),
    (r"QOSMin\w*", "asks for less than its QOS demands", "`{stop}`, then use another QOS: {account}"),
    (
        r"InvalidAccount|AccountNotAllowed|AccountingPolicy",
        "has an account that may not be used here",
        "`{stop}`, then set {account}; `sacctmgr show assoc user=$USER` lists yours",
    ),
    (
        r"InvalidQOS|QOSNotAllowed|QOSUsageThreshold",
        "has a QOS that may not be used here",
        "`{stop}`, then set {account}; `sacctmgr show assoc user=$USER format=account,qos` lists yours",
    ),
    (
        r"PartitionDown|PartitionInactive",
        "waits because partition {partition} is closed",
        "wait until it opens (`sinfo`), or choose another: {partition_key}",
    ),
    (
        r"BadConstraints|PartitionConfig|PartitionNodeLimit|Requested node configuration.*|NodeSet",
        "asks for something that no node of partition {partition} has, and will never start",
        "`{stop}`, then mend {size}, gpu.request or scheduler.constraint {at_site}",
    ),
    (
        r"ReqNodeNotAvail.*|Nodes required for job.*|NodeDown|.*UnavailableNodes.*|FrontEndDown",
        "waits because nodes that it needs are down, drained or reserved, often for a maintenance ahead",
        "see `sinfo -R` and `scontrol show reservation`; a job short enough to end before still starts: lower {time}",
    ),
    (
        r"Reserv\w*|ReqResv|RequiresReservation",
        "waits for its reservation",
        "see `scontrol show reservation` and scheduler.reservation {at_site}",
    ),
    (r"Licenses", "waits for a licence", "wait, or take it out of scheduler.extra_sbatch {at_site}"),
    (r"Cleaning|Prolog|BurstBuffer\w*", "is being prepared by the scheduler", "ask again in a minute"),
    (r"JobArrayTaskLimit", "waits because enough tasks of its array run", "wait until one ends"),
)
REASON_UNKNOWN = (
    "waits, and the scheduler says '{reason}'",
    "see `scontrol show job {id}`, or ask the cluster's support",
)

# How a job died: Slurm's state (https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES).
ENDS = {
    "OUT_OF_MEMORY": ("needed more memory than it had asked for", "raise {memory}"),
    "TIMEOUT": ("reached its time limit", "raise {time}"),
    "DEADLINE": ("could not end before its deadline", "raise {time}"),
    "NODE_FAIL": (
        "died with its node {node}",
        "run again; if it fails there again, avoid the node: scheduler.extra_sbatch {at_site}",
    ),
    "BOOT_FAIL": ("died because its node {node} did not boot", "run again, and tell the cluster's support"),
    "LAUNCH_FAILED": ("could not be started on {node}", "run again, and tell the cluster's support"),
    "PREEMPTED": (
        "had to make room for a job that goes first",
        "run again, or use a QOS or partition that is not preempted: {account}",
    ),
    "REVOKED": ("was taken back by the scheduler", "run again"),
    "CANCELLED": ("was cancelled", "run again when wanted"),
    "GONE": ("has ended so long ago that the scheduler doesn't know it any more", "read its log: `{logs}`"),
    "COMPLETED": ("ended", "read its log: `{logs}`"),
    "FAILED": ("failed", "read its log: `{logs}`"),
}

# What logs say of well-known deaths. The last one in a log counts.
HINTS = (
    (
        r"CUDA out of memory|HIP out of memory|torch\.(cuda\.)?OutOfMemoryError",
        "the GPU's memory was too small",
        "give the model more gpus or a smaller context_length in site-config/models.yaml, or take a smaller model",
    ),
    (
        r"No available memory for the cache blocks|larger than the (maximum number of tokens|available KV cache)",
        "the GPU's memory was too small for the context length",
        "lower context_length, or raise gpu_memory_fraction, of the model in site-config/models.yaml",
    ),
    (
        r"oom[-_]kill|Out of memory: Killed|\bMemoryError\b",
        "it needed more memory than it had asked for",
        "raise {memory}",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "a disk or quota was full",
        "free space, or point paths.scratch, paths.runs or paths.models {at_site} elsewhere",
    ),
    (
        r"[Aa]ddress already in use|EADDRINUSE",
        "its port was taken",
        "run again; if it happens often, choose another range: network.ports {at_site}",
    ),
    (
        r"GatedRepoError|gated repo|Access to model \S+ is restricted|401 Client Error|Invalid user ?name or password",
        "Hugging Face refused the model's weights",
        "accept the licence on the model's page, set HF_TOKEN, and fetch them with scripts_hpc/download_model.sh",
    ),
    (
        r"LocalEntryNotFoundError|outgoing traffic has been disabled|offline mode is enabled",
        "the model's weights are not in the cache and can't be fetched from there",
        "on a login node: scripts_hpc/download_model.sh <model>",
    ),
    (
        r"no NVIDIA GPU|Found no NVIDIA driver|driver version is insufficient|No CUDA GPUs are available|No HIP GPUs",
        "it saw no GPU that it can use",
        "check gpu.request, gpu.vendor and partitions.gpu.name {at_site}",
    ),
    (
        r"could not open image|image \S+ is missing|failed to (retrieve|open) .*\.sif",
        "its container image is missing or unreadable",
        "containers/build_all_containers.sh, and paths.containers {at_site}",
    ),
    (
        r"Unable to locate a modulefile|module\(s\) are unknown|The following module\(s\)|module: command not found",
        "a module could not be loaded",
        "mend environment.modules {at_site}",
    ),
    (r"DUE TO TIME LIMIT", "it reached its time limit", "raise {time}"),
    (r"DUE TO PREEMPTION", "it had to make room for a job that goes first", "run again, or use another QOS: {account}"),
)


class Refused(Exception):
    """A request that can't be met; `code` is the exit code."""

    def __init__(self, message: str, code: int = 2):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Entry:
    """A job of a run. part: agent, grading or model; own: submitted by this run, so that stopping the run ends it."""

    id: str
    part: str
    name: str
    own: bool

    def __str__(self) -> str:
        return f"{self.name} (job {self.id})"


def _section(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _clean(text: Any) -> str:
    return UNPRINTABLE.sub(" ", str(text))


def _jobs(group: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The job ids by role, `agents` a list; of a submission that was killed midway, what it had noted by then."""
    jobs = dict(_section(record, "jobs"))
    listed = jobs.get("agents")
    jobs["agents"] = [str(job) for job in listed] if isinstance(listed, list) else []
    if len(jobs) > 1 or jobs["agents"]:
        return jobs
    try:
        lines = runs.read_file(group / "jobs" / "submitted").decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return jobs
    for role, _, job in (line.partition("=") for line in lines):
        if role == "agent":
            jobs["agents"].append(job)
        else:
            jobs[role] = job
    return jobs


class Group:
    """A workflow's folder. only: the one agent's job that is meant, None for all; site: for a run that names none."""

    def __init__(self, path: Path, only: str | None, site: Site):
        self.path = path
        self.record = runs.read_json(path / "workflow.json") or {}
        self.runs = runs.runs_of(path)
        every = self._entries()
        agents = [entry.id for entry in every if entry.part == "agent"]
        self.only = only if only in agents and len(agents) > 1 else None
        self.others = [job for job in agents if self.only and job != self.only]
        self.entries = [entry for entry in every if entry.id not in self.others]
        config = _section(self.record, "config")
        kind = _section(config, "scheduler").get("kind")
        folder = _section(config, "paths").get("address_dir")
        if kind not in ("slurm", "local") or not isinstance(folder, str):
            kind, folder = site.scheduler
        self.kind: str = kind
        self.scheduler = Scheduler(kind, folder)

    def _entries(self) -> list[Entry]:
        jobs, reused = _jobs(self.path, self.record), _section(self.record, "reused")
        found: list[Entry] = []

        def add(job: Any, part: str, name: str, own: bool) -> None:
            job = str(job)
            if JOB_ID.fullmatch(job) and job not in [entry.id for entry in found]:
                found.append(Entry(job, part, name, own))

        model = f"model {self.record.get('model') or ''}".strip()
        add(jobs.get("grading_server"), "grading", "grading server", reused.get("grading") is not True)
        add(jobs.get("model_server"), "model", model, reused.get("model") is not True)
        add(jobs.get("feedback_server"), "model", "feedback model", True)
        for run in self.runs:  # servers that were there before this run
            add(run.metadata.get("grading_job"), "grading", "grading server", False)
            add(run.metadata.get("model_job"), "model", f"model {run.metadata.get('model') or ''}".strip(), False)
        agents = dict.fromkeys([*jobs["agents"], *(run.job_id for run in self.runs)])
        for number, job in enumerate(agents):
            run = self.run_of(job)
            name = self.record.get("agent") or (run.metadata.get("agent") if run else None) or ""
            add(job, "agent", f"agent {name}".strip() + (f" #{number}" if len(agents) > 1 else ""), True)
        return found

    def run_of(self, job: str) -> Run | None:
        return next((run for run in self.runs if run.job_id == job), None)

    def agent_log(self, entry: Entry) -> Path | None:
        """What an agent printed; while there is more than the job keeps of the beginning, the newest part of it."""
        run = self.run_of(entry.id) if entry.part == "agent" else None
        paths = [run.directory / f"{AGENT_LOG}{end}" for end in (".last", "")] if run else []
        return next((Path(os.path.abspath(path)) for path in paths if path.is_file()), None)

    @property
    def shown_runs(self) -> list[Run]:
        return [run for run in self.runs if run.job_id not in self.others]

    def states(self) -> dict[str, Job]:
        """What the scheduler says of each job; raises SchedulerUnavailable."""
        return self.scheduler.states([*(entry.id for entry in self.entries), *self.others])

    def settle(self, states: dict[str, Job]) -> dict[str, Job]:
        """Give runs whose job ended without a word their end state; returns what the scheduler said last."""

        def silent() -> list[Run]:
            return [
                run for run in self.runs if run.is_open and run.job_id in states and runs.verdict(states[run.job_id])
            ]

        if not (doubtful := silent()):
            return states
        time.sleep(DOUBT_SECONDS)
        states = states | self.scheduler.states([run.job_id for run in doubtful])
        for run in doubtful:
            _reread(run)
        for run in silent():
            try:
                run.settle(*(runs.verdict(states[run.job_id]) or ("lost", "")))
            except OSError as error:
                _say(f"can't write {run.directory}/run_metadata.json: {error.strerror}")
        return states

    def ready(self, entry: Entry) -> bool:
        records = (runs.read_json(path) or {} for path in self.path.glob(f"services/*_{entry.id}.json"))
        return any(record.get("ready_at") and not record.get("ended_at") for record in records)

    def log(self, entry: Entry) -> Path | None:
        """The log: in this run, beside all runs (a job submitted by hand), or in the run that started the server."""
        for pattern in ("logs", "../logs", *([] if entry.own else ["../*/logs"])):
            if found := sorted(self.path.glob(f"{pattern}/*-{entry.id}.out")):
                return Path(os.path.abspath(found[-1]))
        return None


def _reread(run: Run) -> None:
    os.listdir(run.directory)  # makes a network file system look again
    run.reread()


def _tail(path: Path | None) -> str:
    """The end of a log, printable; empty where there is none."""
    if path is None:
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return ""
        file.seek(max(0, status.st_size - LOG_BYTES))
        return _clean(file.read(LOG_BYTES).decode("utf-8", "replace"))


def _last_lines(path: Path | None) -> list[str]:
    return _tail(path).splitlines()[-LOG_LINES:]


# ---- which run is meant


class Site:
    """The site, loaded when first asked for: a run that names its own needs none."""

    def __init__(self, name: str | None):
        self.name = name
        self._loaded: Any = None

    def _load(self) -> Any:
        if self._loaded is None:
            from helpers import site_config

            try:
                self._loaded = site_config.load_site(site_config.pick_site(self.name))
            except site_config.ConfigError as error:
                raise Refused("\n".join(error.problems)) from error
        return self._loaded

    @property
    def scheduler(self) -> tuple[str, str]:
        site = self._load()
        return site.scheduler.kind, site.paths.address_dir

    @property
    def runs(self) -> Path:
        return Path(self._load().paths.runs)


def _is_group(path: Path) -> bool:
    return "_run-group_" in path.name or (path / "workflow.json").exists()


def _groups(folder: Path) -> list[Path]:
    """The workflows' folders in a folder, newest first: their names begin with the time."""
    try:
        return sorted((path for path in folder.iterdir() if _is_group(path)), key=lambda path: path.name, reverse=True)
    except OSError:
        return []


def _from_path(path: Path) -> tuple[Path, str | None] | None:
    """The workflow's folder that a path lies in, and the job of the run that it lies in."""
    path = path.resolve()
    for inner, folder in zip((path, path, *path.parents), (path, *path.parents), strict=False):
        if _is_group(folder) or (inner != folder and (inner / "run_metadata.json").exists()):
            is_run = inner != folder and ((inner / "run_metadata.json").exists() or RUN_NAME.fullmatch(inner.name))
            return folder, inner.name.rpartition("_")[2] if is_run else None
    return None


def _holds(group: Path, word: str) -> str | None:
    """The agent's job that a run's name or a job's id means in this workflow; empty for a server's job."""
    if JOB_ID.fullmatch(word):
        jobs = _jobs(group, runs.read_json(group / "workflow.json") or {})
        if word in jobs["agents"] or any(group.glob(f"*_{word}/run_metadata.json")):
            return word
        return "" if word in [jobs.get(f"{one}_server") for one in ("grading", "model", "feedback")] else None
    return word.rpartition("_")[2] if RUN_NAME.fullmatch(word) and (group / word).is_dir() else None


def find(word: str | None, site: Site) -> Group:
    """The run that a person means: a path, a name below paths.runs, a job's id, or nothing for the newest one."""
    if word and os.path.exists(word) and (found := _from_path(Path(word))):
        return Group(*found, site)
    groups = _groups(site.runs)
    if word is None:
        if not groups:
            raise Refused(f"no runs yet in {site.runs} (paths.runs); start one with scripts_hpc/run_workflow.sh")
        return Group(groups[0], None, site)
    if not word.startswith("/") and (site.runs / word).exists() and (found := _from_path(site.runs / word)):
        return Group(*found, site)
    for group in groups:
        if "/" not in word and (job := _holds(group, word)) is not None:
            return Group(group, job or None, site)
    newest = "".join(f"\n  {group.name}" for group in groups[:NEWEST])
    raise Refused(
        f"'{word}' is no run: neither a run's folder, nor the name of one or the id of a job of one in {site.runs}. "
        + (f"The newest runs there:{newest}" if newest else "There are no runs in it.")
    )


# ---- the verbs: each returns what --json prints, and prints lines otherwise


def _elapsed(text: str) -> str:
    return f"{int(text) // 60}:{int(text) % 60:02d}" if text.isdigit() else text


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run_directory": str(run.directory),
        "job_id": run.job_id,
        "state": run.state,
        "reason": run.reason or None,
        "score": runs.score_of(run.report) if run.state == "scored" else None,
    }


def _run_lines(group: Group) -> list[str]:
    rows = []
    for data in map(_run_json, group.shown_runs):
        said = f"score {data['score']}" if data["score"] is not None else data["reason"] or ""
        rows.append((Path(data["run_directory"]).name, data["state"], said))
    return _columns(rows) if rows else ["no runs: nothing was submitted"]


def status(group: Group) -> tuple[dict[str, Any], list[str]]:
    try:
        states = group.settle(group.states())
    except SchedulerUnavailable:
        _say("what the files say:\n" + "\n".join(_run_lines(group)))
        raise
    jobs = [states.get(entry.id, Job(entry.id, "GONE")) for entry in group.entries]
    data = {
        "run": str(group.path),
        "jobs": [
            {"name": entry.name, "part": entry.part, **asdict(job)}
            for entry, job in zip(group.entries, jobs, strict=True)
        ],
        "runs": [_run_json(run) for run in group.shown_runs],
    }
    rows = [
        (
            entry.name,
            f"job {job.id}",
            job.state,
            "" if job.reason == "None" else job.reason,
            _elapsed(job.elapsed),
            job.node,
        )
        for entry, job in zip(group.entries, jobs, strict=True)
    ]
    return data, [str(group.path), *(_columns(rows) if rows else []), "", *_run_lines(group)]


def logs(group: Group, part: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    data, lines = [], []
    for entry in sorted(group.entries, key=lambda entry: PARTS.index(entry.part)):
        if part in (None, entry.part):
            path = group.log(entry)
            text = _last_lines(path)
            data.append({"name": entry.name, "id": entry.id, "path": str(path) if path else None, "lines": text})
            lines += [
                f"== {entry}: {path or 'no log: it has not started, or its log is not below ' + str(group.path)}",
                *text,
                "",
            ]
            if own := group.agent_log(entry):
                said = _last_lines(own)
                data[-1] |= {"agent_path": str(own), "agent_lines": said}
                lines += [f"== what {entry} printed itself: {own}", *(f"| {line}" for line in said), ""]
    if not data:
        lines = [f"{group.path.name} has no {part or ''} jobs".replace("  ", " ")]
    return data, lines


def _still_there(group: Group, ids: list[str]) -> list[str]:
    try:
        return [job.id for job in group.scheduler.states(ids).values() if job.alive]
    except SchedulerUnavailable:  # not known is not gone
        return ids


def stop(group: Group) -> tuple[dict[str, Any], list[str]]:
    states = group.states()
    shared = any(states[job].alive for job in group.others if job in states)
    ids = [
        entry.id
        for entry in group.entries
        if entry.own and entry.id in states and states[entry.id].alive and (entry.part == "agent" or not shared)
    ]
    group.scheduler.cancel(ids)
    until = time.monotonic() + STOP_SECONDS
    while left := _still_there(group, ids):
        if time.monotonic() > until:
            said = f"still there after {STOP_SECONDS:.0f} s: job {', '.join(left)}"
            raise Refused(f"{said}. Is it yours? See `squeue --me`.", 3)
        time.sleep(0.2 if group.kind == "local" else 1)
    for run in group.runs:
        _reread(run)
        if run.is_open and run.job_id in ids:
            run.settle("cancelled", "stopped with jobs.sh stop")
    group.settle({job: one for job, one in states.items() if job not in ids})
    stopped = [entry for entry in group.entries if entry.id in ids]
    data = {
        "run": str(group.path),
        "stopped": [{"name": entry.name, "id": entry.id} for entry in stopped],
        "runs": [_run_json(run) for run in group.shown_runs],
    }
    lines = [f"stopped: {', '.join(map(str, stopped))}" if stopped else "nothing to stop: no job of this run is alive"]
    if shared:
        lines.append("its servers go on: other runs of the same workflow use them")
    return data, [str(group.path), *lines, *_run_lines(group)]


# ---- why


class _Why:
    """Finds the sentence for each job. states: what the scheduler said."""

    def __init__(self, group: Group, states: dict[str, Job]):
        self.group = group
        self.states = states

    def job(self, entry: Entry) -> Job:
        return self.states.get(entry.id, Job(entry.id, "GONE"))

    def words(self, entry: Entry) -> dict[str, str]:
        record, config = self.group.record, _section(self.group.record, "config")
        gpus = entry.part == "model" and _section(record, "model_config").get("engine") == "vllm"
        role = "gpu" if gpus else "cpu"
        site = f"of site {record['site']}" if record.get("site") else "of the site"
        command = f"scripts_hpc/jobs.sh {{}} {self.group.path}"
        section = {"agent": "jobs.agent", "grading": "jobs.grading_server", "model": "jobs.model_server"}[entry.part]
        of_model = "of the model in site-config/models.yaml"
        return {
            "id": entry.id,
            "reason": self.job(entry).reason,
            "node": self.job(entry).node or "(unknown)",
            "at_site": site,
            "partition": _section(_section(config, "partitions"), role).get("name") or f"of role {role}",
            "partition_key": f"partitions.{role}.name {site}",
            "account": f"scheduler.account or scheduler.qos (or partitions.{role}.account, .qos) {site}",
            "size": f"gpus, cpus or memory_gb {of_model}"
            if entry.part == "model"
            else f"{section}.cpus or .memory_gb {site}",
            "memory": f"memory_gb {of_model}" if entry.part == "model" else f"{section}.memory_gb {site}",
            "time": f"--time-limit, or {section}.time_limit {site}"
            if entry.part == "agent"
            else f"{section}.time {site}",
            "stop": command.format("stop"),
            "logs": f"{command.format('logs')} {entry.part}",
        }

    def sentence(self, entry: Entry) -> str | None:
        """One sentence on a job that is not done, or did not end well; None for the others."""
        job, run = self.job(entry), self.group.run_of(entry.id)
        if entry.part == "agent" and run and not run.is_open:
            found = self._ended_run(entry, run)
        elif job.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"):
            found = self._waiting(job)
        elif job.alive:
            found = self._running(entry, run)
        else:
            found = self._dead(entry, job)
        if found is None:
            return None
        cause, advice = (part.format(**self.words(entry)) for part in map(str, found))
        return f"{entry} {cause}{'; ' if ': ' in cause else ': '}{advice}."

    def _waiting(self, job: Job) -> tuple[str, str]:
        fitting = (entry[1:] for entry in REASONS if re.fullmatch(entry[0], job.reason.strip("()")))
        return next(fitting, REASON_UNKNOWN)

    def _running(self, entry: Entry, run: Run | None) -> tuple[str, str]:
        if entry.part == "agent":
            servers = [one for one in self.group.entries if one.part != "agent" and not self.group.ready(one)]
            if run is None or run.state != "waiting":
                return "is at work", "nothing to do"
            names = " and ".join(f"{one.name} ({self.job(one).state.lower()})" for one in servers) or "its servers"
            return _literal(f"has started and waits for {names}"), "see their lines"
        if self.group.ready(entry):
            return "serves", "nothing to do, it ends by itself after its last run"
        if entry.part == "model":
            return "is loading the model, which takes 5 to 15 minutes the first time", "follow it with `{logs}`"
        return "is starting", "follow it with `{logs}`"

    def _ended_run(self, entry: Entry, run: Run) -> tuple[str, str] | None:
        if run.state == "scored":
            return None
        cause = f"is {run.state}: {run.reason or 'no reason was noted'}"
        note = run.report.get("note")
        if run.state == "invalid_submission" and isinstance(note, str):
            cause += f" ({note[:300]})"
        cause, advice = _literal(cause), _literal(runs.END_STATES.get(run.state, "see its log"))
        if run.state in ("agent_failed", "lost") and (hint := self._from_log(entry)):
            return f"{cause}; {hint[0]}", hint[1]
        if run.state == "agent_failed":
            # what an agent prints chooses one of our sentences at most, and none is believed to be the job's
            said = _tail(self.group.agent_log(entry)).splitlines()
            if hint := _hint("\n".join(line[:500] for line in said)):
                return f"{cause}; the agent itself says that {hint[0]}", hint[1]
            advice = f"{advice} (`{{logs}}`)"
        return cause, advice

    def _dead(self, entry: Entry, job: Job) -> tuple[str, str] | None:
        """A job that ended without a run to tell of it: a server, or an agent's job that never got so far."""
        shown = self.group.shown_runs
        # servers are told to end, or cancelled, when all is done
        done = bool(shown) and all(run.state in ("scored", "invalid_submission", "no_submission") for run in shown)
        word = (job.state.split() or ["GONE"])[0]
        if entry.part != "agent" and (done or word == "COMPLETED"):
            return None
        cause, advice = ENDS.get(word, ENDS["FAILED"])
        if word in ("FAILED", "GONE", "COMPLETED"):
            if hint := self._from_log(entry) or self._ending(entry):
                return f"{cause}; {hint[0]}", hint[1]
            if word == "FAILED" and self.group.log(entry) is None:
                return "failed and left no log", _literal(f"can its node write to {self.group.path / 'logs'}?")
        return cause, advice

    def _from_log(self, entry: Entry) -> tuple[str, str] | None:
        """What a job's own log says of its death."""
        text = _tail(self.group.log(entry))
        if words := LAST_WORDS.findall(text):
            said, _, advice = words[-1].partition(": ")
            return f"it says '{_literal(said)}'", _literal(advice.rstrip(".")) or "read its log: `{logs}`"
        if fault := container_faults.find(text):
            return f"its log says that {_literal(fault[0])}", _literal(fault[1])
        hint = _hint(text)
        return (f"its log says that {hint[0]}", hint[1]) if hint else None

    def _ending(self, entry: Entry) -> tuple[str, str] | None:
        ending = _tail(self.group.log(entry)).strip().rpartition("\n")[2][:300]
        return (f"its log ends with '{_literal(ending)}'", "read it: `{logs}`") if ending else None


def _hint(log: str) -> tuple[str, str] | None:
    """What was the matter, and what to do, by the last of the HINTS in a log."""
    matches = ((match.start(), hint) for hint in HINTS for match in re.finditer(hint[0], log))
    last = max(matches, default=None, key=lambda pair: pair[0])
    return (last[1][1], last[1][2]) if last else None


def _literal(text: str) -> str:
    """Text from a file, safe in a sentence that is filled in afterwards."""
    return " ".join(_clean(text).split()).replace("{", "{{").replace("}", "}}")


def why(group: Group) -> tuple[list[dict[str, Any]], list[str]]:
    finder = _Why(group, group.settle(group.states()))
    data = [
        {"name": entry.name, "id": entry.id, "state": finder.job(entry).state, "sentence": sentence}
        for entry in group.entries
        if (sentence := finder.sentence(entry))
    ]
    if not group.entries:
        nothing = "nothing was submitted: start the run again, its command says what is wrong"
    else:
        nothing = "nothing waits and nothing died"
    return data, [entry["sentence"] for entry in data] or [f"{group.path.name}: {nothing}"]


# ---- the command


def _say(text: str) -> None:
    print(f"jobs.sh: {text}", file=sys.stderr)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jobs.sh", description=__doc__)
    parser.add_argument("verb", choices=("status", "logs", "stop", "why"))
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's folder or its name, or a job's id; default: the newest"
    )
    parser.add_argument("part", nargs="?", metavar="PART", help="logs only: agent, grading or model")
    parser.add_argument("--site", help="whose runs; default: $HPC_SITE, else by host name")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_intermixed_args(argv)
    if options.verb == "logs" and options.run in PARTS and options.part is None and not os.path.isdir(options.run):
        options.run, options.part = None, options.run
    if options.part is not None and (options.verb != "logs" or options.part not in PARTS):
        parser.error(f"{options.part}: only `logs` takes a part: {', '.join(PARTS)}")
    return options


def _answer(options: argparse.Namespace) -> None:
    group = find(options.run, Site(options.site))
    verbs = {"status": status, "logs": lambda one: logs(one, options.part), "stop": stop, "why": why}
    data, lines = verbs[options.verb](group)
    runs.tell_aggregate(group.path)
    print(json.dumps(data, indent=2) if options.json else "\n".join(map(_clean, lines)))
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        _answer(options)
    except Refused as error:
        _say(str(error))
        return error.code
    except SchedulerUnavailable as error:
        said = f"the scheduler doesn't answer, so nothing is known about the jobs ({str(error) or 'no message'})"
        _say(f"{said}: try again, or ask the cluster's support")
        return 3
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _say(f"{error.filename or 'a file'}: {error.strerror}")
        return 3
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
