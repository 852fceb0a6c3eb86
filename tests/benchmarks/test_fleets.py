"""helpers/benchmarks/fleets.py: what runs at once, and in which arrays."""

import random

import pytest

from helpers.benchmarks.fleets import cut, shares, spread


@pytest.mark.parametrize(
    "counts, parallel, expected",
    [
        ([5], 4, [(4, 0)]),
        ([3], 8, [(3, 0)]),
        ([100, 2], 10, [(9, 0), (1, 1)]),
        ([10, 10], 5, [(3, 0), (2, 1)]),
        ([1, 9, 3, 3], 2, [(1, 1), (1, 0), (1, 1), (1, 1)]),
        ([4, 4, 4], 1, [(1, 0), (1, 0), (1, 0)]),
    ],
)
def test_shares(counts, parallel, expected):
    assert shares(counts, parallel) == expected


def test_servers_of_one_model_share_its_rollouts():
    lists = [("a.sh", 5, ("30b", "30b")), ("b.sh", 1, ("30b", "judge")), ("c.sh", 4, ("external", "-"))]
    assert spread(lists, 2, {"30b"}) == [
        ("a.sh", 3, ("30b", "30b")),
        ("a.sh", 2, ("30b#2", "30b#2")),
        ("b.sh", 1, ("30b", "judge")),
        ("c.sh", 4, ("external", "-")),
    ]
    assert spread(lists, 1, {"30b"}) == lists


def test_no_more_than_parallel_run_at_once_and_every_rollout_has_one_element():
    seeded = random.Random(0)
    for _ in range(300):
        counts = [seeded.randint(1, 60) for _ in range(seeded.randint(1, 9))]
        parallel, size = seeded.randint(1, 20), seeded.randint(1, 26)
        lists = [(f"agent_{number}.sh", count, ("m", "-")) for number, count in enumerate(counts)]
        made = cut(lists, parallel, size)
        taken = [part for one in made for part in range(one.first, one.first + one.count)]
        assert taken == list(range(sum(counts))) and all(1 <= one.at_once <= one.count <= size for one in made)
        # at any time at most one array of each queue lives: what begins without waiting, or waits for the same one, are queues
        heads: dict[int, int] = {}
        most: dict[int, int] = {}
        for number, one in enumerate(made):
            queue = heads[number] = number if one.before is None else heads[one.before]
            assert one.before is None or one.before < number
            most[queue] = max(most.get(queue, 0), one.at_once)
        assert sum(most.values()) <= parallel
        befores = [one.before for one in made if one.before is not None]
        assert len(befores) == len(set(befores))  # a chain, no tree
