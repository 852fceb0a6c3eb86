"""A folder of jobs is sealed: they run a copy of the code that lies in it, which no later change of the checkout reaches."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from helpers.config.sites import ROOT

CODE = "jobs/code"  # in a folder of jobs: what they run, laid out as in the checkout
AGENTS = Path("templates", "agents")
OWN_AGENTS = "agents"
# what jobs use of the checkout; all else on a node is in its image, or in the environments outside containers
SEALED = (
    "scripts_hpc/lib",
    "helpers",
    AGENTS,
    "templates/replay",
    "templates/tasks",
    "site-config/default.yaml",
    "site-config/local.yaml",
)


def seal(folder: Path, agents: Iterable[Path] = ()) -> dict[str, Any]:
    """Copy what jobs run into their folder; what it is, for its record: commit, whether it differs from that, sha256 of the copy.

    agents: the folders of agents' files; those of the checkout are copied anyway. Raises OSError.
    """
    commit, dirty = git_state()
    digest = hashlib.sha256()
    own = {place: path for path in agents if (place := place_of(path))}
    for part, source in [*((part, ROOT / part) for part in SEALED), *sorted(own.items())]:
        for name, path in _files(source):
            target = folder / CODE / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            digest.update(f"{Path(part, name)}\0{target.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            digest.update(target.read_bytes())
    return {"git_commit": commit, "git_dirty": dirty, "code": {"path": CODE, "sha256": digest.hexdigest()}}


def digest_of(code: Path) -> str | None:
    """The sha256 of a sealed copy, as `seal` makes it; None where it holds what this version doesn't seal. Raises OSError."""
    digest, seen = hashlib.sha256(), 0
    for part in (*SEALED, OWN_AGENTS):
        for name, path in _files(code / part):
            digest.update(f"{Path(part, name)}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            digest.update(path.read_bytes())
            seen += 1
    return digest.hexdigest() if seen == sum(1 for _ in _files(code)) else None


def beside_commit(code: Path, commit: str) -> tuple[list[str], list[str], list[str]] | None:
    """The files of a sealed copy that are as in a commit, that differ from it, and that it lacks; None where the checkout hasn't it.

    Raises OSError.
    """
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    done = subprocess.run(
        [*git, "ls-tree", "-r", "-z", commit], capture_output=True, text=True, errors="surrogateescape"
    )
    if done.returncode:
        return None
    entries = (line.partition("\t") for line in done.stdout.split("\0") if line)
    blobs = {name: tuple(about.split()[::2]) for about, _, name in entries}  # mode and blob
    for name in [name for name, (mode, _) in blobs.items() if mode == "120000"]:  # a copy has what a link leads to
        target = subprocess.run([*git, "cat-file", "blob", blobs[name][1]], capture_output=True, text=True).stdout
        blobs[name] = blobs.get(os.path.normpath(os.path.join(os.path.dirname(name), target)), blobs[name])
    same, others, new = [], [], []
    for name, path in _files(code):
        data = path.read_bytes()
        blob = hashlib.sha1(
            b"blob %d\0" % len(data) + data, usedforsecurity=False
        ).hexdigest()  # https://git-scm.com/book: Git Objects
        (new if name not in blobs else same if blobs[name][1] == blob else others).append(name)
    return same, others, new


def place_of(path: Path) -> str | None:
    """Where in a sealed copy an agent's files lie that are a person's own; None for those of the checkout."""
    whole = path.resolve()
    if whole.is_relative_to((ROOT / AGENTS).resolve()):
        return None
    return f"{OWN_AGENTS}/{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}-{whole.name}"


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    if source.is_file():
        yield "", source
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(source)), path


def git_state() -> tuple[str | None, bool | None]:
    """The checkout's commit, and whether tracked files differ from it; None for both outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
