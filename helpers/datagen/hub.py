"""Datasets on the Hugging Face Hub: uploads of whole files in one commit, with a card that says where they come from; downloads.

An upload that breaks off is gone on with by the same call: the Hub knows each file by its sha256, and takes none twice. Nothing is ever
deleted there. https://huggingface.co/docs/huggingface_hub/guides/upload
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from helpers.config.sites import ROOT
from helpers.datagen import dataset_card
from helpers.datagen.schemas import GenerationError, GenerationStage, InputValidationError, UploadFailure
from helpers.images import download_model
from helpers.lib import private, text

SUFFIXES = (".parquet", ".jsonl")
CARD, OTHER_CARD = "README.md", "provenance.md"
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PART = re.compile(r"(.*)-\d{5}-of-(\d{5})(\.\w+)")
PAUSES = (5.0, 20.0)  # seconds before another try; the client itself has tried each request six times
AGAIN = {408, 409, 412, 425, 429, 500, 502, 503, 504}  # 409 and 412: another job's commit came between


class Upload(NamedTuple):
    """What was uploaded, or would be: the dataset, its address, each file with its bytes, and the commit; None where it is a dry run."""

    repo: str
    url: str
    files: dict[str, int]
    is_public: bool
    commit: str | None = None

    def __str__(self) -> str:
        size = download_model.size(sum(self.files.values()))
        seen = "public" if self.is_public else "private"
        did = f"commit {self.commit}" if self.commit else "dry run: nothing was sent"
        lines = [f"{self.url} ({seen}, {did}): {len(self.files)} files, {size}"]
        return "\n".join([*lines, *(f"  {name}  {download_model.size(count)}" for name, count in self.files.items())])


class Download(NamedTuple):
    """A dataset that was downloaded: where it is, and its commit."""

    path: Path
    commit: str


def upload(
    files: Mapping[str, Path],
    repo: str,
    provenance: dataset_card.Provenance,
    *,
    public: bool = False,
    dry_run: bool = False,
    with_card: bool = True,
    revision: str = "main",
) -> Upload:
    """Upload files to a dataset in one commit, by their names there, with a card. The dataset is made, private, where it isn't there.

    public: what is uploaded may be seen by everybody. dry_run: say what would go, without network or token. with_card: of jobs that each
    upload their share, one alone is to write it. A card that isn't ours stays, and ours is then provenance.md.
    Raises InputValidationError for what a person must change, and UploadFailure.
    """
    if not REPO.fullmatch(repo):
        raise InputValidationError(f"{repo!r} is no name of a dataset on the Hub: owner/name")
    if not files:
        raise InputValidationError(f"there is nothing to upload to {repo}")
    if missing := [path for path in files.values() if not path.is_file()]:
        raise InputValidationError(f"{missing[0]}: there is no such file to upload")
    card = dataset_card.render(repo, provenance, sorted(files)).encode() if with_card else None
    planned = Upload(repo, f"{_endpoint()}/datasets/{repo}", _sizes(files, {CARD: card} if card else {}), public)
    if dry_run:
        return planned
    _check_environment()
    pauses = iter(PAUSES)
    while True:
        try:
            with _quiet():
                return _upload(files, card, planned, revision)
        except GenerationError:
            raise
        except Exception as error:
            told, pause = _explained(error, repo, revision, "uploaded"), next(pauses, None)
            if pause is None or not _is_passing(error):
                raise told from error
        click.echo(f"{told}: another try in {pause:.0f} s", err=True)
        time.sleep(pause)


def _upload(files: Mapping[str, Path], card: bytes | None, planned: Upload, revision: str) -> Upload:
    from huggingface_hub import CommitOperationAdd

    api = _api()
    there = _there(api, planned, revision)
    _check_parts(sorted(files), there, planned.repo)
    cards = {_card_name(api, planned.repo, revision, there): card} if card else {}
    content: dict[str, Path | bytes] = {**files, **cards}
    # anew for each try: what the Hub has by now is asked again, and isn't sent again
    operations = [CommitOperationAdd(name, value) for name, value in content.items()]
    done = api.create_commit(
        planned.repo,
        operations,
        commit_message=f"Add {len(files)} files" if len(files) > 1 else f"Add {next(iter(files))}",
        repo_type="dataset",
        revision=revision,
    )
    return planned._replace(files=_sizes(files, cards), commit=done.oid)


def _sizes(files: Mapping[str, Path], cards: Mapping[str, bytes]) -> dict[str, int]:
    return {
        **{name: path.stat().st_size for name, path in files.items()},
        **{name: len(data) for name, data in cards.items()},
    }


def _there(api: Any, planned: Upload, revision: str) -> list[str]:
    """The names of the files in a dataset, which is made where it isn't there. Raises InputValidationError for a public one."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        about = api.repo_info(planned.repo, repo_type="dataset", revision=revision)
    except RepositoryNotFoundError:
        api.create_repo(planned.repo, repo_type="dataset", private=not planned.is_public, exist_ok=True)
        about = api.repo_info(planned.repo, repo_type="dataset")
    if not about.private and not planned.is_public:
        raise InputValidationError(
            f"{planned.repo} is public, and everybody could see what is uploaded: allow it (--public), or name another dataset"
        )
    return [one.rfilename for one in about.siblings or []]


def _check_parts(names: Sequence[str], there: Sequence[str], repo: str) -> None:
    """Parts of another upload would be read together with ours: train-00000-of-00003 beside train-00000-of-00002."""
    counts = {(found[1], found[3]): found[2] for name in names if (found := PART.fullmatch(name))}
    for name in there:
        found = PART.fullmatch(name)
        if found and counts.get((found[1], found[3]), found[2]) != found[2]:
            raise InputValidationError(
                f"{repo} holds {text.clean(name)}, a part of another upload, that would be read together with this one: name another "
                "dataset, or delete it there"
            )


def _card_name(api: Any, repo: str, revision: str, there: Sequence[str]) -> str:
    if CARD not in there:
        return CARD
    with tempfile.TemporaryDirectory(prefix="hab-datagen-", ignore_cleanup_errors=True) as folder:
        path = api.hf_hub_download(repo, CARD, repo_type="dataset", revision=revision, cache_dir=folder)
        is_ours = dataset_card.MARKER in Path(path).read_text(encoding="utf-8", errors="replace")
    return CARD if is_ours else OTHER_CARD


def download(
    repo: str,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    patterns: Sequence[str] | None = None,
) -> Download:
    """Download a dataset at a revision (a branch, tag or commit; by default the newest), or the files of it whose names match.

    cache_dir: by default huggingface_hub's (HF_HOME). Raises InputValidationError for what a person must change, else GenerationError.
    """
    if not REPO.fullmatch(repo):
        raise InputValidationError(f"{repo!r} is no name of a dataset on the Hub: owner/name")
    _check_environment()
    from huggingface_hub import snapshot_download

    options = {"cache_dir": cache_dir, "allow_patterns": list(patterns) if patterns else None}
    try:
        with _quiet():
            path = snapshot_download(
                repo,
                repo_type="dataset",
                revision=revision,
                token=download_model.token(),
                endpoint=_endpoint(),
                **options,
            )
    except Exception as error:
        raise _explained(error, repo, revision or "main", "downloaded") from error
    return Download(Path(path), Path(path).name)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _api() -> Any:
    """The Hub's client. Without a token in HF_TOKEN, the environment's or .env's, it takes the one of `hf auth login`."""
    from huggingface_hub import HfApi, get_token

    token = download_model.token()
    if not token and not get_token():
        raise InputValidationError(
            f"an upload needs a token of the Hub: give one as HF_TOKEN in the environment or in {ROOT}/.env"
        )
    return HfApi(endpoint=_endpoint(), token=token)


def _check_environment() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in {"", "0", "false"}:
        raise InputValidationError(
            "HF_HUB_OFFLINE is set, which forbids it: unset it, or do this where the internet can be reached"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars in logs, and no warnings at each try: they show the addresses of uploads, by which anybody could write there."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    level, bars = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty() and not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not bars:
            enable_progress_bars()


def _status(error: Exception) -> int | None:
    """The Hub's answer at the bottom of an error; None where it gave none."""
    from huggingface_hub.errors import HfHubHTTPError

    found = [cause for cause in download_model.causes(error) if isinstance(cause, HfHubHTTPError)]
    return found[0].response.status_code if found else None


def _is_broken(error: Exception) -> bool:
    import httpx2

    return any(isinstance(cause, (httpx2.TransportError, ConnectionError)) for cause in download_model.causes(error))


def _is_passing(error: Exception) -> bool:
    """Whether another try may do."""
    status = _status(error)
    return _is_broken(error) if status is None else status in AGAIN


def _explained(error: Exception, repo: str, revision: str, done: str) -> GenerationError:
    """What a person must know of an error of huggingface_hub. done: uploaded or downloaded."""
    from huggingface_hub import errors

    status, chain = _status(error), download_model.causes(error)
    begin = f"{repo} could not be {done}"
    if any(isinstance(cause, errors.GatedRepoError) for cause in chain):
        return InputValidationError(f"{begin}: it is gated: accept its terms at {_endpoint()}/datasets/{repo}", error)
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in chain):
        return InputValidationError(f"{begin}: it has no revision {revision!r} (a branch, tag or commit)", error)
    if status in {401, 403, 404}:
        may = "write to it" if done == "uploaded" else "read it"
        token = "your token may not" if download_model.token() else "a token is needed (HF_TOKEN) to"
        return InputValidationError(f"{begin}: there is no such dataset, or {token} {may} (HTTP {status})", error)
    if status is not None:
        why, advice = f"the Hub answers HTTP {status}", "run it again later"
    elif _is_broken(error):
        why, advice = (
            f"the Hub can't be reached ({download_model.innermost(error)})",
            "do this where the internet can be reached, and run it again",
        )
    else:
        why, advice = download_model.innermost(error), "run it again"
    kept = "files that are complete there aren't sent again" if done == "uploaded" else "complete files are kept"
    message = text.clean(private.mask(f"{begin}: {why}: {advice}; {kept}"))
    if done == "uploaded":
        return UploadFailure(message, error)
    return GenerationError(message, stage=GenerationStage.prepare, cause=error)
