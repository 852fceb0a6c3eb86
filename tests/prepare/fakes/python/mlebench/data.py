"""mlebench/data.py: the order of its steps, and its words."""

import hashlib
import shutil
import zipfile

from mlebench.utils import load_yaml


def get_checksum(path):
    assert path.is_file(), f"Expected a file at `{path}`, but it doesn't exist."
    return hashlib.md5(path.read_bytes()).hexdigest()


def ensure_leaderboard_exists(competition, force=False):
    if not competition.leaderboard.exists():
        raise FileNotFoundError(f"Leaderboard not found locally for competition `{competition.id}`.")


def download_dataset(competition_id, download_dir, force):
    raise PermissionError("Kaggle authentication failed!")


def download_and_prepare_dataset(
    competition, keep_raw=True, overwrite_checksums=False, overwrite_leaderboard=False, skip_verification=False
):
    ensure_leaderboard_exists(competition, force=overwrite_leaderboard)
    for folder in (competition.raw_dir, competition.public_dir, competition.private_dir):
        folder.mkdir(exist_ok=True, parents=True)
    archive = download_dataset(competition_id=competition.id, download_dir=competition.raw_dir.parent, force=False)
    checked = overwrite_checksums or not skip_verification
    if checked:
        actual = get_checksum(archive)
        if competition.checksums.is_file() and not overwrite_checksums:
            expected = load_yaml(competition.checksums)["zip"]
            if actual != expected:
                raise ValueError(
                    f"Checksum for `{archive}` does not match the expected checksum! Expected `{expected}` but got `{actual}`."
                )
    if not any(competition.raw_dir.iterdir()):
        with zipfile.ZipFile(archive) as file:
            file.extractall(competition.raw_dir)
    competition.prepare_fn(raw=competition.raw_dir, public=competition.public_dir, private=competition.private_dir)
    (competition.public_dir / "description.md").write_text(competition.description)
    if checked:
        halves = {"public": competition.public_dir, "private": competition.private_dir}
        sums = {
            half: {path.name: get_checksum(path) for path in folder.glob("*.csv")} for half, folder in halves.items()
        }
        if {"zip": actual, **sums} != load_yaml(competition.checksums):
            raise ValueError(f"Checksums do not match for `{competition.id}`!\n--- actual_checksums")
    if not keep_raw:
        shutil.rmtree(competition.raw_dir)
