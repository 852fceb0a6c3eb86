"""The ten templates' data: the same bytes everywhere, solvable by simple models only, and without a way around the labels."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from helpers.grading import graders, metrics
from helpers.tasks.catalogue import TEMPLATES
from helpers.tasks.definitions import Task
from helpers.tasks.synthetic.prepare import prepare, write

SEED = 2**100 + 7
# of all files but the description, for SEED; the same with numpy 1.26 to 2.5, pandas 2.2 to 3.1, scikit-learn 1.6 to 1.9
DIGESTS = {
    "classification_basic": "0d95431f08eb9e9860a061984c1c4c797cb202cfefb587c5d3a97ca17131d29a",
    "clustering_basic": "270911d9ec67d63e6f71112d3283cae7fb0efcbd5c42811eba032fc1d6723625",
    "data_analysis_exploratory": "a04022a4a546c8a5799ddafc0fb36a14bc0350320032d2cc7d1896afc05c5470",
    "deep_learning_image_classification": "fc79b334a6e462ca6594b5dee08276ce6c65c63d588fb53287fb1beee05d7368",
    "imbalanced_classification": "513e681b38bc3fe7484785dc0f35b16e14d9f88352b9868c933271ae0362b6ac",
    "missing_values_classification": "0130c8ffac59fccb07d0beb3f98313b5a711eeffc75c987cf629d86548714564",
    "multi_modal_classification": "de95af7b6959e859e8aae8b429ba562fb78d148cb446386dee937ec6082d3a72",
    "regression_basic": "9a37d36c2aeff66263d921bb94c644dfd3308376a61c2b21e361ca4c940c6d73",
    "text_classification_basic": "dae1e0b57f450a21bc849a7fca29237019694fb7b5e4832e9630b35cd3dc17ef",
    "time_series_forecasting": "3d3b18d60d69b36195fbed2e1fef2301fa83a774c88e4eeb898056d5ad8a047a",
}
TASKS = {path.stem: Task.load(path) for path in sorted(TEMPLATES.glob("*.json"))}
CLASSES = [name for name, task in TASKS.items() if metrics.METRICS[task.metric].kind == "label"]
ELSEWHERE = {
    "an old processor, one thread": {
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
        "NPY_DISABLE_CPU_FEATURES": ",".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    },
    "another one, more threads": {
        "OPENBLAS_CORETYPE": "Haswell",
        "OPENBLAS_NUM_THREADS": "4",
        "OMP_NUM_THREADS": "4",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "3",
        "TZ": "Asia/Tokyo",
    },
}
# prepares all templates, and prints what does depend on the machine
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from helpers.tasks.catalogue import TEMPLATES, Task
from helpers.tasks.synthetic.prepare import write
for path in TEMPLATES.glob("*.json"):
    write(Task.load(path), Path(sys.argv[1], path.stem), int(sys.argv[2]))
numbers = np.random.RandomState(0).standard_normal((300, 300))
print((numbers @ numbers).tobytes().hex()[:100_000])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for task in TASKS.values():
        prepare(task, folder, SEED)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = [folder / half for half in ("public", "private")]
    return {str(path.relative_to(folder)): path.read_bytes() for half in found for path in sorted(half.iterdir())}


def test_the_seed_gives_the_bytes_of_the_digests(data: Path) -> None:
    found = {}
    for name in TASKS:
        content = files(data / name / "prepared")
        del content["public/description.md"]
        found[name] = hashlib.sha256(b"\0".join(part.encode() + b"\0" + content[part] for part in content)).hexdigest()
    assert found == DIGESTS, found


def test_every_machine_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    said = []
    for number, settings in enumerate(ELSEWHERE.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", PROGRAM, str(folder), str(SEED)]
        result = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
        for name in TASKS:
            assert files(folder / name) == files(data / name / "prepared"), (name, settings)
    if " avx2 " in Path("/proc/cpuinfo").read_text():
        assert said[0] != said[1]  # the machines did differ


@pytest.mark.parametrize("name", TASKS)
def test_the_definition_is_complete(name: str) -> None:
    task = TASKS[name]
    criteria = task.evaluation_criteria
    assert task.id == name and task.name and task.description and task.metric == criteria.metric
    assert criteria.bounds and "submission.csv" in criteria.required_outputs == task.expected_outputs
    for output in criteria.required_outputs:
        assert output == "submission.csv" or output.split("*")[0] in task.instructions


def test_the_documents_numbers_are_kept() -> None:
    assert {name: (task.difficulty, task.estimated_time) for name, task in TASKS.items()}.items() >= {
        "classification_basic": ("easy", 1800),
        "regression_basic": ("easy", 1800),
        "data_analysis_exploratory": ("medium", 2400),
        "time_series_forecasting": ("medium", 3600),
        "deep_learning_image_classification": ("hard", 5400),
    }.items()
    assert {task.data_requirements.method for task in TASKS.values()} == {
        f"generate_{kind}"
        for kind in (
            "classification_dataset",
            "regression_dataset",
            "time_series_dataset",
            "clustering_dataset",
            "text_classification_dataset",
            "tabular_dataset_with_missing_values",
            "imbalanced_dataset",
            "multi_modal_dataset",
            "image_classification_dataset",
        )
    }


@pytest.mark.parametrize("name", TASKS)
def test_a_simple_model_succeeds_and_a_constant_guess_fails(name: str, data: Path, tmp_path: Path) -> None:
    write(TASKS[name], tmp_path / "again", 1)
    for folder in (tmp_path / "again", data / name / "prepared"):
        reference = json.loads((folder / "private" / "grading.json").read_text())["reference"]
        ((metric, is_minimum, bound),) = TASKS[name].evaluation_criteria.bounds.values()
        assert metric == TASKS[name].metric
        sign = 1 if is_minimum else -1
        assert sign * reference["baseline"] > sign * bound + (0.04 if metric == "mape" else 0.05)
        assert sign * reference["sample_submission"] < sign * bound - (0.05 if metric == "mape" else 0.15)
        # nor is it so easy that all agents score alike; a line, round groups and a rare class may be found without a fault
        assert metric in ("r2", "adjusted_rand", "balanced_accuracy") or reference["baseline"] not in (0, 1)


@pytest.mark.parametrize("name", TASKS)
def test_reference_scores_are_those_of_the_grader(name: str, data: Path) -> None:
    public, private = (data / name / "prepared" / half for half in ("public", "private"))
    grader = graders.load(name, data)
    report = grader.grade(public / "sample_submission.csv")
    assert report["score"] == report["reference"]["sample_submission"]
    assert grader.grade(private / "answers.csv")["score"] == (0 if grader.metric.is_lower_better else 1)


@pytest.mark.parametrize("name", TASKS)
def test_no_public_file_has_the_hidden_column(name: str, data: Path) -> None:
    public, private = (data / name / "prepared" / half for half in ("public", "private"))
    answers = read(private / "answers.csv")
    hidden = [row["target"] for row in answers]
    train, test = read(public / "train.csv"), read(public / "test.csv")
    assert [row["id"] for row in test] == [row["id"] for row in answers]
    assert {row["id"] for row in train}.isdisjoint(row["id"] for row in test)
    assert "target" not in test[0] and ("target" in train[0]) == (name != "clustering_basic")
    assert len({row["target"] for row in read(public / "sample_submission.csv")}) == 1
    for column in test[0]:
        assert sum(row[column] == truth for row, truth in zip(test, hidden, strict=True)) < 0.6 * len(hidden)
    seed = json.loads((private / "generation.json").read_text())["seed"]
    for path in public.iterdir():
        content = path.read_bytes()
        assert str(seed).encode() not in content and str(data).encode() not in content and b"private" not in content
        assert path.suffix != ".npy" or np.load(path, allow_pickle=False).shape[0] in (len(train), len(test))


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def traces(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an agent could take for a trace of the label that isn't the content of a row; training rows, labels, test rows."""
    public, found = folder / "public", []
    labels = pd.read_csv(public / "train.csv")["target"].to_numpy()
    for half in ("train", "test"):
        rows = read(public / f"{half}.csv")
        ids = np.array([int(row["id"]) for row in rows])
        decimals = [[len(row[name].partition(".")[2]) for name in row if name not in ("id", "target")] for row in rows]
        columns = [np.arange(len(rows))[:, None], ids[:, None], ids[:, None] % np.arange(2, 11), np.array(decimals)]
        found.append(np.hstack([column.reshape(len(rows), -1) for column in columns]))
    return found[0], labels, found[1]


@pytest.mark.parametrize("name", CLASSES)
def test_order_ids_and_spelling_tell_nothing(name: str, data: Path) -> None:
    folder = data / name / "prepared"
    x, y, x_test = traces(folder)
    hidden = pd.read_csv(folder / "private" / "answers.csv")["target"].to_numpy()
    guesses = RandomForestClassifier(100, min_samples_leaf=3, random_state=0).fit(x, y).predict(x_test)
    shares = np.bincount(hidden) / len(hidden)
    spread = 4 * np.sqrt(0.25 / len(hidden))
    assert (guesses == hidden).mean() < shares.max() + spread
    # neighbours and the rows of the same number in both halves are no more alike than others
    by_chance = (shares**2).sum() + spread
    for step in range(1, 6):
        assert (hidden[step:] == hidden[:-step]).mean() < by_chance
    assert (hidden == y[: len(hidden)]).mean() < by_chance and (hidden == y[-len(hidden) :]).mean() < by_chance


@pytest.mark.parametrize("name", TASKS)
def test_no_row_is_in_both_halves(name: str, data: Path) -> None:
    public = data / name / "prepared" / "public"
    seen = []
    for half in ("train", "test"):
        rows = [
            ",".join(value for key, value in row.items() if key not in ("id", "target"))
            for row in read(public / f"{half}.csv")
        ]
        for path in sorted(public.glob(f"{half}_*.npy")):
            rows = [
                row + hashlib.sha256(part.tobytes()).hexdigest() for row, part in zip(rows, np.load(path), strict=True)
            ]
        seen.append(set(rows))
    assert seen[0].isdisjoint(seen[1]) and len(seen[0]) > 3 * len(seen[1])
