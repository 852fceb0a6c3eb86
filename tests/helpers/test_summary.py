"""Several rollouts in one sentence: what is told of their scores, and what isn't known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import test_export_results
import test_load
from test_jobs import call, make_group, make_run, put, quick, scheduler  # noqa: F401

from helpers.jobs.summary import Result, Summary, summaries
from helpers.jobs.watch import Watch, _result_lines


def result(score: float | None, state: str = "scored", **changes: Any) -> Result:
    given = {"name": f"toy_{score}", "subject": ("toy", "aide"), "state": state, "reason": "so", "score": score}
    return Result(**{**given, "metric": "accuracy", "lower": False, **changes})


def test_mean_deviation_and_best() -> None:
    one = Summary([result(0.5), result(0.7), result(0.9), result(None, "lost")])
    assert one.sentence() == (
        "toy / aide: 3 of 4 rollouts scored (1 lost), mean 0.7, standard deviation 0.2 (of the sample, n-1), "
        "best 0.9 by toy_0.9 (accuracy, higher is better)"
    )
    told = one.data()
    assert told.pop("standard_deviation") == pytest.approx(0.2) and told.pop("mean") == pytest.approx(0.7)
    assert told == {
        "subject": "toy / aide",
        "runs": 4,
        "scored": 3,
        "lowest": 0.5,
        "highest": 0.9,
        "best": 0.9,
        "best_run": "toy_0.9",
        "states": {"scored": 3, "lost": 1},
    }


def test_the_best_is_the_least_where_less_is_better() -> None:
    one = Summary([result(0.5, lower=True), result(0.7, lower=True)])
    assert one.sentence().endswith("best 0.5 by toy_0.5 (accuracy, lower is better)")


@pytest.mark.parametrize("others", [None, True])
def test_without_one_direction_nothing_is_called_the_best(others: bool | None) -> None:
    one = Summary([result(0.5, lower=others), result(0.7, lower=None if others is None else False, metric=None)])
    assert one.data()["best"] is None
    assert one.sentence().endswith(
        "lowest 0.5, highest 0.7 (the competition's metric; whether higher or lower is better is not known)"
    )


def test_one_score_alone_has_no_spread() -> None:
    one = Summary([result(0.5), result(None, "timed_out")])
    assert one.deviation is None
    assert (
        "1 of 2 rollouts scored (1 timed_out), mean 0.5, no spread (one score alone has none), best" in one.sentence()
    )


def test_without_a_score_there_is_no_mean() -> None:
    one = Summary([result(None, "lost"), result(None, "lost")])
    assert one.sentence() == "toy / aide: 0 of 2 rollouts scored (2 lost)"
    assert (one.data()["mean"], one.data()["best"], one.data()["lowest"]) == (None, None, None)


def test_scores_of_several_metrics_are_not_averaged() -> None:
    one = Summary([result(0.5), result(7.0, metric="rmse", lower=False)])
    assert one.sentence() == (
        "toy / aide: 2 of 2 rollouts scored, no mean, for they are of several metrics: accuracy, rmse"
    )
    assert {one.data()[key] for key in ("mean", "standard_deviation", "best", "best_run", "lowest", "highest")} == {
        None
    }


def test_equal_scores_have_a_deviation_of_zero() -> None:
    assert "standard deviation 0 (of the sample, n-1)" in Summary([result(0.5), result(0.5)]).sentence()


def test_scores_beyond_all_measure_break_nothing() -> None:
    assert "1e+299" in Summary([result(1e299), result(-1e299)]).sentence()


def test_of_many_without_a_score_the_first_are_told() -> None:
    lines = Summary([result(None, "lost", name=f"toy_{number}") for number in range(9)]).lines()
    assert len(lines) == 7
    assert lines[1] == "  toy_0: lost: so" and lines[-1] == "  … and 4 more without a score"


def test_only_rollouts_of_the_same_are_taken_together() -> None:
    others = ("toy", "baseline")
    found = summaries([result(0.5), result(0.6, subject=others), result(0.7), result(0.8, subject=("x",))])
    assert [(one.subject, len(one.results)) for one in found] == [("toy / aide", 2)]


# ---- where it is told


@pytest.fixture
def group(tmp_path: Path, scheduler: Any) -> Path:  # noqa: F811
    scheduler({})
    folder = make_group(tmp_path / "g", ["13", "14", "15"])
    for job, score in (("13", 0.5), ("14", 0.7)):
        run = make_run(folder, job, "scored", competition="toy", model="30b", seed=0)
        put(run / "grading_report.json", {"total_score": score, "score": score, "is_lower_better": False})
    make_run(folder, "15", "lost", competition="toy", model="30b", seed=2, reason="node gone")
    return folder


TOLD = (
    "toy / aide / 30b: 2 of 3 rollouts scored (1 lost), mean 0.6, standard deviation 0.141 (of the sample, n-1), "
    "best 0.7 by toy_14 (the competition's metric, higher is better)"
)


def test_status_ends_with_it(group: Path, capsys: Any) -> None:
    assert call(capsys, "status", group)[1].splitlines()[-2:] == ["", TOLD]
    (told,) = json.loads(call(capsys, "status", group, "--json")[1])["summary"]
    assert (told["runs"], told["scored"], told["best_run"]) == (3, 2, "toy_14")


def test_status_of_one_agent_has_none(group: Path, capsys: Any) -> None:
    assert "rollouts" not in call(capsys, "status", group / "toy_13")[1]
    assert json.loads(call(capsys, "status", group / "toy_13", "--json")[1])["summary"] == []


def test_a_workflow_ends_with_it(group: Path, capsys: Any) -> None:
    assert Watch(group).tell() == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [TOLD, "  toy_15: lost: node gone"]
    assert lines[2].startswith("all together: cost ") and "(seed" not in "".join(lines)


def test_a_workflow_tells_programs_too(group: Path) -> None:
    told: list[Any] = []
    Watch(group, as_json=True, emit=told.append).tell()
    assert len(told[0]["results"]) == 3 and told[0]["summary"][0]["scored"] == 2


def test_a_workflow_tells_how_loaded_its_model_servers_were(group: Path, capsys: Any) -> None:
    test_load.make_server(group, "11", test_load.sampled((60, 1860)))
    test_load.make_server(group, "12", test_load.sampled(), service="vllm_replay", gpus=0)
    Watch(group).tell()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "busy" in line] == [lines[3]]
    assert lines[3].startswith("model 30b: busy 50% and idle 48% of 2.0 GPU-hours, 9,000 generated tokens a GPU-hour, ")
    told: list[Any] = []
    Watch(group, as_json=True, emit=told.append).tell()
    assert [(one["model"], one["busy_seconds"]) for one in told[0]["model_servers"]] == [("30b", 1800), ("replay", 0)]


def test_medals_cost_and_requests_are_added_up(tmp_path: Path) -> None:
    from helpers.runs.collection import rows_of

    folder = test_export_results.make_group(tmp_path / "g")
    for job in ("13", "14"):
        test_export_results.make_run(folder, job)
    test_export_results.make_server(folder)
    test_export_results.make_server(folder, "11", gpus=0)
    rows = rows_of([folder], keep_all=True)
    last = _result_lines(rows)[-1]
    hours = sum(row["gpu_hours"] for row in rows)
    assert last.startswith(f"all together: medals: 2 bronze; cost {hours:.3f} GPU-hours, ")
    assert last.endswith("(estimated: no accounting); 14 requests, 240 tokens; asked again later: 4 after 429")
