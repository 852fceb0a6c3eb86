"""Where runs lie below some folders: which workflows, and which names in them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from helpers.lib import values
from helpers.runs import cells, metadata
from helpers.runs.one import RUN_NAME, OneRun, load

NOT_RUNS = {"jobs", "logs", "services", "parts", "claims", "left"}
DEPTH = 4  # folders below a given one that are searched for runs
Wanted = dict[str, "set[str] | None"]  # a workflow's folder: names of the runs wanted, None for all


def workflows(paths: Iterable[Any], broken: list[str]) -> Wanted:
    """The workflows whose runs are meant by folders: of a workflow, of many, or of a run.

    broken: takes a sentence for each folder that can't be read.
    """
    found: Wanted = {}
    for path in paths:
        _search(os.path.realpath(path), DEPTH, found, broken)
    return found


def runs(paths: Iterable[Any], broken: list[str]) -> Iterator[OneRun]:
    """The runs that are meant by folders, one after the other, each as its own files tell of it: without costs and accounting.

    broken: takes a sentence for each file or folder that can't be read.
    """
    now = time.time()
    for group, wanted in workflows(paths, broken).items():
        problems: list[str] = []
        record = load(group, "workflow.json", problems, needed=True)
        try:
            every = [name for name in names(group, record) if wanted is None or name in wanted]
        except OSError as error:
            problems, every = [*problems, error.strerror or "can't be read"], []
        broken += [f"{group}: {problem}" for problem in problems]
        for name in every:
            run = OneRun(f"{group}/{name}", record, now)
            if run.problems:
                broken.append(f"{run.folder}: {', '.join(run.problems)}")
            yield run


def _search(path: str, depth: int, wanted: Wanted, broken: list[str]) -> None:
    try:
        names = _folders(path)
    except OSError as error:
        broken.append(f"{path}: {error.strerror}")
        return
    parent, name = os.path.split(path)
    named = depth == DEPTH  # by the user, so it may be a run that has lost its metadata
    if "workflow.json" in names or "_run-group_" in name:
        wanted[path] = None
    elif "run_metadata.json" in names or (named and name not in NOT_RUNS and _has(parent, "workflow.json")):
        if (its := wanted.setdefault(parent, set())) is not None:
            its.add(name)
    elif any(is_folder and _has(os.path.join(path, one), "run_metadata.json") for one, is_folder in names.items()):
        wanted[path] = None
    elif depth:
        for one in sorted(one for one, is_folder in names.items() if is_folder):
            _search(os.path.join(path, one), depth - 1, wanted, broken)


def names(group: str, workflow: dict[str, Any]) -> list[str]:
    """The folders of a workflow's runs that are there, and of those that should be: of every job that was submitted. Raises OSError."""
    tasks = [values.text(cell.get("competition")) or "" for cell in cells.cells(workflow)]
    found = set()
    for one in cells.agents(workflow):
        name = metadata.run_name(tasks[one.cell] if one.cell < len(tasks) else "", one.job)
        found |= {name} if "/" not in name else set()
    for name, is_folder in _folders(group).items():
        looks_so = RUN_NAME.fullmatch(name) and (is_folder or os.path.islink(f"{group}/{name}"))
        if name not in NOT_RUNS and (looks_so or (is_folder and _has(f"{group}/{name}", "run_metadata.json"))):
            found.add(name)
    return sorted(found, key=lambda name: (len(name), name))


def _folders(path: str) -> dict[str, bool]:
    """The names in a folder; True for real folders, not for links to one."""
    with os.scandir(path) as entries:
        return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}


def _has(path: str, name: str) -> bool:
    return os.path.lexists(os.path.join(path, name))
