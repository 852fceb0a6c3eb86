"""The steps of grading, done one after the other for a shell: it asks by name and arguments, and is answered by a code and a line.

A request is words with NUL behind each, and one more NUL: the name of a module of this package, and the arguments of its `main`. The
answer is one line: the exit code, a blank, and what the step said last on stderr. Each step is done in a process of its own, so that
nothing of one reaches the next; Python is started once. Ends at the end of its input.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

from helpers.repositories import checkout, diff, evaluation, score, steps

STEPS = {"diff": diff.main, "checkout": checkout.main, "evaluation": evaluation.main, "score": score.main}
MOST_SAID = 4096  # bytes


def requests(source: BinaryIO) -> Iterator[list[str]]:
    """The words of each request."""
    words: list[bytes] = []
    rest = b""
    while chunk := os.read(source.fileno(), 1 << 16):
        *whole, rest = (rest + chunk).split(b"\0")
        for word in whole:
            if word:
                words.append(word)
            elif words:
                yield [os.fsdecode(one) for one in words]
                words = []


def do(step: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str]:
    """Do a step in a process of its own; its exit code, and the last line that it said."""
    readable, writable = os.pipe()
    pid = os.fork()
    if not pid:
        code = steps.OURS
        try:
            os.dup2(writable, 2)
            os.dup2(2, 1)
            os.closerange(3, max(readable, writable) + 1)
            code = step(arguments)
        except SystemExit as end:  # argparse
            code = end.code if isinstance(end.code, int) else 2
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writable)
    said = b""
    with open(readable, "rb") as file:
        while chunk := file.read(MOST_SAID):
            said = (said + chunk)[-MOST_SAID:]
    status = os.waitpid(pid, 0)[1]
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return code, " ".join((lines or [""])[-1].split())


def main() -> int:
    for name, *arguments in requests(sys.stdin.buffer):
        code, said = do(STEPS[name], arguments) if name in STEPS else (2, f"there is no step {name}")
        print(code, said, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
