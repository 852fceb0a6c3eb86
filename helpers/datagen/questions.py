"""Rows with a question and an answer each, as tasks: the answer goes into a file, which the test compares with what is expected."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.datagen.rows import Row
from helpers.datagen.schemas import InputValidationError
from helpers.rendering.render import TEMPLATES, environment

if TYPE_CHECKING:
    from helpers.datagen.engines import InferenceEngine

TEST = "test_answer.py"
SOLUTION = """\
#!/usr/bin/env bash
set -euo pipefail
printf '%s\\n' {answer} >/app/answer.txt
"""
REWORD = """\
Word this question anew, so that its answer stays the same: keep its numbers, names and what it quotes. Reply with the question alone.

{question}"""


def as_tasks(
    rows: Iterable[tuple[int, Row]],
    *,
    question: str = "question",
    answer: str | None = "answer",
    extract: Callable[[str], str] = str,
    **metadata: Any,
) -> Iterator[dict[str, Any]]:
    """Rows, with their numbers, as generate_tasks_from_questions takes them. question and answer: columns; without the latter, tasks have
    no tests. extract: takes what is to be written out of an answer's text. metadata: of all tasks; each has its row's number besides.

    Raises InputValidationError for a row that has none of these, or an empty one.
    """
    template = environment("datagen").get_template("question.md.j2")
    test = (TEMPLATES / "datagen" / TEST).read_text(encoding="utf-8")
    for number, row in rows:
        asked = _text(row, question, number)
        about = {**metadata, "row": number}
        if answer is None:
            yield {"instruction": f"{asked}\n", "metadata": about}
            continue
        expected = extract(_text(row, answer, number)).strip()
        if not expected:
            raise InputValidationError(f"row {number}: no answer is in {row[answer]!r:.100}")
        yield {
            "instruction": template.render(question=asked),
            "metadata": about,
            "solution": SOLUTION.format(answer=shlex.quote(expected)),
            "tests": {"test_state.py": test, "expected.txt": f"{expected}\n"},
        }


def reworded(
    rows: Iterable[tuple[int, Row]],
    engine: InferenceEngine,
    *,
    question: str = "question",
    answers: str | Path | None = None,
) -> Iterator[tuple[int, Row]]:
    """Rows whose questions a model has worded anew, in their order, once all are there. answers: as of InferenceEngine.generate_many.

    Raises InferenceFailure, and as `as_tasks`.
    """
    given = list(rows)
    prompts = [REWORD.format(question=_text(row, question, number)) for number, row in given]
    texts = dict(engine.generate_many(prompts, answers=answers))
    for place, (number, row) in enumerate(given):
        yield number, {**row, question: texts[place]}


def _text(row: Row, column: str, number: int) -> str:
    if column not in row:
        raise InputValidationError(f"row {number}: has no column {column!r}; there are: {', '.join(map(str, row))}")
    value = row[column]
    text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ""
    if not text.strip():
        raise InputValidationError(f"row {number}: {column}: wants a text or a number, not {value!r:.100}")
    return text.strip()
