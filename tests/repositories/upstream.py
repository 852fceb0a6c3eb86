"""Repositories and tasks as their authors have them, made in a test's folder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "author@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str) -> str:
    """What git prints, without any settings of the person who tests."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], env=ENVIRONMENT, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


class Upstream:
    """A repository; each `commit` adds one with these files more."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main")

    def commit(self, files: dict[str, str | bytes], *, message: str = "more") -> str:
        write(self.folder, files)
        git(self.folder, "add", "--all", "--force")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", message)
        return git(self.folder, "rev-parse", "HEAD")


def meta(git_url: object, commit: str | None = None, **more: Any) -> dict[str, Any]:
    """A tb_meta.json with one rubric and one test script. more: keys of `repo`."""
    repo = {"git_url": str(git_url), **({"start_commit_sha": commit} if commit else {}), **more}
    return {
        "task_id": "toy",
        "metadata": {"title": "A toy", "tags": ["small"]},
        "repo": repo,
        "lm": {"instructions": "Mend it."},
        "evaluation": {
            "rubrics": [{"id": "works", "criterion": "it works", "weight": 1}],
            "test_scripts": [{"path": "works.sh", "content": "SECRET=answer-of-42\n", "rubric_id": "works"}],
        },
    }


def make_task(
    folder: Path, data: dict[str, Any], overrides: dict[str, Any] | None = None, **files: str | bytes
) -> Path:
    """A task's folder. files: others in it, `__` for `/` and `_dot_` for `.` in their names."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, {"tb_meta.json": json.dumps(data)})
    if overrides is not None:
        write(folder, {"overrides.json": json.dumps(overrides)})
    write(folder, {name.replace("__", "/").replace("_dot_", "."): content for name, content in files.items()})
    return folder


def contents(repository: Path, commit: str = "task") -> dict[str, str]:
    """The files of a bare repository's commit, with what is in them."""
    names = git(repository, "ls-tree", "-r", "-z", "--name-only", commit).split("\0")
    return {name: git(repository, "cat-file", "blob", f"{commit}:{name}") for name in names if name}


def modes(repository: Path) -> dict[str, str]:
    lines = git(repository, "ls-tree", "-r", "task").splitlines()
    return {line.partition("\t")[2]: line.split()[0] for line in lines}
