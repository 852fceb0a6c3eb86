"""What test scripts say of an agent's diff, as a score: evaluation_results.json, scoring_results.md and grading_report.json of a run.

The score is the sum of each rubric's weight times the share of its scripts that passed, by the sum of all weights: a rubric without
scripts has no score of its own, and its weight counts all the same. A script that timed out, was killed, or couldn't be started has
not passed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from helpers.grading import report
from helpers.lib import disk, values
from helpers.lib.text import clean
from helpers.repositories import evaluation, steps
from helpers.repositories.evaluation import Evaluation

PASSED = "passed"
STATES = {  # of a script, in words for people
    PASSED: "passed",
    "failed": "failed with exit code {exit_code}",
    "timed_out": "didn't end within {limit} s and was ended",
    "killed": "was killed by signal {signal}; 9 is mostly a lack of memory",
    "too_much": "wrote too much and was ended: {why}",
    "not_started": "couldn't be started: {why}",
    "not_run": "wasn't run",
}
MOST_OUTPUT = 128 * 1024  # bytes of a script's output in a result
USAGE_BYTES = 64 * 1024


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """What the shell noted of each script, by its path: a line of JSON each (scripts_hpc/lib/repository.sh)."""
    found = {}
    for line in disk.decoded(disk.read_file(path))[0].splitlines():
        one = json.loads(line)
        found[one["path"]] = one
    return found


def _output(one: dict[str, Any]) -> str:
    if not one.get("output"):
        return ""
    try:
        data = disk.read_file(one["output"], 64 * MOST_OUTPUT)
    except (OSError, ValueError) as error:
        return f"[its output can't be read: {error}]"
    cut = f"[{len(data) - MOST_OUTPUT} bytes are left out here]\n" if len(data) > MOST_OUTPUT else ""
    return cut + clean(disk.decoded(data[-MOST_OUTPUT:])[0])


def test_results(asked: Evaluation, noted: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each script, by its path: `success` and `output` as the specification has them, and how it ended."""
    found = {}
    for script in asked.scripts:
        one = noted.get(script.path, {"state": "not_run"})
        state = one["state"] if one.get("state") in STATES else "not_run"
        told = {key: one.get(key) for key in ("exit_code", "seconds", "limit", "why")}
        code = told["exit_code"]
        words = STATES[state].format(signal=code - 128 if code else "?", **told)
        found[script.path] = {
            "success": state == PASSED,
            "output": _output(one),
            "state": state,
            "said": words,
            "exit_code": code,
            "seconds": told["seconds"],
        }
    return found


def rubrics(asked: Evaluation, results: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """The scores of the rubrics, by id, and the total."""
    found, reached = {}, []
    for rubric in asked.rubrics:
        own = [results[script.path]["success"] for script in asked.scripts if script.rubric == rubric.id]
        score = sum(own) / len(own) if own else None
        weighted = None if score is None else score * rubric.weight
        reached.append(weighted or 0.0)
        found[rubric.id] = {
            "criterion": rubric.criterion,
            "weight": rubric.weight,
            "score": score,
            "max_score": 1.0,
            "weighted_score": weighted,
            "test_count": len(own),
            "tests_passed": sum(own),
        }
    weights = math.fsum(rubric.weight for rubric in asked.rubrics)
    return found, math.fsum(reached) / weights


def metrics(run: Path, started: str | None, ended: str | None) -> dict[str, Any]:
    """What the run's files tell of the agent, null where they don't: none of it counts for the score.

    tokens_events: answers of models that told their tokens; time_taken_seconds: of the agent, from `started` to `ended` (ISO 8601).
    """
    usage: dict[str, Any] = {}
    if not (run / "logs").is_symlink():
        try:
            told = json.loads(disk.decoded(disk.read_file(run / "logs" / "usage.json", USAGE_BYTES))[0])
            usage = told if isinstance(told, dict) else {}
        except (OSError, ValueError, RecursionError):
            pass
    tokens = [values.count(usage.get(key)) for key in ("prompt_tokens", "completion_tokens")]
    begin, end = values.seconds_of(started), values.seconds_of(ended)
    usd = values.number(usage.get("cost_usd"))
    calls = values.count(usage.get("tool_calls"))
    return {
        "tokens_total": None if None in tokens else sum(one or 0 for one in tokens),
        "tokens_events": values.count(usage.get("answers")),
        "tool_calls_codex_log": None,
        "tool_calls_sessions": None,
        "tool_calls_total": calls,
        "time_taken_seconds": None if begin is None or end is None else max(0.0, end - begin),
        "money_spent_usd": None if usd is None or usd < 0 else usd,
    }


def note(results: dict[str, dict[str, Any]]) -> str:
    """One line: how many scripts passed, and what became of those that didn't come to an end of their own."""
    passed = sum(one["success"] for one in results.values())
    odd = [f"{path} {one['said']}" for path, one in results.items() if one["state"] not in (PASSED, "failed")]
    return "; ".join([f"{passed} of {len(results)} test scripts passed", *odd])


def lines_of(diff: Path) -> int:
    """Lines of a file, the last one without an end included."""
    count, last = 0, b"\n"
    with open(diff, "rb") as file:
        while chunk := file.read(1 << 20):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


def markdown(results: dict[str, Any], said: str) -> str:
    """The same for people."""
    lines = [
        f"# {_cell(results['task_id'])}: {results['total_score']:.4g}",
        "",
        f"{_cell(said)}.",
        "",
    ]
    lines += ["| rubric | criterion | weight | score | scripts passed |", "|---|---|---|---|---|"]
    for name, one in results["evaluation"]["rubrics"].items():
        shown = "none" if one["score"] is None else f"{one['score']:.4g}"
        cells = [_cell(name), _cell(one["criterion"]), f"{one['weight']:g}", shown]
        lines.append(f"| {' | '.join(cells)} | {one['tests_passed']} of {one['test_count']} |")
    lines += ["", "| test script | result | seconds |", "|---|---|---|"]
    for path, one in results["test_results"].items():
        seconds = "" if one["seconds"] is None else f"{one['seconds']:g}"
        lines.append(f"| {_cell(path)} | {_cell(one['said'])} | {seconds} |")
    network = results["network"]
    lines += ["", f"The diff has {results['diff_lines']:,} lines. The scripts' network was {network or 'not told'}."]
    return "\n".join([*lines, "The scripts' output: logs/eval.log.", ""])


def _cell(text: object) -> str:
    return " ".join(clean(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def write(
    instance: Path,
    noted: Path,
    diff: Path,
    out: Path,
    task: str,
    run_id: str,
    network: str | None = None,
    times: tuple[str | None, str | None] = (None, None),
    report_name: str = "grading_report.json",
    report_only: bool = False,
) -> str:
    """Write the three files into a run's folder; one line on them. Raises Infrastructure and OSError."""
    asked = evaluation.read(instance)
    results = test_results(asked, read_results(noted))
    scores, total = rubrics(asked, results)
    said = note(results)
    data = {
        "task_id": task,
        "run_id": run_id,
        "state": "scored",
        "total_score": total,
        "evaluation": {"rubrics": scores, "total_score": total, "max_score": 1.0},
        "test_results": results,
        "diff_lines": lines_of(diff),
        "agent_metrics": metrics(out, *times),
        "network": network,
    }
    told = report.report_of(
        task,
        total,
        None,
        submission_exists=True,
        is_lower_better=False,
        submission_path=str(diff),
        metric="rubrics",
        note=said,
    )
    if not report_only:
        disk.write_json(out / "evaluation_results.json", data)
        disk.write_text(out / "scoring_results.md", markdown(data, said))
    disk.write_json(out / report_name, told)
    return said


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m helpers.repositories.score", description=__doc__.splitlines()[0])
    made.add_argument("--instance", type=Path, required=True, help="the private half of the instance")
    made.add_argument(
        "--results", type=Path, required=True, help="what the shell noted of each test script, a line each"
    )
    made.add_argument("--diff", type=Path, required=True, help="the diff that was graded")
    made.add_argument("--task-id", required=True)
    made.add_argument("--run-id", required=True)
    made.add_argument("--out", type=Path, required=True, help="the run's folder")
    made.add_argument("--network", choices=["blocked", "unblocked"], help="of the test scripts")
    made.add_argument("--started", help="when the agent's time began (ISO 8601)")
    made.add_argument("--ended", help="when the agent ended")
    made.add_argument("--report", default="grading_report.json", help="the name of the report (default: %(default)s)")
    made.add_argument("--report-only", action="store_true", help="another grade beside the run's own")
    return made


def main(argv: list[str] | None = None) -> int:
    """0, or 3 with one line on stderr."""
    asked = parser().parse_args(argv)
    return steps.launch(
        lambda: print(
            write(
                asked.instance,
                asked.results,
                asked.diff,
                asked.out,
                asked.task_id,
                asked.run_id,
                asked.network,
                (asked.started, asked.ended),
                asked.report,
                asked.report_only,
            )
        )
    )


if __name__ == "__main__":
    sys.exit(main())
