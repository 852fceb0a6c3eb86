"""What the report's tests share: a page that can be read back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.report import gathered, page


class Page:
    """A report that was written: its text, and what stands in it as data."""

    def __init__(self, path: Path):
        self.path, self.text = path, path.read_text(encoding="utf-8")
        self.data = json.loads(self.block("data"))

    def block(self, name: str) -> str:
        found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', self.text, re.DOTALL)
        assert found is not None
        return found[1]

    @property
    def claim(self) -> str:
        found = re.search(r'<p class="claim[^"]*">(.*?)</p>', self.text)
        assert found is not None
        return found[1]

    def column(self, name: str) -> list[Any]:
        packed = self.data["table"][name]
        return packed["all"] if "all" in packed else [packed["values"][at] for at in packed["at"]]

    def details(self, run: int) -> dict[str, Any]:
        told = self.data["details"]
        if not told["beside"]:
            return json.loads(self.block("details"))[str(run)]
        text = (self.path.parent / told["folder"] / f"{told['files'][run]:04}.js").read_text()
        stamp, number, runs = json.loads(f"[{text.removeprefix('habDetails(').removesuffix(');' + chr(10))}]")
        assert (stamp, number) == (told["stamp"], told["files"][run])
        return runs[str(run)]


def report(output: Path, *places: Path | str) -> Page:
    """The report on some rounds or runs."""
    page.write(gathered.gather([str(place) for place in places], AskedSite(None, [])), output)
    return Page(output)
