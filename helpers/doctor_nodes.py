"""What `site.sh doctor` makes of the reports of its probes. Runs where a person types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from helpers.doctor_findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, check
from helpers.job_kinds.doctor import Report
from helpers.site_config import Site

CLOCK_SECONDS = (5.0, 60.0)  # apart: a warning, as logs mislead; a failure, as certificates aren't valid yet
LATE_SECONDS = 30.0  # until a file appears; a server's address is waited for by its job, not by a clock
OLDEST_BASH = (4, 4)
SCRATCH_MB, SCRATCH_SPEED, SHM_MB = 2000, 20, 1000
ASKED_MB = 1024  # memory of a probe


@dataclass
class Nodes:
    """A site, the reports of its probes, and why there is none of some. gpu: whether a GPU was asked for."""

    site: Site
    reports: dict[str, Report]
    refused: dict[str, str] = field(default_factory=dict)
    gpu: bool = False

    @property
    def told(self) -> list[Report]:
        """The probes that began."""
        return [report for report in self.reports.values() if report.one("node")]

    @property
    def whole(self) -> list[Report]:
        """Those that came as far as the site's own folders and settings let them."""
        return [report for report in self.told if report.one("bash")]


def _nodes(reports: list[Report]) -> str:
    return ", ".join(dict.fromkeys(report.one("node") for report in reports))


@check("nodes")
def probes(nodes: Nodes) -> Iterator[Finding]:
    for name, reason in nodes.refused.items():
        severity = WARNING if name.endswith("peer") else FAILURE
        role = "gpu" if name == "gpu" else "cpu"
        yield Finding(f"probe {name}", severity, f"sbatch refuses it: {reason}", f"partitions.{role}.name")
    for name, report in nodes.reports.items():
        severity = WARNING if name.endswith("peer") else FAILURE
        if report.died:
            key, advice = _blame(report.died)
            yield Finding(f"probe {name}", FAILURE, report.died, key, advice)
        elif report.given_up:
            yield Finding(
                f"probe {name}", severity, report.given_up, "", "try again with more --wait, or when nodes are free"
            )
        elif report.one("end") not in ("0", ""):
            said = report.one("died") or f"ended with exit code {report.one('end')}"
            key, advice = _blame(said)
            yield Finding(f"probe {name}", FAILURE, said, key, advice)
        else:
            yield Finding(f"probe {name}", OK, f"job {report.job} ran on {report.one('node')}")


def _blame(said: str) -> tuple[str, str]:
    """The site's key that a job's last words name, and what to do."""
    found = re.search(r"\b(?:environment|paths|container|network|jobs)\.[a-z_]+", said)
    if "none of the site's folders" in said:
        return "paths.runs", "folders of a file system that all nodes see, under one name"
    return (found[0], "") if found else ("", "")


# ---- folders and clocks


@check("nodes")
def shared_folders(nodes: Nodes) -> Iterator[Finding]:
    if not nodes.told:
        return
    said: dict[str, dict[str, list[Report]]] = {}
    for report in nodes.told:
        for line in report.lines.get("folder", ()):
            key, state = line.split(" ")[:2]
            back = state != "same" or key in report.back
            said.setdefault(key, {}).setdefault(state if back else "unseen", []).append(report)
    whole = {key for key, states in said.items() if set(states) == {"same"}}
    for key, states in said.items():
        yield _folder(nodes.site, key, states, whole)


WORDS = {
    "absent": "isn't there on {}",
    "other": "is another folder on {}: a file written here isn't there",
    "unseen": "doesn't show here what {} wrote there",
    "readonly": "can't be written on {}",
}


def _folder(site: Site, key: str, states: dict[str, list[Report]], whole: set[str]) -> Finding:
    name, path = f"shared {key}", getattr(site.paths, key)
    bad = [state for state in WORDS if state in states]
    if not bad:
        return Finding(name, OK, f"the same here and on {_nodes(states['same'])}")
    measured = f"{path} " + "; ".join(WORDS[state].format(_nodes(states[state])) for state in bad)
    if bad == ["readonly"] and key not in ("runs", "address_dir"):
        return Finding(
            name,
            WARNING if key == "data" else OK,
            measured,
            f"paths.{key}",
            "preparations write there" * (key == "data"),
        )
    if key == "address_dir" and "runs" in whole:
        value = f"{site.paths.runs}/.addresses"
        return Finding(name, FAILURE, measured, f"paths.{key}", f"{value}, which all nodes see", value, True)
    return Finding(
        name, FAILURE, measured, f"paths.{key}", "a folder of a file system that all nodes see, under one name"
    )


@check("nodes")
def lateness(nodes: Nodes) -> Finding | None:
    late = [(high - low, report) for report in nodes.told for low, high in [report.ahead] if high - low < 1e6]
    if not late:
        return Finding("files appear", NOT_CHECKED, "no probe read and wrote in time") if nodes.told else None
    worst, report = max(late, key=lambda pair: pair[0])
    said = f"there and back within {max(worst, 0.0):.1f} s ({report.one('node')})"
    state = WARNING if worst > LATE_SECONDS else OK
    return Finding(
        "files appear",
        state,
        said,
        "paths.address_dir" if state != OK else "",
        "a quicker file system" if state != OK else "",
    )


@check("nodes")
def clocks(nodes: Nodes) -> Iterator[Finding]:
    """A clock's offset lies between what a line written there and seen here allows, and one written here and read there."""
    known = [report for report in nodes.told if report.ahead[0] > float("-inf")]
    off = [(max(low, -high, 0.0), report) for report in known for low, high in [report.ahead]]
    bad = [(apart, report) for apart, report in off if apart > CLOCK_SECONDS[0]]
    for apart, report in bad:
        state = FAILURE if apart > CLOCK_SECONDS[1] else WARNING
        direction = "ahead of" if report.ahead[0] > 0 else "behind"
        said = f"that of {report.one('node')} is {apart:.0f} s or more {direction} this machine's"
        yield Finding(
            "clocks",
            state,
            said,
            "scheduler.extra_sbatch",
            f"ask the support; --exclude={report.one('node')} avoids the node",
        )
    if known and not bad:
        width = max((high - low for report in known for low, high in [report.ahead] if high - low < 1e6), default=0.0)
        yield Finding("clocks", OK, f"at most {max(width, 0.1):.1f} s apart here and on {_nodes(known)}")


# ---- what a node has


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
            f"not on PATH on {_nodes(reports)}",
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


# ---- the network


@dataclass(frozen=True)
class Reach:
    """Whether one probe reached another's listener. by: `name`, or an interface; with `:range`, at a port of network.ports."""

    source: Report
    target: Report
    by: str
    address: str
    answer: str

    @property
    def apart(self) -> bool:
        return self.source.one("node") != self.target.one("node")

    def __str__(self) -> str:
        return f"{self.source.one('node')} to {self.target.one('node')} ({self.address}): {self.answer}"


def reaches(nodes: Nodes) -> list[Reach]:
    """All tries of all probes."""
    found = []
    for report in nodes.whole:
        for line in report.lines.get("reach", ()):
            target, by, host, port, answer = line.split(" ", 4)
            if target in nodes.reports:
                found.append(Reach(report, nodes.reports[target], by, f"{host}:{port}", answer))
    return found


@check("nodes")
def network(nodes: Nodes) -> Iterator[Finding]:
    """Do servers' names lead to them from every node, in both directions? And which interface would do?"""
    tries = reaches(nodes)
    mute = [report for report in nodes.whole if report.one("peer")]
    for report in mute:
        yield Finding("network", NOT_CHECKED, f"{report.one('node')}: {report.one('peer')}")
    if not tries:
        return
    key = "network.interface"
    nameless = [report for report in nodes.whole if report.one("nohost")]
    named = [one for one in tries if one.by == "name"]
    bad = [one for one in named if one.answer != "yes"]
    ports = [one for one in tries if one.by == "name:range" and one.answer != "yes" and one.apart]
    if nameless or bad:
        measured = nameless[0].one("nohost").partition(": set ")[0] if nameless else "; ".join(map(str, bad[:2]))
        working = candidates(tries)
        if working and working[0] != nodes.site.network.interface:
            others = f" (and {', '.join(working[1:])})" if working[1:] else ""
            yield Finding(
                "network",
                FAILURE,
                measured,
                key,
                f"{working[0]}: all nodes reach one another so{others}",
                working[0],
                True,
            )
        else:
            seen = ", ".join(
                dict.fromkeys(line.split()[0] for report in nodes.whole for line in report.lines.get("interface", ()))
            )
            yield Finding(
                "network", FAILURE, measured, key, f"no interface was seen to work; there are {seen or 'none'}"
            )
    elif ports:
        lowest, highest = nodes.site.network.ports
        said = f"at ports {lowest} to {highest}, {ports[0]}"
        yield Finding(
            "network", FAILURE, said, "network.ports", "a range that nodes let through to one another; ask the support"
        )
    elif any(one.apart for one in named):
        how = f"interface {nodes.site.network.interface}" if nodes.site.network.interface else "name"
        yield Finding(
            "network",
            OK,
            f"{_nodes([one.source for one in named])} reach one another by {how}, both ways{_inside(nodes)}",
        )
    elif nodes.site.scheduler.kind == "local":
        yield Finding("network", OK, f"servers of this machine are reached{_inside(nodes)}")
    else:
        yield Finding(
            "network",
            OK,
            f"{named[0].source.one('node')} reaches itself by {named[0].address.partition(':')[0]}{_inside(nodes)}",
        )
        yield Finding("network, two nodes", NOT_CHECKED, "the probes had one node, or didn't run at the same time")
    if not nodes.gpu and nodes.site.partitions.gpu.name and nodes.site.scheduler.kind == "slurm":
        yield Finding("network, GPU nodes", NOT_CHECKED, "--gpu asks whether CPU and GPU nodes reach one another")


def _inside(nodes: Nodes) -> str:
    inside = {report.one("inside") for report in nodes.whole} - {"", "no"}
    return ", from inside the container" if inside and nodes.site.isolated else ""


def candidates(tries: list[Reach]) -> list[str]:
    """The interfaces by which every node was reached from every other, best first; none where no two nodes met.

    Where the loopback leads from one node to another, all of them are one machine.
    """
    if not any(one.apart for one in tries):
        return []
    names = {one.by.partition(":")[0] for one in tries} - {"name"}
    pairs = {(one.source.probe, one.target.probe) for one in tries}
    good = []
    for name in names:
        reached = [
            {(one.source.probe, one.target.probe) for one in tries if one.by == by and one.answer == "yes"}
            for by in (name, f"{name}:range")
        ]
        if all(pairs <= some for some in reached):
            good.append(name)
    return sorted(good, key=lambda name: (name != "lo", not re.match(r"ib|hsn|opa", name), name))


@check("nodes")
def internet(nodes: Nodes) -> Finding | None:
    said = [line.split(" ", 2) for report in nodes.whole for line in report.lines.get("internet", ())]
    if not said:
        return None
    works = {via for via, _, answer in said if answer == "yes"}
    here = nodes.site.environment
    where = _nodes(nodes.whole)
    if works & {"direct", "proxy"}:
        way = "directly" if "direct" in works else "through environment.proxy"
        return Finding(
            "internet",
            OK,
            f"reached from {where} {way}" + (", though environment.offline is set" if here.offline else ""),
        )
    if "login" in works:
        proxy = nodes.reports[next(iter(nodes.reports))].one("proxy")
        return Finding(
            "internet", WARNING, f"reached from {where} through {proxy} alone", "environment.proxy", proxy, proxy, True
        )
    if here.offline:
        return Finding("internet", OK, "not reached from the nodes, as environment.offline says")
    return Finding(
        "internet",
        WARNING,
        f"not reached from {where}: {said[0][2]}",
        "environment.offline",
        "true: models are read from paths.models alone",
        True,
        True,
    )
