"""Texts and figures on what the pipeline found: reports, statistics, the training log, and the model itself."""

import json
from pathlib import Path

import numpy as np
import pandas as pd


def associations(evidence) -> pd.Series:
    """How much each numeric feature says of the target by itself, 0 to 1, strongest first: |r|, or the correlation ratio."""
    if evidence.target is None:
        return pd.Series(dtype=float)
    rows = evidence.train[evidence.train[evidence.target].notna()]
    found = {}
    for name in evidence.numeric:
        values, target = rows[name].astype(float), rows[evidence.target]
        spread = ((values - values.mean()) ** 2).sum()
        if not spread:
            continue
        if evidence.is_regression:
            found[name] = abs(values.corr(target.astype(float)))
        else:
            groups = values.groupby(target)
            found[name] = ((groups.mean() - values.mean()) ** 2 * groups.count()).sum() / spread
            found[name] = float(np.sqrt(min(found[name], 1.0)))
    return pd.Series(found, dtype=float).dropna().sort_values(ascending=False)


def outliers(table: pd.DataFrame) -> pd.Series:
    """Per column, how many values lie over 1.5 interquartile ranges beyond the quartiles (Tukey's fences), most first."""
    low, high = table.quantile(0.25), table.quantile(0.75)
    beyond = (table < low - 1.5 * (high - low)) | (table > high + 1.5 * (high - low))
    return beyond.sum().sort_values(ascending=False)


def findings(evidence) -> list[str]:
    """What the training rows show, a sentence with figures each."""
    train, table = evidence.train, evidence.train[evidence.numeric].astype(float)
    said = [
        f"There are {len(train)} training rows with {len(evidence.features)} features, {len(evidence.numeric)} of them numeric, "
        f"and {int(train.duplicated().sum())} repeated rows."
    ]
    return [*said, *_on_missing(train), *_on_target(evidence), *_on_numbers(table), *_on_strengths(evidence)]


def _on_missing(train: pd.DataFrame) -> list[str]:
    missing = train.isna().sum().sort_values(ascending=False)
    if not missing.iloc[0]:
        return ["No cell is empty."]
    worst = f"`{missing.index[0]}` lacks most: {missing.iloc[0]} values ({missing.iloc[0] / len(train):.1%})"
    return [f"{(missing > 0).sum()} columns have empty cells. {worst}."]


def _on_target(evidence) -> list[str]:
    if evidence.target is None:
        return []
    name, values = evidence.target, evidence.train[evidence.target].dropna()
    if evidence.is_regression:
        values = values.astype(float)
        return [
            f"`{name}` runs from {values.min():.4g} to {values.max():.4g}, with mean {values.mean():.4g}, standard deviation "
            f"{values.std():.4g} and skewness {values.skew():.2f}."
        ]
    counts = values.value_counts()
    most, least = (f"{counts.index[n]} in {counts.iloc[n]} rows ({counts.iloc[n] / len(values):.1%})" for n in (0, -1))
    return [f"`{name}` has {len(counts)} classes. The most frequent is {most}, the rarest {least}."]


def _on_numbers(table: pd.DataFrame) -> list[str]:
    said = []
    if table.shape[1] > 1:
        related = table.corr()
        strength = related.abs().to_numpy(copy=True)
        np.fill_diagonal(strength, 0)
        one, other = np.unravel_index(np.nanargmax(strength), strength.shape)
        pair = f"`{table.columns[one]}` and `{table.columns[other]}`"
        said.append(
            f"The features that go together most are {pair}: their correlation is {related.iloc[one, other]:.2f}."
        )
    if table.shape[1]:
        far, widest, skewness = outliers(table), table.std().idxmax(), table.skew()
        skewed = skewness.abs().idxmax()
        most = f"`{far.index[0]}` has most outliers beyond Tukey's fences: {int(far.iloc[0])} ({far.iloc[0] / len(table):.1%})."
        said += [
            most if far.iloc[0] else "No value lies beyond Tukey's fences.",
            f"The values of `{widest}` are spread widest: standard deviation {table[widest].std():.4g} around a mean of "
            f"{table[widest].mean():.4g}, from {table[widest].min():.4g} to {table[widest].max():.4g}.",
            f"The distribution of `{skewed}` is the least symmetric one; its skewness is {skewness[skewed]:.2f}.",
        ]
    return said


def _on_strengths(evidence) -> list[str]:
    strengths = associations(evidence)
    if len(strengths) < 2:
        return []
    best, worst = (f"`{strengths.index[n]}` ({strengths.iloc[n]:.2f} of 1)" for n in (0, -1))
    return [f"Taken alone, {best} says most of what is to be predicted, and {worst} least."]


def on_held_out(evidence) -> list[str]:
    """How a second model did on training rows that it had not seen."""
    rows = evidence.held_out
    if rows is None:
        return ["No rows were held out: the task has no single column of labels."]
    if not evidence.is_regression:
        right = rows["truth"] == rows["predicted"]
        by_class = right.groupby(rows["truth"]).mean()
        return [
            f"Accuracy on {len(rows)} held-out rows: {right.mean():.4f}.",
            *(
                f"  class {name}: {share:.3f} of {int((rows['truth'] == name).sum())}"
                for name, share in by_class.items()
            ),
        ]
    errors = rows["predicted"] - rows["truth"]
    lines = [
        f"On {len(rows)} held-out rows: mean absolute error {errors.abs().mean():.4g}, RMSE {np.sqrt((errors**2).mean()):.4g}, "
        f"R2 {1 - (errors**2).sum() / ((rows['truth'] - rows['truth'].mean()) ** 2).sum():.4f}.",
        f"The residuals have mean {errors.mean():.4g} and standard deviation {errors.std():.4g}.",
    ]
    if "date" in rows:
        lines.append(
            f"The rows run from {rows['date'].min():%Y-%m-%d} to {rows['date'].max():%Y-%m-%d}, after all others."
        )
        lines.append(f"Autocorrelation of the residuals at lag 1: {errors.autocorr(1):.3f}.")
    return lines


def model_report(evidence, path: Path) -> None:
    """The model, its scores, and the data it learnt from."""
    model = evidence.model if evidence.models else "k-means, with the number of clusters of the best silhouette"
    lines = [
        f"Task: {evidence.title} ({evidence.task_type}). The model is fitted to `train.csv` and predicts every row of `test.csv`.",
        f"Model: {model}",
        f"Features: {len(evidence.features)} columns ({', '.join(evidence.features[:20])})",
        f"Score: {evidence.measured}",
        f"Training and measuring took {evidence.training_seconds:.1f} seconds.",
        "",
        *on_held_out(evidence),
        "",
        "Data:",
        *(f"- {sentence}" for sentence in findings(evidence)),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def analysis_report(evidence, path: Path) -> None:
    """The findings, what they are drawn from, and what the model makes of them."""
    lines = [
        f"# Analysis of the training data: {evidence.title}",
        "",
        "## Findings",
        "",
        *(f"{number}. {sentence}" for number, sentence in enumerate(findings(evidence), 1)),
        "",
        "## Model",
        "",
        f"Predictions for every row of `test.csv` are in `submission.csv`: {evidence.measured}.",
        *on_held_out(evidence),
        "",
        "## Method",
        "",
        "Association with the target is the correlation (numbers) or the correlation ratio (classes); outliers are counted by "
        "Tukey's fences at 1.5 interquartile ranges. Statistics of each column are in summary_statistics.json.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def summary_statistics(evidence, path: Path) -> None:
    """Statistics of each column of train.csv, outliers, and each feature's association with the target."""
    content = {
        **evidence.exploration["tables"]["train.csv"],
        "association_with_target": {name: round(value, 6) for name, value in associations(evidence).items()},
        "outliers": {name: int(count) for name, count in outliers(evidence.train[evidence.numeric]).items()},
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def loss_curve(evidence) -> list[float]:
    """The training loss after each epoch. Raises ValueError for a model that isn't trained in epochs."""
    curve = getattr(getattr(evidence.model, "regressor_", evidence.model), "loss_curve_", None)
    if curve is None:
        raise ValueError("this model isn't trained in epochs (EXPERIMENT_FOCUS=dl fits one that is)")
    return [float(loss) for loss in curve]


def training_log(evidence, path: Path) -> None:
    """Loss by epoch, and what came of it."""
    epochs = [{"epoch": number, "loss": loss} for number, loss in enumerate(loss_curve(evidence), 1)]
    content = {
        "model": str(evidence.model),
        "epochs": epochs,
        "training_seconds": round(evidence.training_seconds, 3),
        f"cross_validated_{evidence.metric}": evidence.score,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save_model(evidence, folder: Path) -> str:
    """Write the fitted model: a network's weights as arrays, anything else with joblib; returns the file's name."""
    if not evidence.models:
        raise ValueError("no model was fitted that could be kept")
    inner = getattr(evidence.model, "regressor_", evidence.model)
    if hasattr(inner, "coefs_"):
        arrays = {f"weights_{number}": weights for number, weights in enumerate(inner.coefs_)}
        arrays |= {f"biases_{number}": biases for number, biases in enumerate(inner.intercepts_)}
        np.savez(folder / "model.npz", **arrays)
        return "model.npz"
    import joblib

    joblib.dump(evidence.model, folder / "model.joblib", compress=3)
    return "model.joblib"


REPORTS = {
    "model_summary.txt": model_report,
    "model_analysis.txt": model_report,
    "model_diagnostics.txt": model_report,
    "analysis_report.md": analysis_report,
    "summary_statistics.json": summary_statistics,
    "training_log.json": training_log,
}
