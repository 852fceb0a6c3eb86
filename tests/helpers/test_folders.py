"""Trees that resist, and are removed all the same."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helpers.lib import folders


@pytest.fixture
def open_folder():
    """A folder that another user reaches: rights mean nothing to root, so what is tested runs as nobody."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
    shutil.rmtree(folder)


def as_nobody(code, folder):
    """Run Python in the folder, with helpers/lib/folders.py as its module `folders`."""
    shutil.copy(folders.__file__, folder / "folders.py")
    drop = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    subprocess.run(["/usr/bin/env", "python3", "-c", code], cwd=folder, check=True, timeout=30, **drop)


def test_rights_stop_nothing(open_folder):
    """A folder of mode 000, full of others, goes; what a link in it leads to stays as it is."""
    as_nobody(
        """
import os, folders, pathlib
kept = pathlib.Path("kept")
kept.mkdir(0o500)
tree = pathlib.Path("tree")
(tree / "a" / "b").mkdir(parents=True)
(tree / "a" / "b" / "file").touch()
(tree / "link").symlink_to(kept.absolute())
for folder in (tree / "a" / "b", tree / "a", tree):
    folder.chmod(0)
folders.remove(tree)
assert not tree.exists()
""",
        open_folder,
    )
    assert stat.S_IMODE((open_folder / "kept").stat().st_mode) == 0o500


def test_depth_stops_nothing(tmp_path):
    """Folders in one another, far beyond Python's recursion and the length of a path."""
    top = tmp_path / "deep"
    code = "import os\nfor _ in range(3000):\n os.mkdir('d')\n os.chdir('d')"
    top.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=top, check=True)
    folders.remove(top)
    assert not top.exists()


def test_a_link_and_what_is_not_there(tmp_path):
    """A link goes, not what it leads to; nothing is no error."""
    kept = tmp_path / "kept"
    kept.mkdir()
    link = tmp_path / "link"
    link.symlink_to(kept)
    folders.remove(link)
    folders.remove(link)
    assert kept.is_dir() and not link.is_symlink()


def test_what_stays_is_told(open_folder):
    """A folder in a place that isn't its remover's to write."""
    (open_folder / "closed" / "inner").mkdir(parents=True)
    as_nobody(
        """
import os, folders, pathlib
if os.access("closed", os.W_OK):
    raise SystemExit  # where the tests aren't root's, it is
try:
    folders.remove(pathlib.Path("closed/inner"))
except OSError as error:
    assert str(error) == "[Errno 5] can't be removed: Permission denied: 'closed/inner'", error
else:
    raise AssertionError
""",
        open_folder,
    )
