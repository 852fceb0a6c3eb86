"""Grading later what a run had submitted that ended without, or again what was scored: `jobs.sh grade` and `results.sh regrade`.

scripts_hpc/lib/grade.sh does the rest.
"""

from __future__ import annotations

import sys

import click

from helpers.config import asked
from helpers.config.schema import Site
from helpers.config.sites import load_site, pick_site
from helpers.jobs.cli import find
from helpers.jobs.grading_folder import Planned
from helpers.jobs.kinds.grading import Grading
from helpers.jobs.kinds.workflow import Workflow
from helpers.jobs.orders import Order, order, order_again
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.lib.signals import catch_signals
from helpers.scheduler.query import SchedulerUnavailable


def _orders(jobs: Workflow, site: Site, again: bool) -> tuple[list[Order], list[str]]:
    """What is graded, and why what isn't is not: a sentence a run. Raises ConfigError where there is nothing to grade."""
    found, refused = [], []
    for run in jobs.shown_runs:
        try:
            found.append((order_again if again else order)(run, site.limits.upload_mb * 2**20))
        except Refused as why:
            refused.append(f"{run.directory} can't be graded{' again' if again else ''}: {why}.")
    if not found:
        raise ConfigError(refused or [f"{jobs.path} can't be graded: it has no runs."])
    return found, refused


def plan(word: str | None, site_name: str | None, overrides: list[str], again: bool = False) -> str:
    """Check all that can be checked and make the folder of the jobs; returns shell assignments. again: of what was scored.

    Raises ConfigError with every problem, Refused, SchedulerUnavailable, Infrastructure, and OSError.
    """
    jobs = find(word, asked.AskedSite(site_name, overrides))
    if not isinstance(jobs, Workflow):
        raise Refused(f"{jobs.path} is no run of an agent, so there is nothing to grade")
    jobs.look()
    jobs.settle_sure()
    site = load_site(pick_site(site_name), overrides)
    orders, refused = _orders(jobs, site, again)
    planned = Planned(site, orders, "grade a single run's folder")
    for sentence in refused:
        click.echo(f"note: {sentence}", err=True)
    return planned.write(Grading)


@click.command()
@click.argument("run", required=False)
@SITE
@SET
@click.option("--again", is_flag=True, hidden=True, help="of what was scored: results.sh regrade")
def main(run: str | None, site: str | None, overrides: tuple[str, ...], again: bool) -> None:
    """Check everything and print shell assignments for jobs.sh grade and results.sh regrade."""
    catch_signals()
    try:
        click.echo(plan(run, site, list(overrides), again), nl=False)
    except Refused as error:
        raise (Infrastructure(str(error)) if error.code == 3 else ConfigError([str(error)])) from error
    except SchedulerUnavailable as error:
        raise Infrastructure(f"the scheduler doesn't answer ({str(error) or 'no message'}): try again") from error


if __name__ == "__main__":
    sys.exit(launch(main, "jobs.sh grade"))
