"""Graders of this project's own tasks: the verdict, the score, and what never gets out.

mle-bench's backend is compared with mle-bench itself by tests/performance/check_mlebench.py, which needs mle-bench.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from helpers.grading import graders, own_task
from helpers.grading import metrics as metrics_module
from helpers.grading.metrics import METRICS
from helpers.grading.report import INVALID, VALID, GradingError, reported
from helpers.lib import bounded

NUMBERS = [0.5, -1.25, 3.0, 10.0, 7.5, 2.0]
WORDS = ["cat", "dog", "cat", "bird", "dog", "cat"]
ANSWERS = {
    "accuracy": WORDS,
    "balanced_accuracy": WORDS,
    "f1_macro": [0, 1, 2, 0, 1, 2],
    "roc_auc": [0, 1, 1, 0, 1, 0],
    "log_loss": [0, 1, 1, 0, 1, 0],
    "rmse": NUMBERS,
    "mae": NUMBERS,
    "r2": NUMBERS,
    "mape": NUMBERS,
    "adjusted_rand": [0, 0, 1, 1, 2, 2],
}


def make_task(data: Path, metric: str, answers: list, ids: list | None = None, name: str = "toy") -> own_task.OwnTask:
    """Write a task of this project and load it."""
    private = data / name / "prepared" / "private"
    private.mkdir(parents=True)
    identifiers = ids or [f"{number:03d}" for number in range(len(answers))]
    pd.DataFrame({"id": identifiers, "target": answers}).to_csv(private / "answers.csv", index=False)
    fields = {"metric": metric, "id_column": "id", "target_column": "target", "reference": {"baseline": 0.5}}
    (private / "grading.json").write_text(json.dumps(fields))
    return graders.load(name, data)


def csv(answers: list, ids: list | None = None) -> bytes:
    rows = [f"{ids[number] if ids else f'{number:03d}'},{value}\n" for number, value in enumerate(answers)]
    return ("id,target\n" + "".join(rows)).encode()


def validate(grader: own_task.OwnTask, content: bytes) -> tuple[bool, str]:
    return grader.validate(io.BytesIO(content))


@pytest.fixture
def words(tmp_path: Path) -> own_task.OwnTask:
    return make_task(tmp_path, "accuracy", WORDS)


@pytest.fixture
def numbers(tmp_path: Path) -> own_task.OwnTask:
    return make_task(tmp_path, "rmse", NUMBERS)


GOOD = csv(WORDS)
BROKEN = {
    "empty": (b"", "It is empty."),
    "blank": (b"\n\n", "It is empty."),
    "header only": (b"id,target\n", "It has 0 rows; the test set has 6."),
    "no header": (GOOD.partition(b"\n")[2], "Submission must have a `id` column; its columns are '000', 'cat'."),
    "no id": (b"target\ncat\n", "Submission must have a `id` column; its columns are 'target'."),
    "no target": (b"id,Target\n000,cat\n", "Submission must have a `target` column; its columns are 'id', 'Target'."),
    "two targets": (
        b"id,target,target\n000,cat,dog\n",
        "Submission has more than one `target` column; its columns are 'id', 'target', 'target'.",
    ),
    "semicolons": (
        GOOD.replace(b",", b";"),
        "Submission must have a `id` column; its columns are 'id;target'.",
    ),
    "short": (csv(WORDS[:4]), "It has 4 rows; the test set has 6."),
    "long": (csv(WORDS + ["cat"]), "It has more rows than the test set, which has 6."),
    "doubled": (GOOD + GOOD.partition(b"\n")[2], "It has more rows than the test set, which has 6."),
    "duplicate id": (GOOD.replace(b"005", b"000"), "The id '000' appears more than once."),
    "unknown id": (GOOD.replace(b"005", b"999"), "'999' in `id` is not an id of the test set."),
    "ids as numbers": (
        csv(WORDS, list(range(6))),
        "'0' in `id` is not an id of the test set.",
    ),
    "empty id": (GOOD.replace(b"005", b""), "'' in `id` is not an id of the test set."),
    "long id": (GOOD.replace(b"005", b"9" * 50), f"'{'9' * 40}…' in `id` is not an id of the test set."),
    "ragged": (GOOD.replace(b"002,cat", b"002,cat,dog"), "Row 3 has 3 fields, the header 2."),
    "cut off": (GOOD[:-5], "Row 6 has 1 fields, the header 2."),
    "open quote": (
        GOOD.replace(b"002,cat", b'002,"cat'),
        "Submission file must be a CSV file: unexpected end of data.",
    ),
    "latin-1": (GOOD.replace(b"bird", b"b\xefrd"), "Submission file must be a CSV file in UTF-8."),
    "utf-16": (GOOD.decode().encode("utf-16"), "Submission file must be a CSV file in UTF-8."),
    "binary": (bytes(range(256)) * 4, "Submission file must be a CSV file in UTF-8."),
    "NaN": (GOOD.replace(b"bird", b"NaN"), "`target` must hold a label in each row; row 4 has 'NaN'."),
    "no label": (GOOD.replace(b"bird", b""), "`target` must hold a label in each row; row 4 has ''."),
    "numbers": (csv([0, 1, 0, 2, 1, 0]), "`target` must hold class labels, which are words; it holds numbers."),
    "huge": (GOOD + b"\n" * 2**21, "It has over 1054576 bytes, far more than the test set's rows need."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_submissions_are_invalid(words: own_task.OwnTask, name: str) -> None:
    content, reason = BROKEN[name]
    assert validate(words, content) == (False, INVALID + reason)
    report = words.grade(io.BytesIO(content))
    assert (report["score"], report["total_score"], report["valid_submission"]) == (None, None, False)
    assert (report["note"], report["submission_exists"]) == (INVALID + reason, True)


@pytest.mark.parametrize("value", ["", "NaN", "nan", "inf", "-inf", "1e101", "-1e300", "1e999"])
def test_numbers_must_be_finite(numbers: own_task.OwnTask, value: str) -> None:
    valid, message = validate(numbers, csv(NUMBERS[:2] + [value] + NUMBERS[3:]))
    assert not valid
    assert message.startswith(f"{INVALID}`target` must hold ") and message.endswith(f"; row 3 has {value!r}.")


def test_text_where_numbers_belong_is_invalid(numbers: own_task.OwnTask) -> None:
    content = csv(NUMBERS[:2] + ["about 3"] + NUMBERS[3:])
    assert validate(numbers, content) == (False, f"{INVALID}`target` must hold numbers; row 3 has 'about 3'.")


@pytest.mark.parametrize(("metric", "value"), [("log_loss", "1.5"), ("log_loss", "-0.1"), ("f1_macro", "0.5")])
def test_probabilities_and_class_numbers_are_checked(tmp_path: Path, metric: str, value: str) -> None:
    grader = make_task(tmp_path, metric, ANSWERS[metric])
    valid, message = validate(grader, csv([1, 1, 0, value, 1, 0]))
    assert not valid and message.endswith(f"; row 4 has {value!r}.")


GOOD_ONES = {
    "as it should be": GOOD,
    "bom": b"\xef\xbb\xbf" + GOOD,
    "windows line ends": GOOD.replace(b"\n", b"\r\n"),
    "blank lines": GOOD.replace(b"\n", b"\n\n"),
    "no line end at the end": GOOD.rstrip(),
    "quotes": GOOD.replace(b"cat", b'"cat"'),
    "other columns": b"".join(line + b',"a, b"\n' for line in GOOD.splitlines()),
    "columns swapped": b"".join(b",".join(line.split(b",")[::-1]) + b"\n" for line in GOOD.splitlines()),
    "rows reversed": b"\n".join([b"id,target", *GOOD.splitlines()[:0:-1]]),
}


@pytest.mark.parametrize("name", GOOD_ONES)
def test_harmless_differences_are_valid(words: own_task.OwnTask, name: str) -> None:
    assert validate(words, GOOD_ONES[name]) == (True, VALID)
    assert words.grade(io.BytesIO(GOOD_ONES[name]))["score"] == 1


@pytest.mark.parametrize("predicted", [["True", "False", "TRUE", "false"], [1, 0, 1, 0], [1.0, 0.0, 1.0, 0.0]])
def test_booleans_may_be_words_or_numbers(tmp_path: Path, predicted: list) -> None:
    grader = make_task(tmp_path, "accuracy", [True, False, True, True])
    assert grader.grade(io.BytesIO(csv(predicted)))["score"] == 0.75
    assert not validate(grader, csv(["yes", *predicted[1:]]))[0]


def test_class_numbers_may_have_a_point(tmp_path: Path) -> None:
    grader = make_task(tmp_path, "accuracy", [0, 1, 2])
    assert grader.grade(io.BytesIO(csv(["0.0", "1.0", "1.0"])))["score"] == 0.66667


def test_cluster_numbers_may_have_a_point(tmp_path: Path) -> None:
    grader = make_task(tmp_path, "adjusted_rand", ["a", "a", "b", "b", "b", "b"])
    assert grader.grade(io.BytesIO(csv(["1", "1.0", "2", "2.0", "2", "2"])))["score"] == 1.0


def test_a_label_may_look_like_a_missing_value(tmp_path: Path) -> None:
    private = tmp_path / "toy" / "prepared" / "private"
    private.mkdir(parents=True)
    (private / "answers.csv").write_text("id,target\n1,None\n2,mild\n")
    fields = {"metric": "accuracy", "id_column": "id", "target_column": "target"}
    (private / "grading.json").write_text(json.dumps(fields))
    grader = graders.load("toy", tmp_path)
    assert grader.grade(io.BytesIO(b"id,target\n2,mild\n1,None\n"))["score"] == 1
    assert not validate(grader, b"id,target\n2,mild\n1,NaN\n")[0]


def test_paths_frames_and_files_are_judged_alike(words: own_task.OwnTask, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(GOOD)
    frame = pd.read_csv(path, dtype=str)
    with open(path, "rb") as file:
        file.read(10)
        for source in (path, str(path), frame, file, file):
            assert words.validate(source) == (True, VALID)
            assert words.grade(source)["score"] == 1
        assert not file.closed
    assert words.grade(path)["submission_path"] == str(path)


def test_a_missing_file_is_invalid_in_mle_benchs_words(words: own_task.OwnTask, tmp_path: Path) -> None:
    path = tmp_path / "gone.csv"
    assert words.validate(path) == (False, f"{INVALID}Submission file {path} does not exist.")
    report = words.grade(path)
    assert (report["submission_exists"], report["valid_submission"], report["score"]) == (False, False, None)
    (tmp_path / "s.txt").write_bytes(GOOD)
    assert words.validate(tmp_path / "s.txt") == (False, f"{INVALID}Submission file must be a CSV file.")


def test_a_report_has_mle_benchs_fields(words: own_task.OwnTask) -> None:
    report = words.grade(io.BytesIO(GOOD))
    # mlebench/grade_helpers.py, CompetitionReport.to_dict
    fields = """competition_id score gold_threshold silver_threshold bronze_threshold median_threshold any_medal
        gold_medal silver_medal bronze_medal above_median submission_exists valid_submission is_lower_better created_at
        submission_path""".split()
    assert set(report) == {*fields, "total_score", "metric", "reference"}
    assert (report["competition_id"], report["metric"], report["reference"]) == ("toy", "accuracy", {"baseline": 0.5})
    assert (report["is_lower_better"], report["any_medal"], report["gold_threshold"]) == (False, None, None)
    # what nobody can know is null
    assert {report[f"{medal}_medal"] for medal in ("gold", "silver", "bronze")} == {report["above_median"]} == {None}
    json.dumps(report, allow_nan=False)


def test_further_metrics_are_reported_beside_the_score(tmp_path: Path) -> None:
    make_task(tmp_path, "accuracy", WORDS)
    path = tmp_path / "toy" / "prepared" / "private" / "grading.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": ["f1_macro", "balanced_accuracy"]}))
    grader, guess = graders.load("toy", tmp_path), ["cat", "dog", "cat", "cat", "dog", "cat"]
    report = grader.grade(io.BytesIO(csv(guess)))
    f1 = metrics.f1_score(WORDS, guess, average="macro", zero_division=0.0)
    balanced = metrics.balanced_accuracy_score(WORDS, guess)
    assert report["standard_metrics"] == {"f1_macro": round(f1, 5), "balanced_accuracy": round(balanced, 5)}
    assert report["score"] == round(5 / 6, 5) and "custom_metrics" not in report
    invalid = grader.grade(io.BytesIO(b"id,target\n"))
    assert "standard_metrics" not in invalid and invalid["valid_submission"] is False
    assert grader.validate(io.BytesIO(csv(guess))) == (True, VALID)


def test_what_a_grader_reports_are_finite_numbers_with_plain_names() -> None:
    told = {"a": 1, "b": np.float64(0.5), "c": np.int64(2), "café (%)": -1e-7}
    odd = {"nan": math.nan, "flag": True, "text": "1", "list": [1], 7: 1, 'q"': 1, "{": 1, "x" * 101: 1, "": 1, "\n": 1}
    found, left = reported({"custom_metrics": told | odd, "standard_metrics": [1], "score": 3})
    assert found == {"custom_metrics": told} and all(
        type(one) in (int, float) for one in found["custom_metrics"].values()
    )
    assert left == (
        "left out of what the grader reports: standard_metrics is no dictionary; custom_metrics: nan, flag, text, list, 7"
    )
    many, left = reported({"standard_metrics": {f"m{number}": number for number in range(101)}})
    assert len(many["standard_metrics"]) == 100 and "all after the first 100" in left
    assert reported({"score": 1}) == ({}, "")


def test_answers_are_read_once(tmp_path: Path) -> None:
    grader = make_task(tmp_path, "accuracy", WORDS)
    for path in (tmp_path / "toy" / "prepared" / "private").iterdir():
        path.unlink()
    assert validate(grader, GOOD) == (True, VALID)
    assert grader.grade(io.BytesIO(GOOD))["score"] == 1


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_cannot_change_the_answers(tmp_path: Path, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grader = make_task(tmp_path, metric, ANSWERS[metric])

    def vandal(self: metrics_module.Metric, truth: np.ndarray, predicted: np.ndarray) -> float:
        truth[0] = predicted[0]
        return 1.0

    monkeypatch.setattr(metrics_module.Metric, "score", vandal)
    with pytest.raises(ValueError, match="read-only"):
        grader.grade(io.BytesIO(csv(ANSWERS[metric])))


@pytest.mark.parametrize("metric", METRICS)
def test_validation_tells_nothing_about_the_answers(tmp_path: Path, metric: str) -> None:
    """Tasks that differ only in which row has which answer, or in how often, say the same about any submission."""
    answers = ANSWERS[metric]
    one = make_task(tmp_path, metric, answers, name="one")
    other = make_task(tmp_path, metric, answers[::-1], name="other")
    longest = max(answers, key=lambda answer: len(str(answer)))
    third = make_task(tmp_path, metric, [*dict.fromkeys(answers), *[longest] * 6][:6], name="third")
    contents = [content for content, _ in BROKEN.values()] + [csv(answers), csv(answers[::-1]), csv(NUMBERS)]
    contents += [csv([value] * 6) for value in (0, 1, 0.5, "cat", "fish", "NaN", 1e200)]
    for content in contents:
        assert validate(one, content) == validate(other, content) == validate(third, content)
    assert validate(one, csv(answers)) == (True, VALID)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_beats_wrong_in_the_stated_direction(tmp_path: Path, metric: str) -> None:
    grader = make_task(tmp_path, metric, ANSWERS[metric])
    perfect = grader.grade(io.BytesIO(csv(ANSWERS[metric])))
    wrong = grader.grade(io.BytesIO(csv(ANSWERS[metric][1:] + ANSWERS[metric][:1])))
    assert perfect["valid_submission"] and wrong["valid_submission"]
    sign = -1 if perfect["is_lower_better"] else 1
    assert sign * perfect["score"] > sign * wrong["score"]


CASES = {
    "accuracy": ("abc", metrics.accuracy_score),
    "balanced_accuracy": ("abc", metrics.balanced_accuracy_score),
    "f1_macro": ("abc", lambda truth, guess: metrics.f1_score(truth, guess, average="macro", zero_division=0)),
    "roc_auc": ("scores", metrics.roc_auc_score),
    "log_loss": ("scores", lambda truth, guess: metrics.log_loss(truth, guess, labels=[0, 1])),
    "rmse": ("numbers", lambda truth, guess: math.sqrt(metrics.mean_squared_error(truth, guess))),
    "mae": ("numbers", metrics.mean_absolute_error),
    "r2": ("numbers", metrics.r2_score),
    "mape": ("numbers", metrics.mean_absolute_percentage_error),
    "adjusted_rand": ("abc", metrics.adjusted_rand_score),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_scikit_learns_whatever_the_order_of_rows(tmp_path: Path, metric: str) -> None:
    kind, expected = CASES[metric]
    values = {"abc": st.sampled_from("abc"), "scores": st.floats(0, 1), "numbers": st.floats(-1e6, 1e6)}[kind]
    truths = {"abc": list("abcabcab"), "scores": [0, 1, 1, 0, 1, 0, 0, 1], "numbers": [*NUMBERS, 4.0, -6.5]}[kind]
    ids = [f"{number * 37 % 8:02d}" for number in range(8)]
    grader = make_task(tmp_path, metric, truths, ids)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(values, min_size=8, max_size=8), st.randoms())
    def check(guesses: list, rng: random.Random) -> None:
        rows = list(zip(ids, guesses, strict=True))
        rng.shuffle(rows)
        content = "id,target\n" + "".join(f"{identifier},{guess!r}\n" for identifier, guess in rows).replace("'", "")
        report = grader.grade(io.BytesIO(content.encode()))
        assert report["valid_submission"]
        assert report["score"] == pytest.approx(round(float(expected(truths, guesses)), 5), rel=1e-9)

    check()


@pytest.mark.parametrize("metric", [name for name, one in METRICS.items() if one.kind in ("label", "cluster")])
def test_predictions_that_are_all_different_cost_no_more(metric: str) -> None:
    truth, predicted = np.arange(20_000) % 3, np.arange(20_000)
    score = bounded.call(METRICS[metric].score, truth, predicted, seconds=60, memory=512 * 2**20)
    assert abs(score) < 1e-3


@pytest.mark.parametrize("metric", ["accuracy", "rmse", "log_loss", "adjusted_rand"])
def test_no_file_makes_a_grader_stumble(tmp_path: Path, metric: str) -> None:
    grader = make_task(tmp_path, metric, ANSWERS[metric])
    cells = st.sampled_from(["000", "001", "0", "1", "cat", "", "nan", "1e999", "-", '"', "1_0", "٣", "\0", "é", "0x1"])
    tables = st.lists(st.lists(cells, max_size=3).map(",".join), max_size=8).map("\n".join)
    texts = tables.map(lambda text: ("id,target\n" + text).encode())

    @settings(max_examples=150, deadline=None)
    @given(st.one_of(st.binary(max_size=200), texts))
    def check(content: bytes) -> None:
        valid, message = validate(grader, content)
        report = grader.grade(io.BytesIO(content))
        assert valid == report["valid_submission"] == (message == VALID)
        assert valid or message.startswith(INVALID) and len(message) < 700
        json.dumps(report, allow_nan=False)

    check()


def test_a_hundred_thousand_rows_are_quick(tmp_path: Path) -> None:
    import time

    grader = make_task(tmp_path, "accuracy", ["a", "b"] * 50_000, list(range(100_000)))
    for content in (csv(["a"] * 100_000, list(range(100_000))), csv(["a"] * 100_000, [*range(99_999), 0])):
        started = time.process_time()
        validate(grader, content)
        assert time.process_time() - started < 2


def test_what_cannot_be_loaded_is_one_clear_line(tmp_path: Path) -> None:
    make_task(tmp_path, "accuracy", WORDS)
    (tmp_path / "public-only" / "prepared" / "public").mkdir(parents=True)
    (tmp_path / "bare" / "prepared" / "private").mkdir(parents=True)
    for name in ("nobody", "public-only", "bare", "../toy", "toy/../toy", "", ".", "/etc"):
        with pytest.raises(GradingError, match="is not prepared in .*; prepared there: bare, toy$"):
            graders.load(name, tmp_path)
    with pytest.raises(GradingError, match="the data folder .*/none doesn't exist"):
        graders.load("toy", tmp_path / "none")


@pytest.mark.parametrize(
    ("settings_text", "message"),
    [
        ("{", "grading.json is broken"),
        ("[]", "grading.json is broken"),
        ('{"metric": "accuracy"}', "grading.json is broken: 'id_column'"),
        ('{"metric": 3, "id_column": "id", "target_column": "t"}', "grading.json is broken: metric"),
        (
            '{"metric": "auc", "id_column": "id", "target_column": "target"}',
            "unknown metric 'auc'; there are: accuracy,",
        ),
        ('{"metric": "accuracy", "id_column": "id", "target_column": "label"}', "must have a `label` column"),
        ('{"metric": "rmse", "id_column": "id", "target_column": "target"}', "must hold numbers; row 1 has 'cat'"),
        ('{"metric": "roc_auc", "id_column": "id", "target_column": "target"}', "must hold numbers; row 1 has 'cat'"),
        (
            '{"metric": "accuracy", "id_column": "id", "target_column": "target", "metrics": "f1_macro"}',
            "grading.json is broken: metrics is no list of names",
        ),
        (
            '{"metric": "accuracy", "id_column": "id", "target_column": "target", "metrics": ["auc"]}',
            "unknown metric 'auc'; there are: accuracy,",
        ),
        (
            '{"metric": "accuracy", "id_column": "id", "target_column": "target", "metrics": ["rmse"]}',
            "grading.json is broken: metrics: rmse takes other predictions than accuracy",
        ),
    ],
)
def test_broken_settings_are_named(tmp_path: Path, settings_text: str, message: str) -> None:
    make_task(tmp_path, "accuracy", WORDS)
    (tmp_path / "toy" / "prepared" / "private" / "grading.json").write_text(settings_text)
    with pytest.raises(GradingError) as error:
        graders.load("toy", tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metric", "answers"),
    [
        ("accuracy", []),
        ("roc_auc", [1, 1]),
        ("roc_auc", [0, 2]),
        ("log_loss", [0.5, 1]),
        ("r2", [1]),
        ("f1_macro", [0.5]),
    ],
)
def test_answers_that_do_not_fit_the_metric_are_refused(tmp_path: Path, metric: str, answers: list) -> None:
    with pytest.raises(GradingError, match=f"answers.csv doesn't fit the metric {metric}: "):
        make_task(tmp_path, metric, answers)


def test_answers_with_a_repeated_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="an id appears twice"):
        make_task(tmp_path, "accuracy", ["a", "b"], ["1", "1"])


def test_unreadable_answers_are_one_clear_line(tmp_path: Path) -> None:
    make_task(tmp_path, "accuracy", WORDS)
    answers = tmp_path / "toy" / "prepared" / "private" / "answers.csv"
    answers.unlink()
    with pytest.raises(GradingError, match=r"toy: can't read .*/answers.csv: No such file or directory$"):
        graders.load("toy", tmp_path)
    answers.mkdir()
    with pytest.raises(GradingError, match=r"toy: can't read .*/answers.csv: Is a directory$"):
        graders.load("toy", tmp_path)


def test_mle_benchs_competitions_need_mle_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "spaceship-titanic" / "prepared" / "private"
    private.mkdir(parents=True)
    (private / "test.csv").write_text("PassengerId,Transported\n1,True\n")
    monkeypatch.setitem(__import__("sys").modules, "mlebench", None)
    monkeypatch.chdir("/proc")  # a folder in which nothing can be made
    with pytest.raises(GradingError, match="it is mle-bench's, and this Python can't import mlebench"):
        graders.load("spaceship-titanic", tmp_path)
    assert os.getcwd() == "/proc"


BIOMLBENCH = {
    "utils": "from pandas import read_csv\nload_answers = read_csv\n",
    "registry": """
from pathlib import Path
from types import SimpleNamespace

class Registry:
    def __init__(self, data=None):
        self.data = data
    def set_data_dir(self, data):  # like mle-bench's: a new one
        return Registry(data)
    def get_task(self, name):
        if name != "manual/toy":
            raise FileNotFoundError(name)
        def grade(submission, answers):
            return float((submission["y"] == answers["y"]).mean())
        answers = Path(self.data, name, "prepared/private/answers.csv")
        return SimpleNamespace(answers=answers, leaderboard=Path("/nowhere"), grader=SimpleNamespace(grade_fn=grade))
registry = Registry()
""",
}


def test_a_task_of_biomlbench_is_graded_by_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those of science-machine/biomlbench (registry.py, utils.py), where its data lie two folders deep."""
    for name, source in BIOMLBENCH.items():
        path = tmp_path / "package" / "biomlbench" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    for name in ("manual/toy", "manual/other"):
        private = tmp_path / "data" / name / "prepared" / "private"
        private.mkdir(parents=True)
        (private / "answers.csv").write_text("id,y\n1,a\n2,b\n")
    with pytest.raises(GradingError, match=r"it is BioML-bench's, and this Python can't import biomlbench"):
        graders.load("manual/toy", tmp_path / "data")
    monkeypatch.syspath_prepend(tmp_path / "package")
    grader = graders.load("manual/toy", tmp_path / "data")
    (tmp_path / "submission.csv").write_text("id,y\n1,a\n2,a\n")
    report = grader.grade(tmp_path / "submission.csv")
    assert (report["competition_id"], report["score"], report["total_score"]) == ("manual/toy", 0.5, 0.5)
    assert "BioML-bench's leaderboard" in report["note"]
    with pytest.raises(GradingError, match="BioML-bench has no competition 'manual/other'"):
        graders.load("manual/other", tmp_path / "data")
    with pytest.raises(GradingError, match="is not prepared"):
        graders.load("manual/../manual/toy", tmp_path / "data")
