"""What `site.sh doctor` makes of the reports of its probes. Runs where a person types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding, check
from helpers.config.schema import Site
from helpers.jobs.kinds.doctor import Report

CLOCK_SECONDS = (5.0, 60.0)  # apart: a warning, as logs mislead; a failure, as certificates aren't valid yet
LATE_SECONDS = 30.0  # until a file appears; a server's address is waited for by its job, not by a clock
SHARED = "a folder of a file system that all nodes see, under one name"


@dataclass
class Nodes:
    """A site, the reports of its probes, and why there is none of some. gpu: whether a GPU was asked for."""

    site: Site
    reports: dict[str, Report]
    refused: dict[str, str] = field(default_factory=dict)
    gpu: bool = False
    listings: dict[str, str] = field(
        default_factory=dict
    )  # of folders that can only be read: a digest of the names there

    @property
    def told(self) -> list[Report]:
        """The probes that began."""
        return [report for report in self.reports.values() if report.one("node")]

    @property
    def whole(self) -> list[Report]:
        """Those that came as far as the site's own folders and settings let them."""
        return [report for report in self.told if report.one("bash")]


def names_of(reports: list[Report]) -> str:
    """The nodes of some probes, for people."""
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
        return "paths.runs", SHARED
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


@check("nodes")
def read_only_folders(nodes: Nodes) -> Iterator[Finding]:
    """Those in which nothing can be written here: do nodes see the same names in them?"""
    for key, digest in nodes.listings.items():
        seen = {
            report: line.split(" ")
            for report in nodes.whole
            for line in report.lines.get("listing", ())
            if line.startswith(f"{key} ")
        }
        other = [report for report, words in seen.items() if words[1] != digest]
        if other:
            said = f"{getattr(nodes.site.paths, key)} has other names in it on {names_of(other)}"
            yield Finding(f"shared {key}", FAILURE, said, f"paths.{key}", SHARED)
        elif seen:
            yield Finding(f"shared {key}", OK, f"the same names here and on {names_of(list(seen))}")


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
        return Finding(name, OK, f"the same here and on {names_of(states['same'])}")
    measured = f"{path} " + "; ".join(WORDS[state].format(names_of(states[state])) for state in bad)
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
    return Finding(name, FAILURE, measured, f"paths.{key}", SHARED)


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
    heard = [report for report in nodes.told if report.ahead[0] > float("-inf")]
    bad = [(max(low, -high), report) for report in heard for low, high in [report.ahead]]
    bad = [(apart, report) for apart, report in bad if apart > CLOCK_SECONDS[0]]
    for apart, report in bad:
        name = report.one("node")
        said = (
            f"that of {name} is {apart:.0f} s or more {'ahead of' if report.ahead[0] > 0 else 'behind'} this machine's"
        )
        advice = f"ask the support; --exclude={name} avoids the node"
        yield Finding(
            "clocks", FAILURE if apart > CLOCK_SECONDS[1] else WARNING, said, "scheduler.extra_sbatch", advice
        )
    known = [report for report in heard if report.ahead[1] < float("inf")]
    if known and not bad:
        most = max(abs(bound) for report in known for bound in report.ahead)
        yield Finding("clocks", OK, f"at most {most:.1f} s apart here and on {names_of(known)}")
