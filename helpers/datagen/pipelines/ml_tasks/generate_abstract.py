#!/usr/bin/env python3
"""Machine-learning tasks as generate.py makes them, of the templates, the number of variants and the seed that flags name.

Needs nothing but the checkout; a model only for traces. --input-dir is a folder of task definitions (*.json), by default templates/tasks.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[4])

from helpers.datagen import BaseDataGenerator, GenerationContext, GenerationRequest, GenerationResult
from helpers.datagen.pipelines.ml_tasks.generate import NAME, PER_IMAGE, SEED, TEMPLATES, VARIANTS
from helpers.datagen.utils import positive

SHARED = "so many variants of a template share an image, with the data of all of them"
GENERATOR = "ml_tasks/generate_abstract.py"


class MlTasks(BaseDataGenerator):
    """Variants of task templates."""

    parser_description = "Machine-learning tasks of templates: synthetic data, a hidden test set, a reward from 0 to 1."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument_group("ml_tasks").add_argument
        add("--templates", nargs="+", metavar="ID", help=f"those to use (default: {', '.join(TEMPLATES)})")
        add("--variants", type=positive, default=VARIANTS, metavar="N", help="of each template (default: %(default)s)")
        add("--per-image", type=positive, default=PER_IMAGE, metavar="N", help=f"{SHARED} (default: %(default)s)")
        add("--seed", type=int, default=SEED, metavar="N", help="of the data (default: %(default)s)")
        add("--dataset-prefix", default=NAME, metavar="NAME", help="tasks' folders begin with it")

    def run_task_generation(self, request: GenerationRequest, context: GenerationContext) -> GenerationResult:
        from helpers.datagen.commons import generate_tasks_from_questions
        from helpers.datagen.pipelines.ml_tasks.variants import questions
        from helpers.tasks.catalogue import TEMPLATES as FOLDER
        from helpers.tasks.catalogue import TaskRegistry

        args = context.args
        registry = TaskRegistry(request.input_dir or FOLDER)
        definitions = [registry.find(template) for template in self._templates(args, registry)]
        made = islice(questions(definitions, args.variants, args.seed, args.per_image), request.limit)
        prefix = args.dataset_prefix
        path = generate_tasks_from_questions(made, prefix, output_dir=context.temp_dir / prefix)
        return GenerationResult(str(path), metadata={"provenance": {"generator": GENERATOR}})

    def _templates(self, args: argparse.Namespace, registry: Any) -> list[str]:
        if args.templates or not args.input_dir:
            return args.templates or list(TEMPLATES)
        return sorted(task.id for task in registry.list_tasks() if task.has_data)


if __name__ == "__main__":
    sys.exit(MlTasks().main())
