"""Words of a Dockerfile: quotes, escapes and variables, by the rules of BuildKit's own lexer, which are nearly those of a shell.

A word is read once, and then either evaluated, or written as an expression for a shell where a variable's value is known only
while the image is built (PATH of the base image, say).
Source of the rules: https://docs.docker.com/reference/dockerfile/#environment-replacement
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = "@*#?-$!"  # parameters of a shell, which are never set here, as those that are numbers
_OPERATOR = re.compile(r":[-+?]|[-+?]|##?|%%?|//?")
_PLAIN = re.compile(r"[\w@+=:,./-]+", re.ASCII)
PATTERNS = ("#", "##", "%", "%%", "/", "//")


@dataclass(frozen=True)
class Variable:
    """$name, ${name}, or ${name<operator>word}; replacement: of ${name/word/replacement}."""

    name: str
    operator: str = ""
    word: Word = ()
    replacement: Word = ()


Word = tuple["str | Variable", ...]
# What a variable is; None: unset. Raises NotKnown.
Lookup = Callable[[str], "str | None"]


class NotKnown(Exception):
    """The value of this variable is known only while the image is built."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


@functools.cache
def _splitter(escape: str) -> re.Pattern[str]:
    token = re.escape(escape)
    return re.compile(rf"""(?:{token}.|'[^']*'?|"(?:{token}.|[^"{token}])*"?|[^\s'"{token}])+""", re.DOTALL)


def split(text: str, escape: str) -> list[str]:
    """The words of a line, with their quotes and escapes."""
    return _splitter(escape).findall(text)


def read(text: str, escape: str, *, quotes: bool = True) -> Word:
    """A word (or a whole text: blanks don't end it) in its parts. quotes=False: quotes are letters like others. Raises ValueError."""
    return _Reader(text, escape, quotes).word("")


class _Reader:
    def __init__(self, text: str, escape: str, quotes: bool):
        self.text, self.escape, self.quotes, self.at = text, escape, quotes, 0

    def word(self, end: str, raw: bool = False) -> Word:
        """What comes up to the character `end`, which is taken too. raw: escapes stay, as in patterns."""
        parts: list[str | Variable] = []
        while self.at < len(self.text):
            letter = self._next()
            if letter == end:
                return _joined(parts)
            if letter == "$":
                parts.append(self._variable())
            elif self.quotes and letter == "'":
                parts.append(self._until_quote())
            elif self.quotes and letter == '"':
                parts += self._double_quoted()
            elif letter == self.escape:
                parts += [letter * raw, self._next()]
            else:
                parts.append(letter)
        if end:
            raise ValueError(f"{self.text}: there is no closing '{end}'")
        return _joined(parts)

    def _next(self) -> str:
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def _until_quote(self) -> str:
        inside, quote, _ = self.text[self.at :].partition("'")
        if not quote:
            raise ValueError(f"{self.text}: a single quote is never closed")
        self.at += len(inside) + 1
        return inside

    def _double_quoted(self) -> list[str | Variable]:
        parts: list[str | Variable] = []
        while letter := self._next():
            if letter == '"':
                return parts
            if letter == "$":
                parts.append(self._variable())
                continue
            if letter == self.escape and self.text[self.at : self.at + 1] in ('"', "$", self.escape):
                letter = self._next()
            parts.append(letter)
        raise ValueError(f"{self.text}: a double quote is never closed")

    def _variable(self) -> str | Variable:
        braces = self.text[self.at : self.at + 1] == "{"
        name = _name_at(self.text, self.at + braces)
        if not name:
            if braces:
                raise ValueError(f"{self.text}: there is no name after '${{'")
            return "$"
        self.at += braces + len(name)
        if not braces:
            return Variable(name)
        if self.text[self.at : self.at + 1] == "}":
            self.at += 1
            return Variable(name)
        operator = _OPERATOR.match(self.text, self.at)
        if operator is None:
            raise ValueError(f"{self.text}: ${{{name}… is neither closed, nor is there an operator that is known")
        self.at = operator.end()
        return self._with_operator(name, operator[0])

    def _with_operator(self, name: str, operator: str) -> Variable:
        if operator in ("/", "//"):
            pattern = self.word("/", raw=True)
            return Variable(name, operator, pattern, self.word("}", raw=True))
        return Variable(name, operator, self.word("}", raw=operator in PATTERNS))


def _name_at(text: str, at: int) -> str:
    """The name of the variable that begins there; letters and digits of all scripts are part of it, as in Docker's processName."""
    if text[at : at + 1] in _SPECIAL:
        return text[at : at + 1]
    digits_alone = text[at : at + 1].isdecimal()
    letters = itertools.takewhile(
        lambda one: one.isdecimal() or not digits_alone and (one.isalpha() or one == "_"), text[at:]
    )
    return "".join(letters)


def _joined(parts: list[str | Variable]) -> Word:
    word: list[str | Variable] = []
    for part in parts:
        if isinstance(part, str) and word and isinstance(word[-1], str):
            word[-1] += part
        elif part:
            word.append(part)
    return tuple(word)


def evaluate(word: Word, lookup: Lookup) -> str:
    """The text that a word stands for. Raises NotKnown, and ValueError for ${name:?message} and broken patterns."""
    return "".join(part if isinstance(part, str) else _value(part, lookup) for part in word)


def _value(variable: Variable, lookup: Lookup) -> str:
    value = lookup(variable.name)
    operator = variable.operator
    unset = value is None or (operator.startswith(":") and not value)
    if operator.endswith("-"):
        return evaluate(variable.word, lookup) if unset else value or ""
    if operator.endswith("+"):
        return "" if unset else evaluate(variable.word, lookup)
    if operator.endswith("?") and unset:
        raise ValueError(f"{variable.name}: {evaluate(variable.word, lookup) or 'it must be set'}")
    if operator not in PATTERNS:
        return value or ""
    pattern = evaluate(variable.word, lookup)
    if operator.startswith("/"):
        replacement = evaluate(variable.replacement, lookup)
        return _pattern(pattern, True).sub(lambda _: replacement, value or "", count=operator == "/")
    longest = len(operator) == 2
    if operator.startswith("#"):
        found = _pattern(pattern, longest).match(value or "")
        return (value or "")[found.end() :] if found else value or ""
    return _without_end(value or "", _pattern(pattern, longest), longest)


def _without_end(value: str, pattern: re.Pattern[str], longest: bool) -> str:
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    return next((value[:start] for start in starts if pattern.fullmatch(value, start)), value)


@functools.cache
def _pattern(text: str, longest: bool) -> re.Pattern[str]:
    """Docker's patterns know * and ? and no brackets."""
    made = ""
    for found in re.finditer(r"\\(.?)|(.)", text, re.DOTALL):
        escaped, letter = found[1], found[2]
        if letter:
            made += {"*": ".*" if longest else ".*?", "?": "."}.get(letter, re.escape(letter))
        elif escaped and escaped in "*?\\}/":
            made += re.escape(escaped)
        else:
            raise ValueError(f"{text}: a pattern can't escape {escaped!r}")
    return re.compile(made, re.DOTALL)


def shell(word: Word, lookup: Lookup) -> str:
    """A word as the right side of a shell's assignment (elsewhere it would be split). What is known stands in it as it is.

    Raises ValueError for what no POSIX shell can do.
    """
    return "".join(quoted(part) if isinstance(part, str) else _expression(part, lookup) for part in word) or "''"


def _expression(variable: Variable, lookup: Lookup) -> str:
    try:
        return quoted(_value(variable, lookup))
    except NotKnown:
        pass
    if variable.operator in PATTERNS:
        raise ValueError(
            f"${{{variable.name}{variable.operator}…}}: patterns work on variables whose value stands in the Dockerfile"
        )
    name = variable.name if NAME.fullmatch(variable.name) else "HAB_NEVER_SET"
    inner = shell(variable.word, lookup) if variable.word else ""
    return f"${{{name}{variable.operator}{inner}}}"


def quoted(text: str) -> str:
    """A text for a shell in a definition, where it must hold no {{ (its own templates) and no line that begins with % (a section)."""
    if _PLAIN.fullmatch(text):
        return text
    inside = text.replace("'", "'\"'\"'").replace("{{", "{''{").replace("{{", "{''{")
    return "'" + re.sub(r"^([ \t]*)%", r"\1''%", inside, flags=re.MULTILINE) + "'"
