"""Writes logs/trajectory.json of runs, made of what their agents left in logs/; needs nothing but Python.

Usage: python -m helpers.trajectories.write RUN…      RUN: the folder of a run
Prints the path of each file that it wrote. Exit codes: 0; 1 where an agent has left nothing to make one of, or what can't be read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from helpers.lib import bounded, disk, values
from helpers.lib.checkout import ROOT
from helpers.runs import cells
from helpers.trajectories import aide, mini_swe
from helpers.trajectories.atif import Trajectory

NAME = "trajectory.json"
SOURCES = (mini_swe.NAME, aide.NAME)  # the first that is there is read
LARGEST_FILE = 256 * 2**20  # bytes
SECONDS, MEMORY = 120, 4 * 2**30  # that reading one may take
REPLAY = "replay"


class NoTrajectory(Exception):
    """There is none to be had; the message goes on from the folder of the run, and says why."""


def write(run: Path) -> Path:
    """Write a run's trajectory; returns its path. Raises NoTrajectory, and OSError where it can't be written."""
    try:
        return Path(bounded.call(_write, str(run), seconds=SECONDS, memory=MEMORY))
    except bounded.Exceeded as error:
        raise NoTrajectory(f"what its agent left {error}") from None


def _write(folder: str) -> str:
    run = Path(folder)
    if run.is_symlink() or (run / "logs").is_symlink():
        raise NoTrajectory("its folder is a link, or its logs are")
    path = run / "logs" / NAME
    disk.write_text(path, json.dumps(document(run), ensure_ascii=False, allow_nan=False) + "\n")
    return str(path)


def document(run: Path) -> dict[str, Any]:
    """A run's trajectory as a JSON object. Raises NoTrajectory."""
    name = next((name for name in SOURCES if os.path.lexists(run / "logs" / name)), None)
    if name is None:
        raise NoTrajectory(f"its agent left no {' and no '.join(f'logs/{name}' for name in SOURCES)}")
    try:
        data = json.loads(disk.decoded(disk.read_file(run / "logs" / name, LARGEST_FILE))[0])
        if not isinstance(data, dict):
            raise ValueError("is no JSON object")
        return _trajectory(run, name, data).document()
    except OSError as error:
        raise NoTrajectory(f"logs/{name} can't be read: {error.strerror}") from None
    except (json.JSONDecodeError, RecursionError):
        raise NoTrajectory(f"logs/{name} is cut off or no JSON") from None
    except ValueError as error:
        raise NoTrajectory(f"logs/{name} {error}") from None


def _trajectory(run: Path, name: str, data: dict[str, Any]) -> Trajectory:
    told = disk.read_json(run / "run_metadata.json") or {}
    workflow = cells.view(disk.read_json(run.parent / "workflow.json") or {}, told.get("cell"))
    agent = values.text(told.get("agent")) or ("aide" if name == aide.NAME else "mini-swe")
    if name == aide.NAME:
        usage = disk.read_json(run / "logs" / "usage.json") or {}
        made = aide.trajectory(data, usage, agent, _version(agent))
    else:
        made = mini_swe.trajectory(data, agent)
    made.run_id = values.text(told.get("run_id")) or run.name
    made.model = values.text(told.get("model")) or made.model
    if made.model == REPLAY or workflow.get("language_model") is False:
        made.notes.append(f"{made.model or 'The model'} is not a language model: its answers were prepared.")
    made.extra |= {
        "task": values.text(told.get("competition")),
        "state": values.text(told.get("state")),
        "made_of": f"logs/{name}",
    }
    return made


def _version(agent: str) -> str:
    """The version of AIDE that this checkout installs; other agents that leave such a journal tell none."""
    try:
        lines = (ROOT / "requirements" / "aide-nodeps.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [line.partition("==")[2] for line in lines if line.startswith("aideml==")]
    return found[0] if found and agent.partition("/")[0] == "aide" else "unknown"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.trajectories.write", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="the folder of a run")
    code = 0
    for run in parser.parse_args(argv).runs:
        try:
            print(write(run))
        except (NoTrajectory, OSError) as error:
            print(f"{run}: {error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
