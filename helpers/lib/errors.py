"""What goes wrong, and whose concern it is: the exit code follows from it. Needs nothing but Python."""

from __future__ import annotations

import errno

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class ConfigError(Exception):
    """Bad configuration; `problems` holds one complete sentence for each thing to mend."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class Infrastructure(Exception):
    """The scheduler, a disk or a tool said no; exit code 3."""


class Busy(Exception):
    """Somebody else prepares this task just now."""


def fault_code(error: OSError) -> int:
    """The exit code for what a file system said: 3 where a disk is full or broken, 2 where another path would do."""
    return 3 if error.errno in DISK_FULL else 2


class Refused(Exception):
    """A request that can't be met; `code` is the exit code."""

    def __init__(self, message: str, code: int = 2):
        super().__init__(message)
        self.code = code
