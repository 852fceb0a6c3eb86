"""What `site.sh doctor` makes of its probes' reports on the nodes themselves: programs, memory, disks, images, GPUs.

Runs where a person types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, check
from helpers.cluster.doctor.nodes import Nodes, names_of
from helpers.jobs.kinds.doctor import Report

OLDEST_BASH = (4, 4)
SCRATCH_MB, SCRATCH_SPEED, SHM_MB = 2000, 20, 1000
ASKED_MB = 1024  # memory of a probe


@check("nodes")
def shells(nodes: Nodes) -> Iterator[Finding]:
    versions = {report.one("bash"): report for report in nodes.whole}
    for text, report in versions.items():
        version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
        good = version >= OLDEST_BASH
        said = f"{text.partition('(')[0]} on {report.one('node')}"
        yield Finding(
            "bash",
            OK if good else FAILURE,
            said,
            "" if good else "environment.modules",
            "" if good else "one of bash 4.4 or newer",
        )
    for report in nodes.whole[:1]:
        said = report.one("locale")
        bad = re.search("(?i)cannot|unknown|no such", said)
        yield Finding(
            "locale",
            WARNING if bad else OK,
            said,
            "environment.variables" if bad else "",
            "LC_ALL: C.UTF-8" if bad else "",
        )


@check("nodes")
def tools(nodes: Nodes) -> Iterator[Finding]:
    lacking: dict[str, list[Report]] = {}
    for report in nodes.whole:
        for name in report.lines.get("lacking", ()):
            lacking.setdefault(name, []).append(report)
    for name, reports in lacking.items():
        yield Finding(
            f"{name} on nodes",
            FAILURE,
            f"not on PATH on {names_of(reports)}",
            "environment.modules",
            f"a module that brings {name}",
        )
    if nodes.whole and not lacking:
        yield Finding("tools on nodes", OK, "curl, openssl and all others that jobs need")


@check("nodes")
def memory(nodes: Nodes) -> Finding | None:
    for report in nodes.whole:
        granted, limit = (int(word) for word in report.one("memory").split())
        bound = f"its cgroups allow {limit} MB" if limit else "no cgroup bounds it"
        if nodes.site.scheduler.kind == "local":
            return Finding("memory limit", OK, bound)
        if nodes.site.scheduler.request_memory:
            short = 0 < limit < ASKED_MB * 0.95
            return Finding(
                "memory limit",
                WARNING if short else OK,
                f"{ASKED_MB} MB asked, {granted} MB granted, {bound}",
                "scheduler.request_memory" * short,
            )
        wants = nodes.site.jobs.agent.memory_gb * 1024
        given = min(filter(None, (granted, limit)), default=wants)
        if given < wants:
            said = f"without --mem a job has {given} MB, an agent wants {wants}"
            return Finding(
                "memory limit", WARNING, said, "scheduler.request_memory", "true, or fewer jobs.agent.memory_gb"
            )
        return Finding("memory limit", OK, f"without --mem: {bound}")
    return None


@check("nodes")
def scratch(nodes: Nodes) -> Iterator[Finding]:
    for report in nodes.whole:
        if not report.one("scratch"):
            continue
        free, speed, path = report.one("scratch").split(" ", 2)
        said = f"{path} on {report.one('node')}: {int(free) / 1000:.0f} GB free, {speed} MB/s"
        low = int(free) < SCRATCH_MB or int(speed) < SCRATCH_SPEED
        yield Finding(
            "scratch",
            WARNING if low else OK,
            said,
            "paths.scratch" * low,
            "a faster folder, or one with more room" * low,
        )


@check("nodes")
def shared_memory(nodes: Nodes) -> Iterator[Finding]:
    for report in nodes.whole:
        if report.probe == "gpu" or not nodes.gpu:
            free = int(report.one("shm") or 0)
            low = free < SHM_MB
            yield Finding(
                "/dev/shm",
                WARNING if low else OK,
                f"{free / 1000:.1f} GB free on {report.one('node')}",
                "",
                "models on several GPUs use it; ask the support" * low,
            )
            return


@check("nodes")
def images_start(nodes: Nodes) -> Iterator[Finding]:
    if not nodes.site.isolated:
        return
    for report in nodes.whole:
        for line in report.lines.get("image", ()):
            name, good, said = (*line.split(" ", 2), "")[:3]
            if good == "yes":
                yield Finding(f"{name} starts", OK, f"on {report.one('node')}, in {int(said) / 1000:.1f} s")
            else:
                yield Finding(
                    f"{name} starts",
                    FAILURE,
                    f"not on {report.one('node')}: {said}",
                    "container.runtime",
                    "see the cluster's page on containers",
                )


@check("nodes")
def gpus(nodes: Nodes) -> Finding | None:
    report = nodes.reports.get("gpu")
    if not nodes.gpu:
        return (
            Finding("GPUs", NOT_CHECKED, "--gpu asks one, for a minute")
            if nodes.site.partitions.gpu.name or nodes.site.gpu.per_node
            else None
        )
    if report is None or not report.one("gpus"):
        return None
    asked, seen, said = report.one("gpus").split(" ", 2)
    if seen.isdecimal() and int(seen) >= int(asked):
        return Finding("GPUs", OK, f"{seen} seen inside the image on {report.one('node')}: {said}")
    return Finding(
        "GPUs",
        FAILURE,
        f"{asked} asked, and inside the image on {report.one('node')}: {said}",
        "gpu.vendor",
        "check gpu.request, gpu.vendor and partitions.gpu.name",
    )
