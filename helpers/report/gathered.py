"""What a report is made of: a round as its summary has it, its runs, and its model servers; nothing is computed here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.benchmarks import manifest, rounds, summary
from helpers.benchmarks.outcomes import Outcome
from helpers.benchmarks.rounds import Round
from helpers.config.asked import AskedSite
from helpers.lib.errors import Refused
from helpers.runs import load
from helpers.runs.collection import Collection
from helpers.runs.one import OneRun


@dataclass(frozen=True)
class Member:
    """A rollout of the report. run: what stands for it, None where it has not begun; tries: whose cost its row bears."""

    outcome: Outcome
    run: OneRun | None
    tries: list[OneRun]
    collection: Collection


@dataclass(frozen=True)
class Gathered:
    """members: in the order of the round's outcomes; places: the folders of what was asked for."""

    round: summary.Round
    members: list[Member]
    places: list[str]
    servers: dict[str, load.Seen]


def gather(words: Iterable[str], site: AskedSite) -> Gathered:
    """What rounds (a folder, BENCHMARK or BENCHMARK/STAMP) and folders of runs hold; without a word, all runs of the site.

    Raises Refused where there is nothing.
    """
    paths = [_place(word, site) for word in words] or [site.runs]
    asked = [Round(path) for path in paths if (path / manifest.NAME).is_file()]
    others = [path for path in paths if not (path / manifest.NAME).is_file()]
    if len(asked) == 1 and not others:
        one = asked[0]
        its = [one.tries.get(number, []) for number in range(len(one.summary.outcomes))]
        members = [
            Member(outcome, tries[-1] if tries else None, tries, one.collection)
            for outcome, tries in zip(one.summary.outcomes, its, strict=True)
        ]
        return Gathered(one.summary, members, [str(one.path)], load.seen(str(one.path)))
    return _together(asked, others)


def _place(word: str, site: AskedSite) -> Path:
    if os.path.isdir(word):
        return Path(os.path.realpath(word))
    name, _, stamp = word.partition("/")
    if "/" in stamp or word.startswith(("/", ".")):
        raise Refused(
            f"{word}: there is no such folder; name a round, or the folder of a workflow, of many, or of one run"
        )
    return rounds.find(name, stamp or None, site)


def _together(asked: list[Round], others: list[Path]) -> Gathered:
    """Runs of several places as one round."""
    collections = [(one.collection, [*_of_round(one)]) for one in asked]
    if others:
        loose = Collection([str(path) for path in others])
        collections.append((loose, [*_of_collection(loose)]))
    told = [(collection, rollout, tries) for collection, its in collections for rollout, tries in its]
    if not told:
        broken = [sentence for collection, _ in collections for sentence in collection.broken]
        raise Refused("; ".join([f"no runs in {', '.join(map(str, others))}", *broken[:3]]), 3 if broken else 2)
    groups = dict.fromkeys(run.group for _, _, tries in told for run in tries)
    servers = {job: seen for group in groups for job, seen in load.seen(group).items()}
    notes = [sentence for collection, _ in collections for sentence in (*collection.broken, *collection.notes)]
    if len(asked) > 1:
        notes.append(f"{len(asked)} rounds are taken together here; run_benchmark.sh compare tells two of them apart")
    places = [*(str(one.path) for one in asked), *map(str, others)]
    name = places[0].rpartition("/")[2] + (f" and {len(places) - 1} more" if len(places) > 1 else "")
    served = load.by_model(one.served for one in servers.values())
    whole = summary.round_of([rollout for _, rollout, _ in told], name, "", notes, served)
    members = [
        Member(outcome, tries[-1] if tries else None, tries, collection)
        for outcome, (collection, _, tries) in zip(whole.outcomes, told, strict=True)
    ]
    return Gathered(whole, members, places, servers)


def _of_round(one: Round) -> Iterator[tuple[dict, list[OneRun]]]:
    for number, rollout in enumerate(one.asked):
        yield rollout, one.tries.get(number, [])


def _of_collection(collection: Collection) -> Iterator[tuple[dict, list[OneRun]]]:
    """A rollout for each row of the table of results."""
    shown = collection.attempts()
    for one in collection.runs:
        run, tries = shown[id(one)]
        if run is one:
            row = run.row(tries) | {"attempts": len(tries), "usd": rounds.usd(run.workflow, run)}
            told = {"run_id": run.identity, "task": run.task, "model": row["model"], "agent": row["agent"]}
            last = [other for other in tries if other is not run]
            yield (
                told | {"variables": run.workflow.get("variables") or {}, "seed": row["seed"], "row": row},
                [*last, run],
            )
