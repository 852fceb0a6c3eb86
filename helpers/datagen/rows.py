"""Rows of a table, one at a time: of jsonl, CSV and parquet files, or of all those in a folder."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from helpers.datagen.schemas import InputValidationError
from helpers.lib.text import clean

ROWS_AT_ONCE = 1000
LONGEST_CELL = 2**27  # characters of a CSV file's

Row = dict[str, Any]


def read(path: str | Path) -> Iterator[Row]:
    """The rows of a file, or of all files in a folder that are of a known kind, sorted by their paths. A row: values by columns.

    Raises InputValidationError for what can't be read as what its name says, with the file and the line, and OSError.
    """
    path = Path(path)
    if path.is_dir():
        return read_all((file for file in path.rglob("*") if file.suffix.lower() in READERS), str(path))
    if not path.is_file():
        raise InputValidationError(f"{path}: there is no such file or folder")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputValidationError(f"{path}: a file of rows ends in {', '.join(READERS)}")
    return reader(path)


def read_all(files: Iterable[Path], place: str) -> Iterator[Row]:
    """The rows of some files, sorted by their paths. place: where they were looked for. Raises as `read`, also where there are none."""
    found = sorted(file for file in files if file.is_file())
    if not found:
        raise InputValidationError(f"{place}: holds no file of rows ({', '.join(READERS)})")
    return chain.from_iterable(map(read, found))


def _jsonl(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputValidationError(f"{path}: line {number}: wants an object, not {line.strip():.50}")
                yield row
        except UnicodeDecodeError:
            raise InputValidationError(f"{path}: is no text in UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise InputValidationError(f"{path}: line {number}: isn't valid JSON: {clean(error)}") from None


def _csv(path: Path) -> Iterator[Row]:
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise InputValidationError(f"{path}: has two columns of one name: {', '.join(header)}")
            for cells in filter(None, reader):
                if len(cells) != len(header):
                    raise InputValidationError(
                        f"{path}: line {reader.line_num}: has {len(cells)} cells, the header {len(header)}"
                    )
                yield dict(zip(header, cells, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputValidationError(f"{path}: is no CSV file in UTF-8: {error}") from None
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InputValidationError(f"{path}: is no parquet file, or a broken one: {clean(error)}") from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}


def sample(rows: Iterable[Row], count: int | None, seed: int) -> Iterable[tuple[int, Row]]:
    """`count` of the rows with their numbers from 0, in their order, each with the same chance, and the same for the same seed.

    All where there are no more, or count is None. Holds no more than those (algorithm R: Vitter, ACM Transactions on Mathematical
    Software 11, 1985, 37-57).
    """
    numbered = enumerate(rows)
    if count is None:
        return numbered
    drawn, kept = random.Random(seed), list[tuple[int, Row]]()
    for number, row in numbered:
        if number < count:
            kept.append((number, row))
        elif (place := drawn.randrange(number + 1)) < count:
            kept[place] = (number, row)
    return sorted(kept, key=lambda one: one[0])
