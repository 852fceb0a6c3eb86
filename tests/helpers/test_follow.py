"""Jobs are followed to their end: what a scheduler says once, what it doesn't say, and what signals mean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.config.asked import AskedSite
from helpers.jobs import cli, fleet, follow
from helpers.jobs.fleet import Fleet, noted, submitted
from helpers.jobs.kinds.workflow import Workflow
from helpers.jobs.watch import Watch, watch
from helpers.lib import disk
from helpers.runs import metadata as metadata_module
from helpers.scheduler import query
from helpers.scheduler.query import Scheduler, SchedulerUnavailable

ROOT = Path(__file__).resolve().parents[2]
SQUEUE = """#!/usr/bin/env bash
echo "squeue $*" >>"$FAKE/calls"
[[ "$*" == "--noheader --states=all --array --all --user=$UID --format=%i|%T|%r|%M|%N" ]] ||
  { echo "squeue: unrecognized options $*" >&2; exit 1; }
number=$(($(cat "$FAKE/number" 2>/dev/null || echo 0) + 1))
echo $number >"$FAKE/number"
[[ -f $FAKE/answer.$number ]] || number=last
case $(<"$FAKE/answer.$number") in
  hangs) sleep 600 ;;
  down) echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1 ;;
  *) cat "$FAKE/answer.$number" ;;
esac
"""
SCANCEL = """#!/usr/bin/env bash
echo "scancel $*" >>"$FAKE/calls"
[[ $* != *--signal=USR1* ]] || exit 0
sed -i -E 's/[|](RUNNING|PENDING)[|]/|CANCELLED|/' "$FAKE/answer.last"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Slurm's commands first on PATH; answer.N is what the Nth squeue says, answer.last all others."""
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 0.05)
    monkeypatch.setitem(follow.POLL_SECONDS, "slurm", 0.06)
    monkeypatch.setattr(follow, "PRESS_SECONDS", 0.0)
    return tmp_path


def answers(slurm: Path, last: str, **others: str) -> None:
    (slurm / "answer.last").write_text(last)
    for number, text in others.items():
        (slurm / f"answer.{number[1:]}").write_text(text)


def line(job: str, state: str) -> str:
    return f"{job}|{state}|None|0:01|n1\n"


def calls(slurm: Path, name: str = "squeue") -> int:
    path = slurm / "calls"
    return sum(line.startswith(name) for line in path.read_text().splitlines()) if path.exists() else 0


def group(slurm: Path, state: str = "running", **metadata: Any) -> Path:
    folder = slurm / "g_run-group_a"
    (folder / "toy_13").mkdir(parents=True)
    record = {
        "competition": "toy",
        "agent": "a",
        "model": None,
        "seed": 0,
        "cleanup": "off",
        "config": {
            "scheduler": {"kind": "slurm"},
            "paths": {"address_dir": str(slurm)},
            "container": {"runtime": "none"},
            "jobs": {"agent": {"cpus": 1}},
        },
        "jobs": {"agents": ["13"]},
    }
    (folder / "workflow.json").write_text(json.dumps(record))
    tell(folder, state, **metadata)
    return folder


def tell(folder: Path, state: str, **metadata: Any) -> None:
    data = {"state": state, "job_id": "13", "competition": "toy", "agent": "a", "seed": 0, **metadata}
    disk.write_json(folder / "toy_13" / "run_metadata.json", data)


def state_of(folder: Path) -> str:
    return metadata_module.runs_of(folder)[0].state


# ---- the note


def test_the_note_is_read_past_whatever_is_no_line_of_it(tmp_path: Path) -> None:
    assert submitted(tmp_path) == []
    (tmp_path / "jobs").mkdir()
    note = "model_server=12\nWelcome to the cluster!\n=7\nagent=13 \nagent=x\nprepare=14_3\n\xff\nagent=15\nagent=1"
    (tmp_path / "jobs" / "submitted").write_bytes(note.encode("latin-1"))
    assert submitted(tmp_path) == [("model_server", "12"), ("prepare", "14_3"), ("agent", "15")]


def test_an_array_is_noted_with_its_elements_and_a_job_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    note = "agent=7_[0-2] agent_1.sh 0 5 3 auto:5 ''\nagent=8 agent.sh 0 8 \\\nagent=9_[0-0]\n"
    (tmp_path / "jobs" / "submitted").write_text(note)
    one, other, last = noted(tmp_path)
    assert one.jobs == ["7_0", "7_1", "7_2"] and one.command == ["agent_1.sh", "0", "5", "3", "auto:5", ""]
    assert (other.jobs, other.command, last.jobs) == (["8"], [], ["9_0"])
    assert submitted(tmp_path) == [("agent", "7"), ("agent", "8"), ("agent", "9")]


# ---- doubt


def test_one_answer_without_a_living_job_settles_nothing(slurm: Path) -> None:
    answers(slurm, line("13", "COMPLETED"), n1=line("13", "RUNNING"), n2="", n3=line("13", "RUNNING"))
    folder = group(slurm)
    one = Watch(folder)
    for _ in range(3):
        assert one.look() and state_of(folder) == "running"
    assert calls(slurm) == 3
    one.look()
    time.sleep(0.06)
    assert not one.look() and state_of(folder) == "lost"
    assert calls(slurm) == 5


def test_two_answers_at_once_are_one(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 3600.0)
    answers(slurm, "")
    one = Fleet(Scheduler("slurm", str(slurm)))
    one.look(["13"])
    one.look(["13"])
    assert one.gone("13") is None


def test_a_scheduler_that_is_down_gives_no_second_look(slurm: Path) -> None:
    answers(slurm, "down", n1="")
    one = Fleet(Scheduler("slurm", str(slurm)))
    one.look(["13"])
    time.sleep(0.06)
    with pytest.raises(SchedulerUnavailable):
        one.look(["13"])
    assert one.gone("13") is None and "Unable to contact" in one.silence


def test_what_is_followed_are_jobs_not_folders(slurm: Path) -> None:
    answers(slurm, line("13", "RUNNING"))
    folder = group(slurm)
    hidden = slurm / "hidden"
    (folder / "toy_13").rename(hidden)
    one = Watch(folder)
    assert one.look() and calls(slurm, "scancel") == 0
    hidden.rename(folder / "toy_13")
    tell(folder, "scored")
    assert not one.look()


def test_a_job_that_died_without_a_folder_is_lost_and_no_success(slurm: Path, capsys: Any) -> None:
    answers(slurm, line("13", "NODE_FAIL"))
    folder = group(slurm)
    (folder / "toy_13" / "run_metadata.json").unlink()
    (folder / "toy_13").rmdir()
    assert follow.follow(Watch(folder)) == 3
    assert state_of(folder) == "lost" and "lost: job 13" in capsys.readouterr().out


def test_an_end_state_is_never_overwritten_from_a_stale_view(slurm: Path) -> None:
    folder = group(slurm)
    (stale,) = metadata_module.runs_of(folder)
    tell(folder, "scored")
    stale.settle("lost", "late")
    assert state_of(folder) == "scored" and stale.state == "scored"


def test_rows_and_exit_code_come_from_one_look(slurm: Path, capsys: Any) -> None:
    answers(slurm, line("13", "NODE_FAIL"))
    folder = group(slurm)
    one = Watch(folder)
    one.look()
    time.sleep(0.06)
    one.look()
    assert state_of(folder) == "lost"
    # its node was only slow: the agent ends well while the watcher does
    tell(folder, "scored", reason="graded")
    disk.write_json(folder / "toy_13" / "grading_report.json", {"total_score": 0.93, "score": 0.93})
    assert one.tell() == 0
    assert "score 0.93" in capsys.readouterr().out


# ---- a scheduler that hangs


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "CALL_SECONDS", 0.5)


@pytest.mark.usefixtures("short")
def test_a_scheduler_that_hangs_is_not_waited_for(slurm: Path) -> None:
    answers(slurm, "hangs")
    one = Fleet(Scheduler("slurm", str(slurm)))
    with pytest.raises(SchedulerUnavailable, match="no answer within 0.5 s"):
        one.look(["13"])
    assert not hanging(slurm)


def hanging(slurm: Path) -> list[str]:
    """What still runs of Slurm's commands; what was killed may take a moment to be gone."""
    until = time.monotonic() + 5
    while (found := _hanging(slurm)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def _hanging(slurm: Path) -> list[str]:
    found = subprocess.run(
        ["grep", "-lzxFs", f"FAKE={slurm}", *Path("/proc").glob("[0-9]*/environ")], capture_output=True, text=True
    )
    return [path for path in found.stdout.split() if f"/{os.getpid()}/" not in path]


@pytest.mark.usefixtures("short")
def test_a_scheduler_that_hangs_while_jobs_are_ended(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "END_SECONDS", 0.2)
    answers(slurm, "hangs")
    one = Fleet(Scheduler("slurm", str(slurm)))
    assert one.cancel(["13"]) == ["13"]
    assert calls(slurm, "scancel") == 1


# ---- signals, to a watcher of its own

START = """
import sys
from pathlib import Path
from helpers.jobs import fleet, follow
fleet.DOUBT_SECONDS, follow.PRESS_SECONDS = 0.05, 0.0
from helpers.jobs.watch import watch
sys.exit(watch(Path(sys.argv[1]), False, print))
"""


@pytest.fixture
def watching(slurm: Path) -> Callable[[Path], subprocess.Popen[str]]:
    def start(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until = time.monotonic() + 30
        while not calls(slurm) and time.monotonic() < until:
            time.sleep(0.02)
        return process

    return start


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("answer", [line("13", "RUNNING"), "hangs", "down"])
def test_only_ctrl_c_ends_jobs(slurm: Path, watching: Any, name: str, answer: str) -> None:
    answers(slurm, answer)
    folder = group(slurm)
    process = watching(folder)
    process.send_signal(getattr(signal, name))
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 128 + getattr(signal, name)
    assert f"{name}: nobody watches any more" in said and f"run_workflow.sh --attach {folder}" in said
    assert calls(slurm, "scancel") == 0 and state_of(folder) == "running"


def test_ctrl_c_ends_jobs_and_settles_their_runs(slurm: Path, watching: Any) -> None:
    answers(slurm, line("13", "RUNNING"))
    folder = group(slurm)
    process = watching(folder)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 130 and state_of(folder) == "cancelled"
    assert "interrupted with Ctrl-C" in said and "Traceback" not in said
    assert calls(slurm, "scancel") == 1


def test_ctrl_c_works_while_the_scheduler_hangs_and_once_more_leaves(slurm: Path, watching: Any) -> None:
    answers(slurm, "hangs")
    folder = group(slurm)
    process = watching(folder)
    process.send_signal(signal.SIGINT)
    until = time.monotonic() + 20
    while calls(slurm) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 130 and state_of(folder) == "running"
    assert "ending all jobs" in said and "To watch again" in said
    assert calls(slurm, "scancel") == 1


# ---- what never starts


def test_a_job_that_never_starts_is_told_and_ended(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(slurm, "13|PENDING|PartitionTimeLimit|0:00|\n", n1="13|PENDING|Priority|0:00|\n")
    folder = group(slurm, "waiting")
    assert watch(folder, False, print) == 3
    said = capsys.readouterr()
    sentence = (
        "agent a (job 13) asks for more time than its partition, account or QOS allows, and will never start: "
        f"`scripts_hpc/jobs.sh stop {folder}`, then lower --time-limit, or jobs.agent.time_limit of the site"
    )
    assert said.err.count(sentence) == 1 and f": cancelled: {sentence}" in said.out
    assert state_of(folder) == "cancelled" and calls(slurm, "scancel") == 1


@pytest.mark.parametrize("others", [{"n1": "never"}, {"n1": "never", "n2": "down", "n3": "down"}])
def test_one_answer_that_it_never_starts_ends_nothing(slurm: Path, others: dict[str, str]) -> None:
    never = "13|PENDING|QOSMaxWallDurationPerJobLimit|0:00|\n"
    answers(slurm, line("13", "RUNNING"), **{name: never if said == "never" else said for name, said in others.items()})
    one, judge = Watch(group(slurm)), follow.Never()
    for _ in range(4):
        assert one.look() and judge.look(one) is None
        time.sleep(0.06)
    assert calls(slurm, "scancel") == 0


# ---- whose server it is


@pytest.fixture
def lent(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has scored, whose model server, job 12, the living job 20 of another run uses."""
    monkeypatch.setattr("helpers.jobs.kinds.workflow.SERVER_SECONDS", 0.3)
    folder = group(slurm)
    record = disk.read_json(folder / "workflow.json")
    disk.write_json(
        folder / "workflow.json", {**record, "cleanup": "on", "jobs": {"model_server": "12", "agents": ["13"]}}
    )
    (slurm / "vllm_x_12.consumers").mkdir()
    (slurm / "vllm_x_12.consumers" / "20").touch()
    answers(slurm, line("12", "RUNNING") + line("20", "RUNNING") + line("13", "COMPLETED"))
    return folder


def test_the_watcher_leaves_a_server_to_those_who_use_it(
    slurm: Path, lent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(lent, "cancelled")
    Watch(lent).finish()
    assert calls(slurm, "scancel") == 0
    assert "(job 12) goes on: job 20 uses it\n" in capsys.readouterr().err


def test_the_addresses_of_a_dead_server_are_removed_and_no_others(slurm: Path, lent: Path) -> None:
    """Job 12 is gone; job 127 has a number that begins with its."""
    dead = ["vllm_x_12", "vllm_x_12.failed", "vllm_x_12.consumers/20"]
    others = ["vllm_x_127", "vllm_x_127.failed", "vllm_x_127.consumers/20", "vllm_x_1.12b_7", "vllm_x_12.note"]
    for name in (*dead, *others):
        (slurm / name).parent.mkdir(exist_ok=True)
        (slurm / name).touch()
    answers(slurm, line("12", "FAILED") + line("13", "COMPLETED"))
    one = Watch(lent)
    one.look()
    one.forget_servers()
    assert not any((slurm / name).exists() for name in (*dead, "vllm_x_12.consumers"))
    assert all((slurm / name).exists() for name in others)


@pytest.mark.parametrize("verb", ["stop", "Ctrl-C"])
def test_a_run_that_is_ended_leaves_its_server_to_those_who_use_it(slurm: Path, lent: Path, verb: str) -> None:
    answers(slurm, line("12", "RUNNING") + line("20", "RUNNING") + line("13", "RUNNING"))
    one = Watch(lent)
    one.look()
    if verb == "stop":
        _, lines = cli.stop(one)
        assert "model (job 12) goes on: job 20 uses it" in lines
    else:
        assert one.cancel("interrupted with Ctrl-C")
    assert "\nscancel --quiet 13\n" in (slurm / "calls").read_text() and calls(slurm, "scancel") == 1
    assert state_of(lent) == "cancelled"


def test_a_server_whose_last_user_died_without_a_word_is_told_and_then_cancelled(slurm: Path, lent: Path) -> None:
    tell(lent, "cancelled")
    answers(slurm, line("12", "RUNNING") + line("20", "CANCELLED"))
    Watch(lent).finish()
    said = [text for text in (slurm / "calls").read_text().splitlines() if text.startswith("scancel")]
    assert said == ["scancel --quiet --batch --signal=USR1 12", "scancel --quiet 12"]


def test_a_server_that_ends_while_its_users_are_looked_up_has_none(
    slurm: Path, lent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end removes the folder between two looks of ours."""
    look = os.scandir

    def gone(path):
        if str(path).endswith(".consumers"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return look(path)

    one = Workflow(lent, AskedSite())
    monkeypatch.setattr(os, "scandir", gone)
    assert one.users("12") == []


# ---- how often the scheduler is asked


class Told:
    """A scheduler that tells what it is to tell, and notes when it was asked and how old an answer might have been."""

    kind = "slurm"

    def __init__(self) -> None:
        self.now, self.state, self.asked, self.fresh = 1000.0, "RUNNING", [], []

    def states(self, ids: list[str], fresh: int = 0) -> dict[str, query.Job]:
        if not ids:
            return {}
        self.asked.append(self.now)
        self.fresh.append(fresh)
        return {job: query.Job(job, self.state) for job in ids}

    def minute(self, one: Fleet) -> int:
        """How often it is asked in a minute of a follower that looks at files every two seconds."""
        before = len(self.asked)
        for _ in range(30):
            if one.is_due():
                one.look(["13"])
            self.now += 2
        return len(self.asked) - before


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    one = Told()
    monkeypatch.setattr(fleet.time, "monotonic", lambda: one.now)
    return one


def test_the_scheduler_is_asked_quickly_while_something_changes_then_once_a_minute(told: Told) -> None:
    one = Fleet(told)  # type: ignore[arg-type]
    one.patient = True
    assert 6 <= told.minute(one) <= 20
    for _ in range(5):
        told.minute(one)
    assert [told.minute(one) for _ in range(3)] == [1, 1, 1]
    assert told.fresh[0] == 0 and told.fresh[-1] == 30  # by then, the answer that another job was given will do
    one.stir()
    assert 6 <= told.minute(one) <= 20 and told.fresh[-1] < 30


def test_a_job_that_seems_gone_is_looked_at_again_at_once_and_then_no_more(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 4.0)
    one = Fleet(told)  # type: ignore[arg-type]
    one.patient = True
    for _ in range(6):
        told.minute(one)
    told.state = "GONE"
    for _ in range(2):
        told.minute(one)
    first, second = told.asked[-2:]
    assert one.gone("13") and 4.0 <= second - first <= 6.0 and told.fresh[-1] == 0
    assert told.minute(one) == 0
