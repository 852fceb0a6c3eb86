# scripts_hpc/lib/submit.sh through run_workflow.sh, against a fake Slurm that says what the real one was seen to say.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm HAB_SUBMIT_PAUSE=0
  mkdir -p "$FAKE_SLURM"
  PATH=$ROOT/tests/fakes/slurm:$PATH
  make_site slurm apptainer
  make_task toy
  touch "$BATS_TEST_TMPDIR/images/"{mlebench-env,aide}.sif
}

workflow() { try "$ROOT/scripts_hpc/run_workflow.sh" toy replay --site "$SITE_FILE" "$@"; }
calls() { sed 's/ *$//' "$FAKE_SLURM/calls" 2>/dev/null || true; }
alive() { grep -vc CANCELLED "$FAKE_SLURM/jobs"; }

@test "the note of what was submitted: a line ROLE=JOB each, in order" {
  workflow --detach --rollouts 2
  expect_status 0
  [[ $(cut -d" " -f1 "$output/jobs/submitted") == $'model_server=101\ngrading_server=102\nagent=103\nagent=104' ]]
}

@test "a banner around the id is no id" {
  FAKE_BANNER=$'Welcome to cluster 7\n2 jobs are waiting\n12 ;x' workflow --detach
  expect_status 0
  [[ $(cut -d" " -f1 "$output/jobs/submitted") == $'model_server=101\ngrading_server=102\nagent=103' ]]
}

@test "a sbatch that says nothing: what it printed, 3, and all is cancelled, the job that it took too" {
  FAKE_SILENT=3 FAKE_BANNER='Have a nice day' workflow
  expect_status 3
  expect_in 'sbatch took the agent job without saying its number; what it said: Have a nice day' "$error"
  expect_in 'scancel  101 102 103' "$(calls)"
  [[ $error != *Traceback* && $(alive) == 0 ]]
  grep -q '"state": "cancelled"' "$BATS_TEST_TMPDIR"/runs/*/toy_103/run_metadata.json || [[ ! -e $(echo "$BATS_TEST_TMPDIR"/runs/*/toy_103) ]]
}

@test "a job that was taken although sbatch heard nothing is found, not submitted twice" {
  FAKE_LATE='1 3' workflow --detach
  expect_status 0
  expect_in "the scheduler didn't take the model_server job: Socket timed out on send/recv operation; trying again in 0 s" "$error"
  expect_in 'it had taken it: job 103' "$error"
  [[ $(cut -d" " -f1 "$output/jobs/submitted") == $'model_server=101\ngrading_server=102\nagent=103' ]]
  [[ $(calls | grep -c sbatch) == 3 ]]
}

@test "one that is seen too late was taken twice: the other ends" {
  touch "$FAKE_SLURM/blind"
  FAKE_BLIND=$FAKE_SLURM/blind FAKE_LATE=2 workflow --detach
  expect_status 0
  [[ $(cut -d" " -f1 "$output/jobs/submitted") == $'model_server=101\ngrading_server=103\nagent=104' ]]
  expect_in 'cancelling what the scheduler took twice: 102' "$error"
  [[ $(grep CANCELLED "$FAKE_SLURM/jobs") == '102 CANCELLED' ]]
}

@test "a controller that is away comes back, or doesn't" {
  FAKE_DOWN='1 2 3' workflow --detach
  expect_status 0
  [[ $(cut -d" " -f1 "$output/jobs/submitted") == $'model_server=104\ngrading_server=105\nagent=106' ]]
  FAKE_DOWN='8 9 10 11 12 13' workflow
  expect_status 3
  expect_in "the scheduler didn't take the grading_server job in 6 tries: Unable to contact slurm controller (connect failure). Try again later" "$error"
  expect_in 'scancel  107' "$(calls)"
  [[ $(alive) == 3 ]]
}

@test "a refusal repeats what sbatch said, and guesses nothing" {
  FAKE_REJECT=1 workflow
  expect_status 3
  expect_in "the scheduler refused the model_server job: Invalid account or account/partition combination specified; the script is $BATS_TEST_TMPDIR/runs/" "$error"
  [[ $(calls | grep -c sbatch) == 1 && $error != *'check partitions'* ]]
}

@test "what the person's environment says to Slurm's commands is not heard, and told once" {
  SBATCH_TIMELIMIT=10 SQUEUE_USERS=nobody SCANCEL_STATE=PENDING SLURM_TIME_FORMAT=relative SLURM_CONF=/dev/null workflow --detach
  expect_status 0
  [[ $(sort -u "$FAKE_SLURM/inputs") == SLURM_CONF ]]
  [[ $(grep -c 'they are ignored' <<<"$error") == 1 ]]
  expect_in ': SBATCH_TIMELIMIT SQUEUE_USERS SCANCEL_STATE SLURM_TIME_FORMAT' "$error"
  # inside a job, its own are nobody's wish
  SLURM_JOB_ID=7 SLURM_MEM_PER_CPU=100 workflow --detach
  [[ $(sort -u "$FAKE_SLURM/inputs") == SLURM_CONF && $error != *'they are ignored'* ]]
}

@test "more jobs than limits.max_submit are not begun with" {
  workflow --rollouts 5 --set limits.max_submit=3
  expect_status 2
  expect_in 'this takes 7 jobs, and limits.max_submit of site here is 3: lower --rollouts.' "$error"
  printf '%s RUNNING\n' 1 2_0 2_1 >"$FAKE_SLURM/jobs"
  workflow --set limits.max_submit=5
  expect_status 3
  expect_in 'this takes 3 jobs, 3 of yours are in the queue' "$error"
  [[ $(calls) != *sbatch* ]]
  workflow --set limits.max_submit=6 --detach
  expect_status 0
}

@test "what the cluster would never start is not submitted: the key, the value and the limit" {
  FAKE_MAX_TIME=01:00:00 FAKE_PARTITION='AllowAccounts=science AllowQos=ALL' workflow --set scheduler.account=art --dry-run
  expect_status 2
  expect_in "error: the job grading server asks for 01:30:00, and partition 'cpu' allows 01:00:00 (MaxTime): lower jobs.grading_server.time of site here, or choose another partition: partitions.cpu.name of site here." "$error"
  expect_in "error: the agent's job asks for account 'art', which partition 'cpu' doesn't take (AllowAccounts: science): set scheduler.account" "$error"
  workflow --set jobs.agent.memory_gb=63
  expect_status 2
  expect_in "the agent's job asks for 63 GB, and a node of partition 'cpu' has 62.5 GB at most: lower jobs.agent.cpus or .memory_gb of site here" "$error"
  [[ $(calls) != *sbatch* ]]
  # each question once
  [[ $(tail -n 5 "$FAKE_SLURM/questions" | sort) == 'sacctmgr show qos
sacctmgr show user
scontrol show config
scontrol show partition -o
sinfo' ]]
}

@test "jobs of an earlier submission from the same folder are no strays: they are neither taken over nor ended, and the folder stays" {
  source "$ROOT/scripts_hpc/lib/common.sh"
  source "$ROOT/scripts_hpc/lib/submit.sh"
  local folder=$BATS_TEST_TMPDIR/group
  mkdir -p "$folder/jobs"
  SCHEDULER=local ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses
  sched::jobs_of() { printf '%s\n' "7|$folder/jobs/agent.sh 0 0" "8|$folder/jobs/vllm_x.sh" "9|$folder/jobs/agent.sh 0 0"; }
  submit::open "$folder"
  [[ $(submit::_strays | xargs) == '7 8 9' ]]
  printf '%s\n' 'model_server=8 vllm_x.sh' 'agent=7_[0-3] agent.sh 0 0' >"$folder/jobs/submitted"
  submit::open "$folder"
  [[ $(submit::_strays) == 9 && $(submit::_strays "$folder/jobs/agent.sh 0 0") == 9 ]]
  SUBMIT_SIGNAL=INT
  submit::_undo
  [[ -d $folder ]]
}

@test "the limits of a QOS count where the accounting enforces them" {
  export FAKE_USER='fake|art|art||day||||' FAKE_QOS='|01:00:00|||'
  FAKE_ENFORCE=associations,limits,qos workflow --set scheduler.qos=day
  expect_status 2
  expect_in "asks for 01:30:00, and QOS 'day' allows 01:00:00 (MaxWall): lower jobs.grading_server.time" "$error"
  [[ $(calls) != *sbatch* ]]
  workflow --set scheduler.qos=day --detach
  expect_status 0
}

@test "a cluster that tells nothing of its limits, or too late, is no error" {
  FAKE_REFUSED=1 workflow --detach
  expect_status 0
  FAKE_HANGS=sacctmgr SCHEDULER_SECONDS=1 workflow --detach
  expect_status 0
  expect_in "note: sacctmgr gave no answer within 1 s: what it allows isn't checked" "$error"
}

@test "jobs that would never start are ended, whatever kind they are: the sentence of jobs.sh why, and 3" {
  export FAKE_REASON=QOSMaxWallDurationPerJobLimit
  workflow
  expect_status 3
  expect_in 'asks for more time than its partition, account or QOS allows, and will never start: `scripts_hpc/jobs.sh stop' "$error"
  expect_in 'then lower jobs.model_server.time of site here, or choose another partition: partitions.cpu.name of site here.' "$error"
  expect_in 'toy / aide / replay (seed 0): cancelled: grading server (job 102) asks for more time' "$output"
  [[ $(calls | grep scancel) == 'scancel  102 101 103' && $(alive) == 0 ]]
  touch "$BATS_TEST_TMPDIR/images/"{prepare,experiment}.sif
  try "$ROOT/scripts_hpc/prepare_tasks.sh" t1 t2 --site "$SITE_FILE" --log-file "$BATS_TEST_TMPDIR/log" --failed-tasks "$BATS_TEST_TMPDIR/failed"
  expect_status 3
  expect_in 'then lower jobs.prepare.time of site here' "$error"
  [[ $(alive) == 0 && $(<"$BATS_TEST_TMPDIR/failed") == $'t1\nt2' ]]
  try "$ROOT/scripts_hpc/run_notebook.sh" toy --site "$SITE_FILE"
  expect_status 3
  expect_in 'notebook on toy (job 105) asks for more time than its partition, account or QOS allows' "$error"
  expect_in 'then lower --time-limit, or jobs.agent.time_limit of site here' "$error"
  [[ $(alive) == 0 ]]
}

@test "a scheduler that hangs has a time limit, and a word when it is reached, in every command" {
  export SCHEDULER_SECONDS=1
  workflow --detach
  local run=$output
  FAKE_HANGS=sinfo workflow
  expect_status 3
  expect_in "the scheduler doesn't answer: sinfo gave no answer within 1 s" "$error"
  local verb
  for verb in status why; do
    FAKE_HANGS='squeue sacct' try "$ROOT/scripts_hpc/jobs.sh" "$verb" "$run"
    expect_status 3
    expect_in "the scheduler doesn't answer, so nothing is known about the jobs (squeue gave no answer within 1 s)" "$error"
  done
  FAKE_HANGS=squeue try "$ROOT/scripts_hpc/prepare_tasks.sh" t1 --site "$SITE_FILE" --set limits.max_submit=9 --set container.runtime=none
  expect_status 3
  expect_in 'squeue gave no answer within 1 s' "$error"
}

@test "Ctrl-C that ends the watcher before it listens, whatever its code, ends the jobs" {
  local core=${HAB_CORE_PYTHON%/bin/python} venvs=$BATS_TEST_TMPDIR/venvs
  mkdir -p "$venvs/.venv-core/bin"
  cp "$core/.stamp" "$venvs/.venv-core/.stamp"
  printf '%s\n' '#!/bin/bash' 'case $* in *"workflow watch"*) trap "" USR1; kill -INT $PPID; sleep 0.3; exit 130 ;; esac' \
    "exec '$core/bin/python' \"\$@\"" >"$venvs/.venv-core/bin/python"
  chmod +x "$venvs/.venv-core/bin/python"
  HAB_VENV_DIR=$venvs try setsid env --default-signal=INT "$ROOT/scripts_hpc/run_workflow.sh" toy replay --site "$SITE_FILE"
  expect_status 130
  [[ $(alive) == 0 && -z $(find "$BATS_TEST_TMPDIR/runs" -name .unwatched) ]]
}

@test "Ctrl-C that meets the end of the checks, whose code bash then loses, leaves no folder" {
  cat >"$BATS_TEST_TMPDIR/script" <<'S'
set -euo pipefail
for name in common submit scheduler; do source "$ROOT/scripts_hpc/lib/$name.sh"; done
SCHEDULER=local ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses
wait() { builtin wait "$@" || true; [[ -z $SUBMIT_SIGNAL ]] || return 255; }
submit::begin
submit::plan bash -c 'trap "" USR1; mkdir -p "$BATS_TEST_TMPDIR/folder/jobs"; kill -INT $PPID; sleep 0.2; echo "FOLDER=$BATS_TEST_TMPDIR/folder"'
submit::open "$FOLDER"
S
  try bash "$BATS_TEST_TMPDIR/script"
  expect_status 130
  [[ ! -e $BATS_TEST_TMPDIR/folder ]]
}

@test "Ctrl-C ends every command at once while the scheduler hangs" { # one that watches: tests/helpers/test_follow.py
  export FAKE_HANGS='squeue sinfo scontrol sacctmgr'
  local run=$BATS_TEST_TMPDIR/runs name started
  FAKE_HANGS='' workflow --detach
  run=$output
  touch "$BATS_TEST_TMPDIR/images/"{prepare,experiment}.sif
  local -A commands=([status]="jobs.sh status $run" [workflow]="run_workflow.sh toy replay"
    [notebook]="run_notebook.sh toy" [prepare]="prepare_tasks.sh t1")
  for name in "${!commands[@]}"; do
    # shellcheck disable=SC2086
    setsid env --default-signal=INT "$ROOT/scripts_hpc/"${commands[$name]} --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/$name" 2>&1 </dev/null 3>&- &
    started=$!
    wait_for 20 hangs
    kill -INT -- "-$started"
    local from=$SECONDS
    status=0
    wait "$started" || status=$?
    [[ $status == 130 ]] && ((SECONDS - from <= 5)) || { echo "$name: $status" && cat "$BATS_TEST_TMPDIR/$name" && return 1; }
    refuse grep -q Traceback "$BATS_TEST_TMPDIR/$name"
  done
}

hangs() { # whether one of Slurm's commands hangs
  local file
  for file in /proc/[0-9]*/cmdline; do
    [[ $(tr '\0' ' ' <"$file" 2>/dev/null) == 'sleep 600 ' ]] || continue
    ! grep -qzxF "FAKE_SLURM=$FAKE_SLURM" "${file%cmdline}environ" 2>/dev/null || return 0
  done
  return 1
}
