"""A prepared task with overrides applied: what the runs of one cell share, and what each of their agents begins with.

It lies beside the prepared task, in instances/<digest>/, and is never changed: other overrides, or a task that was prepared anew, make
another one. public/ holds description.md, base.git, repo_info.json and task.json; private/ the rubrics and test scripts, the variables
for agents, and notes for a person.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from helpers.data import fingerprint, layout
from helpers.lib import disk, strict_json
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.repositories import schema, source
from helpers.repositories.own_git import BRANCH, GitError, Repository
from helpers.repositories.prepare import EVALUATION, REPOSITORY, TASK, wrong_repo
from helpers.repositories.tree import Tree, begin_with

FOLDER = "instances"
SCHEMA = 1  # goes into the digest: a later version that makes something else of the same task makes it elsewhere
_one_at_a_time = threading.Lock()  # locks of files are a process's, not a thread's


def make(prepared: Path, overrides: dict[str, Any] | None = None, *, apply: bool = True) -> Path:
    """The instance of a prepared task with these overrides, in place of the task's own; made where it isn't there yet.

    prepared: <data>/<id>/prepared. overrides: as overrides.json holds them; None: the task's own. apply=False: none at all. Others that
    make one of this task are waited for. Raises ConfigError with all that is wrong, Infrastructure where git said no, and OSError.
    """
    prepared = Path(os.path.abspath(prepared))
    task = _task(prepared)
    effective = check(prepared, overrides, apply=apply)
    target = _target(prepared, effective)
    if target.is_dir():
        return target
    data_dir, task_id = _place(prepared, task)
    with _one_at_a_time, layout.staging(data_dir, task_id) as scratch:
        target = _target(prepared, effective)  # it may have been prepared anew, or made, by who was waited for
        if not target.is_dir():
            made = scratch / "instance"
            try:
                _Build(prepared, task, effective, scratch).write(made)
            except GitError as error:
                raise Infrastructure(f"{task_id}: {error}") from error
            _publish(made, target)
    return target


def check(prepared: Path, overrides: dict[str, Any] | None = None, *, apply: bool = True) -> schema.Overrides:
    """The overrides that count, as far as they can be judged without the repository. Raises ConfigError with all that is wrong."""
    task = _task(prepared)
    if not apply:
        return schema.Overrides()
    found = _own(prepared) if overrides is None else schema.overrides_of(overrides)
    problems = [f"{schema.OVERRIDES}: {one}" for one in wrong_repo(found, _repo(task))]
    if any(getattr(found, key) is not None for key in schema.JUDGING):
        files = set(source.files_below(prepared / "private" / "evaluation")[0])
        problems += schema.problems_of(_evaluation(prepared, found), files, schema.OVERRIDES)
    if problems:
        raise ConfigError(problems)
    return found


def notes(instance: Path) -> list[str]:
    """What had no effect when an instance was made."""
    return list((disk.read_json(instance / "private" / "notes.json") or {}).get("notes", []))


def _task(prepared: Path) -> dict[str, Any]:
    task = disk.read_json(prepared / "public" / TASK)
    if task is None or not (prepared / "public" / REPOSITORY).is_dir():
        raise ConfigError(
            [f"{prepared} is no prepared repository task: use scripts_hpc/prepare_tasks.sh {prepared.parent.name}."]
        )
    return task


def _repo(task: dict[str, Any]) -> dict[str, Any]:
    repo = dict(task["repo"])
    return {**repo, "start_commit_sha": repo["commit"]}


def _place(prepared: Path, task: dict[str, Any]) -> tuple[Path, str]:
    """The data folder and the id that a preparation locks, which must not go on meanwhile."""
    task_id = str(task.get("task_id"))
    if layout.is_id(task_id) and prepared.parent.parts[-len(Path(task_id).parts) :] == Path(task_id).parts:
        return prepared.parents[len(Path(task_id).parts)], task_id
    return prepared.parents[1], prepared.parent.name  # a copy under another name


def _own(prepared: Path) -> schema.Overrides:
    halves = [prepared / half / schema.OVERRIDES for half in ("public", "private")]
    own = [strict_json.read(path, str(path)) for path in halves if path.is_file()]
    return schema.overrides_of({key: value for half in own for key, value in half.items()})


def _evaluation(prepared: Path, overrides: schema.Overrides) -> schema.Evaluation:
    """The rubrics and test scripts that count: `evaluation` replaces both, `rubrics` and `test_scripts` each its own."""
    path = prepared / "private" / EVALUATION
    own = strict_json.read(path, str(path))
    given = overrides.model_dump(mode="json", include=set(schema.JUDGING), exclude_none=True)
    return schema.Evaluation.model_validate({**own, **given.pop("evaluation", {}), **given})


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _target(prepared: Path, effective: schema.Overrides) -> Path:
    digest = _digest([SCHEMA, fingerprint.known(prepared), effective.given()])
    return prepared.parent / FOLDER / digest[:32]


def _publish(made: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():  # where there are no locks, somebody else was faster
            raise


class _Build:
    def __init__(self, prepared: Path, task: dict[str, Any], overrides: schema.Overrides, scratch: Path):
        self.prepared, self.task, self.overrides, self.scratch = prepared, task, overrides, scratch
        self.notes: list[str] = []

    def write(self, folder: Path) -> None:
        """Write the whole instance into a new folder. Raises ConfigError, GitError and OSError."""
        public, private = folder / "public", folder / "private"
        for half, mode in ((public, 0o755), (private, 0o700)):
            half.mkdir(parents=True)
            half.chmod(mode)
        self._write_public(public)
        self._write_private(private)

    def _write_public(self, public: Path) -> None:
        task, repo = self.task, self.task["repo"]
        own = self.prepared / "public"
        told = self.overrides.instructions
        text = (own / "description.md").read_text(encoding="utf-8") if told is None else told.rstrip("\n") + "\n"
        disk.write_text(public / "description.md", text)
        disk.write_json(public / TASK, task)
        base = self._base(public / "base.git")
        override = self.overrides.repo
        subdir = override.subdir if override and "subdir" in override.model_fields_set else repo["subdir"]
        info = {"git_url": repo["git_url"], "commit": repo["commit"], "base": base, "subdir": subdir}
        given = self.overrides.given()
        disk.write_json(public / "repo_info.json", {**info, "overrides_sha256": _digest(given) if given else None})

    def _base(self, folder: Path) -> str:
        """Make the repository that an agent begins with; its one commit."""
        work = Repository.new(self.scratch / "work.git")
        # what is there is read where it lies; what is new lands here
        alternates = self.scratch / "work.git" / "objects" / "info" / "alternates"
        alternates.parent.mkdir()
        alternates.write_text(f"{self.prepared / 'public' / REPOSITORY / 'objects'}\n", encoding="utf-8")
        there = Repository(self.prepared / "public" / REPOSITORY)
        tree = Tree(work, there.line("rev-parse", "--verify", f"refs/heads/{BRANCH}"))
        repo = schema.Repo.model_validate(self.task["repo"])
        self.notes += begin_with(tree, repo, self.overrides, self.prepared / "public", self.scratch)
        base = tree.write()
        work.copy_of(base, folder)
        return base

    def _write_private(self, private: Path) -> None:
        evaluation = _evaluation(self.prepared, self.overrides)
        scripts = [{"path": one.path, "rubric_id": one.rubric_id} for one in evaluation.test_scripts]
        rubrics = [one.model_dump(mode="json") for one in evaluation.rubrics]
        disk.write_json(private / EVALUATION, {"rubrics": rubrics, "test_scripts": scripts})
        disk.write_json(private / "variables.json", self.overrides.environment_variables)
        tests = private / "tests"
        beside = self.prepared / "private" / "evaluation"
        shutil.copytree(beside, tests, symlinks=True)
        for script in evaluation.test_scripts:
            if script.content is not None:
                path = tests / script.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(script.content.encode())
                path.chmod(0o755 if script.content.startswith("#!") else 0o644)
        disk.write_json(private / "notes.json", {"notes": self.notes})


def main(argv: list[str] | None = None) -> int:
    """Print the folder of an instance, made where it isn't there yet, for scripts."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.repositories.instance",
        description=main.__doc__,
        epilog="Exit codes: 0 it is there; 2 the task or the overrides are wrong; 3 git or the disk said no.",
    )
    parser.add_argument("prepared", type=Path, metavar="PREPARED", help="the folder <data>/<id>/prepared")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--overrides", type=Path, metavar="FILE", help="in place of the task's own")
    which.add_argument("--no-overrides", action="store_true", help="not the task's own either")
    options = parser.parse_args(argv)
    try:
        given = schema.read_overrides(options.overrides).given() if options.overrides else None
        made = make(options.prepared, given, apply=not options.no_overrides)
    except ConfigError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return 2
    except (Infrastructure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    for note in notes(made):
        print(f"note: {note}", file=sys.stderr)
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
