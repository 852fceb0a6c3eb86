"""Layers of YAML: read, merged key by key with who set what, variables expanded, secrets refused, validated."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)

from helpers.config.schema import Strict
from helpers.lib import private
from helpers.lib.checkout import ROOT
from helpers.lib.errors import ConfigError

SITE_DIR = ROOT / "site-config"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")
# Expanded by the job on its own node, not here: the login node's values would be wrong there.
LEFT_TO_THE_JOB = {("paths", "scratch"), ("environment", "setup")}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError when it can't be read, isn't YAML or isn't a mapping."""
    try:
        # the loader in C, where PyYAML has it, saves a command a tenth of its start
        data = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise ConfigError([f"{shown(path)}: can't be read ({error.strerror})."]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" (line {error.problem_mark.line + 1})" if getattr(error, "problem_mark", None) else ""
        raise ConfigError([f"{shown(path)}: not valid YAML{where}: {getattr(error, 'problem', error)}."]) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError([f"{shown(path)}: must hold `key: value` lines, found a {type(data).__name__}."])
    return data


def shown(path: Path) -> str:
    """A path as a person would name it: relative to the repository where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


class Layers:
    """Merges mappings key by key and remembers which layer set each value."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.origin: dict[tuple[str, ...], str] = {}

    def add(self, data: dict[str, Any], source: str) -> None:
        self._merge(self.tree, data, source, ())

    def _merge(self, into: dict[str, Any], data: dict[str, Any], source: str, at: tuple[str, ...]) -> None:
        for key, value in data.items():
            here = (*at, str(key))
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self._merge(into[key], value, source, here)
            else:
                into[key] = _copy(value)
                self.origin[here] = source

    def source_of(self, location: tuple[str, ...]) -> str:
        """The layer that set a value, or the nearest one above it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.origin:
                return self.origin[location[:length]]
        return shown(SITE_DIR / "default.yaml")


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return list(value) if isinstance(value, list) else value


def dotenv(name: str) -> str | None:
    """The value of a key in .env, None where it has none; scripts_hpc/lib/common.sh reads it by the same rule (common::key)."""
    try:
        text = (ROOT / ".env").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.findall(rf"^(?:export +)?{name}=(.*)$", text, re.MULTILINE)
    value = found[-1].removesuffix("\r") if found else ""
    return (value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value) or None


def key(name: str) -> str | None:
    """A key, from the environment, else from .env."""
    return os.environ.get(name) or dotenv(name)


def open_secrets(layers: Layers, value: Any, at: tuple[str, ...] = ()) -> Iterator[str]:
    """A sentence on each value of a file, as written there, that looks like a secret; references to variables are none."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from open_secrets(layers, item, (*at, str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from open_secrets(layers, item, at)
    elif isinstance(value, str) and private.is_secret(at[-1] if at else "", VARIABLE.sub("", value)):
        source = layers.source_of(at)
        if not source.startswith(("$", "--set ", "models of site ")):  # none of these is a file
            yield (
                f"{source}: {'.'.join(at)}: looks like a secret, which others can read there: write ${{NAME}} in its place, and "
                f"NAME=… into {ROOT}/.env, or into your environment."
            )


def expand(value: str) -> tuple[str, list[str]]:
    """Replace ${NAME}, ${NAME:-default}, $NAME and a leading ~; also returns the names that are not set."""
    missing: list[str] = []

    def one(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        found = os.environ.get(name, getpass.getuser() if name == "USER" else dotenv(name))
        if match[2] is not None:
            return found or match[2]
        if found is not None:
            return found
        missing.append(name)
        return match[0]

    text = VARIABLE.sub(one, value)
    return (os.path.expanduser(text) if text.startswith("~") else text), missing


def expand_tree(layers: Layers, value: Any, at: tuple[str, ...], problems: list[str]) -> Any:
    if at in LEFT_TO_THE_JOB:
        return value
    if isinstance(value, dict):
        return {key: expand_tree(layers, item, (*at, str(key)), problems) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_tree(layers, item, at, problems) for item in value]
    if not isinstance(value, str):
        return value
    text, missing = expand(value)
    if value and not text:
        return None  # a variable that is set to nothing
    for name in dict.fromkeys(missing):
        key = ".".join(at)
        problems.append(
            f"{layers.source_of(at)}: {key}: ${{{name}}} is not set: export {name}=…, or give --set {key}=…"
        )
    return text


def _override_pairs(overrides: list[str]) -> list[tuple[list[str], str, str]]:
    pairs = []
    for name, value in os.environ.items():
        if name.startswith("HPC_") and "__" in name:
            pairs.append((name[4:].lower().split("__"), value, f"${name}"))
    for item in overrides:
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError([f"--set {item}: must be key=value, for example --set paths.data=/scratch/me/data."])
        pairs.append((key.split("."), value, f"--set {key}"))
    return pairs


def apply_overrides(layers: Layers, overrides: list[str]) -> None:
    for keys, value, source in _override_pairs(overrides):
        try:
            parsed = yaml.safe_load(value) if value.strip() else None
        except yaml.YAMLError:
            parsed = value
        for key in reversed(keys):
            parsed = {key: parsed}
        layers.add(parsed, source)


def meant(name: str, known: Iterable[str]) -> str:
    """A guess at what was meant by a name that isn't known, as one more sentence; empty where nothing is near."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near and near[0] != name else ""


def validated(kind: type[Strict], tree: dict[str, Any], layers: Layers, problems: list[str]) -> Any:
    try:
        result = kind.model_validate(tree)
    except ValidationError as error:
        for item in error.errors():
            location = tuple(str(part) for part in item["loc"] if not isinstance(part, int))
            problems.append(sentence(layers.source_of(location), location, item, kind))
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return result


def sentence(source: str, location: tuple[str, ...], item: dict[str, Any], kind: type[BaseModel]) -> str:
    """One of pydantic's errors for a person: the file, the key, what is wrong with which value."""
    key = ".".join(location) or "the file"
    if item["type"] == "extra_forbidden":
        known = known_keys(kind, location[:-1])
        return f"{source}: {key}: unknown key. Keys here: {', '.join(known)}.{meant(location[-1], known)}"
    if item["type"] == "missing":
        return f"{source}: {key}: must be set."
    message = item["msg"].removeprefix("Value error, ")
    secret = private.is_secret(location[-1] if location else "", str(item["input"]))
    found = private.MASK if secret else item["input"]
    return f"{source}: {key}: {message} (found {found!r})." if item["loc"] else f"{source}: {message}."


def known_keys(kind: Any, location: tuple[str, ...]) -> list[str]:
    for part in location:
        field = getattr(kind, "model_fields", {}).get(part.partition("[")[0])
        kind = _model(field.annotation) if field else kind
    return sorted(getattr(kind, "model_fields", {}))


def _model(annotation: Any) -> Any:
    """The model in a type like `list[Model] | None`; None where there is none."""
    inner = (_model(one) for one in get_args(annotation))
    return annotation if hasattr(annotation, "model_fields") else next(filter(None, inner), None)
