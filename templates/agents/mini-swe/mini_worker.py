"""mini-swe-agent's steps: its own agent and prompts, with this project's requests, shell and files around them."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import minisweagent
import yaml
from agent_models import Endpoints, TimeIsOver, TokensUsedUp
from agent_settings import AgentError, Settings, Usage, write_file
from mini_model import Model
from mini_shell import Shell
from minisweagent.agents.default import DefaultAgent
from minisweagent.exceptions import LimitsExceeded, TimeExceeded

TRAJECTORY = "mini-swe.traj.json"
PROMPTS = Path(minisweagent.package_dir, "config", "mini.yaml")  # its own, so that results can be compared with others'
MARGIN = 1.0  # seconds before the deadline, to write down that the time is over
ENDS = {"Submitted": "handed in", "LimitsExceeded": "all steps are done", "TimeExceeded": "time is over"}


def run(settings: Settings) -> int:
    """Run mini-swe-agent until it hands in, or its steps, tokens or time are used up; the exit code. Raises AgentError."""
    usage = Usage(settings.logs_dir / "usage.json")
    usage.add()
    seconds = command_seconds()
    # all that needs no service comes before the wait for them
    task, prompts = description(settings), yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))
    subprocess.run(["bash", settings.agent_dir / "await_endpoints.sh"], check=True)
    endpoints = Endpoints(settings, usage, "mini-swe-agent")
    endpoints.deadline -= MARGIN
    name, folder = endpoints.name("CODE"), place(settings)
    print(f"code model {name}, in {folder}", flush=True)
    agent = Agent(
        Model(endpoints, model_name=f"openai/{name}", **prompts["model"]),
        Shell(endpoints.deadline, cwd=str(folder), timeout=seconds, **prompts["environment"]),
        system_template=prompts["agent"]["system_template"],
        instance_template=prompts["agent"]["instance_template"],
        step_limit=settings.step_limit,
        cost_limit=0,
        wall_time_limit_seconds=max(1, round(endpoints.deadline - time.time())),
        output_path=settings.logs_dir / TRAJECTORY,
    )
    named = f"Task: {settings.competition_id}\n\n" if settings.competition_id else ""
    status = agent.run(f"{named}{instructions(settings, folder)}\n\n{task}".strip()).get("exit_status", "")
    if status not in ENDS:
        raise AgentError(
            f"the model's last {agent.config.max_consecutive_format_errors} answers called no tool as they should ({status}): "
            "its server needs tool calling (tool_parser in models.yaml)"
        )
    over = "tokens are used up" if agent.has_used_its_tokens else ENDS[status]
    print(f"{over}: {usage.counts['steps']} steps", flush=True)
    return 0


def command_seconds() -> int:
    """The time limit of one command. Raises AgentError."""
    text = os.environ.get("COMMAND_TIMEOUT_SECS") or "300"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise AgentError(f"COMMAND_TIMEOUT_SECS={text!r} is not a number of seconds (variables of the agent)")
    return int(text)


def place(settings: Settings) -> Path:
    """Where it works: in its copy of the repository, where the task is one."""
    repository = settings.workspaces_dir / "repo"
    return repository if repository.is_dir() else settings.workspaces_dir


def description(settings: Settings) -> str:
    """The task's own words. Raises AgentError."""
    path = settings.data_dir / "description.md"
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise AgentError(f"the task has no description: {path}: {error.strerror}") from None


def instructions(settings: Settings, folder: Path) -> str:
    """What is said of the place and of what counts, before the task's own words."""
    is_repository = folder != settings.workspaces_dir
    path = settings.agent_dir / "repository.md" if is_repository else settings.workspaces_dir / "instructions.txt"
    return path.read_text(encoding="utf-8", errors="replace")


class Agent(DefaultAgent):
    """mini-swe-agent's own agent, whose steps are told and counted, and whose trajectory is whole at any time, without keys."""

    model: Model
    env: Shell
    has_used_its_tokens = False

    def query(self) -> dict[str, Any]:
        try:
            return super().query()
        except TimeIsOver:
            raise TimeExceeded(end("TimeExceeded")) from None
        except TokensUsedUp:
            self.has_used_its_tokens = True
            raise LimitsExceeded(end("LimitsExceeded")) from None

    def step(self) -> list[dict[str, Any]]:
        usage = self.model.endpoints.usage
        before = usage.counts["answers"]
        try:
            return super().step()
        finally:
            if usage.counts["answers"] > before:
                usage.add(steps=1)
                told = "; ".join(self.env.told) or "an answer without a command"
                print(f"step {usage.counts['steps']}/{self.config.step_limit}: {told}", flush=True)
                self.env.told.clear()

    def save(self, path: Path | None, *extra_dicts: dict[str, Any]) -> dict[str, Any]:
        data = self.serialize(*extra_dicts)
        if path:
            # the model may have read them from the file of addresses
            write_file(path, self.model.endpoints.without_keys(json.dumps(data, default=str)) + "\n")
        return data


def end(status: str) -> dict[str, Any]:
    """The message that ends a trajectory."""
    return {"role": "exit", "content": status, "extra": {"exit_status": status, "submission": ""}}
