"""The one way in which lists are shown: rows with a state in words, coloured at a terminal, within its width. Runs where a person types.

NO_COLOR (https://no-color.org) and TERM=dumb are respected; into a pipe goes plain text, and of it only what is asked for is cut.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helpers.lib.text import clean

WIDTH = 80  # columns of a terminal
LEAST = 6  # columns that are left of a cell that is cut
COLOURS = {
    "green": ("scored", "completed", "ready", "prepared", "here"),
    "cyan": ("running", "starting", "completing", "ending"),
    "yellow": ("waiting", "pending", "skipped", "unfinished", "cancelled", "no_submission", "invalid_submission"),
    "red": ("lost", "failed", "agent_failed", "timed_out", "timeout", "node_fail", "out_of_memory", "gone", "deadline"),
}
STYLES = {word: colour for colour, words in COLOURS.items() for word in words}


class Safe(str):
    """Text that was cleaned already, and may hold the colours that we gave it."""


def style_of(word: str) -> str:
    """The colour of a state, by its first word; empty for what is no state."""
    return STYLES.get(word.partition(":")[0].partition(" ")[0].lower(), "")


def build(
    rows: Sequence[Sequence[str]],
    head: Sequence[str] = (),
    states: Collection[int] = (),
    cut: Collection[int] = (),
    right: Collection[int] = (),
    fold: Collection[int] = (),
) -> Table:
    """A table without lines; what is in its cells drives no terminal.

    states: columns whose words get their colour. cut: columns that are cut where a row is too long. fold: columns that are folded there;
    the last one where none is named. right: columns of numbers.
    """
    table = Table(box=None, show_header=bool(head), padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    count = max([len(head), *(len(row) for row in rows)])
    for column in range(count):
        folds = column in fold or (not cut and not fold and column == count - 1)
        table.add_column(
            Text(head[column] if column < len(head) else ""),
            justify="right" if column in right else "left",
            no_wrap=not (folds or column in cut),
            overflow="fold" if folds else "ellipsis",
            min_width=LEAST if column in cut else None,
        )
    for row in rows:
        table.add_row(*(_cell(cell, column in states, column in cut) for column, cell in enumerate(row)))
    return table


def _one_line(text: str) -> str:
    return " ".join(clean(text).split("\n")).replace("\t", " ")


def _cell(text: str, is_state: bool, is_cut: bool) -> Text:
    words = _one_line(text)
    return Text(
        words, style_of(words) if is_state else "", no_wrap=is_cut or None, overflow="ellipsis" if is_cut else None
    )


def lines(
    rows: Sequence[Sequence[str]],
    head: Sequence[str] = (),
    states: Collection[int] = (),
    cut: Collection[int] = (),
    right: Collection[int] = (),
    to: TextIO | None = None,
) -> list[str]:
    """The lines of a table as they go to a stream (standard output): within a terminal's width, else within 80 columns where cells may be
    cut, else as long as they are."""
    if not rows and not head:
        return []
    to = to or sys.stdout
    is_terminal = to.isatty()
    if not is_terminal and not cut:
        return _as_they_are(rows, head, right)
    width = _columns(to) if is_terminal else WIDTH
    text = io.StringIO()
    console = Console(
        file=text,
        width=width,
        force_terminal=is_terminal and has_colour(),
        color_system="standard" if is_terminal and has_colour() else None,
        legacy_windows=False,
        _environ={},
    )
    console.print(build(rows, head, states, cut, right), soft_wrap=False)
    return [Safe(line.rstrip()) for line in text.getvalue().splitlines()]


def _as_they_are(rows: Sequence[Sequence[str]], head: Sequence[str], right: Collection[int]) -> list[str]:
    """The lines of a table in which nothing is cut, folded or coloured, as rich lays it out, which takes seconds for 10,000 rows."""
    cells = [[_one_line(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    sizes = [[cell_len(cell) for cell in row] for row in cells]
    widths = [max(column) for column in zip_longest(*sizes, fillvalue=0)]
    found = []
    for row, size in zip(cells, sizes, strict=True):
        pads = (" " * (width - one) for width, one in zip(widths, size, strict=False))
        parts = (
            pad + cell if at in right else cell + pad for at, (cell, pad) in enumerate(zip(row, pads, strict=True))
        )
        found.append(Safe("  ".join(parts).rstrip()))
    return found


def has_colour() -> bool:
    """Whether a person wants colours at a terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _columns(to: TextIO) -> int:
    try:
        return max(os.get_terminal_size(to.fileno()).columns, 40)
    except (OSError, ValueError):
        return WIDTH


def shown(line: str) -> str:
    """A line for a terminal: one of a table as it is, any other cleaned."""
    return line if isinstance(line, Safe) else clean(line)
