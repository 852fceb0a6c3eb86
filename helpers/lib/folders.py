"""Folders: those of jobs, named by the time of their making, and the end of any."""

from __future__ import annotations

import errno
import shutil
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

MOST = 100  # of one name within a second


def make(base: Path, name: str, *inner: str) -> Path:
    """Make a new folder <UTC time><name> in base, with folders in it. Raises OSError."""
    while True:
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S-UTC")
        for suffix in ("", *(f"-{number}" for number in range(2, MOST))):
            path = base / f"{stamp}{name}{suffix}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            for one in inner:
                (path / one).mkdir()
            return path
        time.sleep(0.1)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it, where it is there. Raises OSError.

    Neither rights nor depth stop it: who wrote in it may have closed folders, or made a thousand in one another.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except (OSError, RecursionError):
        subprocess.run(["chmod", "-R", "u+rwX", "--", path], stderr=subprocess.DEVNULL)
        done = subprocess.run(["rm", "-rf", "--", path], stderr=subprocess.PIPE, text=True, errors="replace")
        if done.returncode:
            said = done.stderr.strip().rpartition(": ")[2]
            raise OSError(errno.EIO, f"can't be removed: {said}", str(path)) from None
