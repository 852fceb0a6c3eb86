"""What a grader says of a submission, and how one is read: mle-bench's report, with what this project adds."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

VALID = "Submission is valid."
INVALID = "Submission invalid! "


class GradingError(Exception):
    """A competition that can't be served: unknown, not prepared, or broken. The message is for the user."""


class InvalidSubmission(Exception):
    """A submission that can't be graded. The message is for the agent."""


def report_of(competition: str, score: float | None, source: Any, **more: Any) -> dict[str, Any]:
    """Make a report without thresholds: the fields of mle-bench's CompetitionReport (mlebench/grade_helpers.py)."""
    thresholds = dict.fromkeys(("gold_threshold", "silver_threshold", "bronze_threshold", "median_threshold"))
    # null, not false: without a leaderboard nobody knows
    medals = dict.fromkeys(("any_medal", "gold_medal", "silver_medal", "bronze_medal", "above_median"))
    report = {
        "competition_id": competition,
        "score": score,
        **thresholds,
        **medals,
        "submission_exists": not missing(source),
        "valid_submission": score is not None,
        "is_lower_better": None,
        "created_at": datetime.now(timezone.utc).isoformat(),
        "submission_path": str(source) if isinstance(source, (str, Path)) else "",
        "total_score": score,
    }
    return finite({**report, **more})


def finite(report: dict[str, Any]) -> dict[str, Any]:
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
    return report_of(competition, None, None, note=f"{INVALID}{reason}")


def shortened(error: Exception, most: int = 2000) -> str:
    """The text of somebody else's error, cut by characters, and without what is no character (halves of surrogates)."""
    text = str(error).encode("utf-8", "replace").decode()
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def missing(source: Any) -> str | None:
    """Say what is wrong with a path itself, in mle-bench's words."""
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            return f"Submission file {source} does not exist."
        if Path(source).suffix.lower() != ".csv":
            return "Submission file must be a CSV file."
    return None


def read_bounded(source: Any, limit: int) -> bytes:
    """Read at most `limit` bytes of a source; an open file is read from its start and left open."""
    if hasattr(source, "to_csv"):
        return source.to_csv(index=False).encode()
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            return file.read(limit)
    source.seek(0)
    return source.read(limit)
