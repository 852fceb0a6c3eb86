"""One model's answer: asked again where that helps, never beyond the deadline, one sentence where it fails."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from model_servers import Server, chat, cut, echo, free_port, half, stall, status, trickle

from helpers.datagen import InferenceFailure, InputValidationError
from helpers.datagen.engines import GenericOpenAIEngine
from helpers.datagen.http_client import seconds_asked

KEY = "sk-secret-0123456789abcdefghij"


def engine(server: Server | str, **options: object) -> GenericOpenAIEngine:
    url = server if isinstance(server, str) else server.url
    options.setdefault("timeout", 10.0)
    return GenericOpenAIEngine(base_url=url, model_name="m", api_key=KEY, **options)


def test_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # our own servers are reached directly
    with Server() as server, engine(server, temperature=0.5) as model:
        assert model.generate("hello", max_tokens=7) == "HELLO"
        messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "ä\ud800"}]
        assert model.generate(messages) == "Ä\ud800"
        (path, headers, body), (_, _, second) = server.requests
        assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
        expected = {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0.5,
            "max_tokens": 7,
        }
        assert body == expected and second["messages"] == messages
        assert model.usage.counts() == {
            "requests": 2, "answers": 2, "rate_limited": 0, "server_errors": 0, "prompt_tokens": 10, "completion_tokens": 4,
        }  # fmt: skip


def test_somebody_elses_model_is_reached_through_the_proxy_and_netrc_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine model.example login me password stolen\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with engine("http://model.example/v1") as model:
            assert model.generate("a") == "A"
        path, headers, _ = proxy.requests[0]
        assert path == "http://model.example/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "trouble",
    [
        status(500),
        status(503, b""),
        status(429),
        status(408),
        cut,
        half,
        status(200, b"<html>"),
        status(200, {"choices": []}),
    ],
)
def test_trouble_that_passes_is_asked_again(trouble: object) -> None:
    with Server(trouble, trouble, echo) as server, engine(server) as model:
        started = time.monotonic()
        assert model.generate("yes") == "YES"
        # 0.25 to 0.5 s, then 0.5 to 1 s
        assert len(server.requests) == 3 and 0.75 <= time.monotonic() - started < 4


def test_retry_after_in_seconds_is_kept_and_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(status(429, Retry_After="1"), echo) as server, engine(server) as model:
        assert model.generate("a") == "A"
        assert 1.0 <= server.times[1] - server.times[0] < 2
    with Server(status(429, Retry_After="1"), echo) as server, engine(server) as model:
        assert sorted(model.generate_many("abcd", concurrency=1)) == [(0, "A"), (1, "B"), (2, "C"), (3, "D")]
        assert server.times[1] - server.times[0] >= 1.0


def test_retry_after_as_a_date() -> None:
    assert 8.0 < (seconds_asked({"Retry-After": formatdate(time.time() + 10, usegmt=True)}) or 0) <= 10.0
    assert seconds_asked({"Retry-After": formatdate(time.time() - 99, usegmt=True)}) == 0.0
    assert seconds_asked({"Retry-After": "2.5"}) == 2.5
    assert [seconds_asked({"Retry-After": said}) for said in ("", "soon", "-3", "nan", "Mon, 99 Foo 2026")] == [
        None
    ] * 5
    with (
        Server(status(503, Retry_After=formatdate(time.time() + 2, usegmt=True)), echo) as server,
        engine(server) as model,
    ):
        assert model.generate("a") == "A"
        assert server.times[1] - server.times[0] >= 0.5


def test_who_asks_to_wait_for_too_long_is_not_waited_for() -> None:
    with Server(status(429, Retry_After="3600")) as server, engine(server) as model:
        started = time.monotonic()
        with pytest.raises(InferenceFailure) as caught:
            model.generate("a")
        said = f"vllm_local model 'm' at {server.url}: HTTP 429: said 429 (it asks to wait 1 h)"
        assert str(caught.value) == said and caught.value.code == 3 and time.monotonic() - started < 2


def test_a_call_ends_at_its_deadline() -> None:
    for trouble, words in (
        (stall, "no answer within 1 s"),
        (trickle, "no answer within 1 s"),
        (status(500), "HTTP 500: said 500; tried"),
    ):
        with Server(trouble) as server, engine(server, timeout=1.2) as model:
            started = time.monotonic()
            with pytest.raises(InferenceFailure, match=words):
                model.generate("a")
            assert time.monotonic() - started < 2


def test_a_stall_costs_one_try_only() -> None:
    with Server(stall, echo) as server, engine(server, request_timeout=0.5) as model:
        assert model.generate("a") == "A"
        assert len(server.requests) == 2 and model.usage.answers == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            status(401, {"error": {"message": f"Incorrect API key: {KEY}.\nSee\x1b[31m"}}),
            "HTTP 401: Incorrect API key: ***. See [31m (check its key)",
        ),
        (status(404, {"message": "no such model"}), "HTTP 404: no such model (check its name and address)"),
        (
            status(429, {"error": {"message": "x", "code": "insufficient_quota"}}),
            "HTTP 429: x (its quota is used up)",
        ),
        (status(402, b"pay"), "HTTP 402: pay (its quota is used up)"),
        (status(400, [{"error": {"message": "API key not valid"}}]), "HTTP 400: API key not valid"),
        (status(302, b"", Location="http://127.0.0.1:1/"), "HTTP 302"),
        (status(200, chat(None)), "an answer without text (finish_reason stop)"),
    ],
)
def test_what_no_try_helps_is_one_sentence_at_once(answer: object, words: str) -> None:
    with Server(answer) as server, engine(server, timeout=3.0) as model:
        with pytest.raises(InferenceFailure) as caught:
            model.generate("a")
        assert str(caught.value) == f"vllm_local model 'm' at {server.url}: {words}" and len(server.requests) == 1
        assert KEY not in str(caught.value) and "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_what_is_no_answer_is_asked_for_three_times_only() -> None:
    with Server(status(200, b"<html>log in</html>")) as server, engine(server, timeout=60.0) as model:
        with pytest.raises(
            InferenceFailure, match=r"an answer that is no JSON object: <html>log in</html>; tried 3 times in \d s"
        ):
            model.generate("a")
        assert len(server.requests) == 3


def test_nobody_there() -> None:
    with engine(f"http://127.0.0.1:{free_port()}", timeout=1.0) as model, pytest.raises(InferenceFailure) as caught:
        model.generate("a")
    assert "connection refused; tried" in str(caught.value)
    with (
        engine("http://nobody.invalid", timeout=1.0) as model,
        pytest.raises(InferenceFailure, match="the name of its host is not known"),
    ):
        model.generate("a")


def test_nobody_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.datagen.http_client.CONNECT_SECONDS", 0.2)
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # its queue is full after the first
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with engine(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=1.0) as model:
            with pytest.raises(InferenceFailure, match="no connection in time; tried [23] times"):
                model.generate("a")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://[", "http://", "http://localhost:x", ""])
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputValidationError,
        match="^(base_url: .* is no address: it would be http://HOST:PORT|engine vllm_local: needs )",
    ):
        engine(url)
    (tmp_path / "e.json").write_text(json.dumps({"endpoint_url": url, "model_name": "m"}))
    with GenericOpenAIEngine(tmp_path / "e.json", timeout=0.1) as model:
        with pytest.raises(InferenceFailure, match="e.json: (.* is no address|it has no endpoint_url)"):
            model.generate("a")


@pytest.mark.parametrize("key", [f"k\n{KEY}", f"ключ{KEY}"])
def test_a_key_that_no_header_may_hold_is_not_shown(key: str) -> None:
    with Server() as server, GenericOpenAIEngine(base_url=server.url, model_name="m", api_key=key) as model:
        with pytest.raises(InferenceFailure) as caught:
            model.generate("a")
        words = "its key holds what no header of a request may, or an address is none"
        assert str(caught.value) == f"vllm_local model 'm' at {server.url}: {words}" and not server.requests


def test_a_dead_node_is_noticed() -> None:
    with Server() as server, engine(server) as model:
        model.generate("a")
        pool = next(iter(model._client._adapter.poolmanager.pools._container.values()))
        connection = pool.pool.queue[-1]
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


def test_a_password_in_the_address_is_not_shown() -> None:
    with engine(f"http://me:hunter22@127.0.0.1:{free_port()}", timeout=0.5) as model:
        with pytest.raises(InferenceFailure) as caught:
            model.generate("a")
        assert "hunter22" not in f"{caught.value} {model.get_metadata()}"


def test_an_answer_that_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.datagen.http_client.LARGEST_ANSWER", 2**20)
    with Server(status(200, b"x" * 2**21)) as server, engine(server) as model:
        with pytest.raises(InferenceFailure, match="an answer of over 1 MB$"):
            model.generate("a")


def test_close_ends_what_is_under_way_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with Server(stall) as server:
        model = engine(server, timeout=60.0)
        found: list[object] = []

        def ask() -> None:
            try:
                found.append(model.generate("a"))
            except InferenceFailure as error:
                found.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        model.close()
        thread.join(2)
        assert found == [
            f"vllm_local model 'm' at {server.url}: its answer is not waited for: the generation was ended"
        ]
    time.sleep(0.1)
    assert {one for one in threading.enumerate() if "process_request" not in one.name} <= before


def test_a_connection_is_used_again_and_one_that_the_server_closed_does_no_harm(tmp_path: Path) -> None:
    ports = set()

    def note(handler: object, body: dict) -> None:
        ports.add(handler.client_address[1])
        echo(handler, body)

    def last(handler: object, body: dict) -> None:
        note(handler, body)
        handler.close_connection = True

    with Server(note, note, last, note) as server, engine(server) as model:
        assert [model.generate(word) for word in "abc"] == ["A", "B", "C"] and len(ports) == 1
        time.sleep(0.1)
        assert model.generate("d") == "D" and len(ports) == 2
