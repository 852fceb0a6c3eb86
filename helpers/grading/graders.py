"""Validate and grade submissions of mle-bench's competitions, BioML-bench's tasks (folder/task) and this project's own.

`load(competition, data_dir)` gives a grader with two methods:
  validate(source) -> (valid, message)   the message never tells a score or an answer
  grade(source)    -> dict               mle-bench's CompetitionReport fields and `total_score` (= score)
A source is a path, an open binary file or a DataFrame. Answers are read once, in `load`.

Graders are not thread-safe: the metrics below them may not be.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import importlib
import io
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from helpers.data.layout import TASK_ID
from helpers.grading import mlebench_local
from helpers.grading.csv_shape import Shape

VALID = "Submission is valid."
INVALID = "Submission invalid! "
SPARE_BYTES, BYTES_A_ROW = 2**20, 1000  # the largest submission
LARGEST_NUMBER = 1e100  # larger predictions overflow a squared error
MISSING_WORDS = {"", "nan", "na", "n/a", "none", "null", "<na>"}
BOOLEANS = {"true": "1", "false": "0"}


class GradingError(Exception):
    """A competition that can't be served: unknown, not prepared, or broken. The message is for the user."""


class InvalidSubmission(Exception):
    """A submission that can't be graded. The message is for the agent."""


@dataclass(frozen=True)
class Metric:
    """A metric of scikit-learn: `score(truth, predicted)`, its direction, and the kind of predictions that it takes."""

    name: str
    function: str
    kind: str  # label, number, ranking (a number for the positive class), probability (0 to 1), cluster
    is_lower_better: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    classes_of_truth: bool = False  # only classes that the truth has count
    least_rows: int = 1  # with fewer it has no value

    def score(self, truth: Any, predicted: Any) -> float:
        """Score predictions, two arrays of one length; unrounded."""
        from sklearn import metrics

        options = dict(self.options) | ({"labels": sorted(set(truth))} if self.classes_of_truth else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class never predicted is the agent's affair, not the log's
            return float(getattr(metrics, self.function)(truth, predicted, **options))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy_score", "label"),
        # what balanced_accuracy_score is by definition; its own memory grows with the square of the labels that are predicted
        Metric("balanced_accuracy", "recall_score", "label", options=(("average", "macro"),), classes_of_truth=True),
        Metric("f1_macro", "f1_score", "label", options=(("average", "macro"), ("zero_division", 0.0))),
        Metric("roc_auc", "roc_auc_score", "ranking"),
        Metric("log_loss", "log_loss", "probability", is_lower_better=True, options=(("labels", (0, 1)),)),
        Metric("rmse", "root_mean_squared_error", "number", is_lower_better=True),
        Metric("mae", "mean_absolute_error", "number", is_lower_better=True),
        Metric("r2", "r2_score", "number", least_rows=2),
        Metric("mape", "mean_absolute_percentage_error", "number", is_lower_better=True),  # a fraction, not percent
        Metric("adjusted_rand", "adjusted_rand_score", "cluster"),
    )
}


def get_metric(name: str) -> Metric:
    """Look a metric up by name. Raises GradingError, which lists what exists."""
    if name not in METRICS:
        raise GradingError(f"unknown metric {name!r}; there are: {', '.join(METRICS)}")
    return METRICS[name]


def load(competition: str, data_dir: str | Path) -> OwnTask | MleBench:
    """Load the grader of a prepared competition, with its answers.

    Raises GradingError where the competition is unknown, not prepared or unreadable.
    """
    data_dir = Path(data_dir)
    private = data_dir / competition / "prepared" / "private"
    try:
        if not re.fullmatch(TASK_ID, competition) or not private.is_dir() or _is_empty(private):
            raise GradingError(_not_prepared(competition, data_dir))
        if (private / "grading.json").exists():
            return OwnTask(competition, private)
        return MleBench(competition, data_dir, "biomlbench" if "/" in competition else "mlebench")
    except OSError as error:
        raise GradingError(
            f"{competition}: can't read {error.filename or private}: {error.strerror or error}"
        ) from error


def prepared_competitions(data_dir: Path) -> list[str]:
    """List the competitions below a data folder that have private data."""
    try:
        halves = [*data_dir.glob("*/prepared/private"), *data_dir.glob("[!.]*/*/prepared/private")]
        return sorted(str(path.parent.parent.relative_to(data_dir)) for path in halves)
    except OSError:
        return []


def _not_prepared(competition: str, data_dir: Path) -> str:
    if not data_dir.is_dir():
        return f"the data folder {data_dir} doesn't exist (--data-dir)"
    there = ", ".join(prepared_competitions(data_dir)) or "none"
    return f"competition {competition!r} is not prepared in {data_dir}; prepared there: {there}"


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _report(competition: str, score: float | None, source: Any, **more: Any) -> dict[str, Any]:
    """Make a report without thresholds: the fields of mle-bench's CompetitionReport (mlebench/grade_helpers.py)."""
    thresholds = dict.fromkeys(("gold_threshold", "silver_threshold", "bronze_threshold", "median_threshold"))
    # null, not false: without a leaderboard nobody knows
    medals = dict.fromkeys(("any_medal", "gold_medal", "silver_medal", "bronze_medal", "above_median"))
    report = {
        "competition_id": competition,
        "score": score,
        **thresholds,
        **medals,
        "submission_exists": not _missing(source),
        "valid_submission": score is not None,
        "is_lower_better": None,
        "created_at": datetime.now(timezone.utc).isoformat(),
        "submission_path": str(source) if isinstance(source, (str, Path)) else "",
        "total_score": score,
    }
    return _finite({**report, **more})


def _finite(report: dict[str, Any]) -> dict[str, Any]:
    """Put null where a number is NaN or infinite, which JSON has not; `note` says so of the score.

    `valid_submission` stays as mle-bench says, true: only the missing score tells that there is no result.
    """
    score = report["score"]
    if _is_odd(score):
        said = f"the score is {score}: the metric has no finite value for this submission (a constant column, say)"
        report["note"] = "; ".join(filter(None, (report.get("note"), said)))
    return {key: None if _is_odd(value) else value for key, value in report.items()}


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def unjudged(competition: str, reason: str) -> dict[str, Any]:
    """Make the report on a submission that could not be judged to the end: it is there, and invalid."""
    return _report(competition, None, None, note=f"{INVALID}{reason}")


def shortened(error: Exception, most: int = 2000) -> str:
    """The text of somebody else's error, cut by characters, and without what is no character (halves of surrogates)."""
    text = str(error).encode("utf-8", "replace").decode()
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _missing(source: Any) -> str | None:
    """Say what is wrong with a path itself, in mle-bench's words."""
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            return f"Submission file {source} does not exist."
        if Path(source).suffix.lower() != ".csv":
            return "Submission file must be a CSV file."
    return None


def _read(source: Any, limit: int) -> bytes:
    """Read at most `limit` bytes of a source; an open file is read from its start and left open."""
    if hasattr(source, "to_csv"):
        return source.to_csv(index=False).encode()
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            return file.read(limit)
    source.seek(0)
    return source.read(limit)


class OwnTask:
    """A task of this project: private/answers.csv (id and target column) and private/grading.json."""

    def __init__(self, competition: str, private: Path) -> None:
        self.competition = competition
        settings = self._settings(private / "grading.json")
        self.metric = get_metric(settings["metric"])
        self.id_column, self.target_column = settings["id_column"], settings["target_column"]
        self.reference = settings.get("reference", {})
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
            if len(ids) < self.metric.least_rows:
                raise ValueError(f"it has {len(ids)} rows, and that takes {self.metric.least_rows}")
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
        score, more = None, {}
        try:
            score = round(self.metric.score(self._predictions.truth, self._predicted(source)), 5)
        except InvalidSubmission as error:
            more["note"] = f"{INVALID}{error}"
        return _report(
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

        problem = _missing(source)
        if problem:
            raise InvalidSubmission(problem)
        data = _read(source, self.largest_file + 1)
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


SOURCES = {"mlebench": ("mle-bench", "openai/mle-bench"), "biomlbench": ("BioML-bench", "science-machine/biomlbench")}


class MleBench:
    """A competition of mle-bench, or a task of BioML-bench, its fork, judged by its own grader on answers read once.

    package: mlebench (grade.py there) or biomlbench (the same names, but `get_task`).
    """

    def __init__(self, competition: str, data_dir: Path, package: str = "mlebench") -> None:
        self.competition, self._package = competition, package
        self._project, self._repository = SOURCES[package]
        data_dir = data_dir.resolve()
        with _scratch_folder():
            self._utils, self._competition = self._import(data_dir)
        answers = self._competition.answers
        if not answers.is_file():
            raise GradingError(_not_prepared(competition, data_dir) + f" ({answers} is missing)")
        try:
            self._answers = self._utils.load_answers(answers)
        except ValueError as error:
            raise GradingError(f"{competition}: can't read the answers {answers}: {error}") from None
        self._leaderboard, self._leaderboard_note = self._read_leaderboard()
        self._shape = Shape.of(getattr(self._competition, "sample_submission", None))

    def _import(self, data_dir: Path) -> tuple[Any, Any]:
        try:
            utils = importlib.import_module(f"{self._package}.utils")
            registry = importlib.import_module(f"{self._package}.registry").registry.set_data_dir(data_dir)
        except ImportError as error:
            raise GradingError(
                f"{self.competition} has no private/grading.json, so it is {self._project}'s, and this Python can't "
                f"import {self._package} ({error}); install it from github.com/{self._repository}"
            ) from None
        find = registry.get_competition if self._package == "mlebench" else registry.get_task
        kept = data_dir / self.competition / "prepared" / "private" / mlebench_local.KEPT
        try:
            if kept.is_dir():  # prepared from a folder of the user's
                return utils, mlebench_local.competition(kept, self.competition, data_dir)
            return utils, find(self.competition)
        except (AssertionError, FileNotFoundError):
            raise GradingError(f"{self._project} has no competition {self.competition!r}") from None
        except ImportError as error:
            raise GradingError(f"the grader of {self.competition} needs a package that is missing: {error}") from None

    def _read_leaderboard(self) -> tuple[Any, str | None]:
        """Read the leaderboard that thresholds come from; mle-bench's clone holds git-LFS pointers until pulled."""
        path = self._competition.leaderboard
        try:
            leaderboard = self._utils.read_csv(path)
        except (OSError, ValueError) as error:
            return None, f"no thresholds and medals: can't read {self._project}'s leaderboard: {error}"
        if "score" not in leaderboard.columns or leaderboard.empty:
            return (
                None,
                f"no thresholds and medals: {self._project}'s leaderboard has no scores (run `git lfs pull` in its clone)",
            )
        return leaderboard, None

    def warm(self) -> None:
        """Do nothing: all that is needed is imported with the competition."""

    def validate(self, source: Any) -> tuple[bool, str]:
        """Say whether a submission can be graded, with the words of mle-bench's validate_submission."""
        try:
            self._raw_score(source)
        except (InvalidSubmission, MemoryError) as error:
            if isinstance(error, MemoryError):
                raise
            return False, f"{INVALID}{error}"
        except Exception as error:
            return False, (
                f"{INVALID}The attempt to grade the submission has resulted in the following error message:\n"
                f"{shortened(error)}"
            )
        return True, VALID

    def grade(self, source: Any) -> dict[str, Any]:
        """Grade a submission as mle-bench's grade_csv does, with total_score; `note` says what is missing and why."""
        score, notes = None, [self._leaderboard_note] if self._leaderboard_note else []
        try:
            score = round(self._raw_score(source), 5)
        except MemoryError:
            raise
        except Exception as error:
            notes.append(shortened(error))
        ranks: dict[str, Any] = {}
        if self._leaderboard is not None:
            grader, leaderboard = self._competition.grader, self._leaderboard.copy()
            try:
                ranks = _plain(grader.rank_score(score, leaderboard))
                ranks["any_medal"] = ranks["gold_medal"] or ranks["silver_medal"] or ranks["bronze_medal"]
                ranks["is_lower_better"] = bool(grader.is_lower_better(leaderboard))
            except Exception as error:
                ranks = {}
                notes.append(f"no thresholds and medals: {shortened(error)}")
        if "is_lower_better" not in ranks:
            ranks["is_lower_better"] = self._direction
        more = {"note": "; ".join(notes)} if notes else {}
        return _report(self.competition, None if score is None else float(score), source, **ranks, **more)

    @cached_property
    def _direction(self) -> bool | None:
        """Whether lower is better, where no leaderboard tells: a perfect submission and the sample are graded.

        None where the grader can't tell them apart, or one of them isn't there.
        """
        try:
            perfect, sample = (
                float(self._raw_score(Path(getattr(self._competition, name))))
                for name in ("gold_submission", "sample_submission")
            )
        except MemoryError:
            raise
        except Exception:
            return None
        return None if perfect == sample or not math.isfinite(perfect - sample) else perfect < sample

    def _raw_score(self, source: Any) -> Any:
        problem = _missing(source)
        if problem:
            raise InvalidSubmission(problem)
        if hasattr(source, "to_csv"):
            frame = source.copy()
        else:
            with open(source, "rb") if isinstance(source, (str, Path)) else contextlib.nullcontext(source) as file:
                problem = self._shape.problem(file)
                if problem:
                    raise InvalidSubmission(problem)
                frame = self._utils.read_csv(file)
        # a grader may sort or change what it is given
        answers = self._answers.copy() if hasattr(self._answers, "to_csv") else copy.deepcopy(self._answers)
        return self._competition.grader.grade_fn(frame, answers)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Turn numpy's numbers and booleans into Python's."""
    return {key: value.item() if hasattr(value, "item") else value for key, value in values.items()}


@contextlib.contextmanager
def _scratch_folder() -> Iterator[None]:
    """Work in an empty folder for a while: importing mlebench.data makes ./cache, and dies where that can't be."""
    before = os.open(".", os.O_PATH)
    try:
        with tempfile.TemporaryDirectory(prefix="mlebench_import_") as folder:
            os.chdir(folder)
            try:
                yield
            finally:
                os.fchdir(before)
    finally:
        os.close(before)


Grader = OwnTask | MleBench
