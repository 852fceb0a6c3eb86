"""What `site.sh doctor` finds, and the checks that find it: small functions in a registry. Runs where a person types.

A check is a function with @check(where) that takes what is known (login.Here, or nodes.Nodes) and returns or yields
findings; what it raises of ours becomes one. To add a check, add a function.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from helpers.lib.errors import ConfigError, Infrastructure

OK, WARNING, FAILURE, NOT_CHECKED = STATES = ("ok", "warning", "failure", "not checked")


@dataclass(frozen=True)
class Finding:
    """One row of the table. key, advice: the site's key, and what to write there or do.

    value: what --write puts there, where that is sure; cures: whether it was seen that the site works with it.
    """

    check: str
    state: str
    measured: str
    key: str = ""
    advice: str = ""
    value: Any = None
    cures: bool = False

    @property
    def data(self) -> dict[str, Any]:
        return asdict(self)


Result = Finding | Iterable[Finding] | None
CHECKS: dict[str, dict[str, Callable[[Any], Result]]] = {"login": {}, "nodes": {}}


def check(where: str) -> Callable[[Callable[[Any], Result]], Callable[[Any], Result]]:
    """Register a check, by its function's name. where: "login", or "nodes" for what is made of the probes' reports."""

    def register(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
        if function.__name__ in CHECKS[where]:
            raise ValueError(f"there are two checks {function.__name__}")
        CHECKS[where][function.__name__] = function
        return function

    return register


def run(where: str, known: Any) -> list[Finding]:
    """All checks of a place, in the order in which they are written."""
    found: list[Finding] = []
    for name, function in CHECKS[where].items():
        try:
            result = function(known)
            found += [result] if isinstance(result, Finding) else list(result or ())
        except (ConfigError, Infrastructure, OSError, subprocess.SubprocessError) as error:
            found.append(Finding(name.replace("_", " "), FAILURE, _words(error)))
    return found


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    return str(error)


def code(findings: list[Finding]) -> int:
    """The exit code: 0 where a run would work, else 3."""
    return 3 if any(one.state == FAILURE for one in findings) else 0


def summary(findings: list[Finding]) -> dict[str, int]:
    """How many there are of each state."""
    counts = Counter(one.state for one in findings)
    return {state: counts[state] for state in STATES if counts[state]}


def written(finding: Finding) -> Finding:
    """A finding whose value now stands in the site's file."""
    said = f"written: {finding.key}: {finding.value}"
    return replace(finding, state=OK if finding.cures else finding.state, advice=said, value=None)


def load(data: list[dict[str, Any]]) -> list[Finding]:
    """Findings from a record."""
    return [Finding(**one) for one in data]
