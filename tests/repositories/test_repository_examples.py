"""The repository tasks that come with this project: they are prepared, begun badly, and can be solved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from upstream import contents, git

from helpers.data import layout
from helpers.lib.checkout import TASKS
from helpers.prepare import backends
from helpers.repositories import instance, source
from helpers.tasks.catalogue import open_registry

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = Path(__file__).parent / "solutions"
# the rubrics that pass before anything was done
KEPT = {"repository_library": {"kept"}, "repository_script": set(), "repository_service": {"kept"}}


def prepare(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers.prepare_all_tasks", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPC_SITE": "local"}
    where = tmp_path / "cwd"
    where.mkdir(exist_ok=True)
    return subprocess.run(
        [*command, "--data-dir", str(tmp_path / "data")], cwd=where, env=environment, capture_output=True, text=True
    )


def passed(made: Path, work: Path) -> set[str]:
    """The rubrics whose test scripts all pass in a checkout, which they run in as they do in a run."""
    told = json.loads((made / "private/evaluation.json").read_text())
    failed = set()
    for script in told["test_scripts"]:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TESTS_DIR": str(made / "private/tests"),
        }
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = ["bash", str(made / "private/tests" / script["path"])]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=60)
        failed |= {script["rubric_id"]} if done.returncode else set()
    return {script["rubric_id"] for script in told["test_scripts"]} - failed


def test_there_are_three() -> None:
    assert set(source.known(TASKS)) == set(KEPT) == {path.stem for path in SOLUTIONS.iterdir()}


@pytest.mark.parametrize("name", KEPT)
def test_an_example_is_prepared_and_solved(tmp_path: Path, name: str) -> None:
    assert backends.choose(name, open_registry(), None).name == "repository"
    done = prepare(tmp_path, name)
    assert done.returncode == 0, done.stdout
    assert f"✓ Successfully prepared {name}" in done.stdout and "WARNING" not in done.stdout
    assert layout.problem(tmp_path / "data", name) is None
    prepared = layout.prepared(tmp_path / "data", name)
    assert {"manifest.json", "fingerprint.json", "public", "private"} == {path.name for path in prepared.iterdir()}
    assert json.loads((prepared / "manifest.json").read_text())["backend"] == "repository"
    made = instance.make(prepared)
    assert instance.notes(made) == [] and not {one for one in contents(made / "public/base.git") if "evaluation" in one}
    git(tmp_path, "clone", "--quiet", str(made / "public/base.git"), "work")
    assert passed(made, tmp_path / "work") == KEPT[name]
    git(tmp_path / "work", "apply", str(SOLUTIONS / f"{name}.patch"))
    rubrics = {one["id"] for one in json.loads((made / "private/evaluation.json").read_text())["rubrics"]}
    assert passed(made, tmp_path / "work") == rubrics
    weights = [one["weight"] for one in json.loads((made / "private/evaluation.json").read_text())["rubrics"]]
    assert sum(weights) == pytest.approx(1)


def test_jobs_take_it_for_prepared(tmp_path: Path) -> None:
    name = "repository_service"
    script = (
        f'source "{ROOT}/scripts_hpc/lib/common.sh"; DATA=$1 SITE=local; common::check_prepared {name} public private'
    )
    command = ["bash", "-euo", "pipefail", "-c", script, "-", str(tmp_path / "data")]
    missing = subprocess.run(command, capture_output=True, text=True)
    assert missing.returncode == 2 and f"Use scripts_hpc/prepare_tasks.sh {name}" in missing.stderr
    assert prepare(tmp_path, name).returncode == 0
    there = subprocess.run(command, capture_output=True, text=True)
    assert (there.returncode, there.stdout, there.stderr) == (0, "", "")


def slow_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git that waits before it makes a repository's packs; the file that then tells its process."""
    folder, told = tmp_path / "bin", tmp_path / "waiting"
    folder.mkdir()
    git_itself = shutil.which("git")
    text = f'#!/bin/bash\nif [[ " $* " == *" pack-objects "* ]]; then echo $$ >>{told}; sleep 2; fi\nexec {git_itself} "$@"\n'
    (folder / "git").write_text(text)
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return told


def begin(tmp_path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "helpers.prepare_all_tasks", name, "--data-dir", str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPC_SITE": "local"}
    where = Path(tempfile.mkdtemp(dir=tmp_path))
    return subprocess.Popen(
        command, cwd=where, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_at_once_prepare_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = slow_git(tmp_path, monkeypatch)
    said = [one.communicate(timeout=120)[0] for one in [begin(tmp_path, "repository_script") for _ in range(2)]]
    assert len(told.read_text().split()) == 1
    assert sum("✓ Successfully prepared repository_script" in text for text in said) == 1
    assert sum("it is already prepared" in text or "Already prepared: 1" in text for text in said) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_in_the_middle_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    told = slow_git(tmp_path, monkeypatch)
    running = begin(tmp_path, "repository_script")
    limit = time.monotonic() + 60
    while not told.exists() or not told.read_text().strip():
        assert time.monotonic() < limit
        time.sleep(0.02)
    running.send_signal(number)
    running.communicate(timeout=30)
    process = Path("/proc", told.read_text().strip())
    while process.exists() and process.joinpath("cmdline").read_bytes():
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert not (tmp_path / "data/repository_script").exists()
    assert prepare(tmp_path, "repository_script").returncode == 0
    assert not list((tmp_path / "data/.preparing").glob("*@*"))


def test_what_is_prepared_is_left_alone_and_force_makes_it_anew(tmp_path: Path) -> None:
    name = "repository_script"
    assert prepare(tmp_path, name).returncode == 0
    first = (tmp_path / "data" / name / "prepared").stat().st_ino
    digest = (tmp_path / "data" / name / "prepared/fingerprint.json").read_text()
    assert "it is already prepared" in prepare(tmp_path, name).stdout
    assert (tmp_path / "data" / name / "prepared").stat().st_ino == first
    assert prepare(tmp_path, name, "--force").returncode == 0
    assert (tmp_path / "data" / name / "prepared").stat().st_ino != first
    again = json.loads((tmp_path / "data" / name / "prepared/fingerprint.json").read_text())
    assert again["data_fingerprint"] == json.loads(digest)["data_fingerprint"]


def test_notes_and_errors_reach_the_person(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    for name, more in (("noted", {"colour": "red"}), ("broken", {"lm": {}})):
        (tasks / name / "repository").mkdir(parents=True)
        (tasks / name / "repository" / "a").write_text("x")
        data = json.loads((TASKS / "repository_script" / "tb_meta.json").read_text())
        data["evaluation"]["test_scripts"] = [{"path": "a.sh", "content": "true", "rubric_id": "case"}]
        (tasks / name / "tb_meta.json").write_text(json.dumps({**data, "task_id": name, **more}))
    done = prepare(tmp_path, "noted", "broken", "--tasks-dir", str(tasks))
    assert done.returncode == 1
    assert "WARNING - noted: " in done.stdout and "not used here: colour" in done.stdout
    assert "no test script tests the rubric 'top'" in done.stdout
    assert "✗ Failed to prepare broken" in done.stdout and "lm.instructions: must be set" in done.stdout
    assert (tmp_path / "cwd/failed_tasks.txt").read_text() == "broken\n"
    assert not (tmp_path / "data/broken").exists()
    assert (
        "is for competitions of mle-bench"
        in prepare(tmp_path, "noted", "--tasks-dir", str(tasks), "--raw", str(tasks), "--force").stdout
    )
    said = prepare(tmp_path, "nowhere", "--tasks-dir", str(tasks), "--backend", "repository").stdout
    assert "nowhere is no repository task" in said


def test_what_must_be_downloaded_is_told_before_a_job_tries(tmp_path: Path) -> None:
    def instead(git_url: str) -> str:
        folder = tmp_path / "tasks" / "toy"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tb_meta.json").write_text(json.dumps({"repo": {"git_url": git_url}}))
        backend = backends.choose("toy", open_registry(), str(tmp_path / "tasks"))
        return backends.downloads(backend, "toy", str(tmp_path / "tasks"))

    for url in ("https://example.org/x", "git@example.org:x/y.git", "ssh://example.org/x"):
        assert instead(url) == "give a clone of it as repo.git_url"
    for place in ("repository", "/somewhere/x.git", "file:///somewhere", "./a:b"):
        assert instead(place) == ""
    assert "--raw" in backends.downloads(backends.BACKENDS["mlebench"], "spaceship-titanic", None)
    assert backends.downloads(backends.BACKENDS["own"], "classification_basic", None) == ""
