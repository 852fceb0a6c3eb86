"""Before earlier runs are graded: what is checked of the site and the data, and the folder of the jobs that do it.

scripts_hpc/lib/grade.sh submits them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.config.schema import Site
from helpers.data import fingerprint, layout
from helpers.jobs.kinds.grading import Grading
from helpers.jobs.orders import Order
from helpers.jobs.site_checks import SiteChecks
from helpers.lib import disk, folders, private, values
from helpers.lib.errors import ConfigError
from helpers.lib.shell import assignments
from helpers.lib.signals import ignore_signals
from helpers.rendering import render, sealing
from helpers.scheduler import limits

AT_A_TIME = 4  # jobs that run at once, for each grading that the server does at once: one is starting, one is ending


class Planned(SiteChecks):
    """Orders that have passed all checks, and the folder of their jobs. Raises ConfigError with every problem, and Infrastructure.

    advice: what to do where these are more jobs than the site takes.
    """

    def __init__(self, site: Site, orders: list[Order], advice: str):
        super().__init__(site)
        self.orders = orders
        self.competitions = list(dict.fromkeys(one.competition for one in orders))
        for competition in self.competitions:
            self._check_data(competition)
        self.check_images()
        self.check_folders()
        self.conclude()
        limits.check_room(site, len(orders) + 1, advice)
        self.graders = self._graders()

    def scripts(self, workflow: render.Workflow | None = None) -> dict[str, str]:
        workflow = workflow or render.Workflow("")
        return {
            "grading_server.sh": render.grading_script(self.site, workflow),
            "grade.sh": render.grade_script(self.site, workflow),
        }

    @property
    def images(self) -> dict[str, Path]:
        return {"grading": Path(self.site.paths.containers, "mlebench-env.sif")} if self.site.isolated else {}

    def _check_data(self, competition: str) -> None:
        """Whether the answers are those of the runs."""
        with self.site.reading(f"competition '{competition}'"):
            if problem := layout.problem(self.site.paths.data, competition):
                raise ConfigError(
                    [f"competition '{competition}' isn't prepared: {problem} (paths.data of site {self.site.name})."]
                )
            now = fingerprint.known(layout.prepared(self.site.paths.data, competition), keep=False)
        for one in self.orders:
            data = str(one.run.metadata.get(fingerprint.KEY) or "")
            if one.competition == competition and data != now:
                said = f"fingerprint {data[:12]}" if data else "no fingerprint was noted"
                raise ConfigError(
                    [
                        f"{one.run.directory} can't be graded: it ran on other data ({said}) than lie prepared in "
                        f"{self.site.paths.data} now ({now[:12]}), so the score would be that of another task."
                    ]
                )

    def _graders(self) -> list[str]:
        """The jobs, as scripts_hpc/lib/grade.sh reads them: FIRST COUNT AT_ONCE."""
        count = len(self.orders)
        if count == 1:
            return ["0 1 0"]
        most = limits.array_size(self.site, self.cluster) if self.site.scheduler.kind == "slurm" else count
        at_once = AT_A_TIME * self.site.jobs.grading_server.cpus
        sizes = [(first, min(most, count - first)) for first in range(0, count, most)]
        return [f"{first} {size} {min(at_once, size)}" for first, size in sizes]

    def write(self, kind: type[Grading], **told: Any) -> str:
        """Make the folder of the jobs; returns shell assignments. told: what else its record says. Raises OSError."""
        self.make_folders()
        ignore_signals()  # who is told of the folder removes it
        folder = folders.make(Path(self.site.paths.runs), kind.MARK.removeprefix("-UTC"), "jobs", "logs", "left")
        workflow = render.Workflow(str(folder), arrays=len(self.orders) > 1)
        files = self.scripts(workflow) | {f"order_{number}": one.text() for number, one in enumerate(self.orders)}
        render.write(folder / "jobs", files, self.site, workflow)
        disk.write_json(folder / kind.RECORD, private.masked(self._record(folder, told)))
        named = {
            "FOLDER": folder,
            "SCHEDULER": self.site.scheduler.kind,
            "ADDRESS_DIR": self.site.paths.address_dir,
        }
        return assignments(named, {"COMPETITIONS": self.competitions, "GRADERS": self.graders})

    def _record(self, folder: Path, told: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": 2,
            "created_at": values.now(),
            "site": self.site.name,
            "competitions": self.competitions,
            "runs": [str(one.run.directory) for one in self.orders],
            "again": [one.again for one in self.orders],
            **told,
            **sealing.seal(folder),
            "config": self.site.model_dump(mode="json"),
        }
