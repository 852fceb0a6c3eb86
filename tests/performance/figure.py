"""The one line of a figure."""

from __future__ import annotations


def figure(what: str, ours: str, alternative: str, ratio: float, limit: str, good: bool | None) -> bool:
    """Print a figure, with the alternative's that was measured in the same run; ours and alternative: with their units.

    good: None where the short form measures too little to judge it. Returns False where it misses its limit.
    """
    verdict = "not judged in the short form" if good is None else "ok" if good else "MISSED"
    print(f"{what}: ours {ours}, alternative {alternative}, ratio {ratio:.2f}, limit {limit}: {verdict}")
    return good is not False
