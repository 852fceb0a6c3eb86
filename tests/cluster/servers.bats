# bats file_tags=site:any
# Servers that several runs share, that fail their users, and what is left of jobs that die.

setup() {
  load helpers.bash
  cluster_setup
  USER_VARIABLES+=(HPC_LIMITS__GRACE_SECONDS=100) # who waits that long has told nobody
}

teardown() { cluster_teardown; }

# bats test_tags=site:both
@test "a server ends with its last user, whoever started it; one that is kept stays, whoever it was lent to" {
  local model grading
  start first classification_basic replay --agent caller
  await_working first
  model=$(job_of first model_server)
  start second classification_basic replay --agent caller --seed 2 --reuse-model "$model" --cleanup off
  await_working second
  grading=$(job_of second grading_server)
  go first
  finish first 60
  expect_status 0
  expect_in "model replay (job $model) goes on: job $(job_of second agent) uses it" "$error"
  job_is "$model" RUNNING
  start third classification_basic replay --agent caller --seed 3 --reuse-model "$model" --reuse-grading "$grading"
  await_working third
  go second
  finish second 60
  expect_status 0
  go third
  finish third 60
  expect_status 0
  await 10 job_is "$model" COMPLETED
  job_is "$grading" RUNNING
  try scripts_hpc/jobs.sh stop "$(group second)"
  expect_in "stopped: grading server (job $grading)" "$output"
  expect_nothing_left 5
}

graders() { pgrep --euid "$HAB_CLUSTER_USER" --full '^python3 -m helpers.serving.grading_server'; }

@test "a model's GPU is free as soon as the agent has ended, and not when its submission has been graded" {
  local model began
  start one classification_basic replay --agent ender --set models.replay.gpus=1
  await_working one
  model=$(job_of one model_server)
  # it accepts connections, and answers none
  graders | xargs kill -STOP
  began=$(date +%s%N)
  go one
  await 5 job_is "$model" COMPLETED
  printf '# free %d ms after the agent was let go\n' $((($(date +%s%N) - began) / 1000000)) >&3
  in_state one running
  graders | xargs kill -CONT
  finish one 60
  expect_status 0
  expect_state one scored
  expect_nothing_left 5
}

@test "a batch script killed with -9 leaves no secrets on its node; what dead jobs have left goes with the next job" {
  local agent folder
  start one classification_basic replay --agent caller
  await_working one
  agent=$(job_of one agent)
  folder=$(find "${TMPDIR:-/tmp}" -maxdepth 1 -name "hab-$agent.*")
  [[ -s $folder/endpoints/env ]]
  as_owner cp -a "$folder" "${folder%.*}.copied"
  kill_process "$agent" "job0*$agent/slurm_script"
  finish one 60
  expect_status 3
  start two classification_basic --agent waiter
  await 30 test ! -e "${folder%.*}.copied"
  [[ ! -e $folder ]]
  await_working two
  go two
  finish two 60
  expect_status 0
}
