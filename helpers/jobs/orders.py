"""What is graded of a run that has ended: the submission that it ended with, known by its checksum or its time; else why nothing is."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from helpers.jobs import regrade
from helpers.jobs.kinds.grading import GRADED, earlier_reason
from helpers.lib import values
from helpers.lib.errors import Refused
from helpers.lib.shell import assignments
from helpers.runs import metadata
from helpers.runs.metadata import Run

KEPT_COPY = "kept_submission.csv"  # in a run's folder, made by its job (run::_put_by)
GRADED_COPY = "graded_submission.csv"  # the same, where the agent's own was changed by then (run::_keep_report)
# of a record, what its end says
END = ("state", "reason", "cut_short", "earlier_state", "earlier_reason", "later_job", "later_at")


@dataclass(frozen=True)
class Order:
    """What is graded of a run. file: the submission, with its sha256; remark: what is to be said beside the score; again: it was scored."""

    run: Run
    file: Path
    sha256: str
    remark: str = ""
    again: bool = False

    @property
    def competition(self) -> str:
        return str(self.run.metadata.get("competition"))

    def text(self) -> str:
        """Shell assignments, as run::take_order reads them."""
        left_out = ("grades",) if self.again else END
        record = {key: value for key, value in self.run.metadata.items() if key not in left_out}
        variables = {
            "RUN": str(self.run.directory),
            "RUN_NAME": self.run.directory.name,
            "COMPETITION": self.competition,
            "ROLLOUT": str(values.count(self.run.metadata.get("rollout")) or 0),
            "EARLIER_RECORD": json.dumps(record, ensure_ascii=False),
            "EARLIER_STATE": self.run.state,
            "EARLIER_REASON": earlier_reason(self.run),
            "SUBMISSION_FILE": str(self.file),
            "SUBMISSION_SHA256": self.sha256,
            "SUBMISSION_REMARK": self.remark,
        }
        if self.again:
            variables["EARLIER_GRADES"] = json.dumps(regrade.grades(self.run), ensure_ascii=False)[1:-1]
        return assignments(variables)


DIFFS = ("artifacts/diff.patch", "kept_diff.patch")  # of a run whose task is a repository


def _refuse_repository(run: Run) -> None:
    if any((run.directory / name).is_file() for name in DIFFS):
        raise Refused(
            f"its task is a repository, whose tests run in the run's own job alone; its diff is {run.directory}/{DIFFS[0]}"
        )


def order(run: Run, most: int) -> Order:
    """What is graded of a run that ended without; most: bytes of a submission. Raises Refused with the reason why nothing is."""
    if run.is_open:
        raise Refused(f"it is still {run.state}: it is graded when its agent ends")
    _refuse_repository(run)
    if run.state in GRADED:
        raise Refused(f"it was graded already: {run.state}")
    by_itself = run.state == "timed_out" and run.metadata.get("agent_exit_code") is not None
    if run.state not in metadata.UNGRADED or by_itself:
        raise Refused(
            f"it is {run.state} ({run.reason}), which is its result: only what was lost, or cut off, is graded later"
        )
    began = values.seconds_of(run.metadata.get("agent_started_at"))
    noted = run.metadata.get("submission_sha256")
    paths = [run.directory / metadata.SUBMISSION, run.directory / KEPT_COPY]
    if began is None or not any(map(os.path.lexists, paths)):
        raise Refused("nothing was submitted" + ("" if began else ": its agent had not begun"))
    return _as_noted(run, paths, noted, most) if isinstance(noted, str) else _by_its_time(run, paths[0], began, most)


def order_again(run: Run, most: int, states: tuple[str, ...] = ("scored",)) -> Order:
    """The submission that a run was graded by. states: in which it may be. Raises Refused with the reason why it can't be graded again."""
    if isinstance(run, regrade.AgainRun) and run.is_open:
        raise Refused(f"job {run.job} grades it again just now")
    if run.is_open:
        raise Refused(f"it is still {run.state}: it is graded when its agent ends")
    _refuse_repository(run)
    if run.state not in states:
        raise Refused(f"it is {run.state} ({run.reason}): only what was scored is graded again")
    moved = Path(values.text(run.report.get("submission_path")) or "").name == GRADED_COPY
    path, noted = run.directory / (GRADED_COPY if moved else metadata.SUBMISSION), run.metadata.get("submission_sha256")
    if isinstance(noted, str):
        return replace(_as_noted(run, [path, run.directory / KEPT_COPY], noted, most), again=True)
    sha256, changed = _look(path, most)
    ended = run.metadata.get("later_at") or run.metadata.get("ended_at")
    if changed > (values.seconds_of(ended) or 0.0) + 1:
        raise Refused(
            f"{path} was changed at {_utc(changed)}, after it was graded ({ended}), and its sha256 wasn't noted"
        )
    return Order(run, path, sha256, again=True)


def _as_noted(run: Run, paths: list[Path], noted: str, most: int) -> Order:
    """The submission whose checksum the job noted at the run's end."""
    for path in filter(os.path.lexists, paths):
        if _look(path, most)[0] == noted:
            return Order(run, path, noted)
    raise Refused(f"{paths[0]} isn't what was there at the run's end (another sha256), and no copy of that is left")


def _by_its_time(run: Run, path: Path, began: float, most: int) -> Order:
    """The submission of a job that was killed before it could note one: nobody can set the time of a file's last change."""
    sha256, changed = _look(path, most)
    limit, ended = values.count(run.metadata.get("time_limit_seconds")), run.metadata.get("ended_at")
    ends = {
        "the agent's time": began + (limit or 0),
        "the run": values.seconds_of(ended) or began,
    }
    whose = min(ends, key=lambda name: ends[name])
    if changed > ends[whose] + 1:  # what it is compared with has no fractions
        raise Refused(
            f"{path} was changed at {_utc(changed)}, after the end of {whose} ({_utc(ends[whose])}): it doesn't count"
        )
    remark = f"; its job was killed before it could note what was submitted, which was last changed at {_utc(changed)}, before the end"
    return Order(run, path, sha256, remark)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _look(path: Path, most: int) -> tuple[str, float]:
    """sha256 and time of the last change of a regular file. Raises Refused."""
    try:
        if path.parent.is_symlink():
            raise Refused(f"{path.parent} is a link: refused")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                raise Refused(f"{path} is no regular file: refused")
            if seen.st_size > most:
                raise Refused(f"{path} has {seen.st_size} bytes, more than may be submitted (limits.upload_mb)")
            digest = hashlib.sha256()
            while piece := file.read(2**20):
                digest.update(piece)
        return digest.hexdigest(), seen.st_ctime
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from error
