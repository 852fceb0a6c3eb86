"""What a path in an override may be, and what a pattern means: nothing gets out of the copy, nor into its .git."""

from __future__ import annotations

import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.repositories.paths import Pattern, is_git, unfit, unfit_pattern

NAME = st.text(alphabet=string.ascii_letters + string.digits + "._- äß", min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and not is_git(name)
)
PATH = st.lists(NAME, min_size=1, max_size=5).map("/".join)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("..", "holds `..`"),
        ("a/../../b", "holds `..`"),
        ("a/..", "holds `..`"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "or `.`"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\\b", "backslash"),
        (".git", "holds `.git`"),
        (".git/hooks/post-checkout", "holds `.git`"),
        ("sub/.git/config", "holds `.git`"),
        (".GIT/config", "holds `.git`"),
        (".git ./config", "holds `.git`"),
        (".git::$INDEX_ALLOCATION/config", "holds `.git`"),
        ("git~1/config", "holds `.git`"),
        (".g\u200cit/config", "holds `.git`"),
        ("a\ud800", "half a character"),
        ("x" * 256, "too long"),
        ("/".join(["x" * 200] * 30), "too long"),
    ],
)
def test_what_is_no_path_of_a_file(path: str, why: str) -> None:
    assert why in (unfit(path) or "")
    if not path.endswith("/"):
        assert why in (unfit_pattern(path) or "")


@pytest.mark.parametrize(
    "path",
    ["a", ".env", "a/b.c", "..a", "a..", ".gitignore", ".github/workflows/ci.yml", "x.git/y", "ä/ß", "a b", "-x"],
)
def test_what_is_one(path: str) -> None:
    assert unfit(path) is None and unfit_pattern(path) is None and unfit_pattern(f"{path}/") is None


@given(st.text(max_size=40))
def test_what_is_fit_stays_in_its_folder(path: str) -> None:
    if unfit(path) is None:
        joined = os.path.normpath(os.path.join("/copy", path))
        assert joined.startswith("/copy/") and joined == f"/copy/{path}"
        assert ".git" not in path.lower().split("/") and "\0" not in path


@given(PATH, st.lists(st.sampled_from(["..", ".git", ".GiT", "", "."]), min_size=1, max_size=2), st.integers(0, 5))
def test_one_bad_part_anywhere_is_enough(path: str, bad: list[str], at: int) -> None:
    parts = path.split("/")
    parts[min(at, len(parts)) : min(at, len(parts))] = bad
    assert unfit("/".join(parts)) is not None


@pytest.mark.parametrize(
    ("pattern", "meant", "not_meant"),
    [
        ("setup.py", ["setup.py"], ["sub/setup.py", "setup.pyc", "Setup.py"]),
        ("docs", ["docs", "docs/a", "docs/b/c"], ["sub/docs/a", "docs2", "doc"]),
        ("docs/", ["docs/a", "docs/b/c"], ["docs", "sub/docs/a"]),
        ("a/b", ["a/b", "a/b/c"], ["b", "x/a/b", "a/bc"]),
        ("a/b/", ["a/b/c"], ["a/b", "a/c"]),
        (".env", [".env"], ["a/.env", "env"]),
        ("*.log", ["x.log", ".log", "a/b/x.log", "x.log/inner"], ["x.logs", "log"]),
        ("__pyc*__/", ["a/__pycache__/x.pyc", "__pycache__/x"], ["__pycache__", "a/__pycache__"]),
        ("temp/*", ["temp/a", "temp/.hidden", "temp/a/b"], ["temp", "a/temp/b"]),
        ("*/x", ["a/x", "a/x/y"], ["x", "a/b/x"]),
        ("a?c", ["abc", "d/a.c"], ["ac", "a/c"]),
        ("[ab].txt", ["a.txt", "c/b.txt"], ["c.txt"]),
        ("docs/**/*.md", ["docs/a.md", "docs/b/c/d.md"], ["a.md", "docs/a.txt"]),
        ("docs/**", ["docs/a", "docs/a/b"], ["docs", "a/docs/b"]),
        ("**/cache", ["cache", "a/cache", "a/b/cache/c"], ["caches"]),
        ("*", ["a", ".a", "a/b"], []),
    ],
)
def test_what_a_pattern_means(pattern: str, meant: list[str], not_meant: list[str]) -> None:
    one = Pattern(pattern)
    assert [path for path in [*meant, *not_meant] if one.matches(path)] == meant


def test_a_submodule_is_a_folder() -> None:
    assert Pattern("lib/").matches("lib", is_folder=True) and not Pattern("lib/").matches("lib")


@given(PATH)
def test_a_path_without_wildcards_means_itself(path: str) -> None:
    assert (
        Pattern(path).matches(path)
        and Pattern(f"{path}/").matches(f"{path}/x")
        and not Pattern(path).matches(f"x{path}")
    )


def test_many_wildcards_take_no_time() -> None:
    assert not Pattern("/".join(["**", "*a*"] * 30) + "/b").matches("/".join(["aaaa"] * 200))
