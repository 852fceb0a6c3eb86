"""What the report's tests share: the rounds of tests/performance/."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "performance"))
sys.path.insert(0, str(HERE.parent / "helpers"))
sys.path.insert(0, str(HERE.parent / "benchmarks"))

import bench_rounds  # noqa: E402


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{HERE.parent / 'fakes' / 'slurm'}:{os.environ['PATH']}")


@pytest.fixture(scope="session")
def a_round(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of 100 rollouts, 20 tasks with 5 models, with journals and samples of their servers' load. To be read only."""
    from made_reports import leave_journals, leave_samples

    made = bench_rounds.make_round(tmp_path_factory.mktemp("round") / "made", 100, bench_rounds.ENDED)
    leave_journals(made.group, 6)
    leave_samples(made.group)
    return made.group
