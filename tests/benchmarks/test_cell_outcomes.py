"""helpers/benchmarks/outcomes.py and usage.py: what each rollout counts as, and what those of one cell come to."""

from __future__ import annotations

import json
import random

import pytest
from made_rounds import asked, scored

from helpers.benchmarks.outcomes import Outcome
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.summary import round_of
from helpers.benchmarks.usage import Total, each, totals

FAILED = ("invalid_submission", "no_submission", "agent_failed", "timed_out")
NOWHERE = ("lost", "cancelled", "running", "waiting", None)


def cell(rollouts):
    (found,) = round_of(rollouts).cells
    return found


def test_what_failed_counts_in_rates_and_in_no_mean_and_what_was_lost_counts_nowhere():
    one = cell(
        [*scored(0.5, 0.7), *(asked(state=state) for state in FAILED), *(asked(state=state) for state in NOWHERE)]
    )
    assert (len(one.results), one.graded, one.failed) == (11, 2, 4)
    assert one.states == {"scored": 2, **dict.fromkeys(FAILED, 1), **dict.fromkeys(NOWHERE[:-1], 1), "not_begun": 1}
    assert one.estimate.value == pytest.approx(0.6) and one.estimate.n == 2
    # t with one degree of freedom: 12.7062 standard errors of 0.1
    assert (one.estimate.low, one.estimate.high) == pytest.approx((0.6 - 1.27062, 0.6 + 1.27062), abs=1e-5)
    assert one.tally("success") == (2, 6) and one.rates["success"].value == pytest.approx(1 / 3)
    # 1 - C(4, k) / C(6, k)
    assert one.pass_at("success") == pytest.approx({1: 1 / 3, 2: 0.6, 3: 0.8, 5: 1.0})


def test_a_score_counts_though_the_time_was_up_and_though_no_other_state_has_one():
    one = cell([asked(state="timed_out", score=0.4, time_limit_reached=True), *scored(0.6)])
    assert (one.graded, one.failed, one.mean, one.at_limit) == (2, 0, 0.5, 1)
    assert one.tally("success") == (2, 2)
    for state in ("lost", "cancelled", "running", "agent_failed", "invalid_submission"):
        assert cell([asked(state=state, score=0.9)]).graded == 0


def test_a_scored_run_whose_score_cant_be_read_counts_nowhere():
    one = cell([asked(score=None), asked(score=float("nan")), asked(score="0.5"), asked(score=True)])
    assert (one.graded, one.failed, one.tally("success")) == (0, 0, (0, 0))


def test_nothing_graded_and_all_lost():
    failed = cell([asked(state="no_submission")] * 3)
    assert failed.estimate == Estimate(None, 0) and failed.best is None
    assert failed.rates["success"].value == 0 and failed.pass_at("success") == {1: 0, 2: 0, 3: 0}
    lost = cell([asked(state="lost")] * 3)
    assert lost.rates["success"] == Estimate(None, 0) and lost.pass_at("success") == {}
    told = lost.data()
    assert (told["mean"], told["low"], told["best"], told["rates"]["success"]["value"]) == (None, None, None, None)
    assert told["gpu_hours_per_graded"] is None and told["used"]["gpu_hours"]["sum"] == 1.5  # lost, and paid for


def test_of_one_rollout_there_is_no_interval():
    told = cell(scored(0.5)).data()
    assert (told["mean"], told["standard_error"], told["low"], told["high"], told["best"]) == (
        0.5,
        None,
        None,
        None,
        0.5,
    )


def test_the_best_needs_a_direction_and_one_metric():
    assert cell(scored(0.5, 0.7, is_lower_better=True)).best.score == 0.5
    assert cell(scored(0.5, 0.7, is_lower_better=None)).best is None
    mixed = cell([*scored(0.5), *scored(7.0, metric="rmse")])
    assert mixed.mixed and mixed.best is None and mixed.estimate == Estimate(None, 2)
    told = mixed.data()
    assert (told["mean"], told["metric"], told["lowest"], told["graded"]) == (None, None, None, 2)


def test_a_success_is_what_the_tasks_own_report_calls_so():
    one = cell(
        [
            *scored(0.9, success=True),
            *scored(0.3, success=False),
            *scored(0.5),
            asked(score=0.1, valid_submission=False),
        ]
    )
    assert one.tally("success") == (2, 4)


def test_a_medal_is_known_only_where_the_leaderboard_is():
    assert cell([*scored(0.5), asked(state="no_submission")]).rates["any_medal"] == Estimate(None, 0)
    found = round_of(
        [
            *scored(0.5, any_medal=False, above_median=True),
            asked(state="no_submission", model="80b"),
            *scored(0.1, model="80b"),
        ]
    )
    # the same task has a leaderboard, so the other model's failure is no medal; its score's medals nobody knows
    assert found.cells[1].tally("any_medal") == (0, 1) and found.cells[0].tally("above_median") == (1, 1)


def test_sums_say_of_how_many_they_are_known():
    one = cell(
        [
            *scored(0.5, usd=0.25),
            *scored(0.5, gpu_hours=None, completion_tokens=None),
            asked(state="waiting"),
            asked(state=None),
        ]
    )
    assert one.used["tokens"] == Total(1200, 1, 2) and one.used["prompt_tokens"] == Total(2000, 2, 2)
    assert one.used["gpu_hours"] == Total(0.5, 1, 2) and one.data()["gpu_hours_per_graded"] is None
    assert one.used["usd"] == Total(0.25, 1, 2)
    assert one.used["cpu_hours"] == Total(3.0, 2, 2) and each(one.used["cpu_hours"], one.graded) == 1.5
    assert totals([])["steps"] == Total(None, 0, 0) and each(Total(1.0, 1, 1), 0) is None


def test_reported_metrics_have_means_of_graded_rollouts():
    odd = {"coverage": "high", "loops": float("inf"), "deep": {"a": 1}, "ok": True}
    one = cell(
        [
            *scored(0.5, custom_metrics={"coverage": 0.8, "only once": 3}, standard_metrics={"coverage": 1}),
            *scored(0.5, custom_metrics={"coverage": 0.6}),
            *scored(0.5, custom_metrics=odd, standard_metrics="none"),
            asked(state="agent_failed", custom_metrics={"coverage": 0.0}),
        ]
    )
    found = one.reported("custom_metrics")
    assert {name: (mean.value, mean.n) for name, mean in found.items()} == {
        "coverage": (pytest.approx(0.7), 2),
        "only once": (3, 1),
    }
    assert one.reported("standard_metrics")["coverage"].value == 1


def test_counts_add_up_whatever_the_rollouts_are():
    draw = random.Random(7)
    states = ["scored", *FAILED, *NOWHERE, "odd"]
    for _ in range(200):
        rollouts = [
            asked(
                draw.choice("abc"),
                draw.choice([None, "m", "n"]),
                variables={"X": draw.choice("12")} if draw.random() < 0.3 else {},
                state=(state := draw.choice(states)),
                score=draw.choice([None, 0.5, 1]) if state in ("scored", "timed_out") else None,
                **{
                    name: draw.choice([None, True, False]) for name in ("any_medal", "above_median", "valid_submission")
                },
                gpu_hours=draw.choice([None, 0.5]),
            )
            for _ in range(draw.randrange(30))
        ]
        found = round_of(rollouts)
        assert [one.name for one in found.outcomes] == [one["run_id"] for one in rollouts]
        assert (
            sum(len(one.results) for one in found.cells) == sum(group.asked for group in found.groups) == len(rollouts)
        )
        for one in [*found.cells, *found.groups, found]:
            assert sum(one.states.values()) >= one.graded + one.failed
            assert all(0 <= total.known <= total.of for total in one.used.values())
        for one in found.cells:
            n = len(one.results)
            assert one.tally("success")[1] == one.graded + one.failed <= sum(one.states.values()) == n
            for name, rate in one.rates.items():
                won, of = one.tally(name)
                assert 0 <= won <= of <= one.graded + one.failed and rate.n == of
                chances = list(one.pass_at(name).values())
                assert chances == sorted(chances) and (not of or chances[0] == pytest.approx(rate.value))
        json.dumps(found.data(), allow_nan=False)


def test_variables_are_pairs_by_name_however_they_are_given():
    given = [asked(variables=told) for told in ({"B": 1, "A": "x"}, (("A", "x"), ("B", "1")), [["B", "1"], ["A", "x"]])]
    assert {Outcome.of(one).variables for one in given} == {(("A", "x"), ("B", "1"))}
    assert Outcome.of(asked(variables=None)).variables == ()
