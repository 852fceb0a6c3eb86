from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from records import in_cells

from helpers.runs import export as export_results
from helpers.runs.collection import Collection, rows_of
from helpers.runs.columns import COLUMNS
from helpers.runs.export import main

ROOT = Path(__file__).resolve().parents[2]
MINUTE = 60
SCHEMA = 1
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(autouse=True, params=[1, 2])
def schema(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms of workflow.json are read alike."""
    monkeypatch.setitem(globals(), "SCHEMA", request.param)


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def put(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def make_group(folder: Path, **changes: Any) -> Path:
    """A workflow's folder, as run_workflow.sh makes it."""
    record = {
        "schema": 1,
        "created_at": at(0),
        "competition": "toy",
        "model": "30b",
        "agent": "aide",
        "seed": 0,
        "git_commit": "abc123",
        "git_dirty": False,
        "config_hash": "f00",
        "site": "della",
        "language_model": True,
        "model_config": {"engine": "vllm", "gpus": 2},
        "config": {"gpu": {"per_node": 4, "whole_node": False}},
        "images": {"agent": {"path": "/i/aide.sif", "sha256": "beef"}},
        "jobs": {"grading_server": "11", "model_server": "12", "agents": []},
        "reused": {"grading": False, "model": False},
    }
    told = {key: value for key, value in (record | changes).items() if value is not ...}
    put(folder / "workflow.json", in_cells(told) if SCHEMA == 2 else told)
    return folder


def make_run(group: Path, job: str = "13", start: float | None = 10, end: float | None = 20, **changes: Any) -> Path:
    """A run's folder; start and end of its agent in minutes."""
    run = group / f"toy_{job}"
    metadata = {
        "competition": "toy",
        "agent": "aide",
        "model": "30b",
        "seed": 0,
        "state": "scored",
        "reason": "graded",
        "isolated": True,
        "cpus": 6,
        "job_id": job,
        "host": "n1",
        "grading_job": "11",
        "model_job": "12",
        "created_at": at(1),
        "agent_started_at": None if start is None else at(start),
        "agent_ended_at": None if end is None else at(end),
        "ended_at": None if end is None else at(end),
    } | changes
    put(run / "run_metadata.json", metadata)
    used = {
        "steps": 3,
        "requests": 7,
        "rate_limited": 2,
        "server_errors": 0,
        "prompt_tokens": 100,
        "completion_tokens": 20,
    }
    put(run / "logs" / "usage.json", used)
    if metadata["state"] == "scored":
        flags = dict.fromkeys(("any_medal", "gold_medal", "silver_medal", "above_median", "is_lower_better"), False)
        put(
            run / "grading_report.json",
            {"total_score": 0.75, "score": 0.75, "valid_submission": True, "bronze_medal": True, **flags},
        )
    return run


def make_server(group: Path, job: str = "12", start: float = 0, end: float | None = 60, **changes: Any) -> None:
    record = {
        "service": "vllm_30b",
        "job_id": job,
        "gpus": 2,
        "cpus": 7,
        "started_at": at(start),
        "ended_at": end and at(end),
    }
    put(group / "services" / f"vllm_30b_{job}.json", record | changes)


def hours(*paths: Path) -> list[Any]:
    return [row["gpu_hours"] for row in rows_of(list(paths), keep_all=True)]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def export(*arguments: Any) -> Done:
    """The command, without the cost of a process."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline=""), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as end:
            code = end.code
    out.flush()
    return Done(code, out.buffer.getvalue().decode(), err.getvalue())


def run_file(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "helpers" / "export_results.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


# ---- the table


def test_the_columns_and_their_order() -> None:
    assert ",".join(COLUMNS) == (
        "task,model,agent,seed,state,score,metric,is_lower_better,any_medal,gold_medal,silver_medal,bronze_medal,"
        "above_median,valid_submission,started_at,ended_at,time_limit_reached,cut_short,agent_seconds,steps,requests,rate_limited,server_errors,prompt_tokens,"
        "completion_tokens,agent_cpu_hours,cpu_hours,gpu_hours,cost_basis,isolated,language_model,git_commit,image_digest,config_hash,data_fingerprint,"
        "site,job_id,grading_job,model_job,run_directory,reason,attempts"
    )


def test_a_scored_run_as_csv(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    run = make_run(group)
    make_server(group)
    make_server(group, "11", gpus=0)
    done = run_file(group, "-o", tmp_path / "results.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "results.csv").read_text() == (
        ",".join(COLUMNS) + "\n"
        "toy,30b,aide,0,scored,0.75,,false,false,false,false,true,false,true,2026-01-01T00:10:00Z,2026-01-01T00:20:00Z,,,"
        f"600.0,3,7,2,0,100,20,1.9,15.9,2.0,estimate,true,true,abc123,beef,f00,,della,13,11,12,{run},graded,1\n"
    )


def test_what_tasks_report_beside_the_score_become_columns(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    scored = {"total_score": 0.5, "valid_submission": True}
    told = {"standard_metrics": {"f1": 0.25, "odd": "x", "\tn": 1}, "custom_metrics": {"lines": 7, "nan": math.nan}}
    put(make_run(group, "13") / "grading_report.json", scored | told)
    put(make_run(group, "14", seed=1) / "grading_report.json", scored | {"custom_metrics": {"f1": 3}})
    put(make_run(group, "15", seed=2, state="lost") / "grading_report.json", scored | told)
    put(
        make_run(group, "16", seed=3) / "grading_report.json",
        scored | {"custom_metrics": "none", "standard_metrics": 3},
    )
    assert rows_of([tmp_path])[0]["custom_metrics"] == {"lines": 7}  # as benchmarks sum them up
    head, *rows = csv.reader(io.StringIO(export(tmp_path).stdout))
    assert head == [*COLUMNS, "metric.f1", "metric.n", "metric.lines", "metric.f1 (custom)"]
    assert [row[len(COLUMNS) :] for row in rows] == [["0.25", "1", "7", ""], ["", "", "", "3"], [""] * 4, [""] * 4]
    as_json = json.loads(export(tmp_path, "--json").stdout)
    assert all(list(row) == head for row in as_json) and as_json[1]["metric.f1 (custom)"] == 3
    assert "metric.<name>" in export("--help").stdout


def test_it_needs_no_package_and_no_folder_to_stand_in(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "g"))
    script = str(ROOT / "helpers" / "export_results.py")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    for command in ([sys.executable, "-S", script], [sys.executable, "-S", "-m", "helpers.export_results"]):
        cwd = ROOT if "-m" in command else tmp_path
        done = subprocess.run([*command, str(tmp_path)], cwd=cwd, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 2
    assert os.access(script, os.X_OK)


def test_json_keeps_types(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g", model=None, model_config=None, language_model=None)
    make_run(group, model=None, model_job=None, seed=4)
    row = json.loads(export(tmp_path, "--json").stdout)[0]
    assert list(row) == list(COLUMNS)
    assert (row["model"], row["seed"], row["score"], row["isolated"], row["gpu_hours"]) == (None, 4, 0.75, True, 0.0)
    assert row["language_model"] is None


def test_replay_is_no_language_model(tmp_path: Path) -> None:
    replay = {"engine": "replay", "gpus": 0}
    make_run(make_group(tmp_path / "a", language_model=False, model_config=replay))
    make_run(make_group(tmp_path / "b", language_model=..., model_config=replay))
    assert [row["language_model"] for row in rows_of([tmp_path], keep_all=True)] == [False, False]


def test_a_checkout_that_was_changed_shows(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "a", git_dirty=True))
    make_run(make_group(tmp_path / "b", git_commit=None, git_dirty=None))
    assert [row["git_commit"] for row in rows_of([tmp_path], keep_all=True)] == ["abc123-dirty", None]


@pytest.mark.parametrize("state", ["lost", "cancelled", "agent_failed", "invalid_submission", "running", "waiting"])
def test_only_a_scored_run_has_a_score(tmp_path: Path, state: str) -> None:
    run = make_run(make_group(tmp_path / "g"), state=state)
    put(run / "grading_report.json", {"total_score": 0})
    row = rows_of([tmp_path])[0]
    assert (row["state"], row["score"]) == (state, None)


def test_an_open_run_is_a_row_with_its_time_so_far(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group, start=0, end=None, state="running", reason=None)
    collection = Collection([tmp_path])
    row = collection.rows()[0]
    assert (row["state"], row["ended_at"]) == ("running", None)
    assert row["agent_seconds"] == pytest.approx(collection.now - START.timestamp(), abs=1)


# ---- finding


def test_folders_of_many_of_one_and_of_one_run_all_work_and_count_once(tmp_path: Path) -> None:
    group = make_group(tmp_path / "runs" / "bench" / "g1")
    run = make_run(group, "13")
    make_run(group, "14", seed=1)
    make_run(make_group(tmp_path / "runs" / "g2"), "23", seed=2)
    assert [row["job_id"] for row in rows_of([tmp_path / "runs"])] == ["13", "14", "23"]
    assert [row["job_id"] for row in rows_of([run])] == ["13"]
    assert [row["job_id"] for row in rows_of([run, group])] == ["13", "14"]
    assert len(rows_of([group, tmp_path / "runs", str(run) + "/"], keep_all=True)) == 3
    (tmp_path / "link").symlink_to(group)
    assert [row["run_directory"] for row in rows_of([tmp_path / "link"])][0] == str(run)


def test_a_run_started_by_hand_has_no_workflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "2026_run-group_aide")
    assert main([str(tmp_path)]) == 3
    said = capsys.readouterr()
    row = next(csv.DictReader(io.StringIO(said.out)))
    assert (row["state"], row["score"], row["run_directory"]) == ("scored", "0.75", str(run))
    assert (row["gpu_hours"], row["config_hash"]) == ("", "")
    assert "workflow.json is missing (a job submitted by hand" in said.err


def test_what_is_no_run_is_not_taken_for_one(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group)
    for name in ("logs", "jobs", "notes", "services"):
        (group / name).mkdir(exist_ok=True)
    (group / "list_3").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "other" / "deep").mkdir(parents=True)
    assert len(rows_of([tmp_path])) == 1


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_nothing_found_is_a_usage_error(tmp_path: Path, name: str) -> None:
    make_run(make_group(tmp_path / "g"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = export(tmp_path / name, "-o", tmp_path / "results.csv")
    assert done.returncode == 2
    assert str(tmp_path / name) in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results.csv").exists()


def test_one_wrong_folder_among_good_ones_is_not_passed_over(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "g"))
    done = export(tmp_path / "g", tmp_path / "typo")
    assert (done.returncode, done.stdout) == (2, "")


# ---- tries


@pytest.mark.parametrize(
    ("tries", "shown"),
    [
        ([("lost", 1), ("scored", 2)], {1: 2}),
        ([("scored", 1), ("lost", 2)], {0: 2}),
        ([("timed_out", 1), ("cancelled", 2)], {0: 2}),
        ([("no_submission", 1), ("running", 2)], {0: 1, 1: 1}),
        ([("scored", 1), ("agent_failed", 2)], {0: 1, 1: 1}),
        ([("scored", 3), ("scored", 2), ("scored", 1)], {0: 1, 1: 1, 2: 1}),
        ([("lost", 1), ("scored", 2), ("cancelled", 4), ("scored", 5), ("lost", 3)], {1: 2, 3: 3}),
        ([("lost", 1), ("cancelled", 3), ("lost", 2)], {1: 3}),
    ],
)
def test_every_rollout_is_an_attempt_and_what_was_lost_is_a_try_at_the_next(
    tmp_path: Path, tries: list[tuple[str, int]], shown: dict[int, int]
) -> None:
    for number, (state, created) in enumerate(tries):
        group = make_group(tmp_path / f"g{number}")
        make_run(group, f"1{number}", state=state, created_at=at(created))
        make_server(group)
    rows = rows_of([tmp_path])
    assert {row["job_id"]: row["attempts"] for row in rows} == {f"1{number}": count for number, count in shown.items()}
    every = rows_of([tmp_path], keep_all=True)
    assert [one["state"] for one in every] == [state for state, _ in tries]
    assert export(tmp_path, "--all").stdout.count("\n") == len(tries) + 1
    for column in ("gpu_hours", "agent_cpu_hours"):
        assert sum(row[column] for row in rows) == pytest.approx(sum(row[column] for row in every))


def test_another_task_model_agent_seed_or_configuration_is_another_run(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "a"))
    for key, value in (("competition", "toy2"), ("model", "80b"), ("agent", "baseline"), ("seed", 1)):
        make_run(make_group(tmp_path / key), **{key: value})
    make_run(make_group(tmp_path / "config", config_hash="f01"))
    make_run(make_group(tmp_path / "data", data_fingerprint="d1"))
    make_run(make_group(tmp_path / "data2", data_fingerprint="d1"), data_fingerprint="d2")
    rows = rows_of([tmp_path])
    assert [row["attempts"] for row in rows] == [1] * 8
    assert {row["data_fingerprint"] for row in rows} == {None, "d1", "d2"}


def test_what_a_round_of_a_benchmark_has_lost_is_no_try_at_the_next_rounds(tmp_path: Path) -> None:
    for stamp, state in (("2026-01-01__00-00-01", "lost"), ("2026-01-02__00-00-01", "scored")):
        make_run(make_group(tmp_path / stamp, benchmark={"name": "nightly"}), state=state)
    assert [(row["state"], row["attempts"]) for row in rows_of([tmp_path])] == [("lost", 1), ("scored", 1)]


def test_runs_whose_configuration_is_not_known_are_never_merged(tmp_path: Path) -> None:
    for name in "ab":
        make_run(make_group(tmp_path / name, config_hash=...))
    make_run(tmp_path / "c_run-group_aide")
    make_run(make_group(tmp_path / "d"), seed=None)
    make_run(make_group(tmp_path / "e"), seed="0")
    assert len(rows_of([tmp_path])) == 5


# ---- broken and hostile files


@pytest.mark.parametrize("unknown", ["seed", "config_hash"])
def test_a_lost_run_is_no_try_at_one_whose_key_is_not_known(tmp_path: Path, unknown: str) -> None:
    group = make_group(tmp_path / "g", **{unknown: ...})
    make_run(group, "13", state="lost", **({"seed": None} if unknown == "seed" else {}))
    make_run(group, "14", **({"seed": None} if unknown == "seed" else {}))
    assert [(row["state"], row["attempts"]) for row in rows_of([group])] == [("lost", 1), ("scored", 1)]


def test_what_cut_a_run_short_is_the_jobs_word_before_the_agents(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    for job, said in (("13", "the model was gone"), ("14", None)):
        put(make_run(group, job, cut_short=said) / "logs" / "usage.json", {"cut_short": "so I say"})
    assert [row["cut_short"] for row in rows_of([group])] == ["the model was gone", "so I say"]


def broken_file(path: Path, how: str) -> None:
    path.unlink(missing_ok=True)
    if how == "link":
        path.symlink_to("/etc/passwd")
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how != "missing":
        texts = {
            "empty": b"",
            "cut": b'{"state": "sco',
            "list": b"[1, 2]",
            "bytes": b"\xff\xfe\x00",
            "deep": b"[" * 60000,
        }
        path.write_bytes(texts[how])


HOW = ["link", "loop", "pipe", "folder", "missing", "empty", "cut", "list", "bytes", "deep"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["run_metadata.json", "grading_report.json", "logs/usage.json", "../workflow.json"])
def test_a_broken_file_is_reported_and_its_run_keeps_a_row(tmp_path: Path, name: str, how: str) -> None:
    group = make_group(tmp_path / "runs" / "g", jobs={"grading_server": "11", "model_server": "12", "agents": ["13"]})
    run = make_run(group)
    make_run(make_group(tmp_path / "runs" / "h"), "23", seed=1)
    broken_file(run / name, how)
    done = export(tmp_path / "runs")
    rows = {row["job_id"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert set(rows) == {"13", "23"}
    assert rows["23"]["reason"] == "graded"
    if (name, how) == ("logs/usage.json", "missing"):  # not every agent counts
        assert (done.returncode, done.stderr, rows["13"]["steps"]) == (0, "", "")
        return
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert Path(name).name in line and str(group) in line and "Traceback" not in line
    if name == "run_metadata.json":
        assert (rows["13"]["state"], rows["13"]["score"], rows["13"]["task"]) == ("lost", "", "toy")
        assert rows["13"]["reason"].startswith("unreadable: run_metadata.json")
    elif name == "grading_report.json":
        assert (rows["13"]["state"], rows["13"]["score"]) == ("scored", "")
        assert "unreadable: grading_report.json" in rows["13"]["reason"]
    else:
        assert (rows["13"]["state"], rows["13"]["score"]) == ("scored", "0.75")


@pytest.mark.parametrize("how", ["link", "pipe", "empty", "cut", "list"])
def test_a_server_whose_record_is_broken_has_an_unknown_cost(tmp_path: Path, how: str) -> None:
    group = make_group(tmp_path / "g")
    make_run(group)
    make_server(group)
    broken_file(group / "services" / "vllm_30b_12.json", how)
    assert hours(group) == [None]
    assert main([str(group), "-o", str(tmp_path / "r.csv")]) == 3


@pytest.mark.parametrize("name", ["run_metadata.json", "grading_report.json", "logs/usage.json"])
def test_a_text_cut_within_a_character_loses_nothing_else(tmp_path: Path, name: str) -> None:
    run = make_run(make_group(tmp_path / "g"))
    before = rows_of([run])[0]
    data = json.dumps(json.loads((run / name).read_text()) | {"said": "@"}, ensure_ascii=False)
    (run / name).write_bytes(data.encode().replace(b"@", "größe".encode()[:3]))
    assert rows_of([run]) == [before | {"reason": f"graded; {name} holds bytes that are no UTF-8"}]
    assert export(run).returncode == 0


def test_a_large_usage_file_is_not_read(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path / "g"))
    (run / "logs" / "usage.json").write_text('{"steps": 3, "x": "%s"}' % ("x" * 70_000))
    done = export(tmp_path)
    assert "logs/usage.json is larger than 65536 bytes" in done.stderr
    assert next(csv.DictReader(io.StringIO(done.stdout)))["steps"] == ""


def test_a_folder_laid_as_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    put(secret / "usage.json", {"steps": 99})
    put(secret / "run_metadata.json", {"state": "scored"})
    group = make_group(tmp_path / "runs" / "g")
    run = make_run(group)
    (run / "logs" / "usage.json").unlink()
    (run / "logs").rmdir()
    (run / "logs").symlink_to(secret)
    (group / "toy_14").symlink_to(secret)
    rows = rows_of([tmp_path / "runs"], keep_all=True)
    assert [(row["state"], row["steps"]) for row in rows] == [("scored", None), ("lost", None)]
    assert rows[1]["reason"] == "unreadable: its folder is a link"


def test_a_submitted_job_without_a_folder_is_a_row(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g", jobs={"agents": ["13", "14", "../../x"]})
    make_run(group, "13")
    rows = rows_of([group])
    assert [(row["job_id"], row["state"]) for row in rows] == [("13", "scored"), ("14", "lost")]
    assert rows[1]["reason"] == "unreadable: its folder is missing"


def test_an_unknown_state_is_not_passed_on(tmp_path: Path) -> None:
    for number, state in enumerate(["winner", None, ["scored"], {}, 1]):
        run = make_run(make_group(tmp_path / f"g{number}"), seed=number)
        data = json.loads((run / "run_metadata.json").read_text())
        put(run / "run_metadata.json", data | {"state": state})
    assert {(row["state"], row["score"]) for row in rows_of([tmp_path])} == {("lost", None)}


@pytest.mark.parametrize("value", ["7", True, [1], {"a": 1}, -1, 10**400, 1e400, float("nan"), 2.5])
def test_a_value_of_the_wrong_type_is_an_empty_cell(tmp_path: Path, value: Any) -> None:
    run = make_run(make_group(tmp_path / "g"), cpus=[8], agent_started_at=value, isolated="yes", seed=[value])
    (run / "logs" / "usage.json").write_text(json.dumps(dict.fromkeys(("steps", "requests"), value)))
    put(run / "grading_report.json", {"total_score": "0.9", "any_medal": "yes", "metric": {"a": 1}})
    done = export(tmp_path)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (done.returncode, done.stderr) == (0, "")
    empty = ["steps", "requests", "score", "any_medal", "metric", "seed", "agent_cpu_hours", "isolated", "started_at"]
    assert {name: row[name] for name in empty} == dict.fromkeys(empty, "")


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999", "true", "null", '"1"'])
def test_a_score_that_is_no_number_is_empty(tmp_path: Path, score: str) -> None:
    run = make_run(make_group(tmp_path / "g"))
    (run / "grading_report.json").write_text(f'{{"total_score": {score}}}')
    assert rows_of([tmp_path])[0]["score"] is None
    assert json.loads(export(tmp_path, "--json").stdout)[0]["score"] is None


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK('http://x')", "'=HYPERLINK('http://x')"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'=1+1"),
        ("\r\n=1+1", "'=1+1"),
        ("-2.5", "-2.5"),
        ("+3", "+3"),
        ("a=b", "a=b"),
        ('two\nlines, "quoted"\x1b[31m\x00', 'two lines, "quoted" [31m'),
        ("\ud800 half", "\\ud800 half"),
        ("ö ✓", "ö ✓"),
    ],
)
def test_text_is_harmless_in_a_spreadsheet_and_a_terminal(tmp_path: Path, text: str, cell: str) -> None:
    make_run(make_group(tmp_path / "g"), reason=text)
    done = export(tmp_path, "-o", tmp_path / "r.csv")
    assert done.returncode == 0
    lines = (tmp_path / "r.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert next(csv.DictReader(lines))["reason"] == cell
    assert json.loads(export(tmp_path, "--json").stdout)


def test_a_run_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path / 'a, "b"\nc'))
    done = export(tmp_path)
    assert next(csv.DictReader(io.StringIO(done.stdout, newline="")))["run_directory"] == str(run)


# ---- writing


def test_a_table_that_can_not_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(make_group(tmp_path / "g"))
    table = tmp_path / "out" / "r.csv"
    table.parent.mkdir()
    table.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_results.os, "replace", full)
    assert main([str(tmp_path / "g"), "-o", str(table)]) == 3
    assert table.read_text() == "old"
    assert os.listdir(table.parent) == ["r.csv"]


def test_a_new_table_can_be_read_by_those_who_may(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "g"))
    old = os.umask(0o027)
    try:
        export(tmp_path / "g", "-o", tmp_path / "r.csv")
    finally:
        os.umask(old)
    assert (tmp_path / "r.csv").stat().st_mode & 0o777 == 0o640


def test_the_output_may_be_a_link_a_device_or_nowhere(tmp_path: Path) -> None:
    make_run(make_group(tmp_path / "g"))
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "r.csv").symlink_to("real.csv")
    assert export(tmp_path / "g", "-o", tmp_path / "r.csv").returncode == 0
    assert (tmp_path / "r.csv").is_symlink() and (tmp_path / "real.csv").read_text().startswith("task,")
    assert run_file(tmp_path / "g", "-o", "/dev/stdout").stdout.startswith("task,")
    assert export(tmp_path / "g", "-o", "-").stdout.startswith("task,")
    for wrong in (tmp_path / "no" / "r.csv", tmp_path):
        done = export(tmp_path / "g", "-o", wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    for number in range(400):
        make_run(group, str(number), seed=number)
    command = f'"{sys.executable}" "{ROOT}/helpers/export_results.py" "{tmp_path}" | head -n 1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("task,")


def test_help_names_every_column() -> None:
    done = export("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COLUMNS)
    assert export().returncode == 2
