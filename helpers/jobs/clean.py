"""`jobs.sh clean`: makes room in the folders of old workflows, and leaves all that tells of their results. Runs where a person types.

What goes are the workspaces of agents, and the middles of long logs. Before anything goes, cleaned.json in the workflow's folder says
what will; after that, that it is gone. So a folder that was left halfway explains itself, and the next call ends what was begun.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from helpers.config.asked import AskedSite
from helpers.jobs import run_list
from helpers.jobs.fleet import Fleet
from helpers.jobs.kinds.base import Kind, kind_of
from helpers.jobs.kinds.workflow import AGENT_LOG, Workflow
from helpers.lib import disk, values
from helpers.lib.errors import Refused
from helpers.runs import metadata
from helpers.runs.metadata import Run

OLD = "30d"  # how old a workflow's end must be, where no option says it
NOTE = "cleaned.json"  # in a workflow's folder
GOING = ".cleaned_workspaces"  # what an agent's workspaces are called while they go
LOG_HEAD, LOG_TAIL = 16 * 1024, 48 * 1024  # bytes of a log that stay: `jobs.sh why` and `jobs.sh logs` read its end
LEAST = 64 * 1024  # bytes beyond these for which a log is cut
SUBMITTED = (metadata.SUBMISSION, "kept_submission.csv")
KEPT = (
    "kept of each: records and reports, submissions, provenance (the job scripts and the code that they ran), the agent's code and "
    "journal, and the beginning and the end of each log"
)


@dataclass
class Item:
    """What goes. path: below the workflow's folder; action: removed (a folder of workspaces) or cut (a log); bytes: of room."""

    path: str
    action: str
    bytes: int


@dataclass
class Plan:
    """What goes of one workflow."""

    folder: Path
    items: list[Item] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    def line(self) -> str:
        """What goes, for a person."""
        removed = sum(item.action == "removed" for item in self.items)
        cut = len(self.items) - removed
        parts = [f"the workspaces of {removed} agent{'s' if removed > 1 else ''}"] if removed else []
        parts += [f"the middle of {cut} log{'s' if cut > 1 else ''}"] if cut else []
        return f"  {self.folder.name}: {' and '.join(parts)}, {size(self.bytes)}"

    def note(self, is_done: bool) -> None:
        """Say in the folder what goes, or went. What earlier calls said stays. Raises OSError."""
        path = self.folder / NOTE
        earlier = (disk.read_json(path) or {}).get("cleaned")
        known = [one for one in earlier if isinstance(one, dict)] if isinstance(earlier, list) else []
        items = {item.path: vars(item) for item in self.items}
        if known and not known[-1].get("is_done"):  # begun, by this call or one that was interrupted
            begun = known.pop().get("items")
            items = {str(item.get("path")): item for item in begun or [] if isinstance(item, dict)} | items
        told = {
            "at": values.now(),
            "by": "jobs.sh clean",
            "is_done": is_done,
            "kept": KEPT,
            "items": [*items.values()],
        }
        disk.write_json(path, {"schema": 1, "cleaned": [*known, told]})


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.3g} TB"


# ---- which workflows


def _ended(jobs: Workflow) -> float:
    """When the last of its runs ended, as far as is told, else when it was made."""
    told = (values.seconds_of(run.metadata.get(key)) for run in jobs.runs.values() for key in ("ended_at", "later_at"))
    made = [run_list.made(jobs.path.name)] if run_list.STAMP.match(jobs.path.name) else [time.time()]
    return max([*(one for one in told if one is not None), *made])


def _is_ungraded(run: Run) -> bool:
    """Whether `jobs.sh grade` may still have its submission graded (helpers/jobs/orders.py looks closer)."""
    by_itself = run.state == "timed_out" and run.metadata.get("agent_exit_code") is not None
    return (
        run.state in metadata.UNGRADED
        and not by_itself
        and any(os.path.lexists(run.directory / one) for one in SUBMITTED)
    )


def old(site: AskedSite, begin: float) -> tuple[list[Workflow], list[str]]:
    """The workflows that ended before `begin` (seconds since 1970) and may be cleaned, and a sentence on each other one of them.

    Raises SchedulerUnavailable: what isn't known to be gone is left alone.
    """
    try:
        names = sorted(os.listdir(site.runs))
    except FileNotFoundError:
        names = []
    paths = [site.runs / name for name in names]
    kinds = [(path, kind_of(path)) for path in paths if path.is_dir() and not path.is_symlink()]
    found = [jobs for path, kind in kinds if kind is Workflow and _ended(jobs := Workflow(path, site)) < begin]
    _ask(found)
    chosen, remarks = [], []
    for jobs in found:
        alive = [str(entry) for entry in jobs.entries if entry.own and not jobs.fleet.gone(entry.id)]
        if alive or jobs.open_jobs():
            remarks.append(
                f"{jobs.path.name} is left alone: {', '.join(alive) or 'a run of it'} is not known to have ended"
            )
        elif kept := [run.directory.name for run in jobs.runs.values() if _is_ungraded(run)]:
            command = f"scripts_hpc/jobs.sh grade {jobs.path}"
            remarks.append(
                f"{jobs.path.name} is left alone: a submission of it isn't graded yet ({kept[0]}): {command}"
            )
        else:
            chosen.append(jobs)
    return chosen, remarks


def _ask(found: list[Workflow]) -> None:
    """Ask each scheduler once for the jobs of all workflows, and once more for those that seem to be gone."""
    fleets: dict[tuple[str, str], tuple[Fleet, list[Kind]]] = {}
    for jobs in found:
        fleets.setdefault((jobs.fleet.scheduler.kind, str(jobs.addresses)), (jobs.fleet, []))[1].append(jobs)
    for fleet, its in fleets.values():
        ids = [entry.id for jobs in its for entry in jobs.entries]
        fleet.look(ids)
        fleet.ask_again(ids)
        for jobs in its:
            jobs.fleet = fleet
            jobs.settle()


# ---- what goes


def plan(jobs: Workflow) -> Plan:
    """What goes of a workflow. No link is followed: what lies behind one isn't the run's."""
    group = jobs.path
    folders = [path for path in sorted(group.iterdir()) if path.is_dir() and not path.is_symlink()]
    its = [path for path in folders if (path / "run_metadata.json").is_file()]
    found = Plan(group)
    spaces = [path / name for path in its for name in ("workspaces", GOING)]
    for path, used in _used([path for path in spaces if path.is_dir() and not path.is_symlink() and _is_filled(path)]):
        found.items.append(Item(str(path.relative_to(group)), "removed", used))
    for path in [*(path for folder in folders if folder.name == "logs" for path in sorted(folder.glob("*.out")))] + [
        path / f"{AGENT_LOG}{end}" for path in its for end in ("", ".last", ".previous")
    ]:
        with contextlib.suppress(OSError):
            seen = os.lstat(path)
            if path.is_file() and not path.is_symlink() and seen.st_size > LOG_HEAD + LOG_TAIL + LEAST:
                gone = min(seen.st_size, seen.st_blocks * 512) - LOG_HEAD - LOG_TAIL
                found.items.append(Item(str(path.relative_to(group)), "cut", max(gone, 0)))
    return found


def _is_filled(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return True  # its agent has closed it


def _used(folders: list[Path]) -> Iterator[tuple[Path, int]]:
    """The room that folders take. (du takes trees of any depth, and follows no link.)"""
    if not folders:
        return
    command = ["du", "-s", "-x", "-B1", "-0", "--", *map(str, folders)]
    told = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False).stdout
    known = {path: int(count) for count, _, path in (line.partition("\t") for line in told.split("\0") if line)}
    for folder in folders:
        yield folder, known.get(str(folder), 0)


def apply(one: Plan) -> list[str]:
    """Do it; a sentence on what couldn't be done."""
    one.note(is_done=False)
    problems = []
    for item in one.items:
        try:
            (_remove if item.action == "removed" else _cut)(one.folder / item.path)
        except OSError as error:
            problems.append(f"{one.folder / item.path}: {error.strerror or error}")
    if not problems:
        one.note(is_done=True)
    return problems


def _remove(folder: Path) -> None:
    """Remove a folder of workspaces; raises OSError. It gets another name first: no half of one is taken for a whole."""
    going = folder.with_name(GOING)
    if folder != going:
        if going.exists():
            _remove(going)
        os.rename(folder, going)
    for opened in (False, True):
        if opened:  # an agent may have closed its folders (-execdir refuses a PATH with folders that aren't absolute)
            opening = [
                "find",
                str(going),
                "-xdev",
                "-type",
                "d",
                "!",
                "-perm",
                "-u=rwx",
                "-execdir",
                "chmod",
                "u+rwx",
                "{}",
                ";",
            ]
            subprocess.run(opening, env={**os.environ, "PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
        done = subprocess.run(["rm", "-rf", "--one-file-system", "--", str(going)], capture_output=True, text=True)
        if done.returncode == 0 and not os.path.lexists(going):
            return
    raise OSError(None, done.stderr.strip().rpartition("\n")[2] or "can't be removed", str(going))


def _cut(log: Path) -> None:
    """Leave the beginning and the end of a log; the old file or the new is there, never a part. Raises OSError."""
    short = log.with_name(f".{log.name}.short")
    short.unlink(missing_ok=True)
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file, short.open("xb") as to:
            length = os.fstat(descriptor).st_size
            left_out = length - LOG_HEAD - LOG_TAIL
            if left_out <= 0:
                return
            to.write(file.read(LOG_HEAD))
            to.write(f"\n[{left_out} bytes are left out here: jobs.sh clean, {values.now()}]\n".encode())
            file.seek(length - LOG_TAIL)
            to.write(file.read(LOG_TAIL))
        shutil.copystat(log, short)
        os.replace(short, log)
    finally:
        short.unlink(missing_ok=True)


# ---- the command


def clean(site: AskedSite, older_than: str | None, yes: bool) -> tuple[dict[str, Any], list[str]]:
    """Say what goes and what stays, ask, and do it. Raises Refused where nobody could be asked, or something couldn't be done."""
    age = older_than or OLD
    chosen, remarks = old(site, run_list.since(age, "--older-than"))
    for remark in remarks:
        click.echo(remark, err=True)
    plans = [one for one in map(plan, chosen) if one.items]
    total = sum(one.bytes for one in plans)
    data = {
        "runs": [{"run": str(one.folder), "items": [vars(item) for item in one.items]} for one in plans],
        "bytes": total,
    }
    if not plans:
        return data, [f"nothing to clean: no workflow that ended before {age} has workspaces or long logs left"]
    for line in [
        f"of {len(plans)} workflow{'s' if len(plans) > 1 else ''} in {site.runs} that ended before {age}:",
        *(one.line() for one in plans),
        KEPT,
    ]:
        click.echo(line, err=True)
    if not yes:
        _confirm(total)
    if problems := [problem for one in plans for problem in apply(one)]:
        raise Refused("not all could be removed; the next `jobs.sh clean` tries again:\n" + "\n".join(problems), 3)
    return data, [f"freed {size(total)}; what went stands in {NOTE} of each folder"]


def _confirm(total: int) -> None:
    """Raises Refused where the answer isn't yes, or nobody could be asked."""
    if not sys.stdin.isatty():
        raise Refused(f"nothing was removed: give --yes to free these {size(total)}")
    try:
        sure = click.confirm(f"Free {size(total)}?", err=True)
    except click.Abort:
        raise KeyboardInterrupt from None
    if not sure:
        raise Refused("nothing was removed")
