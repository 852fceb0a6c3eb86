"""Prepare a task of this project: make its data and split them into a public and a private half.

The labels can't be made again by someone who knows this code: the seed is random, unless given, and is recorded in the
private half only. The same seed gives the same files on every machine.
"""

from __future__ import annotations

import csv
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.data import layout
from helpers.grading import own_task
from helpers.grading import report as report_module
from helpers.lib import disk
from helpers.lib.errors import ConfigError
from helpers.tasks.definitions import Task

if TYPE_CHECKING:  # imported where used, so that --help is fast
    import numpy as np

    from helpers.tasks.synthetic.dataset import Dataset

ROWS_AT_ONCE = 10_000


def prepare(task: Task, data_dir: str | Path, seed: int | None = None, *, force: bool = False) -> bool:
    """Prepare a task below `data_dir`; False: it was already. Raises ConfigError and OSError.

    Two at once are safe: the second waits, and then finds it done. A reader sees all of the data or none.
    """
    if not force and layout.problem(data_dir, task.id) is None:
        return False
    with layout.staging(data_dir, task.id) as folder:
        if not force and layout.problem(data_dir, task.id) is None:
            return False
        write(task, folder / "prepared", secrets.randbits(128) if seed is None else seed)
        layout.publish(folder, data_dir, task.id, backend="own")
    return True


def write(task: Task, folder: Path, seed: int) -> Dataset:
    """Write both halves of a task to `folder`, which isn't there yet; the data. Raises ConfigError and OSError."""
    try:
        return _write(task, folder, seed)
    except (ValueError, report_module.GradingError) as error:
        raise ConfigError([f"task {task.id} can't be prepared: {str(error).rstrip('.')}."]) from error
    except MemoryError as error:
        raise ConfigError([f"task {task.id}: its data don't fit into memory: {error}. Lower n_samples."]) from error


def _write(task: Task, folder: Path, seed: int) -> Dataset:
    from helpers.tasks.synthetic import dataset as datasets
    from helpers.tasks.synthetic import description, reference

    dataset = datasets.make(task, seed)
    guess = reference.constant(dataset)
    public, private = folder / "public", folder / "private"
    for path, mode in ((folder, 0o755), (public, 0o755), (private, 0o700)):
        path.mkdir()
        path.chmod(mode)
    _write_rows(dataset, public)
    _write_answers(dataset, public / "sample_submission.csv", [guess] * len(dataset.test))
    _write_answers(dataset, private / "answers.csv", dataset.target[dataset.test].tolist())
    copied = _copy_files(task, public)
    (public / "description.md").write_text(description.describe(task, dataset, copied), encoding="utf-8")
    _write_settings(task, dataset, private, seed)
    for path in public.iterdir():
        path.chmod(0o644)
    return dataset


def _write_rows(dataset: Dataset, public: Path) -> None:
    from helpers.tasks.synthetic.dataset import TARGET

    labels = {} if dataset.metric.kind == "cluster" else {TARGET: dataset.target}
    write_csv(public / "train.csv", dataset.features, dataset.train, 0, **labels)
    write_csv(public / "test.csv", dataset.features, dataset.test, len(dataset.train))
    for name, array in dataset.arrays.items():
        write_array(public / f"train_{name}.npy", array, dataset.train)
        write_array(public / f"test_{name}.npy", array, dataset.test)


def write_csv(path: Path, table: Any, rows: np.ndarray, first_id: int, **more: np.ndarray) -> None:
    """Write some rows of a table and of columns beside it; NaN is an empty cell. Raises OSError.

    Not with pandas, whose spelling of numbers depends on its version; numbers are spelled as Python does, in the fewest digits.
    """
    from helpers.tasks.synthetic.dataset import ID

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([ID, *table.columns, *more])
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            cells = table.iloc[part]
            columns = [range(first_id + start, first_id + start + len(part))]
            columns += [_cells(cells[name]) for name in table.columns]
            columns += [values[part].tolist() for values in more.values()]
            writer.writerows(zip(*columns, strict=True))


def _cells(column: Any) -> list[Any]:
    return column.astype(object).where(column.notna(), None).tolist() if column.hasnans else column.tolist()


def _write_answers(dataset: Dataset, path: Path, values: list[Any]) -> None:
    from helpers.tasks.synthetic.dataset import ID, TARGET

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([ID, TARGET])
        writer.writerows(enumerate(values, start=len(dataset.train)))


def write_array(path: Path, array: np.ndarray, rows: np.ndarray) -> None:
    """Write some rows of an array in numpy's format 1.0 (numpy.lib.format). Raises OSError."""
    from numpy.lib import format as npy

    shape = {"descr": array.dtype.str, "fortran_order": False, "shape": (len(rows), *array.shape[1:])}
    with open(path, "wb") as file:  # not numpy.save: its error for a full disk has no number
        npy.write_array_header_1_0(file, shape)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            file.write(array[rows[start : start + ROWS_AT_ONCE]].data)


def _copy_files(task: Task, public: Path) -> list[str]:
    """Copy the files that lie beside the data as they are. Returns their names."""
    from helpers.tasks.synthetic.dataset import source

    data, copied = task.data_requirements, []
    for name in data.copy_files if data.generate_synthetic else data.copy_files[1:]:
        path = source(task, name)
        if (public / path.name).exists() or path.name == "description.md":
            raise ValueError(f"copy_files: {name} has the name of another file of the task: rename it")
        shutil.copyfile(path, public / path.name)
        copied.append(path.name)
    return copied


def _write_settings(task: Task, dataset: Dataset, private: Path, seed: int) -> None:
    """grading.json, with reference scores by the very grader that will judge submissions, and generation.json."""
    import pandas as pd

    from helpers.tasks.synthetic import reference
    from helpers.tasks.synthetic.dataset import ID, TARGET

    settings = {"metric": dataset.metric.name, "id_column": ID, "target_column": TARGET}
    disk.write_json(private / "grading.json", settings)
    grader = own_task.OwnTask(task.id, private)
    scores = {}
    for name, guesses in (
        ("sample_submission", [reference.constant(dataset)] * len(dataset.test)),
        ("baseline", reference.baseline(dataset)),
    ):
        ids = range(len(dataset.train), len(dataset.target))
        report = grader.grade(pd.DataFrame({ID: ids, TARGET: guesses}))
        if report["score"] is None:
            raise ValueError(f"its {name} can't be graded: {report['note']}")
        scores[name] = report["score"]
    disk.write_json(private / "grading.json", settings | {"reference": scores})
    requirements = task.data_requirements.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    disk.write_json(private / "generation.json", {"task": task.id, "seed": seed, "requirements": requirements})
