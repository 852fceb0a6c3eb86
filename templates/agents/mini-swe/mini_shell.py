"""mini-swe-agent's local environment, with commands that end in time whatever they do."""

import os
import platform
import time
from pathlib import Path
from typing import Any

from bounded_command import run_command
from minisweagent.environments.local import LocalEnvironment


class Shell(LocalEnvironment):
    """mini-swe-agent's local environment: every command in a bash and a process group of its own. deadline: seconds since 1970."""

    def __init__(self, deadline: float, **config: Any):
        super().__init__(**config)
        self.deadline = deadline
        self.told: list[str] = []  # what ran, in words; whoever reads it empties it

    def execute(self, action: dict, cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
        """Run the command of an action: output, returncode (-1 where it has none) and exception_info. Raises Submitted."""
        command, started = str(action.get("command", "")), time.monotonic()
        seconds = max(1.0, min(timeout or self.config.timeout, self.deadline - time.time()))
        folder = Path(cwd or self.config.cwd)
        while not folder.is_dir():  # an earlier command may have removed it, and nothing could be done any more
            folder = folder.parent
        try:
            output, code, problem = run_command(command, str(folder), os.environ | self.config.env, seconds)
        except (OSError, ValueError) as error:  # a byte that no argument may hold, say
            output, code, problem = "", -1, f"The command could not be started: {error}"
        said = problem or f"code {code}"
        self.told.append(f"{' '.join(command.split())[:100]} ({said[:100]}, {time.monotonic() - started:.1f} s)")
        result = {"output": output, "returncode": code, "exception_info": problem}
        self._check_finished(result)
        return result

    def get_template_vars(self, **kwargs: Any) -> dict[str, Any]:
        """What prompts may name: not the variables of the host."""
        return self.config.model_dump() | platform.uname()._asdict() | kwargs
