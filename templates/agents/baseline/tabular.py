"""Solves a tabular task: from train.csv, test.csv and sample_submission.csv to a submission and a validation score."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

MOST_ROWS = 20_000  # of the training data, drawn at random
MOST_CATEGORIES = 50  # a text column with more is left out
FOLDS = 5


def solve(folder, submission_path, make_model, seed=0):
    """Fit, cross-validate and write the submission.

    make_model(classify, seed) returns a scikit-learn classifier or regressor. The first column of sample_submission.csv
    is the id, the others are targets: labels, numbers or the probability of the second of two classes; or one column of
    probabilities for each class of the only column that test.csv lacks. Returns the name of the metric and its mean
    value over all targets. Raises ValueError for other forms.
    """
    folder = Path(folder)
    sample = pd.read_csv(folder / "sample_submission.csv", dtype=str, keep_default_na=False)
    id_column, targets = sample.columns[0], list(sample.columns[1:])
    # labels are kept as they are spelled: True stays True, and 01 stays 01
    train = pd.read_csv(folder / "train.csv", dtype=dict.fromkeys([id_column, *targets], str), low_memory=False)
    test = pd.read_csv(folder / "test.csv", dtype={id_column: str}, low_memory=False)
    if len(train) > MOST_ROWS:
        train = train.sample(MOST_ROWS, random_state=seed)
    columns = [name for name in test.columns if name in train.columns and name not in (id_column, *targets)]
    answers, scores = pd.DataFrame(index=test.index), []
    with threadpool_limits(1):  # small data: more threads would only get into each other's way
        if set(targets) <= set(train.columns):
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
    scores = []
    for fit_rows, held_out in split.split(x_train, truth):
        part = clone(model).fit(x_train.iloc[fit_rows], truth[fit_rows])
        scores.append(measure(truth[held_out], predict(part, x_train.iloc[held_out])))
    metric = {"numbers": "rmse", "labels": "accuracy", "probability": "roc_auc", "distribution": "log_loss"}[kind]
    return predict(model.fit(x_train, truth), x_test), metric, np.mean(scores)
