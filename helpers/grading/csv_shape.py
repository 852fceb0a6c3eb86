"""Refuse a CSV file that has nothing of the shape it should have, before a reader made for honest files sees it.

pandas makes repeated column names unique in a time that grows with the square of their number: 200 kB of `a,a,a,…` take
it a minute and a half. Here a file is read once, in bounded pieces, and nothing is kept.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

BLOCK = 2**20
SAMPLE_LINES = 10_000
SPARE_COLUMNS = 100
MOST_COLUMNS = 10_000  # where there is no sample
LONGEST_LINE = 2**24  # bytes; masks of large images are megabytes in one cell
TIMES_THE_SAMPLE = 16


@dataclass(frozen=True)
class Shape:
    """The most columns that a file may have, and the longest line and cell in bytes."""

    columns: int = MOST_COLUMNS
    line: int = LONGEST_LINE

    @classmethod
    def of(cls, sample: Path | None) -> Shape:
        """Take the shape from a sample submission, generously; where it can't be read, only what no file should have."""
        try:
            if sample is None:
                return cls()
            with open(sample, "rb") as file:
                lines = list(islice(file, SAMPLE_LINES))
            columns = max(map(len, csv.reader(line.decode("latin-1") for line in lines[:1])))
        except (OSError, ValueError, csv.Error):
            return cls()
        return cls(2 * columns + SPARE_COLUMNS, max(LONGEST_LINE, TIMES_THE_SAMPLE * max(map(len, lines))))

    def problem(self, file: BinaryIO) -> str | None:
        """Say what of a file is out of all proportion. It is read from its start, and left there."""
        file.seek(0)
        try:
            return self._problem(file)
        except csv.Error as error:
            return f"Submission file must be a CSV file: {error}."
        finally:
            file.seek(0)

    def _problem(self, file: BinaryIO) -> str | None:
        import numpy as np

        at, rest = 0, b""
        while data := file.read(BLOCK):
            data = rest + data
            end = data.rfind(b"\n") + 1
            lines, rest = data[:end], data[end:]
            if b'"' in data or data.count(b"\r") - data.endswith(b"\r") > data.count(b"\r\n"):
                file.seek(at)
                return self._problem_of_rows(file)
            if len(rest) > self.line:
                return self._too_long
            at += end
            text = np.frombuffer(lines, np.uint8)
            ends = np.flatnonzero(text == ord("\n"))
            if np.diff(ends, prepend=-1).max(initial=0) > self.line:
                return self._too_long
            most = np.diff(np.searchsorted(np.flatnonzero(text == ord(",")), ends), prepend=0).max(initial=0) + 1
            most = max(most, rest.count(b",") + 1)
            if most > self.columns:
                return self._too_many(most)
        return None

    def _problem_of_rows(self, file: BinaryIO) -> str | None:
        """The same by a true reader, slower: quotes may hold commas and line ends, and a \\r alone ends a line, too."""
        text = io.TextIOWrapper(file, encoding="latin-1", newline="")
        before = csv.field_size_limit(self.line)
        try:
            for row in csv.reader(self._lines(text)):
                if len(row) > self.columns:
                    return self._too_many(len(row))
        except _TooLong:
            return self._too_long
        finally:
            csv.field_size_limit(before)
            text.detach()
        return None

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        while line := text.readline(self.line + 1):
            if len(line) > self.line:
                raise _TooLong
            yield line

    @property
    def _too_long(self) -> str:
        return f"It has a line of over {self.line} bytes, far more than a row needs."

    def _too_many(self, count: int) -> str:
        return f"It has a row of {count} or more columns, at most {self.columns} are read."


class _TooLong(Exception):
    pass
