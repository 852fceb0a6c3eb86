"""The columns of the table of results, and what counts as a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# The columns in their order, and what they hold. An empty cell means: not known, or not reached.
COLUMNS = {
    "task": "the competition",
    "model": "short name of the model; empty for an agent without one",
    "agent": "short name of the agent",
    "seed": "seed of this rollout",
    "state": "scored, invalid_submission, no_submission, agent_failed, timed_out, cancelled, lost; running or waiting",
    "score": "of a scored run; empty, never 0, for all others",
    "metric": "what the score measures; empty where only the competition knows",
    "is_lower_better": "true or false",
    "any_medal": "mle-bench's medals: true or false",
    "gold_medal": "score as good as the leaderboard's gold threshold, or better",
    "silver_medal": "as good as silver's, and no gold",
    "bronze_medal": "as good as bronze's, and neither of these",
    "above_median": "better than the median of the competition's leaderboard",
    "valid_submission": "whether the submission could be graded",
    "started_at": "when the agent's clock started (UTC)",
    "ended_at": "when the run ended (UTC); of one that was killed without a word, when that was noticed",
    "time_limit_reached": "true: the agent was still working when its time was up",
    "cut_short": "why the agent ended early although it had time, e.g. a model that stopped answering",
    "agent_seconds": "the agent's time, up to now for a running one",
    "steps": "as counted by the agent",
    "requests": "to the models",
    "rate_limited": "requests that were answered with HTTP 429, and asked again later",
    "server_errors": "the same of 5xx",
    "prompt_tokens": "as the models' endpoints counted them, added up by the agent",
    "completion_tokens": "in the same way",
    "agent_cpu_hours": "CPU-hours of the agent's job, its wait for servers included",
    "cpu_hours": "these, and its share of its servers', split by agent_seconds over all runs that used them, of any workflow",
    "gpu_hours": "GPU-hours in the same way; a row's hours include those of the tries that it stands for (attempts)",
    "cost_basis": "accounting: hours as allocated by the scheduler; estimate: by the jobs' own notes, where there is no accounting",
    "isolated": "false: ran without a container, so the agent could have read the answers",
    "language_model": "false for `replay`, which is none",
    "git_commit": "of this project's checkout; ends in -dirty where files differed from it",
    "image_digest": "sha256 of the agent's image",
    "config_hash": "sha256 of what can change a result",
    "data_fingerprint": "tells the prepared data, answers included, from others under the same name",
    "site": "where it ran",
    "job_id": "the agent's job",
    "grading_job": "the grading server's",
    "model_job": "the model server's; empty for an external model",
    "run_directory": "where all of it can be read",
    "reason": "one sentence on the state",
    "attempts": "how many tries it took: the lost and cancelled ones before it, and itself",
}
FLAGS = (
    "is_lower_better",
    "any_medal",
    "gold_medal",
    "silver_medal",
    "bronze_medal",
    "above_median",
    "valid_submission",
)
TRUTHS = (*FLAGS, "time_limit_reached", "isolated", "language_model")
COUNTS = ("steps", "requests", "rate_limited", "server_errors", "prompt_tokens", "completion_tokens")
HOURS = ("agent_cpu_hours", "cpu_hours", "gpu_hours")
MOMENTS = ("started_at", "ended_at")
REPORTED = ("standard_metrics", "custom_metrics")  # of a report, and of a row: objects of names to numbers
METRIC = "metric."
METRIC_MEANING = "a metric that the task's grader reports beside the score; of a scored run"
WHAT_COUNTS = """\
What counts: every rollout of a workflow is an attempt of its own, and a row; the same command given twice makes two. Only a run that
was lost or cancelled is none: it was a try at the next one of the same key (task, model, agent, seed, config_hash, data_fingerprint),
whose row bears its cost and counts it in `attempts`. Where no other run of its key is there, it is a row. Each round of a benchmark
stands by itself: what it has lost is no try at the next one's."""


def table(rows: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of rows, and these with a value or None for each: COLUMNS, and one for each metric that a task reports.

    metric.<name>; a custom one whose name is a standard one's in some row is metric.<name> (custom).
    """
    rows = list(rows)
    standard, custom = ({name: None for row in rows for name in row.get(kind, ())} for kind in REPORTED)
    places = {(REPORTED[0], name): f"{METRIC}{name}" for name in standard}
    places |= {(REPORTED[1], name): f"{METRIC}{name}{' (custom)' if name in standard else ''}" for name in custom}
    columns = [*COLUMNS, *places.values()]
    found = []
    for row in rows:
        told = {name: row.get(name) for name in COLUMNS}
        told |= {column: row.get(kind, {}).get(name) for (kind, name), column in places.items()}
        found.append(told)
    return columns, found
