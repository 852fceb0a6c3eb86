"""TaskRunner and `python -m helpers.run_task`: what a program is given, how it ends, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.config.sites import ROOT
from helpers.data import layout
from helpers.jobs import run_task
from helpers.lib import disk
from helpers.lib.errors import ConfigError
from helpers.tasks import TaskRunner, processes
from helpers.tasks.catalogue import TaskRegistry

TINY = {
    "id": "tiny",
    "name": "Tiny one",
    "task_type": "classification",
    "estimated_time": 90,
    "description": "Two classes.",
    "data_requirements": {"dataset_type": "classification", "n_samples": 40, "n_classes": 2},
    "evaluation_criteria": {"min_accuracy": 0.7, "required_outputs": ["submission.csv"]},
    "instructions": "Guess well.",
}
SECRET = "the answers are 0 1 1"
FIXED_LOG = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - run_task - (INFO|WARNING|ERROR|DEBUG) - ")


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site, a task of one's own and its prepared data, all in the test's folder."""
    monkeypatch.setenv("HPC_SITE", "local")
    monkeypatch.setenv("HPC_PATHS__DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HPC_PATHS__TASKS", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tiny.json").write_text(json.dumps(TINY))
    with layout.staging(tmp_path / "data", "tiny") as folder:
        for name in ("public/description.md", "public/deep/er/train.csv", "private/answers.csv"):
            (folder / "prepared" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "prepared" / name).write_text(SECRET if "private" in name else "public words")
        layout.publish(folder, tmp_path / "data", "tiny", "own")
    return tmp_path


@pytest.fixture
def runner(tmp_path: Path) -> TaskRunner:
    registry = TaskRegistry(tmp_path / "own")
    return TaskRunner(tmp_path / "work", tmp_path / "data", tmp_path / "out", registry=registry)


def script(folder: Path, text: str, name: str = "train.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


# ---- what a program is given


def test_a_program_gets_its_workspace_and_no_secrets(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf-secret")
    monkeypatch.setenv("PYTHON_API_KEY", "py-secret")
    monkeypatch.setenv("SOMETHING", "else")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:/my/own")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    dump = "import json, os; json.dump(dict(os.environ), open(os.environ['RESULTS_DIR'] + '/env.json', 'w')); print(os.getcwd())"
    record = runner.run_task("tiny", python(dump), variables={"SEED": "7", "TASK_ID": "ours wins"})
    folder = tmp_path / "work" / "task_tiny"
    seen = json.loads((folder / "results" / "env.json").read_text())
    told = {
        "TASK_ID": "tiny",
        "TASK_TYPE": "classification",
        "TASK_DIR": str(folder),
        "EXPERIMENT_NAME": "task_tiny",
        "EXPERIMENT_DIR": str(folder),
        "TIME_LIMIT_SECS": "90",
        "SEED": "7",
        "SUBMISSION_DIR": str(folder / "results"),
        **{f"{name.upper()}_DIR": str(folder / name) for name in ("data", "code", "results", "logs")},
    }
    assert {name: seen[name] for name in told} == told and record["stdout"] == f"{folder}\n"
    assert seen["PATH"] == os.environ["PATH"] and seen["HOME"] == os.environ["HOME"] and seen["PYTHONPATH"] == "/my/own"
    assert not {"HF_TOKEN", "PYTHON_API_KEY", "SOMETHING", "PYTHONSAFEPATH", "HPC_SITE", "HPC_PATHS__DATA"} & set(seen)
    assert "secret" not in (tmp_path / "out" / "task_tiny_results.json").read_text()
    instructions = (folder / "instructions.txt").read_text()
    assert "Guess well." in instructions and "submission.csv" in instructions and "90 seconds" in instructions
    config = json.loads((folder / "task_config.json").read_text())
    assert config["task"] == TINY and config["runtime_config"]["time_limit"] == 90


def test_only_the_public_half_is_copied(runner: TaskRunner, tmp_path: Path) -> None:
    public = layout.prepared(tmp_path / "data", "tiny") / "public"
    runner.run_task("tiny", python("open('data/description.md', 'w').write('changed')"))
    folder = tmp_path / "work" / "task_tiny"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"data/description.md", "data/deep/er/train.csv", "task_config.json", "instructions.txt"} <= files
    assert (public / "description.md").read_text() == "public words"  # a copy, and no link to the original
    for path in folder.rglob("*"):
        assert not path.is_symlink() and not (path.is_file() and SECRET in path.read_text())
        assert "private" not in str(path.relative_to(folder)) and str(tmp_path / "data") not in path.name
    runner.run_task("tiny", python("assert open('data/description.md').read() == 'public words'"), keep_data=False)
    assert not (folder / "data").exists() and (folder / "results").is_dir()
    assert json.loads((tmp_path / "out" / "task_tiny_results.json").read_text())["success"]


def test_the_record_has_the_fields_of_the_specification(runner: TaskRunner, tmp_path: Path) -> None:
    record = runner.run_task("tiny", python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert set(record) == {
        *("task_id", "task_name", "success", "execution_time", "return_code", "stdout", "stderr", "environment"),
        *("timestamp", "timed_out", "error"),
    }
    assert record | {"execution_time": 0, "environment": 0, "timestamp": 0} == {
        "task_id": "tiny",
        "task_name": "Tiny one",
        "success": True,
        "execution_time": 0,
        "return_code": 0,
        "stdout": "out\n",
        "stderr": "err\n",
        "environment": 0,
        "timestamp": 0,
        "timed_out": False,
        "error": None,
    }
    assert 0 < record["execution_time"] < 30 and record["environment"]["TASK_ID"] == "tiny"
    assert json.loads((tmp_path / "out" / "task_tiny_results.json").read_text()) == record
    logs = tmp_path / "work" / "task_tiny" / "logs"
    assert (logs / "stdout.log").read_text() == "out\n" and (logs / "stderr.log").read_text() == "err\n"


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [
        ("import sys; sys.exit('no\\nidea')", 1, "ended with exit code 1: idea"),
        ("import sys; sys.exit(7)", 7, "ended with exit code 7"),
        ("print('last words'); raise SystemExit(3)", 3, "ended with exit code 3: last words"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -11, "ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", -40, "ended by signal 40"),
    ],
)
def test_a_program_that_fails_says_how(runner: TaskRunner, text: str, code: int, error: str) -> None:
    record = runner.run_task("tiny", python(text))
    assert (record["success"], record["return_code"], record["error"]) == (False, code, error)


def test_long_output_is_cut_in_the_record_only(runner: TaskRunner, tmp_path: Path) -> None:
    record = runner.run_task("tiny", python("print('x' * 50_000 + 'é'); open('logs/stdout.log.new', 'w')"))
    assert record["stdout"].startswith("[the first 40003 bytes stand in ") and record["stdout"].endswith("xé\n")
    assert len(record["stdout"]) < 11_000
    assert (tmp_path / "work" / "task_tiny" / "logs" / "stdout.log").stat().st_size == 50_003


def test_a_link_in_place_of_the_log_shows_nothing(runner: TaskRunner, tmp_path: Path) -> None:
    answers = layout.prepared(tmp_path / "data", "tiny") / "private" / "answers.csv"
    record = runner.run_task(
        "tiny", python(f"import os; os.remove('logs/stdout.log'); os.symlink({str(answers)!r}, 'logs/stdout.log')")
    )
    assert record["success"] and record["stdout"] == ""


def test_files_named_from_here_are_found_from_the_workspace(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script(tmp_path, "import beside; print(beside.__file__)")
    script(tmp_path, "", "beside.py")
    shell = script(tmp_path, "#!/bin/sh\necho shell", "run.sh")
    shell.chmod(0o755)
    assert runner.run_task("tiny", [sys.executable, "train.py"])["stdout"] == f"{tmp_path}/beside.py\n"
    assert (tmp_path / "work" / "task_tiny" / "code" / "train.py").read_text().startswith("import beside")
    assert runner.run_task("tiny", "./run.sh")["stdout"] == "shell\n"
    assert (
        runner.run_task("tiny", f"{sys.executable} code/train.py")["return_code"] == 1
    )  # the copy, without what lay beside it


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "needs a command"),
        (["no-such-program"], "no-such-program: can't be run: No such file or directory"),
        (["/dev/null"], "/dev/null: can't be run: Permission denied"),
        (["./data"], "./data: can't be run: Permission denied"),
    ],
)
def test_what_cannot_be_run_is_an_error(runner: TaskRunner, tmp_path: Path, command: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        runner.run_task("tiny", command)
    with pytest.raises(ConfigError, match="unknown task 'none'"):
        runner.run_task("none", python(""))
    with pytest.raises(ConfigError, match="time limit above 0"):
        runner.run_task("tiny", python(""), 0)


def test_missing_and_damaged_data_are_prepared(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[tuple[str, Path]] = []
    module = types.ModuleType("helpers.tasks.synthetic.prepare")
    module.prepare = lambda task, data: prepared.append((task.id, data))
    monkeypatch.setitem(sys.modules, "helpers.tasks.synthetic.prepare", module)
    runner.run_task("tiny", python(""))
    assert prepared == []
    (layout.prepared(tmp_path / "data", "tiny") / "public" / "description.md").write_text("cut")
    runner.run_task("tiny", python(""))
    assert prepared == [("tiny", tmp_path / "data")]


def test_a_task_without_data_runs_too(runner: TaskRunner, tmp_path: Path) -> None:
    bare = {"id": "bare", "name": "Bare", "task_type": "general", "evaluation_criteria": {"required_outputs": ["a.md"]}}
    (tmp_path / "own" / "bare.json").write_text(json.dumps(bare))
    assert runner.run_task("bare", python("import os; assert os.listdir('data') == []"))["success"]


def test_without_arguments_the_sites_folders_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = TaskRunner()
    assert (runner.work_dir, runner.data_dir) == (tmp_path / "task_workspace", tmp_path / "data")
    assert runner.run_task("tiny", python(""))["success"]
    assert (tmp_path / "task_workspace" / "task_tiny_results.json").is_file()
    monkeypatch.setenv("HPC_SITE", "nowhere")
    assert TaskRunner(tmp_path / "w").data_dir == tmp_path / "w" / "data"


# ---- former runs


def test_former_results_are_kept_and_not_taken_for_new_ones(runner: TaskRunner, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "task_tiny"
    write = (
        "import os; assert os.listdir('results') == []; open('results/submission.csv', 'w').write({!r}); print({!r})"
    )
    for word in ("one", "two", "three"):
        runner.run_task("tiny", python(write.format(word, word)))
    assert [(folder / f"results{end}" / "submission.csv").read_text() for end in (".1", ".2", "")] == [
        "one",
        "two",
        "three",
    ]
    assert [(folder / f"logs{end}" / "stdout.log").read_text() for end in (".1", ".2", "")] == [
        "one\n",
        "two\n",
        "three\n",
    ]
    (tmp_path / "out" / "task_tiny_evaluation.json").write_text("{}")
    with pytest.raises(ConfigError):
        runner.run_task("tiny", ["no-such-program"])
    assert list((folder / "results").iterdir()) == [] and (folder / "results.3").is_dir()
    record = json.loads((tmp_path / "out" / "task_tiny_results.json").read_text())
    assert not record["success"] and "can't be run" in record["error"]
    assert not (tmp_path / "out" / "task_tiny_evaluation.json").exists()


def test_a_results_folder_that_became_a_link_is_put_aside(runner: TaskRunner, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "task_tiny"
    private = layout.prepared(tmp_path / "data", "tiny") / "private"
    runner.run_task("tiny", python(f"import os; os.rmdir('results'); os.symlink({str(private)!r}, 'results')"))
    with pytest.raises(ConfigError, match="or it is a link"):
        runner.evaluate_task_results("tiny")
    runner.run_task("tiny", python("open('results/x', 'w')"))
    assert (folder / "results").is_dir() and not (folder / "results").is_symlink()
    assert [path.name for path in private.iterdir()] == ["answers.csv"]


def test_two_runs_do_not_share_a_workspace(runner: TaskRunner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    wait = python(f"open({str(tmp_path / 'fifo')!r}).read(); assert open('data/description.md').read()")
    records: list[dict[str, Any]] = []
    first = threading.Thread(target=lambda: records.append(runner.run_task("tiny", wait)))
    first.start()
    with open(tmp_path / "fifo", "w"):  # opens when the program does
        with pytest.raises(ConfigError, match="another run works in .*task_tiny"):
            runner.run_task("tiny", python(""), keep_data=False)
        elsewhere = TaskRunner(tmp_path / "other", tmp_path / "data", registry=runner.registry)
        assert elsewhere.run_task("tiny", python(""))["success"]
    first.join()
    assert records[0]["success"]


# ---- how it ends


STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
children = [
    subprocess.Popen(["sleep", "1000"]),
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1001 & wait; sleep 1002"]),
    subprocess.Popen(["sleep", "1003"], start_new_session=True),
    subprocess.Popen(["sleep", "1004"], env={}),
]
open("results/pids", "w").write(" ".join(str(pid) for pid in [os.getpid(), *(child.pid for child in children)]))
open(sys.argv[1], "w").close()
"""


def alive(workspace: Path) -> list[str]:
    """Processes that the stubborn program started and that still run. (What was killed may need a moment on a busy machine.)"""
    started = (workspace / "results" / "pids").read_text().split()
    until = time.monotonic() + 5
    while found := [pid for pid in started if _runs(pid)]:
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    return found


def _runs(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["ends by itself", "time limit"])
def test_no_process_of_a_program_stays(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    program = script(tmp_path, STUBBORN + ("" if how == "ends by itself" else "signal.pause()\n"))
    record = runner.run_task("tiny", [sys.executable, str(program), os.devnull], 60 if how == "ends by itself" else 1)
    assert alive(tmp_path / "work" / "task_tiny") == []
    if how == "ends by itself":
        assert record["success"]
    else:
        assert (record["success"], record["timed_out"], record["return_code"]) == (False, True, -9)
        assert record["error"] == "ended by its time limit of 1 s" and record["execution_time"] >= 1


def test_what_hid_at_first_is_found_later(runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look, looks = processes.marked, []
    monkeypatch.setattr(processes, "marked", lambda *of: looks.append(of) or (look(*of) if len(looks) > 1 else []))
    runner.run_task("tiny", [sys.executable, str(script(tmp_path, STUBBORN)), os.devnull])
    assert alive(tmp_path / "work" / "task_tiny") == [] and len(set(looks)) == 1


def test_a_program_may_tidy_up_when_its_time_is_over(runner: TaskRunner, tmp_path: Path) -> None:
    tidy = (
        "import signal, sys\n"
        "def end(*_): open('results/tidied', 'w'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "while True: signal.pause()"
    )
    record = runner.run_task("tiny", python(tidy), 0.5)
    assert (record["timed_out"], record["success"], record["return_code"]) == (True, False, 0)
    assert (tmp_path / "work" / "task_tiny" / "results" / "tidied").exists() and record["execution_time"] < 5


# ---- evaluation


class Validator:
    def __init__(self, evaluation: dict[str, Any]):
        self.evaluation, self.asked = evaluation, []

    def evaluate_task(self, task: Any, results_dir: Any, execution_time: float | None = None) -> dict[str, Any]:
        self.asked.append((task.id, Path(results_dir), execution_time))
        return self.evaluation


def test_an_evaluation_is_told_how_long_the_run_took(runner: TaskRunner, tmp_path: Path) -> None:
    runner._validator = validator = Validator({"success": True})
    record = runner.run_task("tiny", python(""))
    assert runner.evaluate_task_results("tiny") == {"success": True}
    assert json.loads((tmp_path / "out" / "task_tiny_evaluation.json").read_text()) == {"success": True}
    (tmp_path / "elsewhere").mkdir()
    runner.evaluate_task_results("tiny", tmp_path / "elsewhere")
    folder = tmp_path / "work" / "task_tiny"
    (folder / "results.1").mkdir()
    runner.evaluate_task_results("tiny", folder / "results.1")
    assert validator.asked == [
        ("tiny", folder / "results", record["execution_time"]),
        ("tiny", tmp_path / "elsewhere", None),
        ("tiny", folder / "results.1", None),
    ]
    with pytest.raises(ConfigError, match="no such folder of results"):
        runner.evaluate_task_results("tiny", tmp_path / "none")


# ---- the command, on this machine

COMMAND = [sys.executable, "-m", "helpers.run_task"]


class Answer:
    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    @property
    def said(self) -> list[str]:
        """Messages on stderr that are no log lines."""
        return [line for line in self.err.splitlines() if not FIXED_LOG.match(line)]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Answer]:
    def run(*arguments: object) -> Answer:
        code = run_task.main([*map(str, arguments), "--work-dir", str(tmp_path / "work")])
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture
def validator(monkeypatch: pytest.MonkeyPatch) -> Validator:
    checked = {"files_found": [], "files_missing": [], "score": 1.0}
    evaluation = {"task_name": "Tiny one", "success": True, "overall_score": 0.9, "output_check": checked}
    fake = Validator({**evaluation, "criteria_met": {}, "scores": {}, "feedback": []})
    module = types.ModuleType("helpers.tasks.judging.validator")
    module.TaskValidator = lambda data_dir=None: fake
    monkeypatch.setitem(sys.modules, "helpers.tasks.judging.validator", module)
    return fake


def test_local_runs_a_script_and_says_that_it_is_not_isolated(call: Any, tmp_path: Path) -> None:
    answer = call("tiny", "--local", "--script", script(tmp_path, "print('hello')"))
    assert (answer.code, answer.said) == (0, [])
    assert re.fullmatch(rf"tiny: ran \d+\.\d s; results: {tmp_path}/work/task_tiny/results\n", answer.out)
    assert re.search(r"^\S+ \S+ - run_task - WARNING - --local isn't isolated: ", answer.err, re.MULTILINE)
    assert "hello" not in answer.err and "at most 90 s" in answer.err
    assert not (tmp_path / "work" / "task_tiny" / "data").exists()
    record = json.loads((tmp_path / "work" / "task_tiny_results.json").read_text())
    assert record["stdout"] == "hello\n" and record["environment"]["TIME_LIMIT_SECS"] == "90"


def test_local_options(call: Any, tmp_path: Path, validator: Validator) -> None:
    program = script(tmp_path, "echo $TIME_LIMIT_SECS $EXPERIMENT_FOCUS", "run.sh")
    answer = call(
        "tiny", "--local", "--script", program, "--time-limit", 7, "--retain", "-v", "--agent", "experiment/dl"
    )
    assert answer.code == 0 and "DEBUG - stdout:\n7 dl\n" in answer.err
    assert (tmp_path / "work" / "task_tiny" / "data" / "description.md").exists()
    call("tiny", "--local", "--script", program, "--agent", "experiment/dev")  # a variant's own limit
    assert json.loads((tmp_path / "work" / "task_tiny_results.json").read_text())["stdout"] == "600\n"
    program = script(tmp_path, "#!/bin/sh\necho executable", "program")
    answer = call("tiny", "--local", "--script", program)
    assert answer.code == 2 and answer.said == [
        f"error: --script {program}: must end in .py, .sh or .ipynb, or be executable (chmod +x)."
    ]
    program.chmod(0o755)
    answer = call("tiny", "--local", "--script", program, "--json", "--validate")
    told = json.loads(answer.out)
    assert answer.code == 0 and told["stdout"] == "executable\n" and told["evaluation"]["overall_score"] == 0.9
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "data").rename(elsewhere)
    assert call("tiny", "--local", "--script", program, "--data-dir", elsewhere).code == 0
    (tmp_path / "own").rename(tmp_path / "mine")
    assert (
        call("tiny", "--local", "--script", program, "--data-dir", elsewhere, "--tasks-dir", tmp_path / "mine").code
        == 0
    )


@pytest.mark.parametrize(("success", "code"), [(True, 0), (False, 1)])
def test_validate_decides_the_exit_code(
    call: Any, tmp_path: Path, validator: Validator, success: bool, code: int
) -> None:
    validator.evaluation["success"] = success
    answer = call("tiny", "--local", "--script", script(tmp_path, "print('x')"), "--validate")
    assert answer.code == code and "Task Evaluation Results for: Tiny one\n" in answer.out
    record = json.loads((tmp_path / "work" / "task_tiny_results.json").read_text())
    assert validator.asked == [("tiny", tmp_path / "work" / "task_tiny" / "results", record["execution_time"])]
    assert json.loads((tmp_path / "work" / "task_tiny_evaluation.json").read_text()) == validator.evaluation


def test_a_failed_run_is_4_whatever_its_results(call: Any, tmp_path: Path, validator: Validator) -> None:
    program = script(tmp_path, "raise SystemExit('out of ideas')")
    answer = call("tiny", "--local", "--script", program, "--validate")
    assert answer.code == 4 and answer.said == []
    assert (
        f"ERROR - tiny: ended with exit code 1: out of ideas; its logs: {tmp_path}/work/task_tiny/logs\n" in answer.err
    )
    assert "Task Evaluation Results" in answer.out
    answer = call(
        "tiny", "--local", "--script", script(tmp_path, "import time; time.sleep(99)"), "--time-limit", 1, "--json"
    )
    assert answer.code == 4 and json.loads(answer.out)["timed_out"] and "ended by its time limit of 1 s" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tinny", "--local"], "unknown task 'tinny'; there are: .*tiny.* Did you mean tiny?"),
        (["tinny"], "unknown task 'tinny'"),
        (["tiny", "--local", "--script", "none.py"], "--script none.py: there is no such file"),
        (["tiny", "--local", "--script", "none.ipynb"], "--script none.ipynb: there is no such file"),
        (["tiny", "--local", "--script", "/tmp"], "--script /tmp: there is no such file"),
        (["tiny", "--local", "--model", "30b"], "--model 30b: --local runs a script without a model server"),
        (["tiny", "--local", "--agent", "aide"], "--agent aide: --local runs a script"),
        (["tiny", "--agent", "none"], "agent 'none': not in site-config/agents.yaml"),
        (["tiny", "--site", "none"], "site 'none'"),
        (["tiny", "--local", "--site", "none"], "site 'none'"),
        (["tiny", "--local", "--set", "paths.date=x"], "paths.date: unknown key"),
    ],
)
def test_bad_requests_are_2_in_one_line(call: Any, arguments: list[str], said: str) -> None:
    answer = call(*arguments)
    assert (answer.code, answer.out, len(answer.said)) == (2, "", 1) and re.search(f"^error: .*{said}", answer.said[0])


@pytest.mark.parametrize("arguments", [[], ["tiny", "--time-limit", "0"], ["tiny", "--no-such"], ["tiny", "other"]])
def test_bad_usage_is_2(call: Any, arguments: list[str]) -> None:
    answer = call(*arguments)
    assert (answer.code, answer.out) == (2, "") and answer.err.endswith(" (--help tells more)\n")


def test_without_a_site_local_uses_the_work_dir(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_SITE", "nowhere")
    (tmp_path / "work").mkdir()
    (tmp_path / "data").rename(tmp_path / "work" / "data")
    answer = call("tiny", "--local", "--script", script(tmp_path, ""), "--tasks-dir", tmp_path / "own")
    assert answer.code == 0 and "going on without a site: site 'nowhere'" in answer.err
    assert call("tiny", "--tasks-dir", tmp_path / "own").code == 2


def test_a_work_dir_that_cannot_be_is_2_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", "/proc/nowhere", "/dev/null/x"):
        arguments = ["tiny", "--local", "--script", str(script(tmp_path, "")), "--work-dir", str(folder)]
        answer = Answer(run_task.main(arguments), *capfd.readouterr())
        assert (answer.code, answer.out, len(answer.said)) == (2, "", 1)
        assert answer.said[0].startswith(f"error: {folder}")


@pytest.mark.parametrize("full", ["data", "record"])
def test_a_full_disk_is_3_in_one_line(tmp_path: Path, full: str) -> None:
    if full == "data":
        (layout.prepared(tmp_path / "data", "tiny") / "public" / "description.md").write_text("x" * 9000)
        manifest = layout.prepared(tmp_path / "data", "tiny") / layout.MANIFEST
        manifest.write_text(manifest.read_text().replace('description.md": 12', 'description.md": 9000'))

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    program = script(tmp_path, "print('x' * 3900)")
    command = [*COMMAND, "tiny", "--local", "--script", str(program), "--work-dir", str(tmp_path / "work")]
    done = subprocess.run(command, preexec_fn=no_room, capture_output=True, text=True, timeout=60)
    answer = Answer(done.returncode, done.stdout, done.stderr)
    where = "task_tiny/data/description.md" if full == "data" else "task_tiny_results.json"
    assert (answer.code, answer.out) == (3, "")
    assert answer.said == [
        f"error: {tmp_path}/work/{where}: File too large. Free space there, or choose another folder"
    ]
    assert not (tmp_path / "work" / "task_tiny_results.json").exists()
    assert not (tmp_path / "work" / "task_tiny" / "data").exists()


@pytest.mark.parametrize("how", ["group", "alone", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_ends_with_130_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    tidy = "signal.signal(signal.SIGTERM, lambda *_: (open('results/tidied', 'w'), os._exit(0)))\n"
    text = STUBBORN.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n", tidy) + "signal.pause()\n"
    program = script(tmp_path, text)
    wrapper = script(tmp_path, f"exec {sys.executable} {program} {tmp_path}/fifo\n", "run.sh")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "task_tiny_results.json").write_text('{"success": true}')
    running = subprocess.Popen(
        [*COMMAND, "tiny", "--local", "--script", str(wrapper), "--work-dir", str(tmp_path / "work"), "--validate"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with open(tmp_path / "fifo"):  # the program runs
        pass
    if how == "group":
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(signal.SIGINT if how == "alone" else getattr(signal, how))
    out, err = running.communicate(timeout=60)
    answer = Answer(running.returncode, out, err)
    assert (answer.code, answer.out, [line for line in answer.said if line]) == (130, "", ["interrupted"])
    assert alive(tmp_path / "work" / "task_tiny") == []
    record = json.loads((tmp_path / "work" / "task_tiny_results.json").read_text())
    assert (record["success"], record["error"]) == (False, "interrupted")
    assert (tmp_path / "work" / "task_tiny" / "results" / "tidied").exists()
    assert not (tmp_path / "work" / "task_tiny" / "data").exists()


def test_the_experiment_agent_runs_here_too(tmp_path: Path) -> None:
    # the real data, pipeline and validator; both need the libraries of the project's own environment
    command = [*COMMAND, "classification_basic", "--local", "--validate", "--work-dir", str(tmp_path / "work")]
    done = subprocess.run([*command, "--time-limit", "120"], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Success: ✓" in done.stdout and "✓ min_accuracy" in done.stdout
    evaluation = json.loads((tmp_path / "work" / "task_classification_basic_evaluation.json").read_text())
    assert evaluation["success"] and evaluation["scores"]["accuracy"] > 0.7
    assert layout.problem(tmp_path / "data", "classification_basic") is None
    assert not any((tmp_path / "work").rglob("answers.csv"))


# ---- the command, through the workflow


FAKE_WORKFLOW = """#!/usr/bin/env bash
printf '%s\n' "$@" >"$FAKE/argv"
grep SigIgn /proc/$$/status >"$FAKE/ignored"
trap 'echo TERM >>"$FAKE/told"; exit 130' TERM
trap 'echo INT >>"$FAKE/told"; sleep 0.5; ended=1' INT
if [[ -n ${HANG:-} ]]; then
  : >"$FAKE/fifo"
  until [[ -n ${ended:-} ]]; do sleep 0.05; done
  exit 130
fi
[[ ! -f $FAKE/answer ]] || cat "$FAKE/answer"
exit "${CODE:-0}"
"""


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run_workflow.sh that notes how it is called; returns its folder."""
    folder = tmp_path / "fake"
    folder.mkdir()
    script(folder, FAKE_WORKFLOW, "run_workflow.sh")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setattr(run_task, "WORKFLOW", folder / "run_workflow.sh")
    return folder


START = """
import sys
from pathlib import Path
from helpers.jobs import run_task
from helpers.lib.signals import catch_signals
run_task.WORKFLOW = Path(sys.argv[1])
catch_signals()
sys.exit(run_task.main(sys.argv[2:]))
"""


def start(workflow: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START, str(workflow / "run_workflow.sh"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_it_becomes_the_workflow(workflow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "3")
    (workflow / "answer").write_text("its own words\n")
    running = start(workflow, "tiny")
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (3, "its own words\n", "")
    assert (workflow / "argv").read_text().split() == ["tiny", "--agent", "experiment", "--time-limit", "90"]
    # Python ignores SIGPIPE; a shell that inherited that would write to closed pipes for ever
    assert not int((workflow / "ignored").read_text().split()[1], 16) & 1 << (signal.SIGPIPE - 1)


def test_all_options_reach_the_workflow(workflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = script(tmp_path, f"extends: local\npaths: {{data: {tmp_path}/data}}\n", "here.yaml")
    script(tmp_path, "", "train.py")
    options = [
        "--agent",
        "aide",
        "--model",
        "30b",
        "--site",
        site,
        "--set",
        "jobs.agent.cpus=2",
        "--script",
        "train.py",
    ]
    options += ["--time-limit", "60", "--data-dir", "data", "--tasks-dir", "own", "--json"]
    assert start(workflow, "tiny", *options).wait(60) == 0
    assert (workflow / "argv").read_text().splitlines() == [
        *("tiny", "30b", "--agent", "aide", "--time-limit", "60", "--script", f"{tmp_path}/train.py"),
        *("--site", str(site), "--set", "jobs.agent.cpus=2"),
        *("--set", f'paths.data="{tmp_path}/data"', "--set", f'paths.tasks="{tmp_path}/own"', "--json"),
    ]
    assert start(workflow, "tiny", "--agent", "experiment/dev").wait(60) == 0
    assert "--time-limit" not in (workflow / "argv").read_text()  # the variant's own


def test_the_real_workflow_knows_the_options(tmp_path: Path) -> None:
    site = script(
        tmp_path,
        f"extends: local\ncontainer: {{runtime: apptainer}}\n"
        f"paths: {{data: {tmp_path}/data, runs: {tmp_path}/runs, address_dir: {tmp_path}/addresses, containers: {tmp_path}}}\n",
        "here.yaml",
    )
    options = ["--site", site, "--script", script(tmp_path, ""), "--time-limit", 60, "--set", "jobs.agent.cpus=1"]
    options += ["--data-dir", tmp_path / "data", "--tasks-dir", tmp_path / "own", "--agent", "experiment/ml", "--json"]
    done = subprocess.run(
        ["bash", str(ROOT / "scripts_hpc" / "run_task.sh"), "tiny", *map(str, options)],
        env={**os.environ, "HAB_VENV_DIR": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = done.stderr.splitlines()  # all that it has to say is that there are no images here
    assert (done.returncode, done.stdout) == (2, "") and len(said) == 2
    assert all(line.startswith(f"error: image {tmp_path}/") for line in said)


def make_run(folder: Path, workflow: Path, data: Path) -> Path:
    """A finished run, and the words of the workflow that made it."""
    run = folder / "tiny_7"
    (run / "submission").mkdir(parents=True)
    config = {"paths": {"data": str(data), "address_dir": str(folder)}, "scheduler": {"kind": "local"}}
    disk.write_json(
        folder / "workflow.json", {"competition": "tiny", "agent": "x", "jobs": {"agents": ["7"]}, "config": config}
    )
    times = {"agent_started_at": "2026-01-01T00:00:00Z", "agent_ended_at": "2026-01-01T00:01:30Z"}
    state = {"state": "scored", "competition": "tiny", "agent": "x", "seed": 0}
    disk.write_json(run / "run_metadata.json", {**state, "job_id": "7", **times})
    disk.write_json(
        run / "grading_report.json", {"score": 0.5, "total_score": 0.5, "metric": "accuracy", "is_lower_better": False}
    )
    (workflow / "answer").write_text(json.dumps({"run": str(folder), "exit_code": 0, "results": []}))
    return run


@pytest.mark.parametrize(("own", "success", "code"), [(0, True, 0), (0, False, 1), (4, True, 4), (4, False, 4)])
def test_validate_judges_the_runs_folder(
    call: Any,
    tmp_path: Path,
    workflow: Path,
    validator: Validator,
    monkeypatch: pytest.MonkeyPatch,
    own: int,
    success: bool,
    code: int,
) -> None:
    run = make_run(tmp_path / "runs" / "one", workflow, tmp_path / "data")
    monkeypatch.setenv("CODE", str(own))
    validator.evaluation["success"] = success
    answer = call("tiny", "--validate", "--retain")
    assert answer.code == code and validator.asked == [("tiny", run / "submission", 90.0)]
    assert answer.out.startswith("tiny / x (seed 0): score 0.5 (accuracy, higher is better)")
    assert f"files: {run.parent}\nTask Evaluation Results for: Tiny one\n" in answer.out
    assert json.loads((run / "task_tiny_evaluation.json").read_text()) == validator.evaluation
    assert "WARNING - --retain means something with --local only" in answer.err
    assert (workflow / "argv").read_text().split()[-1] == "--json"
    answer = call("tiny", "--validate", "--json")
    told = json.loads(answer.out)
    assert answer.code == code and told["run"] == str(run.parent) and told["evaluations"] == [validator.evaluation]


@pytest.mark.parametrize(("code", "known"), [(2, False), (3, False), (3, True), (130, True), (0, False)])
def test_what_came_to_nothing_is_not_validated(
    call: Any,
    tmp_path: Path,
    workflow: Path,
    validator: Validator,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    known: bool,
) -> None:
    if known:
        make_run(tmp_path / "runs" / "one", workflow, tmp_path / "data")
    monkeypatch.setenv("CODE", str(code))
    answer = call("tiny", "--validate")
    assert answer.code == (code or 3) and validator.asked == []
    assert ("files: " in answer.out) == known and "Traceback" not in answer.err


@pytest.mark.parametrize("how", ["group", "alone", "SIGTERM"])
@pytest.mark.parametrize("options", [["--validate"], []])
def test_interrupting_ends_the_workflow_once(
    workflow: Path, monkeypatch: pytest.MonkeyPatch, how: str, options: list[str]
) -> None:
    os.mkfifo(workflow / "fifo")
    monkeypatch.setenv("HANG", "1")
    running = start(workflow, "tiny", *options, start_new_session=True)
    with open(workflow / "fifo"):
        pass
    if how == "group":
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(signal.SIGINT if how == "alone" else signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "") and (workflow / "told").read_text() == (
        "TERM\n" if how == "SIGTERM" else "INT\n"
    )
    assert err.strip() == ("interrupted" if options else "")


# ---- the script


def test_the_script_helps_and_hands_notebooks_over(tmp_path: Path) -> None:
    (tmp_path / "scripts_hpc").mkdir()
    for name in ("run_task.sh", "lib"):
        (tmp_path / "scripts_hpc" / name).symlink_to(ROOT / "scripts_hpc" / name)
    copy = tmp_path / "scripts_hpc" / "run_task.sh"
    copy.unlink()
    copy.write_text((ROOT / "scripts_hpc" / "run_task.sh").read_text())
    script(tmp_path / "scripts_hpc", "printf '[%s]' \"$@\"; exit 7", "run_notebook.sh")
    done = subprocess.run(["bash", str(copy), "tiny", "--notebook", "--set", "a=b c"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "[tiny][--set][a=b c]")
    done = subprocess.run(["bash", str(copy), "tiny", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Usage: scripts_hpc/run_task.sh TASK")
    for option in run_task.run_task.params:
        for name in option.opts:
            assert not name.startswith("--") or name in done.stdout, f"{name} is not in its help"
