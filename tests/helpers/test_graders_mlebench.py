"""mle-bench's competitions behind the same two methods, with a package that has mle-bench's names (tests/prepare/fakes)."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.grading import graders
from helpers.grading import report as report_module

FAKE = Path(__file__).resolve().parents[1] / "prepare/fakes/python"
RIGHT, HALF = b"id,y\n2,0\n3,1\n", b"id,y\n2,0\n3,0\n"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the competition `known` prepared, and the package first on the path."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlebench"]:
        monkeypatch.delitem(sys.modules, name)
    shutil.copytree(FAKE, tmp_path / "python")
    monkeypatch.syspath_prepend(tmp_path / "python")
    for half in ("public", "private"):
        (tmp_path / "data/known/prepared" / half).mkdir(parents=True)
    (tmp_path / "data/known/prepared/private/test.csv").write_bytes(RIGHT)
    (tmp_path / "data/known/prepared/public/sample_submission.csv").write_bytes(HALF)
    yield tmp_path / "data"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlebench"]:
        del sys.modules[name]


def grade(data: Path, content: bytes = RIGHT) -> dict[str, Any]:
    return graders.load("known", data).grade(io.BytesIO(content))


@pytest.mark.parametrize("medal", ["gold", "silver", "bronze", None])
def test_any_medal_is_one_of_the_three(data: Path, monkeypatch: pytest.MonkeyPatch, medal: str | None) -> None:
    grader = graders.load("known", data)
    ranks = {f"{one}_medal": one == medal for one in ("gold", "silver", "bronze")}
    monkeypatch.setattr(sys.modules["mlebench.grade_helpers"].Grader, "rank_score", lambda *_: ranks)
    report = grader.grade(io.BytesIO(RIGHT))
    assert report["any_medal"] is (medal is not None)
    assert {one: report[one] for one in ranks} == ranks


def test_scores_are_the_competitions(data: Path) -> None:
    assert [grade(data, content)["score"] for content in (RIGHT, HALF)] == [1.0, 0.5]
    assert graders.load("known", data).validate(io.BytesIO(HALF)) == (True, report_module.VALID)


def test_a_grade_function_may_report_metrics_beside_the_score(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grader = graders.load("known", data)
    told: dict[str, Any] = {"score": 0.75, "standard_metrics": {"f1": 0.5}, "custom_metrics": {"lines": 7, "odd": None}}
    monkeypatch.setattr(grader._competition.grader, "grade_fn", lambda *_: told)
    report = grader.grade(io.BytesIO(RIGHT))
    assert (report["score"], report["total_score"], report["valid_submission"]) == (0.75, 0.75, True)
    assert (report["standard_metrics"], report["custom_metrics"]) == ({"f1": 0.5}, {"lines": 7})
    assert report["note"].endswith("left out of what the grader reports: custom_metrics: odd")
    assert grader.validate(io.BytesIO(RIGHT)) == (True, report_module.VALID)
    del told["score"]
    report = grader.grade(io.BytesIO(RIGHT))
    assert report["score"] is None and "returns a dictionary without `score`: standard_metrics" in report["note"]


@pytest.mark.parametrize("text", ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "score\n", None])
def test_a_leaderboard_that_is_none_costs_the_medals_only(data: Path, text: str | None) -> None:
    path = data.parent / "python/mlebench/competitions/known/leaderboard.csv"
    path.write_text(text) if text else path.unlink()
    report = grade(data)
    assert report["score"] == 1.0 and report["valid_submission"] and not report["any_medal"]
    assert ("run `git lfs pull`" if text else "can't read mle-bench's leaderboard") in report["note"]


def test_answers_that_are_missing_are_told(data: Path) -> None:
    (data / "known/prepared/private/test.csv").rename(data / "known/prepared/private/other.csv")
    with pytest.raises(report_module.GradingError, match=r"not prepared in .*test\.csv is missing"):
        graders.load("known", data)


def test_a_file_that_is_missing_is_told_in_mle_benchs_words(data: Path) -> None:
    grader = graders.load("known", data)
    assert grader.validate(data / "none.csv")[1].endswith("does not exist.")
    report = grader.grade(data / "none.csv")
    assert report["score"] is None and not report["submission_exists"] and "does not exist" in report["note"]
