from intervals import merge, total


def test_touching_intervals_are_one():
    assert merge([(1, 3), (3, 5)]) == [(1, 5)]


def test_a_chain_of_them_is_one():
    assert merge([(7, 9), (1, 3), (5, 7), (3, 5)]) == [(1, 9)]
    assert total([(1, 3), (3, 5), (2, 4)]) == 4


def test_one_number_between_keeps_them_apart():
    assert merge([(1, 3), (4, 5)]) == [(1, 3), (4, 5)]
