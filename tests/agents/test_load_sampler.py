"""What stands beside a model server: what it notes of its load and its GPUs, whatever becomes of the server, the disk, or the job."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import types

import pytest
from agent_support import ROOT, wait_for

from helpers.runs import load
from helpers.serving import load_sampler
from helpers.serving.load_sampler import COLUMNS, Nvml, Rocm, Sampler, meter, mine, values

# a part of what vLLM 0.32 prints; the names: https://docs.vllm.ai/en/stable/usage/metrics/
VLLM = """# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{{generation="0"}} 12345.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="tiny {{x}} y"}} {running}
vllm:num_requests_running{{engine="1",model_name="tiny {{x}} y"}} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="tiny"}} {waiting}
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{{engine="0",model_name="tiny",reason="capacity"}} 400.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{engine="0",model_name="tiny"}} {prompt}
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{{engine="0",model_name="tiny"}} 1.7e+09
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="tiny"}} {generation}
vllm:iteration_tokens_total_bucket{{engine="0",le="1.0",model_name="tiny"}} 3.0
"""
# runs the module with other limits, which are its own names
RUN = """
import sys
from helpers.serving import load_sampler
for word in sys.argv[1].split():
    name, value = word.split("=")
    setattr(load_sampler, name, float(value))
sys.exit(load_sampler.main(sys.argv[2:]))
"""


def answer(text, status="200 OK"):
    body = text.encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body


def metrics(running=3.0, waiting=2.0, prompt=1000.0, generation=1.5e6):
    return answer(VLLM.format(running=running, waiting=waiting, prompt=prompt, generation=generation))


class Server:
    """An HTTPS server of loopback that answers with `said`: bytes, or "hang", "trickle"; None closes at once."""

    def __init__(self, certificate):
        self.certificate, self.said, self.asked = certificate, metrics(), []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.path, certificate.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ended = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.take, args=(self.listener.accept()[0],), daemon=True).start()

    def take(self, client):
        with contextlib.suppress(OSError), client, self.context.wrap_socket(client, server_side=True) as stream:
            self.asked.append(stream.recv(65536))
            if self.said == "hang":
                self.ended.wait(60)
            elif self.said == "trickle":
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not self.ended.wait(0.02):
                    stream.sendall(b"#")
            elif self.said:
                stream.sendall(self.said)

    def close(self):
        self.ended.set()
        with contextlib.suppress(OSError):  # closed before
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def server(certificates):
    server = Server(certificates["ours"])
    yield server
    server.close()


@pytest.fixture
def start(tmp_path, server):
    """Starts samplers, and ends them."""
    started = []

    def start(*options, output=tmp_path / "x.load.csv", cert=server.certificate.path, changes="", run=(), **popen):
        run = run or (sys.executable, "-c", RUN, changes)
        command = [*run, "--url", server.url, "--cert", str(cert), "--output", str(output), "--interval", "0.05"]
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=os.environ | {"MODEL_TOKEN": "secret"},
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        process.output = output
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def rows(process):
    """The samples in its file, each a list of texts without the time."""
    text = process.output.read_text() if process.output.exists() else ""
    return [line.split(",")[1:] for line in text.splitlines()[1:]]


def ended(process):
    process.kill()
    return process.communicate()[1]


# ---- what is read


def test_what_vllm_prints_is_summed_over_its_engines():
    text = VLLM.format(running=3.0, waiting=2.0, prompt=1000.0, generation=1.5e6)
    assert values(text) == [4, 2, 1000, 1.5e6]
    assert values("vllm:num_requests_running 2\nvllm:num_requests_waiting{} 1 1700000000000\n") == [2, 1, None, None]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "many"])
def test_what_is_no_number_is_not_known(value):
    text = 'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} '
    assert values(f"{text}2")[0] == 3 and values(f"{text}{value}")[0] is None


@pytest.mark.parametrize(
    "text", ["", "{}", "\0" * 100, "vllm:num_requests_running{" * 1000, "# vllm:num_requests_running 1"]
)
def test_garbage_has_no_values(text):
    assert values(text) == [None] * 4


# ---- the file


def test_started_as_a_file_it_notes_the_load_and_asks_with_the_token(start, server):
    process = start(run=(sys.executable, "-I", str(ROOT / "helpers/serving/load_sampler.py")))
    wait_for(lambda: len(rows(process)) >= 3, what="three samples")
    lines = process.output.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS) and lines[1].endswith("Z,4,2,1000,1500000,")
    assert (
        server.asked[0].startswith(b"GET /metrics HTTP/1.1\r\n") and b"Authorization: Bearer secret" in server.asked[0]
    )
    command = open(f"/proc/{process.pid}/cmdline").read()
    assert "secret" not in command
    assert ended(process) == ""
    assert load.NUMBERS == COLUMNS[1:]


def test_a_server_that_starts_anew_goes_on_in_the_same_file_behind_a_mark(start, server):
    first = start()
    wait_for(lambda: len(rows(first)) >= 2, what="two samples")
    ended(first)
    server.said = metrics(generation=10)
    count = len(rows(first))
    second = start()
    wait_for(lambda: len(rows(second)) > count + 2, what="more samples")
    assert rows(second)[count] == [""] * 5 and rows(second)[count + 1] == ["4", "2", "1000", "10", ""]
    assert load.read(str(second.output)).generation_tokens == 1_500_010


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("hang", "no answer within 0.3 s"),
        ("trickle", "no answer within 0.3 s"),
        (None, ""),
        (answer("no", "401 Unauthorized"), "HTTP 401"),
        (answer("x" * 5 * 2**20), "more than 4194304 bytes"),
        (b"\x16\x03garbage\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nvllm:num_requests_running 1", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""),
    ],
)
def test_a_server_that_doesnt_answer_is_asked_again_and_told_of_once(start, server, said, why):
    server.said = said
    process = start(changes="SECONDS=0.3")
    wait_for(lambda: len(rows(process)) >= 2, what="two lines")
    assert rows(process)[:2] == [[""] * 5] * 2
    server.said = metrics()
    wait_for(lambda: rows(process)[-1][0] == "4", what="a sample")
    told = ended(process)
    assert told.startswith("load sampler: the server doesn't tell its load (") and why in told
    assert told.count("\n") == 1


def test_a_server_without_these_metrics_is_no_error(start, server):
    server.said = answer("# nothing here\n")
    process = start()
    wait_for(lambda: len(rows(process)) >= 2, what="two lines")
    assert rows(process)[0] == [""] * 5 and ended(process) == ""


def test_a_server_that_is_gone(start, server):
    server.close()
    process = start()
    wait_for(lambda: len(rows(process)) >= 2, what="two lines")
    assert "Connection refused" in ended(process)


@pytest.mark.parametrize("who", ["stranger", "elsewhere"])
def test_a_stranger_on_the_port_learns_nothing(start, server, certificates, who):
    process = start(cert=certificates[who].path)
    wait_for(lambda: len(rows(process)) >= 2, what="two lines")
    assert "CERTIFICATE_VERIFY_FAILED" in ended(process).upper().replace(" ", "_")
    assert not any(b"secret" in asked for asked in server.asked)


def test_a_folder_that_vanishes_ends_it(start, tmp_path):
    folder = tmp_path / "services"
    folder.mkdir()
    process = start(output=folder / "x.load.csv")
    wait_for(lambda: len(rows(process)) >= 1, what="a sample")
    folder.rename(tmp_path / "away")
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0 and told.startswith("load sampler: ends: ") and told.count("\n") == 1
    assert "No such file" in told and not folder.exists()


@pytest.mark.parametrize(
    ("output", "why"), [("/dev/full", "No space left"), ("/nowhere/x", "No such file"), ("link", "symbolic link")]
)
def test_where_nothing_can_be_written_it_ends(start, tmp_path, output, why):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    process = start(output=tmp_path / output)  # an absolute path stays what it is
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0 and why in told and told.count("\n") == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_certificate_that_cant_be_read_ends_it(start):
    process = start(cert="/nowhere/cert.pem")
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0 and "No such file" in told and "Traceback" not in told


def test_it_ends_with_who_started_it(start):
    shell = start(
        run=("bash", "-c", '"$@" & echo $!; wait', "x", sys.executable, "-c", RUN, ""), stdout=subprocess.PIPE
    )
    sampler = int(shell.stdout.readline())
    wait_for(lambda: len(rows(shell)) >= 1, what="a sample")
    os.kill(shell.pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{sampler}"), what="the sampler's end")


def test_sigterm_ends_it_without_a_word(start):
    process = start()
    wait_for(lambda: len(rows(process)) >= 1, what="a sample")
    process.terminate()
    assert process.communicate(timeout=10)[1] == "" and process.returncode == -signal.SIGTERM


class Told:
    """A server whose load is always the same."""

    def load(self):
        return [1.0, 0.0, 5.0, 6.0]


def test_a_large_file_grows_slower(tmp_path, monkeypatch):
    pauses = []

    def rest(self, due):
        pauses.append(round(due - time.monotonic()))
        self.parent = self.parent if len(pauses) < 40 else -1

    monkeypatch.setattr(Sampler, "_rest", rest)
    monkeypatch.setattr(load_sampler, "THINNED", 300)
    Sampler(Told(), None, str(tmp_path / "x"), 5).run()
    assert pauses == sorted(pauses) and {5, 10, 20, 40} <= set(pauses) <= {5 * 2**n for n in range(11)}
    assert pauses.count(10) == pauses.count(20) == 300 // len("2026-01-01T00:00:00Z,1,0,5,6,\n")
    # by whomever it was blown up
    (tmp_path / "x").write_bytes(b"x\n" * 10_000_000)
    pauses.clear()
    Sampler(Told(), None, str(tmp_path / "x"), 5).run()
    assert set(pauses) == {5 * 2**10}


def test_a_time_in_which_the_job_was_suspended_is_marked(tmp_path, monkeypatch):
    def rest(self, due):
        time.sleep(max(0, due - time.monotonic()) + 0.1)
        self.parent = -1

    monkeypatch.setattr(Sampler, "_rest", rest)
    for slack, lines in ((60, 2), (0.01, 3)):
        monkeypatch.setattr(load_sampler, "SECONDS", slack)
        monkeypatch.setattr(load_sampler, "TOOL_SECONDS", 0)
        path = tmp_path / str(slack)
        Sampler(Told(), None, str(path), 0.01).run()
        assert len(path.read_text().splitlines()) == lines
    assert path.read_text().endswith("Z,,,,,\n")


# ---- the GPUs


UUIDS = ["GPU-aa11", "GPU-ab22", "GPU-cc33", "GPU-dd44"]


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        ("", 4, [0, 1, 2, 3]),
        ("", 1, None),  # which of them?
        ("2", 1, [2]),
        ("3, 1", 2, [3, 1]),
        ("GPU-cc33,GPU-aa11", 2, [2, 0]),
        ("GPU-ab", 1, [1]),
        ("GPU-a", 1, None),  # two begin so
        ("GPU-ee55", 1, None),
        ("MIG-1a2b", 1, None),
        ("MIG-GPU-aa11/0/0", 1, None),
        ("4", 1, None),
        ("-1", 1, None),
        ("NoDevFiles", 1, None),
    ],
)
def test_which_gpus_are_the_jobs(visible, count, expected):
    assert mine(visible, UUIDS, count) == expected


class FakeNvml(types.ModuleType):
    """NVML's binding (nvidia-ml-py) on a node with four GPUs, the third of them kept from this job."""

    class NVMLError(Exception):
        pass

    def __init__(self, used=(10, 20, 30, 40), as_bytes=False):
        super().__init__("pynvml")
        self.used, self.as_bytes = used, as_bytes

    def nvmlInit(self):
        if not self.used:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):
        return len(self.used)

    def nvmlDeviceGetHandleByIndex(self, index):
        if index == 2:
            raise self.NVMLError("Insufficient Permissions")
        return f"handle {index}"

    def nvmlDeviceGetUUID(self, handle):
        uuid = UUIDS[int(handle[-1])]
        return uuid.encode() if self.as_bytes else uuid

    def nvmlDeviceGetUtilizationRates(self, handle):
        used = self.used[int(handle[-1])]
        if used is None:
            raise self.NVMLError("Not Supported")
        return types.SimpleNamespace(gpu=used, memory=1)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("visible", "expected"), [("0,1", 15), ("GPU-dd44", 40), ("2", 40), ("MIG-5", None), ("GPU-cc33", None)]
)
def test_nvml_tells_of_the_jobs_gpus(monkeypatch, visible, expected, as_bytes):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(as_bytes=as_bytes))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Nvml(2).percent() == expected


def test_a_gpu_that_fails_while_it_serves_disturbs_nothing(monkeypatch, tmp_path):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    sampler = Sampler(Told(), meter(2), str(tmp_path / "x"), 5)
    assert sampler.sample().endswith("Z,1,0,5,6,15.0")
    fake.used = (10, None, 30, 40)
    assert sampler.sample().endswith("Z,1,0,5,6,")


def test_vllms_own_copy_of_the_binding_is_taken_without_vllm(monkeypatch, tmp_path):
    folder = tmp_path / "vllm" / "third_party"
    folder.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("raise RuntimeError('this takes seconds')")
    (folder / "pynvml.py").write_text("NVMLError = OSError\ndef nvmlInit(): pass\ndef nvmlDeviceGetCount(): return 0\n")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Nvml(1).nvml.__file__ == str(folder / "pynvml.py")
    assert "vllm" not in sys.modules


@pytest.mark.parametrize("binding", [None, FakeNvml(used=())])
def test_without_nvml_or_a_driver_there_is_no_meter_and_for_no_gpu_none_is_looked_for(monkeypatch, tmp_path, binding):
    monkeypatch.setitem(sys.modules, "pynvml", binding)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert meter(1) is None
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert isinstance(meter(1), Nvml) and meter(0) is None


@pytest.mark.parametrize(
    ("said", "count", "expected"),
    [
        ('{"card0": {"GPU use (%)": "10"}, "card1": {"GPU use (%)": "30", "GFX Activity": "5"}}', 2, 20),
        ('WARNING: a low-power state\n{"card0": {"GPU use (%)": "7"}, "system": {"Driver version": "6"}}', 1, 7),
        ('{"card0": {"GPU use (%)": "10"}, "card1": {"GPU use (%)": "30"}}', 1, None),  # which of them?
        ('{"card0": {"GPU use (%)": "N/A"}}', 1, None),
        ('{"card0": {}}', 1, None),
        ("", 1, None),
        ("{cut", 1, None),
    ],
)
def test_rocm_smi_tells_where_the_job_has_all_of_the_node(monkeypatch, tmp_path, said, count, expected):
    (tmp_path / "said").write_text(said)
    tool = tmp_path / "rocm-smi"
    tool.write_text(f'#!/bin/sh\n[ "$*" = "--showuse --json" ] && echo >>{tmp_path}/calls && cat {tmp_path}/said\n')
    tool.chmod(0o755)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpus = meter(count)
    assert isinstance(gpus, Rocm)
    sampler = Sampler(Told(), gpus, str(tmp_path / "x"), 5)
    told = "" if expected is None else f"{expected:.1f}"
    assert sampler.sample().rpartition(",")[2] == told
    # it takes half a second of a core: not each time
    assert sampler.sample().endswith(",") and (tmp_path / "calls").read_text() == "\n"
