import pytest
from intervals import merge, total


def test_what_overlaps_is_one():
    assert merge([(4, 8), (1, 5), (20, 30)]) == [(1, 8), (20, 30)]


def test_each_number_counts_once():
    assert total([(1, 5), (4, 8), (10, 11)]) == 8


def test_what_is_inside_adds_nothing():
    assert merge([(1, 10), (2, 3)]) == [(1, 10)]


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError):
        merge([(3, 3)])
