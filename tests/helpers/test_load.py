"""How loaded model servers were, from their samples: exact on what is known, and never wrong by what a file may hold."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.benchmarks import report, summary
from helpers.runs import load
from helpers.runs.load import Load

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
HEAD = ",".join(("time", *load.NUMBERS))


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def samples(*rows: tuple[Any, ...]) -> str:
    """A file's text; a row: seconds, running, waiting, prompt tokens, generation tokens, percent; what is left out is empty."""
    lines = [",".join([at(row[0]), *map(str, row[1:])] + [""] * (6 - len(row))) for row in rows]
    return "".join(f"{line}\n" for line in [HEAD, *lines])


def of(tmp_path: Path, text: str | bytes) -> Load:
    (tmp_path / "x").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = load.read(str(tmp_path / "x"))
    assert found is not None
    return found


def make_server(group: Path, job: str, text: str, start: float = 0, end: float | None = 3600, **changes: Any) -> None:
    record = {"service": "vllm_30b", "job_id": job, "gpus": 2, "cpus": 7, "started_at": at(start)}
    record |= {"ready_at": at(start + 60), "ended_at": None if end is None else at(end)} | changes
    folder = group / "services"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record['service']}_{job}.json").write_text(json.dumps(record))
    (folder / f"{record['service']}_{job}.load.csv").write_text(text)


def test_busy_idle_and_waiting_are_told_apart(tmp_path: Path) -> None:
    rows = [(0, 0, 0, 5, 1, 0.0), (10, 3, 0, 105, 11, 50.0), (25, 0, 4, 200, 50, 100.0), (30, 2, 9, 300, 90, 100.0)]
    found = of(tmp_path, samples(*rows, (40, 0, 0, 400, 99, 0.0)))
    assert (found.seconds, found.busy_seconds, found.idle_seconds, found.waiting_only_seconds) == (40, 30, 10, 5)
    assert found.running.mean == pytest.approx((3 * 15 + 2 * 10) / 40)
    assert found.waiting.mean == pytest.approx((4 * 5 + 9 * 10) / 40)
    assert (found.running.most, found.waiting.most) == (3, 9)
    assert (found.prompt_tokens, found.generation_tokens) == (400, 99)
    assert found.gpu_utilisation == pytest.approx((50 * 15 + 100 * 5 + 100 * 10) / 40)
    assert found.last == START.timestamp() + 40


def test_p95_is_by_time_whatever_the_pace_of_the_samples(tmp_path: Path) -> None:
    # a number of requests for so many seconds, in all 100
    for held, expected in (
        ([(0, 95), (7, 5)], 0),
        ([(0, 94), (7, 6)], 7),
        ([(1, 50), (2, 44), (3, 2), (4, 4)], 3),
        ([(6, 100)], 6),
    ):
        rows, seconds = [], 0
        for count, time in held:
            rows.append((seconds, count, 0))
            seconds += time
        found = of(tmp_path, samples(*rows, (seconds, 0, 0)))
        assert (found.running.p95, found.waiting.p95) == (expected, 0)


def test_counters_that_begin_anew_with_their_server_add_up(tmp_path: Path) -> None:
    rows = [(0, 1, 0, 100, 10), (5, 1, 0, 250, 40), (6,), (900, 0, 0, 30, 4), (905, 0, 0, 60, 9), (910, 0, 0, 60, 9)]
    found = of(tmp_path, samples(*rows))
    assert (found.prompt_tokens, found.generation_tokens) == (250 + 60, 40 + 9)
    # between the mark of a new start and its first sample nobody saw anything, nor before the mark
    assert (found.seconds, found.busy_seconds) == (5 + 10, 5)


def test_a_server_that_hangs_is_neither_busy_nor_idle_and_loses_no_token(tmp_path: Path) -> None:
    rows = [
        (0, 1, 0, 1, 10),
        (5, 1, 0, 1, 20),
        (15, "", "", "", "", 90.0),
        (25, "", "", "", "", 90.0),
        (30, 1, 0, 1, 70),
    ]
    found = of(tmp_path, samples(*rows, (35, 1, 0, 1, 71)))
    assert (found.seconds, found.generation_tokens) == (10, 71)
    assert found.gpu_utilisation == 90


def test_nothing_is_made_up(tmp_path: Path) -> None:
    for text in ("", HEAD, samples(), samples((0, 1, 1, 5, 5, 9.0)), samples((0,), (5,), (10,))):
        found = of(tmp_path, text)
        assert (found.seconds, found.running.mean, found.running.p95, found.gpu_utilisation) == (0, None, None, None)
    assert of(tmp_path, "").last is None
    assert load.read(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize(
    "broken",
    [
        f"{at(20)},9,9,9\n",  # cut off
        f"{at(20)},9,9,999,999,9.0,9\n",
        f"{at(15)},9,9{at(20)},9,9,999,999,9.0\n",  # a full disk, and then a new start
        "yesterday,9,9,999,999,9.0\n",
        f"{HEAD}\n",
        "\n",
        "\0\0\0\0\n",
        f"{'9' * 1_000_000}\n",
    ],
)
def test_a_broken_line_is_left_out(tmp_path: Path, broken: str) -> None:
    rows = [(0, 1, 0, 5, 5), (10, 1, 0, 10, 10)]
    whole = of(tmp_path, samples(*rows, (30, 0, 0, 20, 20)))
    assert of(tmp_path, samples(*rows) + broken + samples((30, 0, 0, 20, 20)).partition("\n")[2]) == whole
    assert whole.busy_seconds == 30


def test_a_last_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    text = samples((0, 1, 0, 5, 5), (10, 1, 0, 10, 100, 50.0))
    for length in range(len(samples((0, 1, 0, 5, 5))), len(text)):
        assert of(tmp_path, text[:length]).generation_tokens == 5
    assert of(tmp_path, text).generation_tokens == 100


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "1e300", "x", "0x1", "", " "])
def test_what_is_no_number_is_not_known(tmp_path: Path, number: str) -> None:
    rows = [(0, 1, 0, 5, 5, 10.0), (10, number, number, number, number, number), (20, 1, 0, 15, 25, 10.0)]
    found = of(tmp_path, samples(*rows, (30, 0, 0, 15, 25, 10.0)))
    assert (found.seconds, found.prompt_tokens, found.generation_tokens) == (10, 15, 25)
    assert found.gpu_utilisation == 10


def test_a_clock_that_jumps_counts_nothing_for_the_jump(tmp_path: Path) -> None:
    found = of(tmp_path, samples((0, 1, 0), (10, 1, 0), (5, 1, 0), (15, 1, 0), (10**8, 1, 0), (10**8 + 5, 0, 0)))
    assert found.seconds == 10 + 10 + 5


def test_links_pipes_and_files_of_any_size_cost_little(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(samples((0, 1, 0), (10, 1, 0)))
    (tmp_path / "link").symlink_to(tmp_path / "x")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    for name in ("link", "pipe", "large", "."):
        assert load.read(str(tmp_path / name)) is None
    numbers = "".join(f"{at(second)},{second},{second},1,1,1\n" for second in range(60_000))
    tracemalloc.start()
    found = of(tmp_path, f"{HEAD}\n{numbers}")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.running.most == 59_998 and len(found.running.seconds) == load.MOST_BINS + 1
    assert most < 60 * 2**20


@given(st.binary(max_size=300), st.lists(st.lists(st.sampled_from(["1", "", "nan", "-3", at(3), "1e15"]), max_size=8)))
def test_no_file_breaks_it(tmp_path_factory: pytest.TempPathFactory, noise: bytes, lines: list[list[str]]) -> None:
    text = HEAD + "\n" + "".join(f"{at(number)},{','.join(cells)}\n" for number, cells in enumerate(lines))
    found = of(tmp_path_factory.getbasetemp(), text.encode() + noise)
    assert 0 <= found.busy_seconds <= found.seconds <= len(lines) * load.LONGEST_STEP
    assert found.prompt_tokens >= 0 <= found.generation_tokens


# ---- servers


def sampled(*busy: tuple[int, int], seconds: int = 3600) -> str:
    """Samples every 10 s, with 4 requests and 9 waiting in the given times; 10 tokens a second of them."""
    rows, tokens = [], 0
    for second in range(60, seconds + 1, 10):
        is_busy = any(first <= second < last for first, last in busy)
        rows.append((second, 4 * is_busy, 9 * is_busy, 10 * tokens, tokens, 80.0 * is_busy))
        tokens += 100 * is_busy
    return samples(*rows)


def test_a_server_is_told_in_one_sentence_and_as_data(tmp_path: Path) -> None:
    make_server(tmp_path, "12", sampled((60, 1860)))
    (served,) = load.servers(str(tmp_path)).values()
    assert served.sentence() == (
        "model 30b: busy 50% and idle 48% of 2.0 GPU-hours, 9,000 generated tokens a GPU-hour, GPUs 41% used, "
        "at most 9 requests waiting"
    )
    data = served.data()
    assert data["busy_seconds"] == 1800 and data["idle_seconds"] == 1740 and data["waiting_only_seconds"] == 0
    assert data["gpu_hours"] == 2 and data["generation_tokens"] == 18_000 and data["prompt_tokens"] == 180_000
    assert data["requests_running_p95"] == 4 and data["requests_waiting_most"] == 9
    json.dumps(data, allow_nan=False)


def test_one_that_was_killed_or_lives_is_told_up_to_its_last_sample(tmp_path: Path) -> None:
    make_server(tmp_path, "12", sampled((60, 960), seconds=1860), end=None)
    assert load.servers(str(tmp_path))["12"].hours == pytest.approx(1860 / 3600)


def test_servers_of_a_model_are_told_together(tmp_path: Path) -> None:
    make_server(tmp_path, "12", sampled((60, 1860)))
    make_server(tmp_path, "13", sampled())
    make_server(tmp_path, "14", sampled(), service="vllm_80b", gpus=4)
    make_server(tmp_path, "15", sampled(), gpus=None, service="vllm_odd")
    small, large, odd = load.by_model(load.servers(str(tmp_path)).values())
    assert (small.model, small.servers, small.gpu_hours, small.hours) == ("30b", 2, 4, 2)
    assert "busy 25% and idle 73% of 4.0 GPU-hours, 4,500 generated tokens a GPU-hour" in str(small.sentence())
    assert (large.model, large.gpu_hours) == ("80b", 4) and "busy 0% and idle 98%" in str(large.sentence())
    assert (odd.gpu_hours, odd.sentence(), odd.tokens_per_gpu_hour) == (None, None, None)


def test_without_gpus_or_samples_there_is_no_sentence_but_the_data(tmp_path: Path) -> None:
    make_server(tmp_path, "11", sampled((60, 100)), service="vllm_replay", gpus=0)
    make_server(tmp_path, "12", samples())
    replay, empty = (load.servers(str(tmp_path))[job] for job in ("11", "12"))
    assert replay.sentence() is None and replay.data()["generation_tokens"] == 400
    assert replay.data()["generation_tokens_per_gpu_hour"] is None
    assert empty.sentence() is None and empty.data()["busy_seconds"] == 0


@pytest.mark.parametrize(
    "record",
    [
        {"service": "../../x"},
        {"service": None},
        {"started_at": "soon"},
        {"started_at": None},
        {"started_at": at(9000)},
        {"gpus": "many"},
        {"gpus": -2},
        {"ended_at": 5},
    ],
)
def test_records_that_hold_anything(tmp_path: Path, record: dict[str, Any]) -> None:
    make_server(tmp_path, "12", sampled((60, 1860)))
    path = tmp_path / "services" / "vllm_30b_12.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | record))
    for served in load.servers(str(tmp_path)).values():
        served.sentence()
        assert served.gpu_hours is None or served.gpu_hours >= 0
        json.dumps(served.data(), allow_nan=False)
    path.write_text("[")
    assert load.servers(str(tmp_path)) == {}
    assert load.servers(str(tmp_path / "nowhere")) == {}


def test_a_rounds_summary_tells_how_busy_its_servers_were(tmp_path: Path) -> None:
    text = samples((0, 0, 0, 0, 0), (900, 2, 1, 0, 0), (1800, 0, 0, 0, 7200), (2700, 0, 0, 0, 7200))
    for job in ("5", "6"):  # two servers of one model
        make_server(tmp_path, job, text)
    make_server(tmp_path, "7", text, service="vllm_replay", gpus=0)
    served = load.by_model(load.servers(str(tmp_path)).values())
    made = summary.round_of([], served=served)
    told = "model 30b: busy 25% and idle 50% of 4.0 GPU-hours, 3,600 generated tokens a GPU-hour, at most 1 request waiting"
    assert f"## Model servers\n\n- {told}\n" in report.markdown(made)
    assert "model replay" not in report.markdown(made)
    assert [(one["model"], one["servers"], one["busy_seconds"]) for one in made.data()["model_servers"]] == [
        ("30b", 2, 1800.0),
        ("replay", 1, 900.0),
    ]


@given(
    st.lists(
        st.tuples(st.integers(1, 1200), st.sampled_from([0, 2]), st.sampled_from([0, 1])), min_size=1, max_size=40
    ),
    st.integers(1, 50),
)
def test_a_strip_has_in_all_parts_together_what_the_whole_has(steps: list[tuple[int, int, int]], bins: int) -> None:
    rows, now = [], 0
    for step, running, waiting in steps:
        rows.append((now, running, waiting, 1, 1, 50.0))
        now += step
    with tempfile.TemporaryDirectory() as name:
        whole = of(Path(name), samples(*rows, (now, 0, 0, 1, 1, 0.0)))
        parts = load.strip(f"{name}/x", START.timestamp() - 30, START.timestamp() + now + 50, bins)
    assert len(parts) == bins
    for key in ("seconds", "busy_seconds", "idle_seconds", "waiting_only_seconds", "gpu_seconds", "gpu_busy_seconds"):
        assert sum(getattr(part, key) for part in parts) == pytest.approx(getattr(whole, key), abs=1e-3), key
    assert all(part.seconds <= (now + 80) / bins + 1e-6 for part in parts)


def test_a_strip_of_nothing(tmp_path: Path) -> None:
    assert load.strip(str(tmp_path / "none"), 0, 10, 5) == []
    (tmp_path / "x").write_text(samples((0, 1, 1)))
    assert load.strip(str(tmp_path / "x"), 10, 10, 5) == []
