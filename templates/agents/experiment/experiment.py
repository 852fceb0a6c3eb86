"""The experiment agent: runs a script, or its own pipeline, under the deadline, and says in files how it went.

Usage: experiment.py (no arguments)
Reads DATA_DIR, LOGS_DIR, CODE_DIR, and SUBMISSION_DIR or RESULTS_DIR, which stand for each other: where the submission and all
that a task asks for belong; EXPERIMENT_DIR, a workspace, where there is one; AGENT_SCRIPT, a .py, .ipynb or .sh file to run
instead of pipeline.py; AGENT_DEADLINE (unix seconds), else TIME_LIMIT_SECS; EXPERIMENT_NAME, TASK_TYPE and SEED.
A script starts in the current folder. Writes experiment_metadata.json, environment_info.json and completion_status.json or
error_status.json into EXPERIMENT_DIR/results (without a workspace into RESULTS_DIR; a script finds the folder in STATUS_DIR),
and usage.json, journal.json (of one step, in AIDE's format) and stderr.txt into LOGS_DIR.
Exit code: 0, or 1 with one line on stderr.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

from agent_processes import adopt_orphans, end_descendants

HERE = Path(__file__).parent
PIPELINE = ("pipeline.py", "reports.py", "charts.py", "tabular.py", "baseline.py")
COMMANDS = {
    ".py": [sys.executable, "-u"],
    ".sh": ["bash"],
    ".ipynb": [sys.executable, "-u", str(HERE / "run_notebook.py")],
}
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PACKAGES = (
    *("numpy", "pandas", "scipy", "scikit-learn", "statsmodels", "lightgbm", "xgboost", "xgboost-cpu", "torch"),
    *("matplotlib", "seaborn", "plotly", "jupyterlab", "nbconvert", "ipykernel"),
    *("mlflow", "wandb", "ray", "dask", "distributed"),
)


class Failed(Exception):
    """The experiment can't go on, or has failed; status is "failed", "timed_out" or "stopped"."""

    def __init__(self, problem: str, status: str = "failed", code: int | None = None):
        super().__init__(problem)
        self.status, self.code = status, code


class Experiment:
    """One experiment, as the environment describes it."""

    def __init__(self) -> None:
        self.started = time.time()
        environment = os.environ
        results = environment.get("RESULTS_DIR") or environment.get("SUBMISSION_DIR")
        workspace = environment.get("EXPERIMENT_DIR")
        given = {
            "RESULTS_DIR": results,
            "SUBMISSION_DIR": environment.get("SUBMISSION_DIR") or results,
            "STATUS_DIR": os.path.join(workspace, "results") if workspace else results,
        }
        given |= {name: environment.get(name) for name in ("DATA_DIR", "LOGS_DIR", "CODE_DIR")}
        missing = [name for name, value in given.items() if not value and name != "STATUS_DIR"]
        if missing:
            raise Failed(f"{', '.join(sorted(missing))} not set (start.sh and run_task.sh set them)")
        self.folders = {name: Path(value).absolute() for name, value in given.items()}
        for name in self.folders.keys() - {"DATA_DIR"}:
            self.folders[name].mkdir(parents=True, exist_ok=True)
        self.script = Path(environment["AGENT_SCRIPT"]).absolute() if environment.get("AGENT_SCRIPT") else None
        self.deadline = self._deadline()

    def _deadline(self) -> float | None:
        """When to have ended (unix seconds); with a limit alone, a moment before whoever set it ends us."""
        try:
            if os.environ.get("AGENT_DEADLINE"):
                return float(os.environ["AGENT_DEADLINE"])
            limit = float(os.environ.get("TIME_LIMIT_SECS") or "inf")
        except ValueError as error:
            raise Failed(f"AGENT_DEADLINE or TIME_LIMIT_SECS is not a number ({error})") from None
        return self.started + limit - min(5.0, limit * 0.05) if limit != float("inf") else None

    @property
    def has_submission(self) -> bool:
        return (self.folders["SUBMISSION_DIR"] / "submission.csv").is_file()

    def describe(self) -> None:
        """Write what is to be run, and with what; forget how an earlier experiment in the same folder ended."""
        results = self.folders["STATUS_DIR"]
        for name in ("completion_status.json", "error_status.json"):
            (results / name).unlink(missing_ok=True)
        metadata = {
            "experiment_name": os.environ.get("EXPERIMENT_NAME") or os.environ.get("TASK_ID") or "experiment",
            "task": os.environ.get("COMPETITION_ID") or os.environ.get("TASK_ID"),
            "task_type": os.environ.get("TASK_TYPE") or "general",
            "script": self.script and self.script.name,
            "seed": int(os.environ.get("SEED") or 0),
            "time_limit_seconds": None if self.deadline is None else round(self.deadline - self.started),
            "started_at": now(),
            "folders": {name: str(path) for name, path in self.folders.items()},
        }
        write_json(results / "experiment_metadata.json", metadata)
        write_json(results / "environment_info.json", surroundings())

    def command(self) -> list[str]:
        """The command to run; its code is kept in CODE_DIR."""
        if self.script is None:
            for name in PIPELINE:
                shutil.copyfile(HERE / name, self.folders["CODE_DIR"] / name)
            return [*COMMANDS[".py"], str(HERE / "pipeline.py")]
        if not self.script.is_file():
            raise Failed(f"there is no script {self.script} (AGENT_SCRIPT)")
        if self.script.suffix not in COMMANDS:
            raise Failed(f"{self.script.name}: a script must end in {', '.join(COMMANDS)}")
        copy = self.folders["CODE_DIR"] / self.script.name
        if not copy.exists() or not copy.samefile(self.script):
            shutil.copyfile(self.script, copy)
        return [*COMMANDS[self.script.suffix], str(self.script)]

    def run(self) -> None:
        """Run the command until it ends or the time is over. Raises Failed."""
        command = self.command()
        errors = None
        try:  # a signal may come while the process is being started
            process = subprocess.Popen(
                command,
                env=os.environ | {name: str(path) for name, path in self.folders.items()},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            errors = Errors(process.stderr, self.folders["LOGS_DIR"] / "stderr.txt", show=self.script is not None)
            code = process.wait(None if self.deadline is None else max(0.0, self.deadline - time.time()))
        except subprocess.TimeoutExpired:
            raise Failed(f"{Path(command[-1]).name} had not ended when its time was over", "timed_out") from None
        finally:
            end_descendants()
            if errors:
                errors.thread.join()
        if code:
            ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise Failed(f"{Path(command[-1]).name} {ended}{errors.last and f': {errors.last}'}", code=code)

    def report(self, failure: Failed | None) -> None:
        """Write the status, and what every agent leaves among its logs."""
        seconds = time.time() - self.started
        status = {
            "status": failure.status if failure else "completed",
            "success": failure is None,
            "exit_code": failure.code if failure else 0,
            "execution_time": round(seconds, 3),
            "submission": self.has_submission,
            "ended_at": now(),
        }
        if failure:
            status["error"] = str(failure)
        write_json(self.folders["STATUS_DIR"] / f"{'error' if failure else 'completion'}_status.json", status)
        counts = ("requests", "answers", "rate_limited", "server_errors", "prompt_tokens", "completion_tokens")
        usage = {"steps": 1, **dict.fromkeys(counts, 0), "cut_short": None}
        write_json(self.folders["LOGS_DIR"] / "usage.json", usage)
        journal = {"nodes": [self._node(failure, seconds)], "node2parent": {}, "__version": "2"}
        write_json(self.folders["LOGS_DIR"] / "journal.json", journal)

    def _node(self, failure: Failed | None, seconds: float) -> dict:
        done = {}
        if self.script is None and failure is None:
            done = json.loads((self.folders["STATUS_DIR"] / "ml_pipeline_results.json").read_text())
        code = self.script or HERE / "pipeline.py"
        return {
            "step": 0,
            "id": "experiment",
            "ctime": self.started,
            "plan": "A script." if self.script else "Explore the data and fit a baseline, no model asked.",
            "code": code.read_text(errors="replace") if code.is_file() else "",
            "exec_time": seconds,
            "exc_type": None if failure is None else failure.status,
            "analysis": str(failure) if failure else done.get("metric", ""),
            "metric": {"value": done.get("score"), "maximize": done.get("maximize")},
            "is_buggy": failure is not None,
        }


class Errors:
    """A process's standard error: copied to a file, shown as it comes where wanted, its last line remembered."""

    def __init__(self, stream, path: Path, show: bool):
        self.last = ""
        self.thread = threading.Thread(target=self._read, args=(stream, path, show), daemon=True)
        self.thread.start()

    def _read(self, stream, path: Path, show: bool) -> None:
        with open(path, "w", encoding="utf-8") as file:
            while line := stream.readline(65536):  # one without an end comes in pieces
                self.last = line.strip()[:500] or self.last
                file.write(line)
                file.flush()
                if show:
                    sys.stderr.write(line)


def surroundings() -> dict:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    image = Path("/opt/hab-image.json")
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "image": json.loads(image.read_text()) if image.is_file() else None,
        "packages": versions,
    }


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_json(path: Path, content: dict) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def stop(number: int, _) -> None:
    for other in STOPPING:  # once is enough: what follows is to be written whole
        signal.signal(other, signal.SIG_IGN)
    raise Failed(f"stopped by {signal.Signals(number).name}", "stopped")


def main() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    experiment, failure = None, None
    try:
        experiment = Experiment()
        adopt_orphans()
        for number in STOPPING:
            signal.signal(number, stop)
        experiment.describe()
        experiment.run()
    except Failed as error:
        failure = error
    except OSError as error:
        failure = Failed(f"{error.filename or 'a file'}: {error.strerror}")
    if experiment:
        experiment.report(failure)
    if failure:
        print(f"experiment: {failure}", file=sys.stderr, flush=True)
        return 1
    note = "" if experiment.has_submission else "; no submission.csv was written"
    print(f"step 1/1: done in {time.time() - experiment.started:.1f} s{note}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
