"""What the tests of the validator share: a small task laid out by hand, and files that an agent may have written."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from helpers.grading.metrics import get_metric
from helpers.tasks.definitions import Task
from helpers.tasks.judging.files import check_output
from helpers.tasks.utils import TaskValidator

ROWS, HIDDEN = 240, 60


def make_task(**criteria: Any) -> Task:
    kind = criteria.pop("kind", "classification")
    return Task.from_dict(
        {
            "id": "toy",
            "name": "Toy",
            "description": "Predict the target of a small table from its four features; classes differ in features.",
            "task_type": "classification",
            "data_requirements": {"dataset_type": kind},
            "evaluation_criteria": criteria,
            "instructions": "Train a model on the rows of train.csv and write a submission and a summary.",
        }
    )


def put_prepared(data: Path, task: Task, table: pd.DataFrame) -> None:
    """Lay a prepared task out by hand: the last HIDDEN rows are hidden."""
    public, private = (data / task.id / "prepared" / half for half in ("public", "private"))
    public.mkdir(parents=True)
    private.mkdir()
    table = table.assign(id=range(len(table)))
    train, test = table.iloc[:-HIDDEN], table.iloc[-HIDDEN:]
    train.drop(columns="target" if task.metric == "adjusted_rand" else []).to_csv(public / "train.csv", index=False)
    test.drop(columns="target").to_csv(public / "test.csv", index=False)
    guess = train["target"].mode()[0] if get_metric(task.metric).kind == "label" else train["target"].mean()
    sample = test[["id"]].assign(target=0 if task.metric == "adjusted_rand" else guess)
    sample.to_csv(public / "sample_submission.csv", index=False)
    test[["id", "target"]].to_csv(private / "answers.csv", index=False)
    reference = {"sample_submission": get_metric(task.metric).score(test["target"], sample["target"]), "baseline": 0.9}
    settings = {"metric": task.metric, "id_column": "id", "target_column": "target", "reference": reference}
    (private / "grading.json").write_text(json.dumps(settings))
    (public / "description.md").write_text(f"# {task.name}\n\n{task.description}\n\n{task.instructions}\n")


def make_table(kind: str = "classification") -> pd.DataFrame:
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(ROWS + HIDDEN) % 3)
    table = pd.DataFrame(
        rng.normal(3 * labels[:, None], [1, 2, 3, 4], (len(labels), 4)), columns=[f"f_{n}" for n in range(4)]
    )
    table["f_3"] += table["f_2"]
    target = {
        "classification": labels,
        "clustering": labels,
        "regression": table.sum(axis=1) + 50,
        "time_series": 100 + labels,
    }
    return table.assign(target=target[kind])


class Place:
    """A data folder and a results folder."""

    def __init__(self, folder: Path) -> None:
        self.data, self.results = folder / "data", folder / "results"
        self.results.mkdir()
        self.validator = TaskValidator(self.data)

    def prepare(self, task: Task, table: pd.DataFrame | None = None) -> Task:
        put_prepared(self.data, task, make_table(task.data_requirements.dataset_type) if table is None else table)
        return task

    @property
    def public(self) -> Path:
        return self.data / "toy" / "prepared" / "public"

    @property
    def answers(self) -> pd.DataFrame:
        return pd.read_csv(self.data / "toy" / "prepared" / "private" / "answers.csv")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.results / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def submit(self, target: Any = None, wrong: int = 0) -> None:
        """Write the hidden labels, or others, of which the first `wrong` ones are changed."""
        answers = self.answers
        answers["target"] = answers["target"] if target is None else target
        if wrong:
            answers.loc[: wrong - 1, "target"] = (answers.loc[: wrong - 1, "target"] + 1) % 3
        answers.to_csv(self.results / "submission.csv", index=False)

    def judge(self, task: Task, seconds: float | None = None) -> dict[str, Any]:
        verdict = self.validator.evaluate_task(task, self.results, seconds)
        json.dumps(verdict, allow_nan=False)
        assert all(isinstance(line, str) and "\n" not in line for line in verdict["feedback"])
        assert verdict["success"] is (
            "error" not in verdict and verdict["overall_score"] >= 0.6 and all(verdict["criteria_met"].values())
        )
        return verdict


SUMMARY = """The final model is a logistic regression with standardised inputs. It was trained with every row that train.csv
offers; five-fold cross-validation gave an accuracy of 0.93 and predictions for the test rows stand in the submission.
"""


def check(name: str, content: bytes | str, known: str = "") -> Any:
    return check_output(io.BytesIO(content.encode() if isinstance(content, str) else content), name, known)


def plot(
    path: Path | io.BytesIO, seed: int, kind: str = "PNG", size: tuple[int, int] = (320, 240), mode: str = "RGB"
) -> None:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, size[0] - 20, size[1] - 20), outline="black")
    for number, height in enumerate(rng.integers(20, size[1] - 50, 8)):
        left = 30 + number * (size[0] - 60) // 8
        draw.rectangle(
            (left, size[1] - 20 - height, left + 20, size[1] - 20), fill=("red", "blue", "green")[number % 3]
        )
    image.convert(mode).save(path, format=kind)


def png(seed: int = 1, **options: Any) -> bytes:
    buffer = io.BytesIO()
    plot(buffer, seed, **options)
    return buffer.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {os.environ['HOME']}/ran",)


def check_model(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    with open(path, "rb") as file:
        check_output(file, name)
