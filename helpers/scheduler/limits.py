"""What a site lets one user submit: how many jobs, how many in one array, of which size; and a list cut to fit."""

from __future__ import annotations

import getpass
import re

from helpers.config.schema import Site
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.scheduler.cluster import DEFAULT_ARRAY_SIZE, Cluster, answer, silent
from helpers.scheduler.request import Request, count


def problems(site: Site, scripts: dict[str, str], cluster: Cluster) -> list[str]:
    """Why the cluster would never start the jobs of these scripts; a sentence each, with the site's key, the value and the limit.

    Raises Infrastructure.
    """
    return [said for name, text in scripts.items() for said in Request(name, text, site).problems(cluster)]


def array_size(site: Site, cluster: Cluster) -> int:
    """The most elements that one job array may have. Raises ConfigError where there are no arrays, and Infrastructure."""
    size = site.limits.max_array_size
    if size is None:
        config = cluster.config
        if config is None:
            raise silent(cluster.silence["config"])
        size = count(config.get("MaxArraySize", str(DEFAULT_ARRAY_SIZE)))
    if size < 1:
        raise ConfigError(
            [f"site {site.name} has no job arrays (Slurm's MaxArraySize, limits.max_array_size: {size})."]
        )
    return size


def room(site: Site) -> int | None:
    """How many jobs more the user may submit; None for any number. Raises Infrastructure where there is no room."""
    limit = site.limits.max_submit
    if limit is None or site.scheduler.kind == "local":
        return None
    listed = answer("squeue", "--noheader", "--all", "--array", f"--user={getpass.getuser()}", "--format=%i")
    queued = len(re.findall(r"^ *\d", listed, re.MULTILINE))
    if queued >= limit:
        raise Infrastructure(
            f"{queued} jobs of yours are in the queue, and limits.max_submit of site {site.name} is {limit}: "
            "wait until some have ended."
        )
    return limit - queued


def check_room(site: Site, jobs: int, advice: str, what: str = "this takes") -> int | None:
    """How many jobs more the user may submit, at least so many; None for any number.

    what: takes them. Raises ConfigError where the site never takes so many jobs of one user, and Infrastructure where it doesn't now.
    """
    limit = site.limits.max_submit
    if limit is not None and jobs > limit and site.scheduler.kind != "local":
        raise ConfigError([f"{what} {jobs} jobs, and limits.max_submit of site {site.name} is {limit}: {advice}."])
    left = room(site)
    if left is not None and jobs > left:
        raise Infrastructure(
            f"{what} {jobs} jobs, {limit - left} of yours are in the queue, and limits.max_submit of site {site.name} is "
            f"{limit}: wait until some have ended, or {advice}."
        )
    return left


def at_once(site: Site, cpus: int, memory_gb: int, cluster: Cluster) -> int | None:
    """How many jobs of a size the site's CPU partition can run beside each other, were it empty; None: that isn't known.

    Raises Infrastructure.
    """
    found = 0
    for name in (site.partitions.cpu.name or "").split(","):
        for nodes, has in cluster.nodes.get(name, []):
            fits = has["cpu"] // cpus
            found += nodes * (min(fits, has["mem"] // (memory_gb * 1024)) if site.scheduler.request_memory else fits)
    return found or None


def cut(tasks: list[str], most_elements: int | None, most_in_array: int) -> tuple[list[list[str]], list[int]]:
    """Parts of a list of tasks, one for each element, their sizes at most one apart; and the elements of each array."""
    count = len(tasks) if most_elements is None else min(len(tasks), most_elements)
    parts = [tasks[number::count] for number in range(count)]
    return parts, [min(most_in_array, count - first) for first in range(0, count, most_in_array)]
