"""Results as runs of MLflow (https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html): each attempt once.

The library is an extra (requirements/tracking.txt), imported here only. MLflow takes no change of a logged parameter and keeps every
value of a metric: a row that has changed since is therefore logged anew, and the old run deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.lib.checkout import ROOT
from helpers.lib.errors import Refused
from helpers.runs.columns import METRIC, table

DEFAULT_STORE = "sqlite:///mlflow.db"  # MLflow's own default; since 3.7 it refuses folders (file:, mlruns)
REQUIREMENTS = ROOT / "requirements" / "tracking.txt"
PARAMETERS = ("model", "agent", "seed", "site", "config_hash", "data_fingerprint", "git_commit")
METRICS = (
    "score",
    "agent_seconds",
    "steps",
    "requests",
    "rate_limited",
    "server_errors",
    "prompt_tokens",
    "completion_tokens",
    "agent_cpu_hours",
    "cpu_hours",
    "gpu_hours",
    "attempts",
)
KEY, ROW = "hab.run", "hab.row"  # tags: the run's name, and a digest of all that was logged
STATUS = {"scored": "FINISHED", "cancelled": "KILLED", "running": "RUNNING", "waiting": "SCHEDULED"}
UNNAMEABLE = re.compile(r"[^\w\-. /]")  # what MLflow takes in no name of a metric (mlflow/utils/validation.py)
CREDENTIALS = re.compile(r"://[^/@]*:[^/@]*@")


def _refused(message: str, code: int = 3) -> Refused:
    return Refused(message, code)


def check(uri: str) -> Any:
    """Import MLflow. Raises Refused where it isn't installed, the URI holds a password, or its file has no folder."""
    if CREDENTIALS.search(uri):
        raise _refused(
            "--mlflow: others can read a command line; give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment",
            2,
        )
    folder = Path(uri.removeprefix("sqlite:///")).absolute().parent
    if uri.startswith("sqlite:///") and not os.access(folder, os.W_OK | os.X_OK):  # MLflow would try again for minutes
        raise _refused(f"--mlflow: can't write to the folder {folder} of {uri}: name a file elsewhere")
    # it may neither report to its makers, nor try for minutes to reach a server that is down, nor speak of a git that it lacks
    for name, value in {
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
        import mlflow.entities  # noqa: F401
    except ImportError as error:
        raise _refused(
            f"--mlflow needs {error.name or 'mlflow'}, which isn't installed: {sys.executable} -m pip install -r {REQUIREMENTS}",
            2,
        ) from error
    import logging

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


def export(rows: Iterable[tuple[list[str], dict[str, Any]]], uri: str) -> Counter[str]:
    """Log rows, each with the names of its run and of those that it takes the place of; returns how many were new, changed and unchanged.

    An experiment is a task. Raises Refused with one line for whatever MLflow says.
    """
    mlflow = check(uri)
    try:
        store = _Store(mlflow, uri)
        return Counter(store.log(names, row) for names, row in rows)
    except Exception as error:  # its stores raise what their databases and networks raise
        said = " ".join(str(error).split())[:400]
        raise _refused(f"MLflow at {uri}: {type(error).__name__}: {said}") from error


class _Store:
    """A place where MLflow keeps runs. What it holds is asked for once for each experiment."""

    def __init__(self, mlflow: Any, uri: str):
        self._mlflow = mlflow
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._experiments: dict[str, str] = {}
        self._known: dict[str, dict[str, list[Any]]] = {}  # experiment id -> key -> runs

    def log(self, names: list[str], row: dict[str, Any]) -> str:
        """Log one row unless it is there as it is: "new", "changed" or "unchanged"."""
        experiment = self._experiment(row["task"] or "unknown")
        name, digest = names[0], _digest(row)
        old = [run for one in names for run in self._known[experiment].get(one, [])]
        kept = next((run for run in old if run.data.tags.get(ROW) == digest), None)
        if kept is None:
            self._create(experiment, name, digest, row)
        # after the new one is complete: whatever happens in between, none is lost
        for run in old:
            if run is not kept:
                self._client.delete_run(run.info.run_id)
        return "unchanged" if kept is not None else "changed" if old else "new"

    def _experiment(self, task: str) -> str:
        if task not in self._experiments:
            found = self._client.get_experiment_by_name(task)
            number = found.experiment_id if found else self._client.create_experiment(task)
            self._experiments[task] = number
            self._known[number] = self._runs(number)
        return self._experiments[task]

    def _runs(self, experiment: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        page = None
        while True:
            runs = self._client.search_runs([experiment], max_results=1000, page_token=page)
            for run in runs:
                if KEY in run.data.tags:
                    found.setdefault(run.data.tags[KEY], []).append(run)
            page = runs.token
            if not page:
                return found

    def _create(self, experiment: str, name: str, digest: str, row: dict[str, Any]) -> None:
        entities, (_, (row,)) = self._mlflow.entities, table([row])
        started, ended = _milliseconds(row["started_at"]), _milliseconds(row["ended_at"])
        now = ended or round(time.time() * 1000)
        metrics = {key: UNNAMEABLE.sub("_", key) for key in row if key in METRICS or key.startswith(METRIC)}
        left = {key: value for key, value in row.items() if key not in (*PARAMETERS, *metrics) and value is not None}
        tags = {key: _text(value) for key, value in left.items()} | {KEY: name}
        run_name = os.path.basename(row["run_directory"])
        run = self._client.create_run(experiment, start_time=started or now, tags=tags, run_name=run_name).info.run_id
        measured = [
            entities.Metric(name, float(row[key]), now, 0) for key, name in metrics.items() if row[key] is not None
        ]
        parameters = [entities.Param(key, _text(row[key])) for key in PARAMETERS if row[key] is not None]
        self._client.log_batch(run, metrics=measured, params=parameters)
        status = STATUS.get(row["state"], "FAILED")
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run, status=status)
        else:
            self._client.set_terminated(run, status=status, end_time=now)
        self._client.set_tag(run, ROW, digest)  # last: it says that all is there


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _milliseconds(moment: str | None) -> int | None:
    return moment and round(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)
