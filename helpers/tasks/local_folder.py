"""Prepare a task from a user's folder: <tasks dir>/<id>/{prepare.py,raw/,description.md}.

prepare.py defines prepare(raw, public, private), three pathlib.Path, as mle-bench's do: it reads `raw` and writes the two other
folders. public/ needs sample_submission.csv, private/ needs answers.csv and grading.json ({"metric", "id_column",
"target_column"[, "metrics"]}, see helpers/grading/own_task.py); description.md is copied from the folder where prepare.py wrote
none. What the grading server would refuse is found out here. (A folder of mle-bench's, with its config.yaml or a prepare.py that
imports mlebench, is prepared and graded by mle-bench: helpers/grading/mlebench_local.py.)
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.data import layout

WANTED = {"raw", "public", "private"}
PUBLIC = ("description.md", "sample_submission.csv")
PRIVATE = ("answers.csv", "grading.json")


class BrokenTask(Exception):
    """A folder that makes no task; the message is for who wrote it."""


def prepare(folder: Path, task: str, data_dir: Path, raw: Path | None = None) -> None:
    """Prepare the task of a folder below `data_dir`, of its raw/ or the folder `raw`.

    Raises BrokenTask, OSError, and whatever prepare.py raises.
    """
    function = load(folder)
    raw = raw or folder / "raw"
    if not raw.is_dir():
        raise BrokenTask(f"{raw}: there is no such folder; the raw files go there")
    public, private = (layout.prepared(data_dir, task) / half for half in ("public", "private"))
    for half, mode in ((public, 0o755), (private, 0o700)):
        half.mkdir(parents=True)
        half.chmod(mode)
    function(raw=raw, public=public, private=private)
    description = folder / "description.md"
    if not (public / "description.md").exists() and description.is_file():
        shutil.copyfile(description, public / "description.md")
    check(public, private)
    _grade_sample(task, data_dir, public / "sample_submission.csv")


def load(folder: Path) -> Callable[..., Any]:
    """The function `prepare` of a folder's prepare.py, which may import what lies beside it. Raises BrokenTask."""
    path = folder / "prepare.py"
    if not path.is_file():
        raise BrokenTask(f"{path}: there is no such file; it defines prepare(raw, public, private)")
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # the folder is the user's
    spec = importlib.util.spec_from_file_location("prepare", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module
    spec.loader.exec_module(module)
    function = getattr(module, "prepare", None)
    # called by name, as mle-bench does: halves in the wrong order would give the answers away
    if not callable(function) or not set(inspect.signature(function).parameters) == WANTED:
        raise BrokenTask(f"{path}: must define prepare(raw, public, private), with these names")
    return function


def check(public: Path, private: Path) -> None:
    """Whether both halves hold what they must. Raises BrokenTask."""
    missing = [half / name for half, names in ((public, PUBLIC), (private, PRIVATE)) for name in names]
    missing = [f"{path.parent.name}/{path.name}" for path in missing if not path.is_file()]
    if missing:
        raise BrokenTask(f"prepare.py made no {', no '.join(missing)}")
    for path in [*public.rglob("*"), *private.rglob("*")]:
        name = path.relative_to(public.parent)
        if path.is_symlink():
            raise BrokenTask(f"{name} is a link, which leads nowhere in a container: prepare.py must copy the file")
        if name.parts[0] == "public" and path.name in PRIVATE:
            raise BrokenTask(f"{name} would be shown to the agents: it belongs into private/")


def _grade_sample(task: str, data_dir: Path, sample: Path) -> None:
    from helpers.grading import graders, report

    try:
        valid, message = graders.load(task, data_dir).validate(sample)
    except report.GradingError as error:
        raise BrokenTask(str(error).replace(f"{data_dir}{os.sep}", "")) from None
    if not valid:
        raise BrokenTask(f"public/sample_submission.csv: {message}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.tasks.local_folder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 prepared; 1 the task is broken, or its prepare.py failed.",
    )
    parser.add_argument("tasks_dir", type=Path, metavar="TASKS_DIR", help="the folder of your tasks")
    parser.add_argument("task", metavar="ID", help="a folder in it")
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="where <ID>/prepared is to be made")
    parser.add_argument("--raw", type=Path, metavar="FOLDER", help="the raw files, instead of <TASKS_DIR>/<ID>/raw")
    options = parser.parse_args(argv)
    try:
        prepare(options.tasks_dir / options.task, options.task, options.data_dir, options.raw)
    except BrokenTask as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
