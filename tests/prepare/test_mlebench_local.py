"""Competitions of mle-bench from raw files that lie here: its own code and checksums, no Kaggle; its graders for a user's folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.prepare import backends

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests/prepare/fakes/python"
KNOWN = Path("mlebench/competitions/known")
ROWS = "id,y\n0,0\n1,1\n2,0\n3,1\n"
MADE = {
    "public": {"train.csv": "id,y\n0,0\n1,1\n", "sample_submission.csv": "id,y\n2,0\n3,0\n"},
    "private": {"test.csv": "id,y\n2,0\n3,1\n"},
}


class World:
    """A copy of the fake package, whose competition has the checksums of ROWS; and the raw files, as zip and folder."""

    def __init__(self, folder: Path):
        self.folder, self.data, self.tasks = folder, folder / "data", folder / "tasks"
        self.tasks.mkdir(parents=True)
        shutil.copytree(FAKE, folder / "python")
        self.known = folder / "python" / KNOWN
        self.raw, self.zip = folder / "raw", folder / "by hand (1).zip"
        self.raw.mkdir()
        (self.raw / "train.csv").write_text(ROWS)
        with zipfile.ZipFile(self.zip, "w") as file:
            file.writestr("train.csv", ROWS)
        lines = [f"zip: {md5(self.zip.read_bytes())}"]
        for half, files in MADE.items():
            lines += [f"{half}:", *(f"  {name}: {md5(text.encode())}" for name, text in files.items())]
        (self.known / "checksums.yaml").write_text("\n".join(lines) + "\n")
        self.program = folder / "bin/mlebench"
        self.program.parent.mkdir()
        self.install(f"#!{sys.executable}\nraise SystemExit('asked Kaggle')\n")

    def install(self, text: str) -> None:
        self.program.write_text(text)
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    @property
    def env(self) -> dict[str, str]:
        paths = {"PATH": f"{self.program.parent}:/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{self.folder / 'python'}"}
        return {"HOME": str(self.folder), "HPC_SITE": "local", **paths}

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "helpers.prepare_all_tasks", *map(str, arguments)]
        command += ["--data-dir", str(self.data), "--tasks-dir", str(self.tasks)]
        result = subprocess.run(command, cwd=self.folder, env=self.env, text=True, capture_output=True, timeout=60)
        assert "Traceback" not in f"{result.stdout}{result.stderr}"
        return result

    def made(self, task: str = "known") -> dict[str, dict[str, str]]:
        prepared = self.data / task / "prepared"
        return {half: {path.name: path.read_text() for path in (prepared / half).glob("*.csv")} for half in MADE}

    def grade(self, task: str) -> str:
        code = "import sys; from helpers.grading import graders; report = graders.load(*sys.argv[1:3]).grade(sys.argv[3]); "
        code += "print(report['score'], report['gold_medal'], report['gold_threshold'])"
        answers = self.data / task / "prepared/private/test.csv"
        command = [sys.executable, "-c", code, task, str(self.data), str(answers)]
        return subprocess.run(command, cwd=self.folder, env=self.env, text=True, capture_output=True, check=True).stdout


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "a world")


@pytest.mark.parametrize("form", ["zip", "folder", "folder with the zip"])
def test_raw_files_that_lie_here(world: World, form: str) -> None:
    raw = world.zip if form == "zip" else world.raw
    if form == "folder with the zip":
        shutil.copyfile(world.zip, world.raw / "known.zip")
        (world.raw / "train.csv").unlink()
    before = sorted(path.name for path in world.raw.iterdir())
    result = world.run("known", "--raw", raw)
    assert result.returncode == 0, result.stdout
    assert world.made() == MADE
    assert (world.data / "known/prepared/public/description.md").read_text() == "# Known\n"
    assert [path.name for path in (world.data / "known").iterdir()] == ["prepared"]
    assert sorted(path.name for path in world.raw.iterdir()) == before  # a prepare.py unpacks in a copy
    assert world.grade("known") == "1.0 True 0.9\n"


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_other_files_are_found_out_by_the_checksums(world: World, form: str) -> None:
    raw = world.zip if form == "zip" else world.raw
    (world.raw / "train.csv").write_text(ROWS.replace("3,1", "3,0"))
    with zipfile.ZipFile(world.zip, "a") as file:
        file.writestr("more", "")
    result = world.run("known", "--raw", raw)
    assert result.returncode == 1
    assert (
        "checksum mismatch" in result.stdout and "the raw files were changed or cut: fetch them again" in result.stdout
    )
    assert not (world.data / "known").exists()
    assert world.run("known", "--raw", raw, "--skip-verification").returncode == 0


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["known", "--raw", "none.zip"], 2, "error: --raw none.zip: there is no such file or folder"),
        (["known", "other", "--raw", "raw"], 2, "error: --raw goes with one task: each has raw files of its own"),
        (["--task-list", "list", "--raw", "raw"], 2, "error: --raw goes with one task, named on the command line"),
        (["known", "--raw", "cut.zip"], 1, "cut.zip is no zip archive, or not a whole one: fetch it again"),
        (["known", "--raw", "empty"], 1, "empty is empty: the competition's zip, or the files of it, belong there"),
        (["classification_basic", "--raw", "raw"], 1, "is a task of this project, which makes its data itself"),
        (["a/b", "--raw", "raw"], 1, "a/b is BioML-bench's"),
        (["known", "--raw", "raw", "--overwrite-checksums"], 1, "raw is a folder: give the zip"),
        (["known", "--raw", "raw", "--overwrite-leaderboard"], 1, "nothing is downloaded here: leave it out"),
        (["unknown", "--raw", "raw"], 1, "unknown task: mlebench has none of this id"),
    ],
)
def test_what_cannot_be(world: World, arguments: list[str], code: int, said: str) -> None:
    (world.folder / "cut.zip").write_bytes(world.zip.read_bytes()[:60])
    (world.folder / "empty").mkdir()
    result = world.run(*arguments)
    assert result.returncode == code
    assert said in result.stdout + result.stderr


def test_a_folder_with_a_prepare_py_of_mle_bench(world: World) -> None:
    folder = world.tasks / "known"
    folder.mkdir()
    shutil.copyfile(world.known / "prepare.py", folder / "prepare.py")
    shutil.copytree(world.raw, folder / "raw")
    result = world.run("known")
    assert result.returncode == 0, result.stdout
    assert world.made() == MADE
    assert world.grade("known") == "1.0 True 0.9\n"


def test_a_whole_folder_of_a_competition_that_mle_bench_does_not_have(world: World) -> None:
    folder = world.tasks / "mine"
    shutil.copytree(world.known, folder)
    (folder / "checksums.yaml").unlink()
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace("known", "mine"))
    (folder / "grade.py").write_text("def grade(submission, answers):\n    return 0.25\n")
    (folder / "raw").mkdir()
    shutil.copyfile(world.zip, folder / "raw/mine.zip")
    before = sorted(path.name for path in folder.iterdir())
    result = world.run("mine")
    assert result.returncode == 0, result.stdout
    assert world.grade("mine") == "0.25 False 0.9\n"
    assert [path.name for path in folder.iterdir() if path.name not in before] in ([], ["__pycache__"])
    (folder / "leaderboard.csv").unlink()
    assert world.run("mine", "--force", "--raw", world.raw).returncode == 0
    assert world.grade("mine").startswith("0.25 ")


@pytest.mark.parametrize(
    "head, python",
    [
        ("#!/a/b/bin/python3.11\nimport sys\n", "/a/b/bin/python3.11"),
        ("#!/bin/sh\n'''exec' \"/a long/bin/python\" \"$0\" \"$@\"\n' '''\n", "/a long/bin/python"),
        ("#!/bin/sh\n'''exec' /a/bin/python3 \"$0\" \"$@\"\n' '''\n", "/a/bin/python3"),
        ("#!/usr/bin/env bash\nexec something\n", None),
    ],
)
def test_the_python_of_mle_bench(world: World, monkeypatch: pytest.MonkeyPatch, head: str, python: str | None) -> None:
    world.install(head)
    monkeypatch.setenv("PATH", str(world.program.parent))
    if python:
        assert backends._mlebench_python() == python
    else:
        with pytest.raises(backends.Unavailable, match="doesn't tell in which Python mle-bench is installed"):
            backends._mlebench_python()
    world.install("#!/usr/bin/env -S python3 -I\n")
    (world.program.parent / "python3").symlink_to(sys.executable)
    assert backends._mlebench_python() == str(world.program.parent / "python3")
    os.unlink(world.program)
    with pytest.raises(backends.Unavailable, match="there is no command `mlebench` on the PATH"):
        backends._mlebench_python()
