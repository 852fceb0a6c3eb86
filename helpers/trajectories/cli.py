"""`results.sh trajectory`: what an agent did, step by step, as ATIF-v1.7. Runs where a person types."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from helpers.config import asked
from helpers.jobs.cli import find
from helpers.jobs.kinds.workflow import Workflow
from helpers.lib import text
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.lib.signals import catch_signals
from helpers.scheduler.query import SchedulerUnavailable
from helpers.trajectories.write import NoTrajectory, write


@click.command()
@click.argument("run", required=False)
@SITE
@SET
def main(run: str | None, site: str | None, overrides: tuple[str, ...]) -> int:
    """Write logs/trajectory.json of the runs that are meant, and print the paths; 3 where there is none to be had of one."""
    catch_signals()
    code = 0
    for folder in _folders(run, asked.AskedSite(site, list(overrides))):
        try:
            click.echo(str(write(folder)))
        except NoTrajectory as error:
            click.echo(text.clean(f"trajectory: {folder}: {error}"), err=True)
            code = 3
    return code


def _folders(run: str | None, site: asked.AskedSite) -> list[Path]:
    """The folders of the runs that are meant. Raises ConfigError and Infrastructure."""
    try:
        jobs = find(run, site)
        if not isinstance(jobs, Workflow) or not jobs.shown_runs:
            raise Refused(f"{jobs.path} holds no run of an agent")
    except Refused as error:
        raise (Infrastructure(str(error)) if error.code == 3 else ConfigError([str(error)])) from error
    except SchedulerUnavailable as error:
        raise Infrastructure(f"the scheduler doesn't answer ({str(error) or 'no message'}): try again") from error
    return [Path(one.directory) for one in jobs.shown_runs]


if __name__ == "__main__":
    sys.exit(launch(main, "results.sh trajectory"))
