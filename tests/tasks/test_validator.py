"""TaskValidator: each criterion on the hidden labels, subclasses, times, and what isn't the agent's fault."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from validation import HIDDEN, ROWS, SUMMARY, Place, make_table, make_task

from helpers.config.sites import ROOT
from helpers.grading.metrics import get_metric
from helpers.tasks.definitions import Task
from helpers.tasks.judging.verdict import Verdict
from helpers.tasks.utils import DataGenerator, TaskValidator


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_good_result_passes_with_all_fields(place: Place) -> None:
    task = place.prepare(make_task(min_accuracy=0.8, required_outputs=["submission.csv", "summary.txt"]))
    place.submit(wrong=3)
    place.write("summary.txt", SUMMARY)
    verdict = place.judge(task)
    fields = "task_id task_name task_type evaluation_timestamp criteria_met scores feedback overall_score success output_check"
    assert set(verdict) == set(fields.split())
    assert verdict["criteria_met"] == {"min_accuracy": True, "required_outputs": True}
    trivial = json.loads((place.data / "toy/prepared/private/grading.json").read_text())["reference"][
        "sample_submission"
    ]
    skill = (0.95 - trivial) / (1 - trivial)
    assert verdict["scores"] == {"accuracy": 0.95, "skill": pytest.approx(skill, abs=1e-5)}
    assert verdict["overall_score"] == pytest.approx(0.7 + 0.3 * skill, abs=1e-4)
    assert verdict["output_check"] == {
        "files_found": ["submission.csv", "summary.txt"],
        "files_missing": [],
        "score": 1.0,
    }
    assert verdict["success"] is True
    assert (verdict["task_id"], verdict["task_name"], verdict["task_type"]) == ("toy", "Toy", "classification")


def test_weights_are_renormalised_over_what_there_is(place: Place) -> None:
    task = place.prepare(make_task(min_accuracy=0.99, required_outputs=["submission.csv", "a.txt"]))
    place.submit(wrong=6)
    verdict = place.judge(task)
    skill = verdict["scores"]["skill"]
    assert verdict["overall_score"] == pytest.approx(0.3 * 0.5 + 0.4 * 0 + 0.3 * skill, abs=1e-4)
    only_scores = place.judge(make_task())
    assert only_scores["overall_score"] == pytest.approx(skill, abs=1e-4) and only_scores["criteria_met"] == {}
    assert only_scores["success"] is True
    assert only_scores["output_check"] == {"files_found": [], "files_missing": [], "score": 1.0}


# submission.csv

BAD_SUBMISSIONS: dict[str, Callable[[pd.DataFrame], str | bytes]] = {
    "empty": lambda a: "",
    "header only": lambda a: "id,target\n",
    "truncated": lambda a: a.to_csv(index=False)[:-60],
    "half of the rows": lambda a: a.head(30).to_csv(index=False),
    "constant": lambda a: a.assign(target=1).to_csv(index=False),
    "ids of training rows": lambda a: a.assign(id=range(60)).to_csv(index=False),
    "one id wrong": lambda a: a.assign(id=[*a["id"][:-1], 9999]).to_csv(index=False),
    "one id twice": lambda a: a.assign(id=[*a["id"][:-1], a["id"][0]]).to_csv(index=False),
    "other column": lambda a: a.rename(columns={"target": "label"}).to_csv(index=False),
    "words": lambda a: a.assign(target="one").to_csv(index=False),
    "NaN": lambda a: a.assign(target=float("nan")).to_csv(index=False),
    "inf": lambda a: a.assign(target=float("inf")).to_csv(index=False),
    "1e999": lambda a: a.assign(target="1e999").to_csv(index=False),
    "a PNG": lambda a: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "latin-1": lambda a: "id,target\nä,1\n".encode("latin-1"),
    "NUL": lambda a: a.to_csv(index=False).replace(",", "\0,"),
    "JSON": lambda a: a.to_json(),
    "a parquet-like file": lambda a: b"PAR1" + os.urandom(500),
    "over the limit": lambda a: a.to_csv(index=False) + "\n" * (2 * 2**20),
    "one endless line": lambda a: "id,target\n" + "1" * 500_000,
}


@pytest.mark.parametrize("name", BAD_SUBMISSIONS)
def test_a_bad_submission_scores_nothing(place: Place, name: str) -> None:
    task = place.prepare(make_task(min_accuracy=0.3, min_f1_macro=0.1, required_outputs=["submission.csv"]))
    place.write("submission.csv", BAD_SUBMISSIONS[name](place.answers))
    verdict = place.judge(task)
    assert verdict["scores"] == {"skill": 0.0}
    assert verdict["criteria_met"] == dict.fromkeys(("min_accuracy", "min_f1_macro", "required_outputs"), False)
    assert verdict["overall_score"] == 0 and not verdict["success"] and "error" not in verdict
    assert verdict["feedback"][0].startswith("submission.csv: ") and len(verdict["feedback"][0]) < 300


def test_no_submission_scores_nothing(place: Place) -> None:
    verdict = place.judge(place.prepare(make_task(min_accuracy=0.3)))
    assert verdict["feedback"][0] == "submission.csv: is missing"
    assert verdict["scores"] == {"skill": 0.0} and verdict["criteria_met"] == {"min_accuracy": False}


def test_a_copied_sample_submission_scores_nothing(place: Place) -> None:
    task = place.prepare(make_task(min_accuracy=0.01, required_outputs=["submission.csv"]))
    sample = place.public / "sample_submission.csv"
    frame = pd.read_csv(sample).assign(target=np.arange(HIDDEN) % 2)  # not constant, as mle-bench's may be
    frame.to_csv(sample, index=False)
    for text in (
        sample.read_text(),
        frame[::-1].to_csv(index=False),
        frame.astype({"target": float}).to_csv(index=False),
    ):
        place.write("submission.csv", text)
        verdict = place.judge(task)
        assert verdict["scores"] == {"skill": 0.0} and verdict["criteria_met"] == {
            "min_accuracy": False,
            "required_outputs": False,
        }
        assert verdict["feedback"][0] == "submission.csv: is the sample submission"


def test_a_bound_that_a_constant_meets_needs_more(place: Place) -> None:
    table = make_table().assign(target=(np.arange(ROWS + HIDDEN) % 15 == 0).astype(int))
    task = place.prepare(make_task(min_accuracy=0.85, required_outputs=["submission.csv"]), table)
    nearly_constant = (np.arange(HIDDEN) == 1).astype(int)  # 55 of 60 rows are right
    place.submit(nearly_constant)
    verdict = place.judge(task)
    assert verdict["scores"]["accuracy"] > 0.85 and not any(verdict["criteria_met"].values())
    assert "one guess for all rows does as well" in verdict["feedback"][0]
    place.submit()
    assert place.judge(task)["success"]


def test_a_low_bound_above_a_constant_is_a_bound(place: Place) -> None:
    task = place.prepare(make_task(kind="regression", min_r2=0.02, required_outputs=["submission.csv"]))
    truth = place.answers["target"]
    place.submit(truth.mean() + 0.0202 * (truth - truth.mean()))
    verdict = place.judge(task)
    assert 0.035 < verdict["scores"]["r2"] < 0.045
    assert verdict["criteria_met"] == {"min_r2": True, "required_outputs": True}


def test_labels_that_are_all_alike_tell_nothing(place: Place) -> None:
    table = make_table()
    table.loc[ROWS:, "target"] = 1
    task = place.prepare(make_task(min_accuracy=0.9), table)
    place.submit([0, *[1] * (HIDDEN - 1)])
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"min_accuracy": False} and "error" not in verdict


def test_random_labels_are_no_output_even_where_no_bound_is_set(place: Place) -> None:
    task = place.prepare(make_task(required_outputs=["submission.csv"]))
    place.submit(np.random.default_rng(3).integers(0, 3, HIDDEN))
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"required_outputs": False} and not verdict["success"]
    assert "submission.csv: is hardly better than one guess for all rows" in verdict["feedback"]


@pytest.mark.parametrize(
    ("kind", "metric", "criteria", "met"),
    [
        ("classification", "accuracy", {"min_accuracy": 0.9}, True),
        ("classification", "accuracy", {"min_accuracy": 0.96}, False),
        ("classification", "accuracy", {"min_balanced_accuracy": 0.9, "min_f1_macro": 0.9}, True),
        ("classification", "accuracy", {"min_balanced_accuracy": 0.99}, False),
        ("classification", "accuracy", {"min_adjusted_rand": 0.7}, True),
        ("classification", "accuracy", {"max_rmse": 0.5}, True),
        ("regression", "r2", {"min_r2": 0.9, "max_rmse": 9.0, "max_mae": 5.0}, True),
        ("regression", "r2", {"max_rmse": 0.01}, False),
        ("regression", "r2", {"min_r2": 0.9999999}, False),
        ("regression", "r2", {"max_mape": 10}, True),
        ("regression", "r2", {"max_mape": 0.01}, False),
    ],
)
def test_bounds_are_evaluated_on_the_hidden_labels(
    place: Place, kind: str, metric: str, criteria: dict[str, float], met: bool
) -> None:
    task = place.prepare(make_task(kind=kind, metric=metric, **criteria))
    place.submit(wrong=3) if kind == "classification" else place.submit(place.answers["target"] * 1.01)
    verdict = place.judge(task)
    assert verdict["criteria_met"] == dict.fromkeys(criteria, met), verdict["feedback"]
    assert {key.partition("_")[2] for key in criteria} | {metric, "skill"} == set(verdict["scores"])
    assert verdict["success"] is met


@pytest.mark.parametrize("key", ["min_accuracy", "min_f1_macro", "max_rmse", "max_mae"])
def test_a_bound_that_is_just_reached_is_met(place: Place, key: str) -> None:
    place.prepare(make_task())
    place.submit(wrong=3)
    answers, predicted = place.answers, pd.read_csv(place.results / "submission.csv")
    score = get_metric(key.partition("_")[2]).score(answers["target"], predicted["target"])
    assert place.judge(make_task(**{key: score}))["criteria_met"] == {key: True}
    beyond = math.nextafter(score, 1 if key.startswith("min") else 0)
    assert place.judge(make_task(**{key: beyond}))["criteria_met"] == {key: False}


def test_a_metric_that_predictions_do_not_fit_is_not_met(place: Place) -> None:
    task = place.prepare(make_task(kind="regression", max_rmse=9.0, min_accuracy=0.1, metric="r2"), whole_table())
    place.submit(place.answers["target"] + 0.25)
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"min_accuracy": False, "max_rmse": True}
    assert "accuracy can't be computed: `target` must hold class labels" in " ".join(verdict["feedback"])


def whole_table() -> pd.DataFrame:
    table = make_table("regression")
    return table.assign(target=table["target"].round())


def test_a_metric_that_the_answers_do_not_fit_is_an_error(place: Place) -> None:
    task = place.prepare(make_task(min_roc_auc=0.5, metric="accuracy"))
    place.submit(wrong=1)
    verdict = place.judge(task)
    assert verdict["error"] == "toy: the answers don't fit roc_auc: it needs answers of 0 and 1, both present"
    assert verdict["overall_score"] == 0 and not verdict["success"]


def test_skill_stays_between_0_and_1_where_a_score_is_far_off(place: Place) -> None:
    task = place.prepare(make_task(kind="regression", min_r2=0.5))
    place.submit(np.arange(HIDDEN) * 1e90)
    verdict = place.judge(task)
    assert verdict["scores"]["skill"] == 0 and verdict["scores"]["r2"] < -1e100 and not verdict["success"]


CLUSTERINGS = {
    "right": (lambda truth: truth, True),
    "other names": (lambda truth: truth.map({0: "c", 1: "a", 2: "b"}), True),
    "two": (lambda truth: truth.clip(upper=1), False),
    "four": (lambda truth: truth.where(np.arange(HIDDEN) % 2 == 0, truth + 3), False),
    "a token third": (lambda truth: truth.clip(upper=1).where(np.arange(HIDDEN) != 0, 2), False),
    "noise label": (lambda truth: truth.where(np.arange(HIDDEN) > 8, -1), False),
    "chance": (lambda truth: np.arange(HIDDEN) % 3, False),
    "by id": (lambda truth: np.arange(HIDDEN) // 20, False),
}


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_clusters_are_counted_in_the_submission(place: Place, name: str) -> None:
    make, met = CLUSTERINGS[name]
    task = place.prepare(make_task(kind="clustering", expected_clusters=3))
    place.submit(make(place.answers["target"]))
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"expected_clusters": met}, verdict["feedback"]
    assert verdict["success"] is met


# what isn't the agent's fault


def test_a_task_that_is_not_prepared_is_an_error(place: Place) -> None:
    verdict = place.judge(make_task(min_accuracy=0.5))
    assert verdict["error"].startswith("toy is not prepared, so there are no labels to judge by: there is no ")
    assert f"generate-data toy {place.data}" in verdict["error"]
    assert not verdict["success"] and verdict["overall_score"] == 0


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no labels": (lambda private: (private / "answers.csv").unlink(), "can't read"),
    "labels are a folder": (lambda p: ((p / "answers.csv").unlink(), (p / "answers.csv").mkdir()), "Is a directory"),
    "labels cut": (lambda p: (p / "answers.csv").write_text("id,target\n"), "doesn't fit the metric"),
    "labels in binary": (lambda p: (p / "answers.csv").write_bytes(b"\xff\xfe"), "UTF-8"),
    "no private half": (lambda p: shutil.rmtree(p), "not prepared"),
    "empty private half": (lambda p: [path.unlink() for path in p.iterdir()], "is empty"),
    "broken settings": (lambda p: (p / "grading.json").write_text("{"), "grading.json is broken"),
    "no settings": (lambda p: (p / "grading.json").unlink(), "mle"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_private_half_is_an_error(place: Place, name: str) -> None:
    damage, words = DAMAGES[name]
    task = place.prepare(make_task(min_accuracy=0.5, required_outputs=["submission.csv"]))
    place.submit(wrong=1)
    damage(place.data / "toy" / "prepared" / "private")
    verdict = place.judge(task)
    assert words in verdict["error"] and "\n" not in verdict["error"] and "Traceback" not in verdict["error"]
    assert not verdict["success"] and verdict["overall_score"] == 0


def test_a_damaged_training_table_is_an_error(place: Place) -> None:
    task = place.prepare(make_task(required_insights=1))
    place.submit()
    place.write("analysis_report.md", SUMMARY)
    (place.public / "train.csv").write_bytes(b"")
    assert "train.csv: No columns to parse" in place.judge(task)["error"]
    (place.public / "train.csv").unlink()
    assert place.judge(task)["error"] == "toy has no train.csv, so its required_insights can't be judged"


def test_a_results_folder_that_is_none_is_an_error(place: Place, tmp_path: Path) -> None:
    task = place.prepare(make_task(min_accuracy=0.5))
    place.submit()
    (tmp_path / "link").symlink_to(place.results)
    for folder, words in (
        (tmp_path / "none", "No such file"),
        (place.results / "submission.csv", "Not a directory"),
        (tmp_path / "link", "a link isn't followed"),
        (f"{tmp_path}/link/", "a link isn't followed"),
    ):
        verdict = place.validator.evaluate_task(task, folder)
        assert words in verdict["error"] and not verdict["success"]


def test_the_data_folder_is_the_sites_by_default(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = place.prepare(make_task(min_accuracy=0.5))
    place.submit()
    monkeypatch.setenv("HPC_SITE", "local")
    monkeypatch.setenv("HPC_PATHS__DATA", str(place.data))
    assert TaskValidator().evaluate_task(task, place.results)["success"]
    monkeypatch.setenv("HPC_SITE", "nowhere")
    verdict = TaskValidator().evaluate_task(task, place.results)
    assert "nowhere" in verdict["error"] and not verdict["success"]


def test_a_task_without_data_is_judged_by_its_files(place: Place) -> None:
    task = make_task(required_outputs=["essay.md"]).model_copy(
        update={"data_requirements": Task.model_fields["data_requirements"].default}
    )
    place.write("essay.md", SUMMARY)
    verdict = place.judge(task)
    assert verdict["success"] and verdict["overall_score"] == 1 and verdict["scores"] == {}


# subclasses


class Custom(TaskValidator):
    outcome: Any = {
        "criteria_met": {"custom_criterion": True},
        "scores": {"custom_score": 0.85},
        "feedback": ["Custom evaluation completed"],
        "custom_metrics": {"code_complexity": 7, "test_coverage": np.float64(0.5)},
    }

    def _evaluate_classification(self, task: Task, results_dir: Path) -> Any:
        assert task.id == "toy" and isinstance(results_dir, Path)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_a_subclass_adds_to_the_evaluation(place: Place) -> None:
    task = place.prepare(make_task(min_accuracy=0.5))
    place.submit(wrong=3)
    place.validator = Custom(place.data)
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"min_accuracy": True, "custom_criterion": True}
    assert verdict["scores"]["custom_score"] == 0.85 and verdict["scores"]["accuracy"] == 0.95
    assert verdict["feedback"][-1] == "Custom evaluation completed"
    assert verdict["custom_metrics"] == {"code_complexity": 7, "test_coverage": 0.5}
    Custom.outcome = Custom.outcome | {"criteria_met": {"custom_criterion": np.bool_(False)}}
    assert not place.judge(task)["success"]


def test_scores_of_a_subclass_count_where_there_is_no_skill(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task.from_dict({"id": "toy", "name": "Toy", "task_type": "classification"})
    monkeypatch.setattr(Custom, "outcome", {"scores": {"a": 0.5, "b": 7, "c": -3}})
    place.validator = Custom(place.data)
    assert place.judge(task)["overall_score"] == 0.5
    monkeypatch.setattr(Custom, "outcome", {"scores": {"a": 1}, "criteria_met": {"x": False}})
    assert place.judge(task)["overall_score"] == pytest.approx(0.3 / 0.7, abs=1e-4)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (RuntimeError("no\nluck"), "Custom._evaluate_classification failed: RuntimeError: no luck"),
        (None, "Custom._evaluate_classification must return {criteria_met, scores, feedback[, custom_metrics]}"),
        ([], "must return"),
        ({"criteria": {}}, "criteria"),
        ({"scores": {"a": float("nan")}}, "nan"),
        ({"scores": {"a": "high"}}, "'high'"),
        ({"scores": [1]}, "must return"),
        ({"custom_metrics": {"a": object()}}, "must return"),
    ],
)
def test_a_subclass_that_fails_is_a_clear_error(
    place: Place, monkeypatch: pytest.MonkeyPatch, outcome: Any, words: str
) -> None:
    task = place.prepare(make_task(min_accuracy=0.5))
    place.submit()
    monkeypatch.setattr(Custom, "outcome", outcome)
    place.validator = Custom(place.data)
    verdict = place.judge(task)
    assert words in verdict["error"] and "\n" not in verdict["error"]
    assert not verdict["success"] and verdict["overall_score"] == 0


class CustomValidator(TaskValidator):
    """As the specification has it."""

    def _evaluate_custom_task(self, task: Task, results_dir: Path) -> Any:
        return {
            "criteria_met": {"custom_criterion": True},
            "scores": {"custom_score": 0.85},
            "feedback": ["Custom evaluation completed"],
        }


@pytest.mark.parametrize("task_type", ["custom", "custom_task"])
def test_a_method_may_end_in_task(place: Place, task_type: str) -> None:
    place.validator = CustomValidator(place.data)
    verdict = place.judge(Task.from_dict({"id": "toy", "name": "Toy", "task_type": task_type}))
    assert verdict["criteria_met"] == {"custom_criterion": True} and verdict["scores"] == {"custom_score": 0.85}
    assert verdict["feedback"] == ["Custom evaluation completed"] and verdict["success"]


def test_a_method_that_fits_no_type_is_told(place: Place) -> None:
    class Misspelt(CustomValidator):
        def _evaluate_classificaton(self, task: Task, results_dir: Path) -> Any:
            raise AssertionError

        def _evaluate_regression_task(self, task: Task, results_dir: Path) -> Any:
            raise AssertionError

    place.validator = Misspelt(place.data)
    verdict = place.judge(Task.from_dict({"id": "toy", "name": "Toy", "task_type": "custom"}))
    assert verdict["success"] and verdict["feedback"] == [
        "Custom evaluation completed",
        "Misspelt._evaluate_classificaton fits no type of task, so it is never called; there are: "
        "classification, clustering, custom, data_analysis, deep_learning, multi_modal, regression, text_classification, time_series",
    ]


def test_no_method_of_the_base_class_passes_for_a_subclasss() -> None:
    assert not [name for name in dir(TaskValidator) + dir(Verdict) if name.startswith("_evaluate_")]


# time


@pytest.mark.parametrize(
    ("seconds", "met"),
    [(59.5, True), (60, True), (0, True), (61, False), (np.float64(3), True)]
    + [(value, False) for value in (-1, float("nan"), float("inf"), "3", True)],
)
def test_time_is_the_callers(place: Place, seconds: Any, met: bool) -> None:
    verdict = place.judge(Task.from_dict({**TIMED, "evaluation_criteria": {"max_training_time": 60}}), seconds)
    assert verdict["criteria_met"] == {"max_training_time": met}


TIMED = {"id": "toy", "name": "Toy", "task_type": "free"}
START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:00:50Z"
RECORDS: dict[str, tuple[Any, bool]] = {
    "right": ({"competition": "toy", "agent_started_at": START, "agent_ended_at": END}, True),
    "too long": ({"competition": "toy", "agent_started_at": START, "agent_ended_at": "2026-01-01T00:02:00Z"}, False),
    "backwards": ({"competition": "toy", "agent_started_at": END, "agent_ended_at": START}, False),
    "of another task": ({"competition": "other", "agent_started_at": START, "agent_ended_at": END}, False),
    "unfinished": ({"competition": "toy", "agent_started_at": START, "agent_ended_at": None}, False),
    "mixed zones": ({"competition": "toy", "agent_started_at": START[:-1], "agent_ended_at": END}, False),
    "a list": ([1], False),
    "no JSON": ("{", False),
}


@pytest.mark.parametrize("name", RECORDS)
def test_time_is_the_job_scripts_where_the_caller_has_none(tmp_path: Path, name: str) -> None:
    content, met = RECORDS[name]
    task = Task.from_dict({**TIMED, "evaluation_criteria": {"max_training_time": 60}})
    results = tmp_path / "toy_1" / "submission"
    results.mkdir(parents=True)
    (tmp_path / "toy_1" / "run_metadata.json").write_text(content if isinstance(content, str) else json.dumps(content))
    verdict = TaskValidator(tmp_path).evaluate_task(task, results)
    assert verdict["criteria_met"] == {"max_training_time": met}
    assert TaskValidator(tmp_path).evaluate_task(task, results, 61)["criteria_met"] == {"max_training_time": False}


def test_time_is_never_the_agents(tmp_path: Path) -> None:
    task = Task.from_dict({**TIMED, "evaluation_criteria": {"max_training_time": 60}})
    content = json.dumps(RECORDS["right"][0] | {"execution_time": 1, "training_time": 1})
    for folder in ("results", "submission"):
        (tmp_path / folder).mkdir()
        for name in ("run_metadata.json", "training_log.json", "task_toy_results.json"):
            (tmp_path / folder / name).write_text(content)
    (tmp_path / "elsewhere.json").write_text(content)
    verdicts = [TaskValidator(tmp_path).evaluate_task(task, tmp_path / "submission")]
    (tmp_path / "run_metadata.json").symlink_to("elsewhere.json")
    verdicts.append(TaskValidator(tmp_path).evaluate_task(task, tmp_path / "submission"))
    (tmp_path / "run_metadata.json").unlink()
    (tmp_path / "run_metadata.json").write_text(content)  # beside a folder that no job script made
    verdicts.append(TaskValidator(tmp_path).evaluate_task(task, tmp_path / "results"))
    for verdict in verdicts:
        assert verdict["criteria_met"] == {"max_training_time": False}
        assert "how long the agent took isn't known" in verdict["feedback"][0]


def test_names_of_the_specification_are_where_it_imports_them_from() -> None:
    assert (
        DataGenerator.__module__ == "helpers.tasks.synthetic.generator"
        and TaskValidator.__module__ == "helpers.tasks.judging.validator"
    )


def test_the_example_of_a_custom_task_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "tasks" / "custom_task_example.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Success: True" in done.stdout and "the model uses" in done.stdout
