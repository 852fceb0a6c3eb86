"""Rounds of benchmarks: their stamps, what their parts say, and how a rollout stands by claims and runs."""

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from helpers.benchmarks import manifest, stamps
from helpers.benchmarks.rounds import Round
from helpers.jobs import parts, submitted
from helpers.lib import disk
from helpers.lib.errors import Refused
from helpers.runs import cells, claims, metadata
from helpers.runs.metadata import Run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"container": {"runtime": "none"}, "jobs": {"agent": {"cpus": 1}}, "paths": {"data": "/data"}}
CELLS = [
    {"competition": "toy", "agent": "a", "model": "m", "seed": 0, "rollouts": 2, "config_hash": "x"},
    {
        "competition": "b/toy",
        "agent": "a",
        "model": None,
        "seed": 4,
        "seeds": [4, 9],
        "rollouts": 2,
        "config_hash": "y",
    },
]


@pytest.fixture
def group(tmp_path):
    """A round of two cells, of which nothing was submitted."""
    made = stamps.make(tmp_path / "rollouts", "mine")
    record = {"cells": CELLS, "config": CONFIG, "benchmark": {"name": "mine", "config": "mine.toml"}, "jobs": {}}
    disk.write_json(made / "workflow.json", record)
    lines = [
        parts.Part(number, cell, CELLS[cell]["competition"], seed)
        for number, (cell, seed) in enumerate(cells.rollouts(record))
    ]
    assert parts.write(made, lines) == "0"
    manifest.begin(made, record)
    return made


def results(group, runs=None):
    manifest.refresh(group)
    return json.loads((group / "manifest.json").read_text())["results"]


def note(group, *lines):
    with open(group / "jobs" / "submitted", "a") as file:
        file.writelines(f"{line}\n" for line in lines)
    submitted.submitted(group)


def test_twenty_rounds_at_once_have_twenty_stamps(tmp_path):
    made, lock = [], threading.Lock()

    def make(number):
        folder = stamps.make(tmp_path, f"name{number % 3}")
        with lock:
            made.append(folder.name)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4 and all(stamps.STAMP.fullmatch(stamp) for stamp in made)
    assert stamps.names(tmp_path) == ["name0", "name1", "name2"]


def test_a_round_is_whole_before_anything_is_submitted(group):
    told = json.loads((group / "manifest.json").read_text())
    assert set(told) == {"config", "name", "created_at", "results"} and told["created_at"] == group.name
    assert [(one["state"], one["status"], one["score"], one["seed"], one["attempts"]) for one in told["results"]] == [
        ("waiting", None, None, seed, 0) for seed in (0, 1, 4, 9)
    ]
    assert [one["task_dir"] for one in told["results"]] == ["/data/toy"] * 2 + ["/data/b/toy"] * 2
    assert len((group / "runs.txt").read_text().splitlines()) == 4
    index = json.loads((group.parents[1] / "temp" / f"rollout_mine__{group.name}.json").read_text())
    assert (
        index["rollout_dir"] == str(group)
        and index["tasks"] == ["/data/toy", "/data/b/toy"]
        and len(index["runs"]) == 4
    )


def test_parts_that_are_written_at_once_are_files_of_their_own(group):
    again = [parts.Part(3, 1, "b/toy", 9, attempt=1, variables=(("A", "it's; $(x)"),))]
    assert [parts.write(group, again) for _ in range(3)] == ["1", "2", "3"]
    assert parts.read(group, "2") == [(3, 1)] and parts.read(group, "../workflow.json") == [] == parts.read(group, "9")
    assert not [name for name in os.listdir(group / "parts") if name.startswith(".")]


def test_the_jobs_of_an_array_are_those_of_their_parts(group):
    note(
        group,
        "model_server=5 vllm_m.sh",
        "grading_server=6 grading_server.sh toy b/toy",
        "agent=7_[0-1] agent_0.sh 0 2 2 auto:6",
    )
    note(group, "agent=8_[0-0] agent_1.sh 0 0 1 auto:6")
    record = disk.read_json(group / "workflow.json")
    assert record["jobs"]["rollouts"] == [2, 3, 0] and record["jobs"]["models"] == {"m": "5"}
    run = json.loads((group / "b-toy_7_1" / "run_metadata.json").read_text())
    assert (run["seed"], run["cell"], run["rollout"], run["model_job"]) == (9, 1, 3, "5")
    assert json.loads((group / "toy_8_0" / "run_metadata.json").read_text())["seed"] == 0
    assert [one["status"] for one in results(group)] == ["launched", None, "launched", "launched"]


TELL = 'set -euo pipefail; for name in common run; do source "$1/$name.sh"; done; RUN=$2 ROLLOUT=$3 && run::_manifest'


def tell(group, job, rollout):
    """What a job does when its run's record has changed."""
    run = next(group.glob(f"*_{job}"))
    return subprocess.Popen(["bash", "-c", TELL, "-", ROOT / "scripts_hpc" / "lib", run, str(rollout)])


def end(group, job, rollout, score=None):
    """A rollout's job that has claimed it, and has ended."""
    os.symlink(job, group / "claims" / str(rollout))
    path = next(group.glob(f"*_{job}")) / "run_metadata.json"
    disk.write_json(path, json.loads(path.read_text()) | {"state": "agent_failed" if score is None else "scored"})
    if score is not None:
        disk.write_json(path.with_name("grading_report.json"), {"score": score, "total_score": score})


def test_jobs_and_who_watches_write_the_manifest_at_once_and_nothing_is_lost(group):
    note(group, "agent=7_[0-3] agent.sh 0 0 4 auto:6")
    record = disk.read_json(group / "workflow.json")
    stale = {run.job_id: run for run in metadata.runs_of(group)}
    for number, score in enumerate((0.5, None, 1e-07, -12)):
        end(group, f"7_{number}", number, score)
    writers = [tell(group, f"7_{number}", number) for number in range(4) for _ in range(2)]
    while any(one.poll() is None for one in writers):
        found = [Run(run.directory, dict(run.metadata)) for run in stale.values()]
        runs = {run.job_id: run for run in found}
        manifest.keep(group, record, runs, manifest.standings(group, record, runs))
        json.loads((group / "manifest.json").read_text())
    assert [one.returncode for one in writers] == [0] * 8
    text = (group / "manifest.json").read_text()
    told = [(one["state"], one["score"], one["attempts"], one["launch_rc"]) for one in json.loads(text)["results"]]
    assert told == [("scored", 0.5, 1, 0), ("agent_failed", None, 1, 0), ("scored", 1e-07, 1, 0), ("scored", -12, 1, 0)]
    assert [one["state"] for one in results(group)] == [one[0] for one in told]
    assert not list(group.glob(".manifest*"))


def test_jobs_alone_tell_what_a_reader_would(group):
    note(group, "agent=7_[0-3] agent.sh 0 0 4 auto:6")
    for number, score in enumerate((0.5, None, 1e-07, 3)):
        end(group, f"7_{number}", number, score)
    for number in range(4):
        assert tell(group, f"7_{number}", number).wait() == 0
    told = json.loads((group / "manifest.json").read_text())
    assert told["results"] == results(group)
    # a try that came before isn't told of
    os.symlink("9_0", group / "claims" / "0.1")
    text = (group / "manifest.json").read_text()
    end_of = group / "toy_7_0" / "run_metadata.json"
    disk.write_json(end_of, json.loads(end_of.read_text()) | {"state": "lost"})
    assert tell(group, "7_0", 0).wait() == 0
    assert (group / "manifest.json").read_text() == text


def test_the_last_claim_counts_and_a_second_submission_is_nobodys_run(group):
    note(group, "agent=7_[0-3] agent.sh 0 0 4 auto:6")
    os.symlink("7_0", group / "claims" / "0")
    metadata.runs_of(group)[0].settle("lost", "its node died")
    parts.write(group, [parts.Part(0, 0, "toy", 0, attempt=1)])
    note(group, "agent=9_[0-0] agent.sh 1 0 1 auto:6", "agent=10_[0-0] agent.sh 1 0 1 auto:6")
    os.symlink("9_0", group / "claims" / "0.1")
    assert claims.owners(group) == {(0, 0): "7_0", (0, 1): "9_0"}
    (group / "toy_10_0" / "run_metadata.json").unlink()
    (group / "toy_10_0").rmdir()
    submitted.submitted(group)
    assert not (group / "toy_10_0").exists()  # it has been beaten: none is made for it again
    run = metadata.Run(group / "toy_9_0")
    run.reread()
    disk.write_json(group / "toy_9_0" / "run_metadata.json", run.metadata | {"state": "scored"})
    disk.write_json(group / "toy_9_0" / "grading_report.json", {"total_score": 0.5})
    first, *others = results(group)
    assert (first["state"], first["score"], first["attempts"]) == ("scored", 0.5, 2)
    assert [one["state"] for one in others] == ["waiting"] * 3
    asked = Round(group).asked
    assert (
        asked[0]["row"]["state"] == "scored"
        and asked[0]["row"]["attempts"] >= 2
        and asked[0]["run_id"] == f"{group.name}-0"
    )


def test_what_was_broken_off_was_not_launched(group):
    note(group, "agent=7_[0-1] agent.sh 0 0 2 auto:6")
    submitted.abandoned(group, ["7"])
    assert [(one["status"], one["launch_rc"], one["state"]) for one in results(group)] == [
        *[("launched", 0, "cancelled")] * 2,
        *[("launch_failed", 3, "waiting")] * 2,
    ]


def test_a_submission_that_is_broken_off_ends_its_own_runs_alone(group):
    note(group, "agent=7_[0-1] agent.sh 0 0 2 auto:6")
    note(group, "agent=9 agent.sh 0 2 1 auto:6")
    submitted.abandoned(group, ["9"])
    assert [(run.job_id, run.state) for run in metadata.runs_of(group)] == [
        ("9", "cancelled"),
        ("7_0", "waiting"),
        ("7_1", "waiting"),
    ]


def test_a_retry_in_the_queue_is_how_its_rollout_stands(group):
    note(group, "agent=7_[0-3] agent.sh 0 0 4 auto:6")
    os.symlink("7_0", group / "claims" / "0")
    metadata.runs_of(group)[0].settle("lost", "its node died")
    assert (results(group)[0]["state"], results(group)[0]["attempts"]) == ("lost", 1)
    assert parts.write_lines(group, [line for _, line in parts.again(group, {0: 1})]) == "1"
    note(group, "agent=9_[0-0] agent.sh 1 0 1 auto:6")
    assert (results(group)[0]["state"], results(group)[0]["attempts"]) == ("waiting", 1)
    metadata.Run(group / "toy_9_0").settle("cancelled", "in the queue")
    assert results(group)[0]["state"] == "lost"


def test_the_line_of_another_attempt_is_the_first_one_but_for_that(group):
    assert parts.again(group, {2: 3}) == [("agent.sh", "ROLLOUT=2 ATTEMPT=3 CELL=1 COMPETITION=b/toy SEED=4")]
    with pytest.raises(KeyError, match="8"):
        parts.again(group, {8: 1})


def test_a_folder_that_is_no_round_is_refused(tmp_path):
    with pytest.raises(Refused, match="is no round of a benchmark"):
        Round(tmp_path)
