"""A prepared repository task with overrides: every key, their precedence, and an instance that is made once, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upstream import Upstream, contents, git, make_task, meta, modes

from helpers.data import layout
from helpers.lib import folders
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.repositories import instance, prepare

ROOT = Path(__file__).resolve().parents[2]
FILES: dict[str, str | bytes] = {
    "README.md": "read me\n",
    ".hidden": "h",
    "app.log": "log",
    "src/main.py": "print(1)\n",
    "src/deep/x.log": "log",
    "docs/a.md": "a",
    "docs/b/c.md": "c",
    "packages/web/app.js": "js",
    "packages/web/docs/d.md": "d",
    "packages/api/api.py": "py",
}


class World:
    """A data folder with one prepared task, whose repository has FILES, a program and a link."""

    def __init__(self, folder: Path):
        self.folder, self.data = folder, folder / "data"
        self.upstream = Upstream(folder / "upstream")
        (self.upstream.folder / "run.sh").write_text("#!/bin/sh\n")
        (self.upstream.folder / "run.sh").chmod(0o755)
        (self.upstream.folder / "link").symlink_to("docs")
        self.commit = self.upstream.commit(FILES)

    def prepare(
        self, overrides: dict[str, Any] | None = None, repo: dict[str, Any] | None = None, **files: str
    ) -> Path:
        """Prepare the task as the backend does, over what is there."""
        data = meta(self.upstream.folder, self.commit, **(repo or {}))
        folders.remove(self.folder / "tasks")
        task = make_task(self.folder / "tasks" / "toy", data, overrides, **files)
        with layout.staging(self.data, "toy") as made:
            prepare.prepare(task, "toy", made)
            layout.publish(made / "toy", self.data, "toy", "repository")
        return layout.prepared(self.data, "toy")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def files_of(made: Path) -> dict[str, str]:
    return contents(made / "public" / "base.git")


ALL = {**FILES, "run.sh": "#!/bin/sh", "link": "docs"}


def wrong(prepared: Path, overrides: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as told:
        instance.make(prepared, overrides)
    assert not list(prepared.parent.glob("instances/*"))
    return "\n".join(told.value.problems)


def test_without_overrides_it_is_the_task(world: World) -> None:
    prepared = world.prepare()
    made = instance.make(prepared)
    assert made.parent == world.data / "toy" / "instances"
    assert set(files_of(made)) == set(ALL) and modes(made / "public/base.git")["link"] == "120000"
    assert sorted(path.name for path in (made / "public").iterdir()) == [
        "base.git",
        "description.md",
        "repo_info.json",
        "task.json",
    ]
    assert (made / "public/description.md").read_text() == "Mend it.\n"
    info = json.loads((made / "public/repo_info.json").read_text())
    base = git(made / "public/base.git", "rev-parse", "task")
    assert info == {
        "git_url": str(world.upstream.folder),
        "commit": world.commit,
        "base": base,
        "subdir": None,
        "overrides_sha256": None,
    }
    assert base == git(prepared / "public/repo.git", "rev-parse", "task")  # the same files, the same commit
    assert json.loads((made / "private/evaluation.json").read_text()) == {
        "rubrics": [{"id": "works", "criterion": "it works", "weight": 1.0}],
        "test_scripts": [{"path": "works.sh", "rubric_id": "works"}],
    }
    assert (made / "private/tests/works.sh").read_text() == "SECRET=answer-of-42\n"
    assert json.loads((made / "private/variables.json").read_text()) == {}
    assert (made / "private").stat().st_mode & 0o777 == 0o700
    git(made / "public/base.git", "fsck", "--strict", "--full")


def test_an_agent_can_clone_it(world: World) -> None:
    made = instance.make(world.prepare(), {"remove_repo_paths": ["docs/"]})
    git(world.folder, "clone", "--quiet", str(made / "public/base.git"), "copy")
    assert git(world.folder / "copy", "status", "--porcelain") == ""
    assert git(world.folder / "copy", "log", "--format=%an %s") == "task task"
    assert os.access(world.folder / "copy/run.sh", os.X_OK) and not (world.folder / "copy/docs").exists()


@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        (["README.md"], {"README.md"}),
        (["docs/"], {"docs/a.md", "docs/b/c.md"}),
        (["docs"], {"docs/a.md", "docs/b/c.md"}),
        (["*.log"], {"app.log", "src/deep/x.log"}),
        (["docs/*"], {"docs/a.md", "docs/b/c.md"}),
        (["**/*.md"], {"README.md", "docs/a.md", "docs/b/c.md", "packages/web/docs/d.md"}),
        ([".hidden", "link"], {".hidden", "link"}),
        ([".*"], {".hidden"}),
        (["*"], set(ALL)),
    ],
)
def test_remove_repo_paths(world: World, patterns: list[str], gone: set[str]) -> None:
    made = instance.make(world.prepare(), {"remove_repo_paths": patterns})
    assert set(files_of(made)) == set(ALL) - gone
    assert instance.notes(made) == []
    for name in git(made / "public/base.git", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split():
        assert name in git(
            made / "public/base.git", "rev-list", "--objects", "task"
        )  # what is removed is not there, either


def test_what_removes_nothing_is_noted(world: World) -> None:
    made = instance.make(world.prepare(), {"remove_repo_paths": ["nope", "README.md/", ".git", "*.pyc", "app.log"]})
    assert set(files_of(made)) == set(ALL) - {"app.log"}
    assert instance.notes(made) == [
        "remove_repo_paths: '.git': the history is cut off anyway",
        "remove_repo_paths: 'nope' matches nothing",
        "remove_repo_paths: 'README.md/' matches nothing",
        "remove_repo_paths: '*.pyc' matches nothing",
    ]


def test_inject_files(world: World) -> None:
    files = [
        {"path": "AGENTS.md", "content": "guide"},
        {"path": "new/deep/x.txt", "content": "line\r\n"},
        {"path": "run.sh", "content": "echo"},
        {"path": "go.sh", "content": "#!/bin/sh\n"},
        {"path": ".gitattributes", "content": "* text=auto eol=lf filter=evil\n"},
        {"path": "link", "content": "no link now"},
    ]
    made = instance.make(world.prepare(), {"inject_files": files})
    found, mode = files_of(made), modes(made / "public/base.git")
    assert found["AGENTS.md"] == "guide" and found["link"] == "no link now" and mode["link"] == "100644"
    assert mode["run.sh"] == mode["go.sh"] == "100755" and mode["AGENTS.md"] == "100644"
    blob = ["git", "-C", made / "public/base.git", "cat-file", "blob", "task:new/deep/x.txt"]
    assert subprocess.run(blob, stdout=subprocess.PIPE).stdout == b"line\r\n"


def test_overlays_of_the_task_and_of_overrides(world: World) -> None:
    prepared = world.prepare(
        overlay_files__A_dot_txt="a",
        overlay_files__B_dot_txt="b",
        overlay_repo_files__B_dot_txt="b of repo",
        overlay_repo_files__src__main_dot_py="changed",
        overlay_files__box_bootstrap_dot_sh="#!",
        overlay_files__LM_INSTRUCTIONS_dot_md="Told beside.",
    )
    found = files_of(made := instance.make(prepared))
    assert (found["A.txt"], found["B.txt"], found["src/main.py"]) == ("a", "b of repo", "changed")
    assert "box_bootstrap.sh" not in found and "LM_INSTRUCTIONS.md" not in found
    assert (made / "public/description.md").read_text() == "Told beside.\n"
    overrides = {
        "overlay_files": {"A.txt": "a2", "LM_INSTRUCTIONS.md": "Other."},
        "overlay_repo_files": {"B.txt": "b2"},
    }
    found = files_of(made := instance.make(prepared, overrides))
    assert (found["A.txt"], found["B.txt"]) == ("a2", "b2") and "LM_INSTRUCTIONS.md" not in found
    assert (made / "public/description.md").read_text() == "Other.\n"


def test_a_link_and_a_program_in_an_overlay_stay_so(world: World) -> None:
    folder = world.folder / "extra"
    folder.mkdir()
    task = make_task(world.folder / "own" / "toy", meta(world.upstream.folder, world.commit), overlay_repo_files__p="x")
    (task / "overlay_repo_files/p").chmod(0o755)
    (task / "overlay_repo_files/l").symlink_to("p")
    (folder / "toy").mkdir()
    prepare.prepare(task, "toy", folder)
    mode = modes(instance.make(layout.prepared(folder, "toy")) / "public/base.git")
    assert mode["p"] == "100755" and mode["l"] == "120000"


@pytest.mark.parametrize("of_the_task", [True, False])
def test_subdir_and_sparse_checkout(world: World, of_the_task: bool) -> None:
    def files(**repo: Any) -> set[str]:
        more: dict[str, Any] = {"inject_files": [{"path": "AGENTS.md", "content": "x"}]}
        if of_the_task:
            made = instance.make(world.prepare(repo=repo), more)
        else:
            made = instance.make(world.prepare(), {**more, "repo": repo})
        assert json.loads((made / "public/repo_info.json").read_text())["subdir"] == repo.get("subdir")
        return set(files_of(made)) - {"AGENTS.md"}

    web = {"packages/web/app.js", "packages/web/docs/d.md"}
    assert files(subdir="packages/web") == web
    assert files(sparse_checkout=["packages/web/", "README.md"]) == {*web, "README.md"}
    assert files(subdir="packages/web", sparse_checkout=["packages/web/", "run.sh"]) == {*web, "run.sh"}
    assert files(sparse_checkout=[]) == set(ALL)


def test_overrides_widen_what_the_task_narrows(world: World) -> None:
    prepared = world.prepare(repo={"subdir": "packages/web"})
    assert set(files_of(instance.make(prepared, {"repo": {"subdir": ""}}))) == set(ALL)
    assert set(files_of(instance.make(prepared, {"repo": {"subdir": "packages/api"}}))) == {"packages/api/api.py"}
    assert len(files_of(instance.make(prepared, {"repo": {"branch": None}}))) == 2


def test_what_a_repo_override_says_of_another_repository_is_refused(world: World) -> None:
    prepared = world.prepare()
    same = {"git_url": f"{world.upstream.folder}/", "start_commit_sha": world.commit[:9], "end_commit_sha": "f" * 40}
    assert set(files_of(instance.make(prepared, {"repo": same}))) == set(ALL)
    folders.remove(prepared.parent / "instances")
    said = wrong(
        prepared, {"repo": {"git_url": "https://example.org/other", "start_commit_sha": "f" * 40, "branch": "dev"}}
    )
    assert said.count("the task was prepared with") == 3 and "write it into a tb_meta.json of its own" in said


@pytest.mark.parametrize("key", ["prompt", "lm_instructions"])
def test_the_prompt_is_replaced(world: World, key: str) -> None:
    assert (instance.make(world.prepare(), {key: "Do that."}) / "public/description.md").read_text() == "Do that.\n"


def test_variables_are_kept_for_agents(world: World) -> None:
    made = instance.make(world.prepare(), {"environment_variables": {"DEBUG": "true", "N": 3}})
    assert json.loads((made / "private/variables.json").read_text()) == {"DEBUG": "true", "N": "3"}


def test_judging_is_replaced(world: World) -> None:
    prepared = world.prepare(evaluation__data__in_dot_txt="in", evaluation__more_dot_sh="echo more")

    def judged(**overrides: Any) -> tuple[list[str], list[str], set[str]]:
        private = instance.make(prepared, overrides) / "private"
        told = json.loads((private / "evaluation.json").read_text())
        tests = {str(path.relative_to(private / "tests")) for path in (private / "tests").rglob("*") if path.is_file()}
        return [one["id"] for one in told["rubrics"]], [one["path"] for one in told["test_scripts"]], tests

    beside = {"data/in.txt", "more.sh"}
    script = {"path": "t/new.sh", "content": "#!/bin/sh\n", "rubric_id": "b"}
    assert judged() == (["works"], ["works.sh"], {*beside, "works.sh"})
    both = {"rubrics": [{"id": "b"}], "test_scripts": [script]}
    assert judged(evaluation=both) == judged(**both) == (["b"], ["t/new.sh"], {*beside, "t/new.sh"})
    assert os.access(instance.make(prepared, both) / "private/tests/t/new.sh", os.X_OK)
    assert judged(test_scripts=[{"path": "more.sh", "rubric_id": "works"}]) == (["works"], ["more.sh"], beside)
    assert judged(rubrics=[{"id": "works", "weight": 2}, {"id": "c"}])[:2] == (["works", "c"], ["works.sh"])


def test_judging_that_does_not_fit_together_is_refused(world: World) -> None:
    prepared = world.prepare(evaluation__data_dot_txt="in")
    assert "there is no rubric 'works'; there are: b" in wrong(prepared, {"rubrics": [{"id": "b"}]})
    said = wrong(prepared, {"test_scripts": [{"path": "no.sh", "rubric_id": "works"}]})
    assert "has no content, and there is no evaluation/no.sh" in said
    said = wrong(prepared, {"test_scripts": [{"path": "data.txt/x", "content": "", "rubric_id": "works"}]})
    assert "another file, or a folder of one, has that path" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["link/x"], "'link/x' leads through 'link', which is a link in the repository"),
        (["README.md/x"], "leads through 'README.md', which is a file"),
        (["docs"], "'docs' is a folder in the repository: remove it first"),
        (["new", "new/x"], "leads through 'new', which is a file"),
        (["new/x", "new"], "'new' is a folder"),
    ],
)
@pytest.mark.parametrize("key", ["inject_files", "overlay_files", "overlay_repo_files"])
def test_what_stands_in_the_way_is_told(world: World, key: str, files: list[str], said: str) -> None:
    texts: Any = dict.fromkeys(files, "x")
    if key == "inject_files":
        texts = [{"path": name, "content": "x"} for name in files]
    told = wrong(world.prepare(), {key: texts})
    assert said in told and told.startswith(f"{key}: ")


def test_what_is_removed_first_is_not_in_the_way(world: World) -> None:
    overrides = {
        "remove_repo_paths": ["docs", "link"],
        "inject_files": [{"path": name, "content": "x"} for name in ("docs", "link/x")],
    }
    found = files_of(instance.make(world.prepare(), overrides))
    assert found["docs"] == "x" and found["link/x"] == "x"


def test_the_own_overrides_are_replaced_not_merged(world: World) -> None:
    own = {
        "remove_repo_paths": ["docs/"],
        "prompt": "Own.",
        "rubrics": [{"id": "works", "weight": 7}],
        "environment_variables": {"OWN": "1"},
    }
    prepared = world.prepare(own)
    made = {
        "own": instance.make(prepared),
        "given": instance.make(prepared, {"remove_repo_paths": ["src/"]}),
        "empty": instance.make(prepared, {}),
        "none": instance.make(prepared, apply=False),
    }
    told = {name: (path / "public/description.md").read_text().strip() for name, path in made.items()}
    assert told == {"own": "Own.", "given": "Mend it.", "empty": "Mend it.", "none": "Mend it."}
    weights = {
        name: json.loads((path / "private/evaluation.json").read_text())["rubrics"][0]["weight"]
        for name, path in made.items()
    }
    assert weights == {"own": 7, "given": 1, "empty": 1, "none": 1}
    assert "docs/a.md" not in files_of(made["own"]) and "docs/a.md" in files_of(made["given"])
    assert "src/main.py" not in files_of(made["given"])
    assert made["empty"] == made["none"] and len(set(made.values())) == 3
    assert instance.make(prepared, own) == made["own"]  # whoever says it


def test_wrong_overrides_are_told_before_anything_is_made(world: World) -> None:
    prepared = world.prepare()
    said = wrong(prepared, {"colour": 1, "inject_files": [{"path": "../x", "content": ""}]})
    assert "colour: unknown key" in said and "holds `..`" in said
    with pytest.raises(ConfigError, match="is no prepared repository task"):
        instance.make(world.folder / "nowhere" / "prepared")


def test_the_same_is_made_once_and_another_elsewhere(world: World) -> None:
    prepared = world.prepare()
    first = instance.make(prepared, {"remove_repo_paths": ["docs", "src"]})
    changed = first.stat().st_mtime_ns, (first / "public/base.git/HEAD").stat().st_mtime_ns
    assert instance.make(Path(os.path.relpath(prepared)), {"remove_repo_paths": ["docs", "src"], "repo": None}) == first
    assert (first.stat().st_mtime_ns, (first / "public/base.git/HEAD").stat().st_mtime_ns) == changed
    assert instance.make(prepared, {"remove_repo_paths": ["docs"]}) != first
    world.commit = world.upstream.commit({"more": "x"})
    again = instance.make(world.prepare(), {"remove_repo_paths": ["docs", "src"]})
    assert again != first and "more" in files_of(again) and "more" not in files_of(first)


def test_two_data_folders_give_the_same_instance(tmp_path: Path) -> None:
    one, two = World(tmp_path / "one"), World(tmp_path / "two")
    overrides = {"remove_repo_paths": ["docs"], "inject_files": [{"path": "x", "content": "y"}]}
    made = []
    for world in (one, two):
        git(world.folder, "clone", "--quiet", "--bare", str(one.upstream.folder), "same.git")
        folder = make_task(world.folder / "t" / "toy", meta("../../same.git", one.commit))
        world.data.mkdir()
        prepare.prepare(folder, "toy", world.data)
        made.append(instance.make(layout.prepared(world.data, "toy"), overrides))
    assert made[0].name == made[1].name and files_of(made[0]) == files_of(made[1])
    packs = [sorted(path.read_bytes() for path in one.glob("public/base.git/objects/pack/*.pack")) for one in made]
    assert packs[0] == packs[1]


SCRIPT = """
import sys, time
from pathlib import Path
from helpers.repositories import instance, own_git
{}
print(instance.make(Path(sys.argv[1]), {{"remove_repo_paths": ["docs"]}}), flush=True)
"""


def start(prepared: Path, patch: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(patch), str(prepared)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_several_at_once_make_one(world: World) -> None:
    prepared = world.prepare()
    made = {process.communicate(timeout=60)[0].strip() for process in [start(prepared) for _ in range(4)]}
    assert len(made) == 1 and len(list((prepared.parent / "instances").iterdir())) == 1
    assert "docs/a.md" not in files_of(Path(made.pop()))
    assert not list((world.data / ".preparing").glob("*@*"))


def test_threads_wait_for_one_another(world: World) -> None:
    prepared, made = world.prepare(), []
    threads = [threading.Thread(target=lambda: made.append(instance.make(prepared, {"prompt": "x"}))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(made) == 4 and len(set(made)) == 1


@pytest.mark.parametrize("patched", ["instance._publish", "own_git.Repository.copy_of"])
def test_a_kill_in_the_middle_leaves_nothing_half(world: World, patched: str) -> None:
    prepared = world.prepare()
    process = start(prepared, f"{patched} = lambda *_: print('here', flush=True) or time.sleep(60)")
    assert process.stdout and process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (prepared.parent / "instances").exists()
    began = time.monotonic()
    assert set(files_of(instance.make(prepared, {"remove_repo_paths": ["docs"]}))) == set(ALL) - {
        "docs/a.md",
        "docs/b/c.md",
    }
    assert time.monotonic() - began < 30
    assert not list((world.data / ".preparing").glob("*@*"))


def test_what_git_says_is_told_in_one_line(world: World) -> None:
    prepared = world.prepare()
    for pack in (prepared / "public/repo.git/objects/pack").iterdir():
        pack.unlink()
    with pytest.raises(Infrastructure, match="toy: ") as told:
        instance.make(prepared)
    assert "\n" not in str(told.value)


def test_the_command_for_scripts(world: World) -> None:
    prepared = world.prepare({"remove_repo_paths": ["docs/"]})
    file = world.folder / "o.json"

    def run(*more: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "helpers.repositories.instance", str(prepared), *map(str, more)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    own = run()
    assert own.returncode == 0 and own.stdout == f"{instance.make(prepared)}\n"
    assert run("--no-overrides").stdout == f"{instance.make(prepared, apply=False)}\n"
    file.write_text('{"remove_repo_paths": ["nope"]}')
    assert run("--overrides", file).stderr == "note: remove_repo_paths: 'nope' matches nothing\n"
    file.write_text('{"colour": 1, "prompt": 2}')
    broken = run("--overrides", file)
    assert broken.returncode == 2 and broken.stderr.count(f"error: {file}: ") == 2


PART = st.sampled_from(["a", "docs", "..", ".git", ".GIT", "link", "", ".", "x" * 300, "\0", "new", "*"])
TRICKS = st.lists(PART, min_size=1, max_size=4).map("/".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TRICKS, min_size=1, max_size=3, unique=True), st.lists(TRICKS, max_size=2))
def test_no_path_leads_out_of_the_copy(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], patterns: list[str]
) -> None:
    world = _shared(tmp_path_factory)
    overrides = {"remove_repo_paths": patterns, "overlay_repo_files": dict.fromkeys(paths, "tricked")}
    before = _below(world.folder)
    try:
        made = instance.make(layout.prepared(world.data, "toy"), overrides)
    except ConfigError:
        assert _below(world.folder) == before
        return
    for name in files_of(made):
        assert ".git" not in name.lower().split("/") and ".." not in name.split("/") and not name.startswith("/")
    git(made / "public/base.git", "fsck", "--strict", "--full")
    assert {name for name in _below(world.folder) - before if "/instances" not in name} == set()


_made: list[World] = []


def _shared(factory: pytest.TempPathFactory) -> World:
    if not _made:
        _made.append(World(factory.mktemp("shared")))
        _made[0].prepare()
        instance.make(layout.prepared(_made[0].data, "toy"))
    return _made[0]


def _below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}
