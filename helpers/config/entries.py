"""The models and agents of site-config/, with what a site says of them."""

from __future__ import annotations

from typing import Any

from pydantic import (
    TypeAdapter,
    ValidationError,
)

from helpers.config.layers import SITE_DIR, Layers, expand, meant, open_secrets, read_yaml, sentence, shown
from helpers.config.schema import AgentEntry, Model, Site, Strict
from helpers.lib import private
from helpers.lib.checkout import ROOT
from helpers.lib.errors import ConfigError


def _load_entries(
    kind: type[Strict], file: str, more: dict[str, Any] | None = None, source: str = ""
) -> dict[str, Any]:
    path = SITE_DIR / file
    layers = Layers()
    layers.add(read_yaml(path), shown(path))
    layers.add(more or {}, source)
    problems = list(open_secrets(layers, layers.tree))
    entries = {}
    for name, entry in layers.tree.items():
        if not isinstance(entry, dict):
            problems.append(f"{shown(path)}: {name}: must hold keys, found {entry!r}.")
            continue
        try:
            entries[str(name)] = TypeAdapter(kind).validate_python({**entry, "name": str(name)})
        except ValidationError as error:
            for item in error.errors():
                location = (str(name), *(str(part) for part in item["loc"] if not isinstance(part, int)))
                problems.append(
                    sentence(layers.source_of(location), location, item, kind).replace(
                        "unknown key. Keys here: .", "unknown key."
                    )
                )
    if problems:
        raise ConfigError(problems)
    return entries


def models(site: Site | None = None) -> dict[str, Model]:
    """All models of site-config/models.yaml by name, with what the site changes; ConfigError with every problem."""
    return _load_entries(
        Model, "models.yaml", site.models if site else None, f"models of site {site.name}" if site else ""
    )


def agents() -> dict[str, AgentEntry]:
    """All agents of site-config/agents.yaml by name, each followed by its variants; ConfigError with every problem."""
    found: dict[str, AgentEntry] = {}
    problems: list[str] = []
    for name, entry in _load_entries(AgentEntry, "agents.yaml").items():
        found[name] = entry
        for variant, changes in entry.variants.items():
            try:
                found[f"{name}/{variant}"] = _variant(entry, variant, changes)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _variant(entry: AgentEntry, variant: str, changes: dict[str, Any]) -> AgentEntry:
    source = f"{shown(SITE_DIR / 'agents.yaml')}: {entry.name}.variants.{variant}"
    for key in ("name", "variants"):
        if key in changes:
            raise ConfigError([f"{source}: {key}: a variant can't change this key."])
    layers = Layers()
    layers.add(entry.model_dump(exclude={"variants"}, exclude_unset=True), source)
    layers.add({**changes, "name": f"{entry.name}/{variant}"}, source)
    try:
        return AgentEntry.model_validate(layers.tree)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            location = tuple(str(part) for part in item["loc"] if not isinstance(part, int))
            problems.append(sentence(source, location, item, AgentEntry))
        raise ConfigError(problems) from error


def model(name: str, site: Site | None = None) -> Model:
    """One model by name, with what the site changes, its variables expanded; ConfigError lists the known names."""
    known = models(site)
    if name not in known:
        said = f"model '{name}': not in site-config/models.yaml. Known models: {', '.join(known)}.{meant(name, known)}"
        raise ConfigError([said])
    entry = known[name]
    problems = []
    for key in ("served_name", "base_url", "repo"):
        text, missing = expand(getattr(entry, key) or "")
        problems += [f"site-config/models.yaml: {name}.{key}: ${{{one}}} is not set: export {one}=…" for one in missing]
        setattr(entry, key, text or None)
    if entry.base_url and private.IN_URL.search(entry.base_url):
        problems.append(
            f"model '{name}': base_url holds a password: it belongs into the key that api_key_variable names."
        )
    if problems:
        raise ConfigError(problems)
    return entry


def agent(name: str) -> AgentEntry:
    """One agent by name; ConfigError lists the known names, or names the folder that is missing."""
    known = agents()
    if name not in known:
        said = f"agent '{name}': not in site-config/agents.yaml. Known agents: {', '.join(known)}.{meant(name, known)}"
        raise ConfigError([said])
    entry = known[name]
    if not (entry.path / "start.sh").is_file():
        raise ConfigError([f"agent '{name}': there is no {shown(entry.path)}/start.sh."])
    if not (ROOT / "requirements" / f"{entry.environment}.txt").is_file():
        said = f"agent '{name}': environment: there is no requirements/{entry.environment}.txt."
        raise ConfigError([said])
    return entry
