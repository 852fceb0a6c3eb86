"""The replay model: what it answers, what it refuses, and how its server starts and ends."""

import ast
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from datetime import datetime, timezone

import pytest
import requests
from agent_support import ROOT, replay_server, wait_for
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import entries
from helpers.serving import load_sampler
from helpers.serving.transcripts import aide, registry, shell
from helpers.serving.transcripts.base import Request

CODE_PROMPT = "# Instructions\n\n## Response format\n\n followed by a single markdown code block (wrapped in ```)\n"
REVIEW_TOOLS = [{"type": "function", "function": {"name": "submit_review", "parameters": {}}}]
SHELL_TOOLS = [
    {"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {"type": "string"}}}}}
]
# what none takes is refused with a list
REFUSAL = (
    "replay (not a language model): none of its transcripts takes this request. It answers: AIDE's requests for code and for reviews "
    "(the tool submit_review); tool-calling shell agents (a tool named bash or shell that takes a `command`); requests for text, "
    "without tools"
)
TRACEBACK = "Traceback (most recent call last):\n  File ...\nValueError: no"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("replay") / "log"


@pytest.fixture(scope="module")
def url(log):
    with replay_server(log, "--served-name", "replay", "--served-name", "gpt-4", token="secret") as url:
        yield url


def ask(url, prompt="hi", token="secret", path="/v1/chat/completions", **fields):
    body = {"model": "replay", "messages": [{"role": "system", "content": prompt}], **fields}
    answer = requests.post(url + path, json=body, headers={"Authorization": f"Bearer {token}".encode()}, timeout=20)
    return answer.status_code, answer.json()


def output(text):
    earlier = "# Task description\nValidation score: 99 (rmse, \n# Implementation\nx\n"
    return f"{earlier}# Execution output\n\n```\n{text}\n```\n"


def test_solutions_follow_each_other_whatever_the_order_of_marks(url):
    def number(prompt):
        text = ask(url, prompt)[1]["choices"][0]["message"]["content"]
        plan, code = re.fullmatch(r"(.+?)\n\n```python\n(.+)```\n", text, re.DOTALL).groups()
        marks = set(re.findall(r"replay solution (\d+)", plan)) | set(re.findall(r"# replay solution (\d+)", code))
        assert len(marks) == 1 and f"seed={min(marks)})" in code and "```" not in code
        ast.parse(code)
        return int(marks.pop())

    assert number(CODE_PROMPT) == 1
    assert number(CODE_PROMPT + "# replay solution 2\nreplay solution 1") == 3
    assert number(CODE_PROMPT + "This is replay solution 41.") == 42
    assert number(CODE_PROMPT) == 1  # nothing is remembered


def test_every_solution_is_different():
    solutions = aide.load_solutions()
    assert len(solutions) >= 3
    assert len(set(solutions)) == len(solutions)
    assert all(len(plan.split()) > 10 for plan, _ in solutions)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Validation score: 0.75 (accuracy, higher is better)", (False, 0.75, False)),
        ("Validation score: 3 (rmse, lower is better)", (False, 3.0, True)),
        ("Validation score: 1 (rmse)\nValidation score: 1e-2 (log_loss, …)", (False, 0.01, True)),
        ("no score at all", (True, None, False)),
        ("Validation score: nan (accuracy)", (True, None, False)),
        ("Validation score: inf (accuracy)", (True, None, False)),
        ("Validation score: soon (accuracy)", (True, None, False)),
        (f"Validation score: 0.75 (accuracy)\n{TRACEBACK}", (True, None, False)),
        ("Validation score: 0.75 (accuracy)\nTimeoutError: Execution exceeded the time limit", (True, None, False)),
        ("", (True, None, False)),
    ],
)
def test_a_review_reads_the_output(url, text, expected):
    status, answer = ask(url, output(text), tools=REVIEW_TOOLS)
    assert status == 200
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    found = json.loads(call["arguments"])
    assert call["name"] == "submit_review"
    assert (found["is_bug"], found["metric"], found["lower_is_better"]) == expected
    assert found["metric"] is None or isinstance(found["metric"], float)
    assert found["summary"].startswith("replay: ")


@given(st.text())
def test_a_review_never_fails(text):
    assert isinstance(aide.review(output(text))["is_bug"], bool)


def test_the_ping_is_answered_and_labelled(url):
    status, answer = ask(url, "ready?", max_tokens=1)
    assert status == 200
    assert answer["choices"][0]["message"]["content"].startswith("replay")
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    assert ask(url, "ready?", model="gpt-4", max_completion_tokens=1)[1]["model"] == "gpt-4"
    listed = requests.get(f"{url}/v1/models", headers={"Authorization": "Bearer secret"}, timeout=20).json()["data"]
    assert [model["id"] for model in listed] == ["replay", "gpt-4"]
    assert {model["owned_by"] for model in listed} == {"replay (not a language model)"}


def test_text_is_a_fixed_sentence_that_says_what_it_is(url):
    answers = [ask(url, prompt, **fields) for prompt, fields in (("hi", {}), ("1 + 1?", {"max_tokens": 50}))]
    texts = {answer["choices"][0]["message"]["content"] for _, answer in answers}
    assert [status for status, _ in answers] == [200, 200] and len(texts) == 1
    assert "not a language model" in texts.pop()
    # tools that may not be called are none
    assert ask(url, tools=SHELL_TOOLS, tool_choice="none")[1]["choices"][0]["finish_reason"] == "stop"


def converse(url, prompt="Mend it.", steps=20, **fields):
    """What a shell agent is told, until it is told to end: the messages of the answers."""
    messages, said = [{"role": "system", "content": "s"}, {"role": "user", "content": prompt}], []
    for _ in range(steps):
        status, answer = ask(url, messages=messages, tools=SHELL_TOOLS, **fields)
        assert status == 200, answer
        choice = answer["choices"][0]
        said.append(choice["message"])
        assert choice["finish_reason"] == "tool_calls"
        (call,) = said[-1]["tool_calls"]
        if "COMPLETE_TASK" in call["function"]["arguments"]:
            break
        messages += [said[-1], {"role": "tool", "tool_call_id": call["id"], "content": [{"type": "text", "text": "0"}]}]
    return said


def test_a_shell_agent_gets_the_commands_of_a_script(url):
    said = converse(url)
    calls = [message["tool_calls"][0] for message in said]
    assert [call["id"] for call in calls] == [f"replay-{number}" for number in range(1, len(said) + 1)]
    assert {(call["type"], call["function"]["name"]) for call in calls} == {("function", "bash")}
    assert all(message["content"].startswith("replay (not a language model): ") for message in said)
    commands = [json.loads(call["function"]["arguments"]) for call in calls]
    assert [list(arguments) for arguments in commands] == [["command"]] * len(said)
    assert commands[-1]["command"] == "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    assert "pytest" in commands[1]["command"] and "notes.md" in commands[-2]["command"]
    assert converse(url, "Another.")[0] == said[0]  # nothing is remembered
    usage = ask(url, "a b", tools=SHELL_TOOLS)[1]["usage"]
    assert usage["prompt_tokens"] == 2 and usage["completion_tokens"] > 10


def test_the_scripts_commands_are_commands(url, tmp_path):
    """In an empty folder, and in a repository that prescribes what is to be done."""
    for name in ("empty", "repository"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "repository":
            subprocess.run(["git", "init", "-q", folder], check=True)
            (folder / "replay.sh").write_text("echo mended >code.txt\n")
        for message in converse(url):
            command = json.loads(message["tool_calls"][0]["function"]["arguments"])["command"]
            done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        assert done.stdout == "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n"
        assert "not a language model" in (folder / "notes.md").read_text()
        assert (folder / "code.txt").exists() == (name == "repository")


def asked(*texts, calls=()):
    messages = [{"role": "user", "content": text} for text in texts]
    messages += [{"role": "assistant", "tool_calls": [{"id": call, "function": {"name": "bash"}}]} for call in calls]
    tools = [{"name": "shell", "parameters": {"properties": {"command": {}}}}]
    return Request("replay", messages, tools, None, False, False)


def test_a_task_may_have_a_script_of_its_own(tmp_path):
    (tmp_path / "default.sh").write_text("# a head\n#: One\n#: and more.\nfirst\n\nline\n\n#: Two.\nsecond\n")
    (tmp_path / "fix-it.sh").write_text("#: Own.\nmend\n")
    (tmp_path / "fix.sh").write_text("#: Other.\nother\n")
    transcript = shell.Shell(tmp_path)

    def command(*texts, calls=()):
        answer = transcript.answer(asked(*texts, calls=calls))
        assert answer.calls[0][1] == "shell"
        return answer.content.partition(": ")[2], answer.calls[0][2]["command"]

    assert command("mend") == ("One and more.", "first\n\nline")
    assert command('competition "fix-it".') == ("Own.", "mend")
    assert command("prefix-it fix", "") == ("Other.", "other")
    assert command("default") == command("x")
    # what was given is known by its ids, whatever else the agent tells of itself
    assert command("x", calls=["replay-1"]) == command("x", calls=["other", "replay-1"]) == ("Two.", "second")
    assert (
        command("x", calls=["replay-9" * 9, "replay-2"])
        == command("x", calls=["replay-" + "9" * 5000])
        == ("Two.", "second")
    )


@pytest.mark.parametrize("text", ["", "echo\n", "#: only words\n", "#: a\necho\n#: b\n\n"])
def test_a_script_that_is_none_is_told(tmp_path, text):
    (tmp_path / "default.sh").write_text(text)
    with pytest.raises(OSError, match=r"default\.sh needs parts"):
        shell.Shell(tmp_path)
    (tmp_path / "default.sh").rename(tmp_path / "other.txt")
    with pytest.raises(OSError, match=r"no default\.sh"):
        shell.Shell(tmp_path)


def test_every_transcript_says_what_it_answers():
    asked = [transcript.ASKED for transcript in registry.TRANSCRIPTS]
    assert all(asked) and len(set(asked)) == len(asked)


def test_no_script_needs_more_steps_than_the_model_is_given():
    steps = entries.models()["replay"].steps
    assert all(len(script) <= steps for script in shell.Shell().scripts.values())


def events(url, **fields):
    headers, body = {"Authorization": "Bearer secret"}, {"model": "replay", "stream": True, **fields}
    answer = requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=20)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/event-stream"
    *lines, last, end = answer.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("fields", [{"tools": SHELL_TOOLS}, {}, {"max_tokens": 1}], ids=["shell", "text", "ping"])
def test_the_same_answer_streams_where_that_is_asked_for(url, fields):
    messages = [{"role": "user", "content": "hi"}]
    plain = ask(url, messages=messages, **fields)[1]
    chunks = events(url, messages=messages, stream_options={"include_usage": True}, **fields)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"} and len({c["id"] for c in chunks}) == 1
    first, last, usage = chunks
    delta = first["choices"][0]["delta"]
    for number, call in enumerate(delta.get("tool_calls", [])):
        assert call.pop("index") == number
    assert delta == plain["choices"][0]["message"]
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": plain["choices"][0]["finish_reason"]}
    assert usage["choices"] == [] and usage["usage"] == plain["usage"]
    assert len(events(url, messages=messages, **fields)) == 2


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"n": 2, "max_tokens": 1}, 400, "not a language model"),
        ({"tools": [{"type": "function", "function": {"name": "bash"}}]}, 400, REFUSAL),
        ({"tools": REVIEW_TOOLS * 2}, 400, REFUSAL),
        ({"tools": ["x"]}, 400, REFUSAL),
        ({"tools": "x"}, 400, REFUSAL),
        ({"tools": [{"function": 3}]}, 400, REFUSAL),
        ({"tools": [{"function": {"name": ["bash"], "parameters": {"properties": {"command": 1}}}}]}, 400, REFUSAL),
        ({"tools": REVIEW_TOOLS * 2, "stream": True}, 400, REFUSAL),
        ({"path": "/v1/completions"}, 400, "not a language model"),
        ({"path": "/v1/responses"}, 400, "not a language model"),
        ({"path": "/else"}, 404, "not found"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": ["x", {"function": 3}]}]}, 400, "messages"),
        ({"messages": 3}, 400, "messages"),
        ({"model": "other"}, 404, "'other' does not exist"),
        ({"model": ["replay"]}, 404, "does not exist"),
        ({"token": ""}, 401, "Unauthorized"),
        ({"token": "wrong"}, 401, "Unauthorized"),
        ({"token": "wröng"}, 401, "Unauthorized"),
        ({"token": "wrong", "path": "/v1/completions"}, 401, "Unauthorized"),
    ],
)
def test_refusals_have_openais_form(url, fields, status, message):
    got, answer = ask(url, **fields)
    assert got == status
    assert message in answer["error"]["message"] and answer["error"]["type"].endswith("_error")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"null", b"\xff", b"[" * 100_000])
def test_bodies_that_are_no_request(url, body):
    headers = {"Authorization": "Bearer secret"}
    answer = requests.post(f"{url}/v1/chat/completions", data=body, headers=headers, timeout=20)
    assert answer.status_code == 400 and "message" in answer.json()["error"]


def test_every_request_is_logged_with_its_kind(url, log):
    before, earlier = datetime.now(timezone.utc), len(log.read_text().splitlines())
    requests.get(f"{url}/health", timeout=20)
    ask(url, "x", max_tokens=1)
    ask(url, CODE_PROMPT)
    ask(url, output(""), tools=REVIEW_TOOLS)
    ask(url, "x")
    ask(url, "x", tools=SHELL_TOOLS)
    ask(url, "x", tools=["y"])
    ask(url, token="no")
    lines = [json.loads(line) for line in log.read_text().splitlines()[earlier:]]
    kinds = [(line["kind"], line["status"]) for line in lines]
    answered = [(kind, 200) for kind in ("health", "ping", "code", "review", "text", "command")]
    assert kinds == [*answered, ("refused", 400), ("refused", 401)]
    ages = [(datetime.fromisoformat(line["time"]) - before).total_seconds() for line in lines]
    assert all(-0.001 <= age < 20 for age in ages)  # the log's times are whole milliseconds
    assert lines[2]["path"] == "/v1/chat/completions"
    assert "secret" not in log.read_text()


def test_its_load_is_told_by_vllms_names_and_labelled(url, log):
    def load():
        answer = requests.get(f"{url}/metrics", headers={"Authorization": "Bearer secret"}, timeout=20)
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.count('{model_name="replay (not a language model)"}') == 4
        return load_sampler.values(answer.text)

    lines = len(log.read_text().splitlines())
    before = load()
    assert before[:2] == [0, 0] and len(log.read_text().splitlines()) == lines
    usage = ask(url, CODE_PROMPT)[1]["usage"]
    assert ask(url, "x", tools=["y"])[0] == 400
    assert load() == [0, 0, before[2] + usage["prompt_tokens"], before[3] + usage["completion_tokens"]]
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    headers = {"Content-Length": "1000", "Authorization": "Bearer secret"}
    connection.request("POST", "/v1/chat/completions", iter([b"{"]), headers)
    wait_for(lambda: load()[0] == 1, what="a request that is worked on")
    connection.close()
    wait_for(lambda: load()[0] == 0, what="its end")
    assert requests.get(f"{url}/metrics", timeout=20).status_code == 401


def test_a_request_that_is_too_large_is_refused(url):
    body = (b" " * 2**20 for _ in range(70))
    headers = {"Authorization": "Bearer secret"}
    answer = requests.post(f"{url}/v1/chat/completions", data=body, headers=headers, timeout=20)
    assert answer.status_code == 413 and answer.json()["error"]["message"] == "the request is larger than 64 MB"


def test_a_stranger_is_refused_before_the_body_is_read(url):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("POST", "/v1/chat/completions", iter([b"{"]), {"Content-Length": "1000"})
    assert connection.getresponse().status == 401
    connection.close()


def start(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", "helpers.serving.replay_server", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_server_starts_quickly_says_so_and_ends_on_sigterm(tmp_path):
    ready = tmp_path / "ready"
    began = time.monotonic()
    process = start("--ready-file", str(ready), "--served-name", "a", "--served-name", "b")
    line = process.stdout.readline()
    took = time.monotonic() - began
    try:
        port = int(re.fullmatch(r"replay server: http://127\.0\.0\.1:(\d+)\n", line)[1])
        assert ready.read_text() == f"{port}\n"
        # a second server can't have the same port, and says so
        second = start("--port", str(port))
        out, err = second.communicate(timeout=10)
        assert second.returncode == 2 and f"port {port} of 127.0.0.1 is taken" in err and "Traceback" not in err
        # an open connection doesn't keep it alive
        idle = socket.create_connection(("127.0.0.1", port))
        ended = time.monotonic()
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0
    assert time.monotonic() - ended < 2
    idle.close()
    assert took < 20  # 0.2 s on an idle machine


def test_many_at_once_each_get_their_own_answer(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with replay_server(tmp_path / "log") as url:

        def one(number):
            body = {
                "model": "replay",
                "messages": [{"role": "user", "content": f"{CODE_PROMPT} replay solution {number}"}],
            }
            headers = {"Authorization": "Bearer replay-token"}
            text = requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=20).json()
            return f"This is replay solution {number + 1}." in text["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(one, range(200)))
    assert len((tmp_path / "log").read_text().splitlines()) == 200


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "set MODEL_TOKEN"),
        (["--host", "localhost", "--port", "70000"], 2, "'70000' is not a port"),
        (["--tls-cert", "/nowhere/cert"], 2, "--tls-cert and --tls-key belong together"),
        (["--ready-file", "/nowhere/port"], 2, "/nowhere/port"),
        (["--log", "/nowhere/log"], 2, "/nowhere/log"),
        (["--unknown"], 2, "usage:"),
    ],
)
def test_wrong_options(arguments, code, message):
    process = start(*arguments)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert message in err and "Traceback" not in err


def test_help_is_quick_and_says_what_it_is_not():
    process = start("--help")
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and "not a language model" in " ".join(out.split())
