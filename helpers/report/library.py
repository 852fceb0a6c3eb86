"""The library that draws the charts: d3, one file, as the PyPI package mpld3 ships it; looked up, checked, and put into the page."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from helpers.lib.errors import Infrastructure

PACKAGE, FILE = "mpld3", "js/d3.v5.min.js"  # d3 5.7.0
SHA256 = "bdad5585ef9a965ff25458738309b006058c55f2c78d794d25fbecae35014609"


def d3() -> str:
    """Its text. Raises Infrastructure where it is missing, or not the one that this project was tested with."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.origin:
        raise Infrastructure(
            f"the report's charts need {PACKAGE}, which this Python doesn't have: make setup, or remove .venv-core and run again"
        )
    path = Path(found.origin).parent / FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Infrastructure(
            f"{path}: {error.strerror}: install {PACKAGE} again, as requirements/core.txt has it"
        ) from error
    if (digest := hashlib.sha256(data).hexdigest()) != SHA256:
        raise Infrastructure(
            f"{path} is not the one that the report is made for (sha256 {digest}): install {PACKAGE} as requirements/core.txt has it"
        )
    return data.decode("utf-8")
