"""A round as it stands: its record, what became of each rollout, its rows in the table of results, and its summary."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.benchmarks import bounds, manifest, report, stamps, summary, usage
from helpers.config.asked import AskedSite
from helpers.jobs import arrays
from helpers.lib import disk, values
from helpers.lib.errors import Refused
from helpers.runs import cells, load
from helpers.runs.collection import Collection
from helpers.runs.one import OneRun

SUMMARY = "summary.md"


class Round:
    """A round by its folder. Raises Refused where it is none."""

    def __init__(self, path: Path):
        self.path = Path(os.path.abspath(path))
        self.record = disk.read_json(self.path / "workflow.json") or {}
        if not (self.path / manifest.NAME).is_file() or not self.record:
            raise Refused(f"{self.path} is no round of a benchmark (no {manifest.NAME} and workflow.json in it)")

    @property
    def name(self) -> str:
        return self.path.parent.name

    @cached_property
    def collection(self) -> Collection:
        """All its runs."""
        return Collection([self.path])

    @cached_property
    def tries(self) -> dict[int, list[OneRun]]:
        """The runs of each rollout, last the one that stands for it."""
        found: dict[int, list[OneRun]] = {}
        for run in self.collection.runs:
            number = run.metadata.get("rollout")
            if isinstance(number, int):
                found.setdefault(number, []).append(run)
        return {
            number: sorted(its, key=lambda run: (_has_begun(run), _attempt(run), run.created))
            for number, its in found.items()
        }

    @cached_property
    def asked(self) -> list[dict[str, Any]]:
        """All rollouts that were asked for, each with its row of the table of results; None where it has not begun."""
        told = cells.cells(self.record)
        found = []
        for number, (cell, seed) in enumerate(cells.rollouts(self.record)):
            its, tries = told[cell], self.tries.get(number, [])
            row = tries[-1].row(tries) | {"attempts": len(tries), "usd": usd(its, tries[-1])} if tries else None
            found.append(
                {
                    "run_id": manifest.run_id(self.path, number),
                    "task": its.get("competition"),
                    "model": its.get("model"),
                    "agent": its.get("agent"),
                    "variables": its.get("variables") or {},
                    "seed": seed,
                    "row": row,
                }
            )
        return found

    @cached_property
    def summary(self) -> summary.Round:
        asked = self.asked
        last = [max(its, key=lambda run: (_attempt(run), _has_begun(run))) for its in self.tries.values()]
        kept = bounds.kept(self.path)
        reasons = [run.reason or "" for run in last if not _has_begun(run)]
        reasons += [why for number, why in kept.items() if number not in self.tries and bounds.is_not_begun(why)]
        waits = sum(number not in kept for one in arrays.waiting(self.path) for number in one.rollouts)
        stopped = bounds.note(reasons) + ([f"{waits} rollouts are not submitted yet"] if waits else [])
        served = load.by_model(load.servers(str(self.path)).values())
        return summary.round_of(asked, self.name, self.path.name, [*self.collection.broken, *stopped], served)

    def refresh(self) -> None:
        """manifest.json anew where it says of a rollout what isn't true any more; nothing where it can't be written."""
        listed = (disk.read_json(self.path / manifest.NAME) or {}).get("results")
        told = {
            one.get("run_id"): (one.get("state"), one.get("score")) for one in listed or [] if isinstance(one, dict)
        }
        found = {one["run_id"]: one["row"] or {"state": "waiting", "score": None} for one in self.asked}
        if told != {name: (row["state"], row["score"]) for name, row in found.items()}:
            with contextlib.suppress(OSError):
                manifest.refresh(self.path)

    def write_summary(self) -> str:
        """summary.md anew; its text. Raises OSError."""
        text = report.markdown(self.summary)
        disk.write_text(self.path / SUMMARY, text)
        return text


def _attempt(run: OneRun) -> int:
    return values.count(run.metadata.get("attempt")) or 0


def _has_begun(run: OneRun) -> bool:
    """What a bound kept from beginning stands for its rollout only where nothing else does; it may have begun later, as the same try."""
    return not bounds.was_not_begun(run.metadata.get("state"), run.metadata.get("reason"))


def usd(cell: dict[str, Any], run: OneRun) -> float | None:
    """What its models' owners ask for it, by its agent's count; None where that isn't known."""
    counts = [values.count(run.usage.get(key)) for key in usage.TOKENS]
    prices = cell.get("prices")
    if not isinstance(prices, list) or len(prices) != len(counts) or None in (*counts, *map(values.number, prices)):
        return None
    return sum(count * price for count, price in zip(counts, prices, strict=True)) / 1e6


def find(name: str, stamp: str | None, site: AskedSite) -> Path:
    """The folder of a benchmark's round: of a stamp, or the start of one, or the newest. Raises Refused with those that there are."""
    return chosen(site.rollouts, name, stamp)


def chosen(rollouts: Path, name: str, stamp: str | None) -> Path:
    """The same of a folder of rounds."""
    found = stamps.rounds(rollouts, name)
    if not found:
        known = ", ".join(stamps.names(rollouts)) or "none yet"
        raise Refused(f"no rounds of a benchmark '{name}' in {rollouts} (paths.rollouts). There are: {known}")
    matching = [one for one in found if one.startswith(stamp or "")]
    if not matching:
        raise Refused(f"benchmark '{name}' has no round {stamp}. There are: {', '.join(found)}")
    return rollouts / name / matching[-1]
