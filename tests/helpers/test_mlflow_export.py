"""Results in MLflow: every key once, whatever happened before. A stand-in for MLflow refuses what the real one has not."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from test_export_results import export, make_group, make_run, make_server

from helpers.runs import mlflow_export


@dataclass
class Entity:
    """Metric(key, value, timestamp, step) or Param(key, value)."""

    key: str
    value: Any
    timestamp: int | None = None
    step: int | None = None


@dataclass
class Run:
    """A run as search_runs returns it: .info and .data are this object."""

    run_id: str
    name: str
    start_time: int
    tags: dict[str, str]
    status: str = "RUNNING"
    end_time: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    deleted: bool = False

    @property
    def info(self) -> Run:
        return self

    @property
    def data(self) -> Run:
        return self


class Page(list):
    token: str | None = None


class Server:
    """What lies behind one URI. writes: the calls that changed it; fails: the name of a call that breaks once."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, list[Run]] = {}
        self.writes: list[str] = []
        self.fails: str | None = None
        self.page_size = 1000

    def alive(self, task: str = "toy") -> list[Run]:
        return [run for run in self.runs[self.experiments[task]] if not run.deleted]


class Client:
    """MLflow's client, as far as it is used; anything else is an AttributeError."""

    def __init__(self, servers: dict[str, Server], tracking_uri: str):
        self._server = servers.setdefault(tracking_uri, Server())

    def _write(self, name: str) -> None:
        if self._server.fails == name:
            self._server.fails = None
            raise ConnectionError("the server\nwent away")
        self._server.writes.append(name)

    def _run(self, run_id: str) -> Run:
        return next(run for runs in self._server.runs.values() for run in runs if run.run_id == run_id)

    def get_experiment_by_name(self, name: str) -> Any:
        number = self._server.experiments.get(name)
        return number and types.SimpleNamespace(experiment_id=number)

    def create_experiment(self, name: str) -> str:
        self._write("create_experiment")
        assert name not in self._server.experiments
        number = self._server.experiments[name] = str(len(self._server.experiments) + 1)
        self._server.runs[number] = []
        return number

    def search_runs(self, experiment_ids: list[str], max_results: int, page_token: str | None) -> Page:
        alive = [run for run in self._server.runs[experiment_ids[0]] if not run.deleted]
        start, size = int(page_token or 0), min(max_results, self._server.page_size)
        page = Page(alive[start : start + size])
        page.token = str(start + size) if start + size < len(alive) else None
        return page

    def create_run(self, experiment_id: str, start_time: int, tags: dict[str, str], run_name: str) -> Run:
        self._write("create_run")
        assert all(isinstance(value, str) for value in tags.values())
        runs = self._server.runs[experiment_id]
        runs.append(Run(f"{experiment_id}-{len(runs)}", run_name, start_time, dict(tags)))
        return runs[-1]

    def log_batch(self, run_id: str, metrics: list[Entity], params: list[Entity]) -> None:
        self._write("log_batch")
        run = self._run(run_id)
        for param in params:
            assert run.params.get(param.key, param.value) == param.value, "MLflow changes no parameter"
            assert isinstance(param.value, str)
            run.params[param.key] = param.value
        for metric in metrics:
            assert isinstance(metric.value, float) and metric.timestamp and metric.step == 0
            run.metrics[metric.key] = metric.value

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._write("set_tag")
        self._run(run_id).tags[key] = value

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self._write("set_terminated")
        assert status in ("FINISHED", "FAILED", "KILLED")
        self._run(run_id).status, self._run(run_id).end_time = status, end_time

    def update_run(self, run_id: str, status: str) -> None:
        self._write("update_run")
        assert status in ("RUNNING", "SCHEDULED")
        self._run(run_id).status = status

    def delete_run(self, run_id: str) -> None:
        self._write("delete_run")
        self._run(run_id).deleted = True


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Server]:
    """MLflow's stand-in is installed; returns what lies behind each URI."""
    found: dict[str, Server] = {}
    module, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
    module.MlflowClient = lambda tracking_uri: Client(found, tracking_uri)
    module.entities, entities.Metric, entities.Param = entities, Entity, Entity
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two graded runs of a task, with seeds 0 and 1."""
    for seed in (0, 1):
        group = make_group(tmp_path / "runs" / f"g{seed}", seed=seed)
        make_run(group, job=f"2{seed}", seed=seed)
        make_server(group)
    return tmp_path / "runs"


def log(runs: Path, uri: str = "http://m") -> str:
    """Export to MLflow; what was said."""
    done = export(runs, "--mlflow", uri)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_a_run_and_all_that_is_known_of_it(runs: Path, servers: dict[str, Server]) -> None:
    assert log(runs) == "export_results: 2 runs logged, 0 changed, 0 unchanged at http://m\n"
    first = servers["http://m"].alive()[0]
    assert (first.name, first.status) == ("toy_20", "FINISHED")
    assert (first.start_time, first.end_time) == (1767226200000, 1767226800000)
    assert first.params == {
        "model": "30b",
        "agent": "aide",
        "seed": "0",
        "site": "della",
        "config_hash": "f00",
        "git_commit": "abc123",
    }
    assert (first.metrics["score"], first.metrics["gpu_hours"], first.metrics["steps"]) == (0.75, 2.0, 3.0)
    tags = {name: first.tags[name] for name in ("state", "isolated", "language_model", "run_directory")}
    assert tags == {
        "state": "scored",
        "isolated": "true",
        "language_model": "true",
        "run_directory": str(runs / "g0" / "toy_20"),
    }


def test_a_second_export_writes_nothing(runs: Path, servers: dict[str, Server]) -> None:
    log(runs)
    servers["http://m"].writes.clear()
    servers["http://m"].page_size = 1
    assert "0 runs logged, 0 changed, 2 unchanged" in log(runs)
    assert servers["http://m"].writes == []


def test_a_row_that_has_changed_takes_the_place_of_the_old_one(runs: Path, servers: dict[str, Server]) -> None:
    log(runs)
    path = runs / "g1" / "toy_21" / "run_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "cancelled"}))
    assert "0 runs logged, 1 changed, 1 unchanged" in log(runs)
    alive = {run.name: run for run in servers["http://m"].alive()}
    assert sorted(alive) == ["toy_20", "toy_21"]
    assert alive["toy_21"].status == "KILLED" and "score" not in alive["toy_21"].metrics


def test_a_run_tried_again_counts_once(runs: Path, servers: dict[str, Server]) -> None:
    path = runs / "g0" / "toy_20" / "run_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "lost"}))
    log(runs)
    make_run(make_group(runs / "again", git_commit="def456"), job="30", seed=0)
    assert "0 runs logged, 1 changed, 1 unchanged" in log(runs)
    alive = {run.name: run for run in servers["http://m"].alive()}
    assert sorted(alive) == ["toy_21", "toy_30"]
    assert (alive["toy_30"].params["git_commit"], alive["toy_30"].metrics["attempts"]) == ("def456", 2.0)


def test_runs_of_which_too_little_is_known_stay_apart(runs: Path, servers: dict[str, Server]) -> None:
    for name in ("one", "two"):
        make_run(make_group(runs / name, config_hash=...), job="40")
    log(runs)
    assert "0 runs logged, 0 changed, 4 unchanged" in log(runs)
    assert len(servers["http://m"].alive()) == 4


@pytest.mark.parametrize("call", ["log_batch", "set_terminated", "set_tag"])
def test_an_export_that_broke_off_is_mended_by_the_next(runs: Path, servers: dict[str, Server], call: str) -> None:
    servers["http://m"] = Server()
    servers["http://m"].fails = call
    done = export(runs, "--mlflow", "http://m")
    assert (done.returncode, done.stderr) == (
        3,
        "export_results: MLflow at http://m: ConnectionError: the server went away\n",
    )
    assert "1 runs logged, 1 changed, 0 unchanged" in log(runs)
    assert sorted(run.name for run in servers["http://m"].alive()) == ["toy_20", "toy_21"]
    assert all(run.status == "FINISHED" for run in servers["http://m"].alive())


@pytest.mark.parametrize("call", ["delete_run"])
def test_an_old_run_that_was_not_deleted_goes_with_the_next(runs: Path, servers: dict[str, Server], call: str) -> None:
    log(runs)
    path = runs / "g0" / "toy_20" / "logs" / "usage.json"
    path.write_text(json.dumps({"steps": 4}))
    servers["http://m"].fails = call
    assert export(runs, "--mlflow", "http://m").returncode == 3
    assert len(servers["http://m"].alive()) == 3
    assert "0 runs logged, 0 changed, 2 unchanged" in log(runs)
    assert sorted((run.name, run.metrics["steps"]) for run in servers["http://m"].alive()) == [
        ("toy_20", 4.0),
        ("toy_21", 3.0),
    ]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("waiting", "SCHEDULED"),
        ("running", "RUNNING"),
        ("no_submission", "FAILED"),
        ("lost", "FAILED"),
        ("cancelled", "KILLED"),
    ],
)
def test_states(tmp_path: Path, servers: dict[str, Server], state: str, status: str) -> None:
    ended = {"end": None} if state in ("waiting", "running") else {}
    make_run(make_group(tmp_path / "g"), state=state, **ended)
    log(tmp_path / "g")
    (run,) = servers["http://m"].alive()
    assert run.status == status and "score" not in run.metrics


def test_a_table_too_where_it_is_asked_for(runs: Path, servers: dict[str, Server], tmp_path: Path) -> None:
    done = export(runs, "--mlflow=http://m", "-o", tmp_path / "results.csv")
    assert done.returncode == 0 and len((tmp_path / "results.csv").read_text().splitlines()) == 3
    assert export(runs, "--mlflow=http://m", "-o", "-").stdout.startswith("task,model,")


def test_the_default_is_a_file_here(
    runs: Path, servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(runs, "--mlflow").returncode == 0
    assert list(servers) == ["sqlite:///mlflow.db"]


def test_without_the_library_it_tells_the_command(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    done = export(runs, "--mlflow", "http://m")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "export_results: --mlflow needs mlflow, which isn't installed: "
        f"{sys.executable} -m pip install -r {mlflow_export.REQUIREMENTS}\n"
    )
    assert mlflow_export.REQUIREMENTS.is_file()


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        ("http://me:secret@m", 2, "MLFLOW_TRACKING_PASSWORD"),
        ("sqlite:////nowhere/at/all/mlflow.db", 3, "can't write to the folder /nowhere/at/all"),
    ],
)
def test_bad_places(runs: Path, servers: dict[str, Server], uri: str, code: int, message: str) -> None:
    done = export(runs, f"--mlflow={uri}")
    assert done.returncode == code and message in done.stderr and "secret" not in done.stderr
    assert servers == {}


def test_every_try_would_count_a_key_twice(runs: Path, servers: dict[str, Server]) -> None:
    done = export(runs, "--all", "--mlflow=http://m")
    assert done.returncode == 2 and "leave out --all" in done.stderr
