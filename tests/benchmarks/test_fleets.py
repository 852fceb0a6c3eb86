"""helpers/benchmarks/fleets.py: what runs at once, and in which arrays."""

import random

import pytest

from helpers.benchmarks.fleets import LEAST, cut, fitted, note, shares, spread
from helpers.config.schema import Site
from helpers.config.sites import load_site
from helpers.jobs.arrays import Fleet, submitted_now
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.scheduler import limits


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


def most_queued(made: list[Fleet]) -> int:
    """The most elements that are in the queue at a time, by the rule of scripts_hpc/lib/chain.sh: what waits is submitted when the first of
    the last elements of the one before begins, one more of these than may run at once of it."""
    after = {one.before: one for one in made if one.waits}
    heads = [number for number, one in enumerate(made) if not one.waits]
    total = sum(made[number].count for number in heads)
    for number in heads:
        one, most, head = made[number], made[number].count, made[number].count
        while (following := after.get(made.index(one))) is not None:
            left = min(one.count, one.at_once + following.at_once)
            most, one = max(most, left + following.count), following
        total += most - head
    return total


def test_what_finds_no_room_waits_and_the_queue_never_holds_more_than_there_is_room_for():
    seeded = random.Random(1)
    waited = 0
    for _ in range(500):
        counts = [seeded.randint(1, 60) for _ in range(seeded.randint(1, 9))]
        parallel, size, room = seeded.randint(1, 20), seeded.randint(1, 26), seeded.randint(LEAST, 80)
        lists = [(f"agent_{number}.sh", count, ("m", "-")) for number, count in enumerate(counts)]
        made = cut(lists, parallel, size, room)
        if sum(counts) <= room:
            assert made == cut(lists, parallel, size)
            continue
        waited += 1
        taken = [part for one in made for part in range(one.first, one.first + one.count)]
        assert taken == list(range(sum(counts))) and all(1 <= one.at_once <= one.count <= size for one in made)
        assert any(one.waits for one in made) and most_queued(made) <= room
        heads = [one for one in made if one.before is None]
        assert sum(one.at_once for one in heads) <= parallel and not any(one.waits for one in heads)
        befores = [one.before for one in made if one.before is not None]
        assert len(befores) == len(set(befores))
        # what is submitted now has nothing before it that waits
        assert not any(made[one.before].waits for one in made if one.before is not None and not one.waits)
    assert waited > 200


@pytest.mark.parametrize(
    "counts, parallel, room, expected",
    [
        # one at a time: all but two places are the next one's
        ([24], 1, 8, [6, 6, 6, 6]),
        # many at once: half is at work, half waits
        ([24], 8, 8, [4, 4, 4, 4, 4, 4]),
        # the least that goes
        ([3], 5, 2, [1, 1, 1]),
        # the short list finds room as a whole
        ([20, 1], 2, 7, [4, 4, 4, 4, 4, 1]),
        # fewer queues than lists, rather than none
        ([2, 2, 2], 3, 5, [1, 1, 2, 1, 1]),
    ],
)
def test_arrays_that_wait(counts, parallel, room, expected):
    lists = [(f"agent_{number}.sh", count, ("m", "-")) for number, count in enumerate(counts)]
    assert [one.count for one in cut(lists, parallel, 1000, room)] == expected


def test_what_is_submitted_now_is_numbered_by_itself():
    made = [Fleet(f"{number}.sh", number, 1, 1, before, "m", "-", waits) for number, before, waits in PLACES]
    assert [words.split()[:5] for words in submitted_now(made)] == [
        ["0.sh", "0", "1", "1", "-"],
        ["2.sh", "2", "1", "1", "-"],
        ["4.sh", "4", "1", "1", "1"],
    ]


PLACES = [(0, None, False), (1, 0, True), (2, None, False), (3, 1, True), (4, 2, False)]


def test_a_site_that_lets_in_too_few_is_told_before_anything_is_submitted(tmp_path, monkeypatch):
    file = tmp_path / "here.yaml"
    file.write_text("scheduler: {kind: slurm}\n")
    monkeypatch.setattr(limits, "answer", lambda *_: "1\n2_0\n" if queued else "")

    def site(most: int) -> Site:
        return load_site(str(file), [f"limits.max_submit={most}"])

    queued = False
    lists = [("agent.sh", 30, ("m", "-"))]
    with pytest.raises(ConfigError) as caught:
        fitted(site(3), lists, 4, 1000, 2)
    assert caught.value.problems == [
        "with 2 servers, an array of one rollout, and the one after it, this takes 4 jobs, and limits.max_submit of site here is 3: "
        "take fewer models or lower `replicas`, or raise that key."
    ]
    queued = True
    with pytest.raises(
        Infrastructure, match="this takes 4 jobs, 2 of yours are in the queue, .* is 5: wait until some have ended"
    ):
        fitted(site(5), lists, 4, 1000, 2)
    made = fitted(site(14), lists, 2, 1000, 2)
    assert most_queued(made) <= 10 and [one.waits for one in made] == [False, *[True] * (len(made) - 1)]
    assert note(site(14), made) == (
        "30 rollouts are more than limits.max_submit (14) lets into the queue: 1 array is submitted now, the others by the jobs before them"
    )
    assert note(site(34), fitted(site(34), lists, 2, 1000, 2)) is None
