"""What COPY finds: wildcards, .dockerignore, links, and the ways out of the context."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.images.docker import context, ignore
from helpers.images.docker.context import Context, Copy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    for name in (
        "a.py",
        "b.py",
        ".hidden.py",
        "c.md",
        "src/one.py",
        "src/deep/two.md",
        "src/deep/three.py",
        "d[1].txt",
    ):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (made / "empty").mkdir()
    return made


def found(folder: Path, source: str, ignored: str = "") -> list[str]:
    entries, inside = Context(folder, ignore.Ignored(ignored)).entries(source)
    return [entry.target for entry in entries] + ["(inside)"] * inside


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        ("a.py", ["a.py"]),
        ("/a.py", ["a.py"]),
        ("./src/../src/one.py", None),
        ("src", ["deep", "deep/three.py", "deep/two.md", "one.py", "(inside)"]),
        ("src/", ["deep", "deep/three.py", "deep/two.md", "one.py", "(inside)"]),
        ("src/deep/two.md", ["two.md"]),
        ("*.py", [".hidden.py", "a.py", "b.py"]),
        ("?.py", ["a.py", "b.py"]),
        ("[^a].py", ["b.py"]),
        ("s*/*.py", ["one.py"]),
        ("d[[]1].txt", ["d[1].txt"]),
        ("*.nothing", []),
        ("empty", ["(inside)"]),
    ],
)
def test_sources(folder: Path, source: str, targets: list[str] | None) -> None:
    if targets is None:
        with pytest.raises(ValueError, match="outside of the Dockerfile's folder"):
            found(folder, source)
    else:
        assert found(folder, source) == targets


# https://docs.docker.com/build/concepts/context/#dockerignore-files
@pytest.mark.parametrize(
    ("patterns", "out", "kept"),
    [
        ("*/temp*", "a/temp.txt a/temp b/temp/x", "temp a/b/temp"),
        ("*/*/temp*", "a/b/temporary.txt", "a/temp temp"),
        ("temp?", "tempa tempb", "temp a/tempa tempab"),
        ("**/*.go", "a.go a/b.go a/b/c.go", "a.gox a/go"),
        ("*.md\n!README.md", "a.md", "README.md b/a.md"),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md x.md", "README.md README-a.md"),
        ("*.md\nREADME-secret.md\n!README*.md", "x.md", "README.md README-secret.md"),
        ("# a comment\n\n  build/  \n", "build build/x", "abuild"),
        ("/foo/bar", "foo/bar foo/bar/x", "x/foo/bar"),
        ("foo/bar/", "foo/bar/x", "foo"),
        ("a/**/b", "a/b a/x/b a/x/y/b a/b/c", "b x/a/b"),
        ("a/**", "a/b a/b/c", "b"),
        ("*\n!src", "x .git/config", "src src/a/b"),
        ("[a-c].txt\n\\*", "a.txt *", "d.txt x"),
        ("./x/../y", "y", "x"),
        ("!a\na", "a", "b"),
    ],
)
def test_what_a_dockerignore_leaves_out(patterns: str, out: str, kept: str) -> None:
    ignored = ignore.Ignored(patterns)
    assert [path for path in out.split() if path not in ignored] == []
    assert [path for path in kept.split() if path in ignored] == []
    try:
        from e2b_dockerfile_utils import PatternMatcher
    except ImportError:  # wants Python 3.11
        return
    lines = [line.strip().removeprefix("/") for line in patterns.splitlines() if line.strip() and line[0] != "#"]
    theirs = PatternMatcher(lines)
    assert [theirs.matches(path) for path in (out + " " + kept).split()] == [
        path in ignored for path in (out + " " + kept).split()
    ]


@pytest.mark.parametrize("pattern", ["[a", "a\\", "[z-a]"])
def test_a_broken_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="broken"):
        ignore.Ignored(pattern)


def test_what_is_left_out_is_not_copied(folder: Path) -> None:
    assert found(folder, ".", "**/*.py\nempty\n!src/one.py") == [
        "c.md",
        "d[1].txt",
        "src",
        "src/deep",
        "src/deep/two.md",
        "src/one.py",
        "(inside)",
    ]
    assert found(folder, "*.py", "a.py") == [".hidden.py", "b.py"]
    assert found(folder, "src", "*\n!src/deep/two.md") == ["deep", "deep/two.md", "(inside)"]
    for source in ("a.py", "src"):
        with pytest.raises(ValueError, match=r"is left out by \.dockerignore"):
            found(folder, source, "a.py\nsrc")


def test_the_file_beside_the_dockerfile_goes_first(folder: Path) -> None:
    (folder / ".dockerignore").write_text("a.py")
    (folder / "x.Dockerfile.dockerignore").write_text("b.py")
    assert "a.py" in ignore.Ignored.of(folder / "Dockerfile", folder)
    assert "a.py" not in ignore.Ignored.of(folder / "x.Dockerfile", folder)


def test_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (folder / "inner").symlink_to("src/one.py")
    (folder / "out").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "src/away").symlink_to("/etc/passwd")
    assert found(folder, "inner") == ["inner"]
    made = {entry.target: entry.kind for entry in Context(folder, ignore.Ignored()).entries("src")[0]}
    assert made["away"] == "link"  # as it is, unread
    for source in ("out", "up/secret", "up/*"):
        with pytest.raises(ValueError, match="is a link out of the Dockerfile's folder"):
            found(folder, source)
    for source in ("../secret", "src/../../secret"):
        with pytest.raises(ValueError, match="outside of the Dockerfile's folder"):
            found(folder, source)


def test_what_is_neither_file_nor_folder(folder: Path) -> None:
    os.mkfifo(folder / "src/pipe")
    with pytest.raises(ValueError, match="src/pipe is neither a file, a folder nor a link"):
        found(folder, "src")


def test_staged_for_everybody_to_read(folder: Path, tmp_path: Path) -> None:
    (folder / "a.py").chmod(0o600)
    (folder / "b.py").chmod(0o700)
    (folder / "src/away").symlink_to("/etc/passwd")
    copies = [Copy(number, "/x/") for number in (1, 2)]
    reader = Context(folder, ignore.Ignored())
    copies[0].entries = [*reader.entries("*.py")[0], *reader.entries("src")[0]]
    context.stage(copies, tmp_path / "staged")
    made = tmp_path / "staged/1"
    assert [oct((made / name).stat().st_mode)[-3:] for name in ("a.py", "b.py", "deep")] == ["644", "755", "755"]
    assert os.readlink(made / "away") == "/etc/passwd"
    assert (made / "a.py").stat().st_mtime_ns == (folder / "a.py").stat().st_mtime_ns
    assert list((tmp_path / "staged/2").iterdir()) == []
