"""Time what a person asks of a large round: `jobs.sh status` of 1,000 rollouts, and summary and CSV of 10,000 that have ended.

Status: one question to squeue and at most one to sacct, counted, with a scheduler that answers at once, half-way through the round: of
those that have ended squeue knows nothing any more. Summary and CSV: beside the specification's loop with jq, which prints each run's
score; it is timed on 200 runs and scaled. Memory: the largest resident set of any of their processes.
Exits 1 when a figure misses its limit.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.benchmarks import manifest, stamps  # noqa: E402
from helpers.jobs import parts, submitted  # noqa: E402
from helpers.lib import disk  # noqa: E402
from helpers.runs import cells, metadata  # noqa: E402

STATUS_SECONDS, SACCT_LIMIT = 1.0, 1
TABLE_SECONDS, RATIO, MEGABYTES = 10.0, 20.0, 500
LOOPED = 200
# the specification's (004, "Export to CSV for analysis")
LOOP = 'for dir in "$1"/*/; do echo "$(basename "$dir"),$(cat "$dir/grading_report.json" | jq .total_score)"; done'
TASKS, MODELS = 20, 5
ARRAY = 1000  # elements, Slurm's own MaxArraySize
BEGUN = 1767225600  # 2026-01-01, seconds since 1970
GRADING, SERVERS = "10", [str(11 + number) for number in range(MODELS)]
ENDED = ("scored",) * 8 + ("invalid_submission", "agent_failed")
HALF_WAY = ("scored", "running", "scored", "waiting")
WORDS = {"scored": "COMPLETED", "running": "RUNNING", "waiting": "PENDING"}  # of the scheduler; FAILED for the others
SQUEUE = '#!/bin/sh\necho squeue >>"$CALLS"\nexec cat "$ANSWERS/squeue"\n'
SACCT = """#!/bin/sh
echo sacct >>"$CALLS"
table=sacct
for argument; do
  case $argument in
    --jobs=*) jobs=,${argument#--jobs=}, ;;
    *alloctres*) table=allocations ;;
  esac
done
exec awk -F'[_|]' -v jobs="$jobs" 'index(jobs, "," $1 ",")' "$ANSWERS/$table"
"""


@dataclass(frozen=True)
class Made:
    """A round that was made here. states: of its rollouts; answers: a folder with what squeue and sacct say of its jobs."""

    group: Path
    states: Counter[str]
    answers: Path


def clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGUN + seconds))


def record_of(folder: Path, count: int) -> dict[str, Any]:
    """A workflow.json of TASKS tasks with MODELS models, `count` rollouts in all, as large as a real one."""
    each = count // (TASKS * MODELS)
    config = {
        "scheduler": {"kind": "slurm"},
        "paths": {"address_dir": str(folder / "addresses"), "data": "/data"},
        "container": {"runtime": "apptainer"},
        "jobs": {"agent": {"cpus": 8}, "grading_server": {"cpus": 1}},
        "gpu": {"per_node": 4},
        "notes": [f"a line of configuration {number}" for number in range(150)],
    }
    cell = {"agent": "aide", "seed": 0, "rollouts": each, "seeds": list(range(each)), "variables": {}}
    cell |= {"language_model": True, "images": {"agent": {"path": "/images/aide.sif", "sha256": "0" * 64}}}
    told = [
        cell
        | {"competition": f"task-{task}", "model": f"model-{model}", "config_hash": f"{model:064}"}
        | {"model_config": {"engine": "vllm", "gpus": 1, "cpus": 8}, "data_fingerprint": f"{task:064}"}
        for model in range(MODELS)
        for task in range(TASKS)
    ]
    benchmark = {"name": "large", "config": "large.toml", "parallel": 100, "retries": 2}
    return {
        "schema": cells.SCHEMA,
        "created_at": clock(0),
        "site": "here",
        "git_commit": "0" * 40,
        "config": config,
        "cells": told,
        "benchmark": benchmark,
        "jobs": {"agents": []},
    }


def note(group: Path, count: int) -> None:
    """What submit.sh would have noted: a server for each model, and each model's rollouts in arrays."""
    lines = [f"model_server={job} vllm_model-{number}.sh" for number, job in enumerate(SERVERS)]
    lines.append(f"grading_server={GRADING} grading_server.sh task-0")
    job, each = 1000, count // MODELS
    for model in range(MODELS):
        for first in range(0, each, ARRAY):
            elements = min(ARRAY, each - first)
            arguments = f"0 {model * each + first} {elements} auto:{GRADING} auto:{SERVERS[model]}"
            lines.append(f"agent={job}_[0-{elements - 1}] agent_{model}.sh {arguments}")
            job += 1
    (group / "jobs" / "submitted").write_text("".join(f"{line}\n" for line in lines))


def begin(group: Path, one: cells.Agent, task: str, state: str) -> None:
    """What the job of a rollout has left until now."""
    run = group / f"{task}_{one.job}"
    os.symlink(one.job, group / "claims" / str(one.rollout))
    os.symlink(f"../{run.name}", group / "task_results" / manifest.run_id(group, one.rollout))
    told = json.loads((run / "run_metadata.json").read_text())
    told |= {"state": state, "host": "n1", "created_at": clock(60), "agent_started_at": clock(120), "reason": ""}
    told |= {"time_limit_seconds": 86400}
    files: dict[str, Any] = {"logs/usage.json": {"steps": 5, "requests": 10, "prompt_tokens": 1000}}
    files["logs/usage.json"] |= {"completion_tokens": 200 + one.rollout % 7}
    if state != "running":
        told |= {"agent_ended_at": clock(3720), "ended_at": clock(3730)}
    if state in ("scored", "invalid_submission"):
        score = 0.5 + one.rollout % 100 / 1000 if state == "scored" else None
        report = {"score": score, "total_score": score, "valid_submission": score is not None}
        report |= dict.fromkeys(("any_medal", "gold_medal", "silver_medal", "bronze_medal"), False)
        report |= {"above_median": one.rollout % 3 == 0, "is_lower_better": False, "metric": "accuracy"}
        files["grading_report.json"] = report
        files["evaluation_results.json"] = report | {"run_id": manifest.run_id(group, one.rollout)}
    (run / "logs").mkdir()
    for name, data in (files | {"run_metadata.json": told}).items():
        (run / name).write_text(json.dumps(data, indent=2))


def make_round(folder: Path, count: int, kinds: tuple[str, ...]) -> Made:
    """A round of `count` rollouts, made by what makes real ones as far as that goes; the states of its rollouts take turns."""
    folder.mkdir()
    group = stamps.make(folder / "rollouts", "large")
    record = record_of(folder, count)
    disk.write_json(group / "workflow.json", record)
    every = enumerate(cells.rollouts(record))
    parts.write(
        group, [parts.Part(number, cell, record["cells"][cell]["competition"], seed) for number, (cell, seed) in every]
    )
    manifest.begin(group, record)
    note(group, count)
    submitted.submitted(group)
    record = disk.read_json(group / "workflow.json") or {}
    answers: dict[str, list[str]] = {"squeue": [], "sacct": [], "allocations": []}
    done = "running" not in kinds
    for number, job in enumerate((GRADING, *SERVERS)):
        tell(answers, job, "scored" if done else "running", "cpu=8,gres/gpu=1" if number else "cpu=1")
        server = {"service": f"vllm_model-{number - 1}" if number else "grading_server", "job_id": job}
        server |= {
            "gpus": 1 if number else 0,
            "cpus": 8 if number else 1,
            "started_at": clock(0),
            "ready_at": clock(30),
        }
        (group / "services").mkdir(exist_ok=True)
        (group / "services" / f"{server['service']}_{job}.json").write_text(
            json.dumps(server | ({"ended_at": clock(3800)} if done else {}))
        )
    states: Counter[str] = Counter()
    for one in cells.agents(record):
        state = kinds[one.rollout % len(kinds)]
        states[state] += 1
        if state != "waiting":
            begin(group, one, record["cells"][one.cell]["competition"], state)
        tell(answers, one.job, state, "cpu=8")
    runs = {run.job_id: run for run in metadata.runs_of(group)}
    manifest.refresh(group, runs)
    for name in ("answers", "addresses"):
        (folder / name).mkdir()
    for name, lines in answers.items():
        (folder / "answers" / name).write_text("".join(f"{line}\n" for line in lines))
    return Made(group, states, folder / "answers")


def make_apart(folder: Path, count: int, kinds: tuple[str, ...]) -> Made:
    """The same by another process: what this one has taken, Linux counts for the programs that it starts (wait4's ru_maxrss)."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(make_round, folder, count, kinds).result()


def tell(answers: dict[str, list[str]], job: str, state: str, resources: str) -> None:
    """What the scheduler says of a job."""
    word = WORDS.get(state, "FAILED")
    if word in ("RUNNING", "PENDING"):
        node = "n1" if word == "RUNNING" else ""
        answers["squeue"].append(f"{job}|{word}|{'None' if node else 'JobArrayTaskLimit'}|1:00|{node}")
    if word != "PENDING":
        answers["sacct"].append(f"{job}|{word}|01:00:00|n1")
        answers["allocations"].append(f"{job}|{BEGUN + 30}|3700|{8 if job != GRADING else 1}|{resources}")


def fakes(folder: Path) -> None:
    """squeue and sacct on the PATH, which note each call and say what the round's answers are."""
    for name, text in (("squeue", SQUEUE), ("sacct", SACCT)):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    os.environ["CALLS"] = str(folder / "calls")


@dataclass(frozen=True)
class Took:
    """What a command took: seconds, and the megabytes of its largest process; calls: of the scheduler's commands."""

    seconds: float
    megabytes: float
    calls: Counter[str]
    output: str


def took(made: Made, *command: str | Path) -> Took:
    """Run a command, of this project's where it is one of scripts_hpc; raises RuntimeError where it fails."""
    own = ROOT / "scripts_hpc" / command[0]
    words = [str(word) for word in ((own if own.is_file() else command[0]), *command[1:])]
    calls = Path(os.environ["CALLS"])
    calls.write_text("")
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            words,
            env=os.environ | {"ANSWERS": str(made.answers)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (output, errors):
            file.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {errors.read().decode()[-2000:]}")
        return Took(seconds, used.ru_maxrss / 1024, Counter(calls.read_text().split()), output.read().decode())


def repeated(made: Made, repeats: int, *command: str | Path) -> Iterator[Took]:
    for _ in range(repeats):
        yield took(made, *command)


def bench_status(made: Made) -> bool:
    count = made.states.total()
    every = list(repeated(made, 3, "jobs.sh", "status", made.group))
    best = min(every, key=lambda one: one.seconds)
    print(f"  jobs.sh status, {count} rollouts: {'/'.join(f'{one.seconds:.3f}' for one in every)} s")
    scored = made.states["scored"]
    if any(len(re.findall(r"^task-\S+ +scored ", one.output, re.MULTILINE)) != scored for one in every):
        raise RuntimeError(f"jobs.sh status doesn't say that {scored} are scored: {best.output[-2000:]}")
    asked = max(one.calls["squeue"] for one in every), max(one.calls["sacct"] for one in every)
    alone = seconds_of_python()
    return figure(
        f"status of a round of {count} rollouts, {asked[0]} call(s) of squeue and {asked[1]} of sacct",
        f"{best.seconds:.3f} s",
        f"{alone:.3f} s (python -c pass)",
        best.seconds / alone,
        f"{STATUS_SECONDS:g} s, 1 call of squeue and {SACCT_LIMIT} of sacct",
        best.seconds <= STATUS_SECONDS and asked[0] == 1 and asked[1] <= SACCT_LIMIT,
    )


def seconds_of_python() -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def tables(made: Made, file: Path) -> tuple[Took, Took]:
    """A round's summary and its table."""
    summary = took(made, "run_benchmark.sh", "summarize", made.group)
    return summary, took(made, "results.sh", "export", made.group, "-o", file)


def bench_tables(folder: Path, count: int, smaller: Made) -> bool:
    made = make_apart(folder, count, ENDED)
    summary, table = tables(made, folder / "table.csv")
    loop = looped(folder / "few", made)
    looped_seconds = loop.seconds * count / LOOPED
    for name, one in (("run_benchmark.sh summarize", summary), ("results.sh export", table)):
        calls = ", ".join(f"{number} of {command}" for command, number in sorted(one.calls.items())) or "none"
        print(f"  {name}: {one.seconds:.2f} s, {one.megabytes:.0f} MB, calls of the scheduler: {calls}")
    said = f"{count} asked for: {made.states['scored']} graded"
    if said not in summary.output or not right_table(folder, made):
        raise RuntimeError(f"the summary doesn't say '{said}', or the table isn't that of these runs")
    both, most = summary.seconds + table.seconds, max(summary.megabytes, table.megabytes)
    good = figure(
        f"summary and CSV of {count} runs",
        f"{both:.1f} s",
        f"{looped_seconds:.1f} s (the specification's loop with {reader().split()[0].rpartition('/')[2]})",
        looped_seconds / both,
        f"{TABLE_SECONDS:g} s and at least {RATIO:g}",
        (both <= TABLE_SECONDS and looped_seconds / both >= RATIO) if count >= 10_000 else None,
    )
    few = max(one.megabytes for one in tables(smaller, folder / "few.csv"))
    what, others = (
        f"memory of the summary and the CSV of {count} runs",
        f"{few:.0f} MB (of {smaller.states.total()} runs)",
    )
    return figure(what, f"{most:.0f} MB", others, most / few, f"{MEGABYTES} MB", good=most <= MEGABYTES) and good


def reader() -> str:
    return "jq .total_score" if shutil.which("jq") else f"{sys.executable} -m json.tool"


def looped(few: Path, made: Made) -> Took:
    """The loop over LOOPED of the runs, as a person finds them: by their ids beside the rounds."""
    few.mkdir()
    names = (made.group / "runs.txt").read_text().split()
    for number in range(LOOPED):
        name = names[number % len(names)]
        os.symlink(name, few / f"{number}-{Path(name).name}")
    return took(made, "bash", "-c", LOOP.replace("jq .total_score", reader()), "-", few)


def right_table(folder: Path, made: Made) -> bool:
    """Whether the table has each run with its state, and every score."""
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scored = [row for row in rows if row["state"] == "scored"]
    states = Counter(row["state"] for row in rows)
    return states == made.states and all(float(row["score"]) >= 0.5 and row["gpu_hours"] for row in scored)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--status", type=int, default=1000, help="rollouts of the status (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=10_000, help="of summary and CSV (default: %(default)s)")
    options = parser.parse_args()
    if any(count < TASKS * MODELS or count % (TASKS * MODELS) for count in (options.status, options.runs)):
        parser.error(f"the numbers must be multiples of {TASKS * MODELS}")
    with tempfile.TemporaryDirectory(prefix="bench_rounds.") as name:
        fakes(Path(name))
        made = make_apart(Path(name, "half_way"), options.status, HALF_WAY)
        good = bench_status(made)
        return 0 if bench_tables(Path(name, "ended"), options.runs, made) and good else 1


if __name__ == "__main__":
    sys.exit(main())
