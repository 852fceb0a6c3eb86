from __future__ import annotations

import os
from pathlib import Path

import pytest

FAKES = Path(__file__).resolve().parents[1] / "fakes" / "slurm"


@pytest.fixture(autouse=True)
def no_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Slurm this machine has, its accounting is disabled."""
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
