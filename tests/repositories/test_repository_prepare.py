"""What is prepared of a repository: the files of one commit without any history, and no word of how they are judged."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from upstream import Upstream, contents, git, make_task, meta, modes

from helpers.data import fingerprint, layout
from helpers.lib.errors import ConfigError
from helpers.prepare import backends, failures
from helpers.repositories import own_git, prepare
from helpers.repositories.own_git import GitError, Repository

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


def prepared(tmp_path: Path, folder: Path, name: str = "data") -> tuple[Path, list[str]]:
    """Prepare a task as the backend does; its folder and the notes."""
    data = tmp_path / name
    data.mkdir(exist_ok=True)
    notes = prepare.prepare(folder, folder.name, data)
    assert layout.problem(data, folder.name) is None
    assert not list(data.glob("git.*"))  # nothing is left
    return layout.prepared(data, folder.name), notes


def no_task(tmp_path: Path, data: dict[str, Any], **more: Any) -> str:
    """Why a task can't be prepared, in one line."""
    where = Path(tempfile.mkdtemp(dir=tmp_path))
    with pytest.raises((ConfigError, GitError)) as told:
        prepare.prepare(make_task(tmp_path / "tasks" / "toy", data, **more), "toy", where)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_the_two_halves(tmp_path: Path, upstream: Upstream) -> None:
    first = upstream.commit({"a.txt": "one"})
    own = {"remove_repo_paths": ["x"], "rubrics": [{"id": "works", "weight": 2}], "environment_variables": {"A": "b"}}
    files = {
        "overlay_files__NOTE_dot_md": "n",
        "overlay_repo_files__b__c_dot_txt": "c",
        "evaluation__data_dot_txt": "d",
    }
    data = {**meta(upstream.folder, first, branch="main", end_commit_sha="f" * 40), "image": "mine"}
    folder, notes = prepared(tmp_path, make_task(tmp_path / "tasks" / "toy", data, own, **files))
    public, private = folder / "public", folder / "private"
    assert (public / "description.md").read_text() == "Mend it.\n"
    assert json.loads((public / "task.json").read_text()) == {
        "task_id": "toy",
        "title": "A toy",
        "tags": ["small"],
        "repo": {
            "git_url": str(upstream.folder),
            "branch": "main",
            "subdir": None,
            "sparse_checkout": None,
            "commit": first,
        },
        "image": "mine",
    }
    assert json.loads((public / "overrides.json").read_text()) == {
        "remove_repo_paths": ["x"],
        "environment_variables": {"A": "b"},
    }
    assert json.loads((private / "overrides.json").read_text()) == {"rubrics": [{"id": "works", "weight": 2.0}]}
    assert (public / "overlay_files/NOTE.md").read_text() == "n" and (
        public / "overlay_repo_files/b/c.txt"
    ).read_text() == "c"
    assert (private / "evaluation/data.txt").read_text() == "d"
    evaluation = json.loads((private / "evaluation.json").read_text())
    assert evaluation["rubrics"] == [{"id": "works", "criterion": "it works", "weight": 1.0}]
    assert evaluation["test_scripts"][0]["path"] == "works.sh"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert contents(public / "repo.git") == {"a.txt": "one"}
    assert notes == ["remove_repo_paths: 'x' matches nothing"]


def test_history_is_cut_off(tmp_path: Path, upstream: Upstream) -> None:
    upstream.commit({"secret.txt": "SOLUTION-BEFORE"})
    (upstream.folder / "secret.txt").unlink()
    wanted = upstream.commit({"a.txt": "begin"}, message="START-MESSAGE")
    later = upstream.commit({"a.txt": "SOLUTION-AFTER"})
    git(upstream.folder, "tag", "v1", later)
    git(upstream.folder, "branch", "solution", later)
    for name, more in (("full", {}), ("branch", {"branch": "main"}), ("short", {})):
        data = meta(upstream.folder, wanted[:10] if name == "short" else wanted, **more)
        folder, _ = prepared(tmp_path, make_task(tmp_path / "tasks" / name, data))
        repository = folder / "public" / "repo.git"
        objects = git(repository, "cat-file", "--batch-all-objects", "--batch-check").splitlines()
        reachable = git(repository, "rev-list", "--objects", "task").splitlines()
        assert {line.split()[0] for line in objects} == {line.split()[0] for line in reachable}
        assert sorted(line.split()[1] for line in objects) == ["blob", "commit", "tree"]
        assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/task"
        commit = git(repository, "cat-file", "commit", "task")
        assert "parent" not in commit and "START-MESSAGE" not in commit and "2000" not in commit.split("\n")[0]
        assert "author task <task@localhost> 946684800 +0000" in commit
        assert not any(
            (repository / name).exists() for name in ("logs", "FETCH_HEAD", "shallow", "packed-refs", "hooks")
        )
        assert "remote" not in (repository / "config").read_text()
        assert json.loads((folder / "public" / "task.json").read_text())["repo"]["commit"] == wanted
        git(repository, "fsck", "--strict", "--full")


def test_nothing_private_is_in_the_public_half(tmp_path: Path, upstream: Upstream) -> None:
    commit = upstream.commit({"a.txt": "one"})
    data = meta(upstream.folder, commit)
    own = {"test_scripts": [{"path": "more.sh", "content": "answer-of-42", "rubric_id": "works"}]}
    files = {"evaluation__deep__hidden_dot_txt": "answer-of-42", "overlay_files__tb_meta_dot_json": json.dumps(data)}
    files |= {"overlay_files__diff_dot_patch": "+answer-of-42", "overlay_files___dot_env": "KEY=answer-of-42"}
    folder, notes = prepared(tmp_path, make_task(tmp_path / "tasks" / "toy", data, own, **files))
    for base, inner, names in os.walk(folder / "public"):
        for name in [*inner, *names]:
            path = Path(base, name)
            assert not path.is_symlink()
            assert not path.is_file() or b"answer-of-42" not in path.read_bytes(), path
    for name in git(
        folder / "public/repo.git", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"
    ).split():
        assert "answer-of-42" not in git(folder / "public/repo.git", "cat-file", "-p", name)
    assert notes == ["left out of overlay_files: tb_meta.json, diff.patch, .env, which are not for agents"]


def test_the_same_bytes_of_two_clones(tmp_path: Path, upstream: Upstream) -> None:
    upstream.commit({f"src/{number}.py": f"print({number})\n" * 50 for number in range(40)})
    wanted = upstream.commit({"src/1.py": "print(1)\n" * 49 + "#\n", "bin.dat": zlib.compress(b"x" * 9999)})
    upstream.commit({"src/1.py": "gone"})
    git(tmp_path, "clone", "--quiet", "--bare", str(upstream.folder), "clone.git")
    git(tmp_path / "clone.git", "repack", "-adq", "--depth=50", "--window=50")
    task = make_task(tmp_path / "tasks" / "toy", meta("../../source", wanted))
    digests = set()
    for name, source in (("one", upstream.folder), ("two", tmp_path / "clone.git")):
        (tmp_path / "source").unlink(missing_ok=True)
        (tmp_path / "source").symlink_to(source)
        folder, _ = prepared(tmp_path, task, name)
        digests.add(fingerprint.stamp(folder))
    assert len(digests) == 1


def test_files_stay_as_they_are(tmp_path: Path, upstream: Upstream) -> None:
    (upstream.folder / "run.sh").write_text("#!/bin/sh\n")
    (upstream.folder / "run.sh").chmod(0o755)
    (upstream.folder / "link").symlink_to("/etc/passwd")
    git(upstream.folder, "config", "core.autocrlf", "false")
    commit = upstream.commit(
        {"crlf.txt": "a\r\nb\r\n", "bin": b"\0\xff\n\r\n", "n\xe4me \u00df.txt": "x", ".gitattributes": "* -text\n"}
    )
    folder, _ = prepared(tmp_path, make_task(tmp_path / "tasks" / "toy", meta(upstream.folder, commit)))
    assert git(folder / "public/repo.git", "rev-parse", "task^{tree}") == git(
        upstream.folder, "rev-parse", f"{commit}^{{tree}}"
    )
    assert (
        modes(folder / "public/repo.git")["run.sh"] == "100755"
        and modes(folder / "public/repo.git")["link"] == "120000"
    )


def test_a_name_that_is_no_text_is_kept(tmp_path: Path, upstream: Upstream) -> None:
    Path(os.fsdecode(os.fsencode(upstream.folder) + b"/\xff\xfe.txt")).write_text("x")
    commit = upstream.commit({"a": "x"})
    own = {"remove_repo_paths": ["a"]}
    folder, _ = prepared(tmp_path, make_task(tmp_path / "tasks" / "toy", meta(upstream.folder, commit), own))
    assert git(folder / "public/repo.git", "rev-parse", "task^{tree}") == git(
        upstream.folder, "rev-parse", f"{commit}^{{tree}}"
    )


def test_a_folder_of_plain_files_is_committed_as_it_is(tmp_path: Path) -> None:
    files = {"repository__a_dot_txt": "a\r\n", "repository___dot_gitignore": "*.log\n", "repository__x_dot_log": "log"}
    files |= {
        "repository___dot_gitattributes": "*.txt text eol=lf filter=lfs\n",
        "repository__sub__run_dot_sh": "#!/bin/sh\n",
    }
    task = make_task(tmp_path / "tasks" / "toy", meta("repository"), **files)
    (task / "repository/sub/run.sh").chmod(0o755)
    folder, _ = prepared(tmp_path, task)
    repository = folder / "public" / "repo.git"
    assert set(modes(repository)) == {"a.txt", ".gitignore", ".gitattributes", "x.log", "sub/run.sh"}
    assert (
        subprocess.run(["git", "-C", repository, "cat-file", "blob", "task:a.txt"], stdout=subprocess.PIPE).stdout
        == b"a\r\n"
    )
    assert modes(repository)["sub/run.sh"] == "100755"
    commit = json.loads((folder / "public/task.json").read_text())["repo"]["commit"]
    assert commit == git(repository, "rev-parse", "task")


def test_a_bundle_and_a_file_url_are_sources(tmp_path: Path, upstream: Upstream) -> None:
    commit = upstream.commit({"a": "1"})
    upstream.commit({"a": "2"})
    task = make_task(tmp_path / "tasks" / "toy", meta("repo.bundle", commit))
    git(upstream.folder, "bundle", "create", "--quiet", str(task / "repo.bundle"), "--all")
    assert contents(prepared(tmp_path, task)[0] / "public/repo.git") == {"a": "1"}
    task = make_task(tmp_path / "tasks" / "url", meta(f"file://{upstream.folder}", commit))
    assert contents(prepared(tmp_path, task)[0] / "public/repo.git") == {"a": "1"}


def test_submodules_and_lfs_are_told_and_not_followed(tmp_path: Path, upstream: Upstream) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    other = Upstream(tmp_path / "other")
    inner = other.commit({"x": "y"})
    git(upstream.folder, "update-index", "--add", "--cacheinfo", f"160000,{inner},libs/other")
    upstream.commit({"big.bin": pointer, "small": "version 1\n", ".gitattributes": "*.bin filter=lfs\n"})
    git(upstream.folder, "update-index", "--add", "--cacheinfo", f"160000,{inner},libs/other")
    git(upstream.folder, "commit", "--quiet", "--message", "sub")
    commit = git(upstream.folder, "rev-parse", "HEAD")
    folder, notes = prepared(tmp_path, make_task(tmp_path / "tasks" / "toy", meta(upstream.folder, commit)))
    assert notes == [
        "submodules are not followed, their folders are empty: libs/other",
        "files of Git LFS are not downloaded, a pointer stands in their place: big.bin",
    ]
    assert modes(folder / "public/repo.git")["libs/other"] == "160000"


@pytest.mark.parametrize(
    ("repo", "said"),
    [
        ({"git_url": "{up}", "start_commit_sha": "f" * 40}, "has no commit ffff"),
        ({"git_url": "{up}", "start_commit_sha": "f" * 40, "branch": "nope"}, "there is no branch nope (repo.branch)"),
        ({"git_url": "{up}", "start_commit_sha": "f" * 12}, "has no commit ffff"),
        ({"git_url": "{up}"}, "repo.start_commit_sha must be set"),
        ({"git_url": "nowhere", "start_commit_sha": "f" * 40}, "there is no "),
        ({"git_url": "tb_meta.json", "start_commit_sha": "f" * 40}, "tb_meta.json: "),
        ({"git_url": "http://127.0.0.1:1/x.git", "start_commit_sha": "f" * 40}, "127.0.0.1"),
        ({"git_url": ".", "start_commit_sha": "f" * 40}, "holds plain files, without any git"),
        ({"git_url": "{up}", "start_commit_sha": "{commit}", "subdir": "nope"}, "there is no folder 'nope'"),
        (
            {"git_url": "{up}", "start_commit_sha": "{commit}", "sparse_checkout": ["nope"]},
            "nothing in the repository matches 'nope'",
        ),
    ],
)
def test_what_git_says_is_told_in_one_line(tmp_path: Path, upstream: Upstream, repo: dict[str, Any], said: str) -> None:
    commit = upstream.commit({"a": "1"})
    filled = json.loads(json.dumps(repo).replace("{up}", str(upstream.folder)).replace("{commit}", commit))
    assert said in no_task(tmp_path, {**meta("x"), "repo": filled})


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_told(tmp_path: Path, upstream: Upstream) -> None:
    commit = upstream.commit({"a": "1"})
    os.chown(upstream.folder, 12345, 12345)
    os.chown(upstream.folder / ".git", 12345, 12345)
    assert "belongs to another user" in no_task(tmp_path, meta(upstream.folder, commit))


def test_a_tree_that_leads_out_of_its_folder_is_refused(tmp_path: Path, upstream: Upstream) -> None:
    upstream.commit({"a": "1"})
    for name in (b"..", b".git", b".GIT", b"a\\b"):
        blob = bytes.fromhex(git(upstream.folder, "rev-parse", "HEAD:a"))
        folder = subprocess.run(
            ["git", "-C", upstream.folder, "hash-object", "-w", "-t", "tree", "--literally", "--stdin"],
            input=b"100644 x\0" + blob,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        tree = subprocess.run(
            ["git", "-C", upstream.folder, "hash-object", "-w", "-t", "tree", "--literally", "--stdin"],
            input=b"40000 " + name + b"\0" + bytes.fromhex(folder.decode().strip()),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        commit = git(upstream.folder, "commit-tree", "-m", "evil", tree.decode().strip())
        git(upstream.folder, "update-ref", "refs/heads/evil", commit)
        assert "has invalid paths" in no_task(tmp_path, meta(upstream.folder, commit))


def test_a_fault_of_the_network_is_tried_again() -> None:
    for words in (
        "error: https://example.org/x: unable to access 'https://example.org/x/': Could not resolve host: example.org",
        "error: http://127.0.0.1:1/x: unable to access 'http://127.0.0.1:1/x/': Failed to connect to 127.0.0.1 port 1 after 0 ms: "
        "Couldn't connect to server",
        "error: https://example.org/x: unable to access 'https://example.org/x/': The requested URL returned error: 503",
    ):
        found = failures.failure(backends.BACKENDS["repository"], "toy", Path("/data"), 1, words)
        assert found.retry and found.reason.startswith("network fault: ")


def test_without_git_it_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no command `git` on the PATH" in no_task(tmp_path, meta("repository"), repository__a="x")


def test_git_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nsleep 60 &\nexec sleep 60\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(GitError, match="`git fetch` didn't end within 0.2 s"):
        Repository.new(tmp_path / "x.git").run("fetch", seconds=0.2)


def test_no_settings_of_others_count(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "pre-commit", "post-index-change", "reference-transaction", "post-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    evil = f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {tmp_path}/ran\n\tautocrlf = true\n[user]\n\tname = Somebody\n"
    evil += f'[filter "x"]\n\tclean = touch {tmp_path}/ran\n\trequired = true\n[credential]\n\thelper = "!touch {tmp_path}/ran"\n'
    evil += f'[url "/nowhere"]\n\tinsteadOf = {upstream.folder}\n[alias]\n\tfetch = status\n'
    (home / ".gitconfig").write_text(evil)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(hooks))
    files = {"repository__a_dot_txt": "a\r\n", "repository___dot_gitattributes": "* filter=x\n"}
    folder, _ = prepared(tmp_path, make_task(tmp_path / "tasks" / "toy", meta("repository"), **files))
    commit = upstream.commit({"a": "1"})
    prepared(tmp_path, make_task(tmp_path / "tasks" / "two", meta(upstream.folder, commit)), "more")
    assert "Somebody" not in git(folder / "public/repo.git", "cat-file", "commit", "task")
    assert not (tmp_path / "ran").exists()


def test_nobody_is_asked(tmp_path: Path) -> None:
    told = own_git.environment()
    assert told["GIT_TERMINAL_PROMPT"] == "0" and "BatchMode=yes" in told["GIT_SSH_COMMAND"]
    assert "GIT_ASKPASS" not in told and "SSH_ASKPASS" not in told
    assert own_git.SETTINGS["core.askPass"] == "" and own_git.SETTINGS["credential.helper"] == ""


def test_a_repository_in_a_folder_of_plain_files_is_refused(tmp_path: Path) -> None:
    said = no_task(tmp_path, meta("repository"), repository__a="x", repository__sub___dot_git__HEAD="ref: x")
    assert "sub in repository is a repository of its own" in said


def test_its_own_overrides_are_tried_out(tmp_path: Path, upstream: Upstream) -> None:
    (upstream.folder / "link").symlink_to("/tmp")
    commit = upstream.commit({"a": "1"})
    own = {"inject_files": [{"path": "link/x", "content": "x"}, {"path": "a/b", "content": "x"}]}
    with pytest.raises(ConfigError) as told:
        (tmp_path / "none").mkdir()
        prepare.prepare(make_task(tmp_path / "t" / "toy", meta(upstream.folder, commit), own), "toy", tmp_path / "none")
    said = str(told.value)
    assert "inject_files: 'link/x' leads through 'link', which is a link" in said
    assert "inject_files: 'a/b' leads through 'a', which is a file" in said
    for key, value in (("git_url", "https://example.org/y"), ("start_commit_sha", "e" * 40), ("branch", "other")):
        wanted = {"repo": {key: value}}
        assert f"repo.{key}: the task was prepared with" in no_task(
            tmp_path, meta(upstream.folder, commit), overrides=wanted
        )


def test_the_command_says_all_in_one_line(tmp_path: Path, upstream: Upstream) -> None:
    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "helpers.repositories.prepare", str(folder), "toy", str(tmp_path / "data")]
        (tmp_path / "data").mkdir(exist_ok=True)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    broken = run(make_task(tmp_path / "broken", {"task_id": "toy"}))
    assert broken.returncode == 1 and broken.stderr.count("\n") == 1
    assert (
        broken.stderr.startswith("error: ")
        and "repo: must be set" in broken.stderr
        and "lm: must be set" in broken.stderr
    )
    commit = upstream.commit({"a": "1"})
    done = run(make_task(tmp_path / "fine", meta(upstream.folder, commit), {"remove_repo_paths": ["nope"]}))
    assert (
        done.returncode == 0
        and done.stdout == "note: remove_repo_paths: 'nope' matches nothing\n"
        and done.stderr == ""
    )
