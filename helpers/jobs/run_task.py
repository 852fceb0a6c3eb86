"""`python -m helpers.run_task`: run one task, in a container through the workflow, or as a process of this machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import click

from helpers.config import entries, schema, sites
from helpers.config.sites import ROOT
from helpers.lib.command_line import launch
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.lib.signals import attend, catch_signals
from helpers.runs import metadata
from helpers.tasks.catalogue import TaskRegistry, open_registry
from helpers.tasks.cli import JSON, TASKS_DIR, emit, report
from helpers.tasks.definitions import Task

NAME = "python -m helpers.run_task"
AGENTS = ROOT / "templates" / "agents"
WORKFLOW = ROOT / "scripts_hpc" / "run_workflow.sh"
DEFAULT_AGENT = "experiment"
INVALID, FAILED = 1, 4  # exit codes: results that aren't good enough; a run that failed
log = logging.getLogger("run_task")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("task_id", metavar="TASK")
@click.option("--agent", metavar="NAME", help=f"A name in site-config/agents.yaml.  [default: {DEFAULT_AGENT}]")
@click.option("--model", metavar="NAME", help="A name in site-config/models.yaml, for agents that need one.")
@click.option("--local", is_flag=True, help="As a process of this machine, without scheduler and container.")
@click.option("--script", type=click.Path(path_type=Path), help="What the agent runs instead of its own pipeline.")
@click.option("--time-limit", type=click.IntRange(min=1), metavar="SECONDS", help="Default: the task's estimated_time.")
@click.option(
    "--validate", is_flag=True, help="Validate the results afterwards; exit code 1 if they aren't good enough."
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="The prepared tasks. Default: paths.data of the site."
)
@click.option(
    "--work-dir", type=click.Path(path_type=Path), default="./task_workspace", show_default=True, help="For --local."
)
@click.option("--retain", is_flag=True, help="Keep the copy of the data in the work dir (--local).")
@click.option("--verbose", "-v", is_flag=True, help="Log more, and show what a local program printed.")
@click.option("--site", metavar="NAME", help="Default: $HPC_SITE, else by host name.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the site.")
@TASKS_DIR
@JSON
def run_task(task_id: str, **options: Any) -> int:
    """Run a task: prepare its data where they are missing, run an agent or a script on it, validate what it made.

    Exit codes: 0 done; 1 validated and not good enough; 2 usage or configuration; 3 infrastructure; 4 the run failed; 130
    interrupted.
    """
    level = logging.DEBUG if options["verbose"] else logging.INFO
    logging.basicConfig(format="%(asctime)s - %(name)s - %(levelname)s - %(message)s", stream=sys.stderr, force=True)
    log.setLevel(level)
    data_dir, tasks_dir = _folders(options)
    registry = open_registry(tasks_dir)
    task = registry.find(task_id)
    entry = entries.agent(options["agent"] or DEFAULT_AGENT)
    if options["local"]:
        return _locally(registry, task, data_dir, entry, options)
    return _as_workflow(task, data_dir, tasks_dir, entry, options)


def _folders(options: dict[str, Any]) -> tuple[Path, str | None]:
    """Where the data and the user's own tasks lie. Without a site, --local needs none: <work_dir>/data, and shipped tasks."""
    data, tasks = options["data_dir"], options["tasks_dir"]
    try:
        paths = sites.load_site(sites.pick_site(options["site"]), list(options["overrides"])).paths
    except ConfigError as error:
        if not options["local"] or options["site"] or options["overrides"]:
            raise
        log.info("going on without a site: %s", error.problems[0].partition(". ")[0])
        return data or options["work_dir"] / "data", tasks
    return Path(data or paths.data), tasks or paths.tasks


def _locally(
    registry: TaskRegistry, task: Task, data_dir: Path, entry: schema.AgentEntry, options: dict[str, Any]
) -> int:
    if options["model"] or not entry.takes_script:
        wrong = f"--model {options['model']}" if options["model"] else f"--agent {entry.name}"
        raise ConfigError([f"{wrong}: --local runs a script without a model server; leave one of the two out."])
    with tempfile.TemporaryDirectory(prefix="hab-agent-") as folder:
        command, variables = _command(options["script"], entry, Path(folder))
        return _run_here(registry, task, data_dir, command, variables, entry, options)


def _run_here(
    registry: TaskRegistry,
    task: Task,
    data_dir: Path,
    command: list[str],
    variables: dict[str, str],
    entry: schema.AgentEntry,
    options: dict[str, Any],
) -> int:
    from helpers.tasks.runner import TaskRunner

    limit = options["time_limit"] or entry.time_limit or task.estimated_time
    log.warning("--local isn't isolated: the program runs as you and could read the answers. Don't publish its scores.")
    log.info("running %s on %s, at most %s s", " ".join(command), task.id, limit)
    runner = TaskRunner(options["work_dir"], data_dir, registry=registry)
    record = runner.run_task(task.id, command, limit, variables=variables, keep_data=options["retain"])
    evaluation = runner.evaluate_task_results(task.id) if options["validate"] else None
    _tell(record, runner.workspace(task.id), evaluation, options)
    return FAILED if not record["success"] else _verdict([evaluation] if evaluation else [])


def _command(script: Path | None, entry: schema.AgentEntry, folder: Path) -> tuple[list[str], dict[str, str]]:
    """How to start a script on this machine, and the variables that it needs. Raises ConfigError.

    folder: for the agent's own files, as scripts_hpc/lib/run.sh lays them out for its container.
    """
    if script and not (script.is_file() and os.access(script, os.R_OK)):
        raise ConfigError([f"--script {script}: there is no such file that you can read."])
    if script is None or script.suffix == ".ipynb":
        if not (entry.path / "experiment.py").is_file():
            raise ConfigError([f"agent '{entry.name}' has nothing of its own that --local could run: give --script."])
        for source in (AGENTS / "common", entry.path):
            shutil.copytree(source, folder, dirs_exist_ok=True)
        given = {"AGENT_SCRIPT": str(script.absolute())} if script else {}
        return [sys.executable, "-u", str(folder / "experiment.py")], entry.variables | given
    starts = {".py": [sys.executable, "-u"], ".sh": ["bash"]}.get(script.suffix)
    if starts is None and not os.access(script, os.X_OK):
        raise ConfigError([f"--script {script}: must end in .py, .sh or .ipynb, or be executable (chmod +x)."])
    return [*(starts or []), str(script.absolute())], entry.variables


def _tell(record: dict[str, Any], workspace: Path, evaluation: dict[str, Any] | None, options: dict[str, Any]) -> None:
    for name in ("stdout", "stderr"):
        if record[name]:
            log.debug("%s:\n%s", name, record[name].rstrip())
    if not record["success"]:
        log.error("%s: %s; its logs: %s", record["task_id"], record["error"], workspace / "logs")
    if options["as_json"]:
        return emit({**record, "evaluation": evaluation})
    click.echo(f"{record['task_id']}: ran {record['execution_time']:.1f} s; results: {workspace / 'results'}")
    if evaluation:
        click.echo(report(evaluation))


def _verdict(evaluations: list[dict[str, Any]]) -> int:
    return 0 if all(evaluation["success"] for evaluation in evaluations) else INVALID


def _as_workflow(
    task: Task, data_dir: Path, tasks_dir: str | None, entry: schema.AgentEntry, options: dict[str, Any]
) -> int:
    from helpers.tasks.runner import prepare_data

    if options["retain"]:
        log.warning("--retain means something with --local only: a workflow keeps all of its run's folder")
    if prepare_data(task, data_dir):
        log.info("prepared %s in %s", task.id, data_dir)
    command = _workflow_command(task, entry, options)
    log.debug("running %s", " ".join(command))
    if not options["validate"]:
        _become([*command, *(["--json"] if options["as_json"] else [])])
    code, told = _child([*command, "--json"], options["as_json"])
    evaluations = []
    if "run" in told and code in (0, FAILED):
        found = metadata.runs_of(Path(told["run"]))
        evaluations = [_validate(run, task, data_dir, tasks_dir) for run in found]
    if options["as_json"]:
        emit({**told, "evaluations": evaluations})
    elif "run" in told:
        _tell_runs(Path(told["run"]), evaluations)
    if code == 0 and not evaluations:
        raise Infrastructure("the workflow named no run that could be validated (above).")
    return code or _verdict(evaluations)


def _workflow_command(task: Task, entry: schema.AgentEntry, options: dict[str, Any]) -> list[str]:
    command = ["bash", str(WORKFLOW), task.id, *([options["model"]] if options["model"] else []), "--agent", entry.name]
    if options["time_limit"] or not entry.time_limit:  # a variant such as experiment/dev has its own
        command += ["--time-limit", str(options["time_limit"] or task.estimated_time)]
    if options["script"]:
        command += ["--script", str(options["script"].absolute())]
    command += ["--site", options["site"]] if options["site"] else []
    for item in options["overrides"]:
        command += ["--set", item]
    for key in ("data", "tasks"):
        if folder := options[f"{key}_dir"]:
            command += ["--set", f"paths.{key}={json.dumps(str(Path(folder).absolute()))}"]
    return command


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what it becomes would inherit that
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)


def _child(command: list[str], as_json: bool) -> tuple[int, dict[str, Any]]:
    """Run the workflow with --json; returns its exit code and what it told, empty where it came to nothing."""
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = attend(command, stdout=output)
        except KeyboardInterrupt:
            if as_json:
                emit(_read(output))
            raise
        return code, _read(output)


def _read(output: IO[str]) -> dict[str, Any]:
    output.seek(0)
    try:
        return json.load(output)
    except ValueError:
        return {}


def _validate(run: metadata.Run, task: Task, data_dir: Path, tasks_dir: str | None) -> dict[str, Any]:
    from helpers.tasks.runner import TaskRunner

    runner = TaskRunner(run.directory, data_dir, registry=open_registry(tasks_dir))
    return runner.evaluate_task_results(task.id, run.directory)


def _tell_runs(group: Path, evaluations: list[dict[str, Any]]) -> None:
    from helpers.jobs.watch import Watch

    Watch(group).tell()
    for evaluation in evaluations:
        click.echo(report(evaluation))


def main(argv: list[str] | None = None) -> int:
    """The command, for tests; returns its exit code."""
    return launch(run_task, NAME, argv)


if __name__ == "__main__":
    catch_signals()
    sys.exit(main())
