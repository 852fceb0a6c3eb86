"""The messages of a trajectory (ATIF), and the forms in which they are given away: Harbor's, ShareGPT's, OpenAI's.

Harbor's form is that of `harbor.utils.traces_utils` (PyPI: harbor 0.26.0): all text, with `system` as `user`, what the model thought in
<think>, its calls in <tool_call>, and what they brought as the user's next words. ShareGPT's names the roles human, gpt and system
(https://github.com/lm-sys/FastChat, as most programs for training read it). OpenAI's is that of chat completions with tools
(https://platform.openai.com/docs/guides/fine-tuning).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from helpers.lib import values
from helpers.trajectories.atif import printable

SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system"}
Plain = list[dict[str, str]]


class Unfit(Exception):
    """There is nothing to be given away of a run; the message says why, in words that are counted."""


@dataclass(frozen=True)
class Call:
    """A call of a tool. arguments: an object of JSON."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Message:
    """What was said. role: system, user or assistant; results: the call that each answers (None: of none), and its text.

    ends: whether an episode ends with it, an answer of the agent that is no copy of an earlier one.
    """

    role: str
    text: str
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    results: tuple[tuple[str | None, str], ...] = ()
    ends: bool = False


@dataclass(frozen=True)
class Conversation:
    """A trajectory's messages. tools: the definitions of the agent's tools, where it tells them; version: of the agent."""

    messages: tuple[Message, ...]
    tools: list[dict[str, Any]] = field(default_factory=list)
    version: str | None = None
    schema: str | None = None

    @property
    def told(self) -> str | None:
        """The first words of the user's before the agent's first: what it was told to do."""
        for message in self.messages:
            if message.role == "assistant":
                break
            if message.role == "user" and message.text.strip():
                return message.text
        return None

    @cached_property
    def ends(self) -> list[int]:
        """The places of the messages that end an episode."""
        return [number for number, message in enumerate(self.messages) if message.ends]

    def episode(self, number: int) -> tuple[Message, ...]:
        """What was said up to an answer of the agent, that included; what came of it is not."""
        end = self.ends[number]
        last = self.messages[end]
        return (*self.messages[:end], Message(last.role, last.text, last.reasoning, last.calls))


def read(trajectory: dict[str, Any]) -> Conversation:
    """The conversation of a trajectory in ATIF, whatever it holds. Raises Unfit where it holds none, or more than text."""
    steps = trajectory.get("steps")
    known = (step for step in steps if isinstance(step, dict)) if isinstance(steps, list) else ()
    messages = tuple(_message(step) for step in known if step.get("source") in ("system", "user", "agent"))
    agent = values.section(trajectory, "agent")
    tools = agent.get("tool_definitions")
    found = Conversation(
        messages,
        [_clean(tool) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else [],
        values.text(agent.get("version")),
        values.text(trajectory.get("schema_version")),
    )
    if not found.ends:
        raise Unfit("no answer of the agent")
    return found


def _message(step: dict[str, Any]) -> Message:
    source, text = step.get("source"), _text(step.get("message"))
    if source != "agent":
        return Message(str(source), text)
    calls = step.get("tool_calls")
    results = values.section(step, "observation").get("results")
    return Message(
        "assistant",
        text,
        _text(step.get("reasoning_content")),
        tuple(_call(one) for one in calls if isinstance(one, dict)) if isinstance(calls, list) else (),
        tuple(_results(results)) if isinstance(results, list) else (),
        ends=step.get("is_copied_context") is not True,
    )


def _call(call: dict[str, Any]) -> Call:
    return Call(
        printable(values.text(call.get("tool_call_id")) or "call"),
        printable(values.text(call.get("function_name")) or "unknown"),
        _clean(values.section(call, "arguments")),
    )


def _results(results: list[Any]) -> Iterator[tuple[str | None, str]]:
    for result in results:
        if isinstance(result, dict) and result.get("content") is not None:
            answered = values.text(result.get("source_call_id"))
            yield answered and printable(answered), _text(result["content"])


def _text(content: Any) -> str:
    """The text of a message, which may come in parts. Raises Unfit where one is no text."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        if any(part.get("type") in ("image", "audio") for part in parts):
            raise Unfit("pictures or sound")
        content = "\n".join(text for part in parts if isinstance(text := part.get("text"), str))
    return printable(content) if isinstance(content, str) else ""


def _clean(value: dict[str, Any]) -> dict[str, Any]:
    """An object without what JSON in UTF-8 can't hold: halves of surrogates, NaN."""
    if all(one is None or isinstance(one, (str, int)) for one in value.values()):  # as most are: at once
        return {printable(key): printable(one) if isinstance(one, str) else one for key, one in value.items()}
    text = printable(json.dumps(value, ensure_ascii=False))
    made: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return made


def after_system(messages: Sequence[Message], told: str) -> tuple[Message, ...]:
    """The messages with the user's first words, which a trajectory lacks, after those of the system that begin it."""
    at = next((number for number, message in enumerate(messages) if message.role != "system"), len(messages))
    return (*messages[:at], Message("user", told), *messages[at:])


def _thought(message: Message) -> Iterator[str]:
    """What an agent thought and said, without its calls."""
    if message.reasoning:
        yield f"<think>{message.reasoning}</think>"
    if message.text:
        # a server may send the end of a thought alone: its beginning was in the prompt
        is_cut = "</think>" in message.text and "<think>" not in message.text
        yield f"<think>{message.text}" if is_cut else message.text


def harbor(messages: Iterable[Message], tools: Sequence[dict[str, Any]] = ()) -> Plain:
    """As Harbor exports them: a list of {role, content}. tools: their definitions, which stand before the system's first words."""
    made: Plain = []
    for message in messages:
        if message.role == "assistant":
            calls = ({"name": call.name, "arguments": call.arguments} for call in message.calls)
            called = (f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls)
            made.append({"role": "assistant", "content": "\n".join([*_thought(message), *called])})
            if message.results:
                made.append({"role": "user", "content": "\n".join(text for _, text in message.results)})
            continue
        content = message.text
        if tools and message.role == "system":
            content = f"<tools>\n{json.dumps(tools, ensure_ascii=False, indent=2)}\n</tools>\n\n{content}"
            tools = ()
        made.append({"role": "user", "content": content})
    return made


def sharegpt(messages: Iterable[Message], tools: Sequence[dict[str, Any]] = ()) -> Plain:
    """As ShareGPT: a list of {from, value}, in which human and gpt take turns: what one said in a row is one."""
    made: Plain = []
    for message in messages:
        if message.role == "system":
            turns = [{"role": "system", "content": message.text}]
        else:
            turns = harbor([message])
        for turn in turns:
            name = SHAREGPT[turn["role"]]
            if made and made[-1]["from"] == name:
                made[-1]["value"] += f"\n\n{turn['content']}"
            else:
                made.append({"from": name, "value": turn["content"]})
    if tools:
        text = f"<tools>\n{json.dumps(tools, ensure_ascii=False, indent=2)}\n</tools>"
        if made and made[0]["from"] == "system":
            made[0]["value"] = f"{text}\n\n{made[0]['value']}"
        else:
            made.insert(0, {"from": "system", "value": text})
    return made


def openai(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """As chat completions have them. Calls have ids of their own, and each but those of the last message has an answer."""
    every = list(messages)
    made: list[dict[str, Any]] = []
    number = 0
    for at, message in enumerate(every):
        told: dict[str, Any] = {"role": message.role, "content": "\n".join(_thought(message))}
        made.append(told)
        if message.role != "assistant":
            continue
        names = [f"call_{number + place}" for place in range(len(message.calls))]
        number += len(names)
        if names:
            told["tool_calls"] = [_function(*both) for both in zip(message.calls, names, strict=True)]
        if at + 1 < len(every):
            made += _answers(message, names)
    return made


def _function(call: Call, name: str) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _answers(message: Message, names: list[str]) -> Iterator[dict[str, Any]]:
    """What came of calls, one for each of them, and then what came of none."""
    own = dict(zip((call.id for call in reversed(message.calls)), reversed(names), strict=True))
    alone = names[0] if len(names) == 1 else None
    found: dict[str | None, list[str]] = {}
    for call, text in message.results:
        found.setdefault(own.get(call or "", alone), []).append(text)
    for name in names:
        yield {"role": "tool", "tool_call_id": name, "content": "\n".join(found.get(name, []))}
    if None in found:
        yield {"role": "user", "content": "\n".join(found[None])}
