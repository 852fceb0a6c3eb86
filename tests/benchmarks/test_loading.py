"""load_benchmark and get_task_score, as the specification's scripts use them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.benchmarks import manifest, stamps
from helpers.eval_rollouts import get_task_score, load_benchmark
from helpers.lib import disk
from helpers.lib.errors import Refused

SCORES = {"toy": (0.5, 0.7, None), "other": (0.25, 0.25, 0.25)}
CELL = {"agent": "aide", "rollouts": 3, "config_hash": "x"}


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """A function that makes a round of two tasks in data/rollouts of the current folder; a score of None: that agent failed."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, stamp: str, plus: float = 0, metric: str = "accuracy") -> None:
        monkeypatch.setattr(stamps, "FORMAT", stamp)
        group = stamps.make(Path("data", "rollouts"), name).absolute()
        told = [CELL | {"competition": task, "model": "m1" if task == "toy" else "m2", "seed": 0} for task in SCORES]
        disk.write_json(group / "workflow.json", {"cells": told, "config": {}, "benchmark": {"name": name}})
        manifest.begin(group, disk.read_json(group / "workflow.json"))
        scores = [score for its in SCORES.values() for score in its]
        for number, score in enumerate(scores):
            run, cell = group / f"run_7_{number}", number // 3
            run.mkdir()
            state = "agent_failed" if score is None else "scored"
            record = {
                "state": state,
                "rollout": number,
                "cell": cell,
                "attempt": 0,
                "seed": number % 3,
                "job_id": f"7_{number}",
            }
            disk.write_json(run / "run_metadata.json", record | {"competition": told[cell]["competition"]})
            if score is not None:
                report = {
                    "total_score": score + plus,
                    "score": score + plus,
                    "metric": metric if number else "accuracy",
                }
                disk.write_json(run / "grading_report.json", report | {"valid_submission": True})

    return make


def test_the_specifications_comparison_of_results(benchmark, capsys):
    benchmark("model_v1", "20250824__12-34-56")
    benchmark("model_v2", "20250824__12-34-57", plus=0.125)
    benchmark("claude_v1", "20250825__01-00-00")
    benchmark_tasks = ["toy", "other"]
    # document 001, "Result Comparison", but for the last benchmark's day
    benchmarks = {
        "gpt4_v1": load_benchmark("data/rollouts/model_v1/20250824"),
        "gpt4_v2": load_benchmark("data/rollouts/model_v2/20250824"),
        "claude_v1": load_benchmark("data/rollouts/claude_v1/20250825"),
    }
    for task_name in benchmark_tasks:
        scores = {}
        for model, results in benchmarks.items():
            scores[model] = get_task_score(results, task_name)

        print(f"Task: {task_name}")
        for model, score in scores.items():
            print(f"  {model}: {score}")
    assert capsys.readouterr().out == (
        "Task: toy\n  gpt4_v1: 0.6\n  gpt4_v2: 0.725\n  claude_v1: 0.6\n"
        "Task: other\n  gpt4_v1: 0.25\n  gpt4_v2: 0.375\n  claude_v1: 0.25\n"
    )


def test_a_round_is_told_by_its_folder_or_the_start_of_its_stamp_the_newest_of_several(benchmark):
    for stamp in ("20250824__12-34-56", "20250824__13-00-00", "20250901__00-00-00"):
        benchmark("mine", stamp)
    stamp_of = {path: load_benchmark(path).stamp for path in ("data/rollouts/mine/20250824", "data/rollouts/mine/2025")}
    assert list(stamp_of.values()) == ["20250824__13-00-00", "20250901__00-00-00"]
    assert load_benchmark(Path("data/rollouts/mine/20250824__12-34-56").absolute()).stamp == "20250824__12-34-56"
    assert json.dumps(load_benchmark("data/rollouts/mine/20250901").data())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("data/rollouts/mine/1999", "benchmark 'mine' has no round 1999. There are: 20250824__12-34-56"),
        ("data/rollouts/mien/2025", "no rounds of a benchmark 'mien' in .* There are: mine"),
        ("nothing", "no rounds of a benchmark"),
        ("/", "no rounds of a benchmark"),
    ],
)
def test_a_round_that_is_not_there_names_those_that_are(benchmark, path, said):
    benchmark("mine", "20250824__12-34-56")
    with pytest.raises(Refused, match=said):
        load_benchmark(path)


def test_a_score_is_of_the_rollouts_that_are_asked_for_and_of_one_metric(benchmark):
    benchmark("mine", "20250824__12-34-56")
    results = load_benchmark("data/rollouts/mine/20250824")
    assert get_task_score(results, "toy", model="m1", agent="aide") == pytest.approx(0.6)
    for asked, said in (
        (("toys",), "mine 20250824__12-34-56 has no rollouts of task 'toys'. There are: toy, other"),
        (("toy", "m2"), "no rollouts of model 'm2'. There are: m1"),
        (("toy", "m1", "adie"), "no rollouts of agent 'adie'. There are: aide"),
    ):
        with pytest.raises(Refused, match=said):
            get_task_score(results, *asked)
    benchmark("mixed", "20250824__12-34-57", metric="log_loss")
    assert get_task_score(load_benchmark("data/rollouts/mixed/20250824"), "toy") is None


def test_importing_them_costs_nothing():
    code = "import sys; from helpers.eval_rollouts import load_benchmark, get_task_score; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outside = {"numpy", "pandas", "scipy", "pydantic", "click", "yaml", "helpers.benchmarks"}
    assert not outside & set(done.stdout.split())
