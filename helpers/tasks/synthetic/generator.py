"""Synthetic data sets, on scikit-learn's generators: the same seed gives the same bytes on every machine.

Every number comes from a Stream, on whose grid sums are exact, and is rounded to DECIMALS places. So the data depend on the
seed and the order of the calls only, not on BLAS, the processor, threads, or the versions of the libraries (tests/tasks holds
digests).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.tasks.synthetic.stream import STEPS, Stream

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = 4
FIRST_DAY, LAST_YEAR = "2015-01-01", 9999
PATCH = 4  # pixels a side of one square of an image's pattern
MOST_SHIFT = 5  # pixels that a pattern is moved, each way
IMAGES_AT_ONCE, ROWS_AT_ONCE = 256, 10_000


class DataGenerator:
    """Makes data sets of one stream of random numbers: each call goes on where the last one ended.

    random_state: a whole number from 0 on, of any size. Two objects with the same one, asked for the same data sets in the same
    order, give the same data. All methods raise ValueError for parameters that don't go together.
    """

    def __init__(self, random_state: int = 42) -> None:
        self.random = Stream(random_state)

    def generate_classification_dataset(
        self,
        n_samples: int = 1000,
        n_features: int = 10,
        n_classes: int = 2,
        n_informative: int | None = None,
        n_redundant: int | None = None,
        class_sep: float = 1.0,
        flip_y: float = 0.01,
    ) -> pd.DataFrame:
        """Make a table feature_0…, target (0 to n_classes - 1) with one cloud a class (sklearn.datasets.make_classification).

        n_informative: default 60% of the features; n_redundant (combinations of those): default half of the rest.
        class_sep: half the distance of the clouds along each axis. flip_y: share of rows with a random label.
        """
        return self._classification(n_samples, n_features, n_classes, n_informative, n_redundant, class_sep, flip_y)

    def _classification(
        self,
        n_samples: int,
        n_features: int,
        n_classes: int = 2,
        n_informative: int | None = None,
        n_redundant: int | None = None,
        class_sep: float = 1.0,
        flip_y: float = 0.01,
        weights: list[float] | None = None,
    ) -> pd.DataFrame:
        from sklearn.datasets import make_classification

        _require(n_features >= 1 and n_classes >= 2, "n_features must be at least 1, and n_classes at least 2")
        _require(n_samples >= n_classes, f"n_samples={n_samples} are too few for {n_classes} classes")
        _require(class_sep > 0 and 0 <= flip_y <= 1, "class_sep must be over 0, and flip_y (noise) from 0 to 1")
        n_informative, n_redundant = _kinds(n_features, n_classes, n_informative, n_redundant)
        features, labels = make_classification(
            n_samples,
            n_features,
            n_informative=n_informative,
            n_redundant=n_redundant,
            n_classes=n_classes,
            n_clusters_per_class=1,
            weights=weights,
            class_sep=_on_grid(class_sep),
            flip_y=flip_y,
            shuffle=False,  # it would hold the array three times
            random_state=self.random,
        )
        order, columns = self.random.permutation(n_samples), self.random.permutation(n_features)
        shuffled = _reordered(features, order, columns)
        del features
        return _table(shuffled, target=labels[order])

    def generate_regression_dataset(
        self,
        n_samples: int = 1000,
        n_features: int = 10,
        n_informative: int | None = None,
        noise: float = 0.1,
        bias: float = 0.0,
    ) -> pd.DataFrame:
        """Make a table feature_0…, target, a linear function and noise (sklearn.datasets.make_regression).

        n_informative: default 60% of the features. noise: its standard deviation. bias: the target's mean.
        """
        from sklearn.datasets import make_regression

        _require(n_samples >= 1 and n_features >= 1, "n_samples and n_features must be at least 1")
        _require(noise >= 0, "noise must not be negative")
        if n_informative is None:
            n_informative = max(1, n_features * 6 // 10)
        problem = f"n_informative must be from 1 to n_features={n_features}, found {n_informative}"
        _require(1 <= n_informative <= n_features, problem)
        features, target = make_regression(
            n_samples, n_features, n_informative=n_informative, noise=noise, bias=bias, random_state=self.random
        )
        return _table(features, target=np.round(target, DECIMALS) + 0.0)

    def generate_time_series_dataset(
        self,
        n_samples: int = 1000,
        n_features: int = 5,
        trend: bool = True,
        seasonality: bool = True,
        noise_level: float = 0.1,
    ) -> pd.DataFrame:
        """Make a table date (one row a day), feature_0…, target: trend, year, week, the features' influence, and noise.

        The features are of the same day. noise_level: the noise's standard deviation as a part of the signal's range. The least
        target is 50, so that percentage errors mean something.
        """
        import pandas as pd

        days = np.arange(n_samples)
        first = np.datetime64(FIRST_DAY)
        most = int((np.datetime64(f"{LAST_YEAR}-12-31") - first).astype(int)) + 1
        _require(1 <= n_samples <= most, f"n_samples must be from 1 to {most}, the days up to the year {LAST_YEAR}")
        _require(n_features >= 0 and noise_level >= 0, "n_features and noise_level must not be negative")
        features = self.random.standard_normal((n_samples, n_features))
        # on the grid, the sum over the features is exact; what follows works on each element alone
        target = 10 / math.sqrt(max(n_features, 1)) * (features @ self.random.uniform(0.5, 1.5, n_features))
        if trend:
            target += 100 * days / n_samples
        if seasonality:
            target += 15 * _wave(days, 365.25) + 5 * _wave(days, 7)
        target += noise_level * np.ptp(target) * self.random.standard_normal(n_samples)
        target += 50 - target.min()
        table = _table(features, target=np.round(target, DECIMALS))
        table.insert(0, "date", pd.Series(first + days).astype("datetime64[s]"))
        return table

    def generate_clustering_dataset(
        self, n_samples: int = 1000, n_features: int = 2, n_centers: int = 3, cluster_std: float = 1.0
    ) -> pd.DataFrame:
        """Make a table feature_0…, cluster (0 to n_centers - 1) of round groups (sklearn.datasets.make_blobs).

        cluster_std: the groups' standard deviation; their centers are at least 5 of it apart.
        """
        from sklearn.datasets import make_blobs

        _require(1 <= n_centers <= n_samples, f"n_centers must be from 1 to n_samples={n_samples}, found {n_centers}")
        _require(n_features >= 1 and cluster_std > 0, "n_features must be at least 1, and cluster_std over 0")
        centers = self._centers(n_centers, n_features) * cluster_std
        points, cluster = make_blobs(n_samples, centers=centers, cluster_std=cluster_std, random_state=self.random)
        return _table(points, cluster=cluster)

    def _centers(self, count: int, n_features: int, apart: float = 5.0) -> np.ndarray:
        box, centers = 10, np.empty((0, n_features))
        while len(centers) < count:
            for point in self.random.uniform(-box, box, (10, n_features)):
                if len(centers) < count and (((centers - point) ** 2).sum(axis=1) >= apart**2).all():
                    centers = np.vstack([centers, point])
            box += 1  # there is room in the end
        return centers

    def generate_text_classification_dataset(
        self, n_samples: int = 1000, n_classes: int = 3, vocab_size: int = 1000, avg_doc_length: int = 50
    ) -> pd.DataFrame:
        """Make a table text, label (0 to n_classes - 1); the classes use the same made-up words, but not equally often.

        avg_doc_length: in words; a text has half to one and a half times as many.
        """
        import pandas as pd

        _require(n_samples >= 1 and n_classes >= 2, "n_samples must be at least 1, and n_classes at least 2")
        _require(
            vocab_size >= 2 and avg_doc_length >= 1, "vocab_size must be at least 2, and avg_doc_length at least 1"
        )
        words = np.array([f"word{number}" for number in range(vocab_size)], dtype=object)
        common = 100_000 // (10 + self.random.permutation(vocab_size)) + 1  # Zipf's law
        labels = self.random.permutation(n_samples) % n_classes
        lengths = self.random.randint((avg_doc_length + 1) // 2, avg_doc_length * 3 // 2 + 1, n_samples)
        texts = np.empty(n_samples, dtype=object)
        for label in range(n_classes):
            favourites = self.random.randint(0, 5, vocab_size) == 0
            upto = np.cumsum(np.where(favourites, 3 * common, common))
            rows = np.flatnonzero(labels == label)
            drawn = np.searchsorted(upto, self.random.randint(0, upto[-1], lengths[rows].sum()), side="right")
            ends = np.cumsum(lengths[rows])
            for row, start, end in zip(rows, ends - lengths[rows], ends, strict=True):
                texts[row] = " ".join(words[drawn[start:end]])
        return pd.DataFrame({"text": texts, "label": labels})

    def generate_tabular_dataset_with_missing_values(
        self,
        n_samples: int = 1000,
        n_features: int = 10,
        missing_rate: float = 0.1,
        task_type: str = "classification",
    ) -> pd.DataFrame:
        """Make a table of two classes or of a regression in which feature values are missing completely at random (NaN).

        missing_rate: their share, from 0 to below 1. task_type: classification or regression.
        """
        _require(0 <= missing_rate < 1, f"missing_rate must be from 0 to below 1, found {missing_rate}")
        _require(task_type in ("classification", "regression"), f"task_type can't be {task_type!r}")
        if task_type == "regression":
            table = self.generate_regression_dataset(n_samples, n_features)
        else:
            table = self._classification(n_samples, n_features, class_sep=1.3)
        missing = self.random.uniform(size=(n_samples, n_features)) < missing_rate
        return table.iloc[:, :-1].mask(missing).assign(target=table["target"])

    def generate_imbalanced_dataset(
        self, n_samples: int = 1000, n_features: int = 10, imbalance_ratio: float = 0.1
    ) -> pd.DataFrame:
        """Make a table feature_0…, target of two classes; imbalance_ratio is the share of class 1."""
        _require(0 < imbalance_ratio < 1, f"imbalance_ratio must be between 0 and 1, found {imbalance_ratio}")
        few = min(imbalance_ratio, 1 - imbalance_ratio) * n_samples
        _require(few >= 1, f"imbalance_ratio={imbalance_ratio} leaves a class of n_samples={n_samples} empty")
        weights = [1 - imbalance_ratio, imbalance_ratio]
        return self._classification(n_samples, n_features, class_sep=1.2, flip_y=0.0, weights=weights)

    def generate_image_classification_dataset(
        self,
        n_samples: int = 1000,
        image_size: tuple[int, int] = (32, 32),
        n_channels: int = 3,
        n_classes: int = 10,
        noise: float = 48.0,
    ) -> dict[str, Any]:
        """Make {images, labels, metadata}: each class has a pattern of coloured squares, which is moved, faded and made noisy.

        images: (n_samples, height, width, n_channels), uint8; labels: (n_samples,), from 0 to n_classes - 1. image_size: height
        and width in pixels. noise: its standard deviation in levels of grey.
        """
        _require(n_samples >= 1 and n_classes >= 2, "n_samples must be at least 1, and n_classes at least 2")
        _require(
            min(image_size) >= PATCH and n_channels >= 1, f"an image has a channel and {PATCH} pixels a side or more"
        )
        _require(noise >= 0, "noise must not be negative")
        labels = self.random.permutation(n_samples) % n_classes
        images = self._images(labels, n_classes, (*image_size, n_channels), noise)
        metadata = {"n_samples": n_samples, "image_shape": images.shape[1:], "n_classes": n_classes}
        return {"images": images, "labels": labels, "metadata": metadata}

    def _images(self, labels: np.ndarray, n_classes: int, shape: tuple[int, ...], noise: float) -> np.ndarray:
        height, width, channels = shape
        squares = self.random.randint(-128, 128, (n_classes, -(-height // PATCH), -(-width // PATCH), channels))
        patterns = squares.repeat(PATCH, axis=1).repeat(PATCH, axis=2)[:, :height, :width]
        images = np.empty((len(labels), *shape), np.uint8)
        for start in range(0, len(labels), IMAGES_AT_ONCE):
            part = labels[start : start + IMAGES_AT_ONCE]
            across, down = self.random.randint(-MOST_SHIFT, MOST_SHIFT + 1, (2, len(part), 1))
            rows, columns = (np.arange(height) + down) % height, (np.arange(width) + across) % width
            others = (part + self.random.randint(1, n_classes, len(part))) % n_classes
            pixels = 128 + noise * self.random.standard_normal((len(part), *shape))
            for shown, low, high in ((part, 0.4, 1), (others, 0, 0.5)):
                contrast = self.random.uniform(low, high, (len(part), 1, 1, 1))
                pixels += contrast * patterns[shown[:, None, None], rows[:, :, None], columns[:, None, :]]
            images[start : start + len(part)] = np.clip(np.rint(pixels), 0, 255)
        return images

    def generate_multi_modal_dataset(
        self,
        n_samples: int = 1000,
        image_size: tuple[int, int] = (28, 28),
        n_text_features: int = 100,
        n_classes: int = 3,
    ) -> dict[str, Any]:
        """Make {images, text_features, labels, metadata}; images and text features each tell something of the class.

        images: (n_samples, height, width, 1), uint8; text_features: (n_samples, n_text_features), float32; labels:
        (n_samples,), from 0 to n_classes - 1.
        """
        _require(n_text_features >= 1, "n_text_features must be at least 1")
        data = self.generate_image_classification_dataset(n_samples, image_size, 1, n_classes, noise=128.0)
        spread = _on_grid(1.5 / math.sqrt(n_text_features))
        means = spread * self.random.standard_normal((n_classes, n_text_features))
        features = means[data["labels"]] + self.random.standard_normal((n_samples, n_text_features))
        return {
            "images": data["images"],
            "text_features": np.round(features, DECIMALS).astype(np.float32),
            "labels": data["labels"],
            "metadata": data["metadata"] | {"n_text_features": n_text_features},
        }


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _kinds(n_features: int, n_classes: int, informative: int | None, redundant: int | None) -> tuple[int, int]:
    """How many features tell of the class, and how many are combinations of those; what isn't asked for is chosen. Raises ValueError."""
    needed = math.ceil(math.log2(n_classes))  # each class has a corner of a cube of its own
    if informative is None:
        informative = min(max(n_features * 6 // 10, needed), n_features)
    if redundant is None:
        redundant = (n_features - informative) // 2
    problem = f"{n_classes} classes need n_informative of at least {needed}, found {informative}"
    _require(informative >= max(needed, 1), problem)
    problem = f"n_informative={informative} and n_redundant={redundant} are more than n_features={n_features}"
    _require(redundant >= 0 and informative + redundant <= n_features, problem)
    return informative, redundant


def _reordered(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The same in another order; some rows at once, as a copy of all would be a third array."""
    found = np.empty_like(values)
    for start in range(0, len(values), ROWS_AT_ONCE):
        found[start : start + ROWS_AT_ONCE] = values[rows[start : start + ROWS_AT_ONCE]][:, columns]
    return found


def _on_grid(value: float) -> float:
    return max(round(value * STEPS), 1) / STEPS


def _wave(days: np.ndarray, period: float) -> np.ndarray:
    # rounded, so that the last digit of a machine's sine doesn't matter
    return np.round(np.sin(2 * np.pi * days / period), DECIMALS)


def _table(features: np.ndarray, **label: np.ndarray) -> pd.DataFrame:
    """Round the features, in place, and name the columns."""
    import pandas as pd

    np.round(features, DECIMALS, out=features)
    features += 0.0  # no -0.0
    names = [f"feature_{number}" for number in range(features.shape[1])]
    table = pd.DataFrame(features, columns=names, copy=False)
    for name, values in label.items():
        table[name] = values
    return table
