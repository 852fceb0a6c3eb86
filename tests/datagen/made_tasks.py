"""Folders of tasks for the tests here."""

from __future__ import annotations

from pathlib import Path

CONFIG = """schema_version = "1.4"

[task]
name = "made/{name}"
"""


def make(folder: Path, instruction: str = "Do it.\n", config: str = CONFIG, **files: str) -> Path:
    """A task. files: more of them, with __ for / and _ for the dot: tests__data_csv."""
    content = {
        "instruction.md": instruction,
        "task.toml": config.replace("{name}", folder.name),
        "environment/Dockerfile": "FROM ubuntu:24.04\n",
        "tests/test.sh": "exit 1\n",
        **{name.replace("__", "/").replace("_", "."): text for name, text in files.items()},
    }
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "tests" / "test.sh").chmod(0o755)
    return folder


def make_many(base: Path, count: int) -> list[Path]:
    return [make(base / f"task-{number:04d}", f"Do it {number} times.\n") for number in range(count)]


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, but for what Python has compiled of it; None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }
