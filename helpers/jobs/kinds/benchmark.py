"""Rounds of benchmarks: workflows of many cells, whose agents are elements of arrays. scripts_hpc/run_benchmark.sh"""

from __future__ import annotations

import contextlib
from importlib import import_module
from pathlib import Path

from helpers.jobs.kinds.workflow import Workflow

MANIFEST = "manifest.json"


class Benchmark(Workflow):
    """A round: <rollouts>/<benchmark>/<stamp>."""

    MARK, COMMAND = "\0", "scripts_hpc/run_benchmark.sh"
    WATCHER, MANIFEST_WRITER = "helpers.benchmarks.watch", "helpers.benchmarks.manifest"

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        return (folder / MANIFEST).is_file() and (folder / cls.RECORD).is_file()

    def tidy(self) -> None:
        """What a look has settled stands in manifest.json too."""
        super().tidy()
        with contextlib.suppress(OSError):  # somebody else's round, or a full disk: it is no worse than before
            import_module(self.MANIFEST_WRITER).refresh(self.path, self.runs)

    @property
    def again(self) -> str:
        return f"{self.COMMAND} attach {self.path}"
