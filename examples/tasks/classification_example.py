"""Solves a task with a table of classes, such as classification_basic, with a random forest.

    python -m helpers.run_task classification_basic --local --script examples/tasks/classification_example.py --validate

DATA_DIR holds train.csv (id, features, target) and test.csv (the same without target). submission.csv and model_summary.txt are
written to RESULTS_DIR, or SUBMISSION_DIR where that isn't set.
"""

import os
from pathlib import Path

import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score


def main() -> None:
    data = Path(os.environ.get("DATA_DIR", "."))
    results = Path(os.environ.get("RESULTS_DIR") or os.environ.get("SUBMISSION_DIR") or ".")
    train, test = pd.read_csv(data / "train.csv"), pd.read_csv(data / "test.csv")
    features = [name for name in train.columns if name not in ("id", "target")]

    model = RandomForestClassifier(n_estimators=100, random_state=0)
    scores = cross_val_score(model, train[features], train["target"], cv=5)
    model.fit(train[features], train["target"])

    predictions = pd.DataFrame({"id": test["id"], "target": model.predict(test[features])})
    predictions.to_csv(results / "submission.csv", index=False)
    weights = pd.Series(model.feature_importances_, index=features).nlargest(3)
    (results / "model_summary.txt").write_text(
        f"Model: a random forest of {model.n_estimators} trees, trained on all {len(train)} rows of train.csv.\n"
        f"Accuracy in five-fold cross-validation: {scores.mean():.4f} (standard deviation {scores.std():.4f}).\n"
        f"The features that its trees split by most: {', '.join(f'{name} ({w:.3f})' for name, w in weights.items())}.\n"
        f"submission.csv holds a predicted target for each of the {len(test)} rows of test.csv.\n"
    )
    print(f"accuracy in cross-validation: {scores.mean():.4f}")


if __name__ == "__main__":
    main()
