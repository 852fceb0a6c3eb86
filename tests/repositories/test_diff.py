"""An agent's work as a diff, and the diff applied: whatever an agent left, what comes out is what lay there, and nothing of it was run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from repositories_support import Repository, git

from helpers.lib.errors import Infrastructure, Refused
from helpers.repositories import checkout, diff
from helpers.repositories import git as git_module
from helpers.repositories.agent_folder import DEEPEST, AgentFolder

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 100 * 2**20


def take(repository: Repository, limit: int = LIMIT, **more) -> dict:
    return diff.make(repository.base, repository.work, repository.out, limit, **more)


def laid_out(folder: Path) -> dict[bytes, tuple]:
    """Every file that git can hold: its mode as git has it, and its content."""
    found = {}
    for above, folders, files in os.walk(os.fsencode(folder)):
        folders[:] = [one for one in folders if one != b".git" and not os.path.islink(os.path.join(above, one))]
        links = [one for one in os.listdir(above) if os.path.islink(os.path.join(above, one))]
        for name in {*files, *links}:
            path = os.path.join(above, name)
            if os.path.islink(path):
                found[os.path.relpath(path, os.fsencode(folder))] = "link", os.readlink(path)
            elif os.path.isfile(path) and name != b".git":
                found[os.path.relpath(path, os.fsencode(folder))] = (
                    bool(os.stat(path).st_mode & 0o100),
                    Path(os.fsdecode(path)).read_bytes(),
                )
    return found


def comes_back(repository: Repository, name: str = "fresh") -> dict[bytes, tuple]:
    """Apply the diff to a fresh checkout; it is what the agent left."""
    fresh = repository.folder / name
    tree = json.loads((repository.out / "repo_info.json").read_text())["tree"]
    checkout.make(repository.base, fresh, repository.out / "diff.patch", tree)
    found = laid_out(fresh)
    assert found == laid_out(repository.work)
    return found


def test_all_kinds_of_changes_come_back(repository):
    lines = "".join(f"line {number}\n" for number in range(200))
    repository.prepare(
        {
            "text.py": "a\nb\nc\n",
            "moved.py": lines,
            "edited.py": lines + "end\n",
            "gone/away.txt": "x\n",
            "crlf.txt": "one\r\ntwo\r\n",
            "lf.txt": "one\ntwo\n",
            "mixed.txt": b"a\r\nb\nno end",
            "binary.bin": bytes(range(256)) * 20,
            "becomes_folder": "file\n",
            "becomes_file/inner": "file\n",
            "mode.sh": "#!/bin/sh\n",
            "empty": "",
        }
    )
    work = repository.work
    (work / "text.py").write_text("a\nB\nc\n")
    (work / "sub").mkdir()
    (work / "moved.py").rename(work / "sub" / "moved.py")
    (work / "edited.py").rename(work / "renamed.py")
    (work / "renamed.py").write_text(lines + "other end\n")
    (work / "gone" / "away.txt").unlink()
    (work / "crlf.txt").write_bytes(b"one\r\n2\r\n")
    (work / "lf.txt").write_bytes(b"one\r\ntwo\r\n")
    (work / "mixed.txt").write_bytes(b"a\r\nB\n\r\rno end\n\n")
    (work / "binary.bin").write_bytes(bytes(range(255, -1, -1)) * 20)
    (work / "new.bin").write_bytes(os.urandom(5000))
    (work / "becomes_folder").unlink()
    (work / "becomes_folder").mkdir()
    (work / "becomes_folder" / "inner").write_text("x\n")
    (work / "becomes_file" / "inner").unlink()
    (work / "becomes_file").rmdir()
    (work / "becomes_file").write_text("x\n")
    (work / "mode.sh").chmod(0o755)
    (work / "link").symlink_to("/etc/passwd")
    (work / "folder_link").symlink_to("..")
    (work / "new_empty").touch()
    told = take(repository)
    assert comes_back(repository)[b"link"] == ("link", b"/etc/passwd")
    text = repository.patch
    for said in (b"rename from moved.py", b"rename to renamed.py", b"new mode 100755", b"GIT binary patch"):
        assert said in text
    assert b"root:" not in text, "a link was followed"
    assert told["diff_lines"] == text.count(b"\n") and told["diff_bytes"] == len(text)
    assert told["base"] == git("rev-parse", "task", at=repository.base).strip()


def test_names_of_any_kind_come_back(repository):
    repository.prepare({"a": "x\n"})
    names = [b"new\nline", b'quo"te', b"back\\slash", b"\xff\xfe not utf-8", "täst ☃".encode(), b" lead", b"-dash"]
    names += [
        b":(glob)x",
        b":!x",
        b"tab\there",
        b"\x01\x1f",
        b"[a]*?",
        b"trailing ",
        b"git~1",
        b"a:b",
        b"CON",
        b"x" * 250,
    ]
    for name in names:
        with open(os.path.join(os.fsencode(repository.work), name), "wb") as file:
            file.write(name)
        os.makedirs(os.path.join(os.fsencode(repository.work), b"in", name))
        with open(os.path.join(os.fsencode(repository.work), b"in", name, name), "wb") as file:
            file.write(name)
    take(repository)
    assert len(comes_back(repository)) == 2 * len(names) + 1


def test_nothing_changed_is_an_empty_diff(repository):
    repository.prepare({"a": "x\n", ".gitignore": "*.o\n"})
    told = take(repository)
    assert repository.patch == b"" and told["diff_lines"] == 0 and told["added"] == 0
    comes_back(repository)


def test_everything_deleted_is_a_diff_but_a_folder_that_is_gone_is_none(repository):
    repository.prepare({"a": "x\n", "b/c": "y\n"})
    (repository.work / "a").unlink()
    subprocess.run(["rm", "-rf", repository.work / "b", repository.work / ".git"], check=True)
    told = take(repository)
    assert told["deleted"] == 2 and told["agents_git"] == "missing"
    assert comes_back(repository) == {}
    repository.work.rmdir()
    with pytest.raises(Refused, match="the repository was removed: there is no folder .*work any more") as caught:
        take(repository)
    assert caught.value.code == 4 and not (repository.out / "diff.patch").exists()
    repository.work.symlink_to("/etc")
    with pytest.raises(Refused, match="the repository was replaced"):
        take(repository)


TRAP = '#!/bin/sh\ntouch "{0}"\n'


def test_nothing_that_an_agent_left_for_git_is_run_or_obeyed(repository, monkeypatch):
    """Hooks, filters, text converters, an fsmonitor, external diffs, attributes, ignores, replacements, a program called git."""
    repository.prepare({"a.txt": "x\n", "b.bat": "one\ntwo\n", "sub/c.txt": "$Id$\n"})
    work, trace = repository.work, repository.folder / "trace"
    trap = work / "git"
    trap.write_text(TRAP.format(trace))
    trap.chmod(0o755)
    own = work / ".git"
    for hook in ("pre-commit", "post-index-change", "post-checkout", "reference-transaction", "fsmonitor-watchman"):
        (own / "hooks").mkdir(exist_ok=True)
        (own / "hooks" / hook).write_text(TRAP.format(trace))
        (own / "hooks" / hook).chmod(0o755)
    for key in ("core.fsmonitor", "filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.x.textconv"):
        git("config", key, str(trap), at=work)
    for key in ("diff.x.command", "diff.external", "core.pager", "core.sshCommand", "core.editor", "alias.diff"):
        git("config", key, str(trap), at=work)
    git("config", "core.hooksPath", str(own / "hooks"), at=work)
    git("config", "core.attributesFile", str(work / "attributes"), at=work)
    git("config", "core.excludesFile", str(work / "excludes"), at=work)
    git("config", "core.worktree", "/etc", at=work)
    (work / "excludes").write_text("*\n")
    attributes = (
        "[attr]own -text filter=x\n* text=auto eol=crlf ident filter=x diff=x working-tree-encoding=UTF-16 own\n"
    )
    for place in (
        work / ".gitattributes",
        work / "attributes",
        work / "sub" / ".gitattributes",
        own / "info" / "attributes",
    ):
        place.write_text(attributes)
    (work / ".gitignore").write_text("*\n")
    (work / ".gitmodules").write_text('[submodule "x"]\n path = sub\n url = ext::sh -c "touch trace"\n')
    home = repository.folder / "home"
    (home / ".gitconfig").write_text(
        f"[core]\n fsmonitor = {trap}\n hooksPath = {own}/hooks\n[diff]\n external = {trap}\n"
    )
    monkeypatch.setenv("PATH", f"{work}:{os.environ['PATH']}")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(own))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(trap))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "diff.external")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(trap))
    (work / "a.txt").write_bytes(b"x\r\n$Id$\r\n")
    (work / "sub" / "c.txt").write_bytes("ä\n".encode("utf-16"))
    take(repository)
    monkeypatch.setenv(
        "PATH", os.environ["PATH"].partition(":")[2]
    )  # which no agent sets: only diff has to do with its folder
    comes_back(repository)
    assert not trace.exists(), "something of the agent's was run"
    assert b"+++ b/.gitignore" in repository.patch, "the agent's own .gitignore hid something"


def test_a_git_folder_that_is_gone_a_file_or_a_link_changes_nothing(repository):
    repository.prepare({"a": "x\n"})
    (repository.work / "a").write_text("y\n")
    expected = take(repository)["diff_sha256"]
    own = repository.work / ".git"
    subprocess.run(["rm", "-rf", own], check=True)
    assert take(repository)["diff_sha256"] == expected
    own.write_text("gitdir: /nowhere\n")
    told = take(repository)
    assert told["diff_sha256"] == expected and told["agents_git"] == "replaced"
    own.unlink()
    own.symlink_to("/etc")
    assert take(repository)["diff_sha256"] == expected


def test_files_of_a_nested_repository_are_taken_and_its_git_is_told(repository):
    repository.prepare({"a": "x\n"})
    nested = repository.work / "vendor"
    nested.mkdir()
    git("init", "-q", at=nested)
    (nested / "code.py").write_text("x = 1\n")
    (repository.work / "other" / ".GIT").mkdir(parents=True)
    (repository.work / "other" / ".GIT" / "config").write_text("[core]\n")
    told = take(repository)
    assert told["nested_git"] == {"count": 2, "examples": ["other", "vendor"]}
    assert b"vendor/code.py" in repository.patch and b"[core]" not in repository.patch


def test_the_ignore_rules_of_the_commit_count_and_no_other(repository):
    repository.prepare(
        {".gitignore": "*.o\nbuild/\n!keep.o\n", "tracked.o": "1\n", "deep/.gitignore": "/out\n", "a": ""}
    )
    work = repository.work
    for name in ("x.o", "keep.o", "build/y", "deep/out", "deep/in", "hidden.txt"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text("new\n")
    (work / "tracked.o").write_text("2\n")
    (work / ".gitignore").write_text("hidden.txt\n")
    told = take(repository)
    assert told["ignored"] == {"count": 3, "examples": ["build/y", "deep/out", "x.o"]}
    for name in (b"b/keep.o", b"b/tracked.o", b"b/deep/in", b"b/hidden.txt"):
        assert b"+++ " + name in repository.patch
    (work / ".gitignore").unlink()
    assert take(repository)["ignored"]["count"] == 3


def test_what_git_cannot_hold_is_left_out_and_told(repository):
    repository.prepare({"a": "x\n", "was_file": "x\n"})
    work = repository.work
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(work / "socket"))
    (work / "was_file").unlink()
    os.mkfifo(work / "was_file")
    (work / "sub").mkdir()
    (work / "sub" / ".gitmodules").symlink_to("/etc/passwd")
    deep = os.open(work, os.O_RDONLY)
    for _ in range(DEEPEST + 1500):  # deeper than the system takes as one path
        os.mkdir("d" * 9, dir_fd=deep)
        inner = os.open("d" * 9, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    told = take(repository)
    left = {one["path"]: one["why"] for one in told["left_out"]["examples"]}
    assert told["left_out"]["count"] == 5 and told["deleted"] == 1 and told["added"] == 0
    assert (left["pipe"], left["socket"], left["was_file"]) == ("a pipe", "a socket", "a pipe")
    assert left["sub/.gitmodules"] == "git takes no link of this name"
    assert any(why.startswith("too deep") for why in left.values())
    subprocess.run(["rm", "-rf", work / ("d" * 9)], check=True)


def test_too_large_is_told_with_the_largest_files(repository):
    repository.prepare({"a": "x\n"})
    (repository.work / "noise.bin").write_bytes(os.urandom(300_000))
    with pytest.raises(Refused, match=r"it has more than 0.2 MB; the largest: noise.bin \(0.3 MB\)") as caught:
        take(repository, limit=200_000)
    assert caught.value.code == 4 and os.listdir(repository.out) == []
    with open(repository.work / "sparse", "wb") as file:
        file.truncate(10 * 2**30)  # its diff would be small, but it would have to be read
    with pytest.raises(Refused, match=r"the files that differ have 10,240.3 MB, and 400.0 MB may; the largest: sparse"):
        take(repository)
    (repository.work / "sparse").unlink()
    take(repository, limit=LIMIT)
    comes_back(repository)


def test_too_many_files_are_told(repository, monkeypatch):
    repository.prepare({"a": "x\n"})
    for number in range(30):
        (repository.work / f"f{number}").touch()
    monkeypatch.setattr(diff, "MOST_CHANGED", 20)
    with pytest.raises(Refused, match="30 files differ, and 20 may"):
        take(repository)
    monkeypatch.setattr("helpers.repositories.agent_folder.MOST_FILES", 25)
    with pytest.raises(Refused, match="holds more than 25 files and folders"):
        take(repository)


def test_a_file_that_changes_while_it_is_read_is_the_agents_doing(repository, monkeypatch):
    repository.prepare({"a": "x\n"})
    (repository.work / "a").write_text("longer\n")
    seen = AgentFolder.look

    def look(self, modules):
        found = seen(self, modules)
        (repository.work / "a").write_text("much longer than it was\n")
        return found

    monkeypatch.setattr(AgentFolder, "look", look)
    with pytest.raises(Refused, match="a was being changed while it was read"):
        take(repository)


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(repository, monkeypatch):
    repository.prepare({"a": "x\n"})
    (repository.work / "sub").mkdir()
    (repository.work / "sub" / "f").write_text("mine\n")
    (repository.folder / "secret").mkdir()
    (repository.folder / "secret" / "f").write_text("hers\n")
    seen = AgentFolder.look

    def look(self, modules):
        found = seen(self, modules)
        (repository.work / "sub" / "f").unlink()
        (repository.work / "sub").rmdir()
        (repository.work / "sub").symlink_to(repository.folder / "secret")
        return found

    monkeypatch.setattr(AgentFolder, "look", look)
    with pytest.raises(Refused, match="sub/f can't be read"):
        take(repository)


def test_notes_are_kept_where_the_agent_wrote_some(repository, tmp_path):
    repository.prepare({"notes.md": "the project's\n"})
    assert take(repository)["notes"] is None and not (repository.out / "notes.md").exists()
    (repository.work / "notes.md").write_text("mine\n")
    assert take(repository)["notes"] == "notes.md" and (repository.out / "notes.md").read_text() == "mine\n"
    given = tmp_path / "given.md"
    given.write_text("given\n")
    assert take(repository, notes=given)["notes"] == str(given)
    assert (repository.out / "notes.md").read_text() == "given\n"
    given.unlink()
    given.symlink_to("/etc/passwd")
    assert take(repository, notes=given)["notes"].startswith("not kept: ")
    (repository.work / "notes.md").unlink()
    (repository.work / "notes.md").symlink_to("/etc/passwd")
    assert take(repository)["notes"] is None and not (repository.out / "notes.md").exists()


def test_a_slow_git_is_ended(repository, monkeypatch):
    repository.prepare({"a": "x\n"})
    slow = repository.folder / "bin" / "git"
    slow.parent.mkdir()
    real = git_module.find()
    slow.write_text(f'#!/bin/bash\n[[ $* != *fast-import* ]] || exec sleep 60\nexec {real} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    (repository.work / "a").write_text("y\n")
    made = git_module.Git.__init__
    monkeypatch.setattr(git_module.Git, "__init__", lambda self, *given: made(self, *given, seconds=1.5))
    with pytest.raises(Refused, match="the diff can't be made: git took too long"):
        take(repository)


def test_no_git_but_the_agents_is_no_git(repository, monkeypatch):
    repository.prepare({"a": "x\n"})
    (repository.work / "bin").mkdir()
    (repository.work / "bin" / "git").write_text("#!/bin/sh\n")
    (repository.work / "bin" / "git").chmod(0o755)
    (repository.folder / "elsewhere").symlink_to(repository.work / "bin")
    monkeypatch.setenv("PATH", f"{repository.work}/bin:bin:.::{repository.folder}/elsewhere")
    with pytest.raises(Infrastructure, match="there is no git on PATH"):
        take(repository)


def test_the_command_lines_say_what_went_wrong_in_one_line(repository):
    repository.prepare({"a": "x\n"})

    def call(module, *arguments):
        command = [sys.executable, "-m", f"helpers.repositories.{module}", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or done.stderr.count("\n") == 1
        return done.returncode, done.stderr

    given = ("--base", repository.base, "--work", repository.work, "--out", repository.out)
    assert call("diff", *given) == (0, "")
    apply = ("--base", repository.base, "--diff", repository.out / "diff.patch", "--out", repository.folder / "fresh")
    assert call("checkout", *apply, "--info", repository.out / "repo_info.json") == (0, "")
    code, said = call("checkout", *apply)
    assert code == 2 and "isn't empty" in said
    (repository.work / "a").write_text("y" * 5000)
    assert call("diff", *given, "--limit-mb", "0.001")[0] == 4
    code, said = call("diff", "--base", repository.folder / "none", *given[2:])
    assert code == 3 and "is no prepared repository" in said
    (repository.out / "diff.patch").write_text("--- a/a\n+++ b/a\n@@ -1 +1 @@\n-other\n+x\n")
    code, said = call("checkout", *apply[:-1], repository.folder / "third")
    assert (code, said) == (4, "the diff doesn't apply: error: patch failed: a:1\n")


@pytest.mark.parametrize(
    "patch",
    [
        "diff --git a/../out b/../out\nnew file mode 100644\n--- /dev/null\n+++ b/../out\n@@ -0,0 +1 @@\n+x\n",
        "diff --git a/.git/config b/.git/config\nnew file mode 100644\n--- /dev/null\n+++ b/.git/config\n@@ -0,0 +1 @@\n+x\n",
        "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+..\n\\ No newline at end of file\n"
        "diff --git a/l/out b/l/out\nnew file mode 100644\n--- /dev/null\n+++ b/l/out\n@@ -0,0 +1 @@\n+x\n",
        "no diff at all\n",
    ],
)
def test_a_diff_that_somebody_made_up_leaves_the_folder_by_no_way(repository, patch):
    repository.prepare({"a": "x\n"})
    (repository.folder / "patch").write_text(patch)
    fresh = repository.folder / "in" / "fresh"
    with pytest.raises(Refused, match="the diff doesn't apply") as caught:
        checkout.make(repository.base, fresh, repository.folder / "patch")
    assert caught.value.code == 4
    assert os.listdir(repository.folder / "in") == ["fresh"]
    assert not (repository.folder / "in" / "out").exists()


def test_a_checkout_stands_alone_and_its_git_knows_the_diff(repository):
    repository.prepare({"a": "x\n", "b": "y\n"})
    (repository.work / "a").write_text("z\n")
    take(repository)
    comes_back(repository)
    subprocess.run(["rm", "-rf", repository.base, repository.folder / "source"], check=True)
    fresh = repository.folder / "fresh"
    assert git("status", "--porcelain", at=fresh) == "M  a\n"
    assert git("log", "--format=%s", at=fresh) == "base\n"
    assert git("fsck", at=fresh) == ""
    assert git("branch", "--show-current", at=fresh) == "task\n"
