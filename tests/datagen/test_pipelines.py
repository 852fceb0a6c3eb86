"""The pipelines as files that are run, from anywhere; a dataset of the Hub; uploads of what they make."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hub_server import TOKEN, Hub, Repository, serve
from huggingface_hub import constants
from made_tasks import contents
from pyarrow import parquet

from helpers.datagen import decorators, harbor_task
from helpers.datagen.pipelines.hub_dataset import generate as hub_dataset
from helpers.datagen.pipelines.questions import generate as questions
from helpers.datagen.pipelines.questions.generate_abstract import Questions

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ROOT / "helpers" / "datagen" / "pipelines"
SCRIPTS = sorted(PIPELINES.glob("*/generate*.py"))


def run(script: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a pipeline as a person does: PYTHONPATH doesn't name the checkout."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, str(script), *argv], cwd=cwd, env=env, capture_output=True, text=True)


def test_all_are_here() -> None:
    found = [str(path.relative_to(PIPELINES)) for path in SCRIPTS]
    assert found == [
        "hub_dataset/generate.py",
        "ml_tasks/generate.py",
        "ml_tasks/generate_abstract.py",
        "questions/generate.py",
        "questions/generate_abstract.py",
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_help_from_anywhere(script: Path, tmp_path: Path) -> None:
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--output-dir DIR" in done.stdout and done.stderr == ""
    assert "Needs " in script.read_text(), "the docstring says what it needs"
    assert not decorators.needs_gpu(script)


def test_a_run_from_elsewhere(tmp_path: Path) -> None:
    done = run(PIPELINES / "questions" / "generate.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "outputs/tasks/questions\n", "")
    again = run(PIPELINES / "questions" / "generate_abstract.py", "--output_dir", "b", cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "b\n", "")
    assert contents(tmp_path / "b") == contents(tmp_path / "outputs" / "tasks" / "questions")
    (tmp_path / "b" / "more").write_text("x")
    done = run(PIPELINES / "questions" / "generate.py", "--output-dir", "b", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: b is there already, with other content: remove it, or choose another folder\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The Hub, with a dataset in two parts."""
    with serve() as made:
        for name, value in (("HF_ENDPOINT", made.url), ("HF_TOKEN", TOKEN)):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(time, "sleep", lambda _: None)
        monkeypatch.chdir(tmp_path)
        files = {f"main/train-{part}.parquet": table(range(part * 80, part * 80 + 80)) for part in (0, 1)}
        others = {"main/test-0.parquet": table(range(999, 1000)), "README.md": b"x", "other/train-0.parquet": b"x"}
        made.repositories["openai/gsm8k"] = Repository(False, {**files, **others})
        monkeypatch.setattr(hub_dataset, "REVISION", made.repositories["openai/gsm8k"].sha)
        yield made


def table(numbers: range) -> bytes:
    made = [{"question": f"{one} + 1000?", "answer": f"We add.\n#### 1,{one:03d}"} for one in numbers]
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(made), file)
    return file.getvalue()


def test_a_dataset_of_the_hub(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub_dataset.main([]) == 0
    assert capsys.readouterr() == ("outputs/tasks/gsm8k\n", "")
    made = sorted(Path("outputs/tasks/gsm8k").iterdir())
    assert len(made) == 100 and not any(harbor_task.check(path) for path in made)
    seen = []
    for path in made:
        about = json.loads((path / "metadata.json").read_text())
        seen.append(about.pop("row"))
        assert about == {"source": "openai/gsm8k", "revision": server.repositories["openai/gsm8k"].sha}
        assert (path / "instruction.md").read_text().startswith(f"{seen[-1]} + 1000?\n")
        assert (path / "tests" / "expected.txt").read_text() == f"{1000 + seen[-1]}\n"
    assert seen == sorted(set(seen)) and seen[-1] > 80, "of both parts, in their order"
    loaded = [line.rpartition("/main/")[2] for line in server.asked if "/resolve/" in line]
    assert set(loaded) == {"train-0.parquet", "train-1.parquet"}, "nothing else is downloaded"
    assert hub_dataset.main(["--output-dir", "again"]) == 0
    assert contents(Path("again")) == contents(Path("outputs/tasks/gsm8k"))


def test_what_the_hub_has_not(server: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(hub_dataset, "FILES", "main/dev-*.parquet")
    assert hub_dataset.main([]) == 2
    assert capsys.readouterr().err.startswith("error: openai/gsm8k, main/dev-*.parquet: holds no file of rows")
    monkeypatch.setattr(hub_dataset, "REVISION", "0" * 40)
    assert hub_dataset.main([]) == 2
    assert "it has no revision '0000" in capsys.readouterr().err and not Path("outputs").exists()


def test_what_is_made_goes_to_the_hub_with_where_it_is_from(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert questions.main(["--target-repo", "me/q", "--no-upload"]) == 0 and "me/q" not in server.repositories
    assert questions.main(["--target-repo", "me/q"]) == 0
    repo = server.repositories["me/q"]
    assert repo.private and set(repo.files) >= {"README.md", "tasks/train-00000-of-00001.parquet"}
    card = repo.files["README.md"].decode()
    digest = hashlib.sha256(Path(questions.__file__).read_bytes()).hexdigest()
    for said in (
        "| source | examples.jsonl |",
        "| licence of the source | mit |",
        digest,
        "| tasks, made | 12 |",
        r"| generator | questions/generate.py |",
    ):
        assert said in card, card
    assert Questions().main(["--target-repo", "me/flags", "--output-dir", "flags"]) == 0
    card = server.repositories["me/flags"].files["README.md"].decode()
    assert "| source | examples.jsonl |" in card and r"| generator | questions/generate\_abstract.py |" in card
    assert str(ROOT) not in card and capsys.readouterr().err == ""


def test_logging_is_left_as_it_was() -> None:
    before = list(logging.getLogger("datagen.questions").handlers)
    assert questions.main(["--target_repo", "no-name", "--output-dir", "/dev/null/x"]) != 0
    assert logging.getLogger("datagen.questions").handlers == before


def example() -> str:
    """The pipeline that docs/datagen.md adds."""
    text = (ROOT / "docs" / "datagen.md").read_text(encoding="utf-8")
    return text.split("```python\n")[1].split("```")[0]


def test_the_pipeline_of_the_docs(tmp_path: Path) -> None:
    """A copy of the checkout's code, and one file of some 40 lines."""
    for name in ("helpers", "templates"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "clone" / "helpers" / "datagen" / "pipelines" / "primes" / "generate.py"
    script.parent.mkdir()
    script.write_text(example(), encoding="utf-8")
    assert len(example().splitlines()) <= 45
    done = run(script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "outputs/tasks/primes\n", "")
    made = sorted((tmp_path / "outputs" / "tasks" / "primes").iterdir())
    assert made and [harbor_task.check(path) for path in made] == [[] for _ in made]
    done = run(script, "--output-dir", "again", cwd=tmp_path)
    assert contents(tmp_path / "again") == contents(made[0].parent) and done.returncode == 0
    from run_tests_of import place

    for number, path in enumerate(made[:2]):
        tried: Any = place(path, tmp_path / f"place{number}")
        assert tried.reward()[0] == 0 and tried.bash("solution/solve.sh").returncode == 0 and tried.reward()[0] == 1
