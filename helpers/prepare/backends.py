"""What prepares a task: BioML-bench, mle-bench, this project's own generator, a user's folder with a prepare.py, or one with a repository.

A backend turns a task's id into a command that writes <folder>/<id>/prepared/{public,private}, and what a failed command
printed into one line for a person.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers.grading import mlebench_local
from helpers.lib import disk
from helpers.lib.checkout import ROOT
from helpers.repositories import source

if TYPE_CHECKING:
    from helpers.tasks.catalogue import TaskRegistry

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
# folders of BioML-bench whose tasks read the same archives, which lie beside the tasks (biomlbench/data_sources/proteingym.py)
SHARED = {"proteingym-dms"}


class Unavailable(Exception):
    """A backend can't be asked here; the message is for the user."""


class Options(NamedTuple):
    """What `biomlbench prepare` and `mlebench prepare` take beside the task (biomlbench/cli.py, mlebench/cli.py)."""

    keep_raw: bool = False
    overwrite_checksums: bool = False
    overwrite_leaderboard: bool = False
    skip_verification: bool = False

    @property
    def overwrites(self) -> bool:
        """Whether they mean that what is prepared is prepared again."""
        return self.overwrite_checksums or self.overwrite_leaderboard

    @property
    def flags(self) -> list[str]:
        return [f"--{name.replace('_', '-')}" for name, given in self._asdict().items() if given]


class Backend(NamedTuple):
    """program: the command's name in messages. archives: a pattern of what is worth keeping for the next attempt.

    no_raw: what a task of it is, where it can't be made of raw files that somebody fetched. how_to_get: the program.
    """

    name: str
    program: str
    archives: str = ""
    no_raw: str = ""
    how_to_get: str = "install it, or put its folder on the PATH"

    def command(
        self, task: str, folder: Path, options: Options, tasks_dir: str | None, raw: Path | None = None
    ) -> list[str]:
        """The command that prepares a task below `folder`, of raw files that lie here where `raw` is given.

        Raises Unavailable, which says how to get it.
        """
        if raw and self.no_raw:
            raise Unavailable(
                f"--raw is for competitions of mle-bench and folders with a prepare.py: {task} is {self.no_raw}"
            )
        if self.name == "own":
            more = ["--tasks-dir", tasks_dir] if tasks_dir else []
            return [sys.executable, "-m", "helpers.tasks.cli", "generate-data", task, str(folder), *more]
        if self.name == source.KIND:
            found = source.find(task, tasks_dir)
            if found is None:
                raise Unavailable(
                    f"{task} is no repository task: no {source.META} lies in a folder of that name in --tasks-dir"
                )
            return [sys.executable, "-m", "helpers.repositories.prepare", str(found), task, str(folder)]
        if self.name == "local":
            if not tasks_dir:
                raise Unavailable("local tasks lie in --tasks-dir or paths.tasks of the site; neither is set")
            where = Path(tasks_dir, task)
            if mlebench_local.is_competition(where):
                return _mlebench_local(task, folder, options, raw_files(raw or where / "raw", task), where)
            more = ["--raw", str(raw)] if raw else []
            return [sys.executable, "-m", "helpers.tasks.local_folder", tasks_dir, task, str(folder), *more]
        if raw:
            return _mlebench_local(task, folder, options, raw_files(raw, task))
        program = shutil.which(self.program)
        if program is None:
            raise Unavailable(f"there is no command `{self.program}` on the PATH: {self.how_to_get}")
        which = "-t" if self.name == "biomlbench" else "-c"
        return [os.path.abspath(program), "prepare", which, task, *options.flags, "--data-dir", str(folder)]

    def environment(self, at_once: int) -> dict[str, str]:
        """A command's environment; where several run at once, each computes on its share of the CPUs."""
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # all that it said is there, however it ends
        if at_once > 1:
            share = str(max(1, len(os.sched_getaffinity(0)) // at_once))
            env = {**dict.fromkeys(THREAD_VARIABLES, share), **env}
        if self.name != "biomlbench":
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
        return env

    # ---- what is lent to a preparation, and kept of it: downloads

    def lend(self, task: str, folder: Path, data_dir: Path) -> None:
        """Link earlier downloads of a task, and what it shares with others, into the folder where it is prepared."""
        for path in self._archives(data_dir / task):
            copy = folder / task / path.relative_to(data_dir / task)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # no hard links here: it is downloaded again
                os.link(path, copy)
        for path in shared(task, data_dir):
            (folder / task).parent.mkdir(parents=True, exist_ok=True)
            (folder / task).with_name(path.name).symlink_to(path)

    def keep(self, task: str, folder: Path, data_dir: Path) -> None:
        """Save the whole archives of a preparation that failed, so that they aren't downloaded again."""
        import zipfile

        for path in self._archives(folder / task):
            target = data_dir / task / path.relative_to(folder / task)
            if not target.exists() and zipfile.is_zipfile(path):  # one that was cut has no directory at its end
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)

    def share(self, task: str, folder: Path, data_dir: Path) -> None:
        """Move what a successful preparation made for the tasks beside it to where `lend` finds it."""
        if not needs_sharing(task):
            return
        for path in (folder / task).parent.iterdir():
            target = (data_dir / task).with_name(path.name)
            if path != folder / task and not path.is_symlink() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)

    def clear(self, task: str, folder: Path) -> None:
        """Delete what an attempt left, but for its archives: Kaggle's client resumes a download."""
        kept = set(self._archives(folder / task))
        parents = {parent for path in kept for parent in path.parents}
        for path in sorted(folder.rglob("*"), reverse=True):  # children before their parents
            if path.is_dir() and not path.is_symlink():
                if path not in parents:
                    path.rmdir()
            elif path not in kept and not (path.is_symlink() and path.parent == (folder / task).parent):
                path.unlink()

    def _archives(self, folder: Path) -> list[Path]:
        return list(folder.glob(self.archives)) if self.archives else []


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("own", "helpers.tasks.cli generate-data", no_raw="a task of this project, which makes its data itself"),
        Backend("local", "prepare.py"),
        Backend(
            source.KIND, "helpers.repositories.prepare", no_raw="a repository, which says itself where it comes from"
        ),
        Backend(
            "biomlbench",
            "biomlbench",
            archives="raw/*.zip",
            no_raw="BioML-bench's",
            how_to_get="clone github.com/science-machine/biomlbench and run `pip install .` there",
        ),
        Backend(
            "mlebench",
            "mlebench",
            archives="*.zip",
            how_to_get="clone github.com/openai/mle-bench, run `git lfs pull` and `pip install .` there; "
            "or prepare it with scripts_hpc/prepare_tasks.sh, whose image has it",
        ),
    )
}


def choose(task: str, registry: TaskRegistry | None, tasks_dir: str | None, forced: str | None = None) -> Backend:
    """The backend of a task: the forced one, else whoever knows the id. Raises ConfigError for broken definitions."""
    if forced:
        return BACKENDS[forced]
    if registry is not None and registry.get_task(task) is not None:
        return BACKENDS["own"]
    if source.find(task, tasks_dir):
        return BACKENDS[source.KIND]
    if tasks_dir and Path(tasks_dir, task, "prepare.py").is_file():
        return BACKENDS["local"]
    return BACKENDS["biomlbench" if "/" in task else "mlebench"]


def takes_options(backend: Backend, task: str, tasks_dir: str | None) -> bool:
    """Whether `Options` mean something for a task: they mean files of mle-bench and BioML-bench."""
    if backend.name == "local" and tasks_dir:
        return mlebench_local.is_competition(Path(tasks_dir, task))
    return backend.name in ("mlebench", "biomlbench")


def downloads(backend: Backend, task: str, tasks_dir: str | None, raw: Path | None = None) -> str:
    """How a task that must be downloaded may be prepared without the internet, in a few words; empty where nothing is downloaded."""
    if backend.name == source.KIND and (found := source.find(task, tasks_dir)):
        place = ((disk.read_json(found / source.META) or {}).get("repo") or {}).get("git_url")
        return "give a clone of it as repo.git_url" if source.is_remote(str(place)) else ""
    return (
        "fetch its zip by hand and give it with --raw" if backend.name in ("mlebench", "biomlbench") and not raw else ""
    )


def bytes_needed(backend: Backend, task: str, tasks_dir: str | None, raw: Path | None = None) -> int:
    """What a preparation takes at least, as far as that is known: raw files that lie here are split."""
    if raw is None and backend.name == "local" and tasks_dir:
        raw = Path(tasks_dir, task, "raw")
    if raw is None or raw.is_file():
        return raw.stat().st_size if raw else 0
    return sum(path.stat().st_size for path in raw.rglob("*") if path.is_file())


def raw_files(raw: Path, task: str) -> Path:
    """Where a competition's raw files lie: its zip, also in a folder by that name, or else the folder. Raises Unavailable."""
    if (raw / f"{task}.zip").is_file():
        return raw / f"{task}.zip"
    if not raw.exists():
        raise Unavailable(f"{raw}: there is no such file or folder; it holds the competition's zip, or the files of it")
    if raw.is_dir() and next(raw.iterdir(), None) is None:
        raise Unavailable(f"{raw} is empty: the competition's zip, or the files of it, belong there")
    return raw


def _mlebench_local(task: str, folder: Path, options: Options, raw: Path, where: Path | None = None) -> list[str]:
    if options.overwrite_checksums and raw.is_dir():
        raise Unavailable(f"--overwrite-checksums records the zip's too, and {raw} is a folder: give the zip")
    if options.overwrite_leaderboard:
        raise Unavailable("--overwrite-leaderboard downloads one, and nothing is downloaded here: leave it out")
    more = ["--folder", str(where)] if where else []
    command = [
        _mlebench_python(),
        "-m",
        "helpers.grading.mlebench_local",
        task,
        *options.flags,
        "--data-dir",
        str(folder),
    ]
    return [*command, "--raw", str(raw), *more]


# what pip writes into a command's first line, or behind `exec` where the path is too long for that
INTERPRETER = re.compile(r"^(?:#!\s*|'{3}exec' )\"?(/[^\"\n]*?python[\d.]*)\"?(?:\s|$)", re.MULTILINE)


def _mlebench_python() -> str:
    """The Python that the command `mlebench` runs in. Raises Unavailable."""
    program = shutil.which("mlebench")
    if program is None:
        raise Unavailable(f"there is no command `mlebench` on the PATH: {BACKENDS['mlebench'].how_to_get}")
    with open(program, encoding="utf-8", errors="replace") as file:
        found = INTERPRETER.search(file.read(4096))
    if found is None:
        raise Unavailable(f"{program} doesn't tell in which Python mle-bench is installed: install it with pip")
    words = found[1].split()
    if os.path.basename(words[0]) == "env":  # the first one on the PATH, then
        return shutil.which(words[-1]) or words[-1]
    return found[1]


def needs_sharing(task: str) -> bool:
    """Whether a task reads archives that it shares with the tasks beside it."""
    return task.partition("/")[0] in SHARED


def shared(task: str, data_dir: Path) -> list[Path]:
    """The archives that lie beside a task, for it and others."""
    folder = data_dir / task.partition("/")[0]
    if not needs_sharing(task) or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not any((path / name).exists() for name in ("prepared", "raw"))]
