"""Says how well an agent solved a task: from its results folder and the hidden labels, and from nothing that it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.config import sites
from helpers.data import layout
from helpers.grading.report import GradingError
from helpers.lib.errors import ConfigError
from helpers.tasks.catalogue import default_registry
from helpers.tasks.definitions import Task
from helpers.tasks.judging.judge import Judge, Unevaluable
from helpers.tasks.judging.verdict import Verdict

METHOD = "_evaluate_"  # how a subclass's methods begin


class TaskValidator:
    """Evaluates results. A subclass adds to what is judged of a task type with a method `_evaluate_<type>(task, results_dir)`.

    It may also be called `_evaluate_<type>_task`. Such a method returns {criteria_met, scores, feedback[, custom_metrics]}, which
    is merged over the standard evaluation. One whose name fits no type is told in the feedback. Such a method reads what an agent
    wrote at its own risk: helpers.lib.bounded.call gives a reader a deadline and a bound on memory.
    data_dir: where the prepared tasks lie (default: `paths.data` of the site).
    """

    def __init__(self, data_dir: str | Path | None = None) -> None:
        self._data_dir = data_dir

    def evaluate_task(self, task: Task, results_dir: str | Path, execution_time: float | None = None) -> dict[str, Any]:
        """Evaluate the results of one run.

        execution_time: seconds that the agent took, from who measured it; else from the run's run_metadata.json.
        Returns the specification's fields: criteria_met, scores (metric -> value on the hidden labels; skill: 0 for one guess
        for all rows, 1 for perfection), feedback, overall_score, success, output_check, and `error` where it couldn't be judged.
        """
        verdict = Verdict(task)
        try:
            prepared = self._prepared(task)
            Judge(verdict, Path(results_dir), prepared, execution_time).judge()
            self._ask_subclass(verdict, Path(results_dir))
        except (Unevaluable, GradingError, ConfigError) as error:
            verdict.error = " ".join(str(error).split())
        except OSError as error:
            verdict.error = f"{task.id}: can't read {error.filename or results_dir}: {error.strerror or error}"
        return verdict.to_dict()

    def _prepared(self, task: Task) -> Path | None:
        data_dir = self._data_dir or sites.load_site(sites.pick_site(None)).paths.data
        problem = layout.problem(data_dir, task.id)
        if problem is None:
            return layout.prepared(data_dir, task.id)
        criteria = task.evaluation_criteria
        if task.metric or criteria.bounds or criteria.expected_clusters or criteria.required_insights:
            advice = f"prepare it with `scripts_hpc/tasks.sh generate-data {task.id} {data_dir}`"
            raise Unevaluable(f"{task.id} is not prepared, so there are no labels to judge by: {problem}; {advice}")
        return None

    def _ask_subclass(self, verdict: Verdict, results_dir: Path) -> None:
        methods = [name for name in dir(self) if name.startswith(METHOD) and callable(getattr(self, name))]
        own = [name for name in _methods_for(verdict.task.task_type) if name in methods]
        for name in own:
            self._ask(name, verdict, results_dir)
        if strangers := set(methods).difference(own):
            types = sorted({*default_registry().get_task_types(), verdict.task.task_type})
            strangers.difference_update(*map(_methods_for, types))
            verdict.feedback += [
                f"{type(self).__name__}.{name} fits no type of task, so it is never called; there are: {', '.join(types)}"
                for name in sorted(strangers)
            ]

    def _ask(self, method: str, verdict: Verdict, results_dir: Path) -> None:
        name = f"{type(self).__name__}.{method}"
        try:
            outcome = getattr(self, method)(verdict.task, results_dir)
        except Exception as error:  # a user's code may raise anything
            raise Unevaluable(f"{name} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error
        try:
            verdict.add(**outcome)
        except (TypeError, ValueError, AttributeError) as error:
            wanted = "{criteria_met, scores, feedback[, custom_metrics]}"
            raise Unevaluable(f"{name} must return {wanted} with finite numbers as scores: {error}") from None


def _methods_for(task_type: str) -> tuple[str, str]:
    return f"{METHOD}{task_type}", f"{METHOD}{task_type}_task"
