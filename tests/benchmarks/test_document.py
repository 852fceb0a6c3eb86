"""Document 001, "Results Organization", "Monitoring Progress" and "Analyzing Results": one round, held to what these sections say.

A line of the document is data here, with its section; `scripts/` of the document is helpers/ here (docs/documents.md). Its folders are
those of the site of this test, so that even `data/tasks/prepared/task_1` is as it stands there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = """
scheduler: {{kind: local}}
container: {{runtime: none}}
partitions: {{cpu: {{name: cpu}}, gpu: {{name: gpu}}}}
jobs: {{grading_server: {{cpus: 1, memory_gb: 1}}, agent: {{cpus: 1, memory_gb: 1, time_limit: 120}}}}
paths:
  data: {0}/data/tasks/prepared
  rollouts: {0}/data/rollouts
  runs: {0}/runs
  models: {0}/models
  containers: {0}/images
  address_dir: {0}/addresses
network: {{interface: lo}}
limits: {{grace_seconds: 3}}
"""
CONFIG = "parallel = 2\n" + "".join(
    f'\n[[tasks]]\nprepared_dir = "data/tasks/prepared/{task}"\nagent = "baseline"\n'
    + (f"seed = {number}\n" if number else "")
    for number, task in enumerate(("task_1", "task_2", "task_1"))
)
STAMP = r"\d{8}__\d\d-\d\d-\d\d"
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass(frozen=True)
class Place:
    """The folder of a person who works as the document does; screen: what the terminal showed, code: how the command ended."""

    folder: Path
    environment: dict[str, str]
    screen: str = ""
    code: int | None = None

    def __call__(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as the document writes it, with the round's own stamp."""
        line = line.replace("python scripts/", f"python {ROOT}/helpers/").replace("20250824__12-34-56", self.stamp)
        return subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )

    @property
    def stamp(self) -> str:
        [round] = (self.folder / "data" / "rollouts" / "your_benchmark").iterdir()
        return round.name

    @property
    def round(self) -> Path:
        return self.folder / "data" / "rollouts" / "your_benchmark" / self.stamp


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder in which `configs/your_benchmark.toml` has been run on a terminal."""
    folder = tmp_path_factory.mktemp("document")
    core = Path(os.environ["HAB_CORE_PYTHON"])
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    kept["PATH"] = f"{core.parent}:{kept['PATH']}"  # its `python`
    site, home = folder / "here.yaml", folder / "home"
    environment = kept | {"HOME": str(home), "HPC_SITE": str(site), "HAB_VENV_DIR": str(core.parents[2])}
    environment |= {"PYTHONPATH": str(ROOT), "TZ": "UTC"}  # as stamps are
    for made in (home, folder / "images", folder / "configs", folder / "definitions"):
        made.mkdir()
    site.write_text(SITE.format(folder), encoding="utf-8")
    (folder / "configs" / "your_benchmark.toml").write_text(CONFIG, encoding="utf-8")
    for task in ("task_1", "task_2"):
        text = (ROOT / "templates" / "tasks" / "classification_basic.json").read_text(encoding="utf-8")
        (folder / "definitions" / f"{task}.json").write_text(text.replace('"classification_basic"', f'"{task}"'))
        made = [
            str(core),
            "-m",
            "helpers.tasks.cli",
            "generate-data",
            task,
            str(folder / "data" / "tasks" / "prepared"),
        ]
        subprocess.run([*made, "--tasks-dir", str(folder / "definitions")], cwd=ROOT, check=True, capture_output=True)
    try:
        command = [str(core), str(ROOT / "helpers" / "eval_rollouts.py"), "run", "configs/your_benchmark.toml"]
        yield Place(folder, environment, *on_a_terminal(command, folder, environment))
    finally:
        end_jobs(folder)


def on_a_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    return shown.decode(), done.wait(timeout=60)


def end_jobs(folder: Path) -> None:
    """What a failed test leaves of jobs: their processes have the test's folder in their environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            held = path.read_bytes().split(b"\0")
            if any(
                one.startswith((f"HAB_LOCAL_JOB={folder}/".encode(), f"LOCAL_JOBS={folder}/".encode())) for one in held
            ):
                os.kill(int(path.parent.name), signal.SIGKILL)


# ---- "Results Organization"


def test_output_structure(place: Place) -> None:
    assert re.fullmatch(STAMP, place.stamp)
    for name in ("manifest.json", "runs.txt", "task_results"):
        assert (place.round / name).exists(), name
    assert (place.round / "task_results").is_dir()
    assert (place.folder / "data" / "rollouts" / "temp" / f"rollout_your_benchmark__{place.stamp}.json").is_file()
    runs = [place.folder / "data" / "runs" / f"{place.stamp}-{number}" for number in range(3)]
    assert (place.round / "runs.txt").read_text().splitlines() == [str(run) for run in runs]
    assert sorted(os.listdir(place.round / "task_results")) == [run.name for run in runs]


def test_manifest(place: Place) -> None:
    manifest = json.loads((place.round / "manifest.json").read_text())
    results = manifest.pop("results")
    assert manifest == {"config": "configs/your_benchmark.toml", "name": "your_benchmark", "created_at": place.stamp}
    for number, (result, task) in enumerate(zip(results, ("task_1", "task_2", "task_1"), strict=True)):
        told = {key: result[key] for key in ("run_id", "status", "launch_rc")}
        assert told == {"run_id": f"{place.stamp}-{number}", "status": "launched", "launch_rc": 0}
        assert result["task_dir"] == str(place.folder / "data" / "tasks" / "prepared" / task)


def test_individual_run_results(place: Place) -> None:
    run = place.folder / "data" / "runs" / f"{place.stamp}-0"
    told = json.loads((run / "evaluation_results.json").read_text())
    assert told["run_id"] == run.name and 0 < told["total_score"] <= 1
    assert (run / "logs").is_dir()


# ---- "Monitoring Progress"


def test_status_polling(place: Place) -> None:
    """The lines in their order; on a terminal those that turn are written over."""
    assert place.code == 0
    lines = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", place.screen)) if line]
    head = lines.index("[rollouts] config=configs/your_benchmark.toml name=your_benchmark tasks=3 parallel=2")
    assert lines[head + 1 : head + 4] == [
        f"[rollouts] output={place.round}",
        "[rollouts] Running in quiet mode - use -vv for full output",
        "[rollouts] Starting 3 tasks with parallel=2",
    ]
    turning = re.compile(rf"([{SPINNER}]) Running tasks\.\.\. ([0-3])/3 completed *")
    rest = lines[head + 4 : lines.index("✓ All 3 tasks completed!")]
    turns = [found.groups() for line in rest if (found := turning.fullmatch(line))]
    ended = [line for line in rest if not turning.fullmatch(line)]
    assert sorted(ended) == [f"✓ Task {place.stamp}-{number} completed (launched)" for number in range(3)]
    assert turns[0] == ("⠋", "0") and [count for _, count in turns] == sorted(count for _, count in turns)
    assert all(SPINNER[number % len(SPINNER)] == icon for number, (icon, _) in enumerate(turns))


def test_progress_only_mode(place: Place) -> None:
    """`-v`: "basic progress without status icons"."""
    (place.folder / "one.toml").write_text('[[tasks]]\ntask = "task_1"\nagent = "baseline"\n')
    done = place("python scripts/eval_rollouts.py run one.toml -v")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^\[rollouts\] finished: run_id={STAMP}-0 status=launched$", done.stderr, re.MULTILINE)
    assert not set(f"✓{SPINNER}") & set(done.stderr) and "quiet mode" not in done.stderr


# ---- "Summarize Results", "Analyzing Results"

LINES = {
    "Summarize Results, 1; Quick Summary, 1": "python scripts/eval_rollouts.py summarize your_benchmark --latest",
    "Summarize Results, 2": "python scripts/eval_rollouts.py summarize your_benchmark --rollout 20250824__12-34-56",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_summaries(place: Place, line: str) -> None:
    done = place(line)
    assert (done.returncode, done.stderr) == (0, "")
    text = (place.round / "summary.md").read_text(encoding="utf-8")
    assert done.stdout == text
    assert "| task | run | unit | lm | tokens | tools |" in text and "\n## Aggregates\n" in text
    assert re.search(r"^\| task_1 +\| +2 \| 0\.\d+ \| 0\.\d+ \| +N/A \| +N/A \|$", text, re.MULTILINE)


CUSTOM_ANALYSIS = """
import json
from pathlib import Path

# Load benchmark results
rollout_dir = Path("data/rollouts/your_benchmark/20250824__12-34-56")
manifest = json.loads((rollout_dir / "manifest.json").read_text())

# Analyze results
for result in manifest["results"]:
    run_dir = Path(result["run_dir"])
    if (run_dir / "evaluation_results.json").exists():
        eval_data = json.loads((run_dir / "evaluation_results.json").read_text())
        print(f"Task: {result['task_dir']}")
        print(f"Score: {eval_data.get('total_score', 'N/A')}")
        print("---")
"""


def test_custom_analysis(place: Place) -> None:
    text = CUSTOM_ANALYSIS.replace("20250824__12-34-56", place.stamp)
    done = subprocess.run([sys.executable, "-c", text], cwd=place.folder, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"(Task: \S+/task_[12]\nScore: 0\.\d+\n---\n){3}", done.stdout)


def test_inspect_failed_tasks(place: Place) -> None:
    """ "Debugging": what was prepared can be looked at where the configuration says it lies."""
    done = place("ls -la data/tasks/prepared/task_1/")
    assert done.returncode == 0 and "prepared" in done.stdout


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq isn't here")
def test_the_manifest_by_jq(place: Place) -> None:
    done = place(
        "cat data/rollouts/your_benchmark/20250824__12-34-56/manifest.json | jq -r '.results[] | [.run_id, .status] | @tsv'"
    )
    assert done.stdout.splitlines() == [f"{place.stamp}-{number}\tlaunched" for number in range(3)]


# ---- "Automated Benchmarking", "Result Comparison", "Cloud Infrastructure"

DAILY = """#!/bin/bash
# daily_benchmark.sh

DATE=$(date +%Y%m%d)
CONFIG="configs/daily_benchmark.toml"

echo "Starting daily benchmark: $DATE"
python scripts/eval_rollouts.py run "$CONFIG"

echo "Benchmark complete, results in data/rollouts/daily_benchmark/$DATE"
"""


def test_the_daily_script_and_the_loading_of_what_it_leaves(place: Place) -> None:
    (place.folder / "configs" / "daily_benchmark.toml").write_text('[[tasks]]\ntask = "task_2"\nagent = "baseline"\n')
    done = place(DAILY)
    assert done.returncode == 0, done.stderr
    *_, told = done.stdout.splitlines()
    folder = told.removeprefix("Benchmark complete, results in ")
    code = f"""
from helpers.eval_rollouts import get_task_score, load_benchmark
print(get_task_score(load_benchmark({folder!r}), "task_2"))
"""
    loaded = place(f"python - <<'PY'{code}PY")
    [run] = (place.folder / "data" / "rollouts" / "daily_benchmark").glob("*/manifest.json")
    assert loaded.stdout == f"{json.loads(run.read_text())['results'][0]['score']}\n", loaded.stderr


def test_another_backend_is_refused_with_a_sentence(place: Place) -> None:
    done = place("export SANDBOX_BACKEND=modal\npython scripts/eval_rollouts.py run configs/your_benchmark.toml")
    assert done.returncode == 2 and "SANDBOX_BACKEND=modal: agents run in Apptainer" in done.stderr
