"""What a site lets one user submit: how many jobs, how many in one array; and a list cut to fit."""

from __future__ import annotations

import getpass
import re

from helpers.scheduler import SchedulerUnavailable, ask
from helpers.site_config import ConfigError, Infrastructure, Site

DEFAULT_ARRAY_SIZE = 1001  # Slurm's own, https://slurm.schedmd.com/slurm.conf.html#OPT_MaxArraySize


def answer(*command: str) -> str:
    """What one of Slurm's commands prints. Raises Infrastructure."""
    try:
        return ask(*command)
    except SchedulerUnavailable as error:
        raise Infrastructure(f"the scheduler doesn't answer: {error}. Try again, or ask its support.") from error


def array_size(site: Site) -> int:
    """The most elements that one job array may have. Raises ConfigError where there are no arrays, and Infrastructure."""
    size = site.limits.max_array_size
    if size is None:
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer("scontrol", "show", "config"), re.MULTILINE)
        size = int(found[1]) if found else DEFAULT_ARRAY_SIZE
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
    listed = answer("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i")
    queued = len(re.findall(r"^ *\d", listed, re.MULTILINE))
    if queued >= limit:
        raise Infrastructure(
            f"{queued} jobs of yours are in the queue, and limits.max_submit of site {site.name} is {limit}: "
            "wait until some have ended."
        )
    return limit - queued


def check_room(site: Site, jobs: int, advice: str) -> None:
    """Raises ConfigError where the site never takes so many jobs of one user, and Infrastructure where it doesn't now."""
    limit = site.limits.max_submit
    if limit is not None and jobs > limit and site.scheduler.kind != "local":
        raise ConfigError([f"this takes {jobs} jobs, and limits.max_submit of site {site.name} is {limit}: {advice}."])
    left = room(site)
    if left is not None and jobs > left:
        raise Infrastructure(
            f"this takes {jobs} jobs, {limit - left} of yours are in the queue, and limits.max_submit of site {site.name} is "
            f"{limit}: wait until some have ended, or {advice}."
        )


def at_once(site: Site, cpus: int, memory_gb: int) -> int | None:
    """How many jobs of a size the site's CPU partition can run beside each other, were it empty; None: that isn't known.

    Raises Infrastructure.
    """
    wanted = (site.partitions.cpu.name or "").split(",")
    found = 0
    for line in answer("sinfo", "--noheader", "--exact", "--format=%P|%D|%c|%m").splitlines():
        name, *sizes = line.replace("+", "").split("|")
        if name.rstrip("*") not in wanted and not (wanted == [""] and name.endswith("*")):
            continue
        nodes, has_cpus, has_mb = (int(size) for size in sizes)
        fits = has_cpus // cpus
        found += nodes * (min(fits, has_mb // (memory_gb * 1024)) if site.scheduler.request_memory else fits)
    return found or None


def cut(tasks: list[str], most_elements: int | None, most_in_array: int) -> tuple[list[list[str]], list[int]]:
    """Parts of a list of tasks, one for each element, their sizes at most one apart; and the elements of each array."""
    count = len(tasks) if most_elements is None else min(len(tasks), most_elements)
    parts = [tasks[number::count] for number in range(count)]
    return parts, [min(most_in_array, count - first) for first in range(0, count, most_in_array)]
