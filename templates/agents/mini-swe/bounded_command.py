"""Runs the commands of a model: with bash, and bounded in time and in what is kept of their output. Needs nothing but Python."""

import os
import selectors
import signal
import subprocess
import time

MOST_KEPT = 100_000  # bytes of a command's output; the model is shown 10,000 characters
GRACE = 1.0  # seconds that are waited for the output of what a command has left in the background


class Kept:
    """The beginning and the end of an output that comes in pieces."""

    def __init__(self, most: int):
        self.half, self.head, self.tail, self.left_out = most // 2, bytearray(), bytearray(), 0

    def add(self, piece: bytes) -> None:
        room = self.half - len(self.head)
        self.head += piece[:room]
        self.tail += piece[room:]
        over = len(self.tail) - self.half
        if over > self.half:  # seldom, as it moves what stays
            self._cut(over)

    def _cut(self, count: int) -> None:
        del self.tail[:count]
        self.left_out += count

    def text(self) -> str:
        if len(self.tail) > self.half:
            self._cut(len(self.tail) - self.half)
        between = f"\n[{self.left_out} bytes are left out here]\n" if self.left_out else ""
        return self.head.decode("utf-8", "replace") + between + self.tail.decode("utf-8", "replace")


def run_command(command: str, cwd: str, env: dict[str, str], seconds: float) -> tuple[str, int, str]:
    """Run a command: what it printed, its exit code, and why it has none (else empty). Raises OSError and ValueError where it can't start.

    What it leaves in the background lives on, but isn't waited for; of a command that takes too long the process group is killed.
    """
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    kept, ends = Kept(MOST_KEPT), time.monotonic() + seconds
    assert process.stdout
    with process.stdout as pipe:
        is_over = not _read(pipe.fileno(), process, kept, ends)
    if is_over or process.poll() is None and not _ended(process, ends):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return kept.text(), -1, f"The command was ended after {seconds:.0f} s, its time limit"
    return kept.text(), process.returncode, ""


def _read(pipe: int, process: subprocess.Popen, kept: Kept, ends: float) -> bool:
    """Read until nobody can write any more, or the command has ended and is quiet; False when the time is over."""
    last = None  # when output of the background is given up
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (now := time.monotonic()) < ends:
            if last is None and process.poll() is not None:
                last = now + GRACE
            if last is not None and now >= last:
                return True
            if selector.select(min(0.05, ends - now)):
                piece = os.read(pipe, 65536)
                if not piece:
                    return True
                kept.add(piece)
    return process.poll() is not None


def _ended(process: subprocess.Popen, ends: float) -> bool:
    """Whether a command that has closed its output ends in time, too."""
    try:
        process.wait(max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
