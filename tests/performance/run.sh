#!/usr/bin/env bash
# Usage: tests/performance/run.sh [NAME…]      e.g. run.sh start grading; without a name all benchmarks
#
# Runs each bench_NAME.py of this folder. Every figure is one line, `what: ours …, alternative …, ratio …`, both sides measured
# in this run; indented lines above it hold the single measurements. bench_start needs the test cluster (root, Debian 12), which
# is brought up, with its images, where it isn't; elsewhere that one is left out. Exit code 1 when a figure misses its limit.
set -euo pipefail
HERE=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=${HERE%/tests/performance}
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
common::check_shell
case ${1:-} in -h | --help) common::usage "${BASH_SOURCE[0]}" && exit 0 ;; esac
# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"
python::ensure core
python::ensure aide
python::ensure dev
unset PYTHONSAFEPATH # what is timed is started in its own way

NAMES=("$@")
if ((${#NAMES[@]} == 0)); then
  mapfile -t NAMES < <(cd "$HERE" && printf '%s\n' bench_*.py | sed 's/^bench_//; s/\.py$//')
fi
for name in "${NAMES[@]}"; do
  [[ -f $HERE/bench_$name.py ]] || die 2 "there is no benchmark $name: $(cd "$HERE" && printf '%s ' bench_*.py)"
done

with_cluster() { # with_cluster COMMAND…: in a subshell, with the cluster's environment and the copy of the checkout on it
  (
    BATS_TEST_DIRNAME=$ROOT/tests/cluster
    # shellcheck source=tests/cluster/setup_suite.bash
    source "$BATS_TEST_DIRNAME/setup_suite.bash"
    trap teardown_suite EXIT
    setup_suite >&2
    "$@"
  )
}

MISSED=()
for name in "${NAMES[@]}"; do
  run=("$PYTHON" "$HERE/bench_$name.py")
  if [[ $name == start ]]; then
    bash "$ROOT/tests/cluster/up.sh" --check || continue
    run=(with_cluster "${run[@]}")
  fi
  printf '%s\n' "$name"
  code=0
  "${run[@]}" || code=$?
  ((code == 0)) || MISSED+=("$name (exit code $code)")
done
((${#MISSED[@]} == 0)) || die 1 "missed: $(IFS=, && printf '%s' "${MISSED[*]}")"
