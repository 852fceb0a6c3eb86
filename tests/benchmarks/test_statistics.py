"""helpers/benchmarks/statistics.py against scipy, against figures worked out elsewhere, and against the truth by simulation."""

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from scipy import stats

from helpers.benchmarks import statistics
from helpers.benchmarks.statistics import Estimate


def test_a_mean_and_its_interval_are_scipys():
    values = [0.7, 0.8, 0.65, 0.9]
    found = statistics.mean(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.n) == (pytest.approx(0.7625), 4)
    assert (found.error, found.low, found.high) == pytest.approx((stats.sem(values), low, high))


def test_so_few_that_nothing_can_be_said():
    assert statistics.mean([]) == Estimate(None, 0)
    assert statistics.mean([0.5]) == Estimate(0.5, 1)
    assert statistics.rate(0, 0) == Estimate(None, 0)
    assert statistics.paired([0.1]).p is None
    assert statistics.over_tasks({"a": [1.0, 0.0], "b": []}) == Estimate(0.5, 1)
    with pytest.raises(ValueError, match="3 successes of 2"):
        statistics.rate(3, 2)


def test_an_error_is_clustered_by_task():
    scores = {"a": [1, 1, 1], "b": [0, 0, 0], "c": [1, 0, 1], "d": [0, 0, 1]}
    found = statistics.over_tasks(scores)
    assert (found.value, found.error) == pytest.approx((0.5, 0.21517), abs=1e-5) and found.n == 4
    # the sandwich estimate for clusters, with its correction G / (G - 1)
    inner = sum((sum(values) - 0.5 * len(values)) ** 2 for values in scores.values())
    assert found.error == pytest.approx(math.sqrt(inner * 4 / 3) / 12)
    # the tasks' sizes don't weigh
    assert statistics.over_tasks({"a": [1] * 9, "b": [0]}).value == 0.5


def test_a_rate_has_wilsons_interval():
    found = statistics.rate(8, 10)
    # Wilson's score interval, written out
    z = stats.norm.ppf(0.975)
    centre, half = (0.8 + z**2 / 20) / (1 + z**2 / 10), z / (1 + z**2 / 10) * math.sqrt(0.016 + z**2 / 400)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert statistics.rate(0, 5).low == 0 and 0.4 < statistics.rate(0, 5).high < 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 5, 17, 400])
def test_a_rates_interval_is_scipys(n):
    for successes in {0, 1, n // 2, n - 1, n}:
        found = statistics.rate(successes, n)
        interval = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_values_too_large_to_be_squared_have_a_mean_and_no_interval():
    assert statistics.mean([1e299, -1e299]) == Estimate(0, 2)


def test_scipy_is_loaded_only_where_it_computes():
    """Also what a watcher or a summary imports: a second on a login node, and most calls need none of it."""
    code = (
        "import sys\n"
        "from helpers.benchmarks import compare, comparison_report, report, statistics, summary\n"
        "heavy = {'scipy', 'numpy', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "statistics.mean([1, 2]), statistics.rate(1, 2)\n"
        "assert 'scipy.special' in sys.modules and 'scipy.stats' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [(5, 2, 1, 0.4), (5, 2, 3, 0.9), (10, 1, 5, 0.5), (5, 4, 2, 1), (5, 0, 3, 0), (3, 1, 4, None)],
)
def test_pass_at_k(n, c, k, value):
    assert statistics.pass_at(k, n, c) == (None if value is None else pytest.approx(value))
    if value is not None:  # all ways to take k of n
        from itertools import combinations

        ways = list(combinations([True] * c + [False] * (n - c), k))
        assert statistics.pass_at(k, n, c) == pytest.approx(sum(map(any, ways)) / len(ways))


def test_signs_are_flipped_in_all_ways():
    a, b = (0.7, 0.8, 0.65, 0.9, 0.5, 0.75), (0.65, 0.7, 0.66, 0.8, 0.45, 0.7)
    differences = np.subtract(a, b)
    found = statistics.paired(differences)
    assert (found.estimate.value, found.p, found.least) == (pytest.approx(0.05667, abs=1e-5), 0.0625, 0.03125)
    means = [abs(np.mean(differences * signs)) for signs in product((1, -1), repeat=6)]
    assert found.p == np.mean(np.array(means) >= abs(differences.mean()) - 1e-12)
    assert statistics.paired([1, 1, 1]).p == statistics.paired([1, 1, 1]).least == 0.25
    assert statistics.paired([0, 0, 0]).p == 1


def test_of_many_pairs_signs_are_drawn_and_the_same_each_time():
    differences = np.random.default_rng(1).normal(0.3, 1, 40)
    found = statistics.paired(differences)
    assert not found.exact and found.p == statistics.paired(differences).p
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_holm():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]) == [] and statistics.holm([0.9, 0.8]) == [1, 1]


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_hold_the_truth_as_often_as_they_say(n):
    draw = np.random.default_rng(n)
    held = [
        abs(found.value) <= found.high - found.value
        for found in (statistics.mean(draw.normal(size=n)) for _ in range(1000))
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_intervals_over_tasks_hold_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(0)
    held = []
    for _ in range(600):
        tasks = draw.normal(0, 1, 6)
        found = statistics.over_tasks({str(i): draw.normal(task, 0.3, 5) for i, task in enumerate(tasks)})
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_all_signs_at_once_are_scipys_one_by_one(n):
    differences = [round(one, 1) for one in np.random.default_rng(n).normal(0.3, 1, n)]  # with ties, and a 0 among them
    test = stats.permutation_test(
        (np.asarray(differences),), np.mean, permutation_type="samples", vectorized=False, n_resamples=np.inf
    )
    assert statistics.paired(differences).p == pytest.approx(test.pvalue, abs=1e-12)
