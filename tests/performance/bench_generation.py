"""Time generations of helpers.datagen against a server that takes 0.5 s for an answer and 64 requests at a time.

Beside the ideal, 64 answers each 0.5 s without a pause, and beside a serial loop, which is measured on a few requests and scaled. The
server refuses a 65th request (429), and is a process of its own, as ours is. Memory: what ours has grown by, from 200 answers to the
last; the answers alone have a multiple of the limit. Exits 1 when a figure misses its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.datagen.engines import GenericOpenAIEngine  # noqa: E402

AT_ONCE, LATENCY = 64, 0.5
OF_IDEAL, OF_SERIAL, MEGABYTES = 0.9, 20.0, 20.0
GENERATIONS = 2000  # fewer are not judged: starting and ending weigh too much
LOOPED = 10
ANSWER = "word " * 10_000
SETTLED = 200  # answers after which the memory is compared


async def serve() -> None:
    """A model that takes its time; prints its port."""
    now = asked = 0
    reply = json.dumps({"choices": [{"message": {"content": ANSWER}}], "usage": {"completion_tokens": 10_000}}).encode()
    good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(reply), reply)
    busy = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, asked
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
                now, asked = now + 1, asked + 1
                fits = now <= AT_ONCE
                if fits:
                    await asyncio.sleep(LATENCY)
                now -= 1
                writer.write(good if fits else busy)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # whoever started it is gone
    os._exit(0)


def memory() -> float:
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def generate(url: str, count: int, file: str) -> None:
    """Ask for `count` generations; prints what it took."""
    settled = asked = 0.0
    began = time.perf_counter()
    with GenericOpenAIEngine(base_url=url, model_name="m", timeout=120) as model:
        prompts = (f"prompt {number} " + "about something " * 200 for number in range(count))
        for done, (_, text) in enumerate(model.generate_many(prompts, concurrency=AT_ONCE, answers=file), start=1):
            assert text == ANSWER
            if done == min(SETTLED, count // 2):
                settled = memory()
        seconds = time.perf_counter() - began
        asked = model.usage.requests
    told = {"seconds": seconds, "answers": done, "requests": asked, "settled": settled, "grown": memory() - settled}
    print(json.dumps(told))


@contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"


def apart(url: str, count: int, file: Path) -> dict[str, float]:
    """Generations of a process of their own, whose memory is nobody else's."""
    command = [sys.executable, __file__, "--generate", url, "--generations", str(count), "--file", str(file)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def serial(url: str) -> float:
    """Seconds of one generation in a loop that asks for one at a time."""
    with GenericOpenAIEngine(base_url=url, model_name="m") as model:
        model.generate("first")
        began = time.perf_counter()
        for number in range(LOOPED):
            model.generate(f"prompt {number}")
    return (time.perf_counter() - began) / LOOPED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=GENERATIONS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--generate", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    if options.generate:
        generate(options.generate, options.generations, options.file)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench_generation.") as folder, server() as url:
        return report(url, options.generations, Path(folder, "answers.jsonl"))


def report(url: str, count: int, file: Path) -> int:
    """Measure, and print the figures; the exit code."""
    told = apart(url, count, file)
    again = apart(url, count, file)
    looped = serial(url) * count
    ideal = -(-count // AT_ONCE) * LATENCY
    right = told["answers"] == again["answers"] == count and again["requests"] == 0
    print(f"  {count} generations, {told['requests']} requests: {told['seconds']:.2f} s")
    print(f"  memory: {told['settled']:.0f} MB after {min(SETTLED, count // 2)} of them, then {told['grown']:+.1f} MB")
    print(
        f"  again from the file of answers: {again['seconds']:.2f} s, {again['requests']} requests; answers {'right' if right else 'WRONG'}"
    )
    is_long = count >= GENERATIONS

    def judged(good: bool) -> bool | None:
        return (good and right) if is_long or not right else None

    what, ours = f"{count} generations, {AT_ONCE} at a time, {LATENCY:g} s each", f"{told['seconds']:.2f} s"
    ratios = ideal / told["seconds"], looped / told["seconds"]
    held = count * len(ANSWER) / 1e6
    good = [
        figure(
            what, ours, f"{ideal:.2f} s (the ideal)", ratios[0], f"at least {OF_IDEAL:g}", judged(ratios[0] >= OF_IDEAL)
        ),
        figure(
            what,
            ours,
            f"{looped:.0f} s (one at a time)",
            ratios[1],
            f"at least {OF_SERIAL:g}",
            judged(ratios[1] >= OF_SERIAL),
        ),
        figure(
            f"memory that {count} generations add",
            f"{told['grown']:.1f} MB",
            f"{held:.0f} MB (their answers, held)",
            told["grown"] / held,
            f"{MEGABYTES:g} MB",
            judged(told["grown"] <= MEGABYTES),
        ),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
