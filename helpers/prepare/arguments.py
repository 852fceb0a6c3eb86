"""What is asked of a preparation: its options, the lists of tasks, and the settings that follow from them and from the site."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.data import layout
from helpers.lib.checkout import TASKS
from helpers.prepare.backends import BACKENDS, Options
from helpers.prepare.one import Settings
from helpers.repositories import source

if TYPE_CHECKING:
    from helpers.config.schema import Site
    from helpers.tasks.catalogue import TaskRegistry

JOBS_FILE = "scripts/gcp-deploy/production-jobs.txt"
FLAGS = tuple(f"--{name.replace('_', '-')}" for name in Options._fields)
EPILOG = """\
examples:
  python -m helpers.prepare_all_tasks --all
  python -m helpers.prepare_all_tasks classification_basic spaceship-titanic
  python -m helpers.prepare_all_tasks --jobs my-jobs.txt --threads 8
  python -m helpers.prepare_all_tasks --task-list failed_tasks.txt --threads 2

What a command prints goes to <data>/.preparing/logs/<id>.log; its failure is told in one line. Ctrl-C ends all commands at once.
The list of --failed-tasks holds what is still to be done, at every moment of a run: all tasks at first, fewer as they get done;
it is deleted when none is left.

Exit codes: 0 all are prepared; 1 a task failed; 2 usage or configuration; 130 interrupted.
"""


class UsageError(Exception):
    """Wrong usage; the message is for the user."""


def read_lines(path: str) -> list[tuple[int, str]]:
    """The lines of a file that are neither blank nor comments, with their numbers. Raises UsageError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; name tasks, or a file with --task-list or --jobs") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not a text file in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def read_task_list(path: str) -> list[str]:
    """The tasks of a file with an id a line, in their order, each once. Raises UsageError, which names lines that hold none."""
    lines = read_lines(path)
    bad = [f"line {number}: {line[:80]!r}" for number, line in lines if not layout.is_id(line)]
    if bad:
        hint = "; is this a jobs file (--jobs)?" if "," in bad[0] else _taken(line for _, line in lines)
        raise UsageError(f"{path}: not a task id: {', '.join(bad[:5])}{' …' if bad[5:] else ''}{hint}")
    return list(dict.fromkeys(line for _, line in lines))


def _taken(words: Iterable[str]) -> str:
    """That a word would be one, but for the folders that lie beside those of tasks."""
    taken = sorted({first for word in words if (first := word.partition("/")[0]) in layout.TAKEN})
    return f"; {', '.join(map(repr, taken))}: names of other folders beside those of tasks" if taken else ""


def read_jobs(path: str) -> tuple[list[str], list[str]]:
    """The tasks of a file of lines `agent,task_id`, sorted, each once, and a warning for each line without one. Raises UsageError."""
    tasks, warnings = set(), []
    for number, line in read_lines(path):
        task = line.partition(",")[2].strip()
        if layout.is_id(task):
            tasks.add(task)
        else:
            warnings.append(f"{path}, line {number}: ignored, it is not `agent,task_id`: {line[:80]!r}")
    if warnings:
        warnings.append(f"{path}: {len(warnings)} {'line' if len(warnings) == 1 else 'lines'} ignored")
    return sorted(tasks), warnings


def known_tasks(registry: TaskRegistry | None, tasks_dir: str | None) -> list[str]:
    """What --all names: this project's tasks that have data, and those in the user's folder. The benchmarks' are named one by one."""
    if registry is None:
        raise UsageError(
            "--all names this project's tasks and your own, which no benchmark's command prepares: leave --backend out"
        )
    folders = Path(tasks_dir).glob("*/prepare.py") if tasks_dir else []
    defined = (task.id for task in registry.list_tasks() if task.has_data)
    repositories = filter(layout.is_id, source.known(TASKS, tasks_dir))
    return sorted({*defined, *repositories, *(path.parent.name for path in folders if layout.is_id(path.parent.name))})


def tasks_of(options: argparse.Namespace, known: Callable[[], list[str]]) -> tuple[list[str], list[str]]:
    """The tasks that are asked for, and warnings. known: what --all names. Raises UsageError."""
    if sum(map(bool, (options.tasks, options.task_list or options.jobs, options.all))) > 1:
        raise UsageError("give ids of tasks, a file (--task-list, --jobs), or --all: one of them")
    if options.tasks:
        bad = [task for task in options.tasks if not layout.is_id(task)]
        if bad:
            raise UsageError(f"not a task id: {', '.join(map(repr, bad))}{_taken(bad)}")
        if options.raw and len(set(options.tasks)) > 1:
            raise UsageError("--raw goes with one task: each has raw files of its own")
        if options.raw and not os.path.exists(os.path.expanduser(options.raw)):
            raise UsageError(f"--raw {options.raw}: there is no such file or folder")
        return list(dict.fromkeys(options.tasks)), []
    if options.raw:
        raise UsageError("--raw goes with one task, named on the command line")
    path = options.task_list or options.jobs or (JOBS_FILE if os.path.exists(JOBS_FILE) else None)
    if options.all or path is None:
        tasks = known()
        said = f"no task is named: these {len(tasks)} are, all that are known here (--all): {', '.join(tasks)}"
        return tasks, [] if options.all else [said]
    tasks, warnings = (read_task_list(path), []) if options.task_list else read_jobs(path)
    if not tasks:
        raise UsageError("\n".join([*warnings, f"{path}: there are no tasks in it"]))
    return tasks, warnings


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _number(kind: type, least: float, *, above: bool = False) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
        if not (value > least if above else value >= least):  # also refuses nan
            raise argparse.ArgumentTypeError(
                f"{text} is too small: it must be {'above' if above else 'at least'} {least}"
            )
        return value

    return read


def parser() -> argparse.ArgumentParser:
    """The options, also for who runs many of these (helpers/jobs/prepare_array.py)."""
    made = argparse.ArgumentParser(
        prog="prepare_all_tasks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add = made.add_argument_group("which tasks").add_argument
    add("tasks", nargs="*", metavar="TASK", help="a task's id; without any, a file tells them, or it is --all")
    add(
        "--all",
        action="store_true",
        help="all tasks of this project and of your folder; the benchmarks' are named one by one",
    )
    add("--task-list", metavar="PATH", help="file with a task id a line; wins over --jobs")
    add("--jobs", metavar="PATH", help=f"file with lines `agent,task_id` (default: {JOBS_FILE}, where it is)")
    raw = "the raw files of the one task that is named: its zip as Kaggle gives it, or a folder; nothing is downloaded"
    add("--raw", metavar="FILE|FOLDER", help=raw)
    add = made.add_argument_group("how").add_argument
    add("--threads", type=_number(int, 1), default=4, metavar="N", help="tasks at once (default: %(default)s)")
    add("--force", action="store_true", help="prepare again what is prepared")
    add("--backend", choices=BACKENDS, help="instead of the one that the id tells")
    tries = "tries more after a fault of the network (default: %(default)s)"
    add("--retries", type=_number(int, 0), default=2, metavar="N", help=tries)
    wait = "pause before the first of them; doubles each time, give or take a quarter (default: %(default)g)"
    add("--retry-wait", type=_number(float, 0), default=5.0, metavar="SECONDS", help=wait)
    limit = _number(float, 0, above=True)
    add("--timeout", type=limit, metavar="SECONDS", help="for each task, with its retries (default: none)")
    least = "start no task with less on the disk (default: %(default)g)"
    add("--min-free", type=_number(float, 0), default=1.0, metavar="GB", help=least)
    add = made.add_argument_group(
        "for tasks of mle-bench and BioML-bench, without effect on others (alone: true; or --option=true, --option=false)"
    ).add_argument
    texts = (
        "keep the raw files beside the prepared ones",
        "record the checksums found as right, and prepare again",
        "download the leaderboard anew, and prepare again",
        "don't compare checksums",
    )
    for flag, text in zip(FLAGS, texts, strict=True):
        add(flag, nargs="?", const=True, type=_boolean, default=False, metavar="BOOL", help=text)
    add = made.add_argument_group("where").add_argument
    add("--data-dir", metavar="PATH", help="folder of the prepared tasks (default: paths.data of the site)")
    add("--tasks-dir", metavar="PATH", help="folder of your own tasks (default: paths.tasks of the site)")
    add("--site", help="a name in site-config/, or the path of a YAML file (default: $HPC_SITE, else by host name)")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override a key of the site")
    add("--log-file", default="task_preparation.log", metavar="PATH", help="appended to (default: %(default)s)")
    add("--failed-tasks", default="failed_tasks.txt", metavar="PATH", help="what is left (default: %(default)s)")
    add("--events", metavar="PATH", help=argparse.SUPPRESS)
    return made


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line. `--keep-raw` alone means true, and never takes the next word for its value."""
    rest = argv.index("--") if "--" in argv else len(argv)
    words = [f"{word}=true" if word in FLAGS and at < rest else word for at, word in enumerate(argv)]
    return parser().parse_intermixed_args(words)


def tasks_and_folder(options: argparse.Namespace) -> tuple[TaskRegistry | None, str | None]:
    if options.backend in ("biomlbench", "mlebench"):
        return None, None
    _, _, tasks_dir, registry, _ = _from_site(options)
    return registry, tasks_dir


def settings_of(options: argparse.Namespace, count: int) -> Settings:
    """The settings of a run of so many tasks; the data folder is made where it isn't there. Raises UsageError."""
    data_dir, data_from, tasks_dir, registry = options.data_dir, "--data-dir", options.tasks_dir, None
    runs_dir = None
    # without the site where it can tell nothing more: to read it takes longer than all the rest
    if options.backend not in ("biomlbench", "mlebench") or not data_dir:
        data_dir, data_from, tasks_dir, registry, runs_dir = _from_site(options)
    data_dir, tasks_dir = (path and os.path.abspath(os.path.expanduser(path)) for path in (data_dir, tasks_dir))
    try:
        os.makedirs(data_dir, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{data_dir} ({data_from}): can't be made ({error.strerror}); name another folder") from error
    return _settings(options, Path(data_dir), data_from, tasks_dir, registry, runs_dir)._replace(
        at_once=min(options.threads, count)
    )


def settings_at(site: Site, options: argparse.Namespace, registry: TaskRegistry) -> Settings:
    """The settings of a preparation at a site, whose data folder is there."""
    paths = site.paths
    return _settings(options, Path(paths.data), f"paths.data of site {site.name}", paths.tasks, registry, paths.runs)


def _settings(options: argparse.Namespace, data_dir: Path, data_from: str, *rest: Any) -> Settings:
    tasks_dir, registry, runs_dir = rest
    return Settings(
        data_dir=data_dir,
        data_from=data_from,
        tasks_dir=tasks_dir,
        registry=registry,
        backend=options.backend,
        options=Options(*(getattr(options, name) for name in Options._fields)),
        force=options.force,
        at_once=options.threads,
        retries=options.retries,
        retry_wait=options.retry_wait,
        timeout=options.timeout,
        min_free=options.min_free,
        runs_dir=runs_dir,
        raw=Path(os.path.abspath(os.path.expanduser(options.raw))) if options.raw else None,
    )


def _site(options: argparse.Namespace) -> Site | None:
    """The site, where something of it is needed; None where it can't tell anything, or none fits and none was asked for."""
    from helpers.config.sites import load_site, pick_site
    from helpers.lib.errors import ConfigError

    if options.data_dir and options.tasks_dir:
        return None
    in_environment = any(re.fullmatch(r"HPC_SITE|HPC_.+__.+", name) for name in os.environ)
    asked_for = options.site or options.overrides or in_environment
    try:
        name = pick_site(options.site)
    except ConfigError:
        if asked_for or not options.data_dir:
            raise
        return None
    return load_site(name, options.overrides)


def _from_site(options: argparse.Namespace) -> tuple[str, str, str | None, Any, str | None]:
    from helpers.lib.errors import ConfigError
    from helpers.tasks.catalogue import open_registry

    data_dir, data_from, tasks_dir, runs_dir = options.data_dir, "--data-dir", options.tasks_dir, None
    try:
        if site := _site(options):
            tasks_dir, runs_dir = tasks_dir or site.paths.tasks, site.paths.runs
        if not data_dir:
            data_dir, data_from = site.paths.data, f"paths.data of site {site.name}"
        registry = open_registry(tasks_dir)
        registry.get_task_types()  # reads all definitions: what is wrong with them is said before anything starts
    except ConfigError as error:
        raise UsageError("\n".join(error.problems)) from error
    return data_dir, data_from, tasks_dir, registry, runs_dir
