import intervals
import pytest


def test_what_lies_between():
    assert intervals.gaps([(10, 12), (1, 3), (3, 5)]) == [(5, 10)]
    assert intervals.gaps([(1, 2), (4, 5), (9, 12)]) == [(2, 4), (5, 9)]


def test_nothing_lies_between_what_touches():
    assert intervals.gaps([(1, 3), (3, 5)]) == []


def test_none_and_one():
    assert intervals.gaps([]) == [] and intervals.gaps([(1, 2)]) == []


def test_the_argument_stays_as_it_is():
    given = [(4, 5), (1, 2)]
    intervals.gaps(given)
    assert given == [(4, 5), (1, 2)]


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError):
        intervals.gaps([(2, 2)])
