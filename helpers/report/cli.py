"""`results.sh report`: a round or some runs as one HTML file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from helpers.config.asked import AskedSite
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure, Refused
from helpers.lib.signals import catch_signals


@click.command()
@click.argument("words", nargs=-1, metavar="[ROUND|RUNS]...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="report.html", show_default=True, metavar="FILE"
)
@SITE
@SET
def main(words: tuple[str, ...], output: Path, site: str | None, overrides: tuple[str, ...]) -> int:
    """Write a report on rounds, or folders of runs; without any, on all runs of the site. 3 where something is broken."""
    from helpers.report import gathered, page

    catch_signals()
    if output.is_dir() or not output.parent.is_dir():
        raise ConfigError(
            [
                f"-o {output}: {'is a folder' if output.is_dir() else f'there is no folder {output.parent}'}. Name a file."
            ]
        )
    try:
        found = gathered.gather(words, AskedSite(site, list(overrides)))
        written = page.write(found, Path(os.path.abspath(output)))
    except Refused as error:
        said = f"{str(error).rstrip('.')}."
        raise (Infrastructure(said) if error.code == 3 else ConfigError([said])) from error
    beside = (
        f", with details in {written.beside} files in {output.with_name(output.stem + '_files')}"
        if written.beside
        else ""
    )
    click.echo(f"{output}: {written.runs} runs, {written.bytes / 1e6:.1f} MB{beside}", err=True)
    return 3 if any(one.collection.broken for one in found.members[:1]) else 0


if __name__ == "__main__":
    sys.exit(launch(main, "results.sh report"))
