"""Solves a task: from train.csv, test.csv, sample_submission.csv and arrays to a submission and a validation score."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, roc_auc_score, silhouette_score
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

MOST_ROWS = 20_000  # of the training data, drawn at random
MOST_CATEGORIES = 50  # a text column with more is read as dates or as texts
MOST_COMPONENTS = 64  # that texts and arrays are reduced to
MOST_CLUSTERS = 10
FOLDS = 5


def solve(folder, submission_path, make_model, seed=0):
    """Fit, cross-validate and write the submission.

    make_model(classify, seed) returns a scikit-learn classifier or regressor. The first column of sample_submission.csv
    is the id, the others are targets: labels, numbers or the probability of the second of two classes; or one column of
    probabilities for each class of the only column that test.csv lacks. Where train.csv has no targets either, rows are
    grouped. Files train_X.npy and test_X.npy are further features, one row each. Returns the name of the metric and its
    mean value over all targets. Raises ValueError for other forms.
    """
    folder = Path(folder)
    sample = pd.read_csv(folder / "sample_submission.csv", dtype=str, keep_default_na=False)
    id_column, targets = sample.columns[0], list(sample.columns[1:])
    # labels are kept as they are spelled: True stays True, and 01 stays 01
    train = pd.read_csv(folder / "train.csv", dtype=dict.fromkeys([id_column, *targets], str), low_memory=False)
    test = pd.read_csv(folder / "test.csv", dtype={id_column: str}, low_memory=False)
    if len(train) > MOST_ROWS:
        train = train.sample(MOST_ROWS, random_state=seed).sort_index()
    columns = [name for name in test.columns if name in train.columns and name not in (id_column, *targets)]
    answers, scores = pd.DataFrame(index=test.index), []
    with threadpool_limits(1):  # small data: more threads would only get into each other's way
        train, test, columns = widen(folder, train, test, columns)
        if not set(train.columns) - set(test.columns):
            answers[targets[0]], metric, score = group(train, test, columns, seed)
            scores.append(score)
        elif set(targets) <= set(train.columns):
            for target in targets:
                rows = train[train[target].notna()]
                kind = kind_of(rows[target], sample[target])
                answers[target], metric, score = fit(rows, test, columns, target, kind, targets, make_model, seed)
                scores.append(score)
        else:
            target = the_class_column(train, test, targets)
            rows = train[train[target].notna()].astype({target: str})
            values, metric, score = fit(rows, test, columns, target, "distribution", targets, make_model, seed)
            answers[targets] = values
            scores.append(score)
    if id_column in test and set(sample[id_column]) <= set(test[id_column]) and test[id_column].is_unique:
        answers = answers.set_index(test[id_column]).loc[sample[id_column]]
    for target in targets:
        sample[target] = answers[target].to_numpy()
    sample.to_csv(submission_path, index=False)
    return metric, float(np.mean(scores))


def widen(folder, train, test, columns):
    """Both tables with numbers for what stands in dates, long texts and arrays; also returns the columns to learn from."""
    usable, parts = [], [(train, test)]
    for name in columns:
        if pd.api.types.is_numeric_dtype(train[name]) or train[name].nunique() <= MOST_CATEGORIES:
            usable.append(name)
        elif dates := as_dates(train[name], test[name]):
            parts.append(tuple(calendar(name, days) for days in dates))
        elif train[name].astype(str).str.len().mean() >= 20:
            texts = TfidfVectorizer(max_features=5000, sublinear_tf=True).fit(train[name].fillna("").astype(str))
            parts.append(
                reduce(name, train, test, *(texts.transform(t[name].fillna("").astype(str)) for t in (train, test)))
            )
    for path in sorted(folder.glob("train_*.npy")):
        name = path.stem.removeprefix("train_")
        arrays = np.load(path, allow_pickle=False), np.load(folder / f"test_{name}.npy", allow_pickle=False)
        rows = arrays[0][train.index], arrays[1]
        parts.append(reduce(name, train, test, *(part.reshape(len(part), -1).astype(np.float32) for part in rows)))
    usable += [column for part, _ in parts[1:] for column in part.columns]
    return *(pd.concat(tables, axis=1) for tables in zip(*parts, strict=True)), usable


def as_dates(*columns):
    dates = [pd.to_datetime(column, errors="coerce", format="ISO8601") for column in columns]
    return dates if all(column.notna().all() for column in dates) else None


def calendar(name, dates):
    days = (dates - pd.Timestamp(0)) / pd.Timedelta(days=1)
    waves = {"day": days}
    for period in (7, 30.44, 365.25):
        waves |= {
            f"sin_{period}": np.sin(2 * np.pi * days / period),
            f"cos_{period}": np.cos(2 * np.pi * days / period),
        }
    return pd.DataFrame({f"{name}_{key}": values for key, values in waves.items()}, index=dates.index)


def reduce(name, train, test, train_values, test_values):
    if train_values.shape[1] > MOST_COMPONENTS:
        svd = TruncatedSVD(min(MOST_COMPONENTS, len(train) - 1), random_state=0).fit(train_values)
        train_values, test_values = svd.transform(train_values), svd.transform(test_values)
    elif issparse(train_values):
        train_values, test_values = train_values.toarray(), test_values.toarray()
    columns = [f"{name}_{number}" for number in range(train_values.shape[1])]
    return pd.DataFrame(train_values, train.index, columns), pd.DataFrame(test_values, test.index, columns)


def group(train, test, columns, seed):
    """Cluster numbers of the test rows, by k-means with the k of the best silhouette."""
    table = pd.concat([train[columns], test[columns]]).select_dtypes("number")
    values = StandardScaler().fit_transform(SimpleImputer().fit_transform(table))
    best, labels = -1.0, None
    for clusters in range(2, MOST_CLUSTERS + 1):
        found = KMeans(clusters, n_init=5, random_state=seed).fit_predict(values)
        score = silhouette_score(values, found, sample_size=min(len(values), 2000), random_state=0)
        if score > best:
            best, labels = score, found
    return labels[len(train) :], "silhouette", best


def the_class_column(train, test, classes):
    left = [name for name in train.columns if name not in test.columns]
    if len(left) != 1 or not set(train[left[0]].dropna().astype(str)) <= set(classes):
        raise ValueError(
            f"columns {classes[:5]} of sample_submission.csv are neither in train.csv nor classes of a column there"
        )
    return left[0]


def kind_of(labels, wanted):
    """What to predict for a target: "numbers", "probability" (of the second of two classes) or "labels"."""
    numbers, wanted_numbers = pd.to_numeric(labels, errors="coerce"), pd.to_numeric(wanted, errors="coerce")
    whole = numbers.notna().all() and (numbers % 1 == 0).all()
    if numbers.notna().all() and (labels.nunique() > 20 or (not whole and labels.nunique() > 2)):
        return "numbers"
    in_words = wanted.str.contains(".", regex=False).any() and not labels.str.contains(".", regex=False).any()
    if labels.nunique() == 2 and in_words and wanted_numbers.between(0, 1).all():
        return "probability"
    return "labels"


def fit(train, test, columns, target, kind, classes, make_model, seed):
    """Predictions for the test rows, the metric's name and its cross-validated value."""
    truth = (pd.to_numeric(train[target]) if kind == "numbers" else train[target]).to_numpy()
    numeric = [c for c in columns if pd.api.types.is_numeric_dtype(train[c]) and pd.api.types.is_numeric_dtype(test[c])]
    texts = [c for c in columns if c not in numeric and train[c].nunique() <= MOST_CATEGORIES]
    x_train, x_test = (
        pd.concat(
            [part[numeric].astype(float), part[texts].astype(object).where(part[texts].notna(), "none").astype(str)],
            axis=1,
        )
        for part in (train, test)
    )
    x_train["constant"], x_test["constant"] = 1.0, 1.0  # where no column can be used
    model = make_pipeline(
        make_column_transformer(
            (
                make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()),
                [*numeric, "constant"],
            ),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
        ),
        make_model(kind != "numbers", seed),
    )

    def predict(fitted, x):
        if kind in ("labels", "numbers"):
            return fitted.predict(x)
        shares = pd.DataFrame(fitted.predict_proba(x), columns=fitted.classes_)
        if kind == "probability":
            return shares[max(set(truth))].to_numpy()
        return shares.reindex(columns=classes, fill_value=0.0).to_numpy()

    def measure(y, predicted):
        if kind == "numbers":
            return mean_squared_error(y, predicted) ** 0.5
        if kind == "labels":
            return accuracy_score(y, predicted)
        if kind == "probability":
            return roc_auc_score(y == max(set(truth)), predicted)
        order = np.argsort(classes)
        return log_loss(y, predicted[:, order], labels=[classes[i] for i in order])

    can_stratify = kind != "numbers" and pd.Series(truth).value_counts().min() >= FOLDS
    split = (StratifiedKFold if can_stratify else KFold)(FOLDS, shuffle=True, random_state=0)
    if any(c.endswith("_day") and train[c].is_monotonic_increasing and train[c].max() < test[c].min() for c in columns):
        split = TimeSeriesSplit(FOLDS)  # the future is to be foretold, here too
    scores = []
    for fit_rows, held_out in split.split(x_train, truth):
        part = clone(model).fit(x_train.iloc[fit_rows], truth[fit_rows])
        scores.append(measure(truth[held_out], predict(part, x_train.iloc[held_out])))
    metric = {"numbers": "rmse", "labels": "accuracy", "probability": "roc_auc", "distribution": "log_loss"}[kind]
    return predict(model.fit(x_train, truth), x_test), metric, np.mean(scores)
