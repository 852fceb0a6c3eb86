"""A round live in the terminal: what is shown at which width, what is told where there is none, and that nothing but the view ends."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.benchmarks import manifest, stamps
from helpers.benchmarks.cli import main
from helpers.benchmarks.live import Live
from helpers.benchmarks.watch import Watch
from helpers.jobs import fleet, follow, submitted
from helpers.jobs.watch import watch
from helpers.lib import disk, values
from helpers.lib.command_line import launch
from helpers.runs import metadata

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "[red]30b\x1b[2J\u202e"


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A round of two tasks, each with three rollouts, all submitted to a Slurm that says what lies in tmp_path/answer."""
    for name, text in (("squeue", 'cat "$FAKE/answer"'), ("scancel", 'echo "$@" >>"$FAKE/cancelled"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    says(tmp_path, "RUNNING")
    made = stamps.make(tmp_path / "rollouts", "mine")
    paths = {"data": "/data", "address_dir": str(tmp_path / "addresses")}
    config = {
        "container": {"runtime": "none"},
        "jobs": {"agent": {"cpus": 1}},
        "paths": paths,
        "scheduler": {"kind": "slurm"},
    }
    cells = [
        {"competition": task, "agent": "aide", "model": HOSTILE, "seed": 0, "rollouts": 3, "config_hash": task}
        for task in ("classification_basic", "regression")
    ]
    record = {"cells": cells, "config": config, "benchmark": {"name": "mine"}, "jobs": {}, "created_at": values.now()}
    disk.write_json(made / "workflow.json", record)
    manifest.begin(made, record)
    (made / "jobs" / "submitted").write_text("agent=7_[0-5] agent.sh 0 0 6 auto:6\n")
    submitted.submitted(made)
    return made


def says(folder: Path, state: str, reason: str = "None") -> None:
    (folder / "answer").write_text("".join(f"7_{number}|{state}|{reason}|0:01|n1\n" for number in range(6)))


def end(group: Path, number: int, score: float | None = None, state: str = "scored", **more: Any) -> None:
    (run,) = (run for run in metadata.runs_of(group) if run.job_id == f"7_{number}")
    disk.write_json(run.directory / "run_metadata.json", run.metadata | {"state": state, "reason": "so it is", **more})
    if score is not None:
        report = {"total_score": score, "valid_submission": True, "metric": "accuracy", "is_lower_better": False}
        disk.write_json(run.directory / "grading_report.json", report)


def step(group: Path, number: int, step: int, best: float) -> None:
    (run,) = (run for run in metadata.runs_of(group) if run.job_id == f"7_{number}")
    (run.directory / "logs").mkdir()
    disk.write_json(run.directory / "logs" / "usage.json", {"steps": step})
    node = {"is_buggy": False, "metric": {"value": best, "maximize": True}}
    disk.write_json(run.directory / "logs" / "journal.json", {"nodes": [node]})


def shown(group: Path, width: int = 80, height: int = 40, **options: Any) -> tuple[Live, io.StringIO]:
    """A view on a terminal that is recorded."""
    text, one = io.StringIO(), Live(group)
    one.show_on(Console(file=text, width=width, height=height, force_terminal=True, color_system="standard", **options))
    return one, text


def lines(view: Live, height: int | None = 40) -> list[str]:
    with view.console.capture() as captured:
        view.console.print(view.view(height))
    return captured.get().splitlines()


def half_done(group: Path) -> None:
    end(group, 0, 0.5)
    end(group, 1, 0.7)
    end(group, 2, state="running", agent_started_at=values.now(), time_limit_seconds=3600, step_limit=20)
    step(group, 2, 3, 0.81)
    end(group, 3, 0.2)
    end(group, 4, state="lost")


# ---- at a terminal


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_and_what_runs_now_fit_a_terminal(group: Path, width: int) -> None:
    half_done(group)
    view, _ = shown(group, width, no_color=True)
    told = lines(view)
    text = " ".join(" ".join(told).split())
    assert told[0] == f"mine {group.name}" and max(map(len, told)) <= width
    assert "4 of 6 ended after" in text and "0.000 GPU-hours used" in text
    assert "by state: 3 scored, 1 running, 1 lost, 1 waiting" in text
    assert "2 of 3 0.60" in text and "-0.67 to 1.87" in text and "1 of 3 0.2 N/A" in text
    assert "accuracy over 2 0.40" in text
    (now,) = (line for line in told if line.startswith("#2 "))
    assert "running  step 3 of 20" in now
    if width > 100:
        assert "step 3 of 20, best 0.81 by its own measure, 59 min left" in now
        assert "0.60 ± 0.1" in text and "2 scored, 1 running" in text
    else:
        assert "±" not in text


def test_no_name_drives_the_terminal_or_is_markup(group: Path) -> None:
    half_done(group)
    view, text = shown(group)
    view._show()
    view.close()
    assert "[red]30b" in text.getvalue() and "\x1b[2J" not in text.getvalue() and "\u202e" not in text.getvalue()
    assert "\x1b[36mrunning" in text.getvalue()


def test_of_many_runs_some_are_looked_at_and_of_many_cells_those_that_fit(group: Path) -> None:
    for number in range(6):
        end(group, number, state="running")
    view, _ = shown(group, height=9)
    text = "\n".join(lines(view, 9))
    assert [f"#{number} " in text for number in range(6)] == [True] * 3 + [False] * 3 and "3 more" in text
    assert "#0" not in "\n".join(lines(view, None))
    assert len([line for line in lines(view, 1) if line.startswith(("class", "regr"))]) == 1


def test_a_budget_is_told_beside_what_is_used(group: Path) -> None:
    (group / "bounds").write_text("tokens 2000000\ngpu_hours 50\n")
    server = {"gpus": 2, "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T01:30:00Z"}
    (group / "services").mkdir(exist_ok=True)
    disk.write_json(group / "services" / "vllm_m_5.json", server)
    disk.write_text(group / "ends" / "1.7_0.scored.1200.0", "")
    assert shown(group)[0].head()[1].endswith("1,200 of 2,000,000 tokens, 3.000 of 50 GPU-hours used")


def test_the_summary_is_made_anew_as_runs_end_and_not_at_every_look(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, _ = shown(group)
    made = view.summary
    view.look()
    assert view.summary is made
    end(group, 0, 0.5)
    view.look()
    assert view.summary is made  # it is too soon
    view.due = 0.0
    view.look()
    assert view.summary is not made and view.summary.graded == 1
    view.close()


# ---- elsewhere


def test_without_a_terminal_there_is_a_line_for_each_cell_in_which_runs_have_ended(
    group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = Live(group)
    view.look()
    assert capsys.readouterr().out == ""
    half_done(group)
    view.due = 0.0
    view.look()
    said = capsys.readouterr().out.splitlines()
    name = "[red]30b [2J "
    assert [line[9:] for line in said] == [
        f"classification_basic / aide / {name}: 2 of 3 graded, mean 0.60 ± 0.1, 95% interval -0.67 to 1.87; 2 scored, 1 running",
        f"regression / aide / {name}: 1 of 3 graded, mean 0.2; 1 scored, 1 lost, 1 waiting",
    ]
    view.due = 0.0
    view.look()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("state", "code"), [("scored", 0), ("no_submission", 4), ("cancelled", 130), ("lost", 3)])
def test_it_ends_with_the_round_as_attach_does_and_tells_no_server_to_end(
    group: Path, capsys: pytest.CaptureFixture[str], state: str, code: int, tmp_path: Path
) -> None:
    for number in range(6):
        end(group, number, number / 10 if number < 5 or state == "scored" else None, "scored" if number < 5 else state)
    assert watch(group, False, print, Live) == code
    said = capsys.readouterr().out
    assert f"6 asked for: {6 if code == 0 else 5} graded" in said and f"summarize {group}" in said
    assert watch(group, False, lambda _: None, Watch) == code
    assert not (tmp_path / "cancelled").exists()


def start(group: Path, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command at a terminal of its own; the terminal's other side."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.benchmarks.cli", "live", str(group)],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def read(terminal: int, until: str, said: str = "") -> str:
    """What is written to a terminal, until these words have been there; all of it for none."""
    end_by = time.monotonic() + 30
    while (not until or until not in said) and select.select([terminal], [], [], end_by - time.monotonic())[0]:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        said += more.decode("utf-8", "replace")
    assert until in said, said
    return said


@pytest.mark.parametrize("has_colour", [True, False])
def test_ctrl_c_ends_the_view_and_no_job(group: Path, tmp_path: Path, has_colour: bool) -> None:
    half_done(group)
    process, terminal = start(group, **({"NO_COLOR": ""} if has_colour else {"NO_COLOR": "1"}))
    try:
        said = read(terminal, "2 of 3")
        process.send_signal(signal.SIGINT)
        said = read(terminal, "", said)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert ("\x1b[36m" in said) is has_colour
    words = " ".join(said.split())
    assert "SIGINT: its jobs go on. To watch again: scripts_hpc/results.sh watch" in words and "Traceback" not in said
    assert not (tmp_path / "cancelled").exists()
    assert [run.state for run in metadata.runs_of(group)] == [
        "scored",
        "scored",
        "running",
        "scored",
        "lost",
        "waiting",
    ]


def test_jobs_that_will_never_start_are_told_and_left_alone(
    group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fleet, "DOUBT_SECONDS", 0.05)
    monkeypatch.setitem(fleet.ASK_SECONDS, "slurm", (0.0, 0.0))
    monkeypatch.setitem(follow.POLL_SECONDS, "slurm", 0.06)
    says(tmp_path, "PENDING", "BadConstraints")
    looks = []

    class Patient(Live):
        def look(self, ask: bool = True) -> bool:
            looks.append(ask)
            return super().look(ask) and len(looks) < 8

    assert watch(group, False, print, Patient) == 3  # as of a round that isn't over
    assert "and will never start" in capsys.readouterr().err and len(looks) == 8
    assert not (tmp_path / "cancelled").exists() and {run.state for run in metadata.runs_of(group)} == {"waiting"}


def test_a_round_is_found_by_its_name_and_what_is_none_is_refused(
    group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        end(group, number, 0.5)
    rollouts = ["--set", f"paths.rollouts={group.parents[1]}", "--site", "local"]
    for word in ("mine", f"mine/{group.name}", str(group)):
        assert launch(main, "results.sh", ["live", word, *rollouts]) == 0
        assert "6 asked for: 6 graded" in capsys.readouterr().out
    assert launch(main, "results.sh", ["live", "yours", *rollouts]) == 2
    assert "no rounds of a benchmark 'yours'" in capsys.readouterr().err
