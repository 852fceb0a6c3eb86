"""Before the first submission: check everything that can be checked, make the run's directory and its scripts."""

from __future__ import annotations

import hashlib
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
from helpers.jobs.workflow_checks import JOB, Asked
from helpers.lib import disk, durations, folders, private, values
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.lib.signals import attend, ignore_signals
from helpers.rendering import render, sealing
from helpers.runs import doctor_record
from helpers.runs.cells import SCHEMA
from helpers.runs.provenance import config_hash, image_digest
from helpers.scheduler import limits
from helpers.tasks.catalogue import open_registry


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
    if options["agent"] in entries.agents() and not entries.agents()[options["agent"]].needs_model:
        model = None
    elif model is None and not options["reuse_model"]:
        model = "replay" if site.scheduler.kind == "local" else "30b"
    model_set.apply(site, None if options["reuse_model"] else model, options.get("model_changes", ()))
    asked = _Planned(site, competition, model, {**options, "dry_run": dry_run})
    if not dry_run:
        asked.offer_preparation()
    asked.check()
    if unchecked := doctor_record.note(site):
        click.echo(f"note: {unchecked}", err=True)
    if dry_run:
        return f"DRY_RUN={shlex.quote(asked.describe())}\n"
    asked.confirm()
    asked.make_folders()
    asked.prepare_task()
    for note in filter(None, (asked.data_note(), asked.waves_note())):
        click.echo(f"note: {note}", err=True)
    return asked.write()


def _site(options: dict[str, Any]) -> Site:
    overrides = list(options["overrides"])
    for role in ("gpu", "cpu"):
        if options[f"{role}_partition"]:
            overrides.append(f"partitions.{role}.name={options[f'{role}_partition']}")
    return sites.load_site(sites.pick_site(options["site"]), overrides)


class _Planned(Asked):
    """A workflow that has passed its checks: what it takes, and its folder with all that its jobs need."""

    @property
    def gpu_hours(self) -> float:
        """The most GPU-hours that the model servers can take: GPUs times the time limit of their jobs."""
        hours = durations.seconds(self.site.jobs.model_server.time) / 3600
        return self._gpus * hours

    @cached_property
    def _waves(self) -> tuple[int, int]:
        """The rollouts that run at once, and the waves that it takes to run all."""
        rollouts, wants = self.options["rollouts"], self.site.jobs.agent
        most = None
        if rollouts > 1 and self.site.scheduler.kind == "slurm":
            most = limits.at_once(self.site, wants.cpus, wants.memory_gb, self.cluster)
        at_once = min(rollouts, most or rollouts)
        return at_once, -(-rollouts // at_once)

    def _seconds(self, waves: int) -> int:
        """What so many waves of agents can take of their servers, which load first."""
        once = render.agent_seconds(self._time_limit, self.models)
        return once + (waves - 1) * render.agent_seconds(self._time_limit, [])

    def waves_note(self) -> str | None:
        """That the servers end before the last rollouts begin, where it is so."""
        at_once, waves = self._waves
        kinds = [] if self.options["reuse_grading"] else ["grading_server"]
        kinds += ["model_server"] if self.served else []
        keys = {f"jobs.{kind}.time": getattr(self.site.jobs, kind).time for kind in kinds}
        short = {key: limit for key, limit in keys.items() if durations.seconds(limit) < self._seconds(waves)}
        if waves == 1 or not short:
            return None
        life = min(map(durations.seconds, short.values()))
        lived = next(number for number in range(waves, 0, -1) if number == 1 or self._seconds(number) <= life)
        all_of_them = self._seconds(waves)
        longer = f"set {' and '.join(short)} to that, or"
        return (
            f"{self.options['rollouts']} rollouts are {waves} waves, as partition {self.site.partitions.cpu.name or '(default)'} runs "
            f"{at_once} of them at once, and the servers live for {lived} ({', '.join(f'{key} {limit}' for key, limit in short.items())}): "
            f"what begins later would be lost. All of them take up to {durations.clock(all_of_them)} and "
            f"{self._gpus * all_of_them / 3600:.1f} GPU-hours: "
            f"{longer if self._may_take(all_of_them) else 'no server may live for so long here: set'} --rollouts to {at_once * lived}."
        )

    def _may_take(self, seconds: int) -> bool:
        """Whether the cluster would take servers that live for so long."""
        time = f"#SBATCH --time={durations.clock(seconds)}"
        servers = {name: text for name, text in self.scripts().items() if name != "agent.sh"}
        longer = {name: re.sub(r"^#SBATCH --time=.*", time, text, flags=re.MULTILINE) for name, text in servers.items()}
        return self.site.scheduler.kind != "slurm" or not limits.problems(self.site, longer, self.cluster)

    @property
    def _gpus(self) -> int:
        return sum(render.gpus_of(self.site, model) for model in self.served)

    def confirm(self) -> None:
        limit = self.site.limits.confirm_gpu_hours
        if self.gpu_hours <= limit or self.options["yes"]:
            return
        said = f"this could take {self.gpu_hours:.0f} GPU-hours, more than limits.confirm_gpu_hours = {limit:g}"
        if not sys.stdin.isatty():
            raise ConfigError([f"{said}: give --yes to go on."])
        if not click.confirm(f"{said}. Submit?", err=True):
            raise ConfigError(["nothing was submitted."])

    def prepare_task(self) -> None:
        if not self.needs_preparation:
            return
        command = [sys.executable, "-m", "helpers.tasks.cli", "generate-data", self.competition, self.site.paths.data]
        command += ["--tasks-dir", self.site.paths.tasks] if self.site.paths.tasks else []
        if not self.own_task:
            command = [str(ROOT / "scripts_hpc" / "prepare_tasks.sh"), self.competition, *self._site_options()]
        Path(self.site.paths.data).mkdir(parents=True, exist_ok=True)
        code = attend(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HPC_SITE": self._site_options()[1]},
            cwd=self.site.paths.data,  # where its log and its list of failed tasks go
            stdout=sys.stderr,
            stdin=subprocess.DEVNULL,
        )
        if code:
            raise Infrastructure(f"preparing '{self.competition}' failed (above).")

    def _site_options(self) -> list[str]:
        name = sites.pick_site(self.options["site"])
        path = str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name
        return ["--site", path, *(part for item in self.options["overrides"] for part in ("--set", item))]

    def describe(self) -> str:
        """What would be submitted, for --dry-run."""
        lines = [
            f"site {self.site.name}, competition {self.competition}, agent {self.options['agent']}, nothing is submitted"
        ]
        if self.needs_preparation:
            lines.append(f"first, the task is prepared in {self.site.paths.data}")
        elif note := self.data_note():
            lines.append(f"note: {note}")
        for name, text in self.scripts().items():
            options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH --")]
            shown = [
                option
                for option in options
                if not option.startswith(("--output", "--signal", "--no-requeue", "--nodes", "--ntasks"))
            ]
            lines.append(f"  {name}: {' '.join(shown)}")
        lines += [f"note: {note}"] if (note := self.waves_note()) else []
        lines.append(f"at most {self.gpu_hours:.1f} GPU-hours; {self.options['rollouts']} rollout(s)")
        return "\n".join(lines)

    def scripts(self, workflow: render.Workflow | None = None) -> dict[str, str]:
        files = {}
        if not self.options["reuse_grading"]:
            files["grading_server.sh"] = render.grading_script(self.site, workflow)
        for model in self.served:
            files[f"vllm_{model.name}.sh"] = render.model_script(self.site, model, workflow)
        task = open_registry(self.site.paths.tasks).get_task(self.competition)
        files["agent.sh"] = render.agent_script(
            self.site,
            self.agent,
            workflow,
            self.model,
            self.feedback,
            self.options["steps"],
            self.options["time_limit"],
            self._script_copy(workflow),
            task.task_type if task else None,
        )
        return files

    def _script_copy(self, workflow: render.Workflow | None) -> str | None:
        script = self.options["script"]
        return str(Path(workflow.run_group if workflow else "", "jobs", f"script{script.suffix}")) if script else None

    def write(self) -> str:
        """Make the run's directory with scripts and workflow.json; returns the shell assignments."""
        ignore_signals()  # who is told of the folder removes it
        name = f"_run-group_{self.agent.name.replace('/', '-')}"
        group = folders.make(Path(self.site.paths.runs), name, "jobs", "logs")
        workflow = render.Workflow(str(group), self.options["cleanup"])
        render.write(group / "jobs", self.scripts(workflow), self.site, workflow)
        if self.options["script"]:
            shutil.copyfile(self.options["script"], group / "jobs" / f"script{self.options['script'].suffix}")
        disk.write_json(group / "workflow.json", private.masked(self._record(group)))
        told = {
            "RUN_GROUP": str(group),
            "SCHEDULER": self.site.scheduler.kind,
            "ADDRESS_DIR": self.site.paths.address_dir,
            "COMPETITION": self.competition,
            "AGENT": self.agent.name,
            "MODEL": self.model.name if self.model else "",
            "MODEL_ARGUMENT": self._argument(self.model, self.options["reuse_model"]),
            "FEEDBACK": self.feedback.name if self.feedback else "",
            "FEEDBACK_ARGUMENT": self._argument(self.feedback, None),
            "GRADING_ARGUMENT": _reused(self.options["reuse_grading"]),
            "ROLLOUTS": str(self.options["rollouts"]),
            "SEED": str(self.options["seed"]),
            "ISOLATED": "1" if self.site.isolated else "0",
            # where a server starts late (a GPU queue), the others start with it and not days before
            "MODEL_QUEUES": "1" if any(model.gpus for model in self.served) else "0",
        }
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items())

    def _argument(self, model: Model | None, reused: str | None) -> str:
        if reused:
            return _reused(reused)
        return "external" if model and model.engine == "external" else ""

    def _record(self, group: Path) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "run": group.name,
            "created_at": values.now(),
            "command": shlex.split(self.options["command_line"]),
            "site": self.site.name,
            "cleanup": self.options["cleanup"],
            "doctor": doctor_record.last(self.site),
            **sealing.seal(group, self.agent.path),
            "config": self.site.model_dump(mode="json"),
            "cells": [self._cell()],
            "jobs": {"agents": []},
            "reused": {"grading": bool(self.options["reuse_grading"]), "model": bool(self.options["reuse_model"])},
        }

    def _cell(self) -> dict[str, Any]:
        script = self.options["script"]
        chosen = {
            "site": self.site.model_dump(mode="json"),
            "model": self.model.model_dump() if self.model else None,
            "feedback_model": self.feedback.model_dump() if self.feedback else None,
            "agent": self.agent.model_dump(exclude={"variants", "takes_script"}),
            "script": hashlib.sha256(script.read_bytes()).hexdigest() if script else None,
            "steps": self.options["steps"] or (self.model and self.model.steps) or self.agent.steps,
            "time_limit": self._time_limit,
            "images": {role: image_digest(path) for role, path in self.images.items()},
        }
        limits_of_agent = {key: chosen["agent"][key] for key in ("steps", "time_limit")}
        return {
            "competition": self.competition,
            "agent": self.agent.name,
            "model": self.model.name if self.model else None,
            "language_model": self.model.is_language_model if self.model else None,
            "rollouts": self.options["rollouts"],
            "seed": self.options["seed"],
            "config_hash": config_hash(chosen),
            "data_fingerprint": self.data_fingerprint,
            "model_config": chosen["model"],
            "feedback_model_config": chosen["feedback_model"],
            "agent_config": {**chosen["agent"], "steps": chosen["steps"], "time_limit": chosen["time_limit"]},
            "agent_limits": limits_of_agent,  # what the hash was made of, where the line above says it otherwise
            "images": {
                role: {"path": str(path), "sha256": chosen["images"][role]} for role, path in self.images.items()
            },
        }


def _reused(value: str | None) -> str:
    return f"auto:{value}" if value and JOB.match(value) else value or ""
