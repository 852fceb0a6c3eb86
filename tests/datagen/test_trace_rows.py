"""Rows of traces: what a run's folder comes to, whatever its agent and its end, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_traces import FINGERPRINT, REPLAY, aides, make_group, make_run, prepare, said
from trajectories.left_by_agents import USAGE, journal, mini_swe

from helpers.datagen import trace_rows
from helpers.datagen.trace_messages import Unfit
from helpers.runs.metadata import END_STATES
from helpers.trajectories import write

CALL = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'
LAST = '<tool_call>\n{"name": "bash", "arguments": {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}}\n</tool_call>'
HARBORS = (
    *("conversations", "agent", "model", "model_provider", "date", "task", "episode", "run_id", "trial_name", "result"),
    *("tool_definitions", "instruction", "verifier_output"),
)


def one(run: Path, **options: Any) -> dict[str, Any]:
    [row] = trace_rows.rows(run, **options)
    assert list(row) == list(trace_rows.COLUMNS)
    return row


def put(run: Path, name: str, content: Any) -> None:
    (run / name).write_text(json.dumps(content))


def test_a_run_of_mini_swe_as_a_row(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path), 7, score=0.5)
    assert one(run) == {
        "conversations": [
            {"role": "user", "content": "You can."},
            {"role": "user", "content": "Mend it."},
            {"role": "assistant", "content": f"<think>Hm.</think>\nThought 1.\n{CALL}"},
            {"role": "user", "content": "code.py\n"},
            {"role": "assistant", "content": "No call."},
            {"role": "user", "content": "Tool call error."},
            {"role": "assistant", "content": f"<think>Hm.</think>\nThought 2.\n{LAST}"},
        ],
        "agent": "mini-swe",
        "model": "30b",
        "model_provider": "vllm",
        "date": "2026-01-01T01:00:00Z",
        "task": "toy",
        "episode": "episode-2",
        "run_id": "2026-01-01T00-00-00-UTC_run-group_one",
        "trial_name": "toy_7",
        "result": "0.5",
        "tool_definitions": None,
        "instruction": "Mend it.",
        "verifier_output": None,
        "state": "scored",
        "reward": 0.5,
        "score": 0.5,
        "prompt_tokens": 1200,
        "completion_tokens": 340,
        "seconds": 3600.0,
        "versions": {
            "project": "a" * 40,
            "agent": "2.4.6",
            "image": "b" * 64,
            "trajectory": "ATIF-v1.7",
            "data": FINGERPRINT,
        },
        "config_hash": "c" * 64,
        "model_revision": "main",
        "is_language_model": True,
    }
    assert tuple(trace_rows.COLUMNS)[: len(HARBORS)] == HARBORS


def test_the_trajectory_that_a_job_has_written_is_read_and_none_is_written(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path), 7, score=0.5)
    made_now = one(run)
    assert not (run / "logs" / "trajectory.json").exists()
    write.write(run)
    (run / "logs" / "mini-swe.traj.json").unlink()
    assert one(run) == made_now


def test_aides_tree_begins_with_the_tasks_own_words(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path, agent="aide"), 7, score=0.75, left=aides())
    prepare(tmp_path / "data", "toy", "Predict the price.")
    row = one(run)
    assert row["instruction"] == "Predict the price."
    introduction, told, first, output, second, _, third = row["conversations"]
    assert introduction["role"] == "user" and "AIDE" in introduction["content"]
    assert told == {"role": "user", "content": "Predict the price."}
    assert first["content"].startswith("A plan.\n<tool_call>") and output == {"role": "user", "content": "one\ntwo\n"}
    assert "1/0" in second["content"] and third == {"role": "assistant", "content": ""}


def test_the_words_of_other_data_are_not_the_runs(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path, agent="aide"), 7, score=0.75, left=aides())
    prepare(tmp_path / "data", "toy", "Predict another price.", fingerprint="0" * 64)
    row = one(run)
    assert row["instruction"] is None and len(row["conversations"]) == 6


@pytest.mark.parametrize("state", sorted(END_STATES))
def test_what_failed_has_a_state_and_no_reward_and_what_was_lost_is_no_row(tmp_path: Path, state: str) -> None:
    run = make_run(make_group(tmp_path), 7, state, 0.0 if state == "scored" else None)
    if state in ("lost", "cancelled"):
        with pytest.raises(Unfit, match=f"^{state}$"):
            next(trace_rows.rows(run))
        return
    row = one(run)
    told = (row["state"], row["reward"], row["score"], row["result"])
    assert told == (("scored", 0.0, 0.0, "0.0") if state == "scored" else (state, None, None, state))


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_a_run_that_has_not_ended_is_no_row(tmp_path: Path, state: str) -> None:
    with pytest.raises(Unfit, match="not ended"):
        next(trace_rows.rows(make_run(make_group(tmp_path), 7, state)))


def test_a_run_without_a_record_of_its_own_counts_as_lost(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path), 7, score=1.0)
    (run / "run_metadata.json").write_text("{")
    with pytest.raises(Unfit, match="lost"):
        next(trace_rows.rows(run))


def test_a_scored_run_whose_report_is_gone_has_no_reward_and_is_no_row(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path), 7, score=1.0)
    (run / "grading_report.json").unlink()
    with pytest.raises(Unfit, match="no grading report"):
        next(trace_rows.rows(run))


def test_a_score_of_which_less_is_better_is_a_negative_reward(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    row = one(make_run(group, 7, score=0.25, report={"is_lower_better": True}))
    assert (row["score"], row["reward"], row["result"]) == (0.25, -0.25, "-0.25")
    row = one(make_run(group, 8, score=0.0, report={"is_lower_better": True}))
    assert row["result"] == "0.0"


def test_replay_is_no_language_model(tmp_path: Path) -> None:
    group = make_group(tmp_path, model="replay", language_model=False, model_config=REPLAY)
    row = one(make_run(group, 7, score=1.0))
    assert (row["model"], row["model_provider"], row["model_revision"]) == ("replay", "replay", None)
    assert row["is_language_model"] is False


def test_an_agent_without_a_model_speaks_no_language_models_words(tmp_path: Path) -> None:
    group = make_group(tmp_path, agent="baseline", model=None, language_model=None, model_config=None)
    row = one(make_run(group, 7, score=1.0, model=""))
    assert (row["model"], row["model_provider"], row["is_language_model"]) == (None, None, False)
    run = make_run(make_group(tmp_path, "by-hand"), 8, score=1.0)
    (run.parent / "workflow.json").unlink()
    row = one(run)
    assert (row["model"], row["config_hash"], row["is_language_model"]) == ("30b", None, None)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://node17.cluster.example:8000/v1", "external"),
        ("http://[broken", "external"),
    ],
)
def test_whose_endpoint_it_is_but_no_address_of_a_host(tmp_path: Path, url: str, provider: str) -> None:
    group = make_group(tmp_path, model_config={"engine": "external", "served_name": "x", "base_url": url})
    row = one(make_run(group, 7, score=1.0))
    assert row["model_provider"] == provider and "node17" not in json.dumps(row)


def test_the_cell_of_a_round_is_the_runs_own(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    record = json.loads((group / "workflow.json").read_text())
    first = {key: record.pop(key) for key in ("competition", "agent", "model", "language_model", "model_config")}
    second = first | {"model": "replay", "language_model": False, "model_config": REPLAY, "config_hash": "d" * 64}
    run = make_run(group, 7, score=1.0, cell=1, model="replay")
    put(group, "workflow.json", record | {"schema": 2, "cells": [first, second]})
    row = one(run)
    assert (row["is_language_model"], row["model_provider"], row["config_hash"]) == (False, "replay", "d" * 64)


def test_what_the_test_scripts_of_a_repository_said(tmp_path: Path) -> None:
    run = make_run(
        make_group(tmp_path), 7, score=0.5, report={"metric": "rubrics", "note": "1 of 2 test scripts passed"}
    )
    assert one(run)["verifier_output"] == "1 of 2 test scripts passed"
    results = {
        "tests/a.sh": {"said": "passed", "output": "fine\n"},
        "tests/b.sh": {"said": "failed with exit code 1", "output": "\x1b[31mbad\n"},
    }
    put(run, "evaluation_results.json", {"test_results": results})
    said = one(run)["verifier_output"]
    assert said == "tests/a.sh: passed\nfine\n\ntests/b.sh: failed with exit code 1\n [31mbad\n"


def test_an_episode_ends_with_each_answer(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path), 7, score=0.5)
    every = list(trace_rows.rows(run, episodes="all"))
    assert [row["episode"] for row in every] == ["episode-0", "episode-1", "episode-2"]
    assert [len(row["conversations"]) for row in every] == [3, 5, 7]
    assert all(row["conversations"][-1]["role"] == "assistant" for row in every)
    assert every[-1] == one(run)


def test_tools_stand_before_the_systems_words(tmp_path: Path) -> None:
    left = said("Do.", "Done.")
    tools = [{"type": "function", "function": {"name": "bash"}}]
    left["trajectory.json"]["agent"]["tool_definitions"] = tools
    left["trajectory.json"]["steps"].insert(0, {"step_id": 0, "source": "system", "message": "Be good."})
    row = one(make_run(make_group(tmp_path), 7, score=1.0, left=left))
    assert json.loads(row["tool_definitions"]) == tools
    told = row["conversations"][0]["content"]
    assert told.startswith("<tools>\n[") and told.endswith("</tools>\n\nBe good.")
    assert row["instruction"] == "Do."


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ({}, "no trajectory"),
        ({"journal.json": "{"}, "no trajectory"),
        ({"trajectory.json": "{"}, "a trajectory that can't be read"),
        ({"trajectory.json": "[]"}, "a trajectory that can't be read"),
        ({"trajectory.json": '{"steps": ' + "[" * 100_000}, "a trajectory that can't be read"),
        ({"trajectory.json": {"steps": "none"}}, "no answer of the agent"),
        ({"trajectory.json": {"steps": [7, {"source": "user", "message": "Hello?"}]}}, "no answer of the agent"),
        (
            {"trajectory.json": {"steps": [{"source": "agent", "message": [{"type": "image", "source": {}}]}]}},
            "pictures or sound",
        ),
    ],
)
def test_what_is_no_trajectory_is_no_row_and_says_why(tmp_path: Path, left: dict[str, Any], why: str) -> None:
    with pytest.raises(Unfit, match=f"^{why}$"):
        next(trace_rows.rows(make_run(make_group(tmp_path), 7, score=1.0, left=left)))


def test_links_are_not_followed(tmp_path: Path) -> None:
    run = make_run(make_group(tmp_path), 7, score=1.0)
    (tmp_path / "secret").write_text(json.dumps(said("Do.", "The key is 1234.")["trajectory.json"]))
    (run / "logs" / "trajectory.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Unfit, match="can't be read"):
        next(trace_rows.rows(run))


def test_odd_values_are_left_out_and_every_row_is_utf8(tmp_path: Path) -> None:
    half = "\ud800"
    steps = [
        {"source": "user", "message": [{"type": "text", "text": f"Do {half}."}, {"text": "Now."}, 7]},
        {
            "source": "agent",
            "message": "It is so.</think>Done.",
            "tool_calls": [{"tool_call_id": 5, "function_name": None, "arguments": {"x": half, "y": float("nan")}}, 7],
            "observation": {"results": [{"content": half}, 7]},
        },
        {"source": "agent", "message": None, "observation": 5, "is_copied_context": True},
        {"source": "agent", "message": "End.", "reasoning_content": half},
    ]
    run = make_run(
        make_group(tmp_path), 7, score=1.0, left={"trajectory.json": {"steps": steps, "agent": 7}}, model=f"m{half}"
    )
    first, last = trace_rows.rows(run, episodes="all")
    assert json.dumps(last, allow_nan=False, ensure_ascii=False).encode()
    assert first["episode"] == "episode-0" and last["instruction"] == "Do ?.\nNow."
    assert last["conversations"][1]["content"] == (
        '<think>It is so.</think>Done.\n<tool_call>\n{"name": "unknown", "arguments": {"x": "?", "y": null}}\n</tool_call>'
    )


def test_what_an_agent_left_may_be_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_rows, "SMALL", 100)
    left = {"journal.json": journal(), "usage.json": USAGE}
    assert len(one(make_run(make_group(tmp_path), 7, score=1.0, left=left))["conversations"]) == 6
    monkeypatch.setattr(trace_rows, "LARGEST", 100)
    run = make_run(make_group(tmp_path, "two"), 8, score=1.0, left={"mini-swe.traj.json": mini_swe()})
    write.write(run)
    with pytest.raises(Unfit, match="can't be read"):
        one(run)
