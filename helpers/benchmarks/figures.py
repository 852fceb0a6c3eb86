"""Figures and tables for people: as many digits as there is something behind them; markdown that no name can break."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.usage import Total
from helpers.lib.text import clean

NONE = "N/A"  # as the specification's tables have it
SPECIAL = re.compile(r"([\\|<>\[\]*`~&])")  # what would be markup, or the end of a cell
MOST = 80  # characters of a name or a reason in a table
MOST_OF_LINE = 500
NOISE = 1e-12  # of a value: less than that is what rounding leaves


def number(value: float | None, digits: int = 4) -> str:
    """A number with at least that many digits that count, and no zeros behind them."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits}g}"
    text = f"{value:.{max(digits - 1 - _magnitude(value), 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def like(value: float | None, error: float | None) -> str:
    """A number to the second digit of its error; without one to four digits."""
    if value is None or error is None or error <= NOISE * abs(value):
        return number(value)
    decimals = 1 - _magnitude(error)
    if decimals <= 9 and abs(value) < 1e7:
        return f"{value:.{max(decimals, 0)}f}"
    count = (_magnitude(value) if value else 0) + decimals + 1
    return f"{value:.{min(max(count, 1), 15)}g}"


def mean(one: Estimate) -> str:
    """A mean with its standard error."""
    if one.value is None or one.error is None:
        return number(one.value)
    return f"{like(one.value, one.error)} ± {number(0 if one.error <= NOISE * abs(one.value) else one.error, 2)}"


def interval(one: Estimate) -> str:
    """Its 95% interval."""
    if one.low is None or one.high is None:
        return NONE
    return f"{like(one.low, one.error)} to {like(one.high, one.error)}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f}%"


def rate(one: Estimate, of: str = "") -> str:
    """A rate with its interval and what it is of. of: a word for these, where they are no rollouts."""
    if one.value is None:
        return NONE
    told = "" if one.low is None or one.high is None else f" [{100 * one.low:.0f}, {100 * one.high:.0f}]"
    return f"{percent(one.value)}{told} of {one.n}{of and f' {of}'}"


def signed(value: float | None, error: float | None = None) -> str:
    """A difference, its sign told; without an error to two digits."""
    text = number(value, 2) if error is None else like(value, error)
    return text if not value or text.startswith("-") else f"+{text}"


def chance(p: float | None) -> str:
    """A p-value."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def total(one: Total, decimals: int = 0) -> str:
    """A sum, and of how many it is known where that isn't all."""
    if one.sum is None:
        return NONE
    return f"{one.sum:,.{decimals}f}" + (f" ({one.known} of {one.of} known)" if one.known < one.of else "")


def cell(text: str | None, most: int = MOST) -> str:
    """A name or a sentence, as it can stand in a table of markdown: GFM, https://github.github.com/gfm/#tables-extension-.

    most: characters that are told of it.
    """
    words = " ".join(clean(text or "").split())
    return SPECIAL.sub(r"\\\1", words if len(words) <= most else f"{words[: most - 1]}…")


def line(text: str) -> str:
    """A sentence that stands by itself."""
    return cell(text, MOST_OF_LINE)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[str], whole: bool = False) -> list[str]:
    """The lines of a table. left: the columns that hold words. whole: also columns in which nothing stands.

    Its cells are written as they are: names go through cell() before.
    """
    kept = [at for at in range(len(head)) if whole or not rows or any(row[at] for row in rows)]
    rule = ("---" if head[at] in left else "---:" for at in kept)
    lines = ([row[at] for at in kept] for row in (head, *rows))
    first, *others = (f"| {' | '.join(line)} |" for line in lines)
    return [first, f"|{'|'.join(rule)}|", *others]
