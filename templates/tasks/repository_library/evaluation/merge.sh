#!/usr/bin/env bash
set -eu
PYTHONPATH=. exec python3 -m pytest -q -p no:cacheprovider "${TESTS_DIR:?}/test_merge.py"
