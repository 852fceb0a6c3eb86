"""Time what a person waits for at the keyboard: --help, rendering a site, and the first command the second time.

Each beside something that anybody can place: one start of Python, or AIDE's own run. Exits 1 above a limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
HELP_LIMIT, RENDER_LIMIT, FIRST_LIMIT = 0.1, 1.0, 60.0


def seconds(*command: str | Path) -> float:
    """How long a command takes; raises RuntimeError when it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def best(repeats: int, *command: str | Path) -> float:
    times = [seconds(*command) for _ in range(repeats)]
    print(f"  {Path(command[0]).name} {' '.join(map(str, command[1:3]))}: {'/'.join(f'{one:.3f}' for one in times)} s")
    return min(times)


def told(name: str, own: float, other: float, what: str, limit: float) -> bool:
    return figure(name, f"{own:.3f} s", f"{other:.3f} s ({what})", other / own, f"{limit:g} s", own <= limit)


def agent_seconds(runs: Path) -> float:
    """How long the agent itself ran, of the newest run."""
    file = max(runs.glob("*/*/run_metadata.json"), key=lambda path: path.stat().st_mtime)
    run = json.loads(file.read_text())
    began, ended = (
        datetime.fromisoformat(run[key].replace("Z", "+00:00")) for key in ("agent_started_at", "agent_ended_at")
    )
    return (ended - began).total_seconds()


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    workflow = ROOT / "scripts_hpc/run_workflow.sh"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ |= {"HPC_PATHS__RUNS": str(work / "runs"), "HPC_PATHS__DATA": str(work / "data")}
        os.environ |= {"HPC_PATHS__ADDRESS_DIR": str(work / "addresses")}
        python = best(7, sys.executable, "-c", "pass")
        good = told("run_workflow.sh --help", best(7, workflow, "--help"), python, "python -c pass", HELP_LIMIT)
        # what any tool with this configuration must do at least
        libraries = best(5, sys.executable, "-c", "import jinja2, pydantic, yaml")
        render = best(5, ROOT / "scripts_hpc/render.sh", "--site", "local", "--output", work / "rendered")
        good = told("rendering a site", render, libraries, "importing jinja2, pydantic and yaml", RENDER_LIMIT) and good
        seconds(workflow, "--site", "local")  # the first time
        again = seconds(workflow, "--site", "local")
        steps = agent_seconds(work / "runs")
        good = told("the first command, again", again, steps, "AIDE's own 5 steps in it", FIRST_LIMIT) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
