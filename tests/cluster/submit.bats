# What a site's sbatch and a person's environment may say, and folders with odd names, on a real Slurm.
# bats file_tags=site:any
bats_require_minimum_version 1.5.0

setup() {
  load helpers.bash
  cluster_setup
}

teardown() {
  scontrol delete reservationname=sealed 2>/dev/null || true
  scontrol update "PartitionName=$CPU" Hidden=NO
  cluster_teardown
}

# bats test_tags=site:both
@test "banners, an answer that comes too late, variables of the environment, and a folder with a blank and '%'" {
  as_owner tee "$WORK/bin/sbatch" >/dev/null <<SH
#!/usr/bin/env bash
echo 'Welcome, 3 jobs wait'
job=\$(/usr/bin/sbatch "\$@") || exit
echo >>"$WORK/calls"
if ((\$(wc -l <"$WORK/calls") == 2)); then
  echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
  exit 1
fi
printf '%s\nGoodbye\n' "\$job"
SH
  as_owner chmod +x "$WORK/bin/sbatch"
  as_owner mkdir "$WORK/my runs 50%j"
  USER_VARIABLES+=(SBATCH_PARTITION=nowhere SBATCH_TIMELIMIT=1 SQUEUE_USERS=nobody SCANCEL_STATE=PENDING HPC_PATHS__RUNS="$WORK/my runs 50%j")
  USER_PATH=$WORK/bin start odd classification_basic replay --agent baseline
  finish odd 90
  expect_status 0
  expect_in 'score 0.' "$output"
  expect_in 'it had taken it: job ' "$error"
  expect_in 'SBATCH_PARTITION SBATCH_TIMELIMIT SQUEUE_USERS SCANCEL_STATE' "$error"
  [[ $(wc -l <"$WORK/calls") == 2 ]]
  [[ -s $(echo "$WORK/my runs 50%j"/*/logs/agent_baseline-*.out) ]]
  expect_nothing_left 20
}

# A pull while jobs wait: what a node runs is what lay there when the person typed the command, containers and all.
sealed_edit() { # all that a job could read of the copied checkout is different from now on
  find "$CHECKOUT/scripts_hpc/lib" "$CHECKOUT/templates" -type f -name '*.sh' -exec sed -i '1s/.*/echo EDITED; exit 9/' {} +
  find "$CHECKOUT/helpers" "$CHECKOUT/templates" -name '*.py' -exec sed -i '1s/.*/raise SystemExit("EDITED")/' {} +
}

@test "an edit of the checkout while all jobs wait in Slurm's queue: what runs is the old, and the record says which commit that is" {
  local original=$CHECKOUT commit run
  CHECKOUT=$WORK/checkout
  as_owner cp -R --no-preserve=timestamps "$original" "$CHECKOUT"
  USER_VARIABLES+=(HAB_VENV_DIR="$original" GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@example.org GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@example.org)
  as_user git -c init.defaultBranch=main init -q
  as_user git add scripts_hpc helpers templates site-config
  as_user git commit -qm 'what the person typed it with'
  commit=$(as_user git rev-parse HEAD)
  scontrol create reservation reservationname=sealed starttime=now duration=10 users=root nodes=ALL flags=maint,ignore_jobs >&2
  try scripts_hpc/run_workflow.sh classification_basic replay --agent baseline --detach
  expect_status 0
  run=$output
  [[ $(queue --format=%T | sort -u) == PENDING ]]
  sealed_edit
  scontrol delete reservationname=sealed
  await 60 queue_empty
  [[ $(pick "$(echo "$run"/classification_basic_*)/run_metadata.json" "d['state']") == scored ]]
  refuse grep -rq EDITED "$run"
  [[ $(pick "$run/workflow.json" "(d['git_commit'], d['git_dirty'])") == "('$commit', False)" ]]
  expect_nothing_left 20
}

@test "what squeue says of all of a user's jobs: elements of arrays, those that ended, those in hidden partitions" {
  local options=(--parsable --time=5 "--partition=$CPU" --output=/dev/null) array ended
  [[ $SITE != hosts ]] || options+=(--account=science --qos=day)
  array=$(as_user sbatch "${options[@]}" --array=0-2%1 --wrap='sleep 300')
  ended=$(as_user sbatch "${options[@]}" --wrap=true)
  await 30 job_is "$ended" COMPLETED
  await 30 job_is "${array}_0" RUNNING
  scontrol update "PartitionName=$CPU" Hidden=YES
  [[ -z $(as_user squeue --noheader --user="$(id -u "$HAB_CLUSTER_USER")") ]]
  as_owner mkdir -p -m 700 "$ADDRESSES"
  USER_VARIABLES+=(ADDRESS_DIR="$ADDRESSES")
  try bash scripts_hpc/lib/scheduler.sh slurm states "$array" "${array}_0" "${array}_1" "${array}_2" "$ended" "${array}_3"
  expect_status 0
  [[ $(cut -d'|' -f1,2 <<<"$output") == "$array|RUNNING
${array}_0|RUNNING
${array}_1|PENDING
${array}_2|PENDING
$ended|COMPLETED
${array}_3|GONE" ]] || { printf '%s\n' "$output" && return 1; }
  USER_VARIABLES+=(ADDRESS_DIR=)
  local shared=$output
  try bash scripts_hpc/lib/scheduler.sh slurm states "$array" "${array}_0" "${array}_1" "${array}_2" "$ended" "${array}_3"
  [[ $(cut -d'|' -f1-3 <<<"$output") == "$(cut -d'|' -f1-3 <<<"$shared")" ]]
}
