"""`python -m helpers.tasks.cli`: list, show and create tasks, make their data, and validate results."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from helpers.config import sites
from helpers.data import layout
from helpers.lib.command_line import about, launch
from helpers.lib.errors import ConfigError
from helpers.lib.signals import catch_signals
from helpers.repositories.source import KIND, Source
from helpers.tasks.catalogue import TaskRegistry, open_registry, site_tasks_dir
from helpers.tasks.create import DIFFICULTIES, definition_options, from_options, from_questions
from helpers.tasks.definitions import DATASETS, DEFAULT_METRICS, Task

NAME = "python -m helpers.tasks.cli"
TYPED = "scripts_hpc/tasks.sh"  # what a person is told to type
TASKS_DIR = click.option(
    "--tasks-dir", metavar="DIR", help="Your own definitions. Default: paths.tasks of the site, else tasks/."
)
JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")
TASK_ID = click.argument("task_id", metavar="ID")


def emit(data: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def setting(item: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is JSON where it can be read as such. Raises ConfigError."""
    key, separator, value = item.partition("=")
    if not key or not separator:
        raise ConfigError([f"--set {item}: must be KEY=VALUE, for example --set seed=7."])
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def registry_of(tasks_dir: str | None) -> TaskRegistry:
    """The shipped tasks and the user's own."""
    if tasks_dir is None:
        tasks_dir = _own_tasks_dir()
        tasks_dir = None if tasks_dir == str(sites.OWN_TASKS) and not sites.OWN_TASKS.is_dir() else tasks_dir
    return open_registry(tasks_dir)


def _own_tasks_dir() -> str:
    """paths.tasks of the site, else tasks/ of this project; a line says where the site can't be told."""
    try:
        return site_tasks_dir() or str(sites.OWN_TASKS)
    except ConfigError as error:
        why = error.problems[0].partition(". ")[0]
        click.echo(f"note: tasks of your own are looked for in {sites.OWN_TASKS} only: {why}", err=True)
        return str(sites.OWN_TASKS)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(context: click.Context) -> None:
    """Tasks: their definitions, their data, and the validation of results."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _head(task: Task) -> str:
    return (
        f"ID: {task.id}\nName: {task.name}\nType: {task.task_type}\nDifficulty: {task.difficulty}\n"
        f"Estimated Time: {task.estimated_time}s ({round(task.estimated_time / 60)}m)\nDescription: {task.description}"
    )


def _repository_head(source: Source) -> str:
    return (
        f"ID: {source.id}\nName: {source.title}\nType: {KIND}\nTags: {', '.join(source.meta.metadata.tags) or 'none'}"
    )


@cli.command("list")
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@click.option("--difficulty", type=click.Choice(DIFFICULTIES), help="Only tasks of this difficulty.")
@TASKS_DIR
@JSON
def list_command(task_type: str | None, difficulty: str | None, tasks_dir: str | None, as_json: bool) -> None:
    """List the tasks."""
    registry = registry_of(tasks_dir)
    found = registry.repository_tasks()
    types = sorted({*registry.get_task_types(), *([KIND] if found else [])})
    if task_type not in (None, *types):
        raise ConfigError([f"there is no task of the type '{task_type}'; there are: {', '.join(types)}."])
    tasks = registry.list_tasks(task_type, difficulty)
    # nobody has said how difficult these are
    repositories = list(found.values()) if task_type in (None, KIND) and difficulty is None else []
    if as_json:
        return emit([*(task.to_dict() for task in tasks), *(source.to_dict() for source in repositories)])
    line = "-" * 80
    heads = [*map(_head, tasks), *map(_repository_head, repositories)]
    click.echo("\n".join([f"Found {len(heads)} tasks:", line, *(f"{head}\n{line}" for head in heads)]))


@cli.command()
@TASK_ID
@TASKS_DIR
@JSON
def show(task_id: str, tasks_dir: str | None, as_json: bool) -> None:
    """Show a task's definition."""
    registry = registry_of(tasks_dir)
    if registry.get_task(task_id) is None and (source := registry.repository_task(task_id)):
        return _show_repository(source, as_json)
    task = registry.find(task_id)
    if as_json:
        return emit(task.to_dict())
    lines = [_head(task)]
    for key in ("data_requirements", "evaluation_criteria", "metadata"):
        values = task.to_dict().get(key) or {"none": ""}
        lines += [
            f"{key.replace('_', ' ').title()}:",
            *(f"  {name}: {_plain(value)}" for name, value in values.items()),
        ]
    lines += [f"Expected Outputs: {', '.join(task.expected_outputs) or 'none'}", "Instructions:", task.instructions]
    click.echo("\n".join(lines))


def _show_repository(source: Source, as_json: bool) -> None:
    if as_json:
        return emit(source.to_dict())
    data = source.to_dict()
    lines = [_repository_head(source)]
    for key in (KIND, "rubrics"):
        lines += [f"{key.title()}:", *(f"  {name}: {_plain(value)}" for name, value in data[key].items())]
    lines += [f"Test Scripts: {', '.join(data['test_scripts']) or 'none'}", "Instructions:", data["instructions"]]
    click.echo("\n".join([*lines, *(f"note: {note}" for note in source.notes)]))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cli.command()
@TASK_ID
@click.argument("output", metavar="OUT")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An entry of runtime_config.")
@TASKS_DIR
def config(task_id: str, output: str, settings: tuple[str, ...], tasks_dir: str | None) -> None:
    """Write a task's definition and the settings of a run to the file OUT."""
    runtime = dict(setting(item) for item in settings)
    with about(output):
        registry_of(tasks_dir).create_task_config(task_id, output, **runtime)
    click.echo(f"{task_id}: configuration written to {output}")


@cli.command("generate-data")
@TASK_ID
@click.argument("data_dir", metavar="DATA_DIR", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Make the same data again. Default: random.")
@click.option("--force", is_flag=True, help="Prepare again, with new data, what is prepared.")
@click.option("--check", is_flag=True, help="Only say whether it is prepared; exit code 2 if not.")
@TASKS_DIR
def generate_data(
    task_id: str, data_dir: Path, seed: int | None, force: bool, check: bool, tasks_dir: str | None
) -> None:
    """Prepare a task: make its data below DATA_DIR, with the answers in a private half.

    The seed is random unless given, and is recorded in the private half only. What is prepared already is left alone.
    """
    task = registry_of(tasks_dir).find(task_id)
    folder = layout.prepared(data_dir, task.id)
    if check:
        require_data(data_dir, task.id, tasks_dir)
        return click.echo(f"{task.id}: prepared in {folder}")
    from helpers.data import fingerprint
    from helpers.tasks.synthetic.prepare import prepare

    runs_dir = _runs_dir() if force else None
    if name := fingerprint.results_with(data_dir, task.id, runs_dir):
        click.echo(fingerprint.REPLACED.format(task=task.id, name=name), err=True)
    with about(folder):
        made = prepare(task, data_dir, seed, force=force)
    said = (
        f"prepared in {folder}" if made else f"already prepared in {folder}, nothing to do (--force prepares it again)"
    )
    click.echo(f"{task.id}: {said}")


def _runs_dir() -> str | None:
    try:
        return sites.load_site(sites.pick_site(None)).paths.runs
    except ConfigError:
        return None


def require_data(data_dir: str | Path, task_id: str, tasks_dir: str | None = None) -> None:
    """Raises ConfigError, with the command that helps, for a task whose data aren't there."""
    if problem := layout.problem(data_dir, task_id):
        command = shlex.join([TYPED, "generate-data", task_id, str(data_dir), *_given(tasks_dir)])
        raise ConfigError([f"{task_id} is not prepared in {data_dir} ({problem}): {command}"])


def _given(tasks_dir: str | None) -> list[str]:
    return ["--tasks-dir", tasks_dir] if tasks_dir else []


@cli.command()
@TASK_ID
@click.argument("results_dir", metavar="RESULTS_DIR", type=click.Path(path_type=Path))
@click.option(
    "--data-dir", metavar="DIR", help="Where the prepared tasks lie. Default: the run's own, else the site's."
)
@TASKS_DIR
@JSON
def validate(task_id: str, results_dir: Path, data_dir: str | None, tasks_dir: str | None, as_json: bool) -> int:
    """Validate an agent's results: a folder with submission.csv and the other outputs, or the folder of a run.

    Exit code 1 when they aren't good enough.
    """
    from helpers.tasks.judging.validator import TaskValidator
    from helpers.tasks.runner import find_results, site_data_dir

    task = registry_of(tasks_dir).find(task_id)
    found = find_results(results_dir, task.id)
    data_dir = data_dir or found.data_dir or _of_site(site_data_dir, "--data-dir DIR")
    if task.has_data:
        require_data(data_dir, task.id, tasks_dir)
    evaluation = TaskValidator(data_dir).evaluate_task(task, found.folder, found.execution_time)
    if as_json:
        emit(evaluation)
    else:
        click.echo(report(evaluation))
    return 0 if evaluation["success"] else 1


def report(evaluation: dict[str, Any]) -> str:
    """An evaluation of TaskValidator as a person reads it."""
    files = evaluation["output_check"]
    mark = {True: "✓", False: "✗"}
    lines = [
        f"Task Evaluation Results for: {evaluation['task_name']}",
        "=" * 60,
        f"Overall Score: {evaluation['overall_score']:.2f}",
        f"Success: {mark[bool(evaluation['success'])]}",
    ]
    lines += [f"Error: {evaluation['error']}"] if evaluation.get("error") else []
    lines += [f"Output Files Score: {files['score']:.2f}"] if files.get("score") is not None else []
    lines += [f"Files {key.title()}: {', '.join(files[f'files_{key}']) or 'none'}" for key in ("found", "missing")]
    lines += _section("Criteria Met", [f"{mark[bool(met)]} {name}" for name, met in evaluation["criteria_met"].items()])
    for key in ("scores", "custom_metrics"):
        shown = [f"{name}: {_number(value)}" for name, value in (evaluation.get(key) or {}).items()]
        lines += _section(key.replace("_", " ").title(), shown)
    lines += _section("Feedback", [f"- {line}" for line in evaluation["feedback"]])
    return "\n".join(lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _plain(value)


@cli.command()
@TASKS_DIR
@JSON
def types(tasks_dir: str | None, as_json: bool) -> None:
    """List the task types, and what each dataset type takes."""
    registry = registry_of(tasks_dir)
    tasks: dict[str, list[str]] = {}
    for task in registry.list_tasks():
        tasks.setdefault(task.task_type, []).append(task.id)
    tasks |= {KIND: repositories} if (repositories := list(registry.repository_tasks())) else {}
    if as_json:
        return emit({"task_types": tasks, "dataset_types": {name: list(keys) for name, keys in DATASETS.items()}})
    lines = _section("Task types", [f"{name}: {', '.join(ids)}" for name, ids in sorted(tasks.items())])
    kinds = [f"{name} ({DEFAULT_METRICS[name]}): {', '.join(keys)}" for name, keys in DATASETS.items()]
    click.echo(
        "\n".join(lines + _section("Dataset types (metric), and the keys of data_requirements that each takes", kinds))
    )


@cli.command()
@click.option("--from", "source", metavar="FILE", help="Begin with the definition in this file.")
@click.option("--id", "id")
@click.option("--name", help="Default: the id, as words.")
@click.option("--description")
@click.option("--type", "task_type", help="What list --type selects by. Default: the dataset type.")
@click.option("--difficulty", type=click.Choice(DIFFICULTIES))
@click.option("--time", "estimated_time", metavar="SECONDS", help="The time that a run of it may take.")
@click.option("--instructions", help="What the agent is told.")
@definition_options
@TASKS_DIR
@JSON
def create(source: str | None, tasks_dir: str | None, as_json: bool, **given: Any) -> None:
    """Create a task: by questions, or wholly by options. It is written to your own folder of tasks."""
    folder = Path(tasks_dir or _own_tasks_dir())
    registry = open_registry(folder if folder.is_dir() else None)
    given = {key: value for key, value in given.items() if value not in (None, ())}
    if given or source:
        definition = from_options(source, given)
    elif sys.stdin.isatty():
        definition = from_questions(registry)
    else:
        raise ConfigError(["nothing to create: give --id and --dataset-type, or --from FILE (see --help)."])
    definition["created_at"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    task = Task.from_dict(definition, "the new task")
    with about(folder):
        path = registry.save_task(task, folder)
    if as_json:
        return emit({"path": str(path), "task": task.to_dict()})
    click.echo(f"created: {path}")
    for name in task.data_requirements.copy_files:
        if not (folder / name).is_file():
            click.echo(f"first: put {name} into {folder}")
    click.echo(f"next: {shlex.join([TYPED, 'generate-data', task.id, 'DATA_DIR', *_given(tasks_dir)])}")


def _of_site(ask: Callable[[], Any], instead: str) -> Any:
    try:
        return ask()
    except ConfigError as error:
        raise ConfigError([*error.problems, f"without a site, give {instead}."]) from error


def main(argv: list[str] | None = None) -> int:
    """The command, for tests and other commands of this project; returns its exit code."""
    return launch(cli, NAME, argv)


if __name__ == "__main__":
    catch_signals()
    sys.exit(main())
