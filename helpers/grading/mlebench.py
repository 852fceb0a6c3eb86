"""The graders of mle-bench and BioML-bench, where they are installed."""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.data.layout import not_prepared
from helpers.grading import mlebench_local
from helpers.grading.csv_shape import Shape
from helpers.grading.report import (
    INVALID,
    VALID,
    GradingError,
    InvalidSubmission,
    missing,
    report_of,
    reported,
    shortened,
)

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
        _keep_strings()
        answers = self._competition.answers
        if not answers.is_file():
            raise GradingError(not_prepared(competition, data_dir) + f" ({answers} is missing)")
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
        """Grade a submission as mle-bench's grade_csv does, with total_score; `note` says what is missing and why.

        A grade function may return {"score", "standard_metrics", "custom_metrics"} in place of the score.
        """
        score, notes = None, [self._leaderboard_note] if self._leaderboard_note else []
        more: dict[str, Any] = {}
        try:
            judged = self._judged(source)
            score = round(_score_in(judged), 5)
            if isinstance(judged, Mapping):
                more, left = reported(judged)
                notes += [left] if left else []
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
        more |= {"note": "; ".join(notes)} if notes else {}
        return report_of(self.competition, None if score is None else float(score), source, **ranks, **more)

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
        return _score_in(self._judged(source))

    def _judged(self, source: Any) -> Any:
        """What its grade function returns."""
        problem = missing(source)
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


def _score_in(judged: Any) -> Any:
    if isinstance(judged, Mapping) and "score" not in judged:
        raise GradingError(f"its grade function returns a dictionary without `score`: {', '.join(map(str, judged))}")
    return judged["score"] if isinstance(judged, Mapping) else judged


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Turn numpy's numbers and booleans into Python's."""
    return {key: value.item() if hasattr(value, "item") else value for key, value in values.items()}


def _keep_strings() -> None:
    """Have pandas keep strings as mle-bench's own environment does, which has no pyarrow: as Python's."""
    import pandas as pd

    with contextlib.suppress(KeyError, ValueError):  # an older pandas
        pd.set_option("mode.string_storage", "python")


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
