"""What pipelines are written with, under the specification's names: task folders, samples of them, uploads and downloads."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from helpers.datagen import archives, harbor_task, hub, snapshots
from helpers.datagen.dataset_card import Provenance
from helpers.datagen.schemas import InputValidationError, TraceFailure
from helpers.lib import folders
from helpers.lib.errors import ConfigError, Refused
from helpers.lib.text import clean
from helpers.rendering import render

PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
TEST_PY = "tests/test_state.py"
EXECUTABLE = (harbor_task.TEST, harbor_task.SOLUTION)
# the keys of one
QUESTION = ("instruction", "metadata", "solution", "tests", "dockerfile", "task_toml", "agent_timeout_sec", "files")

_kept: list[tempfile.TemporaryDirectory[str]] = []  # folders that end with this process


def create_task_directory_unified(
    output_dir: str | Path,
    task_id: int,
    instruction: str,
    dataset_prefix: str,
    metadata: Mapping[str, Any] | None = None,
    solution: str | None = None,
    test_sh: str | None = None,
    test_py: str | None = None,
    task_toml: str | None = None,
    dockerfile: str | None = None,
    *,
    agent_timeout_sec: float = 900.0,
    files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Write the folder of a task, <output_dir>/<dataset_prefix>-<task_id, four digits>, whole or not at all; its path.

    What isn't given comes from templates/datagen/: the Dockerfile, task.toml, and for test_py (tests/test_state.py) a test.sh that runs it.
    A task may have no tests, and is then of use without verification alone. agent_timeout_sec: for the task.toml that comes from there.
    files: more of them, by their names in the folder.
    The same task again changes nothing. Raises InputValidationError, also where another task lies there, and OSError.
    """
    if not isinstance(task_id, int) or task_id < 0:
        raise InputValidationError(f"task_id: {task_id!r}: wants a whole number, which tells a task from the others")
    name = f"{_prefix(dataset_prefix)}-{task_id:04d}"
    texts: dict[str, str | bytes] = {
        harbor_task.INSTRUCTION: instruction,
        harbor_task.CONFIG: task_toml or _config(dataset_prefix, name, agent_timeout_sec),
        harbor_task.DOCKERFILE: dockerfile or _template("Dockerfile.j2"),
    }
    if metadata is not None:
        texts[harbor_task.METADATA] = _json(metadata, name)
    if solution is not None:
        texts[harbor_task.SOLUTION] = solution
    texts.update(_tests(test_sh, test_py))
    target = Path(output_dir, name)
    temporary = archives.beside(target)
    try:
        _write(temporary, {**texts, **(files or {})}, name)
        _check(temporary, name)
        return _publish(temporary, target)
    finally:
        folders.remove(temporary)


def _config(dataset: str, name: str, agent_timeout_sec: float) -> str:
    values = {"name": f"{dataset}/{name}", "dataset": dataset, "agent_timeout_sec": float(agent_timeout_sec)}
    return _template("task.toml.j2", **values)


def _tests(test_sh: str | None, test_py: str | None) -> dict[str, str]:
    if test_py is None:
        return {} if test_sh is None else {harbor_task.TEST: test_sh}
    return {TEST_PY: test_py, harbor_task.TEST: _template("test.sh.j2") if test_sh is None else test_sh}


def _prefix(prefix: str) -> str:
    if not PREFIX.fullmatch(prefix) or ".." in prefix:
        raise InputValidationError(
            f"dataset_prefix: {prefix!r}: wants letters, digits, '.', '_' and '-': tasks' folders begin with it"
        )
    return prefix


def _template(file: str, **values: Any) -> str:
    return _templates().get_template(file).render(**values)


@cache
def _templates() -> Any:
    made = render.environment("datagen")
    made.filters["toml"] = json.dumps  # a text in TOML is written as in JSON
    return made


def _json(metadata: Mapping[str, Any], name: str) -> str:
    try:
        return json.dumps(metadata, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputValidationError(f"task {name}: its metadata can't be written as JSON: {error}") from None


def _write(folder: Path, texts: Mapping[str, str | bytes], name: str) -> None:
    for path, text in texts.items():
        if problem := archives.unfit(path):
            raise InputValidationError(f"task {name}: the file {clean(path)!r}: its name {problem}")
        try:
            content = text if isinstance(text, bytes) else text.encode()
        except (AttributeError, UnicodeEncodeError):
            raise InputValidationError(
                f"task {name}: {path}: wants a text that UTF-8 can hold, not {text!r:.100}"
            ) from None
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if path in EXECUTABLE else 0o644)


def _check(folder: Path, name: str) -> None:
    try:
        task = harbor_task.read(folder)
        if not task.instruction.strip():
            raise InputValidationError(f"task {name}: its instruction is empty")
    except ConfigError as error:
        raise InputValidationError(f"task {name}: {str(error).replace(str(folder), name)}") from None


def _publish(made: Path, target: Path) -> Path:
    """Move a folder to its place, where nothing lies, or the same; across file systems too."""
    if not _is_free(target):
        if _is_same(made, target):
            folders.remove(made)
            return target
        raise InputValidationError(
            f"{target} is there already, with other content: remove it, or choose another folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = archives.beside(target)
        try:
            shutil.copytree(made, copy, symlinks=True)
            copy.rename(target)
        finally:
            folders.remove(copy)
        folders.remove(made)
    return target


def _is_same(made: Path, target: Path) -> bool:
    try:
        return target.is_dir() and harbor_task.digest(target) == harbor_task.digest(made)
    except Refused:  # one holds links
        return False


def _is_free(target: Path) -> bool:
    """Whether a folder can be put there: nothing lies there, or an empty folder, in whose place it goes."""
    if not os.path.lexists(target):
        return True
    return target.is_dir() and not target.is_symlink() and not any(target.iterdir())


def generate_tasks_from_questions(
    questions: Iterable[str | Mapping[str, Any]],
    dataset_prefix: str,
    *,
    output_dir: str | Path | None = None,
    **given: Any,
) -> Path:
    """Write a task for each question, numbered from 0; the folder of them.

    questions: texts, or mappings with an `instruction` and any other of QUESTION; `tests` is a test.sh, or files of tests/ by their names.
    given: values for all of them, by the same keys. output_dir: where the folder goes, whole or not at all; without it, it is a temporary
    one, gone with this process where finalize_dataset_output doesn't move it. Raises InputValidationError and OSError.
    """
    folder = archives.beside(Path(output_dir)) if output_dir else _temporary(_prefix(dataset_prefix))
    folder.mkdir(parents=True)
    try:
        number = -1
        for number, question in enumerate(questions):
            _create(folder, number, _question(question, given, number), dataset_prefix)
        if number < 0:
            raise InputValidationError("there are no questions to make tasks of")
        return _publish(folder, Path(output_dir)) if output_dir else folder
    except BaseException:
        folders.remove(folder)
        raise


def _question(question: Any, given: dict[str, Any], number: int) -> dict[str, Any]:
    told = {"instruction": question} if isinstance(question, str) else question
    if not isinstance(told, Mapping) or not isinstance(told.get("instruction", given.get("instruction")), str):
        raise InputValidationError(
            f"question {number}: wants a text, or a mapping with an instruction, not {question!r:.100}"
        )
    values = {**given, **{key: value for key, value in told.items() if value is not None}}
    if unknown := sorted(set(values) - set(QUESTION)):
        raise InputValidationError(
            f"question {number}: {unknown[0]!r} is no key of a question; those are: {', '.join(QUESTION)}"
        )
    return values


def _create(folder: Path, number: int, values: dict[str, Any], prefix: str) -> None:
    tests = values.pop("tests", None)
    inside = {f"tests/{name}": text for name, text in tests.items()} if isinstance(tests, Mapping) else {}
    create_task_directory_unified(
        folder,
        number,
        values.pop("instruction"),
        prefix,
        test_sh=inside.pop(harbor_task.TEST, None) if inside else tests,
        test_py=inside.pop(TEST_PY, None),
        files={**(values.pop("files", None) or {}), **inside},
        **values,
    )


def _temporary(name: str) -> Path:
    _kept.append(tempfile.TemporaryDirectory(prefix="hab-datagen-", ignore_cleanup_errors=True))
    return Path(_kept[-1].name, name)


def subsample_tasks_directory(
    source: str | Path, num_samples: int, prefix: str, seed: int = 0, *, output_dir: str | Path | None = None
) -> Path:
    """Copy num_samples tasks of a folder, the same for the same seed, under their names; all where there are no more. The folder of them.

    output_dir and what else holds of the folder: as in generate_tasks_from_questions. prefix: the temporary folder's name.
    """
    tasks = snapshots.tasks_in(Path(source))
    if not tasks or num_samples < 1:
        raise InputValidationError(f"{source}: {num_samples} of {len(tasks)} tasks can't be taken")
    if num_samples < len(tasks):
        tasks = sorted(random.Random(seed).sample(tasks, num_samples))
    folder = archives.beside(Path(output_dir)) if output_dir else _temporary(_prefix(prefix))
    try:
        for task in tasks:
            inside = task.relative_to(source) if task != Path(source) else task.name
            shutil.copytree(task, folder / inside, symlinks=True)
        return _publish(folder, Path(output_dir)) if output_dir else folder
    except BaseException:
        folders.remove(folder)
        raise


def finalize_dataset_output(folder: str | Path, output_dir: str | Path | None) -> Path:
    """Move a finished folder to output_dir, whole and never over something else; its new path. Without output_dir it stays.

    The same content there already is left, and `folder` removed. Raises InputValidationError and OSError.
    """
    if output_dir is None or Path(folder).resolve() == Path(output_dir).resolve():
        return Path(folder)
    if not Path(folder).is_dir():
        raise InputValidationError(f"{folder}: there is no such folder")
    return _publish(Path(folder), Path(output_dir))


def run_dataset_to_traces(dataset_path: str | Path, **options: Any) -> Path:
    """Run an agent over a folder of tasks. Raises TraceFailure: tasks in Harbor's form are no kind of task of the benchmark runner yet."""
    raise TraceFailure(
        f"{dataset_path}: no traces can be made of it yet, for the benchmark runner can't run tasks in Harbor's form; "
        "the tasks themselves are done: --stage tasks"
    )


def upload_tasks_to_hf(
    dataset_path: str | Path,
    repo_id: str,
    *,
    provenance: Provenance | None = None,
    name: str = "train",
    **options: Any,
) -> hub.Upload:
    """Upload a folder of tasks to a dataset on the Hub as a parquet snapshot, tasks/<name>-00000-of-00001.parquet and so on.

    name: of the parts; each of the jobs that upload a share of the tasks has its own. options: of hub.upload.
    Raises InputValidationError, UploadFailure and OSError.
    """
    made = provenance or Provenance.here("tasks")
    with tempfile.TemporaryDirectory(prefix="hab-datagen-", ignore_cleanup_errors=True) as folder:
        try:
            parts = snapshots.write_parts(Path(dataset_path), Path(folder), name)
        except Refused as error:
            raise InputValidationError(str(error)) from None
        return hub.upload({f"tasks/{part.name}": part for part in parts}, repo_id, made, **options)


def upload_traces_to_hf(
    files: str | Path | Iterable[str | Path], repo_id: str, *, provenance: Provenance | None = None, **options: Any
) -> hub.Upload:
    """Upload files of traces, .parquet or .jsonl, or all of a folder, to a dataset on the Hub as traces/<file's name>. As above."""
    given = [Path(files)] if isinstance(files, (str, Path)) else [Path(file) for file in files]
    found = [file for one in given for file in (sorted(one.iterdir()) if one.is_dir() else [one])]
    wanted = {f"traces/{file.name}": file for file in found if file.suffix in hub.SUFFIXES}
    if not wanted:
        raise InputValidationError(
            f"{', '.join(map(str, given)) or 'nothing'}: no traces are there ({', '.join(hub.SUFFIXES)})"
        )
    return hub.upload(wanted, repo_id, provenance or Provenance.here("traces"), **options)


def download_hf_dataset(repo_id: str, revision: str | None = None, *, cache_dir: str | Path | None = None) -> Path:
    """Download a dataset of the Hub; the folder that it is in, named by its commit. Raises as hub.download."""
    return hub.download(repo_id, revision, cache_dir=cache_dir).path
