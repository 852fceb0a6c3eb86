"""Snapshots of tasks: parquet files with a row a task, as upstream has them (columns `path`, `task_binary`: a packed tar file).

Both ways go row group by row group, so that memory doesn't grow with the count. The same folder gives the same bytes, with the same
version of pyarrow (https://parquet.apache.org/docs/file-format/: the footer names it). pyarrow is imported when it is needed.

usage: python -m helpers.datagen.snapshots pack FOLDER FILE | extract FILE FOLDER [--overwrite]
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import click

from helpers.datagen import archives, harbor_task
from helpers.lib import folders
from helpers.lib.command_line import about, launch
from helpers.lib.errors import Refused
from helpers.lib.signals import catch_signals
from helpers.lib.text import clean

PATH, BINARY = "path", "task_binary"
GROUP_BYTES = 32 * 2**20  # of archives in a row group, about
BATCH_BYTES = 8 * 2**20  # of archives that are read at a time, about
PART_BYTES = 512 * 2**20  # of a part: what a broken upload has to send again, at most
MOST_ROWS = 10_000  # of a group
SHOWN = 10  # files that are named; more are only said to be there
WORK = ".extracting"


class Counted(NamedTuple):
    """What was written. kept: tasks among them that lay there already, the same. size: bytes of the archives."""

    tasks: int
    size: int
    kept: int = 0


def tasks_in(folder: Path) -> list[Path]:
    """The tasks in a folder, sorted: folders with an instruction.md, at any depth but not in one another. Raises OSError."""
    found, left = [], [folder]
    while left:
        one = left.pop()
        if (one / harbor_task.INSTRUCTION).is_file():
            found.append(one)
            continue
        with os.scandir(one) as inner:
            left += [
                Path(entry.path) for entry in inner if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."
            ]
    return sorted(found)


def find(folder: Path, name: str | None = None) -> Path:
    """The snapshot in a folder: the one of this name, which may be a path from there, else the first *.parquet. Raises Refused."""
    found = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    wanted = [path for path in found if name in (None, path.relative_to(folder).as_posix(), path.name)]
    if not wanted:
        there = ", ".join(path.relative_to(folder).as_posix() for path in found[:SHOWN]) + (
            ", …" if found[SHOWN:] else ""
        )
        raise Refused(f"{folder} holds no {name or '*.parquet'}; there is: {clean(there) or 'no *.parquet at all'}")
    return wanted[0]


def write(tasks: Iterable[Path], file: Path, base: Path | None = None) -> Counted:
    """Write a snapshot of tasks, in their order; whole or not at all.

    base: what `path` is relative to; by default each task's name alone. Raises Refused for what can't be packed and for two tasks of one
    name, and OSError.
    """
    temporary = archives.beside(file)
    try:
        with open(temporary, "xb") as opened:
            counted = _write(_rows(tasks, base), opened)
        temporary.rename(file)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(file)  # the temporary one means nothing to a person
        raise
    return counted


def write_parts(folder: Path, out: Path, name: str = "train", most: int = PART_BYTES) -> list[Path]:
    """Write a snapshot of all tasks in a folder as files of about `most` bytes: <out>/<name>-00000-of-00003.parquet and so on.

    So the Hub names the parts of a dataset. Raises Refused where there are no tasks, and as `write`.
    """
    tasks = tasks_in(folder)
    if not tasks:
        raise Refused(f"{folder}: no task is there, which is a folder with an {harbor_task.INSTRUCTION}")
    out.mkdir(parents=True, exist_ok=True)
    rows, parts = _rows(tasks, folder), []
    try:
        while True:
            parts.append(out / f".{name}-{len(parts):05d}")
            with open(parts[-1], "wb") as opened:
                if not _write(rows, opened, most).tasks:
                    break
        parts.pop().unlink()
    except BaseException:
        for part in parts:
            part.unlink(missing_ok=True)
        raise
    return [part.rename(out / f"{name}-{number:05d}-of-{len(parts):05d}.parquet") for number, part in enumerate(parts)]


def _rows(tasks: Iterable[Path], base: Path | None) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for task in tasks:
        path = task.relative_to(base).as_posix() if base and task != base else task.name
        if problem := archives.unfit(path):
            raise Refused(f"{clean(task)}: the name {problem}. Rename it.")
        if path in seen:
            raise Refused(f"{clean(task)}: there is a second task of the name {path}; give a base, or rename one")
        seen.add(path)
        yield path, archives.pack(task)


def _write(rows: Iterator[tuple[str, bytes]], file: IO[bytes], most: int | None = None) -> Counted:
    """Write rows, until there are `most` bytes of archives."""
    arrow = _arrow()
    schema = arrow.schema([(PATH, arrow.string()), (BINARY, arrow.binary())])
    options = {
        "compression": "none",
        "use_dictionary": False,
        "write_statistics": [PATH],
    }  # archives are packed already
    tasks = size = 0
    with arrow.parquet.ParquetWriter(file, schema, **options) as writer:
        for paths, data in _groups(rows, most):
            writer.write_table(arrow.table([paths, data], schema=schema))
            tasks, size = tasks + len(paths), size + sum(map(len, data))
    return Counted(tasks, size)


def _groups(rows: Iterator[tuple[str, bytes]], most: int | None) -> Iterator[tuple[list[str], list[bytes]]]:
    total = held = 0
    paths: list[str] = []
    data: list[bytes] = []
    while (most is None or total < most) and (row := next(rows, None)) is not None:
        paths.append(row[0])
        data.append(row[1])
        total, held = total + len(row[1]), held + len(row[1])
        if held >= GROUP_BYTES or len(paths) >= MOST_ROWS:
            yield paths, data
            paths, data, held = [], [], 0
    if paths:
        yield paths, data


def _arrow() -> Any:
    import pyarrow
    import pyarrow.parquet  # noqa: F401

    return pyarrow


def read(file: Path) -> Iterator[tuple[str, bytes]]:
    """The rows of a snapshot: `path`, and the archive. Raises Refused for what is no snapshot, and OSError where it can't be read."""
    arrow = _arrow()
    with open(file, "rb") as opened:
        rows = _read(arrow, opened)
        number = 0
        while True:
            number += 1
            try:
                row = next(rows, None)
            except (arrow.ArrowException, ValueError, KeyError, OSError) as error:
                raise Refused(f"{file}: can't be read as parquet: {clean(error)[:300]}") from None
            if row is None:
                return
            path, data = row
            if not isinstance(path, str) or not isinstance(data, bytes):
                raise Refused(f"{file}: row {number}: wants a text as {PATH} and bytes as {BINARY}")
            yield path, data


def _read(arrow: Any, file: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    # as a stream, page by page: upstream's files are one row group each
    with arrow.parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as source:
        names = source.schema_arrow.names
        if missing := [name for name in (PATH, BINARY) if name not in names]:
            raise Refused(f"{file.name}: has no column {missing[0]}, only: {clean(', '.join(names)) or 'none'}")
        for number in range(source.metadata.num_row_groups):
            group = source.metadata.row_group(number)
            rows = max(1, group.num_rows * BATCH_BYTES // max(1, group.total_byte_size))
            for batch in source.iter_batches(min(rows, MOST_ROWS), row_groups=[number], columns=[PATH, BINARY]):
                yield from zip(batch[PATH].to_pylist(), batch[BINARY].to_pylist(), strict=True)


def extract(file: Path, folder: Path, *, overwrite: bool = False) -> Counted:
    """Unpack the tasks of a snapshot to <folder>/<path>, each whole or not at all; one that lies there, the same, is left as it is.

    overwrite: replace those that lie there and differ. Raises Refused for those without it, for paths that leave the folder, for two of
    one path or one in another, and as `archives.unpack_into`; and OSError. What was unpacked before stays, and is kept the next time.
    """
    tasks = size = kept = 0
    places = _Places()
    with _workplace(folder) as work:
        made, old = work / "task", work / "old"
        for path, data in read(file):
            tasks, size = tasks + 1, size + len(data)
            try:
                places.take(path)
                archives.unpack_into(data, made)
            except Refused as error:
                raise Refused(f"{file}: row {tasks} ({clean(path)[:200]}): {error}") from None
            kept += _place(made, folder / path, old, overwrite)
    return Counted(tasks, size, kept)


class _Places:
    """The paths of a snapshot so far: none leaves the folder, none is there twice or in another."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._above: set[str] = set()

    def take(self, path: str) -> None:
        if problem := archives.unfit(path):
            raise Refused(f"the path {problem}")
        parts = path.split("/")
        if any(part[0] == "." for part in parts):
            raise Refused("the path is hidden")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if path in self._taken:
            raise Refused("another row has the same path")
        if path in self._above or above & self._taken:
            raise Refused("the path lies in another row's, or the other way round")
        self._taken.add(path)
        self._above |= above


@contextlib.contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder to unpack in, gone at the end. Those of processes that were killed here go as well."""
    folder.mkdir(parents=True, exist_ok=True)
    here = f"{WORK}.{socket.gethostname()}."
    for old in folder.glob(f"{here}*"):
        if not Path("/proc", old.name.removeprefix(here).partition(".")[0]).exists():
            folders.remove(old)
    work = folder / f"{here}{os.getpid()}.{uuid.uuid4().hex[:8]}"
    work.mkdir()
    try:
        yield work
    finally:
        folders.remove(work)


def _place(made: Path, target: Path, old: Path, overwrite: bool) -> bool:
    """Move a task to its place; whether it was there already, the same."""
    if not os.path.lexists(target):
        try:
            os.rename(made, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(made, target)
        return False
    if target.is_dir() and not target.is_symlink() and harbor_task.digest(target) == harbor_task.digest(made):
        folders.remove(made)
        return True
    if not overwrite:
        raise Refused(f"{target} is there already, and differs: --overwrite replaces it, or choose another folder")
    target.rename(old)
    made.rename(target)
    folders.remove(old)
    return False


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Write a folder of tasks as a parquet snapshot, and extract one."""


@main.command("pack")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def pack_command(folder: Path, file: Path) -> None:
    """Write the tasks in FOLDER to FILE."""
    catch_signals()
    with about(file):
        _say(write(tasks_in(folder), file, folder), file)


@main.command("extract")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace tasks that lie there and differ.")
def extract_command(file: Path, folder: Path, overwrite: bool) -> None:
    """Unpack the tasks of FILE to FOLDER."""
    catch_signals()
    with about(folder):
        _say(extract(file, folder, overwrite=overwrite), folder)


def _say(counted: Counted, place: Path) -> None:
    kept = f" ({counted.kept:,} were there already)" if counted.kept else ""
    click.echo(f"{counted.tasks:,} tasks{kept}, {counted.size:,} bytes packed: {place}")


if __name__ == "__main__":
    sys.exit(launch(main, "python -m helpers.datagen.snapshots"))
