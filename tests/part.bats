# What a job takes of its workflow (scripts_hpc/lib/part.sh): the line that is its own, and the rollout that it alone runs.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  RUN_GROUP=$BATS_TEST_TMPDIR/group JOB_ID=7_2 SITE=here ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses SCHEDULER=local LOCAL_JOBS=$BATS_TEST_TMPDIR/jobs
  mkdir -p "$RUN_GROUP"/{parts,claims,left} "$ADDRESS_DIR" "$LOCAL_JOBS"
  for lib in common container scheduler service run agent part bounds task_competition; do source "$ROOT/scripts_hpc/lib/$lib.sh"; done
  declare -gA CONTAINER_ENV=()
  NEEDS_MODEL=1 GRADING=auto:1 MODEL=auto:2 FEEDBACK=auto:2
}

lines() { printf '%s\n' "$@" >"$RUN_GROUP/parts/0"; }
claim() { (part::claim && echo claimed) 2>&1; }

@test "a job takes its line, with the variables of its rollout" {
  lines 'ROLLOUT=0 ATTEMPT=0 CELL=0 COMPETITION=a SEED=0' \
    "ROLLOUT=5 ATTEMPT=1 CELL=3 COMPETITION=b/c SEED=9 TASK_TYPE=regression VARIABLES=('A=x=y z' 'B=\$(touch $BATS_TEST_TMPDIR/ran)')"
  part::take 0 1 40
  [[ "$ROLLOUT $ATTEMPT $CELL $COMPETITION $SEED $ELEMENTS" == '5 1 3 b/c 9 40' ]]
  [[ ${CONTAINER_ENV[A]} == 'x=y z' && ${CONTAINER_ENV[TASK_TYPE]} == regression && ! -e $BATS_TEST_TMPDIR/ran ]]
  [[ ${CONTAINER_ENV[B]} == "\$(touch $BATS_TEST_TMPDIR/ran)" ]]
}

@test "what the agent's entry says of the task's type wins" {
  lines 'ROLLOUT=0 ATTEMPT=0 CELL=0 COMPETITION=a SEED=0 TASK_TYPE=regression'
  CONTAINER_ENV=([TASK_TYPE]=mine)
  part::take 0 0 1
  [[ ${CONTAINER_ENV[TASK_TYPE]} == mine ]]
}

@test "a line that is not there ends the job with code 3" {
  lines 'ROLLOUT=0 ATTEMPT=0 CELL=0 COMPETITION=a SEED=0'
  try part::take 0 1 2
  expect_status 3
  expect_in "$RUN_GROUP/parts/0 has no line 2" "$error"
}

@test "the first to claim a rollout runs it; another one ends, and takes its waiting run along" {
  ROLLOUT=4 ATTEMPT=0 COMPETITION=toy
  [[ $(claim) == claimed && $(readlink "$RUN_GROUP/claims/4") == 7_2 ]]
  mkdir "$RUN_GROUP/toy_8_0" "$RUN_GROUP/toy_9_0" "$RUN_GROUP/toy_9_0/overlay"
  touch "$RUN_GROUP/toy_8_0/run_metadata.json"
  JOB_ID=8_0
  try claim
  expect_status 0
  [[ $output == *'rollout 4 is run by job 7_2: nothing is left to be done here' ]]
  [[ ! -e $RUN_GROUP/toy_8_0 && $(readlink "$RUN_GROUP/claims/4") == 7_2 ]]
  JOB_ID=9_0
  refuse expect_in claimed "$(claim)"
  [[ -d $RUN_GROUP/toy_9_0/overlay ]] # it had begun
}

@test "another attempt is another claim" {
  ROLLOUT=4 COMPETITION=toy
  ATTEMPT=0 claim
  [[ $(JOB_ID=8_1 ATTEMPT=1 claim) == claimed && $(readlink "$RUN_GROUP/claims/4.1") == 8_1 && $(readlink "$RUN_GROUP/claims/4") == 7_2 ]]
}

@test "40 jobs at once: one claims" {
  ROLLOUT=0 ATTEMPT=0 COMPETITION=toy
  local jobs=()
  for ((job = 0; job < 40; job++)); do
    (JOB_ID=${job}_0 claim >"$BATS_TEST_TMPDIR/said.$job") &
    jobs+=("$!")
  done
  wait "${jobs[@]}"
  [[ $(grep -lx claimed "$BATS_TEST_TMPDIR"/said.* | wc -l) == 1 ]]
}

@test "a lost answer of the file system is no other's claim; a job that was requeued has had its turn" {
  ROLLOUT=1 ATTEMPT=0 COMPETITION=toy
  ln -s 7_2 "$RUN_GROUP/claims/1"
  [[ $(claim) == claimed ]]
  mkdir "$RUN_GROUP/toy_7_2"
  refuse expect_in claimed "$(SLURM_RESTART_COUNT=1 claim)"
  [[ -d $RUN_GROUP/toy_7_2 ]]
  ROLLOUT=2
  [[ $(SLURM_RESTART_COUNT=1 claim) == claimed ]] # it was stopped before it could claim
}

@test "a folder that can't be written: code 3, not another's claim" {
  ROLLOUT=1 ATTEMPT=0 COMPETITION=toy RUN_GROUP=/proc/nowhere
  try part::claim
  expect_status 3
  expect_in "can't write to /proc/nowhere/claims" "$error"
}

@test "the last element of an array to go takes the array back as a user of its servers" {
  local users=$ADDRESS_DIR/grading_server_1.consumers
  mkdir "$users"
  touch "$users/7" "$users/7_0" "$users/7_2"
  GRADING_JOB=grading_server_1 MODEL_JOB='' FEEDBACK_JOB='' ELEMENTS=2
  sched::gone_of() { :; }
  sched::signal() { printf '%s ' "$@" >"$BATS_TEST_TMPDIR/told"; }
  run::leave
  [[ $(ls "$users") == $'7\n7_0' && ! -e $BATS_TEST_TMPDIR/told ]]
  JOB_ID=7_0
  run::leave
  [[ -z $(ls -A "$users") && $(<"$BATS_TEST_TMPDIR/told") == 'USR1 1 ' ]]
}

# ---- what bounds a round

round() { # a round of a benchmark, and its runs that have ended: PARTS.JOB.STATE.TOKENS.MICROUSD each
  mkdir -p "$RUN_GROUP/ends" "$RUN_GROUP/services"
  ROLLOUT=4 ATTEMPT=0 COMPETITION=a/toy CELL=1 SEED=9 AGENT=aide MODEL_LABEL=gpt CPUS=1 TIME_LIMIT=60 STEP_LIMIT=3 RUNTIME=none
  local name
  for name in "$@"; do echo "reason of $name" >"$RUN_GROUP/ends/$name"; done
}
bounds() { printf '%s\n' "$@" >"$RUN_GROUP/bounds"; }
look() { (bounds::look 0 && echo goes on) 2>&1; }
record() { cat "$RUN_GROUP/a-toy_7_2/run_metadata.json"; }

@test "a workflow that is no round has no bounds, and notes no ends" {
  ROLLOUT=4 ATTEMPT=0
  [[ $(look) == 'goes on' && ! -e $RUN_GROUP/ends ]]
}

@test "a budget that is not used up stops nobody; once it is, a rollout isn't begun, and says why" {
  round 0.7_0.scored.600.0 0.7_1.timed_out.399.0
  bounds 'tokens 1000'
  [[ $(look) == 'goes on' && ! -e $RUN_GROUP/stopped.0.json ]]
  touch "$RUN_GROUP/ends/1.8_0.lost.1.0" "$RUN_GROUP/ends/.8_1"
  try look
  expect_status 0
  expect_in "rollout 4 isn't begun: the budget of 1000 tokens is used up (1000)" "$output"
  refuse expect_in 'goes on' "$output"
  [[ $(json::text state <<<"$(record)") == cancelled && $(json::text ended_at <<<"$(record)") == *Z ]]
  [[ $(json::text reason <<<"$(record)") == 'not begun: the budget of 1000 tokens is used up (1000)' ]]
  expect_in '"rollout": 4, "attempt": 0, "cell": 1' "$(record)"
  check_records "$RUN_GROUP"
  [[ -z $(ls -A "$RUN_GROUP/claims") && $(json::text job_id <"$RUN_GROUP/stopped.0.json") == 7_2 ]]
  # who comes later needs no look, and says the same
  rm "$RUN_GROUP"/ends/*
  JOB_ID=7_3
  expect_in 'the budget of 1000 tokens is used up (1000)' "$(look)"
  # what is submitted later looks for itself
  [[ $( (bounds::look 1 && echo goes on) 2>&1) == 'goes on' ]]
}

@test "a budget in USD, and one in GPU-hours: of servers that live, have ended, or died without a word" {
  round 0.7_0.scored.600.1500000 0.7_1.scored.600.999999
  bounds 'usd 2.5' 'gpu_hours 5'
  sched::gone_of() { [[ " $* " != *' 12 '* ]] || echo 12; }
  server() { json::object service vllm_m job_id "$1" gpus: "$2" cpus: 4 started_at "$3" ready_at '' ended_at "$4" >"$RUN_GROUP/services/vllm_m_$1.json"; }
  server 11 2 2026-01-01T10:00:00Z 2026-01-01T11:30:00Z
  server 12 1 2026-01-01T10:00:00Z ''
  touch -d 2026-01-01T11:59:00Z "$RUN_GROUP/services/vllm_m_12.json"
  server 13 0 2026-01-01T10:00:00Z ''
  [[ $(bounds::_gpu_seconds) == $((2 * 5400 + 7140)) ]]
  [[ $(look) == 'goes on' ]]
  server 14 1 "$(date -u -d '2 minutes ago' +%Y-%m-%dT%H:%M:%SZ)" ''
  expect_in 'the budget of 5 GPU-hours is used up (5.0' "$(look)"
  rm "$RUN_GROUP/stopped.0.json" "$RUN_GROUP"/services/*
  : >"$RUN_GROUP/ends/0.7_4.lost.0.1"
  expect_in 'the budget of 2.5 USD is used up (2.5000)' "$(look)"
}

@test "a round that only loses runs begins no more, and tells the last reason; one other end, and it goes on" {
  round 0.7_{0,1,3,4}.lost.0.0 0.7_5.cancelled.0.0 1.8_0.lost.0.0
  [[ $(look) == 'goes on' ]]
  : >"$RUN_GROUP/ends/0.7_6.agent_failed.0.0"
  echo 'no image here' >"$RUN_GROUP/ends/0.7_7.lost.0.0"
  touch -d '1 minute' "$RUN_GROUP/ends/0.7_7.lost.0.0"
  [[ $(look) == 'goes on' ]]
  rm "$RUN_GROUP/ends/0.7_6.agent_failed.0.0"
  expect_in 'all 5 runs that have ended were lost, the last one because: no image here' "$(look)"
}

@test "a job that isn't begun leaves its servers, as their last user" {
  round 0.7_0.scored.600.0
  bounds 'tokens 600'
  local users=$ADDRESS_DIR/grading_server_1.consumers
  mkdir "$users"
  touch "$users/7" "$users/7_2"
  sched::gone_of() { :; }
  sched::signal() { printf '%s ' "$@" >"$BATS_TEST_TMPDIR/told"; }
  ELEMENTS=1 NEEDS_MODEL=0
  expect_in "isn't begun" "$(look)"
  [[ -z $(ls -A "$users") && $(<"$BATS_TEST_TMPDIR/told") == 'USR1 1 ' ]]
}

@test "a rollout that another job has claimed is that job's to tell of" {
  round 0.7_0.scored.600.0
  bounds 'tokens 600'
  ln -s 8_0 "$RUN_GROUP/claims/4"
  [[ $(look) == 'goes on' && ! -e $RUN_GROUP/a-toy_7_2 && ! -e $RUN_GROUP/stopped.0.json ]]
}

ending() { # ending STATE REASON CODE [RUN]: a job that begins and ends so
  (bounds::look 0 && RUN_STATE=$1 RUN_REASON=$2 RUN=${4:-} && exit "$3")
}

@test "an end is noted with what the agent used, at its model's price; of its words only numbers count" {
  round
  bounds 'tokens 100000' 'price other gpt 100 100' 'price aide gpt 2.5 10'
  mkdir -p "$RUN_GROUP/run/logs"
  printf '{"steps": 1, "prompt_tokens": 1000, "completion_tokens": 20, "note": "tokens\n"}' >"$RUN_GROUP/run/logs/usage.json"
  ending scored graded 0 "$RUN_GROUP/run"
  [[ $(ls -A "$RUN_GROUP/ends") == 0.7_2.scored.1020.2700 && $(<"$RUN_GROUP/ends/0.7_2.scored.1020.2700") == graded ]]
  rm "$RUN_GROUP"/ends/*
  printf '{"prompt_tokens": 12e9, "completion_tokens": "$(touch %s)"}' "$BATS_TEST_TMPDIR/ran" >"$RUN_GROUP/run/logs/usage.json"
  ending no_submission nothing 4 "$RUN_GROUP/run" || true
  [[ $(ls -A "$RUN_GROUP/ends") == 0.7_2.no_submission.0.0 && ! -e $BATS_TEST_TMPDIR/ran ]]
  rm -r "$RUN_GROUP"/ends/* "$RUN_GROUP/run/logs"
  mkdir "$RUN_GROUP/mine" && echo '{"prompt_tokens": 5}' >"$RUN_GROUP/mine/usage.json" && ln -s ../mine "$RUN_GROUP/run/logs"
  ending scored graded 0 "$RUN_GROUP/run"
  [[ $(ls -A "$RUN_GROUP/ends") == 0.7_2.scored.0.0 ]]
}

@test "a job that dies before its run begins is lost; one that was asked to end was cancelled; one that left notes nothing" {
  round
  ending '' '' 0
  [[ -z $(ls -A "$RUN_GROUP/ends") ]]
  (bounds::look 0 && die 3 'no image here') 2>/dev/null || true
  [[ $(<"$RUN_GROUP/ends/0.7_2.lost.0.0") == 'no image here' ]]
  rm "$RUN_GROUP"/ends/*
  ASKED_TO_END=true ending running asked 130 || true
  [[ $(ls "$RUN_GROUP/ends") == 0.7_2.cancelled.0.0 ]]
}
