"""What Apptainer and Singularity say where a node doesn't let them work, told as what it is: one table for builds and jobs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TAIL_BYTES = 2**17
_NAMESPACES = "user namespaces are off or used up on this node"
# A pattern of the log, what is the matter, and what to do. An errno's text says little: ENOSPC is also a limit of the kernel. The
# first that fits counts; wordings as seen in issues of apptainer (#778, #1033, #2370, #2455), singularity, bubblewrap and enroot.
FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        r"(?i)(?:create|creating|unshare)[^\n]{0,40} (?:user |new |container )?(?:namespaces?|process|user ns)[^\n]{0,60}: "
        r"(?:No space left on device|Invalid argument|Operation not permitted|Permission denied)"
        r"|Failed to create user namespace:|no user namespace available|unshare failed: |maximum number of user namespaces"
        r"|unprivileged user namespaces may not be enabled|user namespaces? (?:is|are) (?:not|disabled)",
        _NAMESPACES,
        "ask the cluster's support whether user.max_user_namespaces (and kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns) let you have them there, or whether there is an installation with setuid",
    ),
    (
        r"(?i)inotify[^\n]{0,80}(?:No space left on device|limit)|ENOSPC: System limit for number of file watchers",
        "all inotify watches of this node are used up",
        "ask the cluster's support to raise fs.inotify.max_user_watches and max_user_instances, or take another node",
    ),
    (
        r"(?i)(?:/dev/shm|shared memory|shm_open|ShmNotEnough|torch_\d+_\d+)[^\n]{0,120}(?:No space left on device|Bus error|unable to)"
        r"|Bus error[^\n]{0,160}(?:shm|shared memory)",
        "the shared memory (/dev/shm) of this node is full",
        "ask for more memory, or ask the cluster's support what bounds /dev/shm; processes of earlier jobs may have left files there",
    ),
    (
        r"(?i)fusermount3?[^\n]{0,40}(?:No such file|not found|Operation not permitted|Permission denied)|fuse: device not found"
        r"|/dev/fuse[^\n]{0,40}(?:No such file|Permission denied|Operation not permitted)|(?:squashfuse|fuse2fs)[^\n]{0,20} not found"
        r"|squashfuse_ll (?:exited|failed)",
        "images can't be mounted with FUSE on this node",
        "ask the cluster's support for /dev/fuse, fusermount3 (package fuse3) and squashfuse there, or for a setuid installation",
    ),
    (
        r"(?i)no loop devices available|failed to find loop device|max loop devices",
        "all loop devices of this node are used up",
        "ask the cluster's support to raise `max loop devices`, or take another node",
    ),
    (
        r"(?i)/etc/sub[ug]id|new[ug]idmap|fakeroot requires|no mapping entry found",
        "there is no fakeroot for you on this node",
        "ask the cluster's support for lines of yours in /etc/subuid and /etc/subgid, or build on another machine and copy the .sif files",
    ),
)  # fmt: skip
# it is no fault: the root-mapped namespace that comes then is enough
_HARMLESS = re.compile(r"^INFO\s*:.*/etc/subuid, trying .*$", re.MULTILINE)


def find(log: str) -> tuple[str, str] | None:
    """What is the matter with a node's containers according to a log, and what to do; None where it says nothing of the kind."""
    text = _HARMLESS.sub("", log)
    return next(((what, advice) for pattern, what, advice in FAULTS if re.search(pattern, text)), None)


def main(path: str) -> int:
    """Print the sentence for a log file; exit code 1 when there is none."""
    with Path(path).open("rb") as file:
        file.seek(max(0, Path(path).stat().st_size - TAIL_BYTES))
        found = find(file.read(TAIL_BYTES).decode("utf-8", "replace"))
    if found:
        print(f"{found[0]}: {found[1]}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
