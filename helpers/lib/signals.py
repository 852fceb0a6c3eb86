"""What is asked of a command by signals: by a person's Ctrl-C, by a shell that is in charge, by a terminal that is lost."""

from __future__ import annotations

import signal
import subprocess
from typing import Any


def ctrl_c() -> signal.Signals:
    """The signal by which a person's Ctrl-C comes: scripts_hpc/lib/submit.sh starts its children deaf to it, and sends USR1."""
    return signal.SIGUSR1 if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT


def catch_signals() -> None:
    """Make of SIGTERM and a lost terminal what Ctrl-C is, so that children are ended and folders cleaned up."""
    for number in (ctrl_c(), signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)


def ignore_signals() -> None:
    """From here on what was begun is finished, whoever wants to end it."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt(number: int, _: Any) -> None:
    """Raise KeyboardInterrupt, once, with the signal's number."""
    ignore_signals()  # a second one would fall into the clearing up
    raise KeyboardInterrupt(number)


def attend(command: list[str], **options: Any) -> int:
    """Run a command to its end; its exit code. Raises OSError, and KeyboardInterrupt where we were interrupted, once it has ended too.

    Ctrl-C reaches it as well, even where we are deaf to it; a signal to us alone it is told of a moment later: to a workflow they mean
    different things. options: of subprocess.Popen.
    """
    asked = {signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asked)  # one that comes while it is being started would lose it

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        process = subprocess.Popen(command, preexec_fn=listen, **options)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # with a limit it polls; a signal just before a wait without one would go unnoticed
        return process.wait(1e8)
    except KeyboardInterrupt as told:
        ignore_signals()
        number = next(iter(told.args), signal.SIGINT)
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT if number == signal.SIGUSR1 else number)
            process.wait()
        raise
