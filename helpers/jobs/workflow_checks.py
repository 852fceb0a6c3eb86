"""What a workflow is asked to run, cell by cell, and what is checked before anything is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click

from helpers.config import entries, layers, sites
from helpers.config.schema import Model, Site
from helpers.config.sites import ROOT
from helpers.images import weights
from helpers.jobs.asked_task import AskedTask
from helpers.jobs.cell import Cell, served
from helpers.jobs.site_checks import SiteChecks
from helpers.lib import durations, private
from helpers.lib.errors import ConfigError
from helpers.rendering import render
from helpers.scheduler import limits

JOB = re.compile(r"^\d+$")
SCRIPTS = (".py", ".sh", ".ipynb")
ENDPOINT = ROOT / "scripts_hpc" / "lib" / "endpoint.sh"
REFUSED = 4  # exit code of endpoint.sh: no second try would help

Loaded = TypeVar("Loaded")


class Asked(SiteChecks):
    """What is asked for, and the checks on it. options: of run_workflow.sh; advice: what to do where it is too much, or too long."""

    advice = {"jobs": "lower --rollouts", "time": "lower --time-limit"}

    def __init__(self, site: Site, options: dict[str, Any]):
        super().__init__(site)
        self.options = options
        self.cells: list[Cell] = []
        self.tasks: dict[str, AskedTask] = {}

    def add(self, competition: str, agent: str, model: str | None, seeds: tuple[int, ...], **more: Any) -> Cell:
        """A cell more. What is wrong with its names is a problem, told with the others."""
        task = self.tasks.setdefault(
            competition,
            AskedTask(self.site, competition, bool(self.options["prepare"]), keep=not self.options["dry_run"]),
        )
        cell = Cell(self.site, task, None, seeds=seeds, **more)
        cell.agent = self._load(entries.agent, agent, cell.place)
        cell.model = self._load(self._model, model, cell.place) if model else None
        if cell.agent and cell.agent.feedback_model and cell.agent.needs_model:
            cell.feedback = self._load(self._model, cell.agent.feedback_model, cell.place)
        self.cells.append(cell)
        return cell

    def _model(self, name: str) -> Model:
        return entries.model(name, self.site)

    def _load(self, load: Callable[[str], Loaded], name: str, place: str) -> Loaded | None:
        try:
            return load(name)
        except ConfigError as error:
            self.problems += [f"{place}{problem}" for problem in error.problems]
            return None

    @property
    def models(self) -> list[Model]:
        return list({model.name: model for cell in self.cells for model in cell.models}.values())

    @cached_property
    def served(self) -> list[Model]:  # type: ignore[override]
        """The models that need a server job of this workflow."""
        return served(self.cells, bool(self.options["reuse_model"]))

    def offer_preparation(self) -> None:
        """Ask a person at a terminal whether missing data are to be prepared, where --prepare wasn't given."""
        nobody = not (sys.stdin.isatty() and sys.stderr.isatty())
        for task in self.tasks.values():
            if nobody or task.prepare or task.own or not task.is_id or task.is_there:
                continue
            said = f"competition '{task.name}' isn't prepared in {self.site.paths.data}. Prepare it now?"
            task.prepare = click.confirm(said, err=True)

    def check(self) -> None:
        self._check_names()
        for task in self.tasks.values():
            self.problems += task.problems()
        self._check_overrides()
        self._check_scripts()
        self._check_models()
        self._check_times()
        self.check_images()
        self.check_folders()
        if not self.problems:  # somebody else is asked last
            self._check_endpoints()
        self.conclude()
        self.check_room()

    def check_room(self) -> None:
        """Raises ConfigError where the site never takes so many jobs of one user, and Infrastructure where it doesn't now."""
        limits.check_room(self.site, self._servers + self.rollouts, self.advice["jobs"])

    @property
    def rollouts(self) -> int:
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def competitions(self) -> list[str]:
        """The tasks that a grading server grades."""
        return [name for name, task in self.tasks.items() if task.kind.graded_by_server]

    @property
    def starts_grading(self) -> bool:
        """Whether the workflow has a grading server of its own."""
        return bool(self.competitions) and not self.options["reuse_grading"]

    @property
    def copies(self) -> int:
        """The servers of each model."""
        return 1

    @property
    def _servers(self) -> int:
        """How many jobs of servers are submitted."""
        return len(self.served) * self.copies + self.starts_grading

    def _check_names(self) -> None:
        for key in ("reuse_grading", "reuse_model"):
            value = self.options[key]
            if value and not JOB.match(value) and not re.match(r"^https?://", value):
                self.problems.append(f"--{key.replace('_', '-')} {value}: must be a job number or a URL.")
            if value and private.IN_URL.search(value):
                self.problems.append(
                    f"--{key.replace('_', '-')}: the URL holds a password, which others could read: its key belongs into "
                    f"{'MODEL_API_KEY' if key == 'reuse_model' else 'GRADING_TOKEN and GRADING_ADMIN_TOKEN'} of your environment."
                )
        for cell in self.cells:
            lacks = cell.agent and cell.agent.needs_model and not cell.model
            if lacks and not self.options["reuse_model"] and not self.problems:
                known = ", ".join(entries.models(self.site))
                self.problems.append(f"{cell.place}agent '{cell.agent.name}' needs a model. Known models: {known}.")

    def _check_overrides(self) -> None:
        for cell in self.cells:
            # one that isn't prepared is told of, or is prepared first
            if cell.task.is_id and cell.task.is_there:
                problems = cell.task.kind.problems(cell.task.prepared, cell.overrides)
                self.problems += [f"{cell.place}{problem}" for problem in problems if problem not in self.problems]

    def _check_scripts(self) -> None:
        for cell in self.cells:
            script = cell.script
            if script is None:
                continue
            if not script.is_file() or not os.access(script, os.R_OK):
                self.problems.append(f"--script {script}: there is no such file that you can read.")
            if script.suffix not in SCRIPTS:
                self.problems.append(f"--script {script}: must end in {', '.join(SCRIPTS)}.")
            if cell.agent and not cell.agent.takes_script:
                takers = [name for name, entry in entries.agents().items() if entry.takes_script]
                self.problems.append(f"--script: agent '{cell.agent.name}' runs none; these do: {', '.join(takers)}.")

    def _check_models(self) -> None:
        for model in self.models:
            if model.engine == "external" and model.api_key_variable and not layers.key(model.api_key_variable):
                self.problems.append(
                    f"model '{model.name}': {model.api_key_variable} is neither in the environment nor in {ROOT}/.env "
                    "(see .env.example)."
                )
        for model in self.served:
            if model.gpus > self.site.gpu.per_node:
                self.problems.append(
                    f"model '{model.name}' needs {model.gpus} GPUs on one node; site {self.site.name} has {self.site.gpu.per_node} "
                    "(gpu.per_node). Choose a smaller model, or set the key right."
                )
            elif model.gpus and not self.site.isolated:
                self.problems.append(
                    f"model '{model.name}' runs in a container, but container.runtime of site {self.site.name} is none."
                )
            if model.engine == "vllm":
                self._check_weights(model)
                unfit = sites.unbindable(str(model.repo)) if Path(str(model.repo)).is_absolute() else None
                if unfit and self.site.isolated:
                    self.problems.append(f"model '{model.name}': repo: {model.repo} holds {unfit}.")

    def _check_endpoints(self) -> None:
        """Ask the models that are somebody else's for one token. A login node may have no way to them, so silence is only told."""
        reused, own = self.options["reuse_model"], [cell.model for cell in self.cells]
        asked = [
            (str(model.base_url), model.served_name, model.api_key_variable or "")
            for model in self.models
            if model.engine == "external" and not (reused and model in own)
        ]
        if reused and not JOB.match(reused) and any(cell.agent and cell.agent.needs_model for cell in self.cells):
            url = reused.rstrip("/")
            asked.append(
                (url if url.endswith("/v1") else f"{url}/v1", os.environ.get("MODEL_NAME", ""), "MODEL_API_KEY")
            )
        for endpoint in dict.fromkeys(asked):
            done = subprocess.run(
                ["bash", str(ENDPOINT), *endpoint],
                env=os.environ | self._outside(),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            said = done.stdout.strip() or done.stderr.strip()
            if done.returncode == REFUSED:
                self.problems.append(f"{said}.")
            elif done.returncode:
                click.echo(f"note: from here, {said}; the agent's job will ask again.", err=True)

    def _outside(self) -> dict[str, str]:
        """Variables for a request to the outside as a job of the site makes it; for endpoint.sh."""
        here = self.site.environment
        variables = {"ROOT": str(ROOT), "VENV": sys.prefix, "SITE": self.site.name}
        variables |= here.exports() | here.proxies({**os.environ, **here.exports()})
        return variables | ({"CA_BUNDLE": here.ca_bundle} if here.ca_bundle else {})

    def _check_weights(self, model: Model) -> None:
        """Whether the weights are there, where no job could fetch them."""
        if (advice := self.site.weights_advice(model)) is None:
            return
        models = self.site.paths.models
        if problem := weights.problem(str(model.repo), model.revision, models, tokenizer=model.needs_tokenizer):
            self.problems.append(f"model '{model.name}': {problem}; {advice}.")

    def _check_times(self) -> None:
        servers = ["grading_server"] if self.starts_grading else []
        for cell in self.cells:
            if cell.agent is None:
                continue
            agent = render.agent_seconds(cell.time_limit, cell.models)
            for kind in servers + (["model_server"] if served([cell], bool(self.options["reuse_model"])) else []):
                limit = getattr(self.site.jobs, kind).time
                if agent > durations.seconds(limit):
                    self.problems.append(
                        f"{cell.place}the agent's job may take {durations.clock(agent)} (its time limit, loading the model, and a margin), "
                        f"but jobs.{kind}.time of site {self.site.name} is {limit}: {self.advice['time']}, or raise that key."
                    )

    def images_of(self, cells: list[Cell]) -> dict[str, list[Path]]:
        """The images that some cells need, by role; empty without containers."""
        if not self.site.isolated:
            return {}
        names: dict[str, list[str]] = {"grading": ["mlebench-env"]} if self.starts_grading else {}
        names["agent"] = [cell.agent.image for cell in cells if cell.agent]
        names["judging"] = [image for cell in cells for image in cell.task.kind.images(cell.task.prepared)]
        if models := served(cells, bool(self.options["reuse_model"])):
            names["model"] = ["vllm" if model.engine == "vllm" else "mlebench-env" for model in models]
        folder = Path(self.site.paths.containers)
        return {role: [folder / f"{name}.sif" for name in dict.fromkeys(its)] for role, its in names.items() if its}

    def builds(self, image: Path) -> str:
        for task in self.tasks.values():
            its = [Path(self.site.paths.containers, f"{name}.sif") for name in task.kind.images(task.prepared)]
            if image in its and image.parent != Path(self.site.paths.containers):
                return f"--task {task.name}"
        return super().builds(image)

    @property
    def images(self) -> dict[str, Path]:  # type: ignore[override]
        return {
            f"{role} {number}": path
            for role, paths in self.images_of(self.cells).items()
            for number, path in enumerate(paths)
        }
