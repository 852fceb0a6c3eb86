"""A fresh work tree of a prepared repository, with an agent's diff applied or without: files as they are stored, a `.git` of ours.

The diff is applied to git's index, where no link can lead astray, and the files are laid out from there into an empty folder: so what
comes out is what the diff was made of, to the byte. No attribute converts line ends, and no filter runs. `.git` holds the prepared
commit on branch `task`; the diff is staged. Nothing in it points elsewhere, so it works where the prepared repository isn't seen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers.lib import disk
from helpers.lib.errors import Infrastructure, Refused
from helpers.repositories import steps
from helpers.repositories.git import Failed, Git, find
from helpers.repositories.steps import shown, theirs

LARGEST = 1 << 30  # bytes of a diff; whoever makes one bounds it


def make(base: Path, out: Path, diff: Path | None = None, tree: str | None = None, below: str | None = None) -> None:
    """Lay out a work tree in `out`, which is made, or is empty.

    tree: what has to come out, as repo_info.json tells it; below: where temporary files go. Raises Refused with code 4 where the diff
    doesn't apply, with code 2 where `out` holds something; and Infrastructure.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise Refused(f"{out} isn't empty: a work tree is made in a new folder")
    with steps.scratch(below) as scratch:
        git = Git(find(out), out / ".git", base, scratch)
        git.stand_alone()
        git.run("read-tree", git.commit)
        if diff is not None:
            _apply(git, diff)
        if tree and git.run("write-tree").decode().strip() != tree:
            theirs("the diff doesn't apply: something else comes out of it than it was made of")
        git.run("checkout-index", "--all", "--quiet", "--index", tree=out)


def _apply(git: Git, diff: Path) -> None:
    try:
        patch = disk.read_file(diff, LARGEST)
    except ValueError as error:
        theirs(f"{shown(diff)} {error}")
    if not patch:
        return
    try:
        git.run("apply", "--cached", "--whitespace=nowarn", "-p1", "-", feed=patch)
    except Failed as error:
        theirs(f"the diff doesn't apply: {error}")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m helpers.repositories.checkout", description=__doc__.splitlines()[0])
    made.add_argument("--base", type=Path, required=True, help="the prepared repository, bare")
    made.add_argument("--out", type=Path, required=True, help="the folder that is made; it may be there, and empty")
    made.add_argument("--diff", type=Path, help="a diff against it")
    made.add_argument("--info", type=Path, help="the repo_info.json beside the diff: what has to come out is checked")
    made.add_argument("--scratch", help="a folder for temporary files")
    return made


def main(argv: list[str] | None = None) -> int:
    """0; 2 where the folder isn't empty, 3 where the infrastructure is to blame, 4 where the diff doesn't apply, each with one line."""
    asked = parser().parse_args(argv)
    return steps.launch(lambda: make(asked.base, asked.out, asked.diff, _tree(asked.info), asked.scratch))


def _tree(info: Path | None) -> str | None:
    if info is None:
        return None
    tree = (disk.read_json(info) or {}).get("tree")
    if not isinstance(tree, str):
        raise Infrastructure(f"{info} doesn't tell the tree of the diff")
    return tree


if __name__ == "__main__":
    sys.exit(main())
