"""Time the export of traces of 10,000 runs to parquet, beside a loop that only parses the same trajectories.

The runs lie in workflows of 1,000; each has a trajectory of 20 answers with their calls and outputs, in ATIF, and one in ten has failed.
Memory: the largest resident set of the process, beside that of a tenth of the runs: it must not grow with them.
Exits 1 when the file is wrong or a figure misses its limit.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "datagen"), str(ROOT)]

import pyarrow.parquet  # noqa: E402
from made_traces import make_group, make_run  # noqa: E402

SECONDS, MEGABYTES, GROWTH = 30.0, 1000.0, 1.5
GROUP, STEPS, FAILED = 1000, 20, 10
OUTPUT_LINES = 50
LINES = [f"row {line}: {random.Random(line).random():.12f}" for line in range(5000)]
LOOP = """
import json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*/logs/trajectory.json")):
    json.loads(path.read_bytes())
"""


@dataclass(frozen=True)
class Took:
    seconds: float
    megabytes: float
    said: str


def trajectory(number: int) -> dict[str, Any]:
    """What an agent with a shell did: no two of them are the same."""
    chance = random.Random(number)
    steps: list[dict[str, Any]] = [
        {"step_id": 1, "source": "system", "message": "You can use a shell."},
        {
            "step_id": 2,
            "source": "user",
            "message": f"Task {number}. " + "Train a model on the table and hand in its predictions. " * 30,
        },
    ]
    for step in range(STEPS):
        name = f"call-{step}"
        output = "\n".join(chance.choices(LINES, k=OUTPUT_LINES))
        steps.append(
            {
                "step_id": step + 3,
                "timestamp": "2026-01-01T01:00:00.000Z",
                "source": "agent",
                "model_name": "qwen",
                "message": f"I look at part {chance.randrange(10**9)} of the data, and then I change the program.",
                "tool_calls": [
                    {
                        "tool_call_id": name,
                        "function_name": "bash",
                        "arguments": {"command": f"python train.py --step {step}"},
                    }
                ],
                "observation": {"results": [{"source_call_id": name, "content": output, "extra": {"returncode": 0}}]},
                "metrics": {"prompt_tokens": 1000 + step, "completion_tokens": 100},
                "llm_call_count": 1,
            }
        )
    agent = {"name": "mini-swe", "version": "2.4.6", "model_name": "30b"}
    return {"schema_version": "ATIF-v1.7", "session_id": f"toy_{number}", "agent": agent, "steps": steps}


def make(folder: Path, count: int) -> None:
    for first in range(0, count, GROUP):
        group = make_group(folder, f"group-{first}")
        for number in range(first, min(count, first + GROUP)):
            left = {
                "trajectory.json": trajectory(number),
                "usage.json": {"prompt_tokens": 20_000, "completion_tokens": 2000},
            }
            state = "agent_failed" if number % FAILED == 0 else "scored"
            make_run(group, number, state, None if number % FAILED == 0 else number % 100 / 100, left)


def took(*command: str | Path) -> Took:
    """Run a command; raises RuntimeError where it fails."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said[-2000:]}")
    return Took(seconds, used.ru_maxrss / 1024, said)


def exported(folder: Path, file: Path, count: int) -> Took:
    """Export all runs; raises RuntimeError where the file isn't theirs."""
    one = took(sys.executable, "-m", "helpers.datagen.trace_export", folder, "-o", file, "--deduplicate")
    columns = ["state", "reward", "trial_name"]
    table = pyarrow.parquet.read_table(file, columns=columns).to_pydict()
    failed = sum(
        state == "agent_failed" and reward is None
        for state, reward in zip(table["state"], table["reward"], strict=True)
    )
    if (
        len(set(table["trial_name"])) != count
        or failed != -(-count // FAILED)
        or f"{count} rows of {count} runs" not in one.said
    ):
        raise RuntimeError(f"the file doesn't hold the traces of {count} runs: {one.said[-2000:]}")
    return one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="default: %(default)s")
    count = parser.parse_args().runs
    few = max(1, count // 10)
    with tempfile.TemporaryDirectory(prefix="bench_traces.") as name:
        folder = Path(name)
        # by other processes, whose memory counts for nobody
        for part, number in (("few", few), ("runs", count)):
            with ProcessPoolExecutor(1) as pool:
                pool.submit(make, folder / part, number).result()
        small = exported(folder / "few", folder / "few.parquet", few)
        one = exported(folder / "runs", folder / "traces.parquet", count)
        loop = took(sys.executable, "-c", LOOP, folder / "runs")
        megabytes = sum(path.stat().st_size for path in folder.glob("runs/*/*/logs/trajectory.json")) / 1e6
        size = (folder / "traces.parquet").stat().st_size / 1e6
        print(f"  {megabytes:.0f} MB of trajectories, {size:.0f} MB of parquet; {megabytes / one.seconds:.0f} MB/s")
        good = figure(
            f"traces of {count} runs to parquet, {one.megabytes:.0f} MB of memory",
            f"{one.seconds:.1f} s",
            f"{loop.seconds:.1f} s (json.loads of the same trajectories)",
            one.seconds / loop.seconds,
            f"{SECONDS:g} s and {MEGABYTES:g} MB",
            one.seconds <= SECONDS and one.megabytes <= MEGABYTES,
        )
        what, others = f"memory of the traces of {count} runs", f"{small.megabytes:.0f} MB (of {few} runs)"
        ratio = one.megabytes / small.megabytes
        is_flat = ratio <= GROWTH if few >= GROUP else None
        flat = figure(what, f"{one.megabytes:.0f} MB", others, ratio, f"at most {GROWTH:g}", is_flat)
        return 0 if good and flat else 1


if __name__ == "__main__":
    sys.exit(main())
