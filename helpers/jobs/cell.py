"""A cell of a workflow: a task, an agent and a model with all that can change a result, and the seeds of its rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.config.schema import AgentEntry, Model, Site
from helpers.jobs.asked_task import AskedTask
from helpers.jobs.task_kinds import Overrides
from helpers.rendering import render
from helpers.runs.provenance import config_hash, image_digest

PRICES = {"usd_per_million_prompt_tokens", "usd_per_million_completion_tokens"}  # change no result


@dataclass
class Cell:
    """What a workflow is asked to run, several times. agent, model: None where they are wrong, or where none is needed.

    steps, seconds (of the agent), script: instead of its own; tokens: that each rollout may use; variables: of its environment; overrides:
    of its task; place: where it was asked for, for people; instance: what was made of its task for its runs, once there is such a thing.
    """

    site: Site
    task: AskedTask
    agent: AgentEntry | None
    model: Model | None = None
    feedback: Model | None = None
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    seconds: int | None = None
    tokens: int | None = None
    script: Path | None = None
    variables: tuple[tuple[str, str], ...] = ()
    overrides: Overrides = Overrides()
    place: str = ""
    instance: Path | None = None

    @property
    def models(self) -> list[Model]:
        return [model for model in (self.model, self.feedback) if model]

    @property
    def prices(self) -> tuple[float, float] | None:
        """USD for a million tokens of prompts, and of answers: of its dearer model, as agents don't tell apart whom they asked; None where
        those of a model aren't known."""
        found = [model.prices for model in self.models]
        known = [one for one in found if one is not None]
        return (max(one[0] for one in known), max(one[1] for one in known)) if known and None not in found else None

    @property
    def time_limit(self) -> int:
        """Seconds for the agent."""
        assert self.agent
        return render.agent_time_limit(self.site, self.agent, self.seconds)

    @property
    def step_limit(self) -> int:
        assert self.agent
        return self.steps or (self.model and self.model.steps) or self.agent.steps

    @property
    def demand(self) -> tuple[Any, ...]:
        """What must be equal of cells that share a job script."""
        names = [model.name if model else None for model in (self.model, self.feedback)]
        kind = self.task.kind.name
        return (self.agent and self.agent.name, *names, self.step_limit, self.time_limit, self.script, kind)

    def make_instance(self) -> None:
        """Of a task that is prepared. Raises ConfigError."""
        kind = self.task.kind
        self.instance = kind.make(self.task.prepared, self.overrides)
        if self.instance:
            self.variables = tuple(sorted({**kind.variables(self.instance), **dict(self.variables)}.items()))

    def job_script(self, workflow: render.Workflow | None) -> str:
        """The script of its agents' jobs."""
        copy = f"script{self.script.suffix}" if self.script else ""
        assert self.agent
        return render.agent_script(
            self.site,
            self.agent,
            workflow,
            self.model,
            self.feedback,
            self.steps,
            self.seconds,
            str(Path(workflow.run_group if workflow else "", "jobs", copy)) if copy else None,
        )

    def record(self, images: dict[str, Path]) -> dict[str, Any]:
        """As workflow.json has it. images: those that its runs need, by role."""
        assert self.agent
        digests = {role: image_digest(path) for role, path in images.items()}
        chosen = self._chosen(digests)
        exact = {model.prices for model in self.models} == {self.prices} and any(self.prices or ())
        return {
            "competition": self.task.name,
            "agent": self.agent.name,
            "model": self.model.name if self.model else None,
            "language_model": self.model.is_language_model if self.model else None,
            "rollouts": len(self.seeds),
            "seed": self.seeds[0],
            "seeds": list(self.seeds),
            "variables": self._told_variables,
            **({"tokens": self.tokens} if self.tokens else {}),
            **({"kind": self.task.kind.name, "instance": str(self.instance)} if self.instance else {}),
            **({"prices": self.prices} if exact else {}),
            "config_hash": config_hash(chosen),
            "data_fingerprint": self.task.fingerprint,
            "model_config": chosen["model"],
            "feedback_model_config": chosen["feedback_model"],
            "agent_config": {**chosen["agent"], "steps": chosen["steps"], "time_limit": chosen["time_limit"]},
            # what the hash was made of, where the line above says it otherwise
            "agent_limits": {key: chosen["agent"][key] for key in ("steps", "time_limit")},
            "images": {role: {"path": str(path), "sha256": digests[role]} for role, path in images.items()},
        }

    @property
    def _told_variables(self) -> dict[str, str]:
        """Its variables, and which overrides it has where they aren't its task's own: what tells it from other cells."""
        label = self.overrides.label(self.instance) if self.instance else {}
        return label | dict(self.variables)

    def _chosen(self, digests: dict[str, Any]) -> dict[str, Any]:
        """All that can change a result, of which the configuration's hash is made."""
        assert self.agent
        chosen: dict[str, Any] = {
            "site": self.site.model_dump(mode="json"),
            "model": self.model.model_dump(exclude=PRICES) if self.model else None,
            "feedback_model": self.feedback.model_dump(exclude=PRICES) if self.feedback else None,
            "agent": self.agent.model_dump(exclude={"variants", "takes_script", "environment"}),
            "script": hashlib.sha256(self.script.read_bytes()).hexdigest() if self.script else None,
            "steps": self.step_limit,
            "time_limit": self.time_limit,
            "images": digests,
        }
        # a hash of before had no such key
        chosen |= {"rollout_variables": told} if (told := self._told_variables) else {}
        chosen |= {"tokens": self.tokens} if self.tokens else {}
        return chosen | ({"instance": self.instance.name} if self.instance else {})


def served(cells: Iterable[Cell], reused: bool) -> list[Model]:
    """The models that need a server job, each once. reused: whether the agents' own model is served already."""
    found: dict[str, Model] = {}
    for cell in cells:
        for model in ([] if reused else [cell.model]) + [cell.feedback]:
            if model and model.engine != "external":
                found.setdefault(model.name, model)
    return list(found.values())
