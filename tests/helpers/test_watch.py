"""What is said at the end of a workflow, and the report over all its runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_export_results import make_group, make_run, make_server

from helpers.jobs import watch
from helpers.lib import disk
from helpers.runs import metadata


def sentence(group: Path, **report: Any) -> str:
    """Of one graded run; report: changes of its grading report, ... leaves a field out."""
    run = make_run(group)
    path = run / "grading_report.json"
    data = json.loads(path.read_text()) | report
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))
    make_server(group)
    make_server(group, "11", gpus=0)
    return _say(group)


def _say(group: Path) -> str:
    from helpers.runs.collection import rows_of

    (row,) = rows_of([group], keep_all=True)
    return watch._sentence(row)


UNKNOWN = {f"{name}_medal": None for name in ("any", "gold", "silver", "bronze")} | {"above_median": None}


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"is_lower_better": True}, "(the competition's metric, lower is better)"),
        ({"is_lower_better": False, "metric": "r2"}, "(r2, higher is better)"),
        ({"is_lower_better": None, "metric": "rmse"}, "(rmse; whether higher or lower is better is not known)"),
        ({"is_lower_better": ...}, "(the competition's metric; whether higher or lower is better is not known)"),
        ({"is_lower_better": "no"}, "(the competition's metric; whether higher or lower is better is not known)"),
        ({"bronze_medal": True}, "; bronze medal; cost"),
        ({"bronze_medal": False, "above_median": True, "median_threshold": 0.5}, "; above the median; cost"),
        ({"bronze_medal": False, "above_median": False, "median_threshold": 0.5}, "; below the median; cost"),
        ({**UNKNOWN, "median_threshold": 0.5, "is_lower_better": True}, "lower is better); cost"),
        ({**UNKNOWN, "median_threshold": None, "reference": {"baseline": 0.5}}, "; baseline 0.5000; cost"),
    ],
)
def test_what_is_not_known_is_not_told_as_a_fact(tmp_path: Path, report: dict[str, Any], said: str) -> None:
    told = sentence(make_group(tmp_path / "g"), **report)
    assert said in told and "score 0.75" in told


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), "0.5", True])
def test_without_a_finite_score_nothing_is_scored(tmp_path: Path, score: Any) -> None:
    group = make_group(tmp_path / "g")
    told = sentence(
        group, score=score, total_score=score, median_threshold=0.5, above_median=False, note="a constant column"
    )
    assert told == "toy / aide / 30b (seed 0): invalid_submission: a constant column"
    assert watch.exit_code([run.state for run in metadata.runs_of(group)]) == 4


def test_a_report_that_is_gone_is_no_invalid_submission(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    (make_run(group) / "grading_report.json").unlink()
    assert "scored, but the score can't be read: graded; unreadable: grading_report.json is missing" in _say(group)


def test_a_run_that_was_cut_short_says_so(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    run = make_run(group, cut_short=None)
    assert "cut short" not in _say(group)
    (run / "logs" / "usage.json").write_text(json.dumps({"cut_short": "the model answered\n401 "}))
    assert "; cut short: the model answered 401; cost" in _say(group)


def test_requests_that_a_busy_endpoint_put_off_are_told(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    run = make_run(group)
    used = {"requests": 9, "rate_limited": 3, "server_errors": 1200}
    (run / "logs" / "usage.json").write_text(json.dumps(used))
    assert "; asked again later: 3 after 429 and 1,200 after 5xx" in _say(group)
    (run / "logs" / "usage.json").write_text(json.dumps(used | {"rate_limited": 0, "server_errors": 0}))
    assert "asked again" not in _say(group)


def test_a_cost_that_is_not_known_is_no_zero(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group)
    assert "cost GPU-hours not known, CPU-hours not known (estimated: no accounting)" in _say(group)


# ---- the report over all runs


def test_the_aggregate_report_of_one_rollout_has_its_score(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    run = make_run(group)
    assert metadata.write_aggregate(group)
    report = json.loads((group / "grading_report.json").read_text())
    assert report == {
        "total_runs": 1,
        "total_runs_with_submissions": 0,
        "total_valid_submissions": 1,
        "total_medals": 0,
        "total_gold_medals": 0,
        "total_silver_medals": 0,
        "total_bronze_medals": 1,
        "total_above_median": 0,
        "competition_reports": [{"run_id": "toy_13", **json.loads((run / "grading_report.json").read_text())}],
        "total_score": 0.75,
        "states": {"toy_13": "scored"},
    }


def test_the_aggregate_report_of_many_is_written_when_all_have_ended(tmp_path: Path) -> None:
    group = make_group(tmp_path / "g")
    make_run(group, "13")
    second = make_run(group, "14", state="running")
    assert not metadata.write_aggregate(group) and not (group / "grading_report.json").exists()
    make_run(group, "14")
    (second / "grading_report.json").write_text(json.dumps({"total_score": 0.25, "valid_submission": True}))
    failed = make_run(group, "15", state="timed_out", reason="no submission within the time limit")
    make_run(group, "16", state="lost")
    (failed / "submission").mkdir()
    (failed / "submission" / "submission.csv").touch()
    assert metadata.write_aggregate(group)
    report = json.loads((group / "grading_report.json").read_text())
    assert (report["total_runs"], report["total_valid_submissions"], report["total_score"]) == (4, 2, 0.5)
    assert [one["run_id"] for one in report["competition_reports"]] == ["toy_13", "toy_14", "toy_15"]
    last = report["competition_reports"][2]
    assert (last["score"], last["any_medal"], last["submission_exists"], last["note"]) == (
        None,
        None,
        True,
        "no submission within the time limit",
    )
    before = (group / "grading_report.json").stat()
    assert metadata.write_aggregate(group)
    assert (group / "grading_report.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_full_disk_costs_the_aggregate_report_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    group = make_group(tmp_path / "g")
    make_run(group)
    monkeypatch.setattr(disk, "write_json", full)
    metadata.tell_aggregate(group)
    assert capsys.readouterr().err == f"can't write {group}/grading_report.json: No space left on device\n"
