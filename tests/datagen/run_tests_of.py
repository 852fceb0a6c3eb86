"""Runs a task's test.sh and solve.sh here, with this Python, and with folders of this machine where the container has /app and /logs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """Where a task is tried: a copy of it, whose scripts name `app` and `logs` in the container's folders' place."""

    task: Path
    app: Path
    logs: Path

    def bash(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the task."""
        shims = self.app.parent / "bin"
        env = {"PATH": f"{shims}:{os.environ['PATH']}", "HOME": str(self.app.parent)}
        return subprocess.run(
            ["bash", str(self.task / script)], cwd=self.app, env=env, capture_output=True, text=True, timeout=120
        )

    def reward(self) -> tuple[float | None, str]:
        """Run the test; its reward, and what it printed."""
        written = self.logs / "verifier" / "reward.txt"
        written.unlink(missing_ok=True)
        done = self.bash("tests/test.sh")
        assert done.returncode == 0, done.stdout + done.stderr
        return (float(written.read_text()) if written.exists() else None), done.stdout + done.stderr


def place(task: Path, folder: Path) -> Place:
    """Copy a task to `folder`, and make what its container has: /app with the environment's files, and python3."""
    made = Place(folder / "task", folder / "app", folder / "logs")
    names = {"/app/": f"{made.app}/", "/logs/": f"{made.logs}/", "/tests": f"{made.task}/tests"}
    for path in sorted(task.rglob("*")):
        target = made.task / path.relative_to(task)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            data = path.read_bytes()
            if path.suffix in (".sh", ".py") and path.parent.name in ("tests", "solution"):
                for name, here in names.items():
                    data = data.replace(name.encode(), here.encode())
            target.write_bytes(data)
    made.app.mkdir()
    for path in (task / "environment").glob("data/*"):
        (made.app / "data").mkdir(exist_ok=True)
        (made.app / "data" / path.name).write_bytes(path.read_bytes())
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "bin" / "python3").chmod(0o755)
    return made
