"""Rounds of benchmarks that are graded anew: one folder of jobs for all runs of a round. scripts_hpc/run_benchmark.sh eval"""

from __future__ import annotations

from helpers.jobs.kinds.grading import Grading


class Evaluation(Grading):
    """A folder of such jobs. The new grades become the runs' results when they are watched (helpers/benchmarks/evaluation.py)."""

    RECORD, MARK, COMMAND = "evaluation.json", "-UTC_eval", "scripts_hpc/run_benchmark.sh eval"
    WATCHER = "helpers.benchmarks.evaluation"
