#!/usr/bin/env bash
# Usage: tests/cluster/chaos.sh [TIMES [SEED]]
#
# A round of 60 rollouts (3 tasks, 2 models, 10 seeds) on the test cluster, where arrays have 26 elements at most, and TIMES (1) more
# of the same in which at random moments somebody kills the orchestrator, elements, a node or a server, takes the answer of sbatch away,
# cancels elements, or stops slurmdbd, and goes on with `resume`, twice at once too, until all is done. Each has to end with the very
# results of the undisturbed one, each key once, with never more agents at once than asked for, and with nothing left.
# Opt-in (`make test-chaos`): needs root on Debian 12, and about six minutes a time. SEED repeats what happened at a time before; each
# failure tells its own. Ends with "N passed, N failed".
set -euo pipefail
BATS_TEST_DIRNAME=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BATS_SUITE_TEST_NUMBER=chaos BATS_TEST_COMPLETED=1
case ${1:-} in -h | --help) sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;; esac
bash "$BATS_TEST_DIRNAME/up.sh" --check
# shellcheck source=tests/cluster/setup_suite.bash
source "$BATS_TEST_DIRNAME/setup_suite.bash"

TIMES=${1:-1} SEED=${2:-$((RANDOM))}
PARALLEL=6
PATIENCE=900 # seconds of a disturbed round
NUMBER=0     # of commands started

configure() { # configure NAME: its configuration
  as_owner tee "$WORK/$1.toml" >/dev/null <<TOML
parallel = $PARALLEL
retries = 50

[[tasks]]
tasks = ["classification_basic", "regression_basic", "clustering_basic"]
models = ["replay", "second"]
agent = "seeded"
rollouts = 10
TOML
}

begin() { # begin run|resume …: an orchestrator more, as if a person had typed it
  NUMBER=$((NUMBER + 1))
  local more=()
  [[ $1 != run ]] || more=(--set "models.second={engine: replay, served_name: second, cpus: 1, memory_gb: 1, load_minutes: 5}")
  start_command "$NUMBER" scripts_hpc/run_benchmark.sh "$@" ${more[@]+"${more[@]}"}
}

orchestrators() { # their numbers, of those that are still there
  local number
  for number in "${!STARTED[@]}"; do process_gone "${STARTED[$number]}" || printf '%s\n' "$number"; done
}

round() { compgen -G "$WORK/rollouts/$1/*" | tail -n 1; } # round NAME

# The keys with a score, each as often as it has one: task, model, seed, score.
results() { # results NAME
  # code 3: what was killed has left broken files
  { as_user scripts_hpc/results.sh export "$(round "$1")" --json || (($? == 3)); } |
    python3 -c '
import json, sys
rows = json.load(sys.stdin)
for row in sorted(str((row["task"], row["model"], row["seed"], row["score"])) for row in rows if row["state"] == "scored"):
    print(row)'
}

scored() { # scored NAME: how many rollouts have a result
  results "$1" 2>/dev/null | wc -l
}

running() { # running PATTERN: the job numbers, each element by its own, of what runs under such a name
  queue --array --states=RUNNING --format='%A %j' | awk -v pattern="$1" '$2 ~ pattern { print $1 }'
}

watch_numbers() { # in the background: the most agents that were seen at once
  local now
  while :; do
    now=$(running '^agent' | wc -l) || now=0
    ((now <= $(cat "$WORK/most" 2>/dev/null || echo 0))) || printf '%s\n' "$now" >"$WORK/most"
    sleep 0.3
  done
}

# ---- what happens

any() { # any WORD…: sets ANY to one of them, or to nothing
  ANY=''
  (($# == 0)) || ANY=${*:RANDOM%$#+1:1}
}
any_of() { # any_of COMMAND…: sets ANY to a line of what it prints, and succeeds where there is one
  local lines
  mapfile -t lines < <("$@")
  any ${lines[@]+"${lines[@]}"}
  [[ -n $ANY ]]
}

orchestrator_killed() {
  ! any_of orchestrators || kill -KILL -- "-${STARTED[$ANY]}"
}

answer_lost() { as_owner touch "$WORK/lose"; } # of the next call of sbatch, if there is one

element_killed() {
  local job
  any_of running '^agent' || return 0
  job=$ANY
  any slurm_script pptainer
  kill_process "$job" "$ANY"
}

element_cancelled() {
  ! any_of running '^agent' || scancel "$ANY"
}

server_killed() {
  local job
  any_of running '^(grading|vllm)' || return 0
  job=$ANY
  any slurm_script python3
  kill_process "$job" "$ANY"
}

node_crashes() {
  local node
  any cpu1 cpu2
  node=$ANY
  bash "$BATS_TEST_DIRNAME/node.sh" crash "$node"
  sleep 10 # Slurm calls it down in the meantime (SlurmdTimeout)
  bash "$BATS_TEST_DIRNAME/node.sh" start "$node"
}

database_stops() {
  cluster::stop slurmdbd
  sleep 8
  bash "$BATS_TEST_DIRNAME/up.sh" >/dev/null
}

EVENTS=(orchestrator_killed answer_lost element_killed element_killed element_cancelled server_killed node_crashes database_stops)

go_on() { # go_on NAME: where nobody follows the round, somebody goes on with it; sometimes two
  local times
  [[ -z $(orchestrators) ]] || return 0
  if [[ ! -f $(round "$1")/jobs/submitted ]]; then
    begin run "$WORK/$1.toml"
    return
  fi
  for ((times = RANDOM % 3 == 0 ? 2 : 1; times; times--)); do begin resume "$1"; done
}

disturb() { # disturb NAME: until all its rollouts have a result
  local began=$SECONDS event
  while (($(scored "$1") < 60)); do
    ((SECONDS - began < PATIENCE)) || { printf 'not within %s s: %s of 60 scored\n' "$PATIENCE" "$(scored "$1")" && return 1; }
    go_on "$1"
    sleep "$((RANDOM % 6 + 2)).$((RANDOM % 10))"
    # in the end there is peace
    ((SECONDS - began < PATIENCE / 3)) || continue
    any "${EVENTS[@]}"
    event=$ANY
    printf '%4d s: %s\n' $((SECONDS - began)) "$event"
    "$event" || true
  done
}

# ---- the tests

undisturbed() {
  configure calm
  begin run "$WORK/calm.toml"
  finish "$NUMBER" "$PATIENCE"
  expect_status 0
  results calm >"$WORK/calm.results"
  [[ $(wc -l <"$WORK/calm.results") == 60 && $(cut -d, -f1-3 "$WORK/calm.results" | sort -u | wc -l) == 60 ]]
  # seeds differ, or nothing would be compared
  (($(cut -d, -f4 "$WORK/calm.results" | sort -u | wc -l) > 10))
  expect_few
  expect_nothing_left 20
}

expect_few() { # never more agents than asked for
  cat "$WORK/most"
  (($(<"$WORK/most") > 1 && $(<"$WORK/most") <= PARALLEL))
}

disturbed() { # as $SEED has it
  local name=chaos_$SEED number
  RANDOM=$SEED
  NUMBER=$((SEED * 1000))
  printf '0\n' >"$WORK/most"
  configure "$name"
  disturb "$name"
  for number in $(orchestrators); do await 60 process_gone "${STARTED[$number]}"; done
  results "$name" >"$WORK/$name.results"
  diff "$WORK/calm.results" "$WORK/$name.results"
  expect_few
  # nothing is said of it that isn't so, whoever looks
  as_user scripts_hpc/run_benchmark.sh attach "$(round "$name")" >/dev/null
  [[ $(pick "$(round "$name")/manifest.json" "sorted({r['state'] for r in d['results']})") == "['scored']" ]]
  expect_nothing_left 180 # a server that nobody has ever used waits for somebody, for two minutes
}

main() {
  local watcher
  setup_suite
  trap 'bash "$BATS_TEST_DIRNAME/up.sh" --reconfigure >/dev/null; cluster_teardown; teardown_suite' EXIT
  bash "$BATS_TEST_DIRNAME/up.sh" --reconfigure MaxArraySize=26 SlurmdTimeout=5 >&2
  cluster_setup
  USER_PATH=$WORK/bin
  USER_VARIABLES+=(HPC_PATHS__ROLLOUTS="$WORK/rollouts" HPC_LIMITS__GRACE_SECONDS=15)
  as_owner tee "$WORK/bin/sbatch" >/dev/null <<SH
#!/usr/bin/env bash
# the real one; where the file is there, whoever called it is killed before the answer arrives
answer=\$(/usr/bin/sbatch "\$@") || exit
! rm "$WORK/lose" 2>/dev/null || exec pkill -KILL --session 0
printf '%s\n' "\$answer"
SH
  as_owner chmod +x "$WORK/bin/sbatch"
  watch_numbers &
  watcher=$!
  check undisturbed "60 rollouts in arrays of 26 at most, undisturbed"
  for (( ; TIMES; TIMES--, SEED++)); do check disturbed "disturbed (seed $SEED): the same results"; done
  kill "$watcher"
}

main
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
((FAILED == 0 && PASSED > 0))
