"""Very many prompts: bounded, lazily taken, ended at once, and no question asked twice after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_servers import Server, asked, chat, cut, echo, status

from helpers.datagen import InferenceFailure, InputValidationError
from helpers.datagen.engines import GenericOpenAIEngine

ROOT = Path(__file__).resolve().parents[2]


def engine(server: Server, **options: object) -> GenericOpenAIEngine:
    options.setdefault("timeout", 10.0)
    return GenericOpenAIEngine(base_url=server.url, model_name="m", **options)


def slow_echo(handler: object, body: dict) -> None:
    time.sleep(0.05)
    echo(handler, body)


def test_each_prompt_gets_its_answer_and_no_more_than_allowed_are_asked_at_a_time() -> None:
    prompts = [f"p{number}" for number in range(60)]
    with Server(slow_echo) as server, engine(server) as model:
        found = dict(model.generate_many(prompts, concurrency=8))
        assert found == {number: f"P{number}" for number in range(60)}
        assert 4 <= server.most <= 8 and len(server.requests) == 60


def test_prompts_are_taken_as_they_are_needed() -> None:
    taken = 0

    def prompts() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"p{taken}"

    with Server(slow_echo) as server, engine(server) as model:
        answers = model.generate_many(prompts(), concurrency=4)
        for number in range(1, 21):
            next(answers)
            assert taken <= number + 2 * 4
        answers.close()
        assert len(server.requests) <= 20 + 2 * 4


def test_nothing_is_asked_twice_and_equal_prompts_are_two(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    count = iter(range(1000))
    with Server(lambda handler, body: handler.reply(200, chat(f"{asked(body)} {next(count)}"))) as server:
        with engine(server) as model:
            first = model.generate_many(["a", "b", "a", "c", "a"], concurrency=1, answers=path)
            some = [next(first) for _ in range(3)]
            first.close()
            assert some == [(0, "a 0"), (1, "b 1"), (2, "a 2")]
        before = len(server.requests)
        assert before <= 5
        with engine(server) as model:
            again = dict(model.generate_many(iter("abaca"), concurrency=1, answers=path))
            assert [again[0], again[1], again[2]] == ["a 0", "b 1", "a 2"] and again[3].startswith("c")
            assert len({again[0], again[2], again[4]}) == 3
            done = len(server.requests)
            assert dict(model.generate_many("abaca", concurrency=3, answers=path)) == again
            assert len(server.requests) == done  # nothing
            dict(model.generate_many("abaca", concurrency=3, answers=path, temperature=1.0))
            assert len(server.requests) == done + 5  # other requests


def test_killed_and_gone_on_with_it_asks_each_once(tmp_path: Path) -> None:
    path, program = tmp_path / "answers.jsonl", tmp_path / "program.py"
    program.write_text(
        "import sys; from helpers.datagen.engines import GenericOpenAIEngine\n"
        "model = GenericOpenAIEngine(base_url=sys.argv[1], model_name='m')\n"
        "for number, text in model.generate_many((f'p{n}' for n in range(80)), concurrency=4, answers=sys.argv[2]):\n"
        "    print(number, text, flush=True)\n"
    )
    gate = threading.Event()

    def gated(handler: object, body: dict) -> None:
        if len(server.requests) > 30:
            gate.wait(20)  # these are under way when it is killed
        echo(handler, body)

    with Server(gated) as server:
        command = [sys.executable, str(program), server.url, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(30):
                process.stdout.readline()
            process.kill()
        gate.set()
        while server.open:
            time.sleep(0.01)
        lost = len(server.requests) - 30
        assert 1 <= lost <= 4
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert sorted(done.stdout.split("\n")[:-1]) == sorted(f"{n} P{n}" for n in range(80))
        # what was answered before is not asked again; what was under way has no answer that anybody got
        assert len(server.requests) == 80 + lost
    assert len(path.read_text().splitlines()) == 80


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; from helpers.datagen.engines import GenericOpenAIEngine; from helpers.lib.signals import catch_signals\n"
        "catch_signals()\n"
        "model = GenericOpenAIEngine(base_url=sys.argv[1], model_name='m')\n"
        "try:\n    list(model.generate_many(map(str, range(100)), concurrency=8))\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    with Server(lambda handler, _: handler.server.over.wait(30)) as server:
        with subprocess.Popen([sys.executable, str(program), server.url], cwd=ROOT) as process:
            while len(server.requests) < 8:
                time.sleep(0.02)
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 130 and time.monotonic() - began < 3


def test_the_first_failure_ends_it_after_what_is_under_way_has_come(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"

    def manner(handler: object, body: dict) -> None:
        if asked(body) == "p3":
            return status(400, {"error": {"message": "too long"}})(handler, body)
        time.sleep(0.3)
        return echo(handler, body)

    found = []
    with Server(manner) as server, engine(server) as model:
        with pytest.raises(InferenceFailure, match="HTTP 400: too long$"):
            for one in model.generate_many([f"p{n}" for n in range(1000)], concurrency=4, answers=path):
                found.append(one)
        assert len(server.requests) < 12
    assert len(found) == len(path.read_text().splitlines()) == len(server.requests) - 1


def test_failures_may_be_told_instead() -> None:
    def manner(handler: object, body: dict) -> None:
        (status(400, {"error": {"message": "no"}}) if asked(body) in "bd" else echo)(handler, body)

    told: dict[int, InferenceFailure] = {}
    with Server(manner) as server, engine(server) as model:
        found = dict(model.generate_many("abcde", concurrency=2, failed=told.__setitem__))
    assert found == {0: "A", 2: "C", 4: "E"} and set(told) == {1, 3} and "HTTP 400: no" in str(told[1])


def test_a_server_that_dies_halfway_and_comes_back_elsewhere(tmp_path: Path) -> None:
    place = tmp_path / "endpoint.json"

    def publish(server: Server) -> None:
        new = tmp_path / "new"
        new.write_text(json.dumps({"endpoint_url": server.url, "model_name": "m"}))
        os.replace(new, place)

    dead = threading.Event()

    def dies(handler: object, body: dict) -> None:
        if len(server.requests) > 20:
            dead.set()
            return cut(handler, body)
        return slow_echo(handler, body)

    def move() -> None:
        dead.wait(20)
        server.__exit__()
        place.unlink()
        time.sleep(0.5)
        publish(second)

    with Server(dies) as server, Server(slow_echo) as second:
        publish(server)
        mover = threading.Thread(target=move)
        mover.start()
        with GenericOpenAIEngine(place, timeout=20) as model:
            found = dict(model.generate_many([f"p{n}" for n in range(50)], concurrency=4, answers=tmp_path / "answers"))
        mover.join()
        assert found == {n: f"P{n}" for n in range(50)}
        assert len(second.requests) == 30


def test_what_is_asked_wrongly(tmp_path: Path) -> None:
    with Server() as server, engine(server) as model:
        with pytest.raises(InputValidationError, match="concurrency: must be at least 1, not 0"):
            list(model.generate_many("a", concurrency=0))
        with pytest.raises(
            InputValidationError, match="prompt: must be a text, or a list of messages with role and content, found 7"
        ):
            list(model.generate_many([7]))
        with pytest.raises(InputValidationError, match="a prompt, or an option of its request, is no JSON: "):
            model.generate("a", stop={1})
        with pytest.raises(InputValidationError, match="no JSON: "):
            list(model.generate_many("a", temperature=float("nan"), answers=tmp_path / "answers"))
        assert not server.requests


def test_no_thread_stays(tmp_path: Path) -> None:
    with Server(slow_echo) as server, engine(server) as model:
        answers = model.generate_many(map(str, range(100)), concurrency=8, answers=tmp_path / "answers")
        next(answers)
        del answers
        names = [one.name for one in threading.enumerate()]
        assert not [name for name in names if name.startswith(("generate", "deadlines"))]


def test_an_engine_that_is_closed_ends_what_other_threads_ask_of_it() -> None:
    found: list[str] = []

    def ask(model: GenericOpenAIEngine) -> None:
        try:
            list(model.generate_many(map(str, range(9)), concurrency=3))
        except InferenceFailure as error:
            found.append(str(error))

    with Server(lambda handler, _: handler.server.over.wait(30)) as server:
        with engine(server) as model:
            thread = threading.Thread(target=ask, args=(model,))
            thread.start()
            while len(server.requests) < 3:
                time.sleep(0.01)
        thread.join(5)
        assert len(found) == 1 and found[0].endswith("its answer is not waited for: the generation was ended")
        with pytest.raises(InferenceFailure, match="vllm_local: the engine was closed, and asks nothing any more"):
            model.generate("a")
        with pytest.raises(InferenceFailure, match="the engine was closed"):
            next(model.generate_many("a"))
