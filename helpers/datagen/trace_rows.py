"""Runs as rows of traces: Harbor's columns, and this project's beside them.

Harbor's are those of `harbor traces export` (PyPI: harbor 0.26.0, harbor/utils/traces_utils.py). A lost run and a cancelled one are no
rows: what there is of them says nothing of the agent. One that failed is told by its state, and has no reward.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from helpers.data import fingerprint, layout
from helpers.datagen import trace_messages
from helpers.datagen.trace_messages import Conversation, Message, Unfit
from helpers.lib import bounded, disk, values
from helpers.lib.text import clean
from helpers.lib.values import section
from helpers.runs.metadata import FAILED, score_of
from helpers.runs.one import OneRun, load
from helpers.trajectories import write
from helpers.trajectories.atif import LONGEST_TEXT, printable

EPISODES = ("last", "all")
COLUMNS = {
    "conversations": "what was said, [{role, content}], up to the agent's last answer; of its tools too, as text",
    "agent": "short name of the agent",
    "model": "short name of the model",
    "model_provider": "vllm for a server of ours, replay for none at all, else whose endpoint it is",
    "date": "when the agent's clock started (ISO 8601, UTC)",
    "task": "the task's id",
    "episode": "episode-<n>, counted from 0: an episode ends with each answer of the agent",
    "run_id": "the workflow, or the round",
    "trial_name": "the run in it",
    "result": "the reward as a text; of a failed run its state",
    "tool_definitions": "of the agent's tools, as JSON; empty where it tells none",
    "instruction": "what the agent was told to do",
    "verifier_output": "what judged the run said",
    "state": "scored, invalid_submission, no_submission, agent_failed or timed_out",
    "reward": "of a scored run, more is better: its score, negated where less of that is better; empty, never 0, for all others",
    "score": "of a scored run",
    "prompt_tokens": "of all requests, as the models' endpoints counted them",
    "completion_tokens": "in the same way",
    "seconds": "the agent's time",
    "versions": "{project: commit, agent, image: sha256, trajectory: of the format, data: fingerprint of the task's data}",
    "config_hash": "sha256 of all that can change a result",
    "model_revision": "branch, tag or commit of the model's weights",
    "is_language_model": "false for `replay`, whose answers were prepared, and for an agent without a model",
}
VERSIONS = ("project", "agent", "image", "trajectory", "data")
SMALL, LARGEST = 2 * 2**20, 64 * 2**20  # bytes: of a file that is read in this process, and of a trajectory
LONGEST_DESCRIPTION = 2**20  # bytes
PROVIDERS = {  # others are somebody's own, and not told
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}


def missing(run: OneRun) -> str | None:
    """Why a run is no row, in a word or two; None where it is one."""
    if run.is_open:
        return "not ended"
    if run.state == "scored" and score_of(run.report) is None:
        return "no grading report that can be read"
    return None if run.state == "scored" or run.state in FAILED else run.state


def reward(told: dict[str, Any]) -> float | None:
    """The reward of a row of the table of results, to be made large; None where the run has no score."""
    score = values.number(told["score"])
    if score is None:
        return None
    return 0.0 - score if told["is_lower_better"] is True else float(score)


def has_won(told: dict[str, Any]) -> bool:
    """Whether a run reached something: it has a score, and no reward of 0 or less where more is better (as Harbor has it)."""
    score = values.number(told["score"])
    if score is None or told["valid_submission"] is False:
        return False
    return told["is_lower_better"] is not False or score > 0


@dataclass(frozen=True)
class Trace:
    """An episode of a run. messages: up to its last answer; told: the run's row in the table of results."""

    run: OneRun
    told: dict[str, Any]
    conversation: Conversation
    messages: tuple[Message, ...]
    instruction: str | None
    episode: int

    @cached_property
    def conversations(self) -> trace_messages.Plain:
        return trace_messages.harbor(self.messages, self.conversation.tools)

    @property
    def is_language_model(self) -> bool | None:
        """Whether a language model's words are in it; None where nobody says what answered."""
        has_none = self.told["model"] is None and "model" in self.run.metadata
        return False if has_none else values.flag(self.told["language_model"])

    def row(self) -> dict[str, Any]:
        """All COLUMNS."""
        told, its = self.told, reward(self.told)
        model = section(self.run.workflow, "model_config")
        tools = self.conversation.tools
        row = {
            "conversations": self.conversations,
            "agent": told["agent"],
            "model": told["model"],
            "model_provider": _provider(model),
            "date": told["started_at"] or values.time_of(self.run.metadata.get("created_at")),
            "task": told["task"],
            "episode": f"episode-{self.episode}",
            "run_id": os.path.basename(self.run.group),
            "trial_name": self.run.name,
            "result": told["state"] if its is None else str(its),
            "tool_definitions": json.dumps(tools, ensure_ascii=False) if tools else None,
            "instruction": self.instruction,
            "verifier_output": _verifier_output(self.run),
            "state": told["state"],
            "reward": its,
            "score": told["score"],
            "prompt_tokens": told["prompt_tokens"],
            "completion_tokens": told["completion_tokens"],
            "seconds": told["agent_seconds"],
            "versions": self._versions(),
            "config_hash": told["config_hash"],
            "model_revision": values.text(model.get("revision")) if model.get("engine") == "vllm" else None,
            "is_language_model": self.is_language_model,
        }
        return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}

    def _versions(self) -> dict[str, str | None]:
        told = self.told
        found = told["git_commit"], self.conversation.version, told["image_digest"], self.conversation.schema
        return {
            name: value and printable(value)
            for name, value in zip(VERSIONS, (*found, told["data_fingerprint"]), strict=True)
        }


def rows(folder: Path, episodes: str = "last") -> Iterator[dict[str, Any]]:
    """The rows of a run's folder: one, or with episodes "all" one for each answer of the agent. Raises Unfit where it is none."""
    run = OneRun(
        os.path.realpath(folder),
        load(os.path.dirname(os.path.realpath(folder)), "workflow.json", [], False),
        time.time(),
    )
    if why := missing(run):
        raise Unfit(why)
    for trace in traces(run, episodes):
        yield trace.row()


def traces(run: OneRun, episodes: str = "last") -> Iterator[Trace]:
    """What is to be told of a run that is a row. Raises Unfit where it has left no trajectory that can be read."""
    try:
        conversation = trace_messages.read(trajectory(run.folder))
    except RecursionError:
        raise Unfit("a trajectory that is nested too deep") from None
    instruction = conversation.told or described(run)
    last = len(conversation.ends) - 1
    for number in range(0 if episodes == "all" else last, last + 1):
        messages = conversation.episode(number)
        if instruction and not conversation.told:
            messages = trace_messages.after_system(messages, instruction)
        yield Trace(run, run.row(), conversation, messages, instruction, number)


def trajectory(folder: str) -> dict[str, Any]:
    """A run's trajectory: logs/trajectory.json, else made now of what its agent left. Raises Unfit."""
    if os.path.islink(f"{folder}/logs"):
        raise Unfit("logs that are a link")
    path = f"{folder}/logs/{write.NAME}"
    try:
        if os.path.lexists(path):
            found = json.loads(disk.decoded(disk.read_file(path, LARGEST))[0])
        else:
            found = _made(Path(folder))
    except write.NoTrajectory:
        raise Unfit("no trajectory") from None
    except (OSError, ValueError, RecursionError):
        raise Unfit("a trajectory that can't be read") from None
    if not isinstance(found, dict):
        raise Unfit("a trajectory that can't be read")
    return found


def _made(run: Path) -> dict[str, Any]:
    """The trajectory that would be written, by a process with bounds where what the agent left is large."""
    left = next((path for name in write.SOURCES if os.path.lexists(path := run / "logs" / name)), None)
    if left is None or left.lstat().st_size <= SMALL:
        return write.document(run)
    try:
        made: dict[str, Any] = bounded.call(write.document, run, seconds=write.SECONDS, memory=write.MEMORY)
    except bounded.Exceeded:
        raise Unfit("a trajectory that can't be read") from None
    return made


def described(run: OneRun) -> str | None:
    """The task's own words, of its data where these are still the ones that the run had; None where they aren't to be had."""
    data = values.text(section(section(run.workflow, "config"), "paths").get("data"))
    if not data or not run.task or not run.data or not layout.is_id(run.task):
        return None
    return _description(str(layout.prepared(data, run.task)), run.data)


@lru_cache(maxsize=64)
def _description(prepared: str, data: str) -> str | None:
    kept = disk.read_json(Path(prepared, fingerprint.FILE)) or {}
    if kept.get(fingerprint.KEY) != data:
        return None
    try:
        text = disk.decoded(disk.read_file(f"{prepared}/public/description.md", LONGEST_DESCRIPTION))[0]
    except (OSError, ValueError):
        return None
    return printable(text) or None


def _provider(model: dict[str, Any]) -> str | None:
    """Whose server a model is on. The address of a server that isn't public is its owner's."""
    engine = values.text(model.get("engine"))
    if engine != "external":
        return engine
    try:
        return PROVIDERS.get(urlsplit(values.text(model.get("base_url")) or "").hostname or "", engine)
    except ValueError:
        return engine


def _verifier_output(run: OneRun) -> str | None:
    """What judged a run said: the output of each test script, else the grader's note."""
    told = disk.read_json(Path(run.folder, "evaluation_results.json")) or {}
    parts = []
    for name, one in section(told, "test_results").items():
        if isinstance(one, dict) and isinstance(output := one.get("output"), str):
            parts.append(f"{values.text(name)}: {values.text(one.get('said')) or 'no result'}\n{output}")
    text = "\n".join(parts) or values.text(run.report.get("note"))
    return clean(text)[:LONGEST_TEXT] if text else None
