"""Write many tasks as a parquet snapshot and extract it, and compare with the disk's and gzip's own speed for the same bytes.

There: the same files are read, the same tar files packed by gzip, the same bytes written. Back: the bytes are read and unpacked by gzip,
and the same files written. Both sides are timed in turns, some tasks at a time, in one process, and both flush what they write to the
disk. Memory: the largest resident set of a process that writes and extracts the whole. One line a figure; exits 1 beyond a limit.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from figure import figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helpers.datagen import snapshots  # noqa: E402

GOAL, MEGABYTES = 0.7, 1000.0
ROUND = 500  # tasks of a turn
JUDGED = 5000  # with fewer, the disk's cache says more than the disk
WORDS = 3000
TOML = """schema_version = "1.4"

[task]
name = "bench/task-{number}"

[agent]
timeout_sec = 900

[verifier]
timeout_sec = 720
"""


def make(folder: Path, first: int, count: int) -> None:
    """Tasks of seven files, as pipelines write them."""
    chance = random.Random(first)
    words = [f"{chance.randrange(36**5):x}" for _ in range(WORDS)]

    def text(length: int) -> str:
        return " ".join(chance.choices(words, k=length)) + "\n"

    for number in range(first, first + count):
        task = folder / f"task-{number:06d}"
        for name, content in {
            "instruction.md": text(300),
            "task.toml": TOML.format(number=number),
            "metadata.json": f'{{"row": {number}}}\n',
            "environment/Dockerfile": "FROM ubuntu:24.04\nWORKDIR /app\nRUN apt-get update && apt-get install -y python3\n",
            "tests/test.sh": "#!/usr/bin/env bash\nset -u\npython3 -m pytest -q /tests/test_state.py\n",
            "tests/test_state.py": text(150),
            "solution/solve.sh": text(60),
        }.items():
            path = task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


Files = list[tuple[str, list[str], list[tuple[str, bytes]]]]  # of a task: its name, its folders, its files


def bare_there(folder: Path, tars: list[bytes], file: Path) -> float:
    """Read the files, pack the same tar files, write the same bytes; seconds."""
    began = time.perf_counter()
    packed = []
    for task, tar in zip(sorted(os.scandir(folder), key=lambda entry: entry.name), tars, strict=True):
        for base, _, names in os.walk(task.path):
            for name in names:
                with open(os.path.join(base, name), "rb", buffering=0) as opened:
                    opened.read()
        packed.append(zlib.compress(tar, 6, wbits=31))
    with open(file, "wb") as opened:
        for data in packed:
            opened.write(data)
    os.sync()
    return time.perf_counter() - began


def bare_back(file: Path, sizes: list[int], tasks: Files, folder: Path) -> float:
    """Read the bytes, unpack them, write the same files; seconds."""
    began = time.perf_counter()
    folder.mkdir()
    with open(file, "rb") as opened:
        for size, (task, folders, files) in zip(sizes, tasks, strict=True):
            zlib.decompress(opened.read(size), wbits=31)
            os.mkdir(f"{folder}/{task}")
            for name in folders:
                os.mkdir(f"{folder}/{task}/{name}")
            for name, content in files:
                with open(f"{folder}/{task}/{name}", "wb", buffering=0) as target:
                    target.write(content)
    os.sync()
    return time.perf_counter() - began


def ours_there(folder: Path, file: Path) -> float:
    began = time.perf_counter()
    snapshots.write(snapshots.tasks_in(folder), file)
    os.sync()
    return time.perf_counter() - began


def ours_back(file: Path, folder: Path) -> float:
    began = time.perf_counter()
    snapshots.extract(file, folder)
    os.sync()
    return time.perf_counter() - began


def held(folder: Path) -> Files:
    tasks = []
    for task in sorted(folder.iterdir()):
        below = sorted(task.rglob("*"))
        folders = [str(path.relative_to(task)) for path in below if path.is_dir()]
        files = [(str(path.relative_to(task)), path.read_bytes()) for path in below if path.is_file()]
        tasks.append((task.name, folders, files))
    return tasks


def turn(work: Path, first: int, count: int) -> dict[str, float]:
    """One turn: seconds of each side, there and back."""
    source = work / "source"
    make(source, first, count)
    snapshots.write(snapshots.tasks_in(source), work / "first.parquet")  # reads all files once, for both sides
    packed = [data for _, data in snapshots.read(work / "first.parquet")]
    tars = [zlib.decompress(data, wbits=31) for data in packed]
    tasks = held(source)
    took = {}
    sides = [
        ("bare there", lambda: bare_there(source, tars, work / "bare.bin")),
        ("ours there", lambda: ours_there(source, work / "ours.parquet")),
        ("bare back", lambda: bare_back(work / "bare.bin", [len(data) for data in packed], tasks, work / "bare")),
        ("ours back", lambda: ours_back(work / "ours.parquet", work / "ours")),
    ]
    for name, side in sides if first // ROUND % 2 else [sides[1], sides[0], sides[3], sides[2]]:
        os.sync()  # what others wrote before is not for this side to wait for
        took[name] = side()
    assert held(work / "ours") == tasks == held(work / "bare")
    for path in work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return took


def whole(work: Path, count: int) -> tuple[float, float, float]:
    """Write and extract all tasks at once; seconds of each, and megabytes at most."""
    there = ours_there(work / "source", work / "all.parquet")
    back = ours_back(work / "all.parquet", work / "out")
    found = len(os.listdir(work / "out"))
    assert found == count, f"{found} of {count} tasks came back"
    return there, back, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def compare(work: Path, count: int) -> bool:
    total: dict[str, float] = {}
    for first in range(0, count, ROUND):
        for name, seconds in turn(work, first, min(ROUND, count - first)).items():
            total[name] = total.get(name, 0) + seconds
    good = True
    for way, what in (("there", "to a parquet snapshot"), ("back", "from it")):
        ours, bare = total[f"ours {way}"], total[f"bare {way}"]
        judged = None if count < JUDGED else bare / ours >= GOAL
        alternative = f"{bare:.1f} s (the disk and gzip alone, the same bytes)"
        good &= figure(f"{count} tasks {what}", f"{ours:.1f} s", alternative, bare / ours, f"{GOAL} at least", judged)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000, help="that are timed beside gzip (default: %(default)s)")
    parser.add_argument("--many", type=int, default=100_000, help="of one snapshot (default: %(default)s)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="hab-bench-"))
    try:
        good = compare(work, options.tasks)
        for first in range(0, options.many, ROUND):
            make(work / "source", first, min(ROUND, options.many - first))
        # a process of its own: what was measured before is none of its memory
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            there, back, megabytes = pool.submit(whole, work, options.many).result()
    finally:
        shutil.rmtree(work)
    print(f"  {options.many} tasks in one snapshot: {there:.1f} s there, {back:.1f} s back")
    good &= figure(
        f"memory for {options.many} tasks there and back",
        f"{megabytes:.0f} MB",
        f"{MEGABYTES:.0f} MB (the limit)",
        megabytes / MEGABYTES,
        f"{MEGABYTES:.0f} MB",
        megabytes <= MEGABYTES,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
