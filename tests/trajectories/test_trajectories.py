"""Trajectories in ATIF: what they say of AIDE's journal and of mini-swe-agent's trajectory, honest and hostile."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from atif_model import Trajectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from left_by_agents import USAGE, answer, journal, make_run, mini_swe, output

from helpers.trajectories import aide, atif, write
from helpers.trajectories import mini_swe as mini

ROOT = Path(__file__).resolve().parents[2]


def written(run):
    """The trajectory of a run as it was written, valid by all rules."""
    path = write.write(run)
    assert path == run / "logs" / "trajectory.json"
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert Trajectory.model_validate_json(text).model_dump(exclude_none=True) == document
    return document


def test_aides_journal(tmp_path):
    document = written(make_run(tmp_path / "toy_7", {"journal.json": journal(), "usage.json": USAGE}))
    assert document["schema_version"] == "ATIF-v1.7" and document["session_id"] == "toy_7"
    assert document["agent"] == {"name": "aide", "version": pinned("aide", "aideml"), "model_name": "30b"}
    assert document["final_metrics"] == {"total_prompt_tokens": 1200, "total_completion_tokens": 340, "total_steps": 4}
    assert document["extra"] == {"task": "toy", "state": "scored", "made_of": "logs/journal.json"}
    introduction, first, second, third = document["steps"]
    assert introduction["source"] == "system" and "notes" not in document
    assert first == {
        "step_id": 2,
        "timestamp": "2026-11-28T09:57:30.250Z",
        "source": "agent",
        "message": "A plan.",
        "tool_calls": [{"tool_call_id": "program", "function_name": "run_program", "arguments": {"code": "print(1)"}}],
        "observation": {"results": [{"source_call_id": "program", "content": "one\ntwo\n"}]},
        "extra": {
            **{"node": "a", "metric": 0.75, "is_higher_better": True, "is_buggy": False, "review": "Fine."},
            "execution_seconds": 1.5,
        },
    }
    assert second["extra"]["parent_step_id"] == 2 and second["extra"]["is_buggy"]
    assert second["observation"]["results"][0]["extra"] == {"exception": "ZeroDivisionError"}
    assert third == {"step_id": 4, "source": "agent", "message": "", "extra": {"node": "c"}}


def pinned(name, package):
    lines = (ROOT / "requirements" / f"{name}-nodeps.txt").read_text().split()
    return next(line.partition("==")[2] for line in lines if line.startswith(package))


def test_mini_swe_agents_trajectory(tmp_path):
    run = make_run(tmp_path / "fix_8", {"mini-swe.traj.json": mini_swe(), "usage.json": USAGE}, agent="mini-swe")
    document = written(run)
    assert document["agent"] == {
        "name": "mini-swe",
        "version": pinned("mini-swe", "mini-swe-agent"),
        "model_name": "30b",
    }
    assert [step["source"] for step in document["steps"]] == ["system", "user", "agent", "agent", "agent", "system"]
    assert document["steps"][1]["message"] == "Mend it."
    first, refused, last, end = document["steps"][2:]
    assert first == {
        "step_id": 3,
        "timestamp": "2026-11-28T09:57:31.500Z",
        "source": "agent",
        "model_name": "served",
        "message": "Thought 1.",
        "reasoning_content": "Hm.",
        "tool_calls": [{"tool_call_id": "call-1", "function_name": "bash", "arguments": {"command": "ls"}}],
        "observation": {"results": [{"source_call_id": "call-1", "content": "code.py\n", "extra": {"returncode": 0}}]},
        "metrics": {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 7, "cost_usd": 0.01},
        "llm_call_count": 1,
    }
    assert refused["message"] == "No call." and refused["extra"] == {"format_error": True}
    assert refused["observation"] == {"results": [{"content": "Tool call error."}]}
    assert refused["metrics"]["prompt_tokens"] == 5
    assert "COMPLETE_TASK" in last["tool_calls"][0]["arguments"]["command"] and "observation" not in last
    assert (end["message"], end["extra"]) == ("done\n", {"exit_status": "Submitted"})
    totals = {"total_prompt_tokens": 305, "total_completion_tokens": 22, "total_cached_tokens": 14}
    assert document["final_metrics"] == totals | {"total_cost_usd": 0.02, "total_steps": 6}
    assert document["extra"]["exit_status"] == "Submitted" and document["extra"]["made_of"] == "logs/mini-swe.traj.json"


def test_a_model_that_is_none_is_told(tmp_path):
    run = make_run(tmp_path / "a_1", {"journal.json": journal()}, model="replay")
    assert written(run)["notes"] == "replay is not a language model: its answers were prepared."
    run = make_run(tmp_path / "group" / "a_2", {"journal.json": journal()}, model="mine")
    (tmp_path / "group" / "workflow.json").write_text(json.dumps({"competition": "toy", "language_model": False}))
    assert written(run)["notes"] == "mine is not a language model: its answers were prepared."


def test_parents_in_a_circle(tmp_path):
    data = journal() | {"node2parent": {"a": "c", "b": "b", "c": "a"}}
    document = written(make_run(tmp_path / "a_1", {"journal.json": data}))
    assert [step.get("extra", {}).get("parent_step_id") for step in document["steps"]] == [None, None, None, 2]
    assert document["notes"] == "2 nodes name a parent that doesn't come before them."


def test_long_texts_lose_their_middle(tmp_path):
    data = journal()
    data["nodes"][0]["_term_out"] = ["begin " + "x" * 50_000_000 + " end"]
    began = time.monotonic()
    run = make_run(tmp_path / "a_1", {"journal.json": data})
    document = written(run)
    assert time.monotonic() - began < 30
    (result,) = document["steps"][1]["observation"]["results"]
    assert result["content"].startswith("begin x") and result["content"].endswith("x end")
    assert "characters are left out here" in result["content"] and len(result["content"]) < 210_000
    assert document["notes"] == "1 long texts are without their middle."
    assert (run / "logs" / "trajectory.json").stat().st_size < 400_000


def test_many_steps_and_long_texts_of_all(monkeypatch):
    monkeypatch.setattr(atif, "MOST_STEPS", 50)
    monkeypatch.setattr(atif, "MOST_TEXT", 100_000)
    data = mini_swe()
    data["messages"] += [message for n in range(200) for message in (answer(n, "ls"), output(n, "y" * 50_000))]
    document = mini.trajectory(data, "mini-swe").document()
    Trajectory.model_validate(document)
    assert len(document["steps"]) == 50 and document["final_metrics"]["total_steps"] == 206
    assert "The last 156 of 206 steps are left out." in document["notes"]
    assert len(json.dumps(document)) < 250_000


HOSTILE = {
    "calls of the same id": {"tool_calls": [{"id": "x", "function": {"name": "bash", "arguments": "{}"}}] * 3},
    "no calls": {"tool_calls": [None, 3, {"function": 3}, {}, {"function": {"name": 7, "arguments": None}}]},
    "broken arguments": {"tool_calls": [{"function": {"name": "bash", "arguments": "{"}}]},
    "deep arguments": {"tool_calls": [{"function": {"name": "b", "arguments": '{"a": ' * 900 + "1" + "}" * 900}}]},
    "deeper arguments": {"tool_calls": [{"function": {"name": "b", "arguments": "[" * 100_000}}]},
    "many arguments": {"tool_calls": [{"function": {"name": "b", "arguments": {str(n): n for n in range(10_000)}}}]},
    "numbers": {"tool_calls": [{"function": {"name": "b", "arguments": '{"a": NaN, "b": 1e999, "c": 1, "d": true}'}}]},
    "content": {"content": {"a": 1}, "reasoning_content": [1], "extra": {"timestamp": 1e300, "cost": "much"}},
    "surrogates": {
        "content": "\ud800 \x1b[31m <script>",
        "tool_calls": [{"id": "\udc00" * 900, "function": {"name": "\ud800"}}],
    },
    "usage": {"extra": {"response": {"usage": {"prompt_tokens": -1, "completion_tokens": 1e9}, "model": ["m"]}}},
    "response": {"extra": {"response": 3}},
    "role": {"role": "robot"},
    "no role": {"role": None},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_makes_a_valid_trajectory(tmp_path, name):
    data = mini_swe()
    data["messages"][2:2] = [answer(1, "ls") | HOSTILE[name], output(9, "of no call"), 3, None, {}]
    document = written(make_run(tmp_path / "a_1", {"mini-swe.traj.json": data}, agent="mini-swe"))
    assert document["steps"][1]["message"] == "Mend it." and document["steps"][-1]["message"] == "done\n"
    assert ("3" if "role" not in name else "4") + " messages are of no kind that is known." in document["notes"]


KEYS = st.sampled_from(["id", "role", "content", "extra", "function", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["assistant", "user", "tool", "system", "exit"]) | JSON,
        **dict.fromkeys(("content", "tool_calls", "extra", "reasoning_content", "tool_call_id"), JSON),
    },
)
NODE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("id", "code", "plan", "_term_out", "metric", "ctime", "exec_time", "analysis", "is_buggy", "exc_type"), JSON
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(MESSAGE | JSON, min_size=1, max_size=8), JSON)
def test_whatever_mini_swe_agent_left_is_valid_or_refused(messages, info):
    checked(lambda: mini.trajectory({"messages": messages, "info": info, "trajectory_format": info}, "mini-swe"))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(NODE | JSON, max_size=8), JSON, JSON)
def test_whatever_aide_left_is_valid_or_refused(nodes, parents, usage):
    usage = usage if isinstance(usage, dict) else {}
    checked(lambda: aide.trajectory({"nodes": nodes, "node2parent": parents}, usage, "aide", "1"))


def checked(make):
    try:
        document = make().document()
    except ValueError as error:
        assert str(error) == "holds no step"
        return
    Trajectory.model_validate_json(json.dumps(document, ensure_ascii=False, allow_nan=False).encode())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "its agent left no logs/mini-swe.traj.json and no logs/journal.json"),
        ({"journal.json": '{"nodes": ['}, "logs/journal.json is cut off or no JSON"),
        ({"journal.json": "[" * 100_000}, "logs/journal.json is cut off or no JSON"),
        ({"journal.json": "[]"}, "logs/journal.json is no JSON object"),
        ({"journal.json": {"nodes": 3}}, "logs/journal.json is no journal: it has no list of nodes"),
        ({"mini-swe.traj.json": {"messages": {}}}, "logs/mini-swe.traj.json is no trajectory of mini-swe-agent"),
        ({"mini-swe.traj.json": {"messages": []}}, "logs/mini-swe.traj.json holds no step"),
        ({"mini-swe.traj.json": '{"messages": [' + "1" * 10_000 + "]}"}, "logs/mini-swe.traj.json Exceeds the limit"),
    ],
)
def test_what_is_none_is_told(tmp_path, files, said):
    with pytest.raises(write.NoTrajectory) as error:
        write.write(make_run(tmp_path / "a_1", files))
    assert str(error.value).startswith(said)
    assert not (tmp_path / "a_1" / "logs" / "trajectory.json").exists()


def test_links_pipes_and_large_files(tmp_path, monkeypatch):
    def refused(run):
        with pytest.raises(write.NoTrajectory) as error:
            write.write(run)
        return str(error.value)

    run = make_run(tmp_path / "a_1", {"usage.json": USAGE})
    (run / "logs" / "journal.json").symlink_to("/etc/passwd")
    assert "logs/journal.json can't be read" in refused(run)
    (run / "logs" / "journal.json").unlink()
    os.mkfifo(run / "logs" / "journal.json")
    assert refused(run) == "logs/journal.json is not a regular file"
    run = make_run(tmp_path / "a_2", {"journal.json": journal()})
    monkeypatch.setattr(write, "LARGEST_FILE", 10)
    assert refused(run) == "logs/journal.json is larger than 10 bytes"
    monkeypatch.undo()
    (run / "logs" / "journal.json").write_text('{"nodes": ["' + "x" * 50_000_000 + '"]}')
    # in a fresh process: one that has had much memory, and freed it, has that to use beside the bound
    code = "import pathlib, sys; from helpers.trajectories import write; write.MEMORY = 2**24; write.write(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, run], cwd=ROOT, capture_output=True, text=True)
    assert "needs over 16 MB of memory" in done.stderr
    (run / "logs").rename(tmp_path / "elsewhere")
    (run / "logs").symlink_to(tmp_path / "elsewhere")
    assert refused(run) == "its folder is a link, or its logs are"
    assert not (tmp_path / "elsewhere" / "trajectory.json").exists()


def test_what_lies_in_its_place_is_replaced_and_no_link_followed(tmp_path):
    run = make_run(tmp_path / "a_1", {"journal.json": journal()})
    (tmp_path / "victim").write_text("mine")
    (run / "logs" / "trajectory.json").symlink_to(tmp_path / "victim")
    written(run)
    assert (tmp_path / "victim").read_text() == "mine" and not (run / "logs" / "trajectory.json").is_symlink()
    (run / "logs" / "trajectory.json").unlink()
    (run / "logs" / "trajectory.json").mkdir()
    with pytest.raises(OSError, match="trajectory.json"):
        write.write(run)


def test_it_needs_nothing_but_python(tmp_path):
    """As it is called at the end of a run, in whatever image the agent has."""
    good, bad = make_run(tmp_path / "a_1", {"journal.json": journal()}), make_run(tmp_path / "a_2", {})
    command = [sys.executable, "-S", "-m", "helpers.trajectories.write", good, bad]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stdout) == (1, f"{good}/logs/trajectory.json\n"), done.stderr
    assert done.stderr == f"{bad}: its agent left no logs/mini-swe.traj.json and no logs/journal.json\n"
