"""What the agents' tests share: a small task, the folders and variables of an agent, and stand-ins for the services."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AGENTS = ROOT / "templates" / "agents"
# what an agent that asks no model has used
COUNTS = ("requests", "answers", "rate_limited", "server_errors", "prompt_tokens", "completion_tokens")
USAGE = {"steps": 1, **dict.fromkeys(COUNTS, 0), "cut_short": None}
AIDE_PYTHON = Path(os.environ.get("HAB_AIDE_PYTHON") or ROOT / ".venv-aide" / "bin" / "python")


def make_task(folder: Path) -> Path:
    """A public half with 150 rows, two classes, numbers, texts and gaps; the classes are spelled True and False."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(250, 4)), columns=["a", "b", "c", "d"])
    frame.insert(0, "Id", [f"{n:04d}" for n in range(250)])
    frame["Home"] = random.choice(["Earth", "Mars", "Europa"], 250)
    # an interaction, so that trees beat a linear model
    noise = random.normal(scale=0.3, size=250)
    frame["Out"] = (frame["a"] * frame["b"] + (frame["Home"] == "Mars") + noise) > 0
    frame.loc[random.integers(0, 250, 40), "c"] = np.nan
    frame.loc[random.integers(0, 250, 20), "Home"] = np.nan
    folder.mkdir(parents=True)
    frame[:150].to_csv(folder / "train.csv", index=False)
    frame[150:].drop(columns="Out").to_csv(folder / "test.csv", index=False)
    frame[150:][["Id"]].assign(Out=False).to_csv(folder / "sample_submission.csv", index=False)
    (folder / "description.md").write_text("# Test task\nPredict Out. Scored by accuracy.\n")
    return folder


def lay_out(agent: Path, folder: Path) -> Path:
    """An agent's files as run.sh lays them into its container: over those that all agents have."""
    for source in (AGENTS / "common", agent):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class AgentWorld:
    """An agent's folders and variables as the host makes them, and its process."""

    def __init__(self, base: Path, agent: Path, data: Path, **variables: str):
        self.base, self.data = base, data
        self.folder = {name: base / name.lower() for name in ("SUBMISSION", "LOGS", "CODE", "WORKSPACES", "AGENT")}
        for path in self.folder.values():
            path.mkdir(parents=True)
        lay_out(agent, self.folder["AGENT"])
        self.endpoints_file = base / "endpoints" / "env"
        self.endpoints_file.parent.mkdir(mode=0o700)
        self.mark = uuid.uuid4().hex
        self.variables = {f"{name}_DIR": str(path) for name, path in self.folder.items()} | {
            "DATA_DIR": str(data),
            "ENDPOINTS_FILE": str(self.endpoints_file),
            "COMPETITION_ID": "test-task",
            "TIME_LIMIT_SECS": "60",
            "STEP_LIMIT": "3",
            "SEED": "7",
            "HAB_TEST_MARK": self.mark,
            "PATH": f"{AIDE_PYTHON.parent}:{os.environ['PATH']}",
            "HOME": str(base),
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        self.process: subprocess.Popen | None = None

    def publish(self, seconds: float = 60, **endpoints: str) -> None:
        """Put ENDPOINTS_FILE in place, with a deadline so many seconds from now."""
        endpoints["AGENT_DEADLINE"] = str(time.time() + seconds)
        lines = [f"{name}='{value}'\n".replace("''", "''") for name, value in endpoints.items()]
        new = self.endpoints_file.with_name("new")
        new.write_text("".join(lines))
        new.chmod(0o600)
        os.replace(new, self.endpoints_file)

    def start(self) -> subprocess.Popen:
        self.process = subprocess.Popen(
            ["bash", self.folder["AGENT"] / "start.sh"],
            cwd=self.folder["WORKSPACES"],
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.process

    def finish(self, timeout: float = 40) -> tuple[int, str, str]:
        """Exit code, stdout and stderr; the agent has to end by itself."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def leftovers(self) -> dict[int, str]:
        """Processes that come from this agent, whatever session or parent they have now: id and command."""
        found = {}
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            try:
                if self.mark.encode() in (place / "environ").read_bytes():
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def clean_up(self) -> None:
        for pid in self.leftovers():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        if self.process:
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()

    def logged(self, name: str):
        return json.loads((self.folder["LOGS"] / name).read_text())

    @property
    def submission(self) -> Path:
        return self.folder["SUBMISSION"] / "submission.csv"


def wait_for(condition, seconds: float = 20, what: str = "condition"):
    """The first true value of `condition()`."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} not reached in {seconds} s")


class Certificate:
    """A self-signed certificate for one host, made as a job of a server makes its own: paths of it and of its key."""

    def __init__(self, folder: Path, name: str, host: str = "IP:127.0.0.1"):
        self.path, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        command = (
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -addext"
        )
        subprocess.run(
            [*command.split(), f"subjectAltName={host}", "-keyout", self.key, "-out", self.path],
            check=True,
            stderr=subprocess.DEVNULL,
        )


class Service:
    """An HTTP server on a free port of loopback; subclasses answer in `answer` and find all requests in `calls`."""

    def __init__(self, tls: Certificate | None = None):
        self.calls: list[dict] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else self.read_chunks()
                call = {
                    "path": self.path,
                    "token": self.headers.get("Authorization"),
                    "body": body,
                    "time": time.time(),
                }
                service.calls.append(call)
                status, answer, *headers = service.answer(call)
                text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                for name, value in headers[0].items() if headers else ():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def read_chunks(self):
                body = b""
                while size := int(self.rfile.readline() or b"0", 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                return body

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # clients are killed in mid-request
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"
        self.tls = tls
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.path, tls.key)
            # hands are shaken in the thread of a connection
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.ended = threading.Event()
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, call: dict) -> tuple[int, dict | bytes]:
        raise NotImplementedError

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


class Grading(Service):
    """A grading server: an upload is invalid when its text has INVALID in it; nobody may grade."""

    token = "grading-token"

    @property
    def endpoints(self) -> dict[str, str]:
        certificate = {"GRADING_CA_FILE": str(self.tls.path)} if self.tls else {}
        return {"GRADING_SERVER": self.url, "GRADING_TOKEN": self.token} | certificate

    def answer(self, call):
        if call["token"] != f"Bearer {self.token}":
            return 401, {"error": "no token"}
        if call["path"] == "/grade":
            return 403, {"error": "not with this token"}
        if call["path"] != "/validate":
            return 404, {"error": "no such page"}
        if b"INVALID" in call["body"]:
            return 200, {"result": 'Submission invalid! Column "x" is\nnot there.'}
        return 200, {"result": "Submission is valid."}


class Model(Service):
    """A language model that says what the test has prepared.

    `code` and `reviews` are lists of answers, one for each request; the last goes on for ever. An answer is a text (the
    content), a dict (arguments of the tool call), a number (HTTP status), status and body, with headers or without, "hang" (never), or
    a function of the prompt that returns one of these. By default reviews read the validation score in the prompt.
    """

    def __init__(self, name="gpt-fake", token="model-token", code=(), reviews=None, tls=None):
        self.name, self.token = name, token
        self.code, self.reviews = list(code), list(reviews or [honest_review])
        super().__init__(tls)

    def endpoints(self, role: str) -> dict[str, str]:
        values = {"MODEL": self.name, "BASE_URL": f"{self.url}/v1", "API_KEY": self.token}
        if self.tls:
            values["CA_FILE"] = str(self.tls.path)
        return {f"AGENT_{role}_{name}": value for name, value in values.items()}

    def answer(self, call):
        body = json.loads(call["body"])
        call["json"] = body
        if call["token"] != f"Bearer {self.token}":
            return 401, {"error": {"message": f"wrong key {call['token']}"}}
        if body["model"] != self.name or call["path"] != "/v1/chat/completions":
            return 404, {"error": {"message": "no such model"}}
        is_review = body.get("tools") or "Answer with one JSON object" in body["messages"][0]["content"]
        script = self.reviews if is_review else self.code
        said = script.pop(0) if len(script) > 1 else script[0]
        if callable(said):
            said = said(body["messages"][0]["content"])
        if said == "hang":
            self.ended.wait(60)
            return 500, {}
        if isinstance(said, int):
            return said, {"error": {"message": f"status {said}"}}
        if isinstance(said, tuple):
            return said
        if isinstance(said, dict):
            said = json.dumps(said)
        message = {"role": "assistant", "content": said}
        if body.get("tools") and said is not None and not said.startswith("text:"):
            function = {"name": "submit_review", "arguments": said}
            message |= {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        made = {"id": "1", "object": "chat.completion", "created": 1, "model": self.name}
        return 200, made | {"choices": [choice], "usage": usage}


def honest_review(prompt: str) -> dict:
    scores = re.findall(r"Validation score: (\S+)", prompt.rpartition("# Execution output")[2])
    metric = float(scores[-1]) if scores else None
    return {"is_bug": metric is None, "summary": "read", "metric": metric, "lower_is_better": False}


def review(metric, lower=False, bug=False) -> dict:
    return {"is_bug": bug, "summary": "fine", "metric": metric, "lower_is_better": lower}


def program(score: float, submission: str | None = None, extra: str = "") -> str:
    """A model's answer with a program that writes that submission and prints that score; `extra` comes first."""
    code = f"{extra}\n"
    if submission is not None:
        code += f"open('working/submission.csv', 'w').write({submission!r})\n"
    return f"A plan for {score}.\n\n```python\n{code}print('Validation score: {score}')\n```\n"


@contextmanager
def replay_server(log: Path, *arguments: str, token: str = "replay-token"):
    """The real replay server; yields its URL."""
    ready = log.with_suffix(".port")
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.serving.replay_server", "--ready-file", ready, "--log", log, *arguments],
        cwd=ROOT,
        env=os.environ | {"MODEL_TOKEN": token},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(ready.exists, 10, "replay server")
        yield f"http://127.0.0.1:{ready.read_text().strip()}"
    finally:
        process.terminate()
        process.wait(10)
