"""`python -m helpers`: the site's configuration, rendering, and the steps of run_workflow.sh that are too fiddly for shell."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from helpers.config import entries, layers, sites
from helpers.lib import private
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError
from helpers.lib.signals import catch_signals


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Helpers behind the scripts in scripts_hpc/."""


@main.group()
def site() -> None:
    """Show, check and list site configurations."""


@site.command("show")
@click.argument("name", required=False)
@SITE
@SET
def site_show(name: str | None, site: str | None, overrides: tuple[str, ...]) -> None:
    """Print the resolved configuration of a site, all layers merged."""
    import yaml

    resolved = sites.load_site(sites.pick_site(name or site), list(overrides))
    click.echo(yaml.safe_dump(private.masked(resolved.model_dump(mode="json")), sort_keys=False), nl=False)


@site.command("validate")
@click.argument("names", nargs=-1)
@SITE
@SET
def site_validate(names: tuple[str, ...], site: str | None, overrides: tuple[str, ...]) -> None:
    """Check sites (default: this one), models.yaml and agents.yaml; every problem is printed, exit code 2 if there is one."""
    problems: list[str] = []
    for name in names or [sites.pick_site(site)]:
        problems += _problems_of(lambda name=name: entries.models(sites.load_site(name, list(overrides))))
    problems += _problems_of(lambda: [entries.agent(name) for name in entries.agents()])
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    click.echo("valid")


def _problems_of(load: Callable[[], Any]) -> list[str]:
    try:
        load()
    except ConfigError as error:
        return error.problems
    return []


@site.command("list")
@SITE
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def site_list(site: str | None, as_json: bool) -> None:
    """List the sites, with the one that would be used."""
    try:
        here = sites.pick_site(site)
    except ConfigError:
        here = None
    rows = []
    for name in sites.site_names():
        said = layers.read_yaml(layers.SITE_DIR / f"{name}.yaml").get("description")
        rows.append({"name": name, "used_here": name == here, "description": said})
    if as_json:
        return click.echo(json.dumps(rows, indent=2))
    from helpers.lib import tables

    cells = [("*" if row["used_here"] else "", row["name"], str(row["description"] or "")) for row in rows]
    click.echo("\n".join(tables.lines(cells)))


@site.command("init")
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="Ask nothing.")
def site_init(name: str | None, yes: bool) -> None:
    """Write site-config/<name>.yaml from what this cluster says of itself. NAME: by default the cluster's own."""
    from helpers.cluster.init import init

    catch_signals()
    init(name, ask=not yes and sys.stdin.isatty())


@main.group()
def models() -> None:
    """The models of site-config/models.yaml."""


@models.command("list")
@SITE
@SET
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def models_list(site: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the models as they are on a site."""
    from helpers.images import weights

    resolved = sites.load_site(sites.pick_site(site), list(overrides))
    rows = []
    for model in entries.models(resolved).values():
        lacking = (
            weights.problem(model.repo, model.revision, resolved.paths.models, tokenizer=model.needs_tokenizer)
            if model.repo
            else None
        )
        rows.append(
            {
                **model.model_dump(include={"name", "engine", "gpus", "context_length", "repo", "base_url"}),
                "lacking": lacking,
            }
        )
    if as_json:
        return click.echo(json.dumps(rows, indent=2))
    from helpers.lib import tables

    cells = []
    for row in rows:
        where = row["base_url"] or (
            f"{row['repo']}{' (weights not here)' if row['lacking'] else ''}" if row["repo"] else "no language model"
        )
        context = row["context_length"] if row["engine"] == "vllm" else ""
        cells.append((row["name"], row["engine"], str(row["gpus"] or ""), str(context), where))
    head = ("MODEL", "ENGINE", "GPUS", "CONTEXT", "WHERE")
    click.echo("\n".join(tables.lines(cells, head, right=(2, 3))))


@main.command()
@SITE
@SET
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write to. Default: rendered/<site>.")
def render(site: str | None, overrides: tuple[str, ...], output: Path | None) -> None:
    """Write every job script and container definition of a site."""
    from helpers.rendering import render as rendering

    resolved = sites.load_site(sites.pick_site(site), list(overrides))
    folder = output or sites.ROOT / "rendered" / resolved.name
    files = rendering.site_files(resolved, list(entries.models(resolved).values()), list(entries.agents().values()))
    folder.mkdir(parents=True, exist_ok=True)
    rendering.write(folder, files, resolved)
    click.echo(f"{len(files)} files in {layers.shown(folder)}")
    _make_log_folder(Path(resolved.paths.runs, "logs"))


def _make_log_folder(folder: Path) -> None:
    # sbatch doesn't make the folder of a job's log, and a job without one dies without a word; elsewhere the scripts are only read
    try:
        if shutil.which("sbatch"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        click.echo(f"note: can't make {folder} ({error.strerror}), where the jobs' logs go; sbatch needs it", err=True)


@main.group()
def workflow() -> None:
    """The steps of run_workflow.sh."""


@workflow.command("plan")
@click.argument("competition", required=False)
@click.argument("model", required=False)
@click.argument("gpu_partition", required=False)
@click.argument("cpu_partition", required=False)
@SITE
@SET
@click.option("--model-set", "model_changes", multiple=True, metavar="KEY=VALUE", help="Change a key of the model.")
@click.option("--agent", help="Default: aide; for a repository mini-swe.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1))
@click.option("--time-limit", type=click.IntRange(min=1), help="Seconds for the agent.")
@click.option("--rollouts", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--cleanup", type=click.Choice(["on", "off"]), default="on", show_default=True)
@click.option("--reuse-grading", metavar="JOB|URL")
@click.option("--reuse-model", metavar="JOB|URL")
@click.option("--prepare", is_flag=True, help="Prepare the data first where they are missing.")
@click.option("--script", type=click.Path(path_type=Path), help="What the agent `experiment` runs.")
@click.option("--dry-run", is_flag=True)
@click.option("--yes", is_flag=True)
@click.option("--command-line", default="", hidden=True)
def workflow_plan(**options: Any) -> None:
    """Check everything, make the run's directory and scripts, and print shell assignments for run_workflow.sh."""
    from helpers.jobs.workflow import plan

    catch_signals()
    click.echo(plan(**options), nl=False)


@workflow.command("submitted")
@click.argument("run", type=click.Path(path_type=Path))
def workflow_submitted(run: Path) -> None:
    """Note the ids of the jobs that were submitted in workflow.json."""
    from helpers.jobs.submitted import submitted

    submitted(run)
    _tell_round(run)


def _tell_round(run: Path) -> None:
    """In a round of a benchmark, manifest.json says it too: nobody may watch it."""
    from helpers.jobs.kinds.benchmark import MANIFEST

    if (run / MANIFEST).is_file():
        from helpers.benchmarks.manifest import refresh

        refresh(run)


@workflow.command("abandoned", hidden=True)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("jobs", nargs=-1)
def workflow_abandoned(run: Path, jobs: tuple[str, ...]) -> None:
    """Note that the submission was broken off."""
    from helpers.jobs.submitted import abandoned

    abandoned(run, jobs)
    _tell_round(run)


@workflow.command("watch")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def workflow_watch(run: Path, as_json: bool) -> None:
    """Show a line for each job until all runs have ended, then the results."""
    from helpers.jobs.watch import watch

    sys.exit(watch(run, as_json, lambda data: click.echo(json.dumps(data, indent=2))))


if __name__ == "__main__":
    sys.exit(launch(main, "python -m helpers"))
