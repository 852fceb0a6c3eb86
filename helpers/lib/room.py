"""Whether a person can still write somewhere. What `df` says is the disk's room, not the person's: a quota doesn't show in it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

PROBE_BYTES = 2**20


def lacking(folder: Path | str) -> str | None:
    """Why no megabyte can be written to a folder that is there, in words for a person; None where it can."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".room.") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a network file system says it only then
    except OSError as error:
        return _words(error, folder)
    return None


def _words(error: OSError, folder: Path | str) -> str:
    free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"
    if error.errno == errno.EDQUOT:
        return f"your quota is used up (the disk itself has {free} free): delete something of yours, or ask for more"
    if error.errno == errno.ENOSPC:
        files = os.statvfs(folder)
        cause = "it has no inodes left" if files.f_files and not files.f_favail else f"it has {free} free"
        return f"the disk is full ({cause})"
    return f"nothing can be written ({error.strerror or error})"
