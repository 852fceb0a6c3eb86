"""Files of models are whole, hold numbers, and are never loaded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from validation import SUMMARY, Evil, Place, check_model, make_task, png

from helpers.tasks.definitions import Task
from helpers.tasks.judging import files, pickles
from helpers.tasks.judging.pickles import BadFile, Scan


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def write_model(path: Path, model: Any = None, **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    if model is None:
        labels = np.array(["a", "b"], dtype=object)[np.arange(40) % 2]
        model = LogisticRegression().fit(rng.normal(size=(40, 3)), labels)
    joblib.dump(model, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_models_of_scikit_learn_are_accepted(tmp_path: Path, compress: Any) -> None:
    content = write_model(tmp_path / "m.joblib", compress=compress)
    if compress == ("lzma", 3):
        with pytest.raises(BadFile):  # a format without a mark
            check_model(tmp_path, "model.joblib", content)
        return
    check_model(tmp_path, "model.joblib", content)
    check_model(tmp_path, "model.pkl", content)
    for cut in (len(content) // 4, len(content) // 2, len(content) - 2):
        with pytest.raises(BadFile):
            check_model(tmp_path, "model.joblib", content[:cut])


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_models_are_accepted(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(5, random_state=0).fit(rng.normal(size=(40, 3)), np.arange(40) % 2)
    words = TfidfVectorizer().fit(["one two three", "two three four"])
    for model in (forest, {"weights": rng.normal(size=(3, 3))}, [words, forest]):
        check_model(tmp_path, "model.pkl", pickle.dumps(model, protocol))


class Nested:
    def __reduce__(self) -> Any:
        return eval, ("__import__('os').system('touch ~/ran')",)


def hash_bomb() -> bytes:
    # a key of 2**60 parts; whoever makes that dict never ends
    return b"}(" + b")" + b"2\x86" * 60 + b"K\x01u."


BAD_PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "os.system": (lambda: pickle.dumps(Evil()), "imports '(posix|nt).system'"),
    "os.system, oldest protocol": (lambda: pickle.dumps(Evil(), 0), "imports '(posix|nt).system'"),
    "eval": (lambda: pickle.dumps(Nested()), "imports 'builtins.eval'"),
    "os.system in a model": (lambda: pickle.dumps({"w": np.arange(9.0), "x": Evil()}), "imports '(posix|nt).system'"),
    "by a dotted name": (
        lambda: b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93\x8c\x02ls\x85R.",
        "imports 'numpy.os.system'",
    ),
    "runstring": (lambda: b"cnumpy.testing._private.utils\nrunstring\n(S'1'\nt.", "imports 'numpy.testing"),
    "load": (lambda: b"csklearn.utils\nload\n(S'1'\nt.", "imports 'sklearn.utils.load'"),
    "INST": (lambda: b"(S'ls'\nios\nsystem\n.", "imports 'os.system'"),
    "OBJ": (lambda: b"(cos\nsystem\nS'ls'\no.", "imports 'os.system'"),
    "a name that goes on": (lambda: b"cnumpy\nndarray.tofile\n.", "imports 'numpy.ndarray.tofile'"),
    "getattr": (lambda: b"cbuiltins\ngetattr\n.", "imports 'builtins.getattr'"),
    "names from the memo": (
        lambda: b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x30\x30h\x00h\x01\x93.",
        "imports 'os.system'",
    ),
    "a number as a name": (lambda: b"\x80\x04K\x01\x8c\x06system\x93.", "imports '\\?.system'"),
    "extension": (lambda: b"\x80\x02\x82\x01.", "extension codes"),
    "nothing": (lambda: pickle.dumps(None), "holds no numbers"),
    "a dict": (lambda: pickle.dumps({"accuracy": 0.99}), "holds no numbers"),
    "bytes": (lambda: pickle.dumps(os.urandom(500)), "holds no numbers"),
    "untrained": (lambda: pickle.dumps(LogisticRegression()), "holds no numbers"),
    "zeros": (lambda: pickle.dumps(np.zeros((50, 50))), "holds no numbers"),
    "text": (lambda: SUMMARY.encode(), "is no complete pickle"),
    "empty stack": (lambda: b"\x80\x04a.", "is no complete pickle"),
    "no such memo": (lambda: b"\x80\x04h\x07.", "is no complete pickle"),
    "no end": (lambda: b"\x80\x04K\x01", "is no complete pickle"),
    "long promise": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "is no complete pickle|part of over"),
    "memo bomb": (lambda: b"\x80\x04K\x01r\xff\xff\xff\x7f.", "holds no numbers"),
    "hash bomb": (hash_bomb, "holds no numbers|is no complete pickle"),
    "gzip of text": (lambda: gzip.compress(SUMMARY.encode()), "is no complete pickle"),
    "xz cut off": (lambda: lzma.compress(pickle.dumps(np.arange(9.0)))[:-20], "can't be read as .pkl .EOFError."),
    "bz2 cut off": (lambda: bz2.compress(pickle.dumps(np.arange(9.0)))[:-20], "is no complete pickle"),
}


@pytest.mark.parametrize("name", BAD_PICKLES)
@pytest.mark.timeout(60)
def test_pickles_are_neither_trusted_nor_run(tmp_path: Path, name: str) -> None:
    make, words = BAD_PICKLES[name]
    with pytest.raises(BadFile, match=words):
        check_model(tmp_path, "model.pkl", make())
    assert not Path(os.environ["HOME"], "ran").exists()


def test_no_part_is_read_beyond_its_bound() -> None:
    with pytest.raises(BadFile, match="has a part of over 10 bytes"):
        pickles.Bounded(io.BytesIO(bytes(100)), 10).read()
    with pytest.raises(BadFile, match="has a part of over 10 bytes"):
        pickles.Bounded(io.BytesIO(bytes(100)), 10).read(2**62)


def test_the_evil_pickle_would_run_if_it_were_loaded() -> None:
    pickle.loads(pickle.dumps(Evil()))
    assert Path(os.environ["HOME"], "ran").exists()


def test_a_pickle_hidden_in_joblibs_arrays_is_found(tmp_path: Path) -> None:
    content = write_model(tmp_path / "m.joblib", np.array([1, Evil(), 2.5], dtype=object))
    with pytest.raises(BadFile, match="imports '(posix|nt).system'"):
        check_model(tmp_path, "model.joblib", content)
    assert not Path(os.environ["HOME"], "ran").exists()


def test_arrays_of_joblib_must_hold_numbers_that_differ(tmp_path: Path) -> None:
    for values in (np.zeros(50), np.array(["a", "b"]), np.array([True, False])):
        with pytest.raises(BadFile, match="holds no numbers"):
            check_model(tmp_path, "model.joblib", write_model(tmp_path / "m.joblib", values))
    content = write_model(tmp_path / "m.joblib", np.array([LogisticRegression(), 2], dtype=object))
    scan = Scan(pickles.Bounded(io.BytesIO(content)), pickles.MODELS, "")
    assert "sklearn.linear_model._logistic LogisticRegression" in scan.imports


def test_a_pickle_of_too_many_steps_is_not_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_OPCODES", 1000)
    with pytest.raises(BadFile, match="is a pickle of over 1000 steps"):
        check_model(tmp_path, "model.pkl", b"\x80\x04" + b"N0" * 600 + b".")


@pytest.mark.timeout(60)
def test_a_bomb_of_zeros_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "LARGEST_WHOLE", 4 * 2**20)
    content = write_model(tmp_path / "m.joblib", np.zeros(10**6), compress=3)
    assert len(content) < 50_000
    with pytest.raises(BadFile, match="in all"):
        check_model(tmp_path, "model.joblib", content)


def arrays(**named: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def array(values: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


def forged_npy(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + np.arange(4.0).tobytes()


def safetensors(tensors: dict[str, np.ndarray], **changes: Any) -> bytes:
    header, data = {}, b""
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    text = json.dumps(header | changes).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(kind: str, shape: list[int], place: list[int]) -> bytes:
    """A file whose header says this of its only tensor."""
    return safetensors({"w": WEIGHTS}, w={"dtype": kind, "shape": shape, "data_offsets": place})


def onnx(weights: bytes | None = np.arange(8, dtype="f4").tobytes(), nodes: int = 1) -> bytes:
    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    graph = message(1, message(4, b"Gemm")) * nodes
    graph += message(5, message(9, weights)) if weights is not None else b""
    return b"\x08\x08" + message(7, graph) + message(8, b"\x10\x11")


WEIGHTS = np.arange(12, dtype="f4").reshape(3, 4)
GOOD_MODELS = {
    "arrays": ("model.npz", lambda: arrays(w=WEIGHTS, b=np.zeros(4))),
    "array": ("model.npy", lambda: array(WEIGHTS)),
    "in Fortran's order": ("model.npy", lambda: array(np.asfortranarray(WEIGHTS))),
    "tensors": (
        "model.safetensors",
        lambda: safetensors({"w": WEIGHTS, "b": np.zeros(3, "f4")}, __metadata__={"format": "pt"}),
    ),
    "graph": ("model.onnx", onnx),
}


@pytest.mark.parametrize("name", GOOD_MODELS)
def test_sound_models_are_accepted_and_cut_ones_are_not(tmp_path: Path, name: str) -> None:
    file, make = GOOD_MODELS[name]
    content = make()
    check_model(tmp_path, file, content)
    for cut in (1, 5, len(content) // 2, len(content) - 1):
        with pytest.raises(BadFile):
            check_model(tmp_path, file, content[:cut])


BAD_MODELS = {
    "constant": ("model.npz", lambda: arrays(w=np.ones((3, 3)), b=np.zeros(9)), "holds no numbers"),
    "words": ("model.npz", lambda: arrays(w=np.array(["a", "b"])), "holds no numbers"),
    "NaN": ("model.npy", lambda: array(np.full(9, np.nan)), "holds no numbers"),
    "objects": ("model.npy", lambda: array(np.array([Evil(), 2], dtype=object)), "Python objects"),
    "objects inside": ("model.npz", lambda: arrays(w=WEIGHTS, x=np.array([Evil(), 2], dtype=object)), "Python objects"),
    "promises too much": ("model.npy", lambda: forged_npy("(1000000000000,)"), "is cut off"),
    "promises less": ("model.npy", lambda: forged_npy("(3,)"), "goes on after its array"),
    "hostile header": ("model.npy", lambda: forged_npy("__import__('os').system('ls')"), "is no array"),
    "empty archive": ("model.npz", lambda: arrays(), "holds no numbers"),
    "archive of text": ("model.npz", lambda: archive({"a.txt": b"hello"}), "is no array"),
    "no archive": ("model.npz", lambda: SUMMARY.encode(), "is no complete zip archive"),
    "zeros": ("model.safetensors", lambda: safetensors({"w": np.zeros((3, 3), "f4")}), "holds no numbers"),
    "length": ("model.safetensors", lambda: struct.pack("<Q", 2**60) + bytes(20), "length is impossible"),
    "goes on": ("model.safetensors", lambda: safetensors({"w": WEIGHTS}) + b"x", "goes on after its tensors"),
    "gap": ("model.safetensors", lambda: tensor("F32", [3, 4], [4, 52]), "don't fit"),
    "shape": ("model.safetensors", lambda: tensor("F32", [3, 5], [0, 48]), "don't fit"),
    "kind": ("model.safetensors", lambda: tensor("X", [3], [0, 48]), "can't be read"),
    "no nodes": ("model.onnx", lambda: onnx(nodes=0), "no graph of nodes"),
    "no weights": ("model.onnx", lambda: onnx(None), "holds no numbers"),
    "zero weights": ("model.onnx", lambda: onnx(bytes(40)), "holds no numbers"),
    "text as onnx": ("model.onnx", lambda: SUMMARY.encode(), "no ONNX model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.timeout(20)
def test_unsound_models_are_refused(tmp_path: Path, name: str) -> None:
    file, make, words = BAD_MODELS[name]
    with pytest.raises(BadFile, match=words):
        check_model(tmp_path, file, make())
    assert not Path(os.environ["HOME"], "ran").exists()


def archive(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return buffer.getvalue()


class FloatStorage:
    """Stands for torch.FloatStorage."""


class TorchPickler(pickle._Pickler):
    """Writes what torch.save writes: globals of torch, and storages by persistent ids."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        known = {FloatStorage: "torch\nFloatStorage", rebuild: "torch._utils\n_rebuild_tensor_v2"}
        if obj in known:
            self.write(f"c{known[obj]}\n".encode())
        else:
            super().save_global(obj, name)

    dispatch = pickle._Pickler.dispatch | {type: save_global, type(lambda: 0): save_global}

    def persistent_id(self, obj: Any) -> Any:
        return ("storage", FloatStorage, obj.key, "cpu", obj.size) if isinstance(obj, Storage) else None


def rebuild(*_: Any) -> None:
    """Stands for torch._utils._rebuild_tensor_v2."""


class Storage:
    def __init__(self, key: str, size: int) -> None:
        self.key, self.size = key, size


class Tensor:
    def __init__(self, key: str, size: int) -> None:
        self.storage = Storage(key, size)

    def __reduce__(self) -> Any:
        return rebuild, (self.storage, 0, (self.storage.size,), (1,), False, OrderedDict())


def torch_file(state: Any, data: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    TorchPickler(buffer, 2).dump(state)
    parts = {"archive/data.pkl": buffer.getvalue(), "archive/version": b"3\n"}
    return archive(parts | {f"archive/data/{key}": content for key, content in data.items()})


STATE = OrderedDict(weight=Tensor("0", 12), bias=Tensor("1", 3))
TENSORS = {"0": WEIGHTS.tobytes(), "1": bytes(12)}


def test_state_dicts_of_torch_are_accepted(tmp_path: Path) -> None:
    content = torch_file(STATE, TENSORS)
    check_model(tmp_path, "model.pth", content)
    check_model(tmp_path, "model.pt", torch_file({"epoch": 3, "model": STATE, "lr": 0.1}, TENSORS))
    for cut in (30, len(content) // 2, len(content) - 5):
        with pytest.raises(BadFile):
            check_model(tmp_path, "model.pth", content[:cut])


BAD_TORCH = {
    "os.system": (lambda: torch_file({"w": STATE, "x": Evil()}, TENSORS), "imports '(posix|nt).system'"),
    "bytes too short": (lambda: torch_file(STATE, {"0": bytes(40), "1": bytes(12)}), "has 40 bytes for tensor '0' instead of 48"),
    "bytes missing": (lambda: torch_file(STATE, {"1": bytes(12)}), "lacks the bytes of tensor '0'"),
    "zeros": (lambda: torch_file(STATE, {"0": bytes(48), "1": bytes(12)}), "holds no numbers"),
    "no tensors": (lambda: torch_file({"accuracy": 0.9}, {}), "holds no numbers"),
    "no pickle": (lambda: archive({"archive/version": b"3"}), "is not written by torch.save"),
    "a renamed CSV": (lambda: b"id,target\n1,2\n", "is no complete zip archive"),
    "whole model": (lambda: archive({"a/data.pkl": b"c__main__\nNet\n."}), "imports '__main__.Net'.*; save the state_dict"),
    "odd persistent id": (lambda: archive({"a/data.pkl": b"\x80\x02X\x01\x00\x00\x00xQ."}), "unknown way"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TORCH)
def test_unsound_files_of_torch_are_refused(tmp_path: Path, name: str) -> None:
    make, words = BAD_TORCH[name]
    with pytest.raises(BadFile, match=words):
        check_model(tmp_path, "model.pth", make())
    assert not Path(os.environ["HOME"], "ran").exists()


@pytest.mark.timeout(60)
def test_zip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    big = archive({f"{n}.npy": bytes(2**20) for n in range(8)}, zipfile.ZIP_DEFLATED)
    at = big.rfind(b"PK\x01\x02")  # the last entry of the directory: unpacked size at 24
    with pytest.raises(BadFile, match="unpacks to more than"):
        check_model(tmp_path, "model.npz", big[: at + 24] + b"\xfe\xff\xff\xff" + big[at + 28 :])
    many = archive({f"{n:0200d}": b"" for n in range(70_000)})
    assert len(many) > 30 * 2**20
    started = time.monotonic()
    with pytest.raises(BadFile, match="has a part of over 16777216 bytes"):
        check_model(tmp_path, "model.npz", many)
    assert time.monotonic() - started < 10


def test_a_model_may_not_be_any_file(place: Place) -> None:
    task = make_task(required_outputs=["model.*"]).model_copy(
        update={"data_requirements": Task.model_fields["data_requirements"].default}
    )
    place.write("model.txt", SUMMARY)
    place.write("model.h5", os.urandom(1000))
    verdict = place.judge(task)
    assert not verdict["success"] and "model.h5: is no kind of model file that can be checked" in verdict["feedback"][0]
    place.write("model.npz", GOOD_MODELS["arrays"][1]())
    assert place.judge(task)["output_check"]["files_found"] == ["model.npz"]


def test_random_bytes_make_nothing_stumble(place: Place) -> None:
    names = [
        "submission.csv",
        "a.csv",
        "b.json",
        "c.png",
        "d.jpg",
        "e.md",
        "f.txt",
        "training_log.json",
        "analysis_report.md",
    ]
    names += [f"m{ending}" for ending in sorted(files.MODELS)] + ["other.bin", "summary_statistics.json"]
    task = place.prepare(
        make_task(min_accuracy=0.1, required_outputs=names, required_insights=1, required_visualizations=1)
    )
    good = {
        "c.png": png(), "d.jpg": png(kind="JPEG"), "m.npz": GOOD_MODELS["arrays"][1](), "m.pth": torch_file(STATE, TENSORS),
        "m.safetensors": GOOD_MODELS["tensors"][1](), "m.npy": array(WEIGHTS), "m.onnx": onnx(), "m.pkl": pickle.dumps(WEIGHTS),
    }  # fmt: skip
    for seed in range(12):
        rng = np.random.default_rng(seed)
        for name in names:
            content = bytearray(good.get(name, b"id,target\n" + rng.bytes(200)))
            for at in rng.integers(0, len(content), seed):
                content[at] = rng.integers(0, 256)
            place.write(name, bytes(content) if seed % 3 else rng.bytes(int(rng.integers(1, 3000))))
        assert not place.judge(task)["success"]
