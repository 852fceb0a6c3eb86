"""What an agent's file is, judged by its content, never by its name.

Nothing in a file is ever executed, and what a hostile file can make its reader hold or do is bounded where it can be; libraries
for images and archives have no such bounds, so the judge calls all of this in a process that may be ended (helpers/lib/bounded.py).
What doesn't count raises BadFile, whose message goes on from the file's name.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from helpers.tasks.judging import model_files
from helpers.tasks.judging.pickles import MB, BadFile
from helpers.tasks.judging.results import suffix

CSV, JSON, IMAGES, TEXTS = {".csv"}, {".json"}, {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}, {".md", ".txt"}
MODELS = set(model_files.CHECKS)
MOST_PIXELS, LEAST_SIDE, LARGEST_SIDE = 40_000_000, 64, 1000  # larger ones are looked at more coarsely
THUMBNAIL = 32
FEWEST_WORDS = 20


def check_output(file: BinaryIO, name: str, known_text: str = "") -> Any:
    """Check that an open file is what its name promises. Raises BadFile.

    known_text: what the agent was given to read; a text must be about it, but no copy. Returns what another output mustn't
    share: an image's thumbnail, a text's words; None for other kinds.
    """
    ending = suffix(name)
    try:
        if ending in IMAGES:
            return check_image(file, IMAGES[ending])
        if ending in TEXTS:
            return check_text(file.read(), known_text)
        if ending in JSON:
            return check_json(file.read(), is_log=re.search("log|history", name.lower()) is not None)
        if ending in CSV:
            return check_csv(file)
        if ending in MODELS:
            return model_files.check_model(file, ending)
        return _check_other(file)
    except (BadFile, MemoryError):
        raise
    except Exception as error:  # what hostile bytes make a parser raise can't be listed
        raise BadFile(f"can't be read as {ending or 'a file'} ({type(error).__name__})") from None


def decoded(content: bytes) -> str:
    """A text in UTF-8. Raises BadFile."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile("is not text in UTF-8") from None
    if "\0" in text:
        raise BadFile("is not text: it holds NUL characters")
    return text


def check_csv(file: BinaryIO) -> None:
    """A table in UTF-8: a header, rows of as many fields, and not the same in all of them. Raises BadFile."""
    rows, cells = 0, set()
    try:
        reader = filter(None, csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True))
        header = next(reader, [])
        for row in reader:
            rows += 1
            cells.update(row[:100] if len(cells) < 2 else ())
            if len(row) != len(header):
                raise BadFile(f"row {rows} has {len(row)} fields, the header {len(header)}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"is not a CSV file in UTF-8 ({error})") from None
    if not rows:
        raise BadFile("has no rows")
    if not any(map(str.strip, cells)) or (len(cells) == 1 and rows > 1):
        raise BadFile("holds the same in all rows and columns")


def parse_json(content: bytes) -> Any:
    """A JSON value; numbers come as floats. Raises BadFile."""
    try:
        return json.loads(decoded(content), parse_int=float)  # an integer of a million digits costs hours
    except (ValueError, RecursionError) as error:
        raise BadFile(f"is not valid JSON ({str(error)[:80]})") from None


def leaves(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in parsed JSON that are neither list nor object, each with the keys that lead to it.

    Texts beside a value in an object count as keys: in {"column": "a", "mean": 1}, "a" leads to 1.
    """
    open_values: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while open_values:
        keys, value = open_values.pop()
        if isinstance(value, dict):
            texts = [item for item in value.values() if isinstance(item, str)][:3]
            open_values += [((*keys[-7:], *texts, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            open_values += [(keys, item) for item in value]
        else:
            yield keys, value


def check_json(content: bytes, is_log: bool = False) -> None:
    """An object or a list with something in it; a log of training holds numbers that change. Raises BadFile."""
    value = parse_json(content)
    if not isinstance(value, (dict, list)):
        raise BadFile("holds neither an object nor a list")
    found = [leaf for _, leaf in leaves(value)]
    numbers = {leaf for leaf in found if isinstance(leaf, float) and math.isfinite(leaf)}
    if not numbers and not any(isinstance(leaf, str) and leaf.strip() for leaf in found):
        raise BadFile("holds nothing: neither a number nor a text")
    if is_log and len(numbers) < 3:
        raise BadFile("logs fewer than 3 different numbers")


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"[^\W\d_]{2,}", text.lower())


def check_text(content: bytes, known_text: str = "") -> tuple[str, ...]:
    """Prose with figures, about what the agent was given to read but in words of its own. Raises BadFile; returns its words."""
    text = decoded(content)
    words, known = words_of(text), words_of(known_text)
    if len(set(words)) < FEWEST_WORDS:
        raise BadFile(f"has {len(set(words))} different words; a report has at least {FEWEST_WORDS}")
    if not re.search(r"\d", text):
        raise BadFile("names no figure")
    if repeats(words, known):
        raise BadFile("repeats the task's own description")
    topics = {word for word in known if len(word) > 3}
    if topics and len(topics.intersection(words)) < 3:
        raise BadFile("isn't about the task: it shares fewer than 3 words with its description")
    return tuple(words)


def repeats(words: Sequence[str], known: Sequence[str]) -> bool:
    """Whether most phrases of a text stand in another one."""
    given = set(_phrases(known))
    return sum(phrase in given for phrase in _phrases(words)) * 2 > len(words)


def _phrases(words: Sequence[str], length: int = 4) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def check_image(file: BinaryIO, kind: str) -> Any:
    """An image of that format which opens fully and shows something. Raises BadFile; returns its thumbnail (grey, uint8)."""
    import numpy as np
    from PIL import Image

    with Image.open(file, formats=[kind]) as image:
        width, height = image.size
        if min(width, height) < LEAST_SIDE:
            raise BadFile(f"is {width} x {height} pixels; at least {LEAST_SIDE} x {LEAST_SIDE} are needed")
        if width * height > MOST_PIXELS:
            raise BadFile(f"is {width} x {height} pixels, more than the {MOST_PIXELS} that are read")
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.NEAREST)
        if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        colours = image.convert("RGBA")
    seen = Image.new("RGBA", colours.size, "white")
    seen.alpha_composite(colours)  # what is transparent shows nothing
    seen = seen.convert("RGB")
    _refuse_blank(np.asarray(seen))
    return np.asarray(seen.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def _refuse_blank(pixels: Any) -> None:
    import numpy as np

    # 5 bits a channel: the grain of a JPEG is no content
    codes = (pixels.astype(np.uint32) >> 3) @ np.array([1024, 32, 1], dtype=np.uint32)
    counts = np.bincount(codes.ravel(), minlength=32768)
    drawn = codes != counts.argmax()
    rows, columns = (np.array_split(np.arange(size), 8) for size in drawn.shape)
    cells = sum(drawn[row[0] : row[-1] + 1, column[0] : column[-1] + 1].any() for row in rows for column in columns)
    if drawn.mean() < 0.005 or cells < 16 or np.count_nonzero(counts) < 3:
        raise BadFile("is blank, or nearly so")
    if (codes[:, 1:] == codes[:, :-1]).mean() < 0.05 and (codes[1:] == codes[:-1]).mean() < 0.05:
        raise BadFile("is noise")


def look_alike(one: Any, other: Any) -> bool:
    """Whether two thumbnails are of one image, perhaps touched up, turned or mirrored."""
    import numpy as np

    turned = [np.rot90(way, turns) for way in (other, np.fliplr(other)) for turns in range(4)]
    return any((np.abs(one.astype(int) - way) > 16).mean() < 0.015 for way in turned)


def _check_other(file: BinaryIO) -> None:
    first = file.read(1)
    while piece := file.read(MB):
        if piece.strip(first):
            return
    raise BadFile("holds one byte over and over")
