"""The grading server: real processes on the loopback address, and what clients, good and bad, get out of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from helpers.grading.report import INVALID, VALID
from helpers.serving import grading_server
from helpers.serving.grading_access import Caller, Tokens
from helpers.serving.grading_judge import Bounds, Judge
from helpers.serving.server import Certificate, Rejected, ServerError

ROOT = Path(__file__).resolve().parents[2]
TOKENS = {"GRADING_TOKEN": "agents-token", "GRADING_ADMIN_TOKEN": "hosts-token"}
AGENT = {"Authorization": "Bearer agents-token"}
HOST = {"Authorization": "Bearer hosts-token"}
IDS = [f"{number:03d}" for number in range(120)]
ANSWERS = random.Random(1).choices("abc", k=len(IDS))


def csv(values: list[str], ids: list[str] = IDS) -> bytes:
    rows = [f"{identifier},{value}\n" for identifier, value in zip(ids, values, strict=False)]
    return ("id,target\n" + "".join(rows)).encode()


def make_task(data: Path, name: str) -> Path:
    private = data / name / "prepared" / "private"
    private.mkdir(parents=True)
    (private / "answers.csv").write_bytes(csv(ANSWERS))
    fields = {"metric": "accuracy", "id_column": "id", "target_column": "target", "reference": {"baseline": 0.6}}
    (private / "grading.json").write_text(json.dumps(fields))
    return private


def family(session: int) -> list[int]:
    """List the processes of a session that live."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                members.append(int(path.parent.name))
    return members


def started(process: int) -> float:
    """When a process started, in ticks; of one that has ended, infinitely late."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return math.inf


def gone(session: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while family(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not family(session)


class Server:
    """A grading server in a session of its own, as started from the command line."""

    CODE = "import sys; from helpers.serving.grading_server import main; sys.exit(main())"

    def __init__(
        self, folder: Path, *arguments: str, competitions: tuple[str, ...] = ("toy",), **variables: str
    ) -> None:
        self.log, self.ready, self.temporary = folder / "calls.jsonl", folder / "port", folder / "tmp"
        self.home, self.private = folder / "home", [make_task(folder / "data", name) for name in competitions]
        self.temporary.mkdir()
        self.home.mkdir()
        command = [sys.executable, "-c", self.CODE, "--data-dir", str(folder / "data")]
        command += [word for name in competitions for word in ("--competition-id", name)]
        command += ["--log", str(self.log), "--ready-file", str(self.ready), *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.temporary), **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)
        self.line = self.process.stdout.readline()
        assert self.line, self.process.stderr.read()
        self.url = self.line.removeprefix("grading server: ").strip()
        self.verify: str | bool = True
        self.port = int(self.url.rpartition(":")[2])

    @property
    def front(self) -> int:
        """The process that holds the clients: the first that the server forked. (Its number may be high, and theirs low again.)"""
        return min((pid for pid in family(self.process.pid) if pid != self.process.pid), key=started)

    def judges(self) -> list[int]:
        """The judges, once those that knew less are gone and whoever announced the server too."""
        deadline = time.monotonic() + 10
        expected, before = None, None
        while (expected is None or expected != before) and time.monotonic() < deadline:
            before, expected = expected, sorted(set(family(self.process.pid)) - {self.process.pid, self.front})
            time.sleep(0.3)
        return expected

    def post(
        self, content: bytes, endpoint: str = "/validate", headers: dict | None = None, name: str = "s.csv", **form
    ):
        headers = {**AGENT, **(headers or {})}
        files = {"file": (name, content)}
        return requests.post(
            self.url + endpoint, files=files, data=form, headers=headers, timeout=20, verify=self.verify
        )

    def token(self, run: str, headers: dict = HOST):
        return requests.post(f"{self.url}/token", data={"run": run}, headers=headers, timeout=20, verify=self.verify)

    def raw(self, content: bytes, *, half_close: bool = True) -> bytes:
        """Send bytes as they are. Returns everything that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(content)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def calls(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("served"), "--max-upload-mb", "4", HAB_INSTANCE="mine", **TOKENS)
    yield server
    # whatever the tests of this module sent: no word, no traceback, no temporary file, nothing in the home folder
    log, temporary, home = server.log.read_text(), list(server.temporary.iterdir()), list(server.home.iterdir())
    server.process.terminate()
    said = server.process.communicate(timeout=10)[1]
    server.end()
    assert (temporary, home, said) == ([], [], "")
    assert "Traceback" not in log


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "--workers", "2", "--max-upload-mb", "64", competitions=("toy", "other"))
    yield server
    server.end()


def test_the_url_is_printed_and_the_port_written(server: Server) -> None:
    assert re.fullmatch(r"grading server: http://127\.0\.0\.1:\d+\n", server.line)
    assert server.ready.read_text() == f"{server.port}\n"
    answer = requests.get(f"{server.url}/health", timeout=5)
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "running", "competition": "toy", "competitions": ["toy"], "instance": "mine"},
    )
    assert server.log.stat().st_mode & 0o777 == 0o600


def invalid_files() -> list[bytes]:
    return [
        b"",
        b"\n",
        os.urandom(3000),
        b"\0" * 500,
        b"<html>not found</html>",
        b"id,target\n",
        csv(ANSWERS[1:], IDS[1:]),
        csv(ANSWERS + ["a"], IDS + ["120"]),
        csv(ANSWERS, ["000"] + IDS[:-1]),
        csv(ANSWERS, [str(int(identifier)) for identifier in IDS]),
        csv(ANSWERS).replace(b"target", b"label"),
        csv(["NaN", *ANSWERS[1:]]),
        csv(["1"] * 120),
        csv(ANSWERS)[:-10],
        csv(ANSWERS).decode().encode("utf-16"),
        csv(ANSWERS) * 2000,
    ]


def test_64_clients_get_no_wrong_verdict(server: Server) -> None:
    rng = random.Random(0)
    valid = [csv([rng.choice("abc") for _ in IDS]) for _ in range(20)]
    jobs = [(content, True) for content in valid * 16] + [(content, False) for content in invalid_files() * 20]
    rng.shuffle(jobs)
    before = len(server.calls())

    def ask(number: int) -> tuple[bool, int, str]:
        content, expected = jobs[number]
        headers = {"Authorization": f"Bearer {server.token(f'run-{number}').json()['token']}"}
        answer = server.post(content, headers=headers)
        return expected, answer.status_code, answer.json()["result"]

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(len(jobs))))
    wrong = [answer for answer in answers if answer[1] != 200 or (answer[2] == VALID) != answer[0]]
    assert wrong == []
    assert all(message == VALID or message.startswith(INVALID) for _, _, message in answers)
    # the log has each call once, with the verdict and the hash of just that upload
    made = [call for call in server.calls()[before:] if call["endpoint"] == "/validate"]
    calls = {call["run"]: call for call in made}
    assert len(calls) == len(made) == len(jobs) == 640
    for number, (content, expected) in enumerate(jobs):
        call = calls[f"run-{number}"]
        assert call["verdict"] == ("valid" if expected else "invalid")
        assert (call["sha256"], call["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))


def test_a_call_is_logged_without_a_score_unless_it_graded(server: Server) -> None:
    server.post(csv(ANSWERS), headers={**HOST, "X-Run-Id": 'toy_12 \u00e9"{},' + "x" * 200})
    server.post(csv(ANSWERS[::-1]), "/grade", HOST)
    server.post(csv(ANSWERS), "/grade")
    validated, graded, refused = server.calls()[-3:]
    assert set(validated) == set("time endpoint competition run verdict sha256 bytes remote status ms".split())
    assert (validated["endpoint"], validated["competition"], validated["verdict"]) == ("/validate", "toy", "valid")
    assert validated["run"].startswith("toy_12xxx") and len(validated["run"]) == 128
    assert validated["remote"] == "127.0.0.1"
    assert set(graded) == set(validated) | {"score"} and 0 < graded["score"] < 1
    assert (refused["verdict"], refused["status"], refused["run"]) == ("error", 403, None)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", graded["time"])


def test_a_runs_token_validates_only_and_names_its_run(server: Server) -> None:
    made = server.token("toy_12")
    assert (made.status_code, set(made.json())) == (200, {"token"})
    own = {"Authorization": f"Bearer {made.json()['token']}", "X-Run-Id": "another"}
    assert made.json()["token"] == server.token("toy_12").json()["token"]
    assert server.post(csv(ANSWERS), headers=own).json() == {"result": VALID}
    assert (server.calls()[-1]["run"], server.calls()[-1]["verdict"]) == ("toy_12", "valid")
    assert server.post(csv(ANSWERS), "/grade", own).status_code == 403
    assert server.token("toy_13", own).status_code == server.token("toy_13", AGENT).status_code == 403
    # what anybody can send is nobody's name
    server.post(csv(ANSWERS), headers={"X-Run-Id": "another"})
    assert server.calls()[-1]["run"] is None
    forged = made.json()["token"].replace("toy_12", "toy_13")
    for bad in (forged, "toy_12.", "toy_12", ".".join(made.json()["token"].split(".")[1:])):
        assert server.post(csv(ANSWERS), headers={"Authorization": f"Bearer {bad}"}).status_code == 401
    for run in ("", "a b", "é", "x" * 129, "a/b"):
        refused = server.token(run)
        assert refused.status_code == 400 and "in the form field `run`" in refused.json()["error"]
    assert made.json()["token"] not in server.log.read_text()


def test_runs_tokens_survive_the_server(server: Server) -> None:
    """They follow from the host's token, so any process, and one started later, knows them."""
    token = server.token("toy_12").json()["token"]
    again = Tokens("agents-token", "hosts-token")
    assert again.caller(f"Bearer {token}") == Caller(is_admin=False, run="toy_12")
    with pytest.raises(Rejected):
        Tokens("agents-token", "another").caller(f"Bearer {token}")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    return make_certificate(folder)


def make_certificate(folder: Path) -> Certificate:
    certificate, key = folder / "server.crt", folder / "server.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hab"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return Certificate(certificate, key)


def tls_options(certificate: Certificate) -> list[str]:
    return ["--tls-cert", str(certificate.certificate), "--tls-key", str(certificate.key)]


def test_https_with_a_pinned_certificate(tmp_path: Path, certificate: Certificate) -> None:
    server = Server(tmp_path, "--workers", "1", *tls_options(certificate), **TOKENS)
    try:
        assert server.url == f"https://127.0.0.1:{server.port}"
        server.verify = str(certificate.certificate)
        assert server.post(csv(ANSWERS)).json() == {"result": VALID}
        assert server.token("toy_1").status_code == 200
        server.verify = str(make_certificate(tmp_path).certificate)
        with pytest.raises(requests.exceptions.SSLError):
            server.post(csv(ANSWERS))
    finally:
        server.end()


def test_an_answer_is_no_identity(tmp_path: Path, certificate: Certificate) -> None:
    """A stranger on the port who answers /health, with another certificate or none, is not the server."""
    stranger = Server(tmp_path, *tls_options(make_certificate(tmp_path)), HAB_INSTANCE="mine", **TOKENS)
    try:

        def is_ready(pinned: Certificate | None, instance: str = "mine", competition: str = "toy") -> bool:
            tokens = Tokens(*TOKENS.values())
            return grading_server.is_ready("127.0.0.1", stranger.port, instance, pinned, tokens, [competition])

        assert not is_ready(certificate) and not is_ready(None)
        theirs = Certificate(tmp_path / "server.crt", tmp_path / "server.key")
        assert is_ready(theirs) and not is_ready(theirs, instance="other")
        # ready means that a bad upload is refused, by the grader of each competition
        assert not is_ready(theirs, competition="nobody")
    finally:
        stranger.end()


def test_agents_learn_no_score(server: Server) -> None:
    for content in (csv(ANSWERS), csv(["a"] * 120)):
        answer = server.post(content)
        assert (answer.json(), answer.status_code) == ({"result": VALID}, 200)
        assert server.post(content, "/grade").status_code == 403
        assert server.post(content, "/grade").json() == {"error": "this token may validate, but not grade"}
    sizes = {len(server.post(content).content) for content in (csv(ANSWERS), csv(["a"] * 120))}
    assert len(sizes) == 1


def test_the_host_gets_a_report(server: Server) -> None:
    report = server.post(csv(ANSWERS[:60] + ["x"] * 60), "/grade", HOST).json()
    assert (report["score"], report["total_score"], report["valid_submission"]) == (0.5, 0.5, True)
    assert (report["metric"], report["reference"]) == ("accuracy", {"baseline": 0.6})
    invalid = server.post(b"", "/grade", HOST)
    assert (invalid.status_code, invalid.json()["score"], invalid.json()["valid_submission"]) == (200, None, False)
    assert server.post(csv(ANSWERS), headers=HOST).json() == {"result": VALID}


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer agents-toke", "Bearer agents-tokenn", "Basic YTpi", "Bearer é"]
)
@pytest.mark.parametrize("endpoint", ["/validate", "/grade"])
def test_without_the_token_there_is_nothing(server: Server, endpoint: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    files = {"file": ("s.csv", csv(ANSWERS))}
    answer = requests.post(server.url + endpoint, files=files, headers=headers, timeout=10)
    assert answer.status_code == 401 and set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "/etc/passwd", "a" * 5000 + ".csv", "s.csv\0.txt", "é.csv", "x.exe", ".", "con"]
)
def test_the_name_of_the_file_means_nothing(server: Server, name: str) -> None:
    assert server.post(csv(ANSWERS), name=name).json() == {"result": VALID}
    assert server.post(b"nonsense", name=name).json()["result"].startswith(INVALID)


def test_wrong_requests_get_a_4xx_with_a_reason(server: Server) -> None:
    validate = f"{server.url}/validate"
    part = ("s.csv", csv(ANSWERS))
    cases = [
        (requests.post(validate, headers=AGENT), 400, "no file came with the request"),
        (requests.post(validate, headers=AGENT, data=csv(ANSWERS)), 400, "no file came with the request"),
        (requests.post(validate, headers=AGENT, json={"file": "x"}), 400, "no file came with the request"),
        (requests.post(validate, headers=AGENT, files={"upload": part}), 400, "no file came with the request"),
        (requests.post(validate, headers=AGENT, files={"file": ("", b"x")}), 400, "an empty file name"),
        (requests.post(validate, headers=AGENT, data={"file": "id,target"}), 400, "holds text, not a file"),
        (requests.post(validate, headers=AGENT, files=[("file", part), ("file", part)]), 400, "exactly one file"),
        (requests.post(validate, headers=AGENT, files=[("file", part)] * 9), 413, "too many parts"),
        (server.post(csv(ANSWERS), competition="other"), 404, "'other' is not served here; served: toy"),
        (server.post(csv(ANSWERS), competition="../toy"), 404, "is not served here"),
        (server.post(csv(ANSWERS), competition="x" * 10**6), 413, "too much text"),
        (server.post(csv(ANSWERS), competition="x" * 2 * 10**6), 413, "too much text"),
        (requests.get(validate, headers=AGENT), 405, "method not allowed"),
        (requests.post(f"{server.url}/health"), 405, "method not allowed"),
        (requests.get(f"{server.url}/nothing"), 404, "not found"),
        (requests.get(f"{server.url}/static/../grade"), 405, "method not allowed"),
    ]
    for answer, status, words in cases:
        assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
        assert words in answer.json()["error"]


HEAD = b"POST /validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer agents-token\r\nConnection: close\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="s.csv"\r\n\r\n'


def request(body: bytes, kind: bytes = b"multipart/form-data; boundary=b", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return HEAD + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, size) + body


def chunked(*chunks: bytes) -> bytes:
    head = HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


MALFORMED = {
    "no boundary": request(PART + b"x\r\n--b--\r\n", b"multipart/form-data"),
    "another boundary": request(PART + b"x\r\n--b--\r\n", b"multipart/form-data; boundary=c"),
    "boundary not ascii": request(PART + b"x\r\n--b--\r\n", b"multipart/form-data; boundary=\xff\xfe"),
    "huge boundary": request(PART + b"x\r\n--b--\r\n", b"multipart/form-data; boundary=" + b"b" * 3000),
    "a charset that is no text's": request(PART + b"x\r\n--b--\r\n", b"multipart/form-data; boundary=b; charset=hex"),
    "text that is none": request(b'--b\r\nContent-Disposition: form-data; name="competition"\r\n\r\n\xff\r\n--b--\r\n'),
    "no last boundary": request(PART + b"id,target\n000,a\n"),
    "only the last boundary": request(b"--b--\r\n"),
    "nothing": request(b""),
    "garbage": request(os.urandom(2000)),
    "no headers of the part": request(b"--b\r\n\r\nx\r\n--b--\r\n"),
    "endless headers of the part": request(b"--b\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\nx\r\n--b--\r\n"),
    "headers without end": request(b"--b\r\nContent-Disposition: form-data; name="),
    "broken off": request(PART + b"id,tar", length=5000),
    "empty file name": request(
        b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\nx\r\n--b--\r\n'
    ),
    "chunk broken off": chunked(PART, b"id,target\n"),
    "chunk without a size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad trailer": chunked(PART + b"x\r\n--b--\r\n") + b"0\r\nbad trailer\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    "negative length": HEAD + b"Content-Length: -5\r\n\r\n12345",
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "endless header": HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_get_a_4xx(server: Server, name: str) -> None:
    answer = server.raw(MALFORMED[name])
    # a client that broke off may get no answer at all
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer) or (answer == b"" and "broken" in name), answer[:300]
    assert b"Traceback" not in answer and b"site-packages" not in answer
    assert server.post(csv(ANSWERS)).json() == {"result": VALID}


def test_a_chunked_upload_is_judged(server: Server) -> None:
    content = csv(ANSWERS)
    good = chunked(PART, content[:100], content[100:], b"\r\n--b--\r\n") + b"0\r\n\r\n"
    assert VALID.encode() in server.raw(good)


def test_too_large_an_upload_gets_a_413(server: Server) -> None:
    answer = server.post(b"x" * (5 * 2**20))
    assert answer.status_code == 413 and answer.json()["error"].startswith("the upload is larger than 4 MB")
    big = server.raw(chunked(PART, *[b"x" * 2**18] * 20) + b"0\r\n\r\n")
    assert big.startswith(b"HTTP/1.1 413 ") and b"larger than 4 MB" in big
    assert "far more than the test set's rows need" in server.post(b"x" * (3 * 2**20)).json()["result"]


def test_a_gigabyte_is_refused_before_it_comes(server: Server) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request(PART, length=2**30))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        assert time.monotonic() - started < 1
        assert server.post(csv(ANSWERS)).json() == {"result": VALID}
        connection.settimeout(10)
        while connection.recv(65536):  # and the connection ends, whatever the client does
            pass
    assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    ("token", "words"), [(b"agents-token", b"larger than 4 MB"), (b"no", b"a valid token is needed")]
)
def test_a_client_that_sends_on_still_sees_why_it_is_refused(server: Server, token: bytes, words: bytes) -> None:
    content = request(PART + b"x" * 2**26).replace(b"agents-token", token)
    assert words in server.raw(content, half_close=False)


def test_several_competitions_answers_read_once_and_no_token_on_loopback(own_server: Server) -> None:
    """Also: kill -9 of a judge, and of everything's parent with clients that stall."""
    server = own_server
    for private in server.private:
        for path in private.iterdir():
            path.unlink()
    for _ in range(20):  # all workers
        assert server.post(csv(ANSWERS), competition="other", headers={}).json() == {"result": VALID}
        assert server.post(csv(ANSWERS), "/grade", competition="toy").json()["score"] == 1
    asked = server.post(csv(ANSWERS))
    assert (asked.status_code, "served here: toy, other" in asked.text) == (400, True)

    # larger than what is kept in memory
    large = csv(ANSWERS) + b"\n" * 2**20
    assert server.post(large, competition="toy").json() == {"result": VALID}
    assert list(server.temporary.iterdir()) == []

    judges = server.judges()
    assert len(judges) == 3  # one is left to small uploads
    for judge in judges:
        os.kill(judge, signal.SIGKILL)
    for _ in range(10):
        assert server.post(csv(ANSWERS), competition="toy").json() == {"result": VALID}

    stalled = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    for connection in stalled:
        connection.sendall(request(PART, length=5000))
    large_and_stalled = socket.create_connection(("127.0.0.1", server.port))
    large_and_stalled.sendall(request(PART + b"x" * 2**20, length=2**22))
    time.sleep(0.5)
    server.process.kill()
    server.process.wait()
    assert gone(server.process.pid, 8)
    assert list(server.temporary.iterdir()) == []
    for connection in (*stalled, large_and_stalled):
        connection.close()


class ImpatientServer(Server):
    CODE = (
        "import helpers.serving.http_front as front, helpers.serving.grading_server as server; "
        "front.SECONDS_FOR_HEAD = front.SECONDS_FOR_BODY = 2; server.main()"
    )


STRANGERS = {
    "idle": b"",
    "half a head": HEAD[:40],
    "a byte now and then": HEAD,
    "a handshake that stops": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("is_https", [False, True], ids=["http", "https"])
def test_strangers_cost_a_socket_and_no_thread(tmp_path: Path, certificate: Certificate, is_https: bool) -> None:
    options = tls_options(certificate) if is_https else []
    server = ImpatientServer(tmp_path, "--workers", "1", *options, **TOKENS)
    server.verify = str(certificate.certificate)
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            strangers = []
            for kind, content in list(STRANGERS.items()) * 50:
                stranger = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
                if is_https and content in (HEAD, HEAD[:40]):
                    stranger = stack.enter_context(certificate.client_context().wrap_socket(stranger))
                stranger.sendall(content if kind != "a byte now and then" else content[:1])
                strangers.append((kind, stranger))
            for number in range(8):
                asked = time.monotonic()
                assert server.post(csv(ANSWERS)).json() == {"result": VALID}
                assert time.monotonic() - asked < 2
                for kind, stranger in strangers:
                    if kind == "a byte now and then":
                        with contextlib.suppress(OSError):
                            stranger.sendall(HEAD[number + 1 : number + 2])
            assert "Threads:\t1\n" in Path(f"/proc/{server.front}/status").read_text()
            for kind, stranger in strangers:
                with contextlib.suppress(OSError):
                    answer = b"".join(iter(lambda stranger=stranger: stranger.recv(65536), b""))
                    assert answer == b"" or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ", b"\x15")), kind
        # who was sent away was sent away by the deadline
        assert time.monotonic() - began < 15
        assert server.post(csv(ANSWERS)).json() == {"result": VALID}
        server.process.terminate()
        assert server.process.communicate(timeout=10)[1] == ""
    finally:
        server.end()


def test_a_run_that_sends_too_much_at_once_is_told_and_the_others_notice_nothing(server: Server) -> None:
    token = server.token("greedy").json()["token"].encode()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stalled = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            stalled.sendall(request(PART, length=2**21).replace(b"agents-token", token))
        answers = {b""}
        deadline = time.monotonic() + 10
        while not any(b" 429 " in answer for answer in answers) and time.monotonic() < deadline:
            answers = {server.raw(request(PART, length=2**21).replace(b"agents-token", token))}
        assert any(b"8 uploads of this token wait for their answers already" in answer for answer in answers)
        greedy = {"Authorization": f"Bearer {token.decode()}"}
        for headers in (AGENT, HOST, greedy):  # a small one is none of them
            assert server.post(csv(ANSWERS), headers=headers).json() == {"result": VALID}


def test_a_front_that_dies_ends_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, "--workers", "1")
    try:
        os.kill(server.front, signal.SIGKILL)
        assert server.process.communicate(timeout=10)[1] == "grading_server: the front died (code -9)\n"
        assert server.process.returncode == 3 and gone(server.process.pid, 5)
    finally:
        server.end()


def test_an_end_with_an_upload_unjudged_is_no_error(tmp_path: Path) -> None:
    server = Server(tmp_path, "--workers", "1", **TOKENS)
    try:
        stopped: set[int] = set()
        while fresh := set(server.judges()) - stopped:
            for judge in fresh:
                with contextlib.suppress(ProcessLookupError):  # who announced the server, on its way out
                    os.kill(judge, signal.SIGSTOP)
            stopped |= fresh
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(request(PART + csv(ANSWERS) + b"\r\n--b--\r\n"))
            # the front reads what came first first
            assert requests.get(f"{server.url}/health", timeout=20).status_code == 200
            server.process.terminate()
            assert server.process.communicate(timeout=20)[1] == ""
    finally:
        server.end()


def test_a_stalled_upload_is_told_and_ends(tmp_path: Path) -> None:
    server = ImpatientServer(tmp_path, "--workers", "1", "--max-upload-mb", "1")
    try:
        halves = [request(PART, length=5000)] * 20
        with ThreadPoolExecutor(len(halves)) as pool:
            answers = list(pool.map(lambda half: server.raw(half, half_close=False), halves))
        assert all(b"the upload broke off before its end: it was not there after 2 s" in answer for answer in answers)
        assert server.post(csv(ANSWERS)).json() == {"result": VALID}
    finally:
        server.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_of_it(tmp_path: Path, number: int) -> None:
    server = Server(tmp_path, "--workers", "3")
    try:
        assert len(server.judges()) == 4
        with contextlib.ExitStack() as stack:
            if number == signal.SIGTERM:
                stalled = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                stalled.sendall(request(PART, length=5000))
                time.sleep(0.3)
            started = time.monotonic()
            server.process.send_signal(number)
            assert server.process.wait(timeout=10) == 0
            assert gone(server.process.pid, 1)
            assert time.monotonic() - started < 5
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        assert server.process.stderr.read() == ""
    finally:
        server.end()


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers.serving.grading_server", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADING_")} | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


def test_what_keeps_it_from_starting_is_one_clear_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    private = make_task(data, "toy")
    make_task(data, "broken")
    (data / "broken" / "prepared" / "private" / "grading.json").write_text("{")
    base = ["--competition-id", "toy", "--data-dir", data]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            ((*base, "--port", port), {}, f"port {port} of 127.0.0.1 is taken (--port): choose another, or 0"),
            ((*base, "--host", "192.0.2.1"), TOKENS, "can't listen on 192.0.2.1 port 0 (--host, --port): "),
            ((*base, "--host", "nowhere.invalid"), {}, "the host 'nowhere.invalid' is not known (--host)"),
            ((*base, "--host", "0.0.0.0"), {}, "0.0.0.0 is not a loopback address (--host), and without tokens"),
            ((*base, "--host", "::"), {}, ":: is not a loopback address (--host), and without tokens"),
            ((*base, "--log", "/proc/no/log"), {}, "can't write the log /proc/no/log (--log)"),
            ((*base, "--ready-file", "/proc/no/port"), {}, "can't write /proc/no/port (--ready-file)"),
            (base, {"GRADING_TOKEN": "x"}, "GRADING_TOKEN is set and GRADING_ADMIN_TOKEN is not: set both, or neither"),
            (base, {"GRADING_ADMIN_TOKEN": "x"}, "GRADING_ADMIN_TOKEN is set and GRADING_TOKEN is not"),
            (base, {"GRADING_ADMIN_TOKEN": "x", "GRADING_TOKEN": "x"}, "GRADING_ADMIN_TOKEN are the same"),
            ((*base, "--tls-cert", "/x"), {}, "--tls-cert and --tls-key belong together: give both, or neither"),
            ((*base, "--tls-key", "/x"), {}, "--tls-cert and --tls-key belong together"),
            (
                (*base, "--tls-cert", "/no/cert", "--tls-key", "/no/key"),
                {},
                "can't serve with /no/cert (--tls-cert) and /no/key (--tls-key): ",
            ),
            (("--competition-id", "nobody", "--data-dir", data), {}, "prepared there: broken, toy"),
            (("--competition-id", "broken", "--data-dir", data), {}, "grading.json is broken"),
            (("--competition-id", "toy", "--data-dir", data / "no"), {}, "doesn't exist (--data-dir)"),
            ((*base, "--competition-id", "nobody", "--check"), {}, "competition 'nobody' is not prepared"),
        ]
        for arguments, variables, words in cases:
            result = run(*arguments, **variables)
            assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
            assert result.stderr.startswith("grading_server: ") and words in result.stderr
    (private / "answers.csv").unlink()
    assert "can't read" in run(*base, "--check").stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("--workers", "0"), ("--max-upload-mb", "-1"), ("--port", "x"), ("--port", "65536"), ("--nonsense",)],
)
def test_wrong_options_are_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = run("--data-dir", "/", *(("--competition-id", "toy") if arguments else ()), *arguments)
    assert result.returncode == 2 and "usage:" in result.stderr and "Traceback" not in result.stderr


def test_check_says_ready_and_help_is_quick(tmp_path: Path) -> None:
    make_task(tmp_path, "toy")
    result = run("--competition-id", "toy", "--data-dir", tmp_path, "--check")
    assert (result.returncode, result.stdout) == (0, "grading_server: ready to serve toy\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert "--competition-id" in run("--help").stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 0.5


class Stub:
    """A grader that does what a test wants."""

    def __init__(self, does) -> None:
        self.does = does

    def validate(self, source):
        return self.does(source)

    def grade(self, source):
        return self.does(source)


def judged(does, endpoint: str) -> dict:
    judge = Judge({"toy": Stub(does)}, Tokens(None, None), 2**20, Bounds(megabytes=100))
    with tempfile.TemporaryFile() as upload:
        upload.write(PART + b"x\r\n--b--\r\n")
        return judge.answer(endpoint, "multipart/form-data; boundary=b", upload)


@pytest.mark.parametrize("error", [RuntimeError("secret answer 42"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("endpoint", ["/validate", "/grade"])
def test_an_unexpected_error_is_a_500_without_details(endpoint: str, error: Exception) -> None:
    def fail(_source):
        raise error

    reply = judged(fail, endpoint)
    assert (reply["status"], reply["answer"]) == (500, {"error": "internal error, see the server's log"})
    assert reply["entry"]["verdict"] == "error" and type(error).__name__ in reply["entry"]["traceback"]


def test_want_of_memory_is_the_submissions_fault() -> None:
    def fail(_source):
        raise MemoryError

    words = "judging it needs more than 100 MB of memory (limits.judgement_mb of the site)."
    assert judged(fail, "/validate")["answer"] == {"result": INVALID + words}
    report = judged(fail, "/grade")
    assert (report["answer"]["valid_submission"], report["answer"]["note"]) == (False, INVALID + words)
    assert (report["entry"]["verdict"], report["entry"]["stopped"]) == ("invalid", words)


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, "--log", "/dev/full")
    try:
        assert server.post(csv(ANSWERS)).json() == {"result": VALID}
    finally:
        server.end()


MLEBENCH = {
    "utils": "import functools, pandas\nread_csv = functools.partial(pandas.read_csv, float_precision='round_trip')\n"
    "load_answers = read_csv\n",
    "registry": """
import os, time
from pathlib import Path
from types import SimpleNamespace
import numpy

def grade(submission, answers):
    if len(submission) != len(answers):
        raise ValueError(f"{len(submission)} rows")
    does = str(submission["target"].iloc[0])
    while does == "hangs":
        pass
    if does == "eats":
        numpy.ones(2**40)
    if does == "dies":
        os.abort()
    if does == "nan":
        return float("nan")
    return float((submission["target"] == answers["target"]).mean())

class Registry:
    def __init__(self, data=None):
        self.data = data
    def set_data_dir(self, data):
        return Registry(data)
    def get_competition(self, name):
        prepared = Path(self.data, name, "prepared")
        return SimpleNamespace(
            answers=prepared / "private/answers.csv", gold_submission=prepared / "private/answers.csv",
            sample_submission=prepared / "public/sample_submission.csv", leaderboard=Path("/nowhere"),
            grader=SimpleNamespace(grade_fn=grade, is_lower_better=lambda board: board["score"]),
        )
registry = Registry()
""",
}


@pytest.fixture(scope="module")
def pandas_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves a competition of mle-bench, by names like the real ones, whose grader can misbehave."""
    folder = tmp_path_factory.mktemp("pandas")
    for name, source in MLEBENCH.items():
        path = folder / "package" / "mlebench" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    prepared = folder / "data" / "theirs" / "prepared"
    for half, name, values in (("private", "answers", ANSWERS), ("public", "sample_submission", ["a"] * len(IDS))):
        (prepared / half).mkdir(parents=True)
        (prepared / half / f"{name}.csv").write_bytes(csv(values))
    options = ["--competition-id", "theirs", "--workers", "2", "--judgement-seconds", "2", "--judgement-mb", "500"]
    server = Server(folder, *options, PYTHONPATH=str(folder / "package"), **TOKENS)
    yield server
    server.process.terminate()
    said = server.process.communicate(timeout=10)[1]
    server.end()
    assert said == ""


def misbehaving(what: str) -> bytes:
    return csv([what, *ANSWERS[1:]])


def test_20_mb_of_one_line_hold_nobody_up(pandas_server: Server) -> None:
    line = b"a," * 10_000_000 + b"a\n"
    with ThreadPoolExecutor(8) as pool:
        hostile = [pool.submit(pandas_server.post, line, competition="theirs") for _ in range(4)]
        while not all(upload.done() for upload in hostile):
            asked = time.monotonic()
            assert pandas_server.post(csv(ANSWERS), competition="theirs").json() == {"result": VALID}
            assert time.monotonic() - asked < 10  # this very process encodes 80 MB; by pandas it would be minutes
    for upload in hostile:
        said = upload.result().json()["result"]
        assert said.startswith(f"{INVALID}It has a row of ") and said.endswith(
            " or more columns, at most 104 are read."
        )
    small = pandas_server.post(b"a," * 50_000 + b"a\n", "/grade", HOST, competition="theirs").json()
    assert (small["valid_submission"], small["note"].split("; ")[-1]) == (
        False,
        "It has a row of 50001 or more columns, at most 104 are read.",
    )


def test_a_judgement_without_end_is_ended_and_the_others_notice_nothing(pandas_server: Server) -> None:
    words = "judging it took longer than 2 s (limits.judgement_seconds of the site)."
    run = {"Authorization": f"Bearer {pandas_server.token('hostile').json()['token']}"}
    with ThreadPoolExecutor(8) as pool:
        hostile = [pool.submit(pandas_server.post, misbehaving("hangs"), "/validate", run, competition="theirs")] * 2
        hostile.append(pool.submit(pandas_server.post, misbehaving("hangs"), "/grade", HOST, competition="theirs"))
        while not all(upload.done() for upload in hostile):
            asked = time.monotonic()
            assert pandas_server.post(csv(ANSWERS), competition="toy").json() == {"result": VALID}
            assert time.monotonic() - asked < 2
    assert hostile[0].result().json() == {"result": INVALID + words}
    report = hostile[-1].result().json()
    assert (report["competition_id"], report["valid_submission"], report["score"]) == ("theirs", False, None)
    assert report["note"] == INVALID + words and report["submission_exists"] is True
    stopped = [call for call in pandas_server.calls() if call.get("stopped") == words]
    assert {(call["verdict"], call["competition"], call["bytes"]) for call in stopped} == {
        ("invalid", "theirs", len(misbehaving("hangs")))
    }
    assert "hostile" in {call["run"] for call in stopped}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("eats", "judging it needs more than 500 MB of memory (limits.judgement_mb of the site)."),
        ("dies", "judging it broke down, twice; if it was memory, the limit is 500 MB (limits.judgement_mb)."),
    ],
)
def test_a_judge_that_does_not_survive_says_why(pandas_server: Server, what: str, words: str) -> None:
    assert pandas_server.post(misbehaving(what), competition="theirs").json() == {"result": INVALID + words}
    assert pandas_server.post(csv(ANSWERS), competition="theirs").json() == {"result": VALID}


def test_a_score_that_is_no_number_is_null_with_a_note(pandas_server: Server) -> None:
    answer = pandas_server.post(misbehaving("nan"), "/grade", HOST, competition="theirs")
    report = json.loads(answer.text, parse_constant=pytest.fail)
    assert (report["score"], report["total_score"], report["valid_submission"]) == (None, None, True)
    assert "the score is nan: the metric has no finite value for this submission" in report["note"]
    assert report["is_lower_better"] is False  # the perfect submission scores more than the sample
    assert report["gold_medal"] is report["any_medal"] is report["above_median"] is None


def test_tokens_are_both_or_none() -> None:
    assert grading_server.read_tokens({}) == (None, None)
    assert grading_server.read_tokens({"GRADING_TOKEN": " ", "GRADING_ADMIN_TOKEN": ""}) == (None, None)
    assert grading_server.read_tokens({"GRADING_TOKEN": "a\n", "GRADING_ADMIN_TOKEN": "b"}) == ("a", "b")
    with pytest.raises(ServerError):
        grading_server.read_tokens({"GRADING_TOKEN": "a"})
