"""All runs below some folders: which of them are tries of the same, and what each cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from helpers.lib import values
from helpers.runs import costs, search
from helpers.runs.one import DAY, STAMP, OneRun, load, services, stamp

TRIED_AGAIN = {"lost", "cancelled"}


class Collection:
    """All runs below the given folders. broken: a sentence for each file or folder that could not be read; notes: others."""

    def __init__(self, paths: list[Any]):
        self.broken: list[str] = []
        self.notes: list[str] = []
        self.now = time.time()
        self._others: list[OneRun] = []  # not asked for, but they may share servers with those that are
        self._wanted = search.workflows(paths, self.broken)
        self.runs: list[OneRun] = []
        self._services: dict[tuple[str, str], dict[str, Any]] = {}  # by the workflow's folder and job
        self._lives: dict[tuple[str, str], tuple[float | None, float | None, float]] = {}
        self._owners: dict[tuple[str, str], str] = {}  # the workflow that has a server, by the folder beside and job
        for group, names in self._wanted.items():
            for run in self._read(group, self.broken):
                if names is None or run.name in names:
                    self.runs.append(run)
                    if run.problems:
                        self.broken.append(f"{run.folder}: {', '.join(run.problems)}")
                else:
                    self._others.append(run)
        for group in self._neighbours():
            self._others += self._read(group, [])
        self._settle()

    def _read(self, group: str, broken: list[str]) -> list[OneRun]:
        """The runs of a workflow, and what its servers noted."""
        problems: list[str] = []
        workflow = load(group, "workflow.json", problems, needed=True)
        if problems == ["workflow.json is missing"]:
            problems[0] += " (a job submitted by hand has none): commit, images and config are not known"
        found = []
        try:
            found = [OneRun(f"{group}/{name}", workflow, self.now) for name in search.names(group, workflow)]
            for job, record in services(group, problems).items():
                self._services[group, job] = record
                self._owners[os.path.dirname(group), job] = group
        except OSError as error:
            problems.append(error.strerror or "can't be read")
        broken += [f"{group}: {problem}" for problem in problems]
        return found

    def _neighbours(self) -> Iterator[str]:
        """Other workflows beside those asked for whose agents may have used the same servers: begun while one of these lived."""
        lives: dict[str, tuple[float, float]] = {}
        for run in self.runs:
            for job in run.servers.values():
                since, until = lives.get(run.place, (math.inf, 0.0))
                first, last = self._life(run, job)
                lives[run.place] = min(since, first), max(until, last)
        for place, life in lives.items():
            since, until = map(stamp, life)
            try:
                names = os.listdir(place)
            except OSError:
                continue
            for name in sorted(names):
                path = f"{place}/{name}"
                if "_run-group_" in name and since <= name[: len(STAMP)] <= until and path not in self._wanted:
                    yield path

    def _life(self, run: OneRun, job: str) -> tuple[float, float]:
        """When workflows that use a server can have begun: of one that left no note here, some days around this run."""
        server = self._home(run, job), job
        if server not in self._lives:
            record = self._services.get(server) or {}
            began, ended = (values.seconds_of(record.get(key)) for key in ("started_at", "ended_at"))
            self._lives[server] = began, ended, DAY if record else 7 * DAY  # an agent may have waited in the queue
        began, ended, margin = self._lives[server]
        return (began or run.created) - margin, ended or self.now

    def _home(self, run: OneRun, job: str) -> str:
        """The folder of the workflow that a server belongs to; of one started by hand, the folder of all."""
        return run.group if run.owns(job) else self._owners.get((run.place, job), run.place)

    def _settle(self) -> None:
        self.every = every = [*self.runs, *self._others]
        for run in every:
            run.homes = {job: self._home(run, job) for job in run.servers.values()}
        silent = [run for run in every if run.agent_started is not None and not run.metadata.get("agent_ended_at")]
        self.book = costs.Book([*self.runs, *silent])
        for run in silent:
            found = self.book.of(run, run.job_id, values.seconds_of(run.metadata.get("created_at")))
            run.job_ended = None if found is None or found.start is None else found.start + found.seconds
        self.notes += dict.fromkeys(self.book.complaints)
        for run, cost in zip(every, costs.settle(every, self._services, self.book), strict=True):
            run.cost = cost

    def rows(self, keep_all: bool = False) -> list[dict[str, Any]]:
        """A row an attempt, in the order in which they were found; with `keep_all` a row a run."""
        return [row for _, row in self.named_rows(keep_all)]

    def named_rows(self, keep_all: bool = False) -> list[tuple[list[str], dict[str, Any]]]:
        """The rows, each with the names of the run that it shows and of those that it stands for."""
        shown = self.attempts()
        found = []
        for one in self.runs:
            run, tries = shown[id(one)]
            if keep_all:
                found.append(([one.identity], one.row() | {"attempts": len(tries)}))
            elif run is one:
                names = [one.identity, *(other.identity for other in tries if other is not one)]
                found.append((names, one.row(tries) | {"attempts": len(tries)}))
        return found

    def attempts(self) -> dict[int, tuple[OneRun, list[OneRun]]]:
        """For each run, by its id(): the one that stands for it in the table, and all tries of that."""
        same: dict[tuple[Any, ...], list[OneRun]] = {}
        for run in self.runs:
            same.setdefault(run.key, []).append(run)
        shown: dict[int, tuple[OneRun, list[OneRun]]] = {}  # each run to the one that stands for it
        for its in same.values():
            for run, tries in list(_attempts(its)):
                shown |= {id(one): (run, tries) for one in tries}
        return shown

    @cached_property
    def _users(self) -> dict[tuple[str | None, str], tuple[list[OneRun], float]]:
        found: dict[tuple[str | None, str], list[OneRun]] = {}
        for run in self.every:
            for job in set(run.servers.values()):
                found.setdefault((run.homes.get(job), job), []).append(run)
        return {server: (users, sum(one.agent_seconds or 0.0 for one in users)) for server, users in found.items()}

    def users(self, run: OneRun, job: str) -> tuple[list[OneRun], float]:
        """All runs that used a server of a run's, of any workflow, and their agents' seconds in all."""
        return self._users[run.homes.get(job), job]

    def server(self, run: OneRun, job: str) -> dict[str, Any]:
        """What a server that a run used noted of itself; empty where that is not here."""
        return self._services.get((run.homes.get(job, ""), job)) or {}


def _attempts(same: list[OneRun]) -> Iterator[tuple[OneRun, list[OneRun]]]:
    """The attempts among the runs of one key, each with all its tries: itself, and the lost and cancelled ones before it."""
    tries: list[OneRun] = []
    last = None
    for run in sorted(same, key=lambda run: (run.created, run.folder)):
        tries.append(run)
        if run.state not in TRIED_AGAIN:
            last = (run, tries)
            yield last
            tries = []
    if last:
        last[1].extend(tries)
    elif tries:
        yield tries[-1], tries


def rows_of(paths: list[Any], keep_all: bool = False) -> list[dict[str, Any]]:
    """The rows of all runs below some folders, with a value or None for each of COLUMNS."""
    return Collection(paths).rows(keep_all)
