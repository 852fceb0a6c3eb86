"""What scripts of people ask of a round: helpers.eval_rollouts passes it on."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.benchmarks import rounds, summary
from helpers.benchmarks.manifest import NAME
from helpers.benchmarks.outcomes import Cell
from helpers.lib.errors import Refused


def load(path: str | os.PathLike[str]) -> summary.Round:
    """A round by its folder, or by <rollouts>/<benchmark>/<the start of its stamp>. Raises Refused."""
    folder = Path(os.path.abspath(Path(path).expanduser()))
    if not (folder / NAME).is_file():
        folder = rounds.chosen(folder.parent.parent, folder.parent.name, folder.name)
    found = rounds.Round(folder)
    found.refresh()
    return found.summary


def task_score(results: summary.Round, task: str, **only: str | None) -> float | None:
    """The mean score of a task's graded rollouts. only: of which model, agent (None: of all). Raises Refused where there are none."""
    found = results.outcomes
    for key, value in {"task": task, **only}.items():
        known = dict.fromkeys(str(getattr(one, key)) for one in found)
        found = [one for one in found if value is None or getattr(one, key) == value]
        if not found:
            raise Refused(
                f"{results.label} has no rollouts of {key} '{value}'. There are: {', '.join(known) or 'none'}"
            )
    return Cell(found).mean
