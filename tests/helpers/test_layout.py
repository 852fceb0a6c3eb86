"""What can be a task's id, wherever one is asked for."""

from pathlib import Path

import pytest

from helpers.benchmarks import config
from helpers.data import layout
from helpers.grading import graders
from helpers.grading.report import GradingError


@pytest.mark.parametrize("name", layout.TAKEN)
def test_what_else_lies_beside_the_tasks_is_no_id(name, tmp_path):
    assert layout.is_id(f"{name}2") and layout.is_id(f"manual/{name}")
    for word in (name, f"{name}/toy"):
        assert f"'{name}' is another folder's name" in (layout.unfit(word) or "")
        private = layout.prepared(tmp_path, word) / "private"
        private.mkdir(parents=True)
        (private / "grading.json").write_text("{}")
        with pytest.raises(GradingError, match="is not prepared"):
            graders.load(word, tmp_path)


def test_the_folder_of_rounds_has_such_a_name(tmp_path):
    from helpers.config import sites

    site = sites.load_site("local", [f"paths.data={tmp_path}"])
    rounds = Path(str(site.paths.rollouts))
    assert rounds.parent == tmp_path and rounds.name in layout.TAKEN
    assert set(config.TAKEN) <= set(layout.TAKEN)


@pytest.mark.parametrize("word", ["", ".hidden", "../toy", "a/b/c", "a b", "a/", "/a", "a\n"])
def test_what_is_no_word_of_that_kind_is_no_id(word):
    assert "letters, digits" in (layout.unfit(word) or "")
