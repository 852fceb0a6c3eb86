"""What overlaps with instructions to keep apart from, whatever its case, punctuation and form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.datagen import contamination
from helpers.datagen.contamination import Instructions
from helpers.lib.errors import Refused

LONG = (
    "Write a program that reads the file named data.csv and prints the mean of every column in it to standard output."
)
OTHER = "Train a classifier on the table of passengers, and write down for each of those in the test half whether they survived."


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_none() -> None:
    apart = Instructions([LONG])
    words = LONG.split()
    assert apart.overlaps(f"You can use a shell. {' '.join(words[3:16]).upper()}!!! Begin.")
    assert not apart.overlaps(f"You can use a shell. {' '.join(words[3:15])}; begin.")
    assert apart.overlaps(LONG) and not apart.overlaps(OTHER) and not apart.overlaps("")
    assert Instructions([LONG], words=3).overlaps("it prints the mean")


def test_case_punctuation_and_width_make_no_difference() -> None:
    apart = Instructions(["Sort the numbers: 1, 2, 3 — and print the sum of all of them!"])
    assert apart.overlaps("ｓｏｒｔ THE numbers 1 2 3 and (print) the sum of all of\nthem")


def test_a_shorter_instruction_is_looked_for_as_a_whole_and_a_very_short_one_must_be_all() -> None:
    apart = Instructions(["Sort the numbers in input.txt, descending, into output.txt", "Fix the bug."])
    assert apart.overlaps("Be brief. Sort the numbers in input.txt descending into output.txt, please.")
    assert not apart.overlaps("Sort the numbers in input.txt, ascending, into output.txt")
    assert apart.overlaps("fix the bug") and not apart.overlaps("Fix the bug in the parser")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_an_instruction_overlaps_with_itself(text: str) -> None:
    assert Instructions([text]).overlaps(text) is bool(contamination.normalised(text))


def test_lists_are_read_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{LONG}\n\n{OTHER}\n")
    (tmp_path / "b.jsonl").write_text(
        "\n".join(map(json.dumps, ["one", {"instruction": "two"}, {"id": 1, "question": "three"}]))
    )
    (tmp_path / "c.json").write_text(json.dumps([{"prompt": "four"}]))
    for name, file in (("x", "instruction.md"), ("y/prepared/public", "description.md")):
        (tmp_path / "tasks" / name).mkdir(parents=True)
        (tmp_path / "tasks" / name / file).write_text(name)
    names = ("a.txt", "b.jsonl", "c.json", "tasks")
    found = contamination.read(tmp_path / name for name in names)
    assert found == [LONG, OTHER, "one", "two", "three", "four", "x", "y/prepared/public"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "\n\n", "holds no instruction"),
        ("a.jsonl", '{"id": 1}', "an entry is neither a text nor an object with one of instruction, "),
        ("a.jsonl", "{", "can't be read"),
        ("a.json", "{}", "it is no list"),
        ("a.json", "[" * 100_000, "can't be read"),
        (None, "", "No such file"),
    ],
)
def test_a_list_that_holds_none_is_refused(tmp_path: Path, name: str | None, text: str, said: str) -> None:
    path = tmp_path / (name or "missing")
    if name:
        path.write_text(text)
    with pytest.raises(Refused, match=said) as caught:
        contamination.read([path])
    assert str(path) in str(caught.value) and caught.value.code == 2


def test_a_folder_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no instruction"):
        contamination.read([tmp_path])
