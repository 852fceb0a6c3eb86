"""Grading later what a run had submitted that ended without, or again what was scored: checks, and the folder of its jobs.

scripts_hpc/lib/grade.sh does the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import sys
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import click

from helpers.config import asked
from helpers.config.schema import Site
from helpers.config.sites import load_site, pick_site
from helpers.data import fingerprint, layout
from helpers.jobs import regrade
from helpers.jobs.cli import find
from helpers.jobs.kinds.grading import GRADED, Grading, earlier_reason
from helpers.jobs.kinds.workflow import Workflow
from helpers.jobs.site_checks import SiteChecks
from helpers.lib import disk, folders, private, values
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.lib.signals import catch_signals, ignore_signals
from helpers.rendering import render, sealing
from helpers.runs import metadata
from helpers.runs.metadata import Run
from helpers.scheduler import limits
from helpers.scheduler.query import SchedulerUnavailable

KEPT_COPY = "kept_submission.csv"  # in a run's folder, made by its job (run::_put_by)
GRADED_COPY = "graded_submission.csv"  # the same, where the agent's own was changed by then (run::_keep_report)
# of a record, what its end says
END = ("state", "reason", "cut_short", "earlier_state", "earlier_reason", "later_job", "later_at")


@dataclass(frozen=True)
class Order:
    """What is graded of a run. file: the submission, with its sha256; remark: what is to be said beside the score; again: it was scored."""

    run: Run
    file: Path
    sha256: str
    remark: str = ""
    again: bool = False

    def text(self) -> str:
        """Shell assignments, as run::take_order reads them."""
        left_out = ("grades",) if self.again else END
        record = {key: value for key, value in self.run.metadata.items() if key not in left_out}
        variables = {
            "RUN": str(self.run.directory),
            "RUN_NAME": self.run.directory.name,
            "COMPETITION": str(self.run.metadata.get("competition")),
            "EARLIER_RECORD": json.dumps(record, ensure_ascii=False),
            "EARLIER_STATE": self.run.state,
            "EARLIER_REASON": earlier_reason(self.run),
            "SUBMISSION_FILE": str(self.file),
            "SUBMISSION_SHA256": self.sha256,
            "SUBMISSION_REMARK": self.remark,
        }
        if self.again:
            variables["EARLIER_GRADES"] = json.dumps(regrade.grades(self.run), ensure_ascii=False)[1:-1]
        return _assignments(variables)


def _assignments(variables: dict[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


def order(run: Run, most: int) -> Order:
    """What is graded of a run that ended without; most: bytes of a submission. Raises Refused with the reason why nothing is."""
    if run.is_open:
        raise Refused(f"it is still {run.state}: it is graded when its agent ends")
    if run.state in GRADED:
        raise Refused(f"it was graded already: {run.state}")
    by_itself = run.state == "timed_out" and run.metadata.get("agent_exit_code") is not None
    if run.state not in metadata.UNGRADED or by_itself:
        raise Refused(
            f"it is {run.state} ({run.reason}), which is its result: only what was lost, or cut off, is graded later"
        )
    began = values.seconds_of(run.metadata.get("agent_started_at"))
    noted = run.metadata.get("submission_sha256")
    paths = [run.directory / metadata.SUBMISSION, run.directory / KEPT_COPY]
    if began is None or not any(map(os.path.lexists, paths)):
        raise Refused("nothing was submitted" + ("" if began else ": its agent had not begun"))
    return _as_noted(run, paths, noted, most) if isinstance(noted, str) else _by_its_time(run, paths[0], began, most)


def order_again(run: Run, most: int) -> Order:
    """The submission that a run was scored by. Raises Refused with the reason why it can't be graded again."""
    if isinstance(run, regrade.AgainRun) and run.is_open:
        raise Refused(f"job {run.job} grades it again just now")
    if run.is_open:
        raise Refused(f"it is still {run.state}: it is graded when its agent ends")
    if run.state != "scored":
        raise Refused(f"it is {run.state} ({run.reason}): only what was scored is graded again")
    moved = Path(values.text(run.report.get("submission_path")) or "").name == GRADED_COPY
    path, noted = run.directory / (GRADED_COPY if moved else metadata.SUBMISSION), run.metadata.get("submission_sha256")
    if isinstance(noted, str):
        return replace(_as_noted(run, [path, run.directory / KEPT_COPY], noted, most), again=True)
    sha256, changed = _look(path, most)
    ended = run.metadata.get("later_at") or run.metadata.get("ended_at")
    if changed > (values.seconds_of(ended) or 0.0) + 1:
        raise Refused(
            f"{path} was changed at {_utc(changed)}, after it was graded ({ended}), and its sha256 wasn't noted"
        )
    return Order(run, path, sha256, again=True)


def _as_noted(run: Run, paths: list[Path], noted: str, most: int) -> Order:
    """The submission whose checksum the job noted at the run's end."""
    for path in filter(os.path.lexists, paths):
        if _look(path, most)[0] == noted:
            return Order(run, path, noted)
    raise Refused(f"{paths[0]} isn't what was there at the run's end (another sha256), and no copy of that is left")


def _by_its_time(run: Run, path: Path, began: float, most: int) -> Order:
    """The submission of a job that was killed before it could note one: nobody can set the time of a file's last change."""
    sha256, changed = _look(path, most)
    limit, ended = values.count(run.metadata.get("time_limit_seconds")), run.metadata.get("ended_at")
    ends = {
        "the agent's time": began + (limit or 0),
        "the run": values.seconds_of(ended) or began,
    }
    whose = min(ends, key=lambda name: ends[name])
    if changed > ends[whose] + 1:  # what it is compared with has no fractions
        raise Refused(
            f"{path} was changed at {_utc(changed)}, after the end of {whose} ({_utc(ends[whose])}): it doesn't count"
        )
    remark = f"; its job was killed before it could note what was submitted, which was last changed at {_utc(changed)}, before the end"
    return Order(run, path, sha256, remark)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _look(path: Path, most: int) -> tuple[str, float]:
    """sha256 and time of the last change of a regular file. Raises Refused."""
    try:
        if path.parent.is_symlink():
            raise Refused(f"{path.parent} is a link: refused")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                raise Refused(f"{path} is no regular file: refused")
            if seen.st_size > most:
                raise Refused(f"{path} has {seen.st_size} bytes, more than may be submitted (limits.upload_mb)")
            digest = hashlib.sha256()
            while piece := file.read(2**20):
                digest.update(piece)
        return digest.hexdigest(), seen.st_ctime
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from error


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


def _check_data(site: Site, competition: str, orders: list[Order]) -> None:
    """Whether the answers are those of the runs. Raises ConfigError."""
    with site.reading(f"competition '{competition}'"):
        if problem := layout.problem(site.paths.data, competition):
            raise ConfigError(
                [f"competition '{competition}' isn't prepared: {problem} (paths.data of site {site.name})."]
            )
        now = fingerprint.known(layout.prepared(site.paths.data, competition), keep=False)
    for one in orders:
        if (data := str(one.run.metadata.get(fingerprint.KEY) or "")) != now:
            said = f"fingerprint {data[:12]}" if data else "no fingerprint was noted"
            raise ConfigError(
                [
                    f"{one.run.directory} can't be graded: it ran on other data ({said}) than lie prepared in {site.paths.data} now "
                    f"({now[:12]}), so the score would be that of another task."
                ]
            )


class _Checks(SiteChecks):
    def scripts(self, workflow: render.Workflow | None = None) -> dict[str, str]:
        workflow = workflow or render.Workflow("")
        return {
            "grading_server.sh": render.grading_script(self.site, workflow),
            "grade.sh": render.grade_script(self.site, workflow),
        }

    @property
    def images(self) -> dict[str, Path]:
        return {"grading": Path(self.site.paths.containers, "mlebench-env.sif")} if self.site.isolated else {}

    def check(self, orders: int) -> None:
        self.check_images()
        self.check_folders()
        self.conclude()
        limits.check_room(self.site, orders + 1, "grade a single run's folder")


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
    competition = str(orders[0].run.metadata.get("competition"))
    _check_data(site, competition, orders)
    checks = _Checks(site)
    checks.check(len(orders))
    checks.make_folders()
    for sentence in refused:
        click.echo(f"note: {sentence}", err=True)
    ignore_signals()  # who is told of the folder removes it
    folder = folders.make(Path(site.paths.runs), "_grade", "jobs", "logs")
    workflow = render.Workflow(str(folder))
    files = checks.scripts(workflow) | {f"order_{number}": one.text() for number, one in enumerate(orders)}
    render.write(folder / "jobs", files, site, workflow)
    record = {
        "schema": 1,
        "created_at": values.now(),
        "site": site.name,
        "competition": competition,
        "runs": [str(one.run.directory) for one in orders],
        "again": again,
        **sealing.seal(folder),
        "config": site.model_dump(mode="json"),
    }
    disk.write_json(folder / Grading.RECORD, private.masked(record))
    return _assignments(
        {
            "FOLDER": str(folder),
            "SCHEDULER": site.scheduler.kind,
            "ADDRESS_DIR": site.paths.address_dir,
            "COMPETITION": competition,
            "ORDERS": str(len(orders)),
        }
    )


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
