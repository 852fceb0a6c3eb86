# Preparation by job arrays on a real Slurm: cut to its limits, in a container, and with elements, watchers and keyboards that die.

setup() {
  load helpers.bash
  cluster_setup
  HERE=$BATS_TEST_DIRNAME
  CHANGED=0
  USER_PATH=$WORK/bin
  as_owner mkdir "$WORK"/{images,data,tasks,here}
  # the everyday cluster has no image with mle-bench: this one holds what prepare_all_tasks itself needs
  as_owner ln -s "$STATE/shared/containers/mlebench-env.sif" "$WORK/images/prepare.sif"
  USER_VARIABLES+=(HPC_PATHS__DATA="$WORK/data" HPC_PATHS__TASKS="$WORK/tasks" HPC_PATHS__CONTAINERS="$WORK/images")
  as_owner tee "$WORK/bin/mlebench" >/dev/null <<SH
#!/usr/bin/env bash
# mlebench prepare -c ID --data-dir FOLDER, which takes its time for slow tasks
while [[ \$3 == slow* && ! -e $WORK/go ]]; do sleep 0.1; done
folder=\${*: -1}/\$3/prepared
mkdir -p "\$folder"/{public,private}
echo text | tee "\$folder/public/description.md" >"\$folder/private/answers.csv"
SH
  as_owner chmod +x "$WORK/bin/mlebench"
  PLAIN=(--set container.runtime=none --backend mlebench)
}

teardown() {
  ((CHANGED == 0)) || bash "$HERE/up.sh" --reconfigure >/dev/null
  cluster_teardown
}

prepare() { try env -C "$WORK/here" "$CHECKOUT/scripts_hpc/prepare_tasks.sh" "$@"; }
begin() { # begin NAME ARGUMENT…: in the background, in a session of its own
  become_user setsid env -C "$WORK/here" "$CHECKOUT/scripts_hpc/prepare_tasks.sh" "${@:2}" >"$WORK/$1.out" 2>"$WORK/$1.err" \
    </dev/null 3>&- 4>&- &
  STARTED[$1]=$!
}
folder() { printf '%s\n' "$WORK"/runs/*_prepare; }
array() { sed -n 's/^prepare=\([0-9]*\)_.*/\1/p' "$(folder)/jobs/submitted"; }
said() { grep -q "$2" "$WORK/$1.out"; } # said NAME TEXT
left() { cat "$WORK/here/failed_tasks.txt"; }
prepared() { find "$WORK/data" -path '*/prepared/manifest.json' | wc -l; }
all_prepared() { [[ $(prepared) == "$1" ]]; }
all_ended() { [[ -z $(queue --jobs="$(array | paste -sd,)" 2>/dev/null) ]]; }
no_processes() { ! pgrep --euid "$HAB_CLUSTER_USER" --full "$WORK" >/dev/null; }

make_tasks() { # make_tasks NAME…: folders of a user, whose prepare.py tells what it could see
  local name
  for name; do
    as_owner mkdir -p "$WORK/tasks/$name/raw"
    as_owner tee "$WORK/tasks/$name/prepare.py" >/dev/null <<'PY'
import os, pathlib, ssl

def prepare(raw, public, private):
    home = pathlib.Path.home()
    seen = [os.environ.get("KAGGLE_USERNAME"), (home / ".kaggle/kaggle.json").read_text(), os.access(raw, os.W_OK)]
    ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    (public / "description.md").write_text(" ".join(map(str, seen)))
    (public / "sample_submission.csv").write_text("id,target\n0,0\n")
    (private / "answers.csv").write_text("id,target\n0,1\n")
    (private / "grading.json").write_text('{"metric": "accuracy", "id_column": "id", "target_column": "target"}')
PY
  done
}

@test "60 tasks where Slurm takes arrays of 26" {
  CHANGED=1
  bash "$HERE/up.sh" --reconfigure MaxArraySize=26 >/dev/null
  local tasks
  mapfile -t tasks < <(seq -f t%02g 60)
  prepare "${tasks[@]}" "${PLAIN[@]}"
  expect_status 0
  expect_in $'Total tasks: 60\nSuccessful: 60\nFailed: 0' "$output"
  [[ $(array | wc -l) == 3 && $(pick "$(folder)/preparation.json" "d['arrays']") == '[26, 26, 8]' ]]
  [[ $(grep -c 'Successfully prepared t[0-9]' "$WORK/here/task_preparation.log") == 60 ]]
  [[ $(prepared) == 60 && ! -e $WORK/here/failed_tasks.txt ]]
  # no element wrote into another one's log
  [[ $(find "$(folder)/logs" -name 'prepare-*_*.out' -exec grep -l 'Total tasks: 1$' {} + | wc -l) == 60 ]]
  await 10 all_ended
  await 10 no_processes
}

@test "elements that are cancelled or killed: a true list, and what is run again is only the rest" {
  begin first slow1 slow2 t3 "${PLAIN[@]}"
  await 20 said first 'prepared t3 in'
  await 20 said first 'preparation of task: slow1'
  await 20 said first 'preparation of task: slow2'
  [[ $(left) == $'slow1\nslow2' ]]
  as_user scancel "$(array)_0"
  kill_process "$(queue --jobs="$(array)_1" --format=%A)" slurm_script
  finish first 40
  expect_status 1
  expect_in "- slow1: job $(array)_0 was cancelled" "$output"
  expect_in "- slow2: job $(array)_1 failed" "$output"
  expect_in $'Total tasks: 3\nSuccessful: 1\nFailed: 2' "$output"
  [[ $(left) == $'slow1\nslow2' && $(prepared) == 1 ]]
  await 10 no_processes
  as_owner touch "$WORK/go"
  as_owner mv "$WORK/runs" "$WORK/runs-first"
  as_owner mkdir "$WORK/runs"
  prepare --task-list failed_tasks.txt "${PLAIN[@]}"
  expect_status 0
  expect_in $'Total tasks: 2\nSuccessful: 2\nFailed: 0' "$output"
  [[ ! -e $WORK/here/failed_tasks.txt && $(prepared) == 3 ]]
}

@test "a watcher killed with -9 and another one; Ctrl-C ends all jobs" {
  begin first slow1 slow2 t3 "${PLAIN[@]}" --set limits.max_array_size=2
  await 20 said first 'prepared t3 in'
  await 20 said first 'preparation of task: slow2'
  kill -KILL -- "-${STARTED[first]}"
  finish first 5
  [[ $(left) == $'slow1\nslow2' ]]
  begin second --attach "$(folder)"
  await 20 said second 'jobs ('
  refuse said second 't3'
  kill -INT -- "-${STARTED[second]}"
  finish second 30
  expect_status 130
  expect_in $'Total tasks: 3\nSuccessful: 1\nFailed: 0\nNot finished: 2' "$output"
  [[ $(left) == $'slow1\nslow2' ]]
  all_ended
  await 10 no_processes
  [[ -z $(find "$WORK/data/.preparing" -name 'slow*' ! -name '*.lock' ! -name '*.log') ]]
  # the jobs of a watcher that is gone go on without one
  as_owner touch "$WORK/go"
  as_owner rm -r "$WORK/runs" && as_owner mkdir "$WORK/runs"
  prepare --task-list failed_tasks.txt "${PLAIN[@]}" --detach
  expect_status 0
  await 20 all_prepared 3
  prepare --attach "$output"
  expect_status 0
  expect_in "✓ Successfully prepared slow2 in" "$output"
  [[ ! -e $WORK/here/failed_tasks.txt && $(prepared) == 3 ]]
}

@test "in the container: tasks of a user's folder and of this project, credentials that no file of the run holds" {
  make_tasks one two
  as_owner mkdir "$WORK/kaggle"
  as_owner tee "$WORK/kaggle/kaggle.json" >/dev/null <<<very-secret
  USER_VARIABLES+=(KAGGLE_CONFIG_DIR="$WORK/kaggle" KAGGLE_USERNAME=hidden-name)
  prepare one classification_basic nowhere
  expect_status 1
  expect_in $'Total tasks: 3\nSuccessful: 2\nFailed: 1' "$output"
  # the image of this test has no mle-bench
  expect_in '- nowhere: there is no command `mlebench`' "$output"
  [[ $(left) == nowhere ]]
  [[ $(tr -d '\n' <"$WORK/data/one/prepared/public/description.md") == 'hidden-name very-secret False' ]]
  [[ -s $WORK/data/classification_basic/prepared/private/answers.csv ]]
  refuse grep -rlE 'very-secret|hidden-name' "$(folder)" "$WORK/here" "$WORK/data/.preparing"
  # the same container without a job, as on a login node of a cluster whose compute nodes are offline
  prepare two --set scheduler.kind=local --set environment.offline=true
  expect_status 0
  expect_in "✓ Successfully prepared two in" "$output"
  await 10 no_processes
}
