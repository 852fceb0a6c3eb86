"""The types of models that a generator may ask, by the specification's names, and those of site-config/models.yaml.

Keys come from the environment or .env by the name of their variable, and stand in no file, record or message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import layers
from helpers.datagen import forms
from helpers.datagen.endpoints import Fixed, Written
from helpers.datagen.inference import Health, InferenceEngine, Prompt
from helpers.datagen.schemas import InferenceFailure, InputValidationError
from helpers.lib.errors import ConfigError

if TYPE_CHECKING:
    from helpers.config.schema import Model, Site

__all__ = ["Health", "InferenceEngine", "Prompt", "create_inference_engine", "from_model"]
NO_KEYS = ("", "fake_key", "EMPTY", "none")  # what people write where a server wants none

ENGINES: dict[str, type[InferenceEngine]] = {}


def register(engine: type[InferenceEngine]) -> type[InferenceEngine]:
    """Add a type of engines under its name. Raises ValueError where that is taken."""
    if engine.type_name in ENGINES:
        raise ValueError(f"there is an engine {engine.type_name} already")
    ENGINES[engine.type_name] = engine
    return engine


class HostedEngine(InferenceEngine):
    """A model of somebody's service: its address is known, its key is needed."""

    base_url: str | None = None  # None: that of the form
    default_model = ""

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        base_url: str | None = None,
        **more: Any,
    ):
        """api_key_env: the variable that holds the key, in the environment or .env. more: as InferenceEngine has it.

        Raises InputValidationError where there is no key.
        """
        form = forms.find(self.form_name)
        variable = api_key_env or form.key_variable or "API_KEY"
        key = api_key or layers.key(variable)
        if not key:
            said = f"engine {self.type_name}: {variable} is neither in the environment nor in .env: it holds the key"
            raise InputValidationError(said)
        url = base_url or self.base_url or form.base_url or ""
        super().__init__(Fixed(url, model or self.default_model, key), key_name=variable, **more)


@register
class OpenAIEngine(HostedEngine):
    """OpenAI's chat completions."""

    type_name, form_name, default_model = "openai", "openai", "gpt-4"


@register
class AnthropicEngine(HostedEngine):
    """Anthropic's messages."""

    type_name, form_name, default_model = "anthropic", "anthropic", "claude-3-5-sonnet-20241022"


@register
class GeminiEngine(HostedEngine):
    """Google's generateContent."""

    type_name, form_name, default_model = "google_gemini", "gemini", "gemini-2.5-flash"


@register
class GeminiOpenAIEngine(HostedEngine):
    """Google's models by their OpenAI-compatible address."""

    type_name, default_model = "gemini_openai", "gemini-2.5-flash"
    base_url = "https://generativelanguage.googleapis.com/v1beta/openai"

    def __init__(self, model: str | None = None, *, api_key_env: str | None = None, **more: Any):
        super().__init__(model, api_key_env=api_key_env or "GEMINI_API_KEY", **more)


@register
class GenericOpenAIEngine(InferenceEngine):
    """Any OpenAI-compatible server, vLLM for one: by its address and name, or by a file that tells both, and is read anew when it moves."""

    type_name = "vllm_local"
    requires_initial_healthcheck = True

    def __init__(
        self,
        endpoint_json: str | Path | None = None,
        base_url: str | None = None,
        model_name: str | None = None,
        api_key: str | None = "fake_key",
        healthcheck_interval: float = 300.0,
        *,
        model: str | None = None,
        api_key_env: str | None = None,
        **more: Any,
    ):
        """endpoint_json: upstream's endpoint JSON, an address file of one of our servers, or an agent's file of endpoints.

        model: the same as model_name. more: as InferenceEngine has it. Raises InputValidationError where there is neither a file nor both
        address and name, or no key in the variable that is named.
        """
        name, key = model_name or model, None if api_key in NO_KEYS else api_key
        if api_key_env and not (key := layers.key(api_key_env)):
            raise InputValidationError(
                f"engine {self.type_name}: {api_key_env} is neither in the environment nor in .env: it holds the key"
            )
        if endpoint_json:
            where: Fixed | Written = Written(endpoint_json, name, key)
        elif base_url and name:
            where = Fixed(base_url, name, key)
        else:
            raise InputValidationError(
                f"engine {self.type_name}: needs the file of an endpoint (--endpoint-json), or both an address and a model's name"
            )
        super().__init__(where, key_name=api_key_env or "its key", healthcheck_interval=healthcheck_interval, **more)


@register
class NoOpEngine(InferenceEngine):
    """Stands where no model is needed; it is always well, and answers nothing."""

    type_name = "none"

    def __init__(self, **more: Any):
        super().__init__(Fixed("http://localhost", "none"), **more)

    def generate(self, prompt: Prompt, **options: Any) -> str:
        """Raises InferenceFailure."""
        raise InferenceFailure("engine none answers nothing: choose a model with --engine and --model")

    def generate_many(self, prompts: Any, **options: Any) -> Iterator[tuple[int, str]]:
        """Raises InferenceFailure at the first prompt."""
        for prompt in prompts:
            yield 0, self.generate(prompt)

    def state(self) -> Health:
        return Health("alive", "no model is needed")

    def get_metadata(self) -> dict[str, Any]:
        return {"engine_type": self.type_name}


def create_inference_engine(type: str, **options: Any) -> InferenceEngine:
    """An engine of a type, with its own arguments. Raises InputValidationError, which lists the types where it is none of them."""
    name = type.lower()
    if name not in ENGINES:
        raise InputValidationError(f"engine {type!r}: there is none of this type; known: {', '.join(sorted(ENGINES))}")
    try:
        return ENGINES[name](**options)
    except TypeError as error:
        raise InputValidationError(f"engine {name}: {str(error).rpartition('__init__() ')[2]}", error) from error


def from_model(
    name: str, site: Site | str | None = None, *, endpoint: str | Path | None = None, **more: Any
) -> InferenceEngine:
    """An engine for a model of site-config/models.yaml, with what a site changes of it.

    endpoint: the file that says where it answers; without it, only somebody else's (`engine: external`) can be asked.
    Raises InputValidationError: unknown, without a key, or without an endpoint.
    """
    entry = _entry(name, site)
    about = {"name": entry.name, "revision": entry.revision if entry.engine == "vllm" else None}
    more |= {"prices": entry.prices, "about": {**about, "is_language_model": entry.is_language_model}}
    if endpoint is not None:
        return GenericOpenAIEngine(endpoint, model=entry.served_name, **more)
    if entry.engine != "external":
        raise InputValidationError(
            f"model {name!r} is served by a job of ours: --endpoint-json names the file that says where it answers"
        )
    more |= {"base_url": entry.base_url, "model": entry.served_name, "api_key_env": entry.api_key_variable}
    if entry.base_url == forms.OpenAI.base_url:
        return OpenAIEngine(**more)
    return GenericOpenAIEngine(**more)


def is_known(name: str | None, site: Site | str | None = None) -> bool:
    """Whether models.yaml has a model of this name."""
    from helpers.config import entries

    with _told_as_wrong_input():
        return name is not None and name in entries.models(_site(site))


def _entry(name: str, site: Site | str | None) -> Model:
    from helpers.config import entries

    with _told_as_wrong_input():
        return entries.model(name, _site(site))


def _site(site: Site | str | None) -> Site | None:
    from helpers.config import sites

    return sites.load_site(site) if isinstance(site, str) else site


@contextlib.contextmanager
def _told_as_wrong_input() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise InputValidationError(" ".join(error.problems), error) from error
