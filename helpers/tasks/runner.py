"""Runs a program on a task as a process of this machine: a workspace, an environment, a time limit, and its results.

    runner = TaskRunner("./task_workspace", data_dir)
    runner.run_task("classification_basic", ["python3", "train.py"], timeout=600)
    runner.evaluate_task_results("classification_basic")

The program runs as you, without a container: it gets a copy of the public half, but could look for the answers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.config import sites
from helpers.data import layout
from helpers.lib import disk, folders
from helpers.lib.errors import ConfigError
from helpers.runs import metadata as metadata_module
from helpers.tasks import processes
from helpers.tasks.catalogue import TaskRegistry
from helpers.tasks.definitions import Task


class TaskRunner:
    """Runs programs on tasks. work_dir: where task_<id>/{data,code,results,logs} are made, one run of a task at a time.

    data_dir: the prepared tasks; default paths.data of the site, else <work_dir>/data; what is missing is prepared.
    output_dir: where task_<id>_results.json and task_<id>_evaluation.json are written; default work_dir.
    registry, validator: others than the usual ones (TaskRegistry, TaskValidator).
    """

    def __init__(
        self,
        work_dir: str | Path = "./task_workspace",
        data_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
        *,
        registry: TaskRegistry | None = None,
        validator: Any = None,
    ):
        self.work_dir = Path(work_dir).absolute()
        self.data_dir = Path(data_dir or _default_data_dir(self.work_dir)).absolute()
        self.output_dir = Path(output_dir or work_dir).absolute()
        self._registry = registry
        self._validator = validator

    @property
    def registry(self) -> TaskRegistry:
        if self._registry is None:
            from helpers.tasks.catalogue import default_registry

            self._registry = default_registry()
        return self._registry

    def workspace(self, task_id: str) -> Path:
        """The folder of a task's runs."""
        return self.work_dir / f"task_{task_id}"

    def run_task(
        self,
        task_id: str,
        command: str | Sequence[str],
        timeout: float | None = None,
        *,
        variables: dict[str, str] | None = None,
        keep_data: bool = True,
    ) -> dict[str, Any]:
        """Run a command in the task's workspace; returns and writes its record, task_<id>_results.json.

        timeout: seconds, default the task's estimated_time; when it is over, or at Ctrl-C, all processes of the command end.
        variables: more of the environment. keep_data: whether the copy of the data stays in the workspace. The record: task_id,
        task_name, success (it ended by itself with 0), execution_time (seconds), return_code, stdout and stderr (the ends of
        them), environment, timestamp, timed_out, and error (one line or null). Raises ConfigError, and OSError.
        """
        task = self.registry.find(task_id)
        command = shlex.split(command) if isinstance(command, str) else [str(part) for part in command]
        limit = task.estimated_time if timeout is None else timeout
        if not command or limit <= 0:
            raise ConfigError([f"{task_id}: needs a command, and a time limit above 0 (found {command} and {limit})."])
        prepare_data(task, self.data_dir)
        folder = self.workspace(task_id)
        folder.mkdir(parents=True, exist_ok=True)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            self._forget(task_id)
            command = [*_absolute(command[:1], "/"), *_absolute(command[1:], "")]
            try:
                self._furnish(task, folder, command, limit)
                return self._run(task, folder, command, limit, (variables or {}) | _variables(task, folder, limit))
            finally:
                if not keep_data:
                    with contextlib.suppress(OSError):
                        folders.remove(folder / "data")

    def _record(self, task_id: str, kind: str) -> Path:
        return self.output_dir / f"task_{task_id}_{kind}.json"

    def _forget(self, task_id: str) -> None:
        # records of a former run must not pass for those of this one, should it be killed
        for kind in ("results", "evaluation"):
            self._record(task_id, kind).unlink(missing_ok=True)

    def _furnish(self, task: Task, folder: Path, command: list[str], limit: float) -> None:
        """Fill the workspace: fresh folders, a copy of the public data, and what the program may want to read."""
        _put_aside(folder / "results", folder / "logs")
        folders.remove(folder / "data")
        for name in ("code", "results", "logs"):
            (folder / name).mkdir(exist_ok=True)
        if task.has_data:
            _copy(layout.prepared(self.data_dir, task.id) / "public", folder / "data")
        else:
            (folder / "data").mkdir()
        for script in [part for part in command[1:] or command if Path(part).is_file()][:1]:
            shutil.copy(script, folder / "code")
        self.registry.create_task_config(task.id, folder / "task_config.json", time_limit=limit, command=command)
        (folder / "instructions.txt").write_text(_instructions(task, limit), encoding="utf-8")

    def _run(
        self, task: Task, folder: Path, command: list[str], limit: float, variables: dict[str, str]
    ) -> dict[str, Any]:
        record = {
            "task_id": task.id,
            "task_name": task.name,
            "success": False,
            "execution_time": 0.0,
            "return_code": None,
            "stdout": "",
            "stderr": "",
            "environment": variables | {"python": platform.python_version(), "platform": platform.platform()},
            "timestamp": datetime.now().astimezone().isoformat(timespec="seconds"),
            "timed_out": False,
            "error": None,
        }
        with open(folder / "logs" / "stdout.log", "w+b") as out, open(folder / "logs" / "stderr.log", "w+b") as err:
            started = time.monotonic()
            try:
                record["return_code"], record["timed_out"] = processes.run(command, folder, variables, limit, out, err)
            except BaseException as error:
                record["error"] = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
                raise
            finally:
                record["execution_time"] = round(time.monotonic() - started, 3)
                record |= {"stdout": processes.tail(out), "stderr": processes.tail(err)}
                record["error"] = record["error"] or _why(record, limit)
                record["success"] = record["error"] is None
                disk.write_json(self._record(task.id, "results"), record)
        return record

    def evaluate_task_results(self, task_id: str, results_dir: str | Path | None = None) -> dict[str, Any]:
        """Validate the results of the last run, or those in another folder; returns and writes task_<id>_evaluation.json.

        Raises ConfigError for a folder without results, and OSError.
        """
        task = self.registry.find(task_id)
        found = find_results(results_dir or self.workspace(task_id) / "results", task_id)
        seconds = found.execution_time
        if results_dir is None:
            seconds = (disk.read_json(self._record(task_id, "results")) or {}).get("execution_time")
        evaluation = self._usual_validator().evaluate_task(task, found.folder, seconds)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        disk.write_json(self._record(task_id, "evaluation"), evaluation)
        return evaluation

    def _usual_validator(self) -> Any:
        if self._validator is None:
            from helpers.tasks.judging.validator import TaskValidator

            self._validator = TaskValidator(self.data_dir)
        return self._validator


def site_data_dir() -> str:
    """paths.data of the site. Raises ConfigError."""
    return sites.load_site(sites.pick_site(None)).paths.data


def _default_data_dir(work_dir: Path) -> str | Path:
    try:
        return site_data_dir()
    except ConfigError:
        return work_dir / "data"  # no site is set up yet


def prepare_data(task: Task, data_dir: str | Path) -> bool:
    """Prepare a task where its data are missing or damaged; whether that was so. Raises ConfigError, and OSError."""
    if not task.has_data or layout.problem(data_dir, task.id) is None:
        return False
    from helpers.tasks.synthetic.prepare import prepare

    return prepare(task, data_dir)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other run works in this folder. Raises ConfigError when one does."""
    with open(folder / ".lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                said = f"another run works in {folder}: wait for its end, or give another work_dir (--work-dir)."
                raise ConfigError([said]) from None
            if error.errno not in layout.NO_LOCKS:
                raise
        yield


def _absolute(parts: list[str], separator: str) -> list[str]:
    # the command starts in the workspace, but its files were named from here
    return [str(Path(part).absolute()) if separator in part and Path(part).is_file() else part for part in parts]


def _put_aside(*folders: Path) -> None:
    """Rename what former runs left, all with the same number: results -> results.1. Empty folders stay."""
    left = [folder for folder in folders if folder.is_symlink() or folder.is_file() or _entries(folder)]
    number = 1
    while left and any(os.path.lexists(f"{folder}.{number}") for folder in folders):
        number += 1
    for folder in left:
        folder.rename(f"{folder}.{number}")


def _entries(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _copy(source: Path, target: Path) -> None:
    # not shutil.copytree: its errors don't tell a full disk
    for folder, _, names in os.walk(source, followlinks=True):
        there = target / Path(folder).relative_to(source)
        there.mkdir()
        for name in names:
            shutil.copyfile(Path(folder, name), there / name)


def _instructions(task: Task, limit: float) -> str:
    outputs = ", ".join(task.evaluation_criteria.required_outputs or task.expected_outputs) or "submission.csv"
    return f"""{task.name}

{task.description}

{task.instructions}

The data lie in $DATA_DIR; description.md there tells what they are. Write to $RESULTS_DIR: {outputs}.
You have {limit:g} seconds.
"""


def _variables(task: Task, folder: Path, limit: float) -> dict[str, str]:
    return {
        "TASK_ID": task.id,
        "TASK_TYPE": task.task_type,
        "TASK_DIR": str(folder),
        "DATA_DIR": str(folder / "data"),
        "CODE_DIR": str(folder / "code"),
        "RESULTS_DIR": str(folder / "results"),
        "LOGS_DIR": str(folder / "logs"),
        "SUBMISSION_DIR": str(folder / "results"),
        "EXPERIMENT_NAME": f"task_{task.id}",
        "EXPERIMENT_DIR": str(folder),
        "TIME_LIMIT_SECS": str(max(1, int(limit))),
    }


def _why(record: dict[str, Any], limit: float) -> str | None:
    """What went wrong, in one line."""
    if record["timed_out"]:
        return f"ended by its time limit of {limit:g} s"
    code = record["return_code"]
    if code == 0:
        return None
    if code < 0:
        return f"ended by {next((one.name for one in signal.Signals if one == -code), f'signal {-code}')}"
    last = (record["stderr"].strip() or record["stdout"].strip()).rpartition("\n")[2]
    return f"ended with exit code {code}" + (f": {last[:300]}" if last else "")


@dataclass(frozen=True)
class Results:
    """An agent's results. execution_time: seconds that it took; data_dir: where its task lies; None where that isn't known."""

    folder: Path
    execution_time: float | None = None
    data_dir: str | None = None


def find_results(path: str | Path, task_id: str) -> Results:
    """The results in a folder: the results themselves, a workspace of TaskRunner, or a run's folder of run_workflow.sh.

    Raises ConfigError when there are none, or those of another task.
    """
    path = Path(path).absolute()
    run = _run_of(path)
    metadata = disk.read_json(run / "run_metadata.json") if run else None
    if metadata is None:
        return _own_results(path, task_id)
    if metadata.get("competition") != task_id:
        raise ConfigError([f"{run} is a run of {metadata.get('competition')}, not of {task_id}."])
    workflow = disk.read_json(run.parent / "workflow.json") or {}
    data_dir = workflow.get("config", {}).get("paths", {}).get("data")
    return Results(_folder(run / "submission"), _seconds(metadata), data_dir)


def _run_of(path: Path) -> Path | None:
    """The run whose folder this is, or whose submission; None elsewhere: deeper in a run, its agent wrote what looks like one."""
    groups = [folder for folder in (path, *path.parents) if (folder / "workflow.json").is_file()]
    if not groups:
        return None
    run, below = groups[-1], path.relative_to(groups[-1]).parts
    if not below:
        return _only_run(run)
    return run / below[0] if below[1:] in ((), ("submission",)) else None


def _only_run(group: Path) -> Path:
    found = metadata_module.runs_of(group)
    if len(found) != 1:
        names = ", ".join(run.directory.name for run in found) or "no run"
        raise ConfigError([f"{group} holds {names}: name the folder of one run."])
    return found[0].directory


def _own_results(path: Path, task_id: str) -> Results:
    workspace = path.parent if path.name == "results" else path
    if workspace.name != f"task_{task_id}" or not (workspace / "task_config.json").is_file():
        if not path.is_dir():
            raise ConfigError([f"{path}: there is no such folder of results."])
        return Results(path)
    record = disk.read_json(workspace.parent / f"{workspace.name}_results.json") or {}
    return Results(_folder(workspace / "results"), record.get("execution_time"))


def _folder(path: Path) -> Path:
    # whoever made the results could have put a link to somebody else's in their place
    if path.is_symlink() or not path.is_dir():
        raise ConfigError([f"{path}: there is no such folder of results, or it is a link."])
    return path


def _seconds(metadata: dict[str, Any]) -> float | None:
    times = [metadata.get(f"agent_{word}_at") for word in ("started", "ended")]
    if not all(isinstance(one, str) for one in times):
        return None
    started, ended = (datetime.strptime(one, "%Y-%m-%dT%H:%M:%SZ") for one in times)
    return (ended - started).total_seconds()
