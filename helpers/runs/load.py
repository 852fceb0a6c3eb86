"""How loaded model servers were: what their samples (services/*.load.csv, helpers/serving/load_sampler.py) come to.

A server's time is what it was allocated, from its job's start to its end: busy while it worked on a request or had one waiting, idle
while it was ready and had none, and the rest of it not ready, or not seen.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from helpers.lib import disk, values
from helpers.lib.values import seconds_of
from helpers.runs import one

ENDING = ".load.csv"
LARGEST_FILE = 16 * 2**20  # bytes; a sampler's month has a third of it
LONGEST_STEP = 900.0  # seconds between two samples; more is no sampling
MOST_BINS = 10_000  # requests; more at once are counted as so many, but for the largest number
MOST = 1e15  # of any number in a file
NUMBERS = ("requests_running", "requests_waiting", "prompt_tokens_total", "generation_tokens_total", "gpu_utilisation")

Sample = dict[str, "float | None"]  # a line: `time`, seconds since 1970, and NUMBERS


@dataclass
class Requests:
    """How many requests there were, by time. seconds: by the number of requests; most: the largest number."""

    seconds: Counter[int] = field(default_factory=Counter)
    most: int = 0

    def add(self, count: float, seconds: float) -> None:
        self.seconds[min(round(count), MOST_BINS)] += seconds
        self.most = max(self.most, round(count))

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.seconds + other.seconds, max(self.most, other.most))

    @property
    def mean(self) -> float | None:
        """Over time."""
        whole = sum(self.seconds.values())
        return sum(count * seconds for count, seconds in self.seconds.items()) / whole if whole else None

    @property
    def p95(self) -> int | None:
        """The least number that was not exceeded in 95% of the time."""
        left = 0.95 * sum(self.seconds.values())
        for count, seconds in sorted(self.seconds.items()):
            left -= seconds
            if left <= 1e-9:
                return count
        return None


@dataclass
class Load:
    """What samples come to: a state holds until the next sample. seconds: that were seen; last: the last sample, seconds since 1970."""

    seconds: float = 0.0
    busy_seconds: float = 0.0
    waiting_only_seconds: float = 0.0  # of the busy ones: requests waited, and none was worked on
    running: Requests = field(default_factory=Requests)
    waiting: Requests = field(default_factory=Requests)
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    gpu_seconds: float = 0.0  # that were seen by the GPUs' own account
    gpu_busy_seconds: float = 0.0
    last: float | None = None

    @property
    def idle_seconds(self) -> float:
        return self.seconds - self.busy_seconds

    @property
    def gpu_utilisation(self) -> float | None:
        """Percent, the mean over time and GPUs; None where nobody told."""
        return 100 * self.gpu_busy_seconds / self.gpu_seconds if self.gpu_seconds else None

    def __add__(self, other: Load) -> Load:
        """Of two servers, or two times."""
        both = {
            name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__ if name != "last"
        }
        return Load(**both, last=max((at for at in (self.last, other.last) if at is not None), default=None))

    def between(self, before: Sample, after: Sample, seconds: float) -> None:
        """Two samples that follow each other. Where the second has no numbers, nobody saw what was since: the server hung, or ended."""
        running, waiting, percent = (
            before[name] for name in ("requests_running", "requests_waiting", "gpu_utilisation")
        )
        if running is not None and waiting is not None and after["requests_running"] is not None:
            self.seconds += seconds
            self.busy_seconds += seconds if running or waiting else 0.0
            self.waiting_only_seconds += seconds if waiting and not running else 0.0
            self.running.add(running, seconds)
            self.waiting.add(waiting, seconds)
        if percent is not None and any(after[name] is not None for name in NUMBERS):
            self.gpu_seconds += seconds
            self.gpu_busy_seconds += seconds * min(percent, 100.0) / 100


def read(path: str) -> Load | None:
    """What a server's samples come to; None where they can't be read. Lines that are cut off or no samples are left out."""
    if (samples := _read(path)) is None:
        return None
    found, counted = Load(), dict.fromkeys(NUMBERS[2:4], 0.0)
    for before, sample, step in _steps(samples):
        at = sample["time"] or 0.0
        if before is not None:
            found.between(before, sample, step)
        found.prompt_tokens += _counted(sample, "prompt_tokens_total", counted)
        found.generation_tokens += _counted(sample, "generation_tokens_total", counted)
        found.last = max(found.last or at, at)
    return found


def strip(path: str, start: float, end: float, bins: int) -> list[Load]:
    """The same in equal parts of the time from start to end (seconds since 1970), without the counters of tokens; empty as for read.

    What is busy, idle and not seen in all parts together is what read() has of that time.
    """
    samples, width = _read(path), (end - start) / bins
    if samples is None or width <= 0:
        return []
    found = [Load() for _ in range(bins)]
    for before, sample, step in _steps(samples):
        if before is None:
            continue
        since = (before["time"] or 0.0) - start
        first, last = (int(min(max(edge // width, 0), bins - 1)) for edge in (since, since + step))
        for at in range(first, last + 1):
            part = min(since + step, (at + 1) * width) - max(since, at * width)
            if part > 0:
                found[at].between(before, sample, part)
    return found


def _read(path: str) -> Iterator[Sample] | None:
    try:
        return _samples(disk.decoded(disk.read_file(path, LARGEST_FILE))[0])
    except (OSError, ValueError):
        return None


def _steps(samples: Iterable[Sample]) -> Iterator[tuple[Sample | None, Sample, float]]:
    """Each sample with the one before it and the seconds between; None where that one is too far away, or isn't before it."""
    before = None
    for sample in samples:
        step = 0.0 if before is None else (sample["time"] or 0.0) - (before["time"] or 0.0)
        yield (before if 0 < step <= LONGEST_STEP else None), sample, step
        before = sample


def _counted(sample: Sample, name: str, before: dict[str, float]) -> float:
    """How far a counter has come since it was read last; one that begins anew, with its server, has come from 0."""
    if (told := sample[name]) is None:
        return 0.0
    come = told - before[name] if told >= before[name] else told
    before[name] = told
    return come


def _samples(text: str) -> Iterator[Sample]:
    """The lines that are samples."""
    lines = io.StringIO(text)
    names = lines.readline().strip().split(",")
    if not {"time", *NUMBERS} <= set(names):
        return
    for row in lines:
        cells = row.rstrip("\n").split(",")
        if row[-1] != "\n" or len(cells) != len(names):
            continue
        told = dict(zip(names, cells, strict=True))
        if (at := seconds_of(told["time"])) is not None:
            yield {"time": at} | {name: _number(told[name]) for name in NUMBERS}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < MOST else None


@dataclass(frozen=True)
class Served:
    """A model's servers. hours: that their jobs were allocated, None where that isn't known; gpu_hours: the same, of each GPU."""

    model: str
    servers: int
    hours: float | None
    gpu_hours: float | None
    load: Load

    def __add__(self, other: Served) -> Served:
        hours, gpu_hours = (
            None if None in both else sum(both)
            for both in ((self.hours, other.hours), (self.gpu_hours, other.gpu_hours))
        )
        return Served(self.model, self.servers + other.servers, hours, gpu_hours, self.load + other.load)

    def part(self, seconds: float) -> float | None:
        """Seconds as a part of what was allocated."""
        return min(1.0, seconds / 3600 / self.hours) if self.hours else None

    @property
    def tokens_per_gpu_hour(self) -> float | None:
        """Generated tokens by GPU-hours that were allocated."""
        return self.load.generation_tokens / self.gpu_hours if self.gpu_hours else None

    def sentence(self) -> str | None:
        """For people; None where no GPU was allocated, or nothing was seen of it."""
        load, busy, idle = self.load, self.part(self.load.busy_seconds), self.part(self.load.idle_seconds)
        if not self.gpu_hours or not load.seconds or busy is None or idle is None:
            return None
        hours = f"{self.gpu_hours:.1f}" if self.gpu_hours >= 1 else f"{self.gpu_hours:.2g}"
        parts = [
            f"busy {busy:.0%} and idle {idle:.0%} of {hours} GPU-hours",
            f"{self.tokens_per_gpu_hour:,.0f} generated tokens a GPU-hour",
        ]
        if load.gpu_utilisation is not None:
            parts.append(f"GPUs {load.gpu_utilisation:.0f}% used")
        parts.append(f"at most {load.waiting.most:,} request{'' if load.waiting.most == 1 else 's'} waiting")
        return f"model {self.model}: {', '.join(parts)}"

    def data(self) -> dict[str, Any]:
        """For programs: hours, seconds, numbers of requests and tokens, percent."""
        load = self.load
        told = {
            "hours": self.hours,
            "gpu_hours": self.gpu_hours,
            "seen_seconds": load.seconds,
            "busy_seconds": load.busy_seconds,
            "idle_seconds": load.idle_seconds,
            "waiting_only_seconds": load.waiting_only_seconds,
            "requests_running_mean": load.running.mean,
            "requests_waiting_mean": load.waiting.mean,
            "generation_tokens_per_gpu_hour": self.tokens_per_gpu_hour,
            "gpu_utilisation_percent": load.gpu_utilisation,
        }
        return {
            "model": self.model,
            "servers": self.servers,
            **{name: None if value is None else round(value, 6) for name, value in told.items()},
            "requests_running_p95": load.running.p95,
            "requests_running_most": load.running.most,
            "requests_waiting_p95": load.waiting.p95,
            "requests_waiting_most": load.waiting.most,
            "prompt_tokens": round(load.prompt_tokens),
            "generation_tokens": round(load.generation_tokens),
        }


def servers(group: str) -> dict[str, Served]:
    """The servers of a workflow whose load was noted, by job id."""
    return {job: server.served for job, server in seen(group).items()}


@dataclass(frozen=True)
class Seen:
    """A server whose load was noted. path: of its samples; started, ended: seconds since 1970."""

    path: str
    started: float | None
    ended: float | None
    served: Served


def seen(group: str) -> dict[str, Seen]:
    """The same with the times of their jobs, and where the samples lie."""
    found = {}
    for job, record in one.services(group, []).items():
        service = values.text(record.get("service")) or ""
        path = f"{group}/services/{service}_{job}{ENDING}"
        if "/" in service or (load := read(path)) is None:
            continue
        started = seconds_of(record.get("started_at"))
        ended = seconds_of(record.get("ended_at")) or load.last  # it lives, or was killed with its last word unsaid
        hours = None if started is None or ended is None else max(0.0, ended - started) / 3600
        gpus = values.count(record.get("gpus"))
        gpu_hours = None if gpus is None or hours is None else gpus * hours
        served = Served(service.removeprefix("vllm_"), 1, hours, gpu_hours, load)
        found[job] = Seen(path, started, ended, served)
    return found


def by_model(found: Iterable[Served]) -> list[Served]:
    """Together, a model each, by name."""
    apart: dict[str, list[Served]] = {}
    for served in found:
        apart.setdefault(served.model, []).append(served)
    return [reduce(Served.__add__, apart[model]) for model in sorted(apart)]
