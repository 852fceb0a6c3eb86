"""Going on with a round: which rollouts have no result, what of them is lost for good, and the jobs that run the others."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from helpers.benchmarks import bounds, fleets
from helpers.benchmarks.plan import TOGETHER
from helpers.config import entries
from helpers.config.asked import AskedSite
from helpers.config.schema import Site
from helpers.jobs import arrays, parts, task_kinds
from helpers.jobs.arrays import Fleet
from helpers.jobs.kinds.benchmark import Benchmark
from helpers.lib import values
from helpers.lib.errors import Infrastructure, Refused
from helpers.lib.signals import ignore_signals
from helpers.lib.values import section
from helpers.runs import cells, claims
from helpers.scheduler import limits
from helpers.scheduler.cluster import Cluster
from helpers.scheduler.query import SchedulerUnavailable

RETRIES = 2
RUN_AGAIN = ("lost", "cancelled")  # no results; all other ends are


@dataclass
class Rest:
    """What is left of a round. todo: rollout -> its next attempt; given_up: lost more often than it is retried; at_work: has a job."""

    todo: dict[int, int] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    at_work: list[int] = field(default_factory=list)
    done: int = 0

    def sentence(self) -> str:
        """For a person."""
        told = [f"{self.done} have a result", f"{len(self.at_work)} have a job", f"{len(self.todo)} are run now"]
        if self.given_up:
            told.append(f"{len(self.given_up)} were lost too often (retries) and stay so")
        return ", ".join(told)


def rest_of(jobs: Benchmark) -> Rest:
    """What is left, after a look at the scheduler that leaves no doubt. Raises SchedulerUnavailable."""
    jobs.hear()
    jobs.look()
    jobs.settle_sure()
    record = {**jobs.record, "jobs": jobs.jobs}
    taken, rest = claims.owners(jobs.path), Rest()
    retries = section(record, "benchmark").get("retries", RETRIES)
    owners: dict[int, list[str]] = {}
    for (rollout, _), job in sorted(taken.items()):
        owners.setdefault(rollout, []).append(job)
    noted: dict[tuple[int, int], list[str]] = {}
    of_rollout: dict[int, list[str]] = {}
    for one in cells.agents(record):
        noted.setdefault((one.rollout, one.attempt), []).append(one.job)
        if one.job in jobs.runs:
            of_rollout.setdefault(one.rollout, []).append(one.job)
    jobs.fleet.ask_again({job for its in (*owners.values(), *noted.values()) for job in its})
    for rollout in range(len(cells.rollouts(record))):
        tries = owners.get(rollout, [])
        waits = [job for job in noted.get((rollout, len(tries)), ()) if not jobs.fleet.gone(job)]
        run = jobs.runs.get(tries[-1]) if tries else None
        if waits or (tries and not jobs.fleet.gone(tries[-1]) and (run is None or run.is_open)):
            rest.at_work.append(rollout)
        elif run is not None and not run.is_open and run.state not in RUN_AGAIN:
            rest.done += 1
        elif sum(_was_lost(jobs, job) for job in {*tries, *of_rollout.get(rollout, ())}) > retries:
            rest.given_up.append(rollout)
        else:
            rest.todo[rollout] = len(tries)
    return rest


def _was_lost(jobs: Benchmark, job: str) -> bool:
    run = jobs.runs.get(job)
    return run is None or run.is_open or run.state == "lost"


def plan(path: Path, dry_run: bool, budget: dict[str, float] | None = None) -> str:
    """See what is left of a round and write what its jobs take; returns shell assignments for run_benchmark.sh.

    budget: other bounds, in the place of the round's. Raises Refused where nothing is left to be run, or a bound is used up,
    Infrastructure, ConfigError, and OSError.
    """
    jobs = Benchmark(path, AskedSite())
    try:
        rest = rest_of(jobs)
    except SchedulerUnavailable as error:
        raise Infrastructure(f"the scheduler doesn't answer ({str(error) or 'no message'}): try again") from error
    if not rest.todo:
        raise Refused(f"nothing is left to be run of {path}: {rest.sentence()}", 3 if rest.given_up else 2)
    bounds.note_silent(path, jobs.record, jobs.runs.values())
    bounds.check(path, budget or {}, [job for job in jobs.servers if jobs.fleet.gone(job)])
    site = Site.model_validate(jobs.config)
    try:
        lines, made = _arrays(jobs, site, rest)
    except KeyError as error:
        raise Infrastructure(
            f"{path}/parts/0 has no line for rollout {error}: the round can't go on without it"
        ) from error
    note = fleets.note(site, made)
    told = f"{path}: {rest.sentence()}" + (f"; {note}" if note else "")
    if dry_run:
        return f"DRY_RUN={shlex.quote(told)}\n"
    click.echo(told, err=True)
    ignore_signals()
    bounds.enlarge(path, budget or {})
    # what waited of an earlier submission is among these
    arrays.take(path, arrays.RESUME)
    name = parts.write_lines(path, lines)
    arrays.write_waiting(path, name, made)
    return _assignments(jobs, site, name, made)


def _environments(every: list[dict[str, Any]]) -> list[str]:
    """The environments of its agents, by what is said of them today."""
    known = entries.agents()
    return sorted({known[name].environment for cell in every if (name := str(cell.get("agent"))) in known})


def _assignments(jobs: Benchmark, site: Site, name: str, made: list[Fleet]) -> str:
    """What scripts_hpc/lib/workflow.sh is told. name: of the file of parts; servers that live go on."""
    live = _alive(jobs, is_agent=False)
    agents = dict.fromkeys(job.partition("_")[0] for job in _alive(jobs, is_agent=True))
    grading, every = str(jobs.jobs.get("grading_server")), cells.cells(jobs.record)
    told = {
        "RUN_GROUP": str(jobs.path),
        "SCHEDULER": site.scheduler.kind,
        "ADDRESS_DIR": site.paths.address_dir,
        "GRADING_ARGUMENT": f"auto:{grading}" if grading in live else "",
        "PARTS": name,
        "MODEL_QUEUES": "1" if any(section(cell, "model_config").get("gpus") for cell in every) else "0",
        "PARALLEL": str(_parallel(jobs)),
        "AFTER_END": ":".join(agents),
        "TOGETHER": TOGETHER if (jobs.path / "jobs" / TOGETHER).is_file() else "",
    }
    lists = {
        "COMPETITIONS": [name for name in dict.fromkeys(map(_graded, every)) if name],
        "AGENTS": arrays.submitted_now(made),
        "ENVIRONMENTS": [] if site.isolated else _environments(every),
        "SERVING": [f"{model}={job}" for model, job in section(jobs.jobs, "models").items() if job in live],
    }
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items())
    return text + "".join(f"{name}=({' '.join(map(shlex.quote, its))})\n" for name, its in lists.items())


def _graded(cell: dict[str, Any]) -> str | None:
    """The task of a cell, if a grading server grades it."""
    kind = task_kinds.named(values.text(cell.get("kind")))
    return str(cell.get("competition")) if kind.graded_by_server else None


def _alive(jobs: Benchmark, is_agent: bool) -> list[str]:
    return [entry.id for entry in jobs.entries if (entry.part == "agent") is is_agent and jobs.job(entry).alive]


def _parallel(jobs: Benchmark) -> int:
    return values.count(section(jobs.record, "benchmark").get("parallel")) or 1


def _arrays(jobs: Benchmark, site: Site, rest: Rest) -> tuple[list[str], list[Fleet]]:
    """The lines of the new jobs, in the order of their scripts, and the arrays; none begins before what still has a job has ended."""
    apart: dict[str, list[str]] = {}
    for script, line in parts.again(jobs.path, rest.todo):
        apart.setdefault(script, []).append(line)
    benchmark = section(jobs.record, "benchmark")
    servers = section(benchmark, "servers")
    lists = fleets.spread(
        [(script, len(its), tuple(servers[script])) for script, its in apart.items()],
        values.count(benchmark.get("replicas")) or 1,
        {name.partition("#")[0] for name in section(jobs.jobs, "models")},
    )
    lines = [line for its in apart.values() for line in its]
    if site.scheduler.kind == "local":
        return lines, fleets.cut(lists, len(lists), len(lines))
    live = _alive(jobs, is_agent=False)
    servers = [*section(jobs.jobs, "models").values(), jobs.jobs.get("grading_server")]
    size = limits.array_size(site, Cluster())
    return lines, fleets.fitted(site, lists, _parallel(jobs), size, sum(job not in live for job in servers))
