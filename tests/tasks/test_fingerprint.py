"""One number for the data of a task: the same for the same, another for others, kept, and quick."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.data import fingerprint, layout


def make(folder: Path, answer: str = "1") -> Path:
    for name, text in (
        ("public/description.md", "what"),
        ("public/deep/train.csv", "a,b\n1,2\n"),
        ("private/a.csv", answer),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


CHANGES: dict[str, Callable[[Path], object]] = {
    "an answer": lambda folder: (folder / "private/a.csv").write_text("2"),
    "a cell": lambda folder: (folder / "public/deep/train.csv").write_text("a,b\n1,3\n"),
    "a name": lambda folder: (folder / "public/deep/train.csv").rename(folder / "public/deep/test.csv"),
    "a file more": lambda folder: (folder / "private/b.csv").write_text(""),
    "a file in the other half": lambda folder: (folder / "private/a.csv").rename(folder / "public/a.csv"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_have_another_fingerprint(tmp_path: Path, change: str) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    assert fingerprint.known(one) == fingerprint.known(other)
    CHANGES[change](other)
    for path in other.rglob("*.csv"):
        os.utime(path, (2_000_000_000, 2_000_000_000))  # as a clock that goes on would
    assert fingerprint.known(one) != fingerprint.known(other)


def test_it_is_kept_beside_the_halves_and_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "data" / "a" / "prepared")  # as mle-bench leaves it, or an older version of this project
    made = fingerprint.known(folder)
    assert json.loads((folder / fingerprint.FILE).read_text())["data_fingerprint"] == made
    monkeypatch.setattr(fingerprint, "_digest", lambda *_: pytest.fail("read again"))
    assert fingerprint.known(folder) == made
    assert layout.problem(tmp_path / "data", "a") is None


@pytest.mark.parametrize("kept", ["", "{", "[]", "{}", '{"data_fingerprint": 3}', '{"data_fingerprint": "x"}'])
def test_a_broken_one_is_made_anew(tmp_path: Path, kept: str) -> None:
    folder = make(tmp_path)
    made = fingerprint.stamp(folder)
    (folder / fingerprint.FILE).write_text(kept)
    assert fingerprint.known(folder) == made


def test_somebody_elses_data_have_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fingerprint.disk, "write_json", refuse)
    assert fingerprint.known(make(tmp_path)) == fingerprint.known(make(tmp_path / "same"))


def test_preparing_makes_it(tmp_path: Path) -> None:
    made = []
    for data in ("one", "two"):
        with layout.staging(tmp_path / data, "a") as folder:
            make(folder / "prepared")
            layout.publish(folder, tmp_path / data, "a", "own")
        made.append(json.loads((tmp_path / data / "a" / "prepared" / fingerprint.FILE).read_text())["data_fingerprint"])
    assert made[0] == made[1] == fingerprint.known(make(tmp_path / "three"))


def test_of_large_data_a_bounded_part_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "BUDGET", 8 * fingerprint.PIECE)
    folder = make(tmp_path)
    large = 100 * fingerprint.PIECE
    (folder / "private/large").write_bytes(bytes(large))
    before = fingerprint.known(folder)
    for at in (0, large - 1):
        data = bytearray(large)
        data[at] = 1
        (folder / "private/large").write_bytes(data)
        os.utime(folder / "private/large", (2_000_000_000 + at, 0))
        assert fingerprint.known(folder) != before
    assert fingerprint._limit([large, large, 5]) <= 4 * fingerprint.PIECE
    assert fingerprint._limit([5, 6]) >= 6


def test_of_many_files_a_bounded_number_is_read_those_at_the_top_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path)
    for number in range(50):
        (folder / "public/deep" / f"{number}.png").write_text("x")
    read: list[str] = []
    real = fingerprint._content
    monkeypatch.setattr(fingerprint, "MOST_FILES", 10)
    monkeypatch.setattr(
        fingerprint, "_content", lambda folder, file, limit: read.append(file.name) or real(folder, file, limit)
    )
    fingerprint.known(folder)
    assert len(read) == 10 and {"private/a.csv", "public/description.md"} <= set(read)
