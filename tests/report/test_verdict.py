"""The sentence on who is better: the numbers of the comparison, the right one called better, and no more certainty than there is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from made_rounds import asked, scored

from helpers.benchmarks import compare, figures, report, summary
from helpers.report.verdict import verdict


def round_of(*models: tuple[str, list[list[float]]], **more: Any) -> summary.Round:
    """A round of models with their scores on each of some tasks."""
    rollouts = []
    for model, tasks in models:
        for number, scores in enumerate(tasks):
            rollouts += scored(*scores, task=f"t{number}", model=model, **more)
    return summary.round_of(rollouts)


def test_many_tasks_are_compared_as_compare_does() -> None:
    chance = random.Random(5)
    a = [[0.5 + chance.random() / 20] for _ in range(10)]
    b = [[one[0] + 0.1 + chance.random() / 20] for one in a]
    told = verdict(round_of(("small", a), ("large", b)))
    compared = compare.compare(round_of(("small", a)), round_of(("large", b))).matched[0].comparisons[0]
    assert compared.difference is not None
    found = compared.difference.estimate
    assert told.is_sure and told.claim.startswith(
        "aide / large is better than aide / small: accuracy (higher is better) "
    )
    assert f"a difference of {figures.signed(found.value, found.error)} (95% interval" in told.claim
    assert f"p = {figures.chance(compared.difference.p)}" in told.claim and " on 10 tasks" in told.claim
    assert "large took 5.00 GPU-hours (0.5 a graded run), 12,000 tokens" in told.cost


def test_less_may_be_better() -> None:
    a, b = [[0.5 + at / 100] for at in range(8)], [[0.2 + at / 90] for at in range(8)]
    told = verdict(round_of(("m", a), ("n", b), metric="rmse", is_lower_better=True))
    assert told.claim.startswith("aide / n is better than aide / m: rmse (lower is better) ") and told.is_sure
    assert "a difference of -0.29" in told.claim


def test_chance_is_called_chance() -> None:
    chance = random.Random(7)
    a, b = ([[chance.random()] for _ in range(12)] for _ in range(2))
    told = verdict(round_of(("m", a), ("n", b)))
    assert not told.is_sure and told.claim.startswith("These 12 tasks don't tell aide / ")
    assert told.claim.endswith("chance alone may do that.")


def test_one_task_is_about_that_task_alone() -> None:
    told = verdict(round_of(("m", [[0.5, 0.51, 0.52, 0.53, 0.5]]), ("n", [[0.8, 0.81, 0.79, 0.8, 0.82]])))
    assert told.is_sure and "on 1 task," in told.claim and told.claim.endswith("so few can't speak for others.")
    assert "p = 0.0079" in told.claim  # 2 / C(10, 5)
    told = verdict(round_of(("m", [[0.5]]), ("n", [[0.9]])))
    assert not told.is_sure and told.claim.startswith("This task doesn't tell aide / n and aide / m apart: ")


def test_three_and_how_many_are_beaten() -> None:
    base = [[0.3 + at / 100, 0.31 + at / 100] for at in range(9)]
    rest = [[one[0] + 0.3, one[1] + 0.31 + at / 300] for at, one in enumerate(base)]
    near = [[one[0] - 0.001 * (-1) ** at, one[1]] for at, one in enumerate(rest)]
    told = verdict(round_of(("base", base), ("best", rest), ("near", near)))
    assert not told.is_sure and "aide / base" not in told.claim
    assert (
        len(told.others) == 1
        and told.others[0].startswith("Beside aide / base: ")
        and told.others[0].endswith("beyond chance.")
    )
    told = verdict(round_of(("base", base), ("best", rest), ("low", [[0.1 + at / 70] for at in range(9)])))
    assert told.claim.startswith(
        "aide / best is better than every other one here. Against aide / base, the next best: "
    )


def test_scores_of_several_metrics_leave_the_rates() -> None:
    rollouts = []
    for model, wins in (("m", 2), ("n", 8)):
        for number in range(8):
            kind = {"metric": "rmse" if number % 2 else "accuracy", "is_lower_better": bool(number % 2)}
            won = number < wins
            rollouts += scored(0.5, 0.5, task=f"t{number}", model=model, above_median=won, any_medal=False, **kind)
    one = summary.round_of(rollouts)
    told = verdict(one)
    assert told.of == "rate of above median" and "rate of above median 100% against 25% on 8 tasks" in told.claim
    assert report.aggregates(one)[0].startswith("- Unit tests average: N/A")


def test_nothing_nobody_and_one_alone() -> None:
    assert verdict(summary.round_of([])).claim == "Nothing was asked for, so there is nothing to tell."
    told = verdict(summary.round_of([asked(state="lost"), asked(state=None)]))
    assert told.claim.startswith("No run came to a result: nothing can be said of any model. 2 asked for: 0 graded")
    told = verdict(round_of(("m", [[0.5, 0.6]])))
    assert told.claim.startswith("aide / m: 2 of 2 runs graded, success 100%") and "to compare it with" in told.claim
    told = verdict(
        summary.round_of([*scored(0.5, model="m", metric=None), *scored(0.6, model="n", task="other", metric=None)])
    )
    assert told.claim == "No task with a result is common to aide / m and any other: nothing can be compared."


def test_replay_is_said_to_be_none() -> None:
    told = verdict(round_of(("replay", [[0.5, 0.6]]), language_model=False))
    assert told.claim.startswith("aide / replay (not a language model): ")


@pytest.mark.parametrize("name", ["<b>m</b>", "m\x1b[2J"])
def test_names_drive_nothing(name: str) -> None:
    assert "\x1b" not in verdict(round_of((name, [[0.5]]), ("n", [[0.9]]))).claim
