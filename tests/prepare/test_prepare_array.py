"""Cutting a list of tasks into job arrays, and what the watcher makes of events and of jobs that died."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import sites
from helpers.config.schema import Site
from helpers.jobs import fleet
from helpers.jobs.kinds.preparation import NEVER_SUBMITTED, Watch
from helpers.lib import disk
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.rendering import render
from helpers.scheduler import cluster as cluster_module
from helpers.scheduler import limits
from helpers.scheduler.query import Job, Scheduler

SITE = """
scheduler: {kind: slurm}
container: {runtime: %s}
paths: {data: %s/data, runs: %s/runs, containers: %s/images, address_dir: %s/addresses, tasks: %s/tasks}
"""
START = "2026-01-01T00:00:00.000+00:00"


def make_site(folder: Path, *overrides: str, runtime: str = "apptainer") -> Site:
    (folder / "here.yaml").write_text(SITE % (runtime, *[folder] * 5))
    return sites.load_site(str(folder / "here.yaml"), list(overrides))


def command(folder: Path, name: str, text: str) -> None:
    """A stand-in for one of Slurm's commands, first on PATH; it notes its arguments in `calls`."""
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>{folder}/calls\n{text}\n')
    path.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


# ---- cutting


@given(st.integers(1, 300), st.one_of(st.none(), st.integers(1, 400)), st.integers(1, 60))
def test_every_task_is_in_one_part_and_no_limit_is_exceeded(count: int, most: int | None, size: int) -> None:
    tasks = [f"t{number}" for number in range(count)]
    parts, arrays = limits.cut(tasks, most, size)
    assert sorted(task for part in parts for task in part) == sorted(tasks)
    assert len(parts) == min(count, most or count)
    assert {len(part) for part in parts} <= {count // len(parts), -(-count // len(parts))}
    assert sum(arrays) == len(parts) and max(arrays) <= size and min(arrays) > 0
    assert len(arrays) == -(-len(parts) // size)


def test_nothing_to_do_is_no_array() -> None:
    assert limits.cut([], 1, 1) == ([], [])


@pytest.mark.parametrize(
    ("said", "size"), [("MaxArraySize            = 26", 26), ("MaxArraySizeX = 5", 1001), ("", 1001)]
)
def test_the_scheduler_is_asked_for_its_largest_array(slurm: Path, said: str, size: int) -> None:
    command(slurm, "scontrol", f"printf 'MaxJobCount = 3\\n{said}\\n'")
    command(slurm, "sinfo", "echo 'cpu*|1|8|64000|(null)'")
    cluster = cluster_module.Cluster()
    assert limits.array_size(make_site(slurm), cluster) == size
    assert limits.array_size(make_site(slurm, "limits.max_array_size=9"), cluster) == 9
    assert (slurm / "calls").read_text().count("scontrol show config\n") == 1


def test_without_arrays_or_an_answer_nothing_is_guessed(slurm: Path) -> None:
    command(slurm, "sinfo", "echo 'cpu*|1|8|64000|(null)'")
    command(slurm, "scontrol", "echo MaxArraySize = 0")
    with pytest.raises(ConfigError, match="has no job arrays"):
        limits.array_size(make_site(slurm), cluster_module.Cluster())
    command(slurm, "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(Infrastructure, match="doesn't answer: Unable to contact"):
        limits.array_size(make_site(slurm), cluster_module.Cluster())
    with pytest.raises(Infrastructure, match="doesn't answer: .*no-such-command"):
        cluster_module.answer("no-such-command")


def test_room_is_what_the_queue_leaves(slurm: Path) -> None:
    command(slurm, "squeue", "printf '7\\n8_0\\n8_1\\n'")
    assert limits.room(make_site(slurm)) is None
    assert not (slurm / "calls").exists()
    assert limits.room(make_site(slurm, "limits.max_submit=10")) == 7
    with pytest.raises(Infrastructure, match="3 jobs of yours are in the queue"):
        limits.room(make_site(slurm, "limits.max_submit=3"))
    limits.check_room(make_site(slurm, "limits.max_submit=10"), 7, "ask for less")
    with pytest.raises(
        Infrastructure, match="this takes 8 jobs, 3 of yours are in the queue, .* is 10: wait .* or ask for less"
    ):
        limits.check_room(make_site(slurm, "limits.max_submit=10"), 8, "ask for less")
    with pytest.raises(ConfigError, match="this takes 11 jobs, and limits.max_submit of site .* is 10: ask for less"):
        limits.check_room(make_site(slurm, "limits.max_submit=10"), 11, "ask for less")


# ---- the job script


def test_the_log_of_an_element_has_a_name_of_its_own(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    assert "/logs/%x-%A_%a.out\n" in render.prepare_script(site, render.Workflow("/runs/x"))
    assert "/logs/%x-%j.out\n" in render.prepare_script(site)  # %a of a job that is no element is a large number
    site.scheduler.kind = "local"
    assert "/logs/%x-%j.out\n" in render.prepare_script(site, render.Workflow("/runs/x"))


# ---- the scheduler's answers on arrays


def states(slurm: Path, *ids: str) -> dict[str, str]:
    return {job.id: job.state for job in Scheduler("slurm", str(slurm)).states(list(ids)).values()}


def test_one_question_for_all_elements_and_each_array_is_named_once(slurm: Path) -> None:
    command(
        slurm, "squeue", "printf '7_0|RUNNING|None|0:01|n1\\n7_10|PENDING|Priority|0:00|\\n9_0|TIMEOUT|None|0:01|n1\\n'"
    )
    command(slurm, "sacct", "exit 1")
    assert states(slurm, "9_0", "7_10", "7_0") == {"9_0": "TIMEOUT", "7_10": "PENDING", "7_0": "RUNNING"}
    calls = (slurm / "calls").read_text().splitlines()
    question = "squeue --noheader --states=all --array --all %s --format=%%i|%%T|%%r|%%M|%%N"
    assert calls == [question % f"--user={os.getuid()}"]
    Scheduler("slurm", "").states(["9_0", "7_10", "7_0"])
    assert (slurm / "calls").read_text().splitlines()[1:] == [question % "--jobs=7,9"]


def test_the_accounting_tells_of_forgotten_elements_and_contradicts_nothing(slurm: Path) -> None:
    command(slurm, "squeue", "echo '7_0|RUNNING|None|0:01|n1'")
    command(
        slurm,
        "sacct",
        "printf '7_0|PENDING|00:00:00|\\n7_1|CANCELLED by 5|00:00:01|n1\\n7_[2-3]|CANCELLED|00:00:00|\\n'",
    )
    assert states(slurm, "7_0", "7_1", "7_2") == {"7_0": "RUNNING", "7_1": "CANCELLED", "7_2": "GONE"}


def test_thousands_of_elements_are_one_short_question(slurm: Path) -> None:
    command(slurm, "squeue", "seq -f '7_%g|PENDING|Priority|0:00|' 0 9999")
    ids = [f"7_{number}" for number in range(10000)]
    assert set(states(slurm, *ids).values()) == {"PENDING"}


# ---- watching


def preparation(folder: Path, parts: list[list[str]], runtime: str = "apptainer", **more: Any) -> Path:
    """The folder of a preparation whose jobs are the elements of array 7."""
    for name in ("jobs", "events", "parts", "logs"):
        (folder / "prep" / name).mkdir(parents=True)
    for number, part in enumerate(parts):
        (folder / "prep" / "parts" / str(number)).write_text("".join(f"{task}\n" for task in part))
    (folder / "prep" / "jobs" / "submitted").write_text("a banner\nprepare=7\n")
    record = {
        "tasks": [task for part in parts for task in part],
        "warnings": [],
        "skipped": [],
        "refused": {},
        "force": False,
        "arrays": [len(parts)],
        "elements": len(parts),
        "threads": 1,
        "site": "here",
        "log_file": str(folder / "log"),
        "failed_tasks": str(folder / "failed"),
        "config": make_site(folder, runtime=runtime).model_dump(mode="json"),
        **more,
    }
    (folder / "prep" / "preparation.json").write_text(json.dumps(record))
    return folder / "prep"


def event(task: str, state: str, reason: str = "", seconds: float = 1.0) -> str:
    return json.dumps({"time": START, "task": task, "state": state, "seconds": seconds, "reason": reason}) + "\n"


@pytest.fixture
def running(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All elements of array 7 are RUNNING, or what the file `state` says; a job that died is believed at once."""
    (slurm / "state").write_text("RUNNING")
    command(slurm, "squeue", f'for n in 0 1 2; do echo "7_$n|$(<{slurm}/state)|None|0:01|n1"; done')
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 0.0)
    return slurm


def states_of(watch: Watch) -> dict[str, str]:
    return {task: outcome.state for task, outcome in watch.outcomes.items()}


def test_a_line_that_is_half_written_counts_when_it_is_whole(running: Path) -> None:
    folder = preparation(running, [["a"]])
    text = event("a", "prepared")
    file = folder / "events" / "0"
    file.write_text(text[:20])
    watch = Watch(folder)
    watch.look()
    assert not watch.outcomes
    file.write_text(text)
    watch.look()
    assert states_of(watch) == {"a": "prepared"} and not (running / "failed").exists()


@pytest.mark.parametrize(
    "junk", ["[]\n", "{}\n", "null\n", "\xff\n", '{"task": "a"}\n', event("other", "prepared"), event("a", "exploded")]
)
def test_events_that_make_no_sense_are_passed_over(running: Path, junk: str) -> None:
    folder = preparation(running, [["a"]])
    (folder / "events" / "0").write_bytes(junk.encode("latin-1") + event("a", "failed", "why").encode())
    watch = Watch(folder)
    watch.look()
    assert states_of(watch) == {"a": "failed"} and (running / "failed").read_text() == "a\n"


def test_an_element_speaks_only_for_its_own_part(running: Path) -> None:
    folder = preparation(running, [["a"], ["b"]])
    (folder / "events" / "0").write_text(event("b", "prepared"))
    watch = Watch(folder)
    watch.look()
    assert not watch.outcomes


def test_a_task_that_was_made_before_its_element_died_is_prepared(running: Path) -> None:
    folder = preparation(running, [["a"], ["b"]])
    for half in ("public", "private"):
        (running / "data" / "a" / "prepared" / half).mkdir(parents=True)
        (running / "data" / "a" / "prepared" / half / "description.md").write_text("text")
    (running / "state").write_text("NODE_FAIL")
    watch = Watch(folder)
    watch.look()
    assert states_of(watch) == {"a": "prepared", "b": "failed"}


def test_with_force_old_data_prove_nothing(running: Path) -> None:
    folder = preparation(running, [["a"]], force=True)
    for half in ("public", "private"):
        (running / "data" / "a" / "prepared" / half).mkdir(parents=True)
        (running / "data" / "a" / "prepared" / half / "description.md").write_text("text")
    (running / "state").write_text("NODE_FAIL")
    watch = Watch(folder)
    watch.look()
    assert states_of(watch) == {"a": "failed"}


def test_a_job_that_is_missing_for_a_moment_is_not_given_up(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 3600.0)
    watch = Watch(preparation(running, [["a"]]))
    (running / "state").write_text("COMPLETED")
    watch.look()
    watch.look()
    assert not watch.outcomes
    (running / "state").write_text("RUNNING")
    watch.look()
    assert not watch.fleet.gone("7_0")


def test_a_scheduler_that_does_not_answer_is_no_job_that_is_gone(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = preparation(running, [["a"], ["b"]])
    command(running, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    watch = Watch(folder)
    watch.look()
    (folder / "events" / "0").write_text(event("a", "prepared"))
    watch.look()
    assert states_of(watch) == {"a": "prepared"} and (running / "failed").read_text() == "b\n"
    assert capsys.readouterr().out.count("the scheduler doesn't answer (Unable to contact slurm controller)") == 1


def test_what_keeps_a_job_waiting_is_told_once(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(running, "squeue", "printf '7_0|PENDING|PartitionTimeLimit|0:00|\\n7_1|PENDING|Priority|0:00|\\n'")
    watch = Watch(preparation(running, [["a"], ["b"]]))
    watch.look()
    watch.look()
    said = capsys.readouterr().out
    assert said.count("job 7_0 waits, the scheduler says why: PartitionTimeLimit") == 1 and "Priority" not in said


def test_an_array_that_was_never_submitted(running: Path) -> None:
    folder = preparation(running, [["a"], ["b"]])
    disk.write_json(folder / "preparation.json", {**disk.read_json(folder / "preparation.json"), "arrays": [1, 1]})
    (folder / "jobs" / "submitted").write_text("prepare=7\nprepare=8")  # killed while it noted the second
    watch = Watch(folder)
    watch.look()
    assert states_of(watch) == {"b": "failed"} and "never submitted" in watch.outcomes["b"].reason
    assert watch.arrays == ["7"]


def test_what_was_told_is_not_told_again(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = preparation(running, [["a", "b"], ["c"]])
    (folder / "events" / "0").write_text(event("a", "started") + event("a", "prepared") + event("b", "failed", "why"))
    Watch(folder).look()
    capsys.readouterr()
    with open(folder / "events" / "0", "a") as file:
        file.write(event("a", "failed", "again"))
    (folder / "events" / "1").write_text(event("c", "prepared"))
    watch = Watch(folder)
    watch.look()
    said = capsys.readouterr().out
    assert "prepared c in" in said
    assert not any(word in said for word in ("prepared a in", "task: a", "Failed to prepare"))
    assert states_of(watch) == {"a": "prepared", "b": "failed", "c": "prepared"}
    assert (running / "failed").read_text() == "b\n"


@pytest.mark.parametrize(
    "reason", ["interrupted", "ended by SIGTERM: it printed nothing", "killed by signal 9, most likely"]
)
def test_the_state_of_a_job_knows_better_why_its_commands_were_killed(running: Path, reason: str) -> None:
    folder = preparation(running, [["a"]])
    (folder / "events" / "0").write_text(event("a", "failed", reason))
    watch = Watch(folder)
    watch.look()
    assert not watch.outcomes
    (running / "state").write_text("OUT_OF_MEMORY")
    watch.look()
    assert watch.outcomes["a"].reason.startswith("job 7_0 needed more memory")


def test_an_element_that_was_ended_at_its_time_limit_says_so_in_its_log(running: Path) -> None:
    folder = preparation(running, [["a"]])
    (folder / "events" / "0").write_text(event("a", "failed", "interrupted"))
    (folder / "logs" / "prepare-7_0.out").write_text("slurm_script: reached its time limit: raise it\n")
    (running / "state").write_text("FAILED")
    watch = Watch(folder)
    watch.look()
    assert watch.outcomes["a"].reason == "job 7_0 failed: reached its time limit: raise it"


def test_a_command_that_was_killed_in_a_job_that_was_not_keeps_its_reason(running: Path) -> None:
    folder = preparation(running, [["a", "b"]])
    text = event("a", "failed", "ended by SIGKILL: half a line") + event("b", "prepared")
    (folder / "events" / "0").write_text(text)
    (running / "state").write_text("FAILED")  # a task of it failed, so it ended with 1
    watch = Watch(folder)
    watch.look()
    assert watch.outcomes["a"].reason == "ended by SIGKILL: half a line"


def test_paths_of_the_container_become_those_of_the_user(running: Path) -> None:
    watch = Watch(preparation(running, [["a"]]))
    here = str(running)
    assert watch._outside("no /data/a: in /tasks") == f"no {here}/data/a: in {here}/tasks"
    for same in ("https://kaggle.com/data/x", "x/data", "/database", "./data", "/data-2"):
        assert watch._outside(same) == same


def test_without_a_container_paths_are_the_users_already(running: Path) -> None:
    assert Watch(preparation(running, [["a"]], runtime="none"))._outside("/data/a") == "/data/a"


@pytest.mark.parametrize(
    ("job", "log", "expected"),
    [
        (NEVER_SUBMITTED, "", "its job was never submitted"),
        (Job("7_0", "GONE"), "", "job 7_0 was cancelled before it started"),
        (Job("7_0", "BOOT_FAIL", node="n3"), "", "job 7_0 died because its node n3 did not boot"),
        (Job("7_0", "SOMETHING_NEW"), "", "job 7_0 failed: read its log: `"),
        (Job("7_0", "PREEMPTED"), "", "scheduler.account or scheduler.qos (or partitions.cpu.account, .qos) of site here"),
        (Job("7_0", "FAILED"), "error: no {braces} here\n", "job 7_0 failed: no {braces} here"),
        (Job("7_0", "COMPLETED"), "prepare.sh: the image is missing\n", "job 7_0 failed: the image is missing"),
    ],
)  # fmt: skip
def test_why_a_job_left_tasks_undone(running: Path, job: Job, log: str, expected: str) -> None:
    folder = preparation(running, [["a"]])
    (folder / "logs" / "prepare-7_0.out").write_text(log)
    watch = Watch(folder)
    said = watch.why(watch.elements[0], job)
    assert expected in said and "\n" not in said


def test_a_folder_that_is_no_preparation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a preparation"):
        Watch(tmp_path)
