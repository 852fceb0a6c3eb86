# What can go wrong on a cluster, done on purpose. After each: the right state and exit code, nothing running, nothing lost.

setup() {
  load helpers.bash
  cluster_setup
  HERE=$BATS_TEST_DIRNAME
  MOUNTED=() FILLINGS=0 CHANGED=0 CRASHED=''
}

teardown() {
  local folder
  for folder in ${MOUNTED[@]+"${MOUNTED[@]}"}; do umount --lazy "$folder"; done
  [[ -z $CRASHED ]] || bash "$HERE/node.sh" start "$CRASHED"
  ((CHANGED == 0)) || bash "$HERE/up.sh" --reconfigure >/dev/null
  cluster_teardown
}

sbatch_that() { # sbatch_that FOLDER CALL COMMAND: an sbatch in front of the real one; behind its CALLth job it runs COMMAND
  as_owner mkdir -p "$1"
  as_owner tee "$1/sbatch" >/dev/null <<SH
#!/usr/bin/env bash
job=\$(/usr/bin/sbatch "\$@") || exit
echo >>"$1/calls"
if ((\$(wc -l <"$1/calls") == $2)); then $3; fi
printf '%s\n' "\$job"
SH
  as_owner chmod +x "$1/sbatch"
}

small_disk() { # small_disk FOLDER SIZE: a file system of its own
  as_owner mkdir -p "$1"
  mount -t tmpfs -o "size=$2,mode=0755,uid=$(id -u "$HAB_CLUSTER_USER")" tmpfs "$1"
  MOUNTED+=("$1")
}

quota_disk() { # quota_disk FOLDER SIZE: a file system with room, of which a quota leaves SIZE
  local said
  as_owner mkdir -p "$1"
  truncate -s 800M "$1.img"
  said=$(mkfs.btrfs --quiet "$1.img" 2>&1 && mount -o loop "$1.img" "$1" 2>&1) ||
    skip "no btrfs, and so no quota, can be mounted from a file here: ${said##*$'\n'}"
  MOUNTED+=("$1")
  btrfs quota enable "$1"
  btrfs qgroup limit "$2" "$1"
  chown "$HAB_CLUSTER_USER:" "$1"
}

use_up() { # use_up FOLDER: the quota, though not the disk
  local try
  for try in 1 2 3; do as_owner dd if=/dev/zero of="$1/filling$((++FILLINGS))" bs=4k 2>/dev/null || true; done
  refuse as_owner touch "$1/more" 2>/dev/null
  (($(df --output=avail --block-size=1M "$1" | tail -n 1) > 100))
}

fill() { # fill FOLDER: to the last byte
  dd if=/dev/zero of="$1/filling" bs=4k 2>/dev/null || true
  [[ $(df --output=avail "$1" | tail -n 1) -eq 0 ]]
}

urls() { cat "$ADDRESSES"/*[0-9] | grep ^https://; }

newest_group() { # newest_group NAME: where NAME's folder of runs is its own
  local folder
  folder=$(find "$WORK/runs-$1" -mindepth 1 -maxdepth 1 -name '*_run-group_*')
  [[ -n $folder ]] || return 1
  printf 'run: %s\n' "$folder" >>"$WORK/$1.err"
}

@test "run_workflow.sh killed with -9 while it submits, while the agent waits, and while it runs" {
  local name
  # behind the model server, the grading server, and the agent, which it could note nowhere any more
  for name in 1 2 3; do
    sbatch_that "$WORK/bin$name" "$name" 'kill -KILL -- -$(ps -o sid= -p $$ | tr -d " ")'
    as_owner mkdir "$WORK/runs-killed$name"
    USER_PATH=$WORK/bin$name start "killed$name" classification_basic replay --agent caller --set "paths.runs=$WORK/runs-killed$name"
  done
  start waits classification_basic replay --agent caller
  start runs classification_basic replay --agent caller
  for name in killed1 killed2 killed3; do
    finish "$name" 30
    expect_status 137
    newest_group "$name"
  done
  await 20 group waits >/dev/null
  kill -KILL -- "-${STARTED[waits]}"
  finish waits 5
  expect_status 137
  in_state waits waiting
  await_working runs
  kill -KILL -- "-${STARTED[runs]}"
  finish runs 5
  await_working waits
  await_working killed3
  go runs waits killed3
  for name in killed1 killed2 killed3 waits runs; do start "again-$name" --attach "$(group "$name")"; done
  for name in killed3 waits runs; do
    finish "again-$name" 40
    expect_status 0
    expect_in 'caller / replay (seed 0): score 0.' "$output"
    expect_state "$name" scored
  done
  for name in killed1 killed2; do
    finish "again-$name" 40
    expect_status 3
    expect_in 'no agent was submitted' "$output"
  done
  expect_nothing_left 20
}

@test "the processes of both servers killed with -9: started again, where their agent finds them" {
  start one classification_basic replay --agent caller
  await_working one
  local grading model before
  grading=$(job_of one grading_server)
  model=$(job_of one model_server)
  before=$(urls)
  kill_process "$grading" '^python3 -m helpers.serving.grading_server'
  kill_process "$model" '^python3 -m helpers.serving.replay_server'
  await 30 grep -q '^epoch=2$' "$ADDRESSES/grading_server_$grading"
  await 30 grep -q '^epoch=2$' "$ADDRESSES/vllm_replay_$model"
  # anybody may have taken the old ports since
  [[ $(urls | wc -l) == 2 ]]
  refuse grep -qFx "$before" <<<"$(urls)"
  go one
  finish one 40
  expect_status 0
  expect_state one scored
  [[ -s $(run_of one)/logs/answer.json ]]
  expect_nothing_left 3
}

@test "the batch scripts killed with -9: of the model server, of the grading server, of the agent" {
  local name
  for name in model_server grading_server agent; do start "$name" classification_basic replay --agent caller; done
  for name in model_server grading_server agent; do await_working "$name"; done
  for name in model_server grading_server agent; do
    kill_process "$(job_of "$name" "$name")" "job0*$(job_of "$name" "$name")/slurm_script"
  done
  for name in model_server grading_server agent; do
    finish "$name" 60
    expect_status 3
    expect_state "$name" lost
    [[ -s $(run_of "$name")/submission/submission.csv ]]
  done
  expect_nothing_left 20
}

@test "each job cancelled with scancel" {
  local name
  for name in model_server grading_server agent; do start "$name" classification_basic replay --agent caller; done
  for name in model_server grading_server agent; do await_working "$name"; done
  for name in model_server grading_server agent; do as_user scancel "$(job_of "$name" "$name")"; done
  for name in model_server grading_server; do
    finish "$name" 60
    expect_status 3
    expect_state "$name" lost
    expect_in "job $(job_of "$name" "$name"), a server that this run needs, has ended" "$output"
  done
  finish agent 60
  expect_status 130
  expect_state agent cancelled
  expect_nothing_left 20
}

@test "the time limit of an agent's job: what is there is graded" {
  start one classification_basic replay --agent caller
  await_working one
  scontrol update JobId="$(job_of one agent)" TimeLimit=2
  finish one 90
  expect_status 0
  expect_state one scored
  expect_in 'this job is near its time limit: ending the agent' "$(cat "$(group one)"/logs/agent_caller-*.out)"
  expect_nothing_left 20
}

@test "an agent's job makes room for one that goes first: lost, its submission kept, and graded later" {
  local run
  CHANGED=1
  # a site that puts such jobs back into the queue cancels ours, which are not to be started twice
  bash "$HERE/up.sh" --reconfigure PreemptType=preempt/partition_prio PreemptMode=REQUEUE >/dev/null
  scontrol create PartitionName=urgent Nodes=cpu2 PriorityTier=10 MaxTime=1
  # the agent's own node: the server is elsewhere
  start one classification_basic --agent waiter --set jobs.grading_server.cpus=5 --set jobs.agent.cpus=5
  await_working one
  [[ $(node_of "$(job_of one agent)") == cpu2 ]]
  as_user sbatch --partition=urgent --cpus-per-task=8 --output=/dev/null --wrap=true >/dev/null
  finish one 40
  expect_status 3
  expect_state one lost
  run=$(run_of one)
  expect_in "(the scheduler says PREEMPTED): see its log; the submission is kept: scripts_hpc/jobs.sh grade $run" "$output"
  # it had the time to note what was there
  cmp "$run/kept_submission.csv" "$run/submission/submission.csv"
  try scripts_hpc/jobs.sh why "$run"
  expect_in "jobs.sh grade $run" "$output"
  try scripts_hpc/jobs.sh grade "$run"
  expect_status 0
  expect_in 'waiter (seed 0): score 0.' "$output"
  expect_state one scored
  expect_in 'at first it was lost: job' "$(<"$run/run_metadata.json")"
  expect_nothing_left 20
}

@test "the node of an agent dies" {
  CRASHED=cpu2
  # the agent's own node: the servers are elsewhere
  start one classification_basic replay --agent caller --set models.replay.gpus=1 --set 'jobs.grading_server.cpus=5' --set jobs.agent.cpus=5
  await_working one
  [[ $(queue --jobs="$(job_of one agent)" --format=%N) == cpu2 ]]
  bash "$HERE/node.sh" crash cpu2
  finish one 100
  expect_status 3
  expect_state one lost
  expect_in NODE_FAIL "$output"
  expect_nothing_left 20
}

@test "jobs that the site doesn't take" {
  # what can be known before is said before anything is submitted
  try scripts_hpc/run_workflow.sh classification_basic replay --set partitions.cpu.name=nowhere
  expect_status 2
  expect_in "partition 'nowhere' (partitions.cpu.name of site site) isn't one of this cluster: cpu, gpu" "$error"
  CHANGED=1
  bash "$HERE/up.sh" --reconfigure AccountingStorageEnforce=associations >/dev/null
  try scripts_hpc/run_workflow.sh classification_basic replay --set scheduler.account=nobody
  expect_status 2
  expect_in "account 'nobody', and yours are: bench" "$error"
  # no node has so much memory
  try scripts_hpc/run_workflow.sh classification_basic replay --agent caller --set jobs.agent.memory_gb=900
  expect_status 2
  expect_in "the agent's job asks for 900 GB, and a node of partition 'cpu' has 62.5 GB at most: lower jobs.agent.cpus or .memory_gb of site site" "$error"
  [[ -z $(find "$WORK/runs" -name workflow.json) ]]
  # what only the scheduler knows
  try scripts_hpc/run_workflow.sh classification_basic replay --agent caller --set scheduler.constraint=nowhere
  expect_status 3
  expect_in 'the scheduler refused the model_server job: Invalid feature specification' "$error"
  expect_nothing_left 20
}

@test "jobs that will never start any more are ended, and told why" {
  CHANGED=1
  scontrol update PartitionName=cpu State=DOWN
  start one classification_basic replay --agent caller
  await 30 grep -q PartitionDown "$WORK/one.err"
  scontrol update PartitionName=cpu MaxTime=1 State=UP
  finish one 60
  expect_status 3
  expect_state one cancelled
  expect_in 'asks for more time than its partition, account or QOS allows, and will never start' "$error"
  expect_nothing_left 20
}

@test "a full scratch disk" {
  small_disk "$WORK/scratch" 1m
  fill "$WORK/scratch"
  start one classification_basic replay --agent caller --set "paths.scratch=$WORK/scratch"
  finish one 60
  expect_status 3
  expect_state one lost
  expect_in "no room in $WORK/scratch (paths.scratch of site site): the disk is full (0 free)" "$(cat "$(group one)"/logs/agent_*.out)"
  expect_nothing_left 20
}

@test "the disk of the runs fills up while they run" {
  small_disk "$WORK/full" 220m
  local name
  for name in graded submitting; do
    as_owner mkdir "$WORK/full/$name"
    start "$name" classification_basic --agent waiter --set "paths.runs=$WORK/full/$name"
  done
  await_working graded
  await_working submitting
  rm "$(run_of submitting)/submission/submission.csv"
  fill "$WORK/full"
  # each has kept room for its last words
  go graded
  finish graded 60
  expect_state graded scored
  [[ $error != *Traceback* && -s $(run_of graded)/grading_report.json ]]
  go submitting
  finish submitting 60
  expect_status 4
  expect_state submitting agent_failed
  [[ $error != *Traceback* ]]
  expect_nothing_left 20
}

@test "a quota is used up, although the disk has room" {
  quota_disk "$WORK/quota" 40m
  local key said='your quota is used up (the disk itself has'
  use_up "$WORK/quota"
  for key in runs data address_dir; do
    try scripts_hpc/run_workflow.sh classification_basic --agent baseline --set "paths.$key=$WORK/quota"
    expect_status 3
    expect_in "error: $WORK/quota (paths.$key of site site): $said 0." "$error"
  done
  try scripts_hpc/prepare_tasks.sh regression_basic --set "paths.data=$WORK/quota" --failed-tasks "$WORK/runs/failed" --log-file "$WORK/runs/log"
  expect_status 3
  expect_in "$WORK/quota (paths.data of site site): $said 0." "$output$error"
  try scripts_hpc/models.sh download 30b --set "paths.models=$WORK/quota"
  expect_status 3
  expect_in "error: $WORK/quota (paths.models of site site): $said 0." "$error"
  try env HAB_VENV_DIR="$WORK/quota" scripts_hpc/render.sh --output "$WORK/runs/rendered"
  expect_status 3
  expect_in "setting up $WORK/quota/.venv-core failed: $said 6" "$error"
  # what only the jobs see
  start one classification_basic --agent baseline --set "paths.scratch=$WORK/quota"
  finish one 60
  expect_status 3
  expect_state one lost
  expect_in "lost: no room in $WORK/quota (paths.scratch of site site): $said 6" "$output$error"
  as_user scripts_hpc/render.sh --output "$WORK/runs/rendered" --set "paths.address_dir=$WORK/quota"
  try sbatch --wait --output="$WORK/runs/by_hand.out" "$WORK/runs/rendered/slurm_grading_server.sh" classification_basic
  expect_status 3
  expect_in "slurm_script: $WORK/quota: $said 6" "$(<"$WORK/runs/by_hand.out")"
  # while they run: the logs of the jobs lie there too
  rm "$WORK"/quota/filling*
  btrfs filesystem sync "$WORK/quota"
  start two classification_basic --agent waiter --set "paths.runs=$WORK/quota"
  await_working two
  use_up "$WORK/quota"
  rm "$WORK/quota/filling$((FILLINGS - 2))"
  btrfs filesystem sync "$WORK/quota"
  go two
  use_up "$WORK/quota"
  finish two 60
  expect_status 0
  expect_state two scored
  expect_nothing_left 20
}

@test "user namespaces are used up: no agent has failed, and no disk is full" {
  local said="user namespaces are off or used up on this node: ask the cluster's support whether user.max_user_namespaces"
  as_owner tee "$WORK/bin/apptainer" >/dev/null <<'SH'
#!/bin/sh
# the real one, with none left in a namespace of its own
exec unshare --user --map-user="$(id -u)" --map-group="$(id -g)" --keep-caps sh -c \
  'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all apptainer "$@"' sh "$@"
SH
  sed -i "s#all apptainer#all $(command -v apptainer)#" "$WORK/bin/apptainer"
  as_owner chmod +x "$WORK/bin/apptainer"
  USER_PATH=$WORK/bin
  start one classification_basic --agent baseline --set "environment.setup=['export PATH=$WORK/bin:\$PATH']"
  finish one 60
  expect_status 3
  expect_state one lost
  expect_in "lost: the agent's container can't be made on " "$output"
  expect_in "$said" "$output"
  try scripts_hpc/jobs.sh why "$(group one)"
  expect_in "grading server (job $(job_of one grading_server)) failed; it says 'grading_server died twice with code 1 before it was ready': $said" "$output"
  try containers/build_all_containers.sh --only aide --set "paths.containers=$WORK/runs/images"
  expect_status 3
  expect_in "$said" "$(grep '^aide  *FAILED' <<<"$output")"
  expect_nothing_left 20
}

@test "answers that nobody can read" {
  as_owner cp -R "$HAB_CLUSTER_STATE/shared/data" "$WORK/data"
  local private=$WORK/data/classification_basic/prepared/private
  chmod 000 "$private"
  try scripts_hpc/run_workflow.sh classification_basic --agent waiter --set "paths.data=$WORK/data"
  expect_status 2
  expect_in "$private can't be read: Permission denied (paths.data of site site)" "$error"
  chmod 755 "$private"
  chmod 000 "$private/answers.csv"
  try scripts_hpc/run_workflow.sh classification_basic --agent waiter --set "paths.data=$WORK/data"
  expect_status 2
  expect_in "$private/answers.csv can't be read: Permission denied" "$error"
  expect_nothing_left 20
}

@test "Ctrl-C while jobs are submitted, while they wait in the queue, and while they run" {
  sbatch_that "$WORK/bin" 3 'kill -INT -- -$(ps -o sid= -p $$ | tr -d " ")'
  USER_PATH=$WORK/bin start submitting classification_basic replay --agent caller
  start queued classification_basic replay --agent caller --set 'partitions.cpu.extra_sbatch=["--begin=now+1hour"]'
  start running classification_basic replay --agent caller
  finish submitting 30
  expect_status 130
  await 30 grep -q 'pending.*BeginTime' "$WORK/queued.err"
  kill -INT -- "-${STARTED[queued]}"
  await_working running
  await 10 grep -q 'agent caller.*- running' "$WORK/running.err"
  kill -INT -- "-${STARTED[running]}"
  local name
  for name in queued running; do
    finish "$name" 30
    expect_status 130
    expect_state "$name" cancelled
    [[ $error != *Traceback* ]]
  done
  # when the command returns, all have ended
  queue_empty
  expect_nothing_left 5
  [[ $(grep -l '"state": "cancelled"' "$WORK"/runs/*/classification_basic_*/run_metadata.json | wc -l) == 3 ]]
}
