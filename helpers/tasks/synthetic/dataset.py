"""A task's data before they are written: made or read, and split into rows that agents train on and rows that are hidden."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.grading import metrics
from helpers.tasks.definitions import Task
from helpers.tasks.synthetic.generator import DataGenerator
from helpers.tasks.synthetic.stream import Stream

if TYPE_CHECKING:
    import pandas as pd

ID, TARGET = "id", "target"


@dataclass
class Dataset:
    """One row each: `features` (a table, perhaps without columns), `target`, and `arrays` by name; metric: of the task.

    train and test: the numbers of the rows, in the order in which they are published.
    """

    features: pd.DataFrame
    target: np.ndarray
    metric: metrics.Metric
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    is_series: bool = False
    train: np.ndarray = field(init=False)
    test: np.ndarray = field(init=False)


def make(task: Task, seed: int) -> Dataset:
    """Make or read the data of a task, and split them. Raises ValueError, GradingError and OSError."""
    data = task.data_requirements
    if not data.generate_synthetic and not data.copy_files:
        raise ValueError("it has no data, neither generate_synthetic nor copy_files")
    metric = metrics.get_metric(task.metric)
    generator = DataGenerator(seed)
    dataset = _generated(task, generator, metric) if data.generate_synthetic else _read(task, metric)
    dataset.train, dataset.test = split(dataset, data.test_share, generator.random)
    return dataset


def _generated(task: Task, generator: DataGenerator, metric: metrics.Metric) -> Dataset:
    import pandas as pd

    requirements = task.data_requirements
    made = getattr(generator, requirements.method)(**requirements.parameters)
    if isinstance(made, dict):
        labels = made.pop("labels")
        arrays = {name: values for name, values in made.items() if isinstance(values, np.ndarray)}
        return Dataset(pd.DataFrame(index=range(len(labels))), labels, metric, arrays)
    label = made.columns[-1]  # target, label or cluster
    target = made.pop(label).to_numpy()
    if "date" in made:
        made["date"] = np.datetime_as_string(made["date"].to_numpy(), unit="D").astype(object)
    return Dataset(made, target, metric, is_series="date" in made)


def _read(task: Task, metric: metrics.Metric) -> Dataset:
    import pandas as pd

    path, target = source(task, task.data_requirements.copy_files[0]), task.data_requirements.target_column
    header, rows = _cells(path)
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"{path} has the column `{name}` twice")
        if name == ID or (name == TARGET and target != TARGET):
            raise ValueError(f"{path} has a column `{name}`, the name of one that is added: rename it there")
    if target not in header:
        raise ValueError(f"{path} has no column `{target}` (target_column); its columns are {', '.join(header)}")
    table = pd.DataFrame(rows, columns=header, dtype=object)
    labels = table.pop(target).to_numpy(dtype=object)
    empty = [number for number, label in enumerate(labels) if not label.strip()]
    if empty:
        where = f"the first is row {empty[0] + 1}"
        raise ValueError(f"{path} has no `{target}` in {len(empty)} of its rows, {where}: fill or delete them")
    return Dataset(table, labels, metric)


def source(task: Task, name: str) -> Path:
    """Where a file of `copy_files` lies. Raises ValueError when it isn't there."""
    path = task._folder / name
    if not path.is_file():
        raise ValueError(f"copy_files: there is no file {path}")
    return path


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file, every cell as it is spelled. Raises ValueError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            # the lone carriage return of old Macs would end a row where the file is read again
            lines = csv.reader(file, strict=True)
            rows = [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in lines if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None
    if len(rows) < 3:
        raise ValueError(f"{path} must have a header and at least two rows")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {number} of {path} has {len(row)} cells, the header {len(rows[0])}")
    return rows[0], rows[1:]


def split(dataset: Dataset, test_share: float, random: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to test: both with all classes, in random order; of a series, the past and the future.

    Raises ValueError where a class has too few rows for that.
    """
    count = len(dataset.target)
    hidden = min(max(round(count * test_share), 1), count - 1)
    if dataset.is_series:
        return np.arange(count - hidden), np.arange(count - hidden, count)
    order = random.permutation(count)
    if dataset.metric.kind == "number":
        return order[hidden:], order[:hidden]
    labels, codes, counts = np.unique(dataset.target[order], return_inverse=True, return_counts=True)
    if len(labels) < 2 or counts.min() < 2:
        few = "there is one class only" if len(labels) < 2 else f"class {labels[counts.argmin()]} has one row only"
        raise ValueError(f"{few}; the metric {dataset.metric.name} takes two classes or more, of two rows or more each")
    is_test = np.zeros(count, dtype=bool)
    for code, share in enumerate(_shares(counts, test_share, hidden)):
        is_test[np.flatnonzero(codes == code)[:share]] = True
    return order[~is_test], order[is_test]


def _shares(counts: np.ndarray, share: float, total: int) -> Any:
    """How many rows of each class to hide: at least one, not all, `total` where that goes (largest remainders)."""
    taken = np.clip(np.floor(counts * share), 1, counts - 1).astype(int)
    remainders = np.where(taken < counts - 1, counts * share - taken, -1)
    for code in np.argsort(-remainders, kind="stable")[: max(total - taken.sum(), 0)]:
        taken[code] += taken[code] < counts[code] - 1
    return taken
