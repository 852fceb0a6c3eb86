"""Where a prepared task lies, and how it gets there: <data>/<id>/prepared/{public,private}, whole or not at all.

Who prepares makes everything in a folder of `staging`, on the same file system, and then calls `publish`, which renames it. A
manifest (prepared/manifest.json) tells the size of each file, so that a task which was cut or damaged later is found out; a
fingerprint (prepared/fingerprint.json) tells these data from others under the same name.
Ids may have one slash (BioML-bench's `folder/task`).
A data folder may also hold rounds of benchmarks and the like, in folders whose names are no ids.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from helpers.data import fingerprint
from helpers.lib import folders
from helpers.lib.errors import Busy

# a task of BioML-bench has one slash
_ID = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")
TAKEN = ("rollouts", "runs", "tasks", "temp")  # what else may lie in a data folder
MANIFEST = "manifest.json"
# errors of file systems that have no locks (Lustre without -o flock, some NFS)
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def unfit(word: str) -> str | None:
    """Why a word is no id of a task, in a few words; None where it is one."""
    if not _ID.fullmatch(word):
        return "letters, digits, '.', '_' and '-' only, and one '/' for BioML-bench's"
    if (first := word.partition("/")[0]) in TAKEN:
        return f"'{first}' is another folder's name, beside those of tasks ({', '.join(TAKEN)} are no ids)"
    return None


def is_id(word: str) -> bool:
    """Whether a word can be a task's id."""
    return unfit(word) is None


def prepared(data_dir: str | Path, task_id: str) -> Path:
    """The folder of a prepared task."""
    return Path(data_dir, task_id, "prepared")


def problem(data_dir: str | Path, task_id: str) -> str | None:
    """Why a task can't be used as it lies there, in a few words; None when it can. Raises OSError when it can't be looked at."""
    folder = prepared(data_dir, task_id)
    for half in ("public", "private"):
        if not (folder / half).is_dir():
            return f"there is no {folder / half}"
        if next((folder / half).iterdir(), None) is None:
            return f"{folder / half} is empty"
    if not (folder / "public" / "description.md").is_file():
        return f"{folder / 'public'} has no description.md"
    try:
        files = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    except FileNotFoundError:
        return None  # prepared by mle-bench or BioML-bench themselves
    except (ValueError, KeyError, TypeError):
        return f"{folder / MANIFEST} is broken"
    for name, size in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes instead of {size}"
    return None


def prepared_competitions(data_dir: Path) -> list[str]:
    """List the competitions below a data folder that have private data."""
    try:
        halves = [*data_dir.glob("*/prepared/private"), *data_dir.glob("[!.]*/*/prepared/private")]
        return sorted(str(path.parent.parent.relative_to(data_dir)) for path in halves)
    except OSError:
        return []


def not_prepared(competition: str, data_dir: Path) -> str:
    """That a competition isn't prepared, and what is."""
    if not data_dir.is_dir():
        return f"the data folder {data_dir} doesn't exist (--data-dir)"
    there = ", ".join(prepared_competitions(data_dir)) or "none"
    return f"competition {competition!r} is not prepared in {data_dir}; prepared there: {there}"


def publish(made: Path, data_dir: str | Path, task_id: str, backend: str) -> None:
    """Move `made`, a folder with prepared/ and perhaps raw files, to <data>/<id>. Raises OSError.

    A reader sees the old data or the new ones, or for a moment none. What `made` doesn't hold of the old folder stays.
    """
    target = Path(data_dir, task_id)
    _write_manifest(made / "prepared", backend)
    fingerprint.stamp(made / "prepared")
    target.mkdir(parents=True, exist_ok=True)
    for path in made.iterdir():
        if path.name != "prepared":
            _replace(path, target / path.name)
    _replace(made / "prepared", target / "prepared")


def _write_manifest(folder: Path, backend: str) -> None:
    paths = [
        os.path.join(directory, name)
        for half in ("public", "private")
        for directory, _, names in os.walk(folder / half)
        for name in names
    ]
    files = {os.path.relpath(path, folder): os.path.getsize(path) for path in sorted(paths) if os.path.isfile(path)}
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record = {"schema": 1, "backend": backend, "prepared_at": now, "files": files}
    (folder / MANIFEST).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _replace(source: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    folders.remove(old)
    if target.exists():
        target.rename(old)
    source.rename(target)
    folders.remove(old)


@contextlib.contextmanager
def staging(data_dir: str | Path, task_id: str, *, wait: bool = True) -> Iterator[Path]:
    """An empty folder to prepare a task in, while no other process, on this node or another, prepares the same one.

    wait=False: raises Busy instead of waiting for another one. Gone with all that is in it at the end. Raises OSError.
    """
    flat = task_id.replace("/", "%")  # neither % nor @ is part of an id, so that no task is taken for another
    base = Path(data_dir, ".preparing")
    base.mkdir(parents=True, exist_ok=True)
    folder = base / f"{flat}@{socket.gethostname()}.{os.getpid()}"
    with open(base / f"{flat}.lock", "a") as lock:
        if _lock(lock.fileno(), wait):
            for name in os.listdir(base):
                if name.startswith(f"{flat}@"):  # left by one that was killed
                    with contextlib.suppress(OSError):
                        folders.remove(base / name)
            _recover(Path(data_dir, task_id))
        try:
            folder.mkdir()
            yield folder
        finally:
            with contextlib.suppress(OSError):
                folders.remove(folder)


def _lock(file: int, wait: bool) -> bool:
    """False: this file system has no locks. Two at once then do double work, and the last one's data stay."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise Busy from None
    except OSError as error:
        if error.errno == errno.EACCES and not wait:
            raise Busy from None
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _recover(folder: Path) -> None:
    # killed between the two renames of _replace: what was there before is still the best there is
    for old in folder.glob(".*.old"):
        target = old.with_name(old.name[1 : -len(".old")])
        if not target.exists():
            old.rename(target)
