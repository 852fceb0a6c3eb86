"""One workflow as asked for, and what is checked before anything is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from helpers.config import entries, layers, sites
from helpers.config.schema import AgentEntry, Model, Site
from helpers.config.sites import ROOT
from helpers.data import fingerprint, layout
from helpers.images import weights
from helpers.jobs.site_checks import SiteChecks
from helpers.lib import durations, private
from helpers.lib.errors import ConfigError
from helpers.rendering import render
from helpers.runs import metadata
from helpers.scheduler import limits
from helpers.tasks.catalogue import open_registry

JOB = re.compile(r"^\d+$")
SCRIPTS = (".py", ".sh", ".ipynb")
ENDPOINT = ROOT / "scripts_hpc" / "lib" / "endpoint.sh"
REFUSED = 4  # exit code of endpoint.sh: no second try would help


class Asked(SiteChecks):
    """One workflow as asked for, and the checks on it."""

    def __init__(self, site: Site, competition: str, model: str | None, options: dict[str, Any]):
        super().__init__(site)
        self.competition = competition
        self.options = options
        self.agent: AgentEntry | None = self._load(entries.agent, options["agent"])
        self.model: Model | None = self._load(lambda name: entries.model(name, site), model) if model else None
        self.feedback: Model | None = None
        if self.agent and self.agent.feedback_model and self.agent.needs_model:
            self.feedback = self._load(lambda name: entries.model(name, site), self.agent.feedback_model)

    def _load(self, load: Any, name: str) -> Any:
        try:
            return load(name)
        except ConfigError as error:
            self.problems += error.problems
            return None

    @property
    def models(self) -> list[Model]:
        return [model for model in (self.model, self.feedback) if model]

    @property
    def served(self) -> list[Model]:
        """The models that need a server job of this workflow."""
        served = [] if self.options["reuse_model"] or not self.model else [self.model]
        if self.feedback and self.feedback not in served:
            served.append(self.feedback)
        return [model for model in served if model.engine != "external"]

    @property
    def own_task(self) -> bool:
        return open_registry(self.site.paths.tasks).get_task(self.competition) is not None

    @property
    def needs_preparation(self) -> bool:
        """Whether the data are made first: of a task of ours that has none yet, and of any with --prepare."""
        if not self.options["prepare"] and (self._is_there or not self.own_task):
            return False
        return self._unprepared() is not None

    @property
    def prepared(self) -> Path:
        return layout.prepared(self.site.paths.data, self.competition)

    @property
    def _is_there(self) -> bool:
        with self.site.reading(f"competition '{self.competition}'"):
            return self.prepared.exists()

    def _unprepared(self) -> str | None:
        with self.site.reading(f"competition '{self.competition}'"):
            return layout.problem(self.site.paths.data, self.competition)

    @cached_property
    def data_fingerprint(self) -> str:
        with self.site.reading(f"competition '{self.competition}'"):
            return fingerprint.known(self.prepared, keep=not self.options["dry_run"])

    def data_note(self) -> str | None:
        """That the newest results on this name were made with other data, where it is so."""
        earlier = metadata.latest_data(Path(self.site.paths.runs), self.competition)
        if earlier is None or earlier[1] == self.data_fingerprint:
            return None
        return (
            f"the data of '{self.competition}' are not those of its earlier results (fingerprint {self.data_fingerprint[:12]} now, "
            f"{earlier[1][:12]} in {earlier[0]}): scores on one don't compare with scores on the other, and the export keeps them apart."
        )

    def offer_preparation(self) -> None:
        """Ask a person at a terminal whether missing data are to be prepared, where --prepare wasn't given."""
        nobody = not (sys.stdin.isatty() and sys.stderr.isatty())
        if nobody or self.options["prepare"] or self.own_task or self._is_there:
            return
        if not re.fullmatch(layout.TASK_ID, self.competition):
            return
        self.options["prepare"] = click.confirm(
            f"competition '{self.competition}' isn't prepared in {self.site.paths.data}. Prepare it now?", err=True
        )

    def check(self) -> None:
        self._check_names()
        self._check_task()
        self._check_script()
        self._check_models()
        self._check_times()
        self.check_images()
        self.check_folders()
        if not self.problems:  # somebody else is asked last
            self._check_endpoints()
        self.conclude()
        limits.check_room(self.site, self._jobs, "lower --rollouts")

    @property
    def _jobs(self) -> int:
        return len(self.served) + (not self.options["reuse_grading"]) + self.options["rollouts"]

    def _check_names(self) -> None:
        if not re.fullmatch(layout.TASK_ID, self.competition):
            self.problems.append(
                f"competition '{self.competition}': letters, digits, '.', '_' and '-' only, and one '/' for BioML-bench's."
            )
        for key in ("reuse_grading", "reuse_model"):
            value = self.options[key]
            if value and not JOB.match(value) and not re.match(r"^https?://", value):
                self.problems.append(f"--{key.replace('_', '-')} {value}: must be a job number or a URL.")
            if value and private.IN_URL.search(value):
                self.problems.append(
                    f"--{key.replace('_', '-')}: the URL holds a password, which others could read: its key belongs into "
                    f"{'MODEL_API_KEY' if key == 'reuse_model' else 'GRADING_TOKEN and GRADING_ADMIN_TOKEN'} of your environment."
                )
        if (
            self.agent
            and self.agent.needs_model
            and not self.model
            and not self.options["reuse_model"]
            and not self.problems
        ):
            self.problems.append(
                f"agent '{self.agent.name}' needs a model. Known models: {', '.join(entries.models(self.site))}."
            )

    def _check_task(self) -> None:
        if not re.fullmatch(layout.TASK_ID, self.competition):
            return
        try:
            problem = None if self.needs_preparation else self._unprepared()
        except ConfigError as error:
            self.problems += error.problems
            return
        if problem:
            own = [task.id for task in open_registry(self.site.paths.tasks).list_tasks()]
            meant = layers.meant(self.competition, own)
            self.problems.append(
                f"competition '{self.competition}' isn't prepared: {problem} (paths.data of site {self.site.name}). Give --prepare, "
                f"or use scripts_hpc/prepare_tasks.sh, or take a task that comes with this project: {', '.join(own)}.{meant}"
            )

    def _check_script(self) -> None:
        script = self.options["script"]
        if script is None:
            return
        if not script.is_file() or not os.access(script, os.R_OK):
            self.problems.append(f"--script {script}: there is no such file that you can read.")
        if script.suffix not in SCRIPTS:
            self.problems.append(f"--script {script}: must end in {', '.join(SCRIPTS)}.")
        if self.agent and not self.agent.takes_script:
            takers = [name for name, entry in entries.agents().items() if entry.takes_script]
            self.problems.append(f"--script: agent '{self.agent.name}' runs none; these do: {', '.join(takers)}.")

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
        reused = self.options["reuse_model"]
        asked = [
            (str(model.base_url), model.served_name, model.api_key_variable or "")
            for model in self.models
            if model.engine == "external" and not (reused and model is self.model)
        ]
        if reused and not JOB.match(reused) and self.agent and self.agent.needs_model:
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
        if self.agent is None:
            return
        agent = render.agent_seconds(self._time_limit, self.models)
        servers = [] if self.options["reuse_grading"] else ["grading_server"]
        for kind in servers + (["model_server"] if self.served else []):
            limit = getattr(self.site.jobs, kind).time
            if agent > durations.seconds(limit):
                self.problems.append(
                    f"the agent's job may take {durations.clock(agent)} (its time limit, loading the model, and a margin), "
                    f"but jobs.{kind}.time of site {self.site.name} is {limit}: lower --time-limit, or raise that key."
                )

    @property
    def _time_limit(self) -> int:
        return render.agent_time_limit(self.site, self.agent, self.options["time_limit"])

    @property
    def images(self) -> dict[str, Path]:
        """The images that this workflow needs, by role; empty without containers."""
        if not self.site.isolated:
            return {}
        names = {"grading": "mlebench-env"} if not self.options["reuse_grading"] else {}
        if self.agent:
            names["agent"] = self.agent.image
        for model in self.served:
            names["model"] = "vllm" if model.engine == "vllm" else "mlebench-env"
        return {role: Path(self.site.paths.containers, f"{name}.sif") for role, name in names.items()}
