from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.jobs import orders
from helpers.jobs.kinds.grading import LaterRun
from helpers.jobs.regrade import AgainRun
from helpers.lib import disk, values
from helpers.lib.errors import Refused
from helpers.runs import metadata
from helpers.runs.metadata import Run

NOW = "2026-01-02T03:04:05Z"
SUM = hashlib.sha256(b"id,1\n").hexdigest()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose job was killed while its agent had time left, with a submission that was there by then."""
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "submission.csv").write_text("id,1\n")
    ended = values.now()
    data = {"state": "lost", "reason": "node", "agent_started_at": NOW, "time_limit_seconds": 10**9, "ended_at": ended}
    return Run(tmp_path, data)


def refused(run: Run, **changed: Any) -> str:
    run.metadata |= changed
    with pytest.raises(Refused) as why:
        orders.order(run, 100)
    return str(why.value)


def test_what_was_there_at_the_end_is_known_by_its_checksum_wherever_it_lies(run: Run) -> None:
    run.metadata["submission_sha256"] = SUM
    here, copy = run.directory / "submission" / "submission.csv", run.directory / "kept_submission.csv"
    assert orders.order(run, 100) == orders.Order(run, here, SUM, "")
    copy.write_text("id,1\n")
    here.write_text("id,2\n")
    assert orders.order(run, 100).file == copy
    here.unlink()
    assert orders.order(run, 100).file == copy
    copy.write_text("id,2\n")
    assert "isn't what was there at the run's end (another sha256)" in refused(run)


def test_without_a_checksum_the_time_of_the_last_change_decides_and_is_told(run: Run) -> None:
    found = orders.order(run, 100)
    said = "killed before it could note what was submitted, which was last changed at 20"
    assert found.sha256 == SUM and said in found.remark
    os.utime(run.directory / "submission" / "submission.csv", (0, 0))  # anybody can set this one
    end = "2026-01-02T03:04:06Z"
    assert f"after the end of the run ({end}): it doesn't count" in refused(run, ended_at=end)
    run.metadata["ended_at"] = "2099-01-01T00:00:00Z"
    assert "after the end of the agent's time (2026-01-02T03:05:05Z)" in refused(run, time_limit_seconds=60)
    # a copy beside it proves nothing
    (run.directory / "kept_submission.csv").write_text("id,1\n")
    assert "after the end of the agent's time" in refused(run)


def test_what_is_not_graded(run: Run) -> None:
    assert refused(run, state="running") == "it is still running: it is graded when its agent ends"
    assert refused(run, state="invalid_submission") == "it was graded already: invalid_submission"
    assert "it is cancelled (node), which is its result" in refused(run, state="cancelled")
    assert "it is timed_out (node), which is its result" in refused(run, state="timed_out", agent_exit_code=0)
    assert orders.order(Run(run.directory, run.metadata | {"agent_exit_code": None}), 100)
    assert refused(run, state="lost", agent_started_at=None) == "nothing was submitted: its agent had not begun"


def test_what_lies_there_may_be_anything(run: Run) -> None:
    path = run.directory / "submission" / "submission.csv"
    path.write_text("x" * 101)
    assert "has 101 bytes, more than may be submitted" in refused(run)
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert "can't be read: Too many levels of symbolic links" in refused(run)
    path.unlink()
    assert refused(run) == "nothing was submitted"
    os.mkfifo(path)
    assert "is no regular file: refused" in refused(run)
    path.unlink()
    path.parent.rmdir()
    (run.directory / "else").mkdir()
    (run.directory / "else" / "submission.csv").write_text("id,1\n")
    path.parent.symlink_to("else")
    assert "is a link: refused" in refused(run)


def test_an_order_is_read_by_a_shell_as_it_was_written(run: Run) -> None:
    said = f"said 'no'\n`{metadata.KEPT}{run.directory}"
    run.metadata |= {"competition": "it's $(odd)", "reason": said, "note": 'a "b" \\ ü'}
    names = '"$COMPETITION" "$EARLIER_STATE" "$EARLIER_REASON" "$SUBMISSION_SHA256" "$EARLIER_RECORD"'
    command = ["bash", "-c", f'. /dev/stdin; printf "%s|" {names}']
    told = subprocess.run(command, input=orders.order(run, 100).text(), capture_output=True, text=True)
    assert told.stdout.startswith(f"it's $(odd)|lost|said 'no'\n`|{SUM}|") and not told.stderr
    assert '"note": "a \\"b\\" \\\\ ü"' in told.stdout and '"state"' not in told.stdout


def test_a_grading_that_came_to_nothing_leaves_the_end_and_its_reason(run: Run) -> None:
    path, kept = run.directory / "run_metadata.json", f"{metadata.KEPT}{run.directory}"
    disk.write_json(path, run.metadata | {"reason": f"node{kept}"})
    for job in ("7", "8"):
        one = LaterRun(run.directory, job=job)
        one.reread()
        assert one.is_open
        one.settle("cancelled", f"job {job} was cancelled")
        assert not one.is_open and one.state == "lost"
        assert one.reason == f"node; not graded later either, by job {job}: job {job} was cancelled{kept}"
    disk.write_json(path, run.metadata | {"state": "scored", "reason": "graded"})
    one = LaterRun(run.directory, job="9")
    one.settle("lost", "its job is gone")
    assert one.metadata["reason"] == "graded" and not one.is_open


def test_what_was_scored_is_graded_again_by_what_it_was_scored_by(run: Run) -> None:
    def again() -> orders.Order:
        return orders.order_again(Run(run.directory, run.metadata), 100)

    def why(**changed: Any) -> str:
        with pytest.raises(Refused) as refusal:
            orders.order_again(Run(run.directory, run.metadata | changed), 100)
        return str(refusal.value)

    run.metadata |= {"state": "scored", "reason": "graded", "submission_sha256": SUM}
    path, moved = run.directory / "submission" / "submission.csv", run.directory / "graded_submission.csv"
    disk.write_json(run.directory / "grading_report.json", {"total_score": 1.0, "submission_path": str(path)})
    assert again() == orders.Order(Run(run.directory, run.metadata), path, SUM, again=True)
    assert why(state="running") == "it is still running: it is graded when its agent ends"
    assert why(state="lost") == "it is lost (graded): only what was scored is graded again"
    assert why(submission_sha256="0") == (
        f"{path} isn't what was there at the run's end (another sha256), and no copy of that is left"
    )
    with pytest.raises(Refused, match="^job 9 grades it again just now$"):
        orders.order_again(AgainRun(run.directory, run.metadata, job="9"), 100)
    # of older records: what nobody has changed since
    assert "was changed at 20" in why(submission_sha256=None, ended_at=NOW)
    assert f"after it was graded ({NOW}), and its sha256 wasn't noted" in why(submission_sha256=None, later_at=NOW)
    run.metadata |= {"submission_sha256": None}
    assert again().sha256 == SUM
    # whose agent wrote on
    disk.write_json(
        run.directory / "grading_report.json", {"total_score": 1.0, "submission_path": f"/old/{moved.name}"}
    )
    assert "graded_submission.csv can't be read: No such file or directory" in why()
    moved.write_text("id,1\n")
    run.metadata["ended_at"] = "2099-01-01T00:00:00Z"
    assert again().file == moved


def test_a_regrade_carries_the_grades_that_there_are(run: Run) -> None:
    run.metadata |= {"state": "scored", "job_id": "2", "grades": [{"job": "2"}, {"job": "4"}], "submission_sha256": SUM}
    disk.write_json(run.directory / "grading_report.json", {"total_score": 1.0})
    command = ["bash", "-c", '. /dev/stdin; printf "%s|%s" "$EARLIER_GRADES" "$EARLIER_RECORD"']
    text = orders.order_again(run, 100).text()
    grades, _, record = subprocess.run(command, input=text, capture_output=True, text=True).stdout.partition("|")
    assert grades == '{"job": "2"}, {"job": "4"}'
    assert '"state": "scored"' in record and "grades" not in record
