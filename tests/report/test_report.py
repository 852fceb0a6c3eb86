"""The report: its numbers are those of the table and of the summary, and whatever a run has left becomes text, within bounds."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import bench_rounds
import pytest
from made_reports import BEGUN, journal
from report_support import Page, report
from test_export_results import at, make_run, put

from helpers.benchmarks.rounds import Round
from helpers.explain import cli as explain
from helpers.explain import sources
from helpers.explain.derive import Case
from helpers.lib.command_line import launch
from helpers.lib.errors import Infrastructure, Refused
from helpers.report import cli, details, library, traces
from helpers.runs.collection import Collection, rows_of
from helpers.runs.columns import COLUMNS

pytestmark = pytest.mark.usefixtures("no_slurm")


def places(told: Page) -> dict[str, int]:
    return {folder: run for run, folder in enumerate(told.column("run_directory"))}


# ---- the numbers


def test_its_rows_are_those_of_the_table(a_round: Path, tmp_path: Path) -> None:
    told, rows = report(tmp_path / "r.html", a_round), rows_of([a_round])
    assert len(rows) == len(told.column("run")) == 100
    at = places(told)
    for name in COLUMNS:
        column = told.column(name)
        assert [column[at[row["run_directory"]]] for row in rows] == [row[name] for row in rows], name


def test_its_means_and_intervals_are_the_summarys(a_round: Path, tmp_path: Path) -> None:
    told, data = report(tmp_path / "r.html", a_round), Round(a_round).summary.data()
    labels = [group["label"] for group in told.data["groups"]]
    assert labels == [f"{one['agent']} / {one['model']}" for one in data["over_tasks"]]
    shown = {(cell["task"], labels[cell["group"]]): cell for cell in told.data["cells"]}
    assert len(shown) == len(data["cells"]) == 100
    for cell in data["cells"]:
        its = shown[cell["task"], f"{cell['agent']} / {cell['model']}"]
        assert (its["value"], its["low"], its["high"]) == (cell["mean"], cell["low"], cell["high"])
        assert (its["asked"], its["graded"], its["failed"]) == (cell["runs"], cell["graded"], cell["failed"])
        assert its["rates"]["success"][:3] == [cell["rates"]["success"][key] for key in ("value", "low", "high")]
    over = next(panel for panel in told.data["panels"] if panel["kind"] == "score")["over"]
    assert [one[1] for one in over] == [one["scores"][0]["mean"]["value"] for one in data["over_tasks"]]
    rate = next(panel for panel in told.data["panels"] if panel["title"] == "rate of success")
    assert [one[1:4] for one in rate["over"]] == [
        [one["rates"]["success"][key] for key in ("value", "low", "high")] for one in data["over_tasks"]
    ]


def test_servers_busy_and_idle_time_is_the_summarys(a_round: Path, tmp_path: Path) -> None:
    told = report(tmp_path / "r.html", a_round)
    assert len(told.data["servers"]) == 5
    for server in told.data["servers"]:
        assert sum(one[0] for one in server["bins"]) == pytest.approx(server["busy_seconds"], abs=12)
        assert sum(one[1] for one in server["bins"]) == pytest.approx(server["idle_seconds"], abs=12)
        assert server["busy_seconds"] > 1000 and server["idle_seconds"] > 500


def test_where_values_are_from_is_what_explain_says(a_round: Path, tmp_path: Path) -> None:
    told, collection = report(tmp_path / "r.html", a_round), Collection([a_round])
    shown = collection.attempts()
    for number in (0, 55):
        run = collection.runs[number]
        tries = shown[id(run)][1]
        row = run.row(tries) | {"attempts": len(tries)}
        derived = explain.explained(Case(run, run, tries, row, collection, None))
        its = told.details(places(told)[run.folder])["sources"]
        assert its == {name: one.source for name, one in derived.items()}
    assert set(COLUMNS) == {*sources.HOURS, *its}


def test_a_run_of_its_own_is_a_report_too(tmp_path: Path) -> None:
    group = tmp_path / "2026-01-01T00-00-00-UTC_run-group_aide"
    make_run(group, "1")
    told = report(tmp_path / "r.html", group)
    row = rows_of([group])[0]
    assert [told.column(name) for name in COLUMNS] == [[row[name]] for name in COLUMNS]
    assert "no other model or agent here" in told.claim


# ---- what runs leave


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;title\x07\x1b[2J\u202eabc\u2028"


def run_with(tmp_path: Path, name: str, text: str | bytes, **changes: Any) -> dict[str, Any]:
    """The details of a run with a file of its own making."""
    group = tmp_path / "2026-01-01T00-00-00-UTC_run-group_aide"
    run = make_run(group, "1", **changes)
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    told = report(tmp_path / "r.html", group)
    assert len(told.text) < 1_000_000
    return told.details(0)


def test_hostile_texts_are_texts(tmp_path: Path) -> None:
    group = tmp_path / "2026-01-01T00-00-00-UTC_run-group_aide"
    run = make_run(group, "1", model=HOSTILE, reason=HOSTILE)
    (run / "logs").mkdir(exist_ok=True)
    node = {"id": "a", "code": HOSTILE, "plan": HOSTILE, "analysis": HOSTILE, "_term_out": [HOSTILE], "is_buggy": True}
    node |= {"exc_type": HOSTILE, "metric": HOSTILE, "ctime": HOSTILE, "exec_time": HOSTILE}
    put(run / "logs" / "journal.json", {"nodes": [node], "node2parent": HOSTILE})
    (run / "agent.log").write_text(HOSTILE)
    told = report(tmp_path / "r.html", group)
    scripts = re.findall(r"<script[^>]*>", told.text)
    assert len(scripts) == 4 and told.text.count("</script>") == 4
    assert "<img" not in told.text and "onerror=alert" not in told.text.replace("onerror=alert(2)&gt;", "").replace(
        "onerror=alert(2)\\u003e", ""
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u2028]", told.text.split('<script type="application/json"')[0])
    step = told.details(0)["steps"][0]
    assert step["code"].startswith("</script><script>alert(1)") and "\x1b" not in json.dumps(step, ensure_ascii=False)
    assert "\u202e" not in step["code"] and set(step) == {
        "kind",
        "state",
        "code",
        "plan",
        "analysis",
        "output",
        "error",
    }


@pytest.mark.parametrize("megabytes", [1, 50])
def test_endless_texts_are_cut(tmp_path: Path, megabytes: int) -> None:
    text = "x" * (megabytes * 2**20)
    began = time.monotonic()
    told = run_with(tmp_path, "journal.json", json.dumps({"nodes": [{"id": "a", "code": text, "is_buggy": False}]}))
    assert time.monotonic() - began < 20
    assert "characters left out" in told["steps"][0]["code"] and len(told["steps"][0]["code"]) < 2 * traces.MOST_CODE


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "logs/journal.json is nested too deep"),
        ('{"nodes": [', "logs/journal.json is cut off or no JSON"),
        ("[]", "logs/journal.json is no object"),
        (b"\xff\xfe\x00", "logs/journal.json is cut off or no JSON"),
        (b"x" * (traces.LARGEST + 1), "logs/journal.json: is larger than 67108864 bytes"),
        ('{"nodes": 5, "node2parent": []}', ""),
        ('{"nodes": [1, null, "x", []]}', ""),
    ],
)
def test_journals_that_are_none(tmp_path: Path, text: str | bytes, problem: str) -> None:
    told = run_with(tmp_path, "journal.json", text)
    assert told["steps"] == [] and told["problem"] == problem


def test_circles_numbers_that_are_none_and_half_characters(tmp_path: Path) -> None:
    nodes = [
        {"id": name, "code": "\ud800 half", "is_buggy": False, "metric": {"value": float("nan")}} for name in "abc"
    ]
    nodes[1]["metric"] = {"value": 10**4000}
    nodes[2] |= {"ctime": 1e30, "exec_time": -5}
    text = json.dumps({"nodes": nodes, "node2parent": {"a": "c", "b": "a", "c": "c"}})
    told = run_with(tmp_path, "journal.json", text)
    assert [step.get("parent") for step in told["steps"]] == [None, 0, None]
    assert not any({"metric", "at", "seconds"} & step.keys() for step in told["steps"])


def test_a_thousand_steps_and_what_is_left_out(tmp_path: Path) -> None:
    told = run_with(tmp_path, "journal.json", json.dumps({"nodes": [{"id": str(n)} for n in range(1000)]}))
    assert len(told["steps"]) == traces.MOST_STEPS and told["left_out"] == 1000 - traces.MOST_STEPS


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    group = tmp_path / "2026-01-01T00-00-00-UTC_run-group_aide"
    run = make_run(group, "1")
    (tmp_path / "secret").mkdir()
    put(tmp_path / "secret" / "journal.json", journal(3, 1))
    (run / "logs").mkdir(exist_ok=True)
    os.symlink(tmp_path / "secret" / "journal.json", run / "logs" / "journal.json")
    os.symlink("/etc/passwd", run / "agent.log")
    other = make_run(group, "2")
    (other / "logs").mkdir(exist_ok=True)
    os.mkfifo(other / "logs" / "journal.json")
    told = report(tmp_path / "r.html", group)
    for number in (0, 1):
        assert told.details(number)["steps"] == [] and told.details(number)["problem"]
        assert not told.details(number)["log"]


def test_a_journals_times_metrics_and_parents(tmp_path: Path) -> None:
    made = journal(5, 3)
    told = run_with(tmp_path, "journal.json", json.dumps(made), agent_started_at="2026-01-01T00:02:00Z")
    names = [node["id"] for node in made["nodes"]]
    for step, node in zip(told["steps"], made["nodes"], strict=True):
        assert step["at"] == pytest.approx(node["ctime"] - BEGUN, abs=0.1)
        assert step["seconds"] == pytest.approx(node["exec_time"], abs=0.01)
        assert step.get("metric") == node["metric"]["value"] and step["code"] == node["code"]
        parent = made["node2parent"].get(node["id"])
        assert step.get("parent") == (names.index(parent) if parent else None)


def test_a_trajectory_of_tool_calls(tmp_path: Path) -> None:
    steps = [
        {"step_id": 1, "timestamp": at(1), "source": "user", "message": "Mend it."},
        {
            "step_id": 2,
            "timestamp": at(1),
            "source": "agent",
            "message": "I look.",
            "tool_calls": [{"tool_call_id": "1", "function_name": "bash", "arguments": {"command": "ls -l"}}],
            "observation": {"results": [{"source_call_id": "1", "content": "a.py"}]},
            "metrics": {"prompt_tokens": 100, "completion_tokens": 20},
        },
        {"step_id": 3, "source": "agent", "message": {"odd": 1}, "metrics": {"prompt_tokens": 30}},
    ]
    told = run_with(tmp_path, "trajectory.json", json.dumps({"schema_version": "ATIF-v1.7", "steps": steps}))
    first, second, third = told["steps"]
    assert (first["state"], first["plan"]) == ("user", "Mend it.")
    assert (second["title"], second["code"], second["output"], second["tokens"]) == ("bash", "ls -l", "a.py", 120)
    assert third == {"kind": "action", "state": "agent", "tokens": 150}


# ---- the page


def test_nothing_is_let_in_but_what_has_its_checksum(a_round: Path, tmp_path: Path) -> None:
    told = report(tmp_path / "r.html", a_round)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', told.text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src ") and "unsafe" not in policy
    for inline in re.findall(r"<script>(.*?)</script>", told.text, re.DOTALL) + re.findall(
        r"<style>(.*?)</style>", told.text, re.DOTALL
    ):
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    head = told.text.split('<script type="application/json"')[0]
    assert not re.search(r'(src|href)="(?!#)', head)


def test_more_details_than_a_page_should_hold_lie_beside_it(
    a_round: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = report(tmp_path / "one.html", a_round)
    assert (
        whole.data["details"]["beside"] == 0
        and not (tmp_path / "one_files").exists()
        and "file:" not in whole.text[:3000]
    )
    monkeypatch.setattr(details, "INLINE", 100_000)
    monkeypatch.setattr(details, "EACH", 50_000)
    for _ in range(2):  # one over the other
        told = report(tmp_path / "r.html", a_round)
        assert told.data["details"]["beside"] == len(list((tmp_path / "r_files").iterdir())) > 10
        for run in range(100):
            assert told.details(run) == whole.details(run)
    assert len(told.text) < len(whole.text) and not list(tmp_path.glob(".*"))
    monkeypatch.setattr(details, "INLINE", 10**9)
    report(tmp_path / "r.html", a_round)
    assert not (tmp_path / "r_files").exists()


def test_a_folder_that_is_no_reports_stays(a_round: Path, tmp_path: Path) -> None:
    (tmp_path / "r_files").mkdir()
    (tmp_path / "r_files" / "mine.txt").write_text("x")
    with pytest.raises(Refused, match=r"r_files holds mine.txt, which is no part of a report"):
        report(tmp_path / "r.html", a_round)
    assert (tmp_path / "r_files" / "mine.txt").read_text() == "x" and not (tmp_path / "r.html").exists()


def test_an_empty_round_and_one_of_losses(tmp_path: Path) -> None:
    waiting = bench_rounds.make_round(tmp_path / "waiting", 100, ("waiting",))
    told = report(tmp_path / "w.html", waiting.group)
    assert told.claim.startswith("No run came to a result") and len(told.column("run")) == 100
    assert told.data["panels"] == [] and set(told.column("state")) <= {"waiting", "not_begun"}
    lost = bench_rounds.make_round(tmp_path / "lost", 100, ("lost", "cancelled"))
    told = report(tmp_path / "l.html", lost.group)
    assert "100 asked for: 0 graded, 0 failed, 100 that count nowhere" in told.claim
    assert sorted((one["state"], one["runs"]) for one in told.data["reasons"]) == [("cancelled", 50), ("lost", 50)]


def test_two_rounds_together(a_round: Path, tmp_path: Path) -> None:
    other = bench_rounds.make_round(tmp_path / "other", 100, bench_rounds.ENDED)
    told = report(tmp_path / "r.html", a_round, other.group)
    assert len(told.column("run")) == 200 and "2 rounds are taken together" in told.text
    assert sorted(filter(None, told.column("run_directory"))) == sorted(
        row["run_directory"] for row in rows_of([a_round, other.group])
    )


# ---- the command


def test_the_command(a_round: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(cli.main, "results.sh report", [str(a_round), "-o", str(tmp_path / "x.html")]) == 0
    assert re.fullmatch(r"\S+x\.html: 100 runs, \d\.\d MB\n", capsys.readouterr().err)
    assert launch(cli.main, "results.sh report", [str(tmp_path / "none"), "-o", str(tmp_path / "y.html")]) == 2
    assert "there is no such folder; name a round" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert launch(cli.main, "results.sh report", [str(tmp_path / "empty"), "-o", str(tmp_path / "y.html")]) == 2
    assert "no runs in" in capsys.readouterr().err
    assert launch(cli.main, "results.sh report", [str(a_round), "-o", str(tmp_path)]) == 2
    assert launch(cli.main, "results.sh report", [str(a_round), "-o", str(tmp_path / "no" / "y.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err and not (tmp_path / "y.html").exists()


def test_a_page_that_cant_be_written_leaves_nothing(
    a_round: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(details, "INLINE", 100_000)
    monkeypatch.setattr("helpers.report.page.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        report(tmp_path / "r.html", a_round)
    assert not [path for path in tmp_path.iterdir() if path.name != "r_files"]


def test_a_python_without_the_charts_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "PACKAGE", "no_such_package_here")
    with pytest.raises(Infrastructure, match="the report's charts need no_such_package_here"):
        library.d3()
    monkeypatch.undo()
    monkeypatch.setattr(library, "SHA256", "0" * 64)
    with pytest.raises(Infrastructure, match="is not the one that the report is made for"):
        library.d3()
