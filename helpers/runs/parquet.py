"""The table of results as a parquet file (https://parquet.apache.org/docs/file-format/), with types and without empty texts.

pyarrow is imported here only, and only when such a file is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import IO, Any

from helpers.lib import values
from helpers.lib.errors import Refused
from helpers.runs.columns import COUNTS, HOURS, METRIC, MOMENTS, TRUTHS

SUFFIX = ".parquet"
ROWS_A_GROUP = 2000  # that pyarrow holds at a time, some megabytes
NUMBERS = ("score", "agent_seconds", *HOURS)
WHOLE = ("seed", "attempts", *COUNTS)


def is_meant(path: str | None) -> bool:
    """Whether the name of a file asks for parquet."""
    return path is not None and path.lower().endswith(SUFFIX)


def check() -> Any:
    """Import pyarrow. Raises Refused where it isn't installed."""
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise Refused(
            f"-o with a name in {SUFFIX} needs {error.name or 'pyarrow'}, which {sys.executable} hasn't: scripts_hpc/results.sh has it; "
            "or name a file in .csv",
            2,
        ) from error
    return pyarrow


def write(rows: Iterable[dict[str, Any]], columns: Sequence[str], file: IO[bytes]) -> None:
    """Write rows, in groups. Numbers are int64 or float64, moments timestamps in UTC; what is not known is null.

    Raises OSError, and Refused without pyarrow.
    """
    arrow = check()
    kinds = {name: _kind(name, arrow) for name in columns}
    schema = arrow.schema([(name, kind) for name, (kind, _) in kinds.items()])
    left = iter(rows)
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(left, ROWS_A_GROUP)):
            arrays = [
                arrow.array([None if (value := row.get(name)) is None else made(value) for row in group], type=kind)
                for name, (kind, made) in kinds.items()
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _kind(name: str, arrow: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The type of a column, and what makes a value of it."""
    if name in TRUTHS:
        return arrow.bool_(), bool
    if name in WHOLE:
        return arrow.int64(), int
    if name in MOMENTS:
        return arrow.timestamp("us", tz="UTC"), _moment
    if name in NUMBERS or name.startswith(METRIC):
        return arrow.float64(), float
    return arrow.string(), _text


def _moment(text: str) -> datetime | None:
    seconds = values.seconds_of(text)
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def _text(value: Any) -> str:
    """The same as in CSV: halves of surrogates can't be encoded."""
    return str(value).encode("utf-8", "backslashreplace").decode()
