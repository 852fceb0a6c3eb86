"""Preparing many tasks: true exit codes, reasons and lists, whatever the commands do, and nothing half done."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.data import fingerprint, layout
from helpers.lib.commands import Commands, Stopped
from helpers.prepare import arguments as arguments_module
from helpers.prepare import backends, main, one
from helpers.prepare import failures as failures_module
from helpers.prepare.backends import BACKENDS, THREAD_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
FAKES = ROOT / "tests/prepare/fakes"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
HOW_TO_START = ([sys.executable, "-m", "helpers.prepare_all_tasks"], [sys.executable, "helpers/prepare_all_tasks.py"])

PATCHED = """
import os, sys
from helpers.lib import commands
from helpers.prepare import main
{}
sys.exit(main.main())
"""


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class World:
    """A folder to start in, a data folder, the fakes on the PATH and their plans."""

    def __init__(self, folder: Path):
        self.cwd, self.data, self.plans, self.temporary = (folder / name for name in ("cwd", "data", "plans", "tmp"))
        for path in (self.cwd, self.plans, self.temporary):
            path.mkdir(parents=True)
        self.env = {
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{FAKES}:/usr/bin:/bin",
            "FAKE_PLANS": str(self.plans),
            "HPC_SITE": "local",
            "TMPDIR": str(self.temporary),
        }
        self.running: list[subprocess.Popen[str]] = []

    def plan(self, **behaviours: str) -> list[str]:
        """What tasks do, a word an attempt; their ids, `_` being written for `-`, `__` for `/`."""
        tasks = [name.replace("__", "/").replace("_", "-") for name in behaviours]
        for task, words in zip(tasks, behaviours.values(), strict=True):
            (self.plans / task.replace("/", "%")).write_text(words.replace(" ", "\n") + "\n")
        return tasks

    def command(self, *arguments: object, backend: str | None = "mlebench", data: bool = True) -> list[str]:
        own = ["--backend", backend] if backend else []
        own += ["--data-dir", str(self.data)] if data else []
        return [*HOW_TO_START[0], *own, "--retry-wait", "0.01", *map(str, arguments)]

    def run(self, *arguments: object, patch: str = "", **more: object) -> subprocess.CompletedProcess[str]:
        """Run to the end. patch: a line that is run before."""
        command = self.command(*arguments, **{key: more.pop(key) for key in ("backend", "data") if key in more})
        command = self._patched(command, patch) if patch else command
        options = {"env": self.env | more.pop("env", {}), "capture_output": True, **more}
        result = subprocess.run(command, cwd=self.cwd, text=True, timeout=60, **options)
        assert "Traceback" not in f"{result.stdout}{result.stderr}"
        return result

    def start(self, *arguments: object, grace: float | None = None, **options: object) -> subprocess.Popen[str]:
        """Start it, with another time between TERM and KILL where that is given."""
        command = self.command(*arguments)
        if grace is not None:
            command = self._patched(command, f"commands.GRACE_SECONDS = {grace}")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        self.running.append(subprocess.Popen(command, cwd=self.cwd, env=self.env, text=True, **pipes))
        return self.running[-1]

    @staticmethod
    def _patched(command: list[str], line: str) -> list[str]:
        return [sys.executable, "-c", PATCHED.format(line), *command[len(HOW_TO_START[0]) :]]

    def pids(self, task: str) -> list[int]:
        """The processes of a task that hangs, once they are there."""
        file = self.plans / f"{task}.pids"
        until(file.exists)
        return list(map(int, file.read_text().split()))

    @property
    def calls(self) -> list[str]:
        file = self.plans / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def failed(self) -> list[str] | None:
        file = self.cwd / "failed_tasks.txt"
        return file.read_text().splitlines() if file.exists() else None

    def is_clean(self) -> bool:
        """Whether nothing half done lies about: only locks and logs, whole tasks, and archives."""
        left = {path.suffix for path in (self.data / ".preparing").iterdir() if path.name != "logs"}
        return left <= {".lock"} and not list(self.temporary.iterdir())

    def files(self) -> set[str]:
        """What lies in the data folder beside locks and logs."""
        files = (path.relative_to(self.data) for path in self.data.rglob("*") if not path.is_dir())
        return {str(path) for path in files if path.parts[0] != ".preparing"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "a world")
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


# ---- usage


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--threads", "0", "a"], "argument --threads: 0 is too small: it must be at least 1"),
        (["--threads", "many", "a"], "argument --threads: 'many' is not a whole number"),
        (["--timeout", "0", "a"], "argument --timeout: 0 is too small: it must be above 0"),
        (["--timeout", "nan", "a"], "argument --timeout: nan is too small"),
        (["--retries", "-1", "a"], "argument --retries: -1 is too small"),
        (["--keep-raw=maybe", "a"], "argument --keep-raw: 'maybe' is neither true nor false"),
        (["--thread", "4", "a"], "unrecognized arguments: --thread"),
        ([], "error: --all names this project's tasks and your own, which no benchmark's command prepares"),
        (["--all", "t"], "error: give ids of tasks, a file (--task-list, --jobs), or --all: one of them"),
        (["--jobs", "none.txt"], "error: none.txt: there is no such file"),
        (["--task-list", "none.txt"], "error: none.txt: there is no such file; name tasks, or a file with --task-list or --jobs"),
        (["--task-list", "/"], "error: /: can't be read (Is a directory)"),
        (["--task-list", "empty"], "error: empty: there are no tasks in it"),
        (["--jobs", "words"], "error: words: there are no tasks in it"),
        (["--task-list", "words"], "error: words: not a task id: line 2: '../x', line 4: 'a b'"),
        (["--task-list", "jobs"], "error: jobs: not a task id: line 1: 'aide,a'; is this a jobs file (--jobs)?"),
        (["--task-list", "binary"], "error: binary: is not a text file in UTF-8"),
        (["../a"], "error: not a task id: '../a'"),
        (["a/b/c"], "error: not a task id: 'a/b/c'"),
        (["a", "temp/x", "runs"], "error: not a task id: 'temp/x', 'runs'; 'runs', 'temp': names of other folders beside those"),
        (["--task-list", "taken"], "error: taken: not a task id: line 2: 'rollouts'; 'rollouts': names of other folders"),
        (["--task-list", "jobs", "a"], "error: give ids of tasks, a file (--task-list, --jobs), or --all: one of them"),
        (["--log-file", "/dev/null/log", "a"], "can't be written (Not a directory); --log-file and --failed-tasks name other"),
        (["--failed-tasks", "none/failed", "a"], "can't be written (No such file or directory)"),
        (["--data-dir", "/dev/null/data", "a"], "error: /dev/null/data (--data-dir): can't be made (Not a directory)"),
    ],
)  # fmt: skip
def test_wrong_usage_is_said_and_nothing_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    for name, text in {
        "empty": "# a\n\n",
        "words": "# x\n../x\n\na b\n",
        "jobs": "aide,a\n",
        "taken": "a\nrollouts\n",
    }.items():
        (world.cwd / name).write_text(text)
    (world.cwd / "binary").write_bytes(b"\xff\xfe\x00")
    before = set(world.cwd.iterdir())
    monkeypatch.chdir(world.cwd)
    try:
        code = main.main(["--backend", "mlebench", "--data-dir", str(world.data), *arguments])
    except SystemExit as end:
        code = end.code
    output, errors = capsys.readouterr()
    assert (code, output) == (2, "") and said in errors.splitlines()[-1]
    assert world.calls == [] and set(world.cwd.iterdir()) - before <= {world.cwd / "task_preparation.log"}


@pytest.mark.parametrize("start", HOW_TO_START)
def test_both_ways_to_start_it_tell_the_options(start: list[str]) -> None:
    result = subprocess.run([*start, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stderr) == (0, "")
    options = (
        "--jobs --task-list --threads --keep-raw --overwrite-checksums --overwrite-leaderboard --skip-verification"
    )
    for option in f"{options} --data-dir --force --retries --timeout --backend --tasks-dir --failed-tasks".split():
        assert option in result.stdout
    assert "--events" not in result.stdout and "130 interrupted" in result.stdout


@pytest.mark.parametrize("given", [["--all"], []])
def test_without_a_name_all_known_tasks_are_meant(world: World, given: list[str]) -> None:
    local_task(world.cwd / "mine/t")
    shipped = [path.stem for path in (ROOT / "templates/tasks").glob("*.json")]
    shipped += [path.parent.name for path in (ROOT / "templates/tasks").glob("*/tb_meta.json")]
    for name in shipped:  # so that nothing is made
        (world.data / name / "prepared/public").mkdir(parents=True)
        (world.data / name / "prepared/private").mkdir()
        (world.data / name / "prepared/public/description.md").touch()
        (world.data / name / "prepared/private/answers.csv").touch()
    result = world.run(*given, "--tasks-dir", "mine", backend=None)
    assert result.returncode == 0
    assert f"Successful: 1\nFailed: 0\nAlready prepared: {len(shipped)}" in result.stdout
    said = f"no task is named: these 14 are, all that are known here (--all): {', '.join(sorted([*shipped, 't']))}"
    assert (said in result.stdout) == (not given)


def test_the_jobs_file_of_the_document_still_counts(world: World) -> None:
    file = world.cwd / arguments_module.JOBS_FILE
    file.parent.mkdir(parents=True)
    file.write_text("aide,a\n")
    world.plan(a="ok")
    assert "Total tasks: 1" in world.run().stdout


def test_a_broken_definition_is_named_before_anything_starts(world: World) -> None:
    (world.cwd / "mine").mkdir()
    (world.cwd / "mine" / "t.json").write_text('{"id": "t", "name": "T", "task_type": "x", "colour": "red"}')
    result = world.run("--tasks-dir", "mine", "t", backend=None)
    assert (result.returncode, result.stdout, world.calls) == (2, "", [])
    assert "mine/t.json" in result.stderr and "colour" in result.stderr


@pytest.mark.parametrize(
    "given, flags",
    [
        (["--keep-raw"], "--keep-raw"),
        (["--keep-raw=true", "--skip-verification"], "--keep-raw --skip-verification"),
        (["--keep-raw=false"], ""),
        (["--overwrite-checksums", "--overwrite-leaderboard=FALSE"], "--overwrite-checksums"),
    ],
)
def test_booleans_alone_and_with_a_value_before_a_task(world: World, given: list[str], flags: str) -> None:
    result = world.run(*given, "comp", "--threads", 1, "other")
    assert result.returncode == 0
    assert [call.partition(" --data-dir")[0] for call in world.calls] == [
        f"mlebench prepare -c {task} {flags}".rstrip() for task in ("comp", "other")
    ]
    assert ("comp/raw/data.csv" in world.files()) == ("--keep-raw" in flags)


# ---- which tasks


def test_a_jobs_file_is_sorted_each_task_once_and_no_line_is_dropped_silently(world: World) -> None:
    (world.cwd / "jobs").write_text("# agents\naide,b/two\n\nbiomni, a\nno comma\naide,\nstella,b/two\n")
    result = world.run("--jobs", "jobs", "--threads", 1, backend=None)
    assert result.returncode == 0
    assert [call.split()[:4] for call in world.calls] == [
        ["mlebench", "prepare", "-c", "a"],
        ["biomlbench", "prepare", "-t", "b/two"],
    ]
    assert "WARNING - jobs, line 5: ignored, it is not `agent,task_id`: 'no comma'\n" in result.stdout
    assert "WARNING - jobs, line 6: ignored" in result.stdout and "WARNING - jobs: 2 lines ignored" in result.stdout
    assert (world.data / "b/two/prepared/private/test.csv").is_file()


def test_a_task_list_keeps_its_order_each_task_once_and_wins_over_jobs(world: World) -> None:
    (world.cwd / "list").write_bytes(b"\xef\xbb\xbfz\r\n# y\r\n a \r\nz\r\n")
    result = world.run("--task-list", "list", "--jobs", "none", "--threads", 1)
    assert [call.split()[3] for call in world.calls] == ["z", "a"]
    assert "INFO - Found 2 unique tasks to prepare\n" in result.stdout


def test_the_site_tells_the_data_folder_and_is_blamed_for_it(world: World, tmp_path: Path) -> None:
    env = {"HPC_PATHS__DATA": str(tmp_path / "elsewhere")}
    result = world.run("a", data=False, env=env)
    assert result.returncode == 0 and (tmp_path / "elsewhere/a/prepared/public").is_dir()
    result = world.run("b", "--min-free", 1e9, data=False, env=env)
    assert f"GB free in {tmp_path / 'elsewhere'} (paths.data of site local), at least" in result.stdout
    assert world.run("b", "--set", "paths.data=3", data=False).returncode == 2


# ---- the account


def test_the_log_and_the_summary_to_the_letter(world: World) -> None:
    tasks = world.plan(good="ok", bad="bug", fine="ok")
    layout_before = world.run("fine")
    assert layout_before.returncode == 0
    (world.cwd / "task_preparation.log").write_text("what was there before\n")
    result = world.run(*tasks, "--threads", 1)
    assert (result.returncode, result.stderr) == (1, "")
    assert (world.cwd / "task_preparation.log").read_text() == f"what was there before\n{result.stdout}"
    output = world.data / ".preparing/logs/bad.log"
    reason = "exit code 1: KeyError: 'target'"
    expected = [
        "INFO - Found 3 unique tasks to prepare",
        "INFO - Preparing 3 tasks with 1 threads",
        "INFO - Starting parallel preparation of 3 tasks using 1 threads",
        "INFO - Starting preparation of task: good",
        "INFO - ✓ Successfully prepared good in N.Ns",
        "INFO - Starting preparation of task: bad",
        f"ERROR - ✗ Failed to prepare bad after N.Ns: {reason} (output: {output})",
        "INFO - Skipping fine: it is already prepared (--force prepares it again)",
        "INFO - ",
    ]
    lines = [re.sub(r"\d+\.\ds", "N.Ns", line) for line in result.stdout.splitlines()]
    assert all(re.match(f"{TIME} - ", line) for line in lines[:9])
    # the worker of the next task may be quicker than the account of the last one
    assert sorted(re.sub(f"^{TIME} - ", "", line) for line in lines[:9]) == sorted(expected)
    assert lines[9:-1] == [
        "=" * 60,
        "PREPARATION SUMMARY",
        "=" * 60,
        "Total tasks: 3",
        "Successful: 1",
        "Failed: 1",
        "Already prepared: 1",
        "",
        "✓ Successfully prepared tasks:",
        "  - good",
        "",
        "✗ Failed tasks:",
        f"  - bad: {reason}",
    ]
    assert re.fullmatch(f"{TIME} - INFO - Failed task IDs written to: failed_tasks.txt", lines[-1])
    assert output.read_text().startswith("$ ") and "Traceback (most recent call last)" in output.read_text()


def test_events_are_a_json_line_a_change(world: World) -> None:
    world.run("fine")
    world.run(*world.plan(fine="ok", good="ok", bad="bug"), "--threads", 1, "--events", "events")
    events = [json.loads(line) for line in (world.cwd / "events").read_text().splitlines()]
    assert {tuple(event) for event in events} == {("time", "task", "state", "seconds", "reason")}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}\+00:00", event["time"]) for event in events)
    states = [(event["task"], event["state"]) for event in events]
    expected = "bad failed, bad started, fine skipped, good prepared, good started"
    assert ", ".join(sorted(map(" ".join, states))) == expected
    assert next(event for event in events if event["state"] == "failed")["reason"] == "exit code 1: KeyError: 'target'"


def test_the_failed_list_is_true_while_it_runs_and_gone_after_a_clean_run(world: World) -> None:
    (world.cwd / "failed_tasks.txt").write_text("from an old run\n")
    tasks = world.plan(quick="ok", late="gate", broken="bug")
    process = world.start(*tasks, "--threads", 3)
    until(lambda: world.failed == ["late", "broken"])
    (world.plans / "late.open").touch()
    assert process.wait(20) == 1 and world.failed == ["broken"]
    world.plan(broken="ok")
    result = world.run("--task-list", "failed_tasks.txt")
    assert (result.returncode, world.failed) == (0, None)
    assert "written to" not in result.stdout


def test_progress_is_shown_on_a_terminal_only(world: World) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        world.command(*world.plan(slow="gate", good="ok"), "--threads", 2),
        cwd=world.cwd,
        env=world.env | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
    )
    os.close(end)
    shown = b""
    while b"slow" not in shown or b"1/2" not in shown:
        shown += os.read(terminal, 4096)
    (world.plans / "slow.open").touch()
    output = process.communicate(timeout=20)[0]
    os.close(terminal)
    assert process.returncode == 0 and b"\x1b[" in shown
    assert "\x1b" not in output and output.splitlines()[-1] == "  - good"


def test_log_lines_stay_whole_beside_the_progress_on_one_terminal(world: World) -> None:
    terminal, end = pty.openpty()
    command = world.command(*world.plan(bad="talks"))
    process = subprocess.Popen(command, cwd=world.cwd, env=world.env | {"TERM": "xterm"}, stdout=end, stderr=end)
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # how a terminal ends
        pass
    os.close(terminal)
    assert process.wait(20) == 1
    log = (world.cwd / "task_preparation.log").read_text()
    assert all(line in shown.decode().replace("\r", "") for line in log.splitlines())


def test_a_reader_who_has_seen_enough_ends_nothing(world: World) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = world.run("a", "b", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Successful: 2" in (world.cwd / "task_preparation.log").read_text()


def test_a_log_that_cannot_be_written_is_said_once_and_ends_nothing(world: World) -> None:
    result = world.run("a", "b", "--log-file", "/dev/full")
    assert result.returncode == 0 and "Successful: 2" in result.stdout
    assert result.stderr == "error: /dev/full: [Errno 28] No space left on device; going on without it\n"


# ---- what fails, and why

KEY = (
    "give an API token (kaggle.com, Settings) as KAGGLE_API_TOKEN or in ~/.kaggle/access_token (chmod 600), which Kaggle's client "
    "knows since 1.8; or the older kaggle.json in ~/.kaggle, ~/.config/kaggle or $KAGGLE_CONFIG_DIR, or KAGGLE_USERNAME and "
    "KAGGLE_KEY. Without Kaggle: --raw takes the zip that you fetched elsewhere"
)
RULES = "accept them at https://www.kaggle.com/c/{task}/rules, with the account of your API token, and prepare the task again"
CHECKSUM = (
    "checksum mismatch: not the files that the benchmark was made with; --skip-verification takes them, --overwrite-checksums "
    "records theirs as right; delete {data}/{task}/{task}.zip, if it is there, to download it again"
)
UNRESOLVED = "network fault: Failed to resolve 'www.kaggle.com' ([Errno -3] Temporary failure in name resolution)"
REASONS = {
    "credentials": f"Kaggle's credentials are missing, or not accepted: {KEY}",
    "new-credentials": f"Kaggle's credentials are missing, or not accepted: {KEY}",
    "refused": f"the credentials were refused (401): {KEY}",
    "new-refused": f"the credentials were refused (401): {KEY}",
    "new-rules": f"the competition's rules are not accepted: {RULES}",
    "new-client": "Kaggle's client is too new for mle-bench there: install kaggle<1.7 beside it, which knows kaggle.json only; or "
    "prepare it with scripts_hpc/prepare_tasks.sh, whose image knows API tokens too",
    "leaderboard-of-20": "--overwrite-leaderboard needs kaggle<1.7: newer clients give it 20 rows of a leaderboard, in a form that "
    "mle-bench doesn't read. Leave it out: all leaderboards come with mle-bench's checkout (git lfs pull)",
    "denied": f"Kaggle's credentials don't work: {KEY}",
    "rules": f"the competition's rules are not accepted: {RULES}",
    "forbidden": f"refused (403); most often the rules are not accepted: {RULES}",
    "checksum": CHECKSUM,
    "checksums": CHECKSUM,
    "unknown": "unknown task: mlebench has none of this id, nor has this project (`scripts_hpc/tasks.sh list`) "
    "or your folder of tasks (--tasks-dir)",
    "network": UNRESOLVED,
    "network-in-login": UNRESOLVED,
    "busy": "network fault: kaggle.rest.ApiException: (503) Reason: Service Unavailable",
    "certificate": "the server's certificate isn't trusted: set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to your site's CA bundle",
    "module": "the Python package `kaggle` is missing where mlebench runs: install it there",
    "killed": "killed by signal 9, most likely for lack of memory: fewer --threads, or a machine (a job) with more",
    "segfault": "ended by SIGSEGV: [2026-01-01 00:00:00,000] [data.py:213] Preparing {task}",
    "nothing": "mlebench ended well, but made no whole task: there is no {task}/prepared/public",
    "half": "mlebench ended well, but made no whole task: there is no {task}/prepared/private",
    "bug": "exit code 1: KeyError: 'target'",
    "silent": "exit code 5: [2026-01-01 00:00:00,000] [data.py:213] Preparing {task}",
}
RETRIED = {"network", "network-in-login", "busy"}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One run of a task for each way to fail."""
    world = World(tmp_path_factory.mktemp("failures") / "a world")
    for word in REASONS:
        (world.plans / f"t-{word}").write_text(f"{word}\n")
    assert world.run(*(f"t-{word}" for word in REASONS), "--threads", 4).returncode == 1
    return world


@pytest.mark.parametrize("word", REASONS)
def test_a_failure_has_a_reason_in_one_line(failures: World, word: str) -> None:
    task = f"t-{word}"
    reason = REASONS[word].format(task=task, data=failures.data)
    log = (failures.cwd / "task_preparation.log").read_text().splitlines()
    assert f"  - {task}: {reason}" in log
    said = [line for line in log if f" - ERROR - ✗ Failed to prepare {task} after" in line]
    assert len(said) == 1 and said[0].endswith(f"s: {reason} (output: {failures.data}/.preparing/logs/{task}.log)")
    assert task in failures.failed
    attempts = (failures.plans / f"{task}.attempts").read_text().count("x")
    assert attempts == (3 if word in RETRIED else 1)
    retries = [line for line in log if f" - WARNING - {task}: {reason}; trying again in 0.0s (retry " in line]
    assert len(retries) == attempts - 1


def test_failures_leave_nothing_but_a_whole_archive(failures: World) -> None:
    assert failures.files() == {"t-checksum/t-checksum.zip"}
    assert failures.is_clean()


def test_a_long_or_strange_last_word_is_one_clean_line(world: World) -> None:
    result = world.run(*world.plan(a="talks"))
    reason = next(line for line in result.stdout.splitlines() if line.startswith("  - a: "))
    assert re.fullmatch(r"  - a: exit code 4: .{150} … .{150}", reason) and reason.endswith("7 the end")
    assert "red  word: a long way 000" in reason


def test_a_fault_of_the_network_is_tried_again_on_clean_ground(world: World) -> None:
    result = world.run(*world.plan(a="network ok"), "--keep-raw")
    assert result.returncode == 0 and len(world.calls) == 2 and world.failed is None
    assert "attempt 2" in (world.data / "a/prepared/public/description.md").read_text()
    assert "a/raw/half" not in world.files()
    assert (world.data / "a/a.zip").read_text() == "part"  # Kaggle's client resumes it


def test_a_leaderboard_that_is_saved_is_no_failure(world: World) -> None:
    result = world.run(*world.plan(a="leaderboard"), "--overwrite-leaderboard", "--keep-raw", "--retries", 0)
    assert result.returncode == 0 and "WARNING" not in result.stdout
    given = [call.partition(" --data-dir")[0] for call in world.calls]
    assert given == [f"mlebench prepare -c a --keep-raw{more}" for more in (" --overwrite-leaderboard", "")]


@pytest.mark.parametrize("retries, calls", [(0, 1), (1, 2)])
def test_as_often_as_asked(world: World, retries: int, calls: int) -> None:
    assert world.run(*world.plan(a="busy"), "--retries", retries).returncode == 1
    assert len(world.calls) == calls


def test_pauses_double_give_or_take_a_quarter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = one.Preparation(settings(tmp_path, retry_wait=5.0), Commands("x"), str(tmp_path), print)
    pauses: list[float] = []
    monkeypatch.setattr(made.commands.stop, "wait", lambda seconds: bool(pauses.append(seconds)))
    for attempt in (0, 1, 2) * 50:
        made._pause("a", attempt, failures_module.Failure("x", retry=True))
    for attempt, middle in enumerate((5, 10, 20)):
        some = pauses[attempt::3]
        assert middle * 0.75 <= min(some) < middle < max(some) <= middle * 1.25


def settings(data: Path, **more: object) -> one.Settings:
    least = dict.fromkeys(("tasks_dir", "registry", "timeout"))
    given = {"data_dir": data, "data_from": "--data-dir", "backend": "mlebench", "options": backends.Options()}
    rest = {"force": False, "at_once": 1, "retries": 0, "retry_wait": 0.0, "min_free": 0.0}
    return one.Settings(**{**least, **given, **rest, **more})


def test_a_mistyped_id_is_guessed(world: World) -> None:
    result = world.run("classification_basik", backend=None, env={"PATH": "/usr/bin:/bin"})
    assert result.returncode == 1
    assert (
        "no command `mlebench` on the PATH" in result.stdout and "Did you mean classification_basic?" in result.stdout
    )


@pytest.mark.parametrize("program, task", [("mlebench", "a"), ("biomlbench", "a/b")])
def test_a_command_that_is_not_there_says_how_to_get_it(world: World, program: str, task: str) -> None:
    result = world.run(task, backend=program, env={"PATH": "/usr/bin:/bin"})
    assert result.returncode == 1 and world.failed == [task]
    assert f"  - {task}: there is no command `{program}` on the PATH: clone github.com/" in result.stdout
    assert "(output: " not in result.stdout


def test_a_timeout_is_announced_and_ends_all_of_a_task(world: World) -> None:
    tasks = world.plan(a="hang", b="ok")
    result = world.run(*tasks, "--timeout", "0.4")
    assert result.returncode == 1 and world.failed == ["a"]
    assert " - INFO - Each task may take 0.4 s (--timeout)\n" in result.stdout
    assert "  - a: timed out after 0.4 s (--timeout)\n" in result.stdout
    assert all(map(gone, world.pids("a"))) and world.is_clean()


def test_the_last_word_of_an_output_counts_not_what_was_overcome() -> None:
    output = (
        "WARNING Retrying after connection broken by 'NewConnectionError: Connection refused': /x\n"
        "ValueError: Checksums do not match for `a`!\n"
    )
    mlebench = backends.BACKENDS["mlebench"]
    failure = failures_module.failure(mlebench, "a", Path("/data"), 1, output)
    assert failure.reason.startswith("checksum mismatch") and not failure.retry
    reordered = "".join(reversed(output.splitlines(keepends=True)))
    assert failures_module.failure(mlebench, "a", Path("/data"), 1, reordered).retry


# ---- the disk


def test_no_room_is_said_before_anything_starts(world: World) -> None:
    result = world.run("a", "b", "--min-free", "1e9")
    assert result.returncode == 1 and world.calls == [] and world.failed == ["a", "b"]
    free = (
        r"only [\d.]+ GB free in .*/data \(--data-dir\), at least 1000000000\.00 GB are needed: "
        r"make room, or name another --data-dir \(--min-free sets the least\)"
    )
    assert len(re.findall(rf"^  - [ab]: {free}$", result.stdout, re.MULTILINE)) == 2


def test_a_disk_that_runs_full_ends_the_rest_at_once_and_leaves_nothing(world: World) -> None:
    result = world.run(*world.plan(a="ok", b="full", c="ok", d="ok"), "--threads", 1)
    assert result.returncode == 1 and world.failed == ["b", "c", "d"]
    assert [call.split()[3] for call in world.calls] == ["a", "b"]
    left = r"\([\d.]+ GB left in .*/data, --data-dir: make room, then run this again\)"
    reason = rf"the disk is full: cat: write error: No space left on device {left}"
    assert len(re.findall(rf"^  - [bcd]: {reason}$", result.stdout, re.MULTILINE)) == 3
    assert {path.partition("/")[0] for path in world.files()} == {"a"} and world.is_clean()


def test_a_disk_that_is_full_at_the_last_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "manifest.json")

    monkeypatch.setattr(layout, "publish", full)
    monkeypatch.setenv("PATH", f"{FAKES}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_PLANS", str(tmp_path))
    made = one.Preparation(settings(tmp_path / "data"), Commands("x"), str(tmp_path), print)
    (tmp_path / "data").mkdir()
    outcomes = [made.prepare(task) for task in ("a", "b")]
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    assert (
        outcomes[0].reason.startswith("the disk is full: manifest.json (") and outcomes[1].reason == outcomes[0].reason
    )
    assert not (tmp_path / "data/a").exists()


# ---- what is there already


def test_what_is_prepared_is_checked_not_assumed(world: World) -> None:
    assert world.run("a", "b").returncode == 0
    with open(world.data / "b/prepared/private/test.csv", "w") as file:
        file.write("cut")
    result = world.run("a", "b")
    assert result.returncode == 0 and len(world.calls) == 3 and "Already prepared: 1" in result.stdout
    assert (world.data / "b/prepared/private/test.csv").read_text() == "id,target\n1,1\n"


@pytest.mark.parametrize("option", ["--force", "--overwrite-checksums", "--overwrite-leaderboard"])
def test_what_is_prepared_is_prepared_again_when_asked(world: World, option: str) -> None:
    world.run("a")
    assert world.run("a", option).returncode == 0
    assert "attempt 2" in (world.data / "a/prepared/public/description.md").read_text()
    world.plan(a="bug")
    assert world.run("a", option).returncode == 1
    assert "attempt 2" in (world.data / "a/prepared/public/description.md").read_text()  # the old data stay


def test_two_invocations_prepare_a_task_once(world: World) -> None:
    world.plan(a="gate")
    first = world.start("a", "--failed-tasks", "first")
    until((world.plans / "a.waiting").exists)
    second = world.start("a", "--failed-tasks", "second", "--log-file", "second.log")
    log = world.cwd / "second.log"
    until(lambda: log.exists() and "INFO - a is being prepared by another process, waiting for it" in log.read_text())
    third = world.start("a", "--log-file", "third.log")
    log = world.cwd / "third.log"
    until(lambda: log.exists() and "waiting for it" in log.read_text())
    third.send_signal(signal.SIGINT)
    assert third.wait(20) == 130 and world.failed == ["a"]
    (world.plans / "a.open").touch()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert len(world.calls) == 1 and "Skipping a: it is already prepared" in (world.cwd / "second.log").read_text()


def test_archives_are_kept_for_the_next_attempt(world: World) -> None:
    world.plan(a="checksum")
    assert world.run("a").returncode == 1
    kept = (world.data / "a/a.zip").stat().st_ino
    assert world.run("a", "--skip-verification").returncode == 0
    assert (world.data / "a/a.zip").stat().st_ino == kept


def test_what_tasks_share_is_downloaded_once(world: World) -> None:
    tasks = [f"proteingym-dms/T{number}" for number in range(4)]
    for task in tasks:
        (world.plans / task.replace("/", "%")).write_text("shares\n")
    assert world.run(*tasks[:3], "--threads", 3, backend="biomlbench").returncode == 0
    assert world.run(*tasks, backend="biomlbench").returncode == 0
    assert len((world.plans / "downloads").read_text().splitlines()) == 1 and len(world.calls) == 4
    shared = world.data / "proteingym-dms/archives.zip"
    assert shared.is_file() and not shared.is_symlink() and world.is_clean()


def test_two_invocations_download_what_is_shared_once_and_then_nothing_waits(world: World) -> None:
    for number, word in enumerate(("shares-late", "shares", "gate", "gate")):
        (world.plans / f"proteingym-dms%T{number}").write_text(f"{word}\n")
    tasks = [f"proteingym-dms/T{number}" for number in range(4)]
    first = world.start(tasks[0], "--backend=biomlbench", "--failed-tasks", "first")
    until((world.plans / "proteingym-dms%T0.waiting").exists)
    second = world.start(*tasks[1:], "--threads", 3, "--backend", "biomlbench", "--log-file", "second.log")
    log = world.cwd / "second.log"
    until(lambda: log.exists() and "proteingym-dms is being prepared by another process" in log.read_text())
    (world.plans / "proteingym-dms%T0.open").touch()
    assert first.wait(20) == 0
    until(lambda: all((world.plans / f"proteingym-dms%T{number}.waiting").exists() for number in (2, 3)))
    for number in (2, 3):
        (world.plans / f"proteingym-dms%T{number}.open").touch()
    assert second.wait(20) == 0
    assert len((world.plans / "downloads").read_text().splitlines()) == 1


# ---- interruptions


def test_nothing_is_started_once_the_end_has_begun(tmp_path: Path) -> None:
    commands = Commands("x")
    commands.end_all()
    with open(tmp_path / "output", "wb") as output, pytest.raises(Stopped):
        commands.run(["touch", str(tmp_path / "started")], dict(os.environ), str(tmp_path), output, None)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_children_and_leaves_a_usable_state(world: World, number: int) -> None:
    tasks = world.plan(quick="ok", one="hang", two="escape", queued="ok")
    process = world.start(*tasks, "--threads", 2, grace=1000)
    children = world.pids("one") + world.pids("two")
    process.send_signal(number)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == 130
    assert world.failed == ["one", "two", "queued"]
    assert "Successful: 1\nFailed: 0\nNot finished: 3\n" in output and "\n  - queued\n" in output
    until(lambda: all(map(gone, children)))
    until(world.is_clean)
    assert sorted(call.split()[3] for call in world.calls) == ["one", "quick", "two"]
    world.plan(one="ok", two="ok")
    assert world.run("--task-list", "failed_tasks.txt").returncode == 0 and world.failed is None


def test_a_pause_before_a_retry_can_be_interrupted(world: World) -> None:
    process = world.start(*world.plan(a="busy"), "--retry-wait", 60)
    log = world.cwd / "task_preparation.log"
    until(lambda: log.exists() and "(retry 1 of 2)" in log.read_text())
    process.terminate()
    assert process.wait(20) == 130 and world.failed == ["a"] and len(world.calls) == 1


def test_asked_twice_it_kills_what_will_not_end(world: World) -> None:
    process = world.start(*world.plan(a="stubborn"), grace=1000)
    children = world.pids("a")
    process.send_signal(signal.SIGINT)
    until(lambda: "interrupted" in (world.cwd / "task_preparation.log").read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    until(lambda: all(map(gone, children)))


def test_what_will_not_end_is_killed_after_a_while(world: World) -> None:
    process = world.start(*world.plan(a="stubborn"), grace=0.2)
    children = world.pids("a")
    process.terminate()
    assert process.wait(20) == 130
    until(lambda: all(map(gone, children)))
    assert world.failed == ["a"] and world.is_clean()


def test_killed_it_takes_its_children_along_and_can_be_run_again(world: World) -> None:
    tasks = world.plan(quick="ok", one="hang", two="escape", queued="ok")
    process = world.start(*tasks, "--threads", 2)
    children = world.pids("one") + world.pids("two")
    until(lambda: world.failed == ["one", "two", "queued"])
    process.kill()
    until(lambda: all(map(gone, children)))
    assert world.failed == ["one", "two", "queued"]
    assert not (world.data / "one").exists()
    world.plan(one="ok", two="ok")
    assert world.run("--task-list", "failed_tasks.txt").returncode == 0
    until(world.is_clean)


def test_a_lost_connection_ends_nothing_under_nohup(world: World) -> None:
    process = world.start(*world.plan(a="gate"), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until((world.plans / "a.waiting").exists)
    process.send_signal(signal.SIGHUP)
    (world.plans / "a.open").touch()
    assert process.wait(20) == 0


def test_what_a_command_leaves_behind_is_ended_before_its_task_is_published(world: World) -> None:
    assert world.run(*world.plan(a="leftover")).returncode == 0
    assert all(map(gone, world.pids("a")))


# ---- backends


def test_commands_start_in_a_folder_of_their_own_and_share_the_cpus(world: World) -> None:
    of_eleven = "os.sched_getaffinity = lambda _: set(range(11))"  # whatever this machine has
    assert world.run("a", "b", "--threads", 8, patch=of_eleven).returncode == 0
    folders = [re.search(r"cwd (\S.*) threads (\S+)", call) for call in world.calls]
    assert len({found[1] for found in folders}) == 2 and {found[2] for found in folders} == {"5"}
    assert {path.name for path in world.cwd.iterdir()} == {"task_preparation.log"}
    world.run("c", "--threads", 8)
    world.run("d", "e", env={"OMP_NUM_THREADS": "7"})
    assert [call.rpartition(" ")[2] for call in world.calls[2:]] == ["none", "7", "7"]


@pytest.mark.parametrize(("cpus", "at_once", "share"), [(16, 4, "4"), (11, 3, "3"), (2, 8, "1"), (16, 1, None)])
def test_a_command_computes_on_its_share_of_the_cpus(
    monkeypatch: pytest.MonkeyPatch, cpus: int, at_once: int, share: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for backend in BACKENDS.values():
        environment = backend.environment(at_once)
        assert {environment.get(name) for name in THREAD_VARIABLES} == {share}


def test_the_id_tells_the_backend(world: World) -> None:
    mine = world.cwd / "mine"
    local_task(mine / "folder/local")
    result = world.run(
        "classification_basic", "folder/local", "folder/other", "comp", "--tasks-dir", "mine", backend=None
    )
    assert result.returncode == 0
    assert sorted(call.split()[0] for call in world.calls) == ["biomlbench", "mlebench"]
    made = {}
    for task in ("classification_basic", "folder/local", "folder/other", "comp"):
        made[task] = json.loads((world.data / task / "prepared/manifest.json").read_text())["backend"]
    assert list(made.values()) == ["own", "local", "biomlbench", "mlebench"]
    assert (world.data / "classification_basic/prepared/private").stat().st_mode & 0o777 == 0o700


def test_an_own_task_that_is_not_there_is_said_by_its_command(world: World) -> None:
    result = world.run("classification_basik", backend="own")
    assert result.returncode == 1
    assert "  - classification_basik: exit code 2: unknown task 'classification_basik'; there are: " in result.stdout


PREPARE = """
import csv
def prepare(raw, public, private):
    (public / "train.csv").write_text((raw / "data.csv").read_text())
    (public / "sample_submission.csv").write_text("id,target\\n0,0\\n1,0\\n")
    (private / "answers.csv").write_text("id,target\\n0,0\\n1,1\\n")
    (private / "grading.json").write_text('{"metric": "accuracy", "id_column": "id", "target_column": "target"}')
"""


def local_task(folder: Path, code: str = PREPARE) -> None:
    (folder / "raw").mkdir(parents=True)
    (folder / "raw/data.csv").write_text("id,x,target\n5,1,0\n")
    (folder / "description.md").write_text("# Mine\n")
    (folder / "prepare.py").write_text(code)


@pytest.mark.parametrize("parameters", ["raw, public, private", "private, public, raw"])
def test_a_local_folder_is_prepared_by_its_prepare_py(world: World, parameters: str) -> None:
    local_task(world.cwd / "mine/t", PREPARE.replace("raw, public, private", parameters))
    result = world.run("t", "--tasks-dir", "mine", backend="local")
    assert result.returncode == 0, result.stdout
    public = world.data / "t/prepared/public"
    assert (public / "description.md").read_text() == "# Mine\n" and (public / "train.csv").is_file()
    assert (world.data / "t/prepared/private").stat().st_mode & 0o777 == 0o700
    assert not (world.cwd / "mine/t/__pycache__").exists()


COPY = '"train.csv").write_text((raw / "data.csv").read_text())'
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("import csv", "raise ValueError('no luck')", "exit code 1: ValueError: no luck"),
        ("import csv", "import nothere", "the Python package `nothere` is missing where prepare.py runs"),
        (
            "import csv",
            "open('/dev/full', 'w').write('x' * 10**6)",
            "the disk is full: OSError: [Errno 28] No space left",
        ),
        ("import csv", KILL, "killed by signal 9"),
        (
            "(raw, public, private)",
            "(raw, private, answers)",
            "must define prepare(raw, public, private), with these names",
        ),
        ("def prepare", "def other", "must define prepare(raw, public, private)"),
        ('"train.csv"', '"answers.csv"', "exit code 1: public/answers.csv would be shown to the agents"),
        (COPY, '"train.csv").symlink_to(raw / "data.csv")', "public/train.csv is a link, which leads nowhere"),
        ('"sample_submission.csv"', '"sample.csv"', "prepare.py made no public/sample_submission.csv"),
        ('"grading.json"', '"grading.txt"', "prepare.py made no private/grading.json"),
        ('"accuracy"', '"beauty"', "unknown metric 'beauty'; there are: accuracy"),
        ("0,0\\n1,0", "0,0\\n2,0", "public/sample_submission.csv: Submission invalid! '2' in `id` is not an id"),
        ("id,target\\n0,0\\n1,1", "row,target\\n0,0\\n1,1", "answers.csv doesn't fit the metric accuracy"),
    ],
)
def test_a_broken_local_task_is_found_at_its_preparation(world: World, old: str, new: str, said: str) -> None:
    assert old in PREPARE
    local_task(world.cwd / "mine/t", PREPARE.replace(old, new))
    result = world.run("t", "--tasks-dir", "mine", backend="local")
    assert result.returncode == 1
    assert said in next(line for line in result.stdout.splitlines() if line.startswith("  - t: "))
    assert world.files() == set()


@pytest.mark.parametrize(
    "missing, said",
    [
        ("description.md", "prepare.py made no public/description.md"),
        ("raw", "t/raw: there is no such folder"),
        ("prepare.py", "t/prepare.py: there is no such file"),
    ],
)
def test_a_local_folder_must_be_whole(world: World, missing: str, said: str) -> None:
    folder = world.cwd / "mine/t"
    local_task(folder)
    (folder / missing).rename(world.cwd / "away")
    result = world.run("t", "--tasks-dir", "mine", backend="local")
    assert result.returncode == 1 and said in result.stdout


# ---- what options replace


OPTIONS = "--keep-raw, --overwrite-checksums"


def results(world: World, task: str) -> dict[str, str]:
    """A workflow that ran on the data of a task as they lie there; the variable that tells where it lies."""
    folder = world.cwd / "runs/2026-01-01T00-00-00-UTC_run-group_aide"
    folder.mkdir(parents=True)
    data = fingerprint.known(layout.prepared(world.data, task))
    (folder / "workflow.json").write_text(json.dumps({"competition": task, "data_fingerprint": data}))
    return {"HPC_PATHS__RUNS": str(world.cwd / "runs")}


def test_options_of_the_benchmarks_touch_no_other_task(world: World) -> None:
    local_task(world.cwd / "mine/t")
    given = ("classification_basic", "t", "--tasks-dir", "mine")
    assert world.run(*given, backend=None).returncode == 0
    before = {name: (world.data / name).stat().st_mtime_ns for name in world.files()}
    result = world.run(*given, "--overwrite-checksums", "--keep-raw", backend=None)
    assert result.returncode == 0
    said = f"WARNING - {OPTIONS}: of mle-bench's and BioML-bench's files; without effect on classification_basic, t"
    assert said in result.stdout and "Already prepared: 2" in result.stdout
    assert before == {name: (world.data / name).stat().st_mtime_ns for name in world.files()}
    world.plan(a="ok")
    result = world.run("a", "t", "--tasks-dir", "mine", "--keep-raw", backend=None)
    assert "--keep-raw: of mle-bench's and BioML-bench's files; without effect on t" in result.stdout


def test_data_with_results_are_replaced_with_force_and_a_word(world: World) -> None:
    world.plan(a="ok")
    assert world.run("a", backend=None).returncode == 0
    env = results(world, "a")
    result = world.run("a", "--overwrite-checksums", backend=None, env=env)
    assert result.returncode == 1 and len(world.calls) == 1
    newest = "2026-01-01T00-00-00-UTC_run-group_aide"
    assert (
        f"its results were made with the data that lie there (the newest: {newest}): --force replaces them"
        in result.stdout
    )
    result = world.run("a", "--overwrite-checksums", "--force", backend=None, env=env)
    assert result.returncode == 0 and len(world.calls) == 2
    assert f"WARNING - a: the data that its results were made with (the newest: {newest}) are replaced" in result.stdout
    assert (
        "are replaced" not in world.run("a", "--force", backend=None, env=env).stdout
    )  # there are no results on these


def test_local_tasks_need_a_folder(world: World) -> None:
    result = world.run("t", backend="local")
    assert "  - t: local tasks lie in --tasks-dir or paths.tasks of the site; neither is set\n" in result.stdout


def test_a_local_task_needs_room_for_its_raw_files(world: World, tmp_path: Path) -> None:
    local_task(tmp_path / "mine/t")
    local = backends.BACKENDS["local"]
    assert backends.bytes_needed(local, "t", str(tmp_path / "mine")) == len("id,x,target\n5,1,0\n")
    assert backends.bytes_needed(backends.BACKENDS["mlebench"], "t", str(tmp_path / "mine")) == 0


# ---- the layout's locks


@pytest.mark.parametrize("order", [1, -1])
def test_a_task_is_not_taken_for_another_with_a_similar_name(tmp_path: Path, order: int) -> None:
    ids = ("a", "a.b", "a.b.c", "a__b", "a/b", "a/b.c")[::order]
    with contextlib.ExitStack() as stack:
        made = []
        for task in ids:
            made.append(stack.enter_context(layout.staging(tmp_path, task)) / "made")
            made[-1].touch()
        assert all(path.exists() for path in made) and len(set(made)) == len(ids)


def test_a_site_is_needed_only_where_it_tells_something(world: World) -> None:
    """On a machine with Slurm that no site file fits: --data-dir says all that an own task needs."""
    sbatch = world.cwd / "bin/sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\nexit 9\n")
    sbatch.chmod(0o755)
    del world.env["HPC_SITE"]
    world.env["PATH"] = f"{sbatch.parent}:{world.env['PATH']}"
    code = world.run("classification_basic", backend=None)
    assert code.returncode == 0, code.stderr
    assert (world.data / "classification_basic/prepared/public/train.csv").is_file()
    code = world.run("classification_basic", backend=None, data=False)
    assert code.returncode == 2 and "no site file fits" in code.stderr
    world.env["HPC_SITE"] = "nirvana"
    code = world.run("classification_basic", backend=None)
    assert code.returncode == 2 and "nirvana" in code.stderr
