"""git with settings of ours only: no other configuration, no hooks, no filters, no questions, bounded in time.

The person's own settings would make another repository of the same task (line ends, file modes, signatures), and those of a repository
could run what its author likes. Needs nothing but Python and git (2.25 or later).
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_SECONDS = 1800.0  # of one command
BRANCH = "task"
PASSED_ON = ("PATH", "TMPDIR", "SSH_AUTH_SOCK", "GIT_SSL_CAINFO", "HAB_PREPARATION")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.quotePath": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.askPass": "",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "credential.helper": "",
    "commit.gpgSign": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": "1000",  # bytes a second; less for so many seconds is an end
    "http.lowSpeedTime": "60",
    "pack.threads": "1",  # of more, each would see its own part, and the packs of two runs would differ
    "protocol.allow": "never",
    **{f"protocol.{one}.allow": "always" for one in ("file", "git", "http", "https", "ssh")},
}
# a commit is the same wherever its tree is
SIGNED = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", BRANCH), ("EMAIL", "task@localhost"), ("DATE", "2000-01-01T00:00:00Z"))
}


class GitError(Exception):
    """git said no; the message is one line for a person. `said`: all of its words."""

    def __init__(self, message: str, said: str = ""):
        super().__init__(message)
        self.said = said


def environment() -> dict[str, str]:
    """What git sees of the environment: where programs and the network are, and nothing that sets how it works."""
    given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    given |= {name: value for name, value in os.environ.items() if name.lower() in PROXIES}
    if "SSL_CERT_FILE" in os.environ:
        given.setdefault("GIT_SSL_CAINFO", os.environ["SSL_CERT_FILE"])
    return {
        **given,
        **SIGNED,
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=30",
    }


class Repository:
    """A bare repository of ours."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def new(cls, folder: Path) -> Repository:
        """Make one, with nothing in it but what makes it one. Raises OSError."""
        for inner in ("objects/pack", "refs/heads", "info"):
            Path(folder, inner).mkdir(parents=True)
        Path(folder, "HEAD").write_text(f"ref: refs/heads/{BRANCH}\n", encoding="utf-8")
        config = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
        Path(folder, "config").write_text(config, encoding="utf-8")
        # whatever attributes say: what is in a file is what goes in and comes out
        attributes = "* -text -eol -ident -filter -working-tree-encoding\n"
        Path(folder, "info", "attributes").write_text(attributes, encoding="utf-8")
        return cls(folder)

    def run(self, *arguments: str | Path, stdin: bytes = b"", seconds: float = MOST_SECONDS, **more: str) -> bytes:
        """Run `git ARGUMENTS` on it, with `more` in its environment; what it printed. Raises GitError."""
        settings = (word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}"))
        command = ["git", *settings, "--git-dir", str(self.folder), *map(str, arguments)]
        # files, not pipes: what git started may hold a pipe open for longer than git itself is there
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            try:
                done = subprocess.run(
                    command, env={**environment(), **more}, stdin=given, stdout=out, stderr=err, timeout=seconds
                )
            except FileNotFoundError:
                raise GitError("there is no command `git` on the PATH: install git, or load its module") from None
            except subprocess.TimeoutExpired:
                raise GitError(f"`git {arguments[0]}` didn't end within {seconds:g} s") from None
            out.seek(0)
            err.seek(0)
            said = err.read(2**20).decode("utf-8", "replace")
            if done.returncode:
                raise GitError(_line(said) or f"`git {arguments[0]}` ended with exit code {done.returncode}", said)
            return out.read()

    def line(self, *arguments: str | Path, stdin: bytes = b"", **more: str) -> str:
        """The one line that git prints. Raises GitError."""
        return self.run(*arguments, stdin=stdin, **more).decode().strip()

    def has(self, commit: str) -> bool:
        """Whether a commit is there. Raises GitError where git itself isn't."""
        try:
            self.run("cat-file", "-e", f"{commit}^{{commit}}")
        except GitError as error:
            if not error.said:
                raise
            return False
        return True

    def listed(self, tree: str) -> Iterator[tuple[str, str, str]]:
        """Mode, object and path of all files below a tree or commit; what is no UTF-8 in a path is kept by surrogates."""
        for entry in self.run("ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0")[:-1]:
            head, _, path = entry.partition(b"\t")
            mode, _, name = head.decode().split(" ")
            yield mode, name, os.fsdecode(path)

    def stored(self, files: Iterable[Path]) -> list[str]:
        """The objects that files become, byte by byte. Their paths are absolute and have no line end. Raises GitError."""
        names = "".join(f"{path}\n" for path in files)
        arguments = ("hash-object", "-w", "--no-filters", "--stdin-paths")
        return self.run(*arguments, stdin=os.fsencode(names)).decode().split() if names else []

    def tree_of(self, entries: Iterable[tuple[str, str, str]]) -> str:
        """The tree with these files (mode, object, path). Raises GitError."""
        lines = b"".join(f"{mode} {name}\t".encode() + os.fsencode(path) + b"\0" for mode, name, path in entries)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            self.run("read-tree", "--empty", **index)
            self.run("update-index", "-z", "--index-info", stdin=lines, **index)
            return self.line("write-tree", "--missing-ok", **index)

    def tree_of_folder(self, folder: Path) -> str:
        """The tree of the files in a folder that is no repository: all of them, as they are. Raises GitError."""
        with tempfile.TemporaryDirectory(dir=self.folder) as inner:
            own = {"GIT_INDEX_FILE": f"{inner}/index", "GIT_WORK_TREE": str(folder)}
            self.run("-c", "core.bare=false", "-C", folder, "add", "--all", "--force", ".", **own)
            return self.line("write-tree", **own)

    def commit_of(self, tree: str) -> str:
        """The one commit that a tree has here: without parents, its author and date fixed. Raises GitError."""
        return self.line("commit-tree", tree, stdin=f"{BRANCH}\n".encode())

    def copy_of(self, commit: str, folder: Path) -> Repository:
        """A new repository that holds a commit on its branch and nothing else; always of the same bytes. Raises GitError, OSError."""
        made = Repository.new(folder)
        os.remove(folder / "info" / "attributes")
        os.rmdir(folder / "info")
        # of the packs that the objects come from nothing is left, so that these are the same wherever they came from
        options = ("--revs", "--window=0", "--no-reuse-delta", "--no-reuse-object", "-q")
        self.run("pack-objects", *options, folder / "objects" / "pack" / "pack", stdin=f"{commit}\n".encode())
        Path(folder, "refs", "heads", BRANCH).write_text(f"{commit}\n", encoding="utf-8")
        return made


_SAID = re.compile(r"^(?:fatal|error|remote|ssh|git): *(?:(?:fatal|error): *)?(.*)$", re.MULTILINE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def _line(said: str) -> str:
    """What went wrong, of all that git printed."""
    told = [match[1].strip() for match in _SAID.finditer(said) if match[1].strip()]
    lines = told or [line.strip() for line in said.splitlines() if line.strip()]
    return _CREDENTIALS.sub("", " ".join(lines[0].split()))[:300] if lines else ""
