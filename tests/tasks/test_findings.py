"""Statistics and findings are those of the data, or count for nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from validation import HIDDEN, ROWS, SUMMARY, Place, make_table, make_task

from helpers.tasks.judging.findings import Statistic, Table, check_findings, check_statistics
from helpers.tasks.judging.pickles import BadFile


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    frame = make_table().assign(id=range(ROWS + HIDDEN))
    frame.loc[:19, "f_1"] = np.nan
    frame.to_csv(tmp_path / "train.csv", index=False, float_format="%.4f")
    return Table(tmp_path)


def described(table: Table, **changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps({**table.frame.describe().to_dict(), **changes}), parse_int=float)


def test_right_statistics_are_accepted_in_many_forms(table: Table) -> None:
    right = described(table)
    check_statistics(right, table)
    check_statistics({"numeric": {"train": right}, "n_rows": 300.0}, table)
    check_statistics(json.loads(table.frame.describe().T.to_json(), parse_int=float), table)
    check_statistics(json.loads(table.frame.describe().round(2).to_json(), parse_int=float), table)
    by_name = {name: {c: v for c, v in getattr(table.frame, name)().items()} for name in ("mean", "std", "median")}
    check_statistics(by_name, table)
    rows = [{"column": c, "Mean": v["mean"], "Std Dev": v["std"]} for c, v in right.items()]
    check_statistics({"columns": rows}, table)
    pairs = {one: {other: {"mean": 7.0} for other in right} for one in right}  # of two columns: tells nothing of one
    holes = {column: {"q1": float("nan"), "q3": float("inf"), "count": float("nan")} for column in right}
    check_statistics(
        {"right": {c: {k: v[k] for k in ("mean", "std")} for c, v in right.items()}, "pairs": pairs, "holes": holes},
        table,
    )
    extra = {
        c: v | {"missing": table.summary[c]["missing"], "skewness": table.summary[c]["skewness"]}
        for c, v in right.items()
    }
    check_statistics(extra, table)


WRONG_STATISTICS = {
    "nothing": {},
    "made up": {f"f_{n}": {"mean": 0.0, "std": 1.0, "min": -3.0, "max": 3.0} for n in range(4)},
    "other columns": {f"x_{n}": {"mean": 0.0, "std": 1.0} for n in range(4)},
    "accuracy": {"accuracy": 0.99, "mean": 1.0},
    "sprayed": {
        f"try_{i}": {f"f_{n}": {"mean": i / 100, "std": i / 100, "median": i / 100} for n in range(4)}
        for i in range(0, 1000)
    },
}


@pytest.mark.parametrize("name", WRONG_STATISTICS)
def test_made_up_statistics_are_refused(table: Table, name: str) -> None:
    with pytest.raises(BadFile, match="statistics"):
        check_statistics(json.loads(json.dumps(WRONG_STATISTICS[name]), parse_int=float), table)


def test_half_right_statistics_are_refused(table: Table) -> None:
    right = described(table)
    with pytest.raises(BadFile, match="the right statistics of 2 of the 4 columns"):
        check_statistics({name: right[name] for name in ("f_0", "f_1")}, table)
    with pytest.raises(BadFile, match="the right statistics of 0 of the 4 columns"):
        check_statistics({name: {"mean": values["mean"]} for name, values in right.items()}, table)
    scaled = {name: {key: value * 1.02 for key, value in values.items()} for name, values in right.items()}
    with pytest.raises(BadFile, match="the right statistics of 0 of the 4 columns"):
        check_statistics(scaled, table)
    many = {"right": right, **{f"wrong_{n}": scaled for n in range(3)}}
    with pytest.raises(BadFile, match="is wrong in most of its"):
        check_statistics(many, table)


def test_statistics_of_a_table_without_numbers_cannot_be_wrong(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a b", "c d"]}).to_csv(tmp_path / "train.csv", index=False)
    check_statistics({"rows": 2.0}, Table(tmp_path))


def true_findings(table: Table) -> list[str]:
    s, frame = table.summary, table.frame
    shares = frame["target"].value_counts(normalize=True)
    return [
        f"The average of `f_0` is {s['f_0']['mean']:.2f}, with a standard deviation of {s['f_0']['std']:.2f} (n=300).",
        f"**f_2 and f_3** move together: Pearson's r = {frame['f_2'].corr(frame['f_3']):.3f} (p < 0.001).",
        f"f_1 lacks 20 values, {100 * 20 / 300:.1f}% of all.",
        f"Class {shares.idxmax()} makes up {100 * shares.max():.1f} % of the rows.",
        f"What sets the classes apart is f_0: its mean is {frame.groupby('target')['f_0'].mean()[1]:.2f} in class 1.",
        f"F_3 reaches from {s['f_3']['min']:.2f} to {s['f_3']['max']:.2f}, the widest range of all.",
    ]


def test_what_is_nearly_nought_must_be_told_to_two_digits() -> None:
    correlation = Statistic(("correlation",), 0.0123, 0.006)
    assert not correlation.matches(0.01, 0.005) and correlation.matches(0.012, 0.0005)
    assert not correlation.matches(0.0, 0.005) and not correlation.matches(0.014, 0.0005)


def test_rows_thresholds_and_signs_do_not_hide_a_finding(table: Table) -> None:
    s = table.summary
    for finding in (
        f"With n = 300, that is 300 rows, f_0 has a mean of {s['f_0']['mean']:.2f}.",
        f"At the 0.05 level and beyond 1.5 times the quartiles (95%), f_0 spreads by {s['f_0']['std']:.2f}.",
        f"**f_3** is \u2212{-s['f_3']['min']:.2f} at least, **{s['f_3']['max']:.2f}** at most.",
    ):
        assert check_findings(report(finding), table) == 1, finding


def test_a_column_is_named_in_any_case_but_not_by_other_letters(tmp_path: Path) -> None:
    pd.DataFrame({"size": np.arange(50) * 1.7}).to_csv(tmp_path / "train.csv", index=False)
    table = Table(tmp_path)
    assert check_findings(report("The mean of SIZE is 41.65, as it should."), table) == 1
    assert check_findings(report("The mean of \u017fize is 41.65, as it should."), table) == 0


def test_reports_of_too_many_findings_or_figures_are_refused(table: Table) -> None:
    for text in ("- f_0 has 12.34 of it\n" * 501, "f_0 has " + "12.34 " * 51):
        with pytest.raises(BadFile, match="has over 500 findings, or one with over 50 figures"):
            check_findings(text, table)


def report(*findings: str) -> str:
    return "# Report\n\nAn introduction without figures.\n\n" + "\n".join(f"- {finding}" for finding in findings) + "\n"


def test_true_findings_count_in_lists_and_paragraphs(table: Table) -> None:
    findings = true_findings(table)
    assert check_findings(report(*findings), table) == 6
    assert check_findings("\n\n".join(findings), table) == 6
    assert check_findings("".join(f"{n}. {text}\n   more of it\n" for n, text in enumerate(findings)), table) == 6
    for finding in findings:
        assert check_findings(report(finding), table) == 1, finding


def test_findings_count_once(table: Table) -> None:
    first = true_findings(table)[0]
    assert check_findings(report(first, first, first), table) == 1
    assert (
        check_findings(report(first, first.replace("average", "mean value").replace("The", "Evidently the")), table)
        == 1
    )
    templated = [f"The column f_{n} has a mean value of {table.summary[f'f_{n}']['mean']:.3f}." for n in range(4)]
    assert check_findings(report(*templated), table) == 1
    rows = "| column | mean |\n|---|---|\n" + "".join(
        f"| f_{n} | {table.summary[f'f_{n}']['mean']:.3f} |\n" for n in range(4)
    )
    assert check_findings(rows, table) == 0


UNTRUE = {
    "no figure": "f_0 has a long tail to the right and f_1 doesn't.",
    "no column": "The mean is 3.05 and the standard deviation 2.61.",
    "index of the column": "The columns f_0, f_1, f_2 and f_3 are all interesting, f_3 most.",
    "rows": "f_0 has 300 rows, as f_1 has.",
    "few digits": "f_0 has a mean of about 3 and a standard deviation of 3.",
    "coarse": "f_0 reaches from -3 to 9.1e0, roughly 1e1.",
    "thresholds": "With 95% confidence f_0 has outliers beyond 1.5 times the quartiles, at the 0.05 level.",
    "classes by arithmetic": "Class 0 has 33% of the rows, as there are 3 classes.",
    "no correlation": "f_0 has a correlation of 0.01 with target.",
    "wrong": "f_0 has a mean of 17.52 and a median of 16.11.",
    "of another column": None,
    "sprayed": "f_0 may have a mean of " + ", ".join(f"{n / 100:.2f}" for n in range(280, 325)) + ".",
}


@pytest.mark.parametrize("name", UNTRUE)
def test_what_is_no_finding_does_not_count(table: Table, name: str) -> None:
    text = UNTRUE[name] or f"The mean of f_1 is {table.summary['f_0']['mean']:.3f}."
    try:
        assert check_findings(report(text), table) == 0
    except BadFile as error:
        assert "of which 0 agree" in str(error)


def test_a_few_hits_among_many_guesses_do_not_count(table: Table) -> None:
    hits = true_findings(table)
    misses = [f"In row {n} we see f_{n % 4} near {n * 7.77:.2f}." for n in range(20, 40)]
    with pytest.raises(BadFile, match="has 26 findings with figures of columns, of which [67] agree"):
        check_findings(report(*hits, *misses), table)
    assert check_findings(report(*hits, *misses[:3]), table) == 6


@pytest.mark.timeout(60)
def test_hostile_reports_are_quick(table: Table) -> None:
    started = time.monotonic()
    for text in (
        "f_0 " * 200_000,
        "f_0 is " + "1.234 " * 300_000,
        "- f_0 f_1 f_2 f_3 target 1.234 2.345\n" * 50_000,
        "- f_0 " + "9" * 1_000_000,
        "f_0 " + "1," * 500_000,
        "f_0 1e99 1e-99 999999999999999999e99 .5 5. 1.2.3 -+5",
        "|" * 1_000_000,
        "\u2212" * 1_000_000,
        "\u212a \u0130 \u017f " * 100_000,
    ):
        try:
            assert check_findings(text, table) == 0
        except BadFile:
            pass
    assert time.monotonic() - started < 20


def test_insights_and_statistics_are_judged_in_an_evaluation(place: Place) -> None:
    required = ["submission.csv", "analysis_report.md", "summary_statistics.json"]
    task = place.prepare(make_task(required_insights=3, required_outputs=required))
    place.submit(wrong=2)
    table = Table(place.public)
    s, r = table.summary, table.frame["f_2"].corr(table.frame["f_3"])
    findings = [
        f"The average of f_0 is {s['f_0']['mean']:.2f}.",
        f"f_2 and f_3 move together: r = {r:.3f}.",
        f"The spread of f_1, its standard deviation, is {s['f_1']['std']:.3f}.",
    ]
    place.write("summary_statistics.json", json.dumps(table.frame.describe().to_dict()))
    place.write("analysis_report.md", SUMMARY + report(*findings))
    verdict = place.judge(task)
    assert verdict["success"], verdict
    place.write("analysis_report.md", SUMMARY + report(*findings[:2]))
    place.write("summary_statistics.json", json.dumps(WRONG_STATISTICS["made up"]))
    verdict = place.judge(task)
    assert verdict["criteria_met"] == {"required_outputs": False, "required_insights": False}
    assert verdict["output_check"]["files_missing"] == ["summary_statistics.json"]
    (place.results / "analysis_report.md").unlink()
    assert "required_insights: not met: analysis_report.md is missing" in place.judge(task)["feedback"]
    place.write("analysis_report.md", report(*findings))  # true, but hardly a report
    assert not place.judge(task)["criteria_met"]["required_insights"]
