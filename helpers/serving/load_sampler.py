"""Beside a model server: notes every few seconds how many requests it works on, and how busy its GPUs are.

Started as a file in the server's own image, with any Python from 3.10 on; of other packages NVML's binding is used where it is there.
It asks the server as Prometheus does (https://docs.vllm.ai/en/stable/usage/metrics/) and changes nothing. What can't be learnt stays
empty, a line without any number marks a time that nobody saw, and where nothing can be written it ends. helpers/runs/load.py reads the
file.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

COLUMNS = (
    "time",
    "requests_running",
    "requests_waiting",
    "prompt_tokens_total",
    "generation_tokens_total",
    "gpu_utilisation",
)
METRICS = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
)
UNSEEN = (None,) * len(METRICS)
# a sample in Prometheus' text format: name{labels} value [timestamp]
# (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format)
SAMPLE = re.compile(rf"^({'|'.join(METRICS)})(?:\{{.*\}})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*$", re.MULTILINE)
SECONDS = 10.0  # for one answer: a server whose cores are all busy gives it late
LARGEST_ANSWER = 4 * 2**20  # bytes
THINNED = 2**20  # bytes, some 20,000 lines: with each of them the file grows half as fast
ROCM_PAUSE = 30.0  # seconds; rocm-smi takes half a second of a core
TOOL_SECONDS = 10.0


class Server:
    """Where a server tells its load. url: https://HOST:PORT; certificate: a file, the only one that is believed."""

    def __init__(self, url: str, certificate: str, token: str) -> None:
        self.place = urllib.parse.urlsplit(url)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(certificate)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def load(self) -> list[float | None]:
        """The values of METRICS, summed over engines and models; raises OSError, HTTPException and ValueError.

        All of it has SECONDS: a timeout of the socket alone would wait for ever on one that trickles.
        """
        signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            connection = http.client.HTTPSConnection(self.place.netloc, timeout=SECONDS, context=self.context)
            with contextlib.closing(connection):
                connection.request("GET", "/metrics", headers=self.headers)
                answer = connection.getresponse()
                if answer.status != 200:
                    raise OSError(f"HTTP {answer.status}")
                text = answer.read(LARGEST_ANSWER + 1)
                if answer.length and len(text) <= LARGEST_ANSWER:
                    raise OSError("the answer broke off")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if len(text) > LARGEST_ANSWER:
            raise OSError(f"more than {LARGEST_ANSWER} bytes")
        return values(text.decode("utf-8", "replace"))


def _late(*_: Any) -> None:
    raise TimeoutError(f"no answer within {SECONDS:g} s")


def values(text: str) -> list[float | None]:
    """The values of METRICS in Prometheus' text, each the sum over its label sets; None of one that isn't told, or is no number."""
    sums: dict[str, float] = {}
    for name, value in SAMPLE.findall(text):
        sums[name] = sums.get(name, 0.0) + _number(value)
    return [None if math.isnan(value := sums.get(name, math.nan)) else value for name in METRICS]


def _number(text: str) -> float:
    """A number of requests or tokens; NaN where it is none."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


# ---- the job's GPUs


def mine(visible: str, uuids: list[str], count: int) -> list[int] | None:
    """Which of the GPUs are the job's; None where that isn't certain.

    visible: CUDA_VISIBLE_DEVICES, indices or the beginnings of UUIDs; uuids: of the GPUs that this process may use, in order; count: how
    many the job has. Without the variable it has all that it may use. Of a part of a GPU (MIG) NVML tells no utilisation.
    """
    if not visible:
        return list(range(len(uuids))) if len(uuids) == count else None
    found = []
    for name in (part.strip() for part in visible.split(",")):
        fitting = [int(name)] if name.isdecimal() else [at for at, uuid in enumerate(uuids) if uuid.startswith(name)]
        if len(fitting) != 1 or fitting[0] >= len(uuids):
            return None
        found += fitting
    return found


class Nvml:
    """The job's GPUs by NVML. Raises ImportError, OSError, and the binding's own errors."""

    def __init__(self, count: int) -> None:
        self.nvml: Any = _binding()
        self.nvml.nvmlInit()
        devices, uuids = [], []
        for index in range(self.nvml.nvmlDeviceGetCount()):
            try:
                device = self.nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = self.nvml.nvmlDeviceGetUUID(device)
            except self.nvml.NVMLError:
                continue  # one that the scheduler keeps from this job
            devices.append(device)
            uuids.append(uuid.decode() if isinstance(uuid, bytes) else uuid)
        chosen = mine(os.environ.get("CUDA_VISIBLE_DEVICES", ""), uuids, count)
        self.devices = [devices[index] for index in chosen or ()]

    def percent(self) -> float | None:
        """Of the last moment (a sixth of a second to a second, by NVML's own account), the part in which a kernel ran: their mean."""
        told = [float(self.nvml.nvmlDeviceGetUtilizationRates(device).gpu) for device in self.devices]
        return sum(told) / len(told) if told else None


def _binding() -> ModuleType:
    """NVML's Python binding (nvidia-ml-py), else the copy that vLLM brings: without vLLM, whose import takes seconds."""
    warnings.simplefilter("ignore")  # an older package of the name says that it is old
    with contextlib.suppress(ImportError):
        import pynvml

        return pynvml
    vllm = importlib.util.find_spec("vllm")
    for folder in (vllm and vllm.submodule_search_locations) or ():
        spec = importlib.util.spec_from_file_location("pynvml", f"{folder}/third_party/pynvml.py")
        if spec and spec.loader and os.path.isfile(spec.origin or ""):
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ImportError("no pynvml")


class Rocm:
    """The job's GPUs by rocm-smi, which shows all of a node, by numbers that are not the job's: so only where the job has them all."""

    def __init__(self, count: int) -> None:
        if not shutil.which("rocm-smi"):
            raise FileNotFoundError("rocm-smi")
        self.count, self.next = count, 0.0

    def percent(self) -> float | None:
        """Their mean, at most every ROCM_PAUSE seconds; in between None."""
        if time.monotonic() < self.next:
            return None
        self.next = time.monotonic() + ROCM_PAUSE
        done = subprocess.run(
            ["rocm-smi", "--showuse", "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_SECONDS,
        )
        # warnings may come before it
        cards = json.loads(next(row for row in done.stdout.splitlines() if row.startswith("{")))
        told = [float(card["GPU use (%)"]) for name, card in cards.items() if name.startswith("card")]
        return sum(told) / len(told) if len(told) == self.count else None


def meter(count: int) -> Nvml | Rocm | None:
    """What tells how busy the job's GPUs are; None where it has none, or nothing does."""
    if not count:
        return None
    for kind in (Nvml, Rocm):
        with contextlib.suppress(Exception):  # whatever is wrong with a node's driver, the server's load is told
            return kind(count)
    return None


# ---- the file


def begin(path: str) -> None:
    """Make the file with its head, or mark in an earlier start's that nobody saw what was in between. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        empty = os.fstat(descriptor).st_size == 0
    finally:
        os.close(descriptor)
    append(path, ",".join(COLUMNS) if empty else line(UNSEEN, None))


def append(path: str, text: str) -> int:
    """Add a line by one write; the file's size. It isn't made anew where it has vanished. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = text.encode() + b"\n"
        if os.write(descriptor, data) != len(data):
            raise OSError("the disk is full")
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def line(load: Sequence[float | None], percent: float | None) -> str:
    """A sample of now."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = ["" if value is None else f"{value:.0f}" for value in load]
    return ",".join([now, *told, "" if percent is None else f"{percent:.1f}"])


class Sampler:
    """One server's samples, for as long as the process lives that started this one, and the file is there."""

    def __init__(self, server: Server, gpus: Nvml | Rocm | None, path: str, interval: float) -> None:
        self.server, self.gpus, self.path, self.interval = server, gpus, path, interval
        self.parent = os.getppid()
        self.has_told = False

    def run(self) -> None:
        """Sample until the end; raises OSError where nothing can be written."""
        begin(self.path)
        while os.getppid() == self.parent:
            begun = time.monotonic()
            size = append(self.path, self.sample())
            pause = self.interval * 2 ** min(size // THINNED, 10)
            self._rest(begun + pause)
            if time.monotonic() - begun > pause + SECONDS + TOOL_SECONDS:  # the job was suspended
                append(self.path, line(UNSEEN, None))

    def _rest(self, due: float) -> None:
        while os.getppid() == self.parent and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, self.interval))

    def sample(self) -> str:
        """A line of now; without the server's numbers where it doesn't tell them."""
        try:
            load: Sequence[float | None] = self.server.load()
        except (OSError, http.client.HTTPException, ValueError) as error:
            load = UNSEEN
            why = "".join(one for one in str(error) if one.isprintable())[:200] or type(error).__name__
            self._tell(f"the server doesn't tell its load ({why}): it is asked again, in silence")
        return line(load, self._percent())

    def _percent(self) -> float | None:
        with contextlib.suppress(Exception):  # of whatever a driver or its tools come up with
            return self.gpus.percent() if self.gpus else None
        return None

    def _tell(self, sentence: str) -> None:
        """A line in the job's log, the first time."""
        if not self.has_told:
            self.has_told = True
            say(sentence)


def say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        print(f"load sampler: {sentence}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="load_sampler.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--url", required=True, help="https://HOST:PORT of the server")
    parser.add_argument("--cert", required=True, metavar="F", help="its certificate, the only one that is believed")
    parser.add_argument("--output", required=True, metavar="F", help="append to this file, with a head where it is new")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="how many GPUs the job has (default: none)")
    parser.add_argument("--interval", type=float, default=5, metavar="S", help="seconds (default: %(default)s)")
    parser.epilog = "The server's token is read from MODEL_TOKEN."
    options = parser.parse_args(argv)
    try:
        server = Server(options.url, options.cert, os.environ.get("MODEL_TOKEN", ""))
        Sampler(server, meter(options.gpus), options.output, options.interval).run()
    except OSError as error:
        say(f"ends: {error} ({options.output})")
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
