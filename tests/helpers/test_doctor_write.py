"""`site.sh doctor --write`, its record and its table: a site's file changes in one place alone."""

from __future__ import annotations

import difflib
import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from helpers.cluster.doctor import table, write
from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, code, written
from helpers.config import sites
from helpers.lib.errors import ConfigError
from helpers.runs import doctor_record

TEXT = """# a cluster
description: "mine"    # told

scheduler:
    account:  science   # the only one

partitions: {cpu: {name: cpu}}   # braces
network:
  # which one?
  ports: [20000, 60000]
environment:
  offline: false                          # a guess: true, where compute nodes don't reach the internet
  modules: ["a/1", 'b']
limits:
  gpu_idle_minutes: null
# the last word"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "here.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def changes(path: Path) -> list[str]:
    lines = difflib.ndiff(TEXT.splitlines(), path.read_text().splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_key_that_is_there_keeps_its_comment(file: Path) -> None:
    write.put(file, {"environment.offline": True})
    assert changes(file) == [
        "-   offline: false                          # a guess: true, where compute nodes don't reach the internet",
        "+   offline: true                          # a guess: true, where compute nodes don't reach the internet",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 and os.listdir(file.parent) == ["here.yaml"]


def test_a_key_that_is_new_in_its_section(file: Path) -> None:
    write.put(file, {"network.interface": "ib0"})
    assert changes(file) == ["+   interface: ib0  # site.sh doctor --write: measured"]
    assert yaml.safe_load(file.read_text())["network"] == {"ports": [20000, 60000], "interface": "ib0"}


def test_a_section_that_is_new(file: Path) -> None:
    write.put(file, {"paths.address_dir": "/site/a b/runs/.addresses"})
    assert changes(file) == [
        "+ ",
        "+ paths:",
        '+   address_dir: "/site/a b/runs/.addresses"  # site.sh doctor --write: measured',
    ]


def test_several_at_once_and_twice(file: Path) -> None:
    values = {"network.interface": "lo", "environment.offline": True, "environment.proxy": "http://proxy:3128"}
    write.put(file, values)
    once = file.read_text()
    write.put(file, values)
    assert file.read_text() == once
    data = yaml.safe_load(once)
    assert data["network"]["interface"] == "lo" and data["environment"]["proxy"] == "http://proxy:3128"


def test_braces_and_empty_sections(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("network: {interface: null, ports: [1, 2]}   # mine\nenvironment:\nlimits: {}\n")
    write.put(file, {"network.interface": "lo", "environment.offline": True})
    lines = file.read_text().splitlines()
    assert lines[0] == "network: {interface: lo, ports: [1, 2]}   # mine"
    assert (
        lines[2:] == ["  offline: true  # site.sh doctor --write: measured", "limits: {}"][0:2]
        or lines[1] == "environment:"
    )
    assert yaml.safe_load(file.read_text())["environment"] == {"offline": True}


def test_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("")
    write.put(file, {"network.interface": "lo"})
    assert yaml.safe_load(file.read_text()) == {"network": {"interface": "lo"}}


@pytest.mark.parametrize(
    "text", ["network:\n  interface: |\n    ib0\n", "network:\n  interface: &x ib0\nlimits: {y: *x}\n"]
)
def test_what_cannot_be_changed_is_left(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(
        ConfigError, match="written in a way that --write can't change: set network.interface: lo yourself"
    ):
        write.put(file, {"network.interface": "lo"})
    assert file.read_text() == text


def test_a_file_of_another_is_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write.os, "getuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another user, and is left as it is"):
        write.put(file, {"network.interface": "lo"})
    assert changes(file) == []


@pytest.mark.parametrize("value", ["lo", "on", "1e3", "no", "http://p:1", True, None, 7, "null", "a: b # c"])
def test_scalars_come_back(value: object) -> None:
    assert yaml.safe_load(f"key: {write.scalar(value)}") == {"key": value}


# ---- the record


def test_a_site_that_no_doctor_has_passed(tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    file.write_text(f"paths: {{runs: {tmp_path}/runs}}\n")
    site = sites.load_site(str(file))
    assert doctor_record.note(site) == (
        "site here has never passed its check: `scripts_hpc/site.sh doctor --site here` says whether a run would work."
    )
    doctor_record.write(site, False, {"failure": 1}, False)
    assert "didn't pass its check of 2" in str(doctor_record.note(site))
    doctor_record.write(site, True, {"ok": 3}, False)
    assert doctor_record.note(site) is None
    last = doctor_record.last(site)
    assert last is not None and last["passed"] and 0 <= last["age_seconds"] < 60 and last["same_config"]
    site.jobs.agent.memory_gb = 64  # what one run may be given
    assert doctor_record.note(site) is None
    site.network.interface = "ib0"
    assert "isn't configured as it was at its check of 2" in str(doctor_record.note(site))
    site.scheduler.kind = "local"
    assert doctor_record.note(site) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"at": 7, "passed": true}', '{"at": "2026-11-27T12:00:00Z", "passed": "yes"}']
)
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "here.yaml"
    file.write_text(f"paths: {{runs: {tmp_path}/runs}}\n")
    site = sites.load_site(str(file))
    doctor_record.path_of(site).parent.mkdir(parents=True)
    doctor_record.path_of(site).write_text(text)
    assert doctor_record.last(site) is None


# ---- the table

ROWS = [
    Finding("programs", OK, "bash 5"),
    Finding("shared data", WARNING, "/a/very/long/path" * 9 + " \x1b[31mcan't be written", "paths.data", "another"),
    Finding("network", FAILURE, "n1 to n2: refused", "network.interface", "ib0", "ib0", True),
    Finding("GPUs", NOT_CHECKED, "--gpu asks one"),
]


def test_the_table_fits_a_terminal_and_has_words_for_states() -> None:
    text = table.text(ROWS, "here", terminal=False)
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    assert "→ network.interface: ib0" in text
    assert text.endswith("site here: a run would not work yet (1 ok, 1 warning, 1 failure, 1 not checked)")


def test_colours_at_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in table.text(ROWS, "here", terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in table.text(ROWS, "here", terminal=True)


def test_what_was_written_and_cures_is_ok() -> None:
    done = written(ROWS[2])
    assert (done.state, done.advice) == (OK, "written: network.interface: ib0")
    assert code(ROWS) == 3 and code([*ROWS[:2], done]) == 0
    assert written(Finding("internet", WARNING, "none", "environment.offline", "true", True)).state == WARNING


def test_json_says_the_same() -> None:
    data = json.loads(table.as_json(ROWS, "here"))
    assert (data["passed"], data["counts"]["failure"]) == (False, 1)
    assert data["findings"][2] == ROWS[2].data
