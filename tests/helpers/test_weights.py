"""What is said of models whose files aren't all there."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from helpers.images import weights

COMMIT, OTHER = "a" * 40, "b" * 40
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def safetensors(path: Path, cut: int = 0) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(16)
    path.write_bytes(content[: len(content) - cut])


def fill(folder: Path, *, index: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    for shard in SHARDS:
        safetensors(folder / shard)
    if index:
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": dict(zip("xyz", SHARDS, strict=True))})
        )
    return folder


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A whole snapshot, as huggingface_hub keeps it: links to blobs, and a ref."""
    cached = weights.storage("acme/tiny", tmp_path)
    folder = fill(cached / "snapshots" / COMMIT)
    (cached / "blobs").mkdir()
    for path in list(folder.iterdir()):
        blob = cached / "blobs" / path.name
        path.rename(blob)
        path.symlink_to(os.path.relpath(blob, folder))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    return folder


def said(models: Path, revision: str = "main", **more: bool) -> str:
    return weights.problem("acme/tiny", revision, models, **more) or ""


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_whole_snapshot(snapshot: Path, tmp_path: Path, revision: str) -> None:
    assert said(tmp_path, revision) == ""


def test_nothing_there(tmp_path: Path) -> None:
    assert said(tmp_path) == f"nothing of acme/tiny is in {tmp_path / 'hub'}"


@pytest.mark.parametrize("index", [True, False])
def test_one_shard_of_three(tmp_path: Path, index: bool) -> None:
    folder = fill(tmp_path / "model", index=index)
    for shard in SHARDS[1:]:
        (folder / shard).unlink()
    found = weights.problem(str(folder), "main", tmp_path)
    assert found == f"{folder} is incomplete: {SHARDS[1]} is missing, {SHARDS[2]} is missing"


def test_an_index_of_torch(tmp_path: Path) -> None:
    folder = fill(tmp_path / "model", index=False)
    for shard in SHARDS:
        (folder / shard).unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"x": "a.bin", "y": "b.bin"}}))
    (folder / "a.bin").write_bytes(b"x")
    assert (weights.problem(str(folder), "main", tmp_path) or "").endswith("b.bin is missing")
    (folder / "b.bin").touch()
    assert (weights.problem(str(folder), "main", tmp_path) or "").endswith("b.bin is empty")


def test_a_dangling_link(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / SHARDS[0]).resolve().unlink()
    (snapshot / "config.json").resolve().unlink()
    found = said(tmp_path)
    assert f"{SHARDS[0]} is a link that leads nowhere" in found
    assert "config.json is a link that leads nowhere" in found


def test_copies_may_dangle(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / "pytorch_model.bin").symlink_to("gone")
    assert said(tmp_path) == ""


def test_a_download_that_broke_off(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / SHARDS[0]).unlink()
    (snapshot.parent.parent / "blobs" / "0123.abcd.incomplete").touch()
    assert said(tmp_path).endswith(f"{SHARDS[0]} is missing; 1 download(s) of it were broken off or still go on")


def test_a_ref_to_another_commit(snapshot: Path, tmp_path: Path) -> None:
    (snapshot.parent.parent / "refs" / "main").write_text(OTHER)
    found = said(tmp_path)
    assert found.startswith(f"revision main of acme/tiny is commit {OTHER}, of which nothing is in ")
    assert f"(commit {COMMIT} is: `revision: {COMMIT}` takes that)" in found
    fill(snapshot.parent / OTHER).joinpath(SHARDS[1]).unlink()
    assert f"{SHARDS[1]} is missing (commit {COMMIT} is" in said(tmp_path)


def test_a_revision_without_a_ref(snapshot: Path, tmp_path: Path) -> None:
    assert said(tmp_path, "v2").startswith("revision v2 of acme/tiny isn't in ")


@pytest.mark.parametrize("cut", [1, 60, 1000])
def test_a_file_that_was_cut(snapshot: Path, tmp_path: Path, cut: int) -> None:
    safetensors((snapshot / SHARDS[0]).resolve(), cut)
    assert SHARDS[0] in said(tmp_path)
    assert weights.broken(snapshot) == [snapshot / SHARDS[0]]


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    folder = fill(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / SHARDS[2]).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16\n")
    found = weights.problem(str(folder), "main", tmp_path) or ""
    assert f"{SHARDS[2]} is only a git-LFS pointer" in found
    assert "a tokenizer (tokenizer.json, vocab.json, *.model, …) is missing" in found
    assert "tokenizer" not in (weights.problem(str(folder), "main", tmp_path, tokenizer=False) or "")


def test_the_listing_that_the_hub_client_keeps(snapshot: Path, tmp_path: Path) -> None:
    sizes = {name: {"size": (snapshot / name).stat().st_size} for name in ("config.json", *SHARDS)}
    sizes["config.json"]["size"] += 1
    files = {**sizes, "merges.txt": {"size": 1}, "x.bin": {"size": 1, "lfs_size": 9}}
    # files that nothing reads, and that a cache lacks which was filled as needed
    files |= {
        name: {"size": 1} for name in ("README.md", ".gitattributes", "LICENSE.txt", "optimizer.pt", "results.json")
    }
    trees = snapshot.parent.parent / "trees"
    trees.mkdir()
    (trees / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": files}))
    found = said(tmp_path)
    assert found.endswith("config.json has 2 bytes instead of 3, merges.txt is missing")
    (trees / f"{COMMIT}.json").write_text("{")
    assert said(tmp_path) == ""


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base"}')
    (folder / "adapter_model.safetensors").touch()
    found = weights.problem(str(folder), "main", tmp_path) or ""
    assert found.startswith(f"{folder} is incomplete: it is an adapter of acme/base, no model of its own")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": 3}'])
def test_a_broken_index(tmp_path: Path, text: str) -> None:
    folder = fill(tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json is no index" in (weights.problem(str(folder), "main", tmp_path) or "")


def test_a_folder_and_a_file(tmp_path: Path) -> None:
    assert weights.problem(str(tmp_path / "none"), "main", tmp_path) == f"there is no folder {tmp_path / 'none'}"
    (tmp_path / "model.gguf").touch()
    assert weights.problem(str(tmp_path / "model.gguf"), "main", tmp_path) is None


def test_the_command_in_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["acme/tiny", "main", str(tmp_path)]) == 2
    assert capsys.readouterr().out.startswith("nothing of acme/tiny is in")
    assert weights.main([str(fill(tmp_path / "model")), "main", str(tmp_path)]) == 0
