"""The files that an agent begins with: those of a commit, without some and with others. Nothing is checked out, so no link is followed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from helpers.lib.errors import ConfigError
from helpers.repositories import schema
from helpers.repositories.own_git import GitError, Repository
from helpers.repositories.paths import Pattern, is_git
from helpers.repositories.source import NOT_FOR_AGENTS, NOT_OF_USE, OVERLAYS, files_below

FILE, PROGRAM, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
WHAT = {LINK: "a link", SUBMODULE: "a submodule"}
LFS = b"version https://git-lfs.github.com/spec/"
LFS_BYTES = 1024  # a pointer is smaller (git-lfs, docs/spec.md)
SHOWN = 5  # names in a note


class Tree:
    """Files by their paths, each a mode and an object of a repository."""

    def __init__(self, repository: Repository, commit: str):
        self.repository = repository
        self.files = {path: (mode, name) for mode, name, path in repository.listed(commit)}

    def remove(self, patterns: list[str]) -> list[str]:
        """Remove what the patterns mean; those that meant nothing."""
        return self._drop([Pattern(text) for text in patterns], keep=False)

    def keep_only(self, subdir: str | None, patterns: list[str]) -> list[str]:
        """Keep what lies in a folder and what the patterns mean, where there are any; those that meant nothing."""
        wanted = [*([f"{subdir}/"] if subdir else []), *(text.rstrip("/") or text for text in patterns)]
        return self._drop([Pattern(text) for text in wanted], keep=True) if wanted else []

    def _drop(self, patterns: list[Pattern], keep: bool) -> list[str]:
        used: set[str] = set()
        left = {}
        for path, (mode, name) in self.files.items():
            meant = [one.text for one in patterns if one.matches(path, is_folder=mode == SUBMODULE)]
            used.update(meant)
            if bool(meant) == keep:
                left[path] = (mode, name)
        self.files = left
        return [one.text for one in patterns if one.text not in used]

    def add(self, files: Mapping[str, tuple[str, Path]], source: str) -> None:
        """Add files (path -> mode, and where its content lies), over those that are there.

        Raises ConfigError, which names `source`, for a path that a link or another file stands in the way of, and GitError.
        """
        folders = {above for path in self.files for above in _above(path)}
        problems = []
        for path, (mode, _) in files.items():
            if why := self._in_the_way(path, folders):
                problems.append(f"{source}: {path!r} {why}.")
            self.files[path] = (mode, "")
            folders.update(_above(path))
        if problems:
            raise ConfigError(problems)
        stored = self.repository.stored(where for _, where in files.values())
        for (path, (mode, _)), name in zip(files.items(), stored, strict=True):
            self.files[path] = (mode, name)

    def _in_the_way(self, path: str, folders: set[str]) -> str | None:
        for above in _above(path):
            if found := self.files.get(above):
                return f"leads through {above!r}, which is {WHAT.get(found[0], 'a file')} in the repository"
        if path in folders:
            return "is a folder in the repository: remove it first (remove_repo_paths)"
        return None

    def write(self) -> str:
        """The commit of these files. Raises GitError, also for paths that no git would check out."""
        if bad := [path for path in self.files if "\\" in path or any(map(_leads_elsewhere, path.split("/")))]:
            raise GitError(
                f"the repository has invalid paths, which git checks out nowhere: {_some(sorted(map(repr, bad)))}"
            )
        entries = ((mode, name, path) for path, (mode, name) in self.files.items())
        return self.repository.commit_of(self.repository.tree_of(entries))

    def notes(self) -> list[str]:
        """What is only hinted at in these files, and not followed: submodules, and files of Git LFS."""
        notes = []
        if submodules := sorted(path for path, (mode, _) in self.files.items() if mode == SUBMODULE):
            notes.append(f"submodules are not followed, their folders are empty: {_some(submodules)}")
        if pointers := self._pointers():
            notes.append(f"files of Git LFS are not downloaded, a pointer stands in their place: {_some(pointers)}")
        return notes

    def _pointers(self) -> list[str]:
        blobs = {
            name: path for path, (mode, name) in sorted(self.files.items(), reverse=True) if mode in (FILE, PROGRAM)
        }
        asked = "".join(f"{name}\n" for name in blobs).encode()
        sizes = (line.split() for line in self.repository.run("cat-file", "--batch-check", stdin=asked).splitlines())
        small = [words[0].decode() for words in sizes if words[1:2] == [b"blob"] and int(words[2]) < LFS_BYTES]
        said = self.repository.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in small).encode())
        found, at = [], 0
        for name in small:
            start = said.index(b"\n", at) + 1
            size = int(said[at : start - 1].split()[2])
            if said.startswith(LFS, start):
                found.append(blobs[name])
            at = start + size + 1
        return sorted(found)


def _leads_elsewhere(part: str) -> bool:
    return part in ("", ".", "..") or is_git(part)


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def begin_with(tree: Tree, repo: schema.Repo, overrides: schema.Overrides, overlays: Path, scratch: Path) -> list[str]:
    """Make of a task's files those that an agent begins with; notes on what had no effect.

    repo: the task's own subdir and sparse_checkout. overlays: the folder that holds overlay_files and overlay_repo_files. scratch: a
    folder that stays until the tree is written. Raises ConfigError with what doesn't fit the repository, GitError, and OSError.
    """
    notes = _select(tree, repo, overrides)
    written = {file.path: file.content for file in overrides.inject_files}
    tree.add(_texts(written, tree, scratch / "inject_files"), "inject_files")
    for name in OVERLAYS:
        files = _overlay(overlays / name, scratch / f"{name}.links")
        more = dict(getattr(overrides, name))
        if name == OVERLAYS[0]:
            for one in (*NOT_FOR_AGENTS, *NOT_OF_USE):
                files.pop(one, None)
            more.pop(schema.INSTRUCTIONS, None)
        tree.add(files, name)
        tree.add(_texts(more, tree, scratch / name), name)
    return notes


def _select(tree: Tree, repo: schema.Repo, overrides: schema.Overrides) -> list[str]:
    own = overrides.repo or schema.RepoOverride()
    subdir = own.subdir if "subdir" in own.model_fields_set else repo.subdir
    sparse = own.sparse_checkout if "sparse_checkout" in own.model_fields_set else repo.sparse_checkout
    patterns = overrides.remove_repo_paths
    notes = [
        f"remove_repo_paths: {text!r}: the history is cut off anyway" for text in patterns if text in schema.NO_HISTORY
    ]
    gone = tree.remove([text for text in patterns if text not in schema.NO_HISTORY])
    notes += [f"remove_repo_paths: {text!r} matches nothing" for text in gone]
    had_files = bool(tree.files)
    missing = tree.keep_only(subdir, sparse or [])
    if subdir and f"{subdir}/" in missing:
        raise ConfigError([f"repo.subdir: there is no folder {subdir!r} in the repository."])
    if had_files and not tree.files:
        raise ConfigError(
            [f"repo.sparse_checkout: nothing in the repository matches {', '.join(map(repr, sparse or []))}."]
        )
    return notes + [f"repo.sparse_checkout: {text!r} matches nothing" for text in missing]


def _texts(texts: Mapping[str, str], tree: Tree, folder: Path) -> dict[str, tuple[str, Path]]:
    """Texts as files to be added; one in the place of a program stays a program."""
    folder.mkdir()
    files = {}
    for number, (path, text) in enumerate(texts.items()):
        where = folder / str(number)
        where.write_bytes(text.encode())
        is_program = text.startswith("#!") or tree.files.get(path, ("",))[0] == PROGRAM
        files[path] = (PROGRAM if is_program else FILE, where)
    return files


def _overlay(folder: Path, links: Path) -> dict[str, tuple[str, Path]]:
    """The files of an overlay to be added; links: a folder for what links are in git, files with their targets."""
    links.mkdir()
    files = {}
    for path in files_below(folder)[0]:
        full = folder / path
        if full.is_symlink():
            where = links / str(len(files))
            where.write_bytes(os.fsencode(os.readlink(full)))
            files[path] = (LINK, where)
        else:
            files[path] = (PROGRAM if os.access(full, os.X_OK) else FILE, full.absolute())
    return files
