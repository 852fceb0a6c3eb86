#!/usr/bin/env python3
"""Results of many runs in one table: a row a run, as CSV or JSON, or as runs of MLflow. Needs nothing but Python (and MLflow)."""

from __future__ import annotations

import argparse
import csv
import errno
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TextIO

if not __package__:  # run as a file
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from helpers import mlflow_export, runs

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
    "gold_medal": "",
    "silver_medal": "",
    "bronze_medal": "",
    "above_median": "better than the median of the competition's leaderboard",
    "valid_submission": "whether the submission could be graded",
    "started_at": "when the agent's clock started (UTC)",
    "ended_at": "when the run ended (UTC)",
    "agent_seconds": "the agent's time, up to now for a running one",
    "steps": "as counted by the agent",
    "requests": "to the models",
    "prompt_tokens": "",
    "completion_tokens": "",
    "agent_cpu_hours": "CPUs of the agent's job x agent_seconds / 3600",
    "gpu_hours": "its share of the model servers' GPU time, split by agent_seconds over the runs that used them",
    "isolated": "false: ran without a container, so the agent could have read the answers",
    "language_model": "false for `replay`, which is none",
    "git_commit": "of this project's checkout; ends in -dirty where files differed from it",
    "image_digest": "sha256 of the agent's image",
    "config_hash": "sha256 of what can change a result",
    "data_fingerprint": "tells the prepared data, answers included, from others under the same name",
    "site": "where it ran",
    "job_id": "the agent's job",
    "grading_job": "",
    "model_job": "",
    "run_directory": "where all of it can be read",
    "reason": "one sentence on the state",
    "attempts": "how many runs had the same task, model, agent, seed, config_hash and data_fingerprint",
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
STATES = {*runs.END_STATES, *runs.OPEN_STATES}
NO_RESULT = {"lost", "cancelled", *runs.OPEN_STATES}
NOT_RUNS = {"jobs", "logs", "services"}
RUN_NAME = re.compile(r".+_\d+")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
EXIT_CODES = (
    "Exit codes: 0 all was read; 2 usage, or nothing found; 3 something is broken (see stderr; no row is lost)."
)
USAGE_BYTES = 64 * 1024
DEPTH = 4  # folders below a given one that are searched for runs


# ---- values: files may hold anything, an agent wrote some of them; what is not of the right type is not known


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return CONTROL.sub(" ", value[:1000]).strip() if isinstance(value, str) and value else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1e300 else None  # neither infinite nor NaN


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _section(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _seconds(value: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 time in UTC."""
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except (AttributeError, TypeError, ValueError, OverflowError, OSError):
        return None


def _time(value: Any) -> str | None:
    return _text(value) if _seconds(value) is not None else None


# ---- what lies in a run's folder


def _load(folder: str, name: str, problems: list[str], needed: bool, limit: int = 16 * 2**20) -> dict[str, Any]:
    """The JSON object in a file; empty, with a line in `problems`, where there is none to be had."""
    try:
        data = json.loads(runs.read_file(f"{folder}/{name}", limit))
        if isinstance(data, dict):
            return data
        problems.append(f"{name} is no JSON object")
    except FileNotFoundError:
        if needed:
            problems.append(f"{name} is missing")
    except OSError as error:
        problems.append(f"{name} is a link" if error.errno == errno.ELOOP else f"{name}: {error.strerror}")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        problems.append(f"{name} is cut off or no JSON")
    except ValueError as error:
        problems.append(f"{name} {error}")
    return {}


@dataclass
class _Run:
    """One run as its folder tells it. workflow: the workflow.json above it; problems: what could not be read."""

    folder: str
    workflow: dict[str, Any]
    now: float
    problems: list[str] = field(default_factory=list)
    gpu_hours: float | None = 0.0

    def __post_init__(self) -> None:
        self.metadata, self.report, self.usage = {}, {}, {}
        if os.path.islink(self.folder) or not os.path.isdir(self.folder):
            self.problems.append("its folder is a link" if os.path.islink(self.folder) else "its folder is missing")
            return
        self.metadata = _load(self.folder, "run_metadata.json", self.problems, needed=True)
        state = self.metadata.get("state")
        if self.metadata and not (isinstance(state, str) and state in STATES):
            self.problems.append("run_metadata.json has no state that is known")
        self.report = _load(self.folder, "grading_report.json", self.problems, needed=state == "scored")
        if os.path.islink(f"{self.folder}/logs"):
            self.problems.append("logs is a link")
        else:
            self.usage = _load(self.folder, "logs/usage.json", self.problems, needed=False, limit=USAGE_BYTES)

    @property
    def name(self) -> str:
        return os.path.basename(self.folder)

    @cached_property
    def state(self) -> str:
        state = self.metadata.get("state")
        return state if isinstance(state, str) and state in STATES else "lost"

    @cached_property
    def is_open(self) -> bool:
        return self.state in runs.OPEN_STATES

    @cached_property
    def ended(self) -> float | None:
        """When the agent ended; for one killed without a word, when the run was settled."""
        for key in ("agent_ended_at", "ended_at"):
            if (seconds := _seconds(self.metadata.get(key))) is not None:
                return seconds
        return self.now if self.is_open else None

    @cached_property
    def agent_seconds(self) -> float | None:
        started = _seconds(self.metadata.get("agent_started_at"))
        return None if started is None or self.ended is None else max(0.0, self.ended - started)

    @cached_property
    def created(self) -> float:
        return _seconds(self.metadata.get("created_at")) or _seconds(self.workflow.get("created_at")) or 0.0

    def own(self, key: str) -> Any:
        """A value of the run, else what its workflow asked for."""
        return self.metadata[key] if key in self.metadata else self.workflow.get(key)

    @cached_property
    def job_id(self) -> str:
        return _text(self.metadata.get("job_id")) or self.name.rpartition("_")[2]

    @cached_property
    def servers(self) -> list[str]:
        """Jobs of the model servers that it used."""
        jobs = _section(self.workflow, "jobs")
        first = self.metadata["model_job"] if "model_job" in self.metadata else jobs.get("model_server")
        return list(dict.fromkeys(job for job in (_text(first), _text(jobs.get("feedback_server"))) if job))

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two runs the same one tried again; a part that is not known keeps a run to itself."""
        seed, config = _count(self.own("seed")), _text(self.workflow.get("config_hash"))
        alone = None if self.metadata and seed is not None and config else self.folder
        return (self.task, _text(self.own("model")), _text(self.own("agent")), seed, config, self.data, alone)

    @property
    def data(self) -> str | None:
        """The fingerprint of its data: as its job found it, else as its workflow did."""
        return _text(self.metadata.get("data_fingerprint")) or _text(self.workflow.get("data_fingerprint"))

    @property
    def task(self) -> str | None:
        return _text(self.own("competition")) or _text(self.name.rpartition("_")[0])

    @property
    def rank(self) -> tuple[bool, float, str]:
        return (self.state not in NO_RESULT, self.created, self.folder)

    @property
    def reason(self) -> str | None:
        said = [_text(self.metadata.get("reason"))] if self.state == self.metadata.get("state") else []
        unreadable = [f"unreadable: {', '.join(self.problems)}"] if self.problems else []
        return _text("; ".join(part for part in said + unreadable if part))

    def _commit(self) -> str | None:
        commit = _text(self.workflow.get("git_commit"))
        return f"{commit}-dirty" if commit and self.workflow.get("git_dirty") is True else commit

    def _language_model(self) -> bool | None:
        said = _flag(self.workflow.get("language_model"))
        engine = _section(self.workflow, "model_config").get("engine")
        return said if said is not None else False if "replay" in (engine, self.own("model")) else None

    def row(self) -> dict[str, Any]:
        report, metadata = self.report, self.metadata
        score = report.get("total_score") if "total_score" in report else report.get("score")
        cpus, seconds = _number(metadata.get("cpus")), self.agent_seconds
        image = _section(_section(self.workflow, "images"), "agent")
        return {
            "task": self.task,
            "model": _text(self.own("model")),
            "agent": _text(self.own("agent")),
            "seed": _count(self.own("seed")),
            "state": self.state,
            "score": _number(score) if self.state == "scored" else None,
            "metric": _text(report.get("metric")),
            **{flag: _flag(report.get(flag)) for flag in FLAGS},
            "started_at": _time(metadata.get("agent_started_at")),
            "ended_at": _time(metadata.get("ended_at")),
            "agent_seconds": None if seconds is None else round(seconds, 3),
            **{key: _count(self.usage.get(key)) for key in COUNTS},
            "agent_cpu_hours": None if seconds is None or cpus is None else round(cpus * seconds / 3600, 6),
            "gpu_hours": None if self.gpu_hours is None else round(self.gpu_hours, 6),
            "isolated": _flag(metadata.get("isolated")),
            "language_model": self._language_model(),
            "git_commit": self._commit(),
            "image_digest": _text(image.get("sha256")),
            "config_hash": _text(self.workflow.get("config_hash")),
            "data_fingerprint": self.data,
            "site": _text(self.workflow.get("site")),
            "job_id": self.job_id,
            "grading_job": _text(metadata.get("grading_job")),
            "model_job": _text(metadata.get("model_job")),
            "run_directory": self.folder,
            "reason": self.reason,
            "attempts": 1,
        }


# ---- what the model servers cost


def _share(members: list[_Run], services: dict[str, dict[str, Any]]) -> None:
    """Give each run of a workflow its share of the GPU-hours of the servers that it used."""
    users: dict[str, list[_Run]] = {}
    for run in members:
        for server in run.servers:
            users.setdefault(server, []).append(run)
    for server, its in users.items():
        for run, hours in zip(its, _shares(its, services.get(server)), strict=True):
            run.gpu_hours = None if hours is None or run.gpu_hours is None else run.gpu_hours + hours


def _shares(users: list[_Run], service: dict[str, Any] | None) -> list[float | None]:
    weights = [run.agent_seconds or 0.0 for run in users]
    if service is None:
        return [_without_record(run) for run in users]
    gpus = _number(service.get("gpus"))
    if gpus == 0:
        return [0.0] * len(users)
    started, ended = _seconds(service.get("started_at")), _seconds(service.get("ended_at"))
    if ended is None:  # killed with its last word unsaid, or still there
        ended = max((run.ended for run in users if run.ended is not None), default=None)
    if gpus is None or started is None or ended is None:
        return [None] * len(users)
    total, weight = gpus * max(0.0, ended - started) / 3600, sum(weights)
    return [total * (one / weight if weight else 1 / len(users)) for one in weights]


def _without_record(run: _Run) -> float | None:
    """The cost of a server that left no record in this workflow: it belongs to another one, or never started."""
    model = _section(run.workflow, "model_config")
    if not model:
        return None
    gpus, site = _number(model.get("gpus")), _section(_section(run.workflow, "config"), "gpu")
    if gpus and site.get("whole_node") is True:
        gpus = _number(site.get("per_node"))
    if gpus == 0 or run.agent_seconds is None:
        return 0.0
    reused = _section(run.workflow, "reused").get("model") is True
    return gpus * run.agent_seconds / 3600 if reused and gpus is not None else None


def _services(group: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What the servers of a workflow noted of themselves, by job id. One that can't be read is there, and empty."""
    folder = f"{group}/services"
    if not os.path.isdir(folder) or os.path.islink(folder):
        return {}
    names = [name for name in os.listdir(folder) if name.endswith(".json") and name[0] != "."]
    return {name[:-5].rpartition("_")[2]: _load(group, f"services/{name}", problems, needed=True) for name in names}


# ---- finding the runs


def _folders(path: str) -> dict[str, bool]:
    """The names in a folder; True for real folders, not for links to one."""
    with os.scandir(path) as entries:
        return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}


def _has(path: str, name: str) -> bool:
    return os.path.lexists(os.path.join(path, name))


class Collection:
    """All runs below the given folders. broken: a sentence for each file or folder that could not be read."""

    def __init__(self, paths: list[Any]):
        self.broken: list[str] = []
        self.now = time.time()
        self._wanted: dict[str, set[str] | None] = {}  # workflow's folder: names of the runs wanted, None for all
        for path in paths:
            self._search(os.path.realpath(path), DEPTH)
        self.runs: list[_Run] = []
        for group, names in self._wanted.items():
            try:
                self.runs += self._members(group, names)
            except OSError as error:
                self.broken.append(f"{error.filename}: {error.strerror}")

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

    def _members(self, group: str, wanted: set[str] | None) -> Iterator[_Run]:
        problems: list[str] = []
        workflow = _load(group, "workflow.json", problems, needed=True)
        if problems == ["workflow.json is missing"]:
            problems[0] += " (a job submitted by hand has none): commit, images, config and GPU-hours are not known"
        members = [_Run(f"{group}/{name}", workflow, self.now) for name in self._names(group, workflow)]
        _share(members, _services(group, problems))
        self.broken += [f"{group}: {problem}" for problem in problems]
        for run in members:
            if wanted is None or run.name in wanted:
                if run.problems:
                    self.broken.append(f"{run.folder}: {', '.join(run.problems)}")
                yield run

    def _names(self, group: str, workflow: dict[str, Any]) -> list[str]:
        """The folders of runs that are there, and of those that should be: of every job that was submitted."""
        jobs = _section(workflow, "jobs").get("agents")
        competition = _text(workflow.get("competition")) or ""
        submitted = {runs.run_name(competition, str(job)) for job in jobs} if isinstance(jobs, list) else set()
        found = {name for name in submitted if "/" not in name}
        for name, is_folder in _folders(group).items():
            looks_so = RUN_NAME.fullmatch(name) and (is_folder or os.path.islink(f"{group}/{name}"))
            if name not in NOT_RUNS and (looks_so or (is_folder and _has(f"{group}/{name}", "run_metadata.json"))):
                found.add(name)
        return sorted(found, key=lambda name: (len(name), name))

    def rows(self, keep_all: bool = False) -> list[dict[str, Any]]:
        """A row a run. Of the tries at one and the same run only the best counts, unless `keep_all`."""
        return [row for _, row in self.keyed_rows(keep_all)]

    def keyed_rows(self, keep_all: bool = False) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The rows, each with its key."""
        tries: dict[tuple[Any, ...], list[_Run]] = {}
        for run in self.runs:
            tries.setdefault(run.key, []).append(run)
        best = {key: max(same, key=lambda run: run.rank) for key, same in tries.items()}
        kept = [run for run in self.runs if keep_all or best[run.key] is run]
        return [(run.key, run.row() | {"attempts": len(tries[run.key])}) for run in kept]


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
        epilog=f"Columns:\n{columns}\n\n{EXIT_CODES}",
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folder of a workflow, of many, or of one run")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there; default: standard output")
    parser.add_argument("--json", action="store_true", help="a JSON list instead of CSV")
    parser.add_argument("--all", action="store_true", help="a row for every try, not only the best of each key")
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
        parser.error("--mlflow logs one run for each key: leave out --all")
    return options


def _say(text: str) -> None:
    print(f"export_results: {CONTROL.sub(' ', text)}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    missing = [path for path in options.runs if not os.path.isdir(path)]
    if missing:
        _say(f"{missing[0]}: there is no such folder; name the folder of a workflow, of many, or of one run")
        return 2
    collection = Collection(options.runs)
    for sentence in collection.broken:
        _say(sentence)
    if not collection.runs:
        _say(f"no runs in {', '.join(options.runs)}")
        return 3 if collection.broken else 2
    rows = collection.rows(options.all)
    if options.mlflow:
        try:
            done = mlflow_export.export(collection.keyed_rows(), options.mlflow)
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


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
