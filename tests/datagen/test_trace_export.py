"""The file of traces: what is kept of many runs, why the rest is not, and that others can read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
from made_traces import REPLAY, aides, make_group, make_run, said

from helpers.datagen import trace_export, trace_rows
from helpers.datagen.contamination import Instructions
from helpers.datagen.trace_export import export
from helpers.datagen.trace_filters import Filters
from helpers.lib.errors import Refused

LONG = "Read all the tables below this folder, join them by their keys, and write down how many rows there are of each kind."


def kept(folder: Path, keep: Filters, episodes: str = "last") -> tuple[list[str], dict[str, int]]:
    """The names of the runs whose rows are kept, and what is left out."""
    file = folder / "kept.parquet"
    counted = export([folder], file, keep=keep, episodes=episodes)
    names = pandas.read_parquet(file)["trial_name"].tolist()
    assert counted.rows == len(names) == counted.states.total()
    return names, dict(counted.left_out)


def some(folder: Path) -> Path:
    """Runs of all ends: 1 and 2 scored, 3 with nothing, 4 to 7 failed, 8 lost, 9 cancelled, 10 at work, 11 without a trajectory."""
    group = make_group(folder)
    for job, score in ((1, 0.5), (2, 1.0), (3, 0.0)):
        make_run(group, job, score=score, left=said(f"Do {job}.", "Done."))
    failed = ("invalid_submission", "no_submission", "agent_failed", "timed_out")
    for job, state in enumerate((*failed, "lost", "cancelled", "running"), 4):
        make_run(group, job, state, left=said(f"Do {job}.", "Done."))
    make_run(group, 11, score=1.0, left={})
    return group


def test_all_that_ended_are_rows_but_for_what_was_lost(tmp_path: Path) -> None:
    some(tmp_path)
    names, left_out = kept(tmp_path, Filters())
    assert names == [f"toy_{job}" for job in range(1, 8)]
    assert left_out == {"lost": 1, "cancelled": 1, "not ended": 1, "no trajectory": 1}


def test_successes_and_failures_are_told_apart(tmp_path: Path) -> None:
    some(tmp_path)
    names, left_out = kept(tmp_path, Filters("success"))
    assert names == ["toy_1", "toy_2"] and left_out["no success"] == 5
    names, left_out = kept(tmp_path, Filters("failure"))
    assert names == [f"toy_{job}" for job in range(3, 8)] and left_out["success"] == 3
    names, left_out = kept(tmp_path, Filters("failure", valid_only=True))
    assert names == ["toy_3"] and left_out["without a valid result"] == 4


def test_of_a_loss_any_valid_one_is_a_success(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    for job, report in enumerate(
        ({"is_lower_better": True}, {"is_lower_better": None}, {"valid_submission": False}), 1
    ):
        make_run(group, job, score=0.0, report=report)
    assert kept(tmp_path, Filters("success"))[0] == ["toy_1", "toy_2"]


def test_the_best_of_n_are_those_of_a_task_a_model_and_an_agent(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    for job, score in enumerate((0.1, 0.9, 0.9, 0.5), 1):
        make_run(group, job, score=score, created_at=f"2026-01-01T00:00:0{9 - job}Z")
    for job, score in enumerate((0.3, 0.2), 5):
        make_run(group, job, score=score, competition="loss", report={"is_lower_better": True})
    make_run(group, 7, "agent_failed", model="other")
    make_run(group, 8, "timed_out", model="other", created_at="2027-01-01T00:00:00Z")
    names, left_out = kept(tmp_path, Filters(best_of=1))
    assert sorted(names) == ["loss_6", "toy_3", "toy_7"] and left_out == {"not among the best": 5}
    assert sorted(kept(tmp_path, Filters(best_of=2))[0]) == ["loss_5", "loss_6", "toy_2", "toy_3", "toy_7", "toy_8"]
    assert sorted(kept(tmp_path, Filters("failure", best_of=1))[0]) == ["toy_7"]


def test_what_says_the_same_is_one_row_and_a_filter_can_be_used_again(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    for job, text in enumerate(("Done.", "Done.", "Not done.", "Done."), 1):
        make_run(group, job, score=1.0, left=said("Do.", text))
    keep = Filters(deduplicate=True)
    for _ in range(2):
        assert kept(tmp_path, keep) == (["toy_1", "toy_3"], {"duplicate": 2})
    assert len(kept(tmp_path, Filters())[0]) == 4


def test_rows_that_overlap_with_a_benchmark_are_left_out(tmp_path: Path) -> None:
    group = make_group(tmp_path)
    make_run(group, 1, score=1.0, left=said(f"You have a shell. {LONG.upper()}", "Done."))
    make_run(group, 2, score=1.0, left=said("Count the words of a text.", "Done."))
    make_run(group, 3, score=1.0, left=aides())
    names, left_out = kept(tmp_path, Filters(apart_from=Instructions([LONG])))
    assert names == ["toy_2"] and left_out == {
        "overlapping with the instructions to keep apart from": 1,
        "without an instruction to compare": 1,
    }


def test_pandas_reads_types_and_not_texts(tmp_path: Path) -> None:
    make_run(some(tmp_path), 12, score=0.25, left=None)
    file = tmp_path / "traces.parquet"
    export([tmp_path], file)
    table = pandas.read_parquet(file)
    assert list(table.columns) == list(trace_rows.COLUMNS)
    told = table.set_index("trial_name")
    assert told.loc["toy_12", "reward"] == 0.25 and told.loc["toy_12", "prompt_tokens"] == 1200
    assert told["reward"].isna().sum() == 4 and told[told["state"] != "scored"]["reward"].isna().all()
    assert told["is_language_model"].dtype.kind in "bO" and told["is_language_model"].all()
    assert [one["role"] for one in told.loc["toy_1", "conversations"]] == ["user", "assistant"]
    assert told.loc["toy_1", "versions"]["project"] == "a" * 40
    assert told.loc["toy_4", "result"] == "invalid_submission" and told.loc["toy_1", "result"] == "0.5"
    [row] = trace_rows.rows(tmp_path / told.loc["toy_12", "run_id"] / "toy_12")
    [same] = [one for one in pyarrow.parquet.read_table(file).to_pylist() if one["trial_name"] == "toy_12"]
    assert row == same


def test_datasets_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    some(tmp_path)
    export([tmp_path], tmp_path / "traces.parquet")
    found = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "traces.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert found[0]["conversations"][0] == {"role": "user", "content": "Do 1."} and found[3]["reward"] is None


def test_a_row_group_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path)
    file = tmp_path / "traces.parquet"
    monkeypatch.setattr(trace_export, "GROUP_ROWS", 3)
    export([tmp_path], file)
    told = pyarrow.parquet.ParquetFile(file).metadata
    assert [told.row_group(at).num_rows for at in range(told.num_row_groups)] == [3, 3, 1]
    monkeypatch.setattr(trace_export, "GROUP_BYTES", 1)
    export([tmp_path], file)
    assert pyarrow.parquet.ParquetFile(file).metadata.num_row_groups == 7


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    some(tmp_path)
    for name in ("a", "b"):
        export([tmp_path], tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_sharegpt_and_openai_are_lines_of_json(tmp_path: Path) -> None:
    some(tmp_path)
    for form in ("sharegpt", "openai"):
        assert export([tmp_path], tmp_path / f"{form}.jsonl", form).rows == 7
    first = lines(tmp_path / "sharegpt.jsonl")[3]
    assert first["conversations"] == [{"from": "human", "value": "Do 4."}, {"from": "gpt", "value": "Done."}]
    assert (first["state"], first["reward"], list(first)) == ("invalid_submission", None, list(trace_rows.COLUMNS))
    said = [{"role": "user", "content": "Do 4."}, {"role": "assistant", "content": "Done."}]
    assert lines(tmp_path / "openai.jsonl")[3] == {"messages": said}


def test_openais_tools_are_functions(tmp_path: Path) -> None:
    left = said("Do.", "Done.")
    left["trajectory.json"]["agent"]["tool_definitions"] = [
        {"name": "a"},
        {"type": "function", "function": {"name": "b"}},
    ]
    make_run(make_group(tmp_path), 1, score=1.0, left=left)
    export([tmp_path], tmp_path / "a.jsonl", "openai")
    assert [tool["function"]["name"] for tool in lines(tmp_path / "a.jsonl")[0]["tools"]] == ["a", "b"]


def test_many_episodes_of_a_run_are_rows(tmp_path: Path) -> None:
    make_run(make_group(tmp_path), 1, score=1.0)
    assert kept(tmp_path, Filters(), "all")[0] == ["toy_1"] * 3


def test_one_run_may_be_named_and_no_file_is_left_where_there_is_none(tmp_path: Path) -> None:
    group = some(tmp_path)
    assert export([group / "toy_2"], tmp_path / "a.parquet").rows == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="no runs in"):
        export([tmp_path / "empty"], tmp_path / "b.parquet")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.parquet"]


def test_where_nothing_is_kept_the_file_has_no_rows(tmp_path: Path) -> None:
    make_run(make_group(tmp_path), 1, "lost")
    counted = export([tmp_path], tmp_path / "a.parquet")
    assert counted.rows == 0 and list(pandas.read_parquet(tmp_path / "a.parquet").columns) == list(trace_rows.COLUMNS)


def command(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "helpers.datagen.trace_export", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, **options)


def test_the_command_says_what_it_left_out(tmp_path: Path) -> None:
    some(tmp_path / "runs")
    group = make_group(tmp_path / "runs", "two", model="replay", language_model=False, model_config=REPLAY)
    make_run(group, 20, score=1.0)
    (tmp_path / "bench.txt").write_text("Do 1.\n")
    words = ("--trace_export_filter=success", "--valid_only", "--best-of-n", 9, "--deduplicate", "--decontaminate")
    done = command(tmp_path / "runs", "-o", tmp_path / "a.parquet", *words, tmp_path / "bench.txt")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == (
        "trace_export: 2 rows of 12 runs; left out: 5 no success, 1 overlapping with the instructions to keep apart from, "
        "1 lost, 1 cancelled, 1 not ended, 1 no trajectory; 1 row of no language model; "
        f"in {tmp_path}/a.parquet\n"
    )


def test_what_is_broken_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    group = some(tmp_path / "runs")
    (group / "toy_1" / "run_metadata.json").write_text("{")
    done = command(tmp_path / "runs", "-o", tmp_path / "a.jsonl", "--format", "openai")
    assert done.returncode == 3 and "toy_1: run_metadata.json is cut off or no JSON" in done.stderr
    assert len(lines(tmp_path / "a.jsonl")) == 6


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing", "-o", "a.parquet"], 2, "missing: there is no such folder"),
        ([".", "-o", "a.parquet"], 2, "no runs in ."),
        ([".", "-o", "a.jsonl"], 2, "--format harbor is no file like a.jsonl: give it a name in .parquet"),
        ([".", "-o", "a.parquet", "--format", "openai"], 2, "give it a name in .jsonl"),
        ([".", "-o", "a.parquet", "--best-of-n", "0"], 2, "must be a whole number of at least 1, not '0'"),
        (
            [".", "-o", "a.parquet", "--decontaminate", "none.txt"],
            2,
            "none.txt: the list of instructions can't be read",
        ),
        ([".", "-o", "no/a.parquet"], 2, "can't write no/a.parquet: No such file or directory"),
    ],
)
def test_what_cannot_be_is_one_message(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    done = command(*words, cwd=tmp_path, env=os.environ)
    assert (done.returncode, done.stdout) == (code, "") and said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
