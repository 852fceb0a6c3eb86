"""The Agent Trajectory Interchange Format, version 1.7, as far as it is written here.

Its fields and rules are those of Harbor's models (PyPI: harbor, harbor/models/trajectories): unknown keys are refused, step_id counts
from 1, what belongs to agents stands in an agent's steps alone, and a source_call_id names a call of the same step. What is not known is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from helpers.lib import values

VERSION = "ATIF-v1.7"
MOST_STEPS = 10_000
LONGEST_TEXT = 200_000  # characters of one text
MOST_TEXT = 64 * 2**20  # characters of all texts; when they are used up a text gets SHORT ones
SHORT = 1_000


@dataclass
class Call:
    """A call of a tool. id: as the model gave it, made unique within its step; results: (text, extra) each."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass
class Result:
    """What came of a step. call: the id of the call that it answers, where it does."""

    text: str | None
    call: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Step:
    """A step. source: system, user or agent; at: seconds since 1970; metrics, model, reasoning, calls: of agents alone."""

    source: str
    message: str
    at: float | None = None
    model: str | None = None
    reasoning: str | None = None
    calls: list[Call] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    requests: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trajectory:
    """What an agent did. totals: of final_metrics; notes: sentences on what is left out or odd."""

    agent: str
    version: str
    model: str | None = None
    run_id: str | None = None
    steps: list[Step] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The trajectory as a JSON object of the format. Raises ValueError where there is no step."""
        if not self.steps:
            raise ValueError("holds no step")
        texts, notes = Texts(), list(self.notes)
        steps = [_step(number, step, texts) for number, step in enumerate(self.steps[:MOST_STEPS], 1)]
        if len(self.steps) > MOST_STEPS:
            notes.append(f"The last {len(self.steps) - MOST_STEPS} of {len(self.steps)} steps are left out.")
        if texts.cut:
            notes.append(f"{texts.cut} long texts are without their middle.")
        metrics = known(self.totals) | {"total_steps": len(self.steps)}
        return {"schema_version": VERSION} | known(
            {
                "session_id": self.run_id,
                "trajectory_id": self.run_id,
                "agent": known({"name": self.agent, "version": self.version, "model_name": self.model}),
                "steps": steps,
                "notes": " ".join(notes) or None,
                "final_metrics": metrics,
                "extra": known(self.extra) or None,
            }
        )


class Texts:
    """Bounds texts. cut: how many have lost their middle."""

    def __init__(self) -> None:
        self.left, self.cut = MOST_TEXT, 0

    def fit(self, text: str) -> str:
        """The text, printable as UTF-8, without its middle where it is too long."""
        most = min(LONGEST_TEXT, max(self.left, SHORT))
        if len(text) > most:
            half = most // 2
            text = f"{text[:half]}\n[{len(text) - 2 * half} characters are left out here]\n{text[-half:]}"
            self.cut += 1
        self.left -= len(text)
        return printable(text)

    def fit_all(self, value: Any) -> Any:
        """The same for all texts of a value of JSON's types, whatever they stand in."""
        if isinstance(value, str):
            return self.fit(value)
        if isinstance(value, dict):
            return {printable(str(key))[:200]: self.fit_all(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fit_all(inner) for inner in value]
        return value


def printable(text: str) -> str:
    """The text without lone surrogates, which no file in UTF-8 can hold; it itself where it has none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def known(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def time_of(seconds: float | None) -> str | None:
    """A time in ISO 8601, UTC; seconds: since 1970."""
    if seconds is None or not 0 <= seconds < 4e9:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _step(number: int, step: Step, texts: Texts) -> dict[str, Any]:
    calls = unique(step.calls)
    own: dict[str, Any] = {}
    if step.source == "agent":
        own = {
            "model_name": step.model,
            "reasoning_content": None if step.reasoning is None else texts.fit(step.reasoning),
            "tool_calls": [_call(one, texts) for one in calls] or None,
            "metrics": known(step.metrics) or None,
            "llm_call_count": step.requests,
        }
    ids = {call.id for call in calls}
    results = [_result(one, ids, texts) for one in step.results]
    return known(
        {
            "step_id": number,
            "timestamp": time_of(step.at),
            "source": step.source,
            "message": texts.fit(step.message),
            **own,
            "observation": {"results": results} if results else None,
            "extra": texts.fit_all(known(step.extra)) or None,
        }
    )


def _call(call: Call, texts: Texts) -> dict[str, Any]:
    return {
        "tool_call_id": call.id,
        "function_name": texts.fit(call.name[:200]),
        "arguments": texts.fit_all(call.arguments),
    }


def _result(result: Result, ids: set[str], texts: Texts) -> dict[str, Any]:
    return known(
        {
            "source_call_id": result.call if result.call in ids else None,
            "content": None if result.text is None else texts.fit(result.text),
            "extra": texts.fit_all(known(result.extra)) or None,
        }
    )


def unique(calls: Iterable[Call]) -> list[Call]:
    """The calls with ids of at most 200 characters that differ from each other: a second of the same id gets a number."""
    found: dict[str, Call] = {}
    for call in calls:
        name = call.id = printable(call.id[:200])
        number = 1
        while call.id in found:
            number += 1
            call.id = f"{name}#{number}"
        found[call.id] = call
    return list(found.values())


def tokens_of(usage: Any) -> dict[str, Any]:
    """Metrics of a request, from the usage of an answer of OpenAI's form; what isn't a number there is not known."""
    if not isinstance(usage, dict):
        return {}
    return known(
        {
            "prompt_tokens": values.count(usage.get("prompt_tokens")),
            "completion_tokens": values.count(usage.get("completion_tokens")),
            "cached_tokens": values.count(values.section(usage, "prompt_tokens_details").get("cached_tokens")),
        }
    )
