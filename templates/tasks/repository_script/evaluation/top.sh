#!/usr/bin/env bash
set -euo pipefail
python3 words.py --top 4 "${TESTS_DIR:?}/sea.txt" | diff "$TESTS_DIR/expected/top.txt" -
