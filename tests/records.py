"""workflow.json in its newest form, for tests that write the one of before."""

from typing import Any

from helpers.runs import cells


def in_cells(record: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 as schema 2 has it."""
    own = {key: value for key, value in record.items() if key not in cells.KEYS}
    return {**own, "schema": cells.SCHEMA, "cells": cells.cells(record)}
