"""Synthetic data: as the specification says, exact on every machine, learnable, and of no use for guessing the rest."""

from __future__ import annotations

import inspect
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.linear_model import RidgeClassifier
from sklearn.naive_bayes import MultinomialNB

from helpers.tasks.definitions import DATASETS, METHODS
from helpers.tasks.synthetic.generator import DataGenerator
from helpers.tasks.synthetic.stream import STEPS, Stream

SIGNATURES = {
    "generate_classification_dataset": "n_samples=1000, n_features=10, n_classes=2, n_informative=None, n_redundant=None, "
    "class_sep=1.0, flip_y=0.01",
    "generate_regression_dataset": "n_samples=1000, n_features=10, n_informative=None, noise=0.1, bias=0.0",
    "generate_time_series_dataset": "n_samples=1000, n_features=5, trend=True, seasonality=True, noise_level=0.1",
    "generate_clustering_dataset": "n_samples=1000, n_features=2, n_centers=3, cluster_std=1.0",
    "generate_text_classification_dataset": "n_samples=1000, n_classes=3, vocab_size=1000, avg_doc_length=50",
    "generate_tabular_dataset_with_missing_values": "n_samples=1000, n_features=10, missing_rate=0.1, "
    "task_type='classification'",
    "generate_imbalanced_dataset": "n_samples=1000, n_features=10, imbalance_ratio=0.1",
    "generate_multi_modal_dataset": "n_samples=1000, image_size=(28, 28), n_text_features=100, n_classes=3",
    "generate_image_classification_dataset": "n_samples=1000, image_size=(32, 32), n_channels=3, n_classes=10, noise=48.0",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_methods_have_the_specified_parameters(name: str) -> None:
    parameters = list(inspect.signature(getattr(DataGenerator, name)).parameters.values())[1:]
    assert ", ".join(f"{one.name}={one.default!r}" for one in parameters) == SIGNATURES[name]


@pytest.mark.parametrize("kind", DATASETS)
def test_definitions_name_methods_and_parameters_that_exist(kind: str) -> None:
    parameters = SIGNATURES[METHODS.get(kind, f"generate_{kind}_dataset")]
    assert {part.partition("=")[0] for part in parameters.split(", ")} >= set(DATASETS[kind].values())


@pytest.mark.parametrize("seed", [-1, 1.5, "7", None])
def test_a_seed_is_a_whole_number_from_0_on(seed: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        DataGenerator(seed)


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("classification", {"n_classes": 5, "n_informative": 2}, "5 classes need n_informative of at least 3, found 2"),
        ("classification", {"n_classes": 3, "n_features": 1}, "3 classes need n_informative of at least 2, found 1"),
        ("classification", {"n_informative": 8, "n_redundant": 3}, "are more than n_features=10"),
        ("classification", {"n_informative": 11}, "are more than n_features=10"),
        ("classification", {"n_redundant": -1}, "n_redundant=-1"),
        ("classification", {"n_samples": 2, "n_classes": 3}, "n_samples=2 are too few for 3 classes"),
        ("classification", {"n_classes": 1}, "n_classes at least 2"),
        ("classification", {"class_sep": 0}, "class_sep"),
        ("classification", {"flip_y": 1.5}, "flip_y"),
        ("regression", {"n_informative": 11}, "n_informative must be from 1 to n_features=10, found 11"),
        ("regression", {"n_informative": 0}, "found 0"),
        ("regression", {"noise": -0.1}, "noise must not be negative"),
        ("regression", {"n_features": 0}, "at least 1"),
        ("time_series", {"n_samples": 0}, "n_samples must be from 1"),
        ("time_series", {"n_samples": 3_000_000}, "the year 9999"),
        ("time_series", {"noise_level": -1}, "must not be negative"),
        ("clustering", {"n_samples": 5, "n_centers": 6}, "n_centers must be from 1 to n_samples=5, found 6"),
        ("clustering", {"cluster_std": 0}, "cluster_std"),
        ("text_classification", {"vocab_size": 1}, "vocab_size"),
        ("text_classification", {"avg_doc_length": 0}, "avg_doc_length"),
        ("text_classification", {"n_classes": 1}, "n_classes"),
        ("imbalanced", {"imbalance_ratio": 0}, "imbalance_ratio must be between 0 and 1, found 0"),
        ("imbalanced", {"imbalance_ratio": 1.0}, "imbalance_ratio"),
        ("imbalanced", {"n_samples": 50, "imbalance_ratio": 0.01}, "leaves a class of n_samples=50 empty"),
        ("image_classification", {"image_size": (3, 32)}, "4 pixels a side"),
        ("image_classification", {"n_channels": 0}, "a channel"),
        ("image_classification", {"noise": -1}, "noise"),
        ("image_classification", {"n_classes": 1}, "n_classes"),
        ("multi_modal", {"n_text_features": 0}, "n_text_features"),
        ("tabular_dataset_with_missing_values", {"missing_rate": 1}, "missing_rate must be from 0 to below 1, found 1"),
        ("tabular_dataset_with_missing_values", {"task_type": "ranking"}, "task_type can't be 'ranking'"),
    ],
)
def test_impossible_combinations_are_refused(kind: str, parameters: dict, said: str) -> None:
    name = f"generate_{kind}" if kind.startswith("tabular") else f"generate_{kind}_dataset"
    with pytest.raises(ValueError, match="^[a-z0-9].*[^.]$") as error:
        getattr(DataGenerator(), name)(**parameters)
    assert said in str(error.value)


def small(generator: DataGenerator, name: str) -> list[np.ndarray]:
    """Everything that a method makes of 60 rows."""
    parameters = {"image_size": (8, 9)} if "image_size" in SIGNATURES[name] else {}
    made = getattr(generator, name)(n_samples=60, **parameters)
    if isinstance(made, pd.DataFrame):
        return [made[column].to_numpy() for column in made]
    return [value for value in made.values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_seed_decides_all_of_it_bit_by_bit(name: str) -> None:
    first, again = small(DataGenerator(2**128 + 5), name), small(DataGenerator(2**128 + 5), name)
    for one, other in zip(first, again, strict=True):
        assert_array_equal(one, other)
    # no bits of it are cut off, neither high nor low ones
    for seed in (5, 2**128 + 4, 2**64 + 5, 2**32 + 5):
        other = small(DataGenerator(seed), name)
        assert any((a != b).mean() > 0.1 for a, b in zip(first, other, strict=True) if a.dtype != "datetime64[s]")


def test_calls_go_on_in_one_stream() -> None:
    one, other = DataGenerator(3), DataGenerator(3)
    first, second = (one.generate_regression_dataset(20, 2) for _ in range(2))
    assert not first.equals(second)
    assert first.equals(other.generate_regression_dataset(20, 2))
    assert second.equals(other.generate_regression_dataset(20, 2))


def test_42_is_the_default() -> None:
    assert DataGenerator().generate_clustering_dataset(20).equals(DataGenerator(42).generate_clustering_dataset(20))


def test_sums_of_products_are_exact_whatever_their_order() -> None:
    random = Stream(1)
    rows, mixing = random.standard_normal((200, 300)), 2 * random.uniform(size=(300, 40)) - 1
    for numbers in (rows, mixing):
        assert_array_equal(numbers * STEPS, np.rint(numbers * STEPS))
    product, order = rows @ mixing, np.random.RandomState(0).permutation(300)
    assert_array_equal(product, rows[:, order] @ mixing[order])
    assert_array_equal(product @ mixing.T[:, :9], sum(np.outer(product[:, k], mixing.T[k, :9]) for k in range(40)))
    # numpy's own numbers show the order
    rows, mixing = (
        np.random.RandomState(0).standard_normal((200, 300)),
        np.random.RandomState(1).uniform(size=(300, 40)),
    )
    assert (rows @ mixing != rows[:, order] @ mixing[order]).any()


def test_no_bit_is_lost_before_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_exact(numbers: np.ndarray, bits: int) -> bool:
        scaled = np.asarray(numbers) * 2.0**bits
        return bool((scaled == np.rint(scaled)).all() and np.abs(scaled).max() < 2**53)

    monkeypatch.setattr(np, "round", lambda numbers, decimals, out=None: numbers)
    generator = DataGenerator(1)
    assert is_exact(generator.generate_classification_dataset(500, 50, 5, class_sep=1.2), 40)
    assert is_exact(generator.generate_regression_dataset(500, 300, noise=0), 28)
    assert is_exact(generator.generate_clustering_dataset(500, 20, 5), 20)
    series = generator.generate_time_series_dataset(500, 4, trend=False, seasonality=False, noise_level=0)
    assert is_exact(series.drop(columns="date"), 28)
    assert not is_exact(DataGenerator(1).generate_regression_dataset(50, 3, noise=0.1)["target"], 28)


def test_quantiles_are_far_from_a_tie() -> None:
    scaled = np.array([NormalDist().inv_cdf((step + 0.5) / 2**16) for step in range(2**15)]) * STEPS
    assert np.abs(scaled % 1 - 0.5).min() > 1e-6  # libm may be wrong by 1e-11


def test_numbers_follow_their_distributions() -> None:
    random = Stream(2)
    normal, uniform = random.normal(3, 2, 200_000), random.uniform(-1, 3, 200_000)
    assert abs(normal.mean() - 3) < 0.03 and abs(normal.std() - 2) < 0.02
    assert abs((np.abs(normal - 3) < 2).mean() - 0.6827) < 0.005
    assert uniform.min() == -1 and uniform.max() == 3 - 4 / STEPS and abs(uniform.mean() - 1) < 0.01
    assert np.bincount(random.randint(0, 7, 70_000)).min() > 9500
    assert random.randint(5, 6) == 5 and 0 <= random.randint(3) < 3 and isinstance(random.uniform(), float)
    assert sorted(random.permutation(50)) == list(range(50)) and sorted(random.permutation(["b", "a"])) == ["a", "b"]
    # nothing repeats itself, neither within a draw that takes several blocks nor from one to the next
    assert abs(np.corrcoef(random.standard_normal(2**18 + 9)[-1000:], random.standard_normal(1000))[0, 1]) < 0.15


def test_scikit_learn_uses_nothing_but_the_stream() -> None:
    """What isn't overridden would come from the Mersenne Twister, whose state can be worked out from its numbers."""
    generator = DataGenerator(4)
    before = generator.random.get_state()[1:3]
    for name in SIGNATURES:
        small(generator, name)
    after = generator.random.get_state()[1:3]
    assert_array_equal(before[0], after[0])
    assert before[1] == after[1]


def fit(model: object, x: np.ndarray, y: np.ndarray) -> float:
    cut = len(y) * 4 // 5
    return model.fit(x[:cut], y[:cut]).score(x[cut:], y[cut:])


def rounded(table: pd.DataFrame) -> bool:
    numbers = table.select_dtypes("float").to_numpy()
    return bool((np.isnan(numbers) | (numbers == np.round(numbers, 4))).all())


@given(
    rows=st.integers(8, 60),
    features=st.integers(3, 12),
    classes=st.integers(2, 4),
    seed=st.integers(0, 2**130),
)
def test_classification_of_any_size(rows: int, features: int, classes: int, seed: int) -> None:
    table = DataGenerator(seed).generate_classification_dataset(rows, features, classes, flip_y=0)
    assert list(table) == [*(f"feature_{number}" for number in range(features)), "target"]
    assert len(table) == rows and table.index.tolist() == list(range(rows)) and rounded(table)
    counts = np.bincount(table["target"], minlength=classes)
    assert len(counts) == classes and counts.max() - counts.min() <= classes


def test_classification_has_informative_redundant_and_useless_features() -> None:
    table = DataGenerator(1).generate_classification_dataset(4000, 12, 2, n_informative=4, n_redundant=3, flip_y=0)
    x, y = table.iloc[:, :-1].to_numpy(), table["target"].to_numpy()
    assert np.linalg.matrix_rank(np.cov(x.T), tol=0.01) == 12 - 3
    assert 0.75 < fit(RidgeClassifier(), x, y) < 1
    assert sum(abs(np.corrcoef(column, y)[0, 1]) < 0.05 for column in x.T) >= 5  # wherever these columns are
    flipped = DataGenerator(1).generate_classification_dataset(4000, 12, 2, 4, 3, flip_y=0.5)["target"]
    assert 0.2 < (flipped != table["target"]).mean() < 0.3


def test_regression_is_a_linear_function_and_noise() -> None:
    table = DataGenerator(1).generate_regression_dataset(2000, 6, 3, noise=5.0, bias=1000)
    x = np.column_stack([table.iloc[:, :-1], np.ones(2000)])
    solution = np.linalg.lstsq(x, table["target"], rcond=None)[0]
    assert abs((table["target"] - x @ solution).std() - 5) < 0.3 and abs(solution[-1] - 1000) < 1
    assert (np.abs(solution[:-1]) > 1).sum() == 3 and rounded(table)


def test_time_series_have_what_is_asked_for() -> None:
    def series(**parameters: object) -> pd.DataFrame:
        return DataGenerator(5).generate_time_series_dataset(1461, 2, noise_level=0, **parameters)

    full = series()
    assert list(full) == ["date", "feature_0", "feature_1", "target"] and rounded(full)
    assert full["date"].dt.strftime("%Y-%m-%d").iloc[[0, 1, -1]].tolist() == ["2015-01-01", "2015-01-02", "2018-12-31"]
    days = np.arange(1461)
    for table, grows, swings in (
        (full, True, True),
        (series(trend=False), False, True),
        (series(seasonality=False), True, False),
        (series(trend=False, seasonality=False), False, False),
    ):
        features = np.column_stack([table[["feature_0", "feature_1"]], np.ones(1461)])
        waves = np.sin(2 * np.pi * days[:, None] / [365.25, 7])
        solution = np.linalg.lstsq(np.column_stack([features, days, waves]), table["target"], rcond=None)[0]
        assert (solution[3] * 1461 > 90) == grows and (abs(solution[4] - 15) < 1) == (
            abs(solution[5] - 5) < 1
        ) == swings
        assert (solution[:2] > 3).all() and table["target"].min() == 50
    noisy = DataGenerator(5).generate_time_series_dataset(1461, 2, noise_level=0.5)
    assert noisy["target"].min() == 50 and noisy["target"].std() > 1.5 * full["target"].std()


@pytest.mark.parametrize(("features", "centers"), [(1, 12), (2, 3), (2, 40), (30, 5)])
def test_clusters_are_apart(features: int, centers: int) -> None:
    table = DataGenerator(1).generate_clustering_dataset(2000, features, centers, cluster_std=0.5)
    assert list(table)[-1] == "cluster" and set(table["cluster"]) == set(range(centers)) and rounded(table)
    means = table.groupby("cluster").mean().to_numpy()
    distances = np.linalg.norm(means[:, None] - means, axis=2) + np.eye(centers) * 1e9
    assert distances.min() > 4.5 * 0.5
    spread = (table.iloc[:, :-1] - means[table["cluster"]]).to_numpy().std()
    assert abs(spread - 0.5) < 0.03


def test_texts_use_the_same_words_differently_often() -> None:
    table = DataGenerator(1).generate_text_classification_dataset(1500, 3, vocab_size=300, avg_doc_length=40)
    assert list(table) == ["text", "label"] and np.bincount(table["label"]).tolist() == [500] * 3
    lengths = table["text"].str.split().str.len()
    assert lengths.min() >= 20 and lengths.max() <= 60 and abs(lengths.mean() - 40) < 1
    counts = table["text"].str.split().explode().groupby(level=0).value_counts().unstack(fill_value=0)
    assert counts.shape[1] <= 300
    shared = [set(counts.columns[counts[table["label"] == label].sum() > 0]) for label in range(3)]
    assert len(set.intersection(*shared)) > 0.9 * counts.shape[1]
    assert 0.8 < fit(MultinomialNB(), counts.sort_index().to_numpy(), table["label"].to_numpy()) < 1


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_values_are_missing_completely_at_random(kind: str) -> None:
    generator = DataGenerator(1)
    table = generator.generate_tabular_dataset_with_missing_values(5000, 8, missing_rate=0.3, task_type=kind)
    missing = table.isna()
    assert (
        not missing["target"].any()
        and rounded(table)
        and (table["target"].nunique() == 2) == (kind == "classification")
    )
    shares = missing.iloc[:, :-1].mean()
    assert shares.between(0.27, 0.33).all()
    # neither the target nor the other features tell where values are missing
    told = [abs(np.corrcoef(missing["feature_0"], table[name].fillna(0))[0, 1]) for name in ("target", "feature_1")]
    assert max(told) < 0.06
    assert not generator.generate_tabular_dataset_with_missing_values(100, 3, 0.0).isna().to_numpy().any()


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.5])
def test_the_rare_class_has_its_share(ratio: float) -> None:
    table = DataGenerator(1).generate_imbalanced_dataset(1000, 5, ratio)
    assert set(table["target"]) == {0, 1} and abs(table["target"].mean() - ratio) < 0.002


def test_images_show_their_class() -> None:
    data = DataGenerator(1).generate_image_classification_dataset(1500, (32, 27), 1, 5)
    images, labels = data["images"], data["labels"]
    assert images.shape == (1500, 32, 27, 1) and images.dtype == np.uint8 and np.bincount(labels).tolist() == [300] * 5
    assert data["metadata"] == {"n_samples": 1500, "image_shape": (32, 27, 1), "n_classes": 5}
    assert images.min() == 0 and images.max() == 255 and 110 < images.mean() < 145
    assert 0.75 < fit(RidgeClassifier(1000), images.reshape(1500, -1) / 255, labels) < 1


def test_both_modalities_carry_signal() -> None:
    data = DataGenerator(1).generate_multi_modal_dataset(2000)
    images, texts, labels = data["images"], data["text_features"], data["labels"]
    assert images.shape == (2000, 28, 28, 1) and images.dtype == np.uint8
    assert texts.shape == (2000, 100) and texts.dtype == np.float32
    expected = {"n_samples": 2000, "image_shape": (28, 28, 1), "n_text_features": 100, "n_classes": 3}
    assert data["metadata"] == expected
    pixels = images.reshape(2000, -1) / 255
    of_images, of_texts = fit(RidgeClassifier(1000), pixels, labels), fit(RidgeClassifier(100), texts, labels)
    both = fit(RidgeClassifier(300), np.hstack([pixels, texts]), labels)
    assert 0.55 < of_images < 0.95 and 0.55 < of_texts < 0.95 and max(of_images, of_texts) + 0.02 < both < 1
