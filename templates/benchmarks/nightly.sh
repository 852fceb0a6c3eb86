#!/usr/bin/env bash
# Usage: templates/benchmarks/nightly.sh CONFIG [option of `run_benchmark.sh run`]…
#
# Runs a benchmark, and compares its round with the one before; for cron, scrontab or CI (crontab, scrontab, github-workflow.yml beside this
# file). An example: copy it, and change what you like.
#
#   BASELINE=BENCHMARK/STAMP   compare with that round instead: a slow decline is less than chance every night
#
# On standard output: the summary of the round, then the comparison. Exit codes: 0 no worse, as far as can be told; 1 worse beyond chance,
# and the last lines tell on which tasks; 2, 3 and 130 as run_benchmark.sh has them: there is no whole round to compare.
set -euo pipefail
BENCHMARK=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts_hpc/run_benchmark.sh
case ${1:-} in
  '' | -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 2 ;;
esac

ROUND=$("$BENCHMARK" run "$@" --yes --detach)
CODE=0
"$BENCHMARK" attach "$ROUND" -v || CODE=$?
# an agent without a valid submission (4) is a result
((CODE == 0 || CODE == 4)) || exit "$CODE"

BEFORE=${BASELINE:-}
if [[ -z $BEFORE ]]; then
  # the newest of those before in which anything was graded: names are times, and come in their order
  for folder in "${ROUND%/*}"/*; do
    if [[ $folder < $ROUND ]] && grep -qs '"state": "scored"' "$folder/manifest.json"; then BEFORE=$folder; fi
  done
fi
if [[ -z $BEFORE ]]; then
  printf 'The first round of %s: there is none to compare it with.\n' "$(basename "${ROUND%/*}")"
  exit 0
fi
"$BENCHMARK" compare "$BEFORE" "$ROUND" --fail-if-worse
