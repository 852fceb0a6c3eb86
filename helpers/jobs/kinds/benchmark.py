"""Rounds of benchmarks: workflows of many cells, whose agents are elements of arrays. scripts_hpc/run_benchmark.sh"""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs import arrays
from helpers.jobs.fleet import JOB_ID
from helpers.jobs.kinds.base import Entry
from helpers.jobs.kinds.workflow import Workflow
from helpers.jobs.submitted import jobs_of
from helpers.lib.values import section

MANIFEST = "manifest.json"


class Benchmark(Workflow):
    """A round: <rollouts>/<benchmark>/<stamp>. Its jobs may submit others, where the queue had no room for all."""

    MARK, COMMAND = "\0", "scripts_hpc/run_benchmark.sh"
    WATCHER, MANIFEST_WRITER = "helpers.benchmarks.watch", "helpers.benchmarks.manifest"

    def __init__(self, path: Path, site: AskedSite, only: str | None = None):
        super().__init__(path, site, only)
        self._note = _written(path)
        if len(self.jobs["agents"]) > len(section(self.record, "jobs").get("agents") or []):
            with contextlib.suppress(OSError):  # another one's round
                self.note_jobs()

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

    # ---- what its jobs submit

    def hear(self) -> None:
        super().hear()
        if (now := _written(self.path)) != self._note and not self.only:
            self._note = now
            self._take_in()

    def _take_in(self) -> None:
        """What was submitted since the note was read."""
        self.jobs = jobs_of(self.path, self.record)
        self.note_jobs()
        known, beaten = {entry.id for entry in self.entries}, self._beaten()
        self._add([entry for entry in self._entries() if entry.id not in known and entry.id not in beaten])

    def _add(self, entries: list[Entry]) -> None:
        self.entries += entries
        self.agents += [entry.id for entry in entries if entry.part == "agent" and entry.id not in self.agents]
        self.fleet.stir()

    def waiting(self) -> list[arrays.Waiting]:
        """The arrays that are still to be submitted, or were to be."""
        return [] if self.only else arrays.waiting(self.path)

    @property
    def goes_on(self) -> bool:
        """Whether a job is there that may submit what waits."""
        return any(not self.fleet.gone(job) for job in self.agents)

    def hold(self) -> None:
        if not self.only:
            arrays.take(self.path, arrays.STOP)

    def late(self) -> bool:
        if self.only or not arrays.waited(self.path):
            return False
        before = len(self.entries)
        self.hear()
        # whoever submitted it may have died before he could note it
        known = {entry.id.partition("_")[0] for entry in self.entries}
        found = (job for folder in self._folders() for job in self.fleet.scheduler.jobs_of(f"{folder}/jobs/"))
        strays = [job for job in dict.fromkeys(found) if job not in known]
        self.fleet.look(strays)
        self._add([Entry(job, "agent", f"agent #{job}") for job in self.fleet.alive(strays) if JOB_ID.fullmatch(job)])
        self.look()
        return len(self.entries) > before

    def _folders(self) -> set[str]:
        """Its folder as it was named to its jobs, and as it is named here."""
        base = section(self.config, "paths").get("rollouts") or self.path.parents[1]
        return {str(self.path), f"{base}/{self.path.parent.name}/{self.path.name}"}

    # ---- what jobs.sh says

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"not_submitted": sum(len(one.rollouts) for one in self.waiting())}

    def item_lines(self) -> list[tuple[str, ...]]:
        lines = super().item_lines()
        if said := self._waiting_words():
            count, told = said
            lines.append((f"{count} rollouts", "not submitted yet", told))
        return lines

    def whys(self) -> list[str]:
        said = self._waiting_words()
        return [f"{said[0]} rollouts are not submitted yet: {said[1]}."] if said else []

    def _waiting_words(self) -> tuple[int, str] | None:
        """How many rollouts have no job yet, and what becomes of them."""
        found = self.waiting()
        count = sum(len(one.rollouts) for one in found)
        if not count:
            return None
        if self.goes_on and any(one.taken != arrays.STOP for one in found):
            return count, "the last jobs of the arrays before them submit them"
        return count, f"no job is left that would submit them: {self.COMMAND} resume {self.path} does"


def _written(group: Path) -> tuple[int, int]:
    """Another value whenever a line was added to the note of what was submitted."""
    try:
        seen = os.stat(group / "jobs" / "submitted")
    except OSError:
        return 0, 0
    return seen.st_mtime_ns, seen.st_size
