"""Everything that a generator needs comes from helpers.datagen, and comes when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import helpers.datagen
from helpers.datagen import NAMES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", list(NAMES))
def test_each_name_is_there(name: str) -> None:
    found = getattr(helpers.datagen, name)
    assert name in dir(helpers.datagen) and name in helpers.datagen.__all__
    # DaytonaTaskGenerationExecutor is another name of ours
    assert getattr(found, "__name__", name) in (name, "TaskGenerationExecutor")


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'helpers.datagen' has no attribute 'BaseGenerator'"):
        _ = helpers.datagen.BaseGenerator
    with pytest.raises(ImportError, match="cannot import name 'BaseGenerator'"):
        exec("from helpers.datagen import BaseGenerator")


def test_the_package_alone_imports_nothing_of_itself() -> None:
    program = (
        "import sys, helpers.datagen; print([name for name in sys.modules if name.startswith('helpers.datagen.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
