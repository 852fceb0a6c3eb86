"""Types of engines, the forms of their requests, where they look for a server, and whether they find it alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from model_servers import Server, chat, cut, echo, free_port, stall, status

from helpers.config import layers
from helpers.datagen import InferenceFailure, InputValidationError, create_inference_engine, forms, from_model
from helpers.datagen.engines import ENGINES, GenericOpenAIEngine, OpenAIEngine, register

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Two?"},
]
OPTIONS = {"max_tokens": 9, "temperature": 0.5, "stop": "\n", "top_p": None}
KEY = "key-0123456789"


def test_the_form_of_openai() -> None:
    answer = chat("2", 11, 3)
    with Server(status(200, answer)) as server:
        with create_inference_engine("openai", api_key=KEY, base_url=f"{server.url}/v1", model="gpt-x") as model:
            assert model.generate(MESSAGES, **OPTIONS) == "2"
            assert model.get_metadata()["usage"] | {"requests": 1} == model.usage.counts()
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    expected = {"model": "gpt-x", "messages": MESSAGES, "max_completion_tokens": 9, "temperature": 0.5, "stop": "\n"}
    assert body == expected
    assert (model.usage.prompt_tokens, model.usage.completion_tokens) == (11, 3)


def test_the_form_of_anthropic() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 6, "output_tokens": 3}
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "2"}, {"type": "text", "text": "!"}]
    with Server(status(200, {"content": content, "stop_reason": "end_turn", "usage": usage})) as server:
        with create_inference_engine("anthropic", api_key=KEY, base_url=server.url) as model:
            assert model.generate(MESSAGES, **OPTIONS) == "2!"
            model.generate("a")
    path, headers, body = server.requests[0]
    assert path == "/v1/messages" and headers["x-api-key"] == KEY and headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in headers
    expected = {"model": "claude-3-5-sonnet-20241022", "system": "Be brief.", "messages": MESSAGES[1:], "max_tokens": 9}
    assert body == expected | {"temperature": 0.5, "stop_sequences": ["\n"]}
    assert server.requests[1][2]["max_tokens"] == 4096 and "system" not in server.requests[1][2]
    assert (model.usage.prompt_tokens, model.usage.completion_tokens) == (22, 6)


def test_the_form_of_gemini() -> None:
    parts = [{"text": "hm", "thought": True}, {"text": "2"}]
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 4}
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage}
    with Server(status(200, answer)) as server:
        with create_inference_engine("google_gemini", api_key=KEY, base_url=server.url, model="gemini-x") as model:
            assert model.generate(MESSAGES, **OPTIONS) == "2"
    path, headers, body = server.requests[0]
    assert path == "/v1beta/models/gemini-x:generateContent" and KEY not in path and headers["x-goog-api-key"] == KEY
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "One?"}]},
            {"role": "model", "parts": [{"text": "1"}]},
            {"role": "user", "parts": [{"text": "Two?"}]},
        ],
        "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5, "stopSequences": ["\n"]},
    }
    assert (model.usage.prompt_tokens, model.usage.completion_tokens) == (7, 6)


@pytest.mark.parametrize(
    ("form", "answer", "words"),
    [
        (
            "compatible",
            {"choices": [{"message": {"refusal": "I won't"}, "finish_reason": "stop"}]},
            "it refused: I won't",
        ),
        (
            "compatible",
            {"choices": [{"message": {"content": None}, "finish_reason": "length"}]},
            r"finish_reason length",
        ),
        ("compatible", {"error": {"message": "no worker"}}, 'an answer without choices: {"error"'),
        ("anthropic", {"content": [], "stop_reason": "refusal"}, "stop_reason refusal"),
        ("anthropic", {"type": "error"}, "an answer without content"),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, r"it refused the prompt \(SAFETY\)"),
        ("gemini", {"candidates": [{"finishReason": "MAX_TOKENS"}]}, "finishReason MAX_TOKENS"),
        ("gemini", {"candidates": 3}, "an answer without candidates"),
    ],
)
def test_answers_without_a_text(form: str, answer: dict[str, Any], words: str) -> None:
    with pytest.raises(forms.NoText, match=words):
        forms.find(form).text(answer)
    assert forms.find(form).tokens(answer) == (0, 0)


def test_unknown_names_list_what_exists() -> None:
    known = "anthropic, gemini_openai, google_gemini, none, openai, vllm_local"
    with pytest.raises(InputValidationError, match=f"engine 'opnai': there is none of this type; known: {known}$"):
        create_inference_engine("opnai")
    with pytest.raises(InputValidationError, match="known: anthropic, compatible, gemini, openai$"):
        forms.find("x")
    with pytest.raises(ValueError, match="there is an engine openai already"):
        register(OpenAIEngine)
    with pytest.raises(ValueError, match="there is a form openai already"):
        forms.register(forms.OpenAI)
    assert isinstance(create_inference_engine("OpenAI", api_key="k"), ENGINES["openai"])


@pytest.mark.parametrize(
    ("engine", "variable"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("google_gemini", "GEMINI_API_KEY"),
        ("gemini_openai", "GEMINI_API_KEY"),
    ],
)
def test_keys_come_from_the_environment_or_dotenv(
    engine: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(layers, "ROOT", tmp_path)
    with pytest.raises(
        InputValidationError, match=f"{variable} is neither in the environment nor in .env: it holds the key$"
    ):
        create_inference_engine(engine)
    (tmp_path / ".env").write_text(f"{variable}='{KEY}'\n")
    with Server(status(401, {"error": {"message": f"wrong {KEY}"}})) as server:
        with create_inference_engine(engine, base_url=server.url) as model:
            with pytest.raises(InferenceFailure, match=rf"HTTP 401: wrong \*\*\* \(check {variable}\)$") as caught:
                model.generate("a")
            assert KEY in str(server.requests[0][1].values())
            told = f"{caught.value!r} {model.get_metadata()} {vars(caught.value)} {model.where.last!r}"
            assert KEY not in told and model.get_metadata()["engine_type"] == engine


def test_the_engine_that_is_none() -> None:
    model = create_inference_engine("none")
    assert model.healthcheck() and model.get_metadata() == {"engine_type": "none"}
    with pytest.raises(InferenceFailure, match="engine none answers nothing: choose a model with --engine and --model"):
        model.generate("a")
    with pytest.raises(InferenceFailure, match="engine none answers nothing"):
        list(model.generate_many("ab"))


def test_vllm_local_needs_a_place() -> None:
    with pytest.raises(
        InputValidationError, match="needs the file of an endpoint .*, or both an address and a model's name"
    ):
        create_inference_engine("vllm_local", base_url="http://localhost")
    with pytest.raises(InputValidationError, match="NO_SUCH_KEY is neither in the environment nor in .env"):
        create_inference_engine("vllm_local", base_url="http://localhost", model="m", api_key_env="NO_SUCH_KEY")


def endpoint_json(path: Path, url: str, **more: str) -> Path:
    path.write_text(json.dumps({"model_name": "told", "endpoint_url": url, "metadata": {}, **more}))
    return path


@pytest.mark.parametrize(("path", "asked"), [("", "/v1"), ("/v1", "/v1"), ("/other", "/other")])
def test_an_endpoint_json(tmp_path: Path, path: str, asked: str) -> None:
    with Server() as server:
        with GenericOpenAIEngine(endpoint_json(tmp_path / "e.json", server.url + path)) as model:
            assert model.generate("a") == "A"
            assert model.get_metadata()["base_url"] == server.url + path
        with GenericOpenAIEngine(endpoint_json(tmp_path / "e.json", server.url, api_path="v2", api_key=KEY)) as model:
            model.generate("a")
        (one, _, body), (two, headers, _) = server.requests
        assert (one, two) == (f"{asked}/chat/completions", "/v2/chat/completions")
        assert body["model"] == "told" and headers["Authorization"] == f"Bearer {KEY}"


def test_an_agents_file_of_endpoints(tmp_path: Path) -> None:
    with Server() as server:
        file = tmp_path / "endpoints.env"
        lines = {"MODEL": "it's", "BASE_URL": f"{server.url}/v1", "API_KEY": KEY}
        file.write_text("".join(f"AGENT_CODE_{name}={json.dumps(value)}\n" for name, value in lines.items()))
        with GenericOpenAIEngine(file) as model:
            model.generate("a")
        assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}" and server.requests[0][2]["model"] == "it's"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -new -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=test"
    extension = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run([*command.split(), *extension], check=True, capture_output=True)
    return made


def test_the_address_file_of_our_own_server(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """TLS with the one certificate in the file, its token, and its name; a stranger on the port gets nothing."""
    address = tmp_path / "vllm_30b_77"

    def publish(server: Server) -> None:
        lines = [server.url, f"token={KEY}", "served_name=qwen", "epoch=1", certificate[0].read_text()]
        address.write_text("\n".join(lines))

    with Server(certificate=certificate) as server:
        publish(server)
        with GenericOpenAIEngine(address) as model:
            assert model.generate("a") == "A"
            assert (
                server.requests[0][1]["Authorization"] == f"Bearer {KEY}" and server.requests[0][2]["model"] == "qwen"
            )
            assert model.state().state == "alive" and KEY not in str(model.get_metadata())
            # a call that stalls is cut within TLS, too
            server.manners = (stall,)
            server.requests.clear()
            with (
                pytest.raises(InferenceFailure, match="no answer within 1 s"),
                GenericOpenAIEngine(address, timeout=1.0) as other,
            ):
                other.generate("a")
    subprocess.run(["openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=stranger", "-keyout",
                    str(tmp_path / "k2"), "-out", str(tmp_path / "c2")], check=True, capture_output=True)  # fmt: skip
    with Server(certificate=(tmp_path / "c2", tmp_path / "k2")) as stranger:
        publish(stranger)
        with GenericOpenAIEngine(address, timeout=1.0) as model:
            with pytest.raises(InferenceFailure, match="whoever answers there can't prove to be it"):
                model.generate("a")
            assert model.state().state == "dead" and not stranger.requests


def test_the_replay_model_answers_plain_requests(tmp_path: Path) -> None:
    ready, address = tmp_path / "port", tmp_path / "vllm_replay_7"
    command = [sys.executable, "-m", "helpers.serving.replay_server", "--ready-file", ready, "--log", tmp_path / "log"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "MODEL_TOKEN": KEY}, stdout=subprocess.DEVNULL
    ) as server:
        try:
            while not ready.exists():
                assert server.poll() is None
                time.sleep(0.02)
            lines = [f"http://127.0.0.1:{ready.read_text().strip()}", f"token={KEY}", "served_name=replay", "epoch=1"]
            address.write_text("\n".join(lines))
            with from_model("replay", endpoint=address) as model:
                assert model.healthcheck() and "not a language model" in model.generate("hello", max_tokens=50)
                found = dict(model.generate_many(["a", "b"], concurrency=2))
                assert len(found) == 2 and model.usage.completion_tokens > 0
            address.write_text("\n".join(lines).replace(KEY, "other"))
            with from_model("replay", endpoint=address) as model:
                assert model.state().state == "dead" and "refuses: HTTP 401" in model.state().words
        finally:
            server.terminate()


def test_a_stranger_who_refuses_at_the_old_address_ends_nothing(tmp_path: Path) -> None:
    place = tmp_path / "e.json"
    with Server(status(401)) as stranger, Server() as server:
        endpoint_json(place, stranger.url)
        with GenericOpenAIEngine(place) as model:
            model.where.read()
            endpoint_json(place, server.url)
            assert model.generate("a") == "A" and len(stranger.requests) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"can't be read \(No such file or directory\): its server is gone, or not ready yet"),
        ("{", "Expecting property name"),
        ('{"model_name": "m"}', "it has no endpoint_url, or that is no text"),
        ('{"endpoint_url": "http://localhost:1"}', "it names no model"),
        ("hello", "it names no address: neither an endpoint JSON, nor an address file, nor a file of endpoints"),
        ("it's", "No closing quotation"),
    ],
)
def test_a_file_that_says_nothing_is_dead(tmp_path: Path, text: str | None, words: str) -> None:
    place = tmp_path / "e.json"
    if text is not None:
        place.write_text(text)
    with GenericOpenAIEngine(place, timeout=0.3) as model:
        health = model.state()
        assert health.state == "dead" and not model.healthcheck() and not health.is_final
        with pytest.raises(InferenceFailure, match=f"e.json.*{words}"):
            model.generate("a")
        assert model.get_metadata()["model"] is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.datagen.inference.PROBE_SECONDS", 0.6)
    monkeypatch.setattr("helpers.datagen.inference.LISTING_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("manner", "lists", "state", "words", "is_final"),
    [
        (echo, True, "alive", "answers", False),
        (
            status(400, {"error": {"message": "max_tokens is not supported, use max_completion_tokens"}}),
            True,
            "alive",
            "answers",
            False,
        ),
        (status(200, {"candidates": []}), True, "alive", "answers", False),
        (status(429), True, "slow", "HTTP 429: said 429", False),
        (status(503), True, "slow", "HTTP 503: said 503", False),
        (stall, True, "slow", "no answer within 1 s, but it answers others", False),
        (stall, False, "dead", "no answer within 1 s", False),
        (cut, True, "dead", "the connection was cut", False),
        (status(401), True, "dead", "refuses: HTTP 401: said 401 (check its key)", True),
        (status(404), True, "dead", "refuses: HTTP 404: said 404 (check its name and address)", True),
        (status(200, b"<html>"), True, "dead", "an answer that is no JSON object: <html>", False),
    ],
)
def test_dead_and_slow_are_told_apart(manner: Any, lists: bool, state: str, words: str, is_final: bool) -> None:
    with Server(manner, lists=lists) as server, GenericOpenAIEngine(base_url=server.url, model_name="m") as model:
        health = model.state()
        assert (health.state, health.is_final) == (state, is_final) and health.words.endswith(words)
        assert server.requests[0][2]["max_tokens"] == 1
        assert model.healthcheck() is (state == "alive")
        assert model.usage.requests == 0


@pytest.mark.usefixtures("quick")
def test_nobody_listens() -> None:
    with GenericOpenAIEngine(base_url=f"http://127.0.0.1:{free_port()}", model_name="m") as model:
        assert model.state() == ("dead", f"vllm_local model 'm' at {model.where.last.url}: connection refused", False)


def test_a_good_answer_counts_for_a_while() -> None:
    with Server(echo, status(400), echo) as server:
        with GenericOpenAIEngine(base_url=server.url, model_name="m", healthcheck_interval=60) as model:
            assert model.healthcheck() and model.healthcheck() and len(server.requests) == 1
    with Server(echo, status(500), echo, stall) as server:
        with GenericOpenAIEngine(base_url=server.url, model_name="m", healthcheck_interval=0.3) as model:
            model.generate("a")
            assert model.healthcheck() and len(server.requests) == 1
            model.generate("a")  # after a 500
            assert model.healthcheck() and len(server.requests) == 3
            time.sleep(0.35)
            server.manners = (echo,)
            assert model.healthcheck() and len(server.requests) == 4


def test_models_of_models_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Server(status(200, chat("x", 1000, 2000))) as server:
        monkeypatch.setenv("MODEL_NAME", "served")
        monkeypatch.setenv("MODEL_BASE_URL", server.url)
        monkeypatch.setenv("MODEL_API_KEY", KEY)
        with from_model("endpoint") as model:
            assert model.generate("a") == "x" and model.cost is None
            assert server.requests[-1][2]["model"] == "served"
            assert server.requests[-1][1]["Authorization"] == f"Bearer {KEY}"
            told = model.get_metadata()
            assert told["name"] == "endpoint" and told["is_language_model"] is True and KEY not in str(told)
        with from_model("replay", endpoint=endpoint_json(tmp_path / "e.json", server.url)) as model:
            model.generate("a")
            assert server.requests[-1][2]["model"] == "replay" and model.cost == 0.0
            assert model.get_metadata()["is_language_model"] is False
        with from_model("replay", endpoint=tmp_path / "e.json", temperature=1) as model:
            model.prices = (1.0, 10.0)
            model.generate("a")
            assert model.cost == pytest.approx(0.021) and server.requests[-1][2]["temperature"] == 1
    with pytest.raises(
        InputValidationError, match="model '30b' is served by a job of ours: --endpoint-json names the file"
    ):
        from_model("30b")
    with pytest.raises(
        InputValidationError, match="model '31b': not in site-config/models.yaml. Known models: 30b, 80b"
    ):
        from_model("31b", "local")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert isinstance(from_model("gpt-mini"), OpenAIEngine)
