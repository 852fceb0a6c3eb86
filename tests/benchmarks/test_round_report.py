"""helpers/benchmarks/report.py and figures.py: the specification's tables to the letter, ours, and names that would break them."""

from __future__ import annotations

import re

import pytest
from made_rounds import asked, scored

from helpers.benchmarks import figures, report
from helpers.benchmarks.statistics import Estimate
from helpers.benchmarks.summary import round_of
from helpers.benchmarks.usage import Total

HOSTILE = [
    "a|b",
    "two\nlines",
    "back\\slash\\|",
    "| x | y |",
    "\x1b[31mred",
    "<script>",
    "`code|`",
    "[l](x)",
    "\u202eabc",
    "\r\n|---|",
]


def tables(text):
    """The tables of a markdown: lists of lines."""
    found, lines = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            found.append(lines)
            lines = []
    return found


def cells(line):
    """The cells of a row, as GFM takes them apart: a backslash makes the next character plain."""
    parts = re.findall(r"((?:\\.|[^\\|])*)\|", line[1:])
    return [re.sub(r"\\(.)", r"\1", part).strip() for part in parts]


def section(text, title):
    """The table below a heading, as dicts."""
    head, _, *rows = tables(text.partition(f"## {title}\n")[2])[0]
    return [dict(zip(cells(head), cells(row), strict=True)) for row in rows]


def test_the_specifications_tables_come_first():
    rollouts = [
        *scored(0.75, lm_score=0.5, tool_calls=12),
        *scored(0.25),
        asked("later", state=None),
    ]
    lines = report.markdown(round_of(rollouts, "nightly", "20250101__00-00-00")).splitlines()
    ids = [one["run_id"] for one in rollouts]
    assert lines[:19] == [
        "# Summary of nightly 20250101__00-00-00",
        "",
        "| task | run | unit | lm | tokens | tools |",
        "|---|---|---:|---:|---:|---:|",
        f"| toy | {ids[0]} | 0.75 | 0.5 | 1200 | 12 |",
        f"| toy | {ids[1]} | 0.25 | N/A | 1200 | N/A |",
        f"| later | {ids[2]} | N/A | N/A | N/A | N/A |",
        "",
        "## Aggregates",
        "",
        "- Unit tests average: 0.5",
        "- LM rubric average: 0.5",
        "",
        "## Per-task aggregates (mean and max over rollouts)",
        "",
        "| task | rollouts | unit_mean | unit_max | lm_mean | lm_max |",
        "|---|---:|---:|---:|---:|---:|",
        "| later | 1 | N/A | N/A | N/A | N/A |",
        "| toy | 2 | 0.5 | 0.75 | 0.5 | 0.5 |",
    ]


def test_an_average_over_metrics_is_not_told():
    two = round_of([*scored(0.5, task="a"), *scored(9, task="b", metric="rmse")])
    assert (
        report.aggregates(two)[0]
        == "- Unit tests average: N/A (scores are not averaged over 2 metrics: accuracy, rmse)"
    )
    unknown = round_of([*scored(0.5, task="a", metric=None), *scored(9, task="b", metric=None)])
    assert report.aggregates(unknown)[0].startswith(
        "- Unit tests average: N/A (scores are averaged only over tasks that"
    )
    assert report.aggregates(round_of([asked(state="lost")])) == [
        "- Unit tests average: N/A",
        "- LM rubric average: N/A",
    ]


def test_ours_tell_states_scores_rates_and_what_it_took():
    rollouts = [
        *scored(0.5, 0.7, any_medal=False),
        asked(state="timed_out", score=0.9, time_limit_reached=True, any_medal=True),
        asked(state="no_submission"),
        asked(state="lost", gpu_hours=None, reason="node gone"),
        *scored(0.4, model="80b"),
    ]
    text = report.markdown(round_of(rollouts, notes=["the budget is used up"]))
    assert (
        "6 asked for: 4 graded, 1 failed, 1 that count nowhere. By state: 3 scored, 1 timed_out, 1 no_submission, 1 lost."
        in text
    )
    assert "- the budget is used up" in text
    first, second = section(text, "Scores")
    assert first == {
        **{"task": "toy", "agent": "aide", "model": "30b", "asked": "5", "graded": "3", "failed": "1", "best": "0.9"},
        "states": "2 scored, 1 timed_out, 1 no_submission, 1 lost (1 graded at the time limit)",
        **{"metric": "accuracy, higher is better", "mean": "0.70 ± 0.12", "95% interval": "0.20 to 1.20"},
    }
    assert (second["mean"], second["95% interval"]) == ("0.4", "N/A")
    assert [one["any medal"] for one in section(text, "Rates")] == ["25% [5, 70] of 4", "N/A"]
    assert section(text, "Rates")[0]["above median"] == "N/A"
    passed = {one["of"]: one for one in section(text, "pass@k") if one["model"] == "30b"}
    assert [passed["success"][f"pass@{k}"] for k in (1, 2, 3)] == ["75%", "100%", "100%"]
    assert [passed["any medal"][f"pass@{k}"] for k in (1, 2, 3)] == ["25%", "50%", "75%"]
    took = section(text, "What it took")
    assert took[0]["GPU-hours"] == "2.000 (4 of 5 known)" and took[0]["GPU-hours a graded run"] == "N/A"
    assert took[1]["GPU-hours a graded run"] == "0.500" and took[1]["tokens"] == "1,200"
    assert (took[-1]["task"], took[-1]["began"], took[-1]["steps"]) == ("all", "6", "30")
    assert [(one["state"], one["reason"]) for one in section(text, "Without a score")] == [
        ("no_submission", "so it ended"),
        ("lost", "node gone"),
    ]
    assert "## Over tasks" not in text  # there is one task


def test_over_tasks_there_is_a_row_a_metric():
    rollouts = [
        *scored(0.5, 0.6, task="a"),
        *scored(0.8, task="b"),
        *scored(5, task="c", metric="rmse", is_lower_better=True),
    ]
    text = report.markdown(round_of(rollouts))
    assert [(one["metric"], one["tasks"]) for one in section(text, "Over tasks")] == [
        ("accuracy, higher is better", "2"),
        ("rmse, lower is better", "1"),
    ]
    rates = tables(text.partition("## Over tasks")[2])[1]
    assert cells(rates[2])[-1] == "100% [100, 100] of 3 tasks"
    assert "100% (1 task)" in text  # pass@2 is known of one
    mixed = report.markdown(round_of([*rollouts, *scored(3, task="b", metric="rmse")]))
    assert section(mixed, "Over tasks")[-1]["metric"] == "several in one task"
    assert section(mixed, "Scores")[1]["metric"] == "accuracy, rmse: not averaged"


def test_columns_for_variables_money_and_reported_metrics_come_where_there_are_some():
    plain = report.markdown(round_of(scored(0.5)))
    assert "variables" not in plain and "USD" not in plain and "## Reported" not in plain and "## pass@k" not in plain
    text = report.markdown(
        round_of(
            [
                *scored(
                    0.5,
                    variables={"T": "1"},
                    usd=0.125,
                    custom_metrics={"cov|er": 0.5, "x": 1},
                    standard_metrics={"x": 2},
                ),
                *scored(0.5, variables={"T": "2"}, custom_metrics={f"m{number}": 1 for number in range(20)}),
            ]
        )
    )
    assert [one["variables"] for one in section(text, "Scores")] == ["T=1", "T=2"]
    assert section(text, "What it took")[0]["USD"] == "0.12"
    first = section(text, "Reported metrics")[0]
    assert first["cov|er"] == "0.5" and "11 more are told by --json." in text
    both = report.markdown(round_of(scored(0.5, custom_metrics={"x": 1}, standard_metrics={"x": 2})))
    (row,) = section(both, "Reported metrics")
    assert (row["x (custom)"], row["x (standard)"]) == ("1", "2")


def test_estimated_hours_say_so():
    assert "estimates" not in report.markdown(round_of(scored(0.5)))
    assert "Hours are estimates" in report.markdown(round_of(scored(0.5, 0.6, cost_basis="estimate")))


def test_requests_that_busy_endpoints_put_off_are_told():
    told = "Requests asked again later: 5 after 429 and 1 after 5xx."
    busy = [*scored(0.5, rate_limited=2, server_errors=0), asked(state="timed_out", rate_limited=3, server_errors=1)]
    one = round_of(busy)
    assert told in report.markdown(one) and one.data()["used"]["rate_limited"]["sum"] == 5
    assert "asked again" not in report.markdown(round_of(scored(0.5, rate_limited=0, server_errors=0)))


def test_of_many_without_a_score_the_first_are_told():
    text = report.markdown(round_of([asked(state="lost") for _ in range(30)]))
    assert "The first 20 of 30." in text and len(section(text, "Without a score")) == 20


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_table(name):
    rollouts = [
        *scored(
            0.5, 0.6, task=name, model=name, agent=name, variables={name: name}, metric=name, custom_metrics={name: 1}
        ),
        asked(name, name, name, state="lost", reason=name),
        *scored(0.5, task="other", model=name, agent=name, custom_metrics={name: 2}),
        *scored(0.5, task=name, model=name, agent=name, metric="x"),
    ]
    rollouts[0]["run_id"] = name
    text = report.markdown(round_of(rollouts, name, name, [name]))
    for lines in tables(text):
        assert len({len(cells(line)) for line in lines}) == 1, lines
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text) and not re.search(r"(?<!\\)<", text)
    shown = " ".join(re.sub(r"[\x00-\x1f\u202e]", " ", name).split())
    assert section(text, "Scores")[0]["task"] == shown == cells(tables(text)[0][2])[1]
    assert len(re.findall(r"(?m)^#", text)) == len(
        re.findall(r"(?m)^#+ (?:Summary|Aggregates|Per-task|R|S|p|O|W)", text)
    )


def test_a_long_reason_is_cut():
    (row,) = section(report.markdown(round_of([asked(state="lost", reason="x" * 500)])), "Without a score")
    assert len(row["reason"]) == 80 and row["reason"].endswith("…")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(None, 4, "N/A"), (0, 4, "0"), (0.7, 4, "0.7"), (0.123456, 4, "0.1235"), (12345.6, 4, "12346"), (0.99999, 4, "1")]
    + [(-0.5, 4, "-0.5"), (1e-9, 4, "1e-09"), (1.5e12, 4, "1.5e+12"), (56225, 15, "56225"), (0.804537, 6, "0.804537")],
)
def test_a_number_has_the_digits_that_count(value, digits, text):
    assert figures.number(value, digits) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(0.7625, 0.0554, "0.762 ± 0.055"), (0.5, 0.0, "0.5 ± 0"), (0.1, 1e-17, "0.1 ± 0"), (12345.6, 678.0, "12346 ± 678")]
    + [
        (0.0, 0.031, "0.000 ± 0.031"),
        (0.7, None, "0.7"),
        (1.5341e12, 2.1e10, "1.534e+12 ± 2.1e+10"),
        (3.214e-9, 1.3e-10, "3.21e-09 ± 1.3e-10"),
    ],
)
def test_a_mean_has_the_digits_that_its_error_allows(value, error, text):
    assert figures.mean(Estimate(value, 3, error)) == text


def test_figures_of_what_isnt_known():
    nothing = Estimate(None, 0)
    assert {figures.mean(nothing), figures.interval(nothing), figures.rate(nothing), figures.percent(None)} == {"N/A"}
    assert {figures.signed(None), figures.chance(None), figures.total(Total(None, 0, 3))} == {"N/A"}
    assert figures.total(Total(1234567.0, 2, 3)) == "1,234,567 (2 of 3 known)"
    assert [figures.signed(value) for value in (0.5, -0.5, 0.0)] == ["+0.5", "-0.5", "0"]
    assert [figures.chance(p) for p in (0.0004, 0.03125, 1.0)] == ["< 0.001", "0.031", "1"]
