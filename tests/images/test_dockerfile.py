"""A Dockerfile as a definition: what its steps do, what is refused and noted, what its digest is of."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from test_golden import check

from helpers.config.sites import load_site
from helpers.images import dockerfile
from helpers.images.docker.recipe import own_platform
from helpers.lib.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden"
SHELLS = [shell for shell in ("/bin/sh", "bash --posix", "busybox sh") if shutil.which(shell.split()[0])]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in GOLDEN.glob("*/Dockerfile")))
def test_golden(name: str, site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    made = dockerfile.read(GOLDEN / name / "Dockerfile")
    check(GOLDEN / name / "definition", dockerfile.definition(made, site).replace(made.digest[:16], "DIGEST"))


# ---- what the steps do


@pytest.mark.parametrize("shell", SHELLS)
def test_env_and_arg(write, build, shell: str) -> None:
    made = write(
        """\
ARG OUTER=o NOT_SEEN=n
FROM python
ARG OUTER
ARG PLAIN=p FROM_ENV=${A:-unset}
ENV A=1 B="x y" C='$A' D=a\\ b Q="it's"
ENV OLD all  of "this" $A
ENV A=2 COPY=$A
ENV PATH=/usr/x:$PATH LIBRARY=${LIBRARY:+$LIBRARY:}/lib BASE=${SET_BY_BASE:-no}
ARG A=arg LATE=$A
ENV FROM_ARG=${PLAIN}${NOT_SEEN}
RUN sh -c 'echo "$A|$B|$C|$D|$Q|$OLD|$COPY|$FROM_ARG|$PATH|$LIBRARY|$BASE"'
RUN sh -c 'echo "$OUTER|${NOT_SEEN-}|$PLAIN|$FROM_ENV|$LATE"'
RUN A=changed; export A; cd /tmp
RUN echo $A $https_proxy
"""
    )
    built = build(made, shell, {"SET_BY_BASE": "yes it's"})
    told = [line for line in built.said.splitlines() if not line.startswith("== ")]
    values = "2|x y|$A|a b|it's|all  of this 1|1|p|/usr/x:/usr/bin:/bin|/lib|yes it's"
    assert told == [values, "o||p|unset|2", "2 http://proxy:3128"]
    asked = 'echo "$A|$B|$C|$D|$Q|$OLD|$COPY|$FROM_ARG|$PATH|$LIBRARY|$BASE"'
    assert built.at_run_time(asked) == values + "\n"
    names = built.at_run_time("/usr/bin/env").splitlines()
    assert {name.partition("=")[0] for name in names} - {"PWD", "_", "SHLVL"} == set(made.recipe.names)


def test_what_the_base_image_sets_goes_before_arg(write, build) -> None:
    made = write('FROM x\nARG PYTHON_VERSION=3.11\nENV V=$PYTHON_VERSION\nRUN echo "$PYTHON_VERSION"\n')
    built = build(made, base={"PYTHON_VERSION": "3.11.9"})
    assert "\n3.11.9\n" in built.said and built.at_run_time("echo $V") == "3.11.9\n"


def test_an_arg_that_the_base_image_sets_to_something_else_fails(write, build) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        build(write("FROM x\nARG APP=/@/app\nWORKDIR $APP\n"), base={"APP": "/other"})
    assert "line 3 uses the ARG APP, but the base image sets a variable APP of its own" in caught.value.stderr


def test_build_arguments(write, build) -> None:
    text = "ARG V=1\nFROM python:$V\nARG V\nARG W=w\nRUN echo $V $W\n"
    assert write(text).recipe.base == "python:1"
    made = write(text, V="2", W="it's")
    assert made.recipe.base == "python:2" and "2 it's\n" in build(made).said
    with pytest.raises(ConfigError, match="build argument X: there is no ARG of that name"):
        write(text, X="1")


def test_arg_by_docker_s_own_examples(write, build) -> None:
    # https://docs.docker.com/reference/dockerfile/#using-arg-variables
    made = write("FROM x\nARG VERSION\nENV VERSION=v1.0.0\nRUN echo is $VERSION\n", VERSION="v2.0.1")
    assert "is v1.0.0\n" in build(made).said


def test_arg_with_a_default_in_env(write, build) -> None:
    text = "FROM x\nARG VERSION\nENV VERSION=${VERSION:-v1.0.0}\nRUN echo is $VERSION\n"
    assert "is v1.0.0\n" in build(write(text)).said


def test_platform_arguments(write, build) -> None:
    text = "FROM --platform=$BUILDPLATFORM x\nARG TARGETPLATFORM TARGETVARIANT\nRUN echo $TARGETPLATFORM,$TARGETVARIANT,$TARGETOS\n"
    assert f"{own_platform()},,\n" in build(write(text)).said


@pytest.mark.parametrize("shell", SHELLS)
def test_run_copy_and_workdir_in_their_order(write, build, shell: str) -> None:
    made = write(
        """\
FROM x
WORKDIR /@/a
WORKDIR b/../c
RUN pwd; ls
COPY one.txt .
COPY one.txt renamed
RUN ls; rm renamed
COPY src src/
COPY src/*.py one.txt new/
COPY --chmod=700 run.sh /@/bin/run
COPY ["with blank", "/@/to here/"]
ENV CONF=/@/etc
COPY <<EOF <<"RAW" $CONF/
conf=$CONF \\$HOME "quoted"
EOF
$CONF
RAW
COPY --chmod=750 src /@/modes
RUN ls -A src new; cat ../../bin/run
""",
        {"one.txt": "1", "src/a.py": "a", "src/deep/b.txt": "b", "src/.hid": "h", "run.sh": "#!", "with blank": "w"},
    )
    built = build(made, shell)
    told = [line for line in built.said.splitlines() if not line.startswith("== ")]
    listed = ["one.txt", "renamed", "new:", "a.py", "one.txt", "", "src:", ".hid", "a.py", "deep", "#!"]
    assert told == [f"{built.root}/a/c", *listed]
    assert built.text("to here/with blank") == "w" and built.text("a/c/src/deep/b.txt") == "b"
    # staged with the folder's name as it was before the build
    assert built.text("etc/EOF") == 'conf=/@/etc $HOME "quoted"\n' and built.text("etc/RAW") == "$CONF\n"
    assert [oct((built.root / name).stat().st_mode)[-3:] for name in ("bin/run", "modes/a.py", "modes/deep")] == [
        "700",
        "750",
        "750",
    ]
    assert made.recipe.workdir == "/@/a/c"


def test_a_folder_that_is_there_keeps_what_it_holds_and_its_rights(write, build) -> None:
    made = write(
        "FROM x\nRUN mkdir -m 700 -p /@/d/deep && echo old >/@/d/deep/old && chmod 700 /@/d\nCOPY src /@/d\n",
        {"src/deep/new": "n", "src/top": "t"},
    )
    built = build(made)
    assert built.text("d/deep/old") == "old\n" and built.text("d/deep/new") == "n" and built.text("d/top") == "t"
    assert oct((built.root / "d").stat().st_mode)[-3:] == "700"


@pytest.mark.parametrize("shell", SHELLS)
def test_forms_of_run(write, build, shell: str) -> None:
    built = build(
        write(
            """\
FROM x
RUN false; echo goes on
RUN ["echo", "no $SHELL", "it's"]
RUN <<EOF
echo one
echo 'two {{ x }}'
EOF
RUN <<EOF
#!/usr/bin/env python3
print("python")
EOF
RUN cat <<EOF - && cat <<-'TABS'
$((1 + 1))
%post
  %test
EOF
\tkept $HOME
TABS
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
RUN [[ -n $BASH_VERSION ]] && echo bash
"""
        ),
        shell,
    )
    told = [line for line in built.said.splitlines() if not line.startswith("== ")]
    assert told == [
        "goes on",
        "no $SHELL it's",
        "one",
        "two {{ x }}",
        "python",
        "2",
        "%post",
        "  %test",
        "kept $HOME",
        "bash",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RUN true && \\\n  false", "line 2: RUN true && false ended with exit code 1"),
        ("RUN exit 7", "line 2: RUN exit 7 ended with exit code 7"),
        (
            'SHELL ["/bin/bash", "-eo", "pipefail", "-c"]\nRUN false | true',
            "line 3: RUN false | true ended with exit code 1",
        ),
        ('ENV A="${UNSET_HERE:?it must be there}"', "it must be there"),
    ],
)
def test_a_step_that_fails_ends_the_build(write, build, text: str, said: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        build(write(f"FROM x\n{text}\nRUN echo never\n"))
    assert said in caught.value.stderr and "never" not in caught.value.stdout


def test_cmd(write, site) -> None:
    def runs(text: str) -> str:
        return dockerfile.definition(write(f"FROM x\nWORKDIR /app\n{text}\n"), site).partition("%runscript\n")[2]

    head = '  cd /app || exit\n  [ $# = 0 ] || exec "$@"\n'
    assert runs('CMD ["a", "b c"]') == f"{head}  exec a 'b c'\n"
    assert runs("CMD first\nCMD a | b") == f"{head}  exec /bin/sh -c 'a | b'\n"
    assert runs('SHELL ["/bin/bash", "-c"]\nCMD a') == f"{head}  exec /bin/bash -c a\n"
    assert runs("CMD []") == runs("RUN true") == ""


# ---- what is refused, and what is noted

ONE_STAGE = "only Dockerfiles of one stage are built here"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("FROM x\nFROM y", 2, ONE_STAGE),
        ("FROM x\nCOPY --from=y /a /b", 2, ONE_STAGE),
        ('FROM x\nRUN true\nENTRYPOINT ["a"]', 3, "say it as CMD"),
        ("FROM x\nHEALTHCHECK CMD true", 2, "leave it out"),
        ("FROM x\nONBUILD RUN true", 2, "leave it out"),
        ("FROM x\nVOLUME /data", 2, "RUN mkdir -p makes the folder"),
        ("FROM x\nUSER app", 2, "USER app: whoever runs an image is its user here"),
        ("FROM scratch", 1, "an image without a shell"),
        ("FROM --platform=linux/riscv64 x", 1, "images are built for the machine that builds them"),
        ("RUN true", 1, "RUN before FROM"),
        ("# nothing", 1, "there is no FROM"),
        ("FROM x y", 1, "wants an image's name"),
        ("FROM ${NONE}", 1, "wants an image's name"),
        ("FROM x\nRUN --mount=type=secret,id=a true", 2, "only mounts of type cache and tmpfs"),
        ("FROM x\nRUN --mount=target=/a true", 2, "only mounts of type cache and tmpfs"),
        ("FROM x\nRUN --network=none true", 2, "only mounts of type cache and tmpfs"),
        ("FROM x\nADD https://example.org/a /a", 2, "fetch it with RUN curl"),
        ("FROM x\nADD git@example.org:a/b.git /a", 2, "fetch it with RUN curl"),
        ("FROM x\nADD a.tar.gz /a", 2, "unpack it with RUN tar"),
        ("FROM x\nCOPY none /a", 2, "there is no none in"),
        ("FROM x\nCOPY ../a /a", 2, "outside of the Dockerfile's folder"),
        ("FROM x\nCOPY a.txt", 2, "wants sources and a destination"),
        ("FROM x\nCOPY a.txt b.txt /a", 2, "a destination that ends with /"),
        ("FROM x\nCOPY *.txt /a", 2, "a destination that ends with /"),
        ("FROM x\nCOPY $WHAT /a", 2, "the value of WHAT isn't set in this Dockerfile"),
        ("FROM x\nWORKDIR $HOME", 2, "the value of HOME isn't set in this Dockerfile"),
        ("FROM x\nWORKDIR /mnt/a", 2, "choose another folder"),
        ("FROM x\nCOPY a.txt /mnt/", 2, "choose another folder"),
        ("FROM x\nCOPY --chmod=u+x a.txt /a", 2, "an octal number"),
        ("FROM x\nCOPY --parents a.txt /a/", 2, "--parents: isn't done here"),
        ("FROM x\nENV A", 2, "wants name=value"),
        ("FROM x\nENV A=1 B", 2, "wants name=value"),
        ("FROM x\nENV a.b=1", 2, "no name that a shell can export"),
        ("FROM x\nENV A='1", 2, "never closed"),
        ("FROM x\nENV A=${PATH#/}", 2, "whose value stands in the Dockerfile"),
        ("FROM x\nSHELL bash", 2, "wants a JSON list"),
        ("FROM x\nRUN", 2, "nothing to run"),
        ("FROM x\nTYPO a", 2, "unknown instruction TYPO"),
    ],
)
def test_refused(write, tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "context").mkdir()
    subprocess.run(
        ["tar", "-czf", tmp_path / "context/a.tar.gz", "/etc/hostname"], check=True, stderr=subprocess.DEVNULL
    )
    with pytest.raises(ConfigError) as caught:
        write(text + "\n", {"a.txt": "", "b.txt": ""})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{tmp_path}/context/Dockerfile:{line}: ") and said in str(caught.value)
    assert caught.value.problems[0].endswith(".") and not caught.value.problems[0].endswith("..")


def test_all_that_is_wrong_is_told_at_once(write) -> None:
    with pytest.raises(ConfigError) as caught:
        write("FROM x\nVOLUME /a\nCOPY none /\nUSER me\nENTRYPOINT a\n")
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["2", "3", "4", "5"]


def test_no_text(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"FROM x\n\xff\xfe")
    with pytest.raises(ConfigError, match="is no text in UTF-8"):
        dockerfile.read(tmp_path / "Dockerfile")
    (tmp_path / "Dockerfile").write_text("#" * 2**21)
    with pytest.raises(ConfigError, match="has more than 1 MB"):
        dockerfile.read(tmp_path / "Dockerfile")


def test_what_does_no_harm_is_noted(write, site) -> None:
    made = write(
        "FROM x\nEXPOSE 80\nLABEL a=b\nMAINTAINER me\nSTOPSIGNAL 9\nUSER root\nUSER 0:0\nHEALTHCHECK NONE\nENTRYPOINT []\n"
        "RUN --mount=type=cache,target=/c true\nCOPY --chown=a:b --link a.txt /x/\nCOPY *.none /y\nADD a.txt /z\n",
        {"a.txt": ""},
    )
    assert [note.split(" ")[1] for note in made.recipe.notes] == ["2:", "3:", "4:", "5:", "10:", "11:", "12:"]
    assert all(f"# {note}\n" in dockerfile.definition(made, site) for note in made.recipe.notes)


# ---- the base, and the digest


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("python", "docker://python"),
        ("python:3.11", "/images/python.sif"),
        ("docker.io/library/python:3.11", "/images/python.sif"),
        ("ghcr.io/a/b:1", "docker://mirror/ghcr/a/b:1"),
        ("ghcr.io/special/b", "docker://other/b:latest"),
        ("localhost:5000/a", "docker://localhost:5000/a"),
        ("a/b@sha256:00", "docker://a/b@sha256:00"),
    ],
)
def test_where_a_site_has_the_base(image: str, place: str) -> None:
    bases = "{python:3.11: /images/python.sif, ghcr.io/: docker://mirror/ghcr/, ghcr.io/special/: docker://other/}"
    assert dockerfile.base(image, load_site("local", [f"container.bases={bases}"])) == place


def test_the_digest_is_of_what_makes_the_image(write) -> None:
    text = "FROM x\nARG A\nCOPY src /src\nRUN true\n"
    files = {"src/a": "1", "other": "1"}
    first = write(text, files).digest
    assert write("# a comment\n\n" + text, files | {"other": "2"}).digest == first
    assert write(text, files, A="1").digest not in (first, write(text, files, A="2").digest)
    assert write(text.replace("true", "false"), files).digest != first
    assert write(text, files | {"src/a": "2"}).digest != first
    made = write(text, files)
    (made.context / "src/a").chmod(0o755)
    assert dockerfile.read(made.dockerfile).digest != first
    (made.context / "src/a").chmod(0o600)
    assert dockerfile.read(made.dockerfile).digest == first
    (made.context / "src/b").touch()
    assert dockerfile.read(made.dockerfile).digest != first
    (made.context / ".dockerignore").write_text("src/b")
    assert dockerfile.read(made.dockerfile).digest == first
    assert made.name == f"environments/{first[:16]}"
