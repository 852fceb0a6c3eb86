"""Prepare a task of a million rows and twenty features, beside scikit-learn's make_classification with DataFrame.to_csv.

Ours is the whole way: generate, split, write both halves, score the references. Each runs in a process of its own; memory is
the peak above what the imports take. Exits 1 when ours takes over 1.5 x the time, or over 3 x the memory of the array.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
TIME_RATIO, MEMORY_RATIO = 1.5, 3.0
ROWS = 1_000_000  # with fewer, what does not grow with the array outweighs it
ROUNDS = 2
FEATURES, BYTES_A_NUMBER = 20, 8
KINDS = {"n_informative": 12, "n_redundant": 4}


def ours(folder: Path, rows: int) -> None:
    from helpers.tasks.definitions import Task
    from helpers.tasks.synthetic import dataset, description, prepare, reference  # noqa: F401

    requirements = {"dataset_type": "classification", "n_samples": rows, "n_features": FEATURES, **KINDS}
    task = Task(id="large", name="Large", task_type="classification", data_requirements=requirements)
    import_heavy()
    before, started = memory("VmRSS"), time.perf_counter()
    prepare.prepare(task, folder, seed=1)
    report(time.perf_counter() - started, before)


def theirs(folder: Path, rows: int) -> None:
    import_heavy()
    import pandas as pd
    from sklearn.datasets import make_classification

    before, started = memory("VmRSS"), time.perf_counter()
    features, labels = make_classification(rows, FEATURES, **KINDS, random_state=1)
    pd.DataFrame(features).assign(target=labels).to_csv(folder / "data.csv", index=False)
    report(time.perf_counter() - started, before)


def import_heavy() -> None:
    import pandas  # noqa: F401
    import sklearn.cluster  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import sklearn.impute  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import sklearn.pipeline  # noqa: F401
    import sklearn.preprocessing  # noqa: F401


def memory(key: str) -> int:
    """Bytes; not getrusage, whose peak goes back to before the exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"bench_generate: /proc/self/status has no {key}")


def report(seconds: float, before: int) -> None:
    print(seconds, memory("VmHWM") - before)


def measure(name: str, rows: int) -> tuple[float, float]:
    """Seconds, and peak memory as a multiple of the array."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--only", name, "--folder", folder, "--rows", str(rows)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(said[0]), int(said[1]) / (rows * FEATURES * BYTES_A_NUMBER)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--only", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        {"ours": ours, "theirs": theirs}[arguments.only](arguments.folder, arguments.rows)
        return 0
    measured = {name: [measure(name, arguments.rows) for _ in range(ROUNDS)] for name in ("theirs", "ours")}
    # the fastest round is the one least disturbed
    (reference, seconds), (reference_memory, used) = (
        [pick(values[at] for values in rounds) for rounds in measured.values()] for at, pick in ((0, min), (1, max))
    )
    ratio = seconds / reference
    passed = figure(
        f"generate {arguments.rows} x {FEATURES}",
        f"{seconds:.1f} s and {used:.2f} x the array",
        f"{reference:.1f} s and {reference_memory:.2f} x (make_classification and to_csv)",
        ratio,
        f"{TIME_RATIO:g} and {MEMORY_RATIO:g} x the array",
        ratio <= TIME_RATIO and used <= MEMORY_RATIO if arguments.rows >= ROWS else None,
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
