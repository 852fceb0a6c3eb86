"""A repository each for the tests of what agents make of them."""

from pathlib import Path

import pytest
from repositories_support import Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return Repository(tmp_path)
