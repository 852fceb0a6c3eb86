"""Notebooks: JupyterLab as a job, with a folder of its own for its script and log. scripts_hpc/run_notebook.sh."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs import fleet
from helpers.jobs.fleet import submitted
from helpers.jobs.follow import Never
from helpers.jobs.kinds.base import Entry, Kind
from helpers.lib import text
from helpers.lib.errors import Refused
from helpers.scheduler import reasons
from helpers.scheduler.query import SchedulerUnavailable


class Notebook(Kind):
    """A notebook's folder."""

    RECORD, MARK, COMMAND, PARTS = "notebook.json", "-UTC_notebook", "scripts_hpc/run_notebook.sh", ("notebook",)

    def __init__(self, path: Path, site: AskedSite, only: str | None = None):
        super().__init__(path, site)
        name = f"notebook on {self.record.get('task') or 'a task'}"
        self.entries = [Entry(job, "notebook", name) for _, job in submitted(path)]

    def at_work(self, entry: Entry) -> tuple[str, str]:
        if self._address(entry).exists():
            return "is ready", text.literal(
                f"nothing to do, it ends by itself when it isn't used; its address: {self._address(entry)}"
            )
        return "is starting", "follow it with `{logs}`"

    def _address(self, entry: Entry) -> Path:
        return self.addresses / f"notebook_{entry.id}"

    def words(self, entry: Entry) -> dict[str, str]:
        return reasons.keys("agent", "cpu", self.record.get("site")) | {"partition": "of role cpu"}

    def attach(self, as_json: bool, emit: Any) -> int:
        """Say where it answers; it needs nobody to watch it."""
        for entry in self.entries:
            try:
                url = self._address(entry).read_text("utf-8").partition("\n")[0]
            except (OSError, ValueError):
                raise Refused(
                    f"{entry} doesn't answer now: `scripts_hpc/jobs.sh why {self.path}` says more", 3
                ) from None
            if as_json:
                emit({"run": str(self.path), "job_id": entry.id, "url": url})
            else:
                token = f"sed -n s/^token=//p {self._address(entry)}"
                print(f"{entry}: in your browser {url}/lab, with the token that this prints: {token}")
        return 0


def never(folder: Path) -> str | None:
    """Why a notebook's job will never start, from two looks at it; None where it may. Raises SchedulerUnavailable."""
    one, judge = Notebook(folder, AskedSite()), Never()
    for pause in (0.0, fleet.DOUBT_SECONDS):
        time.sleep(pause)
        one.look()
        said = judge.look(one, tell=False)
    return said


if __name__ == "__main__":
    with contextlib.suppress(SchedulerUnavailable, KeyboardInterrupt):
        print(never(Path(sys.argv[1])) or "", end="")
