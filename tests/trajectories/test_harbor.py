"""Trajectories by Harbor's own validator. Opt-in: HAB_HARBOR_PYTHON names a Python (3.12 or newer) that has Harbor's models:

python3.12 -m venv VENV && VENV/bin/pip install --no-deps harbor==0.26.0 && VENV/bin/pip install pydantic
HAB_HARBOR_PYTHON=VENV/bin/python make test-mini-swe
"""

import os
import subprocess

import pytest
from left_by_agents import USAGE, journal, make_run, mini_swe

from helpers.trajectories import write

PYTHON = os.environ.get("HAB_HARBOR_PYTHON")
CHECK = """
import sys
from harbor.utils.trajectory_validator import TrajectoryValidator
validator = TrajectoryValidator()
for path in sys.argv[1:]:
    if not validator.validate(__import__("pathlib").Path(path)):
        sys.exit(f"{path}: {validator.errors}")
print("valid")
"""


@pytest.mark.skipif(not PYTHON, reason="opt-in: HAB_HARBOR_PYTHON names a Python that has harbor")
def test_harbor_takes_what_is_written(tmp_path):
    runs = [
        make_run(tmp_path / "a_1", {"journal.json": journal(), "usage.json": USAGE}),
        make_run(tmp_path / "a_2", {"mini-swe.traj.json": mini_swe()}, agent="mini-swe"),
    ]
    paths = [write.write(run) for run in runs]
    environment = os.environ | {"HARBOR_TELEMETRY": "off"}
    done = subprocess.run([PYTHON, "-c", CHECK, *paths], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "valid\n"), done.stdout + done.stderr
    broken = paths[0].with_name("broken.json")
    broken.write_text(paths[0].read_text().replace('"step_id": 2', '"step_id": 3'))
    done = subprocess.run([PYTHON, "-c", CHECK, broken], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "step_id" in done.stderr
