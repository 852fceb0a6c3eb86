# The experiment agent through run_workflow.sh on this machine: a variant, and a script of the user's.

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=$ROOT
  "$ROOT/.venv-core/bin/python" -m helpers.tasks.cli generate-data classification_basic "$BATS_TEST_TMPDIR/data" --seed 1 >/dev/null
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR/runs"
}

workflow() { try "$ROOT/scripts_hpc/run_workflow.sh" classification_basic "$@" --site "$SITE_FILE"; }
run_of() { ls -d "$BATS_TEST_TMPDIR"/runs/*_run-group_"$1"/classification_basic_*; }

@test "a variant by name: its time limit, a graded score, its workspace beside the run" {
  workflow --agent experiment/dev
  expect_status 0
  expect_in 'classification_basic / experiment/dev (seed 0): score 0.' "$output"
  run=$(run_of experiment-dev)
  grep -q '"agent": "experiment/dev"' "$run/run_metadata.json"
  grep -q '"time_limit_seconds": 600' "$run/run_metadata.json"
  grep -q '"success": true' "$run/workspaces/results/completion_status.json"
  [[ $(readlink "$run/workspaces/submission") == "$run/submission" && -s $run/submission/model_summary.txt ]]
  [[ ! -L $run/overlay/tabular.py ]] # a link would lead nowhere in a container
}

@test "a script: where it starts, what it is told, what becomes of it" {
  cat >"$BATS_TEST_TMPDIR/mine.sh" <<'SHELL'
pwd >"$STATUS_DIR/started_in"
[[ $RESULTS_DIR == "$SUBMISSION_DIR" && -d $EXPERIMENT_DIR/models && $EXPERIMENT_NAME == classification_basic_* && $TIME_LIMIT_SECS == 120 ]]
cp "$DATA_DIR/sample_submission.csv" "$SUBMISSION_DIR/submission.csv"
SHELL
  workflow --agent experiment --script "$BATS_TEST_TMPDIR/mine.sh"
  expect_status 0
  run=$(run_of experiment)
  [[ $(<"$run/workspaces/results/started_in") == "$run/workspaces/workspace" ]]
  cmp "$BATS_TEST_TMPDIR/mine.sh" "$run/code/script.sh"
  cmp "$BATS_TEST_TMPDIR/mine.sh" "$(dirname "$run")/jobs/script.sh"

  echo 'echo "no idea" >&2; exit 3' >"$BATS_TEST_TMPDIR/bad.sh"
  rm -rf "$BATS_TEST_TMPDIR/runs"
  workflow --agent experiment --script "$BATS_TEST_TMPDIR/bad.sh"
  expect_status 4
  expect_in 'agent_failed' "$output"
  grep -q 'script.sh ended with code 3: no idea' "$(run_of experiment)/workspaces/results/error_status.json"
  [[ -z $(local_processes) ]]
}
