"""Which image a task runs in, and which of many have yet to be built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.config.schema import Site
from helpers.config.sites import load_site
from helpers.images import build, dockerfile, environments
from helpers.images.dockerfile import Environment
from helpers.lib.errors import ConfigError


def task(folder: Path, text: str | None = None, record: dict | None = None, name: str = "Dockerfile") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if text is not None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    if record is not None:
        (folder / "task.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def own_site(tmp_path: Path) -> Site:
    for name in ("images", "data", "tasks"):
        (tmp_path / name).mkdir()
    paths = [
        f"paths.{key}={tmp_path}/{folder}"
        for key, folder in (("containers", "images"), ("data", "data"), ("tasks", "tasks"))
    ]
    return load_site("local", [*paths, "container.runtime=apptainer"])


def test_what_a_task_runs_in(tmp_path: Path) -> None:
    assert environments.of_folder(task(tmp_path / "a", record={"image": None})) == "repository"
    assert environments.of_folder(task(tmp_path / "b", "FROM x\nUSER no\n", {"image": "own"})) == "own"
    made = environments.of_folder(task(tmp_path / "c", "FROM x\n", {"image": None}))
    assert isinstance(made, Environment) and made.context == tmp_path / "c"
    harbor = environments.of_folder(task(tmp_path / "d", "FROM x\n", name="environment/Dockerfile"))
    assert isinstance(harbor, Environment) and harbor.name == made.name and harbor.context == tmp_path / "d/environment"


@pytest.mark.parametrize("record", ['{"image": 1}', '{"image": "../x"}', '{"image": ""}', "[]", "{"])
def test_a_record_that_can_not_be_read(tmp_path: Path, record: str) -> None:
    (tmp_path / "tb_meta.json").write_text(record)
    with pytest.raises(ConfigError, match="tb_meta.json: "):
        environments.of_folder(tmp_path)


def test_where_a_task_is_looked_for(tmp_path: Path, own_site: Site) -> None:
    source = task(tmp_path / "tasks/one", "FROM x\n")
    assert environments.task_folder(own_site, "one") == source
    prepared = task(tmp_path / "data/one/prepared/public", record={})
    assert environments.task_folder(own_site, "one") == prepared
    assert environments.task_folder(own_site, str(source)) == source
    for unknown in ("two", str(tmp_path)):
        with pytest.raises(ConfigError, match=f"task {unknown}: there is neither a Dockerfile nor"):
            environments.task_folder(own_site, unknown)


def test_a_thousand_tasks_with_three_environments_want_three_images(tmp_path: Path, own_site: Site) -> None:
    kinds = ["FROM x\n", "FROM y\nCOPY data.txt /\n", "FROM z\nRUN true\n"]
    made = []
    for number in range(1000):
        folder = task(tmp_path / f"tasks/t-{number}", kinds[number % 3], name="environment/Dockerfile")
        (folder / "environment/data.txt").write_text("the same")
        made.append(environments.of_folder(folder))
    images = Path(own_site.paths.containers)
    assert [one.context.parent.name for one in environments.missing(made, images)] == ["t-0", "t-1", "t-2"]
    path = environments.path(made[1], images)
    path.parent.mkdir()
    path.touch()
    assert path.name == f"{made[1].digest[:16]}.sif"
    assert [one.context.parent.name for one in environments.missing(made, images)] == ["t-0", "t-2"]
    assert environments.missing([], images) == []


def test_the_fingerprint_tells_when_an_image_must_be_built_anew(tmp_path: Path) -> None:
    made = dockerfile.read(task(tmp_path, "FROM x\nCOPY Dockerfile /\n") / "Dockerfile")

    def fingerprint(*settings: str, of: Environment = made) -> str:
        site = load_site("local", list(settings))
        return build.environment_fingerprint(of, dockerfile.definition(of, site))

    base = tmp_path / "base.sif"
    base.write_text("1")
    bases = f"container.bases={{x: {base}}}"
    assert fingerprint() == fingerprint() != fingerprint("container.bases={x: docker://y}")
    before = fingerprint(bases)
    base.write_text("22")
    assert fingerprint(bases) != before
    task(tmp_path, "FROM x\nCOPY Dockerfile /\n# a comment\n")
    changed = dockerfile.read(tmp_path / "Dockerfile")  # which is copied itself
    assert changed.name != made.name and fingerprint(of=changed) != fingerprint()


def test_the_folder_that_a_build_sees(tmp_path: Path, own_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in build.CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    made = dockerfile.read(task(tmp_path / "t", "FROM x\nCOPY Dockerfile /a/\nWORKDIR /w\n") / "Dockerfile")
    (tmp_path / "images/environments").mkdir()
    (tmp_path / "mnt/context/9").mkdir(parents=True)  # of the image before
    build.stage_environment(own_site, made, tmp_path / "mnt")
    short = made.digest[:16]
    there = {str(path.relative_to(tmp_path / "mnt")) for path in (tmp_path / "mnt").rglob("*") if path.is_file()}
    assert there == {
        "context/1/Dockerfile",
        "env.sh",
        "pip.conf",
        *(f"{short}.{end}" for end in ("json", "labels", "note")),
    }
    facts = json.loads((tmp_path / f"mnt/{short}.json").read_text())
    assert facts["workdir"] == "/w" and facts["environment"] == made.digest and facts["image"] == made.name
    assert "hpc-agent-bench.workdir /w\n" in (tmp_path / f"mnt/{short}.labels").read_text()
    assert (tmp_path / f"images/{made.name}.def").read_text() == dockerfile.definition(made, own_site)
