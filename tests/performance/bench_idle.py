"""Measure how long a GPU is allocated and idle while 32 rollouts share its server, on the test cluster with room for 8 of them at once.

The replay model's job holds one pretended GPU. The GPU is at work while it loads, and from the first to the last answer of any agent
(`asker` of tests/cluster/agents.yaml, which asks twice a second for 40 to 50 s: real ones take hours); idle is the rest, from the job's
start to its end: before the first answer, between agents, after the last. Beside a rollout with a server of its own.
Needs the cluster, and what run.sh prepares on it. Exits 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench_start import COMPETITION, Cluster, only, until, with_rounds
from figure import figure

LIMIT = 0.05
ROOM = 8
MEMORY = 15  # GB: four agents on a node of 64000 MB, with the grading server on one of the two
ASK = 0.2  # seconds from one look at the queue to the next
GPU = ("--set", "models.replay.gpus=1")
CONFIG = """\
name = "many"
parallel = {rollouts}

[[tasks]]
task = "{task}"
agent = "asker"
model = "replay"
rollouts = {rollouts}
"""


@dataclass(frozen=True)
class Life:
    """Of a GPU's job, in seconds: allocated, loading, idle before the first answer, between agents and after the last; most: agents that
    ran at once."""

    allocated: float
    load: float
    before: float
    between: float
    after: float
    most: int

    @property
    def idle(self) -> float:
        return (self.before + self.between + self.after) / self.allocated

    def told(self) -> str:
        parts = f"before {self.before:.2f}, between {self.between:.2f}, after {self.after:.2f} s"
        return f"allocated {self.allocated:.1f} s, load {self.load:.2f} s, idle {self.idle:.1%}: {parts}; {self.most} at once"


def gaps(times: list[tuple[float, float]]) -> float:
    """The seconds between the first beginning and the last end in which none of these was."""
    found, (_, reached) = 0.0, min(times)
    for began, ended in sorted(times):
        found += max(0.0, began - reached)
        reached = max(reached, ended)
    return found


def life(cluster: Cluster, folders: str, rollouts: int, *command: str | Path) -> Life:
    """Run a command that starts one model server, and follow that server's job. folders: a pattern of workflows below the bench's own."""
    process = cluster.start(*command)
    log: list[Path] = []

    def begun() -> bool:
        log[:] = cluster.work.glob(f"{folders}/logs/vllm_replay-*.out")
        if process.poll() and not log:
            raise RuntimeError(f"{command[0]}: {(cluster.work / 'errors').read_text()[-2000:]}")
        return bool(log)

    began = until(begun)
    job, group = log[0].stem.rpartition("-")[2], log[0].parents[1]
    ready = until(lambda: only(cluster.addresses, f"vllm_replay_{job}"))
    most, lives = 0, True
    while lives:
        told = cluster.call(
            "squeue", "--me", "--noheader", "--array", "--states=RUNNING", "--format=%i %j"
        ).splitlines()
        lives = any(line.startswith(f"{job} ") for line in told) or cluster.alive([job])
        ended = time.time()
        most = max(most, sum(line.split()[1].startswith("agent_") for line in told))
        time.sleep(ASK)
    process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(
            f"{command[0]} ended with {process.returncode}: {(cluster.work / 'errors').read_text()[-2000:]}"
        )
    states = [json.loads(path.read_text())["state"] for path in group.glob(f"{COMPETITION}_*/run_metadata.json")]
    if states != ["scored"] * rollouts:
        raise RuntimeError(f"of {rollouts} rollouts {states.count('scored')} are scored")
    answers = [[float(line) for line in path.read_text().split()] for path in group.glob("*/logs/answers")]
    times = [(one[0], one[-1]) for one in answers]
    first, last = min(began for began, _ in times), max(ended for _, ended in times)
    return Life(ended - began, ready - began, max(0.0, first - ready), gaps(times), ended - last, most)


def bench(cluster: Cluster, rollouts: int) -> bool:
    config = cluster.work / "many.toml"
    config.write_text(CONFIG.format(task=COMPETITION, rollouts=rollouts))
    room = ("--set", f"jobs.agent.memory_gb={MEMORY}")
    ours = life(
        cluster, "rollouts/many/*", rollouts, "scripts_hpc/run_benchmark.sh", "run", config, "--yes", *GPU, *room
    )
    print(f"  {rollouts} rollouts on one server: {ours.told()}", flush=True)
    command = ("scripts_hpc/run_workflow.sh", COMPETITION, "replay", "--agent", "asker", "--yes", *GPU)
    alone = life(cluster, "runs/*_run-group_*", 1, *command)
    print(f"  one rollout with its own: {alone.told()}")
    good = ours.idle <= LIMIT and ours.most == ROOM
    return figure(
        f"GPU allocated but idle, {rollouts} rollouts on one server, room for {ours.most} at once",
        f"{ours.idle:.1%}",
        f"{alone.idle:.1%} (a rollout with a server of its own)",
        ours.idle / alone.idle,
        f"{LIMIT:.0%}, {ROOM} at once",
        good if rollouts > ROOM else None,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=32, help="on one server (default: %(default)s)")
    options = parser.parse_args()
    return with_rounds(lambda cluster: bench(cluster, options.rollouts))


if __name__ == "__main__":
    sys.exit(main())
