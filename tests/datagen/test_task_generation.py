"""Many seeds at a time, of which some fail."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.datagen import (
    DaytonaTaskGenerationExecutor,
    InputValidationError,
    TaskGenerationExecutor,
    TaskGenerationSpec,
)


def specs(folder: Path, count: int) -> list[TaskGenerationSpec]:
    return [
        TaskGenerationSpec(seed, folder / f"out-{seed}", f"t{seed}", folder / "jobs", seed) for seed in range(count)
    ]


def test_results_come_in_order_and_a_seed_that_fails_is_one(tmp_path: Path) -> None:
    running, most, lock = 0, 0, threading.Lock()
    base = argparse.Namespace(source=["x"])

    def generate(args: argparse.Namespace) -> Any:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
        args.source.append(args.seed)  # a copy of its own
        time.sleep(0.05 if args.seed else 0.2)
        with lock:
            running -= 1
        assert args.source == ["x", args.seed] and args.dataset_index == args.seed
        if args.seed == 3:
            raise ValueError("seed three\nis bad")
        if args.seed == 4:
            sys.exit("no more")
        (Path(args.output) / args.dataset_prefix).mkdir()
        return (args.output, {"seed": args.seed}) if args.seed % 2 else Path(args.output, args.dataset_prefix)

    results = TaskGenerationExecutor(base, 3, generate).run(specs(tmp_path, 8))
    assert most == 3 and base.source == ["x"]
    assert [one.spec.seed for one in results] == list(range(8))
    assert [one.success for one in results] == [True, True, True, False, False, True, True, True]
    assert (results[1].dataset_dir, results[1].artifacts) == (tmp_path / "out-1", {"seed": 1})
    assert (results[2].dataset_dir, results[2].artifacts) == (tmp_path / "out-2" / "t2", {})
    bad = results[3]
    assert isinstance(bad.error, ValueError) and bad.dataset_dir is None and bad.exception_path is not None
    text = bad.exception_path.read_text()
    assert (
        bad.exception_path.parent == tmp_path / "jobs"
        and "in generate" in text
        and text.endswith("seed three\nis bad\n")
    )
    assert isinstance(results[4].error, SystemExit) and len(list((tmp_path / "jobs").iterdir())) == 2


def test_what_is_made_elsewhere_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commons: Any = ModuleType("helpers.datagen.commons")
    commons.finalize_dataset_output = shutil.move  # returns where it lies
    monkeypatch.setitem(sys.modules, "helpers.datagen.commons", commons)

    def generate(args: argparse.Namespace) -> Path:
        made = tmp_path / f"elsewhere-{args.seed}"
        made.mkdir()
        (made / "task").write_text(str(args.seed))
        return made

    results = DaytonaTaskGenerationExecutor(argparse.Namespace(), 2, generate).run(specs(tmp_path, 2))
    assert [one.dataset_dir for one in results] == [tmp_path / "out-0", tmp_path / "out-1"]
    assert (tmp_path / "out-1" / "task").read_text() == "1"


def test_nothing_and_wrong_settings(tmp_path: Path) -> None:
    assert TaskGenerationExecutor(None, 1, print).run([]) == []
    with pytest.raises(
        InputValidationError, match="generate_fn: says how the tasks of a seed are made, and is missing"
    ):
        TaskGenerationExecutor(None, 1)
    with pytest.raises(InputValidationError, match="max_concurrent: must be at least 1, not 0"):
        TaskGenerationExecutor(None, 0, print)


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    begun, released, aborted = [], threading.Event(), threading.Event()

    def generate(args: argparse.Namespace) -> Path:
        begun.append(args.seed)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        released.wait(20)
        return Path(args.output)

    def abort() -> None:
        aborted.set()
        released.set()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        TaskGenerationExecutor(argparse.Namespace(), 2, generate, abort=abort).run(specs(tmp_path, 10))
    assert aborted.is_set() and len(begun) == 2 and time.monotonic() - started < 4
    time.sleep(0.1)
    assert len(begun) == 2  # no further one began
