"""Random numbers for synthetic data: the same on every machine, and useless for working out the ones that weren't published."""

from __future__ import annotations

import functools
import hashlib
import operator
from statistics import NormalDist
from typing import Any

import numpy as np

STEPS = 2**14  # of the uniform and normal numbers, a unit
BLOCK = 2**18  # numbers looked up at a time


class Stream(np.random.RandomState):
    """A RandomState, as scikit-learn's generators take it, that draws from SHAKE-256 (FIPS 202) of a seed of any size.

    Uniform and normal numbers are multiples of 1/STEPS, so that float64 holds their products and sums exactly: neither BLAS,
    SIMD, nor the order of a sum can show. And other than with the Mersenne Twister, whose state follows from some 20,000
    published bits, features tell nothing of labels, order or seed.
    """

    def __init__(self, seed: int) -> None:
        """Raises ValueError for a negative seed, TypeError for anything but a whole number."""
        seed = operator.index(seed)
        if seed < 0:
            raise ValueError(f"a seed is a whole number from 0 on, found {seed}")
        self._key = hashlib.sha3_256(seed.to_bytes(seed.bit_length() // 8 + 1, "little")).digest()
        self._drawn = 0
        super().__init__(self._words(16, "<u4"))  # for methods that aren't below

    def _words(self, count: int, kind: str = "<u8") -> np.ndarray:
        self._drawn += 1
        message = self._key + self._drawn.to_bytes(8, "little")
        return np.frombuffer(hashlib.shake_256(message).digest(count * np.dtype(kind).itemsize), kind)

    def _look_up(self, table: np.ndarray, size: Any) -> Any:
        numbers = np.empty(() if size is None else size)
        flat = numbers.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            part = flat[start : start + BLOCK]
            part[:] = table[self._words(part.size, "<u2")]
        return float(numbers) if size is None else numbers

    def standard_normal(self, size: Any = None) -> Any:
        return self._look_up(_normal_quantiles(), size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        return loc + scale * self.standard_normal(size)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        return low + (high - low) * self._look_up(_uniform_quantiles(), size)

    def randint(self, low: int, high: int | None = None, size: Any = None, dtype: Any = int) -> Any:
        low, high = (0, low) if high is None else (low, high)
        words = self._words(1 if size is None else int(np.prod(size)))
        numbers = low + (words % np.uint64(high - low)).astype(dtype)
        return int(numbers[0]) if size is None else numbers.reshape(size)

    def permutation(self, x: Any) -> np.ndarray:
        order = np.argsort(self._words(x if isinstance(x, (int, np.integer)) else len(x)), kind="stable")
        return order if isinstance(x, (int, np.integer)) else np.asarray(x)[order]

    def shuffle(self, x: np.ndarray) -> None:
        x[:] = x[self.permutation(len(x))]


@functools.cache
def _uniform_quantiles() -> np.ndarray:
    return np.arange(2**16) * STEPS // 2**16 / STEPS


@functools.cache
def _normal_quantiles() -> np.ndarray:
    # the lower half; it is far from a tie in rounding everywhere, so that libm's last digit doesn't matter
    half = [round(NormalDist().inv_cdf((step + 0.5) / 2**16) * STEPS) / STEPS for step in range(2**15)]
    return np.array(half + [-quantile for quantile in reversed(half)])
