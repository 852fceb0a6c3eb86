"""Time what a person waits for at the keyboard: the help and the lists of all commands, completing a word, the newest run among
10,000, rendering a site, a dry run of many rollouts, and the first command the second time.

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
HELP_LIMIT, LIST_LIMIT, WORD_LIMIT, AMONG_LIMIT = 0.1, 0.4, 0.15, 1.5
RENDER_LIMIT, FIRST_LIMIT, DRY_LIMIT = 1.0, 60.0, 3.0
# 28 agents at once on the fake cluster, three hours each, an hour of loading: the servers live for two waves of 36
WAVES = ["jobs.model_server.time=08:00:00", "jobs.grading_server.time=08:00:00", "models.30b.load_minutes=60"]
SAID = [
    "1000 rollouts are 36 waves",
    "the servers live for 2 (",
    "All of them take up to 4-22:00:00 and 118.0 GPU-hours",
]


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


def make_runs(folder: Path, count: int) -> None:
    """So many workflows of one run each, all scored."""
    for number in range(count):
        when = datetime.fromtimestamp(1.7e9 + 100 * number).strftime("%Y-%m-%dT%H-%M-%S-UTC")
        group = folder / f"{when}_run-group_aide"
        run = group / f"toy_{number}"
        run.mkdir(parents=True)
        config = {"scheduler": {"kind": "local"}, "paths": {"address_dir": str(folder)}}
        record = {
            "competition": "toy",
            "agent": "aide",
            "model": "replay",
            "jobs": {"agents": [str(number)]},
            "config": config,
        }
        (group / "workflow.json").write_text(json.dumps(record))
        (run / "run_metadata.json").write_text(
            json.dumps({"state": "scored", "job_id": str(number), "competition": "toy"})
        )
        (run / "grading_report.json").write_text('{"total_score": 0.5}')


def verbs(work: Path, python: float) -> bool:
    """The help and the lists of all commands, the slowest of each; a word that bash completes; the newest run among many."""
    scripts = sorted((ROOT / "scripts_hpc").glob("*.sh"))
    slowest = max(best(5, script, "--help") for script in scripts)
    good = told(f"--help, the slowest of {len(scripts)} commands", slowest, python, "python -c pass", HELP_LIMIT)
    make_runs(work / "few", 10)
    make_runs(work / "many", 10_000)
    few, many = (("--site", "local", "--set", f"paths.runs={work / name}") for name in ("few", "many"))
    lists = [
        ("site.sh", "list"),
        ("models.sh", "list", "--site", "local"),
        ("tasks.sh", "list"),
        ("jobs.sh", "list", *many),
    ]
    slowest = max(best(5, ROOT / "scripts_hpc" / script, *words) for script, *words in lists)
    good = (
        told("list, the slowest of site, models, tasks and jobs", slowest, python, "python -c pass", LIST_LIMIT)
        and good
    )
    line = ["scripts_hpc/jobs.sh", "status", "--site", "local", "--set", f"paths.runs={work / 'many'}", "2"]
    complete = (
        f"source '{ROOT}/scripts_hpc/completion.bash'; COMP_WORDS=({' '.join(line)}); COMP_CWORD={len(line) - 1}; "
        f"_hab_complete {line[0]} {line[-1]} {line[-2]}; ((${{#COMPREPLY[@]}} > 9000))"
    )
    word = best(5, "bash", "-c", complete)
    good = told("completing a run's name among 10,000", word, python, "python -c pass", WORD_LIMIT) and good
    one, other = (
        best(5, ROOT / "scripts_hpc/jobs.sh", "status", *many),
        best(5, ROOT / "scripts_hpc/jobs.sh", "status", *few),
    )
    enough = one <= AMONG_LIMIT * other
    return (
        figure(
            "jobs.sh status among 10,000 runs",
            f"{one:.3f} s",
            f"{other:.3f} s (among ten)",
            one / other,
            f"{AMONG_LIMIT:g} x",
            enough,
        )
        and good
    )


def dry_run(work: Path) -> bool:
    """A dry run of 1,000 rollouts, beside one of a single rollout; and whether it says what they would take."""
    for file in ("public/description.md", "private/answers.csv"):
        path = work / "data" / "toy" / "prepared" / file
        path.parent.mkdir(parents=True)
        path.write_text("text\n")
    for name in ("slurm", "images", "models"):
        (work / name).mkdir()
    for image in ("mlebench-env", "vllm", "aide"):
        (work / "images" / f"{image}.sif").touch()
    paths = {"containers": work / "images", "models": work / "models"}
    site = {"scheduler": {"kind": "slurm"}, "partitions": {"cpu": {"name": "cpu"}, "gpu": {"name": "gpu"}}}
    site |= {"gpu": {"per_node": 2}, "jobs": {"agent": {"cpus": 1, "memory_gb": 1}}}
    (work / "site.yaml").write_text(json.dumps(site | {"paths": {key: str(path) for key, path in paths.items()}}))
    fake = {"FAKE_SLURM": str(work / "slurm"), "FAKE_MAX_TIME": "UNLIMITED"}
    os.environ |= fake | {"PATH": f"{ROOT / 'tests/fakes/slurm'}:{os.environ['PATH']}"}
    command = [ROOT / "scripts_hpc/run_workflow.sh", "toy", "30b", "--site", work / "site.yaml", "--dry-run", "--yes"]
    command += ["--time-limit", "10800", *(word for value in WAVES for word in ("--set", value)), "--rollouts"]
    one, many = best(3, *command, "1"), best(3, *command, "1000")
    said = subprocess.run([str(part) for part in (*command, "1000")], capture_output=True, text=True).stdout
    if missing := [words for words in SAID if words not in said]:
        print(f"the dry run of 1,000 rollouts doesn't say: {', '.join(missing)}\n{said}", file=sys.stderr)
    told_all = told("the dry run of 1,000 rollouts", many, one, "of one rollout", DRY_LIMIT)
    return told_all and not missing


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
        good = verbs(work, python)
        # what any tool with this configuration must do at least
        libraries = best(5, sys.executable, "-c", "import jinja2, pydantic, yaml")
        render = best(5, ROOT / "scripts_hpc/render.sh", "--site", "local", "--output", work / "rendered")
        good = told("rendering a site", render, libraries, "importing jinja2, pydantic and yaml", RENDER_LIMIT) and good
        good = dry_run(work) and good
        seconds(workflow, "--site", "local")  # the first time
        again = seconds(workflow, "--site", "local")
        steps = agent_seconds(work / "runs")
        good = told("the first command, again", again, steps, "AIDE's own 5 steps in it", FIRST_LIMIT) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
