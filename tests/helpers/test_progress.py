"""How far an agent is, and how far a model has loaded: what is told, what isn't believed, and how often."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from test_jobs import call, lines_of, make_group, make_run, put, quick, scheduler  # noqa: F401

from helpers.jobs import progress
from helpers.jobs.progress import Looks, Progress, loading
from helpers.jobs.watch import Watch, _plain
from helpers.lib import disk, durations
from helpers.runs.metadata import Run

VLLM = """\
(EngineCore_DP0 pid=164) INFO 01-23 15:49:00 [gpu_model_runner.py:2602] Starting to load model Qwen/Qwen3-30B...
Loading safetensors checkpoint shards:   0% Completed | 0/16 [00:00<?, ?it/s]
Loading safetensors checkpoint shards:  25% Completed | 4/16 [00:06<00:20,  6.72s/it]
"""


def node(value: Any, maximize: Any = True, is_buggy: Any = False) -> dict[str, Any]:
    return {"code": "x", "metric": {"value": value, "maximize": maximize}, "is_buggy": is_buggy}


def agent(folder: Path, nodes: Any = (), steps: Any = 3, seconds_ago: float = 90, **told: Any) -> Run:
    """A run whose agent has started a minute ago, and may take an hour."""
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))
    metadata = {"state": "running", "agent_started_at": began, "time_limit_seconds": 3600, "step_limit": 500, **told}
    put(folder / "run_metadata.json", metadata)
    put(folder / "logs" / "usage.json", {"steps": steps})
    put(folder / "logs" / "journal.json", {"nodes": list(nodes)})
    return Run(folder, metadata)


def best_of(folder: Path, text: str | bytes) -> float | None:
    run = agent(folder)
    (folder / "logs" / "journal.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Looks().agent(run).best


# ---- an agent


def test_step_best_and_time_left(tmp_path: Path) -> None:
    run = agent(tmp_path, [node(0.5), node(0.83125), node(0.99, is_buggy=True), node(None)])
    seen = Looks().agent(run)
    assert (seen.step, seen.steps, seen.best) == (3, 500, 0.83125)
    assert seen.words(time.time()) == "step 3 of 500, best 0.83125 by its own measure, 58 min left"
    assert seen.data(time.time())["seconds_left"] in (3508, 3509, 3510)


def test_the_best_is_the_least_where_less_is_better(tmp_path: Path) -> None:
    nodes = [node(0.5, False), node(0.3, False), node(0.9, True)]
    assert Looks().agent(agent(tmp_path, nodes)).best == 0.3


def test_time_that_is_up_is_not_told_as_negative() -> None:
    assert Progress(step=2, ends=100.0).words(200.0) == "step 2, its time is up"
    assert Progress(ends=100.0).data(200.0)["seconds_left"] == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (190_800, "2 d 5 h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert durations.words(seconds) == said


def test_of_an_agent_that_tells_nothing_only_the_time_is_known(tmp_path: Path) -> None:
    run = Run(tmp_path, {"state": "running", "agent_started_at": "2026-01-01T00:00:00Z", "time_limit_seconds": 60})
    assert Looks().agent(run).words(time.time()) == "its time is up"
    assert Looks().agent(Run(tmp_path / "none", {"state": "running"})).words(time.time()) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"nodes": [{"metric": {"value": 0.5, "maxi',
        "[1]",
        '{"nodes": 7}',
        '{"nodes": [7, null, {"metric": 3, "is_buggy": false}]}',
        json.dumps({"nodes": [node("0.5"), node(True), node([0.5]), node(0.5, "yes"), node(0.5, None)]}),
        '{"nodes": [{"metric": {"value": NaN, "maximize": true}, "is_buggy": false}]}',
        '{"nodes": [{"metric": {"value": 1e999, "maximize": true}, "is_buggy": false}]}',
        '{"nodes": [{"metric": {"value": %s, "maximize": true}, "is_buggy": false}]}' % ("9" * 400),
        '{"nodes": [{"metric": {"value": %s, "maximize": true}, "is_buggy": false}]}' % ("9" * 100_000),
        "[" * 100_000,
        b"\xff\xfe\x00\x1b[2J",
    ],
    ids=range(12),
)
def test_a_journal_that_is_none_hurts_nothing(tmp_path: Path, text: str | bytes) -> None:
    assert best_of(tmp_path, text) is None


def test_a_journal_that_takes_too_much_is_read_once_and_never_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(progress, "JOURNAL_MEMORY", 32 * 2**20)
    run, looks = agent(tmp_path), Looks(0.0)
    journal = tmp_path / "logs" / "journal.json"
    journal.write_text("[" + "[],\n" * 2_000_000 + "[]]")
    assert looks.agent(run).best is None
    monkeypatch.setattr(progress.bounded, "call", lambda *_, **__: pytest.fail("it was read again"))
    journal.write_text("{}")
    assert looks.agent(run).step == 3


def test_a_journal_that_is_larger_than_any_is_not_read(tmp_path: Path) -> None:
    run = agent(tmp_path)
    os.truncate(tmp_path / "logs" / "journal.json", 2**40)
    assert Looks().agent(run).best is None


@pytest.mark.parametrize("name", ["usage.json", "journal.json"])
def test_links_and_pipes_are_not_followed(tmp_path: Path, name: str) -> None:
    run = agent(tmp_path / "run", [node(0.5)])
    secret = tmp_path / "secret"
    put(secret, {"steps": 99, "nodes": [node(0.99)]})
    for lay in (lambda path: path.symlink_to(secret), os.mkfifo):
        path = tmp_path / "run" / "logs" / name
        path.unlink()
        lay(path)
        seen = Looks().agent(run)
        assert (seen.step, seen.best) == ((None, 0.5) if name == "usage.json" else (3, None))


def test_a_folder_of_logs_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    run = agent(tmp_path / "run", [node(0.5)])
    (tmp_path / "run" / "logs").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "logs").symlink_to(tmp_path / "elsewhere")
    seen = Looks().agent(run)
    assert (seen.step, seen.best) == (None, None)


def test_a_journal_half_written_leaves_what_was_known(tmp_path: Path) -> None:
    run, looks = agent(tmp_path, [node(0.5)]), Looks(0.0)
    assert looks.agent(run).best == 0.5
    (tmp_path / "logs" / "journal.json").write_text('{"nodes": [')
    assert looks.agent(run).best == 0.5


@pytest.mark.parametrize("steps", [-1, True, "3", 10**16, None, 2.5])
def test_steps_that_are_no_count_are_not_told(tmp_path: Path, steps: Any) -> None:
    assert Looks().agent(agent(tmp_path, steps=steps)).step is None


def test_an_agent_is_looked_at_once_in_a_while(tmp_path: Path) -> None:
    run, looks = agent(tmp_path), Looks(60.0)
    assert looks.agent(run).step == 3
    put(tmp_path / "logs" / "usage.json", {"steps": 4})
    assert looks.agent(run).step == 3
    looks.seconds = 0.0
    assert looks.agent(run).step == 4


# ---- a model


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "loading weights 25 % (4 of 16 files)"),
        ("Loading safetensors checkpoint shards:  50% Completed | 8/16", "loading weights 50 % (8 of 16 files)"),
        ("INFO [default_loader.py:267] Loading weights took 15.27 seconds", "weights loaded, preparing"),
        ("INFO [backends.py:559] Dynamo bytecode transform time: 4.5 s", "compiling"),
        ("INFO [kv_cache_utils.py:1087] GPU KV cache size: 49,152 tokens", "memory allotted, warming up"),
        ("Capturing CUDA graphs (decode, FULL):  31%|███   | 11/35 [00:05<00:00]", "capturing CUDA graphs 31 %"),
        ("INFO [gpu_model_runner.py:3480] Graph capturing finished in 8 secs", "loaded, about to answer"),
        ("Loading safetensors checkpoint shards: \x1b[31m100% Completed", "loading weights 25 % (4 of 16 files)"),
    ],
)
def test_how_far_a_model_has_loaded(more: str, said: str) -> None:
    assert loading(VLLM + more) == said


def test_of_a_log_that_says_nothing_nothing_is_told(tmp_path: Path) -> None:
    assert loading("") == "" and loading("vllm_30b isn't ready yet, after 1 of at most 30 minutes") == ""
    assert Looks().server("12", lambda: None) == "" and Looks().server("12", lambda: tmp_path / "none") == ""


def test_downloads_are_told_too() -> None:
    assert loading("Fetching 16 files:  12%|█▎        | 2/16") == "downloading the weights 12 %"


# ---- where it is shown


@pytest.fixture
def group(tmp_path: Path, scheduler: Any) -> Path:  # noqa: F811
    scheduler(dict.fromkeys(("11", "12", "13"), "RUNNING"))
    folder = make_group(tmp_path / "g", ["13"])
    agent(folder / "toy_13", [node(0.75)], job_id="13", agent="aide")
    put(folder / "services" / "grading_server_11.json", {"ready_at": "2026-01-01T00:00:00Z", "ended_at": None})
    put(folder / "services" / "vllm_30b_12.json", {"ready_at": None})
    (folder / "logs" / "vllm_30b-12.out").write_text(VLLM)
    return folder


def test_status_tells_how_far_all_is(group: Path, capsys: Any) -> None:
    code, out, _ = call(capsys, "status", group)
    assert code == 0
    assert "starting: loading weights 25 % (4 of 16 files)" in out and "RUNNING  ready" in out
    assert "toy_13  running  step 3 of 500, best 0.75 by its own measure, 58 min left" in out


def test_status_tells_programs_too(group: Path, capsys: Any) -> None:
    told = json.loads(call(capsys, "status", group, "--json")[1])
    assert [job["doing"] for job in told["jobs"]] == ["ready", "starting: loading weights 25 % (4 of 16 files)", None]
    (one,) = told["runs"]
    assert one["progress"] | {"seconds_left": 0} == {"step": 3, "steps": 500, "best_metric": 0.75, "seconds_left": 0}


def test_why_tells_how_far_a_model_is(group: Path, capsys: Any) -> None:
    said = call(capsys, "why", group)[1]
    assert "is loading the model (loading weights 25 % (4 of 16 files)), which takes 5 to 15 minutes" in said


def test_what_an_agent_writes_drives_no_terminal(group: Path, capsys: Any) -> None:
    (group / "toy_13" / "logs" / "usage.json").write_text('{"steps": "\\u001b[2J"}')
    (group / "toy_13" / "logs" / "journal.json").write_text('{"nodes": [{"metric": {"value": "\\u001b[2J"}}]}')
    out = call(capsys, "status", group)[1]
    assert "\x1b" not in out and "toy_13  running  58 min left" in out


def test_the_watcher_says_a_line_only_when_something_has_changed(group: Path, capsys: Any) -> None:
    one = Watch(group)
    one.looks.seconds = 0.0
    one.look()
    first = capsys.readouterr().err.splitlines()
    assert len(first) == 3
    assert "agent aide (job 13): running - running: step 3 of 500, best 0.75 by its own measure, 5" in first[2]
    time.sleep(1.1)  # the time that is left is another one
    one.look()
    assert capsys.readouterr().err == ""
    put(group / "toy_13" / "logs" / "usage.json", {"steps": 4})
    one.look()
    (second,) = capsys.readouterr().err.splitlines()
    assert "step 4 of 500" in second


def test_the_watcher_says_at_most_one_line_a_minute(group: Path, capsys: Any) -> None:
    one = Watch(group)
    for step in range(4, 30):
        one.look()
        put(group / "toy_13" / "logs" / "usage.json", {"steps": step})
    assert len(capsys.readouterr().err.splitlines()) == 3
    # but for its end
    make_run(group, "13", "scored", reason="graded")
    disk.write_json(group / "toy_13" / "grading_report.json", {"total_score": 0.5, "score": 0.5})
    one.look()
    assert "scored: graded" in capsys.readouterr().err


def test_a_log_that_comes_later_is_found(group: Path, capsys: Any) -> None:
    log = group / "logs" / "vllm_30b-12.out"
    log.rename(group / "hidden")
    one = Watch(group)
    one.looks.seconds = 0.0
    one.look()
    assert "loading weights" not in capsys.readouterr().err
    (group / "hidden").rename(log)
    one.look()
    assert "model 30b (job 12): running - starting: loading weights 25 %" in capsys.readouterr().err


def test_lines_of_jobs_alone_stay_as_they_were(capsys: Any) -> None:
    said: dict[str, tuple[str, str]] = {}
    _plain([("agent", "1", "running", "", "")], said)
    _plain([("agent", "1", "running", "0:02", "")], said)
    assert len(lines_of(capsys.readouterr().err)) == 1
