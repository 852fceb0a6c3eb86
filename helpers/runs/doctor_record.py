"""What the last `site.sh doctor` came to: <paths.runs>/.doctor/<site>.json. Read before each workflow."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from helpers.config.schema import Site
from helpers.lib import disk, private, values

FOLDER = ".doctor"
SECTIONS = ("scheduler", "partitions", "gpu", "environment", "paths", "container", "network")


def path_of(site: Site) -> Path:
    return Path(site.paths.runs, FOLDER, f"{site.name}.json")


def config_of(site: Site) -> str:
    """sha256 of what a doctor's result depends on, as resolved: not of the sizes and limits that a run may be given with --set."""
    config = private.masked(site.model_dump(mode="json", include=set(SECTIONS)))
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def write(site: Site, passed: bool, counts: dict[str, int], gpu: bool) -> None:
    """Note a result. Raises OSError."""
    path = path_of(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"schema": 1, "site": site.name, "config": config_of(site), "at": values.now(), "passed": passed}
    disk.write_json(path, record | {"gpu": gpu, "counts": counts})


def last(site: Site) -> dict[str, Any] | None:
    """The last result on a site: passed, at, age_seconds, and whether the configuration is still the same; None where there is none."""
    record = disk.read_json(path_of(site)) or {}
    at = values.seconds_of(record.get("at"))
    if at is None or not isinstance(record.get("passed"), bool):
        return None
    same = record.get("config") == config_of(site)
    age = max(0, round(time.time() - at))
    return {
        "passed": record["passed"],
        "at": record["at"],
        "age_seconds": age,
        "same_config": same,
        "gpu": record.get("gpu"),
    }


def note(site: Site) -> str | None:
    """A sentence where no doctor has passed the site as it is; None for a site without a scheduler."""
    if site.scheduler.kind == "local":
        return None
    command = f"scripts_hpc/site.sh doctor --site {site.name}"
    found = last(site)
    if found is None or not found["passed"]:
        said = "has never passed its check" if found is None else f"didn't pass its check of {found['at']}"
        return f"site {site.name} {said}: `{command}` says whether a run would work."
    if not found["same_config"]:
        return (
            f"site {site.name} isn't configured as it was at its check of {found['at']}: `{command}` checks it again."
        )
    return None
