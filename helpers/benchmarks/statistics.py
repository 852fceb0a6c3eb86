"""What a few rollouts allow to say: means, rates and differences, each with its 95% interval. scipy computes, and is loaded then."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

LEVEL = 0.95
MOST_EXACT = 20  # pairs whose signs are all tried: 2**20 ways
RESAMPLES = 10_000
SEED = 0
HELD = 2_000_000  # signs that are in memory at once


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and its interval; n: what it was made of. None: so few can't tell."""

    value: float | None
    n: int
    error: float | None = None
    low: float | None = None
    high: float | None = None

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {"value": self.value, "n": self.n, "standard_error": self.error, "low": self.low, "high": self.high}


@cache
def _t(freedom: int) -> float:
    """How many standard errors an interval by Student's t reaches to each side."""
    from scipy import special

    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


@cache
def _z() -> float:
    from scipy import special

    return float(special.ndtri((1 + LEVEL) / 2))


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with Student's t: a percentile bootstrap of 3 values would hold the truth in 73% of cases only.

    Of one value there is no error, of none no mean; nor is there an error where the values are too large to be squared.
    """
    n = len(values)
    if n == 0:
        return Estimate(None, 0)
    value = fmean(values)
    if n == 1:
        return Estimate(value, 1)
    error = math.sqrt(math.fsum((one - value) * (one - value) for one in values) / (n - 1) / n)
    if not math.isfinite(error):
        return Estimate(value, n)
    half = _t(n - 1) * error
    return Estimate(value, n, error, value - half, value + half)


def over_tasks(values: Mapping[str, Sequence[float]]) -> Estimate:
    """The mean of the tasks' means. n: tasks; one without values doesn't count.

    Its error is clustered by task: with the correction for few clusters that is the error of the tasks' means, and t has tasks - 1
    degrees of freedom (Miller 2024, https://arxiv.org/abs/2411.00640, section 2.2).
    """
    return mean([fmean(some) for some in values.values() if len(some)])


@cache
def rate(successes: int, n: int) -> Estimate:
    """A proportion with its score interval (Wilson 1927, https://doi.org/10.2307/2276774). Raises ValueError unless 0 <= successes <= n.

    (p + z^2/2n ± z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n), as scipy.stats.binomtest has it, which takes a hundred times as long.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Estimate(None, 0)
    value, z = successes / n, _z()
    centre, scale = value + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Estimate(value, n, math.sqrt(value * (1 - value) / n), low, high)


def pass_at(k: int, n: int, successes: int) -> float | None:
    """The chance that at least one of k rollouts succeeds, from n of which some did; None where n < k.

    1 - C(n - c, k) / C(n, k), unbiased (Chen et al. 2021, https://arxiv.org/abs/2107.03374, equation 1).
    """
    return 1 - math.comb(n - successes, k) / math.comb(n, k) if 0 < k <= n else None


@dataclass(frozen=True)
class Difference:
    """Of pairs: their mean difference, and how often chance alone would give one as large. least: the smallest p that n pairs can reach."""

    estimate: Estimate
    p: float | None
    least: float | None
    exact: bool


def paired(differences: Sequence[float]) -> Difference:
    """The mean of paired differences with its interval, and the two-sided sign-flip test: exact up to 20 pairs, else seeded resamples.

    Under the hypothesis of no difference each sign is as likely as its opposite (Fisher 1935, The Design of Experiments, section 21).
    """
    n = len(differences)
    found = mean(differences)
    if n < 2:
        return Difference(found, None, None, True)
    if n <= MOST_EXACT:
        return Difference(found, _exact(differences), 2 / 2**n, True)
    import numpy as np
    from scipy import stats

    test = stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, HELD // n),
        rng=SEED,
    )
    return Difference(found, float(test.pvalue), 2 / (RESAMPLES + 1), False)


def _exact(differences: Sequence[float]) -> float:
    """The part of all ways to give them signs whose sum is as far from 0 as theirs: what scipy's permutation_test tries one by one."""
    import numpy as np

    sums = np.zeros(1)
    for one in differences:
        sums = np.concatenate([sums + one, sums - one])
    noise = 1e-12 * math.fsum(map(abs, differences))
    return float(np.mean(np.abs(sums) >= abs(math.fsum(differences)) - noise))


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that all hold together (Holm 1979, https://www.jstor.org/stable/4615733)."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted
