"""What `site.sh doctor` makes of its probes' reports on the network. Runs where a person types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, check
from helpers.cluster.doctor.nodes import Nodes, names_of
from helpers.jobs.kinds.doctor import Report


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
    nameless = [report for report in nodes.whole if report.one("nohost")]
    named = [one for one in tries if one.by == "name"]
    bad = [one for one in named if one.answer != "yes"]
    ports = [one for one in tries if one.by == "name:range" and one.answer != "yes" and one.apart]
    if nameless or bad:
        told = re.split("[.:;] [Ss]et network", nameless[0].one("nohost"))[0] if nameless else ""
        yield _unreached(nodes, told or "; ".join(map(str, bad[:2])), candidates(tries))
    elif ports:
        lowest, highest = nodes.site.network.ports
        said = f"at ports {lowest} to {highest}, {ports[0]}"
        advice = "a range that nodes let through to one another; ask the support"
        yield Finding("network", FAILURE, said, "network.ports", advice)
    else:
        yield from _reached(nodes, named)
    if not nodes.gpu and nodes.site.partitions.gpu.name and nodes.site.scheduler.kind == "slurm":
        yield Finding("network, GPU nodes", NOT_CHECKED, "--gpu asks whether CPU and GPU nodes reach one another")


def _unreached(nodes: Nodes, measured: str, working: list[str]) -> Finding:
    """Names that don't lead to their nodes. working: the interfaces that would do, best first."""
    key = "network.interface"
    if working and working[0] != nodes.site.network.interface:
        others = f" (and {', '.join(working[1:])})" if working[1:] else ""
        advice = f"{working[0]}: all nodes reach one another so{others}"
        return Finding("network", FAILURE, measured, key, advice, working[0], True)
    lines = (line for report in nodes.whole for line in report.lines.get("interface", ()))
    seen = ", ".join(dict.fromkeys(line.split()[0] for line in lines))
    return Finding("network", FAILURE, measured, key, f"no interface was seen to work; there are {seen or 'none'}")


def _reached(nodes: Nodes, named: list[Reach]) -> Iterator[Finding]:
    if any(one.apart for one in named):
        how = f"interface {nodes.site.network.interface}" if nodes.site.network.interface else "name"
        whose = names_of([one.source for one in named])
        yield Finding("network", OK, f"{whose} reach one another by {how}, both ways{_inside(nodes)}")
    elif nodes.site.scheduler.kind == "local":
        yield Finding("network", OK, f"servers of this machine are reached{_inside(nodes)}")
    else:
        node, address = named[0].source.one("node"), named[0].address.partition(":")[0]
        yield Finding("network", OK, f"{node} reaches itself by {address}{_inside(nodes)}")
        yield Finding("network, two nodes", NOT_CHECKED, "the probes had one node, or didn't run at the same time")


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
    tries = {report: [line.split(" ", 2) for line in report.lines.get("internet", ())] for report in nodes.whole}
    told = [report for report, lines in tries.items() if lines]
    if not told:
        return None
    where, here = names_of(told), nodes.site.environment
    # a way is one where it leads out from every node that was asked
    works = set.intersection(*({way for way, _, answer in tries[report] if answer == "yes"} for report in told))
    used = "proxy" if any(way == "proxy" for report in told for way, *_ in tries[report]) else "direct"
    if used in works:
        said = f"reached from {where} {'through the proxy of jobs' if used == 'proxy' else 'directly'}"
        return Finding("internet", OK, said + (", though environment.offline is set" if here.offline else ""))
    if here.offline:
        return Finding("internet", OK, "jobs don't reach it, as environment.offline says")
    key = "environment.proxy"
    if "login" in works:
        proxy = told[0].one("proxy")
        return Finding("internet", WARNING, f"reached from {where} through {proxy}", key, proxy, proxy, True)
    if "direct" in works:
        said = f"reached from {where} directly, and not through the proxy of jobs"
        advice = "another one; jobs have that of your environment, where the site names none"
        return Finding("internet", WARNING, said, key, advice)
    return _not_everywhere(where, [answer for report in told for *_, answer in tries[report]])


def _not_everywhere(where: str, answers: list[str]) -> Finding:
    """No one way leads out from all nodes."""
    first = next(answer for answer in answers if answer != "yes")
    if "yes" in answers:
        said, advice = f"only partly reached from {where}: {first}", "one that all nodes reach"
        return Finding("internet", WARNING, said, "environment.proxy", advice)
    said, advice = f"not reached from {where}: {first}", "true: models are read from paths.models alone"
    return Finding("internet", WARNING, said, "environment.offline", advice, True, True)
