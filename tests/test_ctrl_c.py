"""Ctrl-C at every moment of a start, against the fake Slurm: one is enough, the exit code is 130, nothing is left, no traceback.

HAB_SWEEP=0.02 tries every 20 ms of the start (minutes); without it some moments are tried, others in each run of the tests.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "workflow": ["run_workflow.sh", "toy", "replay", "--rollouts", "2"],
    "prepare": ["prepare_tasks.sh", "t1", "t2", "t3", "--set", "limits.max_array_size=2"],
    "notebook": ["run_notebook.sh", "toy"],
}
LAST = {
    "workflow": "pending",
    "prepare": "3 jobs (101, 102)",
    "notebook": "PENDING",
}  # words of a command that has started
SITE = """
scheduler: {kind: slurm}
container: {runtime: apptainer}
paths: {data: data, runs: runs, containers: images, models: models, address_dir: addresses}
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a site, a prepared task, images, and the fake Slurm."""
    paths = {key: str(tmp_path / key) for key in ("data", "runs", "images", "models", "addresses")}
    text = SITE
    for key, path in paths.items():
        text = text.replace(f": {key}", f": {path}")
    (tmp_path / "here.yaml").write_text(text)
    for half, name in (("public", "description.md"), ("private", "answers.csv")):
        folder = tmp_path / "data" / "toy" / "prepared" / half
        folder.mkdir(parents=True)
        (folder / name).write_text("text\n")
    (tmp_path / "images").mkdir()
    for image in ("mlebench-env", "aide", "prepare", "experiment"):
        (tmp_path / "images" / f"{image}.sif").touch()
    (tmp_path / "slurm").mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    monkeypatch.setenv("PATH", f"{ROOT}/tests/fakes/slurm:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def slow_python(folder: Path) -> Path:
    """A folder of environments whose Python takes a while to start."""
    core = Path(os.environ["HAB_CORE_PYTHON"]).parent.parent
    (folder / ".venv-core" / "bin").mkdir(parents=True)
    (folder / ".venv-core" / ".stamp").write_text((core / ".stamp").read_text())
    python = folder / ".venv-core" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nsleep 0.2\nexec {core}/bin/python "$@"\n')
    python.chmod(0o755)
    return folder


def start(world: Path, name: str, number: int) -> subprocess.Popen[str]:
    command = [str(ROOT / "scripts_hpc" / COMMANDS[name][0]), *COMMANDS[name][1:], "--site", str(world / "here.yaml")]
    with open(world / f"err{number}", "w") as err:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=err,
            stderr=err,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def duration(world: Path, name: str) -> float:
    """Seconds until the command has started all."""
    began = time.monotonic()
    process = start(world, name, 0)
    while LAST[name] not in (world / "err0").read_text():
        assert process.poll() is None and time.monotonic() < began + 60, (world / "err0").read_text()
        time.sleep(0.01)
    took = time.monotonic() - began
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    return took


def moments(took: float) -> list[float]:
    step = os.environ.get("HAB_SWEEP")
    if step:
        return [number * float(step) for number in range(int((took + 0.3) / float(step)))]
    return [(number + random.random()) * took / 6 for number in range(6)]


def left(world: Path) -> list[str]:
    """What shouldn't be there any more."""
    jobs = (world / "slurm" / "jobs").read_text().splitlines() if (world / "slurm" / "jobs").exists() else []
    found = [job for job in jobs if not job.endswith(" CANCELLED")]
    found += [str(path) for path in world.glob("addresses/[!.]*") if path.name != "local_jobs"]
    for path in world.glob("runs/*/*/run_metadata.json"):
        if (state := json.loads(path.read_text())["state"]) != "cancelled":
            found.append(f"{path}: {state}")
    for group in world.glob("runs/*_*"):
        if not (group / "jobs" / "submitted").exists():
            found.append(str(group))
    return found


@pytest.mark.parametrize("python", ["usual", pytest.param("slow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_at_any_moment(world: Path, name: str, python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "HAB_CORE_PYTHON" not in os.environ:
        pytest.skip("tests/run.sh makes the environments")
    environments = Path(os.environ["HAB_CORE_PYTHON"]).parents[2]
    monkeypatch.setenv("HAB_VENV_DIR", str(environments if python == "usual" else slow_python(world / "venvs")))
    for number, moment in enumerate(moments(duration(world, name)), 1):
        process = start(world, name, number)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(60)
        said = (world / f"err{number}").read_text()
        # at its very first bytes bash dies of the signal itself
        assert code in (130, -signal.SIGINT), f"{code} at {moment:.3f} s: {said}"
        assert "Traceback" not in said and "Error" not in said, f"at {moment:.3f} s: {said}"
        assert left(world) == [], f"at {moment:.3f} s: {said}"
