"""Tasks by Harbor's own models. Opt-in: HAB_HARBOR_PYTHON names a Python that has them, as tests/trajectories/test_harbor.py says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from made_tasks import make
from test_harbor_task import NEW, OLD

from helpers.datagen import commons, harbor_task

PYTHON = os.environ.get("HAB_HARBOR_PYTHON")
CHECK = """
import sys, pathlib, types, warnings
sys.modules.setdefault("toml", types.ModuleType("toml"))  # with which it only writes
from harbor.models.task.config import TaskConfig
warnings.simplefilter("ignore")
for path in sys.argv[1:]:
    task = TaskConfig.model_validate_toml(pathlib.Path(path, "task.toml").read_text())
    environment = task.environment
    values = [task.schema_version, task.agent.timeout_sec, task.verifier.timeout_sec, environment.memory_mb, environment.storage_mb]
    values += [environment.network_mode.value, environment.docker_image, environment.workdir, environment.env]
    print(*values, task.verifier.env, task.solution.env, task.task and task.task.name)
"""


@pytest.mark.skipif(not PYTHON, reason="opt-in: HAB_HARBOR_PYTHON names a Python that has harbor")
def test_harbor_reads_in_a_task_what_we_read_in_it(tmp_path: Path) -> None:
    folders = [
        make(tmp_path / "new", config=NEW),
        make(tmp_path / "old", config=OLD),
        make(tmp_path / "empty", config=""),
        commons.create_task_directory_unified(tmp_path, 1, "Do it.", "made"),
        commons.create_task_directory_unified(tmp_path, 2, "Do it.", "made", agent_timeout_sec=5400),
    ]
    said = []
    for folder in folders:
        task = harbor_task.read(folder)
        environment = task.environment
        values = [task.schema_version, task.agent.timeout_sec, task.verifier.timeout_sec]
        values += [environment.memory_mb, environment.storage_mb]
        values += [environment.network_mode, environment.docker_image, environment.workdir, environment.env]
        values += [task.verifier.env, task.solution.env, task.task and task.task.name]
        said.append(" ".join(map(str, values)))
    environ = os.environ | {"HARBOR_TELEMETRY": "off"}
    done = subprocess.run([str(PYTHON), "-c", CHECK, *map(str, folders)], capture_output=True, text=True, env=environ)
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr
