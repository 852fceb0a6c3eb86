"""Where the values of a row come from, derived anew: what was changed in a record is noticed, what can't be derived is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_costs import SLURM, accounting, took  # noqa: F401 (accounting is a fixture)
from test_export_results import at, make_run, make_server, put
from test_load import sampled

from helpers.explain import cli, files
from helpers.explain.columns import COLUMNS
from helpers.explain.derive import medals
from helpers.lib import disk
from helpers.lib.command_line import launch
from helpers.rendering import sealing
from helpers.runs import collection, export, metadata
from helpers.runs import columns as columns_module
from helpers.runs.provenance import config_hash

AGENT = {"name": "aide", "image": "aide", "steps": 500, "time_limit": None, "variables": {}}
NAME = "2026-01-01T00-00-00-UTC_run-group_aide"
FLAGS = ("any_medal", "gold_medal", "silver_medal", "bronze_medal", "above_median")


def change(path: Path, **values: Any) -> None:
    put(path, json.loads(path.read_text()) | values)


def make_task(data: Path) -> str:
    """A task of this project's, prepared; its fingerprint."""
    from helpers.data import fingerprint

    prepared = data / "toy" / "prepared"
    (prepared / "public").mkdir(parents=True)
    (prepared / "private").mkdir()
    (prepared / "public" / "description.md").write_text("text")
    (prepared / "private" / "answers.csv").write_text("id,label\n1,0\n2,1\n3,1\n4,0\n")
    columns = {"id_column": "id", "target_column": "label"}
    put(prepared / "private" / "grading.json", {"metric": "accuracy", "metrics": ["f1_macro"], **columns})
    return fingerprint.stamp(prepared)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A scored run in a workflow, as the tools leave it; all of it local, with the scheduler's records."""
    data, group = make_task(tmp_path / "data"), tmp_path / "runs" / NAME
    config = {
        "name": "here",
        "scheduler": {"kind": "local"},
        "paths": {
            "address_dir": str(tmp_path / "addresses"),
            "data": str(tmp_path / "data"),
            "runs": str(group.parent),
        },
        "container": {"runtime": "apptainer"},
        "environment": {"variables": {}},
        "gpu": {"per_node": 4, "whole_node": False},
        "jobs": {"agent": {"cpus": 6, "memory_gb": 8}, "grading_server": {"cpus": 2}},
        "limits": {"upload_mb": 1, "judgement_seconds": 60, "judgement_mb": 2048},
    }
    image = tmp_path / "aide.sif"
    image.write_bytes(b"image")
    os.utime(image, (0, 0))
    digest = subprocess.run(["sha256sum", image], capture_output=True, text=True).stdout.split()[0]
    model = {"engine": "vllm", "gpus": 2, "cpus": 7, "context_length": 1000}
    chosen = {
        **{"site": config, "model": model, "feedback_model": None, "agent": AGENT, "script": None},
        **{"steps": 9, "time_limit": 3600, "images": {"agent": digest}},
    }
    record = {
        **{"created_at": at(0), "competition": "toy", "model": "30b", "agent": "aide", "seed": 0, "site": "here"},
        **{"language_model": True, "git_commit": "abc", "git_dirty": True, "data_fingerprint": data},
        **{"config": config, "model_config": model, "feedback_model_config": None},
        "config_hash": config_hash(chosen),
        "agent_config": AGENT | {"steps": 9, "time_limit": 3600},
        "agent_limits": {"steps": 500, "time_limit": None},
        "images": {"agent": {"path": str(image), "sha256": digest}},
        "jobs": {"grading_server": "11", "model_server": "12", "agents": ["13"]},
        "reused": {"grading": False, "model": False},
    }
    (group / "jobs" / "code" / "helpers").mkdir(parents=True)
    (group / "jobs" / "code" / "helpers" / "one.py").write_text("1\n")
    record["code"] = {"path": sealing.CODE, "sha256": sealing.digest_of(group / sealing.CODE)}
    put(group / "workflow.json", record)  # of before; tests/results.bats explains one of today
    (group / "jobs" / "agent.sh").write_text("SITE=here\nRUNTIME=apptainer\nCPUS=6\n")
    folder = make_run(group, data_fingerprint=data, time_limit_reached=False, time_limit_seconds=3600)
    submission(folder, "id,label\n1,0\n2,1\n3,1\n4,1\n")
    report = {
        "competition_id": "toy",
        "score": 0.75,
        "total_score": 0.75,
        "metric": "accuracy",
        "is_lower_better": False,
    }
    put(folder / "grading_report.json", report | dict.fromkeys(FLAGS) | {"valid_submission": True})
    put(folder / "logs" / "journal.json", {"nodes": [{}, {}, {}]})
    make_server(group)
    make_server(group, "11", gpus=0, cpus=2)
    (group / "logs").mkdir()
    (group / "logs" / "agent_aide-13.out").write_text(
        f"00:00:00 text\n00:00:01 the agent's time: {at(10)} to {at(20)}\n00:00:01 toy: scored: graded\n"
    )
    (group / "logs" / "vllm_30b-12.out").write_text('"POST /v1/chat/completions HTTP/1.1" 200 OK\n' * 8)
    for job, start, seconds in (("11", 0, 3600), ("12", 0, 3600), ("13", 1, 1140)):
        ran(tmp_path, job, start, seconds)
    return folder


def submission(folder: Path, text: str) -> None:
    path = folder / "submission" / "submission.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    said = subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout
    change(folder / "run_metadata.json", submission_sha256=said.split()[0])


def ran(root: Path, job: str, start: float, seconds: int) -> None:
    """The scheduler's record of a job without Slurm. start: in minutes."""
    folder = root / "addresses" / "local_jobs" / job
    folder.mkdir(parents=True, exist_ok=True)
    began = round(export.values.seconds_of(at(start)) or 0)
    (folder / "started").write_text(f"{began}\n")
    (folder / "ended").write_text(f"{began + seconds}\n")


Told = tuple[int, dict[str, Any], str, str]


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """The command: its exit code, the verdict and all else of each column, the lines, and what it says on stderr."""
    site = tmp_path / "site.yaml"
    site.write_text(f"scheduler: {{kind: local}}\npaths: {{runs: {tmp_path / 'runs'}}}\n")
    monkeypatch.setenv("HPC_SITE", str(site))

    def call(*words: Any) -> Told:
        files.forget()
        code = launch(cli.main, "results.sh explain", [*map(str, words), "--json"])
        said = capsys.readouterr()
        columns = {one["column"]: one for row in json.loads(said.out or "[]") for one in row["columns"]}
        launch(cli.main, "results.sh explain", list(map(str, words)))
        return code, columns, capsys.readouterr().out, said.err

    return call


def differing(columns: dict[str, Any]) -> set[str]:
    return {column for column, one in columns.items() if one["verdict"] == "differs"}


# ---- the table


def test_every_column_of_the_export_has_a_meaning_and_an_explanation() -> None:
    assert list(COLUMNS) == list(columns_module.COLUMNS)
    assert all(columns_module.COLUMNS.values())


def test_what_nobody_changed_comes_out_the_same(run: Path, told: Callable[..., Told]) -> None:
    code, columns, text, error = told(run)
    assert (code, error) == (0, ""), error
    assert list(columns) == list(columns_module.COLUMNS)
    verdicts = {column: one["verdict"] for column, one in columns.items()}
    assert {column for column in verdicts if verdicts[column] != "same"} == {
        *("ended_at", "requests", "prompt_tokens", "completion_tokens", "rate_limited", "server_errors"),  # fit
        "git_commit",  # dirty
    }
    assert verdicts["ended_at"] == verdicts["requests"] == "fits" and verdicts["git_commit"] == "not derived"
    assert columns["score"]["value"] == columns["score"]["recorded"] == 0.75
    assert columns["gpu_hours"]["source"] == (
        "job 13 (agent): 0 GPUs x 1140 s + job 11 (grading): 0 GPUs x 3600 s + job 12 (model): 2 GPUs x 3600 s"
    )
    assert "meaning" in columns["score"] and columns["score"]["how"].startswith(
        "submission/submission.csv, graded here"
    )
    assert max(map(len, text.splitlines()[1:])) <= 80  # the first line is a path that one copies
    assert " ".join(text.splitlines()[-2:]).startswith(
        "Of 42 columns, 35 come out the same, 6 fit what else is known, 1 can't be"
    )


def test_what_the_task_reports_beside_the_score_is_derived_too(run: Path, told: Callable[..., Told]) -> None:
    change(run / "grading_report.json", standard_metrics={"f1_macro": 0.73333}, custom_metrics={"lines": 7})
    code, found, text, error = told(run)
    assert found["metric.f1_macro"]["verdict"] == "same" and "graded here" in found["metric.f1_macro"]["how"]
    assert "metric.f1_macro" in text and found["metric.f1_macro"]["meaning"].startswith(
        "a metric that the task's grader"
    )
    # which this grader doesn't tell
    assert code == 3 and found["metric.lines"]["verdict"] == "differs" and "metric.lines: 7 (" in error
    shutil.rmtree(run / "submission")
    assert told(run)[1]["metric.lines"]["verdict"] == "not derived"


def test_how_loaded_its_model_server_was_is_told_below(run: Path, told: Callable[..., Told], capsys: Any) -> None:
    assert "samples" not in told(run)[2]
    (run.parent / "services" / "vllm_30b_12.load.csv").write_text(sampled((60, 1860)))
    code, _, text, _ = told(run)
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("Job "))
    assert code == 0 and max(map(len, lines[1:])) <= 80 and lines[at - 1] == ""
    assert " ".join(lines[at : lines.index("", at)]) == (
        "Job 12, model 30b: busy 50% and idle 48% of 2.0 GPU-hours, 9,000 generated tokens a GPU-hour, GPUs 41% used, "
        "at most 9 requests waiting, by its samples in ../services."
    )
    launch(cli.main, "results.sh explain", [str(run), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert list(row["servers"]) == ["12"] and row["servers"]["12"]["busy_seconds"] == 1800


def test_the_row_is_that_of_the_export(run: Path, told: Callable[..., Told]) -> None:
    (row,) = collection.rows_of([run.parent])
    assert {column: one["recorded"] for column, one in told("13")[1].items()} == row
    assert {column: one["recorded"] for column, one in told()[1].items()} == row


# ---- what was changed in one file


@pytest.mark.parametrize(
    ("file", "changed", "columns", "said"),
    [
        (
            "grading_report.json",
            {"total_score": 0.99},
            {"score"},
            "score: 0.99 (grading_report.json: total_score, of a scored run), derived anew: 0.75 (submission/submission.csv, graded here",
        ),
        (
            "grading_report.json",
            {"gold_medal": True},
            {"gold_medal"},
            "gold_medal: true (grading_report.json: gold_medal), derived anew:",
        ),
        (
            "grading_report.json",
            {"metric": "r2"},
            {"metric"},
            "metric: r2 (grading_report.json: metric), derived anew: accuracy (",
        ),
        (
            "run_metadata.json",
            {"seed": 4},
            {"seed"},
            "seed: 4 (run_metadata.json: seed), derived anew: 0 (../workflow.json: seed 0, and this is rollout 0)",
        ),
        (
            "run_metadata.json",
            {"agent_started_at": at(12)},
            {"started_at", "agent_seconds"},
            f"started_at: {at(12)} (run_metadata.json: agent_started_at), derived anew: {at(10)} (the agent's time in ../logs/agent_",
        ),
        (
            "run_metadata.json",
            {"ended_at": at(90)},
            {"ended_at"},
            f"ended_at: {at(90)} (run_metadata.json: ended_at), derived anew: job 13, by the scheduler's record, ran from {at(1)} to",
        ),
        (
            "run_metadata.json",
            {"cpus": 1},
            {"agent_cpu_hours", "cpu_hours"},
            "agent_cpu_hours: 0.316667 (job 13 (agent): 6 CPUs x 1140 s), derived anew: 1.9 (the formula, on the scheduler's records; "
            "run_metadata.json: cpus 1, but ../workflow.json: config.jobs.agent.cpus 6)",
        ),
        (
            "run_metadata.json",
            {"isolated": False},
            {"isolated"},
            "derived anew: true (../jobs/agent.sh: RUNTIME=apptainer)",
        ),
        ("run_metadata.json", {"time_limit_reached": True}, set(), ""),  # its job may have been near its end
        (
            "run_metadata.json",
            {"state": "agent_failed"},
            {"state"},
            "state: agent_failed (run_metadata.json: state), derived anew: scored",
        ),
        (
            "run_metadata.json",
            {"reason": "well"},
            {"reason"},
            "reason: well (run_metadata.json: reason), derived anew: graded (the last word",
        ),
        (
            "run_metadata.json",
            {"model": "80b"},
            {"model"},
            "model: 80b (run_metadata.json: model), derived anew: 30b (../workflow.json: model)",
        ),
        (
            "run_metadata.json",
            {"model_job": None},
            {"model_job"},
            "derived anew: 12 (../workflow.json: jobs.model_server)",
        ),
        (
            "run_metadata.json",
            {"job_id": "14"},
            {"job_id"},
            "job_id: 14 (run_metadata.json: job_id), derived anew: 13 (the folder's name)",
        ),
        (
            "logs/usage.json",
            {"steps": 1},
            {"steps"},
            "steps: 1 (logs/usage.json: steps), derived anew: 3 (logs/journal.json has 3 nodes)",
        ),
        (
            "logs/usage.json",
            {"requests": 9},
            {"requests"},
            "requests: 9 (logs/usage.json: requests), derived anew: 8 requests in ../logs/vllm_30b-12.out, of all that used it",
        ),
        (
            "logs/usage.json",
            {"rate_limited": 8},
            {"rate_limited"},
            "rate_limited: 8 (logs/usage.json: rate_limited), derived anew: of 7 requests; nobody else counts",
        ),
        (
            "logs/usage.json",
            {"prompt_tokens": 7001},
            {"prompt_tokens"},
            "derived anew: at most 7000: 7 requests x context_length 1000",
        ),
        (
            "../services/vllm_30b_12.json",
            {"gpus": 1},
            {"gpu_hours"},
            "records; ../services/vllm_30b_12.json: gpus 1, but ../workflow.json: 2)",
        ),
        (
            "../workflow.json",
            {"config_hash": "f00"},
            {"config_hash"},
            "config_hash: f00 (../workflow.json: config_hash), derived anew: ",
        ),
        (
            "../workflow.json",
            {"language_model": False},
            {"language_model"},
            "derived anew: true (../workflow.json: model_config.engine vllm)",
        ),
        (
            "../workflow.json",
            {"site": "there"},
            {"site"},
            "site: there (../workflow.json: site), derived anew: here (../jobs/agent.sh",
        ),
        (
            "../workflow.json",
            {"code": {"sha256": "f"}},
            {"git_commit"},
            "derived anew: ../workflow.json: code.sha256 f, but the files in jobs/",
        ),
    ],
)
def test_a_record_that_was_changed_is_noticed(
    run: Path, told: Callable[..., Told], file: str, changed: dict[str, Any], columns: set[str], said: str
) -> None:
    change(run / file, **changed)
    code, found, text, error = told(run)
    assert differing(found) >= columns and (code == 3) == bool(columns), error
    assert said in error
    assert not columns or f"explain: {run}: " in error and "\n  differs      " in text
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_another_configuration_is_another_hash(run: Path, told: Callable[..., Told]) -> None:
    change(run / "../workflow.json", model_config={"engine": "vllm", "gpus": 2, "cpus": 7, "context_length": 9999})
    assert "config_hash" in differing(told(run)[1])


def test_a_submission_that_is_not_what_was_graded_is_noticed(run: Path, told: Callable[..., Told]) -> None:
    noted = disk.read_json(run / "run_metadata.json")["submission_sha256"]  # type: ignore[index]
    (run / "submission" / "submission.csv").write_text("id,label\n1,0\n2,1\n3,1\n4,0\n")
    code, found, _, error = told(run)
    assert code == 3 and "score" in differing(found)
    assert f"derived anew: run_metadata.json: submission_sha256 {noted}, but submission/submission.csv has " in error
    # a copy that is what was graded will do
    submission(run, "id,label\n1,0\n2,1\n3,1\n4,1\n")
    (run / "submission" / "submission.csv").rename(run / "kept_submission.csv")
    assert told(run)[0] == 0


def test_an_image_and_data_that_were_changed_since_are_no_difference(run: Path, told: Callable[..., Told]) -> None:
    image = run.parents[2] / "aide.sif"
    image.write_bytes(b"other")
    answers = run.parents[2] / "data" / "toy" / "prepared" / "private" / "answers.csv"
    answers.write_text(answers.read_text().replace("1,0", "1,1"))
    code, found, _, error = told(run)
    assert (code, error) == (0, "")
    assert found["image_digest"]["verdict"] == found["data_fingerprint"]["verdict"] == "not derived"
    assert found["image_digest"]["how"] == f"{image} was made anew since"
    assert (
        found["score"]["how"]
        == f"can't be graded here: other data lie in {answers.parents[1]} now; results.sh regrade does it"
    )
    # of before the run
    for path in (image, answers, *answers.parents[1].rglob("*")):
        os.utime(path, (0, 0))
    code, found, _, error = told(run)
    assert code == 3 and differing(found) == {"image_digest", "data_fingerprint"}, error


def test_what_is_gone_is_no_difference(run: Path, told: Callable[..., Told]) -> None:

    for path in (
        run / "submission",
        run / "logs",
        run.parent / "logs",
        run.parent / "jobs",
        run.parents[2] / "addresses",
    ):
        shutil.rmtree(path)
    (run.parents[2] / "aide.sif").unlink()
    code, found, _, error = told(run)
    assert (code, error) == (0, "")
    assert found["score"]["how"] == "the submission is gone; results.sh regrade does it"
    assert found["image_digest"]["how"].endswith("aide.sif: No such file or directory")
    gone = {column for column, one in found.items() if one["verdict"] == "not derived"}
    assert gone >= {
        "score",
        "steps",
        "requests",
        "agent_seconds",
        "started_at",
        "isolated",
        "git_commit",
        "image_digest",
        "reason",
    }
    assert found["cost_basis"]["recorded"] == "estimate"


def test_a_grade_that_a_job_made_again_stands_beside_the_first(run: Path, told: Callable[..., Told]) -> None:
    (run / "submission" / "submission.csv").unlink()
    put(
        run / "grading_report_20.json",
        {"total_score": 0.5, "valid_submission": True, "metric": "accuracy", "is_lower_better": False},
    )
    grades = [
        {"job": "13", "report": "grading_report.json"},
        {"job": "20", "at": at(99), "report": "grading_report_20.json"},
    ]
    change(run / "run_metadata.json", grades=grades)
    code, found, _, error = told(run)
    assert code == 3 and differing(found) == {"score"}
    assert f"derived anew: 0.5 (grading_report_20.json: by job 20, at {at(99)})" in error


def test_a_grade_that_is_the_result_by_now_says_nothing_of_itself(run: Path, told: Callable[..., Told]) -> None:
    (run / "submission" / "submission.csv").unlink()
    for job, score in ((13, 0.5), (20, 0.75)):
        put(
            run / f"grading_report_{job}.json",
            json.loads((run / "grading_report.json").read_text()) | {"total_score": score},
        )
    grades = [{"job": str(job), "at": at(99), "report": f"grading_report_{job}.json"} for job in (13, 20)]
    change(run / "run_metadata.json", grades=grades, counted_grade="20")
    code, found, _, _ = told(run)
    assert code == 0 and not differing(found) and found["score"]["verdict"] == "not derived"
    assert found["reason"]["verdict"] == "not derived"


def test_an_element_of_an_array_has_its_id_in_its_folders_name(run: Path, told: Callable[..., Told]) -> None:
    folder = run.with_name(f"{run.name}_2")
    run.rename(folder)
    change(folder / "run_metadata.json", job_id=f"{run.name.rpartition('_')[2]}_2")
    _, found, _, _ = told(folder)
    assert found["job_id"]["verdict"] == "same"


def test_a_copy_of_the_code_is_compared_with_its_commit(
    run: Path, told: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, code = run.parents[2] / "checkout", run.parent / sealing.CODE
    (checkout / "helpers").mkdir(parents=True)
    (checkout / "helpers" / "one.py").write_text("1\n")
    (code / "templates" / "agents").mkdir(parents=True)
    (checkout / "templates" / "agents").mkdir(parents=True)
    (checkout / "templates" / "agents" / "link.py").symlink_to("../../helpers/one.py")
    (code / "templates" / "agents" / "link.py").write_text("1\n")  # a copy has what the link leads to
    git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(sealing, "ROOT", checkout)

    def noted(**changed: Any) -> dict[str, Any]:
        change(run.parent / "workflow.json", code={"sha256": sealing.digest_of(code)}, git_dirty=False, **changed)
        return told(run)[1]["git_commit"]

    assert noted(git_commit="0" * 40)["how"] == "jobs/code is as noted; this checkout has no commit 000000000000"
    found = noted(git_commit=commit)
    assert (found["verdict"], found["how"]) == ("same", "jobs/code: 2 files as in the commit")
    (code / "helpers" / "two.py").write_text("2\n")
    found = noted()
    assert (found["verdict"], found["how"]) == (
        "fits",
        "jobs/code: 2 files as in the commit, and 1 that no commit has: helpers/two.py",
    )
    (code / "helpers" / "one.py").write_text("3\n")
    assert noted()["how"] == "jobs/code isn't the commit's, and it isn't called dirty: helpers/one.py"


# ---- grades


@pytest.mark.parametrize(
    ("score", "lower", "medal", "above"),
    [
        (0.95, False, "gold", True),
        (0.9, False, "gold", True),
        (0.85, False, "silver", True),
        (0.7, False, "bronze", True),
    ]
    + [(0.5, False, None, False), (0.51, False, None, True), (1.0, True, "bronze", False), (0.4, True, "bronze", True)],
)
def test_medals_by_score_and_thresholds(score: float, lower: bool, medal: str | None, above: bool) -> None:
    limits = (0.1, 0.2, 1.0, 0.5) if lower else (0.9, 0.8, 0.7, 0.5)
    names = ("gold_threshold", "silver_threshold", "bronze_threshold", "median_threshold")
    found = medals({"total_score": score, "is_lower_better": lower, **dict(zip(names, limits, strict=True))})
    assert [name for name in metadata.MEDALS if found[f"{name}_medal"]] == ([medal] if medal else [])
    assert (found["any_medal"], found["above_median"]) == (medal is not None, above)


def test_where_the_grader_is_not_here_medals_come_from_the_thresholds(run: Path, told: Callable[..., Told]) -> None:
    (run.parents[2] / "data" / "toy" / "prepared" / "private" / "grading.json").unlink()  # so it is mle-bench's
    change(run.parent / "workflow.json", data_fingerprint=None)
    change(run / "run_metadata.json", data_fingerprint=None)
    limits = {"gold_threshold": 0.9, "silver_threshold": 0.8, "bronze_threshold": 0.7, "median_threshold": 0.6}
    won = {"any_medal": True, "gold_medal": False, "silver_medal": False, "bronze_medal": True, "above_median": True}
    change(run / "grading_report.json", **limits, **won)
    code, found, _, error = told(run)
    assert (code, error) == (0, "")
    assert "this Python can't import mlebench" in found["score"]["how"]
    assert found["bronze_medal"]["how"] == "grading_report.json: total_score and thresholds"
    change(run / "grading_report.json", gold_medal=True, score=0.7)
    code, found, _, error = told(run)
    assert code == 3 and differing(found) == {"gold_medal", "score"}
    assert (
        "score: 0.75 (grading_report.json: total_score, of a scored run), derived anew: 0.7 (grading_report.json: score)"
        in error
    )


# ---- hours, by Slurm's accounting, and tries


def test_hours_by_the_accounting_of_a_run_and_its_lost_try(
    tmp_path: Path,
    told: Callable[..., Told],
    accounting: Path,  # noqa: F811
) -> None:
    for number, state in enumerate(("lost", "scored")):
        agent, server = f"{number}3", f"{number}2"
        jobs = {"model_server": server, "agents": [agent]}
        group = tmp_path / "runs" / NAME.replace("00-00-00", f"00-0{number}-00")
        record = {
            "competition": "toy",
            "model": "30b",
            "agent": "aide",
            "seed": 0,
            "config_hash": "f",
            "config": SLURM,
            "jobs": jobs,
        }
        put(group / "workflow.json", record | {"created_at": at(number)})
        make_run(
            group, agent, number, number + 1, state=state, created_at=at(number), model_job=server, grading_job=None
        )
        took(accounting, server, number, 360, 2, gpus=2)
        took(accounting, agent, number, 180, 6)
    code, found, _, error = told(group)
    assert code == 0, error
    assert (found["attempts"]["recorded"], found["attempts"]["verdict"]) == (2, "same")
    assert (found["gpu_hours"]["recorded"], found["gpu_hours"]["value"]) == (0.4, 0.4)
    assert found["cpu_hours"]["source"].startswith(
        "job 03 (agent): 6 CPUs x 180 s + job 02 (model): 2 CPUs x 360 s + job 13"
    )
    assert len((accounting / "calls").read_text().splitlines()) == 2  # for all jobs, once for each of the two commands
    # the try itself
    code, found, text, error = told("03")
    assert code == 0 and found["gpu_hours"]["recorded"] == 0.2, error
    assert "It was a try at" in text


def test_a_server_is_shared_by_all_that_used_it(run: Path, told: Callable[..., Told]) -> None:
    change(run.parent / "workflow.json", jobs={"grading_server": "11", "model_server": "12", "agents": ["13", "14"]})
    make_run(run.parent, "14", 10, 40, seed=1)
    ran(run.parents[2], "14", 1, 2400)
    found = told(run)[1]
    assert (found["gpu_hours"]["recorded"], found["gpu_hours"]["verdict"]) == (0.5, "same")
    assert found["gpu_hours"]["source"].endswith("job 12 (model): 2 GPUs x 3600 s x 0.25")


# ---- which run


def test_what_has_no_row_is_said(run: Path, told: Callable[..., Told]) -> None:
    assert told("nothing")[0] == 2
    folder = run.parent.parent / "2026-02-02T00-00-00-UTC_notebook"
    folder.mkdir()
    code, _, _, error = told()
    assert (code, error) == (2, f"error: {folder} is no run of an agent, so it has no row\n")
    empty = run.parent.parent / "2026-03-03T00-00-00-UTC_run-group_aide"
    put(empty / "workflow.json", {"jobs": {}})
    assert told(empty)[3] == f"error: {empty} has no runs: nothing was submitted\n"


@pytest.mark.parametrize("broken", ["run_metadata.json", "grading_report.json", "../workflow.json", "logs/usage.json"])
def test_a_broken_file_is_told_and_nothing_breaks(run: Path, told: Callable[..., Told], broken: str) -> None:
    (run / broken).write_text('{"state": "sco')
    code, found, _, error = told(run)
    assert code == 3 and "is cut off or no JSON" in error and len(found) == len(columns_module.COLUMNS)


def test_a_run_that_is_still_open(run: Path, told: Callable[..., Told]) -> None:
    (run / "grading_report.json").unlink()
    (run.parent / "logs" / "agent_aide-13.out").unlink()
    (run.parents[2] / "addresses" / "local_jobs" / "13" / "ended").unlink()
    (run.parents[2] / "addresses" / "local_jobs" / "12" / "ended").unlink()
    change(
        run / "run_metadata.json",
        state="running",
        reason=None,
        agent_ended_at=None,
        ended_at=None,
        agent_started_at=at(10),
    )
    code, found, _, error = told(run)
    assert (code, error) == (0, "")
    assert found["state"]["how"] == "its job has left no last word: who looked after it wrote the record"
    # it goes on while it is read
    put(run / "logs" / "journal.json", {"nodes": [{}] * 4})
    code, found, _, error = told(run)
    assert (code, found["steps"]["verdict"], found["steps"]["how"]) == (0, "not derived", "it is still running"), error


def test_a_run_that_was_killed_ended_with_its_job(run: Path, told: Callable[..., Told]) -> None:
    (run / "grading_report.json").unlink()
    (run.parent / "logs" / "agent_aide-13.out").write_text("")
    change(run / "run_metadata.json", state="lost", reason="node", agent_ended_at=None, ended_at=at(5000))
    code, found, _, error = told(run)
    assert (code, error) == (0, "")
    assert (found["agent_seconds"]["recorded"], found["agent_seconds"]["verdict"]) == (600.0, "fits")
    assert (
        found["ended_at"]["how"] == f"when it was noticed that job 13, by the scheduler's record, had ended: {at(20)}"
    )
    assert found["state"]["verdict"] == found["reason"]["verdict"] == "not derived"


def test_a_row_is_explained_quickly_beside_many_others(run: Path) -> None:
    for number in range(500):
        put(
            run.parent.parent / f"2025-01-01T00-00-00-UTC_{number}_run-group_aide" / "workflow.json",
            {"config_hash": "other"},
        )
    began = time.monotonic()
    assert cli.kin(run.parent) == [run.parent]
    assert time.monotonic() - began < 5
