"""The table of `site.sh doctor`: a row a finding, 80 columns, states in words and, at a terminal, in colour (NO_COLOR respected)."""

from __future__ import annotations

import json
import os

from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, STATES, WARNING, Finding, code, summary
from helpers.lib.text import clean

WIDTH = 80
COLOURS = {OK: "green", WARNING: "yellow", FAILURE: "bold red", NOT_CHECKED: "dim"}


def text(findings: list[Finding], site: str, terminal: bool) -> str:
    """The table, and a line of what it comes to."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("STATE", width=max(map(len, STATES)))
    table.add_column("CHECK", max_width=22, overflow="fold")
    table.add_column("FOUND, AND THE SITE'S KEY WITH WHAT TO WRITE", overflow="fold")
    for one in findings:
        said = Text(clean(one.measured))
        if told := ": ".join(filter(None, (one.key, one.advice))):
            said.append(f"\n→ {clean(told)}", style="bold" if one.state in (WARNING, FAILURE) else "")
        table.add_row(Text(one.state, style=COLOURS[one.state]), clean(one.check), said)
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    console = Console(width=WIDTH, force_terminal=colours, no_color=not colours, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + f"\n\n{verdict(findings, site)}"


def verdict(findings: list[Finding], site: str) -> str:
    """One line: whether a run would work."""
    counts = ", ".join(f"{count} {state}" for state, count in summary(findings).items())
    works = "a run would work" if code(findings) == 0 else "a run would not work yet"
    return f"site {site}: {works} ({counts})"


def as_json(findings: list[Finding], site: str) -> str:
    """The same for programs."""
    data = {"site": site, "passed": code(findings) == 0, "counts": summary(findings)}
    return json.dumps(data | {"findings": [one.data for one in findings]}, indent=2)
