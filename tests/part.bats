# What a job takes of its workflow (scripts_hpc/lib/part.sh): the line that is its own, and the rollout that it alone runs.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  RUN_GROUP=$BATS_TEST_TMPDIR/group JOB_ID=7_2 SITE=here ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses SCHEDULER=local LOCAL_JOBS=$BATS_TEST_TMPDIR/jobs
  mkdir -p "$RUN_GROUP"/{parts,claims,left} "$ADDRESS_DIR" "$LOCAL_JOBS"
  for lib in common scheduler service run part; do source "$ROOT/scripts_hpc/lib/$lib.sh"; done
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
