"""Quotes, escapes and variables of a Dockerfile: Docker's documented examples, a shell, and a port of Docker's own lexer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helpers.images.docker import words

ENV = {
    "abc": "hello",
    "empty": "",
    "str": "foobarbaz",
    "foo": "/bar",
    "quote": "it's",
    "lines": "a\nb",
    "stars": "a*b",
}

# https://docs.docker.com/reference/dockerfile/#environment-replacement, and #env
DOCUMENTED = {
    "${foo}": "/bar",
    "\\$foo": "$foo",
    "\\${foo}": "${foo}",
    "${foo}_x": "/bar_x",
    "$foo_x": "",
    "${abc:-word}": "hello",
    "${unset:-word}": "word",
    "${empty:-word}": "word",
    "${empty-word}": "",
    "${abc:+word}": "word",
    "${unset:+word}": "",
    "${unset:-${abc}}": "hello",
    "${str#f*b}": "arbaz",
    "${str##f*b}": "az",
    "${str%b*}": "foobar",
    "${str%%b*}": "foo",
    "${str/ba/fo}": "fooforbaz",
    "${str//ba/fo}": "fooforfoz",
    '"John Doe"': "John Doe",
    "Rex\\ The\\ Dog": "Rex The Dog",
    "'$abc'": "$abc",
    '"$abc"': "hello",
    '"a \\"b\\" \\c"': 'a "b" \\c',
    '"it\'s"': "it's",
    "a$": "a$",
    "$1": "",
    "${lines}": "a\nb",
}


@pytest.mark.parametrize("text", DOCUMENTED)
def test_what_docker_documents(text: str) -> None:
    assert words.evaluate(words.read(text, "\\"), ENV.get) == DOCUMENTED[text]


def test_another_escape_character() -> None:
    assert words.evaluate(words.read("`$abc C:\\$abc", "`"), ENV.get) == "$abc C:\\hello"
    assert words.split("a=x` y b=c\\", "`") == ["a=x` y", "b=c\\"]


def test_words_keep_their_quotes_and_escapes() -> None:
    assert words.split("A=1 B=\"x y\" C=a\\ b 'd e'f", "\\") == ["A=1", 'B="x y"', "C=a\\ b", "'d e'f"]


@pytest.mark.parametrize("text", ["'a", '"a', "${a", "${a:-b", "${}", "${a^b}", "${a/b}", "${str#\\x}"])
def test_what_is_broken_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        words.evaluate(words.read(text, "\\"), ENV.get)


def test_a_variable_that_must_be_set() -> None:
    assert words.evaluate(words.read("${abc:?no}", "\\"), ENV.get) == "hello"
    for text in ("${unset?say $abc}", "${empty:?say $abc}"):
        with pytest.raises(ValueError, match="say hello"):
            words.evaluate(words.read(text, "\\"), ENV.get)


def nothing(name: str) -> str | None:
    raise words.NotKnown(name)


def test_patterns_on_what_is_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match="whose value stands in the Dockerfile"):
        words.shell(words.read("${PATH#a}", "\\"), nothing)


def test_a_quoted_text_holds_nothing_that_apptainer_would_take_for_its_own() -> None:
    text = "a {{ b }} {{{\n%post\n  %test it's\n"
    made = words.quoted(text)
    assert "{{" not in made and not any(line.strip().startswith("%") for line in made.splitlines())
    assert subprocess.run(["sh", "-c", f"printf %s {made}"], capture_output=True, text=True).stdout == text


plain = st.text(st.sampled_from("ab/: \t\n{}%~*?[;&|<>()#!=.,`é"), max_size=4)
names = st.sampled_from([*ENV, "unset"])


def texts(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    variable = st.builds("${{{}{}{}}}".format, names, st.sampled_from([":-", "-", ":+", "+"]), inner)
    single = plain.map(lambda text: f"'{text}'")
    return st.lists(st.one_of(plain.map(lambda text: text.replace("}", "")), single, variable, inner), max_size=4).map(
        "".join
    )


escaped = st.sampled_from(
    ["\\$", "\\'", '\\"', "\\\\", "$abc", "${quote}", "$unset", '"$stars b"', '"\\$a"', '"\'"', "${empty}"]
)
docker_words = st.recursive(escaped, texts, max_leaves=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(docker_words)
def test_a_shell_makes_the_same_of_it(text: str) -> None:
    word = words.read(text, "\\")
    expected = words.evaluate(word, ENV.get)
    script = f'unset unset\nx={words.shell(word, nothing)}\nprintf %s. "$x"'
    for shell in SHELLS:
        done = subprocess.run([*shell, "-c", script], env=ENV, capture_output=True, text=True, check=True)
        assert done.stdout == f"{expected}.", (shell, script)


SHELLS = [shell for shell in (["/bin/sh"], ["/bin/bash"], ["/bin/busybox", "sh"]) if Path(shell[0]).exists()]


@settings(max_examples=400, deadline=None)
@given(docker_words)
@example("$abcé")
@example("${abcé}x$é1")
@example("$1é$²")
def test_a_port_of_dockers_own_lexer_makes_the_same_of_it(text: str) -> None:
    e2b = pytest.importorskip("e2b_dockerfile_utils", reason="wants Python 3.11")
    expected = e2b.ShellLex("\\", env=ENV, skip_unset_env=False).process_word(text)
    assert words.evaluate(words.read(text, "\\"), ENV.get) == expected
