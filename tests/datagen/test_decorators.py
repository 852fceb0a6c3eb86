"""`@gpu_required`, as Python sees it and as the launcher reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.datagen import InputValidationError, gpu_required, needs_gpu

BASE = "from helpers.datagen import BaseDataGenerator\n"
METHOD = "    def run_task_generation(self, request, context): ...\n"


def test_the_mark_is_upstreams_and_changes_nothing_else() -> None:
    def made() -> int:
        return 7

    assert gpu_required(made) is made and made._gpu_required is True and made() == 7


@pytest.mark.parametrize(
    "text",
    [
        "from helpers.datagen import gpu_required\n@gpu_required\ndef main(): ...\n",
        "from helpers.datagen.decorators import gpu_required as gpu\nclass A:\n    @gpu\n" + METHOD,
        "from data.generation import gpu_required\nclass A:\n    @gpu_required\n" + METHOD,
        "from helpers.datagen import decorators\nclass A:\n    @decorators.gpu_required\n" + METHOD,
        "import helpers.datagen.decorators as d\nclass A:\n    @d.gpu_required\n" + METHOD,
        "import helpers.datagen\nclass A:\n    @helpers.datagen.decorators.gpu_required\n" + METHOD,
        "from helpers.datagen import gpu_required\nserved = gpu_required\nclass A:\n    @staticmethod\n    @served\n"
        + METHOD,
        BASE + "from helpers.datagen import gpu_required\n@gpu_required\nclass A(BaseDataGenerator):\n" + METHOD,
        # inherited, also over a class between
        "from helpers.datagen import gpu_required\nclass A:\n    @gpu_required\n"
        + METHOD
        + "class B(A): ...\nclass C(B): ...\nC().main()\n",
    ],
)
def test_marked(tmp_path: Path, text: str) -> None:
    script = tmp_path / "generate.py"
    script.write_text(text)
    assert needs_gpu(script)


@pytest.mark.parametrize(
    "text",
    [
        "",
        BASE + "class A(BaseDataGenerator):\n" + METHOD,
        "from helpers.datagen import gpu_required\nclass A:\n    # @gpu_required\n" + METHOD,
        "from helpers.datagen import gpu_required\nclass A:\n    '''@gpu_required'''\n" + METHOD,
        # the class that is used says otherwise than its base
        "from helpers.datagen import gpu_required\nclass A:\n    @gpu_required\n"
        + METHOD
        + "class B(A):\n"
        + METHOD
        + "B().main()\n",
        # a circle is no Python that runs, but it must be read to an end
        "class A(B): ...\nclass B(A): ...\n",
    ],
)
def test_not_marked(tmp_path: Path, text: str) -> None:
    script = tmp_path / "generate.py"
    script.write_text(text)
    assert not needs_gpu(script)


def test_nothing_of_it_runs(tmp_path: Path) -> None:
    script = tmp_path / "generate.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nimport not_installed_anywhere\nraise SystemExit(9)\n")
    assert not needs_gpu(script) and not (tmp_path / "ran").exists()


def test_what_is_no_script_is_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "generate.py"
    with pytest.raises(InputValidationError, match=r"generate.py: can't be read \(No such file or directory\)$"):
        needs_gpu(script)
    script.write_text("x = 1\ndef broken(:\n")
    with pytest.raises(InputValidationError, match=r"generate.py: not valid Python \(line 2\): .*") as caught:
        needs_gpu(script)
    assert caught.value.code == 2 and "\n" not in str(caught.value)
    script.write_bytes(b"x = '\x00'\n")
    with pytest.raises(InputValidationError, match="not valid Python"):
        needs_gpu(script)
