"""What runs cost: by the scheduler's accounting, and by the jobs' own notes where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_export_results import START, at, export, hours, make_group, make_run, make_server

from helpers.runs.collection import Collection, rows_of

SLURM = {"scheduler": {"kind": "slurm"}, "gpu": {"per_node": 4, "whole_node": False}}
SACCT = """#!/usr/bin/env bash
echo "$*" >>"$FAKE/calls"
case "$*" in
  '-X --noheader --parsable2 --jobs='*' --format=jobid,start,elapsedraw,alloccpus,alloctres') ;;
  *) echo "sacct: unrecognized options $*" >&2; exit 1 ;;
esac
[[ $SLURM_TIME_FORMAT == %s ]] || { echo "sacct: dates" >&2; exit 1; }
ids=${4#--jobs=}
for id in ${ids//,/ }; do grep "^$id|" "$FAKE/jobs"; done
true
"""


def stamped(folder: Path, minute: int, **changes: Any) -> Path:
    """A workflow's folder with the name that it gets."""
    name = f"2026-01-01T00-{minute:02d}-00-UTC_run-group_aide"
    return make_group(folder / name, **({"config": SLURM, "created_at": at(minute)} | changes))


@pytest.fixture
def accounting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's accounting, which knows the lines of the file `jobs`; add them with `took`."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "sacct").write_text(SACCT)
    (fake / "sacct").chmod(0o755)
    (fake / "jobs").touch()
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    return fake


def took(accounting: Path, job: str, start: float | None, seconds: int, cpus: int, gpus: int | None = 0) -> None:
    """A line as sacct prints it. start: in minutes; gpus None: the site doesn't count them."""
    began = "None" if start is None else round(START.timestamp() + 60 * start)
    counted = f",gres/gpu={gpus},gres/gpu:a100={gpus}" if gpus else ""
    with open(accounting / "jobs", "a") as file:
        file.write(f"{job}|{began}|{seconds}|{cpus}|billing={cpus},cpu={cpus}{counted},mem=4G,node=1\n")


# ---- by the accounting


def shared_server(folder: Path, accounting: Path) -> tuple[Path, Path]:
    """A workflow that kept its servers, and one that used its model server with two rollouts."""
    owner = stamped(folder, 0, cleanup="off", jobs={"grading_server": "11", "model_server": "12", "agents": ["13"]})
    make_run(owner, "13", 2, 6, created_at=at(1))
    make_server(owner, "12", 0, 30)
    make_server(owner, "11", 0, 30, gpus=0)
    jobs = {"grading_server": "21", "agents": ["22", "23"]}
    user = stamped(folder, 10, jobs=jobs, reused={"grading": False, "model": True})
    make_run(user, "22", 11, 15, created_at=at(10), seed=1, grading_job="21")
    make_run(user, "23", 11, 19, created_at=at(10), seed=2, grading_job="21")
    make_server(user, "21", 10, 20, gpus=0)
    for job, start, seconds, cpus, gpus in (
        ("11", 0, 1801, 2, 0),
        ("12", 0, 1802, 7, 2),
        ("13", 1, 303, 6, 0),
        ("21", 10, 604, 2, 0),
        ("22", 10, 305, 6, 0),
        ("23", 10, 545, 6, 0),
    ):
        took(accounting, job, start, seconds, cpus, gpus)
    return owner, user


def test_a_server_is_shared_by_all_that_used_it_of_whatever_workflow(tmp_path: Path, accounting: Path) -> None:
    owner, user = shared_server(tmp_path / "runs", accounting)
    rows = rows_of([tmp_path / "runs"])
    assert {row["cost_basis"] for row in rows} == {"accounting"}
    assert [row["gpu_hours"] for row in rows] == pytest.approx(
        [2 * 1802 / 3600 * part for part in (1 / 4, 1 / 4, 1 / 2)], abs=1e-6
    )
    allocated = 2 * 1801 + 7 * 1802 + 6 * 303 + 2 * 604 + 6 * 305 + 6 * 545
    assert sum(row["cpu_hours"] for row in rows) == pytest.approx(allocated / 3600, abs=1e-5)
    assert [row["agent_cpu_hours"] for row in rows] == pytest.approx(
        [6 * one / 3600 for one in (303, 305, 545)], abs=1e-6
    )
    # each by itself tells the same, of runs and of workflows
    assert rows_of([owner]) + rows_of([user]) == rows
    assert rows_of([user / "toy_23"]) == rows[2:]


def test_the_accounting_is_asked_once_for_all_jobs(tmp_path: Path, accounting: Path) -> None:
    shared_server(tmp_path / "runs", accounting)
    assert export(tmp_path / "runs").stderr == ""
    (call,) = (accounting / "calls").read_text().splitlines()
    assert "--jobs=11,12,13,21,22,23 " in call


def test_a_server_killed_without_a_word_cost_what_the_accounting_says(tmp_path: Path, accounting: Path) -> None:
    group = stamped(tmp_path / "runs", 0)
    make_run(group, "13", 0, 14 / 60)
    make_server(group, "12", 0, None)
    make_server(group, "11", 0, 1, gpus=0)
    for job, seconds in (("11", 60), ("12", 7), ("13", 14)):
        took(accounting, job, 0, seconds, 1, gpus=1 if job == "12" else 0)
    (row,) = rows_of([group])
    assert (row["gpu_hours"], row["cost_basis"]) == (pytest.approx(7 / 3600, abs=1e-6), "accounting")


def test_the_time_of_lost_tries_is_not_dropped(tmp_path: Path, accounting: Path) -> None:
    for number, (state, seconds) in enumerate((("lost", 76), ("scored", 128))):
        server, agent = f"{number}2", f"{number}3"
        group = stamped(tmp_path / "runs", number, jobs={"model_server": server, "agents": [agent]})
        make_run(
            group, agent, number, number + 1, state=state, created_at=at(number), model_job=server, grading_job=None
        )
        took(accounting, server, number, seconds, 1, gpus=1)
        took(accounting, agent, number, seconds, 1)
    (row,) = rows_of([tmp_path / "runs"])
    assert row["gpu_hours"] == pytest.approx(204 / 3600, abs=1e-6) and row["attempts"] == 2
    assert row["cpu_hours"] == pytest.approx(2 * 204 / 3600, abs=1e-6)


def test_a_job_of_the_same_number_on_another_cluster_is_another_job(tmp_path: Path, accounting: Path) -> None:
    group = stamped(tmp_path / "runs", 0)
    make_run(group, "13", 0, 30)
    make_server(group, "12", 0, 60)
    make_server(group, "11", 0, 60, gpus=0)
    for job in ("11", "12", "13"):
        took(accounting, job, 100_000, 1, 1, gpus=1)
    (row,) = rows_of([group])
    assert (row["gpu_hours"], row["cost_basis"]) == (2.0, "estimate")


@pytest.mark.parametrize(("gpus", "expected"), [(None, 2.0), (1, 1.0)])
def test_gpus_that_a_site_does_not_count_are_those_of_the_server(
    tmp_path: Path, accounting: Path, gpus: int | None, expected: float
) -> None:
    group = stamped(tmp_path / "runs", 0)
    make_run(group, "13", 0, 30, grading_job=None)
    make_server(group, "12", 0, 60)
    took(accounting, "12", 0, 3600, 1, gpus)
    took(accounting, "13", 1, 1800, 6)
    assert hours(group) == [expected]


def test_a_job_that_never_started_cost_nothing(tmp_path: Path, accounting: Path) -> None:
    group = stamped(tmp_path / "runs", 0, jobs={"grading_server": "11", "model_server": "12", "agents": ["13"]})
    make_run(group, "13", None, 5, state="cancelled")
    path = group / "toy_13" / "run_metadata.json"
    path.write_text(path.read_text().replace('"host"', '"no"'))
    for job in ("11", "12", "13"):
        took(accounting, job, None, 0, 0)
    (row,) = rows_of([group])
    assert [row[column] for column in ("gpu_hours", "cpu_hours", "cost_basis")] == [0.0, 0.0, "accounting"]


def test_where_there_is_no_accounting_it_is_said(tmp_path: Path) -> None:
    group = stamped(tmp_path / "runs", 0)
    make_run(group, "13", 0, 30)
    make_server(group)
    done = export(group)
    assert done.returncode == 0
    said = "no accounting (Slurm accounting storage is disabled): GPU- and CPU-hours are estimates"
    assert done.stderr == f"export_results: {said}\n"
    assert rows_of([group])[0]["cost_basis"] == "estimate"


def test_jobs_without_slurm_are_told_by_their_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "addresses" / "local_jobs"
    for job, start, seconds in (("11", 0, 100), ("12", 0, 90), ("13", 1, 30)):
        (folder / job).mkdir(parents=True)
        began = round(START.timestamp() + 60 * start)
        (folder / job / "started").write_text(f"{began}\n")
        (folder / job / "ended").write_text(f"{began + seconds}\n")
    config = {"scheduler": {"kind": "local"}, "paths": {"address_dir": str(tmp_path / "addresses")}}
    group = make_group(tmp_path / "g", config=config, model_config={"engine": "replay", "gpus": 0})
    make_run(group, "13", 1, 1.5, cpus=2)
    make_server(group, "12", 0, 60, gpus=0, cpus=1)
    make_server(group, "11", 0, 60, gpus=0, cpus=1)
    (row,) = rows_of([group])
    assert (row["gpu_hours"], row["cost_basis"]) == (0.0, "accounting")
    assert row["cpu_hours"] == pytest.approx((100 + 90 + 2 * 30) / 3600, abs=1e-6)


# ---- by the jobs' own notes


def test_a_server_is_shared_by_agent_seconds(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group, "13", 10, 40, seed=0)
    make_run(group, "14", 10, 20, seed=1)
    make_run(group, "15", None, 20, seed=2, state="lost")
    make_server(group, start=0, end=60)
    assert hours(group) == [1.5, 0.5, 0.0]
    assert hours(group / "toy_14") == [0.5]


def test_equal_shares_when_no_agent_ever_ran(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    for job in ("13", "14"):
        make_run(group, job, None, 20, state="lost", seed=int(job))
    make_server(group, start=0, end=60)
    assert hours(group) == [1.0, 1.0]


def test_a_killed_server_cost_until_its_last_agent_ended(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group, "13", 0, 30, seed=0)
    make_run(group, "14", 0, None, seed=1, state="lost", ended_at=at(90))
    make_server(group, start=0, end=None)
    assert sum(hours(group)) == pytest.approx(2 * 1.5)


def test_a_server_in_use_costs_until_now(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group, "13", 0, None, state="running")
    make_server(group, start=0, end=None)
    collection = Collection([group])
    expected = 2 * (collection.now - START.timestamp()) / 3600
    assert collection.rows()[0]["gpu_hours"] == pytest.approx(expected, rel=1e-3)


def test_two_model_servers_both_count(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g", jobs={"model_server": "12", "feedback_server": "19", "agents": ["13"]})
    make_run(group)
    make_server(group, "12", 0, 60)
    make_server(group, "19", 0, 30, gpus=1)
    assert hours(group) == [2.5]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 2 / 6),
        ({"config": {"gpu": {"per_node": 4, "whole_node": True}}}, 4 / 6),
        ({"model_config": None}, None),
        ({"model_config": {"engine": "vllm", "gpus": "many"}}, None),
        ({"model_config": {"engine": "replay", "gpus": 0}}, 0),
    ],
)
def test_of_another_runs_server_the_agents_time_counts(tmp_path: Path, changes: Any, expected: float | None) -> None:
    group = make_group(tmp_path / "g", reused={"grading": False, "model": True}, **changes)
    make_run(group)
    assert hours(group) == [expected if expected is None else pytest.approx(expected, abs=1e-6)]


def test_a_server_that_never_started_costs_nothing_and_a_lost_record_is_not_zero(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "a"), start=None, end=5, state="cancelled")
    make_run(make_group(tmp_path / "b"), start=1, end=5, seed=1)
    assert hours(tmp_path) == [0.0, None]


@pytest.mark.parametrize("gpus", [0, 0.0])
def test_replay_and_external_models_cost_no_gpu(tmp_path: Path, gpus: float) -> None:
    group = make_group(tmp_path / "g")
    make_run(group)
    make_server(group, gpus=gpus)
    make_run(make_group(tmp_path / "h", model_config={"engine": "external", "gpus": 0}), model_job=None, seed=1)
    assert hours(tmp_path) == [0.0, 0.0]


@pytest.mark.parametrize(("limit", "seconds"), [(600, 675.0), (None, 86400.0), (10**9, 86400.0)])
def test_a_run_killed_without_a_word_took_no_longer_than_its_time_however_late_that_was_noticed(
    tmp_path: Path, limit: int | None, seconds: float
) -> None:
    group, day = make_group(tmp_path / "g"), 24 * 60
    make_run(group, "13", 0, None, state="lost", ended_at=at(day), time_limit_seconds=limit, created_at=at(0))
    make_run(group, "14", 0, 675 / 60, seed=1)
    make_server(group, start=0, end=60)
    killed, other = rows_of([group], keep_all=True)
    assert killed["agent_seconds"] == seconds and killed["ended_at"] == at(day)
    assert killed["agent_cpu_hours"] == pytest.approx(6 * seconds / 3600, abs=1e-6)
    assert other["gpu_hours"] == pytest.approx(2 * 675 / (675 + seconds), abs=1e-6)


def test_a_run_that_nobody_has_settled_takes_no_longer_than_its_time(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "g"), "13", 0, None, state="running", time_limit_seconds=600)
    assert rows_of([tmp_path])[0]["agent_seconds"] == 675.0


def test_a_feedback_server_has_the_gpus_of_the_feedback_model(tmp_path: Path, accounting: Path) -> None:
    models = {"model_config": {"engine": "vllm", "gpus": 2}, "feedback_model_config": {"engine": "vllm", "gpus": 1}}
    jobs = {"model_server": "12", "feedback_server": "19", "agents": ["13"]}
    group = stamped(tmp_path / "runs", 0, jobs=jobs, **models)
    make_run(group, "13", 0, 30, grading_job=None)
    for job, seconds in (("12", 3600), ("19", 3600), ("13", 1800)):
        took(accounting, job, 0, seconds, 1, None)  # a site that doesn't count GPUs, and servers that left no note
    assert hours(group) == [3.0]


def test_a_killed_run_ended_with_its_job_by_the_accounting(tmp_path: Path, accounting: Path) -> None:
    group = stamped(tmp_path / "runs", 0, jobs={"model_server": "12", "agents": ["13", "14"]})
    make_run(
        group,
        "13",
        1,
        None,
        state="lost",
        ended_at=at(5000),
        time_limit_seconds=6000,
        created_at=at(0),
        grading_job=None,
    )
    make_run(group, "14", 1, 16, seed=1, created_at=at(0), grading_job=None)
    for job, start, seconds in (("12", 0, 3600), ("13", 0, 360), ("14", 0, 1000)):
        took(accounting, job, start, seconds, 6, gpus=2 if job == "12" else 0)
    killed, other = rows_of([group], keep_all=True)
    assert killed["agent_seconds"] == 300.0
    assert [killed["gpu_hours"], other["gpu_hours"]] == [0.5, 1.5]
    # asked for alone, too
    assert rows_of([group / "toy_14"])[0]["gpu_hours"] == 1.5
    assert rows_of([group / "toy_13"], keep_all=True)[0]["gpu_hours"] == 0.5
