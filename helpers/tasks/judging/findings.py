"""What an analysis claims of the data, compared with the data: summary_statistics.json, and the findings of a report.

A figure counts when it is a statistic of a column that is named with it, to the figures given, and these are enough that it
can't be guessed. Spraying figures doesn't help: at least half of all claims must be right.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.tasks.judging.files import leaves, words_of
from helpers.tasks.judging.pickles import BadFile

ID, TARGET = "id", "target"
FEW_VALUES = 20  # a column of fewer different values has classes, and its quantiles are no finding
MOST_NAMED, MOST_FIGURES = 8, 50  # in one finding
MOST_FINDINGS = 500
ALIKE = 0.8  # share of words that two findings have in common which say the same
# words for statistics in a JSON file, small letters only
NAMES = {
    "mean": "mean average avg",
    "std": "std stdev stddev sd standarddeviation",
    "var": "var variance",
    "min": "min minimum",
    "max": "max maximum",
    "median": "median 50 50% 05 p50 q2 q50",
    "q1": "25 25% 025 p25 q1 q25 lowerquartile",
    "q3": "75 75% 075 p75 q3 q75 upperquartile",
    "skewness": "skew skewness",
    "count": "count n nonnull nonnullcount",
    "missing": "missing nmissing missingcount nullcount nulls nan nancount missingvalues",
    "unique": "unique nunique uniquecount distinct",
}
STATISTIC = {word: name for name, words in NAMES.items() for word in words.split()}
# a figure that isn't part of a word or of another figure
FIGURE = re.compile(r"(?<![\w.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,2})?(?!\w|[.,]\d)", re.ASCII)
COMMON = {
    1.5,
    25.0,
    50.0,
    75.0,
    90.0,
    95.0,
    99.0,
    100.0,
    0.05,
    0.01,
    0.001,
}  # thresholds and levels, which tell nothing
CLASSES = re.compile(r"\b(class(es)?|labels?)\b")


@dataclass(frozen=True)
class Statistic:
    """A number computed from the data; tolerance: how coarse a claim may be, coarser ones could be guesses."""

    key: tuple[str, ...]
    value: float
    tolerance: float

    def matches(self, claim: float, half_step: float) -> bool:
        """Whether a claim, rounded to 2 * half_step, is this number, and precise enough: 0.01 is a guess at what is nearly nought."""
        if half_step > self.tolerance or half_step > 0.051 * abs(claim):
            return False
        # the definitions of quantiles and of standard deviations differ a little
        return abs(claim - self.value) <= half_step * 1.02 + 0.0005 * abs(self.value)


class Table:
    """The training data. Raises OSError and ValueError where train.csv can't be read."""

    def __init__(self, public: Path) -> None:
        import pandas as pd

        self.frame = pd.read_csv(public / "train.csv", low_memory=False)
        numbers = self.frame.select_dtypes("number").columns
        features = [name for name in self.frame.columns if name != ID]
        self.continuous = [name for name in features if name in numbers and self.frame[name].nunique() >= FEW_VALUES]
        self.classes = [name for name in features if self.frame[name].nunique() < FEW_VALUES]
        names = "|".join(sorted(map(re.escape, features), key=len, reverse=True))
        self._named = re.compile(rf"(?<!\w)({names})(?!\w)", re.IGNORECASE)
        self._by_small = {name.lower(): name for name in features}
        self._statistics: dict[tuple[str, ...], list[Statistic]] = {}

    @cached_property
    def summary(self) -> dict[str, dict[str, float]]:
        """Per column of numbers its statistics, by the names of NAMES."""
        table = self.frame.select_dtypes("number")
        if table.empty:
            return {}
        quantiles = table.quantile([0.25, 0.75])
        values = {
            **{name: getattr(table, name)() for name in ("mean", "std", "var", "min", "max", "median", "count")},
            "q1": quantiles.loc[0.25],
            "q3": quantiles.loc[0.75],
            "skewness": table.skew(),
            "missing": table.isna().sum(),
            "unique": table.nunique(),
        }
        return {column: {name: float(found[column]) for name, found in values.items()} for column in table.columns}

    def named(self, text: str) -> list[str]:
        """The columns that a text names, in that order; `class` stands for a target of few values."""
        names = map(str.lower, self._named.findall(text))  # IGNORECASE finds more than capitals: ſ for s
        found = [self._by_small[name] for name in names if name in self._by_small]
        if TARGET in self.classes and CLASSES.search(text.lower()):
            found.append(TARGET)
        return list(dict.fromkeys(found))

    def without_names(self, text: str) -> str:
        """A text with its columns' names, which may hold figures, taken out."""
        return self._named.sub(" ", text)

    def statistics(self, columns: list[str]) -> Iterator[Statistic]:
        """What can be said of these columns: of each one, and of each pair of them."""
        for key in [*((name,) for name in columns), *itertools.combinations(sorted(columns[:MOST_NAMED]), 2)]:
            if key not in self._statistics:
                self._statistics[key] = list(self._of_one(*key) if len(key) == 1 else self._of_two(*key))
            yield from self._statistics[key]

    def _of_two(self, one: str, other: str) -> Iterator[Statistic]:
        if {one, other} <= set(self.summary):
            value = self.frame[one].corr(self.frame[other])
            for sign in (1, -1):  # people write "a negative correlation of 0.5"
                yield Statistic(("correlation", one, other), sign * value, 0.006)
        for group, column in ((one, other), (other, one)):
            if group in self.classes and column in self.continuous:
                for label, mean in self.frame.groupby(group)[column].mean().items():
                    yield Statistic((column, "mean", group, str(label)), mean, 0.01 * self.summary[column]["std"])

    def _of_one(self, column: str) -> Iterator[Statistic]:
        values = self.frame[column]
        yield from self._share((column, "missing"), int(values.isna().sum()))
        if column in self.classes:
            for label, count in values.value_counts().items():
                yield from self._share((column, str(label)), int(count))
        if column not in self.continuous:
            return
        known = self.summary[column]
        std = known["std"]
        for name in ("mean", "min", "max", "median", "q1", "q3"):
            yield Statistic((column, name), known[name], 0.01 * std)
        spread = {
            "std": std,
            "var": known["var"],
            "range": known["max"] - known["min"],
            "iqr": known["q3"] - known["q1"],
        }
        for name, value in spread.items():
            yield Statistic((column, name), value, 0.01 * value)
        yield Statistic((column, "skewness"), known["skewness"], 0.01)
        yield Statistic((column, "kurtosis"), values.kurt(), 0.01)
        reach = 1.5 * (known["q3"] - known["q1"])
        beyond = (values < known["q1"] - reach) | (values > known["q3"] + reach)
        yield from self._share((column, "outliers by quartiles"), int(beyond.sum()))
        yield from self._share((column, "outliers by deviation"), int(((values - known["mean"]).abs() > 3 * std).sum()))

    def _share(self, key: tuple[str, ...], count: int) -> Iterator[Statistic]:
        share = count / len(self.frame)
        yield Statistic((*key, "count"), count, 0.5)
        yield Statistic((*key, "share"), share, 0.0006)
        yield Statistic((*key, "percent"), 100 * share, 0.06)


def check_statistics(content: Any, table: Table) -> None:
    """Parsed JSON must hold {column: {statistic: value}} or {statistic: {column: value}}, at any depth, and be right.

    Raises BadFile unless two of mean, std, var, median, min, max and quartiles are right for four of five columns of numbers,
    and half of all that is claimed is.
    """
    right: dict[str, set[str]] = {}
    claims = 0
    for column, name, value in _claims(content, set(table.summary)):
        claims += 1
        known = table.summary[column]
        tolerance = 0.005 * (known["std"] if name in ("mean", "min", "max", "median", "q1", "q3") else abs(known[name]))
        tolerance = 0.02 if name == "skewness" else tolerance if name not in ("count", "missing", "unique") else 0
        if abs(value - known[name]) <= tolerance:
            right.setdefault(column, set()).add(name)
    wanted = table.continuous or list(table.summary)
    moments = {"mean", "std", "var", "median", "min", "max", "q1", "q3"}
    enough = sum(len(right.get(column, set()) & moments) >= 2 for column in wanted)
    if enough < 0.8 * len(wanted):
        raise BadFile(
            f"has the right statistics of {enough} of the {len(wanted)} columns of train.csv that hold numbers"
        )
    if sum(map(len, right.values())) * 2 < claims:
        raise BadFile(f"is wrong in most of its {claims} statistics of train.csv")


def _claims(content: Any, columns: set[str]) -> Iterator[tuple[str, str, float]]:
    for keys, value in leaves(content):
        if not isinstance(value, float) or not math.isfinite(value):
            continue
        named = [key for key in keys if key in columns]
        names = [STATISTIC[word] for key in keys if (word := re.sub(r"[\s_.-]", "", key.lower())) in STATISTIC]
        if len(named) == 1 and names:
            yield named[0], names[-1], value


def check_findings(text: str, table: Table) -> int:
    """How many findings a report holds: list items or paragraphs that name a column and a figure which is true of it.

    Findings that differ in columns and figures only, or rest on the same statistic, count once. Raises BadFile where fewer
    than half of those with columns and figures are true.
    """
    candidates = true = 0
    known: set[tuple[str, ...]] = set()
    said: list[set[str]] = []
    for item in _items(text):
        columns = table.named(item)
        figures = [] if not columns else list(_figures(table.without_names(item), len(table.frame)))
        if not figures:
            continue
        candidates += 1
        if candidates > MOST_FINDINGS or len(figures) > MOST_FIGURES:
            raise BadFile(f"has over {MOST_FINDINGS} findings, or one with over {MOST_FIGURES} figures")
        statistics = list(table.statistics(columns))
        matches = [[found.key for found in statistics if found.matches(*figure)] for figure in figures]
        if sum(map(bool, matches)) * 2 < len(figures):
            continue
        true += 1
        keys, words = set(itertools.chain(*matches)), set(words_of(table.without_names(item)))
        if len(words) >= 3 and not keys <= known and not any(_alike(words, other) for other in said):
            said.append(words)
            known |= keys
    if true * 2 < candidates:
        raise BadFile(f"has {candidates} findings with figures of columns, of which {true} agree with train.csv")
    return len(said)


def _alike(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= ALIKE * len(one | other)


def _items(text: str) -> Iterator[str]:
    """List items, rows of tables and paragraphs; headings are none."""
    item: list[str] = []
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        starts = re.match(r"([-*+•]|\d+[.)])\s|\||#", stripped)
        if item and (starts or not stripped):
            yield " ".join(item)
            item = []
        if stripped and not stripped.startswith("#"):
            item.append(re.sub(r"^([-*+•]|\d+[.)])\s+", "", stripped))


def _figures(text: str, rows: int) -> Iterator[tuple[float, float]]:
    """Figures and half the step that they are rounded to; counting words and common thresholds left out."""
    for written in FIGURE.findall(text.replace("\u2212", "-")):
        digits, _, exponent = written.replace(",", "").lower().partition("e")
        value = float(written.replace(",", ""))
        half_step = 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
        if not (abs(value) in COMMON or value == rows or (abs(value) < 10 and half_step == 0.5)):
            yield value, half_step
