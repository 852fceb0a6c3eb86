"""What the host tells an agent in Python, and the files in which the agent reports back."""

import json
import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

# what other programs' clients read of the environment
IN_FORCE = ("_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
COUNTS = ("steps", "requests", "answers", "rate_limited", "server_errors", "prompt_tokens", "completion_tokens")


class AgentError(Exception):
    """The run can't go on; the message is one line for the person who started it."""


@dataclass(frozen=True)
class Settings:
    """The variables that an agent process is started with."""

    data_dir: Path
    submission_dir: Path
    logs_dir: Path
    code_dir: Path
    agent_dir: Path
    workspaces_dir: Path
    endpoints_file: Path
    competition_id: str
    step_limit: int
    token_limit: int  # of all prompts and answers together; 0: none
    seed: int
    request_timeout: int  # seconds for one answer of a model
    patience: int  # seconds in which an endpoint may give no answer of a model; one that is busy has until the deadline

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the variables; raises AgentError naming all that are missing or malformed."""
        problems = []

        def variable(name: str, kind: type, default: str | None = None):
            text = os.environ.get(name) or default
            if text is None:
                problems.append(f"{name} is not set")
                return None
            try:
                return kind(text)
            except ValueError:
                problems.append(f"{name}={text!r} is not a whole number")
                return None

        folders = [
            "DATA_DIR",
            "SUBMISSION_DIR",
            "LOGS_DIR",
            "CODE_DIR",
            "AGENT_DIR",
            "WORKSPACES_DIR",
            "ENDPOINTS_FILE",
        ]
        values = {name.lower(): variable(name, Path) for name in folders}
        values |= {
            "competition_id": variable("COMPETITION_ID", str, ""),
            "step_limit": variable("STEP_LIMIT", int),
            "token_limit": variable("TOKEN_LIMIT", int, "0"),
            "seed": variable("SEED", int, "0"),
            "request_timeout": variable("REQUEST_TIMEOUT_SECS", int, "900"),
            "patience": variable("REQUEST_PATIENCE_SECS", int, "3600"),
        }
        if problems:
            raise AgentError("; ".join(problems) + " (the host sets these for every agent, see start.sh)")
        return cls(**values)


def read_endpoints(path: Path) -> dict[str, str]:
    """The NAME='value' lines of ENDPOINTS_FILE, proxies and authorities put into force; raises OSError while it isn't there."""
    words = shlex.split(path.read_text(), comments=True)
    endpoints = dict(word.split("=", 1) for word in words if "=" in word)
    os.environ.update({name: value for name, value in endpoints.items() if name.endswith(IN_FORCE)})
    return endpoints


def deadline_of(endpoints: dict[str, str]) -> float:
    """The time (unix seconds) at which the agent has to have ended; raises AgentError."""
    try:
        return float(endpoints["AGENT_DEADLINE"])
    except (KeyError, ValueError):
        raise AgentError(
            f"AGENT_DEADLINE={endpoints.get('AGENT_DEADLINE')!r} in ENDPOINTS_FILE is not a time"
        ) from None


def write_file(path: Path, text: str) -> None:
    """Replace a file in one go, so that a reader or a kill never meets half of it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    # made anew: a program of the model may have put a pipe or a link there
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    os.replace(temporary, path)


def read_bounded(path: Path, limit: int = 65536) -> bytes:
    """The first bytes of a file that a model's program may have replaced. Raises OSError, for a pipe and a link too."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read(limit)


def one_line(text: str) -> str:
    return " ".join(text[:5000].split())[:500]


@dataclass
class Usage:
    """What the run has cost so far, kept in LOGS_DIR/usage.json.

    answers: of models, other than errors. rate_limited, server_errors: requests that were answered with 429, or with 5xx, and were asked
    again later. cut_short: what an endpoint said that keeps, or has kept, the agent from going on.
    note: what a reader of the score should know.
    """

    path: Path
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    cut_short: str | None = None
    note: str | None = None

    @property
    def tokens(self) -> int:
        return self.counts["prompt_tokens"] + self.counts["completion_tokens"]

    def add(self, **counts: int) -> None:
        """Add to the counts and write the file."""
        for name, count in counts.items():
            self.counts[name] += count
        write_file(self.path, json.dumps(self.counts | {"cut_short": self.cut_short, "note": self.note}) + "\n")
