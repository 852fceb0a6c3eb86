"""Charts of the data and the model. Each raises ImportError without matplotlib, ValueError where there is nothing to show."""

from pathlib import Path

import numpy as np
import pandas as pd
from reports import associations, loss_curve

MOST_PANELS = 12
MOST_POINTS = 2000


def figure(rows: int = 1, columns: int = 1, **options):
    """A figure and its axes, in a flat list."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(max(8, 3.2 * columns), max(5, 2.6 * rows)), layout="constrained", **options)
    return made, list(np.ravel(made.subplots(rows, columns)))


def save(made, path: Path, title: str) -> None:
    made.suptitle(title)
    made.savefig(path, dpi=110)


def numbers(evidence) -> pd.DataFrame:
    """The numeric features that vary, at most MOST_PANELS of them."""
    table = evidence.train[evidence.numeric].astype(float)
    table = table.loc[:, table.nunique() > 1]
    if table.empty:
        raise ValueError("the table has no numeric features")
    return table.iloc[:, :MOST_PANELS]


def distribution_plot(evidence, path: Path) -> None:
    table = numbers(evidence)
    columns = min(4, table.shape[1])
    made, axes = figure(-(-table.shape[1] // columns), columns)
    for axis, name in zip(axes, table, strict=False):
        axis.hist(table[name].dropna(), bins=30, color="tab:blue", edgecolor="white", linewidth=0.3)
        axis.set_title(name)
    for axis in axes[table.shape[1] :]:
        axis.axis("off")
    save(made, path, "Distribution of the features")


def correlation_heatmap(evidence, path: Path) -> None:
    table = numbers(evidence)
    if evidence.target and evidence.is_regression:
        table = table.assign(**{evidence.target: evidence.train[evidence.target].astype(float)})
    made, (axis,) = figure()
    image = axis.imshow(table.corr(), cmap="coolwarm", vmin=-1, vmax=1)
    axis.set_xticks(range(table.shape[1]), table.columns, rotation=90)
    axis.set_yticks(range(table.shape[1]), table.columns)
    made.colorbar(image, label="correlation")
    save(made, path, "Correlation of the features")


def outlier_analysis(evidence, path: Path) -> None:
    table = numbers(evidence)
    made, (axis,) = figure()
    scaled = (table - table.mean()) / table.std()
    axis.boxplot(
        [scaled[name].dropna() for name in scaled], patch_artist=True, boxprops={"facecolor": "lightsteelblue"}
    )
    axis.set_xticks(range(1, table.shape[1] + 1), table.columns, rotation=45, ha="right")
    axis.set_ylabel("standard deviations from the mean")
    save(made, path, "Outliers by Tukey's fences")


def target_distribution(evidence, path: Path) -> None:
    if evidence.target is None:
        raise ValueError("the task has no single target")
    made, (axis,) = figure()
    target = evidence.train[evidence.target].dropna()
    if evidence.is_regression:
        axis.hist(target.astype(float), bins=40, color="tab:green", edgecolor="white", linewidth=0.3)
    else:
        counts = target.value_counts().head(30)
        axis.barh([str(name) for name in counts.index], counts, color="tab:green")
    axis.set_xlabel(evidence.target if evidence.is_regression else "rows")
    save(made, path, f"Distribution of {evidence.target}")


def feature_relationships(evidence, path: Path) -> None:
    strongest = [name for name in associations(evidence).index if name in numbers(evidence)][:2]
    if len(strongest) < 2:
        raise ValueError("needs two numeric features and a target")
    rows = evidence.train.dropna(subset=[*strongest, evidence.target])
    rows = rows.sample(min(len(rows), MOST_POINTS), random_state=0)
    made, (axis,) = figure()
    target = rows[evidence.target]
    codes = target.astype(float) if evidence.is_regression else pd.Categorical(target.astype(str)).codes
    points = axis.scatter(rows[strongest[0]], rows[strongest[1]], c=codes, s=14, cmap="viridis", alpha=0.7)
    made.colorbar(points, label=evidence.target)
    axis.set_xlabel(strongest[0])
    axis.set_ylabel(strongest[1])
    save(made, path, "The two features that say most of the target")


def held_out(evidence, *, regression: bool) -> pd.DataFrame:
    if evidence.held_out is None or evidence.is_regression != regression:
        raise ValueError(f"needs held-out rows of a {'regression' if regression else 'classification'} task")
    return evidence.held_out


def forecast_plot(evidence, path: Path) -> None:
    rows = held_out(evidence, regression=True)
    made, (axis,) = figure()
    time = rows["date"] if "date" in rows else np.arange(len(rows))
    axis.plot(time, rows["truth"], label="truth", color="black", linewidth=1)
    axis.plot(time, rows["predicted"], label="prediction", color="tab:red", linewidth=1)
    axis.legend()
    axis.set_ylabel(evidence.target)
    save(made, path, "The end of the training data, held out")


def residual_analysis(evidence, path: Path) -> None:
    rows = held_out(evidence, regression=True)
    residuals = rows["predicted"] - rows["truth"]
    made, (points, histogram) = figure(1, 2)
    points.scatter(rows["predicted"], residuals, s=12, alpha=0.6)
    points.axhline(0, color="black", linewidth=0.8)
    points.set_xlabel("prediction")
    points.set_ylabel("residual")
    histogram.hist(residuals, bins=30, color="tab:orange", edgecolor="white", linewidth=0.3)
    histogram.set_xlabel("residual")
    save(made, path, "Residuals on held-out rows")


def confusion_matrix(evidence, path: Path) -> None:
    from sklearn.metrics import confusion_matrix as count

    rows = held_out(evidence, regression=False)
    labels = sorted({*rows["truth"], *rows["predicted"]})
    counts = count(rows["truth"], rows["predicted"], labels=labels)
    made, (axis,) = figure()
    image = axis.imshow(counts, cmap="Blues")
    for place in np.ndindex(counts.shape) if len(labels) <= 20 else ():
        dark = counts[place] > counts.max() / 2
        axis.text(place[1], place[0], counts[place], ha="center", va="center", color="white" if dark else "black")
    axis.set_xticks(range(len(labels)), labels, rotation=90)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_xlabel("prediction")
    axis.set_ylabel("truth")
    made.colorbar(image, label="held-out rows")
    save(made, path, "Confusion matrix")


def training_curves(evidence, path: Path) -> None:
    losses = loss_curve(evidence)
    made, (axis,) = figure()
    axis.plot(range(1, len(losses) + 1), losses, color="tab:blue")
    axis.fill_between(range(1, len(losses) + 1), losses, alpha=0.2)
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss")
    axis.grid(alpha=0.4)
    save(made, path, "Training loss")


def sample_predictions(evidence, path: Path) -> None:
    rows = held_out(evidence, regression=False)
    images = evidence.data / "train_images.npy"
    if not images.is_file():
        raise ValueError("the task has no train_images.npy")
    pixels = np.load(images, mmap_mode="r", allow_pickle=False)
    made, axes = figure(3, 6)
    for axis, (place, row) in zip(axes, rows.iterrows(), strict=False):
        axis.imshow(pixels[place].squeeze(), cmap="gray")
        right = row["truth"] == row["predicted"]
        axis.set_title(f"{row['predicted']} (is {row['truth']})", color="black" if right else "tab:red", fontsize=9)
    for axis in axes:
        axis.axis("off")
    save(made, path, "Predictions for held-out images")


def cluster_plot(evidence, path: Path) -> None:
    from sklearn.decomposition import PCA

    test = pd.read_csv(evidence.data / "test.csv")
    groups = pd.read_csv(evidence.submission)[evidence.targets[0]]
    table = test[[name for name in numbers(evidence) if name in test]].astype(float)
    table = (table.fillna(table.mean()) - table.mean()) / table.std()
    places = PCA(min(2, table.shape[1])).fit_transform(table)
    made, (axis,) = figure()
    points = axis.scatter(places[:, 0], places[:, -1], c=pd.Categorical(groups).codes, s=16, cmap="tab10")
    made.colorbar(points, label="cluster")
    axis.set_xlabel("first principal component")
    axis.set_ylabel("second principal component")
    save(made, path, "Clusters of the test rows")


# the first five are those of an analysis of the data
CHARTS = {
    "distribution_plot.png": distribution_plot,
    "correlation_heatmap.png": correlation_heatmap,
    "outlier_analysis.png": outlier_analysis,
    "target_distribution.png": target_distribution,
    "feature_relationships.png": feature_relationships,
    "forecast_plot.png": forecast_plot,
    "residual_analysis.png": residual_analysis,
    "confusion_matrix.png": confusion_matrix,
    "training_curves.png": training_curves,
    "sample_predictions.png": sample_predictions,
    "cluster_plot.png": cluster_plot,
}
