"""configs/*.toml: what a benchmark is asked to run, multiplied out to rollouts. No file but the TOML is looked at here."""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from helpers.config import variables as variable_names
from helpers.config.layers import sentence
from helpers.config.schema import NAME, Strict
from helpers.lib import private
from helpers.lib.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TAKEN = ("temp",)  # beside the rounds lies a folder of that name
TIME_LIMIT = "TIMEOUT_SEC"  # the variable that is a rollout's time limit

Value = TypeVar("Value")


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Variables = dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], Annotated[str, BeforeValidator(_text)]]


class Entry(Strict):
    """One [[tasks]]: all its tasks with all its models and agents, `rollouts` times each."""

    prepared_dir: Name | None = None
    task: Name | None = None
    tasks: Names | None = None
    model: Name | None = None
    models: Names | None = None
    agent: Name | None = None
    agents: Names | None = None
    rollouts: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    time_limit: Count | None = None
    steps: Count | None = None
    tokens: Count | None = None
    apply_overrides: bool = True
    overrides: Name | None = None
    environment_variables: Variables = {}

    @model_validator(mode="after")
    def _one_of_each(self) -> Entry:
        if sum(one is not None for one in (self.prepared_dir, self.task, self.tasks)) != 1:
            raise ValueError(
                "needs one of `prepared_dir` (a prepared task's folder), `task` (its id) and `tasks` (a list)"
            )
        for one in ("model", "agent"):
            if getattr(self, one) is not None and getattr(self, f"{one}s") is not None:
                raise ValueError(f"has both `{one}` and `{one}s`: give one of them")
        return self

    @field_validator("environment_variables")
    @classmethod
    def _free(cls, variables: dict[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            if unfit := variable_names.unfit(name, value):
                raise ValueError(unfit)
            if name == TIME_LIMIT and not (value.isdecimal() and int(value) > 0):
                raise ValueError(f"{name} is a rollout's time limit: a whole number of seconds, found {value!r}")
        return variables

    @property
    def limit(self) -> int | None:
        """The time limit that the entry sets, in seconds."""
        told = self.environment_variables.get(TIME_LIMIT)
        return self.time_limit if told is None else int(told)


class Budget(Strict):
    """What a round may use; None: no bound."""

    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    tokens: Count | None = None
    usd: Annotated[float, Field(gt=0)] | None = None


class Benchmark(Strict):
    """A configuration as it is written. models: other names by which its entries call models; replicas: servers of each model."""

    name: Annotated[str, Field(pattern=NAME)]
    parallel: Count = 1
    retries: Annotated[int, Field(ge=0)] = 2
    replicas: Count = 1
    models: dict[Name, Name] = {}
    budget: Budget = Budget()
    tasks: Annotated[list[Entry], Field(min_length=1)]

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in TAKEN:
            raise ValueError(f"'{name}' is taken: give the benchmark another name")
        return name


@dataclass(frozen=True)
class Rollout:
    """One attempt that is asked for. task: an id, or the folder as written; model, agent: None where the entry names none."""

    task: str
    model: str | None
    agent: str | None
    variables: tuple[tuple[str, str], ...]
    seed: int
    entry: int

    @property
    def cell(self) -> tuple[str, str | None, str | None, tuple[tuple[str, str], ...]]:
        """What its rollouts have in common; with the seed, its key in a round."""
        return self.task, self.model, self.agent, self.variables


def read(path: Path, aliases: dict[str, str] | None = None) -> Benchmark:
    """A configuration from its file. aliases: of models, before the file's own. Raises ConfigError with every problem."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file."]) from None
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}."]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: is no TOML: {error}."]) from None
    tree.setdefault("name", path.stem)
    try:
        made = Benchmark.model_validate(tree)
    except ValidationError as error:
        raise ConfigError([_told(path, item) for item in error.errors()]) from None
    made.models |= aliases or {}
    return made


def _told(path: Path, item: dict[str, Any]) -> str:
    """A problem with its place: [[tasks]] are counted from 1, as a person does."""
    location, kind, where = list(item["loc"]), Benchmark, str(path)
    if location[:1] == ["tasks"] and len(location) > 1:
        kind, where = Entry, f"{path}: [[tasks]] {location[1] + 1}"
        location = location[2:]
    keys = tuple(str(part) for part in location if not isinstance(part, int))
    return sentence(where, keys, item | {"loc": keys, "input": private.masked(item["input"])}, kind)


def rollouts(benchmark: Benchmark) -> list[Rollout]:
    """All that is asked for, in the order of the file. Entries that are equal add up: their seeds go on."""
    used: defaultdict[Any, set[int]] = defaultdict(set)
    found = []
    for number, entry in enumerate(benchmark.tasks):
        for cell in _cells(benchmark, entry):
            free = (seed for seed in itertools.count(entry.seed) if seed not in used[cell])
            seeds = list(itertools.islice(free, entry.rollouts))
            used[cell].update(seeds)
            found += [Rollout(*cell, seed, number) for seed in seeds]
    return found


def _cells(benchmark: Benchmark, entry: Entry) -> Iterator[tuple[Any, ...]]:
    tasks = entry.tasks or [str(entry.task or entry.prepared_dir)]
    models = [benchmark.models.get(one, one) if one else None for one in entry.models or [entry.model]]
    agents = entry.agents or [entry.agent]
    for task, model, agent in itertools.product(*map(_once, (tasks, models, agents))):
        yield task, model, agent, tuple(sorted(entry.environment_variables.items()))


def _once(values: list[Value]) -> list[Value]:
    return list(dict.fromkeys(values))
