#!/usr/bin/env python3
"""Tasks of a dataset on the Hugging Face Hub at one commit: here a sample of GSM8K, whose answers are numbers.

Needs the internet (HF_ENDPOINT for a mirror), and HF_TOKEN for a dataset that isn't public. For another dataset change what is in
capitals below: FILES are the names of its parquet, jsonl or CSV files there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[4])

from helpers.datagen.pipelines import declared

NAME = "gsm8k"
DATASET, REVISION = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"
FILES = "main/train-*.parquet"
QUESTION, ANSWER = "question", "answer"  # columns
SAMPLE, SEED = 100, 0
LICENCE = "mit"
TARGET_REPO = None


def extract(answer: str) -> str:
    """The number of an answer: it stands after ####, behind the way to it."""
    return answer.rpartition("####")[2].replace(",", "")


def tasks() -> Path:
    """Make the tasks, in a folder."""
    from helpers.datagen import hub, rows
    from helpers.datagen.commons import generate_tasks_from_questions
    from helpers.datagen.questions import as_tasks

    found = hub.download(DATASET, REVISION, patterns=[FILES])
    chosen = rows.sample(rows.read_all(found.path.glob(FILES), f"{DATASET}, {FILES}"), SAMPLE, SEED)
    about = {"source": DATASET, "revision": found.commit}
    return generate_tasks_from_questions(
        as_tasks(chosen, question=QUESTION, answer=ANSWER, extract=extract, **about), NAME
    )


def main(argv: Sequence[str] | None = None) -> int:
    source = {"source": DATASET, "source_revision": REVISION, "licence": LICENCE}
    return declared.run(__file__, __doc__, tasks, NAME, argv, target_repo=TARGET_REPO, **source)


if __name__ == "__main__":
    sys.exit(main())
