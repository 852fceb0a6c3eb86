"""Outputs that are made to be slow or huge to read: refused within a bound, while all others are judged."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from validation import SUMMARY, Place, check_model, make_task, png

from helpers.grading.metrics import Metric
from helpers.tasks.judging import judge, model_files
from helpers.tasks.judging.files import BadFile

MB = 2**20


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


LARGE_NUMBER = b"\x8b" + struct.pack("<i", 4096) + b"\x7f" * 4096


def safetensors_of_many_dimensions() -> bytes:
    header = b'{"a":{"dtype":"U8","shape":[' + b"9," * (3 * MB) + b'0],"data_offsets":[0,8]}}'
    return struct.pack("<Q", len(header)) + header + b"abcdefgh"


def joblib_array(state: bytes) -> bytes:
    """A pickle of an empty array as joblib writes it, with more in its state, left on the stack with the state in memo 1."""
    wrapper = b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
    kind = b"X\x05\0\0\0dtypecnumpy\ndtype\nX\x02\0\0\0f8\x85R"
    return wrapper + b"}(" + kind + b"X\x1b\0\0\0numpy_array_alignment_bytesN" + state + b"uq\x01b"


def pickle_that_builds_a_large_state_often() -> bytes:
    items = b"".join(b"X\x02\0\0\0abK\x01" for _ in range(60_000))
    return joblib_array(b"X\x05\0\0\0shapeK\x00\x85" + items) + b"h\x01b" * 20_000 + b"."


def npy_of_wide_elements() -> bytes:
    file = io.BytesIO()
    header = {"descr": "|V2000000000", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(1000)


SLOW: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "tensor of a million dimensions": ("a.safetensors", safetensors_of_many_dimensions, "over 64 dimensions"),
    "array of many dimensions": (
        "a.pkl",
        lambda: joblib_array(b"X\x05\0\0\0shape(" + LARGE_NUMBER * 2000 + b"t") + b".",
        "over 64 dimensions",
    ),
    "state built again and again": ("a.joblib", pickle_that_builds_a_large_state_often, "holds no numbers"),
    "elements of 2 GB": ("a.npy", npy_of_wide_elements, "elements of over a megabyte"),
    "message of a million numbers": ("a.onnx", lambda: b"\x08\x01" * (2 * MB), "over 1000000 fields"),
}


@pytest.mark.timeout(100)
@pytest.mark.parametrize("name", SLOW)
def test_what_would_take_hours_is_refused_at_once(tmp_path: Path, name: str) -> None:
    file, make, words = SLOW[name]
    with pytest.raises(BadFile, match=words):
        check_model(tmp_path, file, make())


def test_a_storage_that_many_tensors_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = b"(X\x07\0\0\0storagectorch\nByteStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x08tQ0"
    with zipfile.ZipFile(tmp_path / "made", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + tensor * 1000 + b"}.")
        archive.writestr("a/data/0", b"abcdefgh")
    calls = []
    monkeypatch.setattr(model_files, "varies", lambda *_: calls.append(1) or True)
    check_model(tmp_path, "model.pt", (tmp_path / "made").read_bytes())
    assert len(calls) == 1


# a deadline and a bound on memory for what can't be bounded in its reader


def jpeg_of_many_scans() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2000, 2000), "white").save(file, "JPEG", progressive=True)
    start = file.getvalue().rfind(b"\xff\xda")
    return file.getvalue()[:start] + file.getvalue()[start:-2] * 20_000 + b"\xff\xd9"


@pytest.mark.timeout(100)
def test_an_image_that_never_ends_is_refused_and_the_others_count(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "SECONDS_A_FILE", 2.0)
    task = place.prepare(make_task(required_outputs=["a.jpg", "summary.txt"], required_visualizations=1))
    place.submit()
    place.write("a.jpg", jpeg_of_many_scans())
    place.write("b.png", png())
    place.write("summary.txt", SUMMARY)
    verdict = place.judge(task)
    assert verdict["output_check"]["files_found"] == ["summary.txt"]
    assert verdict["criteria_met"] == {"required_outputs": False, "required_visualizations": True}
    assert "a.jpg: takes over 2 s to read" in verdict["feedback"] and "error" not in verdict


def test_a_file_that_takes_too_much_memory_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MEMORY", 100 * MB)
    task = place.prepare(make_task(required_outputs=["lists.json"]))
    place.submit()
    place.write("lists.json", "[" + "[1]," * (2 * MB - 10) + "1]")
    assert any(
        line.startswith("lists.json: needs over 100 MB of memory to read") for line in place.judge(task)["feedback"]
    )


def test_outputs_have_a_deadline_together(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SECONDS_IN_ALL", 0.0)
    task = place.prepare(make_task(required_outputs=["summary.txt"], required_insights=1))
    place.submit()
    place.write("summary.txt", SUMMARY)
    place.write("analysis_report.md", SUMMARY)
    verdict = place.judge(task)
    assert "summary.txt: isn't read: reading those before took over 0 s" in verdict["feedback"]
    assert verdict["overall_score"] == 0 and "error" not in verdict


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda *_: time.sleep(60), "takes over 0.5 s to read"),
        (lambda *_: bytearray(2**40), "needs over 2048 MB of memory to read"),
    ],
)
def test_a_submission_that_can_not_be_scored_in_time_is_none(
    place: Place, monkeypatch: pytest.MonkeyPatch, score: Any, words: str
) -> None:
    task = place.prepare(make_task(min_accuracy=0.5))
    place.submit()
    right, parsed = Metric.score, judge.Judge._refuse_guesses
    monkeypatch.setattr(judge, "SECONDS_A_FILE", 0.5)
    # the answers are scored when they are loaded, which is no agent's doing
    monkeypatch.setattr(
        judge.Judge, "_refuse_guesses", lambda *given: (monkeypatch.setattr(Metric, "score", score), parsed(*given))
    )
    verdict = place.judge(task)
    assert Metric.score is right and words in verdict["feedback"][0]
    assert verdict["scores"] == {"skill": 0.0} and verdict["criteria_met"] == {"min_accuracy": False}
    assert "error" not in verdict and not verdict["success"]
