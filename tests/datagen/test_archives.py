"""Archives of tasks: the same folder gives the same bytes, whatever else is true of it; and archives that mean harm do none."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.datagen import archives
from helpers.datagen.archives import Limits
from helpers.lib.errors import Refused


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task-0001"
    for name, content in {
        "instruction.md": "Do it.\n",
        "tests/test.sh": "exit 1\n",
        "environment/Dockerfile": "FROM scratch\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "tests" / "test.sh").chmod(0o755)
    (folder / "empty").mkdir()
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def tar(*members: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.PAX_FORMAT, packed: bool = True) -> bytes:
    """An archive of members: (name, content), or headers with as many zeros as they say."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for one in members:
            if isinstance(one, tuple):
                about = tarfile.TarInfo(one[0])
                about.size = len(one[1])
                archive.addfile(about, io.BytesIO(one[1]))
            else:
                archive.addfile(one, io.BytesIO(bytes(one.size)))
    return gzip.compress(file.getvalue()) if packed else file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: object) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type = kind
    for key, value in values.items():
        setattr(about, key, value)
    return about


def test_the_same_folder_gives_the_same_bytes_whoever_has_it_and_when(task: Path, tmp_path: Path) -> None:
    first = archives.pack(task)
    os.utime(task / "instruction.md", (1, 1))
    (task / "instruction.md").chmod(0o600)
    (task / "tests" / "test.sh").chmod(0o700)
    copy = tmp_path / "copy"
    for path in sorted(task.rglob("*"), reverse=True):  # made in another order
        target = copy / path.relative_to(task)
        (target if path.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
            target.chmod(path.stat().st_mode)
    assert archives.pack(task) == archives.pack(copy) == first
    # the bytes themselves, made once with this code: whoever changes them changes every snapshot
    assert hashlib.sha256(zlib.decompress(first, 31)).hexdigest() == GOLDEN
    assert first[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\x03"


def test_what_differs_gives_other_bytes(task: Path) -> None:
    seen = {archives.pack(task)}
    changes: list[Callable[[], object]] = [
        lambda: (task / "instruction.md").write_text("Do it!\n"),
        lambda: (task / "instruction.md").chmod(0o755),
        lambda: (task / "empty").rmdir(),
        lambda: (task / "instruction.md").rename(task / "instructions.md"),
    ]
    for number, change in enumerate(changes, 2):
        change()
        seen.add(archives.pack(task))
        assert len(seen) == number


def test_tarfile_reads_what_is_packed(task: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archives.pack(task))) as archive:
        found = archive.getmembers()
        text = archive.extractfile("instruction.md").read()  # type: ignore[union-attr]
    assert [one.name for one in found] == [
        "empty",
        "environment",
        "environment/Dockerfile",
        "instruction.md",
        "tests",
        "tests/test.sh",
    ]
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in found} == {(0, 0, "", "", 0)}
    assert [oct(one.mode) for one in found] == ["0o755", "0o755", "0o644", "0o644", "0o755", "0o755"]
    assert text == b"Do it.\n"


def test_there_and_back(task: Path, tmp_path: Path) -> None:
    archives.unpack(archives.pack(task), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(task)
    assert os.access(tmp_path / "back" / "tests" / "test.sh", os.X_OK)
    assert not os.access(tmp_path / "back" / "instruction.md", os.X_OK)


names = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=60).filter(
    lambda name: archives.unfit(name) is None and len(name.encode()) < 200
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.lists(names, min_size=1, max_size=4).map("/".join), st.binary(max_size=2000), max_size=6))
def test_any_folder_comes_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    base = tmp_path_factory.mktemp("any")
    made = base / "made"
    made.mkdir()
    for name, content in files.items():
        path = made / name
        if not any(above.is_file() for above in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    packed = archives.pack(made)
    archives.unpack(packed, base / "back")
    assert contents(base / "back") == contents(made)
    assert archives.pack(base / "back") == packed


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_of_others_are_read(task: Path, tmp_path: Path, form: int, mode: str) -> None:
    """As upstream writes them, and as `tar -C folder -czf - .` does."""
    (task / ("long" * 20)).mkdir()
    (task / ("long" * 20) / ("name" * 20)).write_text("x")
    for number, top in enumerate((None, ".")):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=form) as archive:
            for path in sorted(task.iterdir()) if top is None else [task]:
                archive.add(path, arcname=path.name if top is None else top)
        archives.unpack(file.getvalue(), tmp_path / f"back{number}")
        assert contents(tmp_path / f"back{number}") == contents(task)


GOLDEN = "439ca59a94c1f0a849edbfbdecd58317771dbc8e4bc4d2a5e4ce8497aabff012"
HARMFUL = {
    "an absolute name": (tar(("/etc/evil", b"x")), "the archive's /etc/evil has a name that is absolute"),
    "a name that leads out": (tar(("../evil", b"x")), "the archive's ../evil has a name that leads out of the folder"),
    "one that leads out later": (tar(("a/../../evil", b"x")), "leads out of the folder"),
    "one that leads out in a folder's": (tar(member("../evil", tarfile.DIRTYPE)), "leads out of the folder"),
    "a link": (
        tar(member("a", tarfile.SYMTYPE, linkname="/etc")),
        "the archive's a is a link: an archive may hold files and folders alone",
    ),
    "a file through a link": (
        tar(member("a", tarfile.SYMTYPE, linkname="/tmp"), ("a/evil", b"x")),
        "the archive's a is a link",
    ),
    "a hard link": (tar(member("a", tarfile.LNKTYPE, linkname="/etc/passwd")), "the archive's a is a link"),
    "a device": (tar(member("a", tarfile.CHRTYPE)), "the archive's a is no ordinary file"),
    "a block device": (tar(member("a", tarfile.BLKTYPE)), "the archive's a is no ordinary file"),
    "a pipe": (tar(member("a", tarfile.FIFOTYPE)), "the archive's a is no ordinary file"),
    "GNU's sparse files": (
        tar(member("a", tarfile.GNUTYPE_SPARSE), form=tarfile.GNU_FORMAT),
        "the archive's a is no ordinary file",
    ),
    "pax's sparse files": (
        tar(member("a", pax_headers={"GNU.sparse.major": "1"})),
        "the archive's a is no ordinary file",
    ),
    "two of one name": (tar(("a", b"1"), ("a", b"2")), "the archive holds a twice"),
    "two of one name, told differently": (tar(("a", b"1"), ("./a", b"2")), "the archive holds a twice"),
    "a file where a folder is": (tar(("a/b", b"1"), ("a", b"2")), "the archive holds a twice"),
    "a folder where a file is": (
        tar(("a", b"1"), ("a/b", b"2")),
        "the archive's a is a file, and other members lie in it",
    ),
    "a folder twice": (tar(member("a", tarfile.DIRTYPE), member("a", tarfile.DIRTYPE)), "the archive holds a twice"),
    "a name of control characters": (
        tar(("a\x1b[2Jb", b"x")),
        "has a name that holds characters that can't be printed",
    ),
    "a name with a zero": (tar(member("a", pax_headers={"path": "a\0b"})), "can't be printed"),
    "a name that isn't UTF-8": (tar(member("a\udcff"), form=tarfile.GNU_FORMAT), "has a name that is no UTF-8"),
    "a deep one": (tar(("a/" * 100 + "a", b"x")), "is too deep"),
    "a long one": (tar(("a" * 4001, b"x")), "is too long"),
    "no name": (tar(member("", tarfile.REGTYPE)), "the archive's member has no name"),
    "not an archive": (b"instruction.md", "the archive can't be read: truncated header at byte 0"),
    "no archive, packed": (gzip.compress(b"x" * 512), "the archive can't be read: "),
    "broken gzip": (tar(("a", b"x"))[:-9] + b"\0" * 9, "the archive can't be read: "),
    "cut gzip": (tar(("a", b"x"))[:-12], "the archive can't be read: "),
    "a cut member": (tar(("a", bytes(1000)), packed=False)[:600], "the archive can't be read: a is cut"),
    "bytes after gzip": (tar(("a", b"x")) + b"evil", "the archive can't be read: "),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_an_archive_that_means_harm_is_refused(tmp_path: Path, case: str) -> None:
    data, message = HARMFUL[case]
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(Refused) as refused:
        archives.unpack(data, inner / "task")
    assert message in str(refused.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["inner"], "nothing stays, in the folder or out of it"


def headers_with(**fields: bytes) -> bytes:
    """An archive of one file whose header has fields of one's own. https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html"""
    places = {"size": (124, 12), "kind": (156, 1)}
    header = bytearray(tar(("a", b""), packed=False)[:512])
    for name, value in fields.items():
        start, length = places[name]
        header[start : start + length] = value.ljust(length, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_a_negative_size_ends(tmp_path: Path) -> None:
    """CVE-2025-8194: tarfile reads the same header forever."""
    size = b"\xff" * 11 + b"\x00"  # -256, base 256
    for kind in (b"0", b"x", b"L"):
        with pytest.raises(Refused, match="is cut"):
            archives.unpack(headers_with(size=size, kind=kind) + bytes(1024), tmp_path / "task")


@pytest.mark.parametrize(
    "text",
    [b"0 path=evil\n", b"3 path=evil\n", b"99 path=evil\n", b"path=evil\n", b"\n", b" =", b"9" * 600, b"12 path"],
)
def test_a_broken_pax_header_ends(tmp_path: Path, text: bytes) -> None:
    file = headers_with(size=b"%011o" % len(text), kind=b"x") + text.ljust(-(-len(text) // 512) * 512, b"\0")
    with pytest.raises(Refused, match="a header that isn't pax's"):
        archives.unpack(file + tar(("a", b"x"), packed=False), tmp_path / "task")


def test_a_large_pax_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="it has a header of 1,048,[0-9]+ bytes"):
        archives.unpack(tar(member("a", pax_headers={"comment": "=" * 2**20})), tmp_path / "task")


@pytest.mark.parametrize("size", ["-1", "99999999999", "x", "9" * 5000])
def test_a_size_in_a_pax_header_is_held_to_the_archive(tmp_path: Path, size: str) -> None:
    with pytest.raises(Refused, match="is cut"):
        archives.unpack(tar(member("a", pax_headers={"size": size})), tmp_path / "task")


def test_bombs_are_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2**27))
    with pytest.raises(Refused, match="unpacks to more than 100 times its 130,[0-9]+ bytes"):
        archives.unpack(bomb, tmp_path / "task")
    with pytest.raises(Refused, match="unpacks to more than 1,000,000 bytes"):
        archives.unpack(bomb, tmp_path / "task", Limits(size=1_000_000))
    with pytest.raises(Refused, match="holds more than 3 members"):
        archives.unpack(tar(*((f"{n}", b"") for n in range(4))), tmp_path / "task", Limits(members=3))
    nested = gzip.compress(gzip.compress(bytes(2**20)))
    with pytest.raises(Refused, match="can't be read"):
        archives.unpack(nested, tmp_path / "task")
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_goes_through_a_file_and_comes_back(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "IN_MEMORY", 1000)
    (task / "data").write_bytes(os.urandom(3 * 2**20 + 1))
    archives.unpack(archives.pack(task), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(task)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "task-0001"]


def test_what_could_not_be_unpacked_is_not_packed(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "IN_MEMORY", 1000)
    (task / "zeros").write_bytes(bytes(2**20))
    with pytest.raises(Refused, match="unpacks to more than 100 times"):
        archives.pack(task)
    monkeypatch.setattr(archives, "LIMITS", Limits(size=1000))
    with pytest.raises(Refused, match="task-0001 holds more than 1,000 bytes: too much for a task"):
        archives.pack(task)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_not_packed(task: Path, kind: str) -> None:
    if kind == "link":
        (task / "tests" / "it").symlink_to("/etc/passwd")
    else:
        os.mkfifo(task / "tests" / "it")
    said = {"link": "a link", "pipe": "no file"}[kind]
    with pytest.raises(Refused, match=f"tests/it is {said}: a task's folder holds files and folders alone"):
        archives.pack(task)


def test_nothing_is_unpacked_over_what_is_there(task: Path, tmp_path: Path) -> None:
    for there in (task, tmp_path / "dangling"):
        if there != task:
            there.symlink_to("nowhere")
        with pytest.raises(Refused, match="is there already: nothing is unpacked over it"):
            archives.unpack(archives.pack(task), there)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 6143), st.integers(0, 255)), min_size=1, max_size=6),
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    mended=st.booleans(),
)
def test_a_damaged_archive_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], kind: int, mended: bool
) -> None:
    """And whatever comes of it lies in its folder. mended: with right checksums of headers, as one who means harm would make them."""
    long = member("long" * 40, pax_headers={"comment": "x"}, size=3)
    whole = bytearray(
        tar(("a/b", b"content"), long, member("folder", tarfile.DIRTYPE), ("c", b""), form=kind, packed=False)[:6144]
    )
    for at, value in changes:
        whole[at % len(whole)] = value
    if mended:
        for start in range(0, len(whole), 512):
            header = whole[start : start + 512]
            if header[257:262] == b"ustar":
                header[148:156] = b" " * 8
                whole[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    base = tmp_path_factory.mktemp("damaged")
    with contextlib.suppress(Refused):
        archives.unpack(bytes(whole), base / "inner")
    assert [path.name for path in base.iterdir()] in ([], ["inner"])
    assert not any(path.is_symlink() for path in base.rglob("*"))
