"""What a task's folder says: the newest form of task.toml and the older one, what is wrong with it, and its digests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_tasks import make

from helpers.datagen import harbor_task
from helpers.lib.errors import ConfigError

NEW = """
schema_version = "1.4"
artifacts = ["/app/out"]
multi_step_reward_strategy = "mean"

[task]
name = "org/sort-words"
version = "2"
keywords = ["shell"]
authors = [{name = "A"}]

[metadata]
difficulty = "easy"

[agent]
timeout_sec = 120
user = 1000

[verifier]
timeout_sec = 30.5
env = {MODE = "strict"}

[environment]
docker_image = "ubuntu:24.04"
cpus = 2
memory_mb = 4096
network_mode = "no-network"
workdir = "/work"
env = {LANG = "C"}
shm_size = "1G"

[solution]
env = {SEED = "1"}
"""
OLD = """
version = "1.0"

[metadata]
author_name = "A"
tags = ["sandbox"]

[agent]
timeout_sec = 900.0

[verifier]
restart_environment = false
timeout_sec = 720.0

[environment]
memory = "2G"
storage = "10240M"
allow_internet = false
"""


def test_the_newest_form(tmp_path: Path) -> None:
    task = harbor_task.read(make(tmp_path / "a", config=NEW))
    assert (task.schema_version, task.name, task.task.version) == ("1.4", "org/sort-words", "2")  # type: ignore[union-attr]
    assert (task.agent.timeout_sec, task.agent.user, task.verifier.timeout_sec) == (120, 1000, 30.5)
    assert task.verifier.env == {"MODE": "strict"} and not task.verifier.is_separate
    environment = task.environment
    assert (environment.docker_image, environment.cpus, environment.memory_mb) == ("ubuntu:24.04", 2, 4096)
    assert (environment.network_mode, environment.workdir, environment.env) == ("no-network", "/work", {"LANG": "C"})
    assert task.solution.env == {"SEED": "1"} and task.metadata == {"difficulty": "easy"}
    assert task.instruction == "Do it.\n"
    assert task.dockerfile is None and not task.has_solution
    # nobody knows them, and nobody loses them
    assert environment.model_extra == {"shm_size": "1G"}
    assert task.model_extra == {"multi_step_reward_strategy": "mean"}


def test_the_older_form(tmp_path: Path) -> None:
    task = harbor_task.read(make(tmp_path / "nl2bash-0001", config=OLD, solution__solve_sh="true\n"))
    assert (task.schema_version, task.name, task.task) == ("1.0", "nl2bash-0001", None)
    assert (task.agent.timeout_sec, task.verifier.timeout_sec) == (900, 720)
    assert (task.environment.memory_mb, task.environment.storage_mb) == (2048, 10240)
    assert task.environment.network_mode == "no-network"
    assert task.verifier.model_extra == {"restart_environment": False}
    assert task.dockerfile == tmp_path / "nl2bash-0001" / "environment" / "Dockerfile" and task.has_solution


def test_what_an_empty_one_means(tmp_path: Path) -> None:
    task = harbor_task.read(make(tmp_path / "a", config=""))
    assert (task.agent.timeout_sec, task.verifier.timeout_sec, task.environment.build_timeout_sec) == (None, 600, 600)
    assert task.environment.network_mode == "public"


@pytest.mark.parametrize(
    "config, said",
    [
        ("x = ", "isn't valid TOML: "),
        (
            '[task]\nname = "no-org"',
            "task.name: wants org/name, of letters, digits, '.', '_' and '-' (found 'no-org').",
        ),
        ("[task]\n", "task.name: must be set."),
        ("[agent]\ntimeout_sec = nan", "agent.timeout_sec: wants a positive number of seconds (found nan)."),
        ("[agent]\ntimeout_sec = 0", "agent.timeout_sec: wants a positive number of seconds (found 0)."),
        ('[environment]\nmemory = "much"', "environment: memory wants a size like '2G' or '512M' ("),
        (
            '[environment]\nnetwork_mode = "some"',
            "environment.network_mode: Input should be 'public', 'no-network' or 'allowlist'",
        ),
        ('agent = "me"', "agent: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_key(tmp_path: Path, config: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        harbor_task.read(make(tmp_path / "a", config=config))
    assert str(error.value).startswith(f"{tmp_path}/a/task.toml: {said}")


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        harbor_task.read(make(tmp_path / "a", config='[task]\nname = "x"\n[agent]\ntimeout_sec = -1'))
    assert len(error.value.problems) == 2


def test_a_task_that_can_run(tmp_path: Path) -> None:
    assert harbor_task.check(make(tmp_path / "a")) == []
    shutil.rmtree(make(tmp_path / "b", config=NEW) / "environment")
    assert harbor_task.check(tmp_path / "b") == []


def test_what_keeps_one_from_running(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", instruction=" \n")
    (folder / "tests" / "test.sh").unlink()
    (folder / "environment" / "Dockerfile").unlink()
    assert harbor_task.check(folder) == [
        f"{folder}/instruction.md: is empty.",
        f"{folder}/tests/test.sh: isn't there: without it nothing says whether the task was done.",
        f"{folder}/environment/Dockerfile: isn't there, and task.toml names no environment.docker_image.",
    ]
    (folder / "instruction.md").write_bytes(b"\xff")
    assert harbor_task.check(folder)[0] == f"{folder}/instruction.md: is no text in UTF-8, or too large."
    for name in ("instruction.md", "task.toml"):
        (folder / name).unlink()
    assert harbor_task.check(folder)[:2] == [
        f"{folder}/task.toml: isn't there.",
        f"{folder}/instruction.md: isn't there.",
    ]
    (folder / "link").symlink_to("instruction.md")
    assert harbor_task.check(folder) == [
        f"{folder}/link is a link: a task's folder holds files and folders alone. Put a copy in its place."
    ]


@pytest.mark.parametrize(
    "config, said",
    [
        (
            '[verifier]\nenvironment_mode = "separate"',
            "task.toml: verifier.environment_mode: tests run in the agent's environment",
        ),
        (
            "[verifier.environment]\ncpus = 1",
            "task.toml: verifier.environment_mode: tests run in the agent's environment",
        ),
        ('[environment]\nos = "Windows"', "task.toml: environment.os: windows: tasks for linux alone"),
        ('[[environment.mcp_servers]]\nname = "x"', "task.toml: environment.mcp_servers: no servers run"),
        ('[[steps]]\nname = "one"', ": has several steps (steps/)"),
    ],
)
def test_what_harbor_has_and_this_has_not(tmp_path: Path, config: str, said: str) -> None:
    (problem,) = harbor_task.check(make(tmp_path / "a", config=config))
    assert said in problem


def test_digests_tell_names_rights_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    first = harbor_task.digest(make(tmp_path / "a"))
    assert harbor_task.digest(make(tmp_path / "other" / "a")) == first
    (tmp_path / "a" / "instruction.md").chmod(0o640)
    assert harbor_task.digest(tmp_path / "a") == first
    seen = {first}
    (tmp_path / "a" / "instruction.md").chmod(0o755)
    seen.add(harbor_task.digest(tmp_path / "a"))
    (tmp_path / "a" / "instruction.md").write_text("Do it!\n")
    seen.add(harbor_task.digest(tmp_path / "a"))
    (tmp_path / "a" / "more").mkdir()
    seen.add(harbor_task.digest(tmp_path / "a"))
    assert len(seen) == 4


def test_the_digest_of_an_environment(tmp_path: Path) -> None:
    same = [harbor_task.environment_digest(make(tmp_path / name, instruction=name)) for name in ("a", "b")]
    other = harbor_task.environment_digest(make(tmp_path / "c", environment__data_csv="1"))
    image = [harbor_task.environment_digest(make(tmp_path / name, config=NEW)) for name in ("d", "e")]
    assert same[0] == same[1] and image[0] == image[1] and len({same[0], other, image[0]}) == 3
