"""What prepares a task: BioML-bench, mle-bench, this project's own generator, or a user's folder with a prepare.py.

A backend turns a task's id into a command that writes <folder>/<id>/prepared/{public,private}, and what a failed command
printed into one line for a person.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers.grading import mlebench_local
from helpers.lib.checkout import ROOT

if TYPE_CHECKING:
    from helpers.tasks.definitions import TaskRegistry

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
# folders of BioML-bench whose tasks read the same archives, which lie beside the tasks (biomlbench/data_sources/proteingym.py)
SHARED = {"proteingym-dms"}
OUTPUT_BYTES = 2**16  # of a command's output, its end, are searched for what went wrong
REASON_LENGTH = 300
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]+")


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


class Failure(NamedTuple):
    """Why a command failed, in one line.

    retry: a fault of the network; disk_full: nothing else will fit either; done: an option whose work is done nevertheless.
    """

    reason: str
    retry: bool = False
    disk_full: bool = False
    done: str = ""


class Backend(NamedTuple):
    """program: the command's name in messages. archives: a pattern of what is worth keeping for the next attempt."""

    name: str
    program: str
    archives: str = ""

    def command(
        self, task: str, folder: Path, options: Options, tasks_dir: str | None, raw: Path | None = None
    ) -> list[str]:
        """The command that prepares a task below `folder`, of raw files that lie here where `raw` is given.

        Raises Unavailable, which says how to get it.
        """
        if raw and self.name in KINDS:
            raise Unavailable(
                f"--raw is for competitions of mle-bench and folders with a prepare.py: {task} is {KINDS[self.name]}"
            )
        if self.name == "own":
            more = ["--tasks-dir", tasks_dir] if tasks_dir else []
            return [sys.executable, "-m", "helpers.tasks.cli", "generate-data", task, str(folder), *more]
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
            raise Unavailable(f"there is no command `{self.program}` on the PATH: {HOW_TO_GET[self.name]}")
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
        Backend("own", "helpers.tasks.cli generate-data"),
        Backend("local", "prepare.py"),
        Backend("biomlbench", "biomlbench", archives="raw/*.zip"),
        Backend("mlebench", "mlebench", archives="*.zip"),
    )
}
KINDS = {"own": "a task of this project, which makes its data itself", "biomlbench": "BioML-bench's"}
HOW_TO_GET = {
    "mlebench": "clone github.com/openai/mle-bench, run `git lfs pull` and `pip install .` there; "
    "or prepare it with scripts_hpc/prepare_tasks.sh, whose image has it",
    "biomlbench": "clone github.com/science-machine/biomlbench and run `pip install .` there",
}


def choose(task: str, registry: TaskRegistry | None, tasks_dir: str | None, forced: str | None = None) -> Backend:
    """The backend of a task: the forced one, else whoever knows the id. Raises ConfigError for broken definitions."""
    if forced:
        return BACKENDS[forced]
    if registry is not None and registry.get_task(task) is not None:
        return BACKENDS["own"]
    if tasks_dir and Path(tasks_dir, task, "prepare.py").is_file():
        return BACKENDS["local"]
    return BACKENDS["biomlbench" if "/" in task else "mlebench"]


def takes_options(backend: Backend, task: str, tasks_dir: str | None) -> bool:
    """Whether `Options` mean something for a task: they mean files of mle-bench and BioML-bench."""
    if backend.name == "local" and tasks_dir:
        return mlebench_local.is_competition(Path(tasks_dir, task))
    return backend.name in ("mlebench", "biomlbench")


def bytes_needed(backend: Backend, task: str, tasks_dir: str | None, raw: Path | None = None) -> int:
    """What a preparation takes at least, as far as that is known: raw files that lie here are split."""
    if raw is None and backend.name == "local" and tasks_dir:
        raw = Path(tasks_dir, task, "raw")
    if raw is None or raw.is_file():
        return raw.stat().st_size if raw else 0
    return sum(path.stat().st_size for path in raw.rglob("*") if path.is_file())


# ---- mle-bench without Kaggle


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
        raise Unavailable(f"there is no command `mlebench` on the PATH: {HOW_TO_GET['mlebench']}")
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


# ---- what went wrong

_KAGGLE_KEY = (
    "give an API token (kaggle.com, Settings) as KAGGLE_API_TOKEN or in ~/.kaggle/access_token (chmod 600), which Kaggle's client "
    "knows since 1.8; or the older kaggle.json in ~/.kaggle, ~/.config/kaggle or $KAGGLE_CONFIG_DIR, or KAGGLE_USERNAME and "
    "KAGGLE_KEY. Without Kaggle: --raw takes the zip that you fetched elsewhere"
)
_RULES = "accept them at https://www.kaggle.com/c/{name}/rules, with the account of your API token, and prepare the task again"
# Of these, the one that the output names last is the reason: what came before it was overcome. Texts of mlebench/data.py,
# mlebench/utils.py, kaggle 1.6 and 2.2 (rest.py, kaggle_api_extended.py), urllib3, requests, polaris-lib and Python itself.
KNOWN: tuple[tuple[str, str], ...] = (
    (r"must accept th(?:e|is) competition", f"the competition's rules are not accepted: {_RULES}"),
    (r"\(403\)|403 Forbidden|403 - Forbidden|403 Client Error", f"refused (403); most often the rules are not accepted: {_RULES}"),
    (
        r"Could not find kaggle\.json|you must download an API key|Authentication required to call the Kaggle API",
        f"Kaggle's credentials are missing, or not accepted: {_KAGGLE_KEY}",
    ),
    (r"\(401\)|401 - Unauthorized|401 Client Error", f"the credentials were refused (401): {_KAGGLE_KEY}"),
    (r"polaris login", "not logged in to the Polaris Hub: run `polaris login` once on this machine"),
    (
        r"[Cc]hecksums? (?:for .{1,4000} )?do(?:es)? not match",
        "checksum mismatch: not the files that the benchmark was made with; --skip-verification takes them, "
        "--overwrite-checksums records theirs as right; {again}",
    ),
    (
        r"(?:File|directory:?) [`'][^`']*/(?:competitions|tasks)/[^`']*config\.yaml[`']|Invalid task ID",
        "unknown task: {program} has none of this id, nor has this project (`scripts_hpc/tasks.sh list`) or your "
        "folder of tasks (--tasks-dir)",
    ),
    (r"\(404\)|404 Client Error|404 - Not Found", "not found (404): {line}"),
    (
        r"No module named 'kaggle\.rest'",
        "Kaggle's client is too new for mle-bench there: install kaggle<1.7 beside it, which knows kaggle.json only; or prepare it "
        "with scripts_hpc/prepare_tasks.sh, whose image knows API tokens too",
    ),
    (
        r"\['teamNameNullable', 'teamName'\] not found in axis",  # Kaggle's client 2.2: competition_leaderboard_view
        "--overwrite-leaderboard needs kaggle<1.7: newer clients give it 20 rows of a leaderboard, in a form that mle-bench doesn't "
        "read. Leave it out: all leaderboards come with mle-bench's checkout (git lfs pull)",
    ),
    (r"No module named '([\w.]+)'", "the Python package `{match}` is missing where {program} runs: install it there"),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "the server's certificate isn't trusted: set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to your site's CA bundle",
    ),
    (r"407 Proxy Authentication Required", "the proxy wants a login (407): set https_proxy"),
    (r"MemoryError|Cannot allocate memory|[Oo]ut of memory", "out of memory: fewer --threads, or a machine (a job) with more"),
)  # fmt: skip
DISK_FULL = r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]"
NETWORK = (
    r"Max retries exceeded|(?:Temporary failure in n|N)ame(?: or service not known|ResolutionError| resolution)"
    r"|Failed to resolve|Could not resolve host|Network is unreachable|No route to host"
    r"|Connection (?:refused|reset|aborted|broken|timeout|timed out)|ConnectionError|RemoteDisconnected|ChunkedEncodingError"
    r"|IncompleteRead|ReadTimeout|ConnectTimeout|[Rr]ead timed out|TimeoutError|Cannot connect to proxy"
    r"|\((?:429|50[0234])\)\s*Reason|(?:429|50[0234]) (?:Client|Server) Error|Too Many Requests"
)
# looked for where nothing else is known: mlebench/utils.py says the first of every fault on the way to Kaggle, and a question
# comes after its reason
GENERAL = (
    (r"Kaggle authentication failed", f"Kaggle's credentials don't work: {_KAGGLE_KEY}"),
    (r"EOF when reading a line", "it asked for input, which nobody can give here: run `{command}` by hand once"),
)
# mle-bench saves a leaderboard, and then stumbles over its path, unless it runs in its own checkout (mlebench/data.py)
LEADERBOARD_WRITTEN = r"ValueError: '[^'\n]*/competitions/[^'\n]*' is not in the subpath of"
SAID = re.compile(r"^(?:\w+\.)*(?:\w*(?:Error|Exception|Interrupt|Exit)|error)(?::.*)?$", re.MULTILINE)


def failure(
    backend: Backend, task: str, data_dir: Path, returncode: int, output: str, raw: Path | None = None
) -> Failure:
    """Why a command failed, from its exit code and the end of its output."""
    if re.search(LEADERBOARD_WRITTEN, output):
        return Failure("its leaderboard is there", done="--overwrite-leaderboard")
    words = {"name": task.rpartition("/")[2], "program": backend.program, "data": data_dir / task}
    words["again"] = f"delete {data_dir / task}/{words['name']}.zip, if it is there, to download it again"
    if raw or backend.name == "local":
        words["again"] = "or the raw files were changed or cut: fetch them again"
    words["command"] = f"{backend.program} prepare {'-t' if '/' in task else '-c'} {task}"
    if found := _last(output, re.compile(DISK_FULL)):
        return Failure(f"the disk is full: {_line(output, found)}", disk_full=True)
    if returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Failure(
            "killed by signal 9, most likely for lack of memory: fewer --threads, or a machine (a job) with more"
        )
    candidates = [(_last(output, re.compile(pattern)), text) for pattern, text in KNOWN]
    candidates.append((_last(output, re.compile(NETWORK)), ""))
    named = [(found, text) for found, text in candidates if found]
    if named:
        found, text = max(named, key=lambda pair: pair[0].start())
        line = _line(output, found)
        if not text:
            return Failure(f"network fault: {_cause(line)}", retry=True)
        match = found[1] if found.groups() else ""
        return Failure(text.format(line=line, match=match, **words))
    for pattern, text in GENERAL:
        if re.search(pattern, output):
            return Failure(text.format(**words))
    return Failure(_unknown(returncode, output))


def _last(output: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(output):  # noqa: B007
        pass
    return found


def _line(output: str, found: re.Match[str]) -> str:
    start = output.rfind("\n", 0, found.start()) + 1
    end = output.find("\n", found.end())
    return _short(output[start : None if end < 0 else end])


def _cause(line: str) -> str:
    """Of a long error with its causes, as urllib3 makes them, the last one."""
    return line if len(line) <= REASON_LENGTH // 2 else re.sub(r'"?\)+$', "", line.rpartition(": ")[2])


def _unknown(returncode: int, output: str) -> str:
    said = SAID.findall(output) or [line for line in output.splitlines() if CONTROL.sub("", line).strip()]
    last = _short(said[-1]).removeprefix("error: ") if said else "it printed nothing"
    return f"{_ended(returncode)}: {last}"


def _ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-returncode).name}"
    return f"ended by signal {-returncode}"


def _short(text: str) -> str:
    """One line without control characters; a long one without its middle."""
    line, half = CONTROL.sub(" ", text).strip(), REASON_LENGTH // 2
    return line if len(line) <= REASON_LENGTH else f"{line[:half]} … {line[-half:]}"


def tail(path: Path, start: int = 0) -> str:
    """The end of an output, from a position in the file on."""
    with open(path, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - OUTPUT_BYTES))
        return file.read().decode("utf-8", "replace")
