"""Probe jobs of `site.sh doctor`: what they tell, until all have ended. scripts_hpc/lib/doctor_node.sh is what they run."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs.fleet import DOUBT_SECONDS, submitted
from helpers.jobs.kinds.base import Entry, Kind
from helpers.jobs.marks import Marks
from helpers.lib import text as text_module
from helpers.lib.values import section
from helpers.scheduler import reasons
from helpers.scheduler.query import SchedulerUnavailable

BEAT_SECONDS = 1.0  # between two lines of the doctor's file
LONGEST_REPORT = 2**18


@dataclass(eq=False)
class Report:
    """What a probe told. lines: key -> values in order; back: keys of folders in which its file was seen here.

    ahead: the least and most seconds that its clock is ahead of ours; given_up: why nobody waits for it any more.
    """

    probe: str
    lines: dict[str, list[str]] = field(default_factory=dict)
    back: set[str] = field(default_factory=set)
    ahead: tuple[float, float] = (float("-inf"), float("inf"))
    given_up: str = ""
    died: str = ""
    job: str = ""
    read: int = 0

    def one(self, key: str) -> str:
        """The last value of a key; empty where it has none."""
        return self.lines.get(key, [""])[-1]

    @property
    def ended(self) -> bool:
        return "end" in self.lines

    def hear(self, line: str, now: float) -> None:
        """Take in a line that is seen now (seconds since 1970)."""
        key, _, value = line.partition("\t")
        self.lines.setdefault(key, []).append(value)
        with contextlib.suppress(ValueError):
            if key == "time":  # was written before it was seen
                self.ahead = (max(self.ahead[0], float(value) - now), self.ahead[1])
            elif key == "heard":  # our line was written before it was read there
                ours, theirs = map(float, value.split())
                self.ahead = (self.ahead[0], min(self.ahead[1], theirs - ours))


class Doctor(Kind):
    """A doctor's folder, which is there as long as it works. reports: by probe."""

    RECORD, MARK, COMMAND, PARTS = "doctor.json", "-UTC_doctor", "scripts_hpc/site.sh doctor", ("probe",)
    WATCHER = "helpers.cluster.doctor.cli"

    def __init__(self, path: Path, site: AskedSite, only: str | None = None):
        super().__init__(path, site)
        self.marks = Marks(str(self.record.get("nonce")), section(self.record, "folders"))
        self.probes: dict[str, dict[str, Any]] = section(self.record, "probes")
        self.entries = [Entry(job, "probe", f"probe {role}") for role, job in submitted(path)]
        self.jobs_of = dict(submitted(path))
        self.reports = {name: Report(name, job=job) for name, job in self.jobs_of.items()}

    @property
    def again(self) -> str:
        return f"scripts_hpc/site.sh doctor --site {self.record.get('given')}"

    def log(self, entry: Entry) -> Path | None:
        files = (path for _, path in self.marks.files(self._probe(entry), ".log"))
        return next((path for path in files if path.is_file()), None)

    def _probe(self, entry: Entry) -> str:
        return entry.name.removeprefix("probe ")

    def words(self, entry: Entry) -> dict[str, str]:
        role = str(section(self.probes, self._probe(entry)).get("role", "cpu"))
        partition = section(section(self.config, "partitions"), role).get("name") or f"of role {role}"
        return reasons.keys("agent", role, self.record.get("site")) | {"partition": partition}


class Watch(Doctor):
    """A doctor's probes under watch. conclude: makes an exit code of the reports."""

    PAUSE = 0.15
    LEFT = "nobody watches any more, and its probes end by themselves, in a minute at most, with all files of it"

    def __init__(self, path: Path, conclude: Callable[[Watch], int]):
        super().__init__(path, AskedSite())
        self.conclude = conclude
        self.until = time.monotonic() + 60 * float(self.record.get("wait_minutes") or 10)
        self.interrupted, self.beaten = False, 0.0
        self.never: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self._beat()

    def open_jobs(self) -> list[str]:
        return [report.job for report in self.reports.values() if not (report.ended or report.given_up or report.died)]

    def look(self, ask: bool = True) -> bool:
        """Read what the probes told, say whose state has changed, and give up those that can't or don't start."""
        self._hear()
        if ask and self.open_jobs():
            with contextlib.suppress(SchedulerUnavailable):
                self.fleet.look(self.open_jobs())
        self._beat()
        for report in self.reports.values():
            if report.job in self.open_jobs():
                self._judge(report)
        return bool(self.open_jobs())

    def _beat(self) -> None:
        done = [name for name, report in self.reports.items() if report.ended]
        if time.monotonic() - self.beaten > BEAT_SECONDS or len(done) > len(getattr(self, "_done", ())):
            self.beaten, self._done = time.monotonic(), done
            with contextlib.suppress(OSError):  # a disk that is full now; the probes' words count
                self.marks.write(done)

    def _hear(self) -> None:
        for report in self.reports.values():
            for _, path in self.marks.files(report.probe):
                text = _read(path, report.read)
                whole = text[: text.rfind(b"\n") + 1]
                report.read += len(whole)
                for line in whole.decode("utf-8", "replace").splitlines():
                    report.hear(line, time.time())
                if report.read:
                    break
            report.back |= {key for key, path in self.marks.files(report.probe, ".here") if path.exists()}

    def _judge(self, report: Report) -> None:
        entry = next(one for one in self.entries if one.id == report.job)
        job = self.job(entry) if report.job in self.fleet.jobs else None
        if job and (
            said := f"{job.state.lower()}{f' on {job.node}' if job.node and job.alive else ''}"
        ) != self.shown.get(report.probe):
            self.shown[report.probe] = said
            print(f"{entry}: {said}", file=sys.stderr)
        if gone := self.fleet.gone(report.job):
            self._hear()
            if not report.ended:
                report.died = self.death(entry, report, gone.state)
        elif job and job.state == "PENDING":
            since = (
                self.never.setdefault(report.probe, time.monotonic())
                if job.never
                else self.never.pop(report.probe, None)
            )
            if job.never and since is not None and time.monotonic() - since >= DOUBT_SECONDS:
                self.give_up(report, self.filled(entry, reasons.waiting(job.reason)))
            elif time.monotonic() > self.until:
                self.give_up(
                    report, f"it hadn't started after {self.record.get('wait_minutes')} minutes ({job.reason})"
                )
        elif time.monotonic() > self.until + 120 or (not job and self.fleet.silence and time.monotonic() > self.until):
            self.give_up(report, self.fleet.silence or "it told no end")

    def death(self, entry: Entry, report: Report, state: str) -> str:
        """Why a probe ended without its last word."""
        text = text_module.tail(self.log(entry))
        said = (
            report.one("died")
            or next(reversed(reasons.LAST_WORDS.findall(text)), "")
            or ": ".join(reasons.told(text) or ())
        )
        if said or report.lines:
            return said or f"it ended as {state}"
        return f"it ended as {state}, and none of the site's folders here has a word of it"

    def give_up(self, report: Report, why: str) -> None:
        """Nobody waits for it any more, neither we nor its peers."""
        report.given_up = why
        with contextlib.suppress(SchedulerUnavailable):
            self.fleet.scheduler.cancel([report.job])
        for _, path in self.marks.files(report.probe):
            with contextlib.suppress(OSError):
                path.write_text("end\tgiven up\n", encoding="utf-8")

    def stuck(self) -> dict[str, str]:
        return {}  # they are given up one by one

    def finish(self) -> None:
        """All have told their end: what they wrote last may be late."""
        self._beat()
        until = time.monotonic() + 5
        while time.monotonic() < until and any(self._missing(report) for report in self.reports.values()):
            with self.fleet.waiting():
                time.sleep(self.PAUSE)
            self._hear()

    def _missing(self, report: Report) -> bool:
        wrote = {line.split()[0] for line in report.lines.get("folder", ()) if line.endswith(" same")}
        return not wrote <= report.back

    def cancel(self, reason: str) -> bool:
        self.interrupted = True
        left = self.fleet.cancel([entry.id for entry in self.entries])
        return not left

    def tell(self) -> int:
        try:
            return 130 if self.interrupted else self.conclude(self)
        finally:
            self.marks.remove()
            shutil.rmtree(self.path, ignore_errors=True)


def _read(path: Path, offset: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(LONGEST_REPORT)
    except OSError:
        return b""
