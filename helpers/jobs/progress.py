"""How far an agent is, by what it writes while it runs, and how far a model server has loaded, by its log. Runs where a person types.

An agent's files are its own word: they are read within bounds, believed to be numbers only, and hurt nobody but their agent's line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.lib import bounded, disk, durations, values
from helpers.lib import text as reasons
from helpers.runs.metadata import Run

USAGE_BYTES = 64 * 1024
JOURNAL_BYTES = 64 * 2**20  # hundreds of steps, each with its program's output
JOURNAL_SECONDS = 3.0  # the watcher hears no Ctrl-C meanwhile
JOURNAL_MEMORY = 768 * 2**20
LOOK_SECONDS = {"table": 10.0, "lines": 60.0}  # between two looks at an agent or a server, by how it is shown
# vLLM's own words, in the order of its start: the last one that its log holds is where it is
STAGES = (
    (r"Fetching \d+ files: +(?P<percent>\d+)%", "downloading the weights"),
    (r"Loading \w+ checkpoint shards: +(?P<percent>\d+)% Completed [|] (?P<done>\d+)/(?P<all>\d+)", "loading weights"),
    (r"Loading weights took |Model loading took ", "weights loaded, preparing"),
    (r"Dynamo bytecode transform|Compiling a graph|torch[.]compile takes", "compiling"),
    (r"GPU KV cache size: ", "memory allotted, warming up"),
    (r"Capturing CUDA graphs?\b[^%\n]{0,80}: +(?P<percent>\d+)%", "capturing CUDA graphs"),
    (r"Graph capturing finished|Application startup complete", "loaded, about to answer"),
)


@dataclass(frozen=True)
class Progress:
    """An agent's step, of how many; its best metric by its own word; when its time is up, and when this was seen (seconds since 1970)."""

    step: int | None = None
    steps: int | None = None
    best: float | None = None
    ends: float | None = None
    seen: float = 0.0

    def words(self, now: float) -> str:
        """A phrase on what is known; empty where nothing is."""
        parts = []
        if self.step is not None:
            parts.append(f"step {self.step}" + (f" of {self.steps}" if self.steps else ""))
        if self.best is not None:
            parts.append(f"best {self.best:.5g} by its own measure")
        if self.ends is not None:
            parts.append(f"{durations.words(self.ends - now)} left" if self.ends > now else "its time is up")
        return ", ".join(parts)

    def data(self, now: float) -> dict[str, Any]:
        """The same for programs."""
        left = None if self.ends is None else max(0, round(self.ends - now))
        return {"step": self.step, "steps": self.steps, "best_metric": self.best, "seconds_left": left}


def loading(text: str) -> str:
    """How far a model server has come, by the end of its log; empty where it tells nothing."""
    found = ((match.start(), match, words) for pattern, words in STAGES for match in re.finditer(pattern, text))
    last = max(found, default=None, key=lambda one: one[0])
    if last is None:
        return ""
    told = last[1].groupdict()
    parts = [last[2]]
    if told.get("percent"):
        parts.append(f"{int(told['percent'][:3])} %")
    if told.get("all"):
        parts.append(f"({int(told['done'][:6])} of {int(told['all'][:6])} files)")
    return " ".join(parts)


class Looks:
    """Looks at agents and servers, each at most once in `seconds`; between two looks, the last one's answer is given."""

    def __init__(self, seconds: float = LOOK_SECONDS["lines"]):
        self.seconds = seconds
        self._seen: dict[str, tuple[float, Any]] = {}  # when, and what, by agent or server
        self._journals: dict[
            str, tuple[Any, float | None]
        ] = {}  # which state of a journal was read, and its best metric

    def agent(self, run: Run) -> Progress:
        """How far a run's agent is. What can't be read is not known."""

        def look(before: Progress | None) -> Progress:
            now = self._read(run)
            same = before and (before.step, before.best) == (now.step, now.best)
            return replace(now, seen=before.seen) if same else now

        return self._once(str(run.directory), look)

    def server(self, job: str, log: Callable[[], Path | None]) -> str:
        """How far a model server has loaded."""
        return self._once(f"server {job}", lambda _: loading(reasons.tail(log())))

    def _once(self, key: str, look: Callable[[Any], Any]) -> Any:
        then, before = self._seen.get(key, (None, None))
        if then is None or time.monotonic() - then >= self.seconds:
            self._seen[key] = (time.monotonic(), look(before))
        return self._seen[key][1]

    def _read(self, run: Run) -> Progress:
        told = run.metadata
        started, limit = values.seconds_of(told.get("agent_started_at")), values.count(told.get("time_limit_seconds"))
        ends = None if started is None or limit is None else started + limit
        logs = run.directory / "logs"
        usage = None if logs.is_symlink() else _object(logs / "usage.json")
        return Progress(
            step=values.count((usage or {}).get("steps")),
            steps=values.count(told.get("step_limit")),
            best=None if logs.is_symlink() else self._best(logs / "journal.json"),
            ends=ends,
            seen=time.time(),
        )

    def _best(self, journal: Path) -> float | None:
        """The best metric in a journal; read again only when it has changed, and never again once that took too much."""
        key = str(journal)
        state, best = self._journals.get(key, (None, None))
        try:
            now = os.stat(journal, follow_symlinks=False)
        except OSError:
            return best
        if state == (stamp := (now.st_mtime_ns, now.st_size, now.st_ino)) or state == "too much":
            return best
        try:
            # one half written leaves what was known before
            read = bounded.call(best_metric, key, seconds=JOURNAL_SECONDS, memory=JOURNAL_MEMORY)
            self._journals[key] = (stamp, best if read is None else read)
        except bounded.Exceeded:
            self._journals[key] = ("too much", None)
        return self._journals[key][1]


def _object(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        data = json.loads(disk.read_file(path, USAGE_BYTES))
        return data if isinstance(data, dict) else None
    return None


def best_metric(path: str) -> float | None:
    """The best metric of AIDE's journal.json (`nodes`: `is_buggy`, `metric`: `value`, `maximize`); None where it has none.

    The direction is the one that most nodes name.
    """
    try:
        nodes = json.loads(disk.read_file(path, JOURNAL_BYTES)).get("nodes")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
    good = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    metrics = [values.section(node, "metric") for node in good if node.get("is_buggy") is False]
    found = [
        (number, one.get("maximize")) for one in metrics if (number := values.number(one.get("value"))) is not None
    ]
    ways = Counter(way for _, way in found if isinstance(way, bool)).most_common(1)
    if not ways:
        return None
    return float((max if ways[0][0] else min)(number for number, _ in found))
