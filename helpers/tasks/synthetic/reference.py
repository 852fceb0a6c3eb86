"""Scores to compare with: one guess for all rows, and a linear model (k-means for groups) on the public data.

The models have closed solutions, so that the scores are the same on every machine.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from helpers.tasks.synthetic.dataset import Dataset

MOST_ROWS = 20_000  # that the baseline is fitted to
MOST_WORDS = 1000  # of a column of texts
SQUARES = 8  # a side, that an image is averaged to


def constant(dataset: Dataset) -> Any:
    """The guess of the sample submission: most frequent label, mean of the training target, or group 0."""
    target = dataset.target[dataset.train]
    if dataset.metric.kind == "cluster":
        return 0
    if dataset.metric.kind == "label":
        labels, counts = np.unique(target, return_counts=True)
        return labels[counts.argmax()]
    # fsum: numpy's sum depends on the processor's vector length
    return float(f"{math.fsum(numbers(target)) / len(target):.8g}")


def numbers(target: np.ndarray) -> np.ndarray:
    """Targets as numbers; true and false are 1 and 0. Raises ValueError."""
    booleans = {"true": 1.0, "false": 0.0}
    try:
        return np.array([booleans.get(str(value).lower(), value) for value in target.tolist()], dtype=float)
    except ValueError as error:
        raise ValueError(f"its metric takes numbers, and the target has others: {error}") from None


def baseline(dataset: Dataset) -> np.ndarray:
    """What a simple model predicts for the test rows."""
    from sklearn.cluster import KMeans
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge, RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind, rows = dataset.metric.kind, dataset.train[-MOST_ROWS:]
    x, x_test = _matrices(dataset, rows, dataset.test)
    prepared = (SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    if kind == "cluster":
        model = KMeans(len(np.unique(dataset.target)), n_init=10, random_state=0)
        return make_pipeline(*prepared, model).fit(x).predict(x_test)
    if kind == "label":
        weights = None if dataset.metric.name == "accuracy" else "balanced"
        model, y = RidgeClassifier(x.shape[1], class_weight=weights), dataset.target[rows]
    else:
        model, y = Ridge(x.shape[1]), numbers(dataset.target[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns that repeat each other are the task's affair, not the log's
        predicted = make_pipeline(*prepared, model).fit(x, y).predict(x_test)
    return np.clip(predicted, 0.01, 0.99) if kind in ("ranking", "probability") else predicted


def _matrices(dataset: Dataset, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features of some rows as numbers, a row each."""
    from pandas.api.types import is_numeric_dtype

    table = dataset.features
    plain = [name for name in table if is_numeric_dtype(table[name])]
    parts = [[table[plain].iloc[rows].to_numpy(float) for rows in (train, test)]]
    parts += [_column(table[name], dataset.is_series, train, test) for name in table if name not in plain]
    for array in dataset.arrays.values():
        parts.append([_squares(array[rows]) if array.ndim == 4 else array[rows] for rows in (train, test)])
    parts.append([np.ones((len(rows), 1)) for rows in (train, test)])  # where there is nothing else
    return tuple(np.hstack(both) for both in zip(*parts, strict=True))


def _column(column: Any, is_series: bool, train: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    import pandas as pd
    from sklearn.feature_extraction.text import CountVectorizer

    if is_series:
        return [_calendar(column.iloc[rows].to_numpy()) for rows in (train, test)]
    values = pd.to_numeric(column, errors="coerce").to_numpy(float, copy=True)
    values[~np.isfinite(values)] = np.nan
    if np.isfinite(values).mean() > 0.5:
        return [values[rows, None] for rows in (train, test)]
    texts = column.astype(object).to_numpy()
    words = CountVectorizer(max_features=MOST_WORDS, token_pattern=r"\S+")
    try:
        words.fit(texts[train])
    except ValueError:  # no words
        return [np.empty((len(rows), 0)) for rows in (train, test)]
    return [words.transform(texts[rows]).toarray().astype(float) for rows in (train, test)]


def _calendar(dates: np.ndarray) -> np.ndarray:
    days = dates.astype("datetime64[D]").astype(int)
    year = 2 * np.pi * days / 365.25
    return np.column_stack([days, np.sin(year), np.cos(year), days[:, None] % 7 == np.arange(7)])


def _squares(images: np.ndarray) -> np.ndarray:
    count, height, width, channels = images.shape
    tall, wide = -(-height // SQUARES), -(-width // SQUARES)
    cut = images[:, : height // tall * tall, : width // wide * wide]
    return cut.reshape(count, height // tall, tall, width // wide, wide, channels).mean(axis=(2, 4)).reshape(count, -1)
