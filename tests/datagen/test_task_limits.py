"""The first few of many tasks or runs, in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.datagen import InputValidationError, limit_tasks_directory, limit_trace_jobs_directory


def tasks(folder: Path, count: int, marker: str = "instruction.md") -> Path:
    for number in reversed(range(count)):
        (folder / f"t-{number:04d}" / "tests").mkdir(parents=True)
        (folder / f"t-{number:04d}" / marker).write_text(f"{number}")
        (folder / f"t-{number:04d}" / "tests" / "test.sh").write_text("true")
        (folder / f"t-{number:04d}" / "tests" / "test.sh").chmod(0o755)
    (folder / "not-a-task").mkdir()
    (folder / "README.md").write_text("about")
    return folder


def test_the_first_by_name_are_copied_whole(tmp_path: Path) -> None:
    source, work = tasks(tmp_path / "all", 12), tmp_path / "work"
    work.mkdir()
    limited = limit_tasks_directory(source, 3, dataset_prefix="org/t", folder=work)
    assert limited.parent == work and limited.name.startswith("org-t-")
    assert sorted(path.name for path in limited.iterdir()) == ["t-0000", "t-0001", "t-0002"]
    assert (limited / "t-0002" / "tests" / "test.sh").stat().st_mode & 0o777 == 0o755
    assert len(list(source.iterdir())) == 14


@pytest.mark.parametrize("limit", [None, 4, 5])
def test_without_need_nothing_is_copied(tmp_path: Path, limit: int | None) -> None:
    source = tasks(tmp_path / "all", 4)
    assert limit_tasks_directory(source, limit, dataset_prefix="t", folder=tmp_path / "never made") == source


def test_runs_keep_what_is_said_of_all(tmp_path: Path) -> None:
    source = tasks(tmp_path / "group", 3, "run_metadata.json")
    (source / "workflow.json").write_text("{}")
    limited = limit_trace_jobs_directory(source, 2, folder=tmp_path)
    assert sorted(path.name for path in limited.iterdir()) == ["README.md", "t-0000", "t-0001", "workflow.json"]


def test_what_cannot_be_limited_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputValidationError, match="limit: must be at least 1, not 0$"):
        limit_tasks_directory(tasks(tmp_path / "all", 1), 0, dataset_prefix="t")
    with pytest.raises(InputValidationError, match="nowhere: there is no such folder$"):
        limit_tasks_directory(tmp_path / "nowhere", 1, dataset_prefix="t")
    with pytest.raises(
        InputValidationError, match="all: holds no run: a folder with run_metadata.json or result.json$"
    ):
        limit_trace_jobs_directory(tmp_path / "all", 1)


def test_a_copy_that_nobody_owns_goes_with_python(tmp_path: Path) -> None:
    tasks(tmp_path / "all", 3)
    program = "import sys; from helpers.datagen import limit_tasks_directory as f; print(f(sys.argv[1], 1, dataset_prefix='t'))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "all")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() and not Path(done.stdout.strip()).exists()
