"""Kinds of tasks: what is made of a prepared task for its runs, which images they need, and who judges what an agent leaves.

What the job does of it is in scripts_hpc/lib/task_competition.sh, task_repository.sh. A kind is registered in KINDS.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.images import environments
from helpers.lib import disk
from helpers.lib.errors import ConfigError
from helpers.repositories import instance, schema, source
from helpers.repositories.prepare import REPOSITORY


@dataclass(frozen=True)
class Overrides:
    """What an entry of a benchmark changes of its task. file: in the place of the task's own; applied: whether any are."""

    applied: bool = True
    file: Path | None = None

    def label(self, made: Path) -> dict[str, str]:
        """What tells its cell from others of the same task, model, agent and variables; nothing where the task's own are applied.

        made: what was made with them.
        """
        if self.applied and self.file is None:
            return {}
        return {"overrides": f"{self.file.name if self.file and self.applied else 'none'}@{made.name[:6]}"}

    def read(self) -> dict[str, Any] | None:
        """Those of the file; None where there is none. Raises ConfigError."""
        if self.file is None or not self.applied:
            return None
        return schema.read_overrides(self.file).given()


class Competition:
    """Predictions in a file, graded by the workflow's grading server."""

    name = "competition"
    graded_by_server = True
    agent = "aide"  # that works on it where none is named

    @staticmethod
    def fits(folder: Path) -> bool:
        """Whether a prepared task (its folder prepared/) is of this kind."""
        return True

    @staticmethod
    def problems(folder: Path, overrides: Overrides) -> list[str]:
        """Why a run can't be made of a prepared task with these overrides."""
        if overrides.file is not None:
            return ["overrides are for tasks that are repositories, and this one is a competition: leave them out."]
        return []

    @staticmethod
    def make(folder: Path, overrides: Overrides) -> Path | None:
        """What the runs of a cell share, made of a prepared task; None where that is the task itself."""
        return None

    @staticmethod
    def variables(made: Path) -> dict[str, str]:
        """What such a thing sets in the environment of agents."""
        return {}

    @staticmethod
    def images(folder: Path) -> list[str]:
        """The images that judging needs on the agent's node, by name."""
        return []


class Repository(Competition):
    """A repository at a commit; what the agent changed is applied to a fresh checkout, in which test scripts are run."""

    name = source.KIND
    graded_by_server = False
    agent = "mini-swe"

    @staticmethod
    def fits(folder: Path) -> bool:
        # (a folder that can't be looked at is another check's concern)
        return os.path.isdir(folder / "public" / REPOSITORY)

    @staticmethod
    def problems(folder: Path, overrides: Overrides) -> list[str]:
        try:
            instance.check(folder, overrides.read(), apply=overrides.applied)
        except ConfigError as error:
            return error.problems
        return []

    @staticmethod
    def make(folder: Path, overrides: Overrides) -> Path | None:
        return instance.make(folder, overrides.read(), apply=overrides.applied)

    @staticmethod
    def variables(made: Path) -> dict[str, str]:
        return dict(disk.read_json(made / "private" / "variables.json") or {})

    @staticmethod
    def images(folder: Path) -> list[str]:
        return [environments.image_of(folder / "public")]


KINDS: tuple[type[Competition], ...] = (Repository, Competition)  # the first that fits


def named(name: str | None) -> type[Competition]:
    """The kind that a record names; competitions have no word there."""
    return next((kind for kind in KINDS if kind.name == name), Competition)


def of(folder: Path) -> type[Competition]:
    """The kind of a prepared task, by its folder prepared/."""
    return next(kind for kind in KINDS if kind.fits(folder))
