"""Time the report of a round: of 1,000 runs with journals, opened in Chromium where there is one, and of 10,000.

Beside the making of 1,000: the bare copy of what it reads, `cat` of all journals. Memory: the largest resident set of its processes. The
page is timed from the start of its navigation to its load event and to its last picture. Exits 1 when a figure misses its limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import bench_rounds
from bench_rounds import ENDED, Made, fakes, took
from figure import figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))

import browser  # noqa: E402
from made_reports import leave_journals, leave_samples  # noqa: E402

SECONDS, MEGABYTES, OPENS = 10.0, 20.0, 2.0
MANY_SECONDS, MANY_MEMORY = 60.0, 500.0
STEPS = 8
CAT = 'cat "$1"/*/logs/journal.json >/dev/null'


def make(folder: Path, count: int) -> Made:
    made = bench_rounds.make_round(folder, count, ENDED)
    leave_journals(made.group, STEPS)
    leave_samples(made.group)
    return made


def make_apart(folder: Path, count: int) -> Made:
    """In another process, whose memory counts for nobody."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(make, folder, count).result()


def bench_made(made: Made, page: Path) -> bool:
    count, best = made.states.total(), None
    for _ in range(3):
        one = took(made, "results.sh", "report", made.group, "-o", page)
        best = one if best is None or one.seconds < best.seconds else best
        print(f"  results.sh report of {count} runs: {one.seconds:.2f} s, {one.megabytes:.0f} MB of memory")
    assert best is not None
    megabytes = page.stat().st_size / 1e6
    beside = sum(path.stat().st_size for path in page.with_name(f"{page.stem}_files").glob("*.js")) / 1e6
    print(f"  the page has {megabytes:.1f} MB; details beside it {beside:.1f} MB")
    copied = took(made, "bash", "-c", CAT, "-", made.group).seconds
    return figure(
        f"report of {count} runs of {STEPS} steps, a page of {megabytes:.1f} MB",
        f"{best.seconds:.2f} s",
        f"{copied:.2f} s (cat of their journals)",
        best.seconds / copied,
        f"{SECONDS:g} s and {MEGABYTES:g} MB",
        best.seconds <= SECONDS and megabytes <= MEGABYTES,
    )


def bench_opened(page: Path) -> bool:
    if problem := browser.missing():
        print(f"  not opened: {problem}")
        return True
    times = [browser.opened(page) for _ in range(3)]
    empty = page.with_name("empty.html")
    empty.write_text(
        "<!DOCTYPE html><title>empty</title><script>document.documentElement.dataset.drawn = 'all'</script>"
    )
    alone = min(browser.opened(empty) for _ in range(3))
    print(f"  opened in Chromium: {'/'.join(f'{one:.2f}' for one in times)} s to the last picture")
    best = min(times)
    limit = f"{OPENS:g} s"
    return figure(
        "the page opened in Chromium",
        f"{best:.2f} s",
        f"{alone:.2f} s (an empty page)",
        best / alone,
        limit,
        best <= OPENS,
    )


def bench_many(folder: Path, count: int) -> bool:
    made = make_apart(folder, count)
    page = folder / "report.html"
    one = took(made, "results.sh", "report", made.group, "-o", page)
    table = took(made, "results.sh", "export", made.group, "-o", folder / "table.csv")
    return figure(
        f"report of {count} runs, a page of {page.stat().st_size / 1e6:.1f} MB, {one.megabytes:.0f} MB of memory",
        f"{one.seconds:.1f} s",
        f"{table.seconds:.1f} s (results.sh export)",
        one.seconds / table.seconds,
        f"{MANY_SECONDS:g} s and {MANY_MEMORY:g} MB of memory",
        one.seconds <= MANY_SECONDS and one.megabytes <= MANY_MEMORY,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="of the page that is opened (default: %(default)s)")
    parser.add_argument("--many", type=int, default=10_000, help="of the large one (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_report.") as name:
        fakes(Path(name))
        made = make_apart(Path(name, "some"), options.runs)
        page = Path(name, "some", "report.html")
        steps: list[Callable[[], bool]] = [
            lambda: bench_made(made, page),
            lambda: bench_opened(page),
            lambda: bench_many(Path(name, "many"), options.many),
        ]
        began = time.monotonic()
        good = [step() for step in steps]
        print(f"  all in {time.monotonic() - began:.0f} s")
        return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
