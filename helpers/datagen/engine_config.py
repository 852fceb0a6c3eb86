"""The YAML of --engine-config, as upstream writes it: of its section `engine`; the other sections are the launcher's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from helpers.config import layers
from helpers.datagen.engines import ENGINES, NO_KEYS
from helpers.datagen.schemas import InputValidationError
from helpers.lib.errors import ConfigError

PROVIDERS = ("openai", "anthropic", "vllm_local")


class Provider(BaseModel):
    model_config = ConfigDict(extra="forbid")
    api_key: str | None = None
    api_key_env: str | None = None
    endpoint_json: str | None = None
    base_url: str | None = None
    model_name: str | None = None
    healthcheck_interval: float | None = Field(default=None, ge=0)


class Engine(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: str
    model: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    healthcheck_interval: float = Field(default=300, ge=0)
    request_params: dict[str, Any] = {}
    extra_args: dict[str, Any] | None = None
    openai: Provider | None = None
    anthropic: Provider | None = None
    vllm_local: Provider | None = None


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    engine: Engine
    backend: dict[str, Any] = {}
    vllm_server: dict[str, Any] | None = None
    extra_agent_kwargs: dict[str, Any] = {}
    chunk_array_max: int | None = None


@dataclass
class Runtime:
    """What it says of the model: its type and name, the file of its endpoint, and the arguments of the engine."""

    type: str | None = None
    model: str | None = None
    endpoint: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> Runtime:
    """The model that a file means. Raises InputValidationError with all that is wrong in it."""
    try:
        config = Config.model_validate(layers.read_yaml(Path(path).expanduser()))
    except ConfigError as error:
        raise InputValidationError(" ".join(error.problems), error) from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors()]
        raise InputValidationError(f"{path}: {'; '.join(problems)}", error) from error
    return _runtime(config.engine, str(path))


def _runtime(engine: Engine, path: str) -> Runtime:
    name = engine.type.lower()
    if name not in ENGINES:
        raise InputValidationError(f"{path}: engine.type: {engine.type!r} is none of {', '.join(sorted(ENGINES))}")
    for one in PROVIDERS:
        told = getattr(engine, one)
        if told is not None and told.api_key not in (None, *NO_KEYS):
            raise InputValidationError(
                f"{path}: engine.{one}.api_key: a key doesn't belong into a file: name its variable in api_key_env"
            )
    # upstream keeps the keys of Google's models under openai
    provider = getattr(engine, name if name in PROVIDERS else "openai", None) or Provider()
    options = {"max_tokens": engine.max_output_tokens, **engine.request_params, **(engine.extra_args or {})}
    options |= {"api_key_env": provider.api_key_env, "base_url": provider.base_url}
    options["healthcheck_interval"] = (
        engine.healthcheck_interval if provider.healthcheck_interval is None else provider.healthcheck_interval
    )
    given = {key: value for key, value in options.items() if value is not None}
    return Runtime(name, provider.model_name or engine.model, provider.endpoint_json, given)
