"""helpers/benchmarks/compare.py: pairs of tasks, their differences and tests, and what has no partner."""

from __future__ import annotations

import json
import re

import pytest
from made_rounds import asked, scored

from helpers.benchmarks import comparison_report
from helpers.benchmarks.compare import Alone, compare
from helpers.benchmarks.summary import round_of

A = (0.65, 0.7, 0.66, 0.8, 0.45, 0.7)
B = (0.7, 0.8, 0.65, 0.9, 0.5, 0.75)


def made(scores, name="", **more):
    """A round of one rollout a task."""
    return round_of([one for at, score in enumerate(scores) for one in scored(score, task=f"t{at}", **more)], name)


def only(found):
    """The one comparison of the one matched pair."""
    (matched,) = found.matched
    (one,) = matched.comparisons
    return one


def test_a_difference_is_of_tasks_with_its_interval_and_its_test():
    one = only(compare(made(A), made(B)))
    # scipy.stats.permutation_test, permutation_type="samples": exact p .0625; t with 5 degrees of freedom: 2.57058
    assert (one.difference.estimate.value, one.difference.p) == (pytest.approx(0.05667, abs=1e-5), 0.0625)
    assert (one.difference.least, one.difference.exact, one.difference.estimate.n) == (0.03125, True, 6)
    half = 2.57058 * one.difference.estimate.error
    assert one.difference.estimate.high == pytest.approx(0.05667 + half, abs=1e-4)
    assert one.adjusted == one.difference.p and one.verdict(one.difference.estimate.value) == "better"
    assert not one.holds_zero and one.data()["b_is"] == "better"


def test_of_a_task_the_mean_over_its_rollouts_counts_and_no_seed():
    first, second = round_of(scored(0.4, 0.6)), round_of(scored(0.9, 0.7, 0.8))
    (line,) = only(compare(first, second)).lines
    assert (line.a.value, line.b.value, line.a.n, line.b.n) == (pytest.approx(0.5), pytest.approx(0.8), 2, 3)
    assert line.difference == pytest.approx(0.3) and only(compare(first, second)).difference.p is None


@pytest.mark.parametrize(
    ("lower", "up", "down"), [(False, "better", "worse"), (True, "worse", "better"), (None, "higher", "lower")]
)
def test_a_difference_is_better_or_worse_by_the_metrics_direction(lower, up, down):
    first, second = (made(scores, is_lower_better=lower) for scores in (A, B))
    told = [only(compare(*pair)) for pair in ((first, second), (second, first), (first, first))]
    assert [one.verdict(one.difference.estimate.value) for one in told] == [up, down, "equal"]
    assert told[2].difference.p == 1


def test_beyond_twenty_tasks_signs_are_drawn_and_the_same_each_time():
    first, second = made([0.5] * 30), made([0.5 + (at % 5 - 1) / 100 for at in range(30)])
    one, again = (only(compare(first, second)) for _ in range(2))
    assert not one.difference.exact and one.difference.p == again.difference.p
    assert one.difference.least == pytest.approx(2 / 10_001)
    assert "10,000 resamples" in comparison_report.markdown(compare(first, second))


def test_several_agents_and_models_go_with_their_like_and_are_corrected_together():
    def several(shift):
        rollouts = [
            one
            for model, sign in (("30b", 1), ("80b", -1))
            for at, score in enumerate(A)
            for one in scored(score + sign * shift * (1 + at / 10), task=f"t{at}", model=model)
        ]
        return round_of([*rollouts, *scored(0.5, model=f"only{shift}")])

    found = compare(several(0), several(0.1))
    assert [one.label for one in found.matched] == ["aide / 30b", "aide / 80b"]
    assert [(one.what, one.reason) for one in found.alone] == [
        ("aide / only0", "is in A alone"),
        ("aide / only0.1", "is in B alone"),
    ]
    tests = [one for matched in found.matched for one in matched.comparisons]
    assert [one.difference.p for one in tests] == [0.03125] * 2
    assert found.tests == 2 and [one.adjusted for one in tests] == [0.0625] * 2
    assert [one.verdict(one.difference.estimate.value) for one in tests] == ["better", "worse"]
    assert "0.062 after Holm's correction for 2" in comparison_report.markdown(found)


def test_one_agent_and_model_alone_in_each_are_compared_whatever_they_are_called():
    found = compare(made(A, model="30b"), made(B, model="80b", agent="baseline"))
    assert [one.label for one in found.matched] == ["aide / 30b → baseline / 80b"] and not found.alone
    assert [(one.field, one.a, one.b) for one in found.matched[0].differing] == [
        ("agent", ("aide",), ("baseline",)),
        ("model", ("30b",), ("80b",)),
    ]
    several = round_of([*scored(0.5), *scored(0.5, model="80b")])
    assert [one.label for one in compare(several, made(B, model="80b")).matched] == ["aide / 80b"]
    assert compare(several, made(B, model="other")).matched == ()


def test_settings_of_variables_go_with_their_like():
    def sweep(*limits):
        return round_of([one for limit in limits for one in scored(0.5, variables={"T": limit})])

    both = compare(sweep("1", "2"), sweep("2", "1"))
    assert [one.label for one in both.matched] == ["aide / 30b / T=1", "aide / 30b / T=2"]
    part = compare(sweep("1", "2"), sweep("2"))
    assert [(one.a.label, one.b.label) for one in part.matched] == [("aide / 30b / T=2", "aide / 30b")]
    assert part.alone == (Alone("aide / 30b / T=1", "is in A alone"),)
    # one setting each: these are compared, and the difference is told
    (one,) = compare(sweep("1"), sweep("2")).matched
    assert [(each.field, each.a, each.b) for each in one.differing] == [("variables", ("T=1",), ("T=2",))]


def test_tasks_of_another_metric_or_other_data_are_not_paired_and_named():
    def one_round(**changed):
        return round_of(
            [
                *scored(0.5, task="same"),
                *scored(0.5, task="metric", metric=changed.get("metric", "accuracy")),
                *scored(0.5, task="way", is_lower_better=changed.get("lower", False)),
                *scored(0.5, task="data", data_fingerprint=changed.get("data", "d0")),
                asked("failed", state="no_submission" if changed else "scored", score=None if changed else 0.5),
                *scored(0.5, task="b" if changed else "a"),
            ]
        )

    first, second = one_round(), one_round(metric="rmse", lower=True, data="d1")
    (found,) = compare(first, second).matched
    assert {one.what: one.reason for one in found.alone} == {
        "metric": "the metric is not the same",
        "way": "the direction of its metric is not the same",
        "data": "the data are not the same",
        "failed": "no score is known in B",
        "a": "is in A alone",
        "b": "is in B alone",
    }
    assert [line.task for one in found.comparisons for line in one.lines] == ["same"]
    rates = compare(first, second, "success").matched[0]
    assert [line.task for line in rates.comparisons[0].lines] == ["same", "failed"]


def test_scores_of_two_metrics_are_tested_apart_and_of_unknown_ones_not_at_all():
    def one_round(shift):
        return round_of(
            [
                one
                for at in range(4)
                for metric, name in (("accuracy", "a"), ("rmse", "r"), (None, "u"))
                for one in scored(at + shift, task=f"{name}{at}", metric=metric, is_lower_better=metric == "rmse")
            ]
        )

    found = compare(one_round(0), one_round(1))
    told = {one.metric: (one.difference and one.difference.p, one.adjusted) for one in found.matched[0].comparisons}
    assert told == {"accuracy": (0.125, 0.25), "rmse": (0.125, 0.25), None: (None, None)} and found.tests == 2
    text = comparison_report.markdown(found)
    assert "**the competition's, higher is better**, 4 tasks: their metrics are not known" in text
    (rates,) = compare(one_round(0), one_round(1), "success").matched[0].comparisons
    assert len(rates.lines) == 12  # rates are averaged


def test_rates_are_compared_with_what_the_other_round_knows_of_the_leaderboard():
    first = round_of([asked(task, state="no_submission") for task in "ab" for _ in range(2)])
    second = round_of([one for task in "ab" for one in scored(0.5, 0.6, task=task, any_medal=True)])
    one = only(compare(first, second, "any_medal"))
    assert [(line.a.value, line.b.value) for line in one.lines] == [(0, 1), (0, 1)]
    assert one.verdict(one.difference.estimate.value) == "better"
    assert compare(first, second).matched[0].comparisons == ()
    assert compare(first, second, "above_median").matched[0].alone[0].reason == "no above median is known in A and B"


def test_what_else_differs_is_told_with_the_tasks_on_which_it_does():
    first = round_of([*scored(0.5, task="a"), *scored(0.5, task="b"), asked("b", state="lost", git_commit="other")])
    second = round_of(
        [*scored(0.5, task="a", git_commit="g1"), *scored(0.5, task="b", site=None, data_fingerprint=None)]
    )
    (found,) = compare(first, second).matched
    assert [(one.field, one.a, one.b, one.tasks) for one in found.differing] == [
        ("git_commit", ("g0",), ("g1",), 1),
        ("data_fingerprint", ("d0",), (), 1),
        ("site", ("alpha",), (), 1),
    ]
    text = comparison_report.markdown(compare(first, second))
    assert "- git_commit on 1 task (g0 → g1)" in text and "- site on 1 task (alpha → not known)" in text


def test_nothing_in_common():
    found = compare(round_of([]), made(A))
    assert found.matched == () and found.alone == (Alone("round A", "has no rollouts"),)
    assert "Nothing can be compared." in comparison_report.markdown(found)
    apart = comparison_report.markdown(compare(round_of(scored(0.5, task="x")), round_of(scored(0.5, task="y"))))
    assert "No task can be compared." in apart and "- x: is in A alone" in apart
    with pytest.raises(ValueError, match="'speed' can't be compared: score, any_medal, above_median, success"):
        compare(round_of([]), round_of([]), "speed")


def test_it_is_written_down():
    found = compare(made(A, "nightly one"), made(B, "nightly two"))
    assert comparison_report.markdown(found).splitlines()[:15] == [
        "# nightly two against nightly one: score",
        "",
        "A: nightly one",
        "",
        "B: nightly two",
        "",
        "## aide / 30b",
        "",
        "Rollouts: A: 6 graded, 0 failed of 6; B: 6 graded, 0 failed of 6.",
        "",
        "**accuracy, higher is better**, 6 tasks: B - A = +0.057, B is better on average (95% interval 0.014 to 0.100; sign-flip test, "
        "exact: p = 0.062; 6 tasks can't reach less than 0.031).",
        "",
        "| task | A | n | B | n | B - A | B is |",
        "|---|---:|---:|---:|---:|---:|---|",
        "| t0 | 0.65 | 1 | 0.7 | 1 | +0.05 | better |",
    ]
    rates = comparison_report.markdown(compare(made(A), made(B), "success"))
    assert "# B against A: success" in rates and "| t0 | 100% | 1 | 100% | 1 | 0 | equal |" in rates
    assert "which holds 0; sign-flip test, exact: p = 1" in rates


def test_for_programs_it_is_plain():
    told = json.loads(json.dumps(compare(made(A), made(B)).data(), allow_nan=False))
    (one,) = told["matched"][0]["comparisons"]
    assert (told["of"], told["tests"], one["p"], one["p_holm"], one["least_p"]) == ("score", 1, 0.0625, 0.0625, 0.03125)
    assert one["tasks"][0] == {
        "task": "t0",
        "a": {"value": 0.65, "n": 1, "standard_error": None, "low": None, "high": None},
        "b": {"value": 0.7, "n": 1, "standard_error": None, "low": None, "high": None},
        "difference": pytest.approx(0.05),
    }


def test_no_name_breaks_the_tables():
    name = "a|b\n## x"
    first, second = (
        round_of(
            [
                *scored(score, task=name, model=name, metric=name, git_commit=str(score)),
                *scored(1, task=f"{name}{score}"),
            ],
            name,
        )
        for score in (0.5, 0.6)
    )
    text = comparison_report.markdown(compare(first, second))
    assert len(re.findall(r"(?m)^#", text)) == len(re.findall(r"(?m)^#+ a\\\|b ## x|^## aide", text))
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 8 for line in text.splitlines() if line.startswith("|"))
