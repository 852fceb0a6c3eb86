"""What a grader says of a submission, and how one is read: mle-bench's report, with what this project adds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helpers.runs.columns import REPORTED

VALID = "Submission is valid."
INVALID = "Submission invalid! "
MOST_METRICS = 100  # of each kind
# a job's shell takes them out of a report as they are (run::_evaluation in scripts_hpc/lib/run.sh)
NAME = re.compile(r'[^"\\{}\x00-\x1f\x7f-\x9f]{1,100}')


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


def reported(told: Mapping[str, Any]) -> tuple[dict[str, dict[str, float]], str]:
    """What a grader tells beside the score, by REPORTED, and a sentence on what was left out of it: no finite number, an odd name."""
    found: dict[str, dict[str, float]] = {}
    left: list[str] = []
    for kind in REPORTED:
        its = told.get(kind)
        if its is None:
            continue
        if not isinstance(its, Mapping):
            left.append(f"{kind} is no dictionary")
            continue
        good = {
            name: number for name, value in its.items() if _is_name(name) and (number := _number(value)) is not None
        }
        if len(good) < len(its) or len(good) > MOST_METRICS:
            odd = [str(name)[:40] for name in its if name not in good] or [f"all after the first {MOST_METRICS}"]
            left.append(f"{kind}: {', '.join(odd[:5])}")
        found[kind] = dict(list(good.items())[:MOST_METRICS])
    return found, f"left out of what the grader reports: {'; '.join(left)}" if left else ""


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and bool(NAME.fullmatch(name))


def _number(value: Any) -> float | None:
    """A finite number, also one of numpy's."""
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
    is_good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    return value if is_good else None


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
