"""mini-swe-agent's trajectory (`trajectory_format` mini-swe-agent-1.1) in ATIF: an answer of the model is a step, its commands are calls.

Its messages are those of chat completions, with what is not the model's in `extra`; the message of role `exit` says how it ended.
"""

from __future__ import annotations

import json
from typing import Any

from helpers.lib import values
from helpers.trajectories.atif import Call, Result, Step, Trajectory, known, tokens_of

NAME = "mini-swe.traj.json"
MOST_ARGUMENTS = 100


def trajectory(data: dict[str, Any], agent: str) -> Trajectory:
    """What mini-swe-agent has written. Raises ValueError where it is no trajectory of its."""
    messages = data.get("messages")
    if not isinstance(messages, list):
        raise ValueError("is no trajectory of mini-swe-agent: it has no list of messages")
    info = values.section(data, "info")
    model = values.section(values.section(info, "config"), "model")
    made = Trajectory(agent, values.text(info.get("mini_version")) or "unknown", values.text(model.get("model_name")))
    odd = 0
    for message in messages:
        if not isinstance(message, dict) or not _add(made, message):
            odd += 1
    if odd:
        made.notes.append(f"{odd} messages are of no kind that is known.")
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        told = [step.metrics[name] for step in made.steps if name in step.metrics]
        made.totals[f"total_{name}"] = sum(told) if told else None
    made.totals["total_cost_usd"] = values.number(values.section(info, "model_stats").get("instance_cost"))
    made.extra = {
        "trajectory_format": values.text(data.get("trajectory_format")),
        "exit_status": values.text(info.get("exit_status")),
    }
    return made


def _add(made: Trajectory, message: dict[str, Any]) -> bool:
    """Add a message to the steps; False where it is of no known kind."""
    role, extra, text = message.get("role"), values.section(message, "extra"), _text(message.get("content"))
    at = values.number(extra.get("timestamp"))
    last = made.steps[-1] if made.steps and made.steps[-1].source == "agent" else None
    if role == "assistant":
        made.steps.append(_answer(message, extra, text, at))
    elif role == "tool" and last:
        last.results.append(Result(text, values.text(message.get("tool_call_id")), _outcome(extra)))
    elif role == "user" and isinstance(extra.get("response"), dict):
        # an answer without a command that could be run: what was said to it
        made.steps.append(_refused(extra, text, at))
    elif role == "exit":
        status = values.text(extra.get("exit_status")) or "unknown"
        told = {"exit_status": status, "exception": values.text(extra.get("exception_str"))}
        made.steps.append(Step("system", text or status, at, extra=known(told)))
    elif role in ("user", "system", "tool"):
        made.steps.append(Step("system" if role == "tool" else role, text, at))
    else:
        return False
    return True


def _answer(message: dict[str, Any], extra: dict[str, Any], text: str, at: float | None) -> Step:
    response = values.section(extra, "response")
    reasoning = message.get("reasoning_content")
    calls = message.get("tool_calls")
    return Step(
        "agent",
        text,
        at,
        model=values.text(response.get("model")),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        calls=[call for one in (calls if isinstance(calls, list) else []) if (call := _call(one))],
        metrics=tokens_of(response.get("usage")) | known({"cost_usd": values.number(extra.get("cost"))}),
        requests=1,
    )


def _refused(extra: dict[str, Any], text: str, at: float | None) -> Step:
    response = extra["response"]
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = values.section(choice, "message")
    step = _answer(message, extra, _text(message.get("content")), at)
    step.results = [Result(text)]
    step.extra = {"format_error": True}
    return step


def _call(call: Any) -> Call | None:
    function = values.section(call, "function") if isinstance(call, dict) else {}
    if not function:
        return None
    name, said = function.get("name"), function.get("arguments")
    try:
        arguments = json.loads(said) if isinstance(said, str) else said
    except (ValueError, RecursionError):
        arguments = {"arguments": said}
    return Call(values.text(call.get("id")) or "call", name if isinstance(name, str) else "unknown", flat(arguments))


def flat(arguments: Any) -> dict[str, Any]:
    """Arguments of a call, whatever the model made of them: texts, numbers, true and false, and all else as its JSON."""
    if not isinstance(arguments, dict):
        arguments = {"arguments": arguments}
    return {str(name): _plain(value) for name, value in list(arguments.items())[:MOST_ARGUMENTS]}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)):
        return values.number(value)
    try:
        return json.dumps(value)
    except RecursionError:
        return None


def _outcome(extra: dict[str, Any]) -> dict[str, Any]:
    code = extra.get("returncode")
    is_code = isinstance(code, int) and not isinstance(code, bool) and abs(code) < 2**31
    return known({"returncode": code if is_code else None, "exception": values.text(extra.get("exception_info"))})


def _text(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""
