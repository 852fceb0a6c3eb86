"""Headless Chromium for the report's tests and figures: Debian's, driven by playwright (PyPI). Neither belongs to the everyday setup:

apt-get install --no-install-recommends chromium; .venv-dev/bin/pip install playwright axe-playwright-python
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DRAWN = "document.documentElement.dataset.drawn === 'all'"


def missing() -> str:
    """What is not here of what it takes; empty where all is."""
    if shutil.which("chromium") is None:
        return "there is no chromium on the PATH (tests/report/browser.py tells how to have it)"
    if importlib.util.find_spec("playwright") is None:
        return "this Python has no playwright (tests/report/browser.py tells how to have it)"
    return ""


def axe() -> str | None:
    """axe-core's text, as the package axe-playwright-python ships it; None without it."""
    found = importlib.util.find_spec("axe_playwright_python")
    return None if found is None or not found.origin else Path(found.origin).with_name("axe.min.js").read_text()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser, which ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def opened(path: Path) -> float:
    """Seconds from the start of a page's navigation to its last picture."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_function(DRAWN)
        return time.perf_counter() - began
