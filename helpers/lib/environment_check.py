"""Whether a virtual environment can import what was asked for; prints the modules. Its own Python runs it, with nothing else."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from importlib import metadata
from pathlib import Path, PurePosixPath

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def asked_for(path: Path) -> list[str]:
    """The distributions that a requirements file names, with those of the files that it includes (-r)."""
    names: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            names += asked_for(path.parent / line[3:].strip())
        elif (found := NAME.match(line)) and _applies(line):
            names.append(found[0])
    return names


def _applies(line: str) -> bool:
    """Whether a requirement is one for this Python and this machine."""
    if ";" not in line:
        return True
    from packaging.requirements import Requirement  # every environment of ours has it

    marker = Requirement(line).marker
    return marker is None or marker.evaluate()


def modules_of(name: str) -> list[str]:
    """The top-level modules of a distribution, from the list of its files. Raises PackageNotFoundError."""
    found = set()
    for file in metadata.files(name) or []:
        path = PurePosixPath(file)
        if len(path.parts) == 2 and path.name == "__init__.py":
            found.add(path.parts[0])
        elif len(path.parts) == 1 and path.suffix == ".py":
            found.add(path.stem)
    return sorted(module for module in found if module.isidentifier() and not module.startswith("_"))


def problem(module: str) -> str | None:
    """Why a module can't be imported from this environment, or None."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some have something to say
            origin = importlib.import_module(module).__file__
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    inside = origin is not None and Path(origin).absolute().is_relative_to(Path(sys.prefix).absolute())
    return None if inside else f"it comes from {origin}, not from {sys.prefix}"


def importable(name: str) -> tuple[list[str], str]:
    """The modules of a distribution that can be imported, and what is wrong when it is broken: none can, though it has some."""
    try:
        said = {module: problem(module) for module in modules_of(name)}
    except metadata.PackageNotFoundError:
        return [], f"{name}: is not installed"
    # one of several may need an extra that wasn't asked for (black's `blackd`)
    good = [module for module, wrong in said.items() if wrong is None]
    return good, "" if good or not said else f"{name}: " + "; ".join(map(str, said.values()))


def main(files: list[str]) -> int:
    names = dict.fromkeys(name for file in files for name in asked_for(Path(file)))
    found = [importable(name) for name in names]
    problems = [wrong for _, wrong in found if wrong]
    print(
        "\n".join(problems) or " ".join(module for good, _ in found for module in good),
        file=sys.stderr if problems else sys.stdout,
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
