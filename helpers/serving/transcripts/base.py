"""What a transcript is, the request that it is asked about, and the answer that it gives.

Requests and answers are those of OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from helpers.serving.server import Rejected

OWNER = "replay (not a language model)"


@dataclass(frozen=True)
class Request:
    """What is asked for. text: of all messages; tools: functions, None where none may be called; most: tokens of the answer."""

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    most: int | None
    streams: bool
    tells_usage: bool

    @cached_property
    def text(self) -> str:
        return "\n".join(text_of(message) or "" for message in self.messages)

    @cached_property
    def words(self) -> int:
        """How long it is: what stands for the tokens of a prompt."""
        return len(self.text.split()) + sum(
            len(str(function.get("arguments")).split())
            for message in self.messages
            for _, function in calls_of(message)
        )

    @property
    def tool_names(self) -> list[Any]:
        return [tool.get("name") for tool in self.tools or []]


@dataclass(frozen=True)
class Answer:
    """What is answered. kind: of request, for the log; calls: id, name and arguments of each call of a tool."""

    kind: str
    content: str | None = None
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    finish: str = "stop"

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.calls:
            message["tool_calls"] = [
                {"id": number, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                for number, name, arguments in self.calls
            ]
        return message

    @property
    def words(self) -> int:
        """How long it is: what stands for the tokens of an answer."""
        return len((self.content or "").split()) + sum(len(json.dumps(call[2]).split()) for call in self.calls)


class Transcript:
    """Prepared answers to one kind of agent. ASKED: which requests are its own, in a few words."""

    ASKED = ""

    def takes(self, request: Request) -> bool:
        """Whether the request is of the kind that it answers."""
        raise NotImplementedError

    def answer(self, request: Request) -> Answer:
        """Answer a request that it takes."""
        raise NotImplementedError


def request_of(body: Any, names: list[str]) -> Request:
    """Read a chat completion request to one of the models `names`. Raises Rejected."""
    if not isinstance(body, dict):
        raise Rejected(400, "the body is not a JSON object")
    name, messages = body.get("model"), body.get("messages")
    if not isinstance(name, str) or name not in names:
        raise Rejected(404, f"The model {name!r} does not exist. Served here: {', '.join(names)}")
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        raise Rejected(400, "'messages' must be a list of messages with text content")
    if body.get("n", 1) != 1:
        raise Rejected(400, f"{OWNER}: it gives one answer, not several")
    most = body.get("max_tokens") or body.get("max_completion_tokens")
    options = body.get("stream_options")
    return Request(
        name,
        messages,
        _functions(body),
        most if isinstance(most, int) else None,
        bool(body.get("stream")),
        isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _functions(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    tools = body.get("tools")
    if not tools or body.get("tool_choice") == "none":
        return None
    found = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [function for function in found if isinstance(function, dict)]


def text_of(message: dict[str, Any]) -> str | None:
    """The text of a message, which may come in parts; None where it has none."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        are_texts = len(texts) == len(content) and all(isinstance(text, str) for text in texts)
        return "\n".join(texts) if are_texts else None
    return content if isinstance(content, str) else None


def calls_of(message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Id and function of each call of a tool in a message."""
    calls = message.get("tool_calls")
    known = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [(str(call.get("id")), call["function"]) for call in known if isinstance(call.get("function"), dict)]


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and (text_of(message) is not None or bool(calls_of(message)))
