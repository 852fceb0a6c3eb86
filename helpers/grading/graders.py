"""Validate and grade submissions of mle-bench's competitions, BioML-bench's tasks (folder/task) and this project's own.

`load(competition, data_dir)` gives a grader with two methods:
  validate(source) -> (valid, message)   the message never tells a score or an answer
  grade(source)    -> dict               mle-bench's CompetitionReport fields and `total_score` (= score)
A source is a path, an open binary file or a DataFrame. Answers are read once, in `load`.

Graders are not thread-safe: the metrics below them may not be.
"""

from __future__ import annotations

from pathlib import Path

from helpers.data import layout
from helpers.grading.mlebench import MleBench
from helpers.grading.own_task import OwnTask
from helpers.grading.report import GradingError


def load(competition: str, data_dir: str | Path) -> OwnTask | MleBench:
    """Load the grader of a prepared competition, with its answers.

    Raises GradingError where the competition is unknown, not prepared or unreadable.
    """
    data_dir = Path(data_dir)
    private = data_dir / competition / "prepared" / "private"
    try:
        if not layout.is_id(competition) or not private.is_dir() or _is_empty(private):
            raise GradingError(layout.not_prepared(competition, data_dir))
        if (private / "grading.json").exists():
            return OwnTask(competition, private)
        return MleBench(competition, data_dir, "biomlbench" if "/" in competition else "mlebench")
    except OSError as error:
        raise GradingError(
            f"{competition}: can't read {error.filename or private}: {error.strerror or error}"
        ) from error


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


Grader = OwnTask | MleBench
