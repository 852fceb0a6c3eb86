"""The mini-swe agent as the host runs it: real mini-swe-agent, with the replay model and with models that misbehave.

Opt-in (`make test-mini-swe`), as its environment has 400 MB: HAB_MINI_SWE_PYTHON names the Python that has mini-swe-agent.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agent_support import Service, replay_server, wait_for

PYTHON = os.environ.get("HAB_MINI_SWE_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="opt-in: make test-mini-swe")
TRAJECTORY = "mini-swe.traj.json"
DONE = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


class ShellModel(Service):
    """Says what it is told to: a command, a status, ("text", …) for an answer without a call, "hang", or the body of an answer."""

    token, name = "very-secret", "gpt-fake"

    def __init__(self, *script, **options):
        self.script = list(script)
        super().__init__(**options)

    def endpoints(self):
        values = {"MODEL": self.name, "BASE_URL": f"{self.url}/v1", "API_KEY": self.token}
        if self.tls:
            values["CA_FILE"] = str(self.tls.path)
        return {f"AGENT_CODE_{name}": value for name, value in values.items()}

    def answer(self, call):
        call["json"] = json.loads(call["body"])
        if call["token"] != f"Bearer {self.token}":
            return 401, {"error": {"message": f"wrong key {call['token']}"}}
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if said == "hang":
            self.ended.wait(60)
            return 500, {}
        if isinstance(said, int):
            return said, {"error": {"message": f"status {said} of {self.token}"}}
        if isinstance(said, dict):
            return said.pop("status", 200), said
        message, reason = {"role": "assistant", "content": "I think."}, "tool_calls"
        if isinstance(said, tuple):
            message["content"], reason = said[1], "stop"
        else:
            function = {"name": "bash", "arguments": json.dumps({"command": said})}
            message["tool_calls"] = [{"id": f"call-{len(self.calls)}", "type": "function", "function": function}]
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        made = {"id": "1", "object": "chat.completion", "created": 1, "model": self.name, "usage": usage}
        return 200, made | {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}


@pytest.fixture
def model():
    """Makes models, and ends them."""
    made = []

    def make(*script, **options):
        made.append(ShellModel(*script, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "description.md").write_text("Mend `add` {{ as it is said }}.\n")
    return folder


@pytest.fixture
def make(make_world, task):
    """Makes an agent's surroundings, with a repository to be mended."""

    def make(repository=True, data=task, **variables):
        world = make_world("mini-swe", data=data, AGENT_PYTHON=PYTHON, **{"STEP_LIMIT": "5", **variables})
        world.repo = world.folder["WORKSPACES"] / "repo"
        if repository:
            subprocess.run(["git", "init", "-q", world.repo], check=True)
            (world.repo / "code.py").write_text("def add(a, b):\n    return a - b\n")
            (world.repo / "replay.sh").write_text("sed -i 's/a - b/a + b/' code.py\n")
        return world

    return make


def run(world, endpoints, seconds=60.0, timeout=90):
    world.publish(seconds=seconds, **endpoints)
    world.start()
    return world.finish(timeout)


def test_a_repository_with_the_replay_model(make, tmp_path):
    world = make()
    with replay_server(tmp_path / "replay.log") as url:
        endpoints = {"MODEL": "replay", "BASE_URL": f"{url}/v1", "API_KEY": "replay-token"}
        code, out, err = run(world, {f"AGENT_CODE_{name}": value for name, value in endpoints.items()})
    assert (code, err) == (0, ""), out
    assert out.splitlines()[0] == f"code model replay, in {world.repo}" and out.endswith("handed in: 5 steps\n")
    assert "a + b" in (world.repo / "code.py").read_text() and (world.repo / "notes.md").is_file()
    usage = world.logged("usage.json")
    assert (usage["steps"], usage["requests"], usage["answers"], usage["cut_short"]) == (5, 5, 5, None)
    trajectory = world.logged(TRAJECTORY)
    assert trajectory["trajectory_format"] == "mini-swe-agent-1.1"
    assert trajectory["info"]["exit_status"] == "Submitted" and trajectory["info"]["mini_version"] == "2.4.6"
    told = [
        message["extra"]["response"]["usage"] for message in trajectory["messages"] if message["role"] == "assistant"
    ]
    assert sum(one["prompt_tokens"] for one in told) == usage["prompt_tokens"]
    assert sum(one["completion_tokens"] for one in told) == usage["completion_tokens"] > 100
    first = trajectory["messages"][1]["content"]
    assert "Mend `add` {{ as it is said }}." in first and "notes.md" in first
    assert "replay-token" not in json.dumps(trajectory)
    assert world.leftovers() == {}


def test_a_competition_with_the_replay_model(make, tmp_path, data):
    world = make(repository=False, data=data)
    with replay_server(tmp_path / "replay.log") as url:
        endpoints = {"MODEL": "replay", "BASE_URL": f"{url}/v1", "API_KEY": "replay-token"}
        code, out, err = run(world, {f"AGENT_CODE_{name}": value for name, value in endpoints.items()})
    assert (code, err) == (0, ""), out
    assert world.submission.read_text() == (data / "sample_submission.csv").read_text()
    first = world.logged(TRAJECTORY)["messages"][1]["content"]
    assert "# Test task" in first and "validate_submission.sh" in first and "one command at a time" in first


def test_commands_are_run_told_and_kept(make, model, certificates):
    """Over TLS, in the repository, without the keys in what is kept; a hostile command can't lead our files elsewhere."""
    server = model(
        'echo $PWD; cat "$ENDPOINTS_FILE"',
        f'cd "$LOGS_DIR" && rm {TRAJECTORY} && ln -s /dev/full {TRAJECTORY}; rm -rf "$WORKSPACES_DIR/repo"',
        "pwd",
        "echo \0",
        f"{DONE}; echo the rest",
        tls=certificates["ours"],
    )
    world = make()
    code, out, err = run(world, server.endpoints())
    assert (code, err) == (0, ""), out
    calls = [call["json"] for call in server.calls]
    assert [tool["function"]["name"] for tool in calls[0]["tools"]] == ["bash"] and calls[0]["model"] == "gpt-fake"
    kept = (world.folder["LOGS"] / TRAJECTORY).read_text()
    said = [message["content"] for message in json.loads(kept)["messages"] if message["role"] == "tool"]
    assert str(world.repo) in said[0] and "***" in said[0] and "very-secret" not in kept
    assert f'"{world.folder["WORKSPACES"]}\\n"' in said[2]  # its folder is gone
    assert "could not be started: embedded null byte" in said[3] and "step 4/5: echo \0 (The command could not" in out
    assert json.loads(kept)["info"]["submission"] == "the rest\n"


@pytest.mark.parametrize(
    ("script", "variables", "status", "words"),
    [
        (["echo 1"], {"STEP_LIMIT": "2"}, "LimitsExceeded", "all steps are done: 2 steps"),
        (["echo 1"], {"TOKEN_LIMIT": "20"}, "LimitsExceeded", "tokens are used up: 2 steps"),
        (["echo 1", "sleep 60"], {}, "TimeExceeded", "time is over: 2 steps"),
        (["echo 1", "hang"], {}, "TimeExceeded", "time is over: 1 steps"),
        (["sleep 60", DONE], {"COMMAND_TIMEOUT_SECS": "1"}, "Submitted", "handed in: 2 steps"),
        ([("text", "well"), ("text", "no"), DONE], {}, "Submitted", "handed in: 3 steps"),
    ],
    ids=["steps", "tokens", "command", "request", "command's limit", "format"],
)
def test_how_a_run_ends_well(make, model, script, variables, status, words):
    world = make(**variables)
    world.start()
    wait_for((world.folder["LOGS"] / "usage.json").exists, 60, "its imports")
    server = model(*script)
    world.publish(seconds=5 if status == "TimeExceeded" else 60, **server.endpoints())
    deadline = time.time() + 5
    code, out, err = world.finish(90)
    assert (code, err) == (0, ""), out
    assert out.splitlines()[-1] == words
    assert world.logged(TRAJECTORY)["info"]["exit_status"] == status
    assert status != "TimeExceeded" or abs(time.time() - deadline) < 2
    assert world.logged("usage.json")["steps"] == int(words.split()[-2])
    assert world.leftovers() == {}


ERROR = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "status": 429}


@pytest.mark.parametrize(
    ("script", "words", "cut_short"),
    [
        ([401], "HTTP 401", True),
        ([404], "(check its name and address)", True),
        ([ERROR], "(its quota is used up)", True),
        (["echo 1", ("text", "never")], "called no tool as they should (RepeatedFormatError)", False),
        ([503], "HTTP 503", True),
        ([{"choices": []}], "answers with nothing", True),
    ],
    ids=["401", "404", "quota", "no tools", "503", "no choice"],
)
def test_how_a_run_ends_badly(make, model, script, words, cut_short):
    """One line that says why, without the key; what the endpoint did is noted."""
    server = model(*script)
    world = make(REQUEST_PATIENCE_SECS="1")
    code, out, err = run(world, server.endpoints())
    assert code == 1 and err.count("\n") == 1 and err.startswith("mini-swe-agent driver: ") and words in err, err + out
    assert "very-secret" not in out + err + (world.folder["LOGS"] / TRAJECTORY).read_text()
    assert bool(world.logged("usage.json")["cut_short"]) == cut_short
    assert world.leftovers() == {}


def test_a_server_that_is_busy_moves_and_is_a_strangers(make, model, certificates):
    """It is asked again, at the new address too, and nobody else is trusted in its place."""
    stranger, server = model(DONE, tls=certificates["stranger"]), model(500, "echo 1", DONE, tls=certificates["ours"])
    world = make()
    wrong = server.endpoints() | {"AGENT_CODE_BASE_URL": f"{stranger.url}/v1"}
    world.publish(seconds=60, **wrong)
    world.start()
    told = wait_for(lambda: "whoever answers there" in _cut_short(world), 60, "the stranger")
    assert told and not stranger.calls
    world.publish(seconds=60, **server.endpoints())
    code, out, err = world.finish(90)
    assert (code, err) == (0, ""), out
    assert out.endswith("handed in: 2 steps\n") and len(server.calls) == 3
    assert world.logged("usage.json")["cut_short"] is None


def _cut_short(world):
    try:
        return world.logged("usage.json")["cut_short"] or ""
    except (OSError, ValueError):
        return ""


def test_a_signal_ends_it_with_all_that_its_commands_have_started(make, model):
    server = model("setsid sleep 300 & setsid nohup sleep 301 >/dev/null 2>&1 & touch running; sleep 302")
    world = make()
    world.publish(**server.endpoints())
    world.start()
    wait_for((world.repo / "running").exists, 60, "a command")
    assert len(world.leftovers()) >= 5
    world.process.send_signal(signal.SIGTERM)
    code, out, err = world.finish()
    assert (code, err) == (1, "mini-swe-agent driver: stopped by SIGTERM after 0 steps\n")
    assert world.leftovers() == {}


def test_mistakes_of_the_host_are_one_line(make, tmp_path):
    (tmp_path / "empty").mkdir()
    mistakes = {  # variables, endpoints: what is said
        "COMMAND_TIMEOUT_SECS='soon' is not a number of seconds": ({"COMMAND_TIMEOUT_SECS": "soon"}, None),
        "no description": ({"DATA_DIR": str(tmp_path / "empty")}, None),
        "mini-swe-agent needs a model": ({}, {"GRADING_SERVER": "http://127.0.0.1:9"}),
    }
    for said, (variables, endpoints) in mistakes.items():
        world = make(**variables)
        if endpoints:
            world.publish(**endpoints)
        world.start()
        code, out, err = world.finish(60)
        assert code == 1 and err.count("\n") == 1 and said in err, err


def test_it_asks_nobody_else_and_leaves_nothing_at_home(make, model):
    world = make()
    code, out, err = run(world, model(DONE).endpoints())
    assert code == 0 and "LiteLLM" not in out + err
    home = Path(world.variables["HOME"])
    assert {path.name for path in home.iterdir()} == {"submission", "logs", "code", "workspaces", "agent", "endpoints"}
