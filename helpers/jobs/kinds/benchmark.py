"""Rounds of benchmarks: workflows of many cells, whose agents are elements of arrays. scripts_hpc/run_benchmark.sh"""

from __future__ import annotations

from pathlib import Path

from helpers.jobs.kinds.workflow import Workflow

MANIFEST = "manifest.json"


class Benchmark(Workflow):
    """A round: <rollouts>/<benchmark>/<stamp>."""

    MARK, COMMAND = "\0", "scripts_hpc/run_benchmark.sh"
    WATCHER = "helpers.benchmarks.watch"

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        return (folder / MANIFEST).is_file() and (folder / cls.RECORD).is_file()

    @property
    def again(self) -> str:
        return f"{self.COMMAND} attach {self.path}"
