"""The forms in which models are asked over HTTP: how a request looks, and where the text and the tokens stand in its answer.

A further one is a subclass of Form with @register. Formats, as their owners describe them:
openai      https://platform.openai.com/docs/api-reference/chat
compatible  https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
anthropic   https://docs.anthropic.com/en/api/messages
gemini      https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from helpers.datagen.schemas import InputValidationError
from helpers.lib.values import count, section

Message = dict[str, Any]
Json = dict[str, Any]

FORMS: dict[str, Form] = {}


class NoText(Exception):
    """An answer without a text; the message says what it holds in its place. again: whether another try could help."""

    def __init__(self, message: str, again: bool = False):
        super().__init__(message)
        self.again = again


class Form:
    """OpenAI's chat completions as many servers speak them, and what other forms change of them.

    options: what a person may ask for by one name in all forms, and what this form calls it; others go into the request as they are.
    """

    name = "compatible"
    base_url: str | None = None
    key_variable: str | None = None
    version = "/v1"  # the path that an address without one gets
    options = {"max_tokens": "max_tokens"}
    default_options: Json = {}

    def root(self, base_url: str) -> str:
        """The address below which everything lies."""
        base = base_url.rstrip("/")
        return base if base.partition("://")[2].partition("/")[2] else base + self.version

    def url(self, base_url: str, model: str) -> str:
        return f"{self.root(base_url)}/chat/completions"

    def models_url(self, base_url: str) -> str:
        return f"{self.root(base_url)}/models"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, model: str, messages: list[Message], options: Json) -> Json:
        """The request's body, without the address and the key, so that its digest stays the same wherever it is sent."""
        return {"model": model, "messages": messages, **self.named(options)}

    def named(self, options: Json) -> Json:
        """The options by this form's names; those that are None are left out."""
        given = {**self.default_options, **{name: value for name, value in options.items() if value is not None}}
        return {self.options.get(name, name): value for name, value in given.items()}

    def text(self, answer: Json) -> str:
        """The text of an answer. Raises NoText."""
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise NoText(f"an answer without choices: {_short(answer)}", again=True)
        message, why = choices[0].get("message"), choices[0].get("finish_reason")
        message = message if isinstance(message, dict) else {}
        if isinstance(message.get("content"), str):
            return str(message["content"])
        if isinstance(message.get("refusal"), str):
            raise NoText(f"it refused: {message['refusal']}")
        raise NoText(f"an answer without text (finish_reason {why})")

    def tokens(self, answer: Json) -> tuple[int, int]:
        """The tokens of the request and of the answer, 0 where it doesn't tell."""
        usage = section(answer, "usage")
        return _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")


def register(form: type[Form]) -> type[Form]:
    """Add a form under its name. Raises ValueError where that is taken."""
    if form.name in FORMS:
        raise ValueError(f"there is a form {form.name} already")
    FORMS[form.name] = form()
    return form


def find(name: str) -> Form:
    """The form of a name. Raises InputValidationError, which lists what exists."""
    if name not in FORMS:
        raise InputValidationError(f"form {name!r}: there is none of this name; known: {', '.join(sorted(FORMS))}")
    return FORMS[name]


register(Form)


@register
class OpenAI(Form):
    """OpenAI itself, whose reasoning models refuse max_tokens."""

    name = "openai"
    base_url = "https://api.openai.com/v1"
    key_variable = "OPENAI_API_KEY"
    options = {"max_tokens": "max_completion_tokens"}


@register
class Anthropic(Form):
    name = "anthropic"
    base_url = "https://api.anthropic.com"
    key_variable = "ANTHROPIC_API_KEY"
    options = {"stop": "stop_sequences"}
    default_options = {"max_tokens": 4096}  # it must be told

    def url(self, base_url: str, model: str) -> str:
        return f"{self.root(base_url)}/messages"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})

    def body(self, model: str, messages: list[Message], options: Json) -> Json:
        system, others = _apart(messages)
        return {"model": model, "messages": others, **({"system": system} if system else {}), **self.named(options)}

    def named(self, options: Json) -> Json:
        named = super().named(options)
        if isinstance(named.get("stop_sequences"), str):
            named["stop_sequences"] = [named["stop_sequences"]]
        return named

    def text(self, answer: Json) -> str:
        blocks = answer.get("content")
        if not isinstance(blocks, list):
            raise NoText(f"an answer without content: {_short(answer)}", again=True)
        texts = [one["text"] for one in blocks if isinstance(one, dict) and isinstance(one.get("text"), str)]
        if not texts and answer.get("stop_reason") != "end_turn":
            raise NoText(f"an answer without text (stop_reason {answer.get('stop_reason')})")
        return "".join(texts)

    def tokens(self, answer: Json) -> tuple[int, int]:
        usage = section(answer, "usage")
        given = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return sum(_tokens(usage, name) for name in given), _tokens(usage, "output_tokens")


@register
class Gemini(Form):
    name = "gemini"
    base_url = "https://generativelanguage.googleapis.com/v1beta"
    key_variable = "GEMINI_API_KEY"
    version = "/v1beta"
    options = {"max_tokens": "maxOutputTokens", "top_p": "topP", "top_k": "topK", "stop": "stopSequences"}

    def url(self, base_url: str, model: str) -> str:
        return f"{self.root(base_url)}/models/{quote(model.removeprefix('models/'))}:generateContent"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def body(self, model: str, messages: list[Message], options: Json) -> Json:
        system, others = _apart(messages)
        roles = {"assistant": "model"}
        turns = [{"role": roles.get(one["role"], "user"), "parts": [{"text": one["content"]}]} for one in others]
        config = self.named(options)
        if isinstance(config.get("stopSequences"), str):
            config["stopSequences"] = [config["stopSequences"]]
        return (
            {"contents": turns}
            | ({"systemInstruction": {"parts": [{"text": system}]}} if system else {})
            | ({"generationConfig": config} if config else {})
        )

    def text(self, answer: Json) -> str:
        candidates = answer.get("candidates")
        if blocked := section(answer, "promptFeedback").get("blockReason"):
            raise NoText(f"it refused the prompt ({blocked})")
        if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
            raise NoText(f"an answer without candidates: {_short(answer)}", again=True)
        parts = section(candidates[0], "content").get("parts")
        parts = [one for one in parts if isinstance(one, dict)] if isinstance(parts, list) else []
        texts = [one["text"] for one in parts if isinstance(one.get("text"), str) and not one.get("thought")]
        if not texts:
            raise NoText(f"an answer without text (finishReason {candidates[0].get('finishReason')})")
        return "".join(texts)

    def tokens(self, answer: Json) -> tuple[int, int]:
        usage = section(answer, "usageMetadata")
        made = ("candidatesTokenCount", "thoughtsTokenCount")
        return _tokens(usage, "promptTokenCount"), sum(_tokens(usage, name) for name in made)


def messages_of(prompt: str | list[Message]) -> list[Message]:
    """A prompt as messages with a role (system, user, assistant) and a content. Raises InputValidationError."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    fits = isinstance(prompt, list) and all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one for one in prompt
    )
    if not fits or not prompt:
        said = f"prompt: must be a text, or a list of messages with role and content, found {_short(prompt)}"
        raise InputValidationError(said)
    return prompt


def _apart(messages: list[Message]) -> tuple[str, list[Message]]:
    """The words of the system, which some forms want by themselves, and the other messages."""
    system = [str(one["content"]) for one in messages if one["role"] == "system"]
    return "\n\n".join(system), [one for one in messages if one["role"] != "system"]


def _tokens(usage: Json, name: str) -> int:
    return count(usage.get(name)) or 0


def _short(data: Any) -> str:
    return json.dumps(data, default=repr)[:200]
