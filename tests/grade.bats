# jobs.sh grade: what a run had submitted that ended without being graded. Real jobs of the local twin.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT}
  COPY=$BATS_TEST_TMPDIR/copy RUNS=$BATS_TEST_TMPDIR/runs
  "${HAB_CORE_PYTHON:-$ROOT/.venv-core/bin/python}" -m helpers.tasks.cli generate-data classification_basic "$BATS_TEST_TMPDIR/data" --seed 1 >/dev/null
  mkdir "$COPY"
  (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create) | tar -x -C "$COPY"
  cat >>"$COPY/site-config/agents.yaml" <<'YAML'
waits: {command: "cp $DATA_DIR/sample_submission.csv $SUBMISSION_DIR/submission.csv; touch $CODE_DIR/waiting; sleep 600", image: aide, needs_model: false}
YAML
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR/runs"
}

grade() { try "$COPY/scripts_hpc/jobs.sh" grade "$@" --site "$SITE_FILE"; }
start() { # start ARGUMENTS…: a workflow in the background; sets PID and GROUP
  "$COPY/scripts_hpc/run_workflow.sh" classification_basic --agent waits "$@" --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  PID=$!
  wait_for 30 grep -q '^run: ' "$BATS_TEST_TMPDIR/out"
  GROUP=$(sed -n 's/^run: //p' "$BATS_TEST_TMPDIR/out")
}
working() { [[ $(find "$GROUP" -path '*/code/waiting' | wc -l) == "$1" ]]; }
ends() { # ends CODE: the workflow
  status=0
  wait "$PID" || status=$?
  [[ $status == "$1" ]] || { cat "$BATS_TEST_TMPDIR/out" && return 1; }
}
in_record() { # in_record RUN TEXT…
  local text
  for text in "${@:2}"; do expect_in "$text" "$(<"$1/run_metadata.json")"; done
}
nothing_left() { [[ -z $(local_processes) ]] && [[ -z $(find "$BATS_TEST_TMPDIR/addresses" -maxdepth 1 -type f) ]]; }
local_jobs() { LOCAL_JOBS=$BATS_TEST_TMPDIR/addresses/local_jobs bash "$ROOT/scripts_hpc/lib/scheduler.sh" local "$@"; }

@test "the grading server is gone while two agents work: lost, and graded later as it was then, once" {
  start --rollouts 2
  wait_for 30 working 2
  grade "$GROUP"
  expect_status 2
  expect_in "can't be graded: it is still running: it is graded when its agent ends." "$error"
  local_jobs cancel 1
  ends 3
  local one other=$GROUP/classification_basic_3
  for one in "$GROUP"/classification_basic_[23]; do
    in_record "$one" '"state": "lost"' "; the submission is kept: scripts_hpc/jobs.sh grade $one\""
  done
  expect_in "the submission is kept: scripts_hpc/jobs.sh grade $other" "$(<"$BATS_TEST_TMPDIR/out")"
  one=$GROUP/classification_basic_2
  # somebody improves one of them
  echo better >"$other/submission/submission.csv"
  grade "${GROUP##*/}"
  expect_status 0
  expect_in "classification_basic / waits: 2 of 2 rollouts scored, mean 0." "$output"
  expect_in "$one: graded; graded later, by job 5_0: at first it was lost: job 1, a server that this run needs, has ended" "$output"
  in_record "$one" '"state": "scored"' '"earlier_state": "lost"' '"earlier_reason": "job 1, a server' '"job_id": "2"' '"grading_job": "1"' '"later_job": "5_0"' '"seed": 0'
  in_record "$other" '"state": "scored"' '"job_id": "3"' '"seed": 1'
  expect_in "\"submission_path\": \"$one/submission/submission.csv\"" "$(<"$one/grading_report.json")"
  expect_in "\"submission_path\": \"$other/graded_submission.csv\"" "$(<"$other/grading_report.json")"
  cmp "$other/graded_submission.csv" "$one/submission/submission.csv"
  expect_in '"total_valid_submissions": 2' "$(<"$GROUP/grading_report.json")"
  wait_for 10 nothing_left
  grade "$one"
  expect_status 2
  expect_in "$one can't be graded: it was graded already: scored." "$error"
  [[ -z $output && $(find "$RUNS" -maxdepth 1 -name '*_grade' | wc -l) == 1 ]]
}

@test "a job killed with -9: the time of the submission's last change tells whether it counts" {
  start
  wait_for 30 working 1
  kill -KILL "$(cut -d' ' -f1 "$BATS_TEST_TMPDIR/addresses/local_jobs/2/pid")"
  # with no time for a word
  local file
  for file in $(grep -lzsx "HAB_LOCAL_JOB=$BATS_TEST_TMPDIR/addresses/local_jobs/2" /proc/[0-9]*/environ); do
    file=${file#/proc/}
    kill -KILL "${file%%/*}" 2>/dev/null || true
  done
  ends 3
  local run=$GROUP/classification_basic_2 data
  in_record "$run" '"state": "lost"' "NODE_FAIL): see its log; the submission is kept: scripts_hpc/jobs.sh grade $run"
  # a grading that fails takes nothing from the run
  grade "$run" --set paths.scratch=/proc/nowhere
  expect_status 3
  in_record "$run" '"state": "lost"' 'NODE_FAIL): see its log; not graded later either, by job 4: ' "; the submission is kept: scripts_hpc/jobs.sh grade $run"
  # nor does one that is broken off
  set -m
  "$COPY/scripts_hpc/jobs.sh" grade "$run" --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  PID=$!
  set +m
  wait_for 30 grep -q '^grading: ' "$BATS_TEST_TMPDIR/out"
  kill -INT -- "-$PID"
  ends 130
  in_record "$run" '"state": "lost"'
  nothing_left
  data=$(sed -n 's/.*"data_fingerprint": *"\([0-9a-f]*\)".*/\1/p' "$run/run_metadata.json")
  sed -i "s/$data/0123456789abcdef/" "$run/run_metadata.json"
  grade "$run"
  expect_status 2
  expect_in "$run can't be graded: it ran on other data (fingerprint 0123456789ab) than lie prepared in $BATS_TEST_TMPDIR/data now (${data:0:12})" "$error"
  sed -i "s/0123456789abcdef/$data/" "$run/run_metadata.json"
  grade "$run" --json
  expect_status 0
  expect_in '"state": "scored"' "$output"
  in_record "$run" '"state": "scored"' '"reason": "graded; its job was killed before it could note what was submitted, which was last changed at 20' \
    'Z, before the end; graded later, by job 8: at first it was lost: job 2 ended without a result (the scheduler says NODE_FAIL): see its log"'
  wait_for 10 nothing_left
}

@test "what is no run that can be graded: a sentence, exit 2, and nothing is made" {
  grade nothing
  expect_status 2
  expect_in "'nothing' is no run: neither a run's folder" "$error"
  mkdir -p "$RUNS/2026-01-02T03-04-05-UTC_notebook"
  grade 2026-01-02T03-04-05-UTC_notebook
  expect_status 2
  expect_in "2026-01-02T03-04-05-UTC_notebook is no run of an agent" "$error"
  grade a b
  expect_status 2
  grade --frobnicate
  expect_status 2
  [[ $(ls "$RUNS") == 2026-01-02T03-04-05-UTC_notebook ]]
}
