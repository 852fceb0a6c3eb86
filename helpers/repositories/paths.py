"""What a path in an override may be, and what a pattern of paths means. Needs nothing but Python.

A path counts from the top of the repository, `/` between its parts. A pattern is one of

    name, folder/name     this file, or this folder with all that is in it
    folder/               this folder only
    *.log                 without a `/` before its end, a pattern with *, ? or [] is looked for in every folder
    temp/*, docs/**/*.md  with one, it counts from the top; ** stands for any number of folders

Hidden names are names as all others, for * too.
"""

from __future__ import annotations

import fnmatch
import re

MOST_BYTES, MOST_BYTES_OF_A_NAME = 4000, 255  # of Linux's file systems (limits.h: PATH_MAX, NAME_MAX)
GLOB = re.compile(r"[*?[]")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# characters that HFS+ doesn't see in a name (git's utf8.c: next_hfs_char)
UNSEEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def is_git(name: str) -> bool:
    """Whether some file system takes a name for `.git`: in capitals, with a dot or a space behind it, by its short name."""
    seen = UNSEEN.sub("", name).casefold().partition(":")[0].rstrip(". ")
    return seen in (".git", "git~1")


def unfit(path: str) -> str | None:
    """Why a path can't be one of a file in a repository, in a few words; None where it can."""
    if not path:
        return "is empty"
    if CONTROL.search(path):
        return "holds a control character"
    if path.startswith("/"):
        return "is absolute: it must count from the top of the repository"
    if "\\" in path:
        return "holds a backslash: write / between folders"
    return _unfit_parts(path)


def _unfit_parts(path: str) -> str | None:
    parts = path.split("/")
    if ".." in parts:
        return "holds `..`: it must not leave the repository"
    if "" in parts or "." in parts:
        return "has an empty part, or `.`: write it without"
    if any(map(is_git, parts)):
        return "holds `.git`, which is not the task's"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    if max(sizes) > MOST_BYTES_OF_A_NAME or sum(sizes) + len(sizes) > MOST_BYTES:
        return f"is too long: at most {MOST_BYTES_OF_A_NAME} bytes a name, {MOST_BYTES} in all"
    return None


def unfit_pattern(pattern: str) -> str | None:
    """Why a pattern can't be one of paths in a repository, in a few words; None where it can."""
    return unfit(pattern[:-1] if len(pattern) > 1 and pattern.endswith("/") else pattern)


class Pattern:
    """A pattern that is fit."""

    def __init__(self, text: str):
        self.text = text
        self._folder_only = text.endswith("/")
        self._parts = tuple(text.rstrip("/").split("/"))
        if len(self._parts) == 1 and GLOB.search(text):
            self._parts = ("**", *self._parts)

    def matches(self, path: str, is_folder: bool = False) -> bool:
        """Whether a path is meant, itself or as part of a folder. is_folder: it is one (a submodule)."""
        parts = path.split("/")
        reached = self._with_none_for_many({0})
        for number, part in enumerate(parts, 1):
            is_file = number == len(parts) and not is_folder
            if self._folder_only and is_file:
                return False
            reached = self._with_none_for_many({at for one in reached for at in self._after(one, part)})
            if len(self._parts) in reached:
                return True  # what is left of the path lies in the folder that is meant
        return False

    def _after(self, at: int, part: str) -> tuple[int, ...]:
        """How far in the pattern one more part of a path may lead from here."""
        wanted = self._parts[at]
        if wanted == "**":
            return (at, at + 1) if at + 1 == len(self._parts) else (at,)
        return (at + 1,) if part == wanted or GLOB.search(wanted) and fnmatch.fnmatchcase(part, wanted) else ()

    def _with_none_for_many(self, reached: set[int]) -> set[int]:
        # ** may stand for no folder, but for what is in one where it comes last
        for at in sorted(reached):
            while at + 1 < len(self._parts) and self._parts[at] == "**":
                at += 1
                reached.add(at)
        return reached
