"""An agent that really solves the tasks: `solve(public, results, required)` writes every output that a template requires.

It sees the public half only. scikit-learn and Pillow are all it needs. The charts are those of examples/tasks.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeCV
from sklearn.metrics import silhouette_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "tasks"


def example(name: str) -> Any:
    """One of the example scripts, as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


charts = example("data_analysis_example")


def solve(public: Path, results: Path, required: list[str]) -> None:
    """Write submission.csv and the other outputs, by their names."""
    train, test = pd.read_csv(public / "train.csv"), pd.read_csv(public / "test.csv")
    with threadpool_limits(1):  # small data: more threads would only get into each other's way
        work = Work(public, train, test)
    pd.DataFrame({"id": test["id"], "target": work.predictions}).to_csv(results / "submission.csv", index=False)
    for name in required:
        if name == "model.*":
            np.savez(results / "model.npz", **{f"weights_{n}": w for n, w in enumerate(work.weights)})
        elif name.endswith(".png"):
            work.chart(name).save(results / name)
        elif name == "training_log.json":
            (results / name).write_text(json.dumps({"iterations": len(work.losses), "loss": work.losses}))
        elif name == "summary_statistics.json":
            (results / name).write_text(json.dumps(charts.summarise(train)))
        elif name == "analysis_report.md":
            (results / name).write_text(work.report() + "\n" + "\n".join(f"- {line}" for line in work.findings()))
        elif name != "submission.csv":
            (results / name).write_text(work.report())
    if "summary_statistics.json" in required:
        for name in ("label_counts.png", "scatter_plot.png"):
            work.chart(name).save(results / name)


class Work:
    """A model of one task, held back rows to judge it by, and what there is to say and to show of it."""

    def __init__(self, public: Path, train: pd.DataFrame, test: pd.DataFrame) -> None:
        self.train, self.test = train, test
        x, x_test = features(public, train), features(public, test, "test")
        self.x = x
        if "target" not in train:
            self.model = best_k_means(np.vstack([x, x_test]))
            self.score, self.metric = self.model.inertia_, "inertia"
            self.truth = self.guess = self.model.predict(x)
            self.weights = [self.model.cluster_centers_]
            self.predictions = self.model.predict(x_test)
            return
        target = train["target"].to_numpy()
        is_number = train["target"].nunique() > 50
        in_order = "date" in train
        x_fit, x_held, fit, self.truth = train_test_split(
            x, target, test_size=0.2, random_state=0, shuffle=not in_order
        )
        self.model = choose(public, is_number, x)
        self.model.fit(x_fit, fit)
        self.guess = self.model.predict(x_held)
        self.score, self.metric = self.model.score(x_held, self.truth), "R2" if is_number else "accuracy"
        if (public / "train_images.npy").exists():
            self.losses = learning_curve(x_fit, fit, x_held, self.truth)
        self.predictions = self.model.fit(x, target).predict(x_test)
        self.weights = [self.model[-1].coef_]

    def report(self) -> str:
        """A report in prose."""
        return (
            f"The final model is a {type(self.model[-1] if hasattr(self.model, 'steps') else self.model).__name__}.\n"
            f"It was trained with all {len(self.train)} rows of train.csv, after scaling where that helps; rows that were\n"
            f"held back gave {self.metric} = {self.score:.4f}. There are {self.x.shape[1]} inputs a row.\n"
            f"submission.csv holds a prediction of target for each of the {len(self.test)} rows in test.csv.\n"
        )

    def findings(self) -> list[str]:
        """Findings with figures."""
        return charts.find(self.train, [name for name in self.test.columns if name != "id"])

    def chart(self, name: str) -> Any:
        """An image, by the name that the task gives it."""
        columns = self.train.drop(columns=["id", "target"], errors="ignore").select_dtypes("number")
        truth, guess = self.truth, self.guess
        if name == "distribution_plot.png":
            return charts.histograms(columns.iloc[:, :4])
        if name == "correlation_heatmap.png":
            return charts.heatmap(columns.corr().abs(), "Correlations")
        if name == "outlier_analysis.png":
            return charts.boxplot(columns)
        if name == "label_counts.png":
            return charts.bars(list(self.train["target"].value_counts()), "Labels")
        if name == "scatter_plot.png":
            return charts.scatter(columns.iloc[:, 0], columns.iloc[:, 1], self.train["target"], "Two features")
        if name == "cluster_plot.png":
            return charts.scatter(self.x[:, 0], self.x[:, 1], guess, "Clusters")
        if name == "forecast_plot.png":
            chart = charts.Chart("Forecast", (0, len(truth)), charts.limits(truth, guess), ("day", "target"))
            chart.line(range(len(truth)), truth, "blue")
            chart.line(range(len(guess)), guess, "red")
            return chart.image
        if name == "residual_analysis.png":
            return charts.scatter(guess, truth - guess, np.zeros(len(guess)), "Residuals", ("forecast", "residual"))
        if name == "training_curves.png":
            chart = charts.Chart("Loss", (0, len(self.losses)), charts.limits(self.losses), ("iteration", "loss"))
            chart.line(range(len(self.losses)), self.losses, "blue")
            return chart.image
        if name == "confusion_matrix.png":
            return charts.heatmap(pd.crosstab(truth, guess).to_numpy(), "Confusion")
        chart = charts.Chart("Samples", (0, 6), (0, 4))
        for number, sample in enumerate(np.load(self.train.attrs["images"])[:24]):
            small = charts.Image.fromarray(sample.squeeze()).convert("RGB").resize((80, 80), 0)
            chart.image.paste(small, tuple(map(int, chart.at(number % 6, number // 6 + 1))))
        return chart.image


def features(public: Path, table: pd.DataFrame, half: str = "train") -> Any:
    """Numbers to learn from, one row a row."""
    arrays = sorted(public.glob(f"{half}_*.npy"))
    if arrays:
        table.attrs["images"] = str(public / f"{half}_images.npy")
        return np.hstack([of_array(np.load(path)) for path in arrays])
    columns = table.drop(columns=["id", "target"], errors="ignore")
    if "text" in columns:
        texts = pd.concat([pd.read_csv(public / f"{part}.csv")["text"] for part in ("train", "test")])
        return TfidfVectorizer(sublinear_tf=True).fit(texts).transform(columns["text"])
    if "date" in columns:
        days = (pd.to_datetime(columns.pop("date")) - pd.Timestamp("2015-01-01")).dt.days.to_numpy()
        waves = [wave(2 * np.pi * days / period) for period in (7, 365.25) for wave in (np.sin, np.cos)]
        columns = columns.assign(day=days, **{f"wave_{n}": wave for n, wave in enumerate(waves)})
    return columns.to_numpy(dtype=float)


def of_array(array: np.ndarray) -> np.ndarray:
    """What doesn't depend on where in an image its pattern lies: the strength of its waves."""
    if array.ndim == 2:
        return array
    low = np.abs(np.fft.fft2(array.astype(np.float32), axes=(1, 2)))[:, :8, :8]
    return np.log1p(low).reshape(len(array), -1)


def choose(public: Path, is_number: bool, x: Any) -> Any:
    if is_number:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))
    if (public / "train_images.npy").exists():
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    if not isinstance(x, np.ndarray):
        return make_pipeline(LogisticRegression(C=10, max_iter=300))
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(class_weight="balanced"))


def learning_curve(x: np.ndarray, y: np.ndarray, x_held: np.ndarray, y_held: np.ndarray) -> list[float]:
    """Errors on held back rows of a quick model that sees ever more rows."""
    models = [
        RidgeClassifier(100).fit(x[:count], y[:count]) for count in np.linspace(len(x) // 8, len(x), 6, dtype=int)
    ]
    return [float(1 - model.score(x_held, y_held)) for model in models]


def best_k_means(x: np.ndarray) -> KMeans:
    models = [KMeans(k, n_init=5, random_state=0).fit(x) for k in range(2, 9)]
    return max(
        models, key=lambda model: silhouette_score(x, model.labels_, sample_size=min(len(x), 500), random_state=0)
    )
