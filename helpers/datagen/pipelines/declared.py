"""The command of a declarative pipeline, which has all of its parameters in its file: where its tasks go, and whether they are uploaded."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from helpers.datagen import command, utils
from helpers.datagen.schemas import GenerationResult


def run(
    script: str | Path,
    about: str | None,
    make: Callable[[], Path],
    name: str,
    argv: Sequence[str] | None = None,
    *,
    target_repo: str | None = None,
    **source: Any,
) -> int:
    """Make a data set as a command; its exit code, as helpers/datagen/command.py says.

    script: the pipeline's file, __file__; about: its docstring; make: makes the tasks, in a folder; name: of the data set.
    target_repo: where it is uploaded to by default. source: what its card says of the source (source, source_revision, licence).
    """

    def generate(argv: Sequence[str] | None) -> GenerationResult:
        args = _parser(about, name, target_repo).parse_args(argv)
        return _generate(Path(script), make, args, source)

    return command.run(generate, logging.getLogger(f"datagen.{name}"), argv)


def _parser(about: str | None, name: str, target_repo: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    place = Path("outputs", "tasks", name)
    parser.add_argument(
        "--output-dir", type=Path, default=place, metavar="DIR", help="where the tasks go (default: %(default)s)"
    )
    parser.add_argument(
        "--target-repo",
        default=target_repo,
        metavar="OWNER/NAME",
        help="the Hugging Face repository to upload to (default: %(default)s)",
    )
    parser.add_argument("--no-upload", action="store_true", help="upload nothing")
    parser.add_argument("--public", action="store_true", help="what is uploaded may be seen by everybody")
    return utils.spell_both(parser)


def _generate(
    script: Path, make: Callable[[], Path], args: argparse.Namespace, source: dict[str, Any]
) -> GenerationResult:
    from helpers.datagen import commons
    from helpers.datagen.dataset_card import Provenance
    from helpers.datagen.snapshots import tasks_in

    result = GenerationResult(str(commons.finalize_dataset_output(make(), args.output_dir)))
    if args.target_repo and not args.no_upload:
        script = script.resolve()
        provenance = Provenance.here(
            "tasks",
            generator="/".join(script.parts[-2:]),
            config_hash=hashlib.sha256(script.read_bytes()).hexdigest(),
            counts={"made": len(tasks_in(Path(result.dataset_path or "")))},
            **source,
        )
        commons.upload_tasks_to_hf(
            result.dataset_path or "", args.target_repo, provenance=provenance, public=args.public
        )
        result.uploaded_repo = args.target_repo
    return result
