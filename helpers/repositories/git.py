"""Git over what a stranger wrote: settings of ours alone, in a git folder of ours.

An agent may have left hooks, filters, attributes, an fsmonitor, a `.git` of any kind, or a program called `git`. None of them acts:
git is found outside of the agent's folder, reads no settings of a system, a person or a repository that isn't ours, and is
never pointed at the agent's `.git`. https://git-scm.com/docs/git#_environment_variables, https://git-scm.com/docs/gitattributes
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from helpers.lib.errors import Infrastructure

SECONDS = 600.0  # all that git does for one repository
MOST_SAID = 64 * 1024  # bytes of git's own words
CHUNK = 1 << 20
DISK_SIGNS = ("No space left on device", "Disk quota exceeded", "Input/output error")
BRANCH = "refs/heads/task"  # of a prepared repository; its history is this one commit

# Larger files are compared as binary ones: a file of nothing but line ends would need a hundred times its size.
SETTINGS = """\
[core]
	repositoryformatversion = 0
	bare = {bare}
	fileMode = true
	symlinks = true
	ignoreCase = false
	precomposeUnicode = false
	autocrlf = false
	eol = lf
	safecrlf = false
	quotePath = true
	logAllRefUpdates = false
	compression = 1
	bigFileThreshold = 16m
"""
# Given on the command line too, which wins over whatever a later `git config` of a test script may have left.
OURS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.eol=lf",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.quotePath=true",
    # names that Windows or macOS would take for others are files like any here
    "core.protectNTFS=false",
    "core.protectHFS=false",
    "core.sshCommand=false",
    "core.pager=cat",
    "credential.helper=",
    "protocol.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "diff.external=",
    "safe.directory=*",
    "apply.whitespace=nowarn",
    "fastimport.unpackLimit=1",
)
# Stands above every .gitattributes of a work tree or a commit: what is stored is what lies there, byte for byte.
ATTRIBUTES = (
    "* -text !eol -ident -filter !working-tree-encoding !diff !merge !whitespace !export-subst !export-ignore\n"
)


class Failed(Exception):
    """Git said no; the message is its last line."""


class TooLarge(Exception):
    """Git's output has more bytes than was allowed."""


def find(*outside: Path) -> str:
    """The path of git: the first on PATH that lies in none of these folders. Raises Infrastructure."""
    folders = [os.path.realpath(folder) for folder in outside]
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = os.path.isabs(entry) and shutil.which("git", path=entry)
        if found and not any(_lies_in(place, folder) for place in (entry, found) for folder in folders):
            return found
    raise Infrastructure("there is no git on PATH here (PATH has no absolute folder with one, the agent's own aside)")


def _lies_in(path: str, folder: str) -> bool:
    return (os.path.realpath(path) + os.sep).startswith(folder.rstrip(os.sep) + os.sep)


class Git:
    """One git folder of ours, made here, over the objects of a prepared repository.

    program: from `find`; folder: where the git folder is made; base: the prepared, bare repository; scratch: an empty folder for what
    git might look for in a home. All that is asked of it ends within `seconds`.
    """

    def __init__(self, program: str, folder: Path, base: Path, scratch: Path, seconds: float = SECONDS):
        self.program, self.folder, self.base = program, folder, base
        self._scratch, self._ends = scratch, time.monotonic() + seconds
        self._objects = base.resolve() / "objects"
        if not self._objects.is_dir():
            raise Infrastructure(f"{base} is no prepared repository: it has no objects/")
        for name in ("objects/info", "objects/pack", "refs/heads", "info"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("HEAD", f"ref: {BRANCH}\n"),
            ("config", SETTINGS.format(bare="true")),
            ("info/attributes", ATTRIBUTES),
            ("info/exclude", ""),
        ):
            (folder / name).write_text(text, encoding="utf-8")
        self.commit = _tip(base)

    def stand_alone(self) -> None:
        """Copy the prepared repository's objects: who uses the folder later doesn't see where they came from."""
        shutil.copytree(self._objects, self.folder / "objects", dirs_exist_ok=True)
        (self.folder / "config").write_text(SETTINGS.format(bare="false"), encoding="utf-8")
        (self.folder / BRANCH).write_text(self.commit + "\n", encoding="ascii")

    def run(self, *arguments: str, most: int = CHUNK, **more: Any) -> bytes:
        """Run git to its end; its output. Raises Failed, TooLarge and Infrastructure."""
        return b"".join(self.read(*arguments, most=most, **more))

    def read(
        self,
        *arguments: str,
        most: int,
        tree: Path | None = None,
        feed: bytes | Iterator[bytes] = b"",
        good: tuple[int, ...] = (0,),
    ) -> Iterator[bytes]:
        """Run git, and give its output as it comes.

        most: bytes of output; tree: the work tree; feed: its input; good: exit codes that are no failure.
        Raises Failed, TooLarge and Infrastructure, and what `feed` raises.
        """
        with tempfile.TemporaryFile() as said:
            process = self._start(arguments, tree, said)
            late = threading.Event()
            timer = threading.Timer(max(0.0, self._ends - time.monotonic()), self._end, (process, late))
            feeder = _Feeder(process, feed)
            timer.start()
            feeder.start()
            try:
                yield from _bounded(process, most)
                code = process.wait()
                feeder.join()
            finally:
                timer.cancel()
                _kill(process)
                process.wait()
                feeder.join()
                process.stdout.close()
            if late.is_set():
                raise Failed("git took too long")
            if feeder.error is not None:
                raise feeder.error
            if code not in good:
                raise _failure(code, said)

    def _start(self, arguments: tuple[str, ...], tree: Path | None, said: IO[bytes]) -> Any:
        command = [self.program, "--no-pager"]
        for setting in OURS:
            command += ["-c", setting]
        try:
            return subprocess.Popen(
                [*command, *arguments],
                env=self._environment(tree),
                cwd=str(self._scratch),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        except OSError as error:
            raise Infrastructure(f"git can't be started: {error}") from None

    def _environment(self, tree: Path | None) -> dict[str, str]:
        """All that git sees: nothing of the person's, and nothing of the agent's."""
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "GIT_EXEC_PATH") if name in os.environ}
        own = {
            "PATH": f"{os.path.dirname(self.program)}:{os.defpath.strip(':')}",
            "HOME": str(self._scratch),
            "XDG_CONFIG_HOME": str(self._scratch),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_DIR": str(self.folder),
            "GIT_INDEX_FILE": str(self.folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(self.folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(str(self._objects)),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_PAGER": "cat",
            "GIT_EDITOR": "false",
            "GIT_ASKPASS": "false",
        }
        if tree is not None:
            own["GIT_WORK_TREE"] = str(tree)
        return {**kept, **own}

    @staticmethod
    def _end(process: Any, late: threading.Event) -> None:
        late.set()
        _kill(process)


def _tip(base: Path) -> str:
    """The commit of a prepared repository's branch. https://git-scm.com/docs/git-pack-refs"""
    try:
        return (base / BRANCH).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        packed = base / "packed-refs"
        for line in packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else ():
            commit, _, name = line.partition(" ")
            if name == BRANCH:
                return commit
    raise Infrastructure(f"{base} is no prepared repository: it has no branch {BRANCH.rpartition('/')[2]}")


class _Feeder(threading.Thread):
    """Gives a process its input, and keeps what went wrong where that came from."""

    def __init__(self, process: Any, feed: bytes | Iterator[bytes]):
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._process, self._feed = process, feed

    def run(self) -> None:
        into = self._process.stdin
        try:
            for chunk in (self._feed,) if isinstance(self._feed, bytes) else self._feed:
                into.write(chunk)
            into.close()
        except BrokenPipeError:
            pass  # git has ended, and says why
        except BaseException as error:
            self.error = error
            _kill(self._process)
        finally:
            with contextlib.suppress(OSError):
                into.close()


def _bounded(process: Any, most: int) -> Iterator[bytes]:
    left = most
    while chunk := process.stdout.read1(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise TooLarge
        yield chunk


def _kill(process: Any) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()  # it has no children: none of what is asked of it starts another program


def _failure(code: int, said: IO[bytes]) -> Exception:
    said.seek(0)
    lines = said.read(MOST_SAID).decode("utf-8", "replace").strip().splitlines()
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    words = fatal[0] if fatal else f"git ended with code {code}"
    if any(sign in line for line in lines for sign in DISK_SIGNS):
        return Infrastructure(f"git can't work: {words}")
    return Failed(words)


def _quoted(path: str) -> str:
    """A path for GIT_ALTERNATE_OBJECT_DIRECTORIES, which splits at colons but for what is in quotes."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"' if ":" in path or path.startswith('"') else path
