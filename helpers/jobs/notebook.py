"""JupyterLab on a task: the checks before its job is submitted, and its script. scripts_hpc/run_notebook.sh does the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from helpers.config.schema import Site
from helpers.config.sites import ROOT, load_site, pick_site
from helpers.data import layout
from helpers.jobs.kinds.notebook import Notebook
from helpers.jobs.site_checks import SiteChecks
from helpers.lib import disk, durations, folders, private, values
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.shell import assignments
from helpers.lib.signals import catch_signals, ignore_signals
from helpers.rendering import render, sealing
from helpers.scheduler import limits


def plan(site: Site, task: str, time_limit: int | None = None) -> str:
    """Check all that can be checked and make the notebook's folder; returns shell assignments.

    time_limit: seconds, instead of the site's jobs.agent.time_limit. Raises ConfigError with every problem, Infrastructure, and OSError.
    """
    checks = _Checks(site)
    checks.time_limit = time_limit
    checks.check(task)
    limits.check_room(site, 1, "end one")
    checks.make_folders()
    ignore_signals()  # who is told of the folder removes it
    folder = folders.make(Path(site.paths.runs), "_notebook", "jobs", "logs")
    workflow = render.Workflow(str(folder))
    render.write(folder / "jobs", {"notebook.sh": render.notebook_script(site, time_limit, workflow)}, site, workflow)
    disk.write_json(folder / Notebook.RECORD, private.masked(_record(site, task, folder)))
    told = {
        "NOTEBOOK": folder,
        "NOTEBOOKS": Path(site.paths.notebooks, task.replace("/", "-")),
        "SCHEDULER": site.scheduler.kind,
        "ADDRESS_DIR": site.paths.address_dir,
        "ISOLATED": int(site.isolated),
        "IDLE_MINUTES": site.limits.idle_server_minutes,
        "LIMIT": durations.clock(time_limit or site.jobs.agent.time_limit),
    }
    return assignments(told)


def _record(site: Site, task: str, folder: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "created_at": values.now(),
        "site": site.name,
        "task": task,
        **sealing.seal(folder),
        "config": site.model_dump(mode="json"),
    }


def _task_problems(site: Site, task: str) -> list[str]:
    if unfit := layout.unfit(task):
        return [f"task '{task}': {unfit}."]
    with site.reading(f"task '{task}'"):
        problem = layout.problem(site.paths.data, task)
    if not problem:
        return []
    return [
        f"task '{task}' isn't prepared: {problem} (paths.data of site {site.name}). Prepare it with "
        f"scripts_hpc/prepare_tasks.sh {task} --site {site.name}."
    ]


class _Checks(SiteChecks):
    time_limit: int | None = None

    def scripts(self) -> dict[str, str]:
        return {"notebook.sh": render.notebook_script(self.site, self.time_limit)}

    @property
    def images(self) -> dict[str, Path]:
        return {"notebook": Path(self.site.paths.containers, "experiment.sif")} if self.site.isolated else {}

    def check(self, task: str) -> None:
        self.problems += [*_task_problems(self.site, task), *_jupyter_problems(self.site)]
        self.check_images()
        self.check_folders()
        self.conclude()


def _jupyter_problems(site: Site) -> list[str]:
    if site.isolated:
        return []
    venv = Path(render.venvs("experiment")["experiment"])
    if os.access(venv / "bin" / "jupyter-lab", os.X_OK):
        return []
    return [
        f"site {site.name} runs without containers, and there is no JupyterLab in {venv}. Make it with `python3 -m venv {venv} && "
        f"{venv}/bin/pip install -r {ROOT}/requirements/experiment.txt`, or name an environment that has it in HAB_VENV_EXPERIMENT."
    ]


@click.command()
@click.argument("task")
@click.option("--time-limit", type=click.IntRange(min=60), metavar="SECONDS")
@SITE
@SET
def main(task: str, time_limit: int | None, site: str | None, overrides: tuple[str, ...]) -> None:
    """Check everything and print shell assignments for run_notebook.sh."""
    catch_signals()
    click.echo(plan(load_site(pick_site(site), list(overrides)), task, time_limit), nl=False)


if __name__ == "__main__":
    sys.exit(launch(main, "run_notebook.sh"))
