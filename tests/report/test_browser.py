"""The report in headless Chromium: it draws, sorts, filters, opens runs; axe finds nothing; what agents wrote stays text; no connection."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from made_reports import journal
from report_support import report
from test_export_results import make_run, put

from helpers.report import details
from helpers.runs.collection import rows_of
from helpers.runs.export import write_file

pytestmark = [
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing()),
    pytest.mark.usefixtures("no_slurm"),
]
WIDTHS = (1280, 768, 380)
CSV_COLUMNS = (
    "task",
    "model",
    "seed",
    "state",
    "score",
    "agent_seconds",
    "gpu_hours",
    "prompt_tokens",
    "job_id",
    "run_directory",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as found:
        yield found


@pytest.fixture
def opened(chromium: Any) -> Iterator[Any]:
    """Opens a page, and fails the test where it said an error or asked for anything but files of its own."""
    problems: list[str] = []
    contexts = []

    def opens(path: Path, width: int = 1280, scheme: str = "light") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: None if asked.url.startswith("file:") else problems.append(asked.url))
        page.goto(path.as_uri())
        page.wait_for_function(browser.DRAWN)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="module")
def written(a_round: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report(path, a_round)
    return path


def first_column(page: Any, number: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#table tbody tr > :nth-child({number})", "all => all.map(one => one.textContent)"
    )


def test_it_finds_the_numbers_of_the_csv(opened: Any, written: Path, a_round: Path, tmp_path: Path) -> None:
    write_file(rows_of([a_round]), False, str(tmp_path / "table.csv"))
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    page = opened(written)
    digits = "all => all.map(one => one.title)"  # the cell itself has six of them
    shown = page.eval_on_selector_all("#table tbody td:nth-child(6)", digits)
    page.click("text=next page")
    shown += page.eval_on_selector_all("#table tbody td:nth-child(6)", digits)
    assert len(shown) == 100
    assert sorted(float(score) for score in shown if score) == sorted(
        float(row["score"]) for row in rows if row["score"]
    )
    for number in (0, 7, 49):
        page.locator("#table tbody button.link").nth(number).click()
        page.wait_for_selector("#run-body table")
        values = page.eval_on_selector_all(
            "#run-body tbody tr", "rows => rows.map(row => [row.cells[0].textContent, row.cells[1].textContent])"
        )
        told = dict(values)
        row = next(one for one in rows if one["run_directory"] == told["run_directory"])
        for name in CSV_COLUMNS:
            mine = "" if told[name] == "(empty)" else told[name]
            same = float(mine) == float(row[name]) if mine and name in CSV_COLUMNS[4:8] else mine == row[name]
            assert same, (name, mine, row[name])


def test_it_sorts_by_keyboard_and_says_so(opened: Any, written: Path) -> None:
    page = opened(written)
    button = page.locator("#table thead button", has_text="score")
    button.focus()
    page.keyboard.press("Enter")
    assert page.get_attribute("#table th[data-column=score]", "aria-sort") == "ascending"
    scores = [float(one) for one in first_column(page, 6) if one]
    assert scores == sorted(scores) and len(scores) == 50
    page.keyboard.press("Space")
    assert page.get_attribute("#table th[data-column=score]", "aria-sort") == "descending"
    assert [float(one) for one in first_column(page, 6)] == sorted(map(float, first_column(page, 6)), reverse=True)
    page.locator("#table thead button", has_text="task").click()
    assert page.get_attribute("#table th[data-column=score]", "aria-sort") is None
    assert first_column(page, 2)[:11] == ["task-0"] * 5 + ["task-1"] * 5 + ["task-2"]  # 2 before 10


def test_it_filters(opened: Any, written: Path) -> None:
    page = opened(written)
    page.fill("#filters input", "task-1 MODEL-3")
    assert page.text_content("#count") == "11 runs of 100"
    page.select_option("#filters select >> nth=2", "agent_failed")
    assert set(first_column(page, 5)) == {"agent_failed"}
    page.click("text=show all >> nth=-1")
    assert page.text_content("#count") == "100 runs of 100, page 1 of 2"
    page.select_option("#filters select >> nth=0", "task-4")
    page.select_option("#filters select >> nth=1", "2")
    assert (first_column(page, 2), first_column(page, 3)) == (["task-4"], ["aide / model-2"])
    page.fill("#filters input", "nothing like it")
    assert page.text_content("#count") == "0 runs of 100"


def test_a_dot_leads_to_its_runs_and_a_value_to_its_source(opened: Any, written: Path) -> None:
    page = opened(written)
    page.locator("#picture g.click").nth(8).click()
    assert page.text_content("#count") == "1 run of 100"
    page.click("#cells summary")
    page.click('#cells [aria-label="runs of task-3 with aide / model-1"]')
    assert (first_column(page, 2), first_column(page, 3)) == (["task-3"], ["aide / model-1"])
    page.click("#table tbody button.link")
    page.wait_for_selector("#run-body table")
    page.click('[aria-label="where score is from"]')
    row = page.locator("#run-body tbody tr", has_text="where from").filter(
        has=page.locator('[aria-label="where score is from"]')
    )
    assert "grading_report.json: total_score, of a scored run" in row.text_content()
    page.click('[aria-label="where gpu_hours is from"]')
    assert "1 GPU x 3800 s x 0.05" in page.text_content("#run-body")


def test_the_tree_is_walked_by_keyboard_and_shows_changes(opened: Any, written: Path) -> None:
    page = opened(written)
    page.locator("#table tbody button.link").first.click()
    page.wait_for_selector(".tree")
    assert page.evaluate("document.activeElement.id") == "run-title"
    nodes = page.locator(".tree [role=button]")
    assert nodes.count() == 6
    page.locator('.tree [role=button][aria-label^="step 6,"]').focus()
    page.keyboard.press("Enter")
    assert page.text_content("#run-body h4").startswith("Step 6, ")
    assert page.locator(".removed").count() == page.locator(".added").count() == 1
    assert page.text_content(".added").startswith("+ model = RandomForestClassifier(n_estimators=100, max_depth=")


@pytest.mark.parametrize("text", ["step", "tokens", "time"])
def test_courses_are_drawn(opened: Any, written: Path, text: str) -> None:
    page = opened(written)
    page.select_option("#course-controls select >> nth=1", text)
    page.select_option("#course-controls select >> nth=0", "task-2")
    assert page.locator("#scores svg path.click").count() == 5
    assert page.locator("#own svg path.line").count() == (0 if text == "tokens" else 5)
    assert page.locator("#timelines svg g.click").count() == 5
    assert page.locator("#strips svg[role=img]").count() == 5


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_sticks_out(opened: Any, written: Path, width: int, scheme: str) -> None:
    if (axe := browser.axe()) is None:
        pytest.skip("this Python has no axe-playwright-python")
    page = opened(written, width, scheme)
    page.click("#cells summary")
    page.locator("#table tbody button.link").first.click()
    page.wait_for_selector(".tree")
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_details_beside_the_page_come_when_asked_for(
    opened: Any, a_round: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "INLINE", 50_000)
    monkeypatch.setattr(details, "EACH", 50_000)
    report(tmp_path / "a b#1.html", a_round)
    page = opened(tmp_path / "a b#1.html")
    assert page.locator("head script").count() == 0
    page.locator("#table tbody button.link").nth(40).click()
    page.wait_for_selector(".tree")
    assert page.locator("head script").count() == 1 and page.locator(".tree [role=button]").count() == 6


def test_hostile_runs_stay_text(opened: Any, tmp_path: Path) -> None:
    group = tmp_path / "2026-01-01T00-00-00-UTC_run-group_aide"
    evil = "</script><script>alert(1)</script><img src=http://127.0.0.1:1/x onerror=alert(2)>\x1b[2J&lt;__proto__"
    made = journal(6, 1)
    for node in made["nodes"]:
        node |= {"code": evil, "plan": evil, "analysis": evil, "_term_out": [evil] * 3, "exc_type": evil}
    made["node2parent"] = {node["id"]: made["nodes"][-1]["id"] for node in made["nodes"]}
    run = make_run(
        group, "1", model=evil, agent="__proto__", competition="constructor", reason=evil, state="agent_failed"
    )
    put(run / "logs" / "journal.json", made)
    put(make_run(group, "2") / "logs" / "journal.json", {"nodes": [{"id": "a", "code": "x" * 50_000_000}]})
    (run / "agent.log").write_text(evil)
    report(tmp_path / "r.html", group)
    page = opened(tmp_path / "r.html")
    for number in (0, 1):
        page.locator("#table tbody button.link").nth(number).click()
        page.wait_for_selector("#run-body .tree")
        page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    page.locator("#table tbody button.link").first.click()
    page.wait_for_selector("#run-body .tree")
    assert page.locator("img").count() == 0 and page.locator("script").count() == 4
    assert "<img src=http://127.0.0.1:1/x onerror=alert(2)>" in page.text_content("#run-body")
    assert page.evaluate("({}).code === undefined")


def test_a_script_of_somebody_else_is_not_run(chromium: Any, written: Path, tmp_path: Path) -> None:
    text = written.read_text().replace(
        "</main>", "<script>document.title = 'taken'</script><img src='http://127.0.0.1:1/'></main>"
    )
    (tmp_path / "r.html").write_text(text)
    page, said, kept = chromium.new_page(), [], {}
    page.on("console", lambda one: said.append(one.text))
    page.on("requestfailed", lambda one: kept.update({one.url: one.failure}))
    page.goto((tmp_path / "r.html").as_uri())
    page.wait_for_function(browser.DRAWN)
    assert page.title() != "taken" and kept == {"http://127.0.0.1:1/": "csp"}
    assert len(said) == 2 and all("Content Security Policy" in one for one in said)
    page.close()


def test_an_empty_round_and_print(opened: Any, written: Path, tmp_path: Path) -> None:
    import bench_rounds

    made = bench_rounds.make_round(tmp_path / "waiting", 100, ("waiting",))
    report(tmp_path / "w.html", made.group)
    page = opened(tmp_path / "w.html")
    assert "No run was graded" in page.text_content("#picture")
    assert page.locator("#strips svg").count() == 0
    page = opened(written)
    page.emulate_media(media="print")
    assert not page.is_visible("#filters") and page.is_visible("#picture svg")
    assert len(page.pdf()) > 10_000


def test_what_has_not_the_browser_is_left_out_with_a_word() -> None:
    code = "import browser; print(browser.missing())"
    told = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(Path(browser.__file__).parent)!r}); {code}"],
        capture_output=True,
        text=True,
        env={"PATH": "/nonexistent"},
    )
    assert "there is no chromium on the PATH" in told.stdout, json.dumps(told.stderr)
