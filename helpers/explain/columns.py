"""Where each column of the results comes from, and what it comes out as when it is derived anew.

A column of helpers/export_results.py has its line in COLUMNS here: a function of a Case and the column's name that returns a Derived.
"""

from __future__ import annotations

from datetime import datetime, timezone

from helpers.explain import hours as derive_hours
from helpers.explain.derive import BY_HAND, Case, Column, Derived, compared, medals, of_workflow
from helpers.explain.files import DIFFERS, FITS, META, REPORT, SAME, UNKNOWN, WORKFLOW
from helpers.lib import values
from helpers.lib.values import seconds_of, section
from helpers.runs import metadata
from helpers.runs.cells import rollout
from helpers.runs.columns import REPORTED, table


def seed(case: Case, column: str) -> Derived:
    source, first = f"{META}: seed", values.count(case.workflow.get("seed"))
    agents = section(case.workflow, "jobs").get("agents")
    jobs = [str(job) for job in agents] if isinstance(agents, list) else []
    if first is None or case.run.job_id not in jobs:
        return Derived(source, UNKNOWN, BY_HAND if not case.workflow else f"its job isn't in {WORKFLOW}")
    number = jobs.index(case.run.job_id)
    _, value = rollout(case.run.record, number)
    how = f"{WORKFLOW}: {case.run.where('seed')} {first}, and this is rollout {number}"
    return compared(case, column, source, value, how)


def state(case: Case, column: str) -> Derived:
    source = f"{META}: state"
    if case.run.report and case.metadata.get("state") not in metadata.OPEN_STATES:
        good = case.run.report.get("valid_submission") is True and metadata.score_of(case.run.report) is not None
        return compared(
            case, column, source, "scored" if good else "invalid_submission", f"{REPORT}: valid_submission, total_score"
        )
    if case.last_word:
        return compared(case, column, source, case.last_word[0], f"the last word of its job: {case.log_name}")
    return Derived(source, UNKNOWN, "its job has left no last word: who looked after it wrote the record")


def reason(case: Case, column: str) -> Derived:
    source = f"{META}: reason"
    told_since = case.metadata.get("later_job") or case.metadata.get("counted_grade")
    if case.last_word is None or told_since or case.run.problems or case.run.damaged:
        return Derived(source, UNKNOWN, "a sentence that no other file has")
    told = values.text(case.last_word[1])
    if not f"{told}{case.row[column]}".isascii():
        return Derived(source, UNKNOWN, "a log keeps not every character")
    return compared(case, column, source, told, f"the last word of its job: {case.log_name}")


def graded(case: Case, column: str) -> Derived:
    """A column that the grading report has."""
    key = "total_score" if column == "score" else column
    source = f"{REPORT}: {key}" + (", of a scored run" if column == "score" else "")
    if column == "score" and case.run.state != "scored":
        return compared(case, column, source, None, f"it is {case.run.state}")
    if not case.run.report:
        return compared(case, column, source, None, f"there is no {REPORT}")
    if problem := case.files.tampered:
        return Derived(source, DIFFERS if column == "score" else UNKNOWN, problem)
    again = case.files.again
    if again is not None:
        value = metadata.score_of(again.report) if column == "score" else again.report.get(key)
        return compared(case, column, source, value, again.how)
    why = case.files.why_not_again
    if column == "score":
        if (other := values.number(case.run.report.get("score"))) is not None and other != case.row[column]:
            return compared(case, column, source, other, f"{REPORT}: score")
        return Derived(source, UNKNOWN, f"{why}; results.sh regrade does it")
    return by_thresholds(case, column, source) or Derived(source, UNKNOWN, why)


def reported(case: Case, column: str) -> Derived:
    """A metric that the task's grader reports beside the score."""
    source = f"{REPORT}: {' and '.join(REPORTED)}"
    if case.files.tampered or case.files.again is None:
        return Derived(source, UNKNOWN, case.files.tampered or case.files.why_not_again)
    _, (row,) = table([{kind: section(case.files.again.report, kind) for kind in REPORTED}])
    return compared(case, column, source, row.get(column), case.files.again.how)


def by_thresholds(case: Case, column: str, source: str) -> Derived | None:
    """A medal, where the report has what it takes."""
    found = medals(case.run.report)
    if column not in found:
        return None
    return compared(case, column, source, found[column], f"{REPORT}: total_score and thresholds")


def moment(key: str, place: int | None) -> Column:
    """A time in the record. place: in the log's line of the agent's time."""

    def derive(case: Case, column: str) -> Derived:
        source, told = f"{META}: {key}", seconds_of(case.row[column])
        if told is None:
            return Derived(source, UNKNOWN, "not reached")
        if case.window and not case.window[0] - case.slack <= told <= case.window[1] + case.slack:
            if told > case.window[1] and place is None and case.last_word is None:  # not by the job itself
                return Derived(
                    source, UNKNOWN, f"when it was noticed that {_job(case)} had ended: {_utc(case.window[1])}"
                )
            return Derived(source, DIFFERS, f"{_job(case)} ran from {_utc(case.window[0])} to {_utc(case.window[1])}")
        if place is not None and case.log_times:
            return compared(case, column, source, case.log_times[place], f"the agent's time in {case.log_name}")
        if case.window:
            return Derived(source, FITS, f"while {_job(case)} ran: {_utc(case.window[0])} to {_utc(case.window[1])}")
        return Derived(source, UNKNOWN, "neither the scheduler nor the job's log tells")

    return derive


def _job(case: Case) -> str:
    return f"job {case.run.job_id}, by the scheduler's record,"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def agent_seconds(case: Case, column: str) -> Derived:
    source, told = f"{META}: agent_ended_at - agent_started_at", case.row[column]
    if told is None:
        return Derived(source, UNKNOWN, "its agent didn't begin")
    if case.log_times and not case.run.is_open:
        begun, ended = (seconds_of(one) for one in case.log_times)
        if begun is not None and ended is not None:
            return compared(case, column, source, round(ended - begun, 3), f"the agent's time in {case.log_name}")
    if case.window:
        most = case.window[1] - case.window[0]
        verdict = FITS if told <= most + case.slack or case.run.is_open else DIFFERS
        return Derived(source, verdict, f"{_job(case)} took {most:g} s in all")
    return Derived(source, UNKNOWN, "neither the scheduler nor the job's log tells")


def time_limit_reached(case: Case, column: str) -> Derived:
    source = f"{META}: time_limit_reached"
    limit = values.count(section(case.workflow, "agent_config").get("time_limit"))
    begun, ended = (seconds_of(one) for one in case.log_times) if case.log_times else (None, None)
    if limit is None or begun is None or ended is None:
        return Derived(source, UNKNOWN, f"it takes {WORKFLOW} and the agent's time in its job's log")
    how = f"{ended - begun:g} s in the job's log, of {limit} s in {WORKFLOW}: agent_config.time_limit"
    if case.row[column] is True and ended - begun < limit - 1:
        return Derived(source, UNKNOWN, f"{how}: it may have been near its job's end")
    if abs(ended - begun - limit) <= 1:
        return Derived(source, FITS, how)
    return compared(case, column, source, ended - begun >= limit, how)


def cut_short(case: Case, column: str) -> Derived:
    source, own = f"{META}: cut_short, else logs/usage.json", values.text(case.run.usage.get("cut_short"))
    if case.row[column] != own and own:
        return Derived(source, UNKNOWN, f"the job's copy, without keys, of logs/usage.json: {own}")
    if not case.run.usage:
        return Derived(source, UNKNOWN, "there is no logs/usage.json")
    return compared(case, column, source, own, "logs/usage.json: cut_short")


def steps(case: Case, column: str) -> Derived:
    source, nodes, told = "logs/usage.json: steps", case.files.nodes, case.row[column]
    if nodes is None or told is None:
        return Derived(source, UNKNOWN, "there is no logs/journal.json" if nodes is None else "not told")
    how = f"logs/journal.json has {nodes} nodes"
    if nodes < told:
        return Derived(source, FITS, f"{how}; a step that failed leaves none")
    return compared(case, column, source, nodes, how)


def requests(case: Case, column: str) -> Derived:
    source, told = "logs/usage.json: requests", case.row[column]
    asked, path = case.files.asked(case.run.servers)
    if told is None or asked is None:
        return Derived(source, UNKNOWN, "the agent's own count; no log of a model server is there that names requests")
    return Derived(source, FITS if told <= asked else DIFFERS, f"{asked} requests in {path}, of all that used it")


def busy(case: Case, column: str) -> Derived:
    source, told, asked = f"logs/usage.json: {column}", case.row[column], case.row["requests"]
    if told is None or asked is None:
        return Derived(source, UNKNOWN, "the agent's own count of what the endpoints said; nobody else counts")
    return Derived(source, FITS if told <= asked else DIFFERS, f"of {asked} requests; nobody else counts")


def tokens(case: Case, column: str) -> Derived:
    source, told, asked = f"logs/usage.json: {column}", case.row[column], case.row["requests"]
    lengths = [section(case.workflow, f"{role}model_config").get("context_length") for role in ("", "feedback_")]
    longest = max((one for length in lengths if (one := values.count(length))), default=None)
    if told is None or asked is None or (longest is None and asked):
        return Derived(source, UNKNOWN, "the agent's own count of what the endpoints said; nobody else counts")
    most = asked * (longest or 0)
    how = f"at most {most}: {asked} requests x context_length {longest or 0}; nobody else counts"
    return Derived(source, FITS if told <= most else DIFFERS, how)


def hours(*units: str) -> Column:
    """A column of hours; the first of units is what is summed, `own` means the agents' jobs alone."""

    def derive(case: Case, column: str) -> Derived:
        terms = [term for term in case.terms if "own" not in units or term.name == "agent"]
        source = " + ".join(term.said(units[0]) for term in terms)
        value = derive_hours.total(terms, units[0])
        if value is None:
            return Derived(source, UNKNOWN if case.row[column] is None else DIFFERS, "a part of it is not known")
        told = case.row[column]
        close = told is not None and abs(told - value) <= 2e-6 + 1e-9 * abs(value)
        by = "the scheduler's records" if all(term.basis == "accounting" for term in terms) else "the jobs' own notes"
        how = "; ".join([f"the formula, on {by}", *([] if close else (term.doubt for term in terms if term.doubt))])
        return Derived(source, SAME if close else DIFFERS, how, value)

    return derive


def cost_basis(case: Case, column: str) -> Derived:
    found = sorted(f"{term.basis} for job {term.job}" for term in case.terms)
    basis = "accounting" if all(term.basis == "accounting" for term in case.terms) else "estimate"
    return compared(case, column, "the scheduler's records", basis, ", ".join(dict.fromkeys(found)))


def isolated(case: Case, column: str) -> Derived:
    if (runtime := case.files.value_in_script("RUNTIME")) is None:
        return Derived(f"{META}: isolated", UNKNOWN, "its script, jobs/agent.sh, is not there")
    return compared(case, column, f"{META}: isolated", runtime != "none", f"../jobs/agent.sh: RUNTIME={runtime}")


def language_model(case: Case, column: str) -> Derived:
    engine = section(case.workflow, "model_config").get("engine")
    if not case.workflow:
        return Derived(f"{WORKFLOW}: {case.run.where('language_model')}", UNKNOWN, BY_HAND)
    value = None if engine is None else engine != "replay"
    source, how = f"{case.run.where('language_model')}", f"{case.run.where('model_config')}.engine {engine}"
    return compared(case, column, f"{WORKFLOW}: {source}", value, f"{WORKFLOW}: {how}")


def checked(case: Case, column: str) -> Derived:
    """A checksum, made anew from the files."""
    return Derived(*getattr(case.files, column)())


def site(case: Case, column: str) -> Derived:
    source, name = f"{WORKFLOW}: site", case.files.value_in_script("SITE")
    if name is not None:
        return compared(case, column, source, name, f"../jobs/agent.sh: SITE={name}")
    if not case.config:
        return Derived(source, UNKNOWN, f"neither the job's script nor {WORKFLOW} has the configuration")
    return compared(case, column, source, values.text(case.config.get("name")), f"{WORKFLOW}: config.name")


def job_id(case: Case, column: str) -> Derived:
    prefix = metadata.run_name(case.run.task or "", "")  # an element of an array has a _ in its own name
    job = case.run.name.removeprefix(prefix) if case.run.name.startswith(prefix) else case.run.name.rpartition("_")[2]
    return compared(case, column, f"{META}: job_id", job, "the folder's name")


def server(role: str) -> Column:
    """The job of a server: as submitted; of a reused one only the record tells."""

    def derive(case: Case, column: str) -> Derived:
        source, short = f"{META}: {column}", role.partition("_")[0]
        if not case.workflow or section(case.workflow, "reused").get(short) is True:
            return Derived(source, UNKNOWN, BY_HAND if not case.workflow else "a server that was there before")
        if short == "grading" and case.files.is_repository:
            return compared(case, column, source, None, "its task is a repository, which no server grades")
        job = values.text(section(case.workflow, "jobs").get(role))
        return compared(case, column, source, job, f"{WORKFLOW}: jobs.{role}")

    return derive


def run_directory(case: Case, column: str) -> Derived:
    here = case.files.folder.resolve()
    return compared(case, column, "where it was found", str(here), f"the folder that holds {META}")


def attempts(case: Case, column: str) -> Derived:
    """Its tries, counted from the times of all runs of its key."""
    same = sorted((one.created, one.folder, one.state) for one in case.collection.runs if one.key == case.run.key)
    at = next(number for number, one in enumerate(same) if one[1] == case.shown.folder)
    tried = [one[2] in ("lost", "cancelled") for one in same]
    before = next((number for number in range(at - 1, -1, -1) if not tried[number]), -1)
    count = at - before + (len(same) - at - 1 if all(tried[at + 1 :]) else 0)
    names = ", ".join(one[1].rpartition("/")[2] for one in same)
    return compared(case, column, "the runs of its key that were lost or cancelled, and itself", count, names)


COLUMNS: dict[str, Column] = {
    "task": of_workflow("competition"),
    "model": of_workflow("model"),
    "agent": of_workflow("agent"),
    "seed": seed,
    "state": state,
    **dict.fromkeys(
        ("score", "metric", "is_lower_better", "any_medal", "gold_medal", "silver_medal", "bronze_medal"), graded
    ),
    **dict.fromkeys(("above_median", "valid_submission"), graded),
    "started_at": moment("agent_started_at", 0),
    "ended_at": moment("ended_at", None),
    "time_limit_reached": time_limit_reached,
    "cut_short": cut_short,
    "agent_seconds": agent_seconds,
    "steps": steps,
    "requests": requests,
    "rate_limited": busy,
    "server_errors": busy,
    "prompt_tokens": tokens,
    "completion_tokens": tokens,
    "agent_cpu_hours": hours("cpus", "own"),
    "cpu_hours": hours("cpus"),
    "gpu_hours": hours("gpus"),
    "cost_basis": cost_basis,
    "isolated": isolated,
    "language_model": language_model,
    **dict.fromkeys(("git_commit", "image_digest", "config_hash", "data_fingerprint"), checked),
    "site": site,
    "job_id": job_id,
    "grading_job": server("grading_server"),
    "model_job": server("model_server"),
    "run_directory": run_directory,
    "reason": reason,
    "attempts": attempts,
}
