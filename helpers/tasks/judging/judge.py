"""The standard evaluation: every criterion of a task's definition, from the results folder and the hidden labels."""

from __future__ import annotations

import fnmatch
import io
import math
import numbers
import os
import time
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.grading import graders, metrics, own_task
from helpers.grading.metrics import Metric
from helpers.grading.report import InvalidSubmission
from helpers.lib import bounded
from helpers.tasks.judging import files
from helpers.tasks.judging.findings import Table, check_findings, check_statistics
from helpers.tasks.judging.pickles import MB, BadFile
from helpers.tasks.judging.results import Results, printable, same_content, suffix

if TYPE_CHECKING:
    from helpers.tasks.judging.verdict import Verdict

SUBMISSION, STATISTICS, REPORT, METADATA = (
    "submission.csv",
    "summary_statistics.json",
    "analysis_report.md",
    "run_metadata.json",
)
LEAST_SKILL = 0.05  # of the way from one guess for all rows to perfection; less is none
TOKEN_SHARE = 0.2  # of an even share of the rows: fewer rows are no cluster
MOST_IMAGES = 100
# what reading one output may take, and reading all of them: what isn't read by then doesn't count
SECONDS_A_FILE, SECONDS_IN_ALL, MEMORY = 60.0, 300.0, 2048 * MB


class Unevaluable(Exception):
    """Why a task can't be evaluated, which is not the agent's fault; a sentence for the user."""


class Judge:
    """The standard evaluation of one results folder: fills in a verdict. prepared: the task's folder, None without data."""

    def __init__(
        self, verdict: Verdict, results_dir: Path, prepared: Path | None, execution_time: float | None
    ) -> None:
        self._verdict, self._task, self._criteria = verdict, verdict.task, verdict.task.evaluation_criteria
        self._folder, self._prepared, self._execution_time = results_dir, prepared, execution_time
        self._submission_problem: str | None = None
        self._sound: list[str] = []  # required outputs that are
        self._images: dict[str, Any] = {}
        self._texts: dict[str, Any] = {}
        self._until = time.monotonic() + SECONDS_IN_ALL

    def _bounded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what reads an agent's file, in a process that may be ended. Raises BadFile, and what it raises."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise BadFile(f"isn't read: reading those before took over {SECONDS_IN_ALL:g} s")
        try:
            return bounded.call(function, *arguments, seconds=min(left, SECONDS_A_FILE), memory=MEMORY)
        except bounded.Exceeded as error:
            raise BadFile(str(error)) from None

    def judge(self) -> None:
        """Judge all of it. Raises Unevaluable, GradingError and OSError."""
        try:
            results = Results(self._folder, self._prepared and self._prepared / "private")
        except OSError as error:
            place = error.filename or self._folder
            raise Unevaluable(f"can't open {place}: {error.strerror} (a link isn't followed)") from None
        with results:
            if self._task.metric or self._criteria.bounds or self._criteria.expected_clusters:
                self._judge_submission(results)
            if self._criteria.required_outputs:
                self._judge_outputs(results)
            if self._criteria.required_visualizations:
                self._judge_images(results)
            if self._criteria.required_insights:
                self._judge_insights(results)
        if self._criteria.max_training_time:
            self._judge_time()

    def _judge_submission(self, results: Results) -> None:
        grader = graders.load(self._task.id, self._prepared.parent.parent)
        if not isinstance(grader, own_task.OwnTask):
            raise Unevaluable(
                f"{self._task.id} is not prepared by this project, so only the grading server can grade it"
            )
        try:
            self._verdict.scores, self._verdict.criteria, self._verdict.feedback, self._submission_problem = (
                self._bounded(self._judged_submission, grader, results)
            )
        except (BadFile, InvalidSubmission) as error:
            self._submission_problem = str(error)
            self._verdict.scores["skill"] = 0.0
            self._verdict.feedback.append(f"{SUBMISSION}: {error}")
            for key in [*self._criteria.bounds, *(["expected_clusters"] if self._criteria.expected_clusters else [])]:
                self._verdict.decide(key, False, f"there is no usable {SUBMISSION}")

    def _judged_submission(
        self, grader: own_task.OwnTask, results: Results
    ) -> tuple[dict[str, float], dict[str, bool], list[str], str | None]:
        """Scores, criteria, feedback, and what is wrong with it. Raises BadFile, InvalidSubmission and GradingError."""
        content = results.read(SUBMISSION, grader.largest_file)
        truth, predicted = grader.parsed(io.BytesIO(content))
        self._refuse_guesses(grader, predicted)
        score = grader.metric.score(truth, predicted)
        given = grader.reference.get("sample_submission")
        skill = _skill(grader.metric, truth, score, given if isinstance(given, (int, float)) else None)
        self._verdict.scores |= {grader.metric.name: round(score, 5), "skill": round(skill, 5)}
        for key, (name, is_minimum, bound) in self._criteria.bounds.items():
            self._judge_bound(grader, content, key, metrics.get_metric(name), is_minimum, bound)
        if self._criteria.expected_clusters:
            self._judge_clusters(predicted, skill)
        problem = None
        no_luck = min(skill, _skill(grader.metric, truth, score)) >= _least_skill(grader.metric, truth)
        if not no_luck and not any(self._verdict.criteria[key] for key in self._criteria.bounds):
            problem = "is hardly better than one guess for all rows"
            self._verdict.feedback.append(f"{SUBMISSION}: {problem}")
        return self._verdict.scores, self._verdict.criteria, self._verdict.feedback, problem

    def _refuse_guesses(self, grader: own_task.OwnTask, predicted: Any) -> None:
        if (predicted == predicted[0]).all():
            raise BadFile("predicts the same for all rows")
        try:
            _, sample = grader.parsed(self._prepared / "public" / "sample_submission.csv")
        except InvalidSubmission:
            return
        if (predicted == sample).all():
            raise BadFile("is the sample submission")

    def _judge_bound(
        self, grader: own_task.OwnTask, content: bytes, key: str, metric: Metric, is_minimum: bool, bound: float
    ) -> None:
        try:
            truth, predicted = grader.parsed(io.BytesIO(content), metric)
        except InvalidSubmission as error:
            self._verdict.decide(key, False, f"{metric.name} can't be computed: {error}")
            return
        score = metric.score(truth, predicted)
        self._verdict.scores.setdefault(metric.name, round(score, 5))
        limit = "least" if is_minimum else "most"
        reason = f"{metric.name} is {score:.4g} on the hidden labels, {bound:g} is the {limit}"
        is_met = score >= bound if is_minimum else score <= bound
        # a bound that one guess for all rows meets says nothing
        if is_met and _skill(metric, truth, bound) == 0 and _skill(metric, truth, score) < _least_skill(metric, truth):
            is_met, reason = False, f"{reason}, but one guess for all rows does as well"
        self._verdict.decide(key, is_met, reason)

    def _judge_clusters(self, predicted: Any, skill: float) -> None:
        import numpy as np

        wanted = self._criteria.expected_clusters
        sizes = np.unique(predicted, return_counts=True)[1]
        least = TOKEN_SHARE * len(predicted) / wanted
        reason = (
            f"{len(sizes)} clusters, the smallest of {sizes.min()} rows; {wanted} of at least {least:.0f} are expected"
        )
        is_met = len(sizes) == wanted and sizes.min() >= least
        if is_met and skill < LEAST_SKILL:
            is_met, reason = False, f"{reason}, but they are no better than chance"
        self._verdict.decide("expected_clusters", is_met, reason)

    def _judge_outputs(self, results: Results) -> None:
        patterns = self._criteria.required_outputs
        for pattern in sorted(patterns, key=_is_pattern):  # plain names first: a file counts for one of them only
            name, problems = self._find(results, pattern)
            (self._verdict.missing if name is None else self._verdict.found).append(name or pattern)
            if name is None:
                self._verdict.feedback += problems or [f"{pattern}: no other file matches it"]
        found = len(self._verdict.found)
        self._verdict.decide(
            "required_outputs", found == len(patterns), f"{found} of {len(patterns)} are there and sound"
        )

    def _find(self, results: Results, pattern: str) -> tuple[str | None, list[str]]:
        names, problems = [pattern], []
        if _is_pattern(pattern):
            names = [name for name in results.names() if "/" not in name and fnmatch.fnmatchcase(name, pattern)]
        for name in names[:20]:
            if name in self._sound:
                continue
            try:
                self._check(results, name, pattern)
                self._sound.append(name)
                return printable(name), []
            except BadFile as error:
                problems.append(f"{printable(name)}: {error}")
        return None, problems

    def _check(self, results: Results, name: str, pattern: str = "") -> None:
        """Check one output, and that it isn't another one again. Raises BadFile."""
        if name == SUBMISSION and self._submission_problem:
            raise BadFile("doesn't count, for the reason above")
        if pattern.startswith("model") and pattern.endswith(".*") and suffix(name) not in files.MODELS:
            raise BadFile(f"is no kind of model file that can be checked: {', '.join(sorted(files.MODELS))}")
        self._load_given(name)
        trait = self._bounded(self._examined, results, name)
        if suffix(name) in files.IMAGES:
            self._images[name] = trait
        if suffix(name) in files.TEXTS:
            self._texts[name] = trait

    def _load_given(self, name: str) -> None:
        """Read what the task gave, once, and not in each process that compares an output with it."""
        _ = self._known_text, name in (STATISTICS, REPORT) and self._table

    def _examined(self, results: Results, name: str) -> Any:
        """Check the content of one output; returns what no other may share, or None. Raises BadFile."""
        with results.open(name) as file:
            self._refuse_copies(results, name, file)
            trait = files.check_output(file, name, self._known_text)
        if suffix(name) in files.IMAGES:
            _refuse_alike(trait, self._images, files.look_alike, "shows the same as")
        if suffix(name) in files.TEXTS:
            _refuse_alike(trait, self._texts, files.repeats, "says the same as")
        if name == STATISTICS and self._table is not None:
            check_statistics(files.parse_json(results.read(name)), self._table)
        return trait

    def _refuse_copies(self, results: Results, name: str, file: Any) -> None:
        for path in self._public:
            with open(path, "rb") as public:
                if same_content(file, public):
                    raise BadFile(f"is a copy of the task's {path.name}")
        for other in self._sound:
            with results.open(other) as found:
                if same_content(file, found):
                    raise BadFile(f"is a copy of {printable(other)}")

    @cached_property
    def _public(self) -> list[Path]:
        return [path for path in (self._prepared / "public").rglob("*") if path.is_file()] if self._prepared else []

    @cached_property
    def _known_text(self) -> str:
        given = [self._task.description, self._task.instructions]
        given += [
            path.read_text(encoding="utf-8", errors="replace")
            for path in self._public
            if suffix(path.name) in files.TEXTS
        ]
        return "\n".join(given)

    @cached_property
    def _table(self) -> Table | None:
        """The training data; None where there are none."""
        path = self._prepared and self._prepared / "public" / "train.csv"
        if not path or not path.is_file():
            return None
        try:
            return Table(path.parent)
        except ValueError as error:
            raise Unevaluable(f"{self._task.id}: can't read {path}: {error}") from None

    def _judge_images(self, results: Results) -> None:
        wanted = self._criteria.required_visualizations
        names = [name for name in results.names() if suffix(name) in files.IMAGES]
        for name in names[:MOST_IMAGES]:
            if name not in self._images and len(self._images) < wanted and name not in self._criteria.required_outputs:
                try:
                    self._check(results, name)
                except BadFile as error:
                    self._verdict.feedback.append(f"{printable(name)}: {error}")
        count = len(self._images)
        self._verdict.decide(
            "required_visualizations", count >= wanted, f"{count} different images of {wanted} that are needed"
        )

    def _judge_insights(self, results: Results) -> None:
        wanted = self._criteria.required_insights
        if self._table is None:
            raise Unevaluable(f"{self._task.id} has no train.csv, so its required_insights can't be judged")
        try:
            if REPORT not in self._texts:
                self._check(results, REPORT)
            count = self._bounded(lambda: check_findings(files.decoded(results.read(REPORT)), self._table))
        except BadFile as error:
            self._verdict.decide("required_insights", False, f"{REPORT} {error}")
            return
        reason = (
            f"{count} different findings in {REPORT} that name a column and a figure true of it; {wanted} are needed"
        )
        self._verdict.decide("required_insights", count >= wanted, reason)

    def _judge_time(self) -> None:
        most, seconds = self._criteria.max_training_time, self._execution_time
        seconds = _recorded_seconds(self._folder, self._task.id) if seconds is None else seconds
        is_known = isinstance(seconds, numbers.Real) and not isinstance(seconds, bool) and seconds >= 0
        reason = (
            f"the agent took {seconds:.0f} s, {most} is the most" if is_known else "how long the agent took isn't known"
        )
        self._verdict.decide("max_training_time", is_known and seconds <= most, reason)


def _refuse_alike(trait: Any, known: dict[str, Any], are_alike: Callable[[Any, Any], bool], words: str) -> None:
    twin = next((other for other, seen in known.items() if are_alike(trait, seen)), None)
    if twin is not None:
        raise BadFile(f"{words} {printable(twin)}")


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _skill(metric: Metric, truth: Any, score: float, trivial: float | None = None) -> float:
    """How far a score is from a trivial one (default: of the best single guess) to a perfect one, from 0 to 1."""
    perfect = metric.score(truth, truth)
    if trivial is None or not math.isfinite(trivial):
        trivial = _best_single_guess(metric, truth)
    if not math.isfinite(score) or perfect == trivial:
        return 0.0
    return min(max((score - trivial) / (perfect - trivial), 0.0), 1.0)


def _least_skill(metric: Metric, truth: Any) -> float:
    """Skill that guesses hardly reach: two standard deviations where labels are guessed; numbers don't get better by luck."""
    luck = 2 / math.sqrt(len(truth)) if metric.kind in ("label", "ranking") else 0
    return max(LEAST_SKILL, luck)


def _best_single_guess(metric: Metric, truth: Any) -> float:
    import numpy as np

    values, counts = np.unique(truth, return_counts=True)
    guesses = [values[counts.argmax()]]
    if metric.kind in ("number", "ranking", "probability"):
        guesses = [truth.mean(), *np.quantile(truth, np.linspace(0.05, 0.95, 19))]
    scores = [metric.score(truth, np.full(len(truth), guess, dtype=truth.dtype)) for guess in guesses]
    return min(scores) if metric.is_lower_better else max(scores)


def _recorded_seconds(results_dir: Path, task_id: str) -> float | None:
    """How long the agent ran, by run_metadata.json, which the job script writes beside the folder that the agent sees."""
    folder = Path(os.path.abspath(results_dir))
    if folder.name != "submission":
        return None  # elsewhere an agent may have written such a file
    try:
        with Results(folder.parent) as run:
            record = files.parse_json(run.read(METADATA, MB))
        if record["competition"] != task_id:
            return None
        started, ended = (
            datetime.fromisoformat(record[key].replace("Z", "+00:00")) for key in ("agent_started_at", "agent_ended_at")
        )
        return (ended - started).total_seconds()
    except (BadFile, OSError, TypeError, KeyError, ValueError, AttributeError):
        return None
