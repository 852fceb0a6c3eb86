"""`jobs.sh list`: the runs of agents in paths.runs, newest first, a line each. Runs where a person types."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs.kinds.workflow import Workflow
from helpers.lib import tables, values
from helpers.lib.errors import Refused
from helpers.runs import metadata
from helpers.runs.collection import rows_of
from helpers.scheduler.query import SchedulerUnavailable

SHOWN = 20  # runs, where no option says which
LOOKED = 200  # workflows that are looked into for those that run
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")
HEAD = ("JOB", "STATE", "TASK", "MODEL", "AGENT", "SCORE", "GPU-H", "AGE")
CUT = (1, 2, 3, 4, 5)  # columns whose cells may be cut


def since(text: str, option: str = "--since") -> float:
    """Seconds since 1970 of an age (90m, 12h, 3d, 2w) or of a UTC date (2026-11-20, 2026-11-20T08:00). Raises Refused."""
    if found := re.fullmatch(r"(\d+)([mhdw])", text):
        return time.time() - int(found[1]) * UNITS[found[2]]
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{option} {text}: is neither an age (90m, 12h, 3d, 2w) nor a date (2026-11-20)") from None
    return (told if told.tzinfo else told.replace(tzinfo=timezone.utc)).timestamp()


def listed(
    folders: Iterable[Path], site: AskedSite, begin: float | None, running: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """The rows of the newest runs, newest first, and why the scheduler couldn't be asked, if so.

    folders: of workflows, newest first.
    begin: of all runs made since then (seconds since 1970), else of the newest SHOWN. running: only of those without an end.
    """
    chosen = list(_chosen(folders, begin, running))
    problems = [problem for folder in chosen if (problem := _settle(folder, site))]
    rows = [row for row in rows_of(chosen, keep_all=True) if not running or row["state"] in metadata.OPEN_STATES]
    return rows if begin is not None else rows[:SHOWN], next(iter(problems), None)


def _chosen(folders: Iterable[Path], begin: float | None, running: bool) -> Iterator[Path]:
    """The workflows whose runs are asked for, newest first."""
    seen = 0
    for number, folder in enumerate(folder for folder in folders if STAMP.match(folder.name)):
        if made(folder.name) < begin if begin is not None else number >= LOOKED if running else seen >= SHOWN:
            return
        yield folder
        seen += sum(bool(re.search(r"_\d+$", path.name)) for path in folder.iterdir())


def made(name: str) -> float:
    return datetime.strptime(name[:19], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=timezone.utc).timestamp()


def _settle(folder: Path, site: AskedSite) -> str | None:
    """Give the runs of a workflow whose jobs are gone their end; why that couldn't be asked, if so."""
    workflow = Workflow(folder, site)
    if workflow.open_jobs():
        try:
            workflow.look()
            workflow.settle_sure()
        except SchedulerUnavailable as error:
            return str(error) or "no message"
    return None


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line a run, the head first; cells are cut where a line would be wider than a terminal."""
    return tables.lines([_cells(row) for row in rows], HEAD, states=(1,), cut=CUT)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    score = "" if row["score"] is None else f"{row['score']:.4g} {_medal(row) or row['metric'] or ''}".strip()
    hours = "" if row["gpu_hours"] is None else f"{row['gpu_hours']:.1f}"
    named = (str(row[key] or "") for key in ("job_id", "state", "task", "model", "agent"))
    return (*named, score, hours, _age(row["started_at"] or row["ended_at"]))


def _medal(row: dict[str, Any]) -> str:
    return next((name for name in ("gold", "silver", "bronze") if row[f"{name}_medal"]), "")


def _age(told: str | None) -> str:
    began = values.seconds_of(told)
    if began is None:
        return ""
    seconds = max(time.time() - began, 0)
    unit = next((unit for unit in "dhm" if seconds >= UNITS[unit]), "m")
    return f"{seconds // UNITS[unit]:.0f}{unit}"
