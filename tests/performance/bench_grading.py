"""Compare the grading server with a one-process Flask development server that grades the way mle-bench's does.

Both validate the same submissions (870 rows, like spaceship-titanic; half invalid) for 32 concurrent clients, on
the same two cores as the clients. Prints one line; exits 1 below the goal of 2 x, or after a wrong verdict.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOAL = 2.0
CLIENTS, CLIENT_PROCESSES = 32, 4
ROWS = 870


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


def encoded(body: bytes, token: str) -> bytes:
    """Make the bytes of a whole request."""
    content = b'--x\r\nContent-Disposition: form-data; name="file"; filename="s.csv"\r\n\r\n' + body + b"\r\n--x--\r\n"
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
    """Send a share of the requests from several threads. Puts the number of wrong verdicts into results."""
    wrong = []

    def work(number: int) -> None:
        client, bad = Client(port), 0
        for turn in range(share // threads + (number < share % threads)):
            request, valid = requests[(turn * 7 + number) % len(requests)]
            try:
                bad += (b"is valid" in client.ask(request)) != valid
            except (OSError, ValueError, IndexError):
                bad, client = bad + 1, Client(port)
        wrong.append(bad)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start.wait()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    results.put(sum(wrong))


def measure(port: int, requests: list[tuple[bytes, bool]], count: int) -> tuple[float, int]:
    """Send `count` requests from all clients. Returns requests per second and the number of wrong verdicts."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(CLIENT_PROCESSES + 1), context.Queue()
    shares = [count // CLIENT_PROCESSES + (number < count % CLIENT_PROCESSES) for number in range(CLIENT_PROCESSES)]
    processes = [
        context.Process(
            target=client_process, args=(port, requests, share, CLIENTS // CLIENT_PROCESSES, start, results)
        )
        for share in shares
    ]
    for process in processes:
        process.start()
    start.wait()
    began = time.perf_counter()
    wrong = sum(results.get() for _ in processes)
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return count / seconds, wrong


def await_port(port: int, process) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"bench_grading: no server on port {port} ({process})")


def bench_reference(folder: Path, requests: list[tuple[bytes, bool]], count: int) -> tuple[float, int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = folder / "spaceship-titanic" / "prepared" / "private" / "answers.csv"
    process = multiprocessing.get_context("spawn").Process(target=reference, args=(answers, port), daemon=True)
    process.start()
    try:
        await_port(port, process)
        measure(port, requests, 200)
        return measure(port, requests, count)
    finally:
        process.terminate()
        process.join()


def bench_ours(folder: Path, requests: list[tuple[bytes, bool]], count: int, tokens: dict) -> tuple[float, int]:
    command = [sys.executable, "-m", "helpers.grading_server", "--competition-id", "spaceship-titanic"]
    command += ["--data-dir", str(folder), "--log", str(folder / "calls.jsonl")]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | tokens, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().rpartition(":")[2])
            measure(port, requests, 200)
            return measure(port, requests, count)
        finally:
            process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="for our server; the other gets a fifth")
    count = parser.parse_args().requests
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    tokens = {"GRADING_TOKEN": secrets.token_hex(16), "GRADING_ADMIN_TOKEN": secrets.token_hex(16)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = [(encoded(body, tokens["GRADING_TOKEN"]), valid) for body, valid in make_data(folder)]
        theirs, their_wrong = bench_reference(folder, requests, max(count // 5, 200))
        ours, wrong = bench_ours(folder, requests, count, tokens)
    if their_wrong:
        print(f"bench_grading: the reference itself gave {their_wrong} wrong verdicts", file=sys.stderr)
    print(
        f"grading: {ours / theirs:.1f} x the requests/s of a Flask development server "
        f"({ours:.0f} against {theirs:.0f}; {CLIENTS} clients, {len(cores)} cores), {wrong} wrong of {count}"
    )
    return 1 if wrong or ours < GOAL * theirs else 0


if __name__ == "__main__":
    sys.exit(main())
