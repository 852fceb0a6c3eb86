"""Time the submission of 1,000 rollouts of four pairs of agent and model on the test cluster, and count what it asks of Slurm.

Beside a bare loop with one sbatch for each rollout, and beside submitit's job arrays. Only
the handing over is compared, from the first call of sbatch to the last: before it, run_benchmark.sh checks everything and makes a round's
folders, which submitit doesn't. How long the whole commands take is told beside it, and how long run_workflow.sh takes for jobs of
their own, of which 50 are measured and scaled.
The calls are counted once more on a cluster that takes no arrays of more than 26 elements. Medians of the repeats. The cluster's limit of
jobs (MaxJobCount) is raised, as its records of cancelled ones count.
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

from bench_start import COMPETITION, Cluster, until, with_rounds
from figure import figure

HERE = Path(__file__).resolve().parent
SBATCH_LIMIT, SUBMITIT_LIMIT = 50.0, 1.0
SUBMITIT = "submitit==1.5.4"
MODELS = ("replay", "replay-b", "replay-c")  # and an agent without a model
PAIRS, SERVERS = len(MODELS) + 1, len(MODELS) + 1  # a server for each model, and the grading server
SMALL = 26  # elements of an array
JUDGED = 1000  # fewer rollouts say nothing of the times
LOOPED, AT_ONCE = 50, 8
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
        try:
            until(lambda: not self.cluster.queue(), 30, pause=0.2)
        except TimeoutError:
            left = self.cluster.call("squeue", "--me", "--noheader", "--format=%i %j %T %r %S")
            raise RuntimeError(f"30 s after jobs.sh stop there are still jobs: {left[:2000]}") from None
        left = [path.name for path in self.cluster.addresses.iterdir() if not path.name.startswith(".")]
        if left := [name for name in left if not name.endswith(".failed")]:
            raise RuntimeError(f"after jobs.sh stop there are still addresses: {', '.join(left)}")
        return seconds

    def one_by_one(self) -> float:
        """Seconds of the handing over with one call of sbatch for each rollout, by this project's own way of that, scaled."""
        words = ("--agent", "baseline", "--rollouts", str(LOOPED), "--detach", "--yes")
        one = self.measured("scripts_hpc/run_workflow.sh", COMPETITION, *words)
        self.stop(one.output.strip())
        if one.calls != LOOPED + 1:
            raise RuntimeError(f"{LOOPED} rollouts and their grading server are {one.calls} calls of sbatch")
        return one.handing * self.rollouts / LOOPED

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
def configured(*lines: str) -> Iterator[None]:
    """The cluster with other lines in its configuration. (Slurm keeps a record of each element that was cancelled, 10,000 by default.)"""
    up = ["bash", str(HERE.parent / "cluster" / "up.sh"), "--reconfigure"]
    subprocess.run([*up, "MaxJobCount=100000", *lines], check=True, stdout=subprocess.DEVNULL)
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


def middle(every: list[Submitted]) -> Submitted:
    return sorted(every, key=lambda one: one.handing)[len(every) // 2]


def bench(cluster: Cluster, rollouts: int, repeats: int) -> bool:
    submissions = Submissions(cluster, rollouts)
    python = environment(cluster)
    every, theirs, loops = [], [], []
    with configured(), reserved():
        size = array_size()
        for _ in range(repeats):
            every.append(submissions.ours())
            round_ = every[-1].output.strip()
            loops += [] if loops else [submissions.loop(round_)]
            stopped = submissions.stop(round_)
            theirs += [submissions.submitit(python)] if python else []
        alone = submissions.one_by_one()
    one = middle(every)
    print(f"  run_benchmark.sh run --detach: {shown(one)}; jobs.sh stop {stopped:.1f} s")
    print(f"  handing over {'/'.join(f'{each.handing:.3f}' for each in every)} s")
    print(
        f"  by run_workflow.sh, which submits a job for each rollout: {alone:.2f} s, {alone / one.handing:.0f} times as long"
    )
    good = counted(one, rollouts, size)
    good &= faster("a bare loop of sbatch, one a rollout", one, loops[0], SBATCH_LIMIT, rollouts)
    if theirs:
        other = middle(theirs)
        print(f"  submitit: {shown(other)}, {other.calls} calls of sbatch")
        good &= faster("submitit's job arrays", one, other.handing, SUBMITIT_LIMIT, rollouts)
    return bench_small(submissions, rollouts) and good


def shown(one: Submitted) -> str:
    return f"{one.seconds:.2f} s, of it handing over {one.handing:.3f} s"


def faster(what: str, one: Submitted, other: float, limit: float, rollouts: int) -> bool:
    ratio = other / one.handing
    return figure(
        f"handing {rollouts} rollouts over to Slurm, beside {what}",
        f"{one.handing:.3f} s",
        f"{other:.2f} s",
        ratio,
        f"at least {limit:g}",
        ratio >= limit if rollouts >= JUDGED else None,
    )


def bench_small(submissions: Submissions, rollouts: int) -> bool:
    with configured(f"MaxArraySize={SMALL}"), reserved():
        one = submissions.ours()
        stopped = submissions.stop(one.output.strip())
    print(f"  with arrays of {SMALL}: {shown(one)}; jobs.sh stop {stopped:.1f} s")
    return counted(one, rollouts, SMALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1000, help="a multiple of four (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement (default: %(default)s)")
    options = parser.parse_args()
    if options.rollouts < PAIRS or options.rollouts % PAIRS:
        parser.error(f"--rollouts {options.rollouts}: must be a multiple of {PAIRS}")
    return with_rounds(lambda cluster: bench(cluster, options.rollouts, options.repeats))


if __name__ == "__main__":
    sys.exit(main())
