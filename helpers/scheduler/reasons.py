"""Why a job waits or died, as data (reasons.yaml), and what its log says of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from helpers.lib.text import literal
from helpers.scheduler import container_faults

# `<script>: message`, as die of scripts_hpc/lib/common.sh says it; Slurm runs every script under the name slurm_script
LAST_WORDS = re.compile(r"^(?:\S*/)?(?:slurm_script|[\w.-]+\.sh): (?!line \d+:)(.+)$", re.MULTILINE)
SEE_LOG = "see its log"  # an advice of the job's own that leads there: what stands there says more
READ_LOG = "read its log: `{logs}`"
Sentence = tuple[str, str]  # a cause and an advice, with words in braces that are filled in


@cache
def _tables() -> dict[str, Any]:
    import yaml

    return yaml.load(
        Path(__file__).with_suffix(".yaml").read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


def _pair(entry: dict[str, str]) -> Sentence:
    return entry["cause"], entry["advice"]


def waiting(reason: str) -> Sentence:
    """Of a job that waits, by the scheduler's reason."""
    return _pair(_reason(reason))


def never(reason: str) -> bool:
    """Whether a job that waits for this reason will do so for ever."""
    return _reason(reason).get("never", False)


@cache
def _reason(reason: str) -> dict[str, Any]:
    fitting = (entry for entry in _tables()["reasons"] if re.fullmatch(entry["when"], reason.strip("()")))
    return next(fitting, _tables()["reason_unknown"])


def keys(job: str, role: str, site: str | None) -> dict[str, str]:
    """The keys that decide what a job asks for, as words of sentences. job: agent, grading_server, model_server or prepare."""
    at_site = f"of site {site}" if site else "of the site"
    key, model = f"jobs.{job}", "of the model in site-config/models.yaml"
    sizes = {"size": f"{key}.cpus or .memory_gb {at_site}", "memory": f"{key}.memory_gb {at_site}"}
    if job == "model_server":
        sizes = {"size": f"gpus, cpus or memory_gb {model}", "memory": f"memory_gb {model}"}
    return sizes | {
        "at_site": at_site,
        "partition_key": f"partitions.{role}.name {at_site}",
        "account": f"scheduler.account or scheduler.qos (or partitions.{role}.account, .qos) {at_site}",
        "time": f"--time-limit, or {key}.time_limit {at_site}" if job == "agent" else f"{key}.time {at_site}",
    }


def ending(state: str) -> Sentence:
    """Of a job that ended, by the scheduler's state."""
    ends = _tables()["ends"]
    return _pair(ends.get((state.split() or ["GONE"])[0], ends["FAILED"]))


def told(text: str) -> Sentence | None:
    """What a job's log says of its death; None where it says nothing that is known."""
    own = None
    if words := LAST_WORDS.findall(text):
        said, _, advice = words[-1].partition(": ")
        own = f"it says '{literal(said)}'", literal(advice.rstrip(".")) or READ_LOG
        if advice != SEE_LOG:
            return own
    if fault := container_faults.find(text):
        return f"its log says that {literal(fault[0])}", literal(fault[1])
    if found := hint(text):
        return f"its log says that {found[0]}", found[1]
    return own and (own[0], READ_LOG)


def hint(text: str) -> Sentence | None:
    """What was the matter, by the last of the well-known deaths that a log tells of."""
    matches = ((match.start(), entry) for entry in _tables()["hints"] for match in re.finditer(entry["when"], text))
    last = max(matches, default=None, key=lambda pair: pair[0])
    return _pair(last[1]) if last else None


def last_line(text: str) -> Sentence | None:
    """The end of a log that says nothing that is known."""
    ending = text.strip().rpartition("\n")[2][:300]
    return (f"its log ends with '{literal(ending)}'", "read it: `{logs}`") if ending else None
