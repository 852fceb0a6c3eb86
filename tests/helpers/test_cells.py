"""helpers/runs/cells.py: workflow.json in both its forms."""

from helpers.runs import cells

OLD = {"schema": 1, "site": "here", "competition": "toy", "agent": "aide", "seed": 3, "rollouts": 2, "config_hash": "a"}
CELLS = [
    {"competition": "toy", "agent": "aide", "seed": 3, "rollouts": 2, "config_hash": "a"},
    {"competition": "other", "agent": "aide", "seed": 0, "rollouts": 1, "config_hash": "b"},
]
NEW = {"schema": 2, "site": "here", "cells": CELLS}


def test_a_record_of_before_is_of_one_cell():
    assert cells.cells(OLD) == [CELLS[0]] and cells.view(OLD) == OLD
    assert cells.place(OLD, "seed") == "seed" and cells.rollout(OLD, 1) == (0, 4)


def test_a_run_sees_its_own_cell():
    assert cells.view(NEW, 1) == {"schema": 2, "site": "here", **CELLS[1]}
    assert cells.view(NEW) == cells.view(NEW, None) == cells.view(NEW, 0)
    assert cells.place(NEW, "seed", 1) == "cells[1].seed" and cells.place(NEW, "site", 1) == "site"
    assert [cells.rollout(NEW, number) for number in range(4)] == [(0, 3), (0, 4), (1, 0), (1, 1)]


def test_what_is_damaged_breaks_nobody():
    for record in ({}, {"cells": []}, {"cells": ["x"]}, {"cells": 3, "seed": "x"}):
        assert "competition" not in cells.view(record) and cells.rollout(record, 2) == (0, 2)
    assert cells.view(NEW, 7) == {"schema": 2, "site": "here"} and cells.view(NEW, "x")["competition"] == "toy"
