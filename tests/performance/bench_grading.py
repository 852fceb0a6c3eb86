"""Compare the grading server with a one-process Flask development server that grades the way mle-bench's does; and attack it.

Both validate the same submissions (870 rows, like spaceship-titanic; half invalid) for 32 concurrent clients, in turns, on
the same two cores as the clients. Then the clients' waiting time, with and without hostile uploads and strangers, in turns:
eight at a time send 20 MB in one line `a,a,a,…` to a competition of mle-bench's (a package with its names, tests/prepare/fakes);
200 without a token send nothing, half a head, or a byte every 5 s. One line a figure; exits 1 beyond a limit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from figure import figure

ROOT = Path(__file__).resolve().parents[2]
FAKE_PACKAGE = ROOT / "tests/prepare/fakes/python"
GOAL = 4.0
MOST_GROWTH = 1.1
MOST_WAITING = 2.0
CLIENTS, CLIENT_PROCESSES = 32, 4
HOSTILE, STRANGERS = 8, 200
ROUNDS = 4
ENOUGH = 5000  # requests; with fewer, a wait is one of a few, and memory has no time to grow
ROWS = 870
FORK = multiprocessing.get_context("fork")


def make_data(folder: Path) -> list[tuple[bytes, bool]]:
    """Write a task like spaceship-titanic. Returns submissions, each with whether it is valid."""
    rng = random.Random(0)
    rows = [f"{number:04d}_{rng.randint(1, 8):02d},{rng.random() < 0.5}" for number in rng.sample(range(9999), ROWS)]
    header = "PassengerId,Transported"
    private = folder / "spaceship-titanic" / "prepared" / "private"
    private.mkdir(parents=True)
    (private / "answers.csv").write_text("\n".join([header, *rows]) + "\n")
    settings = {"metric": "accuracy", "id_column": "PassengerId", "target_column": "Transported"}
    (private / "grading.json").write_text(json.dumps(settings))

    def text(lines: list[str], first: str = header) -> bytes:
        return "\n".join([first, *lines, ""]).encode()

    def guess() -> list[str]:
        return [f"{row.partition(',')[0]},{rng.random() < 0.5}" for row in rng.sample(rows, ROWS)]

    valid = [text(guess()) for _ in range(8)]
    words = [row.partition(",")[0] + ",maybe" for row in rows]
    wrong_id = [f"x{row}" if number == 400 else row for number, row in enumerate(rows)]
    empty = [row.partition(",")[0] + "," if number == 500 else row for number, row in enumerate(rows)]
    invalid = [
        text(rows[1:]),
        text(rows + rows[:1]),
        text(rows[:-1] + rows[:1]),
        text(rows, "PassengerId,Answer"),
        text(words),
        text(wrong_id),
        text(empty),
        bytes(range(256)) * 50,
    ]
    return [(body, True) for body in valid] + [(body, False) for body in invalid]


def reference(answers: Path, port: int) -> None:
    """Serve /validate as mle-bench's environment/grading_server.py does: both files read at each call, metric run."""
    import logging

    import flask
    import pandas as pd
    from sklearn.metrics import accuracy_score

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = flask.Flask("reference")

    def grade(submission: pd.DataFrame, truth: pd.DataFrame) -> float:
        if len(submission) != len(truth):
            raise ValueError("Submission must have the same length as the answers.")
        for name in ("Transported", "PassengerId"):
            if name not in submission.columns:
                raise ValueError(f"Submission must have a `{name}` column")
        submission, truth = submission.sort_values("PassengerId"), truth.sort_values("PassengerId")
        if (submission["PassengerId"].values != truth["PassengerId"].values).any():
            raise ValueError("Submission and Answers `PassengerId`'s do not match")
        return accuracy_score(truth["Transported"].to_numpy(), submission["Transported"].to_numpy())

    @app.post("/validate")
    def validate():
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            flask.request.files["file"].save(file.name)
            try:
                grade(pd.read_csv(file.name), pd.read_csv(answers))
            except Exception as error:
                return {"result": f"Submission invalid! {error}"}
        return {"result": "Submission is valid."}

    sys.modules["flask.cli"].show_server_banner = lambda *_: None
    app.run("127.0.0.1", port)


def make_known(folder: Path) -> None:
    """Prepare a competition of the package with mle-bench's names."""
    for half, name in (("private", "test"), ("public", "sample_submission")):
        (folder / "known" / "prepared" / half).mkdir(parents=True)
        (folder / "known" / "prepared" / half / f"{name}.csv").write_text("id,y\n2,0\n3,1\n")


def encoded(body: bytes, token: str, competition: str = "spaceship-titanic") -> bytes:
    """Make the bytes of a whole request."""
    content = b'--x\r\nContent-Disposition: form-data; name="competition"\r\n\r\n' + competition.encode()
    content += (
        b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="s.csv"\r\n\r\n' + body + b"\r\n--x--\r\n"
    )
    head = (
        "POST /validate HTTP/1.1\r\nHost: bench\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Client:
    """A keep-alive HTTP client that does as little as it can; it connects again where the server closes."""

    def __init__(self, port: int) -> None:
        self.address, self.socket = ("127.0.0.1", port), None

    def ask(self, request: bytes) -> bytes:
        if self.socket is None:
            self.socket = socket.create_connection(self.address)
        self.socket.sendall(request)
        head, body = b"", b""
        while b"\r\n\r\n" not in head:
            head += self._receive()
        head, _, body = head.partition(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += self._receive()
        if b"connection: close" in lower or lower.startswith(b"http/1.0"):
            self.socket.close()
            self.socket = None
        return body

    def _receive(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def client_process(port: int, requests: list[tuple[bytes, bool]], share: int, threads: int, start, results) -> None:
    """Send a share of the requests from several threads. Puts the number of wrong verdicts, and each wait, into results."""
    wrong, waits = [], []

    def work(number: int) -> None:
        client, bad = Client(port), 0
        for turn in range(share // threads + (number < share % threads)):
            request, valid = requests[(turn * 7 + number) % len(requests)]
            began = time.perf_counter()
            try:
                bad += (b"is valid" in client.ask(request)) != valid
            except (OSError, ValueError, IndexError):
                bad, client = bad + 1, Client(port)
            waits.append(time.perf_counter() - began)
        wrong.append(bad)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start.wait()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    results.put((sum(wrong), waits))


class Measured:
    """What clients saw: requests per second, wrong verdicts, and the wait for each answer in seconds."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.wrong, self.waits = 0, []

    def add(self, port: int, requests: list[tuple[bytes, bool]], count: int) -> None:
        """Send `count` requests from all clients."""
        start, results = FORK.Barrier(CLIENT_PROCESSES + 1), FORK.Queue()
        shares = [count // CLIENT_PROCESSES + (number < count % CLIENT_PROCESSES) for number in range(CLIENT_PROCESSES)]
        threads = CLIENTS // CLIENT_PROCESSES
        processes = [
            FORK.Process(target=client_process, args=(port, requests, share, threads, start, results))
            for share in shares
        ]
        for process in processes:
            process.start()
        start.wait()
        began = time.perf_counter()
        for wrong, waits in [results.get() for _ in processes]:
            self.wrong += wrong
            self.waits += waits
        self.rates.append(count / (time.perf_counter() - began))
        for process in processes:
            process.join()

    def wait(self, share: float) -> float:
        """The wait, in ms, that a share of the requests stays below."""
        return statistics.quantiles(self.waits, n=100)[round(share * 100) - 1] * 1000


@contextlib.contextmanager
def reference_server(folder: Path) -> Iterator[int]:
    """Run the alternative; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = folder / "spaceship-titanic" / "prepared" / "private" / "answers.csv"
    process = multiprocessing.get_context("spawn").Process(target=reference, args=(answers, port), daemon=True)
    process.start()
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"bench_grading: no server on port {port} ({process})")
        yield port
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def our_server(folder: Path, tokens: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run the grading server; gives its port and its process."""
    command = [sys.executable, "-m", "helpers.serving.grading_server", "--data-dir", str(folder)]
    command += [
        "--competition-id",
        "spaceship-titanic",
        "--competition-id",
        "known",
        "--log",
        str(folder / "calls.jsonl"),
    ]
    env = os.environ | tokens | {"PYTHONPATH": str(folder / "package")}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline().rpartition(":")[2]), process.pid
        finally:
            process.terminate()


def children(process: int) -> list[int]:
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def memory(server: int) -> float:
    """Megabytes that a server's processes hold together; what they share counts once, files not at all (proc(5), Pss)."""
    kilobytes = 0
    for process in (server, *children(server)):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            kilobytes += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem): +(\d+)", text, re.MULTILINE)))
    return kilobytes / 1024


def warm_up(port: int, server: int, requests: list[tuple[bytes, bool]]) -> None:
    """Send requests until the first judges have made way for those that know all, and these have worked."""
    first = set(children(server))
    for _ in range(100):
        Measured().add(port, requests, 200)
        if len(first.intersection(children(server))) <= 1:  # the front stays
            break
    Measured().add(port, requests, 400)


def hostile_process(port: int, request: bytes, stop, sent) -> None:
    """Send hostile uploads, eight at a time, and keep strangers' connections, until told to stop."""

    def upload() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, ValueError, IndexError):
                answer = Client(port).ask(request)
                with sent.get_lock():
                    sent.value += b"or more columns" in answer

    def strange(number: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.settimeout(5)
                if number % 3 == 1:
                    connection.sendall(b"POST /validate HTTP/1.1\r\nHost: b")
                while not stop.is_set():
                    if number % 3 == 2:
                        connection.sendall(b"P")
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(4096):
                            break

    for _ in range(HOSTILE):
        threading.Thread(target=upload, daemon=True).start()
    for number in range(STRANGERS):
        threading.Thread(target=strange, args=(number,), daemon=True).start()
    stop.wait()


@contextlib.contextmanager
def under_attack(port: int, request: bytes, sent) -> Iterator[None]:
    """Let the hostile work; begins once the first of their uploads is answered."""
    stop, before = FORK.Event(), sent.value
    process = FORK.Process(target=hostile_process, args=(port, request, stop, sent), daemon=True)
    process.start()
    try:
        for _ in range(600):
            if sent.value > before:
                break
            time.sleep(0.05)
        else:
            raise SystemExit("bench_grading: no hostile upload was refused in 30 s")
        yield
    finally:
        stop.set()
        process.join(1)
        process.kill()
        process.join()


def judged(good: bool, count: int, wrong: int = 0) -> bool | None:
    """What is to be said of a figure: a wrong verdict is one in any form, the rest needs enough requests."""
    return False if wrong else good if count >= ENOUGH else None


def bench_requests(server: tuple[int, int], folder: Path, requests: list[tuple[bytes, bool]], count: int) -> bool:
    """Both servers in turns, so that the machine's other work hits both; and what ours holds before and after."""
    ours, theirs = Measured(), Measured()
    port, process = server
    warm_up(port, process, requests)
    before = memory(process)
    with reference_server(folder) as other:
        Measured().add(other, requests, 200)
        for _ in range(ROUNDS):
            theirs.add(other, requests, max(count // 5, 200) // ROUNDS)
            ours.add(port, requests, count // ROUNDS)
    after, sent = memory(process), len(ours.waits)
    if theirs.wrong:
        print(f"  the reference itself gave {theirs.wrong} wrong verdicts")
    own, other = statistics.median(ours.rates), statistics.median(theirs.rates)
    ratio = statistics.median(one / two for one, two in zip(ours.rates, theirs.rates, strict=True))
    clients = f"{CLIENTS} clients, {len(os.sched_getaffinity(0))} cores"
    more = f"at least {GOAL:g}, and 0 wrong ({ours.wrong} of {sent})"
    good = figure(
        f"grading ({clients})",
        f"{own:.0f}/s",
        f"{other:.0f}/s (a Flask development server)",
        ratio,
        more,
        judged(ratio >= GOAL, count, ours.wrong),
    )
    what = f"grading's memory after {sent} uploads"
    growth = after / before
    return (
        figure(
            what,
            f"{after:.0f} MB",
            f"{before:.0f} MB (before)",
            growth,
            f"{MOST_GROWTH:g}",
            judged(growth <= MOST_GROWTH, count),
        )
        and good
    )


def bench_attack(server: tuple[int, int], requests: list[tuple[bytes, bool]], token: str, count: int) -> bool:
    """The clients' waits with the hostile and without, in turns."""
    quiet, attacked = Measured(), Measured()
    port, process = server
    hostile, sent = encoded(b"a," * 10_000_000 + b"a\n", token, "known"), FORK.Value("i", 0)
    for _ in range(ROUNDS):
        quiet.add(port, requests, count // ROUNDS)
        with under_attack(port, hostile, sent):
            attacked.add(port, requests, count // ROUNDS)
    wrong = quiet.wrong + attacked.wrong
    print(
        f"  {sent.value} hostile uploads were refused; {wrong} wrong verdicts of {len(attacked.waits)}; {memory(process):.0f} MB after it"
    )
    good = not wrong
    for name, share in (("median", 0.5), ("p95", 0.95)):
        own, other = attacked.wait(share), quiet.wait(share)
        what = f"grading's {name} wait among {HOSTILE} hostile uploads and {STRANGERS} strangers"
        ratio = own / other
        good &= figure(
            what,
            f"{own:.0f} ms",
            f"{other:.0f} ms (without them)",
            ratio,
            f"{MOST_WAITING:g}",
            judged(ratio <= MOST_WAITING, 2 * count),
        )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="for our server; the other gets a fifth")
    count = parser.parse_args().requests
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    tokens = {"GRADING_TOKEN": secrets.token_hex(16), "GRADING_ADMIN_TOKEN": secrets.token_hex(16)}
    token = tokens["GRADING_TOKEN"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(FAKE_PACKAGE, folder / "package")
        requests = [(encoded(body, token), valid) for body, valid in make_data(folder)]
        make_known(folder)
        with our_server(folder, tokens) as server:
            good = bench_requests(server, folder, requests, count)
            good &= bench_attack(server, requests, token, count // 2)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
