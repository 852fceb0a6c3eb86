"""What test scripts say, as a score: the formula, the fields of the specification, and what the project's readers make of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.lib.errors import Infrastructure
from helpers.repositories import evaluation, score, serve
from helpers.repositories.evaluation import Script
from helpers.runs import metadata

ROOT = Path(__file__).resolve().parents[2]
RUBRICS = [
    {"id": "r1", "criterion": "it | works", "weight": 3},
    {"id": "r2", "criterion": "it is <fast>", "weight": 1},
    {"id": "r3", "criterion": "no script tells", "weight": 1},
]
SCRIPTS = [
    {"path": "a.sh", "rubric_id": "r1"},
    {"path": "b.sh", "rubric_id": "r1"},
    {"path": "sub/c.py", "rubric_id": "r2"},
]


def instance(folder: Path, rubrics=RUBRICS, scripts=SCRIPTS) -> Path:
    (folder / "private" / "tests" / "sub").mkdir(parents=True, exist_ok=True)
    data = {"rubrics": rubrics, "test_scripts": scripts}
    (folder / "private" / "evaluation.json").write_text(json.dumps(data))
    return folder / "private"


def graded(folder: Path, *results: dict, diff: str = "one\ntwo", **more) -> dict:
    private, run = instance(folder), folder / "run"
    run.mkdir(exist_ok=True)
    (folder / "results").write_text("".join(json.dumps(one) + "\n" for one in results))
    (folder / "diff.patch").write_text(diff)
    score.write(private, folder / "results", folder / "diff.patch", run, "toy", "toy_7", "blocked", **more)
    return json.loads((run / "evaluation_results.json").read_text())


def test_the_formula_and_the_fields(tmp_path):
    """formats.md 1.C: sum of weight times share of passed scripts, by the sum of all weights, those without scripts too."""
    (tmp_path / "out").write_bytes(b"said \x1b[31mred\xff\n")
    found = graded(
        tmp_path,
        {"path": "a.sh", "state": "passed", "exit_code": 0, "seconds": 1.5, "output": str(tmp_path / "out")},
        {"path": "b.sh", "state": "failed", "exit_code": 3, "seconds": 0.1, "output": str(tmp_path / "none")},
        {"path": "sub/c.py", "state": "passed", "exit_code": 0, "seconds": 0.1},
    )
    assert found["total_score"] == found["evaluation"]["total_score"] == pytest.approx((3 * 0.5 + 1) / 5)
    assert found["evaluation"]["max_score"] == 1.0
    assert found["evaluation"]["rubrics"]["r1"] == {
        "criterion": "it | works",
        "weight": 3.0,
        "score": 0.5,
        "max_score": 1.0,
        "weighted_score": 1.5,
        "test_count": 2,
        "tests_passed": 1,
    }
    third = found["evaluation"]["rubrics"]["r3"]
    assert third["score"] is None and third["weighted_score"] is None and third["test_count"] == 0
    assert found["test_results"]["a.sh"]["success"] is True
    assert found["test_results"]["a.sh"]["output"] == "said  [31mred\ufffd\n"
    assert "can't be read" in found["test_results"]["b.sh"]["output"]
    assert found["diff_lines"] == 2 and found["network"] == "blocked" and found["state"] == "scored"
    assert set(found["agent_metrics"]) == {
        "tokens_total",
        "tokens_events",
        "tool_calls_codex_log",
        "tool_calls_sessions",
        "tool_calls_total",
        "time_taken_seconds",
        "money_spent_usd",
    }
    assert set(found["agent_metrics"].values()) == {None}


def test_the_report_is_one_that_a_run_is_scored_by(tmp_path):
    graded(tmp_path, {"path": "a.sh", "state": "passed", "exit_code": 0, "seconds": 1})
    report = json.loads((tmp_path / "run" / "grading_report.json").read_text())
    assert metadata.judged("scored", report) == ("scored", None) and metadata.score_of(report) == 0.3
    assert report["is_lower_better"] is False and report["any_medal"] is None and report["valid_submission"] is True
    assert report["submission_exists"] is True and report["competition_id"] == "toy"
    text = (tmp_path / "run" / "grading_report.json").read_text()
    assert '"total_score": 0.3' in text, "scripts_hpc/lib/run.sh reads it so"


def test_how_a_script_ended_is_told_and_is_no_pass(tmp_path):
    found = graded(
        tmp_path,
        {"path": "a.sh", "state": "timed_out", "exit_code": 137, "seconds": 5, "limit": 5},
        {"path": "b.sh", "state": "killed", "exit_code": 137, "seconds": 5},
    )
    assert found["total_score"] == 0
    note = json.loads((tmp_path / "run" / "grading_report.json").read_text())["note"]
    assert note == (
        "0 of 3 test scripts passed; a.sh didn't end within 5 s and was ended; "
        "b.sh was killed by signal 9; 9 is mostly a lack of memory; sub/c.py wasn't run"
    )


def test_what_people_read_is_a_table_whatever_is_in_it(tmp_path):
    graded(tmp_path, {"path": "a.sh", "state": "not_started", "exit_code": 127, "why": "no | such\n<b>", "seconds": 1})
    text = (tmp_path / "run" / "scoring_results.md").read_text()
    assert "| r1 | it \\| works | 3 | 0 | 0 of 2 |" in text and "| r3 | no script tells | 1 | none | 0 of 0 |" in text
    assert "couldn't be started: no \\| such &lt;b> |" in text and "| it is &lt;fast> |".replace("| it", "it") in text


def test_an_agents_own_account_is_told_and_never_trusted(tmp_path):
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "answers": 3, "tool_calls": 4, "cost_usd": 0.25}
    (logs / "usage.json").write_text(json.dumps(usage))
    times = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z")
    found = graded(tmp_path, times=times)["agent_metrics"]
    assert (found["tokens_total"], found["tokens_events"], found["tool_calls_total"]) == (15, 3, 4)
    assert (found["time_taken_seconds"], found["money_spent_usd"]) == (90.0, 0.25)
    for text in ("[" * 100000, "[]", '{"prompt_tokens": -1, "cost_usd": "x"}', '{"prompt_tokens": 1e400}', "{" * 70000):
        (logs / "usage.json").write_text(text)
        assert graded(tmp_path, times=("x", times[1]))["agent_metrics"]["tokens_total"] is None
    (logs / "usage.json").unlink()
    os.mkfifo(logs / "usage.json")
    assert graded(tmp_path)["agent_metrics"]["tokens_total"] is None


def test_long_output_is_cut_at_its_beginning(tmp_path):
    (tmp_path / "out").write_text("first\n" + "x" * 2**20 + "\nlast\n")
    found = graded(
        tmp_path, {"path": "a.sh", "state": "passed", "exit_code": 0, "seconds": 1, "output": str(tmp_path / "out")}
    )
    output = found["test_results"]["a.sh"]["output"]
    assert output.endswith("\nlast\n") and "bytes are left out here" in output and len(output) < 150_000


def test_a_second_grade_leaves_the_runs_own_results(tmp_path):
    before = graded(tmp_path, {"path": "a.sh", "state": "passed", "exit_code": 0, "seconds": 1})
    after = graded(tmp_path, report_only=True, report_name="grading_report_8.json")
    assert before == after
    assert json.loads((tmp_path / "run" / "grading_report_8.json").read_text())["total_score"] == 0


@pytest.mark.parametrize(
    ("rubrics", "scripts", "said"),
    [
        ([], [], "no rubric has a weight"),
        ([{"id": "r", "weight": 0}], [], "no rubric has a weight"),
        ([{"id": "r", "weight": -1}], [], "is no number of 0 or more"),
        ([{"weight": 1}], [], "has no id"),
        (RUBRICS, [{"path": "a.sh", "rubric_id": "other"}], "counts for the rubric other"),
        (RUBRICS, [{"rubric_id": "r1"}], "has no path"),
        ({}, [], "rubrics is no list"),
    ],
)
def test_an_instance_that_is_not_as_it_was_prepared_is_the_infrastructures_fault(tmp_path, rubrics, scripts, said):
    with pytest.raises(Infrastructure, match=said):
        evaluation.read(instance(tmp_path, rubrics, scripts))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.sh", "true\n", ["bash"]),
        ("a", "#!/usr/bin/env -S node --test\n", ["/usr/bin/env", "-S", "node", "--test"]),
        ("run.py", "print()\n", ["python3"]),
        ("test_it.py", "def test(): pass\n", ["python3", "-m", "pytest", "-q"]),
        ("it_test.py", "", ["python3", "-m", "pytest", "-q"]),
        ("test_it.py", "#!/usr/bin/python3\n", ["/usr/bin/python3"]),
    ],
)
def test_how_a_script_is_run(tmp_path, name, text, words):
    private = instance(tmp_path)
    (private / "tests" / name).write_text(text)
    assert evaluation.command(private, Script(name, "r1")) == words


def test_steps_are_done_one_after_the_other_and_none_takes_the_next_along(tmp_path):
    """The protocol of the shell: words with NUL behind each, one more NUL; a code and a line."""
    private = instance(tmp_path, scripts=SCRIPTS[:2])
    for name in ("a.sh", "b.sh"):
        (private / "tests" / name).write_text("true\n")
    asked = ["evaluation", "--instance", str(private), "--out", str(tmp_path / "a b")]
    wrong = ["evaluation", "--instance", str(tmp_path), "--out", "x"]
    requests = [asked, ["nothing"], ["diff", "--no-such-option"], wrong, asked]
    feed = "".join("\0".join(one) + "\0\0" for one in requests)
    done = subprocess.run(
        [sys.executable, "-m", "helpers.repositories.serve"], cwd=ROOT, input=feed, capture_output=True, text=True
    )
    answers = done.stdout.splitlines()
    assert done.returncode == 0 and answers[0] == answers[4] == "0 "
    assert answers[1] == "2 there is no step nothing"
    assert answers[2].startswith("2 ") and "required" in answers[2]
    assert answers[3].startswith("3 ") and "can't be read: prepare the task again" in answers[3]
    assert (tmp_path / "a b").read_text() == "a.sh\x001\x00bash\x00b.sh\x001\x00bash\x00"


def test_a_step_that_breaks_down_is_an_answer(tmp_path):
    def breaks(arguments):
        raise KeyError("x")

    assert serve.do(breaks, []) == (3, "KeyError: 'x'")
    assert serve.do(lambda arguments: os.kill(os.getpid(), 9), [])[0] == 137
