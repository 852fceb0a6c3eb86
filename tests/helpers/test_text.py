"""Text that others wrote: helpers/lib/text.py."""

import os

from helpers.lib import text


def test_the_end_of_a_log_whatever_lies_in_its_place(tmp_path):
    log = tmp_path / "log"
    assert text.tail(None) == text.tail(log) == ""
    log.write_bytes(b"x" * text.LOG_BYTES + b"\x1b[2Jend\xff\n")
    assert text.tail(log).endswith("x [2Jend�\n") and len(text.tail(log)) == text.LOG_BYTES
    (tmp_path / "link").symlink_to(log)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    assert [text.tail(tmp_path / name) for name in ("link", "folder", "pipe")] == ["", "", ""]
    assert len(os.listdir("/proc/self/fd")) == before
