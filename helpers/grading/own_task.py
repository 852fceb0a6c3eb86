"""The grader of this project's own tasks."""

from __future__ import annotations

import csv
import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

from helpers.grading.metrics import Metric, get_metric
from helpers.grading.report import (
    INVALID,
    VALID,
    GradingError,
    InvalidSubmission,
    missing,
    read_bounded,
    report_of,
    reported,
)

SPARE_BYTES, BYTES_A_ROW = 2**20, 1000  # the largest submission
LARGEST_NUMBER = 1e100  # larger predictions overflow a squared error
MISSING_WORDS = {"", "nan", "na", "n/a", "none", "null", "<na>"}
BOOLEANS = {"true": "1", "false": "0"}


class OwnTask:
    """A task of this project: private/answers.csv (id and target column) and private/grading.json.

    `metrics` there are names of further metrics, which take the same predictions: a report has them as standard_metrics.
    """

    def __init__(self, competition: str, private: Path) -> None:
        self.competition = competition
        settings = self._settings(private / "grading.json")
        self.metric = get_metric(settings["metric"])
        self.id_column, self.target_column = settings["id_column"], settings["target_column"]
        self.reference = settings.get("reference", {})
        self._others = [get_metric(name) for name in settings.get("metrics", [])]
        answers = private / "answers.csv"
        try:
            ids, targets = self._columns(_rows(answers.read_bytes()))
            self._positions = {identifier: position for position, identifier in enumerate(ids)}
            if len(self._positions) < max(len(ids), 1):
                raise InvalidSubmission("it is empty, or an id appears twice")
            # bounds what a hostile file can make the reader hold, and tells nothing of the answers' length
            self.largest_file = SPARE_BYTES + BYTES_A_ROW * len(ids)
            self._targets = targets
            self._predictions = _Predictions(self.metric.kind, targets)
            least = max(one.least_rows for one in (self.metric, *self._others))
            if len(ids) < least:
                raise ValueError(f"it has {len(ids)} rows, and that takes {least}")
        except (InvalidSubmission, ValueError) as error:
            raise GradingError(f"{competition}: {answers} doesn't fit the metric {self.metric.name}: {error}") from None

    def _settings(self, path: Path) -> dict[str, Any]:
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            missing = [key for key in ("metric", "id_column", "target_column") if not isinstance(settings[key], str)]
        except (ValueError, KeyError, TypeError) as error:
            missing = [str(error)]
        if missing:
            raise GradingError(f"{self.competition}: {path} is broken: {', '.join(missing)}")
        others, kind = settings.get("metrics", []), get_metric(settings["metric"]).kind
        if not isinstance(others, list) or not all(isinstance(name, str) for name in others):
            raise GradingError(f"{self.competition}: {path} is broken: metrics is no list of names")
        if other := next((name for name in others if get_metric(name).kind != kind), None):
            raise GradingError(
                f"{self.competition}: {path} is broken: metrics: {other} takes other predictions than {settings['metric']}"
            )
        return settings

    @staticmethod
    def warm() -> None:
        """Import what scoring needs and judging whether a submission is valid does not: it takes a second."""
        from sklearn import metrics  # noqa: F401

    def validate(self, source: Any) -> tuple[bool, str]:
        """Say whether a submission can be graded, and if not why."""
        try:
            self._predicted(source)
        except InvalidSubmission as error:
            return False, f"{INVALID}{error}"
        return True, VALID

    def grade(self, source: Any) -> dict[str, Any]:
        """Grade a submission: mle-bench's fields, total_score, metric, reference; `note` says why one is invalid."""
        score, more = None, dict[str, Any]()
        try:
            predicted, truth = self._predicted(source), self._predictions.truth
            score = round(self.metric.score(truth, predicted), 5)
            if self._others:
                others = {one.name: round(one.score(truth, predicted), 5) for one in self._others}
                more, left = reported({"standard_metrics": others})
                more |= {"note": left} if left else {}
        except InvalidSubmission as error:
            more["note"] = f"{INVALID}{error}"
        return report_of(
            self.competition,
            score,
            source,
            is_lower_better=self.metric.is_lower_better,
            metric=self.metric.name,
            reference=dict(self.reference),
            **more,
        )

    def parsed(self, source: Any, metric: Metric | None = None) -> tuple[Any, Any]:
        """Truth and predictions as a metric takes them (default: the task's): two arrays, in the order of the answers.

        Raises InvalidSubmission, and GradingError where the answers don't fit that metric.
        """
        predictions = self._predictions
        if metric and metric.kind != predictions.kind:
            try:
                predictions = _Predictions(metric.kind, self._targets)
            except (InvalidSubmission, ValueError) as error:
                raise GradingError(f"{self.competition}: the answers don't fit {metric.name}: {error}") from None
        return predictions.truth, self._predicted(source, predictions)

    def _predicted(self, source: Any, predictions: _Predictions | None = None) -> Any:
        """Read the predictions in the order of the answers. Raises InvalidSubmission."""
        import numpy as np

        problem = missing(source)
        if problem:
            raise InvalidSubmission(problem)
        data = read_bounded(source, self.largest_file + 1)
        if len(data) > self.largest_file:
            raise InvalidSubmission(f"It has over {self.largest_file} bytes, far more than the test set's rows need.")
        ids, texts = self._columns(_rows(data, limit=len(self._positions)))
        positions = list(map(self._positions.get, ids))
        if None in positions:
            unknown = _quoted(ids[positions.index(None)])
            raise InvalidSubmission(f"{unknown} in `{self.id_column}` is not an id of the test set.")
        if len(set(positions)) < len(positions):
            raise InvalidSubmission(f"The id {_quoted(_first_repeated(ids))} appears more than once.")
        if len(ids) < len(self._positions):
            raise InvalidSubmission(f"It has {len(ids)} rows; the test set has {len(self._positions)}.")
        values = (predictions or self._predictions).parse(texts, self.target_column)
        ordered = np.empty_like(values)
        ordered[positions] = values
        return ordered

    def _columns(self, rows: list[list[str]]) -> tuple[list[str], list[str]]:
        """Take the id and the target column out of rows; other columns are ignored, as mle-bench does."""
        if not rows:
            raise InvalidSubmission("It is empty.")
        header = rows[0]
        for name in (self.id_column, self.target_column):
            if header.count(name) != 1:
                problem = "must have a" if name not in header else "has more than one"
                found = ", ".join(map(_quoted, header[:10]))
                raise InvalidSubmission(f"Submission {problem} `{name}` column; its columns are {found}.")
        if len(set(map(len, rows))) > 1:
            number = next(number for number, row in enumerate(rows) if len(row) != len(header))
            raise InvalidSubmission(f"Row {number} has {len(rows[number])} fields, the header {len(header)}.")
        id_at, target_at = header.index(self.id_column), header.index(self.target_column)
        return [row[id_at] for row in rows[1:]], [row[target_at] for row in rows[1:]]


def _rows(data: bytes, limit: int | None = None) -> list[list[str]]:
    """Parse CSV into rows, the header first; more than `limit` rows below it are invalid."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        rows = list(islice(filter(None, reader), None if limit is None else limit + 2))
    except UnicodeDecodeError:
        raise InvalidSubmission("Submission file must be a CSV file in UTF-8.") from None
    except csv.Error as error:
        raise InvalidSubmission(f"Submission file must be a CSV file: {error}.") from None
    if limit is not None and len(rows) > limit + 1:
        raise InvalidSubmission(f"It has more rows than the test set, which has {limit}.")
    return rows


def _first_repeated(items: list[str]) -> str:
    seen: set[str] = set()
    return next(item for item in items if item in seen or seen.add(item))


class _Predictions:
    """The answers of a task, and how to read predictions like them."""

    def __init__(self, kind: str, answers: list[str]) -> None:
        self.kind = kind
        self._booleans = {answer.lower() for answer in answers} <= set(BOOLEANS)
        self._labels = set(answers)
        self._textual = kind == "label" and not self._booleans and not all(map(_is_number, answers))
        if kind in ("ranking", "probability"):
            self.truth = self._numbers(answers, "target")
            if set(self.truth) != {0.0, 1.0}:
                raise ValueError("it needs answers of 0 and 1, both present")
        else:
            self.truth = self.parse(answers, "target")
        self.truth.setflags(write=False)

    def parse(self, texts: list[str], column: str) -> Any:
        """Turn a column's texts into an array, one value a row. Raises InvalidSubmission."""
        import numpy as np

        if self.kind == "cluster" or self._textual:
            return self._texts(texts, column)
        values = self._numbers(texts, column)
        if self.kind == "label":
            self._refuse(values != np.floor(values), texts, column, "class labels, whole numbers")
        if self.kind == "probability":
            self._refuse((values < 0) | (values > 1), texts, column, "probabilities from 0 to 1")
        return values

    def _texts(self, texts: list[str], column: str) -> Any:
        import numpy as np

        bad = [text.strip().lower() in MISSING_WORDS and text not in self._labels for text in texts]
        self._refuse(bad, texts, column, "a label in each row")
        if self._textual and all(map(_is_number, texts)):
            raise InvalidSubmission(f"`{column}` must hold class labels, which are words; it holds numbers.")
        if self.kind == "cluster" and all(map(_is_number, texts)):
            return self._numbers(texts, column)  # 1 and 1.0 are one cluster
        return np.array(texts, dtype=object)

    def _numbers(self, texts: list[str], column: str) -> Any:
        import numpy as np

        if self._booleans:
            texts = [BOOLEANS.get(text.lower(), text) for text in texts]
        try:
            values = np.array(list(map(float, texts)))
        except ValueError:
            self._refuse([not _is_number(text) for text in texts], texts, column, "numbers")
            raise
        self._refuse(~(np.abs(values) <= LARGEST_NUMBER), texts, column, f"finite numbers up to {LARGEST_NUMBER:g}")
        return values

    @staticmethod
    def _refuse(bad: Any, texts: list[str], column: str, wanted: str) -> None:
        import numpy as np

        bad = np.asarray(bad, dtype=bool)
        if bad.any():
            row = int(bad.argmax())
            raise InvalidSubmission(f"`{column}` must hold {wanted}; row {row + 1} has {_quoted(texts[row])}.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
