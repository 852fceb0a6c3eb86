"""A row of the results, and what each of its columns is derived from: records, the scheduler, logs, files. For results.sh explain."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.explain import hours
from helpers.explain.files import DIFFERS, META, SAME, UNKNOWN, WORKFLOW, Files
from helpers.explain.hours import Term
from helpers.lib import text, values
from helpers.lib.values import seconds_of, section
from helpers.runs import metadata

LOG_TIMES = re.compile(r"the agent's time: (\S+Z) to (\S+Z)")
CLOCKS = {"local": 2.0, "slurm": 300.0}  # seconds by which two clocks may differ
BY_HAND = "there is no workflow.json: a job submitted by hand"


@dataclass(frozen=True)
class Derived:
    """source: file and key, or formula; verdict: of the four above; how: what was derived, and from what; value: it, where there is one."""

    source: str
    verdict: str
    how: str
    value: Any = None


class Case:
    """A row and what it is derived from.

    run: whose row it is, of export_results; shown: the run that stands for it in the table; tries: the runs whose cost the row bears;
    log: of its job.
    """

    def __init__(self, run: Any, shown: Any, tries: list[Any], row: dict[str, Any], collection: Any, log: Path | None):
        self.run, self.shown, self.tries, self.row, self.collection = run, shown, tries, row, collection
        self.log, self.log_name = log, "" if log is None else os.path.relpath(log, run.folder)
        self.metadata, self.workflow, self.config = run.metadata, run.workflow, section(run.workflow, "config")
        self.files = Files(Path(run.folder), run)

    @cached_property
    def terms(self) -> list[Term]:
        return hours.terms(self.tries, self.collection)

    @cached_property
    def said(self) -> str:
        """The end of the job's log."""
        return text.tail(self.log)

    @cached_property
    def log_times(self) -> tuple[str, str] | None:
        """When the agent began and ended, as the job's log has it."""
        found = LOG_TIMES.findall(self.said)
        return found[-1] if found else None

    @cached_property
    def last_word(self) -> tuple[str, str] | None:
        """State and reason in the job's log."""
        task = re.escape(str(self.row["task"]))
        found = re.findall(
            rf"^\d\d:\d\d:\d\d {task}: ({'|'.join(metadata.END_STATES)}): (.*)$", self.said, re.MULTILINE
        )
        return found[-1] if found else None

    @cached_property
    def window(self) -> tuple[float, float] | None:
        """When the agent's job ran, by the scheduler's records: seconds since 1970."""
        noted = seconds_of(self.metadata.get("created_at")) if "host" in self.metadata else None
        found = self.collection.book.of(self.run, self.run.job_id, noted)
        return None if found is None or found.start is None else (found.start, found.start + found.seconds)

    @property
    def slack(self) -> float:
        return CLOCKS.get(str(section(self.config, "scheduler").get("kind")), CLOCKS["slurm"])


Column = Callable[[Case, str], Derived]


def compared(case: Case, column: str, source: str, value: Any, how: str) -> Derived:
    """The verdict on a value that was derived anew."""
    return Derived(source, SAME if case.row[column] == value else DIFFERS, how, value)


def of_workflow(key: str, what: str = META) -> Column:
    """A column that a run's record and its workflow's both have."""

    def derive(case: Case, column: str) -> Derived:
        if not case.workflow:
            return Derived(f"{what}: {key}", UNKNOWN, BY_HAND)
        value = values.text(case.workflow.get(key))
        return compared(case, column, f"{what}: {key}", value, f"{WORKFLOW}: {case.run.where(key)}")

    return derive


def medals(report: dict[str, Any]) -> dict[str, bool]:
    """Medals by a report's score and thresholds, as mle-bench's grade_helpers.py has them; empty where one of these is missing."""
    score, lower = metadata.score_of(report), report.get("is_lower_better")
    limits = [
        limit
        for name in (*metadata.MEDALS, "median")
        if (limit := values.number(report.get(f"{name}_threshold"))) is not None
    ]
    if score is None or len(limits) < 4 or not isinstance(lower, bool):
        return {}
    sign = -1 if lower else 1
    reached = [sign * score >= sign * limit for limit in limits[:3]]
    best = reached.index(True) if True in reached else None
    found = {f"{medal}_medal": best == place for place, medal in enumerate(metadata.MEDALS)}
    return found | {"any_medal": best is not None, "above_median": sign * score > sign * limits[3]}
