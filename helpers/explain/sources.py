"""Where each column of a row comes from, as helpers/explain/columns.py has it, without reading anything for it: for many runs at once."""

from __future__ import annotations

from typing import Any

from helpers.explain import hours
from helpers.explain.columns import COLUMNS
from helpers.explain.derive import Case
from helpers.explain.files import UNKNOWN, Files, Found

HOURS = ("agent_cpu_hours", "cpu_hours", "gpu_hours")
OF_ALL_RUNS = "attempts"  # derived from all runs of its key


class _Unread(Files):
    """Files of which none is read."""

    tampered = again = nodes = None

    def asked(self, servers: dict[str, str]) -> tuple[int | None, str]:
        return None, ""

    def value_in_script(self, name: str) -> str | None:
        return None

    def _unread(self, column: str) -> Found:
        return self.source(column), UNKNOWN, "", None

    def data_fingerprint(self) -> Found:
        return self._unread("data_fingerprint")

    def image_digest(self) -> Found:
        return self._unread("image_digest")

    def config_hash(self) -> Found:
        return self._unread("config_hash")

    def git_commit(self) -> Found:
        return self._unread("git_commit")


def sources(run: Any, tries: list[Any], row: dict[str, Any], collection: Any) -> dict[str, str]:
    """File and key, or formula, of each column but those of HOURS: alike for all runs of a cell. tries: whose cost the row bears."""
    case = Case(run, run, tries, row, collection, None)
    case.files = _Unread(case.files.folder, run)
    case.tries = []  # hours are hours_of's
    told = {name: derive(case, name).source for name, derive in COLUMNS.items() if name not in (*HOURS, OF_ALL_RUNS)}
    return told | {OF_ALL_RUNS: "the runs of its key that were lost or cancelled, and itself"}


def hours_of(tries: list[Any], collection: Any) -> dict[str, str]:
    """The formula of each column of HOURS, with the jobs whose hours it adds."""
    terms = hours.terms(tries, collection)
    own = " + ".join(term.said("cpus") for term in terms if term.name == "agent")
    both = (" + ".join(term.said(unit) for term in terms) for unit in ("cpus", "gpus"))
    return dict(zip(HOURS, (own, *both), strict=True))
