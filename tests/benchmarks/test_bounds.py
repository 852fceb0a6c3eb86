"""What bounds a round: as its jobs read it, what was used, when it can't go on, and what its summary says."""

import json
import os

import pytest

from helpers.benchmarks import bounds, config, plan, usage
from helpers.benchmarks.config import Budget
from helpers.benchmarks.rounds import Round
from helpers.config import entries, sites
from helpers.config.schema import AgentEntry, Model
from helpers.jobs import parts
from helpers.jobs.cell import PRICES
from helpers.lib import disk
from helpers.lib.errors import Refused
from helpers.runs.metadata import Run

RECORD = {"cells": [{"agent": "aide", "model": "gpt", "competition": "toy"}]}


@pytest.fixture
def group(tmp_path):
    """A round with all three bounds, of which nothing has been used."""
    for folder in ("ends", "services"):
        (tmp_path / folder).mkdir()
    bounds.write(tmp_path, {"tokens": 1000, "usd": 2.5, "gpu_hours": 1}, {("aide", "gpt"): (0.15, 10.0)})
    return tmp_path


def server(group, job, gpus=2, ended="2026-01-01T11:00:00Z"):
    record = {"gpus": gpus, "started_at": "2026-01-01T10:00:00Z", "ended_at": ended}
    disk.write_json(group / "services" / f"vllm_m_{job}.json", record)


def run(group, job, usage=None, **metadata):
    folder = group / f"toy_{job}"
    (folder / "logs").mkdir(parents=True)
    if usage is not None:
        (folder / "logs" / "usage.json").write_text(usage)
    return Run(folder, {"job_id": job, "state": "lost", "reason": "r", "agent_started_at": "x", "cell": 0, **metadata})


def test_the_file_is_as_jobs_read_it(group):
    text = "tokens 1000\nusd 2.5\ngpu_hours 1\nprice aide gpt 0.15 10\n"
    assert (group / "bounds").read_text() == text
    assert bounds.read(group) == {"tokens": 1000, "usd": 2.5, "gpu_hours": 1}
    bounds.enlarge(group, {"tokens": 123456789012})
    assert (group / "bounds").read_text() == text.replace("1000", "123456789012")
    assert bounds.asked(Budget(tokens=5)) == {"tokens": 5}
    assert bounds.asked(Budget()) == bounds.read(group / "nowhere") == {}


def test_what_was_used_is_the_sum_of_all_ends_and_of_the_servers_lives(group):
    for name in (
        "0.7_0.scored.600.1500000",
        "1.8_0.lost.40.1",
        "-.9.lost.3.0",
        ".0.7_1.scored.5.5",
        "odd",
        "0.7.scored.x.1",
    ):
        (group / "ends" / name).touch()
    server(group, 1)
    server(group, 2, gpus=1, ended=None)
    server(group, 3, gpus=0, ended=None)
    now = 1767265200.0 + 3600  # 2026-01-01T12:00:00Z
    assert bounds.used(group, now=now) == {"tokens": 643, "usd": 1.500001, "gpu_hours": 4.0}
    os.utime(group / "services" / "vllm_m_2.json", (now - 5400, now - 5400))
    (group / "services" / "vllm_m_2.load.csv").touch()
    os.utime(group / "services" / "vllm_m_2.load.csv", (now - 1800, now - 1800))
    assert bounds.used(group, ["2"], now)["gpu_hours"] == 3.5
    assert bounds.used(group, ["1"], now)["gpu_hours"] == 4.0


def test_a_round_goes_on_below_its_bounds_only(group):
    bounds.check(group, {})
    (group / "ends" / "0.7_0.scored.1000.0").touch()
    with pytest.raises(Refused, match=r"budget of 1000 tokens is used up \(1000\): .* --budget tokens=NUMBER"):
        bounds.check(group, {})
    with pytest.raises(Refused, match=r"budget of 900 tokens is used up"):
        bounds.check(group, {"tokens": 900})
    bounds.check(group, {"tokens": 1001})
    server(group, 1)
    with pytest.raises(Refused, match=r"budget of 1 GPU-hours is used up \(2\.000\)"):
        bounds.check(group, {"tokens": 1001})


def test_bounds_for_rounds_that_can_not_keep_them_are_refused(tmp_path):
    bounds.check(tmp_path, {})
    with pytest.raises(Refused, match="before there were budgets"):
        bounds.check(tmp_path, {"tokens": 5})
    (tmp_path / "ends").mkdir()
    bounds.check(tmp_path, {"tokens": 5})
    with pytest.raises(Refused, match="no prices were noted"):
        bounds.check(tmp_path, {"usd": 5})


def test_what_killed_runs_used_is_noted_once(group):
    (group / "ends" / "0.7_0.scored.1.0").touch()
    told = json.dumps({"prompt_tokens": 100, "completion_tokens": 20})
    runs = [
        run(group, "7_0", told),
        run(group, "7_1", told),
        run(group, "7_2", "[" * 100_000),
        run(group, "7_3", told, state="running"),
        run(group, "7_4", told, state="cancelled", agent_started_at=None),
        run(group, "7_5", json.dumps({"prompt_tokens": -5, "completion_tokens": 1e300})),
    ]
    (group / "mine").mkdir()
    (group / "mine" / "usage.json").write_text(told)
    linked = run(group, "7_6")
    (linked.directory / "logs").rmdir()
    (linked.directory / "logs").symlink_to(group / "mine")
    for _ in range(2):
        bounds.note_silent(group, RECORD, [*runs, linked])
        found = {name for name in os.listdir(group / "ends") if name[0] == "-"}
        assert found == {"-.7_1.lost.120.215", "-.7_2.lost.0.0", "-.7_5.lost.0.0", "-.7_6.lost.0.0"}
    assert bounds.used(group)["tokens"] == 121
    bounds.note_silent(group / "nowhere", RECORD, runs)


def test_a_summary_says_what_was_not_begun_and_counts_it_nowhere(tmp_path):
    assert bounds.note([]) == []
    assert bounds.note(["not begun: so it was."]) == ["stopped: so it was; 1 rollout not begun"]
    assert bounds.note(["not begun: so", "not begun: or so"]) == ["stopped: or so; 2 rollouts not begun"]
    used = {"state": "scored", "prompt_tokens": 5, "completion_tokens": 1}
    rows = [
        used,
        {"state": "cancelled", "reason": "not begun: so"},
        {"state": "cancelled", "reason": "job 7 was cancelled"},
    ]
    assert usage.totals(rows)["tokens"] == usage.Total(6, 1, 2)


def test_a_rollout_that_began_later_stands_for_it(tmp_path):
    group = tmp_path / "rollouts" / "mine" / "20260101__00-00-00"
    record = {
        "cells": [
            {"competition": "toy", "agent": "aide", "model": "gpt", "seed": 0, "rollouts": 3, "prices": [2.0, 10.0]}
        ],
        "benchmark": {"name": "mine"},
        "jobs": {
            "agents": ["10_0", "10_1", "9_1", "9_2", "11_2"],
            "rollouts": [0, 1, 1, 2, 2],
            "attempts": [0, 0, 0, 0, 1],
        },
    }
    group.mkdir(parents=True)
    disk.write_json(group / "workflow.json", record)
    disk.write_json(group / "manifest.json", {})
    kept = {"state": "cancelled", "reason": "not begun: the budget is used up"}
    for job, rollout, attempt, more in (
        ("10_0", 0, 0, kept),
        ("10_1", 1, 0, kept),
        ("9_1", 1, 0, {"state": "no_submission", "reason": ""}),
        ("9_2", 2, 0, {"state": "lost", "reason": "a node died"}),  # and its second try wasn't begun
        ("11_2", 2, 1, kept),
    ):
        one = run(group, job, json.dumps({"prompt_tokens": 10, "completion_tokens": 1}))
        metadata = {"job_id": job, "rollout": rollout, "attempt": attempt, "created_at": "2026-01-01T00:00:00Z"}
        disk.write_json(one.directory / "run_metadata.json", metadata | more)
    summary = Round(group).summary
    assert summary.states == {"cancelled": 1, "no_submission": 1, "lost": 1}
    assert "stopped: the budget is used up; 2 rollouts not begun" in summary.notes
    assert summary.used["usd"].data() == {"sum": 60e-6, "known": 2, "of": 2}


def test_prices_come_in_pairs_and_only_others_models_need_them():
    ours = Model(name="a", engine="replay", served_name="a")
    theirs = {"name": "b", "engine": "external", "served_name": "b", "base_url": "http://b"}
    assert (ours.prices, Model(**theirs).prices) == ((0.0, 0.0), None)
    both = {"usd_per_million_prompt_tokens": 2, "usd_per_million_completion_tokens": 0}
    assert Model(**theirs, **both).prices == (2.0, 0.0)
    assert set(both) == PRICES  # what a cell's hash leaves out
    with pytest.raises(ValueError, match="or neither"):
        Model(**theirs, usd_per_million_prompt_tokens=2)


def test_a_record_that_is_there_is_never_written_over(tmp_path):
    path = tmp_path / "a.json"
    assert disk.write_new_json(path, {"a": 1}) and not disk.write_new_json(path, {"a": 2})
    assert disk.read_json(path) == {"a": 1} and os.listdir(tmp_path) == ["a.json"]


def planned(tmp_path, monkeypatch, text):
    """The problems of a configuration, with two agents more: one that is a line of shell, and one that has aide's files."""
    more = [
        AgentEntry(name="mine", image="aide", command="true"),
        AgentEntry(name="other", image="aide", folder="aide"),
    ]
    known = entries.agents() | {one.name: one for one in more}
    monkeypatch.setattr(entries, "agents", lambda: known)
    monkeypatch.setattr(entries, "agent", known.__getitem__)
    path = tmp_path / "c.toml"
    path.write_text(text)
    site = sites.load_site("local", [f"paths.data={tmp_path}/data"])
    return plan.Round(site, path, config.read(path), {"dry_run": True}).problems


def test_a_bound_on_tokens_is_for_agents_that_keep_it(tmp_path, monkeypatch):
    entry = '[[tasks]]\ntask = "toy"\ntokens = 5\nmodel = "replay"\nagents = ["{}"]\n'
    assert not planned(tmp_path, monkeypatch, entry.format('aide", "other", "baseline'))
    (said,) = planned(tmp_path, monkeypatch, entry.format('aide", "mine'))
    assert "[[tasks]] 1: tokens: agent 'mine' isn't known to keep to a bound" in said


def test_a_budget_in_usd_is_for_models_that_cost_usd(tmp_path, monkeypatch):
    entry = '[budget]\nusd = 5\n[[tasks]]\ntask = "toy"\nmodels = ["{}"]\n'
    (said,) = planned(tmp_path, monkeypatch, entry.format("replay"))
    assert "none of its models costs USD" in said
    (said,) = planned(tmp_path, monkeypatch, entry.format('replay", "gpt-mini'))
    assert "model 'gpt-mini' has no prices" in said


def test_a_part_says_its_bound_on_tokens():
    part = parts.Part(1, 0, "toy", 3, tokens=5).line()
    assert "TOKEN_LIMIT=5" in part and "TOKEN_LIMIT" not in parts.Part(1, 0, "toy", 3).line()
