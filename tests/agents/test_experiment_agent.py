"""The experiment agent: its workspace and status files, scripts, the deadline, its pipeline, and its variants."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from agent_support import AGENTS, USAGE, lay_out
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from helpers.config import entries, layers, sites
from helpers.lib import durations
from helpers.lib.errors import ConfigError
from helpers.rendering import render

FOLDER = AGENTS / "experiment"
# the agent, told to stop at the very moment when its script has been started
STOPPED_AT_THE_START = """
import os, runpy, signal, subprocess, sys
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if "-u" in arguments[0]:
            os.kill(os.getpid(), signal.SIGTERM)
subprocess.Popen = Popen
sys.path.insert(0, os.path.dirname(sys.argv[1]))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class Local:
    """The agent as a process with plain variables, without start.sh and services."""

    def __init__(self, base: Path, data: Path, options: Sequence[str] = (), **variables: str):
        self.results, self.logs, self.code = (base / name for name in ("results", "logs", "code"))
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(base),
            "OMP_NUM_THREADS": "1",
            "DATA_DIR": str(data),
            "RESULTS_DIR": str(self.results),
            "LOGS_DIR": str(self.logs),
            "CODE_DIR": str(self.code),
            **variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, *options, lay_out(FOLDER, base / "agent") / "experiment.py"],
            cwd=base,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=40)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode, out, err

    def result(self, name: str) -> dict:
        return json.loads((self.results / f"{name}.json").read_text())

    def has(self, name: str) -> bool:
        return (self.results / f"{name}.json").exists()


@pytest.fixture
def script(tmp_path):
    """Writes a script; returns its path as AGENT_SCRIPT wants it."""

    def write(text: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


# ---- as a job of a workflow runs it


def test_its_workspace_and_all_that_it_leaves(make_world, grading, data, tmp_path):
    experiments = tmp_path / "experiments"
    experiments.mkdir()
    world = make_world("experiment", EXPERIMENT_DIR=str(experiments), EXPERIMENT_NAME="test-task_1")
    world.publish(GRADING_SERVER=grading.url, GRADING_TOKEN=grading.token)
    world.start()
    code, out, err = world.finish()
    assert (code, err) == (0, "")
    assert "accuracy" in out and "Submission is valid." in out
    folders = {path.name for path in experiments.iterdir() if path.is_dir() and not path.is_symlink()}
    assert folders == {"workspace", "models", "results", "notebooks", "scripts", "configs"}
    links = {path.name: os.readlink(path) for path in experiments.iterdir() if path.is_symlink()}
    assert links == {"data": str(data)} | {
        name: str(world.folder[name.upper()]) for name in ("code", "logs", "submission")
    }
    results = {path.name: json.loads(path.read_text()) for path in (experiments / "results").iterdir()}
    assert set(results) == {
        "experiment_metadata.json",
        "environment_info.json",
        "completion_status.json",
        "data_exploration_results.json",
        "ml_pipeline_results.json",
    }
    metadata, done = results["experiment_metadata.json"], results["completion_status.json"]
    assert (metadata["experiment_name"], metadata["task_type"], metadata["seed"]) == ("test-task_1", "general", 7)
    assert (done["status"], done["success"], done["exit_code"], done["submission"]) == ("completed", True, 0, True)
    assert results["environment_info.json"]["packages"]["scikit-learn"]
    explored = results["data_exploration_results.json"]["tables"]["train.csv"]
    assert explored["rows"] == 150 and explored["columns"]["c"]["missing"] > 0
    assert "GRADING_TOKEN" not in json.dumps(results) and grading.token not in json.dumps(results)
    outcome = results["ml_pipeline_results.json"]
    node = world.logged("journal.json")["nodes"][0]
    assert node["metric"] == {"value": outcome["score"], "maximize": True} and not node["is_buggy"]
    assert 0.7 < outcome["score"] <= 1 and outcome["outputs"] == ["model_summary.txt"]
    assert world.logged("usage.json") == USAGE
    assert (world.folder["CODE"] / "tabular.py").read_text() == (AGENTS / "common" / "tabular.py").read_text()
    assert (world.folder["SUBMISSION"] / "model_summary.txt").is_file()
    assert world.leftovers() == {}


# ---- what goes wrong


def test_data_that_it_can_do_nothing_with(tmp_path, data):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "train.csv").write_text("id,y\n1,2\n")
    run = Local(tmp_path, bare)
    code, out, err = run.finish()
    assert (code, out) == (1, "")
    assert err == (
        f"experiment: pipeline.py ended with code 1: nothing to learn from: {bare} has no test.csv, sample_submission.csv\n"
    )
    status = run.result("error_status")
    assert (status["status"], status["success"], status["exit_code"]) == ("failed", False, 1)
    assert status["error"] == err.strip().removeprefix("experiment: ")
    assert not run.has("completion_status") and run.has("experiment_metadata") and run.has("environment_info")
    assert json.loads((run.logs / "journal.json").read_text())["nodes"][0]["is_buggy"]


def test_missing_variables_are_named(tmp_path, data):
    code, out, err = Local(tmp_path, data, DATA_DIR="", RESULTS_DIR="").finish()
    assert (code, out) == (1, "")
    assert err.startswith("experiment: DATA_DIR, RESULTS_DIR, SUBMISSION_DIR not set")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("bad.py", "print('half')\nraise ValueError('no idea')\n", "bad.py ended with code 1: ValueError: no idea"),
        ("bad.sh", "echo why >&2\nexit 7\n", "bad.sh ended with code 7: why"),
        ("killed.sh", "kill -KILL $$\n", "killed.sh was ended by SIGKILL"),
        ("odd.txt", "", "odd.txt: a script must end in .py, .sh, .ipynb"),
        ("note.ipynb", "{}", "run_notebook.py"),
    ],
)
def test_scripts_that_fail(tmp_path, data, script, name, text, problem):
    run = Local(tmp_path, data, AGENT_SCRIPT=script(text, name))
    code, _, err = run.finish()
    if name == "note.ipynb":  # it is run by a program of ours
        problem = "note.ipynb ended with code 1: nbformat is not installed: notebooks need nbclient and ipykernel"
    assert code == 1 and err.splitlines()[-1] == f"experiment: {problem}"
    assert run.result("error_status")["error"] == problem and not run.has("completion_status")


def test_a_script_that_is_not_there(tmp_path, data):
    run = Local(tmp_path, data, AGENT_SCRIPT="/nowhere/x.py")
    assert run.finish()[0] == 1
    assert run.result("error_status")["error"] == "there is no script /nowhere/x.py (AGENT_SCRIPT)"


def test_the_deadline_ends_a_script_and_its_daemons(tmp_path, data, script):
    text = "import os, subprocess, time\n"
    text += "open('submission', 'w')\nsubprocess.Popen(['setsid', 'sleep', '97.25'])\nprint('on', flush=True)\ntime.sleep(60)\n"
    began = time.time()
    run = Local(tmp_path, data, AGENT_SCRIPT=script(text), AGENT_DEADLINE=str(began + 2))
    code, out, err = run.finish()
    assert (code, out) == (1, "on\n") and 1.9 < time.time() - began < 6
    assert err == "experiment: mine.py had not ended when its time was over\n"
    assert run.result("error_status")["status"] == "timed_out"
    assert subprocess.run(["pgrep", "-f", "sleep 97.25"], capture_output=True).returncode == 1


def test_a_limit_alone_ends_it_before_whoever_set_it_does(tmp_path, data, script):
    run = Local(tmp_path, data, AGENT_SCRIPT=script("import time; time.sleep(60)"), TIME_LIMIT_SECS="2")
    assert run.finish()[0] == 1
    assert run.result("error_status")["execution_time"] < 2


def test_a_signal_ends_it_with_a_status(tmp_path, data, script):
    run = Local(tmp_path, data, AGENT_SCRIPT=script("print('on', flush=True)\nimport time; time.sleep(60)"))
    assert run.process.stdout.readline() == "on\n"
    run.process.terminate()
    code, _, err = run.finish()
    assert (code, err) == (1, "experiment: stopped by SIGTERM\n")
    assert run.result("error_status")["status"] == "stopped"


def test_a_signal_while_the_script_is_started_leaves_nothing_behind(tmp_path, data, script):
    run = Local(tmp_path, data, ("-c", STOPPED_AT_THE_START), AGENT_SCRIPT=script("import time; time.sleep(60)"))
    code, _, err = run.finish()  # waits for whoever holds the agent's output
    assert (code, err) == (1, "experiment: stopped by SIGTERM\n")
    assert run.result("error_status")["status"] == "stopped"


# ---- scripts that work


def test_a_script_finds_its_folders_and_replaces_what_an_earlier_run_left(tmp_path, data, script):
    text = """
import os, pathlib, shutil, sys
folders = {name: pathlib.Path(os.environ[name]) for name in ("DATA_DIR", "RESULTS_DIR", "SUBMISSION_DIR", "LOGS_DIR", "CODE_DIR")}
assert all(path.is_dir() for path in folders.values())
shutil.copy(folders["DATA_DIR"] / "sample_submission.csv", folders["SUBMISSION_DIR"] / "submission.csv")
print("a warning", file=sys.stderr)
"""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "error_status.json").write_text("{}")
    run = Local(tmp_path, data, AGENT_SCRIPT=script(text), TASK_ID="toy", TASK_TYPE="classification")
    code, out, err = run.finish()
    assert (code, err) == (0, "a warning\n") and out.startswith("step 1/1: done in ")
    assert not run.has("error_status") and run.result("completion_status")["submission"]
    metadata = run.result("experiment_metadata")
    assert (metadata["script"], metadata["task"], metadata["task_type"]) == ("mine.py", "toy", "classification")
    assert (run.code / "mine.py").read_text() == text and (run.logs / "stderr.txt").read_text() == "a warning\n"


def test_a_script_without_a_submission_says_so(tmp_path, data, script):
    run = Local(tmp_path, data, AGENT_SCRIPT=script("true", "nothing.sh"))
    code, out, err = run.finish()
    assert (code, err) == (0, "") and out.endswith("; no submission.csv was written\n")
    assert run.result("completion_status")["submission"] is False


# ---- the pipeline, in this process and with quick models


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """Runs the pipeline on a folder; returns its outcome and the folder of its files."""
    monkeypatch.syspath_prepend(str(lay_out(FOLDER, tmp_path / "agent")))
    for name in ("pipeline", "reports", "charts", "tabular", "baseline"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import pipeline as module

    def tree(classify, seed):
        return (DecisionTreeClassifier if classify else DecisionTreeRegressor)(max_depth=4, random_state=seed)

    monkeypatch.setattr(module, "forest", tree)

    def run(data: Path, **variables: str):
        results = tmp_path / "results"
        results.mkdir()
        for name, value in {"DATA_DIR": data, "STATUS_DIR": results, "SUBMISSION_DIR": results, **variables}.items():
            monkeypatch.setenv(name, str(value))
        module.main()
        return json.loads((results / "ml_pipeline_results.json").read_text()), results

    yield run
    for name in ("pipeline", "reports", "charts", "tabular", "baseline"):
        sys.modules.pop(name, None)


def table(folder: Path, frame: pd.DataFrame, description: str, known: int, labels: bool = True) -> Path:
    """A task as this project prepares it: the first `known` rows have targets."""
    folder.mkdir()
    frame.insert(0, "id", range(len(frame)))
    train = frame[:known] if labels else frame[:known].drop(columns="target")
    train.to_csv(folder / "train.csv", index=False)
    frame[known:].drop(columns="target").to_csv(folder / "test.csv", index=False)
    frame[known:][["id"]].assign(target=frame["target"].iloc[0]).to_csv(folder / "sample_submission.csv", index=False)
    (folder / "description.md").write_text(description)
    return folder


def features(rows: int, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, 3)), columns=["a", "b", "c"])


def test_reports_hold_what_is_true(pipeline, tmp_path):
    frame = features(250).assign(d=lambda f: f["a"] + f["b"] / 2, target=lambda f: 10 * f["a"] + f["c"])
    data = table(tmp_path / "t", frame.copy(), "# Numbers\nWrite `model_analysis.txt` and `x_chart.png`.", 200)
    outcome, results = pipeline(data, TASK_TYPE="regression")
    assert (outcome["metric"], outcome["outputs"], outcome["left_out"]) == ("rmse", ["model_analysis.txt"], {})
    report = (results / "model_analysis.txt").read_text()
    train = pd.read_csv(data / "train.csv")
    assert "Task: Numbers (regression)" in report and f"rmse {outcome['score']:.5g} in cross-validation" in report
    assert f"mean {train['target'].mean():.4g}" in report
    assert f"`a` and `d`: their correlation is {train['a'].corr(train['d']):.2f}" in report
    assert "On 40 held-out rows" in report
    assert len(pd.read_csv(results / "submission.csv")) == 50


def test_statistics_and_findings_of_an_analysis(pipeline, tmp_path):
    frame = features(300).assign(target=lambda f: (f["a"] > 0.8).map({True: "yes", False: "no"}))
    frame.loc[:29, "b"] = np.nan
    outcome, results = pipeline(table(tmp_path / "t", frame, "# Look\nWrite `analysis_report.md`.", 300 - 60))
    assert [name for name in outcome["outputs"] if not name.endswith(".png")] == ["analysis_report.md"]
    train = pd.read_csv(tmp_path / "t" / "train.csv")
    report = (results / "analysis_report.md").read_text()
    yes = int((train["target"] == "yes").sum())
    assert f"yes in {yes} rows ({yes / 240:.1%})" in report and "`b` lacks most: 30 values (12.5%)" in report
    assert "`a` (" in report.split("Taken alone, ")[1][:10]


def test_a_focus_makes_its_own_files_and_charts_say_why_not(pipeline, tmp_path):
    frame = features(120).assign(target=lambda f: (f["a"] > 0).astype(int))
    outcome, results = pipeline(table(tmp_path / "t", frame, "", 100), EXPERIMENT_FOCUS="data_analysis")
    statistics = json.loads((results / "summary_statistics.json").read_text())
    train = pd.read_csv(tmp_path / "t" / "train.csv")
    assert statistics["columns"]["a"]["mean"] == pytest.approx(train["a"].mean(), rel=1e-4)
    assert max(statistics["association_with_target"], key=statistics["association_with_target"].get) == "a"
    charts = {name for name in [*outcome["outputs"], *outcome["left_out"]] if name.endswith(".png")}
    assert len(charts) == 5
    assert {reason for reason in outcome["left_out"].values()} <= {"matplotlib is not installed"}


def test_a_network_notes_its_epochs(pipeline, tmp_path):
    frame = features(120).assign(target=lambda f: (f["a"] > 0).astype(int))
    rng = np.random.default_rng(1)
    data = table(tmp_path / "t", frame, "Write `model.*`, `training_log.json` and `confusion_matrix.png`.", 100)
    for name, rows in (("train", 100), ("test", 20)):
        np.save(data / f"{name}_images.npy", rng.integers(0, 255, (rows, 4, 4, 1), dtype=np.uint8))
    outcome, results = pipeline(data)  # a log of its training can only be had from a network
    assert outcome["focus"] == "dl" and outcome["model"].startswith("MLPClassifier")
    losses = [epoch["loss"] for epoch in json.loads((results / "training_log.json").read_text())["epochs"]]
    assert len(losses) > 5 and losses[-1] < losses[0]
    weights = np.load(results / "model.npz", allow_pickle=False)
    assert weights["weights_0"].shape[1] == 128


def test_a_forest_has_no_epochs_to_show(pipeline, tmp_path):
    frame = features(120).assign(target=lambda f: f["a"] > 0)
    outcome, results = pipeline(
        table(tmp_path / "t", frame, "Write `training_log.json` and `model.pth`.", 100), EXPERIMENT_FOCUS="ml"
    )
    assert "isn't trained in epochs" in outcome["left_out"]["training_log.json"]
    assert "model.joblib" in outcome["outputs"] and (results / "model.joblib").stat().st_size > 100


def test_of_a_time_series_the_end_is_held_out(pipeline, tmp_path):
    frame = features(200).assign(date=pd.date_range("2020-01-01", periods=200).strftime("%Y-%m-%d"))
    frame["target"] = np.arange(200) + frame["a"]
    data = table(tmp_path / "t", frame, "Write `model_diagnostics.txt`.", 150)
    _, results = pipeline(data, TASK_TYPE="time_series")
    # 150 days: the last 30 of them
    assert (
        "The rows run from 2020-04-30 to 2020-05-29, after all others."
        in (results / "model_diagnostics.txt").read_text()
    )


def test_rows_without_labels_are_grouped(pipeline, tmp_path):
    frame = features(120)
    frame["target"] = np.arange(120) % 3
    frame[["a", "b", "c"]] += 20 * frame[["target"]].to_numpy()
    outcome, results = pipeline(table(tmp_path / "t", frame, "", 100, labels=False), TASK_TYPE="clustering")
    assert (outcome["metric"], outcome["model"], outcome["left_out"]) == ("silhouette", "k-means", {})
    assert pd.read_csv(results / "submission.csv")["target"].nunique() == 3


# ---- variants are parameters


def agents_file(tmp_path, monkeypatch, text):
    (tmp_path / "agents.yaml").write_text(text)
    for module in (entries, layers, sites):
        monkeypatch.setattr(module, "SITE_DIR", tmp_path)


def test_the_specifications_agents():
    known = entries.agents()
    limits = {name: entry.time_limit for name, entry in known.items() if name.startswith("experiment")}
    assert limits == dict.fromkeys(["experiment", "experiment/data-analysis", "experiment/ml", "experiment/dl"]) | {
        "experiment/dev": 600,
        "experiment/long": 14400,
    }
    assert known["experiment/dl"].variables == known["experiment"].variables | {"EXPERIMENT_FOCUS": "dl"}
    assert known["experiment/dl"].path == known["experiment"].path


def test_variants_with_problems_are_all_named(tmp_path, monkeypatch):
    text = "x:\n  image: aide\n  command: 'true'\n  variants:\n"
    text += "    a: {timelimit: 5, steps: 0}\n    b: {variants: {}}\n    c: {folder: baseline}\n    d: {steps: 3}\n"
    agents_file(tmp_path, monkeypatch, text)
    with pytest.raises(ConfigError) as caught:
        entries.agents()
    problems = "\n".join(caught.value.problems)
    assert "x.variants.a: timelimit: unknown key. Keys here: command, " in problems
    assert "x.variants.a: steps: " in problems and "x.variants.b: variants: a variant can't change this key" in problems
    assert "x.variants.c: needs either" in problems and "variants.d" not in problems


def test_an_unknown_variant_lists_the_known_ones():
    with pytest.raises(ConfigError, match="agent 'experiment/deep': .*experiment/dl, experiment/dev"):
        entries.agent("experiment/deep")


@pytest.mark.parametrize(
    ("name", "given", "limit"), [("experiment", None, 900), ("experiment/dev", None, 600), ("experiment/dev", 60, 60)]
)
def test_whose_time_limit_counts(name, given, limit):
    site = sites.load_site("local")
    text = render.agent_script(site, entries.agent(name), time_limit=given)
    assert f"\nTIME_LIMIT={limit}\n" in text
    job = durations.seconds(text.partition("#SBATCH --time=")[2].split()[0])
    assert job == render.agent_seconds(limit, [])


def test_a_variants_script_and_what_it_is_given():
    site = sites.load_site("local")
    entry = entries.agent("experiment/dl")
    text = render.agent_script(site, entry, script="/r/jobs/script.py")
    assert "#SBATCH --job-name=agent_experiment-dl\n" in text and "\nAGENT=experiment/dl\n" in text
    assert "  [EXPERIMENT_FOCUS]=dl\n" in text
    assert "\nSCRIPT=/r/jobs/script.py\n" in text and "CONTAINER_ENV[AGENT_SCRIPT]=" in text
    plain = render.agent_script(site, entry)
    assert "AGENT_SCRIPT" not in plain and "TASK_TYPE" not in plain
