"""The description of a task that the agent reads: data, form of a submission, and all that counts as success."""

from __future__ import annotations

import numpy as np

from helpers.tasks.definitions import Task
from helpers.tasks.synthetic.dataset import ID, TARGET, Dataset

MOST_NAMED = 20  # classes and columns that are listed
# what the validator looks for, by how the name of a required output ends
RULES = {
    (".md", ".txt"): "Texts are in your own words, 20 different ones or more, and give figures.",
    (".png", ".jpg", ".jpeg"): "Images are at least 64 x 64 pixels, not blank, and no two alike.",
    ("statistics.json",): "Statistics are those of `train.csv`, as `{column: {mean: …, std: …}}`.",
    (
        "model.*",
    ): "A model file ends in .pth or .pt (tensors only, such as a state_dict), .safetensors, .npz, .npy, .joblib, .pkl or .onnx.",
}
INSIGHT = (
    "An insight is a list item or a paragraph of `analysis_report.md` that names a column of `train.csv` and a figure of it, to two "
    "decimals or so; half of such items must be right."
)


def describe(task: Task, dataset: Dataset, copied: list[str]) -> str:
    """Write description.md; `copied`: names of further public files."""
    about = "\n\n".join(text for text in (task.description, task.instructions) if text)
    return f"""# {task.name}

{about}

## Data
{_lines(_files(dataset, copied))}

{_target(dataset)} {_order(dataset)}

## Submission
A CSV file `submission.csv` with the columns `{ID}` and `{TARGET}` and one row for each row of `test.csv`, in any order.
{_beside(task)}
## Evaluation
The metric is {dataset.metric.name} ({"lower" if dataset.metric.is_lower_better else "higher"} is better) on the hidden values of \
`{TARGET}` for `test.csv`.
{_success(task)}"""


def _lines(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _files(dataset: Dataset, copied: list[str]) -> list[str]:
    names = [f"`{name}`" for name in dataset.features]
    if len(names) > MOST_NAMED:
        names = [f"{names[0]} to {names[-1]} ({len(names)} columns)"]
    is_hidden = dataset.metric.kind == "cluster"
    shown, known = len(dataset.train), [] if is_hidden else [f"`{TARGET}`"]
    same = "the same columns" if is_hidden else f"the same columns, without `{TARGET}`"
    found = [
        f"`train.csv`: {shown} rows with the columns {', '.join([f'`{ID}`', *names, *known])}",
        f"`test.csv`: {len(dataset.test)} rows with {same}",
    ]
    for name, array in dataset.arrays.items():
        shapes = [(len(rows), *array.shape[1:]) for rows in (dataset.train, dataset.test)]
        found.append(
            f"`train_{name}.npy` and `test_{name}.npy`: arrays for `numpy.load`, {array.dtype}, of the shapes {shapes[0]} and "
            f"{shapes[1]}; row k of an array belongs to row k of the CSV file"
        )
    found.append("`sample_submission.csv`: a submission in the right form, with one guess for all rows")
    return found + [f"`{name}`" for name in copied]


def _target(dataset: Dataset) -> str:
    kind, target = dataset.metric.kind, dataset.target[dataset.train]
    if kind == "cluster":
        return f"`{TARGET}`, which isn't given for any row, is the number of a row's group; which number a group has is up to you."
    if kind == "label":
        labels = np.unique(target)
        listed = ", ".join(map(str, labels[:MOST_NAMED])) + (", …" if len(labels) > MOST_NAMED else "")
        return f"`{TARGET}` is one of {len(labels)} classes: {listed}."
    if kind == "number":
        return f"`{TARGET}` is a number."
    return f"`{TARGET}` is 0 or 1; predict {'a number that is larger the likelier 1 is' if kind == 'ranking' else 'the probability of 1'}."


def _order(dataset: Dataset) -> str:
    if dataset.is_series:
        return f"The rows are in order of time, and `{ID}` numbers them: `test.csv` goes on where `train.csv` ends."
    return f"`{ID}` only numbers the rows, which are in random order."


def _beside(task: Task) -> str:
    others = [name for name in task.evaluation_criteria.required_outputs if name != "submission.csv"]
    if not others:
        return ""
    return (
        "\nThe other results go to the same folder, beside `submission.csv`:\n"
        + _lines([f"`{name}`" for name in others])
        + "\n\n"
        + "\n".join(_rules(task, others))
    )


def _rules(task: Task, outputs: list[str]) -> list[str]:
    rules = [rule for endings, rule in RULES.items() if any(name.endswith(endings) for name in outputs)]
    rules += [INSIGHT] if task.evaluation_criteria.required_insights else []
    return [*rules, "Results must beat one guess for all rows.", ""]


def bound_in_words(metric: str, is_minimum: bool, bound: float) -> str:
    """What a bound on a metric asks for; mape is a fraction."""
    number = f"{100 * bound:g} percent" if metric == "mape" else f"{bound:g}"
    return f"{metric} of at {'least' if is_minimum else 'most'} {number}"


def _success(task: Task) -> str:
    criteria = task.evaluation_criteria
    asked = [bound_in_words(*bound) for bound in criteria.bounds.values()]
    if criteria.expected_clusters:
        asked.append(f"{criteria.expected_clusters} different groups in the submission")
    if criteria.required_outputs:
        asked.append(
            f"the files {', '.join(f'`{name}`' for name in criteria.required_outputs)}, each with real content"
        )
    if criteria.required_visualizations:
        asked.append(f"{criteria.required_visualizations} different images (PNG) that aren't blank")
    if criteria.required_insights:
        asked.append(f"{criteria.required_insights} insights with figures in the report")
    if criteria.max_training_time:
        asked.append(f"all done within {criteria.max_training_time} seconds")
    return f"\nSuccess takes all of these:\n{_lines(asked)}\n" if asked else ""
