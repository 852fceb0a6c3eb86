"""Patterns of paths: those of a .dockerignore, and the wildcards of COPY.

Source of the rules: https://docs.docker.com/build/concepts/context/#dockerignore-files, and Go's filepath.Match, which both name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path


class Ignored:
    """What a .dockerignore leaves out of a context; the last pattern that fits decides."""

    def __init__(self, text: str = ""):
        self._patterns = list(_patterns(text))
        self.has_exceptions = any(kept for kept, _ in self._patterns)

    @classmethod
    def of(cls, dockerfile: Path, context: Path) -> Ignored:
        """<Dockerfile>.dockerignore beside the Dockerfile, else .dockerignore of the context. Raises OSError, ValueError."""
        for path in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), context / ".dockerignore"):
            if path.is_file():
                try:
                    return cls(path.read_text(encoding="utf-8-sig"))
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from None
        return cls()

    def __contains__(self, path: str) -> bool:
        """Whether a path, relative to the context, is left out: it, or a folder that it lies in."""
        out = False
        parts = path.split("/")
        heads = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
        for kept, pattern in self._patterns:
            if out == kept and any(pattern.fullmatch(head) for head in heads):
                out = not kept
        return out


def _patterns(text: str) -> Iterator[tuple[bool, re.Pattern[str]]]:
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        kept = pattern.startswith("!")
        pattern = posixpath.normpath(pattern[kept:].strip()).lstrip("/")
        if pattern != ".":
            yield kept, compiled(pattern, folders=True)


def has_wildcard(text: str) -> bool:
    """Whether a source of COPY names more than one path."""
    return any(letter in text for letter in "*?[")


def compiled(pattern: str, *, folders: bool = False) -> re.Pattern[str]:
    """A pattern as a regular expression for whole paths. folders: ** stands for any number of folders. Raises ValueError."""
    made, at = "", 0
    while at < len(pattern):
        rest = pattern[at:]
        if folders and rest.startswith("**"):
            at += 3 if rest.startswith("**/") else 2
            made += "(?:.*/)?" if at < len(pattern) else ".*"
            continue
        if group := re.match(r"\[\^?(?:\\.|[^\]\\])+\]", rest, re.DOTALL):
            # what Python's classes may come to mean
            made += "[" + re.sub(r"\\.|([\[&|~])", lambda part: f"\\{part[1]}" if part[1] else part[0], group[0][1:])
            at += len(group[0])
            continue
        letter = rest[0]
        if letter == "[" or (letter == "\\" and len(rest) == 1):
            raise ValueError(f"the pattern {pattern} is broken at '{rest}'")
        if letter == "\\":
            at += 1
            letter = f"\\{rest[1]}"
        made += {"*": "[^/]*", "?": "[^/]"}.get(letter) or re.escape(letter[-1])
        at += 1
    try:
        return re.compile(made, re.DOTALL)
    except re.error as error:
        raise ValueError(f"the pattern {pattern} is broken: {error}") from None
