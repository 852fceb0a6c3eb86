"""Intervals are pairs (start, end); the end doesn't belong to them."""


def _checked(intervals):
    for start, end in intervals:
        if end <= start:
            raise ValueError(f"({start}, {end}) ends before it has started")
    return sorted(intervals)


def merge(intervals):
    """The same numbers in as few intervals as possible, in their order."""
    merged = []
    for start, end in _checked(intervals):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def total(intervals):
    """How many numbers lie in the intervals, each counted once."""
    return sum(end - start for start, end in merge(intervals))
