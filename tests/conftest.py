"""Every test has its own home, environment and folders; nothing of the person who runs them gets in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.config import sites

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A HOME of its own, and none of the variables that choose a site, a scheduler or a service."""
    for name in list(os.environ):
        if name.startswith(("HPC_", "SLURM_", "SBATCH_", "GRADING_", "MODEL_", "OPENAI_", "GEMINI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sites, "OWN_TASKS", tmp_path_factory.mktemp("checkout") / "tasks")


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """What a test does about signals ends with it: commands that are called in this process keep theirs."""
    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
