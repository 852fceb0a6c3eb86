"""What a person asks of one run at a time: its steps with code and output, the end of its log, where its hours come from.

Few of these stand in the page itself. More lie beside it in files that the page loads by a script element, as a page that was opened from a
disk may load nothing in another way.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from helpers.lib.errors import Refused

INLINE = 3 * 2**20  # characters of all details together that the page itself takes
EACH = 2**20  # of a file, about
MOST = 2 * 2**20  # of one run
OURS = re.compile(r"\d{4,}\.js")


def encoded(data: Any) -> str:
    """JSON in ASCII that can stand in a script element: nothing in it ends the element, or begins a comment."""
    told = json.dumps(data, separators=(",", ":"))
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class Details:
    """Takes the details of run after run, and keeps no more of them in memory than a page would.

    folder: beside the page; stamp: what the page and its files know each other by.
    """

    def __init__(self, folder: Path, stamp: str):
        self.folder, self.stamp = folder, stamp
        self.files: list[int] = []  # of each run, in which file it is
        self._kept: list[str] = []
        self._size = self._count = 0
        self._temporary: Path | None = None
        check(folder)

    def add(self, data: dict[str, Any]) -> None:
        """Those of the next run. Raises OSError."""
        told = encoded(data)
        while len(told) > MOST and data.get("steps"):
            left = len(data["steps"]) // 2
            data["left_out"] = data.get("left_out", 0) + len(data["steps"]) - left
            data["steps"] = data["steps"][:left]
            told = encoded(data)
        self._kept.append(f'"{len(self.files)}":{told}')
        self._size += len(told)
        self.files.append(self._count)
        if self._size > (EACH if self._temporary else INLINE):
            self._flush()

    def _flush(self) -> None:
        """Kept details into files: at the first time those of several."""
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
            self._temporary.chmod(0o755)
        first = len(self.files) - len(self._kept)
        while self._kept:
            size, count = 0, 0
            while count < len(self._kept) and (size == 0 or size < EACH):
                size += len(self._kept[count])
                count += 1
            its, self._kept = self._kept[:count], self._kept[count:]
            self.files[first : first + count] = [self._count] * count
            first += count
            text = f'habDetails("{self.stamp}",{self._count},{{{",".join(its)}}});\n'
            (self._temporary / f"{self._count:04}.js").write_text(text, encoding="ascii")
            self._count += 1
        self._size = 0

    def inline(self) -> str:
        """JSON of all, where the page itself takes them; else an empty object."""
        return "{}" if self._temporary else f"{{{','.join(self._kept)}}}"

    @property
    def beside(self) -> int:
        """How many files lie beside the page."""
        return self._count

    def finish(self) -> None:
        """Put the files in place of those of an earlier report. Raises OSError."""
        if self._temporary is None:
            if self.folder.is_dir():
                shutil.rmtree(self.folder)
            return
        if self._kept:
            self._flush()
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        self._temporary.rename(self.folder)
        self._temporary = None

    def drop(self) -> None:
        """Leave nothing half written."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def check(folder: Path) -> None:
    """Raises Refused where a folder's place is taken by something that no report has made."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise Refused(f"{folder} is in the way, where the report's details go: name another file with -o")
    if other := next((one.name for one in folder.iterdir() if not OURS.fullmatch(one.name)), None):
        raise Refused(f"{folder} holds {other}, which is no part of a report: name another file with -o")
