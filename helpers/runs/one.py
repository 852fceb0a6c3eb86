"""One run as its folder tells of it, hostile files included: a row of the table of results."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from helpers.lib import disk, values
from helpers.runs import cells, costs
from helpers.runs import metadata as metadata_module
from helpers.runs.columns import COUNTS, FLAGS, REPORTED

STATES = {*metadata_module.END_STATES, *metadata_module.OPEN_STATES}
RUN_NAME = re.compile(r".+_\d+")
USAGE_BYTES = 64 * 1024
STAMP, DAY = "YYYY-mm-ddTHH-MM-SS", 86400.0
MOST_METRICS = 100  # of a kind
STOP_SECONDS = 75.0  # an agent's job ends it so long after its time limit, at the latest (run::supervise)


def load(
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
class OneRun:
    """One run as its folder tells it. record: the workflow.json above it; problems: what could not be read; damaged: what nearly."""

    folder: str
    record: dict[str, Any]
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
        self.metadata = load(self.folder, "run_metadata.json", self.problems, needed=True, damaged=self.damaged)
        state = self.metadata.get("state")
        if self.metadata and not (isinstance(state, str) and state in STATES):
            self.problems.append("run_metadata.json has no state that is known")
        needed = state == "scored"
        self.report = load(self.folder, "grading_report.json", self.problems, needed, damaged=self.damaged)
        if os.path.islink(f"{self.folder}/logs"):
            self.problems.append("logs is a link")
        else:
            name = "logs/usage.json"
            self.usage = load(self.folder, name, self.problems, needed=False, limit=USAGE_BYTES, damaged=self.damaged)

    @cached_property
    def workflow(self) -> dict[str, Any]:
        """What its workflow's record says of it."""
        return cells.view(self.record, self.metadata.get("cell"))

    def where(self, key: str) -> str:
        """Where in workflow.json that stands."""
        return cells.place(self.record, key, self.metadata.get("cell"))

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

    @cached_property
    def group(self) -> str:
        return os.path.dirname(self.folder)

    @cached_property
    def place(self) -> str:
        """The folder in which its workflow lies beside others."""
        return os.path.dirname(self.group)

    def owns(self, job: str) -> bool:
        """Whether a server was submitted with it."""
        jobs = values.section(self.workflow, "jobs")
        servers = jobs.get("servers")
        return job in jobs.values() or (isinstance(servers, list) and job in servers)

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
        # rounds of a benchmark repeat each other's seeds on purpose
        its_round = self.group if "benchmark" in self.record else None
        return (
            self.task,
            values.text(self.own("model")),
            values.text(self.own("agent")),
            seed,
            config,
            self.data,
            its_round,
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

    def _reported(self) -> dict[str, dict[str, float]]:
        """What its task's grader reports beside the score, by REPORTED; without what there is none of."""
        found = {}
        for kind in REPORTED if self.state == "scored" else ():
            told = {
                values.text(name): values.number(value) for name, value in values.section(self.report, kind).items()
            }
            good = {name: value for name, value in told.items() if name and value is not None}
            found[kind] = dict(list(good.items())[:MOST_METRICS])
        return {kind: told for kind, told in found.items() if told}

    def row(self, tries: list[OneRun] | None = None) -> dict[str, Any]:
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
            "agent_cpu_hours": rounded(cost.agent_cpu_hours),
            "cpu_hours": rounded(cost.cpu_hours),
            "gpu_hours": rounded(cost.gpu_hours),
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
            **self._reported(),
        }


def rounded(hours: float | None) -> float | None:
    return None if hours is None else round(hours, 6)


def services(group: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What the servers of a workflow noted of themselves, by job id. One that can't be read is there, and empty."""
    folder = f"{group}/services"
    if not os.path.isdir(folder) or os.path.islink(folder):
        return {}
    names = [name for name in os.listdir(folder) if name.endswith(".json") and name[0] != "."]
    return {name[:-5].rpartition("_")[2]: load(group, f"services/{name}", problems, needed=True) for name in names}


def stamp(seconds: float) -> str:
    """The beginning of the name of a workflow that began then."""
    return datetime.fromtimestamp(max(0.0, seconds), timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
