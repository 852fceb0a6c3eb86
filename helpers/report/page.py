"""Writes the page: what was gathered, d3, our script and style in one file; more details than a page should hold in files beside it.

Its Content-Security-Policy lets nothing in but what has the checksums that stand in it, and opens no connection at all.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.benchmarks import figures, report
from helpers.config.sites import ROOT
from helpers.explain import sources
from helpers.lib import text, values
from helpers.report import contents, library, traces, verdict
from helpers.report.details import Details, encoded
from helpers.report.gathered import Gathered, Member
from helpers.runs.columns import COLUMNS

TEMPLATES = ROOT / "templates" / "report"
SCRIPTS = ("data.js", "charts.js", "table.js", "tree.js", "main.js")
LOG_CHARACTERS = 3000
MOST_POINTS = 60  # steps of a run in the charts over all runs
MOST_ALL_POINTS = 120_000  # of all runs together
FORMULAS = {"score": report.SCORES, "rate": report.RATES_TOLD, "over": report.OVER_TASKS}


@dataclass(frozen=True)
class Written:
    """A report that was written. bytes: of the page; beside: files with details in the folder beside it."""

    path: Path
    bytes: int
    runs: int
    beside: int


def write(gathered: Gathered, output: Path) -> Written:
    """Write a report, whole or not at all. Raises OSError, Refused, Infrastructure."""
    charts = library.d3()
    folder = output.with_name(f"{output.stem}_files")
    stamp = hashlib.sha256(f"{values.now()}{os.getpid()}{output}".encode()).hexdigest()[:16]
    kept = Details(folder, stamp)
    try:
        data = _data(gathered, kept)
        kept.finish()
        data["details"] = {"stamp": stamp, "folder": folder.name, "files": kept.files, "beside": kept.beside}
        size = _write(output, _render(gathered, data, kept.inline(), charts, bool(kept.beside)))
    finally:
        kept.drop()
    return Written(output, size, len(gathered.members), kept.beside)


def _data(gathered: Gathered, kept: Details) -> dict[str, Any]:
    one = gathered.round
    points = list(_traced(gathered.members, kept))
    reasons, more_reasons = contents.reasons_of(one.outcomes)
    servers, more_servers = contents.servers_of(gathered)
    return {
        "groups": contents.groups_of(one),
        "panels": contents.panels_of(one),
        "cells": contents.cells_of(one),
        "table": contents.table_of(one.outcomes, contents.places_of(one)),
        "meanings": COLUMNS,
        "formulas": FORMULAS,
        "reasons": reasons,
        "more_reasons": more_reasons,
        "servers": servers,
        "more_servers": more_servers,
        "points": points,
    }


def _traced(members: list[Member], kept: Details) -> Iterator[str]:
    """What the charts show of each run's steps, as JSON; the details go to `kept`."""
    left, known = MOST_ALL_POINTS, {}
    for member in members:
        run = member.run
        if run is None:
            kept.add({})
            yield "[null,[]]"
            continue
        trace = traces.read(run.folder, run.agent_started)
        key = (
            id(member.collection),
            member.outcome.task,
            run.metadata.get("cell") if isinstance(run.metadata.get("cell"), int) else None,
            run.group,
        )
        if key not in known:
            known[key] = sources.sources(run, member.tries, member.outcome.row, member.collection)
        kept.add(_detail(member, trace, known[key]))
        points = traces.points(trace.steps, min(MOST_POINTS, left))
        left -= len(points[1])
        yield encoded(points)


def _detail(member: Member, trace: traces.Trace, where: dict[str, str]) -> dict[str, Any]:
    run = member.run
    told: dict[str, Any] = {
        "steps": trace.steps,
        "sources": where | sources.hours_of(member.tries, member.collection),
        "tries": [text.clean(one.folder) for one in member.tries if one is not run],
        "log": traces.shortened(text.tail(Path(run.folder, "agent.log"))[-LOG_CHARACTERS:], LOG_CHARACTERS)
        if run
        else "",
        "variables": [f"{name}={value}" for name, value in member.outcome.variables],
    }
    return told | {"left_out": trace.left_out, "problem": text.clean(trace.problem), "file": trace.file}


def _render(gathered: Gathered, data: dict[str, Any], inline: str, charts: str, has_files: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    one, told = gathered.round, verdict.verdict(gathered.round)
    data["first"] = told.of if told.of.startswith("rate of") else "scores"
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f"(() => {{\n'use strict';\n{script}}})();\n"
    return env.get_template("report.html.j2").render(
        title=_plain(one.label) or "runs",
        made_at=values.now(),
        places=[_plain(place) for place in gathered.places],
        verdict=told,
        sentence=_plain(report.sentence(one)),
        notes=[_plain(note) for note in one.notes[:20]],
        over=contents.over_of(one),
        groups=data["groups"],
        is_estimate=any(row.get("cost_basis") == "estimate" for row in one.rows),
        figures=figures,
        rates=report.RATES,
        formulas=FORMULAS,
        policy=_policy((charts, script), style, has_files),
        style=style,
        charts=charts,
        script=script,
        data=encoded(data),
        details=inline,
    )


def _plain(told: str) -> str:
    return " ".join(text.clean(told).split())


def _policy(scripts: tuple[str, ...], style: str, has_files: bool) -> str:
    """Content-Security-Policy level 3, https://www.w3.org/TR/CSP3/. Files beside the page are scripts of its own origin, or of the disk."""
    allowed = " ".join(f"'sha256-{_sha256(one)}'" for one in scripts) + (" 'self' file:" if has_files else "")
    return f"default-src 'none'; script-src {allowed}; style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'"


def _sha256(told: str) -> str:
    return base64.b64encode(hashlib.sha256(told.encode()).digest()).decode()


def _write(path: Path, page: str) -> int:
    """Write the page, whole or not at all; its size in bytes. Raises OSError."""
    data = page.encode("utf-8", "replace")
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    return len(data)
