"""Before a round's first submission: its configuration checked as a whole, its folder made with all that its jobs need."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.benchmarks import bounds, config, fleets, manifest, stamps
from helpers.config import entries, sites
from helpers.config.schema import Site
from helpers.config.sites import ROOT
from helpers.jobs.arrays import Fleet
from helpers.jobs.asked_task import AskedTask
from helpers.jobs.task_kinds import Overrides
from helpers.jobs.workflow import Planned, default_model
from helpers.lib import durations
from helpers.rendering import render
from helpers.scheduler import limits

KEEP_TOKENS = ("aide", "mini-swe")  # the folders of agents that ask for no more once TOKEN_LIMIT is reached
TOGETHER = "agents.sh"  # on one machine: the script of all rollouts, which calls each one's own


def plan(path: Path, dry_run: bool, **options: Any) -> str:
    """Check all that a configuration asks for and make the folder of a new round; returns shell assignments for run_benchmark.sh.

    Raises ConfigError with every problem found. Nothing is written before all checks have passed.
    """
    site = sites.load_site(sites.pick_site(options["site"]), list(options["overrides"]))
    benchmark = config.read(path, options.pop("aliases"))
    return Round(site, path, benchmark, {**options, "dry_run": dry_run}).carry_out()


class Round(Planned):
    """A round of a benchmark as asked for. path: of its configuration."""

    arrays = True
    own_folders = ("rollouts", "address_dir")

    def __init__(self, site: Site, path: Path, benchmark: config.Benchmark, options: dict[str, Any]):
        super().__init__(site, NO_REUSE | options)
        self.path, self.benchmark, self.parallel = path, benchmark, benchmark.parallel
        self.advice = {"jobs": "lower `rollouts`", "time": "lower its time_limit"}
        apart: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
        for one in config.rollouts(benchmark):
            entry = benchmark.tasks[one.entry]
            apart[(*one.cell, entry.limit, one.entry)].append(one.seed)
        for (task, model, agent, variables, limit, entry), seeds in apart.items():
            place = f"{path}: [[tasks]] {entry + 1}: "
            asked = benchmark.tasks[entry]
            task = self._task(task, asked.prepared_dir is not None, place)
            agent = agent or AskedTask(site, task).kind.agent
            known = entries.agents().get(agent)
            needs = known is None or known.needs_model
            self.add(
                task,
                agent,
                (model or default_model(site)) if needs else None,
                tuple(seeds),
                steps=asked.steps,
                tokens=asked.tokens,
                seconds=limit,
                variables=tuple(pair for pair in variables if pair[0] != config.TIME_LIMIT),
                overrides=Overrides(asked.apply_overrides, _file(asked.overrides)),
                place=place,
            )
        self._check_prices()
        self._check_tokens()

    def _check_prices(self) -> None:
        """A budget in USD needs the prices of all models that somebody asks USD for."""
        if self.benchmark.budget.usd is None:
            return
        models = {model.name: model.prices for cell in self.cells for model in cell.models}
        for name in sorted(name for name, prices in models.items() if prices is None):
            self.problems.append(
                f"{self.path}: budget: usd: model '{name}' has no prices: set its usd_per_million_prompt_tokens and "
                f"usd_per_million_completion_tokens in site-config/models.yaml (--set models.{name}.usd_per_million_prompt_tokens=…)."
            )
        if models and not any(map(any, filter(None, models.values()))) and None not in models.values():
            self.problems.append(f"{self.path}: budget: usd: none of its models costs USD: bound gpu_hours or tokens.")

    def _check_tokens(self) -> None:
        """Nobody stands between an agent and its model: who uses tokens has to keep to a bound by itself."""
        for cell in self.cells:
            if cell.tokens and cell.agent and cell.agent.needs_model and cell.agent.folder not in KEEP_TOKENS:
                self.problems.append(
                    f"{cell.place}tokens: agent '{cell.agent.name}' isn't known to keep to a bound on its tokens, as "
                    f"{' and '.join(KEEP_TOKENS)} do: leave it out, or bound the whole round with [budget] tokens."
                )

    def _task(self, name: str, is_folder: bool, place: str) -> str:
        """The id of a task, or of the one whose folder was given."""
        if not is_folder:
            return name
        data = Path(os.path.realpath(self.site.paths.data))
        tried = [Path(os.path.realpath(base / Path(name).expanduser())) for base in (Path.cwd(), ROOT)]
        inside = [path for path in tried if path.is_relative_to(data) and path != data]
        if not inside:
            self.problems.append(
                f"{place}prepared_dir: {name} doesn't lie in {data} (paths.data of site {self.site.name}), where the jobs look for tasks: "
                f"give --set paths.data=FOLDER, the folder that the task's own lies in."
            )
            return Path(name).name
        path = next((path for path in inside if path.exists()), inside[0])
        path = path.parent if path.name == "prepared" and path.parent != data else path
        return str(path.relative_to(data))

    @property
    def name(self) -> str:
        return self.benchmark.name

    @cached_property
    def made(self) -> list[Fleet]:
        lists = [
            (name, sum(len(cell.seeds) for cell in its), self.servers_of(its[0])) for name, its in self.groups.items()
        ]
        lists = fleets.spread(lists, self.benchmark.replicas, {model.name for model in self.served})
        if self.site.scheduler.kind == "local":
            return fleets.cut(lists, len(lists), self.rollouts)
        size = limits.array_size(self.site, self.cluster)
        return fleets.fitted(self.site, lists, self.benchmark.parallel, size, self._servers)

    def check_room(self) -> None:
        if self.site.limits.max_submit is not None:
            _ = self.made

    def _load_notes(self) -> list[str | None]:
        waits = fleets.note(self.site, self.made) if self.site.limits.max_submit is not None else None
        return [*super()._load_notes(), waits and f"{waits}."]

    @property
    def copies(self) -> int:
        return self.benchmark.replicas

    def scripts(self, workflow: render.Workflow | None = None) -> dict[str, str]:
        files = super().scripts(workflow)
        if self.site.scheduler.kind == "local" and workflow:
            longest = max(render.agent_seconds(cell.time_limit, cell.models) for cell in self.cells if cell.agent)
            files[TOGETHER] = render.together_script(workflow, durations.clock(longest + 3600))
        return files

    def _subject(self) -> str:
        tasks, pairs = len(self.tasks), len({cell.demand[:2] for cell in self.cells})
        servers = f", {self.copies} servers of each model" if self.copies > 1 and self.served else ""
        return (
            f"benchmark {self.name}, {tasks} task(s), {pairs} pair(s) of agent and model, "
            f"{self.benchmark.parallel} at once{servers}"
        )

    def make_group(self) -> Path:
        return stamps.make(Path(str(self.site.paths.rollouts)), self.name)

    def record(self, group: Path) -> dict[str, Any]:
        told = {
            "name": self.name,
            "config": str(self.path),
            "entries": len(self.benchmark.tasks),
            "settings": self.benchmark.model_dump(mode="json"),
            "parallel": self.benchmark.parallel,
            "retries": self.benchmark.retries,
            "replicas": self.benchmark.replicas,
            "servers": {name: list(self.servers_of(its[0])) for name, its in self.groups.items()},
        }
        return super().record(group) | {"benchmark": told}

    def written(self, group: Path, record: dict[str, Any]) -> list[str]:
        prices = {
            (cell.agent.name, cell.model.name): cell.prices
            for cell in self.cells
            if cell.agent and cell.model and cell.prices and any(cell.prices)
        }
        bounds.write(group, bounds.asked(self.benchmark.budget), prices)
        manifest.begin(group, record)
        together = [f"TOGETHER={TOGETHER}\n"] if self.site.scheduler.kind == "local" else []
        return [*together, f"PARALLEL={self.benchmark.parallel}\n"]


def _file(name: str | None) -> Path | None:
    """A file that a configuration names: as seen from here, or else from the checkout."""
    if name is None:
        return None
    path = Path(name).expanduser()
    return path if path.exists() or path.is_absolute() else ROOT / path


# what run_workflow.sh can be told, and a benchmark can't
NO_REUSE = {"reuse_grading": None, "reuse_model": None, "prepare": False, "cleanup": "on"}
