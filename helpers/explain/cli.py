"""`results.sh explain`: where each value in a run's row comes from, derived anew. Runs where a person types.

The derivations are in helpers/explain/columns.py, what columns mean in helpers/export_results.py.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from helpers.config import asked
from helpers.explain.columns import COLUMNS, reported
from helpers.explain.derive import Case, Derived
from helpers.explain.files import DIFFERS, FITS, SAME, UNKNOWN, loads
from helpers.jobs.cli import find
from helpers.jobs.fleet import JOB_ID
from helpers.jobs.kinds.workflow import Workflow
from helpers.lib import disk, values
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.lib.signals import catch_signals
from helpers.runs import metadata
from helpers.runs.cells import cells
from helpers.runs.collection import Collection
from helpers.runs.columns import COLUMNS as MEANINGS
from helpers.runs.columns import METRIC, METRIC_MEANING, table
from helpers.runs.load import Served
from helpers.scheduler.query import SchedulerUnavailable

WIDTH = 80  # columns of a terminal
MARK = "_run-group_"
# columns that an open run has not for good
FINAL = (
    *("state", "reason", "score", "metric", "is_lower_better", "valid_submission", "any_medal", "above_median"),
    *(f"{medal}_medal" for medal in metadata.MEDALS),
    *(
        "ended_at",
        "time_limit_reached",
        "cut_short",
        "agent_seconds",
        "steps",
        "requests",
        "rate_limited",
        "server_errors",
        "prompt_tokens",
        "completion_tokens",
    ),
)
COUNTED = {
    SAME: "come out the same",
    FITS: "fit what else is known",
    DIFFERS: "differ",
    UNKNOWN: "can't be derived anew",
}


def kin(group: Path) -> list[Path]:
    """The workflows whose runs may be tries at one of this one's, itself among them: of the same agent, task and configuration."""

    def of(folder: Path) -> set[tuple[str, str]]:
        told = cells(disk.read_json(folder / "workflow.json") or {})
        found = ((values.text(cell.get("config_hash")), values.text(cell.get("competition"))) for cell in told)
        return {(config, task) for config, task in found if config and task}

    mine = of(group)
    if not mine or MARK not in group.name:
        return [group]

    end = group.name[group.name.index(MARK) :]
    beside = sorted(name for name in os.listdir(group.parent) if name.endswith(end) and name != group.name)
    return [group, *(folder for folder in (group.parent / name for name in beside) if mine & of(folder))]


def cases(jobs: Workflow) -> tuple[list[Case], list[str]]:
    """The rows of the runs that are meant, and a sentence on each file that can't be read. Raises Refused where there are none."""
    wanted = [os.path.realpath(run.directory) for run in jobs.shown_runs]
    if not wanted:
        raise Refused(f"{jobs.path} has no runs: nothing was submitted")
    groups = dict.fromkeys(folder for run in wanted for folder in kin(Path(run).parent))
    collection = Collection(list(groups))
    attempts, logs = collection.attempts(), {entry.id: jobs.log(entry) for entry in jobs.entries}
    found = []
    for run in (run for folder in wanted for run in collection.runs if run.folder == folder):
        shown, tries = attempts[id(run)]
        borne = tries if shown is run else [run]
        _, (row,) = table([run.row(borne) | {"attempts": len(tries)}])
        log = logs.get(run.job_id)
        if log is None and JOB_ID.fullmatch(run.job_id):  # RUN is the folder of a later grading
            log = next(Path(run.group, "logs").glob(f"*-{run.job_id}.out"), None)
        found.append(Case(run, shown, borne, row, collection, log))
    meant = (*wanted, *map(os.path.dirname, wanted))
    return found, [
        sentence for sentence in collection.broken if sentence.startswith(tuple(f"{one}: " for one in meant))
    ]


def explained(case: Case) -> dict[str, Derived]:
    """Each column of a row, derived anew."""
    found = {column: derive(case, column) for column, derive in COLUMNS.items()}
    found |= {column: reported(case, column) for column in case.row if column.startswith(METRIC)}
    if case.run.is_open:  # it goes on while it is read
        for column in FINAL:
            if found[column].verdict == DIFFERS:
                found[column] = replace(found[column], verdict=UNKNOWN, how=f"it is still {case.run.state}", value=None)
    return found


def shown(value: Any) -> str:
    """A value as the table has it."""
    return "(empty)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def lines(case: Case, found: dict[str, Derived]) -> list[str]:
    """A run's row, explained in lines for a terminal."""
    said = [case.run.folder]
    if case.shown is not case.run:
        said += textwrap.wrap(f"It was a try at {case.shown.folder}, whose row bears its cost.", WIDTH)
    for column, one in found.items():
        value = values.CONTROL.sub(" ", shown(case.row[column]))
        said += [f"{column:<20}{value}"] if len(value) <= WIDTH - 20 else [column, *_wrapped(f"  {value}", "  ")]
        said += _wrapped(f"  {'from':<12} {one.source}", " " * 15)
        said += _wrapped(f"  {one.verdict:<12} {_how(one)}", " " * 15)
    for job, served in _served(case).items():
        if sentence := served.sentence():
            place = os.path.relpath(case.run.homes[job], case.run.folder)
            said += ["", *_wrapped(f"Job {job}, {sentence}, by its samples in {place}/services.", "")]
    return [*said, "", *textwrap.wrap(f"{_counts(found)}.", WIDTH)]


def _served(case: Case) -> dict[str, Served]:
    """How loaded the servers were that the run used, as far as that was noted: by job."""
    homes = case.run.homes
    return {job: found[job] for job in case.run.servers.values() if job in (found := loads(homes[job]))}


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(values.CONTROL.sub(" ", text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _how(one: Derived) -> str:
    return f"{shown(one.value)}; {one.how}" if one.verdict == DIFFERS and one.value is not None else one.how


def _counts(found: dict[str, Derived]) -> str:
    counts = Counter(one.verdict for one in found.values())
    told = (f"{counts[verdict]} {words}" for verdict, words in COUNTED.items() if counts[verdict])
    return f"Of {len(found)} columns, {', '.join(told)}"


def sentences(case: Case, found: dict[str, Derived]) -> list[str]:
    """A sentence on each column that differs: both values, and the files that have them."""
    said = []
    for column, one in found.items():
        if one.verdict == DIFFERS:
            here = f"{case.run.folder}: {column}: {shown(case.row[column])} ({one.source})"
            anew = one.how if one.value is None else f"{shown(one.value)} ({one.how})"
            said.append(f"{here}, derived anew: {anew}")
    return said


def data(case: Case, found: dict[str, Derived]) -> dict[str, Any]:
    """The same for programs."""
    columns = [
        {"column": column, "meaning": MEANINGS.get(column, METRIC_MEANING), "recorded": case.row[column], **asdict(one)}
        for column, one in found.items()
    ]
    return {
        "run_directory": case.run.folder,
        "try_at": None if case.shown is case.run else case.shown.folder,
        "columns": columns,
        "servers": {job: served.data() for job, served in _served(case).items()},
    }


@click.command()
@click.argument("run", required=False)
@SITE
@SET
@click.option("--json", "as_json", is_flag=True, help="for programs")
def main(run: str | None, site: str | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """Tell where each value in a run's row comes from, and derive it anew; 3 where one differs or a file is broken."""
    catch_signals()
    try:
        jobs = find(run, asked.AskedSite(site, list(overrides)))
        if not isinstance(jobs, Workflow):
            raise Refused(f"{jobs.path} is no run of an agent, so it has no row")
        all_cases, broken = cases(jobs)
        results = [(case, explained(case)) for case in all_cases]
    except Refused as error:
        raise (Infrastructure(str(error)) if error.code == 3 else ConfigError([str(error)])) from error
    except SchedulerUnavailable as error:
        raise Infrastructure(f"the scheduler doesn't answer ({str(error) or 'no message'}): try again") from error
    if as_json:
        click.echo(json.dumps([data(*one) for one in results], indent=2))
    else:
        click.echo("\n\n".join("\n".join(lines(*one)) for one in results))
    differing = [sentence for one in results for sentence in sentences(*one)]
    for sentence in [*broken, *differing]:
        click.echo(f"explain: {values.CONTROL.sub(' ', sentence)}", err=True)
    return 3 if differing or broken else 0


if __name__ == "__main__":
    sys.exit(launch(main, "results.sh explain"))
