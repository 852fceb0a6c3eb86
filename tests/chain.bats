# A round of which the queue takes a part (scripts_hpc/lib/chain.sh): what waits is submitted by the last elements of the array before it.
# Against a fake Slurm, whose jobs do nothing: the elements are run here, as far as they submit.
bats_require_minimum_version 1.5.0

setup_file() { export BATS_TEST_TIMEOUT=240; }

setup() {
  load common.bash
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm HAB_SUBMIT_PAUSE=0 SCHEDULER_DOUBT=0
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT}
  mkdir -p "$FAKE_SLURM"
  PATH=$ROOT/tests/fakes/slurm:$PATH
  make_site slurm apptainer
  make_task toy
  touch "$BATS_TEST_TMPDIR/images/"{mlebench-env,aide}.sif
  export HPC_SITE=$SITE_FILE
  cd "$BATS_TEST_TMPDIR"
  printf '%s\n' 'parallel = 2' '[[tasks]]' 'task = "toy"' 'model = "replay"' 'rollouts = 12' >many.toml
  : >"$FAKE_SLURM/jobs"
}

teardown() {
  [[ -z ${WATCHER:-} ]] || kill -KILL -- "-$WATCHER" 2>/dev/null || true
}

benchmark() { try "$ROOT/scripts_hpc/run_benchmark.sh" "$@"; }
run_many() { # run_many [OPTIONS]: sets GROUP; jobs 101 and 102 are the servers, 103 the first array
  benchmark run many.toml --set limits.max_submit=8 --detach "$@"
  expect_status 0
  GROUP=$output
}
calls() { sed 's/ *$//' "$FAKE_SLURM/calls" 2>/dev/null || true; }
agents() { sed -n 's/^agent=//p' "$GROUP/jobs/submitted"; }
ended() { local job; for job; do sed -i -E "/^$job(_[0-9]+)? /d" "$FAKE_SLURM/jobs"; done; }
next() { (cd "$GROUP/jobs" && ls -d next.*) 2>/dev/null | xargs; }

# An element of an array, as its script runs it, up to where it makes its run: [VARIABLE=VALUE…] ARRAY INDEX. DIES: all of it is killed as
# soon as that is true.
element() {
  local settings=() words
  while [[ $1 == *=* ]]; do settings+=("$1") && shift; done
  eval "words=($(sed -n "s/^agent=$1_[^ ]* [^ ]*//p" "$GROUP/jobs/submitted"))"
  # shellcheck disable=SC2016
  env "${settings[@]}" SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID="$1" SLURM_ARRAY_TASK_ID="$2" SLURM_MEM_PER_CPU=100 SBATCH_PARTITION=other \
    CUDA_VISIBLE_DEVICES=NoDevFiles setsid --wait bash -c '
    sed "/^run::create\$/,\$d" "$0" >"$0.part"
    # what a script adds to its environment stays there
    export ADDED=1
    source "$0.part"
    log "the rollout begins"
    eval "${DOES:-}"
    [[ -z ${DIES:-} ]] || { until eval "$DIES"; do sleep 0.05; done; pkill -KILL -s $$; }
    ' "$GROUP/jobs/agent.sh" "${words[@]}" </dev/null >>"$BATS_TEST_TMPDIR/log" 2>&1 || true
}
logged() { cat "$BATS_TEST_TMPDIR/log"; }

watch_it() { # sets WATCHER
  set -m
  "$ROOT/scripts_hpc/run_benchmark.sh" attach "$GROUP" >out 2>err 3>&- 4>&- &
  WATCHER=$!
  set +m
}

# These rollouts have been graded: ARRAY INDEX…
scored() {
  local index
  for index in "${@:2}"; do
    until [[ -e $GROUP/toy_$1_$index/run_metadata.json ]]; do sleep 0.1; done
    ln -sT "$1_$index" "$GROUP/claims/$(sed -n 's/.*"rollout": \([0-9]*\).*/\1/p' "$GROUP/toy_$1_$index/run_metadata.json")" 2>/dev/null || true
    echo '{"total_score": 0.5, "score": 0.5}' >"$GROUP/toy_$1_$index/grading_report.json"
    sed -i 's/"state": "waiting"/"state": "scored"/' "$GROUP/toy_$1_$index/run_metadata.json"
  done
  ended "$1"
}

@test "a round that finds no room is submitted in parts, and says so; each part by one of the last of the one before" {
  benchmark run many.toml --set limits.max_submit=8 --dry-run
  expect_status 0
  expect_in 'note: 12 rollouts are more than limits.max_submit (8) lets into the queue: 1 array is submitted now, the others by the jobs before them.' "$output"
  [[ ! -e $GROUP/data/rollouts ]]
  run_many
  expect_in 'note: 12 rollouts are more than limits.max_submit (8)' "$error"
  [[ $(agents) == "103_[0-2] agent.sh 0 0 3 auto:102 auto:101 ''" && $(next) == 'next.0.0 next.0.3 next.0.6' ]]
  [[ $(<"$GROUP/jobs/next.0.0") == 'agent.sh 3 3 2 - replay -' ]]
  # any of the last ones does it, but only one
  element 103 1
  expect_in 'submitted what follows array 103: job 104' "$(logged)"
  element 103 2
  element 103 0
  [[ $(agents | tail -n +2) == "104_[0-2] agent.sh 0 3 3 auto:102 auto:101 ''" && $(readlink "$GROUP/jobs/next.0.0.taken") == 103_1 ]]
  [[ $(calls | grep '^sbatch' | tail -n 1) == 'sbatch --parsable --dependency=after:101:102,afterany:103 --kill-on-invalid-dep=yes --array=0-2%2 agent.sh 0 3 3 auto:102 auto:101' ]]
  [[ -e $BATS_TEST_TMPDIR/addresses/vllm_replay_101.consumers/104 && -e $BATS_TEST_TMPDIR/addresses/grading_server_102.consumers/104 ]]
  [[ $(grep -c 'the rollout begins' log) == 3 && $(ls "$GROUP/claims" | xargs) == '0 1 2' ]]
  # nothing of the job's own reaches what it submits
  [[ ! -s $FAKE_SLURM/inputs && $(tail -n 1 "$FAKE_SLURM/environment") == 'ADDED= CUDA=' ]]
}

@test "the last elements are those of which so few are left that the next array finds room" {
  printf '%s\n' 'parallel = 1' '[[tasks]]' 'task = "toy"' 'agent = "baseline"' 'rollouts = 30' >many.toml
  run_many
  # one server: of the 7 places 5 are an array's, as 2 of the one before may be left
  [[ $(agents) == "102_[0-4] agent.sh 0 0 5 auto:101 external ''" ]]
  element 102 0
  element 102 2
  [[ $(agents | wc -l) == 1 ]]
  element 102 4
  [[ $(agents | tail -n +2) == '103_[0-4] '* ]]
}

@test "a refused sbatch is told in the log, costs no rollout, and another of the last elements tries again" {
  run_many
  FAKE_REJECT=4 element 103 1
  [[ $(grep -c 'the scheduler refused the agent job (an array of 3): Invalid account or account/partition combination specified' log) == 1 ]]
  expect_in "what follows array 103 isn't submitted by this job; where no other does, scripts_hpc/run_benchmark.sh resume $GROUP goes on" "$(logged)"
  [[ $(grep -c 'the rollout begins' log) == 1 && $(next) == 'next.0.0 next.0.3 next.0.6' ]]
  element 103 2
  [[ $(agents | tail -n +2) == '105_[0-2] '* ]]
}

@test "an array's last job keeps its servers until what follows is known to them" {
  run_many
  exec {lock}>>"$GROUP/jobs/.resume"
  flock "$lock"
  # shellcheck disable=SC2016
  (exec {lock}>&- 3>&- 4>&- && element 'DOES=run::find_servers; run::enlist; run::leave; log left' 103 1) &
  local pid=$! users=$BATS_TEST_TMPDIR/addresses/vllm_replay_101.consumers
  rm "$users/103"
  wait_for 20 grep -q left log
  [[ $(ls "$users") == 103_1 ]]
  flock --unlock "$lock"
  wait "$pid"
  [[ $(ls "$users") == 104 ]]
  expect_in 'submitted what follows' "$(logged)"
}

@test "Ctrl-C ends the chain too" {
  run_many
  element 103 2
  watch_it
  # it has looked
  wait_for 100 grep -q '6/12\|Starting 12 tasks' err
  wait_for 100 eval '[[ $(grep -c "\"status\": \"launched\"" "$GROUP/manifest.json") == 6 ]]'
  kill -INT -- "-$WATCHER"
  status=0
  wait "$WATCHER" || status=$?
  expect_status 130
  [[ $(readlink "$GROUP/jobs/next.0.6.taken") == stop && $(grep -c '"state": "cancelled"' "$GROUP/manifest.json") == 12 ]]
}

@test "a scheduler that doesn't answer is tried for a while; what it may have taken all the same isn't submitted again" {
  run_many
  FAKE_DOWN='4 5 6 7 8 9' element 103 1
  expect_in "the scheduler didn't take the agent job (an array of 3) in 6 tries" "$(logged)"
  element 103 2
  [[ $(agents | wc -l) == 1 && $(readlink "$GROUP/jobs/next.0.0.taken") == 103_1 && $(grep -c 'the rollout begins' log) == 2 ]]
  # one whose answer was lost is found
  rm "$GROUP/jobs/next.0.0.taken"
  FAKE_LATE=10 element 103 0
  expect_in 'it had taken it: job 110' "$(logged)"
  [[ $(agents | tail -n +2) == '110_[0-2] '* ]]
}

@test "a server that has ended by then is started again, once the array before it is over" {
  run_many
  ended 101
  element 103 2
  [[ $(tail -n 2 "$GROUP/jobs/submitted") == "model_server=104 vllm_replay.sh
agent=105_[0-2] agent.sh 0 3 3 auto:102 auto:104 ''" ]]
  [[ $(calls | grep '^sbatch' | tail -n 2) == 'sbatch --parsable --dependency=afterany:103 --kill-on-invalid-dep=yes vllm_replay.sh
sbatch --parsable --dependency=after:104:102,afterany:103 --kill-on-invalid-dep=yes --array=0-2%2 agent.sh 0 3 3 auto:102 auto:104' ]]
  ended 102
  element 105 2
  [[ $(tail -n 2 "$GROUP/jobs/submitted") == "grading_server=106 grading_server.sh toy
agent=107_[0-2] agent.sh 0 6 3 auto:106 auto:104 ''" ]]
}

@test "a round that is stopped by a bound submits nothing more" {
  run_many
  # it is reached while an element begins, which waits for whoever submits just now
  (
    exec {lock}>>"$GROUP/jobs/.resume"
    flock "$lock"
    exec 3>&- 4>&-
    element 103 0 &
    until grep -qs 'the rollout begins' log; do sleep 0.1; done
    printf '{"sentence": "the budget of 5 tokens is used up (7)"}\n' >"$GROUP/stopped.0.json"
    flock --unlock "$lock"
    wait
  )
  [[ $(agents | wc -l) == 1 ]]
  element 103 1
  [[ $(agents | wc -l) == 1 && $(next) == 'next.0.0 next.0.3 next.0.6' ]]
  expect_in "isn't begun: the budget of 5 tokens is used up (7)" "$(logged)"
  scored 103 0 2
  benchmark summarize many --json
  expect_in 'stopped: the budget of 5 tokens is used up (7); 10 rollouts not begun' "$output"
  benchmark attach "$GROUP"
  expect_status 130
  [[ $(grep -c '"state": "cancelled"' "$GROUP/manifest.json") == 10 ]]
}

@test "who watches counts what isn't submitted yet, and follows it to the end" {
  run_many
  try "$ROOT/scripts_hpc/jobs.sh" status "$GROUP"
  expect_status 0
  expect_in '9 rollouts' "$output"
  expect_in 'not submitted yet  the last jobs of the arrays before them submit them' "$output"
  try "$ROOT/scripts_hpc/jobs.sh" status "$GROUP" --json
  expect_in '"not_submitted": 9' "$output"
  try "$ROOT/scripts_hpc/jobs.sh" why "$GROUP"
  expect_in '9 rollouts are not submitted yet: the last jobs of the arrays before them submit them.' "$output"
  benchmark summarize many
  expect_in '- 9 rollouts are not submitted yet' "$output"
  [[ $(grep -c '"status": "launched"' "$GROUP/manifest.json") == 3 && $(grep -c '"state": "waiting"' "$GROUP/manifest.json") == 12 ]]
  watch_it
  local pid=$WATCHER array
  for array in 103 104 105; do
    element "$array" 2
    scored "$array" 0 1 2
    # what has ended is no end of the round
    kill -0 "$pid"
  done
  try "$ROOT/scripts_hpc/jobs.sh" status "$GROUP"
  refuse expect_in 'not submitted' "$output"
  scored 106 0 1 2
  status=0
  wait "$pid" || status=$?
  [[ $status == 0 ]] || { cat out err && false; }
  expect_in '✓ All 12 tasks completed!' "$(<err)"
  expect_in '12 asked for: 12 graded' "$(<out)"
  [[ $(grep -c '"status": "launched"' "$GROUP/manifest.json") == 12 ]]
}

@test "an element that is killed between its claim and the submission: the watcher says so, and resume goes on" {
  run_many
  element FAKE_HANGS=sbatch 'DIES=[[ -L $CHAIN_FILE.taken ]]' 103 1
  element 103 2
  [[ $(agents | wc -l) == 1 && $(readlink "$GROUP/jobs/next.0.0.taken") == 103_1 ]]
  scored 103 0 1 2
  benchmark attach "$GROUP"
  expect_status 3
  expect_in "[rollouts] 9 rollouts are not submitted yet: no job is left that would submit them: scripts_hpc/run_benchmark.sh resume $GROUP does." "$error"
  benchmark resume many --dry-run
  expect_status 0
  expect_in '3 have a result, 0 have a job, 9 are run now; 9 rollouts are more than limits.max_submit (8) lets into the queue: 1 array is submitted now' "$output"
  [[ $(next) == 'next.0.0 next.0.0.taken next.0.3 next.0.6' ]]
  ended 101 102
  benchmark resume many --detach
  expect_status 0
  [[ $(agents | tail -n +2) == "106_[0-2] agent.sh 1 0 3 auto:105 auto:104 ''" && $(next) == *' next.1.0 next.1.3' ]]
  # nobody goes on with the old chain
  element 103 0
  [[ $(agents | wc -l) == 2 && ! -e $GROUP/jobs/next.0.0 ]]
  element 106 2
  [[ $(agents | tail -n 1) == "107_[0-2] agent.sh 1 3 3 auto:105 auto:104 ''" ]]
}

@test "resume takes over what waits of a chain that lives, and what it submits begins after that" {
  run_many
  FAKE_STATE=RUNNING benchmark resume many --detach
  expect_status 0
  expect_in '0 have a result, 3 have a job, 9 are run now' "$error"
  [[ $(agents | tail -n 1) == "104_[0-"* && $(calls | grep '^sbatch' | tail -n 1) == *'afterany:103 '* ]]
  element 103 2
  [[ $(agents | wc -l) == 2 ]]
}

@test "stop: nothing is submitted any more, and what was submitted meanwhile ends too" {
  run_many
  element 103 2
  # the answer to one of its submissions was lost with the job that made it
  printf '105_%s PENDING\n' 0 1 2 >>"$FAKE_SLURM/jobs"
  echo "105|$GROUP/jobs/agent.sh 0 6 3 auto:102 auto:101" >>"$FAKE_SLURM/commands"
  echo 105 >"$FAKE_SLURM/count"
  try "$ROOT/scripts_hpc/jobs.sh" stop "$GROUP"
  expect_status 0
  [[ $(grep -c CANCELLED "$FAKE_SLURM/jobs") == 11 && $(readlink "$GROUP/jobs/next.0.6.taken") == stop ]]
  expect_in "no job is left that would submit them: scripts_hpc/run_benchmark.sh resume $GROUP does" "$output"
  element 104 2
  [[ $(agents | wc -l) == 2 ]]
  benchmark attach "$GROUP"
  expect_status 130
}

@test "a submission that is broken off leaves nobody who would go on with it" {
  FAKE_REJECT=3 benchmark run many.toml --set limits.max_submit=8
  expect_status 3
  GROUP=$(echo "$BATS_TEST_TMPDIR"/data/rollouts/many/*)
  [[ $(readlink "$GROUP/jobs/next.0.0.taken") == stop ]]
}

@test "a site that lets in too few jobs for arrays of one rollout is told so" {
  benchmark run many.toml --set limits.max_submit=3
  expect_status 2
  expect_in 'with 2 servers, an array of one rollout, and the one after it, this takes 4 jobs, and limits.max_submit of site here is 3: take fewer models or lower `replicas`, or raise that key.' "$error"
  [[ ! -e $BATS_TEST_TMPDIR/data/rollouts ]]
}
