"""Results of many runs in one table: a row a run, as CSV or JSON, or as runs of MLflow. Needs nothing but Python (and MLflow)."""

from __future__ import annotations

import argparse
import csv
import errno
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, TextIO

from helpers.lib import disk, values
from helpers.runs import costs, mlflow_export
from helpers.runs import metadata as metadata_module

# The columns in their order, and what they hold. An empty cell means: not known, or not reached.
COLUMNS = {
    "task": "the competition",
    "model": "short name of the model; empty for an agent without one",
    "agent": "short name of the agent",
    "seed": "seed of this rollout",
    "state": "scored, invalid_submission, no_submission, agent_failed, timed_out, cancelled, lost; running or waiting",
    "score": "of a scored run; empty, never 0, for all others",
    "metric": "what the score measures; empty where only the competition knows",
    "is_lower_better": "true or false",
    "any_medal": "mle-bench's medals: true or false",
    "gold_medal": "score as good as the leaderboard's gold threshold, or better",
    "silver_medal": "as good as silver's, and no gold",
    "bronze_medal": "as good as bronze's, and neither of these",
    "above_median": "better than the median of the competition's leaderboard",
    "valid_submission": "whether the submission could be graded",
    "started_at": "when the agent's clock started (UTC)",
    "ended_at": "when the run ended (UTC); of one that was killed without a word, when that was noticed",
    "time_limit_reached": "true: the agent was still working when its time was up",
    "cut_short": "why the agent ended early although it had time, e.g. a model that stopped answering",
    "agent_seconds": "the agent's time, up to now for a running one",
    "steps": "as counted by the agent",
    "requests": "to the models",
    "prompt_tokens": "as the models' endpoints counted them, added up by the agent",
    "completion_tokens": "in the same way",
    "agent_cpu_hours": "CPU-hours of the agent's job, its wait for servers included",
    "cpu_hours": "these, and its share of its servers', split by agent_seconds over all runs that used them, of any workflow",
    "gpu_hours": "GPU-hours in the same way; a row's hours include those of the tries that it stands for (attempts)",
    "cost_basis": "accounting: hours as allocated by the scheduler; estimate: by the jobs' own notes, where there is no accounting",
    "isolated": "false: ran without a container, so the agent could have read the answers",
    "language_model": "false for `replay`, which is none",
    "git_commit": "of this project's checkout; ends in -dirty where files differed from it",
    "image_digest": "sha256 of the agent's image",
    "config_hash": "sha256 of what can change a result",
    "data_fingerprint": "tells the prepared data, answers included, from others under the same name",
    "site": "where it ran",
    "job_id": "the agent's job",
    "grading_job": "the grading server's",
    "model_job": "the model server's; empty for an external model",
    "run_directory": "where all of it can be read",
    "reason": "one sentence on the state",
    "attempts": "how many tries it took: the lost and cancelled ones before it, and itself",
}
FLAGS = (
    "is_lower_better",
    "any_medal",
    "gold_medal",
    "silver_medal",
    "bronze_medal",
    "above_median",
    "valid_submission",
)
COUNTS = ("steps", "requests", "prompt_tokens", "completion_tokens")
STATES = {*metadata_module.END_STATES, *metadata_module.OPEN_STATES}
TRIED_AGAIN = {"lost", "cancelled"}
NOT_RUNS = {"jobs", "logs", "services"}
RUN_NAME = re.compile(r".+_\d+")
WHAT_COUNTS = """\
What counts: every rollout of a workflow is an attempt of its own, and a row; the same command given twice makes two. Only a run that
was lost or cancelled is none: it was a try at the next one of the same key (task, model, agent, seed, config_hash, data_fingerprint),
whose row bears its cost and counts it in `attempts`. Where no other run of its key is there, it is a row."""
EXIT_CODES = (
    "Exit codes: 0 all was read; 2 usage, or nothing found; 3 something is broken (see stderr; no row is lost)."
)
USAGE_BYTES = 64 * 1024
STAMP, DAY = "YYYY-mm-ddTHH-MM-SS", 86400.0
STOP_SECONDS = 75.0  # an agent's job ends it so long after its time limit, at the latest (run::supervise)
DEPTH = 4  # folders below a given one that are searched for runs


# ---- what lies in a run's folder


def _load(
    folder: str,
    name: str,
    problems: list[str],
    needed: bool,
    limit: int = 16 * 2**20,
    damaged: list[str] | None = None,
) -> dict[str, Any]:
    """The JSON object in a file; empty, with a line in `problems`, where there is none to be had.

    damaged: takes a line on one that is readable but for some characters.
    """
    try:
        text, is_whole = disk.decoded(disk.read_file(f"{folder}/{name}", limit))
        data = json.loads(text)
        if isinstance(data, dict):
            if not is_whole and damaged is not None:
                damaged.append(f"{name} holds bytes that are no UTF-8")
            return data
        problems.append(f"{name} is no JSON object")
    except FileNotFoundError:
        if needed:
            problems.append(f"{name} is missing")
    except OSError as error:
        problems.append(f"{name} is a link" if error.errno == errno.ELOOP else f"{name}: {error.strerror}")
    except (json.JSONDecodeError, RecursionError):
        problems.append(f"{name} is cut off or no JSON")
    except ValueError as error:
        problems.append(f"{name} {error}")
    return {}


@dataclass
class _Run:
    """One run as its folder tells it. workflow: the workflow.json above it; problems: what could not be read; damaged: what nearly."""

    folder: str
    workflow: dict[str, Any]
    now: float
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    cost: costs.Cost = field(default_factory=costs.Cost)
    homes: dict[str, str] = field(default_factory=dict)
    job_ended: float | None = None  # by the accounting, of one whose agent has told no end

    def __post_init__(self) -> None:
        self.metadata, self.report, self.usage = {}, {}, {}
        if os.path.islink(self.folder) or not os.path.isdir(self.folder):
            self.problems.append("its folder is a link" if os.path.islink(self.folder) else "its folder is missing")
            return
        self.metadata = _load(self.folder, "run_metadata.json", self.problems, needed=True, damaged=self.damaged)
        state = self.metadata.get("state")
        if self.metadata and not (isinstance(state, str) and state in STATES):
            self.problems.append("run_metadata.json has no state that is known")
        needed = state == "scored"
        self.report = _load(self.folder, "grading_report.json", self.problems, needed, damaged=self.damaged)
        if os.path.islink(f"{self.folder}/logs"):
            self.problems.append("logs is a link")
        else:
            name = "logs/usage.json"
            self.usage = _load(self.folder, name, self.problems, needed=False, limit=USAGE_BYTES, damaged=self.damaged)

    @property
    def name(self) -> str:
        return os.path.basename(self.folder)

    @cached_property
    def state(self) -> str:
        return self._judged[0]

    @cached_property
    def _judged(self) -> tuple[str, str | None]:
        state = self.metadata.get("state")
        return (
            metadata_module.judged(state, self.report) if isinstance(state, str) and state in STATES else ("lost", None)
        )

    @cached_property
    def is_open(self) -> bool:
        return self.state in metadata_module.OPEN_STATES

    @property
    def ended(self) -> float | None:
        """When the agent ended; for one killed without a word, when that was noticed, but not after its job's end, or its time."""
        if (told := values.seconds_of(self.metadata.get("agent_ended_at"))) is not None:
            return told
        noticed = values.seconds_of(self.metadata.get("ended_at"))
        if noticed is None:
            noticed = self.now if self.is_open else None
        began, limit = self.agent_started, values.count(self.metadata.get("time_limit_seconds"))
        up = None if began is None or limit is None else began + limit + STOP_SECONDS
        return None if noticed is None else min(one for one in (noticed, up, self.job_ended) if one is not None)

    @property
    def agent_started(self) -> float | None:
        return values.seconds_of(self.metadata.get("agent_started_at"))

    @property
    def agent_seconds(self) -> float | None:
        return None if self.agent_started is None or self.ended is None else max(0.0, self.ended - self.agent_started)

    @cached_property
    def created(self) -> float:
        return (
            values.seconds_of(self.metadata.get("created_at"))
            or values.seconds_of(self.workflow.get("created_at"))
            or 0.0
        )

    def own(self, key: str) -> Any:
        """A value of the run, else what its workflow asked for."""
        return self.metadata[key] if key in self.metadata else self.workflow.get(key)

    @cached_property
    def job_id(self) -> str:
        return values.text(self.metadata.get("job_id")) or self._submitted_job

    @property
    def _submitted_job(self) -> str:
        """The job of a run that can't tell it: the one whose folder this would be."""
        jobs = values.section(self.workflow, "jobs").get("agents")
        names = (
            {metadata_module.run_name(self.task or "", str(job)): str(job) for job in jobs}
            if isinstance(jobs, list)
            else {}
        )
        return names.get(self.name, "")

    @property
    def group(self) -> str:
        return os.path.dirname(self.folder)

    @property
    def place(self) -> str:
        """The folder in which its workflow lies beside others."""
        return os.path.dirname(self.group)

    def owns(self, job: str) -> bool:
        """Whether a server was submitted with it."""
        return job in values.section(self.workflow, "jobs").values()

    @cached_property
    def servers(self) -> dict[str, str]:
        """Jobs of the servers that it used, by role: grading, model, feedback."""
        jobs = values.section(self.workflow, "jobs")
        found = {}
        for role, submitted in (
            ("grading", "grading_server"),
            ("model", "model_server"),
            ("feedback", "feedback_server"),
        ):
            own = f"{role}_job"
            job = self.metadata[own] if own in self.metadata else jobs.get(submitted)
            if job := values.text(job):
                found[role] = job
        return found

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two runs the same one tried again; a part that is not known keeps a run to itself."""
        seed, config = values.count(self.own("seed")), values.text(self.workflow.get("config_hash"))
        alone = None if self.metadata and seed is not None and config else self.folder
        return (
            self.task,
            values.text(self.own("model")),
            values.text(self.own("agent")),
            seed,
            config,
            self.data,
            alone,
        )

    @property
    def data(self) -> str | None:
        """The fingerprint of its data: as its job found it, else as its workflow did."""
        return values.text(self.metadata.get("data_fingerprint")) or values.text(self.workflow.get("data_fingerprint"))

    @property
    def task(self) -> str | None:
        return values.text(self.own("competition")) or values.text(self.name.rpartition("_")[0])

    @property
    def identity(self) -> str:
        """Its name, wherever the folder of all runs lies."""
        return "/".join(self.folder.split("/")[-2:])

    @property
    def reason(self) -> str | None:
        noted = self.metadata.get("reason") if self.state == self.metadata.get("state") else self._judged[1]
        unreadable = [f"unreadable: {', '.join(self.problems)}"] if self.problems else []
        return values.text("; ".join(part for part in [values.text(noted), *unreadable, *self.damaged] if part))

    def _commit(self) -> str | None:
        commit = values.text(self.workflow.get("git_commit"))
        return f"{commit}-dirty" if commit and self.workflow.get("git_dirty") is True else commit

    def _language_model(self) -> bool | None:
        said = values.flag(self.workflow.get("language_model"))
        engine = values.section(self.workflow, "model_config").get("engine")
        return said if said is not None else False if "replay" in (engine, self.own("model")) else None

    def row(self, tries: list[_Run] | None = None) -> dict[str, Any]:
        """tries: whose cost it bears, itself among them."""
        report, metadata = self.report, self.metadata
        seconds, cost = self.agent_seconds, costs.total(run.cost for run in tries or [self])
        image = values.section(values.section(self.workflow, "images"), "agent")
        return {
            "task": self.task,
            "model": values.text(self.own("model")),
            "agent": values.text(self.own("agent")),
            "seed": values.count(self.own("seed")),
            "state": self.state,
            "score": metadata_module.score_of(report) if self.state == "scored" else None,
            "metric": values.text(report.get("metric")),
            **{flag: values.flag(report.get(flag)) for flag in FLAGS},
            "started_at": values.time_of(metadata.get("agent_started_at")),
            "ended_at": values.time_of(metadata.get("ended_at")),
            "time_limit_reached": values.flag(metadata.get("time_limit_reached")),
            "cut_short": values.text(metadata.get("cut_short")) or values.text(self.usage.get("cut_short")),
            "agent_seconds": None if seconds is None else round(seconds, 3),
            **{key: values.count(self.usage.get(key)) for key in COUNTS},
            "agent_cpu_hours": _rounded(cost.agent_cpu_hours),
            "cpu_hours": _rounded(cost.cpu_hours),
            "gpu_hours": _rounded(cost.gpu_hours),
            "cost_basis": "estimate" if cost.is_estimate else "accounting",
            "isolated": values.flag(metadata.get("isolated")),
            "language_model": self._language_model(),
            "git_commit": self._commit(),
            "image_digest": values.text(image.get("sha256")),
            "config_hash": values.text(self.workflow.get("config_hash")),
            "data_fingerprint": self.data,
            "site": values.text(self.workflow.get("site")),
            "job_id": self.job_id,
            "grading_job": values.text(metadata.get("grading_job")),
            "model_job": values.text(metadata.get("model_job")),
            "run_directory": self.folder,
            "reason": self.reason,
            "attempts": 1,
        }


def _rounded(hours: float | None) -> float | None:
    return None if hours is None else round(hours, 6)


def _services(group: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What the servers of a workflow noted of themselves, by job id. One that can't be read is there, and empty."""
    folder = f"{group}/services"
    if not os.path.isdir(folder) or os.path.islink(folder):
        return {}
    names = [name for name in os.listdir(folder) if name.endswith(".json") and name[0] != "."]
    return {name[:-5].rpartition("_")[2]: _load(group, f"services/{name}", problems, needed=True) for name in names}


# ---- finding the runs


def _stamp(seconds: float) -> str:
    """The beginning of the name of a workflow that began then."""
    return datetime.fromtimestamp(max(0.0, seconds), timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")


def _folders(path: str) -> dict[str, bool]:
    """The names in a folder; True for real folders, not for links to one."""
    with os.scandir(path) as entries:
        return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}


def _has(path: str, name: str) -> bool:
    return os.path.lexists(os.path.join(path, name))


class Collection:
    """All runs below the given folders. broken: a sentence for each file or folder that could not be read; notes: others."""

    def __init__(self, paths: list[Any]):
        self.broken: list[str] = []
        self.notes: list[str] = []
        self.now = time.time()
        self._others: list[_Run] = []  # not asked for, but they may share servers with those that are
        self._wanted: dict[str, set[str] | None] = {}  # workflow's folder: names of the runs wanted, None for all
        for path in paths:
            self._search(os.path.realpath(path), DEPTH)
        self.runs: list[_Run] = []
        self._services: dict[tuple[str, str], dict[str, Any]] = {}  # by the workflow's folder and job
        self._owners: dict[tuple[str, str], str] = {}  # the workflow that has a server, by the folder beside and job
        for group, names in self._wanted.items():
            for run in self._read(group, self.broken):
                if names is None or run.name in names:
                    self.runs.append(run)
                    if run.problems:
                        self.broken.append(f"{run.folder}: {', '.join(run.problems)}")
                else:
                    self._others.append(run)
        for group in self._neighbours():
            self._others += self._read(group, [])
        self._settle()

    def _search(self, path: str, depth: int) -> None:
        try:
            names = _folders(path)
        except OSError as error:
            self.broken.append(f"{path}: {error.strerror}")
            return
        parent, name = os.path.split(path)
        named = depth == DEPTH  # by the user, so it may be a run that has lost its metadata
        if "workflow.json" in names or "_run-group_" in name:
            self._wanted[path] = None
        elif "run_metadata.json" in names or (named and name not in NOT_RUNS and _has(parent, "workflow.json")):
            if (wanted := self._wanted.setdefault(parent, set())) is not None:
                wanted.add(name)
        elif any(is_folder and _has(os.path.join(path, one), "run_metadata.json") for one, is_folder in names.items()):
            self._wanted[path] = None
        elif depth:
            for one in sorted(one for one, is_folder in names.items() if is_folder):
                self._search(os.path.join(path, one), depth - 1)

    def _read(self, group: str, broken: list[str]) -> list[_Run]:
        """The runs of a workflow, and what its servers noted."""
        problems: list[str] = []
        workflow = _load(group, "workflow.json", problems, needed=True)
        if problems == ["workflow.json is missing"]:
            problems[0] += " (a job submitted by hand has none): commit, images and config are not known"
        found = []
        try:
            found = [_Run(f"{group}/{name}", workflow, self.now) for name in self._names(group, workflow)]
            for job, record in _services(group, problems).items():
                self._services[group, job] = record
                self._owners[os.path.dirname(group), job] = group
        except OSError as error:
            problems.append(error.strerror or "can't be read")
        broken += [f"{group}: {problem}" for problem in problems]
        return found

    def _neighbours(self) -> Iterator[str]:
        """Other workflows beside those asked for whose agents may have used the same servers: begun while one of these lived."""
        lives: dict[str, tuple[float, float]] = {}
        for run in self.runs:
            for job in run.servers.values():
                since, until = lives.get(run.place, (math.inf, 0.0))
                first, last = self._life(run, job)
                lives[run.place] = min(since, first), max(until, last)
        for place, life in lives.items():
            since, until = map(_stamp, life)
            try:
                names = os.listdir(place)
            except OSError:
                continue
            for name in sorted(names):
                path = f"{place}/{name}"
                if "_run-group_" in name and since <= name[: len(STAMP)] <= until and path not in self._wanted:
                    yield path

    def _life(self, run: _Run, job: str) -> tuple[float, float]:
        """When workflows that use a server can have begun: of one that left no note here, some days around this run."""
        record = self._services.get((self._home(run, job), job))
        began, ended = (values.seconds_of((record or {}).get(key)) for key in ("started_at", "ended_at"))
        margin = DAY if record else 7 * DAY  # an agent may have waited in the queue
        return (began or run.created) - margin, ended or self.now

    def _home(self, run: _Run, job: str) -> str:
        """The folder of the workflow that a server belongs to; of one started by hand, the folder of all."""
        return run.group if run.owns(job) else self._owners.get((run.place, job), run.place)

    def _settle(self) -> None:
        self.every = every = [*self.runs, *self._others]
        for run in every:
            run.homes = {job: self._home(run, job) for job in run.servers.values()}
        silent = [run for run in every if run.agent_started is not None and not run.metadata.get("agent_ended_at")]
        self.book = costs.Book([*self.runs, *silent])
        for run in silent:
            found = self.book.of(run, run.job_id, values.seconds_of(run.metadata.get("created_at")))
            run.job_ended = None if found is None or found.start is None else found.start + found.seconds
        self.notes += dict.fromkeys(self.book.complaints)
        for run, cost in zip(every, costs.settle(every, self._services, self.book), strict=True):
            run.cost = cost

    def _names(self, group: str, workflow: dict[str, Any]) -> list[str]:
        """The folders of runs that are there, and of those that should be: of every job that was submitted."""
        jobs = values.section(workflow, "jobs").get("agents")
        competition = values.text(workflow.get("competition")) or ""
        submitted = (
            {metadata_module.run_name(competition, str(job)) for job in jobs} if isinstance(jobs, list) else set()
        )
        found = {name for name in submitted if "/" not in name}
        for name, is_folder in _folders(group).items():
            looks_so = RUN_NAME.fullmatch(name) and (is_folder or os.path.islink(f"{group}/{name}"))
            if name not in NOT_RUNS and (looks_so or (is_folder and _has(f"{group}/{name}", "run_metadata.json"))):
                found.add(name)
        return sorted(found, key=lambda name: (len(name), name))

    def rows(self, keep_all: bool = False) -> list[dict[str, Any]]:
        """A row an attempt, in the order in which they were found; with `keep_all` a row a run."""
        return [row for _, row in self.named_rows(keep_all)]

    def named_rows(self, keep_all: bool = False) -> list[tuple[list[str], dict[str, Any]]]:
        """The rows, each with the names of the run that it shows and of those that it stands for."""
        shown = self.attempts()
        found = []
        for one in self.runs:
            run, tries = shown[id(one)]
            if keep_all:
                found.append(([one.identity], one.row() | {"attempts": len(tries)}))
            elif run is one:
                names = [one.identity, *(other.identity for other in tries if other is not one)]
                found.append((names, one.row(tries) | {"attempts": len(tries)}))
        return found

    def attempts(self) -> dict[int, tuple[_Run, list[_Run]]]:
        """For each run, by its id(): the one that stands for it in the table, and all tries of that."""
        same: dict[tuple[Any, ...], list[_Run]] = {}
        for run in self.runs:
            same.setdefault(run.key, []).append(run)
        shown: dict[int, tuple[_Run, list[_Run]]] = {}  # each run to the one that stands for it
        for its in same.values():
            for run, tries in list(_attempts(its)):
                shown |= {id(one): (run, tries) for one in tries}
        return shown

    def server(self, run: _Run, job: str) -> dict[str, Any]:
        """What a server that a run used noted of itself; empty where that is not here."""
        return self._services.get((run.homes.get(job, ""), job)) or {}


def _attempts(same: list[_Run]) -> Iterator[tuple[_Run, list[_Run]]]:
    """The attempts among the runs of one key, each with all its tries: itself, and the lost and cancelled ones before it."""
    tries: list[_Run] = []
    last = None
    for run in sorted(same, key=lambda run: (run.created, run.folder)):
        tries.append(run)
        if run.state not in TRIED_AGAIN:
            last = (run, tries)
            yield last
            tries = []
    if last:
        last[1].extend(tries)
    elif tries:
        yield tries[-1], tries


def rows_of(paths: list[Any], keep_all: bool = False) -> list[dict[str, Any]]:
    """The rows of all runs below some folders, with a value or None for each of COLUMNS."""
    return Collection(paths).rows(keep_all)


# ---- writing


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"  # a spreadsheet would run it as a formula
    return value


def write(rows: list[dict[str, Any]], as_json: bool, file: TextIO) -> None:
    """Write rows as CSV, or as a JSON list."""
    if as_json:
        json.dump(rows, file, indent=2, ensure_ascii=False)
        file.write("\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)


def write_file(rows: list[dict[str, Any]], as_json: bool, path: str) -> None:
    """Write to a file, so that a reader sees the old table or the new one; raises OSError."""
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, a pipe; a folder is an error here
        with open(path, "w", **options) as file:
            write(rows, as_json, file)
        return
    path = os.path.realpath(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with open(descriptor, "w", **options) as file:
            write(rows, as_json, file)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    columns = "\n".join(f"  {name:<18} {meaning}".rstrip() for name, meaning in COLUMNS.items())
    parser = argparse.ArgumentParser(
        prog="export_results.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{WHAT_COUNTS}\n\nColumns:\n{columns}\n\n{EXIT_CODES}",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUNS",
        help="folder of a workflow, of many, or of one run; default: paths.runs of the site",
    )
    parser.add_argument("--site", help="whose runs; default: $HPC_SITE, else by host name")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="override a key of the site")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there; default: standard output")
    parser.add_argument("--json", action="store_true", help="a JSON list instead of CSV")
    parser.add_argument("--all", action="store_true", help="a row for every run, lost and cancelled tries too")
    parser.add_argument(
        "--mlflow",
        nargs="?",
        const=mlflow_export.DEFAULT_STORE,
        metavar="URI",
        help="log each row to MLflow, once, and print no table (unless -o): a server, or a database file; default: "
        f"{mlflow_export.DEFAULT_STORE}, here (`mlflow ui` shows it)",
    )
    options = parser.parse_args(argv)
    if options.mlflow and options.all:
        parser.error("--mlflow logs one run for each attempt: leave out --all")
    if not options.runs:
        options.runs = [_all_runs(parser, options)]
    return options


def _all_runs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """paths.runs of the site; a Python that can't read sites is a matter of usage."""
    try:
        from helpers.jobs.kinds.base import Refused, Site

        return str(Site(options.site, options.overrides).runs)
    except ImportError:
        parser.error(
            "the following arguments are required: RUNS (scripts_hpc/results.sh knows the site's, this Python doesn't)"
        )
    except Refused as error:
        parser.exit(error.code, f"export_results: {error}\n")


def _say(text: str) -> None:
    print(f"export_results: {values.CONTROL.sub(' ', text)}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    missing = [path for path in options.runs if not os.path.isdir(path)]
    if missing:
        _say(f"{missing[0]}: there is no such folder; name the folder of a workflow, of many, or of one run")
        return 2
    collection = Collection(options.runs)
    for sentence in [*collection.broken, *collection.notes]:
        _say(sentence)
    if not collection.runs:
        _say(f"no runs in {', '.join(options.runs)}")
        return 3 if collection.broken else 2
    rows = collection.rows(options.all)
    if options.mlflow:
        try:
            done = mlflow_export.export(collection.named_rows(), options.mlflow)
        except mlflow_export.Refused as error:
            _say(str(error))
            return error.code
        _say(f"{done['new']} runs logged, {done['changed']} changed, {done['unchanged']} unchanged at {options.mlflow}")
    try:
        if options.mlflow and options.output is None:
            pass
        elif options.output in (None, "-"):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
            write(rows, options.json, sys.stdout)
            sys.stdout.flush()
        else:
            write_file(rows, options.json, options.output)
            _say(f"{len(rows)} rows, from {len(collection.runs)} runs, in {options.output}")
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _say(f"can't write {options.output or 'the table'}: {error.strerror}; name another file with -o")
        return 3
    return 3 if collection.broken else 0


def command() -> None:
    """The command: main, and what is to be done about a reader that has gone."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    command()
