"""Rows beside those of Harbor's own exporter, of the same trajectories. Opt-in, as tests/trajectories/test_harbor.py says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_traces import aides, make_group, make_run
from trajectories.left_by_agents import mini_swe

from helpers.datagen import trace_rows
from helpers.trajectories import write

PYTHON = os.environ.get("HAB_HARBOR_PYTHON")
ASK = """
import json, pathlib, sys
from harbor.utils.traces_utils import extract_conversations_from_trajectory
told = {"agent_name": "a", "model_name": "m", "model_provider": "p", "start_time": "", "run_id": "r"}
rows = [extract_conversations_from_trajectory(pathlib.Path(path), told) for path in sys.argv[1:]]
print(json.dumps(rows))
"""
TOOLS = [{"type": "function", "function": {"name": "bash", "description": "Runs a command."}}]
STEPS: list[dict[str, Any]] = [
    {"step_id": 1, "source": "system", "message": "Be good."},
    {"step_id": 2, "source": "user", "message": "Do."},
    {
        "step_id": 3,
        "source": "agent",
        "message": "So.</think>Done.",
        "observation": {"results": [{"content": "1"}, {"content": "2"}]},
    },
    {"step_id": 4, "source": "agent", "message": "", "observation": {"results": [{"source_call_id": None}]}},
    {"step_id": 5, "source": "agent", "message": "Again.", "is_copied_context": True},
    {"step_id": 6, "source": "agent", "message": "End.", "reasoning_content": "Hm."},
    {"step_id": 7, "source": "system", "message": "Over."},
]


@pytest.mark.skipif(not PYTHON, reason="opt-in: HAB_HARBOR_PYTHON names a Python that has harbor")
def test_conversations_are_those_that_harbor_makes(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    made = {
        "schema_version": "ATIF-v1.7",
        "agent": {"name": "a", "version": "1", "tool_definitions": TOOLS},
        "steps": STEPS,
    }
    lefts: list[dict[str, Any]] = [{"mini-swe.traj.json": mini_swe()}, aides(), {"trajectory.json": made}]
    runs = [make_run(group, job, score=1.0, left=left) for job, left in enumerate(lefts)]
    paths = [*(write.write(run) for run in runs[:2]), runs[2] / "logs" / "trajectory.json"]
    environment = os.environ | {"HARBOR_TELEMETRY": "off"}
    done = subprocess.run(
        [str(PYTHON), "-c", ASK, *paths], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for run, theirs in zip(runs, json.loads(done.stdout), strict=True):
        ours = list(trace_rows.rows(run, episodes="all"))
        assert len(ours) >= 3
        for name in ("conversations", "episode"):
            assert [row[name] for row in ours] == [row[name] for row in theirs]
        assert json.loads(ours[0]["tool_definitions"] or "null") == theirs[0].get("tool_definitions")
