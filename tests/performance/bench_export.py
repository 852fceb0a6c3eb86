"""Time export_results.py on 10,000 runs, beside a shell loop that prints each run's score with jq.

The loop is timed on 200 runs and scaled. Prints one line; exits 1 when the table is wrong, takes over 10 s, or is not
5 x faster.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
SECONDS, RATIO = 10.0, 5.0
LOOPED = 200
LOOP = 'for dir in "$1"/*/*_[0-9]*/; do cat "$dir/grading_report.json" | {} >/dev/null || exit 1; done'
MEDALS = ("any_medal", "gold_medal", "silver_medal", "bronze_medal", "above_median")


def make_runs(folder: Path, count: int) -> None:
    """Write workflows of one run each: the most files, and a workflow.json as large as a real one."""
    config = {
        "scheduler": {"kind": "slurm"},
        "gpu": {"per_node": 4},
        "notes": [f"a line of configuration {n}" for n in range(150)],
    }
    clock = "2026-01-01T{:02d}:00:00Z".format
    for number in range(count):
        group = folder / f"2026-01-01T00-00-00-UTC_run-group_aide-{number}"
        run, job = group / f"spaceship-titanic_{number}", str(number)
        (run / "logs").mkdir(parents=True)
        (group / "services").mkdir()
        files = {
            group / "workflow.json": {
                "competition": "spaceship-titanic",
                "model": "30b",
                "agent": "aide",
                "seed": number,
                "config_hash": "0" * 64,
                "config": config,
                "model_config": {"engine": "vllm", "gpus": 1},
                "jobs": {"agents": [job], "model_server": f"9{job}"},
            },
            group / "services" / f"vllm_30b_9{job}.json": {"gpus": 1, "started_at": clock(1), "ended_at": clock(3)},
            run / "run_metadata.json": {
                "competition": "spaceship-titanic",
                "model": "30b",
                "agent": "aide",
                "seed": number,
                "state": "scored",
                "cpus": 8,
                "job_id": job,
                "model_job": f"9{job}",
                "created_at": clock(0),
                "agent_started_at": clock(1),
                "agent_ended_at": clock(2),
                "ended_at": clock(2),
            },
            run / "logs" / "usage.json": {"steps": 5, "requests": 10, "prompt_tokens": 1000, "completion_tokens": 200},
            run / "grading_report.json": {"total_score": 0.8, "is_lower_better": False, **dict.fromkeys(MEDALS, False)},
        }
        for path, data in files.items():
            path.write_text(json.dumps(data, indent=2))


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    count = parser.parse_args().runs
    reader = "jq .total_score" if shutil.which("jq") else f"{sys.executable} -m json.tool"
    with tempfile.TemporaryDirectory() as name:
        folder, table = Path(name), Path(name, "results.csv")
        make_runs(folder / "few", LOOPED)
        make_runs(folder / "runs", count)
        seconds = timed(
            [sys.executable, str(ROOT / "helpers/export_results.py"), str(folder / "runs"), "-o", str(table)]
        )
        loop = timed(["bash", "-c", LOOP.format(reader), "-", str(folder / "few")]) * count / LOOPED
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    right = len(rows) == count and all(row["score"] == "0.8" and row["gpu_hours"] == "2.0" for row in rows)
    ratio = loop / seconds
    passed = right and seconds <= SECONDS and ratio >= RATIO
    tool = reader.split()[0].rpartition("/")[2]
    figure(
        f"export of {count} runs, rows {'right' if right else 'WRONG'}",
        f"{seconds:.1f} s",
        f"{loop:.1f} s (a loop with {tool})",
        ratio,
        f"{SECONDS:g} s and at least {RATIO:g}",
        passed,
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
