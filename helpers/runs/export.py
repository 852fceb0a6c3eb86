"""Results of many runs in one table: a row a run, as CSV, parquet or JSON, or as runs of MLflow.

Needs nothing but Python; pyarrow for parquet, and MLflow for its runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from typing import Any, TextIO

from helpers.lib import disk, values
from helpers.lib.errors import Refused
from helpers.runs import mlflow_export, parquet
from helpers.runs.collection import Collection
from helpers.runs.columns import COLUMNS, METRIC, METRIC_MEANING, WHAT_COUNTS, table

EXIT_CODES = (
    "Exit codes: 0 all was read; 2 usage, or nothing found; 3 something is broken (see stderr; no row is lost)."
)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"  # a spreadsheet would run it as a formula
    return value


def write(rows: list[dict[str, Any]], as_json: bool, file: TextIO) -> None:
    """Write rows of a collection as CSV, or as a JSON list."""
    columns, rows = table(rows)
    if as_json:
        json.dump(rows, file, indent=2, ensure_ascii=False)
        file.write("\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)


def write_file(rows: list[dict[str, Any]], as_json: bool, path: str) -> None:
    """Write to a file, parquet where its name says so; a reader sees the old table or the new one. Raises OSError."""
    if parquet.is_meant(path):
        columns, rows = table(rows)
        disk.fill(path, lambda file: parquet.write(rows, columns, file), mode="wb")
    else:
        text: dict[str, Any] = {"mode": "w", "encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
        disk.fill(path, lambda file: write(rows, as_json, file), **text)


def parser() -> argparse.ArgumentParser:
    columns = "\n".join(
        f"  {name:<18} {meaning}".rstrip() for name, meaning in [*COLUMNS.items(), (f"{METRIC}<name>", METRIC_MEANING)]
    )
    made = argparse.ArgumentParser(
        prog="export_results.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{WHAT_COUNTS}\n\nColumns:\n{columns}\n\n{EXIT_CODES}",
    )
    made.add_argument(
        "runs",
        nargs="*",
        metavar="RUNS",
        help="folder of a workflow, of many, or of one run; default: paths.runs of the site",
    )
    made.add_argument("--site", help="whose runs; default: $HPC_SITE, else by host name")
    made.add_argument("--set", dest="overrides", action="append", default=[], help="override a key of the site")
    made.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write there, as parquet where its name ends in .parquet; default: CSV to standard output",
    )
    made.add_argument("--json", action="store_true", help="a JSON list instead of CSV")
    made.add_argument("--all", action="store_true", help="a row for every run, lost and cancelled tries too")
    made.add_argument(
        "--mlflow",
        nargs="?",
        const=mlflow_export.DEFAULT_STORE,
        metavar="URI",
        help="log each row to MLflow, once, and print no table (unless -o): a server, or a database file; default: "
        f"{mlflow_export.DEFAULT_STORE}, here (`mlflow ui` shows it)",
    )
    return made


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    asked = parser()
    options = asked.parse_args(argv)
    if options.mlflow and options.all:
        asked.error("--mlflow logs one run for each attempt: leave out --all")
    if parquet.is_meant(options.output):
        if options.json:
            asked.error(f"-o {options.output} is parquet by its name, --json is JSON: give one of them")
        try:
            parquet.check()
        except Refused as error:
            asked.exit(error.code, f"export_results: {error}\n")
    if not options.runs:
        options.runs = [_all_runs(asked, options)]
    return options


def _all_runs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """paths.runs of the site; a Python that can't read sites is a matter of usage."""
    try:
        from helpers.config.asked import AskedSite

        return str(AskedSite(options.site, options.overrides).runs)
    except ImportError:
        parser.error(
            "the following arguments are required: RUNS (scripts_hpc/results.sh knows the site's, this Python doesn't)"
        )
    except Refused as error:
        parser.exit(error.code, f"export_results: {error}\n")


def _say(text: str) -> None:
    print(f"export_results: {values.CONTROL.sub(' ', text)}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    missing = [path for path in options.runs if not os.path.isdir(path)]
    if missing:
        _say(f"{missing[0]}: there is no such folder; name the folder of a workflow, of many, or of one run")
        return 2
    collection = Collection(options.runs)
    for sentence in [*collection.broken, *collection.notes]:
        _say(sentence)
    if not collection.runs:
        _say(f"no runs in {', '.join(options.runs)}")
        return 3 if collection.broken else 2
    try:
        if options.mlflow:
            done = mlflow_export.export(collection.named_rows(), options.mlflow)
            _say(
                f"{done['new']} runs logged, {done['changed']} changed, {done['unchanged']} unchanged at {options.mlflow}"
            )
        if options.output or not options.mlflow:
            _print(collection, options)
    except Refused as error:
        _say(str(error))
        return error.code
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _say(f"can't write {options.output or 'the table'}: {error.strerror}; name another file with -o")
        return 3
    return 3 if collection.broken else 0


def _print(collection: Collection, options: argparse.Namespace) -> None:
    rows = collection.rows(options.all)
    if options.output in (None, "-"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
        write(rows, options.json, sys.stdout)
        sys.stdout.flush()
    else:
        write_file(rows, options.json, options.output)
        _say(f"{len(rows)} rows, from {len(collection.runs)} runs, in {options.output}")


def command() -> None:
    """The command: main, and what is to be done about a reader that has gone."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    command()
