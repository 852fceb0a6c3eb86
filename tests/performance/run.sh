#!/usr/bin/env bash
# Usage: tests/performance/run.sh [--quick] [NAME…]      e.g. run.sh start grading; without a name all benchmarks
#
# Runs each bench_NAME.py of this folder. Every figure is one line, `what: ours …, alternative …, ratio …`, both sides measured
# in this run; indented lines above it hold the single measurements. bench_start, bench_doctor, bench_submission and bench_idle need the test
# cluster (root, Debian 12), which is brought up, with its images, where it isn't; elsewhere these are left out. GNU parallel, which
# bench_prepare compares with, is installed where apt-get can (root, Debian).
# Exit code 1 when a figure misses its limit; with --quick, which measures as little as can be, only when a benchmark no longer works.
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

QUICK=0
if [[ ${1:-} == --quick ]]; then QUICK=1 && shift; fi
NAMES=("$@")
if ((${#NAMES[@]} == 0)); then
  mapfile -t NAMES < <(cd "$HERE" && printf '%s\n' bench_*.py | sed 's/^bench_//; s/\.py$//')
fi
for name in "${NAMES[@]}"; do
  [[ -f $HERE/bench_$name.py ]] || die 2 "there is no benchmark $name: $(cd "$HERE" && printf '%s ' bench_*.py)"
done

# The shortest form of each; what isn't here is short already.
declare -A SHORT=([export]='--runs 100' [generate]='--rows 20000' [generation]='--generations 256' [grading]='--requests 200' [idle]='--rollouts 8'
  [prepare]='--repeats 1' [report]='--runs 100 --many 200' [repositories]='--diffs 8' [rounds]='--status 100 --runs 100' [scheduler]='--seconds 12'
  [snapshots]='--tasks 400 --many 400' [start]='--repeats 1 --only start'
  [submission]='--rollouts 100 --repeats 1' [traces]='--runs 100')

parallel_from_apt() { # to compare with; not ours, so that a machine without it is no failure
  if command -v parallel >/dev/null || ((EUID)) || ! command -v apt-get >/dev/null; then return 0; fi
  log "installing GNU parallel, which bench_prepare compares with"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends parallel; } >/dev/null 2>&1 ||
    log "GNU parallel can't be installed: that comparison is left out"
}

# With --quick a figure may miss its limit, but it must be there, and there must be no traceback.
works() { # works OUTPUT_FILE
  grep -qE '^[^ ].*: .*(ratio|limit|goal) ' "$1" && ! grep -q '^Traceback ' "$1"
}

MISSED=() OUTPUT=$(mktemp)
on_exit "rm -f '$OUTPUT'"
for name in "${NAMES[@]}"; do
  run=("$PYTHON" "$HERE/bench_$name.py")
  if ((QUICK)); then read -ra short <<<"${SHORT[$name]:-}" && run+=(${short[@]+"${short[@]}"}); fi
  sites=('')
  case $name in
    start | doctor) sites=(loopback hosts) ;;
    submission | idle) sites=(loopback) ;;
  esac
  if [[ -n ${sites[0]} ]]; then
    bash "$ROOT/tests/cluster/up.sh" --check || continue
    run=(bash "$ROOT/tests/cluster/with.sh" "${run[@]}")
    ((QUICK == 0)) || sites=(loopback)
  fi
  [[ $name != prepare ]] || parallel_from_apt
  for site in "${sites[@]}"; do
    printf '%s\n' "$name${site:+, site $site}"
    code=0
    HAB_CLUSTER_SITE=$site "${run[@]}" 2>&1 | tee "$OUTPUT" || code=$?
    if ((QUICK && code == 1)) && works "$OUTPUT"; then code=0; fi
    ((code == 0)) || MISSED+=("$name${site:+, site $site} (exit code $code)")
  done
done
((${#MISSED[@]} == 0)) || die 1 "missed: $(IFS=, && printf '%s' "${MISSED[*]}")"
