"""Task folders, and folders of them: the same bytes again, whole or not at all, never over something else."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_tasks import contents, make, make_many

from helpers import datagen
from helpers.datagen import commons, harbor_task, snapshots
from helpers.datagen.schemas import InputValidationError, TraceFailure
from helpers.images import dockerfile

TEST_PY = "def test_it():\n    assert open('/app/out').read() == 'done'\n"


def create(folder: Path, **values: Any) -> Path:
    return commons.create_task_directory_unified(folder, 7, "Do it.\n", "shell", **values)


def test_a_task_of_an_instruction_alone(tmp_path: Path) -> None:
    task = create(tmp_path)
    assert task == tmp_path / "shell-0007"
    assert sorted(contents(task)) == ["environment", "environment/Dockerfile", "instruction.md", "task.toml"]
    read = harbor_task.read(task)
    assert (read.schema_version, read.name, read.instruction) == ("1.4", "shell/shell-0007", "Do it.\n")
    assert (read.agent.timeout_sec, read.verifier.timeout_sec) == (900, 720)
    assert [problem.rpartition("/")[2][:7] for problem in harbor_task.check(task)] == ["test.sh"]
    assert "FROM ubuntu:24.04\n" in (task / "environment" / "Dockerfile").read_text()


def test_a_task_with_everything(tmp_path: Path) -> None:
    task = create(
        tmp_path,
        metadata={"row": 3, "from": "ünı"},
        solution="touch /app/out\n",
        test_py=TEST_PY,
        dockerfile="FROM python:3.12\n",
        files={"environment/data.csv": b"\xff\n", "tests/more/expected": "1\n"},
    )
    assert harbor_task.check(task) == []
    assert json.loads((task / "metadata.json").read_text()) == {"row": 3, "from": "ünı"}
    assert (task / "environment" / "data.csv").read_bytes() == b"\xff\n"
    assert (task / "tests" / "test_state.py").read_text() == TEST_PY
    modes = {
        name: oct((task / name).stat().st_mode)[-3:]
        for name in ("tests/test.sh", "solution/solve.sh", "instruction.md")
    }
    assert modes == {"tests/test.sh": "755", "solution/solve.sh": "755", "instruction.md": "644"}
    assert (
        create(tmp_path / "b", test_sh="exit 0\n", test_py=TEST_PY).joinpath("tests/test.sh").read_text() == "exit 0\n"
    )


def test_our_dockerfile_can_be_built_here(tmp_path: Path) -> None:
    made = dockerfile.read(create(tmp_path) / "environment" / "Dockerfile")
    assert made.recipe.base == "ubuntu:24.04"


@pytest.mark.parametrize(
    "test, code, reward",
    [
        ("def test(): pass", 0, "1\n"),
        ("def test(): assert False", 0, "0\n"),
        ("import what_the_agent_did_not_write", 0, "0\n"),
        ("", 5, None),
        ("import pytest\ndef test(): pytest.exit('gone', 7)", 7, None),
    ],
)
def test_our_test_writes_a_reward(tmp_path: Path, test: str, code: int, reward: str | None) -> None:
    """Run here, with this Python, and with its folders in a folder. What the agent left must not sway it."""
    task = create(tmp_path, test_py=test)
    script = (
        (task / "tests" / "test.sh")
        .read_text()
        .replace("/tests", str(task / "tests"))
        .replace("/logs", str(tmp_path / "logs"))
    )
    agents = tmp_path / "app"
    agents.mkdir()
    for name in ("pytest.py", "conftest.py"):
        (agents / name).write_text("import os\nos._exit(0)\n")
    (agents / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", script], cwd=agents, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    written = tmp_path / "logs" / "verifier" / "reward.txt"
    assert (written.read_text() if written.exists() else None) == reward
    assert sorted(contents(task / "tests")) == ["test.sh", "test_state.py"], "nothing is left among the tests"


def test_the_same_task_again_changes_nothing_and_another_is_refused(tmp_path: Path) -> None:
    task = create(tmp_path)
    before = task.stat().st_ino, (task / "task.toml").stat().st_mtime_ns
    assert create(tmp_path) == task
    assert (task.stat().st_ino, (task / "task.toml").stat().st_mtime_ns) == before
    with pytest.raises(InputValidationError, match="shell-0007 is there already, with other content: remove it"):
        create(tmp_path, solution="x")
    assert [path.name for path in tmp_path.iterdir()] == ["shell-0007"]


@pytest.mark.parametrize(
    "values, said",
    [
        ({"dataset_prefix": "../x"}, "dataset_prefix: '../x': wants letters"),
        ({"dataset_prefix": "a..b"}, "dataset_prefix: 'a..b': wants letters"),
        ({"task_id": -1}, "task_id: -1: wants a whole number"),
        ({"task_id": "x"}, "task_id: 'x': wants a whole number"),
        ({"instruction": " \n"}, "task shell-0007: its instruction is empty"),
        ({"instruction": 3}, "task shell-0007: instruction.md: wants a text that UTF-8 can hold, not 3"),
        ({"solution": "\udcff"}, r"task shell-0007: solution/solve.sh: wants a text that UTF-8 can hold, not '\udcff'"),
        ({"metadata": {"a": float("nan")}}, "task shell-0007: its metadata can't be written as JSON: "),
        ({"metadata": {"a": object()}}, "task shell-0007: its metadata can't be written as JSON: "),
        ({"task_toml": "x"}, "task shell-0007: shell-0007/task.toml: isn't valid TOML: "),
        (
            {"task_toml": "[agent]\ntimeout_sec = -1"},
            "task shell-0007: shell-0007/task.toml: agent.timeout_sec: wants a positive",
        ),
        ({"files": {"../evil": "x"}}, "task shell-0007: the file '../evil': its name leads out of the folder"),
    ],
)
def test_what_cannot_be_a_task_leaves_nothing(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    given = {"task_id": 7, "instruction": "Do it.", "dataset_prefix": "shell", **values}
    with pytest.raises(InputValidationError) as refused:
        commons.create_task_directory_unified(tmp_path, **given)
    assert str(refused.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


QUESTIONS: list[Any] = [
    "Plain.\n",
    {"instruction": "With a test.\n", "tests": "exit 1\n", "metadata": {"row": 1}, "solution": "true\n"},
    {"instruction": "With files.\n", "tests": {"test_state.py": TEST_PY, "expected.txt": "1"}, "dockerfile": None},
]


def test_tasks_of_questions(tmp_path: Path) -> None:
    folder = commons.generate_tasks_from_questions(
        iter(QUESTIONS), "q", output_dir=tmp_path / "out", dockerfile="FROM x\n"
    )
    assert folder == tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["q-0000", "q-0001", "q-0002"]
    assert {(task / "environment" / "Dockerfile").read_text() for task in folder.iterdir()} == {"FROM x\n"}
    assert (folder / "q-0001" / "tests" / "test.sh").read_text() == "exit 1\n"
    assert sorted(path.name for path in (folder / "q-0002" / "tests").iterdir()) == [
        "expected.txt",
        "test.sh",
        "test_state.py",
    ]
    assert json.loads((folder / "q-0001" / "metadata.json").read_text()) == {"row": 1}
    assert not (folder / "q-0000" / "metadata.json").exists()


def test_the_same_questions_give_the_same_bytes(tmp_path: Path) -> None:
    made = [commons.generate_tasks_from_questions(QUESTIONS, "q", output_dir=tmp_path / name) for name in ("a", "b")]
    for folder in made:
        snapshots.write_parts(folder, tmp_path / f"{folder.name}.parts")
    assert contents(tmp_path / "a.parts") == contents(tmp_path / "b.parts")
    inode = made[0].stat().st_ino
    assert commons.generate_tasks_from_questions(QUESTIONS, "q", output_dir=tmp_path / "a").stat().st_ino == inode
    with pytest.raises(InputValidationError, match="a is there already, with other content"):
        commons.generate_tasks_from_questions(QUESTIONS[:2], "q", output_dir=tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.parts", "b", "b.parts"]


@pytest.mark.parametrize(
    "questions, said",
    [
        ([], "there are no questions to make tasks of"),
        (["fine", 3], "question 1: wants a text, or a mapping with an instruction, not 3"),
        ([{"metadata": {}}], "question 0: wants a text, or a mapping with an instruction, not {"),
        (
            [{"instruction": "x", "anwser": "y"}],
            "question 0: 'anwser' is no key of a question; those are: instruction, metadata, solution",
        ),
        (["fine", " "], "task q-0001: its instruction is empty"),
    ],
)
def test_questions_that_are_none_leave_nothing(tmp_path: Path, questions: list[Any], said: str) -> None:
    with pytest.raises(InputValidationError) as refused:
        commons.generate_tasks_from_questions(questions, "q", output_dir=tmp_path / "out")
    assert str(refused.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_ends_with_the_process_unless_it_is_moved(tmp_path: Path) -> None:
    program = """
from helpers.datagen import finalize_dataset_output, generate_tasks_from_questions, subsample_tasks_directory
tasks = generate_tasks_from_questions(["a", "b", "c"], "q")
few = subsample_tasks_directory(tasks, 2, "few", seed=1)
print(tasks, few, finalize_dataset_output(few, "out"))
"""
    (tmp_path / "tmp").mkdir()
    env = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tasks, few, out = done.stdout.split()
    assert re.fullmatch(rf"{tmp_path}/tmp/hab-datagen-[^/]+/q", tasks) and few.endswith("/few") and out == "out"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    make_many(tmp_path / "tasks", 20)
    make(tmp_path / "tasks" / "inner" / "x")

    def names(number: int, seed: int, out: str) -> list[str]:
        folder = commons.subsample_tasks_directory(tmp_path / "tasks", number, "s", seed, output_dir=tmp_path / out)
        return [task.relative_to(folder).as_posix() for task in snapshots.tasks_in(folder)]

    first = names(5, 1, "a")
    assert len(first) == 5 and names(5, 1, "b") == first and names(5, 2, "c") != first
    # of a version of Python and of this code: whoever changes it changes every sample
    assert first == [f"task-{number:04d}" for number in (1, 2, 3, 7, 17)]
    assert len(names(100, 0, "d")) == 21 and "inner/x" in names(21, 0, "e")
    assert contents(tmp_path / "d") == contents(tmp_path / "tasks")
    for number, source in ((0, "tasks"), (1, "nothing")):
        (tmp_path / "nothing").mkdir(exist_ok=True)
        with pytest.raises(InputValidationError, match="tasks can't be taken"):
            commons.subsample_tasks_directory(tmp_path / source, number, "s", output_dir=tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_dataset_is_moved_as_a_whole(tmp_path: Path) -> None:
    make_many(tmp_path / "made", 2)
    before = contents(tmp_path / "made")
    (tmp_path / "empty").mkdir()
    out = commons.finalize_dataset_output(tmp_path / "made", tmp_path / "empty")
    assert contents(out) == before and not (tmp_path / "made").exists()
    assert commons.finalize_dataset_output(out, tmp_path / "deep" / "er") == tmp_path / "deep" / "er"
    assert commons.finalize_dataset_output(tmp_path / "deep" / "er", None) == tmp_path / "deep" / "er"
    assert commons.finalize_dataset_output(tmp_path / "deep" / "er", tmp_path / "deep" / "." / "er").exists()
    with pytest.raises(InputValidationError, match="nowhere: there is no such folder"):
        commons.finalize_dataset_output(tmp_path / "nowhere", tmp_path / "x")


def test_it_is_never_moved_over_something_else(tmp_path: Path) -> None:
    make_many(tmp_path / "made", 2)
    make_many(tmp_path / "there", 1)
    for name in ("there", "file", "link"):
        if name == "file":
            (tmp_path / name).write_text("")
        elif name == "link":
            (tmp_path / "other").mkdir()
            (tmp_path / name).symlink_to("other")
        with pytest.raises(InputValidationError, match=f"{name} is there already, with other content"):
            commons.finalize_dataset_output(tmp_path / "made", tmp_path / name)
    assert len(list((tmp_path / "made").iterdir())) == 2 and len(list((tmp_path / "there").iterdir())) == 1
    shutil.rmtree(tmp_path / "there")
    shutil.copytree(tmp_path / "made", tmp_path / "there")
    assert commons.finalize_dataset_output(tmp_path / "made", tmp_path / "there") == tmp_path / "there"
    assert not (tmp_path / "made").exists()


def test_folders_with_links_are_told_apart(tmp_path: Path) -> None:
    for name in ("made", "there"):
        (make_many(tmp_path / name, 1)[0] / "link").symlink_to("x")
    with pytest.raises(InputValidationError, match="there is there already, with other content"):
        commons.finalize_dataset_output(tmp_path / "made", tmp_path / "there")


def test_it_is_moved_to_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_many(tmp_path / "made", 2)
    before, rename = contents(tmp_path / "made"), Path.rename

    def across(path: Path, target: Path) -> Path:
        if path.name == "made":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", across)
    assert contents(commons.finalize_dataset_output(tmp_path / "made", tmp_path / "out")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_names_of_the_specification(tmp_path: Path) -> None:
    for name, module in datagen.NAMES.items():
        if module == "commons" and name != "run_dataset_to_traces":
            assert getattr(datagen, name) is getattr(commons, name)


def test_traces_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TraceFailure, match=r"no traces can be made of it yet, .* --stage tasks"):
        commons.run_dataset_to_traces(tmp_path)
