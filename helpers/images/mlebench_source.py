"""mle-bench's source for the images: a pinned commit from GitHub with its git-LFS files, or a checkout of one's own."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import requests

from helpers.lib.errors import ConfigError, Infrastructure

REPOSITORY = "https://github.com/openai/mle-bench"
COMMIT = "783b15af77404fbaffe7255b0c4a934b46153389"
NEEDED = ("mlebench", "experiments/splits", "pyproject.toml", "README.md", "LICENSE")
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
POINTER = re.compile(rb"version https://git-lfs\S*\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer


def check(source: str) -> None:
    """ConfigError unless source is "none", an http(s) address or the folder of a checkout."""
    if source == "none" or source.startswith(("https://", "http://")):
        return
    missing = [name for name in ("pyproject.toml", "mlebench/registry.py") if not Path(source, name).is_file()]
    if missing:
        raise ConfigError(
            [
                f"MLEBENCH_SOURCE={source}: no checkout of mle-bench (there is no {missing[0]}). Give the folder of "
                "one, `none` for images without mle-bench, or unset it to download the pinned commit."
            ]
        )


def identity(source: str) -> str:
    """What makes two sources the same: the commit, or a hash of the checkout's files."""
    if source == "none" or source.startswith(("https://", "http://")):
        return "none" if source == "none" else COMMIT
    digest = hashlib.sha256()
    for path in _files(Path(source)):
        digest.update(f"{path.relative_to(source)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def place(source: str, folder: Path) -> dict[str, Any]:
    """Put the part of mle-bench that images need into a folder, and describe it.

    Returns {"source", "commit" (None: unknown), "competitions", "leaderboards"}, the last two as counts; a git-LFS
    pointer is no leaderboard. Raises Infrastructure when GitHub doesn't give the source; leaderboards that it doesn't
    give are only fewer.
    """
    if source.startswith(("https://", "http://")):
        _download(source.rstrip("/").removesuffix(".git"), folder)
        commit, shown = COMMIT, source
    else:
        for path in _files(Path(source)):
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        commit, shown = _commit(Path(source)), "a local checkout"
    boards = list(folder.glob("mlebench/competitions/*/leaderboard.csv"))
    return {
        "source": shown,
        "commit": commit,
        "competitions": len(list(folder.glob("mlebench/competitions/*/config.yaml"))),
        "leaderboards": sum(not POINTER.match(board.read_bytes()[:200]) for board in boards),
    }


def _files(checkout: Path) -> list[Path]:
    found = [checkout / name for name in NEEDED if (checkout / name).is_file()]
    for name in NEEDED:
        found += [path for path in checkout.glob(f"{name}/**/*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(found)


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _download(repository: str, folder: Path) -> None:
    try:
        archive = _get(f"{repository}/archive/{COMMIT}.tar.gz")
        _unpack(archive, folder)
    except (requests.RequestException, tarfile.TarError, EOFError, OSError) as error:
        raise Infrastructure(
            f"mle-bench can't be downloaded from {repository} ({_short(error)}). Where GitHub can't be reached, set "
            "MLEBENCH_SOURCE to the folder of a checkout, or to `none` for images without mle-bench."
        ) from error
    pointers = {path: POINTER.match(path.read_bytes()[:200]) for path in folder.rglob("*.csv")}
    try:
        _pull({path: match for path, match in pointers.items() if match}, repository)
    except (requests.RequestException, KeyError, ValueError) as error:
        print(f"mle-bench's leaderboards can't be downloaded ({_short(error)})", flush=True)


def _unpack(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            wanted = any(name == part or name.startswith(f"{part}/") for part in NEEDED)
            if member.isfile() and wanted and ".." not in Path(name).parts:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())
    if not (folder / "mlebench/registry.py").is_file():
        raise tarfile.TarError("it isn't mle-bench's archive")


def _pull(pointers: dict[Path, re.Match[bytes]], repository: str) -> None:
    """Replace pointers by their files; https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md."""
    wanted = {match[1].decode(): int(match[2]) for match in pointers.values()}
    kind = "application/vnd.git-lfs+json"
    answer = requests.post(
        f"{repository}.git/info/lfs/objects/batch",
        json={"operation": "download", "objects": [{"oid": oid, "size": size} for oid, size in wanted.items()]},
        headers={"Accept": kind, "Content-Type": kind},
        timeout=TIMEOUT,
    )
    answer.raise_for_status()
    actions = {item["oid"]: item["actions"]["download"] for item in answer.json()["objects"] if "actions" in item}
    for path, match in pointers.items():
        action = actions[match[1].decode()]
        content = _get(action["href"], action.get("header"))
        if hashlib.sha256(content).hexdigest() != match[1].decode():
            raise ValueError(f"{path.name} of {path.parent.name} arrived damaged")
        path.write_bytes(content)


def _get(url: str, headers: dict[str, str] | None = None) -> bytes:
    answer = requests.get(url, headers=headers, timeout=TIMEOUT)
    answer.raise_for_status()
    return answer.content


def _short(error: Exception) -> str:
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
