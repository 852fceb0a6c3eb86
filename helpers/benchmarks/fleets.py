"""How the jobs of a round are submitted: arrays that share what may run at once, cut to the cluster's size of an array."""

from __future__ import annotations

from collections.abc import Container, Sequence

from helpers.config.schema import Site
from helpers.jobs.arrays import Fleet
from helpers.scheduler import limits

LEAST = 2  # elements of arrays in the queue: one at work, one that waits


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


def fitted(site: Site, lists: Sequence[List], parallel: int, size: int, servers: int) -> list[Fleet]:
    """The arrays of a round, cut to what limits.max_submit lets into the queue. servers: how many jobs are submitted besides.

    Raises ConfigError where not even arrays of one rollout find room, and Infrastructure where they don't now.
    """
    least = servers + min(LEAST, sum(count for _, count, _ in lists))
    what = f"with {servers} server{'s'[: servers != 1]}, an array of one rollout, and the one after it, this takes"
    left = limits.check_room(site, least, "take fewer models or lower `replicas`, or raise that key", what)
    return cut(lists, parallel, size, None if left is None else left - servers)


def note(site: Site, made: Sequence[Fleet]) -> str | None:
    """What a person should know of arrays that wait; None where none does."""
    now = sum(not one.waits for one in made)
    if now == len(made):
        return None
    return (
        f"{sum(one.count for one in made)} rollouts are more than limits.max_submit ({site.limits.max_submit}) lets into the queue: "
        f"{now} array{' is' if now == 1 else 's are'} submitted now, the others by the jobs before them"
    )


def cut(lists: Sequence[List], parallel: int, size: int, room: int | None = None) -> list[Fleet]:
    """The arrays of a round, in the order of their submission.

    size: the most elements of an array; room: how many elements may be in the queue at a time, at least LEAST, None for any number. Where
    there is none for all, of each queue only the first array is submitted; the others wait, and are so small that one finds room beside
    what is left of the one before when that submits it.
    """
    counts = [count for _, count, _ in lists]
    placed, sizes = shares(counts, parallel), dict[int, int]()
    if room is not None and sum(counts) > room:
        placed, sizes = _squeezed(counts, parallel, room)
    found: list[Fleet] = []
    last: dict[int, int] = {}  # of each queue
    first = 0
    for (script, count, servers), (share, queue) in zip(lists, placed, strict=True):
        end = first + count
        while first < end:
            elements = min(size, sizes.get(queue, size), end - first)
            before, waits = last.get(queue), queue in last and queue in sizes
            found.append(Fleet(script, first, elements, min(share, elements), before, *servers, waits=waits))
            last[queue] = len(found) - 1
            first += elements
    return found


def _squeezed(counts: Sequence[int], parallel: int, room: int) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """Shares as `shares` gives them, in as many queues as find room; and of each queue that isn't submitted as a whole, the size of its
    arrays."""
    for most in (parallel, *range(min(parallel, len(counts)) - 1, 0, -1)):
        placed = shares(counts, most)
        share, whole = dict[int, int](), dict[int, int]()
        for count, (its, queue) in zip(counts, placed, strict=True):
            share[queue], whole[queue] = its, whole.get(queue, 0) + count
        part = {queue: min(LEAST, count) for queue, count in whole.items()}
        if sum(part.values()) <= room:
            break
    for _ in range(room - sum(part.values())):
        queue = min((one for one in part if part[one] < whole[one]), key=lambda one: (part[one] / share[one], one))
        part[queue] += 1
    # the first of the elements that submit the next array (chain.sh) begins when at most twice the share is left of its own
    sizes = {queue: max(its // 2, its - 2 * share[queue]) for queue, its in part.items() if its < whole[queue]}
    return placed, sizes
