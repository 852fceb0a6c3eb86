"""Grades of a run that was scored, and is graded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.jobs import regrade
from helpers.jobs.regrade import AgainRun
from helpers.lib import disk

FIRST = {
    "total_score": 0.75,
    "score": 0.75,
    "valid_submission": True,
    "gold_medal": False,
    "created_at": "2026-01-02T03:04:05Z",
}


@pytest.fixture
def run(tmp_path: Path) -> AgainRun:
    disk.write_json(tmp_path / "run_metadata.json", {"state": "scored", "reason": "graded", "job_id": "2"})
    disk.write_json(tmp_path / "grading_report.json", FIRST)
    one = AgainRun(tmp_path, job="4")
    one.reread()
    return one


def note(run: AgainRun, state: str = "scored", **changed: Any) -> None:
    """What a job notes: its report, and its grade in the record."""
    report = FIRST | changed
    disk.write_json(run.directory / "grading_report_4.json", report)
    grade = {"job": "4", "at": "2026-02-03T04:05:06Z", "state": state, "score": report["total_score"]}
    run.metadata["grades"] = [*regrade.grades(run), grade | {"report": "grading_report_4.json"}]


def test_the_first_grade_is_what_the_report_says(run: AgainRun) -> None:
    assert run.is_open
    first = {"job": "2", "at": "2026-01-02T03:04:05Z", "state": "scored", "reason": "graded", "score": 0.75}
    assert regrade.grades(run) == [first | {"report": "grading_report.json"}]
    run.metadata["later_job"] = "3"
    assert regrade.grades(run)[0]["job"] == "3"


def test_the_same_grade_is_no_difference_whatever_its_time_and_path(run: AgainRun) -> None:
    note(run, created_at="2026-02-03T04:05:05Z", submission_path="/elsewhere")
    assert not run.is_open
    assert regrade.outcome(run) == (0, "graded again at 2026-02-03T04:05:06Z, by job 4: the same (score 0.75)")


def test_each_field_that_differs_is_named_with_both_values_and_files(run: AgainRun) -> None:
    note(run, total_score=0.5, gold_medal=None, median_threshold=0.1)
    assert regrade.outcome(run) == (
        1,
        "graded again at 2026-02-03T04:05:06Z, by job 4: DIFFERS: "
        "total_score 0.5 (grading_report_4.json), at first 0.75 (grading_report.json); "
        "gold_medal not known (grading_report_4.json), at first false (grading_report.json); "
        "median_threshold 0.1 (grading_report_4.json), at first not known (grading_report.json); "
        "its result stays the first one",
    )


def test_a_submission_that_can_not_be_graded_any_more_differs(run: AgainRun) -> None:
    run.metadata["grades"] = [{"job": "4", "at": "2026-02-03T04:05:06Z", "state": "invalid_submission", "report": None}]
    assert regrade.outcome(run) == (
        1,
        "graded again at 2026-02-03T04:05:06Z, by job 4: DIFFERS: state invalid_submission, at first scored; "
        "its result stays the first one",
    )


def test_a_report_that_is_gone_is_no_same_grade(run: AgainRun) -> None:
    note(run)
    (run.directory / "grading_report_4.json").unlink()
    code, said = regrade.outcome(run)
    assert code == 1 and "total_score can't be read (grading_report_4.json), at first 0.75" in said


def test_a_job_without_a_grade_leaves_the_result(run: AgainRun) -> None:
    run.settle("lost", "job 4 ended without a result")
    assert (run.state, run.reason, run.is_open) == ("scored", "graded", False)
    assert regrade.outcome(run) == (3, "not graded again, by job 4: lost: job 4 ended without a result")
    run.settle("cancelled", "too late")
    assert [one["state"] for one in regrade.grades(run)] == ["scored", "lost"]
    run.job = "5"
    assert regrade.outcome(run) == (3, "not graded again, by job 5: lost: its job left no word")
    run.settle("cancelled", "job 5 was cancelled")
    assert regrade.outcome(run) == (130, "not graded again, by job 5: cancelled: job 5 was cancelled")
    saved = disk.read_json(run.directory / "run_metadata.json") or {}
    assert [one["job"] for one in saved["grades"]] == ["2", "4", "5"]


@pytest.mark.parametrize(("codes", "code"), [([], 0), ([0, 0], 0), ([0, 1], 1), ([1, 130], 130), ([130, 3, 1], 3)])
def test_the_worst_of_several_is_the_exit_code(codes: list[int], code: int) -> None:
    assert regrade.worst(codes) == code
