"""A new task's definition, from options of the command line or by questions at a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_origin

import click

from helpers.lib.errors import ConfigError
from helpers.tasks.catalogue import TaskRegistry
from helpers.tasks.definitions import DATASETS, DEFAULT_METRICS, DataRequirements, EvaluationCriteria, Task

DIFFICULTIES = get_args(Task.model_fields["difficulty"].annotation)
SECTIONS = {"data_requirements": DataRequirements, "evaluation_criteria": EvaluationCriteria}


def _option(key: str, annotation: Any) -> Callable[[Any], Any]:
    """The command line's option for a key of a definition; its values are checked with the definition."""
    name = f"--{key.replace('_', '-')}"
    kinds = (annotation, *get_args(annotation))
    takers = [kind for kind, keys in DATASETS.items() if key in keys]
    about_it = f"For {', '.join(takers)}." if takers else None
    if get_origin(annotation) is list:
        return click.option(name.removesuffix("s"), key, multiple=True, help="Repeatable.")
    if bool in kinds:
        return click.option(f"{name}/--no-{name[2:]}", key, default=None, help=about_it)
    pair = any(get_origin(kind) is tuple for kind in kinds)
    if pair:
        return click.option(name, key, nargs=2, metavar="HEIGHT WIDTH", help=about_it)
    return click.option(name, key, type=lambda text: _value(key, text), metavar="VALUE", help=about_it)


def _value(key: str, text: str) -> Any:
    """What was typed, as Task takes it: it makes numbers of texts, but not for a Literal."""
    if key in ("required_outputs", "image_size"):
        return text.replace(",", " ").split()
    return int(text) if key == "n_channels" and text.isdecimal() else text


def definition_options(command: Any) -> Any:
    """Give a click command an option for each key of data_requirements and evaluation_criteria."""
    for model in reversed(SECTIONS.values()):
        for key, field in reversed(model.model_fields.items()):
            if key != "generate_synthetic":
                command = _option(key, field.annotation)(command)
    return command


def from_options(source: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """A definition, not yet checked, from a file (or none) and the options that were given. Raises ConfigError for the file."""
    definition = Task.load(source).to_dict() if source else {}
    for section, model in SECTIONS.items():
        values = {key: given.pop(key) for key in model.model_fields if key in given}
        definition[section] = {**definition.get(section, {}), **values}
    data, criteria = definition["data_requirements"], definition["evaluation_criteria"]
    data.setdefault("generate_synthetic", "dataset_type" in data)
    criteria.setdefault("required_outputs", ["submission.csv"])
    guessed = {"expected_outputs": criteria["required_outputs"]}
    if "id" in given:
        guessed["name"] = given["id"].replace("_", " ").capitalize()
    if "dataset_type" in data:
        guessed["task_type"] = data["dataset_type"]
    return {**guessed, **definition, **given}


def from_questions(registry: TaskRegistry) -> dict[str, Any]:
    """Ask for a definition, one key at a time; an answer that doesn't fit is asked for again."""
    draft: dict[str, Any] = {"id": "draft", "name": "draft", "task_type": "classification"}
    _ask(draft, "id", "Id", taken=registry.get_task)
    _ask(draft, "name", "Name")
    _ask(draft, "description", "Description (may be empty)", "")
    _ask(draft, "task_type", "Type", "classification")
    _ask(draft, "difficulty", f"Difficulty ({', '.join(DIFFICULTIES)})", "medium")
    _ask(draft, "estimated_time", "Time for a run, in seconds", "1800")
    _ask(draft, "data_requirements.dataset_type", f"Kind of data ({', '.join(DATASETS)})", "classification")
    kind = draft["data_requirements"]["dataset_type"]
    for key in DATASETS[kind]:
        _ask(draft, f"data_requirements.{key}", f"{key} (empty: the generator's default)", "")
    _ask(draft, "evaluation_criteria.metric", "Metric", DEFAULT_METRICS[kind])
    metric = draft["evaluation_criteria"]["metric"]
    for key in EvaluationCriteria.model_fields:
        if key in (f"min_{metric}", f"max_{metric}"):
            _ask(draft, f"evaluation_criteria.{key}", f"{key} that counts as success (empty: none)", "")
    _ask(draft, "evaluation_criteria.required_outputs", "Required outputs", "submission.csv")
    draft["expected_outputs"] = draft["evaluation_criteria"]["required_outputs"]
    _ask(draft, "instructions", "Instructions for the agent (may be empty)", "")
    return draft


def _ask(draft: dict[str, Any], path: str, text: str, default: str | None = None, taken: Any = None) -> None:
    """Ask until the draft, which was valid before, is valid with the answer. Where a default is empty, so may the answer be."""
    section, _, key = path.rpartition(".")
    while True:
        # with a default of none, click would ask again without a word
        answer = click.prompt(text, default=default or "", show_default=bool(default), err=True).strip()
        if not answer and default == "":
            return
        if not answer:
            click.echo(f"{text}: an answer is needed.", err=True)
            continue
        changed = {**(draft.get(section, {}) if section else draft), key: _value(key, answer)}
        candidate = {**draft, section: changed} if section else changed
        if problems := _problems(candidate, taken and taken(answer)):
            click.echo("\n".join(problems), err=True)
        else:
            return draft.update(candidate)


def _problems(candidate: dict[str, Any], taken: Task | None) -> list[str]:
    if taken:
        return [f"there is a task '{taken.id}' already."]
    try:
        Task.from_dict(candidate, "not accepted")
    except ConfigError as error:
        return error.problems
    return []
