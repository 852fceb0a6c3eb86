"""Whether a model's files are all there, in the cache of huggingface_hub or in a folder: what vLLM would miss an hour later.

Runs on the login node and in the model server's container, so it needs Python's own library alone. Formats:
huggingface_hub (cache: refs/, snapshots/, trees/), transformers (*.index.json), safetensors (a header that tells the size).
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

# in the order in which vLLM looks for them; it reads one kind only
KINDS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
# beside safetensors these hold the same weights once more: not downloaded, and not missed
COPIES = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "original/*", "onnx/*")
NO_WEIGHTS = ("adapter_model.*", "training_args.bin", "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*")
TOKENIZERS = ("*tokeniz*", "*.tiktoken", "tekken.json", "vocab*", "*.model", "*.gguf")
# what vLLM reads beside the weights; a cache that was filled as needed lacks a repository's other files, which nobody misses
READ = (
    "config.json",
    "params.json",
    "tokeniz*",
    "vocab*",
    "merges.txt",
    "tekken.json",
    "*.tiktoken",
    "*.index.json",
    "*.jinja",
)
SHARD = re.compile(r"(.*-)\d{5}-of-(\d{5})(\.\w+)")
POINTER = b"version https://git-lfs"
LARGEST_JSON = 2**28
LARGEST_SHARDS = 10_000
SHOWN = 3  # files that are named; the others are counted


def problem(repo: str, revision: str, models: str | Path, *, tokenizer: bool = True) -> str | None:
    """What is missing of a model, as the rest of a sentence that begins with its name; None: all is there.

    repo: `owner/name` in the cache `models`/hub, or the path of a folder (or .gguf file). tokenizer: whether it must have one.
    """
    try:
        if os.path.isabs(repo):
            return _local_problem(Path(repo), tokenizer)
        return _cached_problem(repo, revision, models, tokenizer)
    except OSError as error:
        return f"{error.filename} can't be read: {error.strerror}"


def storage(repo: str, models: str | Path) -> Path:
    """The folder of a repository in the cache."""
    return Path(models, "hub", f"models--{repo.replace('/', '--')}")


def broken(folder: Path) -> list[Path]:
    """The files of a snapshot that are there, but not whole: huggingface_hub would take them for complete. Raises OSError."""
    if not folder.is_dir():
        return []
    return [folder / name for name in _Files(folder, _listing(folder)).faults() if (folder / name).exists()]


def _local_problem(path: Path, tokenizer: bool) -> str | None:
    if path.suffix == ".gguf" and path.is_file():
        return None
    if not path.is_dir():
        return f"there is no folder {path}"
    found = _Files(path, {}).problem(tokenizer)
    return found and f"{path} is incomplete: {found}"


def _cached_problem(repo: str, revision: str, models: str | Path, tokenizer: bool) -> str | None:
    cached = storage(repo, models)
    if not cached.is_dir():
        return f"nothing of {repo} is in {Path(models, 'hub')}"
    commit = _commit(cached, revision)
    folder = cached / "snapshots" / commit if commit else None
    if folder is None or not folder.is_dir():
        said = f"is commit {commit}, of which nothing is in {cached}" if commit else f"isn't in {cached}"
        return f"revision {revision} of {repo} {said}{_others(cached, tokenizer)}{_partial(cached)}"
    found = _Files(folder, _listing(folder)).problem(tokenizer)
    return (
        found
        and f"{repo} at {revision} is incomplete in {folder}: {found}{_others(cached, tokenizer)}{_partial(cached)}"
    )


def _commit(cached: Path, revision: str) -> str | None:
    """What a revision stands for, as huggingface_hub resolves it without a network."""
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    try:
        return (cached / "refs" / revision).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _others(cached: Path, tokenizer: bool) -> str:
    """Whole snapshots of other commits, which a pinned revision would use."""
    folders = sorted((cached / "snapshots").glob("*"))
    whole = [folder.name for folder in folders if _Files(folder, _listing(folder)).problem(tokenizer) is None]
    return f" (commit {whole[-1]} is: `revision: {whole[-1]}` takes that)" if whole else ""


def _partial(cached: Path) -> str:
    count = sum(1 for _ in cached.glob("blobs/*.incomplete"))
    return f"; {count} download(s) of it were broken off or still go on" if count else ""


def _listing(folder: Path) -> dict[str, int]:
    """File -> bytes on the Hub, where a newer huggingface_hub has noted that for the commit; else nothing."""
    path = folder.parent.parent / "trees" / f"{folder.name}.json"
    files = _json(path).get("files") if path.is_file() else None
    if not isinstance(files, dict):
        return {}
    sizes = {
        name: about.get("lfs_size") or about.get("size") for name, about in files.items() if isinstance(about, dict)
    }
    return {name: size for name, size in sizes.items() if isinstance(size, int)}


class _Files:
    """The files of one folder. listing: those that it should have, with their sizes; empty where nobody knows."""

    def __init__(self, folder: Path, listing: dict[str, int]):
        self.folder, self.listing = folder, listing
        self.names = set(os.listdir(folder))
        self.indexes = {name: _weight_map(folder / name) for name in self.names if name.endswith(".index.json")}
        self.kind, self.weights = self._weights()

    def _weights(self) -> tuple[str, set[str]]:
        """The kind that vLLM would read, and all files of it that there must be."""
        shards = {shard for map_ in self.indexes.values() for shard in map_ or ()}
        known = self.names | shards | self.listing.keys()
        known = {name for name in known if "/" not in name and not _any(name, NO_WEIGHTS)}
        for kind in KINDS:
            files = {name for name in known if fnmatch(name, kind)}
            if files:
                return kind, files | {shard for name in files for shard in _siblings(name)}
        return "", set()

    def problem(self, tokenizer: bool) -> str | None:
        if "adapter_config.json" in self.names and "config.json" not in self.names:
            base = _json(self.folder / "adapter_config.json").get("base_model_name_or_path", "another model")
            return f"it is an adapter of {base}, no model of its own: serve that one, with the adapter as --lora-modules in vllm_args"
        faults = self.faults()
        if not self.weights:
            faults[f"weights ({', '.join(KINDS)})"] = "missing"
        if tokenizer and not any(_any(name, TOKENIZERS) for name in self.names):
            faults["a tokenizer (tokenizer.json, vocab.json, *.model, …)"] = "missing"
        if not faults:
            return None
        shown = [f"{name} {'is ' if fault == 'missing' else ''}{fault}" for name, fault in sorted(faults.items())]
        more = [f"{len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
        return ", ".join([*shown[:SHOWN], *more])

    def faults(self) -> dict[str, str]:
        """Files that can't be used -> why not."""
        wanted = set(self.weights)
        wanted |= {name for name in self.listing if "/" not in name and _any(name, READ)}
        if self.kind != "*.gguf" and not {"config.json", "params.json"} & self.names:
            wanted.add("config.json")
        dangling = {name for name in self.names if (self.folder / name).is_symlink()}
        if self.kind == KINDS[0]:
            dangling = {name for name in dangling if not _any(name, COPIES)}
        indexes = {
            name for name, map_ in self.indexes.items() if map_ is None and fnmatch(name, f"{self.kind}.index.json")
        }
        faults = {name: "is no index" for name in indexes}
        return faults | {name: fault for name in wanted | dangling if (fault := self._fault(name))}

    def _fault(self, name: str) -> str | None:
        path = self.folder / name
        if not path.exists():
            return "is a link that leads nowhere" if path.is_symlink() else "missing"
        if path.is_dir():
            return None
        size = path.stat().st_size
        with open(path, "rb") as file:
            if file.read(len(POINTER)) == POINTER:
                return "is only a git-LFS pointer (`git lfs pull` fetches what it stands for)"
        right = self.listing.get(name)
        if right is not None:
            return None if size == right else f"has {size} bytes instead of {right}"
        if name not in self.weights:
            return None
        return _safetensors_fault(path, size) if name.endswith(".safetensors") else None if size else "is empty"


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _siblings(name: str) -> list[str]:
    """All parts of a file that is one of several (model-00001-of-00004.safetensors)."""
    found = SHARD.fullmatch(name)
    count = int(found[2]) if found else 0
    return [f"{found[1]}{one:05}-of-{found[2]}{found[3]}" for one in range(1, min(count, LARGEST_SHARDS) + 1)]


def _weight_map(path: Path) -> set[str] | None:
    """The files that an index names; None for what is no index."""
    files = _json(path).get("weight_map")
    return {str(name) for name in files.values()} if isinstance(files, dict) else None


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            return {}
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _safetensors_fault(path: Path, size: int) -> str | None:
    """Whether the file ends where its header says that the last tensor does."""
    with open(path, "rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else LARGEST_JSON
        try:
            header = json.loads(file.read(length)) if length < LARGEST_JSON else None
            ends = [int(about["data_offsets"][1]) for name, about in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return f"is no safetensors file, or was cut ({size} bytes)"
    right = 8 + length + max(ends, default=0)
    return None if size == right else f"has {size} bytes instead of {right}"


def main(argv: list[str]) -> int:
    """usage: weights.py REPO REVISION MODELS [--no-tokenizer]; exit code 2, and what is missing, where something is."""
    repo, revision, models = argv[:3]
    found = problem(repo, revision, models, tokenizer="--no-tokenizer" not in argv)
    if found:
        print(found)
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
