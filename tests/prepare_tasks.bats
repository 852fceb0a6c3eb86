# prepare_tasks.sh against fakes: what is checked before the first submission, how a list is cut to the site's limits, what the
# watcher makes of what the elements tell, and what it leaves behind however it ends.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm
  mkdir -p "$FAKE_SLURM" "$BATS_TEST_TMPDIR/work" "$BATS_TEST_TMPDIR/tasks"
  PATH=$ROOT/tests/fakes/slurm:$PATH
  make_site slurm apptainer
  touch "$BATS_TEST_TMPDIR/images/prepare.sif"
  cd "$BATS_TEST_TMPDIR/work"
}

prepare() { try timeout 60 "$ROOT/scripts_hpc/prepare_tasks.sh" "$@" --site "$SITE_FILE"; }
calls() { sed 's/ *$//' "$FAKE_SLURM/calls" 2>/dev/null || true; }
sbatches() { calls | grep ^sbatch; }
nothing_submitted() {
  [[ $(calls) != *sbatch* ]] && [[ -z $(ls -A "$BATS_TEST_TMPDIR/runs" 2>/dev/null) && ! -e failed_tasks.txt ]]
}
folder() { printf '%s\n' "$BATS_TEST_TMPDIR"/runs/*_prepare; }
parts() { # the tasks of each element, an element a line
  local file
  for file in $(ls "$(folder)/parts" | sort -n); do paste -sd' ' "$(folder)/parts/$file"; done
}
tell() { # tell ELEMENT TASK STATE [REASON]: what an element's helpers.prepare_all_tasks writes
  printf '{"time": "2026-01-01T00:00:00.000+00:00", "task": "%s", "state": "%s", "seconds": 83.14, "reason": "%s"}\n' \
    "$2" "$3" "${4:-}" >>"$(folder)/events/$1"
}
jobs_are() { sed -i "s/ [A-Z_]*$/ $1/" "$FAKE_SLURM/jobs"; } # jobs_are STATE: all of them
numbers() { seq -f t%g 1 "$1"; }

@test "--help is the header, needs no Python, and names every option of prepare_all_tasks" {
  PATH=/usr/bin:/bin try "$ROOT/scripts_hpc/prepare_tasks.sh" --help
  expect_status 0
  expect_in "Usage: scripts_hpc/prepare_tasks.sh TASK… | --jobs FILE" "$output"
  expect_in "130 interrupted" "$output"
  local option
  for option in $(python -m helpers.prepare_all_tasks --help | grep -oE -- '--[a-z-]+' | sort -u); do
    [[ $option == --option ]] || expect_in "$option" "$output"
  done
}

@test "arrays of at most MaxArraySize elements, one sbatch each, every task in one element" {
  FAKE_ARRAY_SIZE=26 prepare $(numbers 60) --detach
  expect_status 0
  [[ $(sbatches) == 'sbatch --parsable --array=0-25 prepare.sh 0
sbatch --parsable --array=0-25 prepare.sh 26
sbatch --parsable --array=0-7 prepare.sh 52' ]] || {
    sbatches
    return 1
  }
  [[ $(grep -c 'scontrol show config' "$FAKE_SLURM/questions") == 1 ]]
  [[ $output == "$(folder)" ]]
  [[ $(parts) == "$(numbers 60)" ]]
  # nobody watches, and the list is true all the same
  [[ $(<failed_tasks.txt) == "$(numbers 60)" ]]
  grep -q -- '--output=.*/logs/%x-%A_%a.out' "$(folder)/jobs/prepare.sh"
}

@test "the site's max_array_size counts more than Slurm's" {
  prepare $(numbers 5) --detach --set limits.max_array_size=2
  expect_status 0
  [[ $(sbatches | sed 's/.*--array=//') == $'0-1 prepare.sh 0\n0-1 prepare.sh 2\n0-0 prepare.sh 4' ]]
}

@test "a scheduler that doesn't tell its MaxArraySize has Slurm's own" {
  FAKE_ARRAY_SIZE='' prepare $(numbers 1002) --detach
  expect_status 0
  [[ $(sbatches | sed 's/.*--array=//') == $'0-1000 prepare.sh 0\n0-0 prepare.sh 1001' ]]
}

@test "max_submit counts the elements of all arrays: several tasks for each where there are more" {
  prepare $(numbers 10) --detach --set limits.max_submit=4 --set limits.max_array_size=3
  expect_status 0
  [[ $(sbatches | sed 's/.*--array=//') == $'0-2 prepare.sh 0\n0-0 prepare.sh 3' ]]
  [[ $(parts) == $'t1 t5 t9\nt2 t6 t10\nt3 t7\nt4 t8' ]]
}

@test "jobs that are in the queue already count for max_submit" {
  printf '%s RUNNING\n' 1 2_0 2_1 >"$FAKE_SLURM/jobs"
  prepare $(numbers 4) --detach --set limits.max_submit=5
  expect_status 0
  [[ $(sbatches) == 'sbatch --parsable --array=0-1 prepare.sh 0' ]]
  prepare $(numbers 4) --detach --set limits.max_submit=3
  expect_status 3
  expect_in "5 jobs of yours are in the queue, and limits.max_submit of site here is 3" "$error"
}

@test "a site without job arrays" {
  prepare t1 --set limits.max_array_size=0
  expect_status 2
  expect_in "site here has no job arrays" "$error"
  nothing_submitted
}

@test "the script: the site's resources, the options of the tasks, and no secret" {
  KAGGLE_KEY=very-secret prepare t1 --detach --keep-raw --skip-verification=false --timeout 90 --force --backend local \
    --set jobs.prepare.cpus=3 --set jobs.prepare.time=01:02:03 --set jobs.prepare.memory_gb=7
  expect_status 0
  local script
  script=$(<"$(folder)/jobs/prepare.sh")
  expect_in '#SBATCH --time=01:02:03' "$script"
  expect_in '#SBATCH --cpus-per-task=3' "$script"
  expect_in '#SBATCH --mem=7G' "$script"
  expect_in '#SBATCH --partition=cpu' "$script"
  expect_in 'THREADS=3' "$script"
  expect_in 'OPTIONS=(--backend=local --retries=2 --retry-wait=5.0 --timeout=90.0 --min-free=1.0 --keep-raw --force)' "$script"
  refuse grep -r very-secret "$(folder)" "$FAKE_SLURM" .
  prepare t1 --detach --threads 4
  grep -q '^THREADS=4' "$output/jobs/prepare.sh"
}

@test "tasks that are prepared are skipped before any job; with none left nothing is submitted" {
  make_task t1
  make_task t3
  prepare t1 t2 t3 --detach
  expect_status 0
  [[ $(parts) == t2 && $(<failed_tasks.txt) == t2 ]]
  rm -r "$BATS_TEST_TMPDIR/runs"
  prepare t3 t1
  expect_status 0
  expect_in "Skipping t3: it is already prepared" "$output"
  expect_in "Already prepared: 2" "$output"
  [[ ! -e failed_tasks.txt && $(sbatches | wc -l) == 1 ]]
}

@test "--force prepares them again, and so does --overwrite-checksums" {
  make_task t1
  prepare t1 --detach --force
  [[ $(sbatches | wc -l) == 1 ]]
  prepare t1 --detach --overwrite-checksums
  [[ $(sbatches | wc -l) == 2 ]]
}

@test "options of mle-bench touch no task of one's own; data with results take --force" {
  prepare classification_basic --set scheduler.kind=local --set container.runtime=none
  expect_status 0
  prepare classification_basic t1 --detach --overwrite-checksums
  expect_status 0
  [[ $(parts) == t1 ]]
  grep -q -- '--overwrite-checksums: of mle-bench.s and BioML-bench.s files; without effect on classification_basic' "$output/preparation.json"
  local group=$BATS_TEST_TMPDIR/runs/2026-01-01T00-00-00-UTC_run-group_aide
  make_task t2
  mkdir "$group"
  printf '{"competition": "t2", "data_fingerprint": "%s"}' \
    "$(python -c 'import sys; from helpers.data import fingerprint; print(fingerprint.known(__import__("pathlib").Path(sys.argv[1])))' \
      "$BATS_TEST_TMPDIR/data/t2/prepared")" >"$group/workflow.json"
  prepare t2 --dry-run --overwrite-leaderboard
  expect_in "t2: its results were made with the data that lie there (the newest: ${group##*/}): --force replaces them" "$output"
  prepare t2 --dry-run --force
  expect_in "t2: the data that its results were made with (the newest: ${group##*/}) are replaced" "$output"
}

@test "offline compute nodes: downloads are left out with advice, tasks of one's own go on" {
  mkdir "$BATS_TEST_TMPDIR/tasks/mine"
  touch "$BATS_TEST_TMPDIR/tasks/mine/prepare.py"
  prepare spaceship-titanic classification_basic mine polarishub/abc --detach --tasks-dir "$BATS_TEST_TMPDIR/tasks" \
    --set environment.offline=true
  expect_status 0
  [[ $(parts) == $'classification_basic\nmine' ]]
  tell 0 classification_basic prepared
  tell 1 mine prepared
  jobs_are COMPLETED
  prepare --attach "$output"
  expect_status 1
  expect_in "✗ Failed to prepare spaceship-titanic after 0.0s: mlebench downloads it, and compute nodes of site here are offline" "$output"
  expect_in "with --set scheduler.kind=local" "$output"
  expect_in "- polarishub/abc: biomlbench downloads it" "$output"
  [[ $(<failed_tasks.txt) == $'spaceship-titanic\npolarishub/abc' ]]
}

@test "all mistakes of a site are named at once, and nothing is submitted" {
  rm "$BATS_TEST_TMPDIR/images/prepare.sif"
  prepare t1 --set paths.runs=/proc/nowhere --tasks-dir /nowhere
  expect_status 2
  expect_in "prepare.sif is missing or unreadable" "$error"
  expect_in "build_all_containers.sh --site here --only prepare" "$error"
  expect_in "paths.runs of site here" "$error"
  expect_in "there is no folder /nowhere" "$error"
  nothing_submitted
  touch "$BATS_TEST_TMPDIR/images/prepare.sif"
  prepare t1 --set partitions.cpu.name=cpuu
  expect_status 2
  expect_in "partition 'cpuu'" "$error"
  prepare t1 --data-dir /proc/nowhere
  expect_status 2
  expect_in "/proc/nowhere (paths.data of site here)" "$error"
  nothing_submitted
}

@test "wrong usage is one message" {
  prepare t1 --frobnicate
  expect_status 2
  [[ $error == "error: unrecognized arguments: --frobnicate (--help tells more)." ]] || {
    echo "$error"
    return 1
  }
  prepare t1 --threads none
  expect_status 2
  expect_in "'none' is not a whole number" "$error"
  prepare --task-list nowhere.txt
  expect_status 2
  [[ $error == "error: nowhere.txt: there is no such file"* && $error != *Traceback* ]]
  prepare 't1;rm'
  expect_status 2
  expect_in "not a task id" "$error"
  try "$ROOT/scripts_hpc/prepare_tasks.sh" --attach
  expect_status 2
  prepare --attach "$BATS_TEST_TMPDIR"
  expect_status 2
  expect_in "is no preparation of this tool" "$error"
  nothing_submitted
}

@test "a folder where the list of failed tasks can't be written is found before anything is submitted" {
  prepare t1 --failed-tasks /proc/nowhere/failed_tasks.txt
  expect_status 2
  expect_in "--failed-tasks choose other files" "$error"
  [[ $(calls) != *sbatch* ]]
}

@test "--dry-run shows the jobs and touches nothing" {
  make_task t1
  prepare $(numbers 30) --dry-run --set limits.max_array_size=26
  expect_status 0
  expect_in "30 tasks into $BATS_TEST_TMPDIR/data" "$output"
  expect_in "1 are prepared already" "$output"
  expect_in "--time=04:00:00 --cpus-per-task=2 --mem=16G --partition=cpu" "$output"
  expect_in "2 array(s) of 26 + 3 jobs, each for at most 1 task(s), 2 at once" "$output"
  nothing_submitted
  [[ ! -e $BATS_TEST_TMPDIR/runs && ! -e $BATS_TEST_TMPDIR/addresses && ! -e $BATS_TEST_TMPDIR/data/.preparing ]]
}

@test "a refused second array cancels the first" {
  FAKE_REJECT=2 prepare $(numbers 4) --set limits.max_array_size=2
  expect_status 3
  expect_in "Invalid account" "$error"
  expect_in "the scheduler refused the prepare job (an array of 2): Invalid account" "$error"
  [[ $(calls | grep scancel) == 'scancel  101' ]]
  [[ $error != *Traceback* && $(<failed_tasks.txt) == "$(numbers 4)" ]]
}

@test "a refused first array cancels nothing" {
  FAKE_REJECT=1 prepare t1
  expect_status 3
  [[ $(calls) != *scancel* ]]
}

@test "the watcher reports what the elements tell, in one squeue call a look" {
  prepare t1 t2 t3 --detach
  local run=$output
  tell 0 t1 started
  tell 0 t1 prepared
  tell 1 t2 started
  tell 1 t2 failed "checksum mismatch in /data/t2"
  tell 2 t3 skipped
  jobs_are COMPLETED
  prepare --attach "$run"
  expect_status 1
  expect_in " - INFO - Found 3 unique tasks to prepare" "$output"
  expect_in " - INFO - Starting preparation of task: t1" "$output"
  expect_in " - INFO - ✓ Successfully prepared t1 in 83.1s" "$output"
  # with the path that the user knows
  expect_in " - ERROR - ✗ Failed to prepare t2 after 83.1s: checksum mismatch in $BATS_TEST_TMPDIR/data/t2" "$output"
  expect_in " - INFO - Skipping t3: it is already prepared" "$output"
  expect_in $'PREPARATION SUMMARY\n============================================================\nTotal tasks: 3\nSuccessful: 1\nFailed: 1' "$output"
  expect_in "Failed task IDs written to: failed_tasks.txt" "$output"
  [[ $(<failed_tasks.txt) == t2 ]]
  diff <(printf '%s\n' "$output") task_preparation.log
  [[ $(calls | grep -c squeue) == 1 && $(calls | grep squeue) == 'squeue of all' ]]
  # watched again: nothing is told twice
  prepare --attach "$run"
  expect_status 1
  [[ $output != *"Successfully prepared t1 in"* && $output != *"Skipping"* ]]
  expect_in "Successful: 1" "$output"
  [[ $(<failed_tasks.txt) == t2 ]]
}

@test "an element that died without a word: its unfinished tasks failed, with the reason in one line" {
  prepare $(numbers 8) --detach --set limits.max_submit=7
  local run=$output states=(NODE_FAIL OUT_OF_MEMORY TIMEOUT CANCELLED FAILED COMPLETED) number
  for number in "${!states[@]}"; do sed -i "s/^101_$number .*/101_$number ${states[number]}/" "$FAKE_SLURM/jobs"; done
  sed -i '/^101_6 /d' "$FAKE_SLURM/jobs" # cancelled while it waited
  tell 0 t1 started
  tell 0 t8 prepared           # of the two tasks of that element
  tell 3 t4 failed interrupted # said at the end of a job that is being ended
  make_task t6                 # died before it could say so
  printf '{"time": "2026-01-01T00:00' >>"$run/events/4"
  printf 'noise\nslurm_script: reached its time limit: raise jobs.prepare.time of site here\n' >"$run/logs/prepare-101_4.out"
  prepare --attach "$run"
  expect_status 1
  expect_in "- t1: job 101_0 died with its node node1: run again" "$output"
  expect_in "- t2: job 101_1 needed more memory than it had asked for: raise jobs.prepare.memory_gb of site here" "$output"
  expect_in "- t3: job 101_2 reached its time limit: raise jobs.prepare.time of site here" "$output"
  expect_in "- t4: job 101_3 was cancelled" "$output"
  expect_in "- t5: job 101_4 failed: reached its time limit: raise jobs.prepare.time of site here" "$output"
  expect_in "- t7: job 101_6 was cancelled before it started" "$output"
  expect_in $'Total tasks: 8\nSuccessful: 2\nFailed: 6' "$output"
  [[ $(<failed_tasks.txt) == $'t1\nt2\nt3\nt4\nt5\nt7' ]]
}

@test "Ctrl-C: one scancel for all arrays, a true list, 130" {
  prepare $(numbers 4) --detach --set limits.max_array_size=2
  local run=$output
  tell 0 t1 prepared
  jobs_are RUNNING
  set -m # a background process of a shell without job control ignores SIGINT
  "$ROOT/scripts_hpc/prepare_tasks.sh" --attach "$run" >out 2>&1 3>&- &
  local watcher=$! until=$((SECONDS + 20))
  until grep -q 't1 in' out || ((SECONDS > until)); do sleep 0.05; done
  kill -INT -- "-$watcher"
  status=0
  wait "$watcher" || status=$?
  output=$(<out) error=''
  expect_status 130
  [[ $(calls | grep scancel) == 'scancel  101 102' ]]
  expect_in "Preparation ended (interrupted with Ctrl-C)" "$output"
  expect_in $'Successful: 1\nFailed: 0\nNot finished: 3' "$output"
  [[ $(<failed_tasks.txt) == $'t2\nt3\nt4' ]]
}

@test "an element in the core environment: its part, its events, its log elsewhere" {
  make_site slurm none
  cat >"$BATS_TEST_TMPDIR/mlebench" <<'SH'
#!/usr/bin/env bash
folder=${*: -1}/$3/prepared
mkdir -p "$folder"/{public,private} && cat "$HOME/.kaggle/kaggle.json" >"$folder/private/answers.csv"
echo "$KAGGLE_USERNAME ${https_proxy:-} ${SLURM_JOB_ID:-}" >"$folder/public/description.md"
SH
  chmod +x "$BATS_TEST_TMPDIR/mlebench"
  mkdir "$HOME/.kaggle" && echo credentials >"$HOME/.kaggle/kaggle.json"
  prepare t1 t2 t3 t4 --detach --set limits.max_submit=2 --set environment.proxy=http://proxy:1
  local run=$output
  mkdir elsewhere && cd elsewhere
  try env PATH="$BATS_TEST_TMPDIR:$PATH" HAB_VENV_CORE="${HAB_CORE_PYTHON%/bin/*}" KAGGLE_USERNAME=somebody SLURM_JOB_ID=7 \
    SLURM_ARRAY_TASK_ID=1 bash "$run/jobs/prepare.sh" 0
  expect_status 0
  [[ -z $(ls -A) ]] # nothing of it lies where it was started
  [[ $(ls "$run/events") == 1 && $(grep -c '"prepared"' "$run/events/1") == 2 ]]
  [[ -e $BATS_TEST_TMPDIR/data/t2/prepared/manifest.json && ! -e $BATS_TEST_TMPDIR/data/t1 ]]
  [[ $(<"$BATS_TEST_TMPDIR/data/t4/prepared/public/description.md") == 'somebody http://proxy:1 ' ]]
  [[ $(<"$BATS_TEST_TMPDIR/data/t4/prepared/private/answers.csv") == credentials ]]
  [[ $output != *credentials* && $output != *somebody* ]]
}

seen() { # seen [VARIABLE=VALUE]…: what a preparation in a job is given of Kaggle's credentials, a line each, and the files' rights
  local run
  rm -rf "$BATS_TEST_TMPDIR/data/t1"
  prepare t1 --detach
  run=$output
  try env PATH="$BATS_TEST_TMPDIR:$PATH" HAB_VENV_CORE="${HAB_CORE_PYTHON%/bin/*}" SLURM_JOB_ID=7 SLURM_ARRAY_TASK_ID=0 "$@" \
    bash "$run/jobs/prepare.sh" 0
  expect_status 0
  [[ $output != *secret* && $error != *secret* ]]
  refuse grep -rq secret "$run"
  paste -sd' ' "$BATS_TEST_TMPDIR/data/t1/prepared/private/answers.csv"
}

@test "Kaggle's credentials in all their forms reach a preparation, readable for the user alone" {
  make_site slurm none
  cat >"$BATS_TEST_TMPDIR/mlebench" <<'SH'
#!/usr/bin/env bash
folder=${*: -1}/$3/prepared
mkdir -p "$folder"/{public,private} && echo x >"$folder/public/description.md"
{
  printf '%s\n' "token:${KAGGLE_API_TOKEN:-}"
  find "$HOME/.kaggle" -type f -printf '%f:%m:' -exec cat {} \; 2>/dev/null | sort
} >"$folder/private/answers.csv"
SH
  chmod +x "$BATS_TEST_TMPDIR/mlebench"
  [[ $(seen) == token: ]]
  [[ $(seen KAGGLE_API_TOKEN=secret-0) == token:secret-0 ]]
  echo secret-1 >"$BATS_TEST_TMPDIR/token"
  [[ $(seen KAGGLE_API_TOKEN="$BATS_TEST_TMPDIR/token") == token:secret-1 ]]
  mkdir -p "$HOME/.config/kaggle" "$HOME/.kaggle" "$BATS_TEST_TMPDIR/mine"
  echo secret-2 >"$HOME/.config/kaggle/kaggle.json"
  [[ $(seen) == "token: kaggle.json:600:secret-2" ]]
  echo secret-3 >"$HOME/.kaggle/access_token"
  echo secret-4 >"$HOME/.kaggle/credentials.json"
  [[ $(seen) == "token: access_token:600:secret-3 credentials.json:600:secret-4" ]]
  echo secret-5 >"$BATS_TEST_TMPDIR/mine/kaggle.json"
  [[ $(seen KAGGLE_CONFIG_DIR="$BATS_TEST_TMPDIR/mine") == "token: kaggle.json:600:secret-5" ]]
}

@test "--raw: no Kaggle, no internet; the job gets the file" {
  touch "a titanic.zip"
  prepare t1 --raw "a titanic.zip" --detach --set environment.offline=true
  expect_status 0
  grep -qF "RAW='$PWD/a titanic.zip'" "$output/jobs/prepare.sh"
  prepare t1 --dry-run --set environment.offline=true
  expect_in "or fetch its zip by hand and give it with --raw" "$output"
  touch "a,b.zip"
  prepare t1 --raw "a,b.zip"
  expect_status 2
  expect_in "--raw a,b.zip holds ',': nothing with it in its name can be bound into a container: rename it." "$error"
  prepare t1 --raw none
  expect_status 2
  expect_in "--raw none: there is no such file or folder" "$error"
}

@test "without Slurm and containers: prepare_all_tasks itself, with the same options" {
  make_site local none
  make_task t1
  prepare t1 --backend local
  expect_status 0
  expect_in "Skipping t1" "$output"
  [[ -e task_preparation.log && ! -e $BATS_TEST_TMPDIR/runs ]]
  prepare t2 --detach
  expect_status 2
  expect_in "there are no jobs to leave" "$error"
  prepare t1 t2 --dry-run
  expect_status 0
  expect_in "2 tasks on this machine, without jobs" "$output"
}

@test "more time than the partition allows: nothing is submitted, and the key is named" {
  FAKE_MAX_TIME=00:10:00 prepare $(numbers 3)
  expect_status 2
  expect_in "and partition 'cpu' allows 00:10:00 (MaxTime): lower jobs.prepare.time of site here" "$error"
  [[ $(calls) != *sbatch* ]]
}
