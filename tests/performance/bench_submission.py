"""Time the submission of 1,000 rollouts of four pairs of agent and model on the test cluster, and count what it asks of Slurm.

Beside a loop with one sbatch for each rollout, and beside submitit's job arrays. Both get what is to be submitted for nothing;
run_benchmark.sh checks everything first and makes a round's folders. So what is compared is the handing over, from the first call of sbatch
to the last; how long the whole command takes is told beside it. The calls are counted once more on a cluster that takes no arrays of more
than 26 elements.
A reservation keeps the nodes from all jobs meanwhile, and all jobs are stopped: none of them runs.
Needs the cluster, and what run.sh prepares on it. Exits 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_start import COMPETITION, Cluster, until
from figure import figure

HERE = Path(__file__).resolve().parent
SBATCH_LIMIT, SUBMITIT_LIMIT = 50.0, 1.0
SUBMITIT = "submitit==1.5.4"
MODELS = ("replay", "replay-b", "replay-c")  # and an agent without a model
PAIRS, SERVERS = len(MODELS) + 1, len(MODELS) + 1  # a server for each model, and the grading server
SMALL = 26  # elements of an array
AT_ONCE = 8
CONFIG = """\
name = "many"
parallel = {parallel}

[[tasks]]
task = "{task}"
agent = "baseline"
rollouts = {each}

[[tasks]]
task = "{task}"
models = {models}
steps = 1
rollouts = {each}
"""
# the times of its files are those of the call's beginning and end
SBATCH = """\
#!/bin/sh
: >{calls}/$$.begun
{sbatch} "$@"
code=$?
: >{calls}/$$.ended
exit $code
"""
LOOP = 'for ((number = 0; number < $1; number++)); do sbatch --parsable "$2" 0 "$number" 1 auto:1 auto:1 || exit; done'


@dataclass(frozen=True)
class Submitted:
    """A submission. seconds: of the whole command; handing: from the first call of sbatch to the last; calls: of sbatch."""

    output: str
    seconds: float
    handing: float
    calls: int


class Submissions:
    """Commands that submit, on a cluster whose sbatch notes when it was called."""

    def __init__(self, cluster: Cluster, rollouts: int):
        self.cluster, self.rollouts, self.each = cluster, rollouts, rollouts // PAIRS
        self.plain = dict(cluster.env)
        self.calls = cluster.work / "calls"
        self.calls.mkdir()
        os.chown(self.calls, cluster.user.pw_uid, cluster.user.pw_gid)
        program = cluster.work / "bin" / "sbatch"
        program.parent.mkdir()
        program.write_text(SBATCH.format(sbatch="/usr/bin/sbatch", calls=self.calls))
        program.chmod(0o755)
        self.noting = self.plain | {"PATH": f"{program.parent}:{self.plain['PATH']}"}
        self.config = cluster.work / "many.toml"
        models = "[" + ", ".join(f'"{name}"' for name in MODELS) + "]"
        self.config.write_text(CONFIG.format(task=COMPETITION, models=models, each=self.each, parallel=AT_ONCE * PAIRS))

    def measured(self, *command: str | Path) -> Submitted:
        for path in self.calls.iterdir():
            path.unlink()
        self.cluster.env = self.noting
        began = time.perf_counter()
        try:
            output = self.cluster.call(*command)
        finally:
            self.cluster.env = self.plain
        seconds = time.perf_counter() - began
        begun, ended = ([path.stat().st_mtime for path in self.calls.glob(f"*.{end}")] for end in ("begun", "ended"))
        return Submitted(output, seconds, max(ended) - min(begun), len(begun))

    def ours(self) -> Submitted:
        more = [f"models.{name}.{key}=replay" for name in MODELS[1:] for key in ("engine", "served_name")]
        options = [word for value in more for word in ("--set", value)]
        return self.measured("scripts_hpc/run_benchmark.sh", "run", self.config, "--detach", "--yes", *options)

    def stop(self, round_: str) -> float:
        """Stop the jobs of a round, and see that nothing is left; how many seconds that took."""
        began = time.perf_counter()
        self.cluster.call("scripts_hpc/jobs.sh", "stop", round_)
        seconds = time.perf_counter() - began
        until(lambda: not self.cluster.queue(), 30, pause=0.2)
        left = [path.name for path in self.cluster.addresses.iterdir() if not path.name.startswith(".")]
        if left := [name for name in left if not name.endswith(".failed")]:
            raise RuntimeError(f"after jobs.sh stop there are still addresses: {', '.join(left)}")
        return seconds

    def loop(self, round_: str) -> float:
        """Seconds of one call of sbatch for each rollout, with a round's own job script."""
        script = min(Path(round_, "jobs").glob("agent*.sh"))
        began = time.perf_counter()
        jobs = self.cluster.call("bash", "-c", LOOP, "-", str(self.rollouts), script).split()
        seconds = time.perf_counter() - began
        self.cluster.end(jobs)
        return seconds

    def submitit(self, python: Path) -> Submitted:
        folder = self.cluster.work / "submitit"
        command = [python, "tests/performance/by_submitit.py", folder, "cpu", str(AT_ONCE), *[str(self.each)] * PAIRS]
        found = self.measured(*command)
        self.cluster.end(found.output.split())
        return found


def environment(cluster: Cluster) -> Path | None:
    """The Python of an environment with submitit; None where it can't be had."""
    folder = cluster.work / "venv"
    commands = (
        ["/usr/bin/python3", "-m", "venv", folder],
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SUBMITIT],
    )
    for command in commands:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            print(f"against submitit: not measured, it can't be installed: {done.stderr.strip()[-300:]}")
            return None
    return folder / "bin" / "python"


@contextmanager
def reserved() -> Iterator[None]:
    """A time in which no job starts on any node."""
    name = f"bench{os.getpid()}"
    window = ("starttime=now", "duration=60", "users=root", "nodes=ALL", "flags=maint,ignore_jobs")
    subprocess.run(["scontrol", "create", "reservation", f"reservationname={name}", *window], check=True, stdout=2)
    try:
        yield
    finally:
        subprocess.run(["scontrol", "delete", f"reservationname={name}"], check=True)


def array_size() -> int:
    told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[-1]) for line in told.splitlines() if line.startswith("MaxArraySize"))


@contextmanager
def small_arrays() -> Iterator[None]:
    """The cluster with a MaxArraySize of SMALL."""
    up = ["bash", str(HERE.parent / "cluster" / "up.sh"), "--reconfigure"]
    subprocess.run([*up, f"MaxArraySize={SMALL}"], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(up, check=True, stdout=subprocess.DEVNULL)


def counted(one: Submitted, rollouts: int, size: int) -> bool:
    """The figure of the calls of sbatch."""
    most = PAIRS * -(-(rollouts // PAIRS) // size) + SERVERS
    what = f"calls of sbatch for {rollouts} rollouts of {PAIRS} pairs of agent and model, MaxArraySize {size}"
    alternative = f"{rollouts} (one a rollout)"
    return figure(what, str(one.calls), alternative, rollouts / one.calls, str(most), one.calls <= most)


def bench(cluster: Cluster, rollouts: int, judged: bool) -> bool:
    submissions = Submissions(cluster, rollouts)
    python = environment(cluster)
    with reserved():
        one = submissions.ours()
        loop = submissions.loop(one.output.strip())
        stopped = submissions.stop(one.output.strip())
        theirs = submissions.submitit(python) if python else None
    print(
        f"  run_benchmark.sh run --detach {one.seconds:.2f} s, of it handing over {one.handing:.2f} s; jobs.sh stop {stopped:.1f} s"
    )
    good = counted(one, rollouts, array_size())
    ratio = loop / one.handing
    good &= figure(
        f"handing {rollouts} rollouts over to Slurm (the whole command: {one.seconds:.2f} s, ratio {loop / one.seconds:.1f})",
        f"{one.handing:.2f} s",
        f"{loop:.2f} s (one sbatch a rollout)",
        ratio,
        f"at least {SBATCH_LIMIT:g}",
        ratio >= SBATCH_LIMIT if judged else None,
    )
    if theirs:
        print(
            f"  submitit {theirs.seconds:.2f} s, of it handing over {theirs.handing:.2f} s, {theirs.calls} calls of sbatch"
        )
        ratio = theirs.handing / one.handing
        good &= figure(
            f"the same against submitit's job arrays (the whole command: {theirs.seconds:.2f} s)",
            f"{one.handing:.2f} s",
            f"{theirs.handing:.2f} s (submitit)",
            ratio,
            f"at least {SUBMITIT_LIMIT:g}",
            ratio >= SUBMITIT_LIMIT if judged else None,
        )
    return bench_small(submissions, rollouts) and good


def bench_small(submissions: Submissions, rollouts: int) -> bool:
    with small_arrays(), reserved():
        one = submissions.ours()
        stopped = submissions.stop(one.output.strip())
    print(
        f"  arrays of {SMALL}: {one.seconds:.2f} s, of it handing over {one.handing:.2f} s; jobs.sh stop {stopped:.1f} s"
    )
    return counted(one, rollouts, SMALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1000, help="a multiple of four (default: %(default)s)")
    options = parser.parse_args()
    if options.rollouts < PAIRS or options.rollouts % PAIRS:
        parser.error(f"--rollouts {options.rollouts}: must be a multiple of {PAIRS}")
    if "CHECKOUT" not in os.environ or os.geteuid():
        said = "bench_submission.py: needs the test cluster: tests/performance/run.sh brings it up (root, Debian 12)"
        print(said, file=sys.stderr)
        return 77
    cluster = Cluster()
    cluster.env["HPC_PATHS__ROLLOUTS"] = str(cluster.work / "rollouts")
    try:
        cluster.prepare()
        return 0 if bench(cluster, options.rollouts, judged=options.rollouts >= 1000) else 1
    finally:
        cluster.clear()


if __name__ == "__main__":
    sys.exit(main())
