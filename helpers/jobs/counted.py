"""A later grade of a run becomes its result: `run_benchmark.sh eval`. What it was before is kept beside it.

Every step can be done again: whoever is killed on the way is followed by another one who ends it.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from helpers.jobs import regrade
from helpers.jobs.kinds.grading import GRADED
from helpers.jobs.regrade import FIRST, AgainRun
from helpers.lib import disk, values
from helpers.runs import metadata
from helpers.runs.columns import REPORTED

EVALUATION = "evaluation_results.json"  # as scripts_hpc/lib/run.sh writes it (run::_evaluation)
COUNTED = "counted_grade"  # in a run's record: the job whose grade is its result, where that isn't the first one


def count(run: AgainRun) -> bool:
    """Make the grade that a job has given to a run its result; False where the job has given none. Raises OSError.

    run_metadata.json has the state, grading_report.json is the job's report, and evaluation_results.json has the score. The earlier
    report is kept by its job's name, the earlier evaluation as evaluation_results.<n>.json, with the next n that is free.
    """
    run.reread()
    grade = run.grade
    if grade is None or grade.get("state") not in GRADED:
        return False
    jobs = [one.get("job") for one in regrade.grades(run)]
    if run.metadata.get(COUNTED) in jobs[jobs.index(run.job) :]:
        return True  # it, or a later one
    grades = [_keep_report(run.directory, one) for one in regrade.grades(run)]
    name = values.text(grade.get("report"))
    report = disk.read_json(run.directory / Path(name).name) or {} if name else {}
    _evaluate(run, grade, report)
    if report:
        disk.write_json(run.directory / FIRST, report)
    else:  # whoever reads it would take it for the new one
        (run.directory / FIRST).unlink(missing_ok=True)
    reason = f"{grade.get('reason')}; graded anew, by job {run.job}"
    changed = {"state": grade["state"], "reason": reason, "grades": grades, COUNTED: run.job}
    disk.write_json(run.directory / "run_metadata.json", run.metadata | changed)
    run.reread()
    return True


def _keep_report(folder: Path, grade: dict[str, Any]) -> dict[str, Any]:
    """A grade whose report has a name of its own, and lies there."""
    if grade.get("report") != FIRST:
        return grade
    name = f"grading_report_{values.text(grade.get('job')) or 'first'}.json"
    if not (folder / name).exists():
        report = disk.read_json(folder / FIRST)
        if report is None:  # the grading server had refused to judge it
            return grade | {"report": None}
        disk.write_json(folder / name, report)
    return grade | {"report": name}


def _evaluate(run: AgainRun, grade: dict[str, Any], report: dict[str, Any]) -> None:
    """evaluation_results.json anew; the earlier one is kept."""
    path = run.directory / EVALUATION
    earlier = disk.read_json(path) or {}
    if earlier.get("graded_by") == run.job:
        return
    if path.is_file():
        keep(path)
    score = metadata.score_of(report) if grade["state"] == "scored" else None
    told = {"task_id": run.metadata.get("competition"), "run_id": run.directory.name}
    told |= {key: value for key, value in earlier.items() if key not in REPORTED}
    told |= {"state": grade["state"], "total_score": score, "evaluation": {"total_score": score}}
    told |= {key: report[key] for key in REPORTED if key in report}
    disk.write_json(path, told | {"graded_by": run.job, "graded_at": grade.get("at")})


def keep(path: Path) -> Path:
    """Give a file that is about to be replaced another name: <stem>.<n>.json, with the next n that is free. Raises OSError."""
    for number in itertools.count(1):
        kept = path.with_suffix(f".{number}{path.suffix}")
        try:
            os.link(path, kept)
        except FileExistsError:
            if not os.path.samefile(path, kept):
                continue  # else it was kept by one who was killed before it was replaced
        return kept
    raise AssertionError
