"""The one way in which lists are shown: widths, colours, and cells that hold anything."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from helpers.lib import tables
from helpers.lib.tables import Safe, lines, shown

ROWS = [("toy_13", "scored", "score 0.5"), ("toy_14", "lost: so", "the node is gone")]


class Terminal(io.StringIO):
    """A stream that says it is a terminal; of unknown size, so of 80 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def bare(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()


def test_a_pipe_gets_plain_columns() -> None:
    assert lines(ROWS, states=(1,)) == ["toy_13  scored    score 0.5", "toy_14  lost: so  the node is gone"]
    assert lines([]) == []
    assert lines(ROWS, ("RUN", "STATE", "WHY"))[0] == "RUN     STATE     WHY"


def test_a_terminal_gets_states_in_colour_and_in_words() -> None:
    first, second = lines(ROWS, states=(1,), to=Terminal())
    assert "\x1b[32mscored" in first and "\x1b[31mlost: so" in second
    assert [bare(first), bare(second)] == lines(ROWS)
    assert first.count("\x1b[3") == 1


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(monkeypatch: Any, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert lines(ROWS, states=(1,), to=Terminal()) == lines(ROWS)


def test_an_empty_no_color_is_none(monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[32m" in lines(ROWS, states=(1,), to=Terminal())[0]


def test_into_a_pipe_nothing_is_cut_or_folded() -> None:
    assert lines([("a", "b" * 300)]) == ["a  " + "b" * 300]


def test_at_a_terminal_a_long_reason_is_folded_and_whole() -> None:
    told = lines([("toy_13", "lost", "why " * 60)], to=Terminal())
    assert max(map(len, map(bare, told))) <= 80 and len(told) > 3
    assert " ".join(told).split() == ["toy_13", "lost", *["why"] * 60]


@pytest.mark.parametrize("to", [Terminal(), io.StringIO()])
def test_what_may_be_cut_is_cut_to_eighty_columns(to: io.StringIO) -> None:
    row = (
        "107",
        "invalid_submission",
        "a-competition-with-a-name-of-forty-characters",
        "m" * 30,
        "a" * 30,
        "0.5",
        "1.0",
        "3d",
    )
    (told,) = lines([row], cut=(1, 2, 3, 4), to=to)
    assert len(told) <= 80 and "…" in told
    assert told.startswith("107  ") and told.endswith("3d")
    for word in ("inval", "a-com", "mmm", "aaa"):
        assert word in told


def test_cells_drive_no_terminal_and_are_no_markup() -> None:
    (told,) = lines([("\x1b[2J", "[red]x[/red]", "a\nb\tc", "\u202eabc")], to=Terminal())
    assert told == " [2J  [red]x[/red]  a b c   abc"
    assert "\x1b" not in told


def test_numbers_stand_on_the_right_and_wide_characters_count_twice() -> None:
    assert lines([("1", "x"), ("100", "y")], right=(0,)) == ["  1  x", "100  y"]
    assert lines([("日本", "x"), ("abcd", "y")]) == ["日本  x", "abcd  y"]


def test_rows_may_be_shorter_than_others() -> None:
    assert lines([("a", "b"), ("no runs",)]) == ["a        b", "no runs"]


def test_only_lines_of_a_table_are_shown_as_they_are() -> None:
    assert shown("\x1b[2J") == " [2J"
    assert shown(Safe("\x1b[32mscored")) == "\x1b[32mscored"


@pytest.mark.parametrize(
    ("word", "colour"), [("RUNNING", "cyan"), ("lost: x", "red"), ("PENDING", "yellow"), ("x", "")]
)
def test_every_state_has_its_colour(word: str, colour: str) -> None:
    from helpers.runs import metadata

    assert tables.style_of(word) == colour
    assert all(tables.style_of(state) for state in (*metadata.END_STATES, *metadata.OPEN_STATES))


def test_a_pipe_gets_what_rich_would_lay_out() -> None:
    rows = [("a", "12", "x" * 90), ("日本", "3"), ("c d", "", "e\tf\ng")]
    for head, right in (((), ()), (("NAME", "N", "WORDS"), (1,))):
        console = Console(file=io.StringIO(), width=1000, color_system=None, _environ={})
        console.print(tables.build(rows, head, right=right))
        assert tables.lines(rows, head, right=right, to=io.StringIO()) == [
            line.rstrip() for line in console.file.getvalue().splitlines()
        ]
