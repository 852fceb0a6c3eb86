from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from helpers.config.sites import load_site
from helpers.jobs.site_checks import SiteChecks
from helpers.lib import room
from helpers.lib.errors import Infrastructure


def test_room_is_there_and_nothing_stays(tmp_path: Path) -> None:
    assert room.lacking(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EDQUOT, "your quota is used up"), (errno.ENOSPC, "the disk is full"), (errno.EIO, "error")],
)
def test_what_is_lacking_is_said(number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    assert said in (room.lacking(tmp_path) or "")
    assert list(tmp_path.iterdir()) == []


def test_preflight_writes_where_jobs_will(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota that is used up while df shows room is found before anything is submitted: exit code 3."""
    paths = [f"paths.{key}={tmp_path / key}" for key in ("runs", "address_dir", "data")]
    (tmp_path / "data").mkdir()
    site = load_site("local", paths)
    SiteChecks(site).check_folders()
    assert os.listdir(tmp_path) == ["data"]  # it only looks
    SiteChecks(site).make_folders()
    assert sorted(os.listdir(tmp_path)) == ["address_dir", "data", "runs"]
    assert (tmp_path / "address_dir").stat().st_mode & 0o777 == 0o700
    for key in ("runs", "address_dir", "data"):
        with monkeypatch.context() as patch:
            full = tmp_path / key
            patch.setattr(
                room, "lacking", lambda folder, full=full: "your quota is used up" if folder == full else None
            )
            with pytest.raises(Infrastructure, match=rf"{key} \(paths.{key} of site local\): your quota is used up"):
                SiteChecks(site).check_folders()
