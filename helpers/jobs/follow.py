"""Follows jobs to their end, whatever kind they are. Killing the follower harms nothing: only Ctrl-C ends jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from helpers.jobs import fleet
from helpers.jobs.fleet import Fleet
from helpers.lib.signals import ctrl_c

POLL_SECONDS = {"slurm": 2.0, "local": 0.25}
PRESS_SECONDS = 2.0  # Ctrl-C goes to all processes of a terminal, and some of them pass it on: it is one all the same
LEAVE = (signal.SIGTERM, signal.SIGHUP)  # a session's end, a shutdown: not what a person means by Ctrl-C


class Followed(Protocol):
    """What is followed. again: the command to watch it once more. LOOKS_ONLY, where it has one that is true: it is shown, and nothing ends
    jobs here, neither Ctrl-C nor that they will never start."""

    fleet: Fleet
    path: Path
    again: str

    def look(self, ask: bool = True) -> bool:
        """Take in what is new, show it; whether anything is open. ask: the scheduler too, once."""

    def stuck(self) -> dict[str, str]:
        """Why jobs will never start: sentences, by whatever they are told apart."""

    def finish(self) -> None:
        """All have ended by themselves."""

    def cancel(self, reason: str) -> bool:
        """End all jobs; whether they are known to have ended."""

    def tell(self) -> int:
        """The last words, and the exit code made of them."""


class Caught(Exception):
    """A signal."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """Signals are heard where the follower waits: no report is cut in two, and no wait is sat out."""

    def __init__(self) -> None:
        self._caught, self._waits, self._pressed = 0, False, 0.0
        for number in (ctrl_c(), *LEAVE):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._hear)
        with contextlib.suppress(OSError):  # from here on, Ctrl-C is ours (submit::watch)
            os.unlink(os.environ.pop("HAB_UNWATCHED", ""))

    def _hear(self, number: int, _: object) -> None:
        if number not in LEAVE:
            if self._pressed and time.monotonic() - self._pressed < PRESS_SECONDS:
                return
            self._pressed = time.monotonic()
        self._caught = number
        if self._waits:
            self._raise()

    def _raise(self) -> None:
        number, self._caught, self._waits = self._caught, 0, False
        if number:
            raise Caught(number)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        self._waits = True
        try:
            if self._caught:
                self._raise()
            yield
        finally:
            self._waits = False


def follow(one: Followed) -> int:
    """Follow until all has ended; the exit code: 3 where jobs would never start (they are ended), 130 after Ctrl-C (which ends the
    jobs), 128 + n after another signal n."""
    signals, never, looks_only = Signals(), Never(), getattr(one, "LOOKS_ONLY", False)
    one.fleet.waiting, one.fleet.patient = signals.waiting, True
    try:
        while one.look(one.fleet.is_due()):
            if (said := never.look(one)) and not looks_only:
                _end(one, said)
                return 3
            with signals.waiting():
                time.sleep(getattr(one, "PAUSE", POLL_SECONDS[one.fleet.scheduler.kind]))
        one.finish()
    except Caught as caught:
        if caught.number in LEAVE or looks_only:
            return _leave(one, caught)
        try:
            _say("ending all jobs; Ctrl-C once more leaves at once …")
            _end(one, "interrupted with Ctrl-C")
        except Caught as second:
            return _leave(one, second)
        return 130
    return one.tell()


def _end(one: Followed, reason: str) -> None:
    if not one.cancel(reason):
        _say(f"not all jobs are known to have ended: scripts_hpc/jobs.sh stop {one.path} tries again")
    one.tell()


class Never:
    """Knows jobs that will never start: told at once, believed when two looks some seconds apart say so."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}

    def look(self, one: Followed, tell: bool = True) -> str | None:
        """Say what is new; a sentence once it is sure."""
        if one.fleet.silence:
            return None
        now, found = one.fleet.looked, one.stuck()
        for key in (key for key in found if tell and key not in self.since):
            _say(found[key])
            one.fleet.stir()
        self.since = {key: self.since.get(key, now) for key in found}
        sure = (key for key, first in self.since.items() if now - first >= fleet.DOUBT_SECONDS)
        return found.get(next(sure, ""))


def _leave(one: Followed, caught: Caught) -> int:
    left = getattr(one, "LEFT", "nobody watches any more, and nothing more is ended")
    _say(f"{caught}: {left}. To watch again: {one.again}")
    return 128 + caught.number


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be what was lost
        print(text, file=sys.stderr, flush=True)
