"""Tasks of our templates: solvable, scored from 0 to 1, the same bytes again, and no way around the answers."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_tasks import contents
from run_tests_of import Place, place

from helpers.datagen import harbor_task
from helpers.datagen.commons import generate_tasks_from_questions
from helpers.datagen.pipelines.ml_tasks import generate, variants
from helpers.datagen.pipelines.ml_tasks.generate_abstract import MlTasks
from helpers.images import dockerfile
from helpers.lib.errors import ConfigError
from helpers.tasks.catalogue import TEMPLATES, TaskRegistry
from helpers.tasks.definitions import Task

REGISTRY = TaskRegistry(TEMPLATES)
SMALL = "classification_basic"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first variant of each template of generate.py, by the template."""
    folder = tmp_path_factory.mktemp("made") / "tasks"
    definitions = [REGISTRY.find(name) for name in generate.TEMPLATES]
    generate_tasks_from_questions(variants.questions(definitions, 1, 5), "ml", output_dir=folder)
    return dict(zip(generate.TEMPLATES, sorted(folder.iterdir()), strict=True))


@pytest.fixture
def small(made: dict[str, Path], tmp_path: Path) -> Place:
    """A task to be tried."""
    return place(made[SMALL], tmp_path / "place")


def scorer(task: Path) -> ModuleType:
    """A task's own scorer, in this process; that it needs nothing else is for another test."""
    spec = importlib.util.spec_from_file_location("scorer", task / "tests" / "score_submission.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def test_all_templates_but_two_are_used() -> None:
    known = {task.id for task in REGISTRY.list_tasks()}
    assert known - set(generate.TEMPLATES) == {
        "data_analysis_exploratory",
        "deep_learning_image_classification",
    }


@pytest.mark.parametrize("template", generate.TEMPLATES)
def test_a_template_as_a_task(made: dict[str, Path], template: str, tmp_path: Path) -> None:
    task = made[template]
    assert harbor_task.check(task) == []
    assert dockerfile.read(task / "environment" / "Dockerfile").recipe.base.startswith("python:3")
    read = harbor_task.read(task)
    asked = [name for name in REGISTRY.find(template).evaluation_criteria.required_outputs if "*" not in name]
    said = read.instruction
    assert [name for name in asked if name in said] == ["submission.csv"], "nothing is asked for and then not looked at"
    assert "`/app/data`" in said and "`/app/submission.csv`" in said and "The reward is 1 for " in said
    public = {path.name for path in (task / "environment").rglob("*")}
    assert {"train.csv", "test.csv", "sample_submission.csv", "Dockerfile"} <= public
    assert not public & {"answers.csv", "grading.json", "generation.json", "description.md"}
    score, reward = scorer(task), tmp_path / "reward.txt"

    def of(path: Path) -> float:
        assert score.main(str(path), str(reward)) == 0
        return float(reward.read_text())

    assert of(task / "solution" / "submission.csv") == 1
    assert of(task / "environment" / "data" / "sample_submission.csv") == 0
    assert of(tmp_path / "submission.csv") == 0
    assert 0 < of(mixed(task, tmp_path / "mixed.csv", 0.8)) < 1


def mixed(task: Path, target: Path, share: float) -> Path:
    """The solution, with the guess of the sample submission in a share of its rows."""
    both = []
    for file in ("solution/submission.csv", "environment/data/sample_submission.csv"):
        with open(task / file, newline="") as opened:
            both.append(list(csv.reader(opened)))
    solution, sample = both
    for number in random.Random(1).sample(range(1, len(solution)), int(share * (len(solution) - 1))):
        solution[number][1] = sample[number][1]
    with open(target, "w", newline="") as opened:
        csv.writer(opened).writerows(solution)
    return target


def test_the_tests_need_nothing_of_this_checkout(small: Place) -> None:
    """test.sh as a process of its own: with -I, PYTHONPATH isn't looked at, nor what lies in the agent's folder."""
    for name in ("json.py", "numpy.py", "helpers.py"):
        (small.app / name).write_text("import os\nos._exit(0)\n")
    before = sorted(contents(small.task / "tests"))
    assert small.reward() == (0, f"The submission is invalid: There is no file {small.app}/submission.csv.\n")
    assert small.bash("solution/solve.sh").returncode == 0
    reward, said = small.reward()
    assert reward == 1 and said.startswith("accuracy: 0.")
    assert sorted(contents(small.task / "tests")) == before, "nothing is left among the tests"


def rows(change: Callable[[list[list[str]]], Any]) -> Callable[[Place, Path], None]:
    def write(small: Place, path: Path) -> None:
        with open(small.task / "solution" / "submission.csv", newline="") as file:
            cells = list(csv.reader(file))
        change(cells)
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows(cells)

    return write


INVALID: dict[str, tuple[Callable[[Place, Path], Any], str]] = {
    "empty": (lambda _, path: path.write_text(""), "It is empty"),
    "binary": (lambda _, path: path.write_bytes(b"\xff\xfe\0"), "must be a CSV file in UTF-8"),
    "columns": (rows(lambda cells: cells[0].__setitem__(1, "label")), "must have a `target` column"),
    "a row less": (rows(lambda cells: cells.pop()), "It has 199 rows; the test set has 200"),
    "an id twice": (rows(lambda cells: cells[1].__setitem__(0, cells[2][0])), "appears more than once"),
    "no numbers": (rows(lambda cells: cells[1].__setitem__(1, "nan")), "`target` must hold"),
    "a folder": (lambda _, path: path.mkdir(), "is no file"),
    "a pipe": (lambda _, path: os.mkfifo(path), "is no file"),
    "a link": (lambda small, path: path.symlink_to(small.task / "tests" / "task" / "answers.csv"), "is a link"),
    "a dangling link": (lambda small, path: path.symlink_to("nowhere"), "is a link"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_what_is_wrong_with_a_file_is_said(
    small: Place, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, said = INVALID[kind]
    path = small.app / "submission.csv"
    write(small, path)
    assert scorer(small.task).main(str(path), str(tmp_path / "reward.txt")) == 0
    assert said in capsys.readouterr().out and (tmp_path / "reward.txt").read_text() == "0\n"


def test_the_answers_behind_a_linked_folder(small: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small.app / "folder"
    folder.symlink_to(small.task / "tests" / "task")
    assert scorer(small.task).main(str(folder / "answers.csv"), str(tmp_path / "reward.txt")) == 0
    assert "lies behind one" in capsys.readouterr().out and (tmp_path / "reward.txt").read_text() == "0\n"


def test_the_same_bytes_and_more_variants_go_on(tmp_path: Path) -> None:
    definitions = [REGISTRY.find("regression_basic")]
    one, two = (list(variants.questions(definitions, count, 7)) for count in (1, 2))
    assert two[0] == one[0] and two[1] != one[0]
    assert two[0]["files"]["environment/data/train.csv"] != two[1]["files"]["environment/data/train.csv"]
    other = variants.variant(definitions[0], 0, 8)
    assert other["files"]["environment/data/train.csv"] != one[0]["files"]["environment/data/train.csv"]
    assert other["dockerfile"] == one[0]["dockerfile"]


def test_variants_that_share_an_image(tmp_path: Path) -> None:
    folder = generate_tasks_from_questions(
        variants.questions([own(min_accuracy=0.7)], 5, 7, per_image=2), "own", output_dir=tmp_path / "made"
    )
    made = sorted(folder.iterdir())
    images = [harbor_task.environment_digest(path) for path in made]
    assert images[0] == images[1] != images[2] == images[3] != images[4] and len(set(images)) == 3
    own_data = [(path / f"environment/data/{number}/test.csv").read_bytes() for number, path in enumerate(made)]
    assert len(set(own_data)) == 5
    for number, path in enumerate(made):
        assert f"The files are in `/app/data/{number}`." in (path / "instruction.md").read_text()
        reward = tmp_path / "reward.txt"
        scorer(path).main(str(path / "solution" / "submission.csv"), str(reward))
        assert reward.read_text() == "1\n"
    single = variants.variant(own(min_accuracy=0.7), 3, 7)
    assert single["files"]["environment/data/test.csv"] == own_data[3]


def own(**criteria: Any) -> Task:
    requirements = {"dataset_type": "classification", "n_samples": 200, "n_classes": 2, "class_sep": 2.0, "noise": 0.1}
    return Task.from_dict(
        {
            "id": "own",
            "name": "Own",
            "task_type": "classification",
            "estimated_time": 77,
            "data_requirements": requirements,
            "evaluation_criteria": criteria,
        }
    )


def test_a_definition_without_a_bound_takes_the_baseline(tmp_path: Path) -> None:
    made = variants.variant(own(), 0, 1)
    (bar,) = json.loads(made["tests"]["task/grading.json"])["bars"]
    assert bar["metric"] == "accuracy" and bar["guess"] < bar["bar"]
    folder = generate_tasks_from_questions([made], "own", output_dir=tmp_path / "made")
    assert harbor_task.read(folder / "own-0000").agent.timeout_sec == 77
    tried = place(folder / "own-0000", tmp_path / "place")
    assert tried.bash("solution/solve.sh").returncode == 0 and tried.reward()[0] == 1


def test_several_bounds_the_least_counts() -> None:
    made = variants.variant(own(min_accuracy=0.8, min_f1_macro=0.7), 0, 1)
    assert [bar["metric"] for bar in json.loads(made["tests"]["task/grading.json"])["bars"]] == ["accuracy", "f1_macro"]
    assert "The reward is 1 for accuracy of at least 0.8 and f1_macro of at least 0.7" in made["instruction"]


@pytest.mark.parametrize(
    "task, said",
    [
        (own(min_accuracy=0.1), "task own: accuracy: a guess has 0.5.*, and 0.1 is asked: ask for more."),
        (own(min_accuracy=1.0), "task own: accuracy: its baseline has .*, and 1 is asked: nothing here solves it."),
        (Task.from_dict({"id": "own", "name": "Own", "task_type": "essay"}), "task own: it has no data"),
    ],
)
def test_definitions_that_make_no_task(task: Task, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        variants.variant(task, 0, 1)


def test_by_flags(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--templates", SMALL, "regression_basic", "--variants", "1", "--seed", "5", "--dataset_prefix", "ml"]
    assert MlTasks().main([*argv, "--limit", "1"]) == 0
    assert capsys.readouterr() == ("outputs/tasks/ml\n", "")
    assert contents(Path("outputs/tasks/ml")) == {
        "ml-0000": None,
        **{f"ml-0000/{name}": data for name, data in contents(made[SMALL]).items()},
    }
    assert MlTasks().main(["--templates", "classification_basix"]) == 2
    assert "unknown task 'classification_basix'" in capsys.readouterr().err


def test_definitions_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(min_accuracy=0.8).save(tmp_path / "own.json")
    argv = ["--input-dir", str(tmp_path), "--variants", "1", "--output-dir", str(tmp_path / "out")]
    assert MlTasks().main(argv) == 0
    assert "# Own\n" in (tmp_path / "out" / "ml-tasks-0000" / "instruction.md").read_text()
