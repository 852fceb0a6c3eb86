"""Files of trained models: whether they are whole and hold numbers, found without loading them. What doesn't count raises BadFile."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import zipfile
import zlib
from typing import Any, BinaryIO

from helpers.tasks.judging.pickles import (
    BUILTINS,
    LARGEST_PART,
    LARGEST_WHOLE,
    MB,
    MODELS,
    NUMPY,
    BadFile,
    Bounded,
    Import,
    Scan,
    elements,
    varies,
)

LARGEST_HEADER = 16 * MB  # of safetensors
MOST_FIELDS = 1_000_000  # of a protobuf message
# bytes an element, by the name of PyTorch's storage class
WIDTHS = {"Untyped": 1, "Byte": 1, "Char": 1, "Bool": 1, "Half": 2, "BFloat16": 2, "Short": 2, "Float": 4, "Int": 4}
WIDTHS |= {"Double": 8, "Long": 8, "ComplexFloat": 8, "ComplexDouble": 16}
TENSORS = "|".join(
    (
        r"torch\._utils _rebuild_(tensor|tensor_v2|parameter|parameter_with_state)",
        r"torch(\.storage)? \w+Storage",
        r"torch (Size|device|bool|u?int\d+|float\d+|bfloat16|complex\d+)",
        NUMPY,
        BUILTINS,
    )
)


def check_model(file: BinaryIO, ending: str) -> None:
    """Check an open file by the ending of its name, one of CHECKS. Raises BadFile, and what parsers raise."""
    if not CHECKS[ending](file):
        raise BadFile("holds no numbers of a model: no array with different values")


def _npy(file: Any) -> bool:
    from numpy.lib import format

    readers = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
    try:
        shape, _, kind = readers[format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise BadFile(f"is no array of numpy ({str(error)[:80]})") from None
    if kind.hasobject:
        raise BadFile("holds Python objects, which only pickle reads; save plain numbers")
    varied = varies(file, elements(shape) * kind.itemsize, kind.itemsize)
    if file.read(1):
        raise BadFile("goes on after its array")
    return varied and kind.kind in "fiuc"


class _Archive(Bounded):
    def __init__(self, file: Any) -> None:
        super().__init__(file, LARGEST_HEADER)  # its directory is read in one go
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable


def _zip(file: Any) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(_Archive(file))
    except zipfile.BadZipFile as error:
        raise BadFile(f"is no complete zip archive ({error})") from None
    if sum(part.file_size for part in archive.infolist()) > LARGEST_WHOLE:
        raise BadFile(f"unpacks to more than {LARGEST_WHOLE} bytes")
    return archive


def _npz(file: Any) -> bool:
    with _zip(file) as archive:
        found = [_npy(archive.open(part)) for part in archive.infolist()]
    return any(found)


def _safetensors(file: Any) -> bool:
    """Length of the header (8 bytes), header in JSON, the tensors' bytes (https://github.com/huggingface/safetensors)."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, LARGEST_HEADER):
        raise BadFile("is no safetensors file: its header's length is impossible")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end, varied = 0, False
    for part in sorted(header.values(), key=lambda part: part["data_offsets"]):
        start, stop = part["data_offsets"]
        bits = int(re.fullmatch(r"BOOL|[A-Z]+(\d+)(?:_\w+)?", part["dtype"])[1] or 8)
        if start != end or (stop - start) * 8 != elements(part["shape"]) * bits:
            raise BadFile("has tensors whose places or sizes don't fit")
        varied |= varies(file, stop - start, max(bits // 8, 1))
        end = stop
    if 8 + length + end != size:
        raise BadFile("is cut off, or goes on after its tensors")
    return varied


def _torch(file: Any) -> bool:
    """A zip archive of torch.save (PyTorch >= 1.6): <name>/data.pkl, and the tensors' bytes in <name>/data/<key>."""
    with _zip(file) as archive:
        index = next((name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
        if index is None:
            raise BadFile("is not written by torch.save")
        with archive.open(index) as data:
            scan = Scan(Bounded(data), re.compile(TENSORS), "save the state_dict, which holds tensors only")
        read: dict[str, bool] = {}
        for pid in scan.persistent:
            _read_storage(archive, index.removesuffix("data.pkl"), pid, read)
    return any(read.values())


def _read_storage(archive: zipfile.ZipFile, folder: str, pid: Any, read: dict[str, bool]) -> None:
    """Note whether the bytes of a tensor vary; tensors may share them, which are read once."""
    match pid:
        case ("storage", Import(name), str(key), _, int(count)):
            width = WIDTHS.get(name.split()[-1].removesuffix("Storage"))
        case _:
            width = None
    if width is None:
        raise BadFile("names a tensor in an unknown way")
    try:
        part = archive.getinfo(f"{folder}data/{key}")
    except KeyError:
        raise BadFile(f"lacks the bytes of tensor {key[:20]!r}") from None
    if part.file_size != count * width:
        raise BadFile(f"has {part.file_size} bytes for tensor {key[:20]!r} instead of {count * width}")
    if key not in read:
        with archive.open(part) as data:
            read[key] = varies(data, part.file_size, width)


def _pickle(file: Any) -> bool:
    unpacked = Bounded(_unpacked(file))
    scan = Scan(unpacked, MODELS, "models of scikit-learn, XGBoost and LightGBM, and arrays, are known")
    unpacked.read(1)  # raises EOFError where compressed data are cut off behind the pickle
    return scan.has_numbers and any(re.match("numpy|sklearn|xgboost|lightgbm", name) for name in scan.imports)


def _unpacked(file: Any) -> Any:
    """The content of a file that joblib may have compressed."""
    start = file.peek(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(file)
    return io.BufferedReader(_Inflated(file), MB) if start.startswith(b"\x78") else file


class _Inflated(io.RawIOBase):
    """What a zlib stream unpacks to."""

    def __init__(self, file: Any) -> None:
        self._file, self._engine = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data and not self._engine.eof:
            piece = self._engine.unconsumed_tail or self._file.read(MB)
            data = self._engine.decompress(piece, len(buffer))
            if not piece and not data:
                raise EOFError("the compressed data are cut off")
        buffer[: len(data)] = data
        return len(data)


def _onnx(file: Any) -> bool:
    """ModelProto: ir_version 1, graph 7; GraphProto: node 1, initializer 5; TensorProto: float_data 4, raw_data 9."""
    data = file.read(LARGEST_PART + 1)
    if len(data) > LARGEST_PART:
        raise BadFile(f"is an ONNX model of over {LARGEST_PART} bytes, which aren't read")
    model = _fields(memoryview(data))
    graph = [field for number, value in model if number == 7 for field in _fields(value)]
    if not {1, 7} <= {number for number, _ in model} or 1 not in {number for number, _ in graph}:
        raise BadFile("is no ONNX model: it has no graph of nodes")
    tensors = [field for number, value in graph if number == 5 for field in _fields(value)]
    values = [bytes(value) for number, value in tensors if number in (4, 9)]
    return any(value.strip(value[:1]) for value in values)


def _fields(data: memoryview) -> list[tuple[int, Any]]:
    """The fields of a protobuf message: number, and an integer or bytes (https://protobuf.dev/programming-guides/encoding)."""
    found, at = [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire, length = tag & 7, {1: 8, 5: 4}.get(tag & 7, 0)
        if len(found) == MOST_FIELDS:
            raise BadFile(f"is a message of over {MOST_FIELDS} fields")
        if wire in (0, 2):
            length, at = _varint(data, at)
        if wire == 0:
            found.append((tag >> 3, length))
            continue
        if wire not in (1, 2, 5) or at + length > len(data):
            raise BadFile("is no ONNX model: it is cut off, or not made of protobuf messages")
        found.append((tag >> 3, data[at : at + length]))
        at += length
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise BadFile("is no ONNX model: it is not made of protobuf messages")


CHECKS = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pth": _torch,
    ".pt": _torch,
    ".pkl": _pickle,
    ".joblib": _pickle,
    ".onnx": _onnx,
}
