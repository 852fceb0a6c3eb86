"""Prepare a repository task: `python -m helpers.repositories.prepare FOLDER ID DATA_DIR` makes DATA_DIR/ID/prepared.

public/ holds description.md, task.json, repo.git (the files of the start commit as one commit, without any history), the task's
overrides and overlays, and its Dockerfile; private/ its rubrics, its test scripts, and what lies beside them. subdir, sparse_checkout
and overrides are tried out here, and applied where an instance is made (helpers/repositories/instance.py), as a benchmark may change them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from helpers.data import layout
from helpers.lib import disk
from helpers.lib.errors import ConfigError
from helpers.repositories import schema, source
from helpers.repositories.fetch import fetch
from helpers.repositories.own_git import GitError, Repository
from helpers.repositories.source import OVERLAYS, Source
from helpers.repositories.tree import Tree, begin_with

TASK, EVALUATION = "task.json", "evaluation.json"
REPOSITORY = "repo.git"


def prepare(folder: Path, task: str, data_dir: Path) -> list[str]:
    """Prepare the task of a folder below `data_dir`, where nothing of it lies yet; notes for a person.

    Raises ConfigError with all that is wrong with the task, GitError, and OSError.
    """
    found = source.load(folder, task)
    if found.overrides and (wrong := wrong_repo(found.overrides, found.meta.repo.model_dump())):
        raise ConfigError([f"{schema.OVERRIDES}: {problem}" for problem in wrong])
    public, private = (layout.prepared(data_dir, task) / half for half in ("public", "private"))
    for half, mode in ((public, 0o755), (private, 0o700)):
        half.mkdir(parents=True)
        half.chmod(mode)
    with tempfile.TemporaryDirectory(dir=data_dir, prefix="git.") as scratch:
        fetched = Repository.new(Path(scratch, "fetched"))
        tree, commit = fetch(fetched, found.repository, found.meta.repo)
        root = fetched.commit_of(tree)
        fetched.copy_of(root, public / REPOSITORY)
        notes = [*found.notes, *_try_out(found, fetched, root, Path(scratch))]
    _write_public(found, commit, public)
    _write_private(found, private)
    return notes


def _try_out(found: Source, repository: Repository, root: str, scratch: Path) -> list[str]:
    tree = Tree(repository, root)
    notes = tree.notes()
    overrides = found.overrides or schema.Overrides()
    notes += begin_with(tree, found.meta.repo, overrides, found.folder, scratch)
    tree.write()
    return notes


def wrong_repo(overrides: schema.Overrides, repo: dict[str, Any]) -> list[str]:
    """What `repo` of overrides asks for and can't be had of a task as it was prepared."""
    found = []
    for key in ("git_url", "branch", "start_commit_sha"):
        wanted, there = getattr(overrides.repo, key, None), repo.get(key)
        if wanted is not None and not _same(key, wanted, there):
            found.append(
                f"repo.{key}: the task was prepared with {there or 'none'}, not with {wanted}: "
                f"write it into a {schema.META} of its own, and prepare that."
            )
    return found


def _same(key: str, wanted: str, there: str | None) -> bool:
    if key == "start_commit_sha":
        return (there or "").startswith(wanted) or wanted.startswith(there or "-")
    if key == "git_url":
        wanted, there = (one.rstrip("/").removesuffix(".git") for one in (wanted, there or ""))
    return wanted == there


def _write_public(found: Source, commit: str, public: Path) -> None:
    meta = found.meta
    disk.write_text(public / "description.md", found.instructions.rstrip("\n") + "\n")
    repo = meta.repo.model_dump(include={"git_url", "branch", "subdir", "sparse_checkout"}) | {"commit": commit}
    task = {"task_id": found.id, "title": found.title, "tags": meta.metadata.tags, "repo": repo, "image": meta.image}
    disk.write_json(public / TASK, task)
    if found.overrides:
        disk.write_json(public / schema.OVERRIDES, _part(found.overrides, judging=False))
    for name in OVERLAYS:
        _copy(found.folder / name, public / name, leave_out=source.NOT_FOR_AGENTS if name == OVERLAYS[0] else ())
    if (found.folder / "Dockerfile").is_file():
        shutil.copyfile(found.folder / "Dockerfile", public / "Dockerfile")


def _write_private(found: Source, private: Path) -> None:
    disk.write_json(private / EVALUATION, found.meta.evaluation.model_dump(mode="json", exclude_none=True))
    if found.overrides:
        disk.write_json(private / schema.OVERRIDES, _part(found.overrides, judging=True))
    _copy(found.folder / "evaluation", private / "evaluation")


def _part(overrides: schema.Overrides, judging: bool) -> dict[str, Any]:
    return {key: value for key, value in overrides.given().items() if (key in schema.JUDGING) == judging}


def _copy(folder: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Copy what lies below a folder: files with their modes, links as they are."""
    target.mkdir()
    for path in source.files_below(folder)[0]:
        if path not in leave_out:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / path, target / path, follow_symlinks=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.repositories.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 prepared; 1 something is wrong with the task, or git said no.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"the folder of the task, with its {schema.META}")
    parser.add_argument("task", metavar="ID", help="its id: the folder's name")
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="where <ID>/prepared is to be made")
    options = parser.parse_args(argv)
    try:
        notes = prepare(options.folder.absolute(), options.task, options.data_dir.absolute())
    except ConfigError as error:
        print(f"error: {' '.join(error.problems)}", file=sys.stderr)
        return 1
    except GitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
