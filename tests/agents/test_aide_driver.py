"""The AIDE agent as the host runs it: real AIDE, with the replay model and with models that misbehave."""

import json
import os
import signal
import subprocess
import time
from email.utils import formatdate

import pytest
from agent_support import AIDE_PYTHON, Grading, program, replay_server, review, wait_for

ENDLESS = "import time\nopen('running', 'w').close()\ntime.sleep(600)"
STUBBORN = "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\n" + ENDLESS
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(0.05)
            open('working/submission.csv', 'w').write('FROM THE DAEMON')
    os._exit(0)
os.wait()
"""


def running(world):
    return (world.folder["WORKSPACES"] / "aide" / "running").exists()


@pytest.fixture(scope="module", autouse=True)
def aide_is_there():
    assert AIDE_PYTHON.exists(), f"no {AIDE_PYTHON}: make setup"


def test_a_run_with_the_replay_model(make_world, grading, tmp_path, data):
    world = make_world()
    with replay_server(tmp_path / "replay.log") as url:
        model = {"MODEL": "replay", "BASE_URL": f"{url}/v1", "API_KEY": "replay-token"}
        models = {f"AGENT_{role}_{name}": value for role in ("CODE", "FEEDBACK") for name, value in model.items()}
        world.publish(**models, **grading.endpoints)
        world.start()
        code, out, err = world.finish()
    assert (code, err) == (0, "")

    # all steps are told, kept and countable
    nodes = world.logged("journal.json")["nodes"]
    metrics = [node["metric"]["value"] for node in nodes]
    assert len(nodes) == 3 and not any(node["is_buggy"] for node in nodes)
    assert world.logged("usage.json")["steps"] == 3
    assert world.logged("usage.json")["requests"] == 6
    assert world.logged("usage.json")["completion_tokens"] > 100
    assert len([line for line in out.splitlines() if line.startswith("step ")]) == 3
    assert sorted(path.name for path in world.folder["CODE"].iterdir()) == [
        "best_solution.py",
        "step_001.py",
        "step_002.py",
        "step_003.py",
    ]
    # the best program's submission counts, and it isn't the last one's (which AIDE leaves in ./working)
    best = metrics.index(max(metrics))
    assert best == 1 and metrics[2] < metrics[1], f"the task no longer shows the difference: {metrics}"
    best_code = (world.folder["CODE"] / f"step_{best + 1:03d}.py").read_text()
    assert (world.folder["LOGS"] / "best_solution.py").read_text() == best_code
    again = world.base / "again"
    (again / "working").mkdir(parents=True)
    (again / "input").symlink_to(data)
    subprocess.run(
        [AIDE_PYTHON, "-c", best_code], cwd=again, env=world.variables, check=True, stdout=subprocess.DEVNULL
    )
    assert world.submission.read_bytes() == (again / "working" / "submission.csv").read_bytes()
    assert len(world.submission.read_text().splitlines()) == 101
    # validated twice (two new bests), with the agent's token
    assert [call["path"] for call in grading.calls] == ["/validate", "/validate"]
    assert world.leftovers() == {}
    # AIDE itself can read its journal
    check = "import pathlib, sys; from aide.utils.serialize import load_json; from aide.journal import Journal; "
    check += "print(len(load_json(pathlib.Path(sys.argv[1]), Journal)))"
    read = [AIDE_PYTHON, "-c", check, world.folder["LOGS"] / "journal.json"]
    assert subprocess.run(read, capture_output=True, text=True).stdout == "3\n"
    # the prompt has the task and the agent's instructions, filled in
    instructions = (world.folder["WORKSPACES"] / "instructions.txt").read_text()
    assert grading.url in instructions and "@" not in instructions


def test_whatever_a_model_answers_the_run_goes_on(make_world, make_model, grading):
    """One run, one mishap a step; only the sound programs count."""
    too_long = (400, {"error": {"message": "max_tokens must be at least 1, got -200.", "code": 400}})
    page = (200, b"<html>a proxy's page</html>")
    odd = (200, {"choices": [{"message": {"content": 5}}]})
    link = "import os; os.symlink(os.path.realpath('input/train.csv'), 'working/submission.csv')"
    huge = "open('working/submission.csv', 'w').truncate(1 << 40)"
    good = program(0.5, "good\n")
    # fmt: off
    steps = [  # answers for code, answers for reviews, is it buggy, does it become the best
        ([program(0.5, "first\n")],                 [review(0.5)],                         False, True),
        ([program(2, "int\n")],                     [review(2)],                           False, True),
        ([good],                                    ["{not json"],                         False, False),
        ([good],                                    [{"is_bug": False, "metric": "0.25"}], False, False),
        ([good],                                    ['{"is_bug": false, "lower_is_better": true, "metric": NaN}'],
                                                                                           False, False),
        ([good],                                    [{**review(1), "metric": True}],       False, False),
        ([good],                                    ["[]"],                                False, False),
        ([good],                                    [too_long, review(0.5)],               False, False),
        ([program(9, "x", "import os; os._exit(3)")], [review(9.0)],                       True, False),
        ([program(3, "daemon\n", DAEMON)],          [review(3.0)],                         False, True),
        ([program(5)],                              [review(5.0)],                         True, False),
        ([program(6, None, link)],                  [review(6.0)],                         True, False),
        ([program(6, None, huge)],                  [review(6.0)],                         True, False),
        ([program(7, "INVALID\n")],                 [review(7.0)],                         True, False),
        ([program(0.1, "other direction\n")],       [review(0.1, lower=True)],             False, False),
        ([500, 429, page, program(4, "patience\n")],      [503, review(4.0)],                    False, True),
        ([too_long, good],                          [review(0.5)],                         False, False),
        ([odd, good],                               [review(0.5)],                         False, False),
        ([None, "no code", "```python\n(\n```"],    [review(None, bug=True)],              True, False),
        ([program(0, "z", "import shutil; shutil.rmtree('working'); shutil.rmtree('input'); raise OSError('\\udcff')")],
                                                    [review(None, bug=True)],              True, False),
        ([program(0, "z", "raise ValueError('x' * 10_000_000)")], [review(None, bug=True)], True, False),
        ([good],                                    ["text: I think it is fine"],          False, False),
        ([program(1.5, "last\n", "open('input/train.csv').close(); print('x' * 300_000)")],
                                                    [review(1.5)],                         False, False),
    ]
    # fmt: on
    coder = make_model(
        name="gpt-4.1", token="code-key", code=[answer for step in steps for answer in step[0]] + ["spare"]
    )
    critic = make_model(name="claude-x", token="critic-key", reviews=[a for step in steps for a in step[1]] + ["spare"])
    world = make_world(STEP_LIMIT=str(len(steps)))
    world.publish(**coder.endpoints("CODE"), **critic.endpoints("FEEDBACK"), **grading.endpoints)
    world.start()
    code, out, err = world.finish()
    assert (code, err) == (0, ""), out
    told = [line for line in out.splitlines() if line.startswith("step ")]
    assert len(told) == len(steps)
    nodes = world.logged("journal.json")["nodes"]
    assert [node["is_buggy"] for node in nodes] == [step[2] for step in steps], out
    for number, (line, step) in enumerate(zip(told, steps, strict=True), 1):
        assert (f"(step {number})" in line) == step[3], line
    assert world.submission.read_text() == "patience\n"
    assert "patience" in (world.folder["CODE"] / "best_solution.py").read_text()
    assert world.leftovers() == {}
    # the verdict reaches the model's next prompt through the program's output, and no score does
    refused = next(node for node in nodes if "INVALID" in node["code"])
    assert 'Column "x" is not there' in "".join(refused["_term_out"])
    # a review with a whole number counts, one that can't be read is replaced by what was printed, a flood of output is cut
    assert [node["metric"]["value"] for node in nodes[1:5]] == [2.0, 0.5, 0.25, 0.5]
    assert "Judged by what the program printed" in nodes[2]["analysis"]
    assert len("".join(nodes[-1]["_term_out"])) < 110_000
    assert all(len(json.dumps(node["exc_info"])) < 5000 for node in nodes)
    # the first answer that is none is told; a prompt that was too long is sent again, shorter
    assert (
        'answers with no JSON but "<html>a proxy\'s page</html>"; trying again' in out
        or "status 500; trying again" in out
    )
    shorter = [len(call["json"]["messages"][0]["content"]) for call in critic.calls[7:9]]
    assert shorter[1] < 0.7 * shorter[0]
    asked = len(coder.calls) + len(critic.calls)
    assert world.logged("usage.json") == {
        "steps": len(steps),
        "requests": asked,
        "answers": asked - 7,  # refusals, errors, and two answers that were none
        "rate_limited": 1,
        "server_errors": 2,
        "prompt_tokens": 10 * (asked - 7),
        "completion_tokens": 3 * (asked - 7),
        "cut_short": None,
        "note": None,
    }
    assert {call["json"]["model"] for call in critic.calls} == {"claude-x"}


def test_files_before_the_services_are_ready_and_a_server_that_moves(make_world, make_model, grading):
    world = make_world(STEP_LIMIT="1")
    world.start()
    wait_for((world.folder["LOGS"] / "journal.json").exists, what="empty journal")
    assert world.logged("journal.json")["nodes"] == []
    assert world.logged("usage.json")["steps"] == 0
    model = make_model(code=[program(1, "moved\n")])
    dead = {name: value.replace(model.url, "http://127.0.0.1:9") for name, value in model.endpoints("CODE").items()}
    world.publish(**dead, **grading.endpoints)
    assert "trying again" in read_until(world, "trying again")
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    code, out, err = world.finish()
    assert (code, err) == (0, "")
    assert world.submission.read_text() == "moved\n"


def test_servers_are_known_by_their_certificates(make_world, make_model, certificates):
    """A stranger on the model's or the grader's port sees no token; the run goes on with the true ones when they are back."""
    ours, stranger = certificates["ours"], certificates["stranger"]
    model = make_model(code=[program(1, "first\n"), program(2, "second\n")], tls=ours)
    false_model = make_model(code=[program(9, "stolen\n")], tls=stranger)
    grading, false_grading = Grading(ours), Grading(stranger)
    # no proxy leads to the run's own servers, and authorities that others trust don't count
    surroundings = {"https_proxy": "http://127.0.0.1:9", "SSL_CERT_FILE": str(stranger.path)}
    world = make_world(STEP_LIMIT="2")
    pinned = {name: str(ours.path) for name in ("AGENT_CODE_CA_FILE", "GRADING_CA_FILE")}
    world.publish(**false_model.endpoints("CODE") | false_grading.endpoints | surroundings | pinned)
    world.start()
    try:
        assert "whoever answers there is not this run's model" in read_until(world, "trying again")
        world.publish(**model.endpoints("CODE") | false_grading.endpoints | surroundings | pinned)
        wait_for(lambda: len(model.calls) == 2, what="a review")
        world.publish(**model.endpoints("CODE") | grading.endpoints | surroundings)
        code, out, err = world.finish()
    finally:
        grading.close()
        false_grading.close()
    assert (code, err) == (0, ""), out
    assert world.submission.read_text() == "second\n"
    assert len(model.calls) == 4 and {call["token"] for call in grading.calls} == {f"Bearer {grading.token}"}
    assert false_model.calls == false_grading.calls == []


def read_until(world, text):
    for line in world.process.stdout:
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never printed")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {"error": {"message": "no such key: very-secret"}}), "no such key: ***"),
        ((400, {"error": {"message": "bad tool_choice\nno parser"}}), "no parser"),
    ],
    ids=["401", "400"],
)
def test_a_refusal_ends_the_run_with_one_line(make_world, make_model, grading, answer, message):
    model = make_model(code=[answer], token="very-secret")
    world = make_world()
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    world.start()
    code, out, err = world.finish()
    assert code == 1
    assert message in err
    assert err.count("\n") == 1 and err.startswith("aide driver: code model 'gpt-fake' at http")
    assert "very-secret" not in out + err
    assert len(model.calls) == 1
    assert world.leftovers() == {}


@pytest.mark.parametrize("where", ["request", "program"])
def test_the_deadline_ends_all(make_world, make_model, grading, where):
    """The deadline ends a request without an answer, and a program that ignores every polite signal."""
    answers = {"request": "hang", "program": program(9, "never\n", STUBBORN)}
    model = make_model(code=[program(1, "in time\n"), answers[where]])
    world = make_world()
    world.start()
    wait_for((world.folder["LOGS"] / "journal.json").exists, what="import of AIDE")
    world.publish(seconds=3, **model.endpoints("CODE"), **grading.endpoints)
    deadline = time.time() + 3
    code, out, err = world.finish()
    assert abs(time.time() - deadline) < 1.5
    assert (code, err) == (0, "")
    assert "time is over" in out.splitlines()[-1] and "1 steps" in out.splitlines()[-1]
    assert running(world) == (where == "program")
    assert world.submission.read_text() == "in time\n"
    assert world.leftovers() == {}


def test_the_time_limit_of_a_program(make_world, make_model, grading):
    """A program over its limit is interrupted, one that dies of a signal is noticed at once, and the next one runs."""
    killed = program(2, "x\n", "import os; os.kill(os.getpid(), 9)")
    model = make_model(code=[program(3, "late\n", ENDLESS), killed, program(1, "next\n")])
    world = make_world(AIDE_OPTIONS="exec.timeout=1")
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    world.start()
    code, out, err = world.finish()
    assert (code, err) == (0, "")
    nodes = world.logged("journal.json")["nodes"]
    assert [node["exc_type"] for node in nodes] == ["TimeoutError", "RuntimeError", None]
    assert nodes[0]["exec_time"] < 4 and nodes[1]["exec_time"] < 1
    assert "SIGKILL" in "".join(nodes[1]["_term_out"])
    assert world.submission.read_text() == "next\n"
    assert world.leftovers() == {}


def test_a_signal_while_a_program_runs(make_world, make_model, grading):
    model = make_model(code=[program(1, "before\n"), program(9, "x\n", f"{DAEMON}\n{STUBBORN}")])
    world = make_world()
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    world.start()
    wait_for(lambda: running(world), what="the second program")
    assert len(world.leftovers()) >= 4  # watcher, AIDE, the program, its daemon: the search would see them
    world.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code, out, err = world.finish()
    assert time.monotonic() - started < 3
    assert code == 1
    assert err == "aide driver: stopped by SIGTERM after 1 steps\n"
    assert world.submission.read_text() == "before\n"
    assert len(world.logged("journal.json")["nodes"]) == 1
    assert world.leftovers() == {}


def test_kill_9_takes_aide_and_its_program_along(make_world, make_model, grading):
    model = make_model(code=[program(9, "x\n", STUBBORN)])
    world = make_world()
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    world.start()
    wait_for(lambda: running(world), what="the program")
    world.process.kill()
    wait_for(lambda: not world.leftovers(), 5, "the end of all processes")


def test_aide_killed_is_told(make_world, make_model, grading):
    model = make_model(code=["hang"])
    world = make_world()
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    world.start()
    wait_for(lambda: model.calls, what="a request")
    workers = [pid for pid in world.leftovers() if pid != world.process.pid]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    code, out, err = world.finish()
    assert code == 1
    assert err == "aide driver: AIDE's process was ended by SIGKILL (out of memory?) after 0 steps\n"


def test_mistakes_of_the_host_are_one_line(make_world, tmp_path):
    (tmp_path / "empty").mkdir()
    mistakes = {  # variables, endpoints: what is said
        "DATA_DIR is not set; STEP_LIMIT='many' is not": ({"STEP_LIMIT": "many", "DATA_DIR": ""}, None),
        "no description": ({"DATA_DIR": str(tmp_path / "empty")}, None),
        "AIDE_OPTIONS": ({"AIDE_OPTIONS": "exec.tiemout=3"}, None),
        "AIDE needs a model": ({}, {"GRADING_SERVER": "http://127.0.0.1:9"}),
    }
    for said, (variables, endpoints) in mistakes.items():
        world = make_world(**variables)
        if endpoints:
            world.publish(**endpoints)
        world.start()
        code, out, err = world.finish()
        assert code == 1 and err.count("\n") == 1 and said in err, err


def test_odd_data_and_a_grading_server_that_is_away(make_world, make_model, tmp_path, data):
    """Files that AIDE's preview can't read don't end the run; a submission that can't be validated is kept."""
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "description.md").write_bytes(b"caf\xe9")
    (odd / "train.csv").write_bytes(b'\xff\xfe\x00\n"')
    (odd / "sub").mkdir()
    model = make_model(code=[program(1, "kept\n")])
    world = make_world(data=odd, STEP_LIMIT="1")
    world.publish(**model.endpoints("CODE"), GRADING_SERVER="http://127.0.0.1:9", GRADING_TOKEN="t")
    world.start()
    code, out, err = world.finish()
    assert (code, err) == (0, ""), out
    assert "not validated" in out
    assert world.submission.read_text() == "kept\n"
    assert "./input/train.csv (5 bytes)" in json.dumps(model.calls[0]["json"])


def test_what_needs_no_service(make_world):
    """Long chains of nodes, with AIDE's own classes but without a run."""
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
from aide.journal import Journal, Node
from aide.utils.metric import MetricValue
from aide_worker import journal_json
journal = Journal()
for number in range(1500):
    parent = journal.nodes[-1] if journal.nodes else None
    node = Node(plan=f"plan {number}.", code="", parent=parent, _term_out=[], is_buggy=False)
    node.metric = MetricValue(0.5, maximize=True)
    journal.append(node)
saved = json.loads(journal_json(journal))
assert len(saved["nodes"]) == 1500 and len(saved["node2parent"]) == 1499
"""
    folder = make_world().folder["AGENT"]
    done = subprocess.run([AIDE_PYTHON, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_valid_submission_that_no_review_chose_is_kept(make_world, make_model, grading):
    """Better than nothing, and told as what it is; a step that a review takes for good replaces it."""
    rejected, silent = review(None, bug=True), "print = lambda *_: None"
    answers = [program(1, "INVALID\n"), program(1, "one\n"), program(1, "INVALID\n"), program(1, "two\n", silent)]
    model = make_model(code=answers, reviews=[rejected, rejected, rejected, "text: Looks fine to me."])
    world = make_world(STEP_LIMIT="4")
    world.publish(**model.endpoints("CODE"), **grading.endpoints)
    world.start()
    code, out, err = world.finish()
    assert (code, err) == (0, "")
    assert world.submission.read_text() == "two\n"
    assert all(node["is_buggy"] for node in world.logged("journal.json")["nodes"])
    assert world.logged("usage.json")["note"] == "no review chose the submission: step 4 wrote it"
    assert out.splitlines()[-1] == "all steps are done: 4 steps, a submission that no review chose (step 4)"
    assert "submission invalid" in out and "kept though no review chose it" in out


@pytest.mark.parametrize(
    ("answers", "seconds", "code", "steps", "words"),
    [
        ([(200, b"a page")], 60, 1, 0, "answers with no JSON but 'a page'; it was tried for 0 s"),
        ([429], 3, 0, 0, "HTTP 429: status 429"),
        ([500], 3, 0, 0, "HTTP 500: status 500"),
        (["hang"], 3, 0, 0, "has not answered"),
        ([(200, {"error": {"message": "no worker for key very-secret"}})], 3, 0, 0, "no worker for key ***"),
        (
            [program(1, "one\n"), (429, {"error": {"message": "pay", "code": "insufficient_quota"}})],
            60,
            1,
            1,
            "HTTP 429: pay",
        ),
        (
            [program(1, "one\n"), (402, {"error": {"message": "Insufficient Balance"}})],
            60,
            1,
            1,
            "Insufficient Balance",
        ),
        ([program(1, "one\n"), (404, b"nginx")], 60, 1, 1, "nginx"),
    ],
    ids=["page", "429", "500", "hang", "error in 200", "quota", "balance", "404"],
)
def test_what_an_endpoint_did_to_a_run_is_written_down(
    make_world, make_model, grading, answers, seconds, code, steps, words
):
    """For the job, which judges whose fault it was: how many answers there were, and why there were no more."""
    model = make_model(code=answers, token="very-secret")
    world = make_world(REQUEST_PATIENCE_SECS="0" if words.startswith(("answers", "HTTP")) else "60")
    world.start()
    wait_for((world.folder["LOGS"] / "journal.json").exists, what="import of AIDE")
    world.publish(seconds=seconds, **model.endpoints("CODE"), **grading.endpoints)
    ended, out, err = world.finish()
    usage = world.logged("usage.json")
    assert (ended, usage["steps"], usage["answers"]) == (code, steps, 2 * steps), out + err
    assert f"code model 'gpt-fake' at {model.url}/v1" in usage["cut_short"] and words in usage["cut_short"]
    assert "very-secret" not in out + err + usage["cut_short"]
    assert world.submission.exists() == bool(steps)


@pytest.mark.slow
def test_a_busy_endpoint_is_waited_for_as_long_as_there_is_time(make_world, make_model, grading):
    """Whatever the patience with one that is away; and it is asked no sooner than it says, in seconds or by a date."""
    soon = formatdate(time.time() + 60, usegmt=True)
    busy = [(429, {}, {"Retry-After": "2"}), 429, (503, b"away", {"Retry-After": "soon"}), 500, 502, 599]
    model = make_model(code=[*busy, program(1, "one\n"), (503, b"maintenance", {"Retry-After": soon})])
    world = make_world(REQUEST_PATIENCE_SECS="0", STEP_LIMIT="2")
    world.start()
    wait_for((world.folder["LOGS"] / "journal.json").exists, what="import of AIDE")
    world.publish(seconds=20, **model.endpoints("CODE"), **grading.endpoints)
    code, out, err = world.finish()
    assert (code, err) == (0, ""), out
    times = [call["time"] for call in model.calls]
    assert times[1] - times[0] >= 1.9 and times[-1] - times[0] < 19, times
    usage = world.logged("usage.json")
    assert (usage["requests"], usage["answers"], usage["rate_limited"], usage["server_errors"]) == (9, 2, 2, 5)
    assert "HTTP 503: maintenance" in usage["cut_short"] and "tried for" not in usage["cut_short"]
    assert world.submission.read_text() == "one\n"


def test_pipes_in_place_of_our_files_hold_up_nobody(make_world, make_model, grading):
    """A program of the model has the agent's rights; what it does to the agent's files must not keep it from ending in time."""
    pipes = """
import os
for name in ("usage.json", ".usage.json.new", ".journal.json.new"):
    place = os.path.join(os.environ["LOGS_DIR"], name)
    if os.path.exists(place):
        os.remove(place)
    os.mkfifo(place)
"""
    model = make_model(code=[program(1, "one\n", pipes), program(2, "two\n", pipes + ENDLESS)])
    world = make_world()
    world.start()
    wait_for((world.folder["LOGS"] / "journal.json").exists, what="import of AIDE")
    world.publish(seconds=4, **model.endpoints("CODE"), **grading.endpoints)
    code, out, err = world.finish(10)
    assert (code, err) == (0, ""), out
    assert world.submission.read_text() == "one\n"
    assert len(world.logged("journal.json")["nodes"]) == 1


@pytest.mark.parametrize(
    ("limit", "steps", "cut_short"), [("52", 2, "its 52 tokens were used up (52)"), ("53", 3, None)]
)
def test_no_program_is_asked_for_once_the_tokens_are_used_up(make_world, make_model, grading, limit, steps, cut_short):
    scores = (0.5, 0.6, 0.7)
    model = make_model(code=[program(score, "a\n") for score in scores], reviews=[review(score) for score in scores])
    world = make_world(STEP_LIMIT="3", TOKEN_LIMIT=limit)
    world.publish(**model.endpoints("CODE"), **model.endpoints("FEEDBACK"), **grading.endpoints)
    world.start()
    code, out, err = world.finish()
    assert (code, err) == (0, ""), out
    usage = world.logged("usage.json")
    # a program that was written is run and reviewed all the same
    assert (usage["steps"], usage["requests"], usage["cut_short"]) == (steps, 2 * steps, cut_short)
    assert usage["prompt_tokens"] + usage["completion_tokens"] == 26 * steps
    assert ("tokens are used up: 2 steps" in out) == bool(cut_short)
    assert len(world.logged("journal.json")["nodes"]) == steps and world.submission.is_file()
