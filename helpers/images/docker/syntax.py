"""The instructions of a Dockerfile: comments, parser directives, continued lines, flags, JSON lists and here-documents.

Own code, for want of a library: `dockerfile` (PyPI) is compiled Go, `dockerfile-parse` has had no release since 2023 and knows neither
here-documents nor ${A:-x}, and E2B's port of BuildKit's parser wants Python 3.11; the tests compare this one with it.
Source of the rules: https://docs.docker.com/reference/dockerfile/#format
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from helpers.images.docker import words

INSTRUCTIONS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR"
).split()
WITH_DOCUMENTS = ("ADD", "COPY", "RUN")
WITH_FLAGS = ("ADD", "COPY", "FROM", "HEALTHCHECK", "RUN")
_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(.+?)\s*", re.IGNORECASE)
_DOCUMENT = re.compile(r"(\d*)<<(-?)([^<]+)")
_SPACED = re.compile(r"(?<!\S)(\d*<<-?)[ \t]+(?=\S)")


class Fault(Exception):
    """Something in a line of a Dockerfile that can't be made an image of; `line` counts from 1."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Document:
    """A here-document. text: with the ends of its lines; expand: whether variables in it stand for their values."""

    name: str
    text: str
    expand: bool


@dataclass
class Instruction:
    """One instruction. rest: all behind its name and flags, lines joined; json: the same where it is a JSON list of strings."""

    line: int
    name: str
    rest: str
    flags: list[tuple[str, str]] = field(default_factory=list)
    json: list[str] | None = None
    documents: list[Document] = field(default_factory=list)


@dataclass
class Dockerfile:
    """What a Dockerfile says, in its order. escape: the character that escapes, a backslash most often."""

    instructions: list[Instruction]
    escape: str


def parse(text: str) -> Dockerfile:
    """The instructions of a Dockerfile. Raises Fault at the first line that can't be read."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str):
        self.lines = text.removeprefix("\ufeff").split("\n")
        self.at = 0
        self.escape = "\\"

    def parse(self) -> Dockerfile:
        self._directives()
        found = []
        while self.at < len(self.lines):
            number = self.at + 1
            if text := self._joined().strip():
                found.append(self._instruction(number, text))
        return Dockerfile(found, self.escape)

    def _directives(self) -> None:
        seen = set()
        while self.at < len(self.lines) and (match := _DIRECTIVE.fullmatch(self.lines[self.at].strip())):
            self.at += 1
            name = match[1].lower()
            if name in seen:
                raise Fault(self.at, f"a second directive # {name}=")
            seen.add(name)
            if name == "escape" and match[2] not in ("\\", "`"):
                raise Fault(self.at, f"# escape={match[2]}: only \\ and ` can escape")
            if name == "escape":
                self.escape = match[2]

    def _next(self) -> str:
        self.at += 1
        return self.lines[self.at - 1].rstrip("\r")

    def _joined(self) -> str:
        """A line with those that it goes on in, without the comments and empty lines between them."""
        line = self._next()
        if _is_comment(line):
            return ""
        token = re.escape(self.escape)
        continued = re.compile(rf"(^|[^{token}]){token}[ \t]*$")
        whole, more = continued.subn(r"\1", line)
        while more and self.at < len(self.lines):
            line = self._next()
            if _is_comment(line) or not line.strip():
                continue
            line, more = continued.subn(r"\1", line)
            whole += line
        return whole

    def _instruction(self, number: int, text: str) -> Instruction:
        name, _, rest = re.sub(r"[\t\v\f ]+", " ", text, count=1).partition(" ")
        made = Instruction(number, name.upper(), rest.strip())
        if made.name not in INSTRUCTIONS:
            raise Fault(number, f"unknown instruction {name}")
        if made.name in WITH_FLAGS:
            made.rest = self._flags(made.rest, made.flags)
        made.json = _json(number, made.rest)
        if made.name in WITH_DOCUMENTS and made.json is None and "<<" in made.rest:
            made.documents = [self._document(number, match) for match in self._heads(made.rest)]
        return made

    def _flags(self, rest: str, flags: list[tuple[str, str]]) -> str:
        while rest.startswith("--") and (found := words.split(rest, self.escape)):
            rest = rest[len(found[0]) :].lstrip()
            if found[0] == "--":
                break
            key, _, value = found[0][2:].partition("=")
            flags.append((key, re.sub("['\"]", "", value)))
        return rest

    def _heads(self, rest: str) -> list[re.Match[str]]:
        found = (_DOCUMENT.fullmatch(word) for word in words.split(_SPACED.sub(r"\1", rest), self.escape))
        return [match for match in found if match]

    def _document(self, number: int, match: re.Match[str]) -> Document:
        word = match[3]
        name = re.sub("['\"]", "", word)
        text = ""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if match[2]:
                line = line.lstrip("\t")
            if line.rstrip("\r") == name:
                return Document(name, text, expand=name == word)
            text += line + "\n"
        raise Fault(number, f"the here-document <<{word} is never closed by a line {name}")


def documents_in(text: str, escape: str) -> bool:
    """Whether a line is one here-document and nothing else, as in `RUN <<EOF`."""
    found = words.split(_SPACED.sub(r"\1", text), escape)
    return len(found) == 1 and _DOCUMENT.fullmatch(found[0]) is not None


def is_document(word: str) -> bool:
    """Whether a word begins a here-document."""
    return _DOCUMENT.fullmatch(word) is not None


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _json(number: int, rest: str) -> list[str] | None:
    if not rest.startswith("["):
        return None
    try:
        made = json.loads(rest)
    except ValueError:
        return None  # as Docker: words for a shell
    if not isinstance(made, list):
        return None
    if not all(isinstance(item, str) for item in made):
        raise Fault(number, "a JSON list holds strings only")
    return made
