"""Count what 100 running jobs of one user ask the scheduler in a minute, beside jobs that each ask for themselves.

Each has a server of its own and one that it shares with all, and looks at both every 10 s, as agents' jobs do; a person watches
them all. Exits 1 above the limit. With --jobs 1000 the user has so many, and each of the 100 looks at ten.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_commands import ROOT
from figure import figure

LIMIT = 20.0  # sites block users for less
ASK = 100
JOB = """
source "$ROOT/scripts_hpc/lib/common.sh"
source "$ROOT/scripts_hpc/lib/scheduler.sh"
SCHEDULER=slurm
for ((id = 1000; id < 1000 + JOBS; id += JOBS / ASK)); do
  (
    common::pause $((id * ASK / JOBS % 10)).$((id % 7))
    while ((SECONDS < UNTIL)); do
      sched::gone_of $(seq $id $((id + JOBS / ASK - 1))) 11 >/dev/null
      common::pause 10
    done
  ) &
done
wait
"""
SQUEUE = """#!/usr/bin/env bash
echo squeue >>"$CALLS"
for argument; do
  case $argument in
    --jobs=*) ids=${argument#--jobs=} ;;
    --user=*) ids="11 $(seq -s' ' 1000 $((999 + JOBS)))" ;;
  esac
done
for id in ${ids//,/ }; do echo "$id|RUNNING|None|0:01|n1"; done
"""


def start(folder: Path, name: str, run_for: int, address_dir: str) -> tuple[subprocess.Popen[bytes], Path]:
    calls = folder / name
    environment = {
        "CALLS": str(calls),
        "ADDRESS_DIR": address_dir,
        "ROOT": str(ROOT),
        "UNTIL": str(run_for),
        "ASK": str(ASK),
    }
    return subprocess.Popen(["bash", "-c", JOB], env={**os.environ, **environment}), calls


def watch(folder: Path, jobs: int, calls: Path, process: subprocess.Popen[bytes]) -> None:
    """What a person's watcher asks meanwhile, of jobs that have run for a while."""
    sys.path.insert(0, str(ROOT))
    from helpers.jobs.fleet import Fleet
    from helpers.scheduler.query import Scheduler

    os.environ["CALLS"] = str(calls)
    fleet = Fleet(Scheduler("slurm", str(folder)))
    fleet.patient = True
    while process.poll() is None:
        if fleet.is_due():
            fleet.look([str(1000 + number) for number in range(jobs)] + ["11"])
        time.sleep(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=ASK)
    options = parser.parse_args()
    os.environ["JOBS"] = str(options.jobs)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        squeue = folder / "bin" / "squeue"
        squeue.parent.mkdir()
        squeue.write_text(SQUEUE)
        squeue.chmod(0o755)
        os.environ["PATH"] = f"{squeue.parent}:{os.environ['PATH']}"
        began = time.monotonic()
        ours, our_calls = start(folder, "ours", options.seconds, place)
        alone, their_calls = start(folder, "alone", options.seconds, "")
        watch(folder, options.jobs, our_calls, ours)
        alone.wait()
        minutes = (time.monotonic() - began) / 60
        per_minute = [len(path.read_text().splitlines()) / minutes for path in (our_calls, their_calls)]
    good = figure(
        f"calls of the scheduler by {options.jobs} running jobs of one user",
        f"{per_minute[0]:.1f} a minute",
        f"{per_minute[1]:.1f} a minute (each for itself, every 10 s)",
        per_minute[0] / per_minute[1],
        f"{LIMIT:.0f} a minute",
        good=per_minute[0] <= LIMIT,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
