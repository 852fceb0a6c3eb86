"""A call in a process of its own: its answer, its deadline, its memory, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.lib import bounded

MB = 2**20


def call(function: Any, *arguments: Any, seconds: float = 20, memory: int = 200 * MB) -> Any:
    try:
        return bounded.call(function, *arguments, seconds=seconds, memory=memory)
    finally:
        assert not multiprocessing.active_children()


def test_an_answer_comes_back_and_so_does_an_error() -> None:
    assert call(lambda one, other: (one + other, os.getpid()), 1, 2) != (3, os.getpid())
    with pytest.raises(KeyError, match="gone"):
        call({}.__getitem__, "gone")


def test_a_large_answer_comes_back(tmp_path: Any) -> None:
    assert call(bytes, 50 * MB) == bytes(50 * MB)


def test_an_open_file_is_the_callers(tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with open(tmp_path / "file", "rb") as file:
        assert call(file.read) == b"abc"


def test_what_takes_too_long_is_ended_even_where_it_never_comes_back_to_python() -> None:
    started = time.monotonic()
    for endless in (lambda: time.sleep(60), lambda: sum(range(10**12))):
        with pytest.raises(bounded.Exceeded, match=r"^takes over 0.3 s to read$"):
            call(endless, seconds=0.3)
    assert time.monotonic() - started < 10


def test_what_takes_too_much_memory_is_ended() -> None:
    with pytest.raises(bounded.Exceeded, match=r"^needs over 200 MB of memory to read"):
        call(bytes, 300 * MB)


def test_a_reader_that_breaks_down_is_told() -> None:
    with pytest.raises(bounded.Exceeded, match="or breaks its reader"):
        call(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_the_callers_handlers_stay_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with pytest.raises(bounded.Exceeded):
            call(lambda: time.sleep(60), seconds=0.3)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_ends_the_call(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        state = Path(f"/proc/{os.getppid()}/stat")
        # while it forks, Python ignores what its hooks raise
        while state.read_text().rpartition(") ")[2][0] != "S":
            time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        call(interrupt)
    assert capfd.readouterr().err == ""


def test_it_ends_by_itself_where_the_caller_is_killed() -> None:
    reading, writing = os.pipe()
    if (caller := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            bounded.call(lambda: (os.write(writing, b"."), time.sleep(60)), seconds=0.5, memory=MB * 100)
        os._exit(1)
    os.close(writing)
    os.read(reading, 1)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    assert os.read(reading, 1) == b""  # at the end of the last process that holds the other side
    os.close(reading)
