#!/usr/bin/env python3
"""Tasks of a file of questions as generate.py makes them, of the file and the columns that flags name.

Needs nothing but the checkout; a model (--model, --engine) for --reword, and for traces.
--input-dir is a jsonl, CSV or parquet file, or a folder of such files.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[4])

from helpers.datagen import (
    BaseDataGenerator,
    GenerationContext,
    GenerationRequest,
    GenerationResult,
    InputValidationError,
)
from helpers.datagen.pipelines.questions.generate import ANSWER, NAME, QUESTION, SAMPLE, SEED, SOURCE
from helpers.datagen.utils import positive

GENERATOR = "questions/generate_abstract.py"


class Questions(BaseDataGenerator):
    """A task for each question."""

    parser_description = "Tasks of a file of questions, whose answers are compared with the ones that are expected."
    default_input_dir = str(SOURCE)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument_group("questions").add_argument
        add("--question-column", default=QUESTION, metavar="NAME", help="(default: %(default)s)")
        add("--answer-column", default=ANSWER, metavar="NAME", help="'' for tasks without tests (default: %(default)s)")
        add("--sample", type=positive, default=SAMPLE, metavar="N", help="so many of the rows, drawn by --seed")
        add("--seed", type=int, default=SEED, metavar="N", help="of the sample (default: %(default)s)")
        add(
            "--reword",
            metavar="FILE",
            help="have the model word the questions anew; FILE keeps what it said, for a run that goes on",
        )
        add("--dataset-prefix", default=NAME, metavar="NAME", help="tasks' folders begin with it")

    def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> GenerationResult:
        from helpers.datagen import rows
        from helpers.datagen.commons import generate_tasks_from_questions
        from helpers.datagen.questions import as_tasks, reworded

        args, source = context.args, Path(request.input_dir or SOURCE).resolve()
        chosen = islice(rows.sample(rows.read(source), args.sample, args.seed), request.limit)
        about: dict[str, Any] = {"source": source.name, "generator": GENERATOR}
        if args.reword:
            if context.engine is None:
                raise InputValidationError("--reword needs a model: name one with --model or --engine")
            chosen = reworded(chosen, context.engine, question=args.question_column, answers=args.reword)
            about["models"] = {context.engine.model: None}
        made = as_tasks(chosen, question=args.question_column, answer=args.answer_column or None, source=source.name)
        prefix = args.dataset_prefix
        path = generate_tasks_from_questions(made, prefix, output_dir=context.temp_dir / prefix)
        return GenerationResult(str(path), metadata={"provenance": about})


if __name__ == "__main__":
    sys.exit(Questions().main())
