"""A repository task as a person wrote it: the folder <tasks>/<id>/ with tb_meta.json, and what lies beside that."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.config.layers import shown
from helpers.data import layout
from helpers.lib import strict_json
from helpers.lib.checkout import TASKS
from helpers.lib.errors import ConfigError
from helpers.repositories import paths, schema

KIND, META = "repository", schema.META
OVERLAYS = ("overlay_files", "overlay_repo_files")
# What OneShot's own commands lay into overlay_files: it tells an agent how it is judged, or what the author's own solution was.
NOT_FOR_AGENTS = ("tb_meta.json", "diff.patch", "repo_info.json", "notes.md", "overrides.json", ".env")
NOT_OF_USE = ("box_bootstrap.sh", "remove_repo_paths.txt", schema.INSTRUCTIONS)


@dataclass
class Source:
    """A task's source, checked. files: those of evaluation/; notes: what a person should know of it, a sentence each."""

    id: str
    folder: Path
    meta: schema.Meta
    overrides: schema.Overrides | None
    files: set[str]
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.meta.metadata.title or self.id

    @property
    def repository(self) -> str:
        """Where the repository comes from: a URL, or an absolute path."""
        url = self.meta.repo.git_url
        return url if is_url(url) else os.path.join(self.folder, url)

    @property
    def instructions(self) -> str:
        """What an agent is told, in the order in which OneShot looks for it."""
        told = self.folder / OVERLAYS[0] / schema.INSTRUCTIONS
        return told.read_text(encoding="utf-8") if told.is_file() else self.meta.lm.instructions

    def to_dict(self) -> dict[str, Any]:
        """The task as `tasks.sh list --json` tells of it."""
        meta, evaluation = self.meta, self.meta.evaluation
        return {
            "id": self.id,
            "name": self.title,
            "task_type": KIND,
            "tags": meta.metadata.tags,
            "instructions": self.instructions,
            KIND: meta.repo.model_dump(exclude_none=True),
            "rubrics": {one.id: f"{one.weight:g} {one.criterion}".strip() for one in evaluation.rubrics},
            "test_scripts": [one.path for one in evaluation.test_scripts],
        }


def is_url(place: str) -> bool:
    """Whether git takes a place for a URL, or for a folder on another machine."""
    return bool(re.match(r"[^/]+:", place))


def is_remote(place: str) -> bool:
    """Whether a repository must be downloaded."""
    return is_url(place) and not place.startswith("file:")


def find(task: str, tasks_dir: str | Path | None = None) -> Path | None:
    """The folder of a repository task: the user's own, or one that comes with this project; None where there is none of that id."""
    folders = [Path(base, task) for base in (tasks_dir, TASKS) if base]
    return next((folder for folder in folders if (folder / META).is_file()), None)


def known(*bases: str | Path | None) -> dict[str, Path]:
    """The folders of all repository tasks in some folders, by their ids; one in a later folder counts."""
    return {path.parent.name: path.parent for base in bases if base for path in sorted(Path(base).glob(f"*/{META}"))}


def load(folder: Path, task: str) -> Source:
    """Read a task's folder. Raises ConfigError with all that is wrong in it, and OSError."""
    problems = [f"{shown(folder)}: the folder's name can be no id: {unfit}."] if (unfit := layout.unfit(task)) else []
    name = f"{shown(folder)}/{META}"
    meta = overrides = None
    notes: list[str] = []
    try:
        meta, notes = schema.meta_of(strict_json.read(folder / META, name), name)
    except ConfigError as error:
        problems += error.problems
    own = folder / schema.OVERRIDES
    if own.exists():
        try:
            overrides = schema.read_overrides(own, shown(own))
        except ConfigError as error:
            problems += error.problems
    files = set()
    for inner in (*OVERLAYS, "evaluation"):
        found, unfit = files_below(folder / inner)
        problems += [f"{shown(folder)}/{inner}/{path}: {why}." for path, why in unfit]
        files = set(found)
    if meta:
        problems += schema.problems_of(meta.evaluation, files, f"{name}: evaluation")
    if problems or meta is None:
        raise ConfigError(problems)
    source = Source(task, folder, meta, overrides, files, notes)
    source.notes += _notes(source)
    return source


def _notes(source: Source) -> list[str]:
    notes, meta = [], source.meta
    if meta.task_id != source.id:
        notes.append(f"{META} calls the task {meta.task_id!r}; here its id is its folder's name, {source.id!r}")
    tested = {script.rubric_id for script in meta.evaluation.test_scripts}
    for rubric in meta.evaluation.rubrics:
        if rubric.id not in tested:
            notes.append(f"no test script tests the rubric {rubric.id!r}: it has no score, and its weight still counts")
    overlay = source.folder / OVERLAYS[0]
    left_out = [name for name in (*NOT_FOR_AGENTS, *NOT_OF_USE[:-1]) if (overlay / name).exists()]
    if left_out:
        notes.append(f"left out of {OVERLAYS[0]}: {', '.join(left_out)}, which are not for agents")
    return notes


def files_below(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The files and links below a folder, and those that can't be in a task, with the reason. Raises OSError."""
    found: list[str] = []
    unfit: list[tuple[str, str]] = []
    if folder.is_symlink() or folder.exists() and not folder.is_dir():
        return [], [("", "must be a folder, and no link")]
    for base, inner, names in os.walk(folder):
        for name in sorted([*names, *(one for one in inner if os.path.islink(os.path.join(base, one)))]):
            full = os.path.join(base, name)
            path = os.path.relpath(full, folder)
            if why := paths.unfit(path) or _unfit_file(full, path):
                unfit.append((path, why))
            else:
                found.append(path)
        inner.sort()
    return sorted(found), unfit


def _unfit_file(full: str, path: str) -> str | None:
    mode = os.lstat(full).st_mode
    if stat.S_ISLNK(mode):
        target = os.readlink(full)
        if (
            target.startswith("/")
            or os.path.normpath(os.path.join(os.path.dirname(path), target)).split("/")[0] == ".."
        ):
            return f"is a link that leads out of its folder (to {target})"
    elif not stat.S_ISREG(mode):
        return "is neither a file nor a link"
    elif not os.access(full, os.R_OK):
        return "can't be read"
    return None
