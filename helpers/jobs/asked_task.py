"""A competition that a workflow is asked to run: whether its data are there, whether they are to be made first, which they are."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from helpers.config import layers
from helpers.config.schema import Site
from helpers.data import fingerprint, layout
from helpers.jobs import task_kinds
from helpers.lib.errors import ConfigError
from helpers.runs import metadata
from helpers.tasks.catalogue import open_registry
from helpers.tasks.definitions import Task


class AskedTask:
    """prepare: whether its data are made first where they are missing; keep: whether what is found out of them may be noted there."""

    def __init__(self, site: Site, name: str, prepare: bool = False, keep: bool = True):
        self.site, self.name, self.prepare, self.keep = site, name, prepare, keep

    @property
    def is_id(self) -> bool:
        return layout.is_id(self.name)

    @cached_property
    def own(self) -> Task | None:
        """Its definition, where it is a task of this project or of the user's."""
        return open_registry(self.site.paths.tasks).get_task(self.name)

    @property
    def prepared(self) -> Path:
        return layout.prepared(self.site.paths.data, self.name)

    @property
    def kind(self) -> type[task_kinds.Competition]:
        """Of which kind it is, as it is prepared."""
        return task_kinds.of(self.prepared)

    @property
    def is_there(self) -> bool:
        with self._reading():
            return self.prepared.exists()

    def unprepared(self) -> str | None:
        """What its data lack; None where they are whole. Raises ConfigError where they can't be read."""
        with self._reading():
            return layout.problem(self.site.paths.data, self.name)

    @property
    def needs_preparation(self) -> bool:
        """Whether the data are made first: of a task of ours that has none yet, and of any with --prepare."""
        if not self.prepare and (self.is_there or self.own is None):
            return False
        return self.unprepared() is not None

    @cached_property
    def fingerprint(self) -> str:
        with self._reading():
            return fingerprint.known(self.prepared, keep=self.keep)

    def _reading(self):  # type: ignore[no-untyped-def]
        return self.site.reading(f"competition '{self.name}'")

    def problems(self) -> list[str]:
        """Why it can't be run."""
        if unfit := layout.unfit(self.name):
            return [f"competition '{self.name}': {unfit}."]
        try:
            problem = None if self.needs_preparation else self.unprepared()
        except ConfigError as error:
            return error.problems
        if not problem:
            return []
        own = [task.id for task in open_registry(self.site.paths.tasks).list_tasks()]
        return [
            f"competition '{self.name}' isn't prepared: {problem} (paths.data of site {self.site.name}). Give --prepare, "
            f"or use scripts_hpc/prepare_tasks.sh, or take a task that comes with this project: {', '.join(own)}."
            f"{layers.meant(self.name, own)}"
        ]

    def note(self) -> str | None:
        """That the newest results on this name were made with other data, where it is so."""
        earlier = metadata.latest_data(Path(self.site.paths.runs), self.name)
        if earlier is None or earlier[1] == self.fingerprint:
            return None
        return (
            f"the data of '{self.name}' are not those of its earlier results (fingerprint {self.fingerprint[:12]} now, "
            f"{earlier[1][:12]} in {earlier[0]}): scores on one don't compare with scores on the other, and the export keeps them apart."
        )
