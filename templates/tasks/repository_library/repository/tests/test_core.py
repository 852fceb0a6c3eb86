import pytest
from intervals import merge, total


def test_what_overlaps_is_one():
    assert merge([(4, 8), (1, 5)]) == [(1, 8)]


def test_what_is_apart_stays_so():
    assert merge([(6, 8), (1, 5)]) == [(1, 5), (6, 8)]


def test_each_number_counts_once():
    assert total([(1, 5), (4, 8)]) == 7


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError):
        merge([(3, 3)])
