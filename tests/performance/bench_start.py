"""Time the start of a workflow, and the GPUs that it holds for nothing, on the test cluster.

Start: from the command to the agent's first answer from the model, less what the slowest service needs to become ready by
itself; beside the predecessor's scheme (serial.sh), with the same jobs, images and agent. GPU: the model server's job
with one pretended GPU, ready and without use before the first answer, and after the agent's own end, with the replay model,
which loads in a second, and with 10 s of pretended loading, less than any real model takes; and after kill -9 of the agent.
And the grading server by itself: from submission to its address.
Each is the median of its repeats. Where the time of a start goes is told in a table.
Needs the cluster, as one of its two sites, and what run.sh prepares on it. Exits 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from figure import figure

START_LIMIT, ALONE_LIMIT, BEFORE_LIMIT, AFTER_LIMIT = 0.5, 2.0, 1.5, 1.0
COMPETITION = "classification_basic"
POLL = 0.02
LOADING = "environment.setup=['case $SLURM_JOB_PARTITION in gpu | accel) sleep {} ;; esac']"
ALIVE = re.compile(r"PENDING|RUNNING|COMPLETING|CONFIGURING")


class Cluster:
    """The cluster, its ordinary user and that user's checkout, from the environment; files of this bench in `work`."""

    def __init__(self) -> None:
        state = Path(os.environ["HAB_CLUSTER_STATE"])
        self.checkout = Path(os.environ["CHECKOUT"])
        self.user = pwd.getpwnam(os.environ["HAB_CLUSTER_USER"])
        self.work = Path(tempfile.mkdtemp(dir=state / "shared", prefix="bench."))
        self.runs, self.addresses, self.rendered = (self.work / name for name in ("runs", "addresses", "rendered"))
        self.data = self.work / "data"
        self.work.chmod(0o755)
        os.chown(self.work, self.user.pw_uid, self.user.pw_gid)
        names = "SLURM_CONF HAB_CLUSTER_STATE HAB_CA_BUNDLE HAB_PIP_INDEX_URL HAB_CONTAINER_RUNTIME".split()
        self.env = {name: os.environ[name] for name in names if name in os.environ} | {
            "HOME": self.user.pw_dir,
            "USER": self.user.pw_name,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HPC_SITE": str(self.checkout / "tests/cluster" / Path(os.environ["HPC_SITE"]).name),
            "HPC_PATHS__DATA": str(self.data),
            "HPC_PATHS__RUNS": str(self.runs),
            "HPC_PATHS__ADDRESS_DIR": str(self.addresses),
        }

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a command as the user, in the checkout."""
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.checkout,
            env=self.env,
            user=self.user.pw_uid,
            group=self.user.pw_gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.work / "errors").open("ab"),
            text=True,
        )

    def call(self, *command: str | Path) -> str:
        """Run a command to its end; what it printed. Raises RuntimeError with what it said instead."""
        process = self.start(*command)
        output = process.communicate(timeout=300)[0]
        if process.returncode:
            raise RuntimeError(
                f"{command[0]} ended with {process.returncode}: {(self.work / 'errors').read_text()[-2000:]}"
            )
        return output

    def alive(self, jobs: list[str]) -> bool:
        return bool(
            ALIVE.search(self.call("squeue", "--noheader", "--states=all", f"--jobs={','.join(jobs)}", "--format=%T"))
        )

    def end(self, jobs: list[str]) -> None:
        self.call("scancel", "--quiet", *jobs)
        until(lambda: not self.alive(jobs), 60, pause=0.2)

    def prepare(self) -> None:
        """The project's environment, which the first command makes, and the data of COMPETITION."""
        self.call("mkdir", "-p", self.runs / "logs", self.addresses)
        self.call("scripts_hpc/site.sh", "list")
        python = self.checkout / ".venv-core/bin/python"
        self.call(python, "-m", "helpers.tasks.cli", "generate-data", COMPETITION, self.data)

    def queue(self) -> str:
        """The jobs of the user."""
        return self.call("squeue", "--me", "--noheader", "--format=%i")

    def clear(self) -> None:
        """End whatever a measurement that failed has left, and remove all files."""
        try:
            self.call("scancel", "--quiet", f"--user={self.user.pw_name}")
            until(lambda: not self.queue(), 60, pause=0.2)
        finally:
            subprocess.run(["rm", "-rf", self.work], check=True)


def until(condition: Callable[[], object], seconds: float = 120, pause: float = POLL) -> float:
    """The time when a condition came true; raises TimeoutError."""
    limit = time.time() + seconds
    while not condition():
        if time.time() > limit:
            raise TimeoutError(f"waited {seconds} s for {condition.__code__.co_names}")
        time.sleep(pause)
    return time.time()


def only(folder: Path, pattern: str) -> Path | None:
    return next(iter(folder.glob(pattern)), None)


class Requests:
    """The model's answers to an agent, seen in its usage.json: the times of the first and the last."""

    def __init__(self, runs: Path):
        self.runs = runs
        self.file: Path | None = None
        self.count, self.first, self.last = 0, 0.0, 0.0

    def look(self) -> bool:
        """Look once; whether there was an answer yet."""
        self.file = self.file or only(self.runs, f"*/{COMPETITION}_*/logs/usage.json")
        try:
            count = json.loads(self.file.read_text())["requests"] if self.file else 0
        except (OSError, ValueError):
            return self.count > 0
        if count > self.count:
            self.count, self.last = count, time.time()
            self.first = self.first or self.last
        return self.count > 0


def ready_alone(cluster: Cluster, script: str, *arguments: str) -> float:
    """Seconds from the submission of one service by itself to its address."""
    began = time.time()
    job = cluster.call("sbatch", "--parsable", cluster.rendered / script, *arguments).strip()
    try:
        return (
            until(lambda: only(cluster.addresses, f"*_{job}") and only(cluster.addresses, f"*_{job}").is_file()) - began
        )
    finally:
        cluster.end([job])


def fresh(cluster: Cluster) -> None:
    """Put the runs of the last measurement aside."""
    if cluster.runs.exists():
        cluster.runs.rename(cluster.work / f"runs.{time.time_ns()}")
    cluster.call("mkdir", "-p", cluster.runs / "logs")


def workflow(cluster: Cluster, *options: str) -> subprocess.Popen[str]:
    fresh(cluster)
    return cluster.start("scripts_hpc/run_workflow.sh", COMPETITION, "replay", "--steps", "1", *options)


def jobs_of(cluster: Cluster) -> dict[str, str]:
    """The job ids by role, once all are submitted."""
    file = only(cluster.runs, "*/workflow.json")
    jobs = json.loads(file.read_text())["jobs"] if file else {"agents": []}
    return {**jobs, "agent": jobs["agents"][0]} if jobs["agents"] else {}


def ours(cluster: Cluster) -> dict[str, float]:
    """Seconds from the command to what happens until the agent's first answer, in the order in which it was seen."""
    began = time.time()
    process = workflow(cluster)
    requests = Requests(cluster.runs)
    steps = {
        "checked": lambda: only(cluster.runs, "*/jobs/agent.sh"),
        "submitted": lambda: jobs_of(cluster),
        "agent's job": lambda: only(cluster.runs, "*/logs/agent_aide-*.out"),
        "agent imported": lambda: only(cluster.runs, f"*/{COMPETITION}_*/logs/usage.json"),
        "grading ready": lambda: any(path.is_file() for path in cluster.addresses.glob("grading_server_*")),
        "model ready": lambda: any(path.is_file() for path in cluster.addresses.glob("vllm_replay_*")),
        "addresses given": lambda: only(cluster.runs, f"*/{COMPETITION}_*/workspaces/instructions.txt"),
        "first answer": requests.look,
    }
    seen: dict[str, float] = {}

    def look() -> bool:
        for name, condition in steps.items():
            if name not in seen and condition():
                seen[name] = time.time() - began
        return "first answer" in seen

    until(look)
    process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(
            f"run_workflow.sh ended with {process.returncode}: {(cluster.work / 'errors').read_text()[-2000:]}"
        )
    return seen


def serial(cluster: Cluster) -> float:
    """The same by the predecessor's scheme."""
    fresh(cluster)
    began = time.time()
    process = cluster.start("bash", "tests/performance/serial.sh", cluster.rendered, cluster.addresses, COMPETITION)
    requests = Requests(cluster.runs)
    until(requests.look)
    jobs = process.communicate(timeout=60)[0].split()
    cluster.end(jobs)
    return requests.first - began


def bench_start(cluster: Cluster, repeats: int) -> bool:
    grading, model, stages = [], [], []
    for _ in range(repeats):
        grading.append(ready_alone(cluster, "slurm_grading_server.sh", COMPETITION))
        model.append(ready_alone(cluster, "slurm_vllm_replay.sh"))
        stages.append(ours(cluster))
    print(f"  alone: grading server {shown(grading)}, model server {shown(model)}")
    print("  from the command, in s (median of all, and each)")
    for name in max(stages, key=len):
        times = [one[name] for one in stages if name in one]
        print(f"    {name:15} {median(times):5.2f}  {shown(times)}")
    alone = max(median(grading), median(model))
    whole = median([one["first answer"] for one in stages])
    theirs = serial(cluster)
    print(f"  to the first answer {whole:.2f}, serial {theirs:.2f} s; the slowest service alone {alone:.2f} s")
    own, theirs = whole - alone, theirs - alone
    good = figure(
        "start (command to first answer, less the slowest service)",
        f"{own:.2f} s",
        f"{theirs:.2f} s (serial, 5 s polls, 12 s of sleeps)",
        theirs / max(own, 0.01),
        f"{START_LIMIT:g} s",
        own <= START_LIMIT,
    )
    own, other = median(grading), median(model)
    what = "the grading server by itself (submission to address)"
    limit = f"{ALONE_LIMIT:g} s"
    return (
        figure(what, f"{own:.2f} s", f"{other:.2f} s (the replay model)", own / other, limit, own <= ALONE_LIMIT)
        and good
    )


def useless_gpu(cluster: Cluster, *options: str) -> tuple[float, float, float]:
    """Seconds of a GPU's job: its load, then until the first answer, and from the agent's last word until it is gone."""
    process = workflow(cluster, "--set", "models.replay.gpus=1", *options)
    requests = Requests(cluster.runs)
    until(lambda: jobs_of(cluster))
    job = jobs_of(cluster)["model_server"]
    began = until(lambda: only(cluster.runs, f"*/logs/vllm_replay-{job}.out"))
    load = until(lambda: (cluster.addresses / f"vllm_replay_{job}").is_file()) - began
    until(requests.look)
    asked = done = 0.0

    def gone() -> bool:
        nonlocal asked, done
        if not done and b"all steps are done" in only(cluster.runs, "*/*/agent.log").read_bytes():
            done = time.time()
        if time.time() < asked + 0.1:
            return False
        asked = time.time()
        return not cluster.alive([job])

    ended = until(gone)
    process.communicate(timeout=120)
    return load, requests.first - began - load, ended - done


def gpu_after_kill(cluster: Cluster) -> tuple[float, float]:
    """Seconds from kill -9 of the agent's job script to the end of the GPU's job, and the bound."""
    process = workflow(cluster, "--set", "models.replay.gpus=1")
    until(Requests(cluster.runs).look)
    jobs = jobs_of(cluster)
    killed = time.time()
    os.kill(batch_script(jobs["agent"]), signal.SIGKILL)
    ended = until(lambda: not cluster.alive([jobs["model_server"]]), pause=0.25)
    process.communicate(timeout=120)
    grace = json.loads(only(cluster.runs, "*/workflow.json").read_text())["config"]["limits"]["grace_seconds"]
    return ended - killed, grace


def batch_script(job: str) -> int:
    """The process of a job's script: the shell whose command line names the script that slurmd spooled."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(f"job{int(job):05d}/slurm_script".encode()) for word in words):
            children = Path(path.parent, "stat").read_text().rpartition(")")[2].split()
            parent = Path("/proc", children[1], "cmdline")
            if b"slurm_script" not in parent.read_bytes():
                return int(path.parent.name)
    raise RuntimeError(f"job {job} has no process here")


def bench_gpu(cluster: Cluster, repeats: int) -> bool:
    good = True
    for model, pause in (("a model that loads in 1 s", 0.45), ("one that loads 10 s longer", 10.45)):
        options = ("--set", LOADING.format(pause))
        loads, before, after = zip(*(useless_gpu(cluster, *options) for _ in range(repeats)), strict=True)
        print(f"  {model}: load {shown(loads)}, then without use {shown(before)}, after the agent's end {shown(after)}")
        for what, times, limit in (
            ("ready and not used before the first answer", before, BEFORE_LIMIT),
            ("after the agent's own end", after, AFTER_LIMIT),
        ):
            more, load = median(times), median(loads)
            what = f"GPU {what} ({model})"
            alternative = f"{load:.2f} s (its load)"
            good = figure(what, f"{more:.2f} s", alternative, load / more, f"{limit:g} s", more <= limit) and good
    held, grace = gpu_after_kill(cluster)
    what, most = "GPU held after kill -9 of the agent's job", grace + 5
    return (
        figure(what, f"{held:.1f} s", f"{grace} s (the grace period)", held / grace, f"{most} s", held <= most) and good
    )


def shown(values: Sequence[float]) -> str:
    return "/".join(f"{value:.2f}" for value in values) + " s"


def lacks_cluster() -> bool:
    """Whether the test cluster isn't up for this program, which is told then."""
    if "CHECKOUT" in os.environ and not os.geteuid():
        return False
    program = os.path.basename(sys.argv[0])
    print(
        f"{program}: needs the test cluster: tests/performance/run.sh brings it up (root, Debian 12)", file=sys.stderr
    )
    return True


def with_rounds(bench: Callable[[Cluster], bool]) -> int:
    """Measure with rounds of benchmarks on the test cluster; the exit code."""
    if lacks_cluster():
        return 77
    cluster = Cluster()
    cluster.env["HPC_PATHS__ROLLOUTS"] = str(cluster.work / "rollouts")
    try:
        cluster.prepare()
        return 0 if bench(cluster) else 1
    finally:
        cluster.clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats", type=int, default=5, help="of each measurement; their median counts (default: %(default)s)"
    )
    parser.add_argument("--only", choices=["start", "gpu"])
    options = parser.parse_args()
    if lacks_cluster():
        return 77
    cluster = Cluster()
    cluster.call("mkdir", "-p", cluster.runs)
    cluster.call("scripts_hpc/render.sh", "--output", cluster.rendered)
    python = cluster.checkout / ".venv-core/bin/python"  # which the line above has made
    cluster.call(python, "-m", "helpers.tasks.cli", "generate-data", COMPETITION, cluster.data)
    good = True
    if options.only != "gpu":
        good = bench_start(cluster, options.repeats) and good
    if options.only != "start":
        good = bench_gpu(cluster, options.repeats) and good
    subprocess.run(["rm", "-rf", cluster.work], check=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
