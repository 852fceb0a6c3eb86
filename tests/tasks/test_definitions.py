"""Definitions of tasks, their registry, and how prepared data get to their place: whole, once, and never half."""

from __future__ import annotations

import errno
import fcntl
import inspect
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import tasks
from helpers.data import layout
from helpers.grading import metrics
from helpers.lib.errors import ConfigError
from helpers.tasks import definitions
from helpers.tasks.catalogue import TEMPLATES, TaskRegistry, open_registry
from helpers.tasks.definitions import DATASETS, DEFAULT_METRICS, Task

GOOD = {
    "id": "mine",
    "name": "Mine",
    "task_type": "classification",
    "estimated_time": 60,
    "data_requirements": {"dataset_type": "classification", "n_samples": 100},
    "evaluation_criteria": {"min_accuracy": 0.5, "required_outputs": ["submission.csv"]},
}


def write(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**GOOD, **changes}), encoding="utf-8")
    return path


def problems_of(call: Callable[..., Any], *arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return caught.value.problems


# ---- one definition


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"colour": "red"}, "colour", "unknown key. Keys here: created_at, data_requirements, description"),
        ({"data_requirements": {"dataset_type": "classification", "rows": 5}}, "data_requirements.rows", "unknown key"),
        ({"evaluation_criteria": {"min_acuracy": 0.5}}, "evaluation_criteria.min_acuracy", "unknown key"),
        ({"id": "../other"}, "id", "should match pattern"),
        ({"id": "a/b"}, "id", "should match pattern"),
        ({"id": ""}, "id", "should match pattern"),
        ({"name": ""}, "name", "at least 1 character"),
        ({"task_type": "Classification!"}, "task_type", "should match pattern"),
        ({"difficulty": "nasty"}, "difficulty", "'easy', 'medium' or 'hard'"),
        ({"estimated_time": 0}, "estimated_time", "greater than or equal to 1"),
        ({"estimated_time": "soon"}, "estimated_time", "valid integer"),
        ({"created_at": "yesterday"}, "created_at", "valid datetime"),
        ({"metadata": []}, "metadata", "valid dictionary"),
        ({"data_requirements": {"dataset_type": "jazz"}}, "data_requirements.dataset_type", "'classification'"),
        (
            {"data_requirements": {"dataset_type": "classification", "n_samples": 3}},
            "data_requirements.n_samples",
            "greater than or equal to 20 (found 3)",
        ),
        (
            {"data_requirements": {"dataset_type": "imbalanced", "imbalance_ratio": 0.7}},
            "data_requirements.imbalance_ratio",
            "less than or equal to 0.5",
        ),
        (
            {"data_requirements": {"dataset_type": "image_classification", "image_size": [32]}},
            "data_requirements.image_size",
            "",
        ),
        (
            {"data_requirements": {"dataset_type": "image_classification", "image_size": [32, 2]}},
            "data_requirements.image_size",
            "greater than or equal to 4",
        ),
        (
            {"data_requirements": {"generate_synthetic": True}},
            "data_requirements",
            "generate_synthetic needs `dataset_type`",
        ),
        (
            {"data_requirements": {"dataset_type": "clustering", "n_classes": 3}},
            "data_requirements",
            "`n_classes` means nothing for dataset_type clustering; it takes: n_samples, n_features, n_centers, cluster_std",
        ),
        (
            {"data_requirements": {"generate_synthetic": False, "copy_files": ["a.csv"]}},
            "data_requirements",
            "`target_column` must name the column to predict",
        ),
        (
            {"data_requirements": {"generate_synthetic": False, "copy_files": ["a.csv"], "target_column": "y"}},
            "",
            "evaluation_criteria.metric must be set",
        ),
        ({"evaluation_criteria": {"metric": "beauty"}}, "evaluation_criteria.metric", "one of: accuracy, "),
        ({"evaluation_criteria": {"min_accuracy": 70}}, "evaluation_criteria.min_accuracy", "less than or equal to 1"),
        ({"evaluation_criteria": {"max_mape": 0}}, "evaluation_criteria.max_mape", "greater than 0"),
        (
            {"evaluation_criteria": {"required_outputs": ["../secret.csv"]}},
            "evaluation_criteria.required_outputs",
            "should match pattern",
        ),
        ({"evaluation_criteria": {"required_insights": 0}}, "evaluation_criteria.required_insights", "equal to 1"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_key(tmp_path: Path, change: Any, key: str, said: str) -> None:
    path = write(tmp_path / "mine.json", **change)
    problems = problems_of(Task.load, path)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: {key}{': ' if key else ''}") and said in problems[0]
    assert problems_of(TaskRegistry(tmp_path).list_tasks) == problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "must hold an object, found a list"),
        (b'"text"', "must hold an object, found a str"),
        (b'{"id": "a", "id": "b"}', "not valid JSON: id is given twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"estimated_time": NaN}', "not valid JSON"),
        (b'{"evaluation_criteria": {"min_r2": -Infinity}}', "not valid JSON"),
    ],
)
def test_what_is_no_definition_is_said_in_a_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(text)
    assert [line.startswith(f"{path}: {said}") for line in problems_of(Task.load, path)] == [True]


def test_a_definition_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert problems_of(Task.load, tmp_path / "none.json") == [
        f"{tmp_path}/none.json: can't be read (No such file or directory)."
    ]
    (tmp_path / "folder.json").mkdir()
    assert "Is a directory" in problems_of(Task.load, tmp_path / "folder.json")[0]


def test_missing_keys_and_several_problems_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"difficulty": "nasty"}')
    said = "\n".join(problems_of(Task.load, tmp_path / "mine.json"))
    for key in ("id: must be set", "name: must be set", "task_type: must be set", "difficulty: Input"):
        assert f"mine.json: {key}" in said


def test_a_definition_survives_saving_and_loading(tmp_path: Path) -> None:
    task = Task.load(
        write(tmp_path / "mine.json", description="Größe", metadata={"by": ["me"]}, created_at="2026-01-01T00:00:00Z")
    )
    task.save(tmp_path / "again.json")
    again = Task.load(tmp_path / "again.json")
    assert again == task and again.to_dict() == task.to_dict()
    assert again.to_dict()["description"] == "Größe" and "Größe" in (tmp_path / "again.json").read_text()
    assert "instructions" not in again.to_dict()  # what wasn't given isn't made up
    assert Task.from_dict(task.to_dict()).to_dict() == task.to_dict()


def test_a_definition_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write(tmp_path / "mine.json")
    code = (
        "import sys; from helpers.tasks.definitions import Task\n"
        "task = Task.load(sys.argv[1]); task.description = 'x' * 5000; task.save(sys.argv[1])"
    )

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mine.json")], preexec_fn=no_room, capture_output=True
    )
    assert done.returncode == 1 and b"File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
    assert Task.load(tmp_path / "mine.json").description == ""


def test_bounds_name_metrics_and_take_percent_for_mape() -> None:
    criteria = {"min_accuracy": 0.7, "max_mape": 15, "max_training_time": 60, "expected_clusters": 3}
    task = Task.from_dict({**GOOD, "evaluation_criteria": criteria})
    assert task.evaluation_criteria.bounds == {
        "min_accuracy": ("accuracy", True, 0.7),
        "max_mape": ("mape", False, 0.15),
    }


def test_every_bound_is_on_a_metric_that_exists() -> None:
    bounds = {"min_" + name for name in metrics.METRICS} | {"max_" + name for name in metrics.METRICS}
    fields = {name for name in definitions.EvaluationCriteria.model_fields if name.startswith(("min_", "max_"))}
    assert fields - {"max_training_time"} <= bounds
    assert set(DEFAULT_METRICS) == set(DATASETS) and set(DEFAULT_METRICS.values()) <= set(metrics.METRICS)


@pytest.mark.parametrize("kind", DATASETS)
def test_the_keys_of_a_dataset_type_are_parameters_of_its_generator(kind: str) -> None:
    from helpers.tasks.synthetic.generator import DataGenerator

    assert set(DATASETS[kind]) <= set(definitions.DataRequirements.model_fields)
    task = Task.from_dict({**GOOD, "data_requirements": {"dataset_type": kind}})
    method = getattr(DataGenerator, task.data_requirements.method)
    assert set(DATASETS[kind].values()) <= set(inspect.signature(method).parameters)
    assert task.data_requirements.parameters == {} and task.metric == DEFAULT_METRICS[kind]


# ---- the registry


def test_the_shipped_definitions_are_sound() -> None:
    registry = open_registry()
    files = {path.stem for path in TEMPLATES.glob("*.json")}
    assert {task.id for task in registry.list_tasks()} == files and "classification_basic" in files
    for task in registry.list_tasks():
        assert task.metric and "submission.csv" in task.evaluation_criteria.required_outputs
        assert task.description and task.instructions and task.created_at


def test_two_definitions_of_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path / "one.json")
    write(tmp_path / "two" / "task.json")
    assert problems_of(TaskRegistry(tmp_path).get_task, "mine") == [
        f"{tmp_path}/two/task.json: id: 'mine' is taken by {tmp_path}/one.json."
    ]
    write(tmp_path / "own" / "x.json", id="classification_basic")
    assert (
        "is taken by templates/tasks/classification_basic.json"
        in problems_of(open_registry(tmp_path / "own").list_tasks)[0]
    )


def test_every_broken_file_of_a_directory_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.json", colour=1)
    write(tmp_path / "b.json", id="b", difficulty="x")
    (tmp_path / "c.json").write_text("")
    assert [line.partition(": ")[0] for line in problems_of(TaskRegistry(tmp_path, tmp_path / "none").list_tasks)] == [
        f"{tmp_path}/none",
        *(f"{tmp_path}/{name}.json" for name in "abc"),
    ]


def test_a_directory_is_read_once_and_only_its_definitions(tmp_path: Path) -> None:
    write(tmp_path / "mine.json")
    write(tmp_path / "deep" / "task.json", id="deep")
    write(tmp_path / "deep" / "grading.json", id="mine")  # files of a task's own
    (tmp_path / "again").symlink_to(tmp_path)
    registry = TaskRegistry(tmp_path, tmp_path / "again", tmp_path / "deep" / "..")
    assert [task.id for task in registry.list_tasks()] == ["deep", "mine"]
    assert registry.find("deep")._folder == tmp_path / "deep"


def test_unknown_tasks_are_none_or_an_error_with_a_guess(tmp_path: Path) -> None:
    registry = TaskRegistry(write(tmp_path / "mine.json").parent)
    assert registry.get_task("mine").name == "Mine" and registry.get_task("yours") is None
    assert problems_of(registry.find, "mien") == ["unknown task 'mien'; there are: mine. Did you mean mine?"]
    assert problems_of(registry.find, "zzz") == ["unknown task 'zzz'; there are: mine."]


def test_tasks_are_listed_by_type_and_difficulty(tmp_path: Path) -> None:
    write(tmp_path / "a.json", id="a", task_type="regression", difficulty="hard")
    write(tmp_path / "b.json", id="b", task_type="regression", difficulty="easy")
    write(tmp_path / "c.json", id="c")
    registry = TaskRegistry(tmp_path)
    found = lambda *arguments: [task.id for task in registry.list_tasks(*arguments)]  # noqa: E731
    assert (found(), found("regression"), found("regression", "hard"), found(None, "hard")) == (
        ["a", "b", "c"],
        ["a", "b"],
        ["a"],
        ["a"],
    )
    assert found("clustering") == [] and registry.get_task_types() == ["classification", "regression"]


def test_a_task_is_saved_once(tmp_path: Path) -> None:
    registry = TaskRegistry()
    path = registry.save_task(Task.from_dict(GOOD), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "mine.json" and registry.find("mine").name == "Mine"
    assert TaskRegistry(path.parent).find("mine").to_dict() == Task.from_dict(GOOD).to_dict()
    again = Task.from_dict({**GOOD, "name": "Other"})
    assert problems_of(registry.save_task, again, tmp_path / "elsewhere") == [f"task id 'mine' is taken by {path}."]
    assert problems_of(TaskRegistry().save_task, again, path.parent) == [
        f"{path} exists: choose another id, or delete it."
    ]
    assert Task.load(path).name == "Mine" and not (tmp_path / "elsewhere").exists()
    assert problems_of(registry.register_task, again) == [f"task id 'mine' is taken by {path}."]


def test_a_config_holds_the_task_and_the_runtime(tmp_path: Path) -> None:
    registry = TaskRegistry(write(tmp_path / "mine.json").parent)
    config = registry.create_task_config("mine", tmp_path / "out.txt", seed=7, task_id="x", self=1)
    assert json.loads((tmp_path / "out.txt").read_text()) == config
    assert config["task"] == GOOD and config["runtime_config"] == {"seed": 7, "task_id": "x", "self": 1}
    assert set(config) == {"task", "runtime_config", "created_at"}
    assert "unknown task" in problems_of(registry.create_task_config, "yours", tmp_path / "none")[0]
    assert not (tmp_path / "none").exists()


def test_the_users_own_tasks_come_from_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.json")
    monkeypatch.setenv("HPC_SITE", "local")
    monkeypatch.setenv("HPC_PATHS__TASKS", str(tmp_path))
    monkeypatch.delitem(vars(tasks), "registry", raising=False)
    assert {"mine", "classification_basic"} <= {task.id for task in tasks.registry.list_tasks()}
    monkeypatch.delitem(vars(tasks), "registry")
    monkeypatch.setenv("HPC_SITE", "no-such-site")
    assert tasks.registry.get_task("classification_basic") and not tasks.registry.get_task("mine")
    monkeypatch.delitem(vars(tasks), "registry")
    with pytest.raises(AttributeError):
        tasks.no_such_thing  # noqa: B018


# ---- where prepared data lie


def make(folder: Path, word: str = "new") -> Path:
    """What a preparation makes in its staging folder."""
    for half, name in (("public", "description.md"), ("public/deep", "train.csv"), ("private", "answers.csv")):
        (folder / "prepared" / half).mkdir(parents=True, exist_ok=True)
        (folder / "prepared" / half / name).write_text(word)
    return folder


def publish(data: Path, word: str = "new", task: str = "a") -> None:
    with layout.staging(data, task) as folder:
        layout.publish(make(folder, word), data, task, "own")


def words(data: Path, task: str = "a") -> set[str]:
    folder = layout.prepared(data, task)
    return {path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"}


def damages() -> dict[str, Callable[[Path], Any]]:
    return {
        "there is no": lambda folder: folder.rename(folder.with_name("gone")),
        "private is empty": lambda folder: (folder / "private" / "answers.csv").unlink(),
        "has no description.md": lambda folder: (folder / "public" / "description.md").unlink(),
        "train.csv is missing": lambda folder: (folder / "public" / "deep" / "train.csv").unlink(),
        "answers.csv has 1 bytes instead of 3": lambda folder: (folder / "private" / "answers.csv").write_text("x"),
        "manifest.json is broken": lambda folder: (folder / layout.MANIFEST).write_text("{"),
        "manifest.json is broken ": lambda folder: (folder / layout.MANIFEST).write_text('{"files": ["x"]}'),
        "manifest.json is broken  ": lambda folder: (folder / layout.MANIFEST).write_text("[]"),
        "manifest.json is broken   ": lambda folder: (folder / layout.MANIFEST).write_bytes(b"\xff"),
    }


@pytest.mark.parametrize("said", damages())
def test_damaged_data_are_found_out(tmp_path: Path, said: str) -> None:
    assert "there is no" in layout.problem(tmp_path, "a")
    publish(tmp_path)
    assert layout.problem(tmp_path, "a") is None
    damages()[said](layout.prepared(tmp_path, "a"))
    assert said.strip() in layout.problem(tmp_path, "a")
    publish(tmp_path)
    assert layout.problem(tmp_path, "a") is None


def test_others_data_need_no_manifest(tmp_path: Path) -> None:
    make(tmp_path / "folder" / "task")
    assert layout.problem(tmp_path, "folder/task") is None


def test_publishing_replaces_the_data_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a" / "raw").mkdir(parents=True)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    publish(tmp_path, "old")
    with layout.staging(tmp_path, "a") as folder:
        make(folder, "new")
        (folder / "a.zip").write_text("zip")
        (folder / "prepared" / "private").chmod(0o700)
        layout.publish(folder, tmp_path, "a", "mlebench")
    assert words(tmp_path) == {"new"} and layout.problem(tmp_path, "a") is None
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"prepared", "raw", "notes.txt", "a.zip"}
    assert layout.prepared(tmp_path, "a").joinpath("private").stat().st_mode & 0o777 == 0o700
    manifest = json.loads((layout.prepared(tmp_path, "a") / layout.MANIFEST).read_text())
    assert manifest["backend"] == "mlebench" and manifest["files"] == {
        "private/answers.csv": 3,
        "public/deep/train.csv": 3,
        "public/description.md": 3,
    }


KILL = """
import os, sys
from pathlib import Path
from helpers.data import layout
data, number, before = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "before"
calls, rename = iter(range(99)), Path.rename
def dying(self, target):
    last = next(calls) == number
    if not (last and before):
        rename(self, target)
    if last:
        os._exit(9)
with layout.staging(data, "a") as folder:
    for name in ("public/description.md", "private/answers.csv"):
        (folder / "prepared" / name).parent.mkdir(parents=True)
        (folder / "prepared" / name).write_text("new")
    Path.rename = dying
    layout.publish(folder, data, "a", "own")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(3))
def test_killed_at_any_rename_it_is_the_old_data_or_the_new(tmp_path: Path, number: int, when: str) -> None:
    publish(tmp_path, "old")
    killed = subprocess.run([sys.executable, "-c", KILL, str(tmp_path), str(number), when]).returncode
    assert killed == (9 if number < 2 else 0)  # there are two: the old data aside, the new ones to their place
    with layout.staging(tmp_path, "a") as folder:
        assert list(folder.iterdir()) == [] and layout.problem(tmp_path, "a") is None
        assert words(tmp_path) == ({"old"} if number == 0 or (number, when) == (1, "before") else {"new"})
    publish(tmp_path, "last")
    assert words(tmp_path) == {"last"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["prepared"]
    assert [path.name for path in (tmp_path / ".preparing").iterdir()] == ["a.lock"]


HOLD = """
import sys
from helpers.data import layout
try:
    with layout.staging(sys.argv[1], sys.argv[2], wait=sys.argv[3] == "wait") as folder:
        print(folder, flush=True)
        sys.stdin.readline()
except layout.Busy:
    print("busy", flush=True)
"""


def hold(data: Path, task: str, wait: str = "wait") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(data), task, wait]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_prepare_one_task_one_after_the_other(tmp_path: Path) -> None:
    with hold(tmp_path, "a") as first, hold(tmp_path, "a/b") as other:
        folder = Path(first.stdout.readline().strip())
        assert folder.is_dir() and other.stdout.readline()
        with hold(tmp_path, "a", "no") as second:
            assert second.stdout.readline() == "busy\n"
        with hold(tmp_path, "a") as third:
            (folder / "half").write_text("x")
            first.communicate("\n")
            assert Path(third.stdout.readline().strip()).is_dir() and not folder.exists()
            third.communicate("\n")
        other.communicate("\n")
    assert first.returncode == third.returncode == other.returncode == 0


def test_a_killed_preparation_is_cleared_away_and_no_other(tmp_path: Path) -> None:
    with hold(tmp_path, "a") as killed, hold(tmp_path, "a.b") as neighbour, hold(tmp_path, "a/c") as third:
        folders = [Path(one.stdout.readline().strip()) for one in (killed, neighbour, third)]
        for folder in folders:
            (folder / "half").write_text("x")
        killed.kill()
        killed.wait()
        assert folders[0].is_dir()
        with layout.staging(tmp_path, "a", wait=False) as folder:
            assert list(folder.iterdir()) == [] and [path.exists() for path in folders] == [False, True, True]
        for one in (neighbour, third):
            one.communicate("\n")


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), layout.staging(tmp_path, "a") as folder:
        make(folder)
        raise ValueError
    assert [path.name for path in (tmp_path / ".preparing").iterdir()] == ["a.lock"] and not (tmp_path / "a").exists()


def test_a_file_system_without_locks_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    publish(tmp_path)
    assert layout.problem(tmp_path, "a") is None
    monkeypatch.setattr(fcntl, "lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"), layout.staging(tmp_path, "a"):
        pass
