"""mlebench/registry.py."""

from pathlib import Path
from types import SimpleNamespace

from mlebench.grade_helpers import Grader
from mlebench.utils import import_fn, load_yaml

KEYS = ("id", "name", "description", "grader", "answers", "sample_submission", "gold_submission", "competition_type")
KEYS += ("prepare_fn", "raw_dir", "public_dir", "private_dir", "checksums", "leaderboard")


class Competition(SimpleNamespace):
    @staticmethod
    def from_dict(data):
        return Competition(**{key: data[key] for key in KEYS} | {"grader": Grader(**data["grader"])})


class Registry:
    def __init__(self, data_dir=Path("none")):
        self.data_dir = data_dir

    def set_data_dir(self, data_dir):
        return Registry(data_dir)

    def get_competitions_dir(self):
        return Path(__file__).parent / "competitions"

    def get_competition(self, name):
        folder, data = self.get_competitions_dir() / name, self.data_dir
        config = load_yaml(folder / "config.yaml")
        paths = {f"{half}_dir": data / name / "prepared" / half for half in ("public", "private")}
        return Competition.from_dict(
            {
                **config,
                **paths,
                "description": (folder / "description.md").read_text(),
                "answers": data / config["dataset"]["answers"],
                "gold_submission": data / config["dataset"]["answers"],
                "sample_submission": data / config["dataset"]["sample_submission"],
                "prepare_fn": import_fn(config["preparer"]),
                "raw_dir": data / name / "raw",
                "checksums": folder / "checksums.yaml",
                "leaderboard": folder / "leaderboard.csv",
            }
        )


registry = Registry()
