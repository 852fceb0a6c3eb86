"""helpers/benchmarks/regression.py: whether a round is worse than another one beyond chance, and where."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from made_rounds import asked, scored
from scipy import stats

from helpers.benchmarks import regression
from helpers.benchmarks.summary import round_of


def made(tasks, **more):
    """A round; tasks: the scores of each by its name."""
    return round_of([one for task, scores in tasks.items() for one in scored(*scores, task=task, **more)])


def test_of_one_task_it_is_scipys_permutation_test():
    a, b = (0.61, 0.72, 0.66, 0.7), (0.74, 0.7, 0.83, 0.69, 0.9)
    expected = stats.permutation_test(
        (b, a), lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis), alternative="greater", vectorized=True
    )
    assert regression.chance([(a, b)]) == pytest.approx((expected.pvalue, 1 / 126))


def test_of_several_tasks_every_way_to_deal_within_them_counts_once():
    tasks = [((1.0, 2.0), (3.0, 3.0)), ((5.0,), (6.0, 4.0))]
    found = 1.5 + 0.0
    dealt = []
    for first, second in product(([3, 3], [2, 3], [2, 3], [1, 3], [1, 3], [1, 2]), ([6, 4], [5, 6], [5, 4])):
        dealt.append(np.mean(first) - (9 - sum(first)) / 2 + np.mean(second) - (15 - sum(second)))
    assert regression.chance(tasks) == pytest.approx((np.mean(np.asarray(dealt) >= found), 1 / 18))


def test_drawn_ways_come_to_what_all_of_them_do(monkeypatch):
    generator = np.random.default_rng(7)
    tasks = [(generator.normal(size=4), generator.normal(0.5, size=4)) for _ in range(2)]
    exact, least = regression.chance(tasks)
    monkeypatch.setattr(regression, "MOST_EXACT", 1)
    drawn, _ = regression.chance(tasks)
    assert least == 1 / 4900 and drawn == pytest.approx(exact, abs=0.01) and regression.chance(tasks)[0] == drawn


def test_nights_that_are_the_same_give_no_more_alarms_than_were_agreed_on():
    """The share of p at or below a level is at most that level, also where scores are often equal."""
    generator = np.random.default_rng(3)
    for draw in (lambda: generator.normal(size=4), lambda: generator.integers(0, 2, size=4).astype(float)):
        ps = [regression.chance([(draw(), draw()), (draw(), draw())])[0] for _ in range(400)]
        assert np.mean(np.asarray(ps) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


BEFORE = {"a": (0.9, 0.91, 0.92, 0.9, 0.93), "b": (0.5, 0.52, 0.51, 0.53, 0.5)}
WORSE = BEFORE | {"b": (0.41, 0.4, 0.42, 0.43, 0.4)}


@pytest.mark.parametrize(("lower", "fails"), [(False, True), (True, False), (None, False)])
def test_a_task_that_fell_is_named_where_less_is_worse(lower, fails):
    first, second = made(BEFORE, is_lower_better=lower), made(WORSE, is_lower_better=lower)
    found = regression.shifts(first, second)
    assert [one.is_worse for one in found] == ([fails] if lower is not None else []) + [False]
    text = regression.markdown(found)
    assert ("aide / 30b, accuracy, higher is better: **worse beyond chance** (p " in text) == fails
    assert ("): b 0.512 → 0.412." in text) == fails and ("a 0.9" not in text)
    assert not any(one.is_worse for one in regression.shifts(first, first))
    assert json.dumps([one.data() for one in found])


def test_agents_that_fail_are_worse_though_what_is_left_scores_as_before():
    first = made(BEFORE)
    failed = [asked(task="a", state="agent_failed") for _ in range(5)]
    second = round_of([*failed, *scored(*BEFORE["b"], task="b")])
    found = regression.shifts(first, second)
    assert [(one.what, one.is_worse) for one in found] == [("accuracy, higher is better", False), ("success", True)]
    assert "success: **worse beyond chance** (p 0.0079): a 100% → 0%." in regression.markdown(found)


def test_what_was_lost_is_no_failure_and_so_few_that_nothing_is_known_say_so():
    first = made({"a": (0.9, 0.9)})
    found = regression.shifts(first, round_of([*scored(0.1, task="a"), asked(task="a", state="lost")]))
    assert not any(one.is_worse for one in found)
    assert "not known, as so few rollouts can't reach less than p = 0.67: ask for more." in regression.markdown(found)
    assert "Nothing can be compared" in regression.markdown(regression.shifts(first, round_of([])))


def test_many_tests_are_corrected_together():
    first, second = (
        round_of([one for model in "abcdef" for one in scored(*scores, task="t", model=model)])
        for scores in (BEFORE["b"], WORSE["b"])
    )
    found = regression.shifts(first, second)
    # the least p of 5 + 5 rollouts is 1/252: enough for one test, not for twelve
    assert regression.markdown(found).count("can't reach less than p = 0.048: ask for more.") == 12
    assert len(found) == 12 and found[0].p == pytest.approx(1 / 252) and not any(one.is_worse for one in found)
    assert regression.shifts(made(BEFORE), made(WORSE))[0].is_worse
