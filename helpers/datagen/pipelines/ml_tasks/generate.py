#!/usr/bin/env python3
"""Machine-learning tasks of this project's templates: synthetic data, a hidden test set, and a reward from 0 to 1.

Needs nothing but the checkout. Who trains on such tasks takes another SEED, which is nobody else's: the labels follow from it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[4])

from helpers.datagen.pipelines import declared

NAME = "ml-tasks"
# of templates/tasks, without data_analysis_exploratory, whose point is a report, and deep_learning_image_classification: 15 MB a task
TEMPLATES = (
    "classification_basic",
    "clustering_basic",
    "imbalanced_classification",
    "missing_values_classification",
    "multi_modal_classification",
    "regression_basic",
    "text_classification_basic",
    "time_series_forecasting",
)
VARIANTS = 2  # of each template
PER_IMAGE = 1  # so many variants of a template share an image, with the data of all of them
SEED = 20250101
TARGET_REPO = None


def tasks() -> Path:
    """Make the tasks, in a folder."""
    from helpers.datagen.commons import generate_tasks_from_questions
    from helpers.datagen.pipelines.ml_tasks.variants import questions
    from helpers.tasks.catalogue import TEMPLATES as FOLDER
    from helpers.tasks.catalogue import TaskRegistry

    registry = TaskRegistry(FOLDER)
    definitions = [registry.find(template) for template in TEMPLATES]
    return generate_tasks_from_questions(questions(definitions, VARIANTS, SEED, PER_IMAGE), NAME)


def main(argv: Sequence[str] | None = None) -> int:
    return declared.run(__file__, __doc__, tasks, NAME, argv, target_repo=TARGET_REPO)


if __name__ == "__main__":
    sys.exit(main())
