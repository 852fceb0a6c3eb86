"""The folder of a task in Harbor's format: what its files say, what is wrong with them, and digests that tell one from another.

    instruction.md            what the agent is told
    task.toml                 names, limits, what the environment is to have
    environment/Dockerfile    what its image is made of, where task.toml names no docker_image
    tests/test.sh             writes /logs/verifier/reward.txt, a finite number, or reward.json; bound only after the agent has ended
    solution/solve.sh         a solution, where there is one
    metadata.json             upstream's, beside them: what the task was made of

task.toml is read in its newest form (schema_version 1.4) and in the older one (`version = "1.0"`, `memory = "2G"`). Keys that nobody
knows here are kept aside. Format: Harbor 0.26.0, harbor/models/task/config.py.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from helpers.datagen import archives
from helpers.lib import disk
from helpers.lib.errors import ConfigError, Refused
from helpers.lib.text import clean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INSTRUCTION, CONFIG, METADATA = "instruction.md", "task.toml", "metadata.json"
ENVIRONMENT, DOCKERFILE = "environment", "environment/Dockerfile"
TEST, SOLUTION, STEPS = "tests/test.sh", "solution/solve.sh", "steps"
SCHEMA = "1.4"
NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]*/[a-zA-Z0-9][a-zA-Z0-9._-]*$"
SIZES = {"G": 1024.0, "M": 1.0, "K": 1 / 1024}  # in MB


def _positive(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("wants a positive number of seconds")
    return seconds


Seconds = Annotated[float, AfterValidator(_positive)]
Variables = dict[str, str]


class Section(BaseModel):
    """A table of task.toml. What isn't known here is in `model_extra`."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class About(Section):
    name: str = Field(pattern=NAME)
    version: str | None = None
    description: str = ""
    authors: list[dict[str, Any]] = []
    keywords: list[str] = []


class Agent(Section):
    timeout_sec: Seconds | None = None
    user: str | int | None = None


class Verifier(Section):
    timeout_sec: Seconds = 600.0
    env: Variables = {}
    user: str | int | None = None
    environment_mode: Literal["shared", "separate"] | None = None
    environment: dict[str, Any] | None = None
    collect: list[dict[str, Any]] = []

    @property
    def is_separate(self) -> bool:
        """Whether the tests want an environment of their own."""
        return self.environment_mode == "separate" or (self.environment_mode is None and self.environment is not None)


class Environment(Section):
    docker_image: str | None = Field(None, min_length=1)
    build_timeout_sec: Seconds = 600.0
    os: str = "linux"
    cpus: float | None = Field(None, gt=0)
    memory_mb: int | None = Field(None, gt=0)
    storage_mb: int | None = Field(None, gt=0)
    gpus: int | None = Field(None, ge=0)
    gpu_types: list[str] | None = None
    workdir: str | None = None
    env: Variables = {}
    network_mode: Literal["public", "no-network", "allowlist"] = "public"
    allowed_hosts: list[str] | None = None
    healthcheck: dict[str, Any] | None = None
    mcp_servers: list[dict[str, Any]] = []

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """The older form: memory and storage as texts, allow_internet."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for old, new in (("memory", "memory_mb"), ("storage", "storage_mb")):
            if old in data and new not in data:
                data[new] = _megabytes(old, data.pop(old))
        if data.get("allow_internet") is False and "network_mode" not in data and "allowed_hosts" not in data:
            data["network_mode"] = "no-network"
        return data

    @field_validator("os")
    @classmethod
    def _lower(cls, name: str) -> str:
        return name.lower()


def _megabytes(key: str, size: Any) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([GMK])B?", str(size).strip().upper())
    if not found:
        raise ValueError(f"{key} wants a size like '2G' or '512M'")
    return int(float(found[1]) * SIZES[found[2]])


class Solution(Section):
    env: Variables = {}


class HarborTask(Section):
    """What a task's files say."""

    folder: Path
    schema_version: str = SCHEMA
    task: About | None = None
    metadata: dict[str, Any] = {}
    agent: Agent = Agent()
    verifier: Verifier = Verifier()
    environment: Environment = Environment()
    solution: Solution = Solution()
    steps: list[dict[str, Any]] | None = None
    artifacts: list[Any] = []

    @property
    def name(self) -> str:
        """Its name, org/name; of a task in the older form, its folder's."""
        return self.task.name if self.task else self.folder.name

    @property
    def instruction(self) -> str:
        """What the agent is told. Raises OSError and ValueError."""
        return disk.read_file(self.folder / INSTRUCTION).decode("utf-8")

    @property
    def dockerfile(self) -> Path | None:
        """What its image is made of; None where it names an image, or has none."""
        path = self.folder / DOCKERFILE
        return path if not self.environment.docker_image and path.is_file() else None

    @property
    def has_solution(self) -> bool:
        """Whether it brings a solution."""
        return (self.folder / SOLUTION).is_file()


def read(folder: Path) -> HarborTask:
    """What the task.toml of a folder says. Raises ConfigError with a sentence for each thing to mend, that it isn't there included."""
    path = folder / CONFIG
    try:
        data = tomllib.loads(disk.read_file(path).decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError([f"{path}: isn't there."]) from None
    except OSError as error:
        raise ConfigError([f"{path}: can't be read ({error.strerror or error})."]) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError([f"{path}: isn't valid TOML: {clean(error)}."]) from None
    if "version" in data:
        data.setdefault("schema_version", data.pop("version"))
    try:
        return HarborTask.model_validate({**data, "folder": folder})
    except ValidationError as error:
        raise ConfigError([f"{path}: {_sentence(item)}" for item in error.errors()]) from None


def _sentence(item: Any) -> str:
    key = ".".join(map(str, item["loc"])) or "the file"
    if item["type"] == "missing":
        return f"{key}: must be set."
    message = item["msg"].removeprefix("Value error, ").rstrip(".")
    if item["type"] == "string_pattern_mismatch":
        message = "wants org/name, of letters, digits, '.', '_' and '-'"
    return f"{clean(key)}: {message} (found {clean(repr(item['input']))[:100]})."


def check(folder: Path) -> list[str]:
    """What keeps a folder from being a task that can run here, a sentence each; none: nothing does. Raises OSError."""
    try:
        archives.entries(folder)
    except Refused as error:
        return [str(error)]
    try:
        task = read(folder)
    except ConfigError as error:
        return [*error.problems, *_missing(folder, None)]
    return [*_missing(folder, task), *_unsupported(folder, task)]


def _missing(folder: Path, task: HarborTask | None) -> Iterator[str]:
    path = folder / INSTRUCTION
    try:
        if not disk.read_file(path).decode("utf-8").strip():
            yield f"{path}: is empty."
    except FileNotFoundError:
        yield f"{path}: isn't there."
    except ValueError:
        yield f"{path}: is no text in UTF-8, or too large."
    if not (folder / TEST).is_file():
        yield f"{folder / TEST}: isn't there: without it nothing says whether the task was done."
    if not (folder / DOCKERFILE).is_file() and not (task and task.environment.docker_image):
        yield f"{folder / DOCKERFILE}: isn't there, and {CONFIG} names no environment.docker_image."


def _unsupported(folder: Path, task: HarborTask) -> Iterator[str]:
    path = folder / CONFIG
    if task.steps or (folder / STEPS).is_dir():
        yield f"{folder}: has several steps ({STEPS}/), and tasks of one step alone are run here."
    if task.verifier.is_separate:
        yield f'{path}: verifier.environment_mode: tests run in the agent\'s environment here: leave it out, or say "shared".'
    if task.environment.os != "linux":
        yield f"{path}: environment.os: {clean(task.environment.os)}: tasks for linux alone are run here."
    if task.environment.mcp_servers:
        yield f"{path}: environment.mcp_servers: no servers run inside of a task here."
    if (folder / ENVIRONMENT / "docker-compose.yaml").is_file():
        yield f"{folder / ENVIRONMENT}: has a docker-compose.yaml, and tasks of one container alone are run here."


def digest(folder: Path) -> str:
    """sha256, in hex, of all that lies in a folder: names, who may run a file, and bytes. Raises as `archives.entries`."""
    total = hashlib.sha256()
    for entry in archives.entries(folder):
        total.update(f"{entry.name}\0{entry.mode:o}\0{entry.size}\0".encode())
        if not entry.is_folder:
            with open(entry.path, "rb", buffering=0) as file:
                while piece := file.read(2**20):
                    total.update(piece)
    return total.hexdigest()


def environment_digest(folder: Path) -> str:
    """sha256, in hex, of what a task has its image of: its docker_image, else all in environment/. Raises ConfigError, and as `digest`."""
    image = read(folder).environment.docker_image
    return hashlib.sha256(f"image\0{image}".encode()).hexdigest() if image else digest(folder / ENVIRONMENT)
