#!/usr/bin/env bash
# Usage: tests/run.sh [FILE…]      the everyday tests, or all of some files; ends with what failed, and one line "N passed, N failed"
#        tests/run.sh --all        the tests tagged `slow` too, and on both sites of the test cluster whatever can run on both
#        tests/run.sh --setup | --golden | --docs | --bench | --bench-quick | --vllm | --experiment | --mini-swe | --chaos [TIMES [SEED]]
#
# The tests on a real Slurm and Apptainer (tests/cluster/) need root and Debian; elsewhere they say so and are left out.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# shellcheck source=scripts_hpc/lib/common.sh
source scripts_hpc/lib/common.sh
common::check_shell
# shellcheck source=scripts_hpc/lib/python.sh
source scripts_hpc/lib/python.sh

for name in aide dev; do (python::ensure "$name") & done # side by side; what fails is told again below
python::ensure core
wait
export HAB_CORE_PYTHON=$PYTHON
python::ensure aide
export HAB_AIDE_PYTHON=$PYTHON
python::ensure dev
export PATH=${PYTHON%/*}:$PATH
unset PYTHONSAFEPATH HAB_COMMAND # what is tested is started in its own way
# what the person's own shell sets must not reach the tests
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(HPC_|SLURM_|SBATCH_|GRADING_|MODEL_|OPENAI_|GEMINI_|APPTAINER|SINGULARITY)' || true)

case ${1:-} in
  -h | --help) common::usage "${BASH_SOURCE[0]}" && exit 0 ;;
  --setup) exit 0 ;;
  --golden) exec env HAB_WRITE_GOLDEN=1 "$PYTHON" -m pytest -q tests/test_golden.py tests/images/test_dockerfile.py ;;
  --docs) exec "$PYTHON" docs/record.py ;;
  --bench) exec bash tests/performance/run.sh ;;
  --bench-quick) exec bash tests/performance/run.sh --quick ;;
  --vllm) exec bash tests/cluster/vllm.sh ;;
  --experiment) exec bash tests/cluster/experiment.sh ;;
  --mini-swe)
    TESTS=$PYTHON
    python::ensure mini-swe
    unset PYTHONSAFEPATH HAB_COMMAND
    exec env HAB_MINI_SWE_PYTHON="$PYTHON" "$TESTS" -m pytest -q tests/agents/test_mini_swe_agent.py tests/trajectories/test_harbor.py \
      tests/datagen/test_trace_rows_harbor.py
    ;;
  --chaos) exec bash tests/cluster/chaos.sh "${@:2}" ;;
  --all) export HAB_TESTS=all && shift ;;
esac
if (($#)); then export HAB_TESTS=${HAB_TESTS:-all}; else export HAB_TESTS=${HAB_TESTS:-everyday}; fi
SLOW=() SITES=(--filter-tags site:any) MARKED=()
[[ $HAB_TESTS == all ]] || SLOW=(--filter-tags '!slow') SITES=(--filter-tags 'site:both,!slow') MARKED=(-m 'not slow')

PASSED=0 FAILED=0
FAILURES=$(mktemp) # said again at the end: of CI's output often only that is seen
on_exit "rm -f $FAILURES"
add() { # add PASSED FAILED
  PASSED=$((PASSED + $1))
  FAILED=$((FAILED + $2))
}

run_pytest() { # run_pytest FILE…
  local report code=0 counts
  report=$(mktemp)
  ${LEAVING[@]+"${LEAVING[@]}"} "$PYTHON" -m pytest -q --no-header -n 2 --dist loadfile --durations=12 ${MARKED[@]+"${MARKED[@]}"} \
    --junitxml="$report" "$@" ||
    code=$?
  counts=$("$PYTHON" -c '
import sys, xml.etree.ElementTree
suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot().find("testsuite")
bad = sum(int(suite.get(key)) for key in ("failures", "errors"))
with open(sys.argv[2], "a") as told:
    for case in suite.iter("testcase"):
        for fault in (*case.findall("failure"), *case.findall("error")):
            print("FAILED", case.get("classname"), case.get("name"), file=told)
            print(*("    " + line for line in (fault.get("message") or fault.text or "").splitlines()[:8]), sep="\n", file=told)
print(int(suite.get("tests")) - bad - int(suite.get("skipped")), bad)' "$report" "$FAILURES") || counts="0 0"
  rm -f "$report"
  read -r -a counts <<<"$counts"
  # a runner that breaks down is a failure too
  if ((code != 0 && counts[1] == 0)); then counts[1]=1; fi
  add "${counts[0]}" "${counts[1]}"
}

run_bats() { # run_bats COMMAND…: one that runs bats; counts what it says
  local log code=0 ok bad
  log=$(mktemp)
  "$@" 2>&1 | tee "$log" || code=$?
  ok=$(grep -cE '^([^ ]+\.bats: )?ok ' "$log" || true)
  bad=$(grep -cE '^([^ ]+\.bats: )?not ok ' "$log" || true)
  # a test's own file by its name, as two files' lines are mixed; eight lines of each
  awk '{ file = ""; if (match($0, /^[^ ]+\.bats: /)) { file = substr($0, 1, RLENGTH); $0 = substr($0, RLENGTH + 1) } }
    /^not ok / { print "FAILED " file substr($0, 8); left[file] = 8; next }
    /^# / && left[file]-- > 0 { print "    " file substr($0, 3); next }
    { left[file] = 0 }' "$log" >>"$FAILURES"
  rm -f "$log"
  if ((code != 0 && bad == 0)); then bad=1; fi
  add "$ok" "$bad"
}

by_size() { stat --printf '%s %n\n' "$@" | sort -rn | cut -d' ' -f2-; } # by_size FILE…: the long ones first

# Those that take a minute or more when all tests run, whatever their size: the longest first, so that none runs alone in the end.
LONGEST=(benchmark local readme templates run_workflow run prepare_tasks build_all_containers submit python scheduler doctor grade)

longest_first() { # longest_first FILE…: of bats; the others after them, by size
  local name file others=()
  for name in "${LONGEST[@]}"; do
    for file; do [[ ${file##*/} != "$name.bats" ]] || printf '%s\n' "$file"; done
  done
  for file; do
    name=${file##*/}
    [[ " ${LONGEST[*]} " == *" ${name%.bats} "* ]] || others+=("$file")
  done
  ((${#others[@]} == 0)) || by_size "${others[@]}"
}

three_at_a_time() { # three_at_a_time FILE…: most tests wait more than they work; each line names its file
  # shellcheck disable=SC2016 # for the inner shell
  longest_first "$@" | tr '\n' '\0' |
    BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-120} xargs -0 -n 1 -P 3 ${LEAVING[@]+"${LEAVING[@]}"} bash -c '
      set -o pipefail
      file=${!#}
      "$@" 2>&1 | sed -u "s|^|${file##*/}: |"' three_at_a_time bats --tap --timing ${SLOW[@]+"${SLOW[@]}"}
}

# The cluster's tests mostly wait, one after the other, and take longest: they run beside the others, which are to leave them the
# processor when they want it. Their lines begin with "cluster: ".
cluster_beside() { # cluster_beside FILE…: sets CLUSTER, a process, and CLUSTER_LOG
  CLUSTER_LOG=$(mktemp)
  setsid env --default-signal=INT,QUIT bash tests/run.sh "$@" >"$CLUSTER_LOG" 2>&1 &
  CLUSTER=$!
  tail -f -s 0.5 --pid="$CLUSTER" "$CLUSTER_LOG" | sed -u 's/^/cluster: /' &
  on_exit "kill -INT -- -$CLUSTER 2>/dev/null && wait $CLUSTER; rm -f $CLUSTER_LOG"
  LEAVING=(nice -n 5)
}

await_cluster() {
  local counts
  wait || true
  counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$CLUSTER_LOG" | tail -n 1)
  read -r -a counts <<<"${counts:-0 1}" # one that broke down is a failure
  sed -nE 's/^FAILED /&cluster: /p; /^    /p' < <(sed -n '/^FAILED /,$p' "$CLUSTER_LOG") >>"$FAILURES"
  add "${counts[@]}"
}

run_cluster() { # run_cluster SITE OPTIONS OF bats, FILE…: on the cluster as one of its two sites, if any test is for it
  local site=$1
  shift
  (($(bats --count "$@") == 0)) ||
    HAB_CLUSTER_SITE=$site BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-150} run_bats bats --tap --timing "$@"
}

FILES=("$@")
if ((${#FILES[@]} == 0)); then
  mapfile -t FILES < <(find tests -name 'test_*.py' -o -name '*.bats' | grep -v '^tests/cluster/')
  mapfile -t FILES < <(by_size "${FILES[@]}")
  # one set that never needs root first; then the real cluster
  if bash tests/cluster/up.sh --check; then
    mapfile -t -O "${#FILES[@]}" FILES < <(find tests/cluster -name '*.bats' | sort)
  fi
fi
PYTEST_FILES=() BATS_FILES=() CLUSTER_FILES=()
for file in "${FILES[@]}"; do
  case $file in
    tests/cluster/*) CLUSTER_FILES+=("$file") ;;
    *.bats) BATS_FILES+=("$file") ;;
    tests/test_*.py) PYTEST_FILES=("$file" ${PYTEST_FILES[@]+"${PYTEST_FILES[@]}"}) ;; # the long ones first
    *) PYTEST_FILES+=("$file") ;;
  esac
done
OTHERS=$((${#PYTEST_FILES[@]} + ${#BATS_FILES[@]}))
LEAVING=()
if ((OTHERS && ${#CLUSTER_FILES[@]})); then cluster_beside "${CLUSTER_FILES[@]}"; fi
if ((${#PYTEST_FILES[@]})); then run_pytest "${PYTEST_FILES[@]}"; fi
if ((${#BATS_FILES[@]})); then run_bats three_at_a_time "${BATS_FILES[@]}"; fi
if ((OTHERS && ${#CLUSTER_FILES[@]})); then
  await_cluster
elif ((${#CLUSTER_FILES[@]})); then
  # packages and images, which take the whole processor for minutes; what fails is told by the tests
  nice -n 5 bash tests/cluster/with.sh true >/dev/null 2>&1 || true
  # tests without a tag are for the first site alone
  run_cluster loopback --filter-tags "!site:hosts${SLOW:+,!slow}" "${CLUSTER_FILES[@]}"
  run_cluster hosts "${SITES[@]}" --filter-tags "site:hosts${SLOW:+,!slow}" "${CLUSTER_FILES[@]}"
fi
cat "$FAILURES"
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
((FAILED == 0 && PASSED > 0))
