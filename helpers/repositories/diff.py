"""The agent's work as a diff against the commit that it began with, made from outside of its folder.

What lies in the folder counts, not what the agent told git: its `.git` is never read. Every file is read here and handed to a git of
ours byte for byte (line ends, `ident` and filters included: no attribute acts). New files that the .gitignore files *of the commit it
began with* name are build output and left out; what the agent wrote into a .gitignore hides nothing and shows nothing. What git can't
hold (pipes, sockets, devices, nested `.git`) is left out, and told in repo_info.json.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.lib import disk
from helpers.lib.errors import Infrastructure
from helpers.repositories import steps
from helpers.repositories.agent_folder import MODULE, AgentFolder, Found
from helpers.repositories.git import Failed, Git, TooLarge, find
from helpers.repositories.steps import shown, theirs

LIMIT_MB = 100  # of a diff
TIMES = 4  # the changed files may have so many times the diff's limit, as a diff is packed
MOST_CHANGED = 100_000  # files
MOST_TOLD = 50  # names of what was left out
NOTES, NOTES_BYTES = b"notes.md", 1 << 20
LISTING = 1 << 30  # bytes of a listing of the prepared commit, which is ours
OTHER = {"ignored": "new ones are ignored", "left_out": "can't be held by git", "nested_git": "nested repositories"}
WORK = "refs/heads/work"
# https://git-scm.com/docs/git-diff-tree; nothing of a configuration reaches it
DIFF = ["diff-tree", "-r", "-p", "--binary", "--full-index", "-M", "-l1000", "-U3", "--no-ext-diff", "--no-textconv"]
DIFF += ["--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=all"]


@dataclass
class Changes:
    """The paths that differ. ignored: new ones that the commit's .gitignore files name, which don't count."""

    added: list[bytes]
    modified: list[bytes]
    deleted: list[bytes]
    ignored: list[bytes]

    @property
    def sent(self) -> list[bytes]:
        return self.added + self.modified

    def __len__(self) -> int:
        return len(self.sent) + len(self.deleted)


def listing(git: Git) -> dict[bytes, tuple[str, str]]:
    """Mode and blob of each file of the prepared commit, by path."""
    found = {}
    for line in git.run("ls-tree", "-r", "-z", "--full-tree", git.commit, most=LISTING).split(b"\0"):
        if line:
            what, _, path = line.partition(b"\t")
            mode, _, name = what.decode("ascii").split(" ")
            found[path] = mode, name
    return found


def compare(git: Git, folder: AgentFolder, found: Found, base: dict[bytes, tuple[str, str]]) -> Changes:
    """What differs in a folder from the prepared commit."""
    algorithm = "sha1" if len(git.commit) == 40 else "sha256"
    new = [path for path in found.files if path not in base]
    ignored = _ignored(git, new, base)
    modified = []
    for path, file in found.files.items():
        if path in base and (file.mode != base[path][0] or folder.blob(path, file, algorithm) != base[path][1]):
            modified.append(path)
    deleted = [path for path, (mode, _) in base.items() if mode != MODULE and path not in found.files]
    return Changes([path for path in new if path not in ignored], modified, deleted, sorted(ignored))


def _ignored(git: Git, paths: list[bytes], base: dict[bytes, tuple[str, str]]) -> set[bytes]:
    """Those that the commit's own .gitignore files name: they are laid out alone, and git is asked there."""
    rules = [path for path in base if path.split(b"/")[-1] == b".gitignore" and base[path][0].startswith("100")]
    if not rules or not paths:
        return set()
    tree = git.folder / "rules"
    for path in rules:
        place = os.path.join(os.fsencode(tree), path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(git.run("cat-file", "blob", base[path][1], most=LISTING))
    feed = b"".join(b"./%s\0" % path for path in paths)  # a name may begin as git's pathspecs do
    said = git.run("check-ignore", "--no-index", "--stdin", "-z", tree=tree, feed=feed, most=len(feed), good=(0, 1))
    return {path[2:] for path in said.split(b"\0") if path}


def _stream(git: Git, folder: AgentFolder, found: Found, changes: Changes) -> Iterator[bytes]:
    """The work as one commit on top of the prepared one, for git fast-import. https://git-scm.com/docs/git-fast-import"""
    yield f"commit {WORK}\ncommitter agent <> 0 +0000\ndata 0\nfrom {git.commit}\n".encode()
    for path in changes.deleted:
        yield b"D " + _quoted(path) + b"\n"
    for path in changes.sent:
        file = found.files[path]
        yield b"M %s inline %s\ndata %d\n" % (file.mode.encode(), _quoted(path), file.size)
        yield from folder.read(path, file)
        yield b"\n"
    yield b"done\n"


def _quoted(path: bytes) -> bytes:
    plain = b'"\\'
    return b'"%s"' % b"".join(b"%c" % one if 32 <= one < 127 and one not in plain else b"\\%03o" % one for one in path)


def _check_size(found: Found, changes: Changes, limit: int) -> None:
    if len(changes) > MOST_CHANGED:
        theirs(f"the diff is too large: {len(changes):,} files differ, and {MOST_CHANGED:,} may")
    size = sum(found.files[path].size for path in changes.sent)
    if size > TIMES * limit:
        theirs(
            f"the diff is too large: the files that differ have {_mb(size)}, and {_mb(TIMES * limit)} may; {_largest(found, changes)}"
        )


def _largest(found: Found, changes: Changes) -> str:
    sizes = sorted(((found.files[path].size, path) for path in changes.sent), reverse=True)[:3]
    return "the largest: " + ", ".join(f"{shown(path)} ({_mb(size)})" for size, path in sizes)


def _mb(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"


def write_diff(git: Git, folder: AgentFolder, found: Found, changes: Changes, file: Path, limit: int) -> dict[str, Any]:
    """Write the diff, whole or not at all; what is to be told of it. Raises Refused where it is too large."""
    _check_size(found, changes, limit)
    tree = git.commit
    chunks: Iterator[bytes] = iter(())
    if len(changes):
        git.run("fast-import", "--quiet", "--done", "--date-format=raw", feed=_stream(git, folder, found, changes))
        chunks, tree = git.read(*DIFF, git.commit, WORK, most=limit), WORK
    told = {"tree": git.run("rev-parse", "--verify", f"{tree}^{{tree}}").decode().strip()}
    digest, lines, size, last = hashlib.sha256(), 0, 0, b"\n"
    with whole(file) as out:
        try:
            for chunk in chunks:
                out.write(chunk)
                digest.update(chunk)
                lines, size, last = lines + chunk.count(b"\n"), size + len(chunk), chunk[-1:]
        except TooLarge:
            theirs(f"the diff is too large: it has more than {_mb(limit)}; {_largest(found, changes)}")
    return {**told, "diff_bytes": size, "diff_lines": lines + (last != b"\n"), "diff_sha256": digest.hexdigest()}


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Any]:
    """A file that is there when it is complete, in place of what was there."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _notes(folder: AgentFolder, found: Found, changes: Changes, given: Path | None, out: Path) -> str | None:
    """Keep what the agent wrote for people; where it lay, or why it isn't kept."""
    source, text = str(given), None
    try:
        if given is not None and os.path.lexists(given):
            text = disk.read_file(given, NOTES_BYTES)
        elif NOTES in changes.sent and found.files[NOTES].mode[:3] == "100":
            source = NOTES.decode()
            if found.files[NOTES].size > NOTES_BYTES:
                raise ValueError(f"is larger than {NOTES_BYTES} bytes")
            text = b"".join(folder.read(NOTES, found.files[NOTES]))
    except (OSError, ValueError) as error:
        return f"not kept: {shown(source)} {getattr(error, 'strerror', None) or error}"
    if text is None:
        (out / "notes.md").unlink(missing_ok=True)
        return None
    with whole(out / "notes.md") as file:
        file.write(text)
    return source


def _told(paths: list[bytes]) -> dict[str, Any]:
    return {"count": len(paths), "examples": [shown(path) for path in paths[:MOST_TOLD]]}


def make(
    base: Path, work: Path, out: Path, limit: int, notes: Path | None = None, below: str | None = None
) -> dict[str, Any]:
    """Write diff.patch, repo_info.json and, where the agent left some, notes.md into `out`; what repo_info.json says.

    limit: bytes of the diff; below: where temporary files go. Raises Refused with code 4 where the agent's work can't be taken, and
    Infrastructure.
    """
    if out.is_symlink():
        raise Infrastructure(f"{out} is a link: nothing is written there")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("diff.patch", "repo_info.json"):
        (out / name).unlink(missing_ok=True)
    with steps.scratch(below) as scratch, contextlib.closing(AgentFolder(work)) as folder:
        (scratch / "home").mkdir()
        git = Git(find(work), scratch / "git", base, scratch / "home")
        commit = listing(git)
        found = folder.look({path for path, (mode, _) in commit.items() if mode == MODULE})
        try:
            changes = compare(git, folder, found, commit)
            told = write_diff(git, folder, found, changes, out / "diff.patch", limit)
        except Failed as error:
            theirs(f"the diff can't be made: {error}")
        info = disk.read_json(base.parent / "repo_info.json") or {}
        info.update(base=git.commit, **told, added=len(changes.added), modified=len(changes.modified))
        info.update(deleted=len(changes.deleted), ignored=_told(changes.ignored), nested_git=_told(found.nested))
        left = [{"path": shown(path), "why": why} for path, why in sorted(found.left_out.items())]
        info.update(left_out={"count": len(left), "examples": left[:MOST_TOLD]}, agents_git=found.own_git)
        info["notes"] = _notes(folder, found, changes, notes, out)
    with whole(out / "repo_info.json") as file:
        file.write(json.dumps(info, indent=2).encode() + b"\n")
    return info


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m helpers.repositories.diff", description=__doc__.splitlines()[0])
    made.add_argument(
        "--base", type=Path, required=True, help="the prepared repository, bare, that the agent's copy was made of"
    )
    made.add_argument("--work", type=Path, required=True, help="the agent's folder")
    made.add_argument(
        "--out", type=Path, required=True, help="where diff.patch, repo_info.json and notes.md are written"
    )
    made.add_argument("--limit-mb", type=float, default=LIMIT_MB, help="of the diff (default: %(default)s)")
    made.add_argument("--notes", type=Path, help="the agent's notes, where not notes.md at the top of its folder")
    made.add_argument("--scratch", help="a folder for temporary files")
    return made


def main(argv: list[str] | None = None) -> int:
    """0; 3 where the infrastructure is to blame, 4 where the agent is, each with one line on stderr."""
    asked = parser().parse_args(argv)
    limit = int(asked.limit_mb * 2**20)
    return steps.launch(
        lambda: print(_said(make(asked.base, asked.work, asked.out, limit, asked.notes, asked.scratch)))
    )


def _said(info: dict[str, Any]) -> str:
    counts = f"{info['added']} files are new, {info['modified']} changed, {info['deleted']} gone"
    other = [f"{info[key]['count']} {words}" for key, words in OTHER.items() if info[key]["count"]]
    return "; ".join([f"the diff has {info['diff_lines']} lines: {counts}", *other])


if __name__ == "__main__":
    sys.exit(main())
