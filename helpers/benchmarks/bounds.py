"""What a round may use, and why nothing more of it begins. Its jobs look for themselves: scripts_hpc/lib/bounds.sh, and what lies where."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.benchmarks.config import Budget
from helpers.jobs import arrays
from helpers.lib import disk, values
from helpers.lib.errors import Refused
from helpers.runs import cells
from helpers.runs.metadata import Run

FILE, ENDS = "bounds", "ends"
WORDS = {"tokens": "tokens", "usd": "USD", "gpu_hours": "GPU-hours"}
PLACES = {"tokens": 0, "usd": 4, "gpu_hours": 3}  # as bounds.sh tells them
NOT_BEGUN = "not begun: "  # how the reason of a rollout begins that a bound kept from beginning
UNKNOWN_PARTS = "-"  # of ends that a job didn't note itself
USAGE_BYTES = 64 * 1024
Prices = tuple[float, float]  # USD for a million tokens of prompts, and of answers


def write(group: Path, budget: Mapping[str, float], prices: Mapping[tuple[str, str], Prices]) -> None:
    """The bounds of a round. prices: by agent and model. Raises OSError."""
    lines = [f"{key} {budget[key]:.15g}\n" for key in WORDS if key in budget]
    lines += [f"price {agent} {model} {its[0]:.15g} {its[1]:.15g}\n" for (agent, model), its in prices.items()]
    disk.write_text(group / FILE, "".join(lines))


def read(group: Path) -> dict[str, float]:
    """What a round may use, by WORDS; empty where nothing bounds it."""
    return {words[0]: float(words[1]) for words in _lines(group) if words[0] in WORDS}


def _prices(group: Path) -> dict[tuple[str, str], Prices]:
    return {(one[1], one[2]): (float(one[3]), float(one[4])) for one in _lines(group) if one[0] == "price"}


def _lines(group: Path) -> list[list[str]]:
    try:
        return [line.split() for line in (group / FILE).read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []


def asked(budget: Budget) -> dict[str, float]:
    """What a configuration bounds."""
    return {key: value for key in WORDS if (value := getattr(budget, key)) is not None}


def used(group: Path, gone: Iterable[str] = (), now: float | None = None) -> dict[str, float]:
    """What the runs of a round that have ended, and its servers, have used, by WORDS. gone: jobs of servers that are known to be there no
    more; of one that told no end, its last sign of life is the end."""
    tokens = micro = 0.0
    for name in _ends(group):
        parts = name.split(".")
        if len(parts) == 5 and parts[3].isdecimal() and parts[4].isdecimal():
            tokens += int(parts[3])
            micro += int(parts[4])
    hours = sum(_gpu_seconds(path, set(gone), now or time.time()) for path in group.glob("services/*.json")) / 3600
    return {"tokens": tokens, "usd": micro / 1e6, "gpu_hours": hours}


def _ends(group: Path) -> list[str]:
    try:
        return [name for name in os.listdir(group / ENDS) if name[0] != "."]
    except OSError:
        return []


def _gpu_seconds(path: Path, gone: set[str], now: float) -> float:
    record = disk.read_json(path) or {}
    gpus, begun, ended = (
        values.count(record.get("gpus")),
        *(values.seconds_of(record.get(f"{key}_at")) for key in ("started", "ended")),
    )
    if not gpus or begun is None:
        return 0.0
    if ended is None:
        signs = [path, path.with_suffix(".load.csv")]
        last = max(one.stat().st_mtime for one in signs if one.exists())
        ended = last if path.stem.rpartition("_")[2] in gone else now
    return gpus * max(0.0, ended - begun)


def check(group: Path, larger: Mapping[str, float], gone: Iterable[str] = ()) -> None:
    """Raises Refused where a bound of a round is used up. larger: what is to stand in its place."""
    if not (group / ENDS).is_dir() and larger:
        raise Refused("this round was made before there were budgets: run the benchmark anew")
    bounds, found = read(group) | larger, used(group, gone)
    for key in larger:
        if key == "usd" and not _prices(group):
            raise Refused("--budget usd: no prices were noted when this round was made, as it had no such budget")
    for key, most in bounds.items():
        if found[key] >= most:
            raise Refused(
                f"the budget of {most:.15g} {WORDS[key]} is used up ({found[key]:.{PLACES[key]}f}): run the benchmark anew, "
                f"or let this round use more, with --budget {key}=NUMBER"
            )


def enlarge(group: Path, larger: Mapping[str, float]) -> None:
    """Put other bounds in the place of a round's. Raises OSError."""
    if larger:
        write(group, read(group) | larger, _prices(group))


def note_silent(group: Path, record: dict[str, Any], runs: Iterable[Run]) -> None:
    """Note the use of runs whose jobs were killed before they could: by what their agents had written. Raises OSError."""
    if not (group / ENDS).is_dir():
        return
    noted, prices, told = (
        {name.split(".")[1] for name in _ends(group) if "." in name},
        _prices(group),
        cells.cells(record),
    )
    for run in runs:
        if run.is_open or run.job_id in noted or not run.metadata.get("agent_started_at"):
            continue
        counts = _counted(run)
        cell = told[at] if (at := values.count(run.metadata.get("cell")) or 0) < len(told) else {}
        price = prices.get((str(cell.get("agent")), str(cell.get("model"))), (0.0, 0.0))
        micro = sum(count * its for count, its in zip(counts, price, strict=True))
        name = f"{UNKNOWN_PARTS}.{run.job_id}.{run.state}.{sum(counts)}.{micro:.0f}"
        disk.write_text(group / ENDS / name, f"{run.reason}\n")


def _counted(run: Run) -> tuple[int, int]:
    """Tokens of prompts and of answers, by the agent's own count."""
    logs = run.directory / "logs"
    usage: dict[str, Any] = {}
    if not logs.is_symlink():
        with contextlib.suppress(OSError, ValueError):
            disk.read_file(logs / "usage.json", USAGE_BYTES)
            usage = disk.read_json(logs / "usage.json") or {}
    return values.count(usage.get("prompt_tokens")) or 0, values.count(usage.get("completion_tokens")) or 0


def was_not_begun(state: Any, reason: Any) -> bool:
    """Whether a bound kept a rollout from beginning."""
    return state == "cancelled" and is_not_begun(str(reason or ""))


def is_not_begun(reason: str) -> bool:
    """The same, of a rollout that was cancelled."""
    return reason.startswith(NOT_BEGUN)


def kept(group: Path) -> dict[int, str]:
    """Why rollouts that waited for room in the queue are not submitted any more, by their numbers: for a bound, or as somebody stopped the
    round."""
    found: dict[int, str] = {}
    for one in arrays.waiting(group):
        stopped = disk.read_json(group / f"stopped.{one.parts}.json")
        if stopped or one.taken == arrays.STOP:
            why = f"{NOT_BEGUN}{stopped.get('sentence')}" if stopped else "stopped before it was submitted"
            found |= dict.fromkeys(one.rollouts, why)
    return found


def note(reasons: Iterable[str]) -> list[str]:
    """A sentence for a summary on what a bound kept from beginning. reasons: of those rollouts."""
    found = [reason.removeprefix(NOT_BEGUN) for reason in reasons]
    kept = f"{len(found)} rollout{'' if len(found) == 1 else 's'} not begun"
    return [f"stopped: {found[-1].rstrip('.')}; {kept}"] if found else []
