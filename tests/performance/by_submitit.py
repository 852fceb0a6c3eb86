"""What bench_submission.py compares with: rollouts as job arrays of submitit (https://github.com/facebookincubator/submitit).

by_submitit.py FOLDER PARTITION AT_ONCE COUNT…: an array for each COUNT, AT_ONCE of its elements at a time. Prints the arrays' job ids.
"""

from __future__ import annotations

import subprocess
import sys

import submitit


def rollout(agent: str, seed: int) -> int:
    """What an element would run."""
    return subprocess.run(["true", agent, str(seed)], check=False).returncode


def main(folder: str, partition: str, at_once: str, *counts: str) -> None:
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(
        timeout_min=15, cpus_per_task=1, mem_gb=2, slurm_partition=partition, slurm_array_parallelism=int(at_once)
    )
    for number, count in enumerate(counts):
        jobs = executor.map_array(rollout, [f"agent-{number}"] * int(count), range(int(count)))
        print(jobs[0].job_id.partition("_")[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
