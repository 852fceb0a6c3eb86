"""Which runs become traces, and which of their rows are left out, with why."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from helpers.datagen import trace_rows
from helpers.datagen.contamination import Instructions
from helpers.datagen.trace_messages import Plain
from helpers.datagen.trace_rows import Trace
from helpers.runs.one import OneRun

OUTCOMES = ("success", "failure", "none")


@dataclass
class Filters:
    """What is kept. All else is left out, for a reason in a few words.

    outcome: success or failure alone (none: both); valid_only: what was graded alone; best_of: so many of the best runs of a task with a
    model and an agent; deduplicate: one row of those that say the same; apart_from: no row whose instruction overlaps with these.
    """

    outcome: str = "none"
    valid_only: bool = False
    best_of: int | None = None
    deduplicate: bool = False
    apart_from: Instructions | None = None
    _best: set[str] | None = field(default=None, init=False)
    _seen: set[bytes] = field(default_factory=set, init=False)

    def look_at(self, runs: Iterable[OneRun]) -> None:
        """See all runs once, before the first is asked for: the best ones are not known sooner. Keeps nothing of them but names."""
        self._best, self._seen = None, set()
        if self.best_of is None:
            return
        best: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for run in runs:
            if self._against(run):
                continue
            told = run.row()
            its = trace_rows.reward(told)
            # of two equal ones the earlier
            rank = (its is not None, its or 0.0, -run.created, run.folder)
            kept = best.setdefault((told["task"], told["model"], told["agent"]), [])
            heapq.heappush(kept, rank)
            if len(kept) > self.best_of:
                heapq.heappop(kept)
        self._best = {rank[-1] for kept in best.values() for rank in kept}

    def against_run(self, run: OneRun) -> str | None:
        """Why a run gives no rows; None where it gives some."""
        if why := self._against(run):
            return why
        if self._best is not None and run.folder not in self._best:
            return "not among the best"
        return None

    def _against(self, run: OneRun) -> str | None:
        if why := trace_rows.missing(run):
            return why
        told = run.row()
        won = trace_rows.has_won(told)
        if self.outcome == "success" and not won:
            return "no success"
        if self.outcome == "failure" and won:
            return "success"
        if self.valid_only and (told["score"] is None or told["valid_submission"] is False):
            return "without a valid result"
        return None

    def against(self, trace: Trace) -> str | None:
        """Why a run's episode is left out; None where it is kept, and counts as seen."""
        if self.apart_from is not None:
            if not trace.instruction:
                return "without an instruction to compare"
            if self.apart_from.overlaps(trace.instruction):
                return "overlapping with the instructions to keep apart from"
        if self.deduplicate:
            told = digest(trace.conversations)
            if told in self._seen:
                return "duplicate"
            self._seen.add(told)
        return None


def digest(conversations: Plain) -> bytes:
    """sha256 of what was said: of each role and each text in UTF-8, after its length in bytes."""
    made = hashlib.sha256()
    for message in conversations:
        for text in (message["role"], message["content"]):
            data = text.encode()
            made.update(b"%d:" % len(data) + data)
    return made.digest()
