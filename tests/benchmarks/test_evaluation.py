"""A round that is graded anew: what its runs left, the new grades as their results, and eval_manifest.json."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from check_records import faults

from helpers.benchmarks import evaluate, evaluation, manifest, stamps
from helpers.config.asked import AskedSite
from helpers.jobs import counted, parts, regrade, submitted
from helpers.jobs.kinds.base import kind_of
from helpers.jobs.kinds.benchmark import Benchmark
from helpers.jobs.kinds.evaluation import Evaluation
from helpers.jobs.kinds.grading import LaterRun
from helpers.jobs.regrade import AgainRun
from helpers.lib import disk
from helpers.lib.errors import Refused
from helpers.runs import cells, metadata
from helpers.runs.metadata import Run

AT = "2026-02-03T04:05:06Z"
SUM = hashlib.sha256(b"id,1\n").hexdigest()


def read(*path):
    return json.loads(Path(*path).read_text())


def end(folder, state, score=None, has_submission=True, **more):
    """A run's end, as its job leaves it."""
    data = read(folder, "run_metadata.json") | {"state": state, "reason": "as it was", "agent_started_at": AT}
    disk.write_json(folder / "run_metadata.json", data | {"ended_at": AT} | more)
    evaluation = {"task_id": "toy", "run_id": "x", "state": state, "total_score": score}
    disk.write_json(folder / "evaluation_results.json", evaluation | {"evaluation": {"total_score": score}})
    if has_submission:
        (folder / "submission").mkdir()
        (folder / "submission" / "submission.csv").write_text("id,1\n")
    if score is not None:
        disk.write_json(folder / "grading_report.json", {"total_score": score, "valid_submission": True})


@pytest.fixture
def group(tmp_path):
    """A round of five rollouts that have ended: scored, invalid, without a submission, lost with one, never begun."""
    made = stamps.make(tmp_path / "rollouts", "mine")
    config = {
        "container": {"runtime": "none"},
        "jobs": {"agent": {"cpus": 1}},
        "paths": {"data": "/data", "address_dir": str(tmp_path / "addresses")},
        "scheduler": {"kind": "local"},
    }
    cell = {"competition": "toy", "agent": "a", "model": None, "seed": 0, "rollouts": 5, "config_hash": "x"}
    record = {"cells": [cell], "config": config, "benchmark": {"name": "mine", "config": "mine.toml"}, "jobs": {}}
    disk.write_json(made / "workflow.json", record)
    parts.write(made, [parts.Part(number, 0, "toy", seed) for number, (_, seed) in enumerate(cells.rollouts(record))])
    manifest.begin(made, record)
    (made / "jobs" / "submitted").write_text("agent=7_[0-3] agent.sh 0 0 4 auto:6\n")
    submitted.submitted(made)
    for number in range(4):
        os.symlink(f"7_{number}", made / "claims" / str(number))
    end(made / "toy_7_0", "scored", 0.5, submission_sha256=SUM)
    end(made / "toy_7_1", "invalid_submission", submission_sha256=SUM)
    end(made / "toy_7_2", "no_submission", has_submission=False)
    end(made / "toy_7_3", "lost", submission_sha256=SUM)
    return made


def again(folder, job="9"):
    run = AgainRun(folder, job=job)
    run.reread()
    return run


def grade(folder, score, job="9", state="scored"):
    """What a job notes of a run that it has graded again (run::_record_again)."""
    run = again(folder, job)
    disk.write_json(folder / f"grading_report_{job}.json", {"total_score": score, "valid_submission": True})
    one = {"job": job, "at": AT, "state": state, "reason": "graded", "score": score}
    grades = [*regrade.grades(run), one | {"report": f"grading_report_{job}.json"}]
    disk.write_json(folder / "run_metadata.json", run.metadata | {"grades": grades})
    return again(folder, job)


def test_what_a_round_left(group):
    jobs = Benchmark(group, AskedSite())
    found = evaluate.left(jobs, 100)
    assert [(number, one.again) for number, one in found.orders.items()] == [(0, True), (1, True), (3, False)]
    assert found.earlier == {0: 0.5, 1: None, 3: None} and not found.failed
    assert found.sentence() == "3 are graded anew, 1 stay no_submission, 1 stay not begun"
    assert "ROLLOUT=3\n" in found.orders[3].text()
    for number in (0, 1, 3):
        (group / f"toy_7_{number}" / "submission" / "submission.csv").write_text("other\n")
    found = evaluate.left(jobs, 100)
    assert not found.orders and set(found.failed) == {0, 1} and found.others["lost"] == 1
    assert "isn't what was there at the run's end" in found.failed[0]


def test_what_was_invalid_by_its_looks_left_nothing(group):
    folder = group / "toy_7_1"
    (folder / "submission" / "submission.csv").unlink()
    disk.write_json(folder / "run_metadata.json", read(folder, "run_metadata.json") | {"submission_sha256": None})
    found = evaluate.left(Benchmark(group, AskedSite()), 100)
    assert list(found.orders) == [0, 3] and not found.failed and found.others["invalid_submission"] == 1


def test_a_new_grade_becomes_the_result_and_the_earlier_one_is_kept(group):
    folder = group / "toy_7_0"
    assert not counted.count(again(folder))  # the job has told none
    assert counted.count(grade(folder, 0.75))
    record = read(folder, "run_metadata.json")
    assert not faults(record | {"cell": 0}) and record["counted_grade"] == "9"
    assert [(one["job"], one["score"], one["report"]) for one in record["grades"]] == [
        ("7_0", 0.5, "grading_report_7_0.json"),
        ("9", 0.75, "grading_report_9.json"),
    ]
    assert (record["state"], record["reason"]) == ("scored", "graded; graded anew, by job 9")
    scores = ["grading_report.json", "grading_report_7_0.json", "evaluation_results.json", "evaluation_results.1.json"]
    assert [read(folder, name)["total_score"] for name in scores] == [0.75, 0.5, 0.75, 0.5]
    assert read(folder, "evaluation_results.json")["run_id"] == "x"
    before = {name: (folder / name).read_text() for name in os.listdir(folder) if name.endswith(".json")}
    assert counted.count(again(folder))  # done already
    assert before == {name: (folder / name).read_text() for name in os.listdir(folder) if name.endswith(".json")}


def test_an_earlier_grade_does_not_come_back(group):
    folder = group / "toy_7_0"
    counted.count(grade(folder, 0.75))
    counted.count(grade(folder, 0.25, "11"))
    assert counted.count(again(folder, "9"))  # somebody attaches to the first once more
    assert read(folder, "grading_report.json")["total_score"] == 0.25
    assert read(folder, "evaluation_results.2.json")["graded_by"] == "9"
    assert not (folder / "evaluation_results.3.json").exists()


@pytest.mark.parametrize("step", ["_evaluate", "write_json", "reread"])
def test_whoever_is_killed_on_the_way_is_followed_by_one_who_ends_it(group, monkeypatch, step):
    folder = group / "toy_7_0"
    run = grade(folder, 0.75)
    real = {"_evaluate": counted._evaluate, "write_json": disk.write_json, "reread": Run.reread}[step]
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) > (2 if step == "write_json" else 1 if step == "reread" else 0):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr({"_evaluate": counted, "write_json": disk, "reread": Run}[step], step, killed)
    with pytest.raises(KeyboardInterrupt):
        counted.count(run)
    monkeypatch.undo()
    assert counted.count(again(folder))
    assert sorted(name for name in os.listdir(folder) if name.startswith("evaluation")) == [
        "evaluation_results.1.json",
        "evaluation_results.json",
    ]
    assert [read(folder, f"evaluation_results{n}.json")["total_score"] for n in (".1", "")] == [0.5, 0.75]
    assert read(folder, "grading_report_7_0.json")["total_score"] == 0.5


def test_a_new_grade_without_a_score_is_no_zero(group):
    folder = group / "toy_7_0"
    run = again(folder)
    one = {"job": "9", "at": AT, "state": "invalid_submission", "reason": "too large", "score": None, "report": None}
    disk.write_json(folder / "run_metadata.json", run.metadata | {"grades": [*regrade.grades(run), one]})
    assert counted.count(again(folder))
    run = metadata.Run(folder)
    run.reread()
    assert (run.state, run.report) == ("invalid_submission", {})
    assert read(folder, "evaluation_results.json")["total_score"] is None
    # and back again
    counted.count(grade(folder, 0.5, "11"))
    run.reread()
    assert (run.state, metadata.score_of(run.report)) == ("scored", 0.5)


@pytest.fixture
def folder(group, tmp_path):
    """The jobs that grade it anew, as they were submitted."""
    made = tmp_path / "runs" / "2026-02-03T04-05-06-UTC_eval"
    (made / "jobs").mkdir(parents=True)
    (made / "jobs" / "submitted").write_text(
        "grading_server=8 grading_server.sh toy\nagent=9_[0-2] grade.sh auto:8 0 3\n"
    )
    record = {
        "runs": [str(group / f"toy_7_{number}") for number in (0, 1, 3)],
        "again": [True, True, False],
        "round": str(group),
        "rollouts": [0, 1, 3],
        "earlier": [0.5, None, None],
        "failed": {},
        "config": read(group, "workflow.json")["config"],
    }
    disk.write_json(made / "evaluation.json", record)
    disk.write_text(group / evaluate.NEWEST, f"{made}\n")
    return made


def test_the_manifest_of_an_evaluation_says_what_became_of_each(group, folder, capsys):
    assert kind_of(folder) is Evaluation
    told = []
    one = evaluation.Watch(folder, True, told.append)
    assert [type(run) for run in one.runs.values()] == [AgainRun, AgainRun, LaterRun]
    grade(group / "toy_7_0", 0.75, "9_0")
    one.hear()
    one._show()
    first, *others = read(group, "eval_manifest.json")["results"]
    assert (first["eval_rc"], first["status"], first["score"], first["earlier_score"]) == (0, "ok", 0.75, 0.5)
    assert first["run_dir"] == str(manifest.run_dir(group, 0)) and first["task_dir"] == "/data/toy"
    assert [(other["eval_rc"], other["status"]) for other in others] == [(None, None)] * 4
    assert f"run_id={group.name}-0 status=ok (scored, score 0.75, before 0.5)" in capsys.readouterr().err
    for job in ("9_1", "9_2"):
        one.runs[job].settle("lost", "its node died")
    assert one.tell() == 3 and told[0]["exit_code"] == 3
    results = read(group, "eval_manifest.json")["results"]
    assert [one["status"] for one in results] == ["ok", "eval_failed", None, "eval_failed", None]
    assert [one["state"] for one in results] == ["scored", "invalid_submission", "no_submission", "lost", "waiting"]
    assert [one["score"] for one in results] == [0.75, None, None, None, None]
    assert [one["score"] for one in read(group, "manifest.json")["results"]] == [0.75, None, None, None, None]
    assert "0.75" in (group / "summary.md").read_text()
    assert not (group / "toy_7_1" / "evaluation_results.1.json").exists()


def test_a_round_that_is_at_work_is_refused(group, folder, monkeypatch):
    monkeypatch.setattr(evaluate, "rest_of", lambda jobs: evaluate_rest([1, 2]))
    with pytest.raises(Refused, match=r"2 rollout\(s\) of .* still have a job: wait until they have ended"):
        evaluate._refuse_at_work(Benchmark(group, AskedSite()))
    monkeypatch.setattr(evaluate, "rest_of", lambda jobs: evaluate_rest([]))
    monkeypatch.setattr(Evaluation, "look", lambda self: None)
    monkeypatch.setattr(Evaluation, "settle_sure", lambda self: None)
    with pytest.raises(Refused, match=f"is graded anew just now: .*jobs.sh attach {folder}"):
        evaluate._refuse_at_work(Benchmark(group, AskedSite()))
    for job in ("9_0", "9_1", "9_2"):
        Evaluation(folder, AskedSite()).runs[job].settle("lost", "its node died")
    evaluate._refuse_at_work(Benchmark(group, AskedSite()))


def evaluate_rest(at_work):
    from helpers.benchmarks.resume import Rest

    return Rest(at_work=at_work)
