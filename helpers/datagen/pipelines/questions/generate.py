#!/usr/bin/env python3
"""Tasks of a file of questions: an agent writes the answer to a file, and the test compares it with the one that is expected.

Needs nothing but the checkout. SOURCE may be a jsonl, CSV or parquet file, or a folder of such files.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[4])

from helpers.datagen.pipelines import declared

NAME = "questions"
SOURCE = Path(__file__).with_name("examples.jsonl")
QUESTION, ANSWER = "question", "answer"  # columns; ANSWER = None: tasks without tests
SAMPLE = None  # so many of the rows; None: all
SEED = 0  # of the sample
LICENCE = "mit"
TARGET_REPO = None


def tasks() -> Path:
    """Make the tasks, in a folder."""
    from helpers.datagen import rows
    from helpers.datagen.commons import generate_tasks_from_questions
    from helpers.datagen.questions import as_tasks

    chosen = rows.sample(rows.read(SOURCE), SAMPLE, SEED)
    return generate_tasks_from_questions(as_tasks(chosen, question=QUESTION, answer=ANSWER, source=SOURCE.name), NAME)


def main(argv: Sequence[str] | None = None) -> int:
    return declared.run(
        __file__, __doc__, tasks, NAME, argv, target_repo=TARGET_REPO, source=SOURCE.name, licence=LICENCE
    )


if __name__ == "__main__":
    sys.exit(main())
