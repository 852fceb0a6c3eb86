"""A folder as a tar archive, and back: the same folder gives the same bytes, and no archive writes where it shouldn't.

What is packed: files and folders, sorted by name, of owner 0, of time 0, with mode 0755 or 0644 by the owner's right to run them; gzip
without a time stamp (RFC 1952). The bytes depend on Python's zlib, too. What is unpacked: files and folders, and nothing else. Format:
POSIX.1-2001 pax, and GNU's long names (https://man.freebsd.org/cgi/man.cgi?query=tar&sektion=5). tarfile makes and reads single headers;
for whole archives it takes quadratic time with some (CVE-2024-6232) and no end with others (CVE-2025-8194), on the Pythons of clusters.
"""

from __future__ import annotations

import gzip
import io
import mmap
import os
import re
import stat
import tarfile
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from helpers.lib import folders
from helpers.lib.errors import Refused
from helpers.lib.text import UNPRINTABLE, clean

LEVEL = 6  # of gzip
GZIP = 16 + zlib.MAX_WBITS  # how zlib calls its format
CHUNK = 2**20
IN_MEMORY = 64 * 2**20  # of what is unpacked; more goes through a file
ENDING = bytes(2 * tarfile.BLOCKSIZE)
LONGEST, DEEPEST = 4000, 100  # bytes of a name, and folders in one another: Linux takes no longer ones
LARGEST_HEADER = 2**20
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
IMPLIED = "implied"  # a folder that no member names, but that one lies in


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. ratio: unpacked bytes for each packed one, beyond the first megabytes (IN_MEMORY)."""

    size: int = 2**30
    members: int = 100_000
    ratio: int = 100


LIMITS = Limits()


class Entry(NamedTuple):
    """What lies in a folder. name: its path from there, with `/`."""

    name: str
    path: str
    is_folder: bool
    is_executable: bool
    size: int

    @property
    def mode(self) -> int:
        """The mode that it is packed with."""
        return 0o755 if self.is_folder or self.is_executable else 0o644


@lru_cache(10_000)  # as above
def unfit(name: str) -> str | None:
    """What is wrong with the name of a thing in a folder, as the rest of a sentence; None: nothing."""
    if name.startswith("/"):
        return "is absolute"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of the folder"
    if "" in parts or "." in parts:
        return "has an empty part"
    if len(parts) > DEEPEST:
        return "is too deep"
    if UNPRINTABLE.search(name) or "\n" in name or "\t" in name:
        return "holds characters that can't be printed"
    try:
        return "is too long" if len(name.encode()) > LONGEST else None
    except UnicodeEncodeError:
        return "is no UTF-8"


def entries(folder: str | Path) -> list[Entry]:
    """All that lies in a folder, sorted by name. Raises Refused for what is neither file nor folder (a link, a pipe), and OSError."""
    return sorted(_below(str(folder), ""), key=lambda entry: os.fsencode(entry.name))


def _below(folder: str, prefix: str) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for one in found:
            name = prefix + one.name
            status = one.stat(follow_symlinks=False)
            mode = status.st_mode
            if problem := unfit(name):
                raise Refused(f"{clean(one.path)}: the name {problem}. Rename it.")
            if stat.S_ISDIR(mode):
                yield Entry(name, one.path, True, True, 0)
                yield from _below(one.path, f"{name}/")
            elif stat.S_ISREG(mode):
                yield Entry(name, one.path, False, bool(mode & stat.S_IXUSR), status.st_size)
            else:
                kind = "a link" if stat.S_ISLNK(mode) else "no file"
                raise Refused(
                    f"{clean(one.path)} is {kind}: a task's folder holds files and folders alone. Put a copy in its place."
                )


def pack(folder: str | Path) -> bytes:
    """The archive of a folder: a tar file, packed by gzip. Raises Refused for what can't be packed, and OSError."""
    found, pieces, total = entries(folder), [], 0
    if sum(entry.size for entry in found) > LIMITS.size:
        raise Refused(f"{clean(folder)} holds more than {LIMITS.size:,} bytes: too much for a task")
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    for entry in found:
        content = b"" if entry.is_folder else _content(entry.path)
        header = _header(entry.name, entry.is_folder, entry.mode, len(content))
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        pieces += [packer.compress(header), packer.compress(content), packer.compress(padding)]
        total += len(header) + len(content) + len(padding)
    packed = b"".join([*pieces, packer.compress(ENDING), packer.flush()])
    _allow(total, len(packed), LIMITS)
    return packed


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


@lru_cache(10_000)  # tasks have files of the same names, and often of the same size
def _header(name: str, is_folder: bool, mode: int, size: int) -> bytes:
    about = tarfile.TarInfo(name)
    about.type, about.mode, about.size = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE, mode, size
    return about.tobuf(tarfile.PAX_FORMAT)


def unpack(data: bytes, folder: Path, limits: Limits = LIMITS) -> None:
    """Unpack an archive to a folder that isn't there yet: whole or not at all. Raises as `unpack_into`."""
    if os.path.lexists(folder):
        raise Refused(f"{folder} is there already: nothing is unpacked over it")
    temporary = beside(folder)
    try:
        unpack_into(data, temporary, limits)
        temporary.rename(folder)
    except BaseException:
        folders.remove(temporary)
        raise


def beside(path: Path) -> Path:
    """A name that nobody has, in the same folder, for what becomes `path` once it is whole."""
    return path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}")


def unpack_into(data: bytes, folder: Path, limits: Limits = LIMITS) -> None:
    """Unpack an archive to a folder that is made here; what was written before a fault stays.

    Raises Refused for all that `pack` wouldn't write (names that lead out of the folder, links, devices, two of one name), for more than
    `limits` allows, and for what is no archive; and OSError.
    """
    os.mkdir(folder)
    file = _unzipped(data, folder, limits)
    made: dict[str, str] = {"": IMPLIED}
    try:
        for member in _members(file, limits):
            _write(member, file, str(folder), made)
    finally:
        if isinstance(file, mmap.mmap):
            file.close()


def _unzipped(data: bytes, folder: Path, limits: Limits) -> bytes | mmap.mmap:
    """The tar file in an archive, which is plain, or packed by gzip."""
    if data[:2] != b"\x1f\x8b":
        _allow(len(data), len(data), limits)
        return data
    try:
        unpacker = zlib.decompressobj(GZIP)
        small = unpacker.decompress(data, IN_MEMORY)
        if unpacker.eof and not unpacker.unused_data:
            _allow(len(small), len(data), limits)
            return small
        del small
        return _unzipped_file(data, folder.parent, limits)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken(str(error)) from None


def _unzipped_file(data: bytes, near: Path, limits: Limits) -> bytes | mmap.mmap:
    """The same by way of a file, which has no name and is gone with the map of it."""
    total = 0
    with tempfile.TemporaryFile(dir=near, buffering=0) as file, gzip.GzipFile(fileobj=io.BytesIO(data)) as source:
        while piece := source.read(CHUNK):
            total += len(piece)
            _allow(total, len(data), limits)
            file.write(piece)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if total else b""


def _allow(size: int, packed: int, limits: Limits) -> None:
    if size > limits.size:
        raise Refused(f"the archive unpacks to more than {limits.size:,} bytes")
    if size > IN_MEMORY and size > packed * limits.ratio:
        raise Refused(f"the archive unpacks to more than {limits.ratio} times its {packed:,} bytes")


def _broken(why: str) -> Refused:
    return Refused(f"the archive can't be read: {clean(why)}")


class _Member(NamedTuple):
    name: str
    is_folder: bool
    mode: int
    start: int
    size: int


def _members(file: bytes | mmap.mmap, limits: Limits) -> Iterator[_Member]:
    """The files and folders in a tar file, in its order. Raises Refused for all else."""
    at, end, count = 0, len(file), 0
    told: dict[str, str] = {}  # by the header before, of the next
    while at < end:
        try:
            about = _parsed(file[at : at + tarfile.BLOCKSIZE])
        except tarfile.EOFHeaderError:
            return
        except tarfile.HeaderError as error:
            raise _broken(f"{error} at byte {at}") from None
        count += 1
        if count > limits.members:
            raise Refused(f"the archive holds more than {limits.members:,} members")
        at += tarfile.BLOCKSIZE
        size = _size(about, told, end - at)
        if about.type in HEADERS:
            if size > LARGEST_HEADER:
                raise _broken(f"it has a header of {size:,} bytes")
            told |= _told(about.type, file[at : at + size])
        else:
            yield _member(about, told, at, size)
            told = {}
        at += size + -size % tarfile.BLOCKSIZE


@lru_cache(1000)
def _parsed(header: bytes) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")


def _size(about: tarfile.TarInfo, told: dict[str, str], left: int) -> int:
    size = about.size
    if "size" in told and about.type not in HEADERS:
        size = int(told["size"]) if re.fullmatch("[0-9]{1,18}", told["size"]) else -1
    if about.type == tarfile.DIRTYPE:
        return 0
    if not 0 <= size <= left:
        raise _broken(f"{about.name or 'a member'} is cut")
    return size


def _told(kind: bytes, text: bytes) -> dict[str, str]:
    """What a header tells of the member after it: its name in GNU's form, or any of pax's."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": text.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    if kind != tarfile.XHDTYPE:
        return {}  # of links, or of all members: dates, comments
    found, at = {}, 0
    while at < len(text):
        length = text[at : at + 20].partition(b" ")[0]
        count = int(length) if length.isdigit() else 0
        key, equals, value = text[at + len(length) + 1 : at + count - 1].partition(b"=")
        if not equals or not len(length) < count <= len(text) - at:
            raise _broken("it has a header that isn't pax's")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += count
    return found


def _member(about: tarfile.TarInfo, told: dict[str, str], start: int, size: int) -> _Member:
    name = told.get("path", about.name)
    is_folder = about.type == tarfile.DIRTYPE
    # the folder itself is `.`, and the names of all in it may begin with that
    plain = name.rstrip("/").removeprefix("./") if name != "." else ""
    problem: str | None
    if about.type in LINKS:
        problem = "is a link: an archive may hold files and folders alone"
    elif not (is_folder or about.type in FILES) or (told and any(key.startswith("GNU.sparse") for key in told)):
        problem = "is no ordinary file: an archive may hold files and folders alone"
    elif plain:
        problem = (found := unfit(plain)) and f"has a name that {found}"
    else:
        problem = None if is_folder and not name.startswith("/") else "has no name"
    if problem:
        raise Refused(f"the archive's {clean(name)[:200] or 'member'} {problem}")
    return _Member(plain, is_folder, about.mode, start, size)


def _write(member: _Member, file: bytes | mmap.mmap, folder: str, made: dict[str, str]) -> None:
    """Write a member. made: the names so far, and what each is."""
    _make_folder(member.name.rpartition("/")[0], folder, made)
    known = made.get(member.name)
    if known is not None and not (member.is_folder and known == IMPLIED):
        raise Refused(f"the archive holds {clean(member.name) or '.'} twice")
    if member.is_folder:
        _make_folder(member.name, folder, made)
        made[member.name] = "folder"
        return
    made[member.name] = "file"
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    descriptor = os.open(
        f"{folder}/{member.name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
    )
    try:
        for at in range(member.start, member.start + member.size, CHUNK):
            piece = file[at : min(at + CHUNK, member.start + member.size)]
            while piece:
                piece = piece[os.write(descriptor, piece) :]
    finally:
        os.close(descriptor)


def _make_folder(name: str, folder: str, made: dict[str, str]) -> None:
    """Make a folder, and those above it, where they aren't there yet."""
    if name in made:
        if made[name] == "file":
            raise Refused(f"the archive's {clean(name)} is a file, and other members lie in it")
        return
    _make_folder(name.rpartition("/")[0], folder, made)
    os.mkdir(f"{folder}/{name}")
    made[name] = IMPLIED
