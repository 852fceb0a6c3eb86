"""What an agent did, by its own files: AIDE's journal, or a trajectory in ATIF; read within bounds, believed to be texts and numbers only.

AIDE's journal.json: `nodes` with code, plan, ctime, exec_time, is_buggy, metric, analysis, _term_out, exc_type; `node2parent`. ATIF:
https://www.harborframework.com/docs/agents/trajectory-format.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.lib import bounded, disk, text, values
from helpers.lib.values import section

SMALL = 2 * 2**20  # bytes of a file that is read at once; a larger one by a process with bounds
LARGEST = 64 * 2**20
SECONDS, MEMORY = 5.0, 768 * 2**20
MOST_STEPS = 300
MOST_CODE, MOST_TEXT = 24_000, 4_000  # characters of a program, and of any other text
LONGEST = 400 * 86400.0  # seconds of a run
LINE = 2_000  # characters of a line
LONG = re.compile(rf"([^\n]{{{LINE}}})[^\n]+")


@dataclass
class Trace:
    """steps: what the page shows of each; left_out: how many more there are; problem: why it can't be read; file: where it is from."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0
    problem: str = ""
    file: str = ""


def read(folder: str, started: float | None) -> Trace:
    """The trace in a run's folder. started: the agent's start, seconds since 1970."""
    if os.path.islink(f"{folder}/logs"):
        return Trace(problem="logs is a link")
    for name, reader in (("journal.json", journal), ("trajectory.json", trajectory)):
        file = f"logs/{name}"
        try:
            size = os.stat(f"{folder}/{file}", follow_symlinks=False).st_size
        except OSError:
            continue
        try:
            if size <= SMALL:
                return _read(f"{folder}/{file}", file, reader, started, SMALL)
            arguments = (f"{folder}/{file}", file, reader, started, LARGEST)
            return bounded.call(_read, *arguments, seconds=SECONDS, memory=MEMORY)
        except bounded.Exceeded as error:
            return Trace(problem=f"{file} {error}", file=file)
    return Trace()


def _read(path: str, file: str, reader: Any, started: float | None, limit: int) -> Trace:
    try:
        told = json.loads(disk.decoded(disk.read_file(path, limit))[0])
        return (
            reader(told, started, file) if isinstance(told, dict) else Trace(problem=f"{file} is no object", file=file)
        )
    except RecursionError:
        return Trace(problem=f"{file} is nested too deep", file=file)
    except json.JSONDecodeError:
        return Trace(problem=f"{file} is cut off or no JSON", file=file)
    except (OSError, ValueError) as error:
        return Trace(problem=f"{file}: {getattr(error, 'strerror', None) or error}", file=file)


def journal(told: dict[str, Any], started: float | None, file: str) -> Trace:
    """The steps of AIDE's journal. A parent is a step before its child: so a circle can't be told."""
    nodes = _objects(told.get("nodes"))
    parents, places = section(told, "node2parent"), {}
    steps = []
    for at, node in enumerate(nodes[:MOST_STEPS]):
        name = values.text(node.get("id"))
        parent = parents.get(name) if name else None
        metric = section(node, "metric")
        good = node.get("is_buggy") is False
        steps.append(
            _without_empty(
                {
                    "kind": "solution",
                    "state": "good" if good else "buggy",
                    "parent": places.get(parent) if isinstance(parent, str) else None,
                    "metric": values.number(metric.get("value")) if good else None,
                    "maximize": values.flag(metric.get("maximize")),
                    "at": _since(values.number(node.get("ctime")), started),
                    "seconds": _seconds(node.get("exec_time")),
                    "code": shortened(node.get("code"), MOST_CODE),
                    "plan": shortened(node.get("plan"), MOST_TEXT),
                    "output": shortened(_joined(node.get("_term_out")), MOST_TEXT),
                    "analysis": shortened(node.get("analysis"), MOST_TEXT),
                    "error": shortened(node.get("exc_type"), 200),
                }
            )
        )
        if name:
            places.setdefault(name, at)
    return Trace(steps, max(0, len(nodes) - MOST_STEPS), "", file)


def trajectory(told: dict[str, Any], started: float | None, file: str) -> Trace:
    """The steps of a trajectory: what was said, which tools were called, what they answered. tokens: of the model, until then."""
    found, tokens = [], 0
    every = _objects(told.get("steps"))
    for one in every[:MOST_STEPS]:
        metrics, calls = section(one, "metrics"), _objects(one.get("tool_calls"))
        counts = [values.count(metrics.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        tokens += sum(count for count in counts if count is not None)
        results = _objects(section(one, "observation").get("results"))
        names = ", ".join(dict.fromkeys(values.text(call.get("function_name")) or "a tool" for call in calls))
        found.append(
            _without_empty(
                {
                    "kind": "action",
                    "state": values.text(one.get("source")) or "agent",
                    "title": shortened(names, 200),
                    "at": _since(values.seconds_of(one.get("timestamp")), started),
                    "plan": shortened(one.get("message"), MOST_TEXT),
                    "code": shortened("\n".join(_call(call) for call in calls), MOST_CODE),
                    "output": shortened("\n".join(_words(one.get("content")) for one in results), MOST_TEXT),
                    "tokens": tokens or None,
                }
            )
        )
    return Trace(found, max(0, len(every) - MOST_STEPS), "", file)


def _call(call: dict[str, Any]) -> str:
    """A call as a person would have typed it, where it is of one text alone."""
    given = section(call, "arguments")
    if len(given) == 1 and isinstance(only := next(iter(given.values())), str):
        return only
    return json.dumps(given, ensure_ascii=False)[: 2 * MOST_CODE]


def _objects(told: Any) -> list[dict[str, Any]]:
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []


def _without_empty(step: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if value not in (None, "")}


def _joined(told: Any) -> str:
    """A program's output: a list of texts. Of a longer one the end is kept, where its errors are."""
    if not isinstance(told, list):
        return _words(told)
    kept: list[str] = []
    size = 0
    for one in reversed(told):
        kept.append(_words(one))
        size += len(kept[-1])
        if size > 4 * MOST_TEXT:
            kept.append("…")
            break
    return "".join(reversed(kept))


def _words(told: Any) -> str:
    return told if isinstance(told, str) else "" if told is None else json.dumps(told, ensure_ascii=False)


def shortened(told: Any, most: int) -> str:
    """A text that drives nothing, of at most so many characters and with no endless lines: its beginning and its end."""
    if not isinstance(told, str):
        return ""
    if len(told) > most:
        left = len(told) - most
        told = f"{told[: most // 2]}\n… {left:,} characters left out …\n{told[-(most - most // 2) :]}"
    told = text.clean(told)
    return (LONG.sub(r"\1…", told) if len(told) > LINE else told).strip("\n")


def _since(at: float | None, started: float | None) -> float | None:
    if at is None or started is None or not -60 <= at - started <= LONGEST:
        return None
    return round(max(0.0, at - started), 1)


def _seconds(told: Any) -> float | None:
    number = values.number(told)
    return round(number, 2) if number is not None and 0 <= number <= LONGEST else None


def points(steps: Sequence[dict[str, Any]], most: int) -> list[Any]:
    """What the charts over all runs show: whether the agent's own measure grows (None: unknown), and of each step state, time, seconds,
    metric, tokens.

    The direction is the one that most steps name.
    """
    ways = Counter(one["maximize"] for one in steps if "maximize" in one and "metric" in one).most_common(1)
    told = [[one["state"], *(one.get(key) for key in ("at", "seconds", "metric", "tokens"))] for one in steps[:most]]
    return [ways[0][0] if ways else None, told]
