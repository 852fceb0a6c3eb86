"""Before the first submission: check everything that can be checked, make the run's directory and its scripts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from helpers.config import entries, sites
from helpers.config.schema import Model, Site
from helpers.config.sites import ROOT
from helpers.jobs import model_set
from helpers.jobs.arrays import Fleet, submitted_now, write_waiting
from helpers.jobs.asked_task import AskedTask
from helpers.jobs.cell import Cell
from helpers.jobs.parts import FOLDERS, Part
from helpers.jobs.parts import write as write_parts
from helpers.jobs.workflow_checks import JOB, Asked
from helpers.lib import disk, durations, folders, private, values
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.lib.shell import assignments
from helpers.lib.signals import attend, ignore_signals
from helpers.rendering import render, sealing
from helpers.runs import doctor_record
from helpers.runs.cells import SCHEMA
from helpers.scheduler import limits


def plan(competition: str | None, model: str | None, dry_run: bool, **options: Any) -> str:
    """Check all that was asked for and prepare the run; returns shell assignments for run_workflow.sh.

    Raises ConfigError with every problem found. Nothing is written before all checks have passed.
    """
    site = _site(options)
    if competition is None:
        if site.scheduler.kind != "local":
            raise ConfigError(
                ["which competition? For example: run_workflow.sh spaceship-titanic 30b (--help tells more)."]
            )
        competition = "classification_basic"
    options["agent"] = options["agent"] or AskedTask(site, competition).kind.agent
    if options["agent"] in entries.agents() and not entries.agents()[options["agent"]].needs_model:
        model = None
    elif model is None and not options["reuse_model"]:
        model = default_model(site)
    model_set.apply(site, None if options["reuse_model"] else model, options.get("model_changes", ()))
    asked = Planned(site, {**options, "dry_run": dry_run})
    seeds = tuple(range(options["seed"], options["seed"] + options["rollouts"]))
    more = {"steps": options["steps"], "seconds": options["time_limit"], "script": options["script"]}
    asked.add(competition, options["agent"], model, seeds, **more)
    if not dry_run:
        asked.offer_preparation()
    return asked.carry_out()


def default_model(site: Site) -> str:
    """The model where none is named."""
    return "replay" if site.scheduler.kind == "local" else "30b"


def _site(options: dict[str, Any]) -> Site:
    overrides = list(options["overrides"])
    for role in ("gpu", "cpu"):
        if options[f"{role}_partition"]:
            overrides.append(f"partitions.{role}.name={options[f'{role}_partition']}")
    return sites.load_site(sites.pick_site(options["site"]), overrides)


class Planned(Asked):
    """A workflow that has passed its checks: what it takes, and its folder with all that its jobs need."""

    arrays = False  # whether the agents are elements of arrays
    parallel: int | None = None  # how many rollouts may run at once

    def carry_out(self) -> str:
        """Check it, and make its folder, or show what it would be; returns shell assignments. Raises ConfigError, Infrastructure."""
        self.check()
        if unchecked := doctor_record.note(self.site):
            click.echo(f"note: {unchecked}", err=True)
        if self.options["dry_run"]:
            return f"DRY_RUN={shlex.quote(self.describe())}\n"
        self.confirm()
        self.make_folders()
        self.prepare_tasks()
        for cell in self.cells:
            cell.make_instance()
        for note in self.notes():
            click.echo(f"note: {note}", err=True)
        return self.write()

    @property
    def gpu_hours(self) -> float:
        """The most GPU-hours that the model servers can take: GPUs times the time limit of their jobs."""
        hours = durations.seconds(self.site.jobs.model_server.time) / 3600
        return self._gpus * hours

    @property
    def _gpus(self) -> int:
        return sum(render.gpus_of(self.site, model) for model in self.served) * self.copies

    @cached_property
    def _most_at_once(self) -> int:
        """The rollouts that run at once."""
        rollouts, wants = self.rollouts, self.site.jobs.agent
        most = None
        if rollouts > 1 and self.site.scheduler.kind == "slurm":
            most = limits.at_once(self.site, wants.cpus, wants.memory_gb, self.cluster)
        return min(rollouts, most or rollouts, self.parallel or rollouts)

    def _seconds(self, waves: int) -> int:
        """What so many waves of agents can take of their servers, which load first."""
        longest = max(cell.time_limit for cell in self.cells)
        once = render.agent_seconds(longest, self.models)
        return once + (waves - 1) * render.agent_seconds(longest, [])

    def notes(self) -> list[str]:
        """What a person should know before the jobs are submitted."""
        data = [task.note() for task in self.tasks.values() if not task.needs_preparation]
        return [note for note in (*data, *self._load_notes()) if note]

    def _load_notes(self) -> list[str | None]:
        """What its servers are too few, or live too shortly, for."""
        return [self._waves_note(), *(model.crowd_note(-(-self._most_at_once // self.copies)) for model in self.served)]

    def _waves_note(self) -> str | None:
        """That the servers end before the last rollouts begin, where it is so."""
        at_once = self._most_at_once
        waves = -(-self.rollouts // at_once)
        kinds = ["grading_server"] if self.starts_grading else []
        kinds += ["model_server"] if self.served else []
        keys = {f"jobs.{kind}.time": getattr(self.site.jobs, kind).time for kind in kinds}
        short = {key: limit for key, limit in keys.items() if durations.seconds(limit) < self._seconds(waves)}
        if waves == 1 or not short:
            return None
        life = min(map(durations.seconds, short.values()))
        lived = next(number for number in range(waves, 0, -1) if number == 1 or self._seconds(number) <= life)
        all_of_them = self._seconds(waves)
        longer = f"set {' and '.join(short)} to that, or"
        asked = at_once == self.parallel
        who = "`parallel` lets" if asked else f"partition {self.site.partitions.cpu.name or '(default)'} runs"
        fewer = f"{self.advice['jobs'].removeprefix('lower ')} to {at_once * lived}"
        return (
            f"{self.rollouts} rollouts are {waves} waves, as {who} {at_once} of them at once, and the servers live for {lived} "
            f"({', '.join(f'{key} {limit}' for key, limit in short.items())}): "
            f"what begins later would be lost. All of them take up to {durations.clock(all_of_them)} and "
            f"{self._gpus * all_of_them / 3600:.1f} GPU-hours: "
            f"{longer if self._may_take(all_of_them) else 'no server may live for so long here: set'} {fewer}."
        )

    def _may_take(self, seconds: int) -> bool:
        """Whether the cluster would take servers that live for so long."""
        time = f"#SBATCH --time={durations.clock(seconds)}"
        servers = {name: text for name, text in self.scripts().items() if not name.startswith("agent")}
        longer = {name: re.sub(r"^#SBATCH --time=.*", time, text, flags=re.MULTILINE) for name, text in servers.items()}
        return self.site.scheduler.kind != "slurm" or not limits.problems(self.site, longer, self.cluster)

    def confirm(self) -> None:
        limit = self.site.limits.confirm_gpu_hours
        if self.gpu_hours <= limit or self.options["yes"]:
            return
        said = f"this could take {self.gpu_hours:.0f} GPU-hours, more than limits.confirm_gpu_hours = {limit:g}"
        if not sys.stdin.isatty():
            raise ConfigError([f"{said}: give --yes to go on."])
        if not click.confirm(f"{said}. Submit?", err=True):
            raise ConfigError(["nothing was submitted."])

    def prepare_tasks(self) -> None:
        for task in self.tasks.values():
            if task.needs_preparation:
                self._prepare(task)

    def _prepare(self, task: AskedTask) -> None:
        command = [sys.executable, "-m", "helpers.tasks.cli", "generate-data", task.name, self.site.paths.data]
        command += ["--tasks-dir", self.site.paths.tasks] if self.site.paths.tasks else []
        if not task.own:
            command = [str(ROOT / "scripts_hpc" / "prepare_tasks.sh"), task.name, *self._site_options()]
        Path(self.site.paths.data).mkdir(parents=True, exist_ok=True)
        code = attend(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HPC_SITE": self._site_options()[1]},
            cwd=self.site.paths.data,  # where its log and its list of failed tasks go
            stdout=sys.stderr,
            stdin=subprocess.DEVNULL,
        )
        if code:
            raise Infrastructure(f"preparing '{task.name}' failed (above).")

    def _site_options(self) -> list[str]:
        name = sites.pick_site(self.options["site"])
        path = str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name
        return ["--site", path, *(part for item in self.options["overrides"] for part in ("--set", item))]

    def _subject(self) -> str:
        cell = self.cells[0]
        return f"competition {cell.task.name}, agent {self.options['agent']}"

    def describe(self) -> str:
        """What would be submitted, for --dry-run."""
        lines = [f"site {self.site.name}, {self._subject()}, nothing is submitted"]
        missing = [task.name for task in self.tasks.values() if task.needs_preparation]
        if missing:
            what = "the task is" if len(self.tasks) == 1 else f"{', '.join(missing)} are"
            lines.append(f"first, {what} prepared in {self.site.paths.data}")
        data = [task.note() for task in self.tasks.values() if task.name not in missing]
        lines += [f"note: {note}" for note in data if note]
        hidden = ("--output", "--signal", "--no-requeue", "--nodes", "--ntasks")
        for name, text in self.scripts().items():
            options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH --")]
            lines.append(f"  {name}: {' '.join(option for option in options if not option.startswith(hidden))}")
        lines += [f"note: {note}" for note in self._load_notes() if note]
        lines.append(f"at most {self.gpu_hours:.1f} GPU-hours; {self.rollouts} rollout(s)")
        return "\n".join(lines)

    @cached_property
    def groups(self) -> dict[str, list[Cell]]:
        """The cells that share a job script, by its name."""
        found: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.demand, []).append(cell)
        if len(found) == 1:
            return {"agent.sh": self.cells}
        return {f"agent_{number}.sh": its for number, its in enumerate(found.values())}

    def scripts(self, workflow: render.Workflow | None = None) -> dict[str, str]:
        files = {}
        if self.starts_grading:
            files["grading_server.sh"] = render.grading_script(self.site, workflow)
        for model in self.served:
            files[f"vllm_{model.name}.sh"] = render.model_script(self.site, model, workflow)
        # what is only looked at is rendered as of a workflow, too
        return files | {name: its[0].job_script(workflow or render.Workflow("-")) for name, its in self.groups.items()}

    def parts(self) -> list[Part]:
        """What each agent's job takes: of each script's cells all first rollouts, then all second ones."""
        first, numbers = 0, {}
        for cell in self.cells:
            numbers[id(cell)] = first
            first += len(cell.seeds)
        found = []
        for script, its in self.groups.items():
            for place in range(max(len(cell.seeds) for cell in its)):
                for cell in (cell for cell in its if place < len(cell.seeds)):
                    task = cell.task.own.task_type if cell.task.own else ""
                    number = numbers[id(cell)] + place
                    at = self.cells.index(cell)
                    what = (number, at, cell.task.name, cell.seeds[place])
                    found.append(
                        Part(
                            *what,
                            script=script,
                            task_type=task,
                            tokens=cell.tokens,
                            kind=cell.task.kind.name,
                            instance=cell.instance,
                            image="".join(cell.task.kind.images(cell.task.prepared)[:1]),
                            variables=cell.variables,
                        )
                    )
        return found

    @cached_property
    def made(self) -> list[Fleet]:
        """The agents' jobs, in the order of their submission."""
        ((name, its),) = self.groups.items()
        return [Fleet(name, 0, self.rollouts, 0, None, *self.servers_of(its[0]))]

    def servers_of(self, cell: Cell) -> tuple[str, str]:
        """What scripts_hpc/lib/workflow.sh is told of a cell's model, and of its feedback model."""

        def told(model: Model | None) -> str:
            return "-" if model is None else "external" if model.engine == "external" else model.name

        own = _reused(self.options["reuse_model"]) or told(cell.model)
        same = cell.feedback and cell.model and cell.feedback.name == cell.model.name
        return own, own if same else told(cell.feedback)

    def make_group(self) -> Path:
        """The workflow's folder."""
        name = f"_run-group_{self.options['agent'].replace('/', '-')}"
        return folders.make(Path(self.site.paths.runs), name, "jobs", "logs", *FOLDERS)

    def write(self) -> str:
        """Make the run's directory with scripts and workflow.json; returns the shell assignments."""
        ignore_signals()  # who is told of the folder removes it
        group = self.make_group()
        workflow = render.Workflow(str(group), self.options["cleanup"], self.arrays)
        render.write(group / "jobs", self.scripts(workflow), self.site, workflow)
        for script in {cell.script for cell in self.cells if cell.script}:
            shutil.copyfile(script, group / "jobs" / f"script{script.suffix}")
        name = write_parts(group, self.parts())
        write_waiting(group, name, self.made)
        record = private.masked(self.record(group))
        disk.write_json(group / "workflow.json", record)
        told = {
            "RUN_GROUP": str(group),
            "SCHEDULER": self.site.scheduler.kind,
            "ADDRESS_DIR": self.site.paths.address_dir,
            "GRADING_ARGUMENT": _reused(self.options["reuse_grading"]),
            "PARTS": name,
            # where a server starts late (a GPU queue), the others start with it and not days before
            "MODEL_QUEUES": "1" if any(model.gpus for model in self.served) else "0",
        }
        lists = {
            "COMPETITIONS": self.competitions,
            "AGENTS": submitted_now(self.made),
            "ENVIRONMENTS": self.environments(),
        }
        return assignments(told, lists) + "".join(self.written(group, record))

    def environments(self) -> list[str]:
        """The project's environments that its agents' jobs use: none in containers."""
        return [] if self.site.isolated else sorted({cell.agent.environment for cell in self.cells if cell.agent})

    def written(self, group: Path, record: dict[str, Any]) -> list[str]:
        """What else is to be written once the record is there; further shell assignments."""
        return []

    def record(self, group: Path) -> dict[str, Any]:
        """What workflow.json holds before anything is submitted."""
        agents = {cell.agent.path for cell in self.cells if cell.agent}
        return {
            "schema": SCHEMA,
            "run": group.name,
            "created_at": values.now(),
            "command": shlex.split(self.options["command_line"]),
            "site": self.site.name,
            "cleanup": self.options["cleanup"],
            "doctor": doctor_record.last(self.site),
            **sealing.seal(group, agents),
            "config": self.site.model_dump(mode="json"),
            "cells": [
                cell.record({role: paths[-1] for role, paths in self.images_of([cell]).items()}) for cell in self.cells
            ],
            "jobs": {"agents": []},
            "reused": {"grading": bool(self.options["reuse_grading"]), "model": bool(self.options["reuse_model"])},
        }


def _reused(value: str | None) -> str:
    return f"auto:{value}" if value and JOB.match(value) else value or ""
