"""The scheduler's answers, asked of stand-ins for Slurm's commands that refuse every option they don't know."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from helpers.scheduler.query import ALIVE, SCRIPT, Allocation, Job, Scheduler, SchedulerUnavailable

# Job states of Slurm 22.05 to 24.11: https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
STATES = (
    "BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING PREEMPTED "
    "RUNNING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED "
    "SUSPENDED TIMEOUT LAUNCH_FAILED GONE"
).split()

SQUEUE = """#!/usr/bin/env bash
for argument in "$@"; do
  case $argument in
    --noheader | --states=all | --all | --array | "--user=$UID" | '--format=%i|%T|%r|%M|%N') ;;
    *) echo "squeue: unrecognized option '$argument'" >&2; exit 1 ;;
  esac
done
echo squeue >>"$FAKE/calls"
if [[ -f $FAKE/down ]]; then
  echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2
  exit 1
fi
cat "$FAKE/queue"
"""
SACCT = """#!/usr/bin/env bash
ids=''
for argument in "$@"; do
  case $argument in
    -X | --noheader | --parsable2 | --format=jobid,state,elapsed,nodelist) ;;
    --jobs=*) ids=${argument#--jobs=} ;;
    *) echo "sacct: unrecognized option '$argument'" >&2; exit 1 ;;
  esac
done
echo "sacct $ids" >>"$FAKE/calls"
[[ -f $FAKE/history ]] || { echo 'Slurm accounting storage is disabled' >&2; exit 1; }
for id in ${ids//,/ }; do grep "^$id|" "$FAKE/history"; done
true
"""
SCANCEL = """#!/usr/bin/env bash
for argument in "$@"; do
  case $argument in
    --quiet | --batch | --signal=* | [0-9]*) ;;
    *) echo "scancel: unrecognized option '$argument'" >&2; exit 1 ;;
  esac
done
echo "scancel $*" >>"$FAKE/calls"
cut -d' ' -f6 /proc/$$/stat >"$FAKE/session"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Slurm's commands first on PATH; queue and history hold the lines that squeue and sacct know."""
    for name, text in (("squeue", SQUEUE), ("sacct", SACCT), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").touch()
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def calls(fake: Path) -> list[str]:
    return (fake / "calls").read_text().splitlines() if (fake / "calls").exists() else []


@pytest.fixture
def slurm(fake: Path) -> Scheduler:
    return Scheduler("slurm", str(fake))


def test_a_scheduler_that_does_not_answer_says_nothing_about_jobs(fake: Path, slurm: Scheduler) -> None:
    (fake / "down").touch()
    (fake / "history").write_text("7|COMPLETED|00:00:02|n1\n")
    with pytest.raises(SchedulerUnavailable):
        slurm.states(["7"])


def test_without_squeue_nothing_is_known(fake: Path, slurm: Scheduler) -> None:
    (fake / "squeue").write_text("#!/bin/sh\nexec no-such-command\n")
    with pytest.raises(SchedulerUnavailable):
        slurm.states(["7"])


def test_one_question_for_all_jobs(fake: Path, slurm: Scheduler) -> None:
    (fake / "queue").write_text("7|PENDING|Resources|0:00|\n8|RUNNING|None|1:02|gpu1\n")
    assert slurm.states(["7", "8"]) == {
        "7": Job("7", "PENDING", "Resources", "0:00", ""),
        "8": Job("8", "RUNNING", "None", "1:02", "gpu1"),
    }
    assert calls(fake) == ["squeue"]


def test_twelve_thousand_elements_are_one_question(fake: Path, slurm: Scheduler) -> None:
    """Of arrays of 1,000, half of whose elements squeue has forgotten."""
    ids = [f"{array}_{index}" for array in range(101, 113) for index in range(1000)]
    (fake / "queue").write_text("".join(f"{one}|RUNNING|None|1:02|gpu1\n" for one in ids[::2]))
    states = slurm.states(ids)
    assert list(states) == [*ids[::2], *ids[1::2]] and {states[one].state for one in ids[::2]} == {"RUNNING"}
    assert {states[one].state for one in ids[1::2]} == {"GONE"}
    assert calls(fake) == ["squeue", f"sacct {','.join(map(str, range(101, 113)))}"]


def test_no_jobs_no_question(fake: Path, slurm: Scheduler) -> None:
    assert slurm.states([]) == {}
    slurm.cancel([])
    slurm.dismiss([])
    assert calls(fake) == []


def test_a_reason_with_a_comma_stays_whole(fake: Path, slurm: Scheduler) -> None:
    (fake / "queue").write_text("7|PENDING|ReqNodeNotAvail, UnavailableNodes:n[1-2]|0:00|\n")
    assert slurm.states(["7"])["7"].reason == "ReqNodeNotAvail, UnavailableNodes:n[1-2]"


def test_the_accounting_knows_what_squeue_forgot(fake: Path, slurm: Scheduler) -> None:
    (fake / "queue").write_text("8|RUNNING|None|1:02|gpu1\n")
    (fake / "history").write_text("7|CANCELLED by 1000|00:00:02|n1\n")
    states = slurm.states(["7", "8", "9"])
    assert states["7"] == Job("7", "CANCELLED", "", "00:00:02", "n1")
    assert states["8"].state == "RUNNING"
    assert states["9"].state == "GONE"
    assert calls(fake) == ["squeue", "sacct 7,9"]


def test_without_accounting_a_forgotten_job_is_gone(fake: Path, slurm: Scheduler) -> None:
    assert slurm.states(["7"]) == {"7": Job("7", "GONE")}
    assert not slurm.states(["7"])["7"].alive


def test_cancel_names_all_jobs_in_one_call(fake: Path, slurm: Scheduler) -> None:
    slurm.cancel(["7", "8"])
    assert calls(fake) == ["scancel --quiet 7 8"]


def test_dismiss_signals_the_batch_script_alone(fake: Path, slurm: Scheduler) -> None:
    slurm.dismiss(["7", "8"])
    assert calls(fake) == ["scancel --quiet --batch --signal=USR1 7", "scancel --quiet --batch --signal=USR1 8"]


def test_a_ctrl_c_meant_for_us_does_not_reach_a_cancellation(fake: Path, slurm: Scheduler) -> None:
    slurm.cancel(["7"])
    assert int((fake / "session").read_text()) != os.getsid(0)


def test_the_fakes_refuse_what_they_do_not_know(fake: Path) -> None:
    for name in ("squeue", "sacct", "scancel"):
        assert subprocess.run([fake / name, "--frobnicate"], capture_output=True).returncode == 1


def test_the_local_twin_keeps_its_jobs_beside_the_addresses(tmp_path: Path) -> None:
    job = tmp_path / "local_jobs" / "3"
    job.mkdir(parents=True)
    (job / "state").write_text("COMPLETED\n")
    states = Scheduler("local", str(tmp_path)).states(["3", "4"])
    assert (states["3"].state, states["4"].state) == ("COMPLETED", "GONE")


def test_the_local_twin_tells_of_elements_and_takes_their_cancellation(tmp_path: Path) -> None:
    """An array whose runner lives (it ignores the signal that ends it) and has begun with one of its thousand elements."""
    jobs = tmp_path / "local_jobs"
    (jobs / "3").mkdir(parents=True)
    (jobs / "3_0").mkdir()
    (jobs / "3" / "elements").write_text("1000\n")
    (jobs / "3" / "state").write_text("RUNNING\n")
    for name, text in {"state": "COMPLETED", "started": "100", "ended": "107"}.items():
        (jobs / "3_0" / name).write_text(f"{text}\n")
    twin = Scheduler("local", str(tmp_path))
    with subprocess.Popen(["bash", "-c", "trap '' TERM; echo; read"], stdin=-1, stdout=-1) as runner:
        assert runner.stdin and runner.stdout and runner.stdout.readline()
        birth = Path(f"/proc/{runner.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        (jobs / "3" / "pid").write_text(f"{runner.pid} {birth}\n")
        ids = [f"3_{index}" for index in range(1001)]
        twin.cancel(["3_5"])
        states = twin.states(["3", *ids])
        assert (states["3"].state, states["3"].reason) == ("PENDING", "JobArrayTaskLimit")
        assert [states[job].state for job in ids] == [
            "COMPLETED", *["PENDING"] * 4, "CANCELLED", *["PENDING"] * 994, "GONE"
        ]  # fmt: skip
        assert states["3_0"].elapsed == "7" and not states["3_5"].alive
        assert twin.accounting(["3"]) == twin.accounting(["3_0", "3_1"]) == {"3_0": Allocation(100.0, 7.0, None, None)}
        twin.cancel(["3"])
        assert {job.state for job in twin.states(ids[1:1000]).values()} == {"CANCELLED"}
        runner.stdin.close()


def test_python_and_shell_agree_on_who_is_alive() -> None:
    check = 'source "$1"; shift; for state; do if sched::is_alive "$state"; then echo "$state"; fi; done'
    answer = subprocess.run(
        ["bash", "-c", check, "-", str(SCRIPT), *STATES], capture_output=True, text=True, check=True
    )
    assert set(answer.stdout.split()) == ALIVE & set(STATES)
    assert set(STATES) >= ALIVE
    assert {"PENDING", "RUNNING"} <= ALIVE and not {"GONE", "COMPLETED", "NODE_FAIL", "PREEMPTED"} & ALIVE


# ---- the accounting

ACCOUNTING = """#!/usr/bin/env bash
echo "sacct $*" >>"$FAKE/calls"
case "$*" in
  '-X --noheader --parsable2 --jobs='*' --format=jobid,start,elapsedraw,alloccpus,alloctres') cat "$FAKE/history" ;;
  *) echo "sacct: unrecognized options $*" >&2; exit 1 ;;
esac
"""


def test_what_jobs_were_allocated(fake: Path, slurm: Scheduler) -> None:
    (fake / "sacct").write_text(ACCOUNTING)
    (fake / "history").write_text(
        "7|1767225600|61|8|billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=32G,node=1\n"
        "8_1|1767225600|5|1|billing=1,cpu=1,mem=1G,node=1\n"
        "9|None|0|0|\n"
    )
    assert slurm.accounting(["7", "8_1", "8_2", "9"]) == {
        "7": Allocation(1767225600.0, 61.0, 8.0, 2.0),
        "8_1": Allocation(1767225600.0, 5.0, 1.0, None),
        "9": Allocation(None, 0.0, 0.0, None),
    }
    assert [call.split()[4] for call in calls(fake)] == ["--jobs=7,8,9"]
    assert slurm.accounting([]) == {}


def test_no_accounting_is_not_no_cost(fake: Path, slurm: Scheduler) -> None:
    (fake / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    with pytest.raises(SchedulerUnavailable, match="storage is disabled"):
        slurm.accounting(["7"])
