# ruff: noqa: F811
"""`jobs.sh clean`: what goes, what never does, and that a folder tells everything a week later."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_jobs import call, make_group, make_run, put, quick, scheduler, site  # noqa: F401

from helpers.jobs import clean
from helpers.jobs.clean import LEAST, LOG_HEAD, LOG_TAIL

NAME = "2026-01-02T03-04-05-UTC_run-group_aide"
LONG = LOG_HEAD + LOG_TAIL + LEAST + 1000


def fill(run: Path, submission: bool = True) -> None:
    """What an agent leaves behind."""
    for name in ("workspaces/0/deep", "submission", "logs", "code"):
        (run / name).mkdir(parents=True, exist_ok=True)
    (run / "workspaces/0/deep/model.bin").write_bytes(b"x" * 100_000)
    (run / "logs/journal.json").write_text("{}")
    (run / "code/step_001.py").write_text("1")
    (run / "agent.log").write_text("begins\n" + "x" * LONG + "\nends")
    if submission:
        (run / "submission/submission.csv").write_text("id\n")


@pytest.fixture
def group(site: Path, scheduler: Any) -> Path:
    scheduler({})
    folder = make_group(site / NAME, ["13"])
    fill(make_run(folder, "13", "scored", ended_at="2026-01-02T04:00:00Z"))
    put(folder / "toy_13" / "grading_report.json", {"total_score": 0.5, "score": 0.5})
    (folder / "logs" / "agent_aide-13.out").write_text("begins\n" + "x" * LONG + "\nends")
    (folder / "logs" / "short-11.out").write_text("short\n")
    return folder


def shape(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.lstat().st_size for path in sorted(folder.rglob("*")) if not path.is_dir()
    }


# ---- what never goes


def test_without_a_terminal_and_without_yes_nothing_goes(group: Path, capsys: Any) -> None:
    before = shape(group)
    code, out, err = call(capsys, "clean")
    assert (code, out, shape(group)) == (2, "", before)
    lines = err.splitlines()
    assert lines[0] == f"of 1 workflow in {group.parent} that ended before 30d:"
    assert lines[1].startswith(f"  {NAME}: the workspaces of 1 agent and the middle of 2 logs, ") and lines[1].endswith(
        " kB"
    )
    assert lines[2].startswith("kept of each: records and reports, submissions, provenance")
    assert lines[3].startswith("jobs.sh: nothing was removed: give --yes to free these ")


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_at_a_terminal_it_asks(group: Path, capsys: Any, monkeypatch: Any, answer: str) -> None:
    monkeypatch.setattr(clean.sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr(clean.click, "confirm", lambda *_, **__: answer == "y\n")
    before = shape(group)
    assert call(capsys, "clean")[0] == 2 and shape(group) == before


def test_ctrl_c_at_the_question_is_ctrl_c(group: Path, capsys: Any, monkeypatch: Any) -> None:
    def abort(*_: Any, **__: Any) -> bool:
        raise clean.click.Abort

    monkeypatch.setattr(clean.sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr(clean.click, "confirm", abort)
    with pytest.raises(KeyboardInterrupt):
        call(capsys, "clean")
    assert (group / "toy_13" / "workspaces").is_dir()


def test_a_run_with_a_job_that_lives_is_left_alone(group: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({"11": "RUNNING"})
    before = shape(group)
    code, out, err = call(capsys, "clean", "--yes")
    assert (code, shape(group)) == (0, before)
    assert out == "nothing to clean: no workflow that ended before 30d has workspaces or long logs left\n"
    assert err == f"{NAME} is left alone: grading server (job 11) is not known to have ended\n"


def test_one_look_that_finds_no_job_is_no_proof(group: Path, scheduler: Any, capsys: Any) -> None:
    scheduler({}, {"13": "RUNNING"})
    before = shape(group)
    assert call(capsys, "clean", "--yes")[0] == 0 and shape(group) == before


def test_a_scheduler_that_is_silent_is_exit_3(group: Path, scheduler: Any, capsys: Any) -> None:
    scheduler(None)
    before = shape(group)
    assert call(capsys, "clean", "--yes")[0] == 3 and shape(group) == before


@pytest.mark.parametrize(("state", "goes"), [("lost", False), ("timed_out", False), ("agent_failed", True)])
def test_a_submission_that_can_still_be_graded_keeps_its_run(group: Path, capsys: Any, state: str, goes: bool) -> None:
    make_run(group, "13", state, agent_started_at="2026-01-02T03:30:00Z")
    err = call(capsys, "clean", "--yes")[2]
    assert (group / "toy_13" / "workspaces").exists() != goes
    assert goes or f"a submission of it isn't graded yet (toy_13): scripts_hpc/jobs.sh grade {group}" in err


def test_what_was_lost_without_a_submission_goes(group: Path, capsys: Any) -> None:
    make_run(group, "13", "lost")
    (group / "toy_13" / "submission" / "submission.csv").unlink()
    assert call(capsys, "clean", "--yes")[0] == 0
    assert not (group / "toy_13" / "workspaces").exists()


def test_what_ended_lately_stays(group: Path, capsys: Any) -> None:
    make_run(group, "13", "scored", ended_at="2999-01-01T00:00:00Z")
    before = shape(group)
    assert call(capsys, "clean", "--yes", "--older-than", "1m")[0] == 0 and shape(group) == before


def test_no_link_is_followed(group: Path, capsys: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "workspaces").mkdir(parents=True)
    put(mine / "run_metadata.json", {"state": "scored", "job_id": "99"})
    (mine / "big.out").write_bytes(b"x" * LONG)
    before = shape(mine)
    (group / "toy_13" / "workspaces" / "out").symlink_to(mine)
    (group / "toy_99").symlink_to(mine)
    (group / "logs" / "x-99.out").symlink_to(mine / "big.out")
    (group.parent / NAME.replace("03-04", "03-05")).symlink_to(group)
    other = make_run(group, "14", "scored")
    (other / "workspaces").symlink_to(mine)
    assert call(capsys, "clean", "--yes")[0] == 0
    assert shape(mine) == before
    assert (other / "workspaces").is_symlink() and not (group / "toy_13" / "workspaces").exists()


# ---- what goes


def test_a_week_after_the_folder_still_tells_everything(group: Path, capsys: Any) -> None:
    status = call(capsys, "status", group)
    before = shape(group)
    code, out, _ = call(capsys, "clean", "--yes")
    assert (
        code == 0 and out.startswith("freed ") and out.endswith("; what went stands in cleaned.json of each folder\n")
    )
    after = shape(group)
    assert set(before) - set(after) == {"toy_13/workspaces/0/deep/model.bin"}
    assert {name for name in after if after[name] != before.get(name)} == {
        "cleaned.json",
        "logs/agent_aide-13.out",
        "toy_13/agent.log",
    }
    text = (group / "logs" / "agent_aide-13.out").read_text()
    assert (
        text.startswith("begins\n") and text.endswith("\nends") and " bytes are left out here: jobs.sh clean, " in text
    )
    assert call(capsys, "status", group) == status
    (told,) = json.loads((group / "cleaned.json").read_text())["cleaned"]
    assert told["is_done"] is True
    assert [(item["path"], item["action"]) for item in told["items"]] == [
        ("toy_13/workspaces", "removed"),
        ("logs/agent_aide-13.out", "cut"),
        ("toy_13/agent.log", "cut"),
    ]


def test_again_there_is_nothing_to_do(group: Path, capsys: Any) -> None:
    call(capsys, "clean", "--yes")
    before = shape(group)
    assert call(capsys, "clean")[1].startswith("nothing to clean") and shape(group) == before


def test_interrupted_halfway_it_says_so_and_is_ended_the_next_time(group: Path, capsys: Any, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(clean, "_cut", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        call(capsys, "clean", "--yes")
    (told,) = json.loads((group / "cleaned.json").read_text())["cleaned"]
    assert told["is_done"] is False and len(told["items"]) == 3
    assert call(capsys, "clean", "--yes")[0] == 0
    (told,) = json.loads((group / "cleaned.json").read_text())["cleaned"]
    assert told["is_done"] is True and len(told["items"]) == 3


def test_workspaces_that_were_half_removed_go_the_next_time(group: Path, capsys: Any) -> None:
    (group / "toy_13" / "workspaces").rename(group / "toy_13" / clean.GOING)
    (group / "toy_13" / "workspaces").mkdir()
    assert call(capsys, "clean", "--yes")[0] == 0
    assert not (group / "toy_13" / clean.GOING).exists()


def test_what_cannot_be_removed_is_exit_3_and_not_called_done(group: Path, capsys: Any, monkeypatch: Any) -> None:
    def full(_: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(clean, "_cut", full)
    code, out, err = call(capsys, "clean", "--yes")
    assert (code, out) == (3, "")
    assert f"{group}/logs/agent_aide-13.out: Read-only file system" in err
    assert json.loads((group / "cleaned.json").read_text())["cleaned"][0]["is_done"] is False


def test_deep_and_closed_folders_go_too(group: Path, capsys: Any) -> None:
    here = os.open(group / "toy_13" / "workspaces", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=here)
        inner = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    (group / "toy_13" / "workspaces" / "0").chmod(0)
    assert call(capsys, "clean", "--yes")[0] == 0
    assert not (group / "toy_13" / "workspaces").exists()


def test_json_tells_what_went(group: Path, capsys: Any) -> None:
    told = json.loads(call(capsys, "clean", "--yes", "--json")[1])
    assert told["runs"][0]["run"] == str(group) and told["bytes"] > 100_000


def test_all_workflows_are_asked_for_at_once(site: Path, scheduler: Any, capsys: Any) -> None:
    fake = scheduler({})
    for day in range(1, 8):
        folder = make_group(site / NAME.replace("01-02", f"01-0{day}"), [f"{day}3"])
        fill(make_run(folder, f"{day}3", "scored"))
    assert call(capsys, "clean", "--yes")[0] == 0
    assert len(fake.asked) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--older-than", "soon"), "--older-than soon: is neither an age (90m, 12h, 3d, 2w) nor a date (2026-11-20)"),
        (("x",), "x: `clean` takes no RUN"),
    ],
)
def test_bad_usage(site: Path, capsys: Any, arguments: tuple[str, ...], said: str) -> None:
    try:
        code, _, err = call(capsys, "clean", *arguments)
    except SystemExit as ended:
        code, err = ended.code, capsys.readouterr().err
    assert code == 2 and said in err


def test_no_runs_yet_are_nothing_to_clean(site: Path, capsys: Any) -> None:
    site.rmdir()
    assert call(capsys, "clean")[:1] == (0,)
