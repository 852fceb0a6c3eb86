"""The run directory: workflow.json of a workflow, run_metadata.json of each run in it; reading, settling, writing."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.lib import disk, values
from helpers.runs import cells
from helpers.scheduler.query import Job

SUBMISSION = "submission/submission.csv"  # in a run's folder
MOST_LOOKED_AT = 1000  # workflows, the newest first, to find the last one on a task
OPEN_STATES = ("waiting", "running")
UNGRADED = ("lost", "timed_out")  # may have submitted something; `jobs.sh grade` tells
KEPT = "; the submission is kept: scripts_hpc/jobs.sh grade "  # as scripts_hpc/lib/run.sh says it
FAILED = ("invalid_submission", "no_submission", "agent_failed", "timed_out")  # the agent's own, without a score
# Each end state with what to do about it; `lost` is the infrastructure's fault and never counts as a zero.
END_STATES = {
    "scored": "done",
    "invalid_submission": "a result: the agent's last submission can't be graded",
    "no_submission": "a result: the agent ended without a submission",
    "agent_failed": "read the agent's log; run again once its cause is mended",
    "timed_out": "raise --time-limit, or take it as a result",
    "cancelled": "run again when wanted",
    "lost": "run again: the infrastructure failed, not the agent",
}


def run_name(competition: str, job: str) -> str:
    """The folder of a run: <competition>_<job>; the slash of BioML-bench's ids becomes a dash."""
    return f"{competition.replace('/', '-')}_{job}"


def score_of(report: dict[str, Any]) -> float | None:
    """The finite score in a grading report, or None."""
    return values.number(report.get("total_score") if "total_score" in report else report.get("score"))


def judged(state: str, report: dict[str, Any]) -> tuple[str, str | None]:
    """A run's end state in the light of its grading report, and a reason where that is another one: nothing is scored without a score."""
    if state != "scored" or not report or score_of(report) is not None:
        return state, None
    note = values.text(report.get("note"))
    return "invalid_submission", note or "the grader gave it no finite score: see grading_report.json"


@dataclass
class Run:
    """One agent on one competition. directory: <workflow>/<competition>_<jobid>; metadata: its run_metadata.json."""

    directory: Path
    metadata: dict[str, Any] = field(default_factory=dict)
    _report: dict[str, Any] | None = field(default=None, repr=False, compare=False)  # as read with these metadata

    @property
    def state(self) -> str:
        return self._judged[0]

    @property
    def reason(self) -> str:
        return self._judged[1] or str(self.metadata.get("reason") or "")

    @property
    def _judged(self) -> tuple[str, str | None]:
        said = str(self.metadata.get("state", "waiting"))
        return judged(said, self.report) if said == "scored" else (said, None)

    @property
    def job_id(self) -> str:
        return values.text(self.metadata.get("job_id")) or ""

    @property
    def is_open(self) -> bool:
        return self.metadata.get("state", "waiting") in OPEN_STATES

    @property
    def report(self) -> dict[str, Any]:
        """The grading report, empty while there is none."""
        if self._report is None:
            self._report = disk.read_json(self.directory / "grading_report.json") or {}
        return self._report

    def reread(self) -> None:
        with contextlib.suppress(OSError):
            os.listdir(self.directory)  # makes a network file system look again
        self.metadata, self._report = disk.read_json(self.directory / "run_metadata.json") or self.metadata, None

    def settle(self, state: str, reason: str) -> None:
        """Give the run its end state, for a job that could not do so itself; one that it has got by now stays. Raises OSError."""
        self.reread()
        if self.is_open:
            submitted = self.metadata.get("agent_started_at") and (self.directory / SUBMISSION).is_file()
            reason += f"{KEPT}{self.directory}" if state in UNGRADED and submitted else ""
            self.metadata |= {"state": state, "reason": reason, "ended_at": values.now()}
            disk.write_json(self.directory / "run_metadata.json", self.metadata)


def runs_of(workflow: Path) -> list[Run]:
    """The runs of a workflow's directory, in the order of their job numbers."""
    found = [Run(path.parent, disk.read_json(path) or {}) for path in workflow.glob("*/run_metadata.json")]
    return sorted(found, key=lambda run: (len(run.job_id), run.job_id))


MEDALS = ("gold", "silver", "bronze")


def write_aggregate(group: Path, found: list[Run] | None = None) -> bool:
    """Write mle-bench's aggregate report over all runs of a workflow, once all have ended; False: some have not. Raises OSError.

    total_score is the mean score of the scored ones: with one rollout, its score. found: its runs, where they were read just now.
    """
    found = runs_of(group) if found is None else found
    if not found or any(run.is_open for run in found):
        return False
    aggregate = _aggregate(found)
    if disk.read_json(group / "grading_report.json") != aggregate:
        disk.write_json(group / "grading_report.json", aggregate)
    return True


def tell_aggregate(group: Path, found: list[Run] | None = None) -> None:
    """Write the aggregate report where it is due; a disk that is full is told, and ends nothing."""
    try:
        write_aggregate(group, found)
    except OSError as error:
        print(f"can't write {group}/grading_report.json: {error.strerror}", file=sys.stderr)


def _aggregate(found: list[Run]) -> dict[str, Any]:
    """https://github.com/openai/mle-bench: the fields of mlebench/grade.py, then this project's."""
    reports = [_competition_report(run) for run in found if run.state not in ("lost", "cancelled")]

    def total(key: str) -> int:
        return sum(report.get(key) is True for report in reports)

    scores = [score for run in found if run.state == "scored" and (score := score_of(run.report)) is not None]
    return {
        "total_runs": len(found),
        "total_runs_with_submissions": total("submission_exists"),
        "total_valid_submissions": total("valid_submission"),
        "total_medals": total("any_medal"),
        **{f"total_{medal}_medals": total(f"{medal}_medal") for medal in MEDALS},
        "total_above_median": total("above_median"),
        "competition_reports": reports,
        "total_score": sum(scores) / len(scores) if scores else None,
        "states": {run.directory.name: run.state for run in found},
    }


def _competition_report(run: Run) -> dict[str, Any]:
    if report := run.report:
        return {"run_id": run.directory.name, **report}
    unknown = ("score", "total_score", "any_medal", *(f"{medal}_medal" for medal in MEDALS), "above_median")
    return {
        "run_id": run.directory.name,
        "competition_id": run.metadata.get("competition"),
        **dict.fromkeys(unknown),
        "submission_exists": (run.directory / "submission" / "submission.csv").is_file(),
        "valid_submission": False,
        "note": run.reason,
    }


def latest_data(folder: Path, competition: str) -> tuple[str, str] | None:
    """The newest workflow in a folder of runs on a competition that tells its data: its name, and their fingerprint."""
    try:
        names = sorted((name for name in os.listdir(folder) if "_run-group_" in name), reverse=True)
    except OSError:
        return None
    for name in names[:MOST_LOOKED_AT]:
        for cell in cells.cells(disk.read_json(folder / name / "workflow.json") or {}):
            data = cell.get("data_fingerprint")
            if cell.get("competition") == competition and isinstance(data, str):
                return name, data
    return None


def verdict(job: Job, metadata: dict[str, Any]) -> tuple[str, str] | None:
    """State and reason of a run whose job ended without writing either; None while the job lives. metadata: what the job wrote.

    The scheduler's word counts; where it has none, that the job was asked to end.
    Slurm's words: https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
    """
    if job.alive:
        return None
    word = (job.state.split() or ["GONE"])[0]
    asked = metadata.get("asked_to_end") is True
    if word == "CANCELLED" or (asked and word in ("GONE", "FAILED", "COMPLETED")):
        return "cancelled", f"job {job.id} was cancelled"
    if word in ("TIMEOUT", "DEADLINE"):
        if metadata.get("state", "waiting") == "waiting":
            return "lost", f"job {job.id} reached its time limit while it waited for its servers"
        return "timed_out", f"job {job.id} was ended by the scheduler at its time limit"
    if word == "OUT_OF_MEMORY":
        return "agent_failed", f"job {job.id} needed more memory than jobs.agent.memory_gb"
    said = "the scheduler no longer knows it" if word == "GONE" else f"the scheduler says {word}"
    return "lost", f"job {job.id} ended without a result ({said}): see its log"
