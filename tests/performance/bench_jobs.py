"""Time `jobs.sh status` and `why` on a run group of 10,000 runs beside one of 1,000, with a scheduler that answers at once.

Half of the runs are scored; the others' jobs wait or run. Exits 1 above a limit.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench_commands import ROOT, seconds

SECONDS_LIMIT, RATIO_LIMIT = 3.0, 12.0
STATES = ("COMPLETED", "RUNNING", "COMPLETED", "PENDING")
SQUEUE = '#!/bin/sh\nfor argument; do case $argument in --user=*) exec cat "$QUEUE";; esac; done\n'


def make_group(folder: Path, count: int) -> Path:
    """A run group of `count` agents that share two servers; beside it `queue`, what squeue says of it."""
    jobs = [str(100000 + number) for number in range(count)]
    record = {
        "competition": "toy",
        "agent": "aide",
        "model": "30b",
        "site": "here",
        "config": {"scheduler": {"kind": "slurm"}, "paths": {"address_dir": str(folder)}},
        "jobs": {"grading_server": "11", "model_server": "12", "agents": jobs},
    }
    group = folder / f"{count}_run-group_aide"
    (group / "logs").mkdir(parents=True)
    (group / "workflow.json").write_text(json.dumps(record))
    lines = ["11|RUNNING|None|0:01|n1", "12|RUNNING|None|0:01|n1"]
    for number, job in enumerate(jobs):
        state = STATES[number % len(STATES)]
        run = group / f"toy_{job}"
        run.mkdir()
        ended = state == "COMPLETED"
        data = {"state": "scored" if ended else "running", "job_id": job, "agent": "aide", "reason": ""}
        (run / "run_metadata.json").write_text(json.dumps({**data, "grading_job": "11", "model_job": "12"}))
        if ended:
            (run / "grading_report.json").write_text(json.dumps({"score": 0.5, "total_score": 0.5}))
        (group / "logs" / f"agent_aide-{job}.out").write_text("at work\n")
        lines.append(f"{job}|{state}|None|0:01|n1")
    (folder / "queue").write_text("\n".join(lines) + "\n")
    return group


def best(verb: str, group: Path) -> float:
    os.environ["QUEUE"] = str(group.parent / "queue")
    times = [seconds(ROOT / "scripts_hpc" / "jobs.sh", verb, group) for _ in range(3)]
    print(f"  jobs.sh {verb}, {group.name.partition('_')[0]} runs: {'/'.join(f'{one:.3f}' for one in times)} s")
    return min(times)


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    good = True
    with tempfile.TemporaryDirectory() as folder:
        squeue = Path(folder, "bin", "squeue")
        squeue.parent.mkdir()
        squeue.write_text(SQUEUE)
        squeue.chmod(0o755)
        os.environ["PATH"] = f"{squeue.parent}:{os.environ['PATH']}"
        began = time.perf_counter()
        few, many = make_group(Path(folder, "few"), 1000), make_group(Path(folder, "many"), 10000)
        print(f"  made the run groups in {time.perf_counter() - began:.1f} s")
        for verb in ("status", "why"):
            small, large = best(verb, few), best(verb, many)
            print(
                f"jobs.sh {verb} of 10,000 runs: ours {large:.3f} s, alternative {small:.3f} s (1,000 runs), ratio {large / small:.1f}, "
                f"limit {SECONDS_LIMIT:g} s and {RATIO_LIMIT:g} times"
            )
            good = good and large <= SECONDS_LIMIT and large / small <= RATIO_LIMIT
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
