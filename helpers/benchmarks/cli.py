"""The steps of scripts_hpc/run_benchmark.sh, and its commands that submit nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from helpers.config.asked import AskedSite
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.lib.shell import assignments
from helpers.lib.signals import catch_signals
from helpers.lib.values import section


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The steps of run_benchmark.sh."""


def _alias(_: Any, __: Any, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, separator, model = value.partition("=")
        if not (name and separator and model):
            raise click.BadParameter(f"{value}: must be NAME=MODEL, for example --model gpt-4=replay")
        found[name] = model
    return found


def _bounds(_: Any, __: Any, values: tuple[str, ...]) -> dict[str, float]:
    from helpers.benchmarks.bounds import WORDS

    found = {}
    for value in values:
        key, _, text = value.partition("=")
        try:
            found[key] = float(text)
        except ValueError:
            found[key] = 0.0
        if key not in WORDS or not 0 < found[key] < 1e15:
            raise click.BadParameter(
                f"{value}: must be KEY=NUMBER with a KEY of {', '.join(WORDS)}, e.g. tokens=2000000"
            )
    return found


@main.command("plan")
@click.argument("path", type=click.Path(path_type=Path))
@SITE
@SET
@click.option("--model", "aliases", multiple=True, callback=_alias, metavar="NAME=MODEL")
@click.option("--dry-run", is_flag=True)
@click.option("--yes", is_flag=True)
@click.option("--command-line", default="", hidden=True)
def plan_command(**options: Any) -> None:
    """Check a configuration, make the folder of a new round, and print shell assignments for run_benchmark.sh."""
    from helpers.benchmarks.plan import plan

    catch_signals()
    click.echo(plan(**options), nl=False)


NAME = click.argument("name")
LATEST = click.option("--latest", is_flag=True, help="The newest round (default).")
STAMP = click.option("--rollout", "stamp", metavar="STAMP", help="The round of a stamp, or of the start of one.")


@main.command("where")
@NAME
@LATEST
@STAMP
@SITE
@SET
@click.option("--dry-run", is_flag=True, hidden=True)
@click.option("--budget", multiple=True, hidden=True, callback=_bounds)
def where_command(
    name: str, latest: bool, stamp: str | None, site: str | None, overrides: tuple[str, ...], **_: Any
) -> None:
    """Print shell assignments: a round's folder, and what its jobs are found by."""
    found = _found(name, latest, stamp, site, overrides)
    config = section(found.record, "config")
    told = {
        "RUN_GROUP": str(found.path),
        "SCHEDULER": str(section(config, "scheduler").get("kind")),
        "ADDRESS_DIR": str(section(config, "paths").get("address_dir")),
    }
    click.echo(assignments(told), nl=False)


@main.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True)
@click.option("--budget", multiple=True, callback=_bounds, metavar="KEY=NUMBER")
@LATEST
@STAMP
@SITE
@SET
def resume_command(folder: Path, dry_run: bool, budget: dict[str, float], **_: Any) -> None:
    """See what is left of a round, and print shell assignments for run_benchmark.sh."""
    from helpers.benchmarks.resume import plan

    catch_signals()
    try:
        click.echo(plan(folder, dry_run, budget), nl=False)
    except Refused as error:
        raise _told(error) from error


def _told(error: Refused) -> Exception:
    """The same with the exit code that it asks for."""
    said = f"{str(error).rstrip('.')}."
    return Infrastructure(said) if error.code == 3 else ConfigError([said])


@main.command("eval")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True)
@LATEST
@STAMP
@SITE
@SET
def eval_command(folder: Path, site: str | None, overrides: tuple[str, ...], dry_run: bool, **_: Any) -> None:
    """See what a round left that can be graded anew, and print shell assignments for run_benchmark.sh."""
    from helpers.benchmarks.evaluate import plan

    catch_signals()
    try:
        click.echo(plan(folder, site, list(overrides), dry_run), nl=False)
    except Refused as error:
        raise _told(error) from error


@main.command("evaluated")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def evaluated_command(folder: Path, as_json: bool) -> None:
    """Follow the jobs that grade a round anew to their end."""
    from helpers.benchmarks.evaluation import watch

    sys.exit(watch(folder, as_json, lambda data: click.echo(json.dumps(data, indent=2))))


@main.command("watch")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
@click.option("-v", "--verbose", count=True)
def watch_command(folder: Path, as_json: bool, verbose: int) -> None:
    """Follow a round to its end."""
    from helpers.benchmarks.watch import watch

    sys.exit(watch(folder, as_json, lambda data: click.echo(json.dumps(data, indent=2)), verbose))


@main.command("live")
@NAME
@SITE
@SET
def live_command(name: str, site: str | None, overrides: tuple[str, ...]) -> int:
    """Show a round's summary while it runs. NAME: of a benchmark (its newest round), BENCHMARK/STAMP, or a round's folder."""
    from helpers.benchmarks.live import Live
    from helpers.jobs.watch import watch

    return watch(_of_word(name, site, overrides).path, False, print, Live)


def _of_word(word: str, site: str | None, overrides: tuple[str, ...]) -> Any:
    name, _, stamp = word.partition("/") if not Path(word).is_dir() else (word, "", "")
    return _found(name, False, stamp or None, site, overrides)


def _found(name: str, latest: bool, stamp: str | None, site: str | None, overrides: tuple[str, ...]) -> Any:
    from helpers.benchmarks.rounds import Round, find

    if latest and stamp:
        raise ConfigError(["--latest and --rollout: give one of them."])
    try:
        path = Path(name)
        if "/" in name and path.is_dir():
            return Round(path)
        return Round(find(name, stamp, AskedSite(site, list(overrides))))
    except Refused as error:
        raise ConfigError([f"{str(error).rstrip('.')}."]) from error


@main.command("summarize")
@NAME
@LATEST
@STAMP
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@SITE
@SET
def summarize_command(
    name: str, latest: bool, stamp: str | None, as_json: bool, site: str | None, overrides: tuple[str, ...]
) -> None:
    """Sum up a round, as far as it is, and write its summary.md. NAME: of a benchmark, or a round's folder."""
    one = _found(name, latest, stamp, site, overrides)
    one.refresh()
    text = one.write_summary()
    click.echo(json.dumps(one.summary.data(), indent=2) if as_json else text, nl=as_json)


@main.command("compare")
@click.argument("first")
@click.argument("second")
@click.option("--of", "measure", default="score", show_default=True, metavar="MEASURE")
@click.option("--fail-if-worse", "fails", is_flag=True, help="End with 1 where B is worse beyond chance.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@SITE
@SET
def compare_command(
    first: str, second: str, measure: str, fails: bool, as_json: bool, site: str | None, overrides: tuple[str, ...]
) -> int:
    """Compare two rounds by their tasks. Each is a benchmark (its newest round), BENCHMARK/STAMP, or a round's folder."""
    from helpers.benchmarks import compare, comparison_report, regression

    if measure not in compare.OF:
        raise ConfigError([f"--of {measure}: must be one of {', '.join(compare.OF)}."])
    rounds = [_of_word(word, site, overrides).summary for word in (first, second)]
    compared = compare.compare(*rounds, of=measure)
    shifts = regression.shifts(*rounds) if fails else []
    if as_json:
        told = {"is_b_worse": [one.data() for one in shifts]} if fails else {}
        click.echo(json.dumps(compared.data() | told, indent=2))
    else:
        click.echo(comparison_report.markdown(compared) + (regression.markdown(shifts) if fails else ""), nl=False)
    return int(any(one.is_worse for one in shifts))


if __name__ == "__main__":
    sys.exit(launch(main, "run_benchmark.sh"))
