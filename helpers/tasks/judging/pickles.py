"""What a pickle wants and holds, found without loading it: loading one runs what its author wrote.

`Scan` follows the opcodes (https://docs.python.org/3/library/pickletools.html) and does nothing of what they say. It knows the
bytes that joblib writes into the midst of a pickle. What doesn't count raises BadFile.
"""

from __future__ import annotations

import math
import pickletools
import re
from dataclasses import dataclass, field
from typing import Any

MB = 2**20
LARGEST_PART = 256 * MB  # read in one go
LARGEST_WHOLE = 4096 * MB
MOST_OPCODES = 2_000_000
DEEPEST = 10  # pickles inside pickles
KEPT = 1000  # characters of a text
MOST_DIMENSIONS = 64  # as numpy has it
MOST_STATE = 100  # keys and values of an object's state that are looked at; the known classes have a dozen
JOBLIB = "joblib.numpy_pickle NumpyArrayWrapper"
NUMPY = "|".join(
    (
        r"numpy\._?core\.(multiarray|numeric) (_reconstruct|scalar|_frombuffer)",
        r"numpy (ndarray|matrix|dtype|u?int\d+|float\d+|complex\d+|bool_?|str_|bytes_|object_)",
        r"numpy\.(dtypes|random\._?\w+) \w+",
        r"numpy\.ma\.core (MaskedArray|_mareconstruct)",
        r"_codecs encode",
    )
)
BUILTINS = "|".join(
    (
        r"collections (OrderedDict|defaultdict)",
        r"copy_?reg _reconstructor",
        r"(builtins|__builtin__) (object|set|frozenset|slice|range|complex|bytearray|bytes|int|float|bool|str|list|dict|type)",
    )
)
LIBRARIES = (
    r"(sklearn|scipy|xgboost|lightgbm)\.(?!datasets|.*test)[\w.]+ (?!(exec|eval|system|popen|load|open|run)(_|\b))\w+"
)
MODELS = re.compile("|".join((NUMPY, BUILTINS, LIBRARIES, re.escape(JOBLIB))))


class BadFile(Exception):
    """A file that doesn't count; the message goes on from its name: `is a link`."""


class Bounded:
    """An open file of which neither one part nor the whole is read beyond a bound, whatever its content says of lengths."""

    def __init__(self, file: Any, largest_part: int = LARGEST_PART) -> None:
        self._file, self._largest_part, self._read = file, largest_part, 0

    def read(self, count: int = -1) -> bytes:
        most = self._largest_part + 1
        return self._counted(self._file.read(most if count < 0 else min(count, most)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(64 * 1024))

    def _counted(self, data: bytes) -> bytes:
        self._read += len(data)
        if len(data) > self._largest_part or self._read > LARGEST_WHOLE:
            raise BadFile(f"has a part of over {self._largest_part} bytes, or {LARGEST_WHOLE} in all")
        return data


def elements(shape: Any) -> int:
    """How many elements an array of that shape has. Raises BadFile for one that no array has."""
    if len(shape) > MOST_DIMENSIONS:  # a product of a million numbers takes hours
        raise BadFile(f"has an array of over {MOST_DIMENSIONS} dimensions")
    return math.prod(shape)


def varies(file: Any, count: int, width: int) -> bool:
    """Read `count` bytes of elements of `width` bytes; whether they differ. Raises BadFile where the file ends before."""
    if width > MB:  # they are read one by one at least
        raise BadFile("has elements of over a megabyte each")
    first, varied = b"", False
    step = max(MB // max(width, 1), 1) * width
    while count > 0:
        piece = file.read(min(step, count))
        if not piece:
            raise BadFile("is cut off")
        first = first or piece[:width]
        varied = varied or piece != (first * (len(piece) // width + 1))[: len(piece)]
        count -= len(piece)
    return varied


@dataclass(frozen=True)
class Import:
    """`module name` that a pickle wants."""

    name: str


@dataclass(eq=False)
class Made:
    """What a pickle would make by a call, or a dict that it fills; items: keys and values in turn."""

    maker: Any = None
    arguments: Any = ()
    items: list[Any] = field(default_factory=list)


MARK, OPAQUE = object(), object()
TAKERS = {opcode.name for opcode in pickletools.opcodes if opcode.stack_before}


class Scan:
    """A pickle, followed without executing it. Raises BadFile where it is cut off or wants what `allowed` doesn't match.

    file: has read and readline, and bounds them. advice: ends the message about an import.
    imports: all that it wants. persistent: the ids that it names. has_numbers: whether there is an array with different values.
    """

    def __init__(self, file: Any, allowed: re.Pattern[str], advice: str, depth: int = 0) -> None:
        self.imports: set[str] = set()
        self.persistent: list[Any] = []
        self.has_numbers = False
        self._file, self._allowed, self._advice, self._depth = file, allowed, advice, depth
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if number > MOST_OPCODES:
                    raise BadFile(f"is a pickle of over {MOST_OPCODES} steps")
                self._step(opcode, argument)
        except (BadFile, MemoryError):
            raise
        except Exception as error:  # an opcode that isn't one, an empty stack, a value of the wrong kind
            raise BadFile(f"is no complete pickle ({str(error)[:60] or type(error).__name__})") from None

    def _step(self, opcode: Any, argument: Any) -> None:
        name, stack = opcode.name, self._stack
        if name == "MARK":
            stack.append(MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name.endswith("PUT"):
            self._memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(self._memo[argument])
        elif name.startswith("EXT"):
            raise BadFile("is a pickle with extension codes")
        else:
            below, above = self._pop(opcode)
            value = self._result(name, below, above, argument) if name in TAKERS else self._constant(name, argument)
            stack += [value] * len(opcode.stack_after)

    def _pop(self, opcode: Any) -> tuple[list[Any], list[Any]]:
        """What an opcode takes from the stack: below the mark and above it; without a mark all counts as below."""
        before, above = opcode.stack_before, []
        if pickletools.markobject in before:
            before = before[: before.index(pickletools.markobject)]
            while (value := self._stack.pop()) is not MARK:
                above.append(value)
        below = [self._stack.pop() for _ in before]
        return below[::-1], above[::-1]

    def _constant(self, name: str, argument: Any) -> Any:
        if isinstance(argument, (bytes, bytearray)):
            self._note(argument)
            return OPAQUE
        if name == "GLOBAL":
            return self._import(argument)
        if name == "PERSID":
            self.persistent.append(argument)
        if name == "EMPTY_DICT":
            return Made()
        if name == "EMPTY_TUPLE":
            return ()
        if isinstance(argument, str):
            return argument[:KEPT]
        return None if name == "NONE" else OPAQUE if argument is None else argument

    def _result(self, name: str, below: list[Any], above: list[Any], argument: Any) -> Any:
        if name == "STACK_GLOBAL":
            return self._import(" ".join(part if isinstance(part, str) else "?" for part in below))
        if name == "INST":
            return Made(self._import(argument), tuple(above))
        if name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            return self._called(below[0], below[1])
        if name == "OBJ":
            return self._called(above[0], tuple(above[1:]))
        if name == "BUILD":
            self._build(below[0], below[1])
        if name in ("SETITEM", "SETITEMS") and isinstance(below[0], Made):
            below[0].items += below[1:] or above
        if name == "BINPERSID":
            self.persistent.append(below[0])
            return OPAQUE
        if name.startswith("TUPLE"):
            return tuple(below or above)
        if name == "DICT":
            return Made(items=above)
        return below[0] if below else OPAQUE

    def _import(self, name: str) -> Import:
        if not self._allowed.fullmatch(name):
            raise BadFile(f"imports {name[:80].replace(' ', '.')!r}, which isn't known to be harmless; {self._advice}")
        self.imports.add(name)
        return Import(name)

    def _called(self, maker: Any, arguments: Any) -> Made:
        match maker, arguments:
            case Import("_codecs encode"), (str(text), *_):  # how protocols 0 to 2 spell bytes
                self._note(text)
        return Made(maker, arguments)

    def _note(self, values: Any) -> None:
        self.has_numbers |= len(values) > 7 and values.strip(values[:1]) != values[:0]

    def _build(self, target: Any, state: Any) -> None:
        match target, state:
            case Made(maker=Import(name)), Made(items=items) if name == JOBLIB:
                items = items[:MOST_STATE]  # whose state may be built a million times
                self._read_array(dict(zip(items[::2], items[1::2], strict=True)))
            case Made(maker=Import("lightgbm.basic Booster")), Made(items=items):
                self.has_numbers |= any(
                    isinstance(item, str) and item.startswith("tree\n") for item in items[:MOST_STATE]
                )

    def _read_array(self, state: dict[str, Any]) -> None:
        """Read what joblib (numpy_pickle.py, NumpyArrayWrapper) writes into the midst of a pickle: an array's bytes, or,
        for an array of objects, one more pickle."""
        kind, digits = re.fullmatch(r"([?a-zA-Z])(\d*)", state["dtype"].arguments[0]).groups()
        if kind == "O":
            if self._depth == DEEPEST:
                raise BadFile("nests pickles too deep")
            inner = Scan(self._file, self._allowed, self._advice, self._depth + 1)
            self.imports |= inner.imports
            self.has_numbers |= inner.has_numbers
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._file.read(self._file.read(1)[0])
        width = int(digits or 1) * (4 if kind == "U" else 1)
        varied = varies(self._file, elements(state["shape"]) * width, width)
        self.has_numbers |= varied and kind in "fiucV"
