"""Grade many agents' diffs of a repository in one job, and compare with the time that their test scripts alone take.

Each is a whole grading, as at the end of a run: the diff from the agent's folder, a fresh checkout, one test script of half a second,
the score and the logs (scripts_hpc/lib/repository.sh, no containers). Two scripts run at a time, on two cores: the ideal is their
time by two. One line a figure; exits 1 beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
GOAL = 0.9
SLOTS, SECONDS = 2, 0.5
FILES = 100  # of the repository
JOB = """
set -euo pipefail
export -n ROOT WORK SLOTS VENV # a job script's are its own
cd "$ROOT"
for lib in common scheduler service container run agent endpoint repository; do source "scripts_hpc/lib/$lib.sh"; done
RUNS=$WORK JOB_ID=1 JOB_TMP=$WORK/tmp SITE=bench RUNTIME=none CPUS=2 IMAGES=$WORK RUNTIME_FLAGS=() SITE_BINDS=() ROLLOUT=0 SCHEDULER=local
declare -A CONTAINER_ENV=()
grade() {
  RUN=$WORK/runs/$1 RUN_NAME=$1 COMPETITION=bench
  mkdir -p "$RUN/logs"
  repository::grade "$WORK/instance" "$WORK/agents/$1" none
}
ls "$WORK/agents" >"$WORK/list"
repository::grade_each "$SLOTS" none grade <"$WORK/list"
"""


def git(*arguments: str, at: Path) -> None:
    names = {f"GIT_{who}_{what}": "bench@bench" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=at, env=os.environ | names, check=True)


def prepare(work: Path, count: int) -> None:
    """Make an instance, and what `count` agents have left: each has changed one file and made another."""
    source, instance = work / "source", work / "instance"
    for folder in (source / "package", instance / "public", instance / "private" / "tests", work / "tmp" / "tmp"):
        folder.mkdir(parents=True)
    (work / "tmp" / "shm").mkdir()
    for number in range(FILES):
        (source / "package" / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 50)
    git("init", "-q", "-b", "task", at=source)
    git("add", ".", at=source)
    git("commit", "-q", "-m", "base", at=source)
    git("clone", "-q", "--bare", str(source), str(instance / "public" / "base.git"), at=work)
    (instance / "private" / "tests" / "test.sh").write_text(f"sleep {SECONDS}\ngrep -q changed package/module_1.py\n")
    asked = {
        "rubrics": [{"id": "works", "criterion": "it works", "weight": 1}],
        "test_scripts": [{"path": "test.sh", "rubric_id": "works"}],
    }
    (instance / "private" / "evaluation.json").write_text(json.dumps(asked))
    for number in range(count):
        agent = work / "agents" / f"bench_{number}"
        shutil.copytree(source, agent)
        with open(agent / "package" / "module_1.py", "a") as file:
            file.write(f"# changed by {number}\n")
        (agent / "new.py").write_text("NEW = 1\n")


def grade(work: Path) -> float:
    """Grade all of them; seconds."""
    began = time.monotonic()
    env = os.environ | {"ROOT": str(ROOT), "WORK": str(work), "SLOTS": str(SLOTS), "VENV": str(Path(sys.prefix))}
    subprocess.run(["bash", "-c", JOB], env=env, stdin=subprocess.DEVNULL, check=True, timeout=3600)
    return time.monotonic() - began


def scores(work: Path, count: int) -> list[float]:
    found = [work / "runs" / f"bench_{number}" / "evaluation_results.json" for number in range(count)]
    return [json.loads(path.read_text())["total_score"] for path in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffs", type=int, default=200, help="how many are graded (default: %(default)s)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="hab-bench-"))
    try:
        prepare(work, options.diffs)
        took = grade(work)
        assert scores(work, options.diffs) == [1.0] * options.diffs
    finally:
        shutil.rmtree(work)
    ideal = options.diffs * SECONDS / SLOTS
    ratio = ideal / took
    judged = None if options.diffs < 50 else ratio >= GOAL
    what = f"grading {options.diffs} diffs on 2 cores with a script of {SECONDS} s each"
    good = figure(
        what, f"{took:.1f} s", f"{ideal:.1f} s (the scripts alone, two at a time)", ratio, f"{GOAL} at least", judged
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
