"""Preparing the built-in task: complete or not at all, once, and without giving the labels away."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import graders, prepare_task

TASK = "classification_basic"
COMMAND = [sys.executable, "-m", "helpers.prepare_task", TASK, "--data-dir"]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers.prepare_task", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data with space") / "deep" / "down"
    assert prepare_task.prepare(TASK, data, 7)
    return data / TASK / "prepared"


def test_unknown_task_lists_what_exists(tmp_path: Path) -> None:
    result = run("no-such", "--data-dir", tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"prepare_task: unknown task 'no-such'; there are: {TASK}\n"
    assert run("../classification_basic", "--data-dir", tmp_path).returncode == 2


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
def test_a_folder_that_cannot_be_is_one_line(folder: str) -> None:
    result = run(TASK, "--data-dir", folder)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert folder in result.stderr


def test_a_bad_seed_is_refused(tmp_path: Path) -> None:
    assert run(TASK, "--data-dir", tmp_path, "--seed", "-1").returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_half_done(tmp_path: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    result = run(TASK, "--data-dir", tmp_path, preexec_fn=no_room)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert [path.name for path in tmp_path.iterdir()] == [".prepare_task.lock"]
    assert run(TASK, "--data-dir", tmp_path, "--check").returncode == 2
    assert prepare_task.prepare(TASK, tmp_path)


def test_all_files_are_there_with_their_modes(prepared: Path) -> None:
    names = {str(path.relative_to(prepared)) for path in prepared.rglob("*") if path.is_file()}
    assert names == {f"public/{name}" for name in prepare_task.PUBLIC} | {
        f"private/{name}" for name in prepare_task.PRIVATE
    }
    assert (prepared / "private").stat().st_mode & 0o777 == 0o700
    assert (prepared / "public").stat().st_mode & 0o777 == 0o755


def test_the_halves_fit_together(prepared: Path) -> None:
    train, test, sample = (
        pd.read_csv(prepared / "public" / f"{name}.csv") for name in ("train", "test", "sample_submission")
    )
    answers = pd.read_csv(prepared / "private" / "answers.csv")
    assert (len(train), len(test), train.shape[1], test.shape[1]) == (800, 200, 12, 11)
    assert list(train.columns) == [*test.columns, "target"]
    assert list(sample.columns) == list(answers.columns) == ["id", "target"]
    assert test["id"].tolist() == sample["id"].tolist() == answers["id"].tolist()
    assert not set(train["id"]) & set(test["id"])
    assert sample["target"].nunique() == 1 and set(answers["target"]) == set(train["target"]) == {0, 1, 2}
    # the labels come in no order that the ids would tell
    assert abs(np.corrcoef(train["id"], train["target"])[0, 1]) < 0.15


def test_reference_scores_are_real(prepared: Path) -> None:
    settings = json.loads((prepared / "private" / "grading.json").read_text())
    assert settings | {"reference": None} == {
        "metric": "accuracy",
        "id_column": "id",
        "target_column": "target",
        "reference": None,
    }
    grader = graders.load(TASK, prepared.parent.parent)
    report = grader.grade(prepared / "public" / "sample_submission.csv")
    assert report["score"] == settings["reference"]["sample_submission"]
    assert report["score"] + 0.2 < settings["reference"]["baseline"] < 1
    assert report["reference"] == settings["reference"]
    assert grader.grade(prepared / "private" / "answers.csv")["score"] == 1


def test_the_description_says_what_an_agent_needs(prepared: Path) -> None:
    text = (prepared / "public" / "description.md").read_text()
    for word in ("train.csv", "sample_submission.csv", "`target`", "`id`", "accuracy", "200 rows", "0, 1, 2"):
        assert word in text


def test_seeds_decide_the_data(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 2**100 + 7), ("d", None), ("e", None)):
        prepare_task.prepare(TASK, tmp_path / name, seed)
    answers = {name: (tmp_path / name / TASK / "prepared/private/answers.csv").read_bytes() for name in "abcde"}
    assert answers["a"] == answers["b"]
    assert len(set(answers.values())) == 4
    generation = json.loads((tmp_path / "d" / TASK / "prepared/private/generation.json").read_text())
    assert generation["seed"].bit_length() > 64
    prepare_task.prepare(TASK, tmp_path / "f", generation["seed"])
    assert (tmp_path / "f" / TASK / "prepared/private/answers.csv").read_bytes() == answers["d"]


def test_nothing_secret_is_printed_or_public(tmp_path: Path) -> None:
    result = run(TASK, "--data-dir", tmp_path)
    prepared = tmp_path / TASK / "prepared"
    seed = str(json.loads((prepared / "private" / "generation.json").read_text())["seed"])
    assert result.stdout == f"{TASK}: prepared in {prepared}\n" and result.stderr == ""
    assert not any(seed in path.read_text() for path in (prepared / "public").iterdir())


def test_a_second_time_does_nothing_unless_forced(tmp_path: Path) -> None:
    answers = tmp_path / TASK / "prepared" / "private" / "answers.csv"
    prepare_task.prepare(TASK, tmp_path)
    first = answers.read_bytes()
    again = run(TASK, "--data-dir", tmp_path)
    assert again.returncode == 0 and "already prepared" in again.stdout
    assert answers.read_bytes() == first
    assert run(TASK, "--data-dir", tmp_path, "--check").returncode == 0
    assert prepare_task.main([TASK, "--data-dir", str(tmp_path), "--force"]) == 0
    assert answers.read_bytes() != first
    assert {path.name for path in tmp_path.iterdir()} == {TASK, ".prepare_task.lock"}


def test_what_is_incomplete_is_prepared_again(tmp_path: Path) -> None:
    prepare_task.prepare(TASK, tmp_path)
    (tmp_path / TASK / "prepared" / "private" / "grading.json").write_text("")
    (tmp_path / f".{TASK}.new" / "public").mkdir(parents=True)  # left by one that was killed
    result = run(TASK, "--data-dir", tmp_path, "--check")
    assert result.returncode == 2 and "is not prepared" in result.stderr
    assert prepare_task.prepare(TASK, tmp_path)
    assert prepare_task.is_complete(tmp_path / TASK / "prepared")
    assert not (tmp_path / f".{TASK}.new").exists()


def test_what_is_prepared_may_be_read_only(tmp_path: Path) -> None:
    prepare_task.prepare(TASK, tmp_path)
    (tmp_path / ".prepare_task.lock").unlink()
    assert not prepare_task.prepare(TASK, tmp_path)
    assert not (tmp_path / ".prepare_task.lock").exists()


def test_four_at_once_prepare_once(tmp_path: Path) -> None:
    together = [
        subprocess.Popen([*COMMAND, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(4)
    ]
    said = [process.communicate()[0] for process in together]
    assert [process.returncode for process in together] == [0] * 4
    assert sorted("already" in line for line in said) == [False, True, True, True]
    assert prepare_task.is_complete(tmp_path / TASK / "prepared")
