"""Dockerfiles of a line or two, with the files beside them, and their steps run by a shell on this machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.config.schema import Site
from helpers.config.sites import load_site
from helpers.images import dockerfile
from helpers.images.docker import context
from helpers.images.dockerfile import Environment

Write = Callable[..., Environment]


@pytest.fixture
def site() -> Site:
    return load_site("local")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_files(text: str, files: dict[str, str] | None = None, **arguments: str) -> Environment:
        for name, content in ({"Dockerfile": text} | (files or {})).items():
            path = tmp_path / "context" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return dockerfile.read(tmp_path / "context/Dockerfile", arguments=arguments)

    return write_files


class Built:
    """What the steps of a definition made, below `root`; said: what they printed."""

    def __init__(self, root: Path, said: str, environment: str):
        self.root, self.said, self._environment = root, said, environment

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    def at_run_time(self, command: str) -> str:
        """What a command prints with the image's environment, and no other."""
        script = f"{self._environment}\n{command}"
        done = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture
def build(tmp_path: Path, site: Site):
    """Run %post of a Dockerfile's definition; absolute paths of the Dockerfile are to begin with @, which is a folder."""

    def run(made: Environment, shell: str = "/bin/sh", base: dict[str, str] | None = None) -> Built:
        mnt, root = tmp_path / "mnt", tmp_path / "root"
        mnt.mkdir()
        root.mkdir()
        short = made.digest[: dockerfile.SHOWN]
        for name in (f"{short}.json", f"{short}.labels", "env.sh", "pip.conf"):
            (mnt / name).touch()
        (mnt / "env.sh").write_text("export https_proxy=http://proxy:3128\n")
        context.stage(made.recipe.copies, mnt / "context")
        script = re.search(r"^%post\n(.*?)^%test\n", dockerfile.definition(made, site), re.DOTALL | re.MULTILINE)[1]
        places = {"/mnt/": f"{mnt}/", "/opt": f"{root}/opt", "/root": f"{root}/home", "/@": str(root)}
        script = re.sub("/mnt/|/opt|/root|/@", lambda found: places[found[0]], script)
        path = tmp_path / "post.sh"
        path.write_text(script)
        environment = tmp_path / "91-environment.sh"
        variables = {"PATH": "/usr/bin:/bin", "APPTAINER_ENVIRONMENT": str(environment)} | (base or {})
        done = subprocess.run([*shell.split(), "-e", path], env=variables, capture_output=True, text=True)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, shell, done.stdout, done.stderr)
        return Built(root, done.stdout, environment.read_text() if environment.exists() else "")

    return run
