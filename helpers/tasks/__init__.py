"""Tasks: definitions, synthetic data with a hidden half, validation, and running them.

    from helpers.tasks import registry, TaskRunner
    from helpers.tasks.utils import DataGenerator, TaskValidator

`registry` holds the shipped definitions (templates/tasks), and those of `paths.tasks` where the site can be told.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # at first use, not at import: a broken definition or site is the concern of who asks for tasks
    if name == "registry":
        from helpers.lib.errors import ConfigError
        from helpers.tasks.definitions import open_registry, site_tasks_dir

        try:
            own = site_tasks_dir()
        except ConfigError:
            own = None  # a site that isn't set up yet; the command line says so
        globals()["registry"] = open_registry(own)
        return globals()["registry"]
    if name in ("Task", "TaskRegistry"):
        from helpers.tasks import definitions

        return getattr(definitions, name)
    if name == "TaskRunner":
        from helpers.tasks.runner import TaskRunner

        return TaskRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
