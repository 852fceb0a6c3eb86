from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.lib import disk
from helpers.runs import metadata as metadata_module
from helpers.runs.metadata import Run
from helpers.scheduler.query import Job


def make_run(workflow: Path, name: str, **metadata: Any) -> Run:
    folder = workflow / name
    folder.mkdir(parents=True)
    (folder / "run_metadata.json").write_text(json.dumps(metadata))
    return Run(folder, metadata)


# ---- files


def test_write_json_leaves_the_old_file_and_no_other_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    disk.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        disk.write_json(path, {"a": object()})
    assert disk.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_write_json_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / "a.json").symlink_to(tmp_path / "other")
    disk.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "other").read_text() == "kept"
    assert not (tmp_path / "a.json").is_symlink()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"a": 1', b"[1]", b"null", b"\xff\xfe", b"\0" * 10, b"[" * 100_000, b'{"a": ' * 100_000, b"1" * 5000],
    ids=["empty", "brace", "cut", "list", "null", "bytes", "zeros", "deep list", "deep object", "long number"],
)
def test_read_json_has_no_object_for_a_broken_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert disk.read_json(path) is None


def test_a_text_cut_within_a_character_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "run_metadata.json"
    path.write_bytes('{"state": "lost", "reason": "refused (größ'.encode()[:-1] + b'e)"}')
    assert disk.read_json(path) == {"state": "lost", "reason": "refused (grö\ufffde)"}
    assert disk.decoded("größe \ufffd".encode()) == ("größe \ufffd", True)
    assert disk.decoded("größe".encode()[:3]) == ("gr\ufffd", False)


def test_read_json_follows_no_link_and_waits_on_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"a": 1}')
    (tmp_path / "link.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("link.json", "pipe.json", "folder.json", "missing.json"):
        assert disk.read_json(tmp_path / name) is None, name


def test_read_file_has_a_limit_and_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    before = os.listdir("/proc/self/fd")
    assert disk.read_file(tmp_path / "a", 10) == b"x" * 10
    with pytest.raises(ValueError, match="larger than 9 bytes"):
        disk.read_file(tmp_path / "a", 9)
    with pytest.raises(ValueError, match="not a regular file"):
        disk.read_file(tmp_path)
    assert os.listdir("/proc/self/fd") == before


# ---- runs


def test_a_run_without_metadata_is_waiting_and_its_folder_names_no_job(tmp_path: Path) -> None:
    run = Run(tmp_path / "spaceship-titanic_17")
    assert (run.state, run.job_id, run.is_open, run.report) == ("waiting", "", True, {})


def test_runs_come_in_the_order_of_their_job_numbers(tmp_path: Path) -> None:
    for name in ("toy_10", "toy_9", "toy_100"):
        make_run(tmp_path, name, state="running", job_id=name[4:])
    (tmp_path / "logs").mkdir()
    assert [run.job_id for run in metadata_module.runs_of(tmp_path)] == ["9", "10", "100"]


def test_settle_keeps_what_was_known(tmp_path: Path) -> None:
    run = make_run(tmp_path, "toy_1", state="running", job_id="1", seed=3, ended_at=None)
    run.settle("lost", "the node died")
    found = metadata_module.runs_of(tmp_path)[0]
    assert (found.state, found.metadata["reason"], found.metadata["seed"]) == ("lost", "the node died", 3)
    assert found.metadata["ended_at"].endswith("Z")
    assert not found.is_open


def test_reread_keeps_the_last_that_could_be_read(tmp_path: Path) -> None:
    run = make_run(tmp_path, "toy_1", state="running")
    (run.directory / "run_metadata.json").write_text("{")
    run.reread()
    assert run.state == "running"
    (run.directory / "run_metadata.json").write_text('{"state": "scored"}')
    run.reread()
    assert run.state == "scored"


def test_a_report_that_is_a_link_is_none(tmp_path: Path) -> None:
    run = make_run(tmp_path, "toy_1", state="scored")
    (tmp_path / "answers.json").write_text('{"total_score": 1}')
    (run.directory / "grading_report.json").symlink_to(tmp_path / "answers.json")
    assert run.report == {}


@pytest.mark.parametrize(
    ("word", "state", "said"),
    [
        ("CANCELLED", "cancelled", "was cancelled"),
        ("CANCELLED by 1000", "cancelled", "was cancelled"),
        ("TIMEOUT", "timed_out", "time limit"),
        ("DEADLINE", "timed_out", "time limit"),
        ("OUT_OF_MEMORY", "agent_failed", "jobs.agent.memory_gb"),
        ("NODE_FAIL", "lost", "NODE_FAIL"),
        ("FAILED", "lost", "FAILED"),
        ("COMPLETED", "lost", "COMPLETED"),
        ("PREEMPTED", "lost", "PREEMPTED"),
        ("GONE", "lost", "no longer knows"),
        ("", "lost", "no longer knows"),
    ],
)
def test_verdict(word: str, state: str, said: str) -> None:
    found = metadata_module.verdict(Job("7", word), {"state": "running", "asked_to_end": False})
    assert found is not None
    assert found[0] == state
    assert said in found[1] and "job 7" in found[1]
    assert state in metadata_module.END_STATES


@pytest.mark.parametrize("word", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"])
def test_no_verdict_on_a_living_job(word: str) -> None:
    assert metadata_module.verdict(Job("7", word), {}) is None


@pytest.mark.parametrize(
    ("word", "before", "state"),
    [
        ("PREEMPTED", "running", "lost"),
        ("NODE_FAIL", "running", "lost"),
        ("TIMEOUT", "running", "timed_out"),
        ("TIMEOUT", "waiting", "lost"),
        ("CANCELLED", "running", "cancelled"),
        ("FAILED", "running", "cancelled"),  # a SIGTERM of somebody's
        ("GONE", "waiting", "cancelled"),
    ],
)
def test_of_a_job_that_was_asked_to_end_the_scheduler_knows_why(word: str, before: str, state: str) -> None:
    found = metadata_module.verdict(Job("7", word), {"state": before, "asked_to_end": True})
    assert found is not None and found[0] == state


def test_the_newest_data_that_a_task_was_run_on(tmp_path: Path) -> None:
    assert metadata_module.latest_data(tmp_path / "none", "toy") is None
    told = (("toy", "d1"), ("toy", "d2"), ("toy", None), ("other", "d3"))
    for hour, (competition, data) in enumerate(told):
        group = tmp_path / f"2026-01-01T0{hour}-00-00-UTC_run-group_aide"
        group.mkdir()
        disk.write_json(group / "workflow.json", {"competition": competition, "data_fingerprint": data})
    assert metadata_module.latest_data(tmp_path, "toy") == ("2026-01-01T01-00-00-UTC_run-group_aide", "d2")
    assert metadata_module.latest_data(tmp_path, "none") is None
