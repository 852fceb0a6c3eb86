#!/usr/bin/env bash
# Usage: tests/lint.sh [--fix]
#
# ruff, shellcheck and shfmt over the sources; what is rendered for every site is for tests/test_golden.py.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# shellcheck source=scripts_hpc/lib/common.sh
source scripts_hpc/lib/common.sh
# shellcheck source=scripts_hpc/lib/python.sh
source scripts_hpc/lib/python.sh
python::ensure dev
PATH=${PYTHON%/*}:$PATH
mapfile -t SHELL_FILES < <(git ls-files --cached --others --exclude-standard '*.sh' 'scripts_hpc/*.bash' '.ci/run')
if [[ ${1:-} == --fix ]]; then
  ruff format .
  ruff check --fix .
  exec shfmt -i 2 -ci -w "${SHELL_FILES[@]}"
fi
CODE=0
ruff format --check . || CODE=1
ruff check . || CODE=1
shfmt -i 2 -ci -d "${SHELL_FILES[@]}" || CODE=1
# each file is read with all that it sources, which takes seconds
printf '%s\0' "${SHELL_FILES[@]}" | xargs -0 -n 3 -P "$(nproc)" shellcheck -x || CODE=1
exit "$CODE"
