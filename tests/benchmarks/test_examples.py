"""templates/benchmarks/: the specification's examples say what it says, but for where a task lies."""

import sys
from pathlib import Path

import pytest

from helpers.benchmarks import config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).resolve().parents[2] / "templates" / "benchmarks"
# document 001, "Advanced Configuration", without `prepared_dir`
MODELS = {"gpt-4": 5, "claude-3-sonnet": 5, "gemini-pro": 5}
LIMITS = ("1800", "3600")
MIXED = {"gpt-4": 3, "claude-3-sonnet": 3, "gpt-3.5-turbo": 2}
DOCUMENT = {
    "model_comparison": (2, [{"model": name, "rollouts": count} for name, count in MODELS.items()]),
    "parameter_sweep": (
        3,
        [{"model": "gpt-4", "rollouts": 3, "environment_variables": {"TIMEOUT_SEC": limit}} for limit in LIMITS],
    ),
    "mixed_workloads": (4, [{"model": name, "rollouts": count} for name, count in MIXED.items()]),
}


@pytest.mark.parametrize("name", DOCUMENT)
def test_an_example_of_the_specification_has_its_keys_and_values(name: str) -> None:
    parallel, entries = DOCUMENT[name]
    found = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    folders = [entry.pop("prepared_dir") for entry in found["tasks"]]
    assert found == {"name": name, "parallel": parallel, "tasks": entries}
    assert all(folder.startswith("data/") for folder in folders)
    assert len(set(folders)) == (3 if name == "mixed_workloads" else 1)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_can_be_read_and_says_how_it_is_run(path: Path) -> None:
    assert config.rollouts(config.read(path))
    assert f"scripts_hpc/run_benchmark.sh run templates/benchmarks/{path.name}" in path.read_text(encoding="utf-8")
