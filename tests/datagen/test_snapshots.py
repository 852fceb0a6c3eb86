"""Snapshots: there and back, byte for byte; upstream's files; files that mean harm; and what a killed extraction leaves."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_tasks import contents, make, make_many

from helpers.datagen import archives, snapshots
from helpers.lib import command_line
from helpers.lib.errors import Refused


def rows(file: Path, *content: tuple[object, object], kinds: tuple[object, object] | None = None) -> Path:
    """A parquet file of rows of one's own."""
    path, binary = kinds or (pyarrow.string(), pyarrow.binary())
    schema = pyarrow.schema([("path", path), ("task_binary", binary)])
    columns = [[row[column] for row in content] for column in (0, 1)]
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), file)
    return file


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    return archives.pack(make(tmp_path / "one"))


def test_there_and_back_and_there_again(tmp_path: Path) -> None:
    tasks = make_many(tmp_path / "tasks", 7)
    counted = snapshots.write(tasks, tmp_path / "a.parquet")
    assert counted == (7, sum(len(archives.pack(task)) for task in tasks), 0)
    assert snapshots.extract(tmp_path / "a.parquet", tmp_path / "back") == counted
    assert contents(tmp_path / "back") == contents(tmp_path / "tasks")
    snapshots.write(snapshots.tasks_in(tmp_path / "back"), tmp_path / "b.parquet")
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "a.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "back", "tasks"]


def test_pandas_reads_it(tmp_path: Path) -> None:
    import pandas

    tasks = make_many(tmp_path / "tasks", 3)
    snapshots.write(tasks, tmp_path / "a.parquet")
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(frame.columns) == ["path", "task_binary"]
    assert list(frame["path"]) == [task.name for task in tasks]
    assert frame["task_binary"][2] == archives.pack(tasks[2])


paths = st.lists(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,8}", fullmatch=True), min_size=1, max_size=3).map("/".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tasks=st.dictionaries(paths, st.binary(max_size=3000), max_size=8), group=st.integers(1, 4000))
def test_any_tasks_come_back(
    tmp_path_factory: pytest.TempPathFactory, tasks: dict[str, bytes], group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their paths and content are, however many row groups and parts they make."""
    monkeypatch.setattr(snapshots, "GROUP_BYTES", group)
    base = tmp_path_factory.mktemp("any")
    kept = {path: data for path, data in tasks.items() if not any(path.startswith(f"{other}/") for other in tasks)}
    for path, data in kept.items():
        make(base / "tasks" / path)
        (base / "tasks" / path / "data").write_bytes(data)
    found = snapshots.tasks_in(base / "tasks") if kept else []
    assert [task.relative_to(base / "tasks").as_posix() for task in found] == sorted(
        kept, key=lambda path: path.split("/")
    )
    snapshots.write(found, base / "a.parquet", base / "tasks")
    assert snapshots.extract(base / "a.parquet", base / "back").tasks == len(kept)
    assert contents(base / "back") == (contents(base / "tasks") if kept else {})
    if kept:
        parts = snapshots.write_parts(base / "tasks", base / "parts", most=group)
        for part in parts:
            snapshots.extract(part, base / "from_parts")
        assert contents(base / "from_parts") == contents(base / "tasks")
        assert sorted((base / "parts").iterdir()) == parts


def test_parts_are_named_as_the_hub_names_them_and_bounded(tmp_path: Path) -> None:
    make_many(tmp_path / "tasks", 10)
    size = len(archives.pack(tmp_path / "tasks" / "task-0000"))
    parts = snapshots.write_parts(tmp_path / "tasks", tmp_path / "out", "test", most=3 * size)
    assert [part.name for part in parts] == [f"test-{number:05d}-of-00004.parquet" for number in range(4)]
    assert [pyarrow.parquet.read_metadata(part).num_rows for part in parts] == [3, 3, 3, 1]
    again = snapshots.write_parts(tmp_path / "tasks", tmp_path / "again", "test", most=3 * size)
    assert [part.read_bytes() for part in again] == [part.read_bytes() for part in parts]


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = make_many(tmp_path / "tasks", 10)
    monkeypatch.setattr(snapshots, "GROUP_BYTES", 2 * len(archives.pack(tasks[0])))
    snapshots.write(tasks, tmp_path / "a.parquet")
    assert pyarrow.parquet.read_metadata(tmp_path / "a.parquet").num_row_groups == 5


def test_tasks_are_found_at_any_depth_but_not_in_one_another(tmp_path: Path) -> None:
    for name in ("b", "a/x", "a/y/z", ".hidden", "b/inner"):
        make(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert snapshots.tasks_in(tmp_path) == [tmp_path / "a" / "x", tmp_path / "a" / "y" / "z", tmp_path / "b"]
    assert snapshots.tasks_in(tmp_path / "b") == [tmp_path / "b"]


def test_upstreams_files_are_read(tmp_path: Path) -> None:
    """One row group, snappy, dictionaries; times and owners in the archives, packed or not."""
    task = make(tmp_path / "tasks" / "nl2bash-0001")
    for number, (mode, kinds) in enumerate(
        [
            ("w:gz", None),
            ("w", (pyarrow.large_string(), pyarrow.large_binary())),
            ("w:gz", (pyarrow.string(), pyarrow.binary())),
        ]
    ):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as archive:
            for path in sorted(task.rglob("*")):
                archive.add(path, arcname=path.relative_to(task).as_posix(), recursive=False)
        snapshot = rows(tmp_path / f"{number}.parquet", (task.name, file.getvalue()), kinds=kinds)
        snapshots.extract(snapshot, tmp_path / f"back{number}")
        assert contents(tmp_path / f"back{number}") == contents(tmp_path / "tasks")


@pytest.mark.parametrize(
    "path, said",
    [
        ("../evil", "the path leads out of the folder"),
        ("/tmp/evil", "the path is absolute"),
        ("a/../../evil", "the path leads out of the folder"),
        (".", "the path has an empty part"),
        ("", "the path has an empty part"),
        ("a//b", "the path has an empty part"),
        ("a\0b", "the path holds characters that can't be printed"),
        (".ssh", "the path is hidden"),
        ("first", "another row has the same path"),
        ("first/inner", "the path lies in another row's, or the other way round"),
    ],
)
def test_a_path_that_means_harm_is_refused(tmp_path: Path, packed: bytes, path: str, said: str) -> None:
    snapshot = rows(tmp_path / "evil.parquet", ("first", packed), (path, packed))
    with pytest.raises(Refused) as refused:
        snapshots.extract(snapshot, tmp_path / "inner" / "out")
    assert str(refused.value).startswith(f"{snapshot}: row 2 (") and str(refused.value).endswith(said)
    assert sorted(one.name for one in (tmp_path / "inner" / "out").iterdir()) == ["first"]
    assert sorted(one.name for one in (tmp_path / "inner").iterdir()) == ["out"]


def test_a_task_around_another_is_refused(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(Refused, match="lies in another row's"):
        snapshots.extract(rows(tmp_path / "a.parquet", ("a/b", packed), ("a", packed)), tmp_path / "out")


def test_an_archive_that_means_harm_is_told_by_its_row(tmp_path: Path, packed: bytes) -> None:
    snapshot = rows(tmp_path / "a.parquet", ("good", packed), ("evil\x1b[2J", b"x"), ("evil", b"x"))
    with pytest.raises(Refused) as refused:
        snapshots.extract(snapshot, tmp_path / "out")
    assert "\x1b" not in str(refused.value) and "row 2 (evil [2J)" in str(refused.value)
    with pytest.raises(Refused, match=r"row 1 \(evil\): the archive can't be read: truncated header"):
        snapshots.extract(rows(tmp_path / "b.parquet", ("evil", b"x")), tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["good"]


def test_what_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("path,task_binary\n")
    with pytest.raises(Refused, match="text.parquet: can't be read as parquet: "):
        list(snapshots.read(tmp_path / "text.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"], "other": [1]}), tmp_path / "other.parquet")
    with pytest.raises(Refused, match="other.parquet: has no column task_binary, only: path, other"):
        list(snapshots.read(tmp_path / "other.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"], "task_binary": ["text"]}), tmp_path / "texts.parquet")
    with pytest.raises(Refused, match="texts.parquet: row 1: wants a text as path and bytes as task_binary"):
        list(snapshots.read(tmp_path / "texts.parquet"))
    with pytest.raises(Refused, match="row 2: wants a text"):
        list(snapshots.read(rows(tmp_path / "null.parquet", ("a", b""), (None, b""))))
    with pytest.raises(FileNotFoundError):
        list(snapshots.read(tmp_path / "missing.parquet"))


def test_a_cut_snapshot_is_refused(tmp_path: Path) -> None:
    snapshots.write(make_many(tmp_path / "tasks", 5), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-100])
    with pytest.raises(Refused, match="can't be read as parquet"):
        list(snapshots.read(tmp_path / "cut.parquet"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_snapshot_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    base = tmp_path_factory.mktemp("damaged")
    snapshots.write(make_many(base / "tasks", 2), base / "a.parquet")
    damaged = bytearray((base / "a.parquet").read_bytes())
    for at, value in changes:
        damaged[-1 - at % len(damaged)] = value
    (base / "a.parquet").write_bytes(damaged)
    with contextlib.suppress(Refused):
        list(snapshots.read(base / "a.parquet"))


def test_the_snapshot_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no .*parquet; there is: no .*parquet at all"):
        snapshots.find(tmp_path)
    for name in ("tasks/train-00001-of-00002.parquet", "tasks/train-00000-of-00002.parquet", "z.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert snapshots.find(tmp_path) == tmp_path / "tasks" / "train-00000-of-00002.parquet"
    for name in ("tasks/train-00001-of-00002.parquet", "train-00001-of-00002.parquet"):
        assert snapshots.find(tmp_path, name) == tmp_path / "tasks" / "train-00001-of-00002.parquet"
    with pytest.raises(Refused, match="holds no x.parquet; there is: tasks/train-00000-of-00002.parquet, "):
        snapshots.find(tmp_path, "x.parquet")


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    snapshots.write(make_many(tmp_path / "tasks", 5), tmp_path / "a.parquet")
    out = tmp_path / "out"
    snapshots.extract(tmp_path / "a.parquet", out)
    for gone in ("task-0001", "task-0003"):
        (out / gone).rename(tmp_path / gone)
    inode = (out / "task-0002").stat().st_ino
    counted = snapshots.extract(tmp_path / "a.parquet", out)
    assert (counted.tasks, counted.kept) == (5, 3) and (out / "task-0002").stat().st_ino == inode
    assert contents(out) == contents(tmp_path / "tasks")


def test_what_differs_is_replaced_only_when_asked(tmp_path: Path) -> None:
    snapshots.write(make_many(tmp_path / "tasks", 2), tmp_path / "a.parquet")
    out = tmp_path / "out"
    mine = make(out / "task-0001", "Mine.\n")
    with pytest.raises(Refused, match="out/task-0001 is there already, and differs: --overwrite replaces it"):
        snapshots.extract(tmp_path / "a.parquet", out)
    assert (mine / "instruction.md").read_text() == "Mine.\n"
    assert snapshots.extract(tmp_path / "a.parquet", out, overwrite=True) == (
        2,
        snapshots.extract(tmp_path / "a.parquet", out).size,
        1,
    )
    assert contents(out) == contents(tmp_path / "tasks")


def test_a_link_in_the_way_is_not_followed(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "one")
    snapshot = rows(tmp_path / "a.parquet", ("a", packed))
    with pytest.raises(Refused, match="is there already, and differs"):
        snapshots.extract(snapshot, tmp_path / "out")
    snapshots.extract(snapshot, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "a").is_symlink() and (tmp_path / "one" / "instruction.md").exists()


def test_what_a_killed_one_left_goes_with_the_next(tmp_path: Path) -> None:
    snapshots.write(make_many(tmp_path / "tasks", 1), tmp_path / "a.parquet")
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = os.uname().nodename
    left = [
        tmp_path / "out" / f".extracting.{host}.{ended.pid}.abc",
        tmp_path / "out" / f".extracting.{host}.{os.getpid()}.abc",
    ]
    for folder in left:
        make(folder / "task")
    snapshots.extract(tmp_path / "a.parquet", tmp_path / "out")
    assert [folder.exists() for folder in left] == [False, True], "one of a process that lives stays"


def test_two_tasks_of_one_name(tmp_path: Path) -> None:
    tasks = [make(tmp_path / "a" / "x"), make(tmp_path / "b" / "x")]
    with pytest.raises(Refused, match="b/x: there is a second task of the name x; give a base, or rename one"):
        snapshots.write(tasks, tmp_path / "a.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    snapshots.write(tasks, tmp_path / "a.parquet", tmp_path)
    assert [path for path, _ in snapshots.read(tmp_path / "a.parquet")] == ["a/x", "b/x"]


def test_parts_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no task is there, which is a folder with an instruction.md"):
        snapshots.write_parts(tmp_path, tmp_path / "out")


def test_parts_that_fail_leave_nothing(tmp_path: Path) -> None:
    (make_many(tmp_path / "tasks", 3)[2] / "link").symlink_to("x")
    with pytest.raises(Refused, match="link is a link"):
        snapshots.write_parts(tmp_path / "tasks", tmp_path / "out", most=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_many(tmp_path / "tasks", 2)
    call = [sys.executable, "-m", "helpers.datagen.snapshots"]
    done = subprocess.run([*call, "pack", tmp_path / "tasks", tmp_path / "a.parquet"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("2 tasks, ")

    def run(*argv: object) -> tuple[int, str, str]:
        code = command_line.launch(snapshots.main, "snapshots", [str(one) for one in argv])
        return (code, *capsys.readouterr())

    assert run("extract", tmp_path / "a.parquet", tmp_path / "out")[:2] == (
        0,
        f"{done.stdout.rpartition(': ')[0]}: {tmp_path}/out\n",
    )
    assert "2 tasks (2 were there already)" in run("extract", tmp_path / "a.parquet", tmp_path / "out")[1]
    make(tmp_path / "out" / "task-0001", "Mine.\n")
    code, _, said = run("extract", tmp_path / "a.parquet", tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1) and said.startswith(f"error: {tmp_path}/out/task-0001 is there already")
    assert run("extract", tmp_path / "a.parquet", tmp_path / "out", "--overwrite")[0] == 0
    code, _, said = run("pack", tmp_path / "tasks", tmp_path / "no" / "a.parquet")
    assert (code, said) == (2, f"error: {tmp_path}/no/a.parquet: No such file or directory\n")
