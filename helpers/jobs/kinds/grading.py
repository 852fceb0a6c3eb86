"""Runs that are graded later: jobs of their own for what earlier workflows had submitted (jobs.sh grade; helpers/jobs/later.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from helpers.jobs import regrade
from helpers.jobs.kinds.base import Entry
from helpers.jobs.kinds.workflow import Workflow
from helpers.lib import disk, values
from helpers.runs import metadata
from helpers.runs.metadata import Run

GRADED = ("scored", "invalid_submission")


@dataclass
class LaterRun(Run):
    """A run whose end stays as it is until it is graded. job: which is to grade it; its script tells the same (run::_record_later)."""

    job: str = ""

    @property
    def is_open(self) -> bool:
        return self.metadata.get("state") not in GRADED and self.metadata.get("later_job") != self.job

    def settle(self, state: str, reason: str) -> None:
        self.reread()
        if self.is_open:
            earlier = earlier_reason(self)
            self.metadata |= {
                "reason": f"{earlier}; not graded later either, by job {self.job}: {reason}{metadata.KEPT}{self.directory}",
                "earlier_state": self.metadata.get("state"),
                "earlier_reason": earlier,
                "later_job": self.job,
                "later_at": values.now(),
            }
            disk.write_json(self.directory / "run_metadata.json", self.metadata)


def earlier_reason(run: Run) -> str:
    """Why a run wasn't graded at its own end, whatever was tried since."""
    return str(run.metadata.get("earlier_reason") or run.reason).partition(metadata.KEPT)[0]


class Grading(Workflow):
    """A folder of such jobs. runs: by the job that grades them."""

    RECORD, MARK, COMMAND = "grading.json", "-UTC_grade", "scripts_hpc/jobs.sh grade"
    PARTS = ("agent", "grading")
    WATCHER = "helpers.jobs.watch_grading"

    @property
    def again(self) -> str:
        return f"scripts_hpc/jobs.sh attach {self.path}"

    @property
    def is_again(self) -> bool:
        """Whether what it grades was graded before."""
        again = self.record.get("again")
        return again is True or (isinstance(again, list) and bool(again) and all(again))

    def read_runs(self) -> dict[str, Run]:
        listed, again = self.record.get("runs"), self.record.get("again")
        paths = [Path(one) for one in listed] if isinstance(listed, list) else []
        told = again if isinstance(again, list) and len(again) == len(paths) else [again is True] * len(paths)
        found: dict[str, Run] = {}
        for job, path, is_again in zip(self.jobs["agents"], paths, told, strict=False):
            one = regrade.AgainRun if is_again else LaterRun
            found[job] = one(path, disk.read_json(path / "run_metadata.json") or {}, job=job)
        return found

    def _entries(self) -> list[Entry]:
        server = self.jobs.get("grading_server")
        graders = [Entry(job, "agent", f"grading of {run.directory.name}") for job, run in self.runs.items()]
        return [*([Entry(server, "grading", "grading server")] if server else []), *graders]

    def note_jobs(self) -> None:
        """The note of what was submitted is all there is."""

    def groups(self) -> list[Path]:
        return sorted({run.directory.parent for run in self.runs.values()})

    def tidy(self) -> None:
        for group in self.groups():
            metadata.tell_aggregate(group)

    def words(self, entry: Entry) -> dict[str, str]:
        return super().words(replace(entry, part="grading"))
