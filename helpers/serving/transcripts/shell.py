"""Tool-calling shell agents (mini-swe-agent and its like): the commands of a script, one an answer.

The scripts lie in templates/replay/shell/: NAME.sh is for the task whose id NAME stands in the agent's first messages, default.sh for all
others. A script is a file of shell in parts, each of which begins with lines `#: what is said with the command`.
"""

from __future__ import annotations

import re
from pathlib import Path

from helpers.lib.checkout import ROOT
from helpers.serving.transcripts.base import OWNER, Answer, Request, Transcript, calls_of, text_of

SCRIPTS = ROOT / "templates" / "replay" / "shell"
DEFAULT = "default"
TOOLS = ("bash", "shell")
SAID = "#:"
# the ids of our calls, which the agent sends back: they tell which command comes next
CALL = re.compile(r"replay-(\d+)")

Step = tuple[str, str]  # what is said, and the command


class Shell(Transcript):
    """Answers agents that run one command at a time. Raises OSError where a script can't be read or used."""

    ASKED = f"tool-calling shell agents (a tool named {' or '.join(TOOLS)} that takes a `command`)"

    def __init__(self, folder: Path = SCRIPTS) -> None:
        self.scripts = {path.stem: steps_of(path) for path in sorted(folder.glob("*.sh"))}
        if DEFAULT not in self.scripts:
            raise OSError(f"there is no {DEFAULT}.sh in {folder}")

    def takes(self, request: Request) -> bool:
        return shell_tool(request) is not None

    def answer(self, request: Request) -> Answer:
        steps = self.scripts[script_for(request, list(self.scripts))]
        number = commands_given(request) + 1
        said, command = steps[min(number, len(steps)) - 1]  # the last ends the work, so it is said again
        call = (f"replay-{number}", shell_tool(request) or TOOLS[0], {"command": command})
        return Answer("command", f"{OWNER}: {said}", (call,), "tool_calls")


def steps_of(path: Path) -> list[Step]:
    """Read a script. Raises OSError where it has no part, or one without a command."""
    steps: list[tuple[list[str], list[str]]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(SAID):
            if not steps or steps[-1][1]:
                steps.append(([], []))
            steps[-1][0].append(line.removeprefix(SAID).strip())
        elif steps:
            steps[-1][1].append(line)
    parts = [(" ".join(said), "\n".join(command).strip()) for said, command in steps]
    if not parts or not all(command for _, command in parts):
        raise OSError(f"{path} needs parts that begin with a line `{SAID} …`, with a command below it each")
    return parts


def shell_tool(request: Request) -> str | None:
    """The name of the tool that runs a command, where there is one."""
    for tool in request.tools or []:
        parameters = tool.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        if tool.get("name") in TOOLS and isinstance(properties, dict) and "command" in properties:
            return str(tool["name"])
    return None


def script_for(request: Request, names: list[str]) -> str:
    """The longest of the names that stands in the messages before the first answer, as a word; else the default's."""
    asked = []
    for message in request.messages:
        if message.get("role") == "assistant":
            break
        asked.append(text_of(message) or "")
    found = [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "\n".join(asked))]
    return max((name for name in found if name != DEFAULT), key=len, default=DEFAULT)


def commands_given(request: Request) -> int:
    """How many commands the conversation has had of us."""
    ids = [CALL.fullmatch(call) for message in request.messages for call, _ in calls_of(message)]
    return max((int(one[1][:6]) for one in ids if one), default=0)
