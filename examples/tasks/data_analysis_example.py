"""Solves data_analysis_exploratory: statistics, findings and charts of train.csv, and predictions for test.csv.

    python -m helpers.run_task data_analysis_exploratory --local --script examples/tasks/data_analysis_example.py --validate

Reads DATA_DIR; writes to RESULTS_DIR, or SUBMISSION_DIR where that isn't set. The charts are drawn with Pillow alone, so that it
runs where there is no matplotlib; with matplotlib it would be shorter.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from sklearn.ensemble import RandomForestClassifier

WIDTH, HEIGHT, MARGIN = 640, 480, 50
COLOURS = ["#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd"]


class Chart:
    """An image with a title and a frame; x and y are given as data, within the limits."""

    def __init__(self, title, xlim=(0, 1), ylim=(0, 1), labels=("", "")):
        self.image = Image.new("RGB", (WIDTH, HEIGHT), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.xlim, self.ylim = xlim, ylim
        self.draw.rectangle((MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), outline="black")
        self.draw.text((WIDTH // 3, 15), title, "black")
        self.draw.text((WIDTH // 2, HEIGHT - 20), labels[0], "black")
        self.draw.text((5, 30), labels[1], "black")
        for part in (0, 0.5, 1):
            x, y = (low + part * (high - low) for low, high in (xlim, ylim))
            self.draw.text((self.at(x, ylim[0])[0] - 10, HEIGHT - MARGIN + 5), f"{x:.4g}", "dimgrey")
            self.draw.text((5, self.at(xlim[0], y)[1] - 5), f"{y:.4g}", "dimgrey")

    def at(self, x, y):
        """Where a point of the data lies, in pixels."""
        right = (x - self.xlim[0]) / (self.xlim[1] - self.xlim[0])
        up = (y - self.ylim[0]) / (self.ylim[1] - self.ylim[0])
        return MARGIN + right * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    def box(self, x1, x2, y1, y2, colour):
        (left, bottom), (right, top) = self.at(x1, y1), self.at(x2, y2)
        self.draw.rectangle((left, top, right, bottom), fill=colour, outline="black")

    def line(self, xs, ys, colour):
        self.draw.line([self.at(x, y) for x, y in zip(xs, ys, strict=True)], fill=colour, width=2)

    def dots(self, xs, ys, colours):
        for x, y, colour in zip(xs, ys, colours, strict=True):
            left, top = self.at(x, y)
            self.draw.ellipse((left - 3, top - 3, left + 3, top + 3), fill=colour)


def limits(*values):
    """The range of all the numbers, a little wider."""
    low, high = min(map(np.min, values)), max(map(np.max, values))
    room = 0.05 * (high - low) or 1.0
    return float(low - room), float(high + room)


def histograms(table, title="Distributions"):
    counts = {name: np.histogram(table[name], bins=12, range=limits(table)) for name in table}
    chart = Chart(title, limits(table), (0, 1.1 * max(c.max() for c, _ in counts.values())), ("value", "rows"))
    for number, (_, (heights, edges)) in enumerate(counts.items()):
        step = (edges[1] - edges[0]) / len(counts)
        for edge, height in zip(edges[:-1], heights, strict=True):
            chart.box(edge + number * step, edge + (number + 1) * step, 0, height, COLOURS[number % 10])
    return chart.image


def heatmap(matrix, title):
    matrix = np.asarray(matrix, dtype=float)
    size, low, high = len(matrix), matrix.min(), matrix.max()
    chart = Chart(title, (0, size), (0, size), ("column", "row"))
    for row in range(size):
        for column in range(size):
            shade = int(255 * (matrix[row, column] - low) / ((high - low) or 1))
            chart.box(column, column + 1, size - row - 1, size - row, (shade, 80, 255 - shade))
    return chart.image


def boxplot(table, title="Outliers"):
    chart = Chart(title, (0, table.shape[1]), limits(table), ("column", "value"))
    for number, name in enumerate(table):
        low, median, high = table[name].quantile([0.25, 0.5, 0.75])
        reach = 1.5 * (high - low)
        chart.box(number + 0.2, number + 0.8, low, high, COLOURS[number % 10])
        chart.line((number + 0.2, number + 0.8), (median, median), "black")
        beyond = table[name][(table[name] < low - reach) | (table[name] > high + reach)]
        chart.dots([number + 0.5] * len(beyond), beyond, ["red"] * len(beyond))
    return chart.image


def bars(counts, title):
    chart = Chart(title, (0, len(counts)), (0, 1.1 * max(counts)), ("class", "rows"))
    for number, count in enumerate(counts):
        chart.box(number + 0.1, number + 0.9, 0, count, COLOURS[number % 10])
    return chart.image


def scatter(xs, ys, groups, title, labels=("", "")):
    chart = Chart(title, limits(xs), limits(ys), labels)
    chart.dots(xs, ys, [COLOURS[int(group) % 10] for group in groups])
    return chart.image


def summarise(train):
    """Per column: mean, standard deviation, quartiles and so on, and how many values are missing."""
    table = train.drop(columns="id").select_dtypes("number")
    summary = {name: {key: float(v) for key, v in column.items()} for name, column in table.describe().items()}
    for name in summary:
        summary[name]["missing"] = int(table[name].isna().sum())
    return summary


def find(train, features):
    """What stands out, in sentences with figures."""
    table = train[features]
    pairs = table.corr().abs().where(np.triu(np.ones((len(features),) * 2, dtype=bool), 1)).stack()
    one, other = pairs.idxmax()
    wide, skewed = table.std().idxmax(), table.skew().abs().idxmax()
    quartiles = table.quantile([0.25, 0.75])
    reach = 1.5 * (quartiles.loc[0.75] - quartiles.loc[0.25])
    outliers = ((table < quartiles.loc[0.25] - reach) | (table > quartiles.loc[0.75] + reach)).sum()
    shares = train["target"].value_counts(normalize=True)
    return [
        f"The strongest linear relation is that of {one} and {other}: "
        f"their correlation is {table[one].corr(table[other]):.3f}.",
        f"{wide} spreads most: its standard deviation is {table[wide].std():.3f} around a mean of {table[wide].mean():.3f}.",
        f"Half of all values of {wide} lie between {quartiles.loc[0.25, wide]:.3f} and {quartiles.loc[0.75, wide]:.3f}.",
        f"The least symmetric column is {skewed}, whose skewness is {table[skewed].skew():.3f}.",
        f"By Tukey's rule {outliers.idxmax()} has the most outliers: {outliers.max()} rows.",
        f"No label of target dominates; the most frequent one, {shares.idxmax()}, has {100 * shares.max():.1f}% of the rows.",
    ]


def main():
    data = Path(os.environ.get("DATA_DIR", "."))
    results = Path(os.environ.get("RESULTS_DIR") or os.environ.get("SUBMISSION_DIR") or ".")
    train, test = pd.read_csv(data / "train.csv"), pd.read_csv(data / "test.csv")
    features = [name for name in test.columns if name != "id"]

    (results / "summary_statistics.json").write_text(json.dumps(summarise(train), indent=2))
    few = train[features[:4]]
    correlations = train[features].corr().abs()
    histograms(few).save(results / "distribution_plot.png")
    heatmap(correlations, "Correlations of the features").save(results / "correlation_heatmap.png")
    boxplot(train[features]).save(results / "outlier_analysis.png")
    bars(list(train["target"].value_counts().sort_index()), "Labels").save(results / "label_counts.png")
    scatter(few.iloc[:, 0], few.iloc[:, 1], train["target"], "Two features").save(results / "scatter_plot.png")

    model = RandomForestClassifier(n_estimators=100, random_state=0).fit(train[features], train["target"])
    predictions = pd.DataFrame({"id": test["id"], "target": model.predict(test[features])})
    predictions.to_csv(results / "submission.csv", index=False)
    findings = "\n".join(f"- {finding}" for finding in find(train, features))
    (results / "analysis_report.md").write_text(
        f"# Report\n\nThe training table has {len(train)} rows and {len(features)} features without a name that explains them.\n\n"
        f"## Findings\n\n{findings}\n\n## Prediction\n\nA random forest was trained on all rows; what it predicts for the test "
        "rows stands in submission.csv.\n"
    )


if __name__ == "__main__":
    main()
