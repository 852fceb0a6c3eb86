"""Whether /app/answer.txt holds the answer in expected.txt: the same words, whatever their case and spaces, or the same number."""

import os
import stat
from decimal import Decimal, InvalidOperation
from pathlib import Path

ANSWER = Path("/app/answer.txt")
LARGEST = 2**20
LONGEST_NUMBER = 100


def test_answer():
    assert os.path.lexists(ANSWER), f"there is no file {ANSWER}"
    found, expected = read(ANSWER), Path(__file__).with_name("expected.txt").read_text(encoding="utf-8")
    assert words(found) == words(expected) or number(found) is not None and number(found) == number(expected)


def read(path):
    # a link could lead to the answer that is expected
    assert path.resolve() == path, f"{path} is a link, or lies behind one: it must be a file"
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        assert stat.S_ISREG(os.fstat(file.fileno()).st_mode), f"{path} is no file"
        return file.read(LARGEST).decode("utf-8", "replace")


def words(text):
    return " ".join(text.split()).casefold()


def number(text):
    digits = text.strip().removeprefix("$").replace(",", "")
    try:
        value = Decimal(digits) if len(digits) <= LONGEST_NUMBER else None
    except InvalidOperation:
        return None
    return value if value is not None and value.is_finite() else None
