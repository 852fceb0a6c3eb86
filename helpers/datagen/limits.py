"""The first few of many: copies of tasks, or of runs, in a folder of their own, so that later steps see no more."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers.datagen.schemas import InputValidationError
from helpers.lib import folders

TASK = ("instruction.md",)
RUN = ("run_metadata.json", "result.json")  # of ours, and of Harbor's trials


def limit_tasks_directory(
    source: str | Path, limit: int | None, *, dataset_prefix: str, folder: str | Path | None = None
) -> Path:
    """A folder with the first `limit` tasks of a folder, by name; that folder itself where it has no more, or limit is None.

    folder: where the copy is made, for whoever owns that to remove (GenerationContext.temp_dir); without one it goes when Python ends.
    A task is a folder with instruction.md. Raises InputValidationError, and OSError where it can't be copied.
    """
    return _limited(Path(source), limit, f"{dataset_prefix}-", folder, "task", _has(TASK))


def limit_trace_jobs_directory(
    source: str | Path, limit: int | None, *, dataset_prefix: str = "traces", folder: str | Path | None = None
) -> Path:
    """The same for the folders of runs (run_metadata.json, or a Harbor trial's result.json); the files beside them are kept, for
    workflow.json tells of all runs."""
    return _limited(Path(source), limit, f"{dataset_prefix}-", folder, "run", _has(RUN), with_files=True)


def _has(names: tuple[str, ...]) -> Callable[[Path], bool]:
    return lambda path: path.is_dir() and any((path / name).is_file() for name in names)


def _limited(
    source: Path,
    limit: int | None,
    prefix: str,
    folder: str | Path | None,
    kind: str,
    is_one: Callable[[Path], bool],
    with_files: bool = False,
) -> Path:
    if limit is not None and limit < 1:
        raise InputValidationError(f"limit: must be at least 1, not {limit}")
    if not source.is_dir():
        raise InputValidationError(f"{source}: there is no such folder")
    entries = sorted(source.iterdir())
    ones = [path for path in entries if is_one(path)]
    if not ones:
        raise InputValidationError(
            f"{source}: holds no {kind}: a folder with {' or '.join(TASK if kind == 'task' else RUN)}"
        )
    if limit is None or len(ones) <= limit:
        return source
    made = Path(tempfile.mkdtemp(prefix=prefix.replace("/", "-"), dir=folder))
    if folder is None:
        atexit.register(folders.remove, made)
    for path in ones[:limit]:
        shutil.copytree(path, made / path.name, symlinks=True)
    for path in entries if with_files else ():
        if path.is_file() and not path.is_symlink():
            shutil.copy2(path, made / path.name)
    return made
