"""`run_workflow.sh --model-set KEY=VALUE`: changes of a model's entry for one run, on top of the site's own (`models:`)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from helpers.config import entries, layers
from helpers.config.schema import Model, Site
from helpers.lib.errors import ConfigError

FIXED = ("name", "engine")  # another one is another model
LISTS = ("vllm_args",)  # which a person may write as a shell would take them


def apply(site: Site, model: str | None, items: Sequence[str]) -> None:
    """Put the changes into the site, as if its file had them under `models:`; so they stand in the run's record and its configuration hash.

    items: KEY=VALUE, the last of the same key counts. Raises ConfigError with every problem found.
    """
    if not items:
        return
    if model is None:
        raise ConfigError(["--model-set changes a model server that this run starts, and it starts none."])
    if model not in entries.models(site):
        return  # which is told, with the known names, when the model is looked up
    changes, problems = _changes(items)
    entry = entries.models(site)[model].model_dump()
    if not problems:
        try:
            Model.model_validate({**entry, **changes})
        except ValidationError as error:
            problems += [_sentence(item, model, changes) for item in error.errors()]
    if problems:
        raise ConfigError(problems)
    site.models[model] = {**site.models.get(model, {}), **changes}


def _changes(items: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What is to be changed, and a sentence on each item that says nothing of the kind."""
    keys = [key for key in Model.model_fields if key not in FIXED]
    changes, problems = {}, []
    for item in items:
        key, separator, value = item.partition("=")
        if not separator:
            problems.append(f"--model-set {item}: must be KEY=VALUE, for example --model-set context_length=16384.")
        elif key not in keys:
            known = f"a model has these keys: {', '.join(keys)}."
            problems.append(f"--model-set {key}: unknown key; {known}{layers.meant(key, keys)}")
        else:
            try:
                changes[key] = _value(key, value)
            except ValueError as error:
                problems.append(f"--model-set {key}: {error} (found {value!r}).")
    return changes, problems


def _value(key: str, text: str) -> Any:
    """A value as YAML reads it; of a list also what a person would type. Raises ValueError."""
    if key in LISTS and not text.lstrip().startswith("["):
        return shlex.split(text)
    try:
        return yaml.safe_load(text) if text.strip() else None
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {getattr(error, 'problem', error)}") from error


def _sentence(item: dict[str, Any], model: str, changes: dict[str, Any]) -> str:
    where = tuple(str(part) for part in item["loc"] if not isinstance(part, int))
    source = "--model-set" if where else f"--model-set {', '.join(changes)} of model {model}"
    return layers.sentence(source, where, item, Model).replace("--model-set: ", "--model-set ", 1)
