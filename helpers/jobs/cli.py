"""What jobs are doing, their logs, ending them, watching them again, and why one waits or died. scripts_hpc/jobs.sh runs it.

The same verbs for every kind of jobs; what differs is in helpers/jobs/kinds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from helpers.config.asked import AskedSite
from helpers.jobs.fleet import END_SECONDS, elapsed
from helpers.jobs.kinds.base import Entry, Kind, kind_of, kinds
from helpers.jobs.kinds.workflow import Workflow
from helpers.lib import errors
from helpers.lib.errors import Refused
from helpers.lib.tables import lines as lines_of
from helpers.lib.tables import shown
from helpers.lib.text import literal, tail
from helpers.scheduler import reasons
from helpers.scheduler.query import Job, SchedulerUnavailable

LOG_LINES = 40
NEWEST = 5
QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")


# ---- which jobs are meant


def _folders(folder: Path) -> Iterator[tuple[Path, type[Kind]]]:
    """The folders of jobs in a folder, newest first: their names begin with the time. None is looked into before it is asked for."""
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except OSError:
        return
    for name in names:
        if kind := kind_of(folder / name):
            yield folder / name, kind


def _rounds(folder: Path) -> Iterator[tuple[Path, type[Kind]]]:
    """The rounds of all benchmarks, those of each newest first."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        yield from _folders(folder / name)


def _from_path(path: Path, site: AskedSite) -> Kind | None:
    """The jobs that a path lies among; of one item alone, where it lies in the item's folder."""
    path = path.resolve()
    for inner, folder in zip((path, path, *path.parents), (path, *path.parents), strict=False):
        kind = kind_of(folder)
        if kind is None and inner != folder and (inner / "run_metadata.json").exists():
            kind = Workflow
        if kind:
            return kind(folder, site, kind.item_of(folder, inner) if inner != folder else None)
    return None


def find(word: str | None, site: AskedSite) -> Kind:
    """The jobs that a person means: a path, a name below paths.runs, a job's id, or nothing for the newest."""
    if word and os.path.exists(word) and (found := _from_path(Path(word), site)):
        return found
    if word is None:
        newest = next(_folders(site.runs), None)
        if newest is None:
            raise Refused(f"no runs yet in {site.runs} (paths.runs); start one with scripts_hpc/run_workflow.sh")
        return newest[1](newest[0], site)
    for base in (site.runs, site.rollouts):
        if not word.startswith("/") and (base / word).exists() and (found := _from_path(base / word, site)):
            return found
    for folder, kind in (*_folders(site.runs), *_rounds(site.rollouts)):
        if word and "/" not in word and (job := kind.holds(folder, word)) is not None:
            return kind(folder, site, job or None)
    newest = "".join(f"\n  {folder.name}" for folder, _ in islice(_folders(site.runs), NEWEST))
    raise Refused(
        f"'{word}' is no run: neither a run's folder, nor the name of one or the id of a job of one in {site.runs}. "
        + (f"The newest runs there:{newest}" if newest else "There are no runs in it.")
    )


# ---- the verbs: each returns what --json prints, and prints lines otherwise


def status(jobs: Kind) -> tuple[dict[str, Any], list[str]]:
    try:
        jobs.look()
        jobs.settle_sure()
    except SchedulerUnavailable:
        jobs.settle()  # as far as files tell
        _say("what the files say:\n" + "\n".join(lines_of(jobs.item_lines(), states=(1,), to=sys.stderr)))
        raise
    data = {"run": str(jobs.path), "jobs": [jobs.job_data(entry) for entry in jobs.entries], jobs.ITEMS: jobs.items()}
    several = jobs.summaries()
    data |= jobs.facts()
    data["summary"] = [one.data() for one in several]
    rows = [_job_line(jobs, entry, jobs.job(entry)) for entry in jobs.entries]
    summed = ["", *(one.sentence() for one in several)] if several else []
    return data, [str(jobs.path), *lines_of(rows, states=(2,)), "", *lines_of(jobs.item_lines(), states=(1,)), *summed]


def _job_line(jobs: Kind, entry: Entry, job: Job) -> tuple[str, ...]:
    reason = "" if job.reason == "None" else job.reason
    if job.state == "RUNNING":
        reason = jobs.doing(entry) or reason
    return entry.name, f"job {job.id}", job.state, reason, elapsed(job.elapsed), job.node


def _last_lines(path: Path | None) -> list[str]:
    return tail(path).splitlines()[-LOG_LINES:]


def logs(jobs: Kind, part: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    data, lines = [], []
    for entry in sorted(jobs.entries, key=lambda entry: jobs.PARTS.index(entry.part)):
        if part in (None, entry.part):
            path = jobs.log(entry)
            text = _last_lines(path)
            data.append({"name": entry.name, "id": entry.id, "path": str(path) if path else None, "lines": text})
            lines += [
                f"== {entry}: {path or 'no log: it has not started, or its log is not below ' + str(jobs.path)}",
                *text,
                "",
            ]
            if own := jobs.own_words(entry):
                said = _last_lines(own)
                data[-1] |= {"agent_path": str(own), "agent_lines": said}
                lines += [f"== what {entry} printed itself: {own}", *(f"| {line}" for line in said), ""]
    if not data:
        lines = [f"{jobs.path.name} has no {part or ''} jobs".replace("  ", " ")]
    return data, lines


def stop(jobs: Kind) -> tuple[dict[str, Any], list[str]]:
    jobs.hold()
    jobs.look()
    remarks, stopped = jobs.remarks(), _end(jobs)
    while jobs.late() and (more := _end(jobs)):
        stopped += more
    jobs.settle_sure()
    jobs.forget_servers()
    data = {
        "run": str(jobs.path),
        "stopped": [{"name": entry.name, "id": entry.id} for entry in stopped],
        jobs.ITEMS: jobs.items(),
    }
    lines = [f"stopped: {', '.join(map(str, stopped))}" if stopped else "nothing to stop: no job of this run is alive"]
    return data, [str(jobs.path), *lines, *remarks, *lines_of(jobs.item_lines(), states=(1,))]


def _end(jobs: Kind) -> list[Entry]:
    """End what lives of them, and wait until it has; which these are. Raises Refused where they don't end."""
    found = jobs.stoppable()
    ids = [entry.id for entry in found]
    if left := jobs.fleet.cancel(ids, jobs.names(ids)):
        said = f"not known to have ended after {END_SECONDS:.0f} s: job {', '.join(left)}"
        raise Refused(f"{said}. Is it yours? See `squeue --me`.", 3)
    jobs.stopped(ids, "stopped with jobs.sh stop")
    return found


# ---- why


class _Why:
    """Finds the sentence for each job, from what the scheduler said last."""

    def __init__(self, jobs: Kind):
        self.jobs = jobs

    def sentence(self, entry: Entry) -> str | None:
        """One sentence on a job that is not done, or did not end well; None for the others."""
        job = self.jobs.job(entry)
        if ended := self.jobs.ended(entry):
            found = self._ended(entry, *map(literal, ended))
        elif self.jobs.is_done(entry):
            return None
        elif job.state in QUEUED:
            found = reasons.waiting(job.reason)
        elif job.alive:
            found = self.jobs.at_work(entry)
        else:
            found = self._dead(entry, job)
        return self.jobs.filled(entry, found)

    def _ended(self, entry: Entry, cause: str, advice: str) -> reasons.Sentence:
        if self.jobs.log_knows_better(entry) and (hint := self._from_log(entry)):
            known = hint[0].removeprefix("its log says that ") in cause
            return cause if known else f"{cause}; {hint[0]}", advice if known else hint[1]
        if self.jobs.failed_by_itself(entry):
            # what an agent prints chooses one of our sentences at most, and none is believed to be the job's
            said = tail(self.jobs.own_words(entry)).splitlines()
            if hint := reasons.hint("\n".join(line[:500] for line in said)):
                return f"{cause}; the agent itself says that {hint[0]}", hint[1]
            advice = f"{advice} (`{{logs}}`)"
        return cause, advice

    def _dead(self, entry: Entry, job: Job) -> reasons.Sentence:
        """A job that ended without an item to tell of it: a server, or an agent's job that never got so far."""
        cause, advice = reasons.ending(job.state)
        word = (job.state.split() or ["GONE"])[0]
        if word in ("FAILED", "GONE", "COMPLETED"):
            if hint := self._from_log(entry) or reasons.last_line(tail(self.jobs.log(entry))):
                return f"{cause}; {hint[0]}", hint[1]
            if word == "FAILED" and self.jobs.log(entry) is None:
                return "failed and left no log", literal(f"can its node write to {self.jobs.path / 'logs'}?")
        return cause, advice

    def _from_log(self, entry: Entry) -> reasons.Sentence | None:
        """What a job's own log says of its death."""
        return reasons.told(tail(self.jobs.log(entry)))


def why(jobs: Kind) -> tuple[list[dict[str, Any]], list[str]]:
    jobs.look()
    jobs.settle_sure()
    finder = _Why(jobs)
    data = [
        {"name": entry.name, "id": entry.id, "state": jobs.job(entry).state, "sentence": sentence}
        for entry in jobs.entries
        if (sentence := finder.sentence(entry))
    ]
    data += [{"name": "not submitted", "id": None, "state": None, "sentence": said} for said in jobs.whys()]
    if not jobs.entries:
        nothing = "nothing was submitted: start the run again, its command says what is wrong"
    else:
        nothing = "nothing waits and nothing died"
    return data, [entry["sentence"] for entry in data] or [f"{jobs.path.name}: {nothing}"]


# ---- the command


def _say(text: str) -> None:
    print(f"jobs.sh: {text}", file=sys.stderr)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parts = tuple(part for kind in kinds() for part in kind.PARTS)
    parser = argparse.ArgumentParser(prog="jobs.sh", description=__doc__)
    parser.add_argument("verb", choices=("list", "status", "logs", "stop", "why", "attach", "clean"))
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a folder of jobs or its name, or a job's id; default: the newest"
    )
    parser.add_argument("part", nargs="?", metavar="PART", help=f"logs only: {', '.join(parts)}")
    parser.add_argument("--site", help="whose runs; default: $HPC_SITE, else by host name")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="override a key of the site")
    parser.add_argument("--older-than", metavar="AGE", help="clean: only what ended before that, e.g. 2w")
    parser.add_argument("--yes", action="store_true", help="clean: don't ask")
    parser.add_argument("-f", "--follow", action="store_true", help="logs: go on until the jobs are gone")
    parser.add_argument("--running", action="store_true", help="list: only runs without an end")
    parser.add_argument("--since", metavar="AGE|DATE", help="list: all runs since then, e.g. 12h, 3d, 2026-11-20")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_intermixed_args(argv)
    if options.verb == "logs" and options.run in parts and options.part is None and not os.path.isdir(options.run):
        options.run, options.part = None, options.run
    if options.part is not None and (options.verb != "logs" or options.part not in parts):
        parser.error(f"{options.part}: only `logs` takes a part: {', '.join(parts)}")
    if options.verb in ("list", "clean") and options.run is not None:
        parser.error(f"{options.run}: `{options.verb}` takes no RUN")
    if options.verb != "list" and (options.running or options.since):
        parser.error("only `list` takes --running and --since")
    if options.verb != "clean" and (options.older_than or options.yes):
        parser.error("only `clean` takes --older-than and --yes")
    if options.follow and (options.verb != "logs" or options.json):
        parser.error("only `logs` takes -f, and not with --json")
    return options


def _list(options: argparse.Namespace) -> int:
    from helpers.jobs import run_list

    begin = None if options.since is None else run_list.since(options.since)
    site = AskedSite(options.site, options.overrides)
    folders = (folder for folder, kind in _folders(site.runs) if kind is Workflow)
    rows, problem = run_list.listed(folders, site, begin, options.running)
    if problem:
        _say(f"the scheduler doesn't answer ({problem}): this is what the files say")
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(run_list.lines(rows)) if rows else "no such runs")
    return 3 if problem else 0


def _answer(options: argparse.Namespace) -> int:
    if options.verb == "list":
        return _list(options)
    if options.verb == "clean":
        from helpers.jobs.clean import clean as clean_up

        data, lines = clean_up(AskedSite(options.site, options.overrides), options.older_than, options.yes)
        print(json.dumps(data, indent=2) if options.json else "\n".join(map(shown, lines)))
        return 0
    jobs = find(options.run, AskedSite(options.site, options.overrides))
    if options.follow:
        from helpers.jobs.log_follow import follow_logs

        return follow_logs(jobs, options.part)
    if options.verb == "attach":
        return jobs.attach(options.json, lambda data: print(json.dumps(data, indent=2)))
    verbs = {"status": status, "logs": lambda one: logs(one, options.part), "stop": stop, "why": why}
    data, lines = verbs[options.verb](jobs)
    jobs.tidy()
    print(json.dumps(data, indent=2) if options.json else "\n".join(map(shown, lines)))
    sys.stdout.flush()
    return 0


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return _answer(options)
    except Refused as error:
        _say(str(error))
        return error.code
    except SchedulerUnavailable as error:
        said = f"the scheduler doesn't answer, so nothing is known about the jobs ({str(error) or 'no message'})"
        _say(f"{said}: try again, or ask the cluster's support")
        return 3
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _say(f"{error.filename or 'a file'}: {error.strerror}")
        return errors.fault_code(error)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
