"""Variants of task templates as tasks in Harbor's format: the public half in the image, the answers and their grader among the tests."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.lib.checkout import ROOT
from helpers.lib.errors import ConfigError
from helpers.tasks.definitions import Task

if TYPE_CHECKING:
    from helpers.grading.metrics import Metric
    from helpers.tasks.synthetic.dataset import Dataset

IMAGE = "environment/"
SAMPLE = "public/sample_submission.csv"
LEEWAY = 0.999  # of the way from the guess to the baseline, which is not the same to the last digit everywhere
# what the container's score_submission.py imports
GRADER = (
    "helpers/__init__.py",
    *(f"helpers/grading/{name}.py" for name in ("__init__", "metrics", "own_task", "report")),
    *(f"helpers/runs/{name}.py" for name in ("__init__", "columns")),
)
SCORER = ROOT / "templates" / "datagen" / "score_submission.py"
DOCKERFILE = """\
FROM python:3.12-slim-bookworm

RUN pip install --no-cache-dir numpy==2.2.6 pandas==2.2.3 scikit-learn==1.6.1

WORKDIR /app

COPY data/ /app/data/
"""
TEST = """\
#!/usr/bin/env bash
# Scores /app/submission.csv: the reward is a number from 0 to 1. Nothing in the agent's folder stands in for what this imports.
set -euo pipefail
mkdir -p /logs/verifier
exec python3 -I -B /tests/score_submission.py /app/submission.csv /logs/verifier/reward.txt
"""
SOLUTION = """\
#!/usr/bin/env bash
# Hands in what a linear model predicts (k-means for groups): helpers/tasks/synthetic/reference.py made it.
set -euo pipefail
cp "$(dirname "${BASH_SOURCE[0]}")/submission.csv" /app/submission.csv
"""
WHERE = """
## Where
The files are in `/app/{place}`. Write the submission to `/app/submission.csv`. Python has NumPy, pandas and scikit-learn.

The reward is 1 for {bars}, 0 for a guess as in `sample_submission.csv` or a file that can't be graded, and in between in proportion.
"""


def questions(definitions: Sequence[Task], variants: int, seed: int, per_image: int = 1) -> Iterator[dict[str, Any]]:
    """Each template's variants, template by template, as generate_tasks_from_questions takes them. Raises ConfigError and OSError.

    The same templates and seed give the same bytes. per_image: so many variants of a template have their data in one image, which is built
    once for them; an agent sees the public halves of all of them, and each task holds them.
    """
    for task in definitions:
        for first in range(0, variants, per_image):
            numbers = range(first, min(first + per_image, variants))
            made = [variant(task, number, seed, f"data/{number}" if per_image > 1 else "data") for number in numbers]
            shared = {name: data for one in made for name, data in one["files"].items() if name.startswith(IMAGE)}
            for one in made:
                one["files"].update(shared)
            yield from made


def variant(task: Task, number: int, seed: int, place: str = "data") -> dict[str, Any]:
    """One variant of a template, whose data lie in the folder `place` of /app. Raises ConfigError and OSError."""
    from helpers.tasks.synthetic import prepare

    if not task.has_data:
        raise ConfigError([f"task {task.id}: it has no data, and so nothing that could be scored."])
    drawn = _seed(task.id, number, seed)
    with tempfile.TemporaryDirectory(prefix="hab-datagen-") as temporary:
        folder = Path(temporary, "prepared")
        dataset = prepare.write(_scored_alone(task), folder, drawn)
        public = {path.name: path.read_bytes() for path in sorted((folder / "public").iterdir())}
        solution, settings = _judged(task, folder, dataset)
        answers = (folder / "private" / "answers.csv").read_bytes()
    where = WHERE.format(place=place, bars=_told(settings["bars"]))
    return {
        "instruction": public.pop("description.md").decode() + where,
        "metadata": {"template": task.id, "variant": number, "seed": seed, "difficulty": task.difficulty},
        "dockerfile": DOCKERFILE,
        "agent_timeout_sec": float(task.evaluation_criteria.max_training_time or task.estimated_time),
        "solution": SOLUTION,
        "tests": _tests(answers, settings),
        "files": {"solution/submission.csv": solution, **{f"{IMAGE}{place}/{name}": public[name] for name in public}},
    }


def _tests(answers: bytes, settings: dict[str, Any]) -> dict[str, str | bytes]:
    return {
        "test.sh": TEST,
        SCORER.name: SCORER.read_bytes(),
        "task/answers.csv": answers,
        "task/grading.json": json.dumps(settings, indent=2) + "\n",
        **{name: (ROOT / name).read_bytes() for name in GRADER},
    }


def _seed(task: str, number: int, seed: int) -> int:
    """One that nobody finds by trying: labels could be made again of it (helpers/tasks/synthetic/prepare.py)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{task}/{number}".encode()).digest()[:16], "big")


def _scored_alone(task: Task) -> Task:
    """The same task, which asks for a submission alone: other files would be asked for and not looked at."""
    others = [name for name in task.evaluation_criteria.required_outputs if name != "submission.csv"]
    none = dict.fromkeys(("required_visualizations", "required_insights", "expected_clusters", "max_training_time"))
    criteria = task.evaluation_criteria.model_copy(update={**none, "required_outputs": []})
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", task.instructions)
    kept = [text for text in sentences if not any(fnmatch(name, other) for name in _files(text) for other in others)]
    return task.model_copy(update={"evaluation_criteria": criteria, "instructions": " ".join(kept)})


def _files(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _judged(task: Task, folder: Path, dataset: Dataset) -> tuple[bytes, dict[str, Any]]:
    """The baseline's submission, and grading.json with the bars: each metric's guess, and what takes the full reward."""
    import pandas as pd

    from helpers.grading.metrics import get_metric
    from helpers.grading.own_task import OwnTask
    from helpers.tasks.synthetic import reference
    from helpers.tasks.synthetic.dataset import ID, TARGET

    ids = range(len(dataset.train), len(dataset.target))
    predicted = [_short(value) for value in reference.baseline(dataset).tolist()]
    solution = pd.DataFrame({ID: ids, TARGET: predicted}).to_csv(index=False, lineterminator="\n")
    private = folder / "private"
    grader = OwnTask(task.id, private)
    (folder / "solution.csv").write_text(solution, encoding="utf-8")
    bounds = {metric: bound for metric, _, bound in task.evaluation_criteria.bounds.values()}
    settings = json.loads((private / "grading.json").read_text(encoding="utf-8"))
    settings["bars"] = [
        _bar(
            task,
            metric,
            bounds.get(metric.name),
            *(metric.score(*grader.parsed(folder / file, metric)) for file in (SAMPLE, "solution.csv")),
        )
        for metric in map(get_metric, bounds or [grader.metric.name])
    ]
    return solution.encode(), settings


def _bar(task: Task, metric: Metric, asked: float | None, guess: float, solved: float) -> dict[str, Any]:
    """A metric's guess, and what takes the full reward: what its template asks, or just less than the baseline has."""
    bar = guess + LEEWAY * (solved - guess) if asked is None else asked
    sign = -1 if metric.is_lower_better else 1
    if not sign * bar > sign * guess:
        said = f"a guess has {guess:.5g}, and {bar:.5g} is asked: ask for more."
    elif not sign * solved >= sign * bar:
        said = f"its baseline has {solved:.5g}, and {bar:.5g} is asked: nothing here solves it."
    else:
        return {"metric": metric.name, "guess": float(f"{guess:.6g}"), "bar": float(f"{bar:.6g}")}
    raise ConfigError([f"task {task.id}: {metric.name}: {said}"])


def _short(value: Any) -> Any:
    """A prediction to the digits that are the same on every machine."""
    return f"{value:.6g}" if isinstance(value, float) else value


def _told(bars: list[dict[str, Any]]) -> str:
    from helpers.grading.metrics import get_metric
    from helpers.tasks.synthetic.description import bound_in_words

    return " and ".join(
        bound_in_words(bar["metric"], not get_metric(bar["metric"]).is_lower_better, bar["bar"]) for bar in bars
    )
