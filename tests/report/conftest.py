"""What the report's tests share: a page that can be read back, and the rounds of tests/performance/."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "performance"))
sys.path.insert(0, str(HERE.parent / "helpers"))

import bench_rounds  # noqa: E402

from helpers.config.asked import AskedSite  # noqa: E402
from helpers.report import gathered, page  # noqa: E402


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


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{HERE.parent / 'fakes' / 'slurm'}:{os.environ['PATH']}")


@pytest.fixture(scope="session")
def a_round(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of 100 rollouts, 20 tasks with 5 models, with journals and samples of their servers' load. To be read only."""
    from made_reports import leave_journals, leave_samples

    made = bench_rounds.make_round(tmp_path_factory.mktemp("round") / "made", 100, bench_rounds.ENDED)
    leave_journals(made.group, 6)
    leave_samples(made.group)
    return made.group
