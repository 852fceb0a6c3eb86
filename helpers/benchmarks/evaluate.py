"""Before a round is graded anew: what its runs left, and the jobs that grade it. No agent runs again."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click

from helpers.benchmarks import manifest
from helpers.benchmarks.resume import rest_of
from helpers.config.asked import AskedSite
from helpers.config.sites import load_site, pick_site
from helpers.jobs.grading_folder import Planned
from helpers.jobs.kinds.benchmark import Benchmark
from helpers.jobs.kinds.evaluation import Evaluation
from helpers.jobs.kinds.grading import GRADED
from helpers.jobs.orders import Order, order, order_again
from helpers.lib import disk
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.runs.metadata import Run
from helpers.scheduler.query import SchedulerUnavailable

NEWEST = Path("jobs", "evaluation")  # in a round: which folder of jobs grades it anew, or did last


@dataclass
class Left:
    """What the runs of a round left. orders: what is graded, by rollout; earlier: the score of each before; failed: why one that was
    graded can't be graded anew; others: how many left nothing to be graded, by their state."""

    orders: dict[int, Order] = field(default_factory=dict)
    earlier: dict[int, float | None] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    def sentence(self) -> str:
        """For a person."""
        told = [f"{len(self.orders)} are graded anew"]
        told += [f"{len(self.failed)} can't be graded anew and stay as they are"] if self.failed else []
        told += [f"{count} stay {state}" for state, count in self.others.items()]
        return ", ".join(told)


def left(jobs: Benchmark, most: int) -> Left:
    """What the run that stands for each rollout left. most: bytes of a submission."""
    record, found = {**jobs.record, "jobs": jobs.jobs}, Left()
    for one in manifest.standings(jobs.path, record, jobs.runs):
        if one.run is None:
            found.others["not begun"] += 1
            continue
        try:
            found.orders[one.rollout] = _order(one.run, most)
            found.earlier[one.rollout] = one.score
        except Refused as why:
            # what was judged by more than its looks is to be found again
            if one.run.state == "scored" or (one.run.state in GRADED and one.run.metadata.get("submission_sha256")):
                found.failed[one.rollout] = str(why)
            else:
                found.others[one.run.state] += 1
    return found


def _order(run: Run, most: int) -> Order:
    return order_again(run, most, GRADED) if run.state in GRADED else order(run, most)


def plan(path: Path, site_name: str | None, overrides: list[str], dry_run: bool) -> str:
    """Check all that can be checked and make the folder of the jobs; returns shell assignments for run_benchmark.sh.

    Raises ConfigError with every problem, Refused, Infrastructure, and OSError.
    """
    jobs = Benchmark(path, AskedSite())
    try:
        _refuse_at_work(jobs)
    except SchedulerUnavailable as error:
        raise Infrastructure(f"the scheduler doesn't answer ({str(error) or 'no message'}): try again") from error
    site = load_site(pick_site(site_name), overrides)
    found = left(jobs, site.limits.upload_mb * 2**20)
    said = [f"{manifest.run_id(path, number)} can't be graded anew: {why}." for number, why in found.failed.items()]
    if not found.orders:
        raise ConfigError(said or [f"no run of {path} left a submission: {found.sentence()}."])
    planned = Planned(site, list(found.orders.values()), "raise it")
    for sentence in said:
        click.echo(f"note: {sentence}", err=True)
    if dry_run:
        told = f"{path}: {found.sentence()}; tasks: {', '.join(planned.competitions)}; nothing is submitted"
        return f"DRY_RUN={shlex.quote(told)}\n"
    click.echo(f"{path}: {found.sentence()}", err=True)
    text = planned.write(
        Evaluation,
        round=str(path),
        rollouts=list(found.orders),
        earlier=list(found.earlier.values()),
        failed={str(number): why for number, why in found.failed.items()},
    )
    folder = next(line for line in text.splitlines() if line.startswith("FOLDER=")).partition("=")[2]
    disk.write_text(path / NEWEST, f"{shlex.split(folder)[0]}\n")
    return text


def _refuse_at_work(jobs: Benchmark) -> None:
    """Raises Refused where jobs of the round, or jobs that grade it anew, live; SchedulerUnavailable."""
    path = jobs.path
    if at_work := rest_of(jobs).at_work:
        raise Refused(
            f"{len(at_work)} rollout(s) of {path} still have a job: wait until they have ended "
            f"(scripts_hpc/run_benchmark.sh attach {path}), or end them (scripts_hpc/jobs.sh stop {path})"
        )
    try:
        folder = Path(disk.read_file(path / NEWEST).decode().strip())
    except (OSError, ValueError):
        return
    if not (folder / Evaluation.RECORD).is_file():
        return
    other = Evaluation(folder, AskedSite())
    other.look()
    other.settle_sure()
    if other.open_jobs():
        raise Refused(
            f"{path} is graded anew just now: wait until that has ended (scripts_hpc/jobs.sh attach {folder}), "
            f"or end it (scripts_hpc/jobs.sh stop {folder})"
        )
