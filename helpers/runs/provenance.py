"""What could change a result, as one number."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from helpers.lib import private


def config_hash(chosen: dict[str, Any]) -> str:
    """sha256 of what could change a result: model, agent, limits, images; of the site its variables and the agent's resources."""
    site = chosen["site"]
    relevant = {
        **chosen,
        "site": {
            "runtime": site["container"]["runtime"],
            "variables": private.masked(site["environment"]["variables"]),
            "agent": {key: site["jobs"]["agent"][key] for key in ("cpus", "memory_gb")},
        },
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def image_digest(path: Path) -> str | None:
    """The image's sha256 as its build wrote it beside it; None where there is none (hashing gigabytes at each start would cost minutes)."""
    try:
        return Path(f"{path}.sha256").read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        return None
