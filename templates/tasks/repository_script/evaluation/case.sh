#!/usr/bin/env bash
set -euo pipefail
python3 words.py "${TESTS_DIR:?}/sea.txt" | diff "$TESTS_DIR/expected/case.txt" -
