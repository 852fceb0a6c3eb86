"""Every pointer in a message leads somewhere: chapters of the README, files, options, and keys of a site."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.config import schema
from helpers.tasks.cli import cli

ROOT = Path(__file__).resolve().parents[2]
SHELL = [*ROOT.glob("scripts_hpc/**/*.sh"), *ROOT.glob("containers/*.sh"), *ROOT.glob("templates/**/*.sh*")]
TEXT = [*ROOT.glob("site-config/*.yaml"), ROOT / ".env.example"]
FILE = re.compile(
    r"(?<![\w/}>])((?:scripts_hpc|containers|templates|site-config|tests|helpers|requirements|examples)/[\w./-]*\w)"
)
CHAPTER = re.compile(r"README, ([A-Z][\w' ]*\w)")
KEY = re.compile(
    r"(?<![\w./-])((?:paths|limits|jobs|partitions|scheduler|gpu|environment|container|network)(?:\.[a-z_*]*[a-z*])+)(?![\w.(/])"
)
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*[a-z])")
SCRIPTS = sorted([*ROOT.glob("scripts_hpc/*.sh"), ROOT / "containers" / "build_all_containers.sh"])
DEFINE = ("option", "add", "add_argument")
# Slurm's, Apptainer's, Dockerfiles', curl's, pip's, vLLM's and tar's, and those that our jobs give to our servers
# (`--option` stands for any)
OF_OTHERS = set(
    "--account --bind --constraint --exclude --gpus-per-node --gpus-per-task --gres --licenses --me --mem --partition --qos --reservation "
    "--disable-access-log-for-endpoints --chmod --chown --mount --writable-tmpfs "
    "--cacert --fail --fakeroot --filesystem --host --lora-modules --no-cache-dir --no-tokenizer --nv --rocm --port --log --option".split()
)


# what a task in Harbor's form holds, and its task.toml
OF_HARBOR = {"tests/test.sh", "tests/test_state.py", "environment.os", "environment.mcp_servers"}


def sentences() -> Iterator[tuple[str, str]]:
    """File and text of whatever a person may be told: strings with a blank in them, in Python; lines, elsewhere."""
    for path in sorted(ROOT.glob("helpers/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            if isinstance(node, ast.JoinedStr | ast.Constant) and " " in text:
                yield str(path.relative_to(ROOT)), text
    for path in sorted([*SHELL, *TEXT]):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield str(path.relative_to(ROOT)), line


@pytest.fixture(scope="module")
def told() -> list[tuple[str, str]]:
    return list(sentences())


def found(pattern: re.Pattern[str], told: list[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(where, match) for where, text in told for match in pattern.findall(text) if match not in OF_HARBOR}


def test_chapters_of_the_readme_are_there(told) -> None:
    chapters = re.findall(r"^#+ (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = found(CHAPTER, told)
    assert named
    assert {(where, name) for where, name in named if name not in chapters} == set()


def test_files_are_there(told) -> None:
    named = {(where, name) for where, name in found(FILE, told) if not name.endswith((".sif", ".def"))}
    assert len(named) > 20
    assert {(where, name) for where, name in named if not (ROOT / name).exists()} == set()


def test_keys_of_a_site_are_its_keys(told) -> None:
    def exists(key: str) -> bool:
        kind = schema.Site
        for part in key.split("."):
            fields = getattr(kind, "model_fields", {})
            matching = [name for name in fields if re.fullmatch(part.replace("*", ".*"), name)]
            if not matching:
                return False
            kind = fields[matching[0]].annotation
        return True

    named = {(where, key) for where, key in found(KEY, told) if not key.endswith(".sh")}
    assert len(named) > 30
    assert {(where, key) for where, key in named if not exists(key)} == set()


def header(script: Path) -> str:
    return script.read_text(encoding="utf-8").partition("\nset -")[0]


def test_options_are_known_to_a_command(told) -> None:
    taken = {option for script in SCRIPTS for option in OPTION.findall(header(script))}
    for path in ROOT.glob("helpers/**/*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        defining = (call for call in calls if ast.unparse(call.func).rpartition(".")[2] in DEFINE)
        words = (word for call in defining for word in call.args if isinstance(word, ast.Constant))
        taken |= {str(word.value) for word in words}
    taken |= {option for one in cli.commands.values() for param in one.params for option in param.opts}
    named = {(where, option) for where, option in found(OPTION, told) if where.endswith((".py", ".yaml"))}
    assert {(where, option) for where, option in named if option not in taken | OF_OTHERS} == set()


def test_a_command_that_is_named_takes_the_options_beside_it(told) -> None:
    """`scripts_hpc/prepare_tasks.sh X --site Y`, in messages and in the README."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    readme = [(page.name, line) for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    wrong = set()
    for where, text in [*told, *readme]:
        for script, rest in re.findall(r"((?:scripts_hpc|containers)/\w+\.sh)((?: [^`;,.)(|:]+)?)", text):
            known = header(ROOT / script)
            if script.endswith("prepare_tasks.sh"):
                known += (ROOT / "helpers/prepare/arguments.py").read_text(encoding="utf-8")
            wrong |= {(where, script, option) for option in OPTION.findall(rest) if option not in known}
    assert wrong == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_command_takes_the_options_that_the_readme_promises(script: Path) -> None:
    """README, A new cluster in five steps: `--site` and `--set section.key=value` override."""
    assert {"--site", "--set"} <= set(OPTION.findall(header(script)))


@pytest.mark.parametrize("verb", ["show", "validate"])
def test_the_commands_on_sites_take_them_too(verb: str) -> None:
    command = [sys.executable, "-m", "helpers", "site", verb, "--site", "della", "--set", "scheduler.account=mine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "valid\n" or "account: mine" in done.stdout
