"""Tasks: definitions, synthetic data with a hidden half, validation, and running them. Runs where a person types, in jobs and images.

    from helpers.tasks import registry, TaskRunner
    from helpers.tasks.utils import DataGenerator, TaskValidator

`registry` holds the shipped definitions (templates/tasks), and those of `paths.tasks` where the site can be told.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # at first use, not at import: a broken definition or site is the concern of who asks for tasks
    if name == "registry":
        from helpers.tasks.catalogue import default_registry

        globals()["registry"] = default_registry()
        return globals()["registry"]
    if name in ("Task", "TaskRegistry"):
        from helpers.tasks import catalogue

        return getattr(catalogue, name)
    if name == "TaskRunner":
        from helpers.tasks.runner import TaskRunner

        return TaskRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
