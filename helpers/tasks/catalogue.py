"""The tasks that are known: those of templates/tasks, and the own ones of a site."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helpers.config import sites
from helpers.config.layers import meant, shown
from helpers.lib import disk
from helpers.lib.errors import ConfigError
from helpers.repositories import source
from helpers.repositories.source import Source
from helpers.tasks.definitions import TEMPLATES, Task


class TaskRegistry:
    """All definitions below some directories, read when first asked for."""

    def __init__(self, *directories: str | Path):
        self._directories = [Path(directory) for directory in directories]
        self._tasks: dict[str, Task] | None = None
        self._files: dict[str, str] = {}

    def _all(self) -> dict[str, Task]:
        if self._tasks is None:
            self._tasks = self._read()
        return self._tasks

    def _read(self) -> dict[str, Task]:
        tasks: dict[str, Task] = {}
        problems: list[str] = []
        for path in self._paths(problems):
            try:
                task = Task.load(path)
            except ConfigError as error:
                problems += error.problems
                continue
            if task.id in tasks:
                problems.append(f"{shown(path)}: id: '{task.id}' is taken by {self._files[task.id]}.")
                continue
            tasks[task.id] = task
            self._files[task.id] = shown(path)
        if problems:
            raise ConfigError(problems)
        return tasks

    def _paths(self, problems: list[str]) -> list[Path]:
        paths: dict[Path, None] = {}  # a directory given twice, or inside another, is read once
        for directory in self._directories:
            if not directory.is_dir():
                problems.append(f"{shown(directory)}: there is no such directory of tasks.")
            for path in sorted(directory.glob("*.json")) + sorted(directory.glob("*/task.json")):
                paths.setdefault(path.resolve())
        return list(paths)

    def get_task(self, task_id: str) -> Task | None:
        """One definition, or None where there is none of that id. Raises ConfigError for broken definitions."""
        return self._all().get(task_id)

    def find(self, task_id: str) -> Task:
        """One definition. Raises ConfigError, which lists what exists and guesses what was meant."""
        task = self.get_task(task_id)
        if task is None:
            known = sorted({*self._all(), *source.known(*self._directories)})
            if task_id in known:
                said = f"'{task_id}' is a repository task: it is prepared by scripts_hpc/prepare_tasks.sh {task_id}, and judged in runs"
                raise ConfigError([f"{said}, by its test scripts."])
            raise ConfigError([f"unknown task '{task_id}'; there are: {', '.join(known)}.{meant(task_id, known)}"])
        return task

    def list_tasks(self, task_type: str | None = None, difficulty: str | None = None) -> list[Task]:
        """The definitions in the order of their ids, of one type and difficulty where given."""
        return [
            task
            for _, task in sorted(self._all().items())
            if task_type in (None, task.task_type) and difficulty in (None, task.difficulty)
        ]

    def get_task_types(self) -> list[str]:
        """The types that there are tasks of."""
        return sorted({task.task_type for task in self._all().values()})

    def repository_tasks(self) -> dict[str, Source]:
        """The repository tasks below the directories, by their ids. Raises ConfigError for broken ones, and for an id that is taken."""
        self._all()  # what is wrong with definitions is said once
        found: dict[str, Source] = {}
        problems: list[str] = []
        for task_id in sorted(source.known(*self._directories)):
            try:
                if one := self.repository_task(task_id):
                    found[task_id] = one
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return found

    def repository_task(self, task_id: str) -> Source | None:
        """One repository task; None where there is none of that id. Raises ConfigError for a broken one, and for an id that is taken."""
        folder = source.known(*self._directories).get(task_id)
        if folder and task_id in self._all():
            raise ConfigError([f"{shown(folder)}: the id '{task_id}' is taken by {self._files[task_id]}."])
        return source.load(folder, task_id) if folder else None

    def register_task(self, task: Task) -> None:
        """Add a definition for this process. Raises ConfigError when the id is taken."""
        if task.id in self._all():
            raise ConfigError([f"task id '{task.id}' is taken by {self._files.get(task.id, 'another task')}."])
        self._all()[task.id] = task

    def save_task(self, task: Task, directory: str | Path) -> Path:
        """Register a definition and write it as <directory>/<id>.json. Raises ConfigError when there is one, and OSError."""
        path = Path(directory, f"{task.id}.json")
        if path.exists():
            raise ConfigError([f"{shown(path)} exists: choose another id, or delete it."])
        self.register_task(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        task.save(path)
        self._files[task.id] = shown(path)
        return path

    def create_task_config(self, task_id: str, output_path: str | Path, /, **runtime: Any) -> dict[str, Any]:
        """Write and return {task, runtime_config, created_at} for a run. Raises ConfigError for an unknown id, and OSError."""
        config = {
            "task": self.find(task_id).to_dict(),
            "runtime_config": runtime,
            "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        disk.write_json(Path(output_path), config)
        return config


def site_tasks_dir(site_name: str | None = None) -> str | None:
    """The user's own directory of tasks: `paths.tasks` of the site. Raises ConfigError for a broken site."""
    return sites.load_site(sites.pick_site(site_name)).paths.tasks


def open_registry(tasks_dir: str | Path | None = None) -> TaskRegistry:
    """The registry of the shipped tasks and of one directory more, where there is one."""
    return TaskRegistry(TEMPLATES, *([tasks_dir] if tasks_dir else []))


def default_registry() -> TaskRegistry:
    """The registry of who names none: the shipped definitions, and those of `paths.tasks` where the site can be told."""
    try:
        own = site_tasks_dir()
    except ConfigError:
        own = None  # a site that isn't set up yet; the command line says so
    return open_registry(own)
