"""Traces of runs, what agents did on tasks, as one file for training: a row for each run, one run after the other.

harbor    parquet with Harbor's columns and this project's (default)
sharegpt  JSON lines: {"conversations": [{"from": "human", "value": …}, …], …}, the other columns beside them
openai    JSON lines: {"messages": [{"role": "user", "content": …}, …], "tools": …}, with calls of tools as such, and nothing else
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from helpers.datagen import contamination, trace_messages, trace_rows
from helpers.datagen.contamination import Instructions
from helpers.datagen.trace_filters import OUTCOMES, Filters
from helpers.datagen.trace_messages import Unfit
from helpers.datagen.trace_rows import COLUMNS, EPISODES, VERSIONS, Trace
from helpers.datagen.utils import positive, spell_both
from helpers.lib import disk, values
from helpers.lib.errors import Refused, fault_code
from helpers.lib.signals import catch_signals
from helpers.runs import parquet, search

GROUP_BYTES, GROUP_ROWS = (
    16 * 2**20,
    2000,
)  # that are held at a time, and stand in a row group: characters of conversations, rows
NUMBERS = ("reward", "score", "seconds")
WHOLE = ("prompt_tokens", "completion_tokens")
EXIT_CODES = "Exit codes: 0 all was read; 2 usage, or nothing found; 3 something is broken (see stderr; the rows of all else are there)."


@dataclass
class Counted:
    """What an export came to. left_out: runs and rows by reason; states: rows by state; without_model: rows of no language model."""

    runs: int = 0
    rows: int = 0
    without_model: int = 0
    states: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """For people."""
        parts = [f"{_counted(self.rows, 'row')} of {_counted(self.runs, 'run')}"]
        if self.left_out:
            parts.append(f"left out: {', '.join(f'{count} {why}' for why, count in self.left_out.most_common())}")
        if self.without_model:
            parts.append(f"{_counted(self.without_model, 'row')} of no language model")
        return "; ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def export(
    runs: Sequence[str | Path],
    output: str | Path,
    form: str = "harbor",
    keep: Filters | None = None,
    episodes: str = "last",
) -> Counted:
    """Write the traces of all runs below some folders to a file, which is replaced whole. form: of FORMS; episodes: of EPISODES.

    Raises Refused where no run is found, and OSError.
    """
    keep, counted = keep or Filters(), Counted()
    mode: dict[str, Any] = {"mode": "wb"} if form == "harbor" else {"mode": "w", "encoding": "utf-8", "newline": "\n"}
    keep.look_at(search.runs(runs, []))

    def write(file: IO[Any]) -> None:
        FORMS[form](_kept(runs, keep, episodes, counted), file)
        if not counted.runs:
            said = "".join(f"; {sentence}" for sentence in counted.broken)
            raise Refused(f"no runs in {', '.join(map(str, runs))}{said}", 3 if said else 2)

    disk.fill(output, write, **mode)
    return counted


def _kept(runs: Sequence[str | Path], keep: Filters, episodes: str, counted: Counted) -> Iterator[Trace]:
    """What is to be written; counts it, and what is left out."""
    for run in search.runs(runs, counted.broken):
        counted.runs += 1
        if why := keep.against_run(run):
            counted.left_out[why] += 1
            continue
        try:
            for trace in trace_rows.traces(run, episodes):
                if why := keep.against(trace):
                    counted.left_out[why] += 1
                    continue
                counted.rows += 1
                counted.states[run.state] += 1
                counted.without_model += trace.is_language_model is False
                yield trace
        except Unfit as error:
            counted.left_out[str(error)] += 1


def write_harbor(traces: Iterable[Trace], file: IO[bytes]) -> None:
    """Write traces as parquet, a row group at a time. Raises OSError, and Refused without pyarrow."""
    arrow = parquet.check()
    schema = arrow.schema([(name, _kind(name, arrow)) for name in COLUMNS])
    with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        size = 0
        for trace in traces:
            group.append(trace.row())
            size += sum(len(one["content"]) for one in trace.conversations)
            if size >= GROUP_BYTES or len(group) >= GROUP_ROWS:
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))
                group, size = [], 0
        if group:
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _kind(name: str, arrow: Any) -> Any:
    """The type of a column."""
    text = arrow.string()
    if name == "conversations":
        return arrow.list_(arrow.struct([("role", text), ("content", text)]))
    if name == "versions":
        return arrow.struct([(version, text) for version in VERSIONS])
    if name == "is_language_model":
        return arrow.bool_()
    return arrow.float64() if name in NUMBERS else arrow.int64() if name in WHOLE else text


def write_sharegpt(traces: Iterable[Trace], file: IO[str]) -> None:
    """Write traces in ShareGPT's form, a line each. Raises OSError."""
    for trace in traces:
        said = trace_messages.sharegpt(trace.messages, trace.conversation.tools)
        _line(file, trace.row() | {"conversations": said})


def write_openai(traces: Iterable[Trace], file: IO[str]) -> None:
    """Write traces in OpenAI's form for fine-tuning, a line each. Raises OSError."""
    for trace in traces:
        tools = [
            tool if "function" in tool else {"type": "function", "function": tool} for tool in trace.conversation.tools
        ]
        _line(file, {"messages": trace_messages.openai(trace.messages)} | ({"tools": tools} if tools else {}))


def _line(file: IO[str], data: dict[str, Any]) -> None:
    file.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")


FORMS: dict[str, Callable[[Iterable[Trace], Any], None]] = {
    "harbor": write_harbor,
    "sharegpt": write_sharegpt,
    "openai": write_openai,
}


def parser() -> argparse.ArgumentParser:
    columns = "\n".join(f"  {name:<18} {meaning}" for name, meaning in COLUMNS.items())
    made = argparse.ArgumentParser(
        prog="python -m helpers.datagen.trace_export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Lost and cancelled runs are never rows, nor are those that have not ended.\n\nColumns:\n{columns}\n\n{EXIT_CODES}",
    )
    made.add_argument("runs", nargs="+", metavar="RUNS", help="folder of a workflow, of many, or of one run")
    made.add_argument("-o", "--output", required=True, metavar="FILE", help="write there")
    made.add_argument("--format", choices=FORMS, default="harbor", help="default: %(default)s")
    made.add_argument(
        "--trace-export-filter",
        choices=OUTCOMES,
        default="none",
        help="only such runs; default: %(default)s, all of them",
    )
    made.add_argument("--valid-only", action="store_true", help="only runs that were graded")
    made.add_argument(
        "--best-of-n",
        type=positive,
        nargs="?",
        const=1,
        metavar="K",
        help="of all runs of a task with a model and an agent the one with the best score, or the best K",
    )
    made.add_argument(
        "--episodes",
        choices=EPISODES,
        default="last",
        help="a row for each run, or for each answer of the agent what was said up to it; default: %(default)s",
    )
    made.add_argument("--deduplicate", action="store_true", help="one row of those that say the same")
    made.add_argument(
        "--decontaminate",
        action="append",
        type=Path,
        metavar="LIST",
        help="no row whose instruction has words in a row in common with one of these: a file with one a line, .jsonl or .json, or a "
        "folder of tasks; may be given again",
    )
    made.add_argument(
        "--overlap-words",
        type=positive,
        default=contamination.WORDS,
        metavar="N",
        help="how many words in a row; default: %(default)s",
    )
    return made


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    asked = spell_both(parser())
    options = asked.parse_args(argv)
    if parquet.is_meant(options.output) != (options.format == "harbor") and os.path.splitext(options.output)[1]:
        wanted = ".parquet" if options.format == "harbor" else ".jsonl"
        asked.error(
            f"--format {options.format} is no file like {options.output}: give it a name in {wanted}, or choose another format"
        )
    return options


def _say(text: str) -> None:
    print(f"trace_export: {values.CONTROL.sub(' ', text)}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    try:
        lists = options.decontaminate
        apart = Instructions(contamination.read(lists), options.overlap_words) if lists else None
        keep = Filters(options.trace_export_filter, options.valid_only, options.best_of_n, options.deduplicate, apart)
        missing = [path for path in options.runs if not os.path.isdir(path)]
        if missing:
            raise Refused(
                f"{missing[0]}: there is no such folder; name the folder of a workflow, of many, or of one run"
            )
        counted = export(options.runs, options.output, options.format, keep, options.episodes)
    except Refused as error:
        _say(str(error))
        return error.code
    except OSError as error:
        _say(f"can't write {options.output}: {error.strerror}; name another file with -o")
        return fault_code(error)
    for sentence in counted.broken:
        _say(sentence)
    _say(f"{counted.sentence()}; in {options.output}")
    return 3 if counted.broken else 0


if __name__ == "__main__":
    catch_signals()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
