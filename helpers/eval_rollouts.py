#!/usr/bin/env python3
"""Runs benchmarks and sums them up, by the name that the specification gives it; scripts_hpc/run_benchmark.sh does it.

Scripts import `load_benchmark` and `get_task_score` from here.
"""

from __future__ import annotations

import os
import sys
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from helpers.lib.checkout import ROOT

VERBS = ("run", "resume", "summarize", "eval", "compare")
BACKEND = "apptainer"  # of the specification's SANDBOX_BACKEND, the one that there is


def main(argv: list[str] | None = None) -> None:
    """Become run_benchmark.sh, which has the same verbs and options."""
    words = sys.argv[1:] if argv is None else argv
    backend = os.environ.get("SANDBOX_BACKEND")
    if backend not in (None, "", BACKEND):
        sys.exit(
            _refused(
                f"SANDBOX_BACKEND={backend}: agents run in Apptainer containers of the site; unset it, or set {BACKEND}"
            )
        )
    if words and words[0] not in (*VERBS, "-h", "--help"):
        sys.exit(_refused(f"unknown verb '{words[0]}': {', '.join(VERBS[:-1])} or {VERBS[-1]} (--help tells more)"))
    script = str(ROOT / "scripts_hpc" / "run_benchmark.sh")
    os.execv("/usr/bin/env", ["env", "bash", script, *words])


def load_benchmark(path: str | os.PathLike[str]) -> Any:
    """A round by its folder, or by <rollouts>/<benchmark>/<the start of its stamp> (the newest of several).

    Returns helpers.benchmarks.summary.Round. Raises helpers.lib.errors.Refused where there is none, with those that there are.
    """
    from helpers.benchmarks import loading  # not for --help

    return loading.load(path)


def get_task_score(results: Any, task: str, model: str | None = None, agent: str | None = None) -> float | None:
    """The mean score of a task's graded rollouts in a round of load_benchmark; of one model or agent alone, where that is said.

    None where none was graded, or where scores of several metrics would be averaged. Raises helpers.lib.errors.Refused where the round
    has no such rollouts, with those that there are.
    """
    from helpers.benchmarks import loading

    return loading.task_score(results, task, model=model, agent=agent)


def _refused(said: str) -> int:
    print(f"eval_rollouts: {said}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
