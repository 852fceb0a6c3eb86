from __future__ import annotations

import csv
import math
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from test_export_results import export, make_group, make_run, make_server, put

from helpers.runs import parquet
from helpers.runs.collection import rows_of
from helpers.runs.columns import COLUMNS, COUNTS, FLAGS, HOURS, MOMENTS, TRUTHS


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A scored run, one without anything, one that runs, and one with words that no table likes."""
    group = make_group(tmp_path / "runs" / "g")
    make_server(group)
    make_run(group, "13")
    make_run(group, "14", start=None, end=None, state="lost", reason="=1+1 \ud800", agent=None)
    make_run(group, "15", end=None, state="running", reason=None, seed=2)
    put(make_run(group, "16", seed=3) / "grading_report.json", {"total_score": 10**30, "valid_submission": True})
    put(make_run(group, "17", seed=4) / "grading_report.json", {"total_score": math.nan, "valid_submission": True})
    return tmp_path / "runs"


def written(runs: Path, name: str = "r.parquet") -> Path:
    done = export(runs, "-o", runs.parent / name)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "5 rows, from 5 runs" in done.stderr
    return runs.parent / name


def cell(value: Any) -> str:
    """A value of a data frame as CSV has it."""
    import pandas

    if pandas.isna(value):
        return ""
    if isinstance(value, pandas.Timestamp):
        assert str(value.tz) == "UTC"
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value).lower() if str(value) in ("True", "False") else str(value)


def test_it_reads_back_as_csv_has_it(runs: Path) -> None:
    import pandas

    table = pandas.read_parquet(written(runs), dtype_backend="numpy_nullable")
    written(runs, "r.csv")
    with (runs.parent / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(table.columns) == list(COLUMNS)
    for at, row in enumerate(rows):
        for name in COLUMNS:
            told, wanted = cell(table[name][at]), row[name]
            if name in parquet.NUMBERS and row["state"] == "running":
                continue  # its time goes on
            if name in parquet.NUMBERS and wanted:
                told, wanted = str(float(told)), str(float(wanted))
            assert told == wanted.removeprefix("'"), (name, at)


def test_types_are_true_and_what_is_not_known_is_null(runs: Path) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetFile, read_table

    path = written(runs)
    types = {field.name: field.type for field in ParquetFile(path).schema_arrow}
    wanted = {name: pyarrow.string() for name in COLUMNS}
    wanted |= dict.fromkeys(TRUTHS, pyarrow.bool_())
    wanted |= dict.fromkeys(("seed", "attempts", *COUNTS), pyarrow.int64())
    wanted |= dict.fromkeys(("score", "agent_seconds", *HOURS), pyarrow.float64())
    wanted |= dict.fromkeys(MOMENTS, pyarrow.timestamp("us", tz="UTC"))
    assert types == wanted
    table = read_table(path)
    assert table["score"].to_pylist() == [0.75, None, None, 1e30, None]
    assert table["agent"].to_pylist() == ["aide", None, "aide", "aide", "aide"]
    assert table["bronze_medal"].to_pylist()[:2] == [True, None]
    assert table["ended_at"].null_count == 2
    for name in COLUMNS:
        assert not {"", "None", "NaN"} & {value for value in table[name].to_pylist() if isinstance(value, str)}


def test_what_tasks_report_are_floats(runs: Path) -> None:
    from pyarrow.parquet import read_table

    report = {"total_score": 0.5, "valid_submission": True, "custom_metrics": {"lines": 7}}
    put(runs / "g" / "toy_13" / "grading_report.json", report)
    table = read_table(written(runs))
    assert table["metric.lines"].to_pylist() == [7.0, None, None, None, None]
    assert str(table["metric.lines"].type) == "double"


def test_every_value_fits_the_type_of_its_column(runs: Path) -> None:
    kinds = dict.fromkeys(TRUTHS, bool) | dict.fromkeys(parquet.WHOLE, int)
    for row in rows_of([runs]):
        for name, value in row.items():
            kind = (int, float) if name in parquet.NUMBERS else kinds.get(name, str)
            assert value is None or isinstance(value, kind), name
    assert set(FLAGS) <= set(TRUTHS)


def test_many_rows_are_written_in_groups(tmp_path: Path) -> None:
    """Of 10,000 rows no more than a group is held besides what comes in."""
    from pyarrow.parquet import ParquetFile

    rows = (
        {"task": f"t{at}", "score": at / 7, "seed": at, "started_at": "2026-01-01T00:10:00Z"} for at in range(10_000)
    )
    parquet.check()
    tracemalloc.start()
    try:
        with (tmp_path / "r.parquet").open("wb") as file:
            parquet.write(rows, list(COLUMNS), file)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
    found = ParquetFile(tmp_path / "r.parquet")
    assert (found.metadata.num_rows, found.num_row_groups) == (10_000, 5)
    assert found.read_row_group(4)["task"].to_pylist()[-1] == "t9999"


def test_json_of_that_name_is_refused_and_the_old_table_stays(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(runs, "R.PARQUET")
    before = path.read_bytes()
    assert before[:4] == b"PAR1"
    done = export(runs, "--json", "-o", path)
    assert done.returncode == 2 and "is parquet by its name" in done.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = export(runs, "-o", path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "needs pyarrow" in done.stderr and "scripts_hpc/results.sh has it" in done.stderr
    assert path.read_bytes() == before and export(runs, "-o", runs.parent / "r.csv").returncode == 0


def test_a_file_that_can_not_be_written_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    done = export(runs, "-o", tmp_path / "nowhere" / "r.parquet")
    assert done.returncode == 3 and "can't write" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".r.parquet")]
