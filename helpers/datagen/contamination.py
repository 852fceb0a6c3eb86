"""Whether a text overlaps with instructions that no model may have been trained on, those of a benchmark.

The measure is that of T. Brown et al., Language Models are Few-Shot Learners (2020), https://arxiv.org/abs/2005.14165, appendix C: a run of
13 words that both have, whatever their case and punctuation. An instruction of fewer words is looked for as a whole.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from helpers.lib import disk
from helpers.lib.errors import Refused

WORDS = 13
SHORTEST = 40  # characters: a shorter instruction is met by chance, so all of a text must be it
LARGEST = 256 * 2**20  # bytes of a list
KEYS = (
    "instruction",
    "question",
    "prompt",
    "problem_statement",
    "text",
)  # that may hold an instruction in a line of JSON
FILES = ("instruction.md", "description.md")  # in the folder of a task
_PUNCTUATION = re.compile(r"[^\w\s]")


def normalised(text: str) -> list[str]:
    """The words between white space of a text, in lower case and without punctuation (Unicode's NFKC, case folded)."""
    return _PUNCTUATION.sub("", unicodedata.normalize("NFKC", text).casefold()).split()


class Instructions:
    """Instructions to keep apart from. words: how many in a row make an overlap."""

    def __init__(self, texts: Iterable[str], words: int = WORDS) -> None:
        self.words = words
        self._whole: set[str] = set()
        self._short: set[str] = set()
        self._runs: set[str] = set()
        for text in texts:
            own = normalised(text)
            joined = " ".join(own)
            if not own:
                continue
            self._whole.add(joined)
            if len(own) >= words:
                self._runs.update(_runs(own, words))
            elif len(joined) >= SHORTEST:
                self._short.add(f" {joined} ")
        self.overlaps = lru_cache(maxsize=4096)(self._overlaps)  # many runs are of one task

    def __len__(self) -> int:
        return len(self._whole)

    def _overlaps(self, text: str) -> bool:
        own = normalised(text)
        joined = " ".join(own)
        if joined in self._whole or any(run in self._runs for run in _runs(own, self.words)):
            return True
        padded = f" {joined} "
        return any(short in padded for short in self._short)


def _runs(words: list[str], count: int) -> Iterator[str]:
    return (" ".join(words[at : at + count]) for at in range(len(words) - count + 1))


def read(paths: Iterable[Path]) -> list[str]:
    """The instructions in files and folders. Raises Refused.

    A file in .jsonl or .json has texts, or objects with one of KEYS; any other has one a line. A folder has tasks, with one of FILES each.
    """
    found: list[str] = []
    for path in paths:
        try:
            texts = list(_of_folder(path) if path.is_dir() else _of_file(path))
        except OSError as error:
            raise Refused(f"{path}: the list of instructions can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise Refused(f"{path}: the list of instructions can't be read: {error}") from None
        if not any(map(normalised, texts)):
            raise Refused(
                f"{path} holds no instruction to keep apart from: give a file with one a line, JSON, or a folder of tasks"
            )
        found += texts
    return found


def _of_folder(folder: Path) -> Iterator[str]:
    for name in FILES:
        for path in sorted(folder.rglob(name)):
            yield disk.decoded(disk.read_file(path))[0]


def _of_file(path: Path) -> Iterator[str]:
    text = disk.decoded(disk.read_file(path.resolve(), LARGEST))[0]
    if path.suffix == ".json":
        listed = json.loads(text)
        if not isinstance(listed, list):
            raise ValueError("it is no list")
        yield from map(_instruction, listed)
        return
    for line in text.splitlines():
        if line.strip():
            yield _instruction(json.loads(line)) if path.suffix == ".jsonl" else line


def _instruction(told: object) -> str:
    if isinstance(told, str):
        return told
    if isinstance(told, dict):
        for key in KEYS:
            if isinstance(text := told.get(key), str):
                return text
    raise ValueError(f"an entry is neither a text nor an object with one of {', '.join(KEYS)}")
