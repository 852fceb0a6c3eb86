"""Rows of files of three kinds, what is said of broken ones, and samples of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from helpers.datagen import rows
from helpers.datagen.schemas import InputValidationError

ROWS: list[dict[str, Any]] = [
    {"question": "a\nb", "answer": "1"},
    {"question": 'ünı, "quoted"', "answer": "2"},
    {"question": "c", "answer": "3"},
]


def write(folder: Path, name: str) -> Path:
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("\n\n".join(map(json.dumps, ROWS)) + "\n")
    elif path.suffix == ".csv":
        path.write_text('\ufeffquestion,answer\r\n"a\nb",1\r\n"ünı, ""quoted""",2\r\n\r\nc,3\r\n', encoding="utf-8")
    else:
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet", "ROWS.JSONL"])
def test_a_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name) if name.islower() else write(tmp_path, name.lower()).rename(tmp_path / name)
    assert list(rows.read(path)) == ROWS


def test_all_files_of_a_folder_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "z").mkdir()
    for name in ("z/1.jsonl", "b.csv", "a.parquet"):
        write(tmp_path, name)
    (tmp_path / "README.md").write_text("x")
    assert list(rows.read(tmp_path)) == 3 * ROWS
    found = [next(iter(rows.read_all([tmp_path / name], "here"))) for name in ("a.parquet", "b.csv", "z/1.jsonl")]
    assert found == 3 * ROWS[:1]


def test_a_long_cell(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"question\n{'x' * 200_000}\n")
    assert [len(row["question"]) for row in rows.read(tmp_path / "long.csv")] == [200_000]


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("a.jsonl", b'{"a": 1}\n[1]\n', "a.jsonl: line 2: wants an object, not [1]"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl: line 2: isn't valid JSON: "),
        ("a.jsonl", b"[" * 100_000, "a.jsonl: line 1: isn't valid JSON: "),
        ("a.jsonl", b'{"a": "\xff"}', "a.jsonl: is no text in UTF-8"),
        ("a.csv", b"a,b\n1,2\n3\n", "a.csv: line 3: has 1 cells, the header 2"),
        ("a.csv", b"a,a\n1,2\n", "a.csv: has two columns of one name: a, a"),
        ("a.csv", b'a\n"x', "a.csv: is no CSV file in UTF-8: unexpected end of data"),
        ("a.csv", b"a\n\xff\n", "a.csv: is no CSV file in UTF-8: "),
        ("a.parquet", b"PAR1", "a.parquet: is no parquet file, or a broken one: "),
        ("a.txt", b"x", "a.txt: a file of rows ends in .jsonl, .csv, .parquet"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputValidationError) as refused:
        list(rows.read(tmp_path / name))
    assert str(refused.value).removeprefix(f"{tmp_path}/").startswith(said)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputValidationError, match=f"{tmp_path}/x: there is no such file or folder"):
        rows.read(tmp_path / "x")
    with pytest.raises(InputValidationError, match=f"{tmp_path}: holds no file of rows"):
        rows.read(tmp_path)


def test_samples() -> None:
    numbered = [{"n": number} for number in range(20)]
    drawn = list(rows.sample(iter(numbered), 5, 3))
    assert drawn == list(rows.sample(iter(numbered), 5, 3)) != list(rows.sample(iter(numbered), 5, 4))
    assert drawn == sorted(drawn, key=lambda one: one[0]) and all(row["n"] == number for number, row in drawn)
    assert list(rows.sample(iter(numbered), 30, 3)) == list(enumerate(numbered))
    assert list(rows.sample(iter(numbered), None, 3)) == list(enumerate(numbered))
    counts = Counter(number for seed in range(2000) for number, _ in rows.sample(numbered, 5, seed))
    # each number of 20 is drawn 500 times of 2000, give or take 19.4: five of these standard deviations
    assert set(counts) == set(range(20)) and all(403 < count < 597 for count in counts.values())
