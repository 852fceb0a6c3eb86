"""Fetches a model's weights from the Hugging Face Hub into the cache that model servers read."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

import click

from helpers.config import entries, layers, sites
from helpers.config.schema import Model, Site
from helpers.config.sites import ROOT
from helpers.images import weights
from helpers.lib import room
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure

TOKENS = ("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN")
WORKERS = 4  # files at once; those that aren't complete when a download breaks off start again
MOST_OPEN = 4096  # files: numbers are given out from below
STALE_SECONDS = 3600


def token() -> str | None:
    """The Hub's token, from the environment, else from .env, of which nothing else is read; None: none."""
    return next(filter(None, map(layers.key, TOKENS)), None)


def prepare_environment(site: Site) -> None:
    """Set what huggingface_hub reads when it is imported: proxy, certificates, caches, progress bars."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in {"", "0", "false"}:
        raise ConfigError(["HF_HUB_OFFLINE is set, which forbids downloads: unset it and run this again."])
    os.environ |= site.environment.proxies(os.environ)
    if site.environment.ca_bundle:
        os.environ |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), site.environment.ca_bundle)
    os.environ.setdefault("HF_XET_CACHE", str(Path(site.paths.models, "xet")))  # homes are small
    if not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def download(model: Model, site: Site, revision: str) -> tuple[str, int]:
    """Download what is missing of a model's revision.

    Returns its commit and its size in bytes. Raises ConfigError for what the user must change, else Infrastructure.
    """
    from huggingface_hub import snapshot_download

    cached = weights.storage(model.repo, site.paths.models)
    remove_stale(cached / "blobs")
    where: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cached.parent,
        "token": token(),
        "max_workers": WORKERS,
    }
    try:
        files = snapshot_download(model.repo, dry_run=True, **where)
        if files and discard_broken(cached / "snapshots" / files[0].commit_hash):
            files = snapshot_download(model.repo, dry_run=True, **where)
        is_copied = any(fnmatch(file.filename, weights.KINDS[0]) for file in files)
        ignored = list(weights.COPIES) if is_copied else []
        files = [file for file in files if not any(fnmatch(file.filename, pattern) for pattern in ignored)]
        check_files(model, files, site)
        commit = files[0].commit_hash
        if any(file.will_download for file in files):
            snapshot_download(model.repo, ignore_patterns=ignored, **where)
    except (ConfigError, Infrastructure):
        raise
    except Exception as error:
        raise explained(error, model, site, revision) from error
    if problem := weights.problem(model.repo, commit, site.paths.models, tokenizer=model.needs_tokenizer):
        raise ConfigError([f"{model.name}: {problem}. So it is on the Hub: choose another repo or revision."])
    return commit, sum(file.file_size or 0 for file in files)


def discard_broken(snapshot: Path) -> bool:
    """Delete the files of a snapshot that are there and not whole, with what they link to: the Hub's client would keep them."""
    broken = weights.broken(snapshot)
    for path in broken:
        click.echo(f"{path} isn't whole: it is downloaded again", err=True)
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return bool(broken)


def check_files(model: Model, files: list[Any], site: Site) -> None:
    """ConfigError when there are no weights, Infrastructure when the disk is too small for what is missing."""
    if not any(fnmatch(file.filename, pattern) for file in files for pattern in weights.KINDS):
        raise ConfigError(
            [f"{model.name}: {model.repo} holds no weights ({', '.join(weights.KINDS)}): is that the right repo?"]
        )
    missing = sum(file.file_size or 0 for file in files if file.will_download)
    free = shutil.disk_usage(site.paths.models).free
    if missing > free:
        raise Infrastructure(
            f"{model.name}: {size(missing)} are to be downloaded, and {site.paths.models} has {size(free)} free. "
            f"Free space, or set paths.models of site {site.name} to a larger disk."
        )
    click.echo(f"{model.repo}: {size(missing)} to download into {site.paths.models}/hub", err=True)


def explained(error: Exception, model: Model, site: Site, revision: str) -> Exception:
    """What a person must know of an error of huggingface_hub: a ConfigError, or an Infrastructure."""
    import httpx2
    from huggingface_hub import errors

    chain = causes(error)
    for answer in chain:
        if isinstance(answer, errors.HfHubHTTPError):
            return refused(answer, model, revision)
    if isinstance(error, errors.HFValidationError):
        return ConfigError([f"{model.name}: repo '{model.repo}' is no name of a repository (owner/name)."])
    why, advice = innermost(error), "Run it again: complete files are kept."
    if any(isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT} for cause in chain):
        return Infrastructure(
            f"{model.name}: the disk or quota of {site.paths.models} is full. Free space, then: {advice}"
        )
    if any(isinstance(cause, (httpx2.TransportError, errors.LocalEntryNotFoundError)) for cause in chain):
        return Infrastructure(
            f"{model.name}: the Hub can't be reached ({why}). Do this where the internet can be reached, or set "
            f"environment.proxy of site {site.name}. {advice}"
        )
    return Infrastructure(f"{model.name}: the download failed ({why}). {advice}")


def refused(error: Any, model: Model, revision: str) -> Exception:
    """The same for an HfHubHTTPError, an answer of the Hub."""
    from huggingface_hub import errors

    key = f"give a token as HF_TOKEN in the environment or in {ROOT}/.env"
    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        problem = f"{model.repo} is gated: accept its terms at https://huggingface.co/{model.repo}, then {key}"
    elif isinstance(error, errors.RevisionNotFoundError):
        problem = f"{model.repo} has no revision '{revision}' (a branch, tag or commit)"
    elif isinstance(error, errors.RepositoryNotFoundError) or status in {401, 403}:
        rest = "your token may not read it" if token() else f"it needs a token: {key}"
        problem = f"there is no repository {model.repo}, or {rest} (HTTP {status})"
    else:
        return Infrastructure(
            f"{model.name}: the Hub answers HTTP {status}. Run it again later: complete files are kept."
        )
    return ConfigError([f"{model.name}: {problem}."])


def causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the outermost first."""
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    return chain


def innermost(error: BaseException) -> str:
    """What was at the bottom of an error, on one line."""
    cause = causes(error)[-1]
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:120]}"


def size(count: int) -> str:
    """Bytes for people, in powers of ten as disks are sold."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def remove_stale(blobs: Path) -> None:
    """Delete the partial files of downloads that were killed; their names are random, so that nothing can use them."""
    for path in blobs.glob("*.incomplete"):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            path.unlink(missing_ok=True)


def stop(*_: Any) -> NoReturn:
    """End at once, and leave no partial files: huggingface_hub would first wait for its threads, gigabytes later."""
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # the threads go on: from here on they open no other file
    for number in (*range(min(most, MOST_OPEN)),) * 2:  # one that was just being opened is there the second time
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
            if target.endswith(".incomplete"):
                os.unlink(target)
        except OSError:
            continue
    os.write(2, b"\ninterrupted: complete files are kept, run it again to go on\n")
    os._exit(130)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="MODEL")
@SITE
@SET
@click.option("--revision", help="A branch, tag or commit instead of the one in models.yaml.")
def main(name: str, site: str | None, overrides: tuple[str, ...], revision: str | None) -> None:
    """Download the weights of a model of site-config/models.yaml."""
    resolved = sites.load_site(sites.pick_site(site), list(overrides))
    known = entries.models(resolved).get(name)
    if known and known.engine != "vllm":
        kind = "is not a language model" if known.engine == "replay" else f"runs at {known.base_url}"
        click.echo(f"{name} {kind}: nothing to download")
        return
    model = entries.model(name, resolved)
    if Path(model.repo).is_absolute():
        if problem := weights.problem(
            model.repo, model.revision, resolved.paths.models, tokenizer=model.needs_tokenizer
        ):
            raise ConfigError([f"{name}: {problem}. Copy what is missing there."])
        click.echo(f"{name} reads its weights from {model.repo}: nothing to download")
        return
    prepare_environment(resolved)
    Path(resolved.paths.models).mkdir(parents=True, exist_ok=True)
    if lacking := room.lacking(resolved.paths.models):
        raise Infrastructure(f"{resolved.paths.models} (paths.models of site {resolved.name}): {lacking}.")
    Path(resolved.paths.models, "hub").mkdir(exist_ok=True)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    commit, count = download(model, resolved, revision or model.revision)
    click.echo(f"{name}: {model.repo} at commit {commit} ({size(count)}) is in {resolved.paths.models}/hub")
    if model.revision != commit:
        click.echo(f"To pin it, write in site-config/models.yaml under {name}:  revision: {commit}")


if __name__ == "__main__":
    sys.exit(launch(main, "models.sh download"))
