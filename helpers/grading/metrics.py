"""The metrics that tasks of this project are scored by."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from helpers.grading.report import GradingError


@dataclass(frozen=True)
class Metric:
    """A metric of scikit-learn: `score(truth, predicted)`, its direction, and the kind of predictions that it takes."""

    name: str
    function: str
    kind: str  # label, number, ranking (a number for the positive class), probability (0 to 1), cluster
    is_lower_better: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    classes_of_truth: bool = False  # only classes that the truth has count
    least_rows: int = 1  # with fewer it has no value

    def score(self, truth: Any, predicted: Any) -> float:
        """Score predictions, two arrays of one length; unrounded."""
        from sklearn import metrics

        options = dict(self.options) | ({"labels": sorted(set(truth))} if self.classes_of_truth else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class never predicted is the agent's affair, not the log's
            return float(getattr(metrics, self.function)(truth, predicted, **options))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy_score", "label"),
        # what balanced_accuracy_score is by definition; its own memory grows with the square of the labels that are predicted
        Metric("balanced_accuracy", "recall_score", "label", options=(("average", "macro"),), classes_of_truth=True),
        Metric("f1_macro", "f1_score", "label", options=(("average", "macro"), ("zero_division", 0.0))),
        Metric("roc_auc", "roc_auc_score", "ranking"),
        Metric("log_loss", "log_loss", "probability", is_lower_better=True, options=(("labels", (0, 1)),)),
        Metric("rmse", "root_mean_squared_error", "number", is_lower_better=True),
        Metric("mae", "mean_absolute_error", "number", is_lower_better=True),
        Metric("r2", "r2_score", "number", least_rows=2),
        Metric("mape", "mean_absolute_percentage_error", "number", is_lower_better=True),  # a fraction, not percent
        Metric("adjusted_rand", "adjusted_rand_score", "cluster"),
    )
}


def get_metric(name: str) -> Metric:
    """Look a metric up by name. Raises GradingError, which lists what exists."""
    if name not in METRICS:
        raise GradingError(f"unknown metric {name!r}; there are: {', '.join(METRICS)}")
    return METRICS[name]
