"""Runs a command of ours: whatever goes wrong becomes one message on stderr and a true exit code, however it is ended."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from helpers.lib import errors
from helpers.lib.errors import ConfigError, Infrastructure

SITE = click.option(
    "--site", help="A name in site-config/, or the path of a YAML file. Default: $HPC_SITE, else by host name."
)
SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. paths.data=/scratch/me."
)


def launch(command: click.Command, name: str, argv: list[str] | None = None) -> int:
    """Run a click command; whatever goes wrong becomes one message on stderr and a true exit code.

    0 done; 2 usage or configuration; 3 disk full, or infrastructure; 130 interrupted; else what the command returns.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # not every terminal knows a check mark
    try:
        return command.main(argv, prog_name=name, standalone_mode=False) or 0
    except click.Abort:  # Ctrl-C, SIGTERM, or the end of the input at a question
        return _failed(130, "interrupted")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        # what the person typed may be a script that passes its options on
        typed = os.environ.get("HAB_COMMAND") or name
        return _failed(error.exit_code, f"{typed}: {error.format_message().rstrip('.')} (--help tells more)")
    except ConfigError as error:
        return _failed(2, *(f"error: {problem}" for problem in error.problems))
    except errors.Refused as error:
        return _failed(error.code, f"error: {error}")
    except (Infrastructure, errors.Busy) as error:
        return _failed(3, f"error: {str(error) or 'somebody else prepares this task just now; try again later'}")
    except MemoryError:
        return _failed(3, "error: this machine hasn't enough memory for it")
    except OSError as error:
        if not error.filename:
            # what is still in its buffer would fail again at the end, with Python's own words and exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = errors.fault_code(error)
        said = f"error: {error.filename2 or error.filename or 'standard output'}: {error.strerror or error}"
        return _failed(code, said + (". Free space there, or choose another folder" if code == 3 else ""))


def _failed(code: int, *lines: str) -> int:
    for line in lines:
        click.echo(line, err=True)
    return code


@contextlib.contextmanager
def about(path: str | Path) -> Iterator[None]:
    """Give errors of writing, which don't say where, the path that they are about."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
