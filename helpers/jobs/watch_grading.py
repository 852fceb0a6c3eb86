"""Watches earlier runs being graded: the results as a workflow's watch tells them, and a sentence on each run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.jobs import regrade
from helpers.jobs import watch as workflow_watch
from helpers.jobs.kinds.grading import Grading
from helpers.runs.collection import rows_of
from helpers.runs.metadata import Run


class Watch(Grading, workflow_watch.Watch):
    """A folder of such jobs under watch."""

    def rows(self) -> list[dict[str, Any]]:
        rows = rows_of([run.directory for run in self.runs.values()], keep_all=True)
        if self.is_again:
            said = {str(run.directory): outcome(run)[1] for run in self.runs.values()}
            rows = [row | {"regrade": said.get(row["run_directory"])} for row in rows]
        return rows

    def code(self, rows: list[dict[str, Any]]) -> int:
        if not self.is_again:
            return super().code(rows)
        codes = [outcome(run)[0] for run in self.runs.values()]
        return regrade.worst(codes or [3])

    def tell(self) -> int:
        code = super().tell()
        for run in () if self.as_json else self.runs.values():
            print(f"{run.directory}: {outcome(run)[1] if self.is_again else run.reason}")
        return code


def outcome(run: Run) -> tuple[int, str]:
    """Exit code and sentence on a run that was graded again."""
    return regrade.outcome(run) if isinstance(run, regrade.AgainRun) else (3, run.reason)


def watch(folder: Path, as_json: bool, emit: Callable[[Any], None]) -> int:
    """Watch until all are graded; the exit code."""
    return workflow_watch.watch(folder, as_json, emit, Watch)
