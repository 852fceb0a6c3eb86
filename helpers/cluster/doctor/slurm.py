"""What `site.sh doctor` asks the scheduler without submitting a job: partitions, room in the queue, sbatch --test-only.

Runs where a person types.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from helpers.cluster import facts
from helpers.cluster.doctor.findings import FAILURE, OK, WARNING, Finding, check
from helpers.cluster.doctor.login import NEEDED_MODEL, Here
from helpers.config import entries
from helpers.lib.errors import Infrastructure
from helpers.rendering import render
from helpers.scheduler import cluster, limits
from helpers.scheduler.query import SchedulerUnavailable, ask_all


@check("login")
def partitions(here: Here) -> Iterator[Finding]:
    if not here.answers:
        return
    for role in ("cpu", "gpu"):
        key = f"partitions.{role}.name"
        name = getattr(here.site.partitions, role).name or ""
        severity = FAILURE if role == "cpu" or here.wanted else WARNING
        for one in name.split(","):
            if one not in here.cluster.nodes:
                known = ", ".join(sorted(filter(None, here.cluster.nodes)))
                said = f"there is no partition '{one}'" if one else "there is no default partition"
                yield Finding(f"{role} partition", severity, said, key, f"one of: {known}")
                continue
            state = here.cluster.partitions.get(one, {}).get("State", "UP")
            if state != "UP":
                yield Finding(
                    f"{role} partition", severity, f"{one} is {state}, and takes no jobs", key, "another one, or wait"
                )
            else:
                nodes = sum(count for count, _ in here.cluster.nodes[one])
                yield Finding(f"{role} partition", OK, f"{one or 'the default one'}: {nodes} node(s), up")


@check("login")
def queue(here: Here) -> Finding | None:
    if here.site.limits.max_submit is None or not here.answers:
        return None
    left = limits.room(here.site)
    return Finding("queue", OK if (left or 0) > 2 else FAILURE, f"room for {left} jobs more", "limits.max_submit")


@check("login")
def jobs(here: Here) -> Iterator[Finding]:
    """What Slurm would say of each job of a workflow: limits as it tells them, and then sbatch --test-only."""
    if not here.answers:
        return
    served = [model for model in here.models.values() if model.engine != "external"]
    files = render.site_files(here.site, served, [entries.agent("aide")])
    needed = (f"vllm_{NEEDED_MODEL}", *(f"vllm_{name}" for name in here.wanted), "grading_server", "agent_aide")
    scripts = {name.removeprefix("slurm_"): text for name, text in files.items() if name.endswith(".sh")}
    good = []
    answers = accepted(scripts)
    for name, text in scripts.items():
        script = name.removesuffix(".sh")
        severity = FAILURE if script in needed else WARNING
        told = limits.problems(here.site, {name.replace("agent_aide", "agent"): text}, here.cluster)
        if told or answers[name]:
            said, advice = [*re.split(": (?=lower |set )", told[0], maxsplit=1), ""][:2] if told else ("", "")
            said = said or f"sbatch refuses it: {answers[name]}"
            yield Finding(f"job {script}", severity, said, "", advice or "see scheduler and partitions of the site")
        else:
            good.append(script)
    if good:
        yield Finding("jobs", OK, f"sbatch --test-only takes {len(good)}: {', '.join(good)}")


def accepted(scripts: dict[str, str]) -> dict[str, str | None]:
    """Whether Slurm would take each of these scripts: None, or its reason. Nothing is submitted. Raises Infrastructure."""
    with tempfile.TemporaryDirectory(prefix="hab-doctor.") as folder:
        for name, text in scripts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        commands = [("sbatch", "--test-only", str(Path(folder, name))) for name in scripts]
        answers = ask_all(*commands, seconds=cluster.Cluster.SECONDS)
    found: dict[str, str | None] = {}
    for name, said in zip(scripts, answers, strict=True):
        if isinstance(said, SchedulerUnavailable) and facts.NO_ANSWER.search(str(said)):
            raise Infrastructure(f"the scheduler doesn't answer: {said}")
        found[name] = facts.refusal(said) if isinstance(said, SchedulerUnavailable) else None
    return found
