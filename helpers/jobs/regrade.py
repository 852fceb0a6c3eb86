"""Grades of a run that was scored, and is graded again: scripts_hpc/results.sh regrade. The run's result stays its first grade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.lib import disk, values
from helpers.runs import metadata
from helpers.runs.metadata import Run

FIRST = (
    "grading_report.json"  # in a run's folder; that of a later grade is grading_report_<job>.json (run::_record_again)
)
# of a report, what a grade says; what it leaves out is when it was made and of which path
COMPARED = (
    *("score", "total_score", "valid_submission", "metric", "is_lower_better", "any_medal"),
    *(f"{medal}_medal" for medal in metadata.MEDALS),
    "above_median",
    *(f"{name}_threshold" for name in (*metadata.MEDALS, "median")),
)


@dataclass
class AgainRun(Run):
    """A run that was scored, which a job is to grade again. job: that one; its end is its grade in the record."""

    job: str = ""

    @property
    def is_open(self) -> bool:
        return self.grade is None

    @property
    def grade(self) -> dict[str, Any] | None:
        """What the job has noted, None while it has not."""
        return next((one for one in grades(self) if one.get("job") == self.job), None)

    def settle(self, state: str, reason: str) -> None:
        """Note that the job ended without a grade. Raises OSError."""
        self.reread()
        if self.is_open:
            grade = {
                "job": self.job,
                "at": values.now(),
                "state": state,
                "reason": reason,
                "score": None,
                "report": None,
            }
            self.metadata["grades"] = [*grades(self), grade]
            disk.write_json(self.directory / "run_metadata.json", self.metadata)


def grades(run: Run) -> list[dict[str, Any]]:
    """All grades of a run that was scored, the first one first: job, at, state, score, report (a file's name in its folder)."""
    noted = run.metadata.get("grades")
    if isinstance(noted, list) and noted and all(isinstance(one, dict) for one in noted):
        return noted
    data = run.metadata
    return [
        {
            "job": data.get("later_job") or data.get("job_id"),
            "at": values.time_of(run.report.get("created_at")) or data.get("later_at") or data.get("ended_at"),
            "state": run.state,
            "reason": run.reason,
            "score": metadata.score_of(run.report),
            "report": FIRST,
        }
    ]


def differences(folder: Path, grade: dict[str, Any]) -> list[str]:
    """What a grade says otherwise than the first: `score 0.5 (grading_report_9.json), at first 0.75 (grading_report.json)`."""
    name = values.text(grade.get("report")) or ""
    if not name or "/" in name:
        return []
    first, again = (disk.read_json(folder / one) or {} for one in (FIRST, name))
    return [
        f"{key} {_said(again, key)} ({name}), at first {_said(first, key)} ({FIRST})"
        for key in COMPARED
        if first.get(key) != again.get(key)
    ]


def _said(report: dict[str, Any], key: str) -> str:
    if not report:
        return "can't be read"
    value = report.get(key)
    return "not known" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def outcome(run: AgainRun) -> tuple[int, str]:
    """The exit code of a regrade, and a sentence: 0 the same, 1 it differs, 3 there is none, 130 it was cancelled."""
    grade = run.grade or {"state": "lost", "reason": "its job left no word"}
    state, job = grade.get("state"), run.job
    if state not in ("scored", "invalid_submission"):
        return 130 if state == "cancelled" else 3, f"not graded again, by job {job}: {state}: {grade.get('reason')}"
    if not (found := differences(run.directory, grade)) and state == run.state:
        return 0, f"graded again at {grade.get('at')}, by job {job}: the same (score {grade.get('score')})"
    found = found or [f"state {state}, at first {run.state}"]
    kept = "; its result stays the first one"
    return 1, f"graded again at {grade.get('at')}, by job {job}: DIFFERS: {'; '.join(found)}{kept}"


def worst(codes: list[int]) -> int:
    """One exit code of several: nothing is called the same where one isn't known to be."""
    return next((code for code in (3, 130, 1) if code in codes), 0)
