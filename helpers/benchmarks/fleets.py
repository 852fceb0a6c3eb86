"""How the jobs of a round are submitted: arrays that share what may run at once, cut to the cluster's size of an array."""

from __future__ import annotations

from collections.abc import Container, Sequence

from helpers.jobs.workflow import Fleet


def shares(counts: Sequence[int], parallel: int) -> list[tuple[int, int]]:
    """For each of several lists of rollouts: how many of them run at once, and its queue; lists of one queue follow one another.

    All queues together never run more than `parallel`. Where there are no more lists than that, each is a queue of its own, and its share
    is in proportion to its length (the largest remainders are rounded up), one at least; else there are `parallel` queues that run one at
    a time, and a list joins the shortest one, the longest list first.
    """
    if len(counts) > parallel:
        queue_of, lengths = [0] * len(counts), [0] * parallel
        for place in sorted(range(len(counts)), key=lambda place: -counts[place]):
            queue_of[place] = lengths.index(min(lengths))
            lengths[queue_of[place]] += counts[place]
        return [(1, queue) for queue in queue_of]
    given = [1] * len(counts)
    for _ in range(parallel - len(counts)):
        # who would still take the longest
        place = max(range(len(counts)), key=lambda place: (counts[place] / given[place], -place))
        if given[place] >= counts[place]:
            break
        given[place] += 1
    return [(share, queue) for queue, share in enumerate(given)]


# script, rollouts, and the servers: of the model, of the feedback model
List = tuple[str, int, tuple[str, str]]


def spread(lists: Sequence[List], replicas: int, served: Container[str]) -> list[List]:
    """The lists whose model has a server of its own (served: the names of those), each in as many as there are servers of a model, as
    alike as can be. The second server of a model is called NAME#2, and so on."""
    found: list[List] = []
    for script, count, (model, feedback) in lists:
        parts = min(replicas, count) if model in served else 1
        for number in range(parts):
            name = model if number == 0 else f"{model}#{number + 1}"
            part = (count + parts - 1 - number) // parts
            found.append((script, part, (name, name if feedback == model else feedback)))
    return found


def cut(lists: Sequence[List], parallel: int, size: int) -> list[Fleet]:
    """The arrays of a round, in the order of their submission. size: the most elements of an array."""
    found: list[Fleet] = []
    last: dict[int, int] = {}  # of each queue
    first = 0
    for (script, count, servers), (share, queue) in zip(
        lists, shares([one[1] for one in lists], parallel), strict=True
    ):
        end = first + count
        while first < end:
            elements = min(size, end - first)
            found.append(Fleet(script, first, elements, min(share, elements), last.get(queue), *servers))
            last[queue] = len(found) - 1
            first += elements
    return found
