"""The repository tasks that come with this project: they are prepared, begun badly, and can be solved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
