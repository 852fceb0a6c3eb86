"""Time `site.sh init` and `site.sh doctor` without a GPU on the test cluster, beside what the scheduler itself takes.

Init: beside the five questions to Slurm that it asks. Doctor: beside one empty job from its submission to its end, of which a doctor has
two. Needs the cluster, as one of its two sites, and what run.sh prepares on it. Exits 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from bench_start import Cluster
from figure import figure

INIT_LIMIT, DOCTOR_LIMIT = 10.0, 90.0
QUESTIONS = "sinfo; scontrol show partition; scontrol show config; sacctmgr show assoc; sacctmgr show qos"
JOB = {
    "loopback": ("--partition=cpu",),
    "hosts": ("--partition=long", "--time=5", "--account=science", "--qos=day"),
}


def seconds(cluster: Cluster, *command: str | Path) -> float:
    """Of one command as the user; raises RuntimeError where it fails."""
    began = time.perf_counter()
    cluster.call(*command)
    return time.perf_counter() - began


def bench_init(cluster: Cluster) -> bool:
    """Write a site file, and remove it."""
    made = cluster.checkout / "site-config" / "benchmade.yaml"
    made.unlink(missing_ok=True)
    try:
        ours = seconds(cluster, "env", f"SCRATCH={cluster.work}", "scripts_hpc/site.sh", "init", "benchmade", "--yes")
    finally:
        made.unlink(missing_ok=True)
    asked = seconds(cluster, "bash", "-c", QUESTIONS)
    what = f"{asked:.2f} s (its questions, one by one)"
    return figure("site.sh init", f"{ours:.2f} s", what, ours / asked, f"{INIT_LIMIT:g} s", ours <= INIT_LIMIT)


def bench_doctor(cluster: Cluster) -> bool:
    """A doctor that passes."""
    ours = seconds(cluster, "scripts_hpc/site.sh", "doctor")
    options = JOB[os.environ.get("HAB_CLUSTER_SITE") or "loopback"]
    job = seconds(cluster, "sbatch", "--wait", "--output=/dev/null", *options, "--wrap=true")
    what = f"{job:.2f} s (an empty job)"
    return figure("site.sh doctor", f"{ours:.2f} s", what, ours / job, f"{DOCTOR_LIMIT:g} s", ours <= DOCTOR_LIMIT)


def main() -> int:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    if "CHECKOUT" not in os.environ or os.geteuid():
        said = "bench_doctor.py: needs the test cluster: tests/performance/run.sh brings it up (root, Debian 12)"
        print(said, file=sys.stderr)
        return 77
    cluster = Cluster()
    try:
        # the data folder of the site's own file, as nothing is prepared here
        cluster.call("mkdir", "-p", cluster.runs, cluster.data)
        cluster.call("scripts_hpc/site.sh", "list")  # which makes the environment, once
        return 0 if all([bench_init(cluster), bench_doctor(cluster)]) else 1
    finally:
        subprocess.run(["rm", "-rf", cluster.work], check=True)


if __name__ == "__main__":
    sys.exit(main())
