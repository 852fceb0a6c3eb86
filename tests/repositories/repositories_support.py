"""A prepared repository and an agent's copy of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from helpers.repositories import checkout

FIXED = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}


def git(*arguments: str, at: Path) -> str:
    """Git as a person calls it."""
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=at, env={**os.environ, **names, **FIXED}, check=True, capture_output=True, text=True
    )
    return done.stdout


class Repository:
    """base: the prepared one; work: the agent's; out: where the artifacts go."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.base, self.work, self.out = folder / "public" / "base.git", folder / "work", folder / "run" / "artifacts"

    def prepare(self, files: dict[str, bytes | str]) -> None:
        source = self.folder / "source"
        source.mkdir()
        git("init", "-q", "-b", "task", at=source)
        (source / ".git" / "info").mkdir(exist_ok=True)
        (source / ".git" / "info" / "attributes").write_text("* -text -filter -ident -working-tree-encoding\n")
        for name, content in files.items():
            place = source / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        git("add", "-A", "-f", at=source)
        git("commit", "-q", "--allow-empty", "-m", "base", at=source)
        self.base.parent.mkdir()
        git("clone", "-q", "--bare", str(source), str(self.base), at=self.folder)
        checkout.make(self.base, self.work)

    @property
    def patch(self) -> bytes:
        return (self.out / "diff.patch").read_bytes()
