"""`jobs.sh logs -f`: what jobs write, as they write it, until they are gone. Runs where a person types, and ends nothing."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.jobs import follow
from helpers.jobs.kinds.base import Entry, Kind
from helpers.lib.text import LOG_BYTES, clean
from helpers.scheduler.query import SchedulerUnavailable

LOG_LINES = 40  # of what was there before
AT_ONCE = 256 * 1024  # bytes of a log that are shown at once; what comes quicker is left out, and that is told
LONGEST = 8 * 1024  # bytes of a line that is waited for


class Tail:
    """The growing end of a file, which may be put in place later, be replaced, or be cut. Holds at most AT_ONCE + LONGEST bytes."""

    def __init__(self) -> None:
        self._inode: int | None = None
        self._place, self._rest = 0, b""

    def more(self, path: Path | None, is_last: bool = False) -> list[str]:
        """The lines that were written since the last call, printable. is_last: also one without its end."""
        data = self._read(path) if path else b""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        # a bar that is drawn anew and anew is one line
        self._rest = self._rest.rpartition(b"\r")[2] if len(self._rest) > LONGEST else self._rest
        if self._rest and (is_last or len(self._rest) > LONGEST):
            lines.append(self._rest)
            self._rest = b""
        return [clean(line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")) for line in lines]

    def _read(self, path: Path) -> bytes:
        """What is new of a regular file: an agent could lay a link or a pipe in its place."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode):
            os.close(descriptor)
            return b""
        with open(descriptor, "rb", buffering=0) as file:
            if self._inode is None:
                self._place = max(0, now.st_size - LOG_BYTES)
            elif now.st_ino != self._inode or now.st_size < self._place:
                self._place = 0
            first, self._inode = self._inode is None, now.st_ino
            left_out = max(0, now.st_size - self._place - AT_ONCE)
            file.seek(self._place + left_out)
            data = file.read(AT_ONCE)
        self._place += left_out + len(data)
        if first:
            return b"".join(data.splitlines(keepends=True)[-LOG_LINES:])
        return b"\n[... %d bytes are left out ...]\n" % left_out + data if left_out else data


class Source:
    """A job's log, or what the work in it printed itself."""

    def __init__(self, jobs: Kind, entry: Entry, is_own: bool):
        self.jobs, self.entry, self.is_own = jobs, entry, is_own
        self.path: Path | None = None
        self.tail = Tail()

    @property
    def title(self) -> str:
        return f"== what {self.entry} printed itself: {self.path}" if self.is_own else f"== {self.entry}: {self.path}"

    def more(self, is_last: bool) -> list[str]:
        if not self.is_own:
            self.path = self.path or self.jobs.log(self.entry)
            return self.tail.more(self.path, is_last)
        before, path = self.path, self.jobs.own_words(self.entry)
        lines = []
        # agent.log.last holds what comes later; in the end it is added to agent.log, all of which was shown
        if path and not (before and before.suffix == ".last" and path.suffix != ".last"):
            if before and before != path:
                lines = self.tail.more(before)
            elif self._turned(path):
                lines = self.tail.more(path.with_suffix(".previous"))
            self.path = path
            lines += self.tail.more(path, is_last)
        return [f"| {line}" for line in lines or self.tail.more(None, is_last)]

    def _turned(self, path: Path) -> bool:
        """Whether the file was put aside, and begun anew, since it was read."""
        with contextlib.suppress(OSError):
            return os.stat(path.with_suffix(".previous"), follow_symlinks=False).st_ino == self.tail._inode
        return False


class LogFollow:
    """The logs of jobs, of one part or of all, and whether they are still being written."""

    def __init__(self, jobs: Kind, part: str | None):
        self.jobs = jobs
        entries = sorted(jobs.entries, key=lambda entry: jobs.PARTS.index(entry.part))
        self.entries = [entry for entry in entries if part in (None, entry.part)]
        self.sources = [Source(jobs, entry, own) for entry in self.entries for own in (False, True)]
        self.last: Source | None = None
        self.silence = ""
        self.waiting = {entry.id for entry in self.entries}

    def news(self, is_last: bool = False) -> Iterator[str]:
        """The lines that are new, under the title of the log that they come from."""
        self.jobs.__dict__.pop("_logs", None)  # a log is there once its job has started
        for source in self.sources:
            if lines := source.more(is_last):
                if source is not self.last:
                    yield from ([""] if self.last else []) + [source.title]
                self.last = source
                self.waiting.discard(source.entry.id)
                yield from lines

    def is_over(self) -> bool:
        """Ask for the jobs when it is time to; whether all are gone for sure. (A server that others started may live on.)"""
        fleet = self.jobs.fleet
        if fleet.is_due():
            try:
                self.jobs.look()
                self.silence = ""
            except SchedulerUnavailable:
                if not self.silence:
                    _say(f"the scheduler doesn't answer ({fleet.silence}): asking again, the logs go on")
                self.silence = fleet.silence
        return all(fleet.gone(entry.id) for entry in self.entries if entry.own)


def follow_logs(jobs: Kind, part: str | None) -> int:
    """Print what jobs write until they are gone; 0. Ctrl-C ends this alone."""
    one = LogFollow(jobs, part)
    if not one.entries:
        print(f"{jobs.path.name} has no {part or ''} jobs".replace("  ", " "))
        return 0
    jobs.fleet.patient, told = True, False
    while True:
        over = one.is_over()
        for line in one.news(is_last=over):
            print(line)
        sys.stdout.flush()
        if over:
            break
        if one.waiting and not told:
            names = ", ".join(str(entry) for entry in one.entries if entry.id in one.waiting)
            _say(f"no log yet of {names}: it is shown once it is there. Ctrl-C ends this, and no job")
            told = True
        time.sleep(follow.POLL_SECONDS[jobs.fleet.scheduler.kind])
    for entry in one.entries:
        if entry.id in one.waiting:
            print(f"== {entry}: no log: it never started, or its log is not below {jobs.path}")
    return 0


def _say(text: str) -> None:
    print(f"jobs.sh: {text}", file=sys.stderr, flush=True)
