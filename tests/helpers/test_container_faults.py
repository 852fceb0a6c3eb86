from __future__ import annotations

from pathlib import Path

import pytest

from helpers.scheduler import container_faults

# what was seen to be said: issues of Apptainer, Singularity, bubblewrap, enroot and pyxis
SEEN = {
    "ERROR  : Failed to create user namespace: No space left on device": "user namespaces are off or used up",
    "ERROR  : Failed to create container process: No space left on device": "user namespaces are off or used up",
    "ERROR  : Failed to create container process: Invalid argument": "user namespaces are off or used up",
    "INFO   : Unprivileged user namespaces may not be enabled": "user namespaces are off or used up",
    "# bwrap: Creating new namespace failed: No space left on device": "user namespaces are off or used up",
    "bwrap: unshare user ns: No space left on device": "user namespaces are off or used up",
    "enroot-nsenter: failed to create user namespace: No space left on device": "user namespaces are off or used up",
    # Apptainer 1.4 where user.max_user_namespaces is used up: in a job, and in a build
    "\x1b[91mERROR  : Failed to create user namespace: maximum number of user namespaces exceeded, check /proc/sys/user/"
    "max_user_namespaces\n\x1b[0m": "user namespaces are off or used up",
    "INFO:    /etc/subuid mapping can be ignored with --ignore-subuid\n"
    "FATAL:   /etc/subuid mapping found but no user namespace available for fakeroot": "user namespaces are off or used up",
    "unshare: unshare failed: No space left on device": "user namespaces are off or used up",
    "OSError: [Errno 28] inotify watch limit reached": "inotify watches",
    "Failed to watch /x: inotify_add_watch: No space left on device": "inotify watches",
    "OSError: [Errno 28] /dev/shm/psm_12: No space left on device": "shared memory",
    "squashfuse_ll exited with status 1: fuse: failed to exec fusermount3: No such file or directory": "with FUSE",
    "squashfuse_ll exited with status 1: fusermount3: mount failed: Operation not permitted": "with FUSE",
    "fuse: device not found, try 'modprobe fuse' first": "with FUSE",
    "failed to find loop device: could not attach image file to loop device: no loop devices available": "loop devices",
    "FATAL:   could not use fakeroot: no mapping entry found in /etc/subuid for u": "no fakeroot",
}


@pytest.mark.parametrize("line", SEEN)
def test_what_was_seen_is_told_as_what_it_is(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text(f"INFO:    Starting build...\n{line}\n")
    assert container_faults.main(str(log)) == 0
    said = capsys.readouterr().out
    assert SEEN[line] in said and "ask " in said


@pytest.mark.parametrize(
    "line",
    [
        "cp: error writing '/x': No space left on device",
        "OSError: [Errno 122] Disk quota exceeded: '/home/me/x'",
        "INFO:    User not listed in /etc/subuid, trying root-mapped namespace",
        "INFO:    Build complete: x.sif",
        "ERROR: Could not find a version that satisfies the requirement",
    ],
)
def test_other_troubles_are_not_taken_for_it(line: str) -> None:
    assert container_faults.find(f"before\n{line}\nafter\n") is None
