"""Uploads to a Hub on the loopback, some of which break off; downloads; and what a person is told."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from hub_server import TOKEN, Hub, Repository, serve
from huggingface_hub import constants
from made_tasks import contents, make_many

from helpers.datagen import commons, dataset_card, hub, snapshots
from helpers.datagen.dataset_card import Provenance
from helpers.datagen.schemas import GenerationError, InputValidationError, UploadFailure

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content:DeprecationWarning"
)  # of httpx2, which the Hub's client calls
TASKS = Provenance("tasks", source="owner/questions", source_revision="abc", licence="MIT", counts={"verified": 3})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub, without pauses before another try. Xet, which the Hub's client prefers, has a protocol that isn't public."""
    with serve() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        yield made


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """Three large files."""
    made = {f"tasks/train-{number:05d}-of-00003.parquet": tmp_path / f"{number}" for number in range(3)}
    for path in made.values():
        path.write_bytes(os.urandom(300_000))
    return made


def oid(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_commit_private_with_a_card(server: Hub, parts: dict[str, Path]) -> None:
    done = hub.upload(parts, "me/made", TASKS)
    repo = server.repositories["me/made"]
    assert repo.private and len(repo.commits) == 1 and repo.commits[0]["summary"] == "Add 3 files"
    assert {name: repo.files[name] for name in parts} == {name: path.read_bytes() for name, path in parts.items()}
    assert sorted(repo.files) == [".gitattributes", "README.md", *parts]
    assert (done.commit, done.url, done.is_public) == (repo.sha, f"{server.url}/datasets/me/made", False)
    assert done.files == {name: len(data) for name, data in repo.files.items() if name != ".gitattributes"}
    assert server.tokens == {(False, TOKEN), (True, "")} and TOKEN not in str(done)


def test_public_only_when_asked(server: Hub, parts: dict[str, Path]) -> None:
    hub.upload(parts, "me/made", TASKS, public=True)
    assert not server.repositories["me/made"].private


def test_a_public_dataset_takes_nothing_that_was_meant_private(server: Hub, parts: dict[str, Path]) -> None:
    server.repositories["me/made"] = Repository(private=False)
    with pytest.raises(
        InputValidationError, match=r"me/made is public, and everybody could see .* allow it \(--public\)"
    ):
        hub.upload(parts, "me/made", TASKS)
    assert server.put() == [] and server.repositories["me/made"].commits == []
    hub.upload(parts, "me/made", TASKS, public=True)


def test_the_same_again_sends_nothing_and_commits_nothing(server: Hub, parts: dict[str, Path]) -> None:
    first = hub.upload(parts, "me/made", TASKS)
    sent = len(server.put())
    assert hub.upload(parts, "me/made", TASKS).commit == first.commit
    assert len(server.put()) == sent == 3 and len(server.repositories["me/made"].commits) == 1


def test_an_upload_that_breaks_off_is_gone_on_with(server: Hub, parts: dict[str, Path]) -> None:
    """A connection that breaks in one file, until the upload is given up; then the same call sends that file alone."""
    *whole, broken = parts.values()
    server.cut[oid(broken)] = 100_000
    with pytest.raises(UploadFailure) as failed:
        hub.upload(parts, "me/made", TASKS)
    assert str(failed.value).startswith("me/made could not be uploaded: the Hub can't be reached (")
    assert str(failed.value).endswith("run it again; files that are complete there aren't sent again")
    assert failed.value.code == 3 and TOKEN not in str(failed.value)
    assert sorted(server.stored) == sorted(map(oid, whole)), "what was sent as a whole is there"
    assert server.repositories["me/made"].commits == [], "no half of an upload is ever seen"
    server.cut.clear()
    server.asked.clear()
    hub.upload(parts, "me/made", TASKS)
    assert server.put() == [oid(broken)]
    assert [sorted(one["paths"]) for one in server.repositories["me/made"].commits] == [sorted([*parts, "README.md"])]


def test_a_connection_that_breaks_once_is_no_failure(server: Hub, parts: dict[str, Path]) -> None:
    server.statuses = [("lfs/objects/batch", 503), ("POST .*/commit/", 500), ("GET /api/datasets/me/made$", 502)]
    hub.upload(parts, "me/made", TASKS)
    assert server.statuses == [] and len(server.repositories["me/made"].commits) == 1


def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    server: Hub, parts: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server.lose_answer = 1
    done = hub.upload(parts, "me/made", TASKS)
    repo = server.repositories["me/made"]
    assert len(repo.commits) == 1 and done.commit == repo.sha
    assert "me/made could not be uploaded: the Hub can't be reached" in capsys.readouterr().err


def test_another_jobs_commit_in_between(server: Hub, parts: dict[str, Path]) -> None:
    server.statuses = [("POST .*/commit/", 412), ("POST .*/commit/", 409)]
    hub.upload(parts, "me/made", TASKS)
    assert len(server.repositories["me/made"].commits) == 1


def test_it_ends_when_the_hub_stays_broken(server: Hub, parts: dict[str, Path]) -> None:
    server.statuses = [("POST .*/commit/", 500)] * 50
    with pytest.raises(UploadFailure, match="the Hub answers HTTP 500: run it again later"):
        hub.upload(parts, "me/made", TASKS)
    assert sum("/commit/" in line for line in server.asked) == 1 + len(hub.PAUSES)


def test_what_no_other_try_mends_is_told_at_once(server: Hub, parts: dict[str, Path]) -> None:
    server.statuses = [("repos/create", 403)] * 9
    with pytest.raises(InputValidationError) as refused:
        hub.upload(parts, "other/made", TASKS)
    assert str(refused.value) == (
        "other/made could not be uploaded: there is no such dataset, or your token may not write to it (HTTP 403)"
    )
    assert refused.value.code == 2 and sum("repos/create" in line for line in server.asked) == 1


def test_nobody_answers(server: Hub, parts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UploadFailure, match="the Hub can't be reached .*do this where the internet can be reached"):
        hub.upload(parts, "me/made", TASKS)


def test_a_dry_run_needs_neither_token_nor_network(parts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub.download_model, "token", lambda: None)
    plan = hub.upload(parts, "me/made", TASKS, dry_run=True)
    assert plan.commit is None and set(plan.files) == {*parts, "README.md"}
    first, second, *_ = str(plan).splitlines()
    assert first.startswith("http://127.0.0.1:9/datasets/me/made (private, dry run: nothing was sent): 4 files, 90")
    assert second == "  tasks/train-00000-of-00003.parquet  300.0 kB"


def test_without_a_token(server: Hub, parts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.download_model, "token", lambda: None)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputValidationError, match="an upload needs a token of the Hub: give one as HF_TOKEN"):
        hub.upload(parts, "me/made", TASKS)
    assert server.asked == []


@pytest.mark.parametrize("repo", ["made", "a/b/c", "../b", "a b/c", ""])
def test_names_that_are_none(repo: str, parts: dict[str, Path]) -> None:
    with pytest.raises(InputValidationError, match="is no name of a dataset on the Hub: owner/name"):
        hub.upload(parts, repo, TASKS)
    with pytest.raises(InputValidationError, match="is no name of a dataset on the Hub: owner/name"):
        hub.download(repo)


def test_offline_is_said(server: Hub, parts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for do in (lambda: hub.upload(parts, "me/made", TASKS), lambda: hub.download("me/made")):
        with pytest.raises(InputValidationError, match="HF_HUB_OFFLINE is set"):
            do()


def test_somebody_elses_files_and_card_stay(server: Hub, parts: dict[str, Path]) -> None:
    theirs = {"README.md": b"# Mine\n", "tasks/other.parquet": b"x", "tasks/test-00000-of-00009.parquet": b"y"}
    server.repositories["me/made"] = Repository(True, dict(theirs))
    hub.upload(parts, "me/made", TASKS)
    files = server.repositories["me/made"].files
    assert {name: files[name] for name in theirs} == theirs
    assert dataset_card.MARKER.encode() in files["provenance.md"]


def test_our_own_card_is_written_anew(server: Hub, parts: dict[str, Path]) -> None:
    hub.upload(parts, "me/made", TASKS)
    hub.upload(parts, "me/made", Provenance("tasks", counts={"verified": 4}))
    files = server.repositories["me/made"].files
    assert b"| tasks, verified | 4 |" in files["README.md"] and "provenance.md" not in files


def test_parts_of_another_upload_would_be_read_together_with_these(server: Hub, parts: dict[str, Path]) -> None:
    server.repositories["me/made"] = Repository(True, {"tasks/train-00003-of-00004.parquet": b"x"})
    with pytest.raises(
        InputValidationError, match="me/made holds tasks/train-00003-of-00004.parquet, a part of another upload"
    ):
        hub.upload(parts, "me/made", TASKS)
    assert server.put() == []


def test_a_file_that_is_not_there(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputValidationError, match="nothing: there is no such file to upload"):
        hub.upload({"tasks/a.parquet": tmp_path / "nothing"}, "me/made", TASKS)
    with pytest.raises(InputValidationError, match="there is nothing to upload to me/made"):
        hub.upload({}, "me/made", TASKS)


def test_a_folder_of_tasks_there_and_back(server: Hub, tmp_path: Path) -> None:
    make_many(tmp_path / "tasks", 5)
    commons.upload_tasks_to_hf(tmp_path / "tasks", "me/made", provenance=TASKS)
    assert "tasks/train-00000-of-00001.parquet" in server.repositories["me/made"].files
    path = commons.download_hf_dataset("me/made", "main", cache_dir=tmp_path / "cache")
    assert path.name == server.repositories["me/made"].sha
    snapshots.extract(path / "tasks" / "train-00000-of-00001.parquet", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "tasks")


def test_jobs_that_each_upload_their_share(server: Hub, tmp_path: Path) -> None:
    for chunk in ("chunk-0000", "chunk-0001"):
        make_many(tmp_path / chunk, 2)
        commons.upload_tasks_to_hf(
            tmp_path / chunk, "me/made", provenance=TASKS, name=chunk, with_card=chunk == "chunk-0000"
        )
    assert [len(one["paths"]) for one in server.repositories["me/made"].commits] == [2, 1]
    names = [name for name in sorted(server.repositories["me/made"].files) if name.startswith("tasks/")]
    assert names == [f"tasks/chunk-000{number}-00000-of-00001.parquet" for number in (0, 1)]


def test_traces(server: Hub, tmp_path: Path) -> None:
    for name in ("traces.parquet", "more.jsonl", "notes.txt"):
        (tmp_path / name).write_text(name)
    commons.upload_traces_to_hf(tmp_path, "me/traces", provenance=Provenance("traces"))
    files = server.repositories["me/traces"].files
    assert sorted(files) == [".gitattributes", "README.md", "traces/more.jsonl", "traces/traces.parquet"]
    commons.upload_traces_to_hf(tmp_path / "more.jsonl", "me/one", provenance=Provenance("traces"))
    assert 'path: "traces/*.jsonl"' in server.repositories["me/one"].files["README.md"].decode()
    with pytest.raises(InputValidationError, match=r"notes.txt: no traces are there \(.parquet, .jsonl\)"):
        commons.upload_traces_to_hf(tmp_path / "notes.txt", "me/traces")


def test_downloads_that_fail(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(
        InputValidationError,
        match=r"me/none could not be downloaded: there is no such dataset, or your token may not read it \(HTTP 404\)",
    ):
        hub.download("me/none", cache_dir=tmp_path)
    server.repositories["me/made"] = Repository(True, {"a.parquet": b"x"})
    with pytest.raises(InputValidationError, match="it has no revision 'nowhere'"):
        hub.download("me/made", "nowhere", cache_dir=tmp_path)
    server.statuses = [("GET ", 500)] * 99
    with pytest.raises(
        GenerationError, match="the Hub answers HTTP 500: run it again later; complete files are kept"
    ) as failed:
        hub.download("me/made", cache_dir=tmp_path)
    assert failed.value.code == 3


def test_only_the_files_that_are_wanted_are_downloaded(server: Hub, tmp_path: Path) -> None:
    server.repositories["me/made"] = Repository(True, {"tasks/a.parquet": b"x", "large.bin": b"y"})
    found = hub.download("me/made", cache_dir=tmp_path, patterns=["*.parquet"])
    assert found.commit == server.repositories["me/made"].sha
    assert [path.name for path in found.path.rglob("*") if path.is_file()] == ["a.parquet"]


def test_the_card_says_where_it_comes_from_and_breaks_nothing() -> None:
    made = Provenance(
        "traces",
        source="/home/somebody/secret/questions.jsonl",
        source_revision="r1",
        licence='Own "licence": 1\n---',
        models={"org/model": "deadbeef", "m|x<script>": None},
        counts={"scored": 12345, "agent_failed": 2},
        generator="pipelines/x/generate.py --key sk-abcdefghijklmnopqrstu12345",
        config_hash="0" * 64,
        commit="c" * 40,
        dirty=True,
    )
    text = dataset_card.render("me/made", made, ["traces/a.parquet"])
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert (told["license"], told["license_name"]) == ("other", 'own "licence": 1\n---')
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": "traces/*.parquet"}]
    assert f"commit {'c' * 40}, with changes that aren't in it" in body
    assert "| source | questions.jsonl at r1 |" in body and "somebody" not in text
    assert "| model | org/model at deadbeef |" in body and r"| model | m\|x\<script\>, revision not known |" in body
    assert "| traces, scored | 12,345 |" in body and "sk-abc" not in text
    assert all(
        line.count(" |") == 2
        for line in body.splitlines()
        if line.startswith("| ") and r"\|" not in line and line != "| | |"
    )
    assert yaml.safe_load(dataset_card.render("a/b", TASKS, ["x.parquet"]).split("---\n")[1])["license"] == "mit"
