"""`python -m helpers.tasks.cli`: texts, exit codes, and one message for whatever goes wrong."""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from helpers.config import sites
from helpers.data import fingerprint, layout
from helpers.lib import disk, errors
from helpers.lib.errors import ConfigError
from helpers.tasks import cli
from helpers.tasks.catalogue import open_registry
from helpers.tasks.definitions import DATASETS, DataRequirements, EvaluationCriteria, Task

COMMAND = [sys.executable, "-m", "helpers.tasks.cli"]
TINY = {
    "id": "tiny",
    "name": "Tiny one",
    "task_type": "classification",
    "difficulty": "hard",
    "estimated_time": 90,
    "description": "Two classes.",
    "data_requirements": {"dataset_type": "classification", "n_samples": 40, "n_classes": 2},
    "evaluation_criteria": {"min_accuracy": 0.7, "required_outputs": ["submission.csv"]},
    "instructions": "Guess.",
    "expected_outputs": ["submission.csv"],
}


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose data lie in the test's folder."""
    monkeypatch.setenv("HPC_SITE", "local")
    monkeypatch.setenv("HPC_PATHS__DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A folder with a task of one's own."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tiny.json").write_text(json.dumps(TINY))
    return str(tmp_path / "own")


class Answer:
    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> Answer:
        code = cli.main([str(one) for one in arguments])
        return Answer(code, *capsys.readouterr())

    return run


def started(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


# ---- what every command does


def test_without_a_command_it_helps(call: Any) -> None:
    answer = call()
    assert answer.code == 0 and "validate" in answer.out and answer.err == ""
    for name in ("list", "show", "config", "generate-data", "validate", "create", "types"):
        assert call(name, "--help").code == 0
        assert f"\n  {name} " in answer.out


@pytest.mark.parametrize(
    "arguments", [("no-such",), ("list", "--no-such"), ("show",), ("list", "--difficulty", "nasty")]
)
def test_bad_usage_is_2_and_says_what(call: Any, arguments: tuple[str, ...]) -> None:
    answer = call(*arguments)
    assert answer.code == 2 and answer.out == "" and answer.err.endswith(" (--help tells more)\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("config", "out.json"),
        ("generate-data", "data"),
        ("generate-data", "data", "--check"),
        ("validate", "."),
    ],
)
def test_an_unknown_task_is_2_with_what_exists_and_a_guess(call: Any, own: str, arguments: tuple[str, ...]) -> None:
    answer = call(arguments[0], "tinny", *arguments[1:], "--tasks-dir", own)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: unknown task 'tinny'; there are: ")
    assert "classification_basic" in answer.err and answer.err.endswith("Did you mean tiny?\n")


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("types",), ("show", "classification_basic"), ("create", "--id", "x", "--name", "x", "--type", "x")],
)
def test_broken_definitions_are_2_and_name_file_and_key(call: Any, own: str, arguments: tuple[str, ...]) -> None:
    Path(own, "bad.json").write_text(json.dumps({**TINY, "id": "bad", "difficulty": "nasty"}))
    answer = call(*arguments, "--tasks-dir", own)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(f"error: {own}/bad.json: difficulty: ")


def test_repository_tasks_are_told_of(call: Any, own: str) -> None:
    line = "-" * 80
    shown = call("list", "--type", "repository").out
    assert shown.startswith(f"Found 3 tasks:\n{line}\nID: repository_library\nName: A library of intervals")
    assert f"Type: repository\nTags: python, script, expected-output\n{line}" in shown
    assert {task["task_type"] for task in call("list", "--type", "repository", "--json").json} == {"repository"}
    assert "repository" not in call("list", "--difficulty", "easy").out
    assert call("types", "--json").json["task_types"]["repository"][0] == "repository_library"
    one = call("show", "repository_script").out
    assert one.startswith("ID: repository_script\nName: A script that counts words")
    assert "\n  git_url: repository\n" in one and "\n  top: 0.5 --top sorts and cuts\n" in one
    assert "Test Scripts: case.sh, top.sh, missing.sh\nInstructions:\n# Words" in one
    assert call("show", "repository_script", "--json").json["repository"] == {"git_url": "repository"}


def test_a_repository_task_is_judged_in_runs_only(call: Any, own: str) -> None:
    for arguments in (("validate", "repository_script", "."), ("generate-data", "repository_script", "data")):
        answer = call(*arguments, "--tasks-dir", own)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("error: 'repository_script' is a repository task: ")
        assert "scripts_hpc/prepare_tasks.sh repository_script" in answer.err
    assert "Did you mean repository_script?" in call("show", "repositry_script", "--tasks-dir", own).err


def test_a_broken_repository_task_is_told_with_all_that_is_wrong(call: Any, own: str) -> None:
    for name in ("mine", "tiny"):
        Path(own, name).mkdir()
        Path(own, name, "tb_meta.json").write_text('{"task_id": "mine", "repo": {}}')
    for arguments in (("list",), ("types",)):
        answer = call(*arguments, "--tasks-dir", own)
        assert (answer.code, answer.out) == (2, "")
        assert f"error: {own}/mine/tb_meta.json: repo.git_url: must be set." in answer.err
        assert "lm: must be set" in answer.err and "the id 'tiny' is taken by" in answer.err
    assert "repo.git_url: must be set" in call("show", "mine", "--tasks-dir", own).err


def test_without_a_site_it_goes_on_and_says_so_in_a_line(call: Any, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_SITE", "nowhere")
    answer = call("list", "--json")
    assert answer.code == 0 and "classification_basic" in {task["id"] for task in answer.json}
    assert answer.err.count("\n") == 1 and answer.err.startswith("note: ") and "nowhere" in answer.err
    assert call("list", "--tasks-dir", own).err == ""  # nobody asked for the site
    answer = call("validate", "tiny", own, "--tasks-dir", own)
    assert (answer.code, answer.out) == (2, "") and "nowhere" in answer.err and "--data-dir" in answer.err


def test_the_sites_own_tasks_are_listed(call: Any, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tiny" not in {task["id"] for task in call("list", "--json").json}
    monkeypatch.setenv("HPC_PATHS__TASKS", own)
    assert "tiny" in {task["id"] for task in call("list", "--json").json}
    monkeypatch.setenv("HPC_PATHS__TASKS", own + "/none")
    answer = call("list")
    assert (answer.code, answer.out) == (2, "") and "there is no such directory of tasks" in answer.err


def test_it_never_ends_in_a_traceback(own: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3 and "No space left" in done.stderr and done.stderr.count("\n") == 1
    Path(own, "tiny.json").write_text(json.dumps({**TINY, "name": "Größe ✓"}))
    latin = started(
        "show", "tiny", "--tasks-dir", own, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, encoding="latin-1"
    )
    assert (latin.returncode, latin.stderr) == (0, "") and "Name: Größe ?\n" in latin.stdout
    reader = subprocess.Popen([*COMMAND, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reader.stdout.close()  # as `| head` does
    assert "Traceback" not in reader.stderr.read() and reader.wait() != 0


# ---- list, show, types, config


def test_list_prints_blocks(call: Any, own: str) -> None:
    answer = call("list", "--tasks-dir", own, "--difficulty", "hard", "--type", "classification")
    line = "-" * 80
    assert answer.out == (
        f"Found 1 tasks:\n{line}\nID: tiny\nName: Tiny one\nType: classification\nDifficulty: hard\n"
        f"Estimated Time: 90s (2m)\nDescription: Two classes.\n{line}\n"
    )
    everything = call("list").out
    registry = open_registry()
    count = len(registry.list_tasks()) + len(registry.repository_tasks())
    assert everything.startswith(f"Found {count} tasks:\n{line}\n")
    assert "Estimated Time: 1800s (30m)\n" in everything
    ids = [*(task.id for task in registry.list_tasks()), *registry.repository_tasks()]
    assert [task["id"] for task in call("list", "--json").json] == ids


def test_list_knows_the_types_that_there_are(call: Any, own: str) -> None:
    answer = call("list", "--type", "jazz", "--tasks-dir", own)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: there is no task of the type 'jazz'; there are: ")


def test_show_tells_all_of_a_task(call: Any, own: str) -> None:
    answer = call("show", "tiny", "--tasks-dir", own)
    for text in ("ID: tiny", "  n_samples: 40", "  min_accuracy: 0.7", "Expected Outputs: submission.csv", "Guess."):
        assert f"{text}\n" in answer.out
    assert call("show", "tiny", "--tasks-dir", own, "--json").json == TINY


def test_types_tell_what_each_dataset_takes(call: Any, own: str) -> None:
    answer = call("types", "--tasks-dir", own)
    for kind, keys in DATASETS.items():
        assert f"  {kind} (" in answer.out and f"): {', '.join(keys)}\n" in answer.out
    told = call("types", "--tasks-dir", own, "--json").json
    assert "tiny" in told["task_types"]["classification"] and told["dataset_types"]["clustering"][-1] == "cluster_std"


def test_config_writes_the_task_and_the_settings(call: Any, own: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    settings = ["--set", "seed=7", "--set", "model=30b", "--set", "deep=[1, 2]", "--set", "task_id=x=y"]
    answer = call("config", "tiny", out, *settings, "--tasks-dir", own)
    assert (answer.code, answer.out) == (0, f"tiny: configuration written to {out}\n")
    written = json.loads(out.read_text())
    assert written["task"] == TINY
    assert written["runtime_config"] == {"seed": 7, "model": "30b", "deep": [1, 2], "task_id": "x=y"}
    for bad in ("seed", "=7"):
        answer = call("config", "tiny", out, "--set", bad, "--tasks-dir", own)
        assert answer.code == 2 and answer.err.startswith(f"error: --set {bad}: must be KEY=VALUE")
    answer = call("config", "tiny", tmp_path / "none" / "out.json", "--tasks-dir", own)
    assert (answer.code, answer.err) == (2, f"error: {tmp_path}/none/out.json: No such file or directory\n")


# ---- generate-data


def test_generate_data_says_which_results_lose_their_data(
    call: Any, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_SITE", "local")
    monkeypatch.setenv("HPC_PATHS__RUNS", str(tmp_path / "runs"))
    assert call("generate-data", "tiny", tmp_path, "--tasks-dir", own).code == 0
    group = tmp_path / "runs/2026-01-01T00-00-00-UTC_run-group_aide"
    group.mkdir(parents=True)
    data = fingerprint.known(layout.prepared(tmp_path, "tiny"))
    (group / "workflow.json").write_text(json.dumps({"competition": "tiny", "data_fingerprint": data}))
    assert call("generate-data", "tiny", tmp_path, "--tasks-dir", own).err == ""
    answer = call("generate-data", "tiny", tmp_path, "--force", "--tasks-dir", own)
    assert answer.code == 0
    assert answer.err.startswith(
        f"tiny: the data that its results were made with (the newest: {group.name}) are replaced"
    )
    assert call("generate-data", "tiny", tmp_path, "--force", "--tasks-dir", own).err == ""


def test_generate_data_prepares_once(call: Any, own: str, tmp_path: Path) -> None:
    data = tmp_path / "some where"
    folder = layout.prepared(data, "tiny")
    answer = call("generate-data", "tiny", data, "--check", "--tasks-dir", own)
    assert (answer.code, answer.out) == (2, "") and "tiny is not prepared in" in answer.err
    assert answer.err.endswith(f": scripts_hpc/tasks.sh generate-data tiny '{data}' --tasks-dir {own}\n")
    assert not data.exists()
    answer = call("generate-data", "tiny", data, "--seed", 7, "--tasks-dir", own)
    assert (answer.code, answer.out, answer.err) == (0, f"tiny: prepared in {folder}\n", "")
    answers = (folder / "private" / "answers.csv").read_bytes()
    train = (folder / "public" / "train.csv").read_bytes()
    answer = call("generate-data", "tiny", data, "--tasks-dir", own)
    assert answer.out == f"tiny: already prepared in {folder}, nothing to do (--force prepares it again)\n"
    assert call("generate-data", "tiny", data, "--check", "--tasks-dir", own).out == f"tiny: prepared in {folder}\n"
    assert (folder / "private" / "answers.csv").read_bytes() == answers
    assert call("generate-data", "tiny", data, "--force", "--tasks-dir", own).code == 0
    assert (folder / "public" / "train.csv").read_bytes() != train  # eight answers may be the same again
    (folder / "private" / "answers.csv").write_text("cut")
    assert "bytes instead of" in call("generate-data", "tiny", data, "--check", "--tasks-dir", own).err
    assert call("generate-data", "tiny", data, "--seed", 7, "--tasks-dir", own).code == 0
    assert (folder / "private" / "answers.csv").read_bytes() == answers


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
def test_a_folder_that_cannot_be_is_one_line(call: Any, own: str, folder: str) -> None:
    answer = call("generate-data", "tiny", folder, "--tasks-dir", own)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(f"error: {folder}")


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_a_bad_seed_is_refused(call: Any, own: str, tmp_path: Path, seed: str) -> None:
    answer = call("generate-data", "tiny", tmp_path / "data", "--seed", seed, "--tasks-dir", own)
    assert answer.code == 2 and "--seed" in answer.err and not (tmp_path / "data").exists()


def test_a_full_disk_is_3_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = started("generate-data", "classification_basic", tmp_path / "data", preexec_fn=no_room)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert str(tmp_path) in done.stderr and "Free space" in done.stderr
    assert list((tmp_path / "data").iterdir()) == [tmp_path / "data" / ".preparing"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_130_and_nothing_half_done(own: str, tmp_path: Path, number: int) -> None:
    # preparing waits for the lock of somebody else's preparation
    with layout.staging(tmp_path / "data", "tiny"):
        waiting = subprocess.Popen(
            [*COMMAND, "generate-data", "tiny", str(tmp_path / "data"), "--tasks-dir", own],
            stderr=subprocess.PIPE,
            text=True,
        )
        lock = f":{(tmp_path / 'data' / '.preparing' / 'tiny.lock').stat().st_ino} "
        while not any("->" in line and lock in line for line in Path("/proc/locks").read_text().splitlines()):
            assert waiting.poll() is None, waiting.stderr.read()
        waiting.send_signal(number)
        said = waiting.communicate(timeout=30)[1]
    assert (waiting.returncode, said.strip()) == (130, "interrupted")
    assert not (tmp_path / "data" / "tiny").exists()


# ---- validate


EVALUATION = {
    "task_id": "tiny",
    "task_name": "Tiny one",
    "success": True,
    "overall_score": 0.934,
    "output_check": {"files_found": ["submission.csv", "b.png"], "files_missing": [], "score": 1.0},
    "criteria_met": {"min_accuracy": True},
    "scores": {"accuracy": 0.91237, "skill": 0.9},
    "feedback": ["fine"],
}


@pytest.fixture
def validator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A validator that says what it is told to, and notes what it is asked."""
    asked: list[tuple[Any, ...]] = []
    told = types.SimpleNamespace(asked=asked, evaluation=dict(EVALUATION))

    class TaskValidator:
        def __init__(self, data_dir: Any = None):
            self.data_dir = data_dir

        def evaluate_task(self, task: Task, results_dir: Any, execution_time: float | None = None) -> dict[str, Any]:
            asked.append((str(self.data_dir), task.id, str(results_dir), execution_time))
            return told.evaluation

    module = types.ModuleType("helpers.tasks.judging.validator")
    module.TaskValidator = TaskValidator
    monkeypatch.setitem(sys.modules, "helpers.tasks.judging.validator", module)
    return told


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Data that look prepared."""
    for half, name in (("public", "description.md"), ("private", "answers.csv")):
        (tmp_path / "data" / "tiny" / "prepared" / half).mkdir(parents=True)
        (tmp_path / "data" / "tiny" / "prepared" / half / name).write_text("x")
    return tmp_path / "data"


def test_validate_prints_the_report(call: Any, own: str, tmp_path: Path, validator: Any, prepared: Path) -> None:
    answer = call("validate", "tiny", tmp_path, "--tasks-dir", own)
    assert answer.code == 0 and answer.out == (
        "Task Evaluation Results for: Tiny one\n============================================================\n"
        "Overall Score: 0.93\nSuccess: ✓\nOutput Files Score: 1.00\nFiles Found: submission.csv, b.png\n"
        "Files Missing: none\nCriteria Met:\n  ✓ min_accuracy\nScores:\n  accuracy: 0.9124\n  skill: 0.9000\n"
        "Feedback:\n  - fine\n"
    )
    assert validator.asked == [(str(prepared), "tiny", str(tmp_path), None)]


def test_a_failed_validation_is_1(call: Any, own: str, tmp_path: Path, validator: Any, prepared: Path) -> None:
    validator.evaluation |= {"success": False, "error": "no labels", "custom_metrics": {"beauty": 3}, "scores": {}}
    validator.evaluation["criteria_met"] = {"min_accuracy": False}
    validator.evaluation["output_check"] = {"files_found": [], "files_missing": ["submission.csv"], "score": 0.0}
    answer = call("validate", "tiny", tmp_path, "--tasks-dir", own)
    assert answer.code == 1
    for text in (
        "Success: ✗",
        "Error: no labels",
        "Files Found: none",
        "Files Missing: submission.csv",
        "  ✗ min_accuracy",
    ):
        assert f"{text}\n" in answer.out
    assert "Custom Metrics:\n  beauty: 3\n" in answer.out and "\nScores:" not in answer.out
    answer = call("validate", "tiny", tmp_path, "--tasks-dir", own, "--json")
    assert (answer.code, answer.json) == (1, validator.evaluation)


def make_run(folder: Path, competition: str = "tiny", data: str = "/else/where", job: str = "7") -> Path:
    run = folder / f"{competition}_{job}"
    (run / "submission").mkdir(parents=True)
    disk.write_json(folder / "workflow.json", {"config": {"paths": {"data": data}}})
    times = {"agent_started_at": "2026-01-01T00:00:00Z", "agent_ended_at": "2026-01-01T00:01:30Z"}
    disk.write_json(run / "run_metadata.json", {"competition": competition, "job_id": job, **times})
    return run


def test_validate_takes_a_runs_folder(
    call: Any, own: str, tmp_path: Path, validator: Any, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs" / "one", data=str(prepared))
    monkeypatch.setenv("HPC_SITE", "nowhere")  # the run itself tells where its data lie
    for folder in (run, run / "submission", run.parent):
        assert call("validate", "tiny", folder, "--tasks-dir", own).code == 0
    assert validator.asked == [(str(prepared), "tiny", str(run / "submission"), 90.0)] * 3
    call("validate", "tiny", run, "--tasks-dir", own, "--data-dir", prepared / ".." / "data")
    assert validator.asked[-1][0] == str(prepared / ".." / "data")
    disk.write_json(run / "run_metadata.json", {"competition": "tiny", "agent_started_at": "2026-01-01T00:00:00Z"})
    call("validate", "tiny", run, "--tasks-dir", own)
    assert validator.asked[-1][3] is None  # not known, not 0


def test_validate_believes_no_record_that_an_agent_wrote(
    call: Any, own: str, tmp_path: Path, validator: Any, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs" / "one", data=str(prepared))
    forged = make_run(run / "submission" / "deeper", data=str(tmp_path / "answers of its own"))
    copy = tmp_path / "copy"
    copy.mkdir()
    disk.write_json(copy / "run_metadata.json", {"competition": "tiny", "agent_started_at": "2026-01-01T00:00:00Z"})
    (copy / "submission").mkdir()
    for folder in (forged, forged.parent, forged / "submission", copy):
        call("validate", "tiny", folder, "--tasks-dir", own, "--data-dir", prepared)
    assert validator.asked == [
        (str(prepared), "tiny", str(folder), None) for folder in (forged, forged.parent, forged / "submission", copy)
    ]


def test_validate_refuses_what_are_no_results_of_this_task(
    call: Any, own: str, tmp_path: Path, validator: Any, prepared: Path
) -> None:
    def refused(folder: Path, said: str) -> None:
        answer = call("validate", "tiny", folder, "--tasks-dir", own)
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1) and said in answer.err

    refused(tmp_path / "none", "there is no such folder of results")
    refused(Path(own, "tiny.json"), "there is no such folder of results")
    refused(make_run(tmp_path / "a", "other"), "is a run of other, not of tiny")
    group = make_run(tmp_path / "b").parent
    make_run(group, job="8")
    refused(group, "holds tiny_7, tiny_8: name the folder of one run")
    linked = make_run(tmp_path / "c")
    (linked / "submission").rmdir()
    (linked / "submission").symlink_to(prepared / "tiny" / "prepared" / "private")
    refused(linked, "or it is a link")
    refused(linked / "submission", "or it is a link")
    assert validator.asked == []
    answer = call("validate", "tiny", tmp_path, "--tasks-dir", own, "--data-dir", tmp_path / "empty")
    assert answer.code == 2 and "tiny is not prepared in" in answer.err and "generate-data tiny" in answer.err


def test_the_real_validator_tells_good_results_from_bad_ones(call: Any, own: str, tmp_path: Path) -> None:
    assert call("generate-data", "tiny", tmp_path / "data", "--seed", 1, "--tasks-dir", own).code == 0
    results, prepared = tmp_path / "results", layout.prepared(tmp_path / "data", "tiny")
    results.mkdir()
    (results / "submission.csv").write_bytes((prepared / "public" / "sample_submission.csv").read_bytes())
    answer = call("validate", "tiny", results, "--tasks-dir", own)
    assert answer.code == 1 and "Success: ✗" in answer.out and "✗ min_accuracy" in answer.out
    (results / "submission.csv").write_bytes((prepared / "private" / "answers.csv").read_bytes())
    answer = call("validate", "tiny", results, "--tasks-dir", own)
    assert answer.code == 0 and "Overall Score: 1.00\nSuccess: ✓" in answer.out and "accuracy: 1.0000" in answer.out


# ---- create


def test_create_by_options(call: Any, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    arguments = ["--id", "mine", "--name", "Mine", "--type", "images", "--difficulty", "easy", "--time", "60"]
    arguments += [
        "--dataset-type",
        "image_classification",
        "--n-samples",
        "100",
        "--image-size",
        "8",
        "9",
        "--n-channels",
        "1",
    ]
    arguments += ["--min-accuracy", "0.6", "--required-output", "submission.csv", "--required-output", "model.*"]
    answer = call("create", *arguments, "--tasks-dir", folder)
    assert (answer.code, answer.err) == (0, "") and answer.out == (
        f"created: {folder}/mine.json\nnext: scripts_hpc/tasks.sh generate-data mine DATA_DIR --tasks-dir {folder}\n"
    )
    made = json.loads((folder / "mine.json").read_text())
    assert made.pop("created_at").endswith("Z")
    assert made == {
        "id": "mine",
        "name": "Mine",
        "task_type": "images",
        "difficulty": "easy",
        "estimated_time": 60,
        "data_requirements": {
            "generate_synthetic": True,
            "dataset_type": "image_classification",
            "n_samples": 100,
            "image_size": [8, 9],
            "n_channels": 1,
        },
        "evaluation_criteria": {"min_accuracy": 0.6, "required_outputs": ["submission.csv", "model.*"]},
        "expected_outputs": ["submission.csv", "model.*"],
    }
    assert call("show", "mine", "--tasks-dir", folder).code == 0


def test_an_id_and_a_kind_of_data_are_enough(call: Any, tmp_path: Path) -> None:
    assert call("create", "--id", "my_task", "--dataset-type", "imbalanced", "--tasks-dir", tmp_path).code == 0
    task = Task.load(tmp_path / "my_task.json")
    assert (task.name, task.task_type, task.metric) == ("My task", "imbalanced", "balanced_accuracy")
    assert task.evaluation_criteria.required_outputs == task.expected_outputs == ["submission.csv"]


def test_every_key_of_a_definition_has_its_option(call: Any) -> None:
    shown = call("create", "--help").out
    keys = {*DataRequirements.model_fields, *EvaluationCriteria.model_fields} - {"generate_synthetic"}
    for key in keys - {"copy_files", "required_outputs"}:
        assert f" --{key.replace('_', '-')} " in shown
    assert " --copy-file " in shown and " --required-output " in shown and " --trend / --no-trend" in shown


def test_create_from_a_file_with_changes(call: Any, own: str, tmp_path: Path) -> None:
    answer = call(
        "create", "--from", f"{own}/tiny.json", "--id", "other", "--n-samples", 50, "--tasks-dir", tmp_path, "--json"
    )
    assert answer.code == 0 and answer.json["path"] == f"{tmp_path}/other.json"
    made = json.loads((tmp_path / "other.json").read_text())
    assert made == answer.json["task"]
    assert made["data_requirements"] == {**TINY["data_requirements"], "n_samples": 50, "generate_synthetic": True}
    assert made["evaluation_criteria"] == TINY["evaluation_criteria"] and made["instructions"] == "Guess."
    answer = call("create", "--from", tmp_path / "none.json", "--tasks-dir", own)
    assert (answer.code, answer.err) == (
        2,
        f"error: {tmp_path}/none.json: can't be read (No such file or directory).\n",
    )


def test_create_with_data_of_ones_own(call: Any, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("x")
    arguments = [
        "create",
        "--id",
        "mine",
        "--name",
        "x",
        "--type",
        "x",
        "--copy-file",
        "there.csv",
        "--copy-file",
        "b.csv",
    ]
    arguments += ["--target-column", "y", "--metric", "r2", "--tasks-dir", tmp_path]
    answer = call(*arguments)
    assert answer.code == 0 and f"first: put b.csv into {tmp_path}\n" in answer.out and "there.csv" not in answer.out
    task = Task.load(tmp_path / "mine.json")
    assert not task.data_requirements.generate_synthetic and task.data_requirements.copy_files == ["there.csv", "b.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--id", "a"], "the new task: task_type: must be set."),
        (["--name", "a", "--dataset-type", "regression"], "the new task: id: must be set."),
        (["--id", "a/b", "--name", "x", "--type", "x"], "the new task: id: String should match"),
        (["--id", "tasks", "--name", "x", "--type", "x"], "the new task: id: 'tasks' is another folder's name, beside"),
        (["--id", "a", "--name", "x", "--type", "x", "--n-samples", "many"], "data_requirements.n_samples: "),
        (
            ["--id", "a", "--name", "x", "--type", "x", "--dataset-type", "regression", "--n-classes", "3"],
            "`n_classes`",
        ),
        (
            ["--id", "a", "--name", "x", "--type", "x", "--metric", "beauty"],
            "evaluation_criteria.metric: must be one of",
        ),
        (["--id", "tiny", "--name", "x", "--type", "x"], "tiny.json exists: choose another id"),
        (
            ["--id", "classification_basic", "--name", "x", "--type", "x"],
            "is taken by templates/tasks/classification_basic",
        ),
        ([], "nothing to create: give --id and "),
    ],
)
def test_what_cannot_be_created_is_refused(call: Any, own: str, arguments: list[str], said: str) -> None:
    before = {path: path.read_bytes() for path in Path(own).iterdir()}
    answer = call("create", *arguments, "--tasks-dir", own)
    assert (answer.code, answer.out) == (2, "") and said in answer.err
    assert {path: path.read_bytes() for path in Path(own).iterdir()} == before


@pytest.mark.parametrize("site", ["local", "nirvana"])
def test_create_alone_writes_where_every_command_looks(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: str
) -> None:
    folder = tmp_path / "tasks"
    monkeypatch.setattr(sites, "OWN_TASKS", folder)
    monkeypatch.setenv("HPC_SITE", site)
    assert "mine" not in call("list").out
    answer = call("create", "--id", "mine", "--dataset-type", "regression")
    assert answer.code == 0 and answer.out.startswith(f"created: {folder / 'mine.json'}\n")
    assert call("show", "mine").code == 0
    assert (f"note: tasks of your own are looked for in {folder} only" in answer.err) == (site == "nirvana")
    if site == "local":
        assert sites.load_site("local").paths.tasks == str(folder)


def test_create_in_a_folder_of_ones_own(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ("create", "--id", "a", "--name", "x", "--type", "x")
    monkeypatch.setenv("HPC_PATHS__TASKS", str(tmp_path / "mine"))
    assert call(*arguments).out.endswith("next: scripts_hpc/tasks.sh generate-data a DATA_DIR\n")
    assert (tmp_path / "mine" / "a.json").is_file()
    answer = call(*arguments[:2], "b", *arguments[3:], "--tasks-dir", "/dev/null/x")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1) and "/dev/null/x" in answer.err


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: object):
        self.handle, inner = pty.openpty()
        self.process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdin=inner, stdout=inner, stderr=inner)
        os.close(inner)
        self.seen = ""

    def answer(self, question: str, text: str) -> None:
        """Wait until a question is asked, then answer it."""
        while question not in self.seen:
            ready = select.select([self.handle], [], [], 30)[0]
            assert ready, f"never asked {question!r}; saw {self.seen}"
            self.seen += os.read(self.handle, 65536).decode()
        self.seen = self.seen.partition(question)[2]
        os.write(self.handle, text.encode())

    def await_reading(self) -> None:
        """Until it sleeps: a signal just before it reads would only be noticed after the next line."""
        stat = Path("/proc", str(self.process.pid), "stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert self.process.poll() is None

    def end(self) -> int:
        while select.select([self.handle], [], [], 30)[0]:
            try:
                self.seen += os.read(self.handle, 65536).decode()
            except OSError:  # Linux's word for the end of a terminal
                break
        os.close(self.handle)
        return self.process.wait(30)


def test_create_by_questions_asks_again_for_what_does_not_fit(own: str) -> None:
    terminal = Terminal("create", "--tasks-dir", own)
    for question, text in (
        ("Id: ", "tiny"),
        ("there is a task 'tiny' already.", ""),
        ("Id: ", "a b"),
        ("id: String should match", ""),
        ("Id: ", "mine"),
        ("Name: ", "  "),
        ("Name: an answer is needed.", ""),
        ("Name: ", ""),
        ("Name: an answer is needed.", ""),
        ("Name: ", "My own"),
        ("Description", ""),
        ("Type [classification]: ", ""),
        ("[medium]: ", "nasty"),
        ("difficulty: Input should be 'easy'", ""),
        ("[medium]: ", "easy"),
        ("[1800]: ", "60"),
        ("[classification]: ", "clustering"),
        ("n_samples", "3"),
        ("data_requirements.n_samples: Input should be greater", ""),
        ("n_samples", "100"),
        ("n_features", ""),
        ("n_centers", "4"),
        ("cluster_std", ""),
        ("Metric [adjusted_rand]: ", ""),
        ("min_adjusted_rand", "0.4"),
        ("Required outputs [submission.csv]: ", "submission.csv, plot.png"),
        ("Instructions", "Find the groups."),
    ):
        terminal.answer(
            question,
            text + "\n" * ("should" not in question and "already" not in question and "needed" not in question),
        )
    assert terminal.end() == 0 and "created: " in terminal.seen and "next: " in terminal.seen
    made = Task.load(Path(own, "mine.json")).to_dict()
    assert made.pop("created_at") and made == {
        "id": "mine",
        "name": "My own",
        "task_type": "classification",
        "difficulty": "easy",
        "estimated_time": 60,
        "data_requirements": {"dataset_type": "clustering", "n_samples": 100, "n_centers": 4},
        "evaluation_criteria": {
            "metric": "adjusted_rand",
            "min_adjusted_rand": 0.4,
            "required_outputs": ["submission.csv", "plot.png"],
        },
        "instructions": "Find the groups.",
        "expected_outputs": ["submission.csv", "plot.png"],
    }


@pytest.mark.parametrize("keys", ["\x03", "\x04"])
def test_questions_can_be_left(own: str, keys: str) -> None:
    terminal = Terminal("create", "--tasks-dir", own)
    terminal.answer("Id: ", "mine\n")
    if keys == "\x03":  # the terminal isn't its controlling one, so the key is no signal there
        terminal.answer("Name: ", "")
        terminal.await_reading()
        terminal.process.send_signal(signal.SIGINT)
    else:
        terminal.answer("Name: ", keys)
    assert terminal.end() == 130 and terminal.seen.strip().endswith("interrupted")
    assert [path.name for path in Path(own).iterdir()] == ["tiny.json"]


# ---- pieces


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError(["one", "two"]), 2, "error: one\nerror: two\n"),
        (errors.Busy("somebody else"), 3, "error: somebody else\n"),
        (MemoryError(), 3, "error: this machine hasn't enough memory for it\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_whatever_a_command_raises_is_a_message(
    call: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "open_registry", fail)
    answer = call("list")
    assert (answer.code, answer.out, answer.err.lstrip("\n")) == (code, "", said)


def test_listing_loads_no_heavy_library() -> None:
    code = (
        "import sys; from helpers.tasks import cli; assert cli.main(['list']) == 0\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'scipy', 'PIL', 'jinja2', 'rich', 'requests'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
