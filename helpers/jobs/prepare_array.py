"""Preparation by job arrays: check what was asked for, and cut the list of tasks to the site's limits.

The steps of scripts_hpc/prepare_tasks.sh. Each element of an array runs helpers.prepare_all_tasks on its part of the list.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from helpers.config import sites
from helpers.config.schema import Site
from helpers.jobs import site_checks
from helpers.jobs.kinds.preparation import RECORD, is_prepared
from helpers.lib import disk, folders, private, values
from helpers.lib.command_line import launch
from helpers.lib.errors import ConfigError
from helpers.lib.shell import assignments
from helpers.lib.signals import catch_signals, ignore_signals
from helpers.prepare import arguments as prepare_all_tasks
from helpers.prepare import backends, one
from helpers.prepare.report import Report
from helpers.rendering import render, sealing
from helpers.scheduler import cluster as cluster_module
from helpers.scheduler import limits
from helpers.tasks.catalogue import open_registry

# ---- before the submission: checks, limits


class _Checks(site_checks.SiteChecks):
    """What run_workflow.sh checks of a site, and the folders of tasks and data."""

    own_folders = ("runs", "address_dir", "data")

    @property
    def images(self) -> dict[str, Path]:
        return {"preparation": Path(self.site.paths.containers, "prepare.sif")} if self.site.isolated else {}

    def scripts(self) -> dict[str, str]:
        return {"prepare.sh": render.prepare_script(self.site)}

    def check(self) -> None:
        """Raises ConfigError with every problem found, and Infrastructure when Slurm doesn't answer."""
        self.check_images()
        self.check_folders()
        self._check_tasks()
        self.conclude()

    def _check_tasks(self) -> None:
        tasks = self.site.paths.tasks
        if tasks and not Path(tasks).is_dir():
            self.problems.append(f"there is no folder {tasks} (paths.tasks of site {self.site.name}, or --tasks-dir).")


# ---- the plan


def plan(arguments: list[str], command_line: str, dry_run: bool) -> str:
    """Check all that was asked for and make the preparation's folder; returns shell assignments for prepare_tasks.sh.

    arguments: those of helpers.prepare_all_tasks. Raises ConfigError with every problem found, Infrastructure, and OSError.
    """
    options = _parse(arguments)
    try:
        tasks, warnings = prepare_all_tasks.tasks_of(options, lambda: _known(options))
    except prepare_all_tasks.UsageError as error:
        raise ConfigError([f"{error}."]) from error
    site = _site(options)
    if site.scheduler.kind == "local" and not site.isolated:
        # there is nothing that a job would add
        show = f"{len(tasks)} tasks on this machine, without jobs"
        return f"DRY_RUN={shlex.quote(show)}\n" if dry_run else "DIRECT=1\n"
    if options.raw and site.isolated and (unfit := sites.unbindable(os.path.realpath(options.raw))):
        raise ConfigError([f"--raw {options.raw} holds {unfit}: rename it."])
    checks = _Checks(site)
    checks.check()
    # the last one of an option counts: the site's value, unless the user gave another
    threads = prepare_all_tasks.parse([f"--threads={site.jobs.prepare.cpus}", *arguments]).threads
    planned = _Plan(site, options, tasks, warnings, threads, checks.cluster)
    if dry_run:
        return f"DRY_RUN={shlex.quote(planned.describe())}\n"
    checks.make_folders()
    return planned.write(command_line)


def _known(options: Any) -> list[str]:
    tasks_dir = _site(options).paths.tasks
    return prepare_all_tasks.known_tasks(open_registry(tasks_dir), tasks_dir)


def _parse(arguments: list[str]) -> Any:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return prepare_all_tasks.parse(arguments)
    except SystemExit:
        raise ConfigError([f"{said.getvalue().rpartition('error: ')[2].strip()} (--help tells more)."]) from None


def _site(options: Any) -> Site:
    site = sites.load_site(sites.pick_site(options.site), options.overrides)
    if options.data_dir:
        site.paths.data = os.path.abspath(os.path.expanduser(options.data_dir))
    if options.tasks_dir:
        site.paths.tasks = os.path.abspath(os.path.expanduser(options.tasks_dir))
    return site


class _Plan:
    """Which tasks are prepared by which element. skipped: prepared already; refused: task -> why no job can prepare it."""

    def __init__(
        self,
        site: Site,
        options: Any,
        tasks: list[str],
        warnings: list[str],
        threads: int,
        cluster: cluster_module.Cluster,
    ):
        self.site, self.options, self.tasks, self.warnings, self.threads = site, options, tasks, warnings, threads
        self.settings = prepare_all_tasks.settings_at(site, options, open_registry(site.paths.tasks))
        self.force = options.force or self.settings.options.overwrites
        whole = [task for task in tasks if is_prepared(site.paths.data, task)]
        self.skipped = [task for task in whole if not self.settings.again(task)]
        self.refused = self._refused()
        self.warnings = [*warnings, *self.settings.warnings(tasks), *self._replaced(whole)]
        todo = [task for task in tasks if task not in {*self.skipped, *self.refused}]
        if site.scheduler.kind == "local":
            self.parts, self.arrays = limits.cut(todo, 1, 1)
        else:
            self.parts, self.arrays = (
                limits.cut(todo, limits.room(site), limits.array_size(site, cluster)) if todo else ([], [])
            )

    def _replaced(self, whole: list[str]) -> list[str]:
        """What is said of results that lose their data; without --force such a task is refused."""
        told = []
        for task in whole:
            try:
                said = "" if task in self.skipped else self.settings.replaced(task)
            except one.Failed as error:
                self.refused[task] = str(error)
                continue
            told += [said] if said else []
        return told

    def _refused(self) -> dict[str, str]:
        if self.site.scheduler.kind == "local" or not self.site.environment.offline:
            return {}
        refused = {}
        for task in self.tasks:
            backend = self.settings.backend_of(task)
            instead = backends.downloads(backend, task, self.settings.tasks_dir, self.settings.raw)
            if task not in self.skipped and instead:
                refused[task] = (
                    f"{backend.name} downloads it, and compute nodes of site {self.site.name} are offline: prepare it on a login "
                    f"node, with --set scheduler.kind=local, or {instead}"
                )
        return refused

    def passed_on(self) -> list[str]:
        """The options that the elements are given."""
        options = self.options
        told = {key: getattr(options, key) for key in ("backend", "retries", "retry_wait", "timeout", "min_free")}
        given = [f"--{key.replace('_', '-')}={value}" for key, value in told.items() if value is not None]
        flags = [flag for flag in prepare_all_tasks.FLAGS if getattr(options, flag[2:].replace("-", "_"))]
        return [*given, *flags, *(["--force"] if options.force else [])]

    def script(self, run_group: str) -> str:
        return render.prepare_script(
            self.site, render.Workflow(run_group), self.threads, self.passed_on(), self.settings.raw
        )

    def describe(self) -> str:
        """What would be submitted, for --dry-run."""
        shown = ("job-name", "time", "cpus", "mem", "partition", "account", "qos", "constraint")
        options = re.findall(rf"^#SBATCH (--(?:{'|'.join(shown)}).*)$", self.script("-"), re.MULTILINE)
        lines = [f"site {self.site.name}, {len(self.tasks)} tasks into {self.site.paths.data}, nothing is submitted"]
        lines += [f"  {len(self.skipped)} are prepared already"] if self.skipped else []
        lines += [f"  {task}: {reason}" for task, reason in self.refused.items()]
        if self.parts:
            lines.append(f"  prepare.sh: {' '.join(options)}")
            arrays = f"{len(self.arrays)} array(s) of {' + '.join(map(str, self.arrays))} jobs"
            lines.append(f"  {arrays}, each for at most {len(self.parts[0])} task(s), {self.threads} at once")
        return "\n".join([*self.warnings, *lines])

    def write(self, command_line: str) -> str:
        """Make the folder with script, parts and record, and the list of what is to be done; returns shell assignments."""
        log_file, failed_tasks = (os.path.abspath(path) for path in (self.options.log_file, self.options.failed_tasks))
        self._write_list(log_file, failed_tasks)
        ignore_signals()  # who is told of the folder removes it
        folder = folders.make(Path(self.site.paths.runs), "_prepare", "jobs", "logs", "parts", "events")
        render.write(folder / "jobs", {"prepare.sh": self.script(str(folder))}, self.site, render.Workflow(str(folder)))
        for number, part in enumerate(self.parts):
            (folder / "parts" / str(number)).write_text("".join(f"{task}\n" for task in part), encoding="utf-8")
        files = {"log_file": log_file, "failed_tasks": failed_tasks}
        disk.write_json(folder / RECORD, private.masked(self._record(folder, shlex.split(command_line), files)))
        told = {
            "PREPARATION": folder,
            "SCHEDULER": self.site.scheduler.kind,
            "ADDRESS_DIR": self.site.paths.address_dir,
        }
        return assignments(told, {"ARRAYS": self.arrays})

    def _record(self, folder: Path, command: list[str], files: dict[str, str]) -> dict[str, Any]:
        return {
            "schema": 1,
            "created_at": values.now(),
            "command": command,
            "site": self.site.name,
            "tasks": self.tasks,
            "warnings": self.warnings,
            "skipped": self.skipped,
            "refused": self.refused,
            "force": self.force,
            "arrays": self.arrays,
            "elements": len(self.parts),
            "threads": self.threads,
            **files,
            **sealing.seal(folder),
            "config": self.site.model_dump(mode="json"),
        }

    def _write_list(self, log_file: str, failed_tasks: str) -> None:
        """Before anything is submitted: a watcher that is killed, or never started, leaves a true list behind."""
        left = [task for task in self.tasks if task not in self.skipped]
        try:
            Report(log_file, failed_tasks, None, left)
        except OSError as error:
            said = f"{error.filename}: {error.strerror}; --log-file and --failed-tasks choose other files."
            raise ConfigError([said]) from error


# ---- the commands


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The steps of prepare_tasks.sh."""


@main.command("plan")
@click.option("--command-line", default="")
@click.option("--dry-run", is_flag=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def plan_command(arguments: tuple[str, ...], **options: Any) -> None:
    """Check everything, make the preparation's folder, and print shell assignments for prepare_tasks.sh."""
    catch_signals()
    click.echo(plan(list(arguments), **options), nl=False)


@main.command("watch")
@click.argument("folder", type=click.Path(path_type=Path))
def watch_command(folder: Path) -> None:
    """Report on a preparation until all its tasks have ended."""
    from helpers.jobs.kinds.preparation import watch

    sys.exit(watch(folder))


if __name__ == "__main__":
    sys.exit(launch(main, "python -m helpers.jobs.prepare_array"))
