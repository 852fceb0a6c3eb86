"""The probes of `site.sh doctor` under watch, on a fake Slurm; and what they run to reach one another."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.doctor import peer
from helpers.jobs import cli, follow
from helpers.jobs.kinds.doctor import Report, Watch
from helpers.jobs.marks import MARK

PEER = Path(peer.__file__)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A doctor's folder with two probes, jobs 101 and 102, of which nobody has heard yet."""
    slurm, runs = tmp_path / "slurm", tmp_path / "runs"
    path = runs / "2026-11-27T12-00-00-UTC_doctor"
    for one in (slurm, path / "jobs", tmp_path / "addresses"):
        one.mkdir(parents=True)
    monkeypatch.setenv("FAKE_SLURM", str(slurm))
    (slurm / "jobs").write_text("101 RUNNING\n102 RUNNING\n")
    (path / "jobs" / "submitted").write_text("cpu=101\npeer=102\n")
    config = {
        "scheduler": {"kind": "slurm"},
        "paths": {"address_dir": str(tmp_path / "addresses")},
        "partitions": {"cpu": {"name": "c"}},
    }
    record = {"site": "here", "nonce": "feed", "folders": {"runs": str(runs)}, "config": config, "wait_minutes": 0.002}
    record["probes"] = {"cpu": {"role": "cpu"}, "peer": {"role": "cpu"}}
    (path / "doctor.json").write_text(json.dumps(record))
    monkeypatch.setattr(follow.fleet, "DOUBT_SECONDS", 0.2)
    monkeypatch.setattr("helpers.jobs.kinds.doctor.DOUBT_SECONDS", 0.2)
    monkeypatch.setattr("helpers.jobs.fleet.ASK_SECONDS", {"slurm": (0.2, 1.0)})
    return path


def tell(folder: Path, probe: str, *lines: str) -> None:
    with open(folder.parent / f"{MARK}feed.{probe}", "ab") as file:
        file.writelines(line.encode() + b"\n" for line in lines)


def watched(folder: Path) -> tuple[int, dict[str, Report]]:
    """The exit code, and the reports that it was made of."""
    seen: dict[str, Report] = {}

    def conclude(watch: Watch) -> int:
        seen.update(watch.reports)
        return 7

    return follow.follow(Watch(folder, conclude)), seen


def nothing_left(folder: Path) -> bool:
    return not folder.exists() and not list(folder.parent.glob(f"{MARK}*"))


def test_reports_are_heard_acknowledged_and_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    tell(folder, "cpu", "node\tn1", f"time\t{now - 0.1}", f"heard\t{now} {now + 0.2}", "reach\ta", "reach\tb", "end\t0")
    with open(folder.parent / f"{MARK}feed.peer", "wb") as file:
        file.write(b"bash\t\xff\xfe5.2\nend\t0\nhalf a li")
    code, reports = watched(folder)
    assert code == 7 and reports["cpu"].lines["reach"] == ["a", "b"] and "half a li" not in str(reports["peer"].lines)
    low, high = reports["cpu"].ahead
    assert low <= 0 <= high and high - low < 60
    assert nothing_left(folder)


def test_one_that_waits_for_too_long_is_cancelled_and_its_peer_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Path(os.environ["FAKE_SLURM"])
    (slurm / "jobs").write_text("101 PENDING\n102 PENDING\n")
    monkeypatch.setenv("FAKE_REASON", "Priority")
    _, reports = watched(folder)
    assert reports["peer"].given_up == "it hadn't started after 0.002 minutes (Priority)"
    assert "scancel  101\n" in (slurm / "calls").read_text() and nothing_left(folder)


def test_one_that_died_without_a_word(folder: Path) -> None:
    Path(os.environ["FAKE_SLURM"], "jobs").write_text("101 FAILED\n102 FAILED\n")
    tell(folder, "peer", "node\tn2")
    (folder.parent / f"{MARK}feed.peer.log").write_text(
        "x\nslurm_script: module a can't be loaded on n2: check environment.modules\n"
    )
    _, reports = watched(folder)
    assert reports["cpu"].died == "it ended as FAILED, and none of the site's folders here has a word of it"
    assert reports["peer"].died == "module a can't be loaded on n2: check environment.modules"


def test_jobs_sh_knows_a_doctor(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["status", str(folder)]) == 0
    assert "probe cpu   job 101  RUNNING" in capsys.readouterr().out
    (folder.parent / f"{MARK}feed.cpu.log").write_text("a word\n")
    assert cli.main(["logs", str(folder), "probe"]) == 0
    assert "a word" in capsys.readouterr().out
    assert cli.main(["stop", str(folder)]) == 0
    assert "stopped: probe cpu (job 101), probe peer (job 102)" in capsys.readouterr().out


# ---- what probes run to reach one another


@pytest.fixture
def listener(tmp_path: Path) -> Any:
    """The two ports of one that says `word`."""
    file = tmp_path / "ports"
    process = subprocess.Popen([sys.executable, "-I", str(PEER), "listen", "word", str(file), "20000", "60000"])
    try:
        until = time.monotonic() + 10
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield file.read_text().split()
    finally:
        process.kill()
        process.wait()


def test_a_listener_is_known_by_its_word(listener: list[str]) -> None:
    any_port, ranged = listener
    assert 20000 <= int(ranged) <= 60000
    assert peer.answer("127.0.0.1", ranged, "word") == "yes"
    assert peer.answer("127.0.0.1", any_port, "another") == "somebody else answers there"


def test_all_are_asked_and_each_answer_has_a_line(listener: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    any_port, ranged = listener
    peer.ask("word", [f"name=127.0.0.1={any_port}", f"name:range=127.0.0.1={ranged}", "lo=127.0.0.1=1"])
    assert capsys.readouterr().out.splitlines() == [
        f"reach name 127.0.0.1 {any_port} yes",
        f"reach name:range 127.0.0.1 {ranged} yes",
        "reach lo 127.0.0.1 1 Connection refused",
    ]
    assert peer.answer("no.such.host.invalid", "1", "word") != "yes"


def test_no_gpus_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer.glob, "glob", lambda pattern: [])
    monkeypatch.setenv("PATH", "/nowhere")
    peer.gpus()
    assert capsys.readouterr().out == "0 none can be opened\n"


def test_what_runs_on_nodes_needs_no_new_python() -> None:
    """From 3.6 on: no annotations that are put off, no `:=`, no `match`."""
    text = PEER.read_text()
    ast.parse(text, feature_version=(3, 6))
    assert "from __future__" not in text
