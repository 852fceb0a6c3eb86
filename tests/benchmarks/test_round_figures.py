"""helpers/benchmarks/summary.py: what an agent with a model did over tasks, and who is told apart from whom."""

from __future__ import annotations

import json
import time

import pytest
from made_rounds import asked, scored

from helpers.benchmarks import report
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.summary import round_of


def group(rollouts):
    (found,) = round_of(rollouts).groups
    return found


def test_over_tasks_every_task_weighs_the_same_and_the_error_is_clustered():
    scores = {"a": [1, 1, 1], "b": [0, 0, 0], "c": [1, 0, 1], "d": [0, 0, 1]}
    found = group([one for task, some in scores.items() for one in scored(*some, task=task)])
    (mean,) = found.measures
    # statsmodels 0.15: OLS with cov_type="cluster" and its correction for four clusters
    assert (mean.metric, mean.tasks, mean.estimate.n) == ("accuracy", ("a", "b", "c", "d"), 4)
    assert (mean.estimate.value, mean.estimate.error) == pytest.approx((0.5, 0.21517), abs=1e-5)
    # t with three degrees of freedom: 3.18245
    assert mean.estimate.high == pytest.approx(0.5 + 3.18245 * 0.21517, abs=1e-4)
    assert group([*scored(*[1] * 9, task="a"), *scored(0, task="b")]).measures[0].estimate.value == 0.5


def test_scores_of_two_metrics_are_never_averaged():
    found = group(
        [
            *scored(0.5, 0.7, task="a"),
            *scored(0.9, task="b"),
            *scored(120.0, task="c", metric="rmse", is_lower_better=True),
        ]
    )
    told = {(one.metric, one.lower): (one.tasks, one.estimate.value) for one in found.measures}
    assert told == {("accuracy", False): (("a", "b"), pytest.approx(0.75)), ("rmse", True): (("c",), 120.0)}
    assert found.rates["success"].n == 3  # rates are averaged


def test_nor_those_of_metrics_that_nobody_knows():
    found = group([*scored(0.5, task="a", metric=None), *scored(90.0, task="b", metric=None)])
    assert [(one.metric, one.tasks, one.estimate) for one in found.measures] == [(None, ("a", "b"), Estimate(None, 2))]
    assert group(scored(0.5, 0.7, metric=None)).measures[0].estimate.value == pytest.approx(
        0.6
    )  # one task is one metric


def test_a_task_of_several_metrics_is_named():
    found = group([*scored(0.5, task="a"), *scored(7, task="a", metric="rmse"), *scored(0.3, task="b")])
    assert found.mixed == ["a"] and [one.tasks for one in found.measures] == [("b",)]


def test_pass_at_k_is_a_mean_over_tasks_and_never_pooled():
    rollouts = [*scored(*[0.5] * 5, task="a"), *(asked("b", state="no_submission") for _ in range(5))]
    found = group(rollouts)
    assert found.pass_at("success")[2] == (0.5, 2)  # pooled, 5 of 10, it would be 0.778
    assert list(found.pass_at("success")) == [1, 2, 3, 5]
    short = group([*rollouts, *scored(0.5, task="c"), asked("d", state="lost")])
    assert short.pass_at("success")[1] == (pytest.approx(2 / 3), 3) and short.pass_at("success")[5] == (0.5, 2)


def test_rates_over_tasks_are_means_of_rates_within_what_a_rate_can_be():
    rollouts = [
        *scored(0.5, 0.5, task="a"),
        *(asked("b", state="no_submission") for _ in range(6)),
        asked("c", state="lost"),
    ]
    found = group(rollouts).rates
    assert (found["success"].value, found["success"].n) == (0.5, 2)
    assert (found["success"].low, found["success"].high) == (0, 1)
    assert found["any_medal"] == Estimate(None, 0)


def test_variables_tell_apart_where_they_differ_within_a_task():
    sweep = [
        one for limit in ("1800", "3600") for one in scored(0.5, 0.6, variables={"TIMEOUT_SEC": limit, "SAME": "1"})
    ]
    found = round_of(sweep)
    assert [(one.setting, len(one.results)) for one in found.cells] == [
        ((("TIMEOUT_SEC", "1800"),), 2),
        ((("TIMEOUT_SEC", "3600"),), 2),
    ]
    assert [one.label for one in found.groups] == ["aide / 30b / TIMEOUT_SEC=1800", "aide / 30b / TIMEOUT_SEC=3600"]
    by_task = round_of([*scored(0.5, task="a", variables={"X": "1"}), *scored(0.5, task="b", variables={"X": "2"})])
    assert [(one.setting, len(one.cells)) for one in by_task.groups] == [((), 2)]  # of different tasks: one group
    absent = round_of([*scored(0.5, variables={"X": "1"}), *scored(0.5)])
    assert [one.setting for one in absent.cells] == [(("X", "1"),), ()]


def test_models_and_agents_are_told_apart():
    found = round_of(
        [*scored(0.5), *scored(0.5, model="80b"), *scored(0.5, agent="baseline", model=None), *scored(0.6)]
    )
    assert [(one.label, one.asked) for one in found.groups] == [("aide / 30b", 2), ("aide / 80b", 1), ("baseline", 1)]


def test_a_round_of_nothing_and_one_that_hasnt_begun():
    empty = round_of([], "nightly")
    assert empty.data()["runs"] == 0 and empty.data()["cells"] == []
    waiting = round_of([asked(state=None)], "nightly", "now", ["so far"]).data()
    assert (waiting["states"], waiting["graded"], waiting["notes"]) == ({"not_begun": 1}, 0, ["so far"])
    assert waiting["used"]["gpu_hours"] == {"sum": None, "known": 0, "of": 0}


@pytest.mark.parametrize(("tasks", "rollouts"), [(1, 10_000), (500, 10), (2500, 2)])
def test_ten_thousand_rollouts_take_a_moment(tasks, rollouts):
    given = [
        asked(f"task_{task}", f"model_{number % 2}", score=(task * 7 + number) % 11 / 11, any_medal=number % 3 == 0)
        for task in range(tasks)
        for number in range(10_000 // tasks)
    ]
    assert len(given) == 10_000
    round_of(given[:5]).data()  # scipy is there
    began = time.process_time()
    found = round_of(given)
    text = report.markdown(found)
    json.dumps(found.data(), allow_nan=False)
    assert time.process_time() - began < 4  # one call of scipy.stats.binomtest a rate would take 10
    assert len(text.splitlines()) > 10_000
