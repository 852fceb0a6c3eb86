"""The run directory: workflow.json of a workflow, run_metadata.json of each run in it; reading, settling, writing."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helpers.scheduler import Job

MOST_LOOKED_AT = 1000  # workflows, the newest first, to find the last one on a task
OPEN_STATES = ("waiting", "running")
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


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old text or the new, never a part; raises OSError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)  # the temporary one means nothing to a person
        raise
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)  # a full disk doesn't say where
        raise


def read_file(path: str | Path, limit: int = 16 * 2**20) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    A link is not followed and a pipe not waited on: an agent could lay either. Raises OSError, or ValueError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    return data


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a regular file, or None where it is missing, a link, broken, or no object."""
    try:
        data = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


@dataclass
class Run:
    """One agent on one competition. directory: <workflow>/<competition>_<jobid>; metadata: its run_metadata.json."""

    directory: Path
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return str(self.metadata.get("state", "waiting"))

    @property
    def job_id(self) -> str:
        return str(self.metadata.get("job_id") or self.directory.name.rpartition("_")[2])

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def report(self) -> dict[str, Any]:
        """The grading report, empty while there is none."""
        return read_json(self.directory / "grading_report.json") or {}

    def reread(self) -> None:
        self.metadata = read_json(self.directory / "run_metadata.json") or self.metadata

    def settle(self, state: str, reason: str) -> None:
        """Give the run its end state, for a job that could not do so itself."""
        self.metadata |= {"state": state, "reason": reason, "ended_at": now()}
        write_json(self.directory / "run_metadata.json", self.metadata)


def runs_of(workflow: Path) -> list[Run]:
    """The runs of a workflow's directory, in the order of their job numbers."""
    found = [Run(path.parent) for path in workflow.glob("*/run_metadata.json")]
    for run in found:
        run.reread()
    return sorted(found, key=lambda run: (len(run.job_id), run.job_id))


def latest_data(folder: Path, competition: str) -> tuple[str, str] | None:
    """The newest workflow in a folder of runs on a competition that tells its data: its name, and their fingerprint."""
    try:
        names = sorted((name for name in os.listdir(folder) if "_run-group_" in name), reverse=True)
    except OSError:
        return None
    for name in names[:MOST_LOOKED_AT]:
        record = read_json(folder / name / "workflow.json") or {}
        data = record.get("data_fingerprint")
        if record.get("competition") == competition and isinstance(data, str):
            return name, data
    return None


def verdict(job: Job) -> tuple[str, str] | None:
    """State and reason of a run whose job ended without writing either; None while the job lives.

    Slurm's words: https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
    """
    if job.alive:
        return None
    word = (job.state.split() or ["GONE"])[0]
    if word == "CANCELLED":
        return "cancelled", f"job {job.id} was cancelled"
    if word in ("TIMEOUT", "DEADLINE"):
        return "timed_out", f"job {job.id} was ended by the scheduler at its time limit"
    if word == "OUT_OF_MEMORY":
        return "agent_failed", f"job {job.id} needed more memory than jobs.agent.memory_gb"
    said = "the scheduler no longer knows it" if word == "GONE" else f"the scheduler says {word}"
    return "lost", f"job {job.id} ended without a result ({said}): see its log"


def job_ids(workflow: dict[str, Any]) -> list[str]:
    """All job ids of a workflow, servers first."""
    jobs = workflow.get("jobs", {})
    servers = [jobs.get("grading_server"), jobs.get("model_server"), jobs.get("feedback_server")]
    return [str(one) for one in servers if one] + [str(one) for one in jobs.get("agents", [])]
