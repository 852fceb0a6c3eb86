"""Agents that game each of the templates: none passes. And one that really solves them: it passes each."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import honest
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from validation import Evil

from helpers.data import layout
from helpers.tasks.catalogue import TEMPLATES, open_registry
from helpers.tasks.definitions import Task
from helpers.tasks.synthetic.prepare import prepare
from helpers.tasks.utils import TaskValidator

FEWER_ROWS = {
    "deep_learning_image_classification": 800,
    "text_classification_basic": 800,
    "multi_modal_classification": 900,
}
IDS = sorted(path.stem for path in TEMPLATES.glob("*.json"))
SLOWEST = ("data_analysis_exploratory", "deep_learning_image_classification")
SECONDS = 100


@dataclass
class World:
    """A prepared template, and what the honest agent made of it."""

    task: Task
    data: Path
    solved: Path

    @property
    def public(self) -> Path:
        return layout.prepared(self.data, self.task.id) / "public"

    @property
    def private(self) -> Path:
        return layout.prepared(self.data, self.task.id) / "private"

    @property
    def required(self) -> list[str]:
        return self.task.evaluation_criteria.required_outputs

    def judge(self, results: Path, seconds: float | None = SECONDS) -> dict[str, Any]:
        verdict = TaskValidator(self.data).evaluate_task(self.task, results, seconds)
        json.dumps(verdict, allow_nan=False)
        assert "error" not in verdict
        return verdict


@pytest.fixture(
    scope="module", params=[pytest.param(one, marks=[pytest.mark.slow] if one in SLOWEST else []) for one in IDS]
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    task = open_registry().find(request.param)
    rows = FEWER_ROWS.get(task.id)
    if rows:
        data = task.data_requirements.model_copy(update={"n_samples": rows})
        task = task.model_copy(update={"data_requirements": data})
    folder = tmp_path_factory.mktemp(task.id)
    made = World(task, folder / "data", folder / "solved")
    prepare(task, made.data, seed=5)
    made.solved.mkdir()
    honest.solve(made.public, made.solved, made.required)
    return made


@pytest.fixture
def results(world: World, tmp_path: Path) -> Path:
    """What the honest agent made, to be spoilt."""
    return Path(shutil.copytree(world.solved, tmp_path / "results"))


def test_there_are_ten_templates() -> None:
    assert len(IDS) == 10


def test_the_honest_agent_passes(world: World, results: Path) -> None:
    verdict = world.judge(results)
    assert verdict["success"], verdict["feedback"]
    assert verdict["output_check"]["files_missing"] == [] and verdict["scores"]["skill"] > 0.3
    criteria = world.task.evaluation_criteria
    wanted = {key for key in criteria.model_fields_set if getattr(criteria, key) and key != "metric"}
    assert set(verdict["criteria_met"]) == wanted and all(verdict["criteria_met"].values())


SCRIPTS = {
    "classification_basic": ("classification_example.py", "SUBMISSION_DIR"),
    "data_analysis_exploratory": ("data_analysis_example.py", "RESULTS_DIR"),
}


def test_the_examples_pass(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if world.task.id not in SCRIPTS:
        return
    script, variable = SCRIPTS[world.task.id]
    monkeypatch.setenv("DATA_DIR", str(world.public))
    monkeypatch.setenv(variable, str(tmp_path))
    done = subprocess.run([sys.executable, str(honest.EXAMPLES / script)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert world.judge(tmp_path)["success"]


Submission = Callable[[World, pd.DataFrame], Any]


def spread(world: World, frame: pd.DataFrame, values: Any) -> pd.DataFrame:
    """Give rows values of the training labels (groups 0 to 3 for clusters)."""
    train = pd.read_csv(world.public / "train.csv")
    known = np.sort(train["target"].unique()) if "target" in train else np.arange(4)
    return frame.assign(target=known[(np.asarray(values) % len(known)).astype(int)])


def last_labels(world: World, frame: pd.DataFrame) -> pd.DataFrame:
    train = pd.read_csv(world.public / "train.csv")
    column = train["target"] if "target" in train else train["id"] % 4
    return frame.assign(target=column.sample(len(frame), random_state=1).to_numpy())


def jitter(world: World, frame: pd.DataFrame) -> pd.DataFrame:
    """The best constant that the training data suggest, not quite the same in all rows."""
    train = pd.read_csv(world.public / "train.csv")
    target = train["target"] if "target" in train else train["id"] * 0
    if target.nunique() > 50:
        noise = np.random.default_rng(0).normal(size=len(frame)) * 0.01
        return frame.assign(target=target.tail(30).mean() * (1 + noise))
    wrong = int((frame["target"] != target.mode()[0]).idxmax())
    return frame.assign(target=target.mode()[0]).astype({"target": frame["target"].dtype}).pipe(flip, wrong)


def flip(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    frame.loc[row, "target"] = 1 - frame.loc[row, "target"] if frame.loc[row, "target"] in (0, 1) else 0
    return frame


SUBMISSIONS: dict[str, Submission] = {
    "empty": lambda world, frame: b"",
    "a blank line": lambda world, frame: b"\n",
    "header only": lambda world, frame: frame.head(0),
    "cut in the midst": lambda world, frame: frame.to_csv(index=False).encode()[: -len(frame)],
    "without the last row": lambda world, frame: frame.iloc[:-1],
    "sample submission": lambda world, frame: (world.public / "sample_submission.csv").read_bytes(),
    "sample submission in other words": lambda world, frame: pd.read_csv(world.public / "sample_submission.csv")[::-1],
    "training table": lambda world, frame: (world.public / "train.csv").read_bytes(),
    "test table": lambda world, frame: (world.public / "test.csv").read_bytes(),
    "ids of the training table": lambda world, frame: frame.assign(id=range(len(frame))),
    "other ids": lambda world, frame: frame.assign(id=frame["id"] + 1),
    "one id twice": lambda world, frame: frame.assign(id=[*frame["id"][:-1], frame["id"].iloc[0]]),
    "constant": lambda world, frame: frame.assign(target=frame["target"].iloc[0]),
    "nearly constant": jitter,
    "by id": lambda world, frame: spread(world, frame, frame["id"]),
    "by row": lambda world, frame: spread(world, frame, np.arange(len(frame)) * 4 // len(frame)),
    "random": lambda world, frame: spread(world, frame, np.random.default_rng(8).integers(0, 1000, len(frame))),
    "labels of random training rows": last_labels,
    "right labels in another order": lambda world, frame: frame.assign(
        target=frame["target"].sample(frac=1, random_state=3).to_numpy()
    ),
    "NaN": lambda world, frame: frame.assign(target=np.nan),
    "inf": lambda world, frame: frame.assign(target=np.inf),
    "words": lambda world, frame: frame.assign(target="correct"),
    "a formula": lambda world, frame: frame.assign(target="=ANSWER()"),
    "an image": lambda world, frame: b"\x89PNG\r\n\x1a\n" + bytes(500),
    "a pickle": lambda world, frame: pickle.dumps(Evil()),
}  # fmt: skip


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_no_submission_without_work_passes(world: World, results: Path, name: str) -> None:
    for path in results.iterdir():  # the other outputs have tests of their own, and take their time
        if path.name != "submission.csv":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    frame = pd.read_csv(results / "submission.csv")
    made = SUBMISSIONS[name](world, frame)
    content = made.to_csv(index=False).encode() if isinstance(made, pd.DataFrame) else made
    (results / "submission.csv").write_bytes(content)
    verdict = world.judge(results)
    assert not verdict["success"]
    assert verdict["scores"]["skill"] < 0.15 or world.task.metric == "mape"  # luck
    bounds = world.task.evaluation_criteria.bounds
    assert bounds and not any(verdict["criteria_met"][key] for key in bounds)
    assert not verdict["criteria_met"]["required_outputs"]
    assert "submission.csv" in verdict["output_check"]["files_missing"]
    if not isinstance(made, pd.DataFrame) or name in ("constant", "NaN", "inf", "words", "header only", "other ids"):
        assert verdict["scores"] == {"skill": 0.0}
    assert not Path(os.environ["HOME"], "ran").exists()


def symlink(world: World, results: Path) -> None:
    (results / "submission.csv").symlink_to(world.private / "answers.csv")


def hard_link(world: World, results: Path) -> None:
    os.link(world.private / "answers.csv", results / "submission.csv")


def pipe(world: World, results: Path) -> None:
    os.mkfifo(results / "submission.csv")


def bind_socket(world: World, results: Path) -> None:
    here = os.getcwd()
    os.chdir(results)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("submission.csv")
    os.chdir(here)


def endless(world: World, results: Path) -> None:
    (results / "submission.csv").symlink_to("/dev/zero")


def huge(world: World, results: Path) -> None:
    shutil.copy(world.solved / "submission.csv", results)
    os.truncate(results / "submission.csv", 2**36)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [symlink, hard_link, pipe, bind_socket, endless, huge], ids=lambda make: make.__name__)
def test_hidden_labels_and_special_files_are_not_read(
    world: World, results: Path, make: Callable[[World, Path], None]
) -> None:
    (results / "submission.csv").unlink()
    make(world, results)
    verdict = world.judge(results)
    assert not verdict["success"] and verdict["scores"] == {"skill": 0.0}
    assert "submission.csv" in verdict["output_check"]["files_missing"]


def test_a_link_to_the_hidden_half_is_no_results_folder(world: World, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(world.private)
    verdict = TaskValidator(world.data).evaluate_task(world.task, tmp_path / "results", SECONDS)
    assert not verdict["success"] and "a link isn't followed" in verdict["error"]


def test_a_linked_folder_inside_is_not_read(world: World, tmp_path: Path) -> None:
    """All results lie behind a link in the results folder: none of them counts."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "all").symlink_to(world.solved)
    for path in world.solved.iterdir():
        (tmp_path / "results" / path.name).symlink_to(path)
    verdict = world.judge(tmp_path / "results")
    assert (
        not verdict["success"] and verdict["output_check"]["files_found"] == [] and verdict["scores"] == {"skill": 0.0}
    )
    assert verdict["overall_score"] <= 0.4 / 3  # nothing but the time that it took


def blank(size: tuple[int, int] = (640, 480), dots: int = 0) -> bytes:
    image, buffer = Image.new("RGB", size, "white"), io.BytesIO()
    for number in range(dots):
        image.putpixel((100 * number, 50 * number), (255, 0, 100 * number))
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def noise() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def fabricated(world: World) -> bytes:
    columns = pd.read_csv(world.public / "train.csv", nrows=1).columns
    made_up = {"count": 1600, "mean": 0.01, "std": 1.0, "min": -3.5, "25%": -0.67, "50%": 0.0, "75%": 0.67, "max": 3.5}
    return json.dumps({name: made_up for name in columns}).encode()


def talk(world: World) -> bytes:
    """A report that says nothing of these data."""
    names = list(pd.read_csv(world.public / "train.csv", nrows=1).columns[1:-1]) or ["target"]
    lines = [
        f"- {name} has an interesting mean of {n + 0.37:.2f} and {n} clear outliers." for n, name in enumerate(names)
    ]
    report = "The submission has predictions for the test rows by a model trained with every row of train.csv.\n"
    return (report + "Many columns carry real signal, others look noisy.\n" + "\n".join(lines)).encode()


FORGERIES: dict[str, dict[str, Callable[[World], bytes]]] = {
    ".png": {
        "empty": lambda world: b"",
        "blank": lambda world: blank(),
        "one pixel": lambda world: blank((1, 1)),
        "two pixels": lambda world: blank(dots=2),
        "noise": lambda world: noise(),
        "text": lambda world: b"a plot of the forecast",
        "cut": lambda world: (next(world.solved.glob("*.png"))).read_bytes()[:3000],
        "JPEG": lambda world: Image.open(next(world.solved.glob("*.png"))).convert("RGB").tobytes("jpeg", "RGB"),
        "table": lambda world: (world.public / "train.csv").read_bytes(),
    },
    ".txt": {
        "empty": lambda world: b"",
        "blank": lambda world: b" \n" * 500,
        "a word": lambda world: b"accuracy 0.99",
        "a word repeated": lambda world: b"accuracy 0.99 model good " * 500,
        "description": lambda world: (world.public / "description.md").read_bytes(),
        "description and more": lambda world: (world.public / "description.md").read_bytes() + b"\nDone with 0.99 accuracy.",
        "instructions": lambda world: f"{world.task.instructions}\n{world.task.description}\n1".encode(),
        "lorem": lambda world: b"lorem ipsum dolor sit amet consectetur adipiscing elit 1 sed do eiusmod tempor incididunt ut "
        b"labore et dolore magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco laboris nisi",
        "table": lambda world: (world.public / "train.csv").read_bytes(),
        "image": lambda world: noise(),
    },
    "training_log.json": {
        "empty": lambda world: b"",
        "nothing": lambda world: b"{}",
        "self-reported": lambda world: b'{"accuracy": 0.99, "training_time": 1}',
        "text": lambda world: b"epoch 1 loss 0.3",
        "NaN": lambda world: b'{"loss": [NaN, NaN, NaN, NaN]}',
    },
    "summary_statistics.json": {
        "empty": lambda world: b"",
        "nothing": lambda world: b"{}",
        "made up": fabricated,
        "something else": lambda world: b'{"accuracy": 0.99, "rows": 1600}',
        "text": lambda world: b"mean 0.1",
    },
    "model.*": {
        "empty": lambda world: b"",
        "text": lambda world: b"the trained model",
        "os.system": lambda world: pickle.dumps(Evil()),
        "image": lambda world: blank(),
        "table": lambda world: (world.public / "train.csv").read_bytes(),
        "training data": lambda world: (world.public / "train_images.npy").read_bytes(),
        "pickle of nothing": lambda world: pickle.dumps({"weights": None}),
    },
}  # fmt: skip
FORGERIES["analysis_report.md"] = FORGERIES[".txt"]


def forgeries(name: str) -> dict[str, Callable[[World], bytes]]:
    return FORGERIES.get(name) or FORGERIES[Path(name).suffix]


def places(name: str) -> list[str]:
    """The files that could pass for a required output."""
    endings = ["pth", "pt", "npz", "npy", "pkl", "joblib", "safetensors", "onnx", "txt", "h5"]
    return [f"model.{ending}" for ending in endings] if name == "model.*" else [name]


def test_no_other_output_can_be_forged(world: World, results: Path) -> None:
    """The submission is honest, and all other outputs are forged, in one way after the other."""
    others = {name: list(forgeries(name).items()) for name in world.required if name != "submission.csv"}
    for number in range(max(map(len, others.values()))):
        for name in others:
            for path in results.glob(name):
                path.unlink()
        used = {name: ways[number % len(ways)] for name, ways in others.items()}
        for name, (_, make) in used.items():
            for place in places(name):
                (results / place).write_bytes(make(world))
        verdict = world.judge(results)
        assert verdict["output_check"]["files_found"] == ["submission.csv"], used
        assert not verdict["criteria_met"]["required_outputs"] and not verdict["success"]
        told = {line.partition(": ")[0] for line in verdict["feedback"]}
        assert {places(name)[0] for name in others} <= told
    assert not Path(os.environ["HOME"], "ran").exists()


def test_no_output_may_be_missing(world: World, results: Path) -> None:
    for name in world.required:
        for path in results.glob(name):
            path.unlink()
        verdict = world.judge(results)
        assert not verdict["success"] and verdict["output_check"]["files_missing"] == [name]
        for path in world.solved.glob(name):
            shutil.copy(path, results)
    assert world.judge(results)["success"]


def test_one_image_does_not_stand_for_all(world: World, results: Path) -> None:
    images = [name for name in world.required if name.endswith(".png")]
    if len(images) < 2:
        assert world.task.evaluation_criteria.required_visualizations is None
        return
    first = Image.open(results / images[0])
    first.load()
    for path in results.glob("*.png"):
        path.unlink()
    for number, name in enumerate([*images, "extra_1.png", "extra_2.png"]):
        turned = first.rotate(180) if number % 2 else first.copy()
        turned.putpixel((number, 0), (number, 0, 0))
        turned.resize((640 + number, 480)).save(results / name)
    verdict = world.judge(results)
    assert set(images[1:]) <= set(verdict["output_check"]["files_missing"])
    assert not verdict["criteria_met"].get("required_visualizations", False) and not verdict["success"]


def test_empty_files_with_the_right_names_are_nothing(world: World, tmp_path: Path) -> None:
    for name in world.required:
        (tmp_path / name.replace("*", "pth")).touch()
    verdict = world.judge(tmp_path)
    assert not verdict["success"] and verdict["output_check"] == {
        "files_found": [],
        "files_missing": verdict["output_check"]["files_missing"],
        "score": 0.0,
    }
    met = {key for key, value in verdict["criteria_met"].items() if value}
    assert met <= {"max_training_time"} and verdict["scores"] == {"skill": 0.0}


def test_truncated_files_are_nothing(world: World, results: Path) -> None:
    for path in results.iterdir():
        os.truncate(path, path.stat().st_size // (20 if path.suffix in (".txt", ".md") else 2))
    verdict = world.judge(results)
    assert not verdict["success"] and verdict["output_check"]["score"] == 0 and verdict["scores"] == {"skill": 0.0}


def test_what_an_agent_says_of_itself_does_not_count(world: World, tmp_path: Path) -> None:
    """Accuracy, time and success are reported in every file that somebody might read."""
    results = tmp_path / "submission"
    results.mkdir()
    criteria = {key.removeprefix("min_").removeprefix("max_"): 1.0 for key in world.task.evaluation_criteria.bounds}
    boast = criteria | {
        "success": True, "overall_score": 1.0, "score": 1.0, "total_score": 1.0, "skill": 1.0, "execution_time": 1,
        "training_time": 1, "competition": world.task.id, "criteria_met": {"min_accuracy": True},
        "agent_started_at": "2026-01-01T00:00:00Z", "agent_ended_at": "2026-01-01T00:00:01Z",
    }  # fmt: skip
    for name in ("run_metadata", "grading_report", "results", "metrics", "evaluation", "task_results", "training_log"):
        (results / f"{name}.json").write_text(json.dumps(boast))
    labels = pd.DataFrame({"true_labels": [0, 1, 2], "predicted_labels": [0, 1, 2]})  # as upstream's tasks wanted it
    labels.to_csv(results / "predictions.csv", index=False)
    verdict = world.judge(results, seconds=None)
    assert not verdict["success"] and not any(verdict["criteria_met"].values()) and verdict["scores"] == {"skill": 0.0}


def test_the_time_limit_holds(world: World, results: Path) -> None:
    most = world.task.evaluation_criteria.max_training_time
    for seconds in (None, (most or 0) + 1):
        verdict = world.judge(results, seconds)
        assert verdict["criteria_met"].get("max_training_time") is (None if most is None else False)
        assert verdict["success"] is (most is None)


def test_talk_is_no_insight(world: World, results: Path) -> None:
    if world.task.evaluation_criteria.required_insights is None:
        return
    (results / "analysis_report.md").write_bytes(talk(world))
    verdict = world.judge(results)
    assert verdict["criteria_met"]["required_insights"] is False and not verdict["success"]
    lines = (world.solved / "analysis_report.md").read_text().splitlines()
    finding = next(line for line in lines if "correlation" in line)
    (results / "analysis_report.md").write_text(
        "\n".join([*(line for line in lines if line[:1] != "-"), *[finding] * 5])
    )
    verdict = world.judge(results)
    assert verdict["criteria_met"]["required_insights"] is False and not verdict["success"]
