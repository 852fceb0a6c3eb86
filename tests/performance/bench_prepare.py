"""Time prepare_all_tasks.py: tasks that wait, tasks that compute, and the same commands under GNU parallel.

A task's command is a `mlebench` made here: it writes the smallest task, and waits a second or counts for about a second of one CPU.
Of each measurement the best of several counts, because other work on the machine only adds. Exits 1 when a figure misses its
limit. Without GNU parallel on the PATH, which run.sh installs where it can, that comparison is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
WAITING, WAITERS = 64, 16  # tasks of a second, and how many at once
COMPUTING, CPUS = 8, 2
OVERHEAD, SPEEDUP = 1.05, 1.85
MLEBENCH = """\
#!/bin/sh
# mlebench prepare -c ID --data-dir D
mkdir -p "$5/$3/prepared/public" "$5/$3/prepared/private"
echo "$3" >"$5/$3/prepared/public/description.md"
echo "$3" >"$5/$3/prepared/private/test.csv"
[ "$WORK" != wait ] || exec sleep 1
i=0
while [ $i -lt "$WORK" ]; do i=$((i + 1)); done
"""

Command = Callable[[Path, Path], list[object]]  # of a data folder and a file with the tasks
Side = tuple[str, Command]


class Bench:
    """The commands to be timed; each run has a data folder of its own, and must have prepared all tasks."""

    def __init__(self, folder: Path, repeats: int):
        self.folder, self.repeats = folder, repeats
        program = folder / "bin" / "mlebench"
        program.parent.mkdir()
        program.write_text(MLEBENCH)
        program.chmod(0o755)
        self.env = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def best(self, work: str, tasks: int, *sides: Side) -> list[float]:
        """The best time of each side; they take turns, so that what else the machine does falls on all of them."""
        times: list[list[float]] = [[] for _ in sides]
        for _ in range(self.repeats):
            for (_, command), found in zip(sides, times, strict=True):
                found.append(self._time(command, work, tasks))
        for (name, _), found in zip(sides, times, strict=True):
            print(f"  {name}: {'/'.join(f'{seconds:.2f}' for seconds in found)} s", flush=True)
        return [min(found) for found in times]

    def _time(self, command: Command, work: str, tasks: int) -> float:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            names, data = Path(name, "tasks"), Path(name, "data")
            names.write_text("".join(f"task-{number:02d}\n" for number in range(tasks)))
            words = [str(word) for word in command(data, names)]
            began = time.perf_counter()
            subprocess.run(words, cwd=name, env=self.env | {"WORK": work}, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            made = len(list(data.glob("*/prepared/private/test.csv")))
        if made != tasks:
            raise RuntimeError(f"{words[0]} prepared {made} of {tasks} tasks")
        return seconds

    def count_for_a_second(self) -> str:
        """How far the fake counts in about a second of one CPU."""
        count = 200_000
        seconds = min(self._time(alone, str(count), 1) for _ in range(3))
        return str(round(count / seconds))


def ours(threads: int) -> Side:
    def command(data: Path, names: Path) -> list[object]:
        options = ["--backend", "mlebench", "--data-dir", data, "--task-list", names, "--threads", threads]
        return [sys.executable, ROOT / "helpers/prepare_all_tasks.py", *options]

    return f"ours, {threads} at once", command


def parallel(threads: int) -> Side:
    def command(data: Path, names: Path) -> list[object]:
        return ["parallel", "--will-cite", "-j", threads, "-a", names, f"mlebench prepare -c {{}} --data-dir {data}"]

    return f"parallel, {threads} at once", command


def alone(data: Path, names: Path) -> list[object]:
    return ["mlebench", "prepare", "-c", "task-00", "--data-dir", data]


def told(what: str, ours: float, alternative: float, name: str, ratio: float, limit: float, good: bool) -> bool:
    return figure(what, f"{ours:.2f} s", f"{alternative:.2f} s ({name})", ratio, f"{limit:g}", good)


def slower(what: str, ours: float, alternative: float, name: str) -> bool:
    ratio = ours / alternative
    return told(what, ours, alternative, name, ratio, OVERHEAD, ratio <= OVERHEAD)


def has_parallel() -> bool:
    """Whether the `parallel` on the PATH is GNU's: moreutils has one too."""
    if shutil.which("parallel") is None:
        return False
    answer = subprocess.run(["parallel", "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return answer.stdout.startswith("GNU parallel")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement (default: %(default)s)")
    options = parser.parse_args()
    other = has_parallel()
    with tempfile.TemporaryDirectory(prefix="bench_prepare.") as name:
        bench = Bench(Path(name), options.repeats)
        others = [parallel] if other else []
        waited, *theirs = bench.best("wait", WAITING, ours(WAITERS), *(side(WAITERS) for side in others))
        ideal = WAITING / WAITERS
        good = [slower(f"{WAITING} tasks that wait 1 s, {WAITERS} at once", waited, ideal, "the ideal")]
        good += [slower("the same against GNU parallel", waited, seconds, "parallel") for seconds in theirs]
        work = bench.count_for_a_second()
        one, two, *theirs = bench.best(work, COMPUTING, ours(1), ours(CPUS), *(side(CPUS) for side in others))
        what = f"{COMPUTING} tasks that compute, {CPUS} at once"
        good.append(told(what, two, one, "one at once", one / two, SPEEDUP, one / two >= SPEEDUP))
        good += [slower("the same against GNU parallel", two, seconds, "parallel") for seconds in theirs]
    if not other:
        print("against GNU parallel: not measured, it is not on the PATH (Debian: apt-get install parallel)")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
