"""What the private half of an instance asks for: rubrics, test scripts, and how each script is run.

`evaluation.json`: `rubrics` [{id, criterion, weight}] and `test_scripts` [{path, rubric_id}]; the scripts lie below `tests/`.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.lib import disk, values
from helpers.lib.errors import Infrastructure
from helpers.repositories import steps

MOST_HEAD = 256  # bytes of a script's first line


@dataclass(frozen=True)
class Rubric:
    id: str
    criterion: str
    weight: float


@dataclass(frozen=True)
class Script:
    """path: below tests/; rubric: the id of the one that it counts for."""

    path: str
    rubric: str


@dataclass(frozen=True)
class Evaluation:
    rubrics: tuple[Rubric, ...]
    scripts: tuple[Script, ...]


def read(instance: Path) -> Evaluation:
    """The rubrics and scripts of an instance's private half. Raises Infrastructure where it isn't as it was prepared."""
    path = instance / "evaluation.json"
    data = disk.read_json(path)
    if data is None:
        raise Infrastructure(f"{path} can't be read: prepare the task again")
    rubrics = tuple(
        Rubric(_text(path, one, "id"), str(one.get("criterion") or ""), _weight(path, one))
        for one in _objects(path, data, "rubrics")
    )
    scripts = tuple(
        Script(_text(path, one, "path"), _text(path, one, "rubric_id")) for one in _objects(path, data, "test_scripts")
    )
    if not sum(rubric.weight for rubric in rubrics):
        raise Infrastructure(f"{path}: no rubric has a weight: there is nothing to score")
    known = {rubric.id for rubric in rubrics}
    for script in scripts:
        if script.rubric not in known:
            raise Infrastructure(f"{path}: {script.path} counts for the rubric {script.rubric}, which isn't there")
    return Evaluation(rubrics, scripts)


def _objects(path: Path, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    listed = data.get(key)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise Infrastructure(f"{path}: {key} is no list of objects: prepare the task again")
    return listed


def _text(path: Path, data: dict[str, Any], key: str) -> str:
    found = values.text(data.get(key))
    if not found:
        raise Infrastructure(f"{path}: a rubric or test script has no {key}: prepare the task again")
    return found


def _weight(path: Path, data: dict[str, Any]) -> float:
    weight = values.number(data.get("weight", 1))
    if weight is None or weight < 0:
        raise Infrastructure(f"{path}: the weight of rubric {data.get('id')} is no number of 0 or more")
    return float(weight)


def command(instance: Path, script: Script) -> list[str]:
    """How a script is run, its path left out, which comes last: as its first line says, else by its name."""
    try:
        with open(instance / "tests" / script.path, "rb") as file:
            head = file.read(MOST_HEAD).split(b"\n")[0]
    except OSError as error:
        raise Infrastructure(f"{instance}/tests/{script.path} can't be read: {error.strerror}") from None
    if head.startswith(b"#!") and (words := head[2:].decode("utf-8", "replace").split()):
        return words
    name = os.path.basename(script.path)
    if not name.endswith(".py"):
        return ["bash"]
    return ["python3", "-m", "pytest", "-q"] if name.startswith("test_") or name.endswith("_test.py") else ["python3"]


def tell(instance: Path, out: Path) -> None:
    """Write for the shell, of each script, its path, the number of words of its command, and these, with NUL behind each."""
    text = ""
    for script in read(instance).scripts:
        words = command(instance, script)
        text += "\0".join([script.path, str(len(words)), *words]) + "\0"
    disk.write_text(out, text)


def main(argv: list[str] | None = None) -> int:
    """0; 3 with one line on stderr where the instance isn't as it was prepared."""
    made = argparse.ArgumentParser(prog="python -m helpers.repositories.evaluation", description=tell.__doc__)
    made.add_argument("--instance", type=Path, required=True, help="the private half of the instance")
    made.add_argument("--out", type=Path, required=True, help="the file that is written")
    asked = made.parse_args(argv)
    return steps.launch(lambda: tell(asked.instance, asked.out))


if __name__ == "__main__":
    sys.exit(main())
