"""Prepare a task of this project: make its synthetic data and split it into a public and a private half.

The labels can't be made again by someone who knows this code: the seed is random, unless given, and is recorded in the
private half only. A task that is already prepared is left alone. Exit codes: 0 prepared; 2 usage, or a folder
that can't be used; 3 disk full.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import json
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where used, so that --help is fast
    import pandas as pd

TASKS = Path(__file__).resolve().parent.parent / "templates" / "tasks"
PUBLIC = ("description.md", "train.csv", "test.csv", "sample_submission.csv")
PRIVATE = ("answers.csv", "grading.json", "generation.json")
ID, TARGET = "id", "target"
TEST_SHARE = 0.2
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class TaskError(Exception):
    """A task that can't be prepared; the message is for the user."""


def load_task(task_id: str) -> dict[str, Any]:
    """Read templates/tasks/<task_id>.json. Raises TaskError, which lists what exists."""
    known = sorted(path.stem for path in TASKS.glob("*.json"))
    if task_id not in known:
        raise TaskError(f"unknown task {task_id!r}; there are: {', '.join(known)}")
    task = json.loads((TASKS / f"{task_id}.json").read_text(encoding="utf-8"))
    if task["data_requirements"]["dataset_type"] != "classification":
        raise TaskError(f"task {task_id}: can't make data of the type {task['data_requirements']['dataset_type']!r}")
    return task


def is_complete(folder: Path) -> bool:
    """Say whether `folder` (<data>/<task>/prepared) holds all files of a prepared task."""
    files = [folder / "public" / name for name in PUBLIC] + [folder / "private" / name for name in PRIVATE]
    return all(path.is_file() and path.stat().st_size for path in files)


def prepare(task_id: str, data_dir: Path, seed: int | None = None, *, force: bool = False) -> bool:
    """Prepare a task below `data_dir`; False: it was already. Raises TaskError and OSError.

    Two at once are safe: the second waits, and then finds it done. A reader sees all of the data or none.
    """
    task, target = load_task(task_id), data_dir / task_id / "prepared"
    if is_complete(target) and not force:
        return False
    data_dir.mkdir(parents=True, exist_ok=True)
    with _locked(data_dir / ".prepare_task.lock"):
        if is_complete(target) and not force:
            return False
        scratch = data_dir / f".{task_id}.new"
        shutil.rmtree(scratch, ignore_errors=True)  # left by one that was killed
        try:
            _write_task(task, scratch, secrets.randbits(128) if seed is None else seed)
            _replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _replace(scratch: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    old = scratch.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    scratch.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _write_task(task: dict[str, Any], folder: Path, seed: int) -> None:
    public, private = folder / "public", folder / "private"
    for path, mode in ((folder, 0o755), (public, 0o755), (private, 0o700)):
        path.mkdir()
        path.chmod(mode)
    train, test = generate(task["data_requirements"], seed)
    answers, sample = test[[ID, TARGET]], test[[ID]].assign(**{TARGET: int(train[TARGET].mode()[0])})
    train.to_csv(public / "train.csv", index=False, float_format="%.6f")
    test.drop(columns=TARGET).to_csv(public / "test.csv", index=False, float_format="%.6f")
    sample.to_csv(public / "sample_submission.csv", index=False)
    (public / "description.md").write_text(describe(task, train, test), encoding="utf-8")
    answers.to_csv(private / "answers.csv", index=False)
    _write_json(private / "generation.json", {"task": task["id"], "seed": seed, **task["data_requirements"]})
    grading = {"metric": task["evaluation_criteria"]["metric"], "id_column": ID, "target_column": TARGET}
    _write_json(private / "grading.json", grading | {"reference": reference(grading["metric"], train, test, sample)})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def generate(requirements: dict[str, Any], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the training and the test table: id, feature_0…, target; rows in random order, numbered in that order."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import make_classification

    # scikit-learn takes seeds up to 32 bits only, which are few enough to try them all
    words = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(seed.bit_length(), 1), 32)]
    rows, columns = requirements["n_samples"], requirements["n_features"]
    informative = max(2, columns * 6 // 10)
    features, target = make_classification(
        rows,
        columns,
        n_informative=informative,
        n_redundant=(columns - informative) // 2,
        n_classes=requirements["n_classes"],
        class_sep=1.2,
        flip_y=requirements["noise"],
        random_state=np.random.RandomState(words),
    )
    table = pd.DataFrame(features, columns=[f"feature_{number}" for number in range(columns)]).round(6)
    table.insert(0, ID, range(rows))
    table[TARGET] = target
    split = rows - round(rows * TEST_SHARE)
    return table.iloc[:split], table.iloc[split:]


def reference(metric: str, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame) -> dict[str, float]:
    """Score the sample submission, and a logistic regression as the baseline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from helpers.graders import get_metric

    columns = [name for name in train.columns if name not in (ID, TARGET)]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train[columns], train[TARGET])
    guesses = {"sample_submission": sample[TARGET], "baseline": model.predict(test[columns])}
    return {name: round(get_metric(metric).score(test[TARGET], guess), 5) for name, guess in guesses.items()}


def describe(task: dict[str, Any], train: pd.DataFrame, test: pd.DataFrame) -> str:
    """Write the description that the agent reads."""
    metric = task["evaluation_criteria"]["metric"]
    classes = ", ".join(map(str, sorted(train[TARGET].unique())))
    return f"""# {task["name"]}

{task["description"]}

{task["instructions"]}

## Data
- `train.csv`: {len(train)} rows with the columns `{ID}`, `{train.columns[1]}` to `{train.columns[-2]}` and `{TARGET}`
- `test.csv`: {len(test)} rows with the same columns, without `{TARGET}`
- `sample_submission.csv`: a submission in the right form, with one guess for all rows

`{TARGET}` is one of {classes}. `{ID}` only numbers the rows.

## Submission
A CSV file with the columns `{ID}` and `{TARGET}` and one row for each row of `test.csv`, in any order.

## Evaluation
The metric is {metric} on the hidden labels of `test.csv`. A score of
{task["evaluation_criteria"]["min_accuracy"]} or more counts as success.
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.prepare_task",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", help="its name in templates/tasks")
    parser.add_argument("--data-dir", required=True, type=Path, metavar="D", help="folder of the prepared tasks")
    parser.add_argument("--seed", type=_seed, metavar="N", help="make the same data again (default: random)")
    parser.add_argument("--force", action="store_true", help="prepare again, with new data, what is prepared")
    parser.add_argument("--check", action="store_true", help="only say whether it is prepared (exit 2 if not)")
    arguments = parser.parse_args(argv)
    folder = arguments.data_dir / arguments.task / "prepared"
    try:
        if arguments.check:
            load_task(arguments.task)
            if not is_complete(folder):
                raise TaskError(f"{arguments.task} is not prepared in {arguments.data_dir}: run this without --check")
            print(f"{arguments.task}: prepared in {folder}")
        elif prepare(arguments.task, arguments.data_dir, arguments.seed, force=arguments.force):
            print(f"{arguments.task}: prepared in {folder}")
        else:
            print(f"{arguments.task}: already prepared in {folder}, nothing to do (--force prepares it again)")
    except TaskError as error:
        print(f"prepare_task: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"prepare_task: {error.filename or folder}: {error.strerror or error} (--data-dir)", file=sys.stderr)
        return 3 if error.errno in DISK_FULL else 2
    except KeyboardInterrupt:
        return 130
    return 0


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
