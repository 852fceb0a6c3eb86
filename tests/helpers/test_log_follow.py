"""`jobs.sh logs -f`: what is shown of logs that grow, and that it holds little and ends nothing."""

# ruff: noqa: F811
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_jobs import call, make_group, quick, scheduler  # noqa: F401

from helpers.jobs import follow, log_follow
from helpers.jobs.log_follow import AT_ONCE, LONGEST, Tail

# ---- a file


def test_what_is_new_is_shown_once(tmp_path: Path) -> None:
    log, tail = tmp_path / "a.out", Tail()
    assert tail.more(log) == [] and tail.more(None) == []
    log.write_text("".join(f"{number}\n" for number in range(100)))
    assert tail.more(log) == [str(number) for number in range(60, 100)]
    assert tail.more(log) == []
    with log.open("a") as file:
        file.write("half a ")
        file.flush()
        assert tail.more(log) == []
        file.write("line\nnext")
    assert tail.more(log) == ["half a line"]
    assert tail.more(log, is_last=True) == ["next"]


def test_a_file_that_is_cut_or_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    log, tail = tmp_path / "a.out", Tail()
    log.write_text("one\ntwo\n")
    assert tail.more(log) == ["one", "two"]
    log.write_text("new\n")
    assert tail.more(log) == ["new"]
    (tmp_path / "b").write_text("other and longer\n")
    (tmp_path / "b").replace(log)
    assert tail.more(log) == ["other and longer"]


def test_what_comes_too_quickly_is_left_out_and_told(tmp_path: Path) -> None:
    log, tail = tmp_path / "a.out", Tail()
    log.write_text("begun\n")
    assert tail.more(log) == ["begun"]
    with log.open("a") as file:
        file.write("x" * 79 + "\n")
        file.truncate(2**40)  # a hole, in the blink of an eye
    lines = tail.more(log)
    assert lines[1] == f"[... {2**40 - 6 - AT_ONCE} bytes are left out ...]"
    assert sum(map(len, lines)) <= AT_ONCE + 100
    assert tail.more(log) == []


def test_a_line_without_an_end_is_not_waited_for(tmp_path: Path) -> None:
    log, tail = tmp_path / "a.out", Tail()
    log.write_text("a\n")
    tail.more(log)
    log.write_text("a\n" + "y" * (LONGEST + 1))
    assert tail.more(log) == ["y" * (LONGEST + 1)]
    log.write_text("a\n" + "y" * (LONGEST + 1) + "\r 50%" * 4000)
    assert tail.more(log) == []
    assert tail._rest == b" 50%"
    with log.open("a") as file:
        file.write("\r100%\n")
    assert tail.more(log) == ["100%"]


def test_a_log_drives_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.out").write_bytes(b"\x1b[2J\xff red\x07\n")
    assert Tail().more(tmp_path / "a.out") == [" [2J\ufffd red "]


@pytest.mark.parametrize("lay", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), os.mkdir])
def test_only_files_are_read(tmp_path: Path, lay: Callable[[Path], Any]) -> None:
    lay(tmp_path / "a.out")
    assert Tail().more(tmp_path / "a.out", is_last=True) == []


# ---- the jobs of a run


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What happens in the pauses, one after another."""
    happening: list[Callable[[], Any]] = []
    monkeypatch.setattr(log_follow.time, "sleep", lambda _: happening.pop(0)() if happening else None)
    monkeypatch.setitem(follow.POLL_SECONDS, "local", 0.0)
    return happening


def test_logs_appear_as_jobs_start_and_it_ends_with_the_jobs(
    tmp_path: Path, scheduler: Any, steps: list[Any], capsys: Any
) -> None:
    group = make_group(tmp_path / "g", ["13"])
    logs = group / "logs"
    fake = scheduler(dict.fromkeys(("11", "12", "13"), "RUNNING"))
    (logs / "grading_server-11.out").write_text("serving\n")

    def end() -> None:
        (logs / "agent_aide-13.out").write_text("waits\ngoes on\nlast words")
        fake.answers = [{"11": "COMPLETED"}]

    steps += [lambda: (logs / "agent_aide-13.out").write_text("waits\n"), lambda: None, end]
    code, out, err = call(capsys, "logs", "-f", group)
    assert code == 0
    assert out.splitlines() == [
        f"== grading server (job 11): {logs}/grading_server-11.out",
        "serving",
        "",
        f"== agent aide (job 13): {logs}/agent_aide-13.out",
        "waits",
        "goes on",
        "last words",
        f"== model 30b (job 12): no log: it never started, or its log is not below {group}",
    ]
    assert err == (
        "jobs.sh: no log yet of agent aide (job 13), model 30b (job 12): it is shown once it is there. Ctrl-C ends this, and no job\n"
    )
    assert fake.cancelled == []


def test_of_one_part_only_that(tmp_path: Path, scheduler: Any, steps: list[Any], capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    scheduler({"11": "RUNNING", "13": "COMPLETED"})
    for name in ("grading_server-11", "agent_aide-13"):
        (group / "logs" / f"{name}.out").write_text(f"{name}\n")
    out = call(capsys, "logs", "--follow", group, "agent")[1]
    assert "agent_aide-13\n" in out and "grading" not in out
    make_group(tmp_path / "h", [])
    assert call(capsys, "logs", "-f", tmp_path / "h", "agent")[:2] == (0, "h has no agent jobs\n")


def test_what_an_agent_prints_is_shown_as_its_own_past_all_turns(
    tmp_path: Path, scheduler: Any, steps: list[Any], capsys: Any
) -> None:
    group = make_group(tmp_path / "g", ["13"])
    own = group / "toy_13" / "agent.log"
    fake = scheduler({"13": "RUNNING"})
    own.write_text("one\n")

    def more() -> None:
        own.write_text("one\ntwo\n")
        Path(f"{own}.last").write_text("three\n")

    def turn() -> None:
        with Path(f"{own}.last").open("a") as file:
            file.write("four\n")
        Path(f"{own}.last").rename(f"{own}.previous")
        Path(f"{own}.last").write_text("five\n")

    def join() -> None:
        own.write_text("one\ntwo\n[2 bytes are left out here]\nfour\nfive\n")
        for end in ("last", "previous"):
            Path(f"{own}.{end}").unlink()
        fake.answers = [{}]

    steps += [more, turn, join]
    out = call(capsys, "logs", "-f", group, "agent")[1]
    said = [line for line in out.splitlines() if line.startswith("|")]
    assert said == ["| one", "| two", "| three", "| four", "| five"]


def test_a_scheduler_that_is_silent_ends_nothing(tmp_path: Path, scheduler: Any, steps: list[Any], capsys: Any) -> None:
    group = make_group(tmp_path / "g", ["13"])
    (group / "logs" / "agent_aide-13.out").write_text("a\n")
    scheduler({"13": "RUNNING"}, None, None, {})
    code, _, err = call(capsys, "logs", "-f", group, "agent")
    assert code == 0
    assert err == "jobs.sh: the scheduler doesn't answer (connect failure): asking again, the logs go on\n"


@pytest.mark.parametrize("arguments", [("status", "-f"), ("logs", "-f", "--json")])
def test_it_is_for_logs_alone(arguments: tuple[str, ...], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        call(capsys, *arguments)
    assert ended.value.code == 2
    assert "only `logs` takes -f, and not with --json" in capsys.readouterr().err
