#!/usr/bin/env bash
set -eu
PYTHONPATH=. exec python3 "${TESTS_DIR:?}/test_refuse.py"
