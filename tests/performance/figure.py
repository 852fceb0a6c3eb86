"""The one line of a figure."""

from __future__ import annotations


def figure(what: str, ours: str, alternative: str, ratio: float, limit: str, good: bool) -> bool:
    """Print a figure, with the alternative's that was measured in the same run; ours and alternative: with their units.

    Returns whether it is within its limit.
    """
    print(
        f"{what}: ours {ours}, alternative {alternative}, ratio {ratio:.2f}, limit {limit}: {'ok' if good else 'MISSED'}"
    )
    return good
