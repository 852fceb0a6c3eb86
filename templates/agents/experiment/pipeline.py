"""The experiment agent's own pipeline, for any task type: look at the data, fit a baseline, report.

Usage: pipeline.py (no arguments; experiment.py sets DATA_DIR, STATUS_DIR, SUBMISSION_DIR, TASK_TYPE and SEED)
EXPERIMENT_FOCUS: ml (a forest; for time series a linear model), dl (a small neural network) or data_analysis (as ml, and
charts of the data); default by TASK_TYPE, and by what is asked for. Writes the submission first, then
data_exploration_results.json and ml_pipeline_results.json into STATUS_DIR, and beside the submission those files that
description.md names and that it can honestly make: what it can't is listed, with why.
"""

import json
import os
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from baseline import make_model as forest
from tabular import solve

MOST_ROWS = 200_000  # that are looked at
MOST_FILES = 100  # that are listed
HELD_OUT = 0.2  # of the training rows, for a second look at the model
FOCUS = {"data_analysis": "data_analysis", "deep_learning": "dl"}  # by task type; all others: ml
OUTPUT = re.compile(r"[\w*-]+\.(?:csv|txt|md|json|png|pth|pt|npz|npy|joblib|pkl|onnx|safetensors|\*)")


@dataclass
class Evidence:
    """What is known of the data and the model, for reports and charts.

    held_out: truth and prediction of training rows that a second model of the same kind had not seen, in their order; None
    where a task has no labels. models: the estimators made, the last one fitted on all training rows.
    """

    data: Path
    description: str
    task_type: str
    focus: str
    train: pd.DataFrame | None = None
    id_column: str | None = None
    targets: list[str] = field(default_factory=list)
    exploration: dict[str, Any] = field(default_factory=dict)
    submission: Path = Path("submission.csv")
    metric: str = ""
    score: float = float("nan")
    training_seconds: float = 0.0
    held_out: pd.DataFrame | None = None
    models: list[Any] = field(default_factory=list)

    @property
    def title(self) -> str:
        return next(iter(self.description.strip().splitlines()), "").lstrip("# ") or "a task without a description"

    @property
    def measured(self) -> str:
        """The metric and its value, and how it was found."""
        how = "of the clusters" if self.metric == "silhouette" else "in cross-validation"
        return f"{self.metric} {self.score:.5g} {how}"

    @property
    def features(self) -> list[str]:
        return [name for name in self.train.columns if name not in (self.id_column, *self.targets)]

    @property
    def numeric(self) -> list[str]:
        return [name for name in self.features if pd.api.types.is_numeric_dtype(self.train[name])]

    @property
    def target(self) -> str | None:
        """The only target, where the training rows have it."""
        return self.targets[0] if len(self.targets) == 1 and self.targets[0] in self.train.columns else None

    @property
    def is_series(self) -> bool:
        """Whether the rows are in order of time (this project's own time series have a column `date`)."""
        return "date" in self.train

    @property
    def is_regression(self) -> bool:
        return self.metric == "rmse"

    @property
    def model(self) -> Any:
        return self.models[-1] if self.models else None


def network(classify: bool, seed: int) -> Any:
    """A small neural network of scikit-learn; it notes its loss after each epoch."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    options = {"hidden_layer_sizes": (128, 64), "alpha": 1e-3, "max_iter": 100, "random_state": seed}
    if classify:
        return MLPClassifier(**options)
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(MLPRegressor(**options), transformer=StandardScaler())  # wants targets around 0


def linear(classify: bool, seed: int) -> Any:
    """A linear model for the numbers of a time series: a forest never foretells more than it has seen."""
    from sklearn.linear_model import RidgeCV

    return forest(classify, seed) if classify else RidgeCV(np.logspace(-2, 3, 11))


def fit(evidence: Evidence, folder: Path, submission: Path, seed: int) -> tuple[str, float]:
    """Solve the task in a folder; its metric and cross-validated score."""

    def make(classify: bool, number: int) -> Any:
        kind = network if evidence.focus == "dl" else linear if evidence.is_series else forest
        evidence.models.append(kind(classify, number))
        return evidence.models[-1]

    temporary = submission.with_name(f".{submission.name}.new")
    try:
        metric, score = solve(folder, temporary, make, seed)
        os.replace(temporary, submission)
    finally:
        temporary.unlink(missing_ok=True)
    return metric, score


def look(evidence: Evidence) -> None:
    """Read the tables and describe them."""
    files = [path for path in sorted(evidence.data.rglob("*")) if path.is_file()]
    sizes = {str(path.relative_to(evidence.data)): path.stat().st_size for path in files}
    found: dict[str, Any] = {"bytes": sum(sizes.values()), "number_of_files": len(files)}
    found["files"] = dict(list(sizes.items())[:MOST_FILES])
    for path in sorted(evidence.data.iterdir())[:MOST_FILES]:
        if path.suffix == ".csv":
            found.setdefault("tables", {})[path.name] = describe(pd.read_csv(path, nrows=MOST_ROWS, low_memory=False))
        elif path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            found.setdefault("arrays", {})[path.name] = {"shape": list(array.shape), "type": str(array.dtype)}
    evidence.exploration = found
    missing = [n for n in ("train.csv", "test.csv", "sample_submission.csv") if n not in found.get("tables", {})]
    if missing:
        raise SystemExit(f"nothing to learn from: {evidence.data} has no {', '.join(missing)}")
    evidence.train = pd.read_csv(evidence.data / "train.csv", nrows=MOST_ROWS, low_memory=False)
    evidence.id_column, *evidence.targets = pd.read_csv(evidence.data / "sample_submission.csv", nrows=1).columns


def describe(table: pd.DataFrame) -> dict[str, Any]:
    columns = {}
    for name in table.columns[:200]:
        column = table[name]
        facts: dict[str, Any] = {"missing": int(column.isna().sum()), "different": int(column.nunique())}
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            facts |= {key: plain(value) for key, value in column.describe().items() if key != "count"}
        else:
            facts["most_frequent"] = {str(key)[:80]: int(count) for key, count in column.value_counts().head(5).items()}
        columns[str(name)] = facts
    return {"rows": len(table), "columns": columns, "repeated_rows": int(table.duplicated().sum())}


def plain(value: float) -> float | None:
    """A number as JSON takes it: no NaN, no infinity."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def hold_out(evidence: Evidence, seed: int) -> None:
    """Fit the same kind of model to a part of the training rows and predict the others."""
    if evidence.target is None:
        return
    rows = pd.read_csv(evidence.data / "train.csv", dtype=str, nrows=MOST_ROWS)
    rows = rows[rows[evidence.target].notna()]
    number = max(1, round(len(rows) * HELD_OUT))
    order = np.arange(len(rows))
    if not evidence.is_series:  # of a time series, the end is held out
        np.random.default_rng(seed).shuffle(order)
    known, hidden = np.sort(order[:-number]), np.sort(order[-number:])
    fitted = list(evidence.models)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows.iloc[known].to_csv(folder / "train.csv", index=False)
        rows.iloc[hidden].drop(columns=evidence.target).to_csv(folder / "test.csv", index=False)
        rows.iloc[hidden][[evidence.id_column, evidence.target]].to_csv(folder / "sample_submission.csv", index=False)
        for path in evidence.data.glob("train_*.npy"):
            array, places = np.load(path, mmap_mode="r", allow_pickle=False), rows.index.to_numpy()
            np.save(folder / path.name, array[places[known]])
            np.save(folder / path.name.replace("train_", "test_", 1), array[places[hidden]])
        fit(evidence, folder, folder / "predicted.csv", seed)
        predicted = pd.read_csv(folder / "predicted.csv", dtype=str)[evidence.target].to_numpy()
    evidence.models = fitted
    truth = rows.iloc[hidden][evidence.target].to_numpy()
    if evidence.is_regression:
        truth, predicted = truth.astype(float), predicted.astype(float)
    evidence.held_out = pd.DataFrame({"truth": truth, "predicted": predicted}, index=rows.index[hidden])
    if evidence.is_series:
        evidence.held_out["date"] = pd.to_datetime(rows["date"].iloc[hidden].to_numpy())


def wanted(evidence: Evidence) -> list[str]:
    """The files to make: those that the description names, and what belongs to the focus."""
    from charts import CHARTS
    from reports import REPORTS

    named = [name for name in dict.fromkeys(OUTPUT.findall(evidence.description)) if "submission" not in name]
    extra = {
        "data_analysis": ["analysis_report.md", "summary_statistics.json", *list(CHARTS)[:5]],
        "dl": ["model.*", "training_log.json", "training_curves.png"],
    }.get(evidence.focus, [])
    known = [name for name in named if name in REPORTS or name in CHARTS or name.startswith("model.")]
    if not any(name.endswith((".txt", ".md")) for name in known + extra):
        extra.append("model_summary.txt")
    if "analysis_report.md" in known:
        extra += list(CHARTS)[:5]
    return list(dict.fromkeys(known + extra))


def make_outputs(evidence: Evidence, seed: int) -> tuple[list[str], dict[str, str]]:
    """Make what is wanted; the names made, and the others with the reason."""
    from charts import CHARTS
    from reports import REPORTS, save_model

    made, left_out = [], {}
    try:
        hold_out(evidence, seed)
    except Exception as error:  # the submission is there, and reports go without it
        left_out["held-out rows"] = f"{type(error).__name__}: {error}"
    for name in wanted(evidence):
        try:
            if name.startswith("model."):
                made.append(save_model(evidence, evidence.submission.parent))
                continue
            (REPORTS.get(name) or CHARTS[name])(evidence, evidence.submission.with_name(name))
            made.append(name)
        except ImportError as error:
            left_out[name] = f"{error.name} is not installed"
        except Exception as error:  # one that fails is no reason to go without the others
            left_out[name] = f"{type(error).__name__}: {error}"
    return made, left_out


def main() -> None:
    data, results = Path(os.environ["DATA_DIR"]), Path(os.environ["STATUS_DIR"])
    task_type, seed = os.environ.get("TASK_TYPE") or "general", int(os.environ.get("SEED") or 0)
    description = data / "description.md"
    evidence = Evidence(
        data=data,
        submission=Path(os.environ["SUBMISSION_DIR"], "submission.csv"),
        description=description.read_text(errors="replace") if description.is_file() else "",
        task_type=task_type,
        focus=os.environ.get("EXPERIMENT_FOCUS") or FOCUS.get(task_type, "ml"),
    )
    if "EXPERIMENT_FOCUS" not in os.environ and "training_log.json" in evidence.description:
        evidence.focus = "dl"  # only what is trained in epochs has a log
    look(evidence)
    write(results / "data_exploration_results.json", evidence.exploration)
    started = time.time()
    evidence.metric, evidence.score = fit(evidence, data, evidence.submission, seed)
    evidence.training_seconds = time.time() - started
    print(f"{evidence.measured}, {evidence.training_seconds:.1f} s", flush=True)
    outcome = {
        "task_type": task_type,
        "focus": evidence.focus,
        "model": str(evidence.model) if evidence.models else "k-means",
        "metric": evidence.metric,
        "score": plain(evidence.score),
        "maximize": evidence.metric not in ("rmse", "log_loss"),
        "training_seconds": round(evidence.training_seconds, 3),
        "submission": evidence.submission.name,
    }
    write(results / "ml_pipeline_results.json", outcome)
    outcome["outputs"], outcome["left_out"] = make_outputs(evidence, seed)
    write(results / "ml_pipeline_results.json", outcome)
    for name, reason in outcome["left_out"].items():
        print(f"left out: {name}: {reason}", flush=True)


def write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
