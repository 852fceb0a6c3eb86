"""Preparing a task: complete or not at all, once, split as promised, and without giving the labels away."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import layout
from helpers.grading import graders, metrics
from helpers.lib import errors
from helpers.lib.errors import ConfigError
from helpers.tasks.catalogue import TEMPLATES
from helpers.tasks.definitions import Task
from helpers.tasks.synthetic.dataset import Dataset, split
from helpers.tasks.synthetic.generator import DataGenerator
from helpers.tasks.synthetic.prepare import prepare, write, write_array, write_csv
from helpers.tasks.synthetic.stream import Stream

BASIC = Task.load(TEMPLATES / "classification_basic.json")
PUBLIC = {"description.md", "train.csv", "test.csv", "sample_submission.csv"}
PRIVATE = {"answers.csv", "grading.json", "generation.json"}


def own(folder: Path, content: str | bytes, metric: str = "accuracy", **more: object) -> Task:
    """A task on a table of the user's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "houses.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    data = {"generate_synthetic": False, "copy_files": ["houses.csv"], "target_column": "kind"} | more
    definition = {"id": "houses", "name": "Houses", "task_type": "classification", "data_requirements": data}
    (folder / "houses.json").write_text(json.dumps(definition | {"evaluation_criteria": {"metric": metric}}))
    return Task.load(folder / "houses.json")


def table(rows: int = 40) -> str:
    lines = [
        f'{number}.50,"{"a, b" if number % 3 else ""}",{"small" if number % 4 else "big"}' for number in range(rows)
    ]
    return "\n".join(["size,notes,kind", *lines, ""])


def synthetic(kind: str, metric: str | None = None, **parameters: object) -> Task:
    criteria = {"metric": metric} if metric else {}
    data = {"dataset_type": kind, **parameters}
    return Task(id="made", name="Made", task_type="any", data_requirements=data, evaluation_criteria=criteria)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(task: Task, folder: Path) -> str:
    """The one message for a task that can't be prepared; nothing of it may be left."""
    with pytest.raises(ConfigError) as error:
        prepare(task, folder)
    assert not (folder / task.id).exists() and not [p for p in (folder / ".preparing").iterdir() if p.is_dir()]
    (problem,) = error.value.problems
    assert problem.startswith(f"task {task.id}") and problem.endswith(".") and "\n" not in problem
    return problem


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task(id="made", name="Made", task_type="any"), "it has no data, neither generate_synthetic nor copy_files"),
        (synthetic("classification", n_features=3, n_informative=4), "are more than n_features=3"),
        (synthetic("regression", "accuracy", n_samples=50), "has one row only; the metric accuracy takes two classes"),
        (synthetic("classification", "roc_auc", n_classes=3), "0 and 1"),
        (synthetic("classification", n_samples=20, n_classes=15, n_features=20), "two rows or more each"),
        (synthetic("regression", n_samples=100_000_000, n_features=10_000), "fit into memory"),
    ],
)
def test_what_cannot_be_is_refused(task: Task, said: str, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**36, hard))  # so that no machine is large enough
    try:
        assert said in refused(task, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (table(), {"copy_files": ["cottages.csv"]}, "copy_files: there is no file"),
        (table(), {"copy_files": ["houses.csv", "../outside.txt"]}, "outside.txt"),
        (table(), {"copy_files": ["houses.csv", "more/train.csv"]}, "more/train.csv has the name of another file"),
        (table(), {"target_column": "price"}, "no column `price` (target_column); its columns are size, notes, kind"),
        (table().replace("size,", "id,"), {}, "has a column `id`"),
        (table().replace("size,", "target,"), {}, "has a column `target`"),
        (table().replace("notes,", "size,"), {}, "has the column `size` twice"),
        (table().replace("small", " ", 1), {}, "has no `kind` in 1 of its rows, the first is row 2"),
        (table() + "1,2\n", {}, "row 41 of"),
        (table().encode() + b"1,\xff,big\n", {}, "is no CSV file in UTF-8"),
        (table() + '1,"2,big\n', {}, "is no CSV file in UTF-8"),
        ("", {}, "must have a header and at least two rows"),
        (table().replace("small", "big"), {}, "there is one class only"),
        (table().replace("small", "tiny", 1), {}, "class tiny has one row only"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(content: str | bytes, more: dict, said: str, tmp_path: Path) -> None:
    (tmp_path / "own" / "more").mkdir(parents=True)
    (tmp_path / "own" / "more" / "train.csv").write_text("mine")
    assert said in refused(own(tmp_path / "own", content, **more), tmp_path / "data")


@pytest.mark.parametrize(
    ("metric", "said"),
    [("rmse", "takes numbers, and the target has others"), ("log_loss", "takes numbers, and the target has others")],
)
def test_a_metric_that_does_not_fit_is_refused(metric: str, said: str, tmp_path: Path) -> None:
    assert said in refused(own(tmp_path / "own", table(), metric), tmp_path / "data")


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("task", "size"),
    [
        (BASIC, 30_000),  # in train.csv
        (BASIC, 300),  # in the first line of a file
        (synthetic("image_classification", n_samples=60, n_classes=3), 100_000),  # in an array
        (synthetic("image_classification", n_samples=60, n_classes=3), 100),  # in its header
    ],
)
def test_a_full_disk_leaves_nothing_half_done(task: Task, size: int, tmp_path: Path) -> None:
    with full_disk(size), pytest.raises(OSError) as error:
        prepare(task, tmp_path)
    assert error.value.errno in errors.DISK_FULL
    assert not (tmp_path / task.id).exists() and len(list((tmp_path / ".preparing").iterdir())) == 1  # the lock
    assert prepare(task, tmp_path)
    before = contents(tmp_path / task.id)
    with full_disk(size), pytest.raises(OSError):
        prepare(task, tmp_path, force=True)
    assert contents(tmp_path / task.id) == before and layout.problem(tmp_path, task.id) is None


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
def test_a_folder_that_cannot_be_is_an_os_error(folder: str) -> None:
    with pytest.raises(OSError) as error:
        prepare(BASIC, folder)
    assert error.value.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


def test_all_files_are_there_with_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        assert prepare(BASIC, tmp_path / "data with space" / "deep", 7)
    finally:
        os.umask(old)
    folder = tmp_path / "data with space" / "deep" / BASIC.id / "prepared"
    assert {path.name for path in (folder / "public").iterdir()} == PUBLIC
    assert {path.name for path in (folder / "private").iterdir()} == PRIVATE
    assert (folder / "private").stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o777 == (folder / "public").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (folder / "public").iterdir()} == {0o644}


def test_the_halves_fit_together(tmp_path: Path) -> None:
    prepare(BASIC, tmp_path, 7)
    folder = tmp_path / BASIC.id / "prepared"
    train, test, sample = (
        pd.read_csv(folder / "public" / f"{name}.csv") for name in ("train", "test", "sample_submission")
    )
    answers = pd.read_csv(folder / "private" / "answers.csv")
    assert list(train) == ["id", *(f"feature_{number}" for number in range(10)), "target"] == [*test, "target"]
    assert list(sample) == list(answers) == ["id", "target"]
    assert train["id"].tolist() + test["id"].tolist() == list(range(1000)) and len(test) == 200
    assert test["id"].tolist() == sample["id"].tolist() == answers["id"].tolist()
    assert set(sample["target"]) == {train["target"].mode()[0]}
    shares = [half["target"].value_counts(normalize=True) for half in (train, answers)]
    assert np.abs(shares[0] - shares[1]).max() < 0.005
    settings = json.loads((folder / "private" / "grading.json").read_text())
    assert settings | {"reference": 0} == {
        "metric": "accuracy",
        "id_column": "id",
        "target_column": "target",
        "reference": 0,
    }
    assert settings["reference"].keys() == {"sample_submission", "baseline"}


def test_seeds_decide_the_data_and_are_kept_private(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 2**100 + 7), ("d", None), ("e", None)):
        assert prepare(BASIC, tmp_path / name, seed)
    answers = {name: (tmp_path / name / BASIC.id / "prepared/private/answers.csv").read_bytes() for name in "abcde"}
    assert answers["a"] == answers["b"] and len(set(answers.values())) == 4
    generation = json.loads((tmp_path / "d" / BASIC.id / "prepared/private/generation.json").read_text())
    assert generation["task"] == BASIC.id and generation["requirements"]["n_samples"] == 1000
    assert generation["seed"].bit_length() > 64
    prepare(BASIC, tmp_path / "f", generation["seed"])
    made = contents(tmp_path / "f" / BASIC.id / "prepared/public")
    assert made == contents(tmp_path / "d" / BASIC.id / "prepared/public")
    assert not any(str(generation["seed"]).encode() in content for content in made.values())


def test_a_second_time_does_nothing_unless_forced(tmp_path: Path) -> None:
    assert prepare(BASIC, tmp_path)
    first = contents(tmp_path / BASIC.id)
    assert not prepare(BASIC, tmp_path) and contents(tmp_path / BASIC.id) == first
    assert prepare(BASIC, tmp_path, force=True) and contents(tmp_path / BASIC.id).keys() == first.keys()
    assert contents(tmp_path / BASIC.id)["prepared/private/answers.csv"] != first["prepared/private/answers.csv"]


def test_what_is_prepared_may_be_read_only(tmp_path: Path) -> None:
    prepare(BASIC, tmp_path)
    (tmp_path / ".preparing" / f"{BASIC.id}.lock").unlink()
    (tmp_path / ".preparing").rmdir()
    assert not prepare(BASIC, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {BASIC.id}


@pytest.mark.parametrize("name", ["private/grading.json", "public/train.csv"])
def test_what_is_damaged_is_prepared_again(name: str, tmp_path: Path) -> None:
    prepare(BASIC, tmp_path)
    (tmp_path / BASIC.id / "prepared" / name).write_text("")
    left = tmp_path / ".preparing" / f"{BASIC.id}@host.1" / "prepared"  # by one that was killed
    left.mkdir(parents=True)
    assert prepare(BASIC, tmp_path)
    assert layout.problem(tmp_path, BASIC.id) is None and not left.exists()


def test_three_at_once_prepare_once(tmp_path: Path) -> None:
    program = (
        "import sys; from helpers.tasks import registry; from helpers.tasks.synthetic.prepare import prepare; "
        f"print(prepare(registry.get_task({BASIC.id!r}), sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    together = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0].strip() for process in together) == ["False", "False", "True"]
    assert layout.problem(tmp_path, BASIC.id) is None


def test_preparing_starts_without_the_heavy_libraries() -> None:
    program = "import sys, helpers.tasks.synthetic.prepare; print({'numpy', 'pandas', 'sklearn'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_bytes(b"as it is\r\n")
    task = own(tmp_path / "own", table(), copy_files=["houses.csv", "notes.txt"])
    prepare(task, tmp_path)
    public, private = (tmp_path / "houses" / "prepared" / half for half in ("public", "private"))
    assert {path.name for path in public.iterdir()} == PUBLIC | {"notes.txt"}
    assert (public / "notes.txt").read_bytes() == b"as it is\r\n"
    rows = {name: list(csv.DictReader(open(public / f"{name}.csv", newline=""))) for name in ("train", "test")}
    answers = list(csv.DictReader(open(private / "answers.csv", newline="")))
    assert list(rows["train"][0]) == ["id", "size", "notes", "target"] and len(answers) == 8
    assert {row["notes"] for row in rows["train"]} == {"a, b", ""} and rows["train"][0]["size"].endswith(".50")
    # every row is there once, with its own label, in no order that tells
    known = [*rows["train"], *(test | answer for test, answer in zip(rows["test"], answers, strict=True))]
    expected = {f"{number}.50": "small" if number % 4 else "big" for number in range(40)}
    assert {row["size"]: row["target"] for row in known} == expected and len(known) == 40
    assert [row["id"] for row in known] == list(map(str, range(40)))
    assert Counter(row["target"] for row in answers) == {"small": 6, "big": 2}
    assert [row["size"] for row in known] != sorted((row["size"] for row in known), key=float)
    assert (
        "`notes.txt`" in (public / "description.md").read_text()
        and "big, small" in (public / "description.md").read_text()
    )
    reference = graders.load("houses", tmp_path).grade(public / "sample_submission.csv")["reference"]
    assert reference["sample_submission"] == 0.75 and 0 <= reference["baseline"] <= 1


def test_line_ends_within_cells_break_no_row(tmp_path: Path) -> None:
    content = "\r\n".join(["notes,kind", *(f'"{number}\r\nb\rc",{number % 2}' for number in range(20)), ""])
    prepare(own(tmp_path / "own", content), tmp_path)
    found = []
    for half in ("train", "test"):
        with open(tmp_path / "houses" / "prepared" / "public" / f"{half}.csv", newline="") as file:
            found += [row["notes"] for row in csv.DictReader(file)]
    assert sorted(found) == sorted(f"{number}\nb\nc" for number in range(20))


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "rmse", "mape", "adjusted_rand"])
def test_every_kind_of_metric_gets_references(metric: str, tmp_path: Path) -> None:
    lines = [
        f"{number % 7},x{number % 3},,{number % 7 > 2 if metric != 'mape' else number % 7 + 1.5}"
        for number in range(60)
    ]
    content = "\n".join(["a,b,empty,kind", *lines, ""])
    prepare(own(tmp_path / "own", content, metric), tmp_path)
    grader = graders.load("houses", tmp_path)
    scores = grader.reference
    if metric == "adjusted_rand":
        assert scores["sample_submission"] == 0 and abs(scores["baseline"]) < 1
    else:
        assert (scores["baseline"] < scores["sample_submission"]) == grader.metric.is_lower_better
    header = (tmp_path / "houses/prepared/public/train.csv").read_text().splitlines()[0]
    assert header == ("id,a,b,empty" if metric == "adjusted_rand" else "id,a,b,empty,target")


def test_arrays_belong_to_the_rows_of_the_tables(tmp_path: Path) -> None:
    task = synthetic("multi_modal", n_samples=90, image_size=[28, 20], n_text_features=30)
    prepare(task, tmp_path, 3)
    public = tmp_path / "made" / "prepared" / "public"
    assert {path.name for path in public.iterdir()} == PUBLIC | {
        f"{half}_{name}.npy" for half in ("train", "test") for name in ("images", "text_features")
    }
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in public.glob("*.npy")}
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        "train_images": ((72, 28, 20, 1), "uint8"),
        "test_images": ((18, 28, 20, 1), "uint8"),
        "train_text_features": ((72, 30), "float32"),
        "test_text_features": ((18, 30), "float32"),
    }
    description = (public / "description.md").read_text()
    assert "(72, 28, 20, 1) and (18, 28, 20, 1)" in description and "(72, 30) and (18, 30)" in description
    assert (public / "train.csv").read_text().startswith("id,target\n0,") and (public / "test.csv").read_text()[
        :6
    ] == "id\n72\n"
    made = DataGenerator(3).generate_multi_modal_dataset(90, (28, 20), 30)
    found = {image.tobytes(): label for image, label in zip(made["images"], made["labels"], strict=True)}
    for half, path in (("train", public / "train.csv"), ("test", public.parent / "private" / "answers.csv")):
        labels = pd.read_csv(path)["target"]
        assert [found[image.tobytes()] for image in arrays[f"{half}_images"]] == labels.tolist()


def test_the_future_of_a_series_is_hidden(tmp_path: Path) -> None:
    prepare(synthetic("time_series", n_samples=101, n_features=2, test_share=0.3), tmp_path)
    public = tmp_path / "made" / "prepared" / "public"
    train, test = (pd.read_csv(public / f"{half}.csv", parse_dates=["date"]) for half in ("train", "test"))
    assert list(train) == ["id", "date", "feature_0", "feature_1", "target"] and len(test) == 30
    dates = pd.concat([train["date"], test["date"]])
    assert (dates.diff().dropna() == pd.Timedelta(days=1)).all() and train["id"].tolist() == list(range(71))


def test_the_description_says_what_an_agent_needs(tmp_path: Path) -> None:
    for name in ("classification_basic", "data_analysis_exploratory", "deep_learning_image_classification"):
        task = Task.load(TEMPLATES / f"{name}.json")
        task.data_requirements.n_samples = 100
        write(task, tmp_path / name, 1)
    text = {name: (tmp_path / name / "public" / "description.md").read_text() for name in os.listdir(tmp_path)}
    for part in (
        "80 rows with the columns `id`, `feature_0`",
        "20 rows",
        "0, 1, 2",
        "`sample_submission.csv`",
        "`target`",
    ):
        assert part in text["classification_basic"]
    assert (
        "- accuracy of at least 0.7\n" in text["classification_basic"]
        and "higher is better" in text["classification_basic"]
    )
    asked = text["data_analysis_exploratory"].partition("go to the same folder, beside `submission.csv`:")[2]
    for part in (
        "- `analysis_report.md`\n",
        "- `outlier_analysis.png`\n",
        "- 5 different images (PNG)",
        "- 3 insights",
    ):
        assert part in asked
    for part in ("train_images.npy", "(80, 32, 32, 3) and (20, 32, 32, 3)", "within 3600 seconds", "`model.*`"):
        assert part in text["deep_learning_image_classification"]
    series = Task.load(TEMPLATES / "time_series_forecasting.json")
    write(series, tmp_path / "series", 1)
    text = (tmp_path / "series" / "public" / "description.md").read_text()
    assert "mape of at most 15 percent" in text and "in order of time" in text and "lower is better" in text


def dataset(target: list, metric: str, **more: object) -> Dataset:
    return Dataset(pd.DataFrame(index=range(len(target))), np.array(target), metrics.METRICS[metric], **more)


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=8),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**130),
)
def test_a_split_of_classes(counts: list[int], share: float, seed: int) -> None:
    target = [f"class {number}" for number, count in enumerate(counts) for _ in range(count)]
    train, test = split(dataset(target, "accuracy"), share, Stream(seed))
    assert sorted([*train, *test]) == list(range(len(target)))
    hidden = Counter(target[row] for row in test)
    # a class keeps a row on either side; what that takes from its share, the others give or get
    moved = sum(max(0.0, count * share - (count - 1), 1 - count * share) for count in counts)
    for number, count in enumerate(counts):
        here = hidden[f"class {number}"]
        assert 1 <= here <= count - 1 and (abs(here - count * share) < 1 + moved or here in (1, count - 1))
    # a class too small for the share gives one row all the same
    assert abs(len(test) - round(len(target) * share)) <= len(counts)
    if all(1 <= count * share <= count - 1 for count in counts):
        assert len(test) == round(len(target) * share)
    again = split(dataset(target, "accuracy"), share, Stream(seed))
    assert np.array_equal(train, again[0]) and np.array_equal(test, again[1])


@given(rows=st.integers(2, 300), share=st.floats(0.001, 0.999), seed=st.integers(0, 2**70))
def test_a_split_of_numbers_and_of_a_series(rows: int, share: float, seed: int) -> None:
    target = np.linspace(0, 1, rows).tolist()
    hidden = min(max(round(rows * share), 1), rows - 1)
    train, test = split(dataset(target, "rmse"), share, Stream(seed))
    assert sorted([*train, *test]) == list(range(rows)) and len(test) == hidden
    train, test = split(dataset(target, "rmse", is_series=True), share, Stream(seed))
    assert [*train, *test] == list(range(rows)) and len(test) == hidden


@pytest.mark.parametrize("metric", ["accuracy", "rmse", "adjusted_rand"])
def test_a_split_keeps_no_order(metric: str) -> None:
    target = np.sort(np.arange(3000) % 3)
    for rows in split(dataset(target, metric), 0.3, Stream(5)):
        assert abs(np.corrcoef(rows, np.arange(len(rows)))[0, 1]) < 0.1
        assert abs(np.corrcoef(target[rows], np.arange(len(rows)))[0, 1]) < 0.1


@given(cells=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=1, max_size=30))
def test_texts_survive_the_file(cells: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("texts") / "t.csv"
    rows = np.arange(len(cells))[::-1]
    write_csv(
        path, pd.DataFrame({"text": pd.Series(cells, dtype=object)}), rows, 5, target=np.array(cells, dtype=object)
    )
    with open(path, newline="", encoding="utf-8") as file:
        found = list(csv.reader(file, strict=True))
    assert found == [["id", "text", "target"], *([str(5 + at), cells[row], cells[row]] for at, row in enumerate(rows))]


def test_numbers_are_spelled_shortly_and_gaps_stay_gaps(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0.1, np.nan, -2.0], "b": [1, 2, 3]})
    write_csv(tmp_path / "t.csv", frame, np.array([2, 1, 0]), 0)
    assert (tmp_path / "t.csv").read_bytes() == b"id,a,b\n0,-2.0,3\n1,,2\n2,0.1,1\n"


def test_large_tables_and_arrays_are_written_in_parts(tmp_path: Path) -> None:
    rows = np.arange(25_000)[::-1]
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": np.arange(25_000)}), rows, 0, target=np.arange(25_000) * 2)
    back = pd.read_csv(tmp_path / "t.csv")
    assert back["id"].tolist() == list(range(25_000)) and back["a"].tolist() == rows.tolist()
    assert (back["target"] == 2 * back["a"]).all()
    write_array(tmp_path / "a.npy", np.arange(50_000, dtype=np.float32).reshape(25_000, 2), rows)
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.arange(50_000, dtype=np.float32).reshape(25_000, 2)[::-1])
