"""What the command lines of this package share: one line on stderr and a true exit code, whatever goes wrong."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from helpers.lib import folders
from helpers.lib.errors import Infrastructure, Refused
from helpers.repositories import git

THEIRS, OURS = 4, 3  # exit codes: the agent's doing; the infrastructure's fault


def launch(command: Callable[[], object]) -> int:
    """Run a command; 0, 2 for a call that can't be met, 3 for the infrastructure's fault, 4 for the agent's doing."""
    try:
        command()
    except Refused as error:
        return _said(error.code, error)
    except (Infrastructure, git.Failed) as error:
        return _said(OURS, error)
    except MemoryError:
        return _said(OURS, "this machine hasn't enough memory for it")
    except OSError as error:
        return _said(OURS, f"{shown(error.filename or 'standard output')}: {error.strerror or error}")
    return 0


def _said(code: int, what: object) -> int:
    print(" ".join(str(what).split()), file=sys.stderr)
    return code


def theirs(message: str) -> NoReturn:
    """The agent's work can't be taken, and this is why."""
    raise Refused(message, THEIRS)


def shown(path: object) -> str:
    """A path that a stranger chose, in one printable line."""
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else str(path)
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return text if len(text) <= 200 else f"{text[:100]}…{text[-100:]}"


@contextlib.contextmanager
def scratch(below: str | None) -> Iterator[Path]:
    """A temporary folder in `below`, by default where temporary files go here; it is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="hab-repository-", dir=below))
    try:
        yield path
    finally:
        folders.remove(path)
