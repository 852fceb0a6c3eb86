"""The site of the person who asks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.lib.errors import Refused


class AskedSite:
    """The site of the person who asks, loaded when first asked for: jobs that name their own need none. Raises Refused."""

    def __init__(self, name: str | None = None, overrides: list[str] | None = None):
        self.name, self.overrides = name, overrides

    @cached_property
    def _loaded(self) -> Any:
        from helpers.config import sites
        from helpers.lib import errors

        try:
            return sites.load_site(sites.pick_site(self.name), self.overrides)
        except errors.ConfigError as error:
            raise Refused("\n".join(error.problems)) from error

    @property
    def scheduler(self) -> tuple[str, str]:
        return self._loaded.scheduler.kind, self._loaded.paths.address_dir

    @property
    def runs(self) -> Path:
        return Path(self._loaded.paths.runs)

    @property
    def rollouts(self) -> Path:
        return Path(self._loaded.paths.rollouts)
