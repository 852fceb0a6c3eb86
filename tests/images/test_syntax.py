"""Lines of a Dockerfile: comments, directives, continued lines, flags, JSON lists, here-documents."""

from __future__ import annotations

import pytest

from helpers.images.docker import syntax

EVERYTHING = """\
# syntax=docker/dockerfile:1
# escape=\\

# a comment
FROM  python:3.11 AS base
RUN apt-get update && \\
    # a comment between
\\
    apt-get install git   \\

    # another

    && true
  run echo "a \\\\
ENV A=1 \\
  B="x y"
RUN --mount=type=cache,target=/a --mount=type=tmpfs,target=/b --network=host pip install x
COPY --chown=me:me --chmod=755 ["a b", "/c d/"]
COPY <<-"ONE" <<TWO /etc/
\t\tkept $HOME
\tONE
two # no comment
\\
TWO
RUN <<EOF
#!/bin/sh
echo hi
EOF
RUN cat << EOF >/x && python3 <<'PY'
a
EOF
print(1)
PY
CMD ["sh", "-c", "echo \\"hi\\""]
CMD [not json]
LABEL a=b
"""


def test_everything() -> None:
    parsed = syntax.parse(EVERYTHING)
    told = [(one.line, one.name, one.rest, one.flags, one.json) for one in parsed.instructions]
    assert told == [
        (5, "FROM", "python:3.11 AS base", [], None),
        (6, "RUN", "apt-get update &&     apt-get install git       && true", [], None),
        (14, "RUN", 'echo "a \\\\', [], None),
        (15, "ENV", 'A=1   B="x y"', [], None),
        (
            17,
            "RUN",
            "pip install x",
            [("mount", "type=cache,target=/a"), ("mount", "type=tmpfs,target=/b"), ("network", "host")],
            None,
        ),
        (18, "COPY", '["a b", "/c d/"]', [("chown", "me:me"), ("chmod", "755")], ["a b", "/c d/"]),
        (19, "COPY", '<<-"ONE" <<TWO /etc/', [], None),
        (25, "RUN", "<<EOF", [], None),
        (29, "RUN", "cat << EOF >/x && python3 <<'PY'", [], None),
        (34, "CMD", '["sh", "-c", "echo \\"hi\\""]', [], ["sh", "-c", 'echo "hi"']),
        (35, "CMD", "[not json]", [], None),
        (36, "LABEL", "a=b", [], None),
    ]
    documents = [(part.name, part.text, part.expand) for one in parsed.instructions for part in one.documents]
    assert documents == [
        ("ONE", "kept $HOME\n", False),
        ("TWO", "two # no comment\n\\\n", True),
        ("EOF", "#!/bin/sh\necho hi\n", True),
        ("EOF", "a\n", True),
        ("PY", "print(1)\n", False),
    ]


def test_a_port_of_dockers_own_parser_makes_the_same_of_it() -> None:
    e2b = pytest.importorskip("e2b_dockerfile_utils", reason="wants Python 3.11")
    theirs = e2b.parse_dockerfile_ast(EVERYTHING).instructions
    ours = syntax.parse(EVERYTHING).instructions
    assert [(one.start_line, one.name, one.json) for one in theirs] == [
        (one.line, one.name, one.json is not None) for one in ours
    ]
    for their, our in zip(theirs, ours, strict=True):
        assert their.flags == [f"--{key}={value}" for key, value in our.flags]
        assert [(part.name, part.expand) for part in their.heredocs] == [
            (part.name, part.expand) for part in our.documents
        ]
        texts = [e2b.chomp_heredoc_content(part.content) if part.chomp else part.content for part in their.heredocs]
        assert texts == [part.text for part in our.documents]
        if their.name == "RUN":
            assert their.args == [our.rest]


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    parsed = syntax.parse("\ufeffFROM a\r\nRUN b \\\r\n  c\r\n")
    assert [one.rest for one in parsed.instructions] == ["a", "b   c"]


def test_a_backtick_that_escapes() -> None:
    parsed = syntax.parse("# escape=`\nFROM a\nRUN dir C:\\ `\n  D:\\\n")
    assert parsed.escape == "`" and parsed.instructions[1].rest == "dir C:\\   D:\\"


def test_a_directive_below_a_comment_is_a_comment() -> None:
    assert syntax.parse("# hello\n# escape=`\nFROM a\n").escape == "\\"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("FROM a\nRUNN b\n", 2, "unknown instruction RUNN"),
        ("FROM a\n\nRUN <<EOF\nb\n", 3, "<<EOF is never closed"),
        ("# escape=x\nFROM a\n", 1, "only"),
        ("# escape=`\n# escape=`\nFROM a\n", 2, "a second directive"),
        ('FROM a\nCMD ["a", 1]\n', 2, "strings only"),
    ],
)
def test_what_can_not_be_read(text: str, line: int, said: str) -> None:
    with pytest.raises(syntax.Fault, match=said) as caught:
        syntax.parse(text)
    assert caught.value.line == line


def test_what_only_looks_like_a_here_document() -> None:
    parsed = syntax.parse('FROM a\nRUN x=$((1<<2)); echo "<<EOF" a<<b; cat <<<word\nCMD cat <<EOF\n')
    assert not any(one.documents for one in parsed.instructions)
