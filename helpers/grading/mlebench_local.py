"""mle-bench without Kaggle: raw files that lie here, and competitions in a folder of the user's.

`python -m helpers.grading.mlebench_local` runs in mle-bench's own Python, so it needs nothing of this project's. What prepares, compares
checksums and grades is mle-bench's code (mlebench/data.py, registry.py); only where files come from is told to it.
A folder of a competition holds what mle-bench's mlebench/competitions/<id>/ does; what it lacks is taken from there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

KEPT = "mlebench"  # in the private half: the competition's own files, which the grading server needs
IMPORT = re.compile(r"^\s*(?:from|import)\s+mlebench\b", re.MULTILINE)


def is_competition(folder: Path) -> bool:
    """Whether a folder with a prepare.py is one of mle-bench's: by its config.yaml, or by what its prepare.py imports. Raises OSError."""
    if (folder / "config.yaml").is_file():
        return True
    if not (folder / "prepare.py").is_file():
        return False
    text = (folder / "prepare.py").read_text(encoding="utf-8", errors="replace")
    return (
        bool(IMPORT.search(text)) and "grading.json" not in text
    )  # one with a grading.json of its own is graded by us


def _take_modules_from(places: list[Path], task: str) -> None:
    """So that `mlebench.competitions.<id>.grade:grade` is found in the first of them that has it, and there what lies beside it."""
    package = ModuleType(f"mlebench.competitions.{task}")
    package.__path__ = [str(place) for place in places]
    sys.modules[package.__name__] = package


def competition(folder: Path, task: str, data_dir: Path) -> Any:
    """The mlebench.registry.Competition of a folder. Raises what mle-bench raises for what is missing."""
    from mlebench import registry, utils

    own = registry.registry.get_competitions_dir() / task
    places = [place for place in (folder, own) if place.is_dir()]
    _take_modules_from(places, task)

    def file(name: str) -> Path:
        return next((place / name for place in places if (place / name).is_file()), folder / name)

    config = utils.load_yaml(file("config.yaml"))
    dataset, prepared = config["dataset"], data_dir / task / "prepared"
    paths = {
        name: data_dir / dataset.get(name, dataset["answers"])
        for name in ("answers", "gold_submission", "sample_submission")
    }
    description = file("description.md")
    return registry.Competition.from_dict(
        {
            **config,
            **paths,
            "description": description.read_text(encoding="utf-8") if description.is_file() else "",
            "prepare_fn": utils.import_fn(config["preparer"]),
            "raw_dir": data_dir / task / "raw",
            "public_dir": prepared / "public",
            "private_dir": prepared / "private",
            "checksums": file("checksums.yaml"),
            "leaderboard": file("leaderboard.csv"),
        }
    )


def prepare(task: str, data_dir: Path, raw: Path, folder: Path | None, **options: bool) -> None:
    """Prepare a competition from its zip, or from a folder with the files of it. Raises what mle-bench raises."""
    from mlebench import data
    from mlebench.registry import registry

    found = competition(folder, task, data_dir) if folder else registry.set_data_dir(data_dir).get_competition(task)
    if folder:
        data.ensure_leaderboard_exists = lambda *_, **__: None  # without one there are no medals, and all else
    data.download_dataset = lambda *_, **__: raw
    if not found.checksums.is_file() and not options["overwrite_checksums"]:
        print(f"there is no {found.checksums} to compare with", flush=True)
        options["skip_verification"] = True  # else mle-bench would write one into the user's folder
    if raw.is_dir():
        found.raw_dir.mkdir(parents=True)
        # a copy: some competitions move or unpack their raw files
        subprocess.run(["cp", "-RL", "--reflink=auto", "--", f"{raw}/.", str(found.raw_dir)], check=True)
        checksum, expected = data.get_checksum, None
        if found.checksums.is_file():
            expected = data.load_yaml(found.checksums).get("zip")
            print(f"{raw} is a folder: the checksums of what is made of it are compared, not the zip's", flush=True)
        data.get_checksum = lambda path: expected if path == raw else checksum(path)
    data.download_and_prepare_dataset(found, **options)
    if folder:
        _keep(folder, found.private_dir / KEPT)


def _keep(folder: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".py", ".yaml", ".csv", ".md"):
            shutil.copyfile(path, target / path.name)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.grading.mlebench_local")
    parser.add_argument("task")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    for name in ("keep-raw", "overwrite-checksums", "skip-verification"):
        parser.add_argument(f"--{name}", action="store_true")
    options = vars(parser.parse_args(argv))
    raw = options.pop("raw")
    if raw.is_file() and not zipfile.is_zipfile(raw):
        print(f"error: {raw} is no zip archive, or not a whole one: fetch it again", file=sys.stderr)
        return 1
    prepare(options.pop("task"), options.pop("data_dir").resolve(), raw.resolve(), options.pop("folder"), **options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
