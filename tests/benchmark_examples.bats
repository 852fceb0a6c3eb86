# templates/benchmarks/: the specification's example configurations run as they stand, but for how often; its mixed workloads are
# repositories: repository_workflow.bats.
bats_require_minimum_version 1.5.0

setup_file() {
  export DATA=$BATS_FILE_TMPDIR/data
  for task in classification_basic regression_basic; do
    PYTHONPATH=$BATS_TEST_DIRNAME/.. "${HAB_CORE_PYTHON:-python3}" -m helpers.tasks.cli generate-data "$task" "$DATA" --seed 1 >/dev/null
  done
}

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT} HPC_SITE=$SITE_FILE HPC_MODELS__REPLAY='{steps: 1}'
  cp -r "$DATA" "$BATS_TEST_TMPDIR/"
  EXAMPLES=$ROOT/templates/benchmarks
  ALIASES=(--model gpt-4=replay --model claude-3-sonnet=replay --model gpt-3.5-turbo=replay --model gemini-pro=replay)
  cd "$BATS_TEST_TMPDIR"
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR"/data/rollouts/*/*
}

benchmark() { try "$ROOT/scripts_hpc/run_benchmark.sh" "$@"; }

# The example as it is, checked to the end; then run with one rollout an entry.
runs() { # runs NAME TASKS ROLLOUTS ENTRIES
  benchmark run "$EXAMPLES/$1.toml" "${ALIASES[@]}" --dry-run
  expect_status 0
  expect_in "benchmark $1, $2 task(s), 1 pair(s) of agent and model" "$output"
  expect_in "$3 rollout(s)" "$output"
  sed 's/^rollouts = .*/rollouts = 1/' "$EXAMPLES/$1.toml" >"$1.toml"
  benchmark run "$1.toml" "${ALIASES[@]}"
  expect_status 0
  expect_in "name=$1 tasks=$4 parallel=" "$error"
  expect_in "$4 asked for: $4 graded" "$output"
}

@test "model comparison" {
  runs model_comparison 1 15 3
  # three names of one model here: their seeds go on
  [[ $(sort -u <(grep -o '"seed": [0-9]*' data/rollouts/*/*/manifest.json) | wc -l) == 3 ]]
  # without the names, each model is named with those that there are
  benchmark run "$EXAMPLES/model_comparison.toml" --dry-run
  expect_status 2
  for model in gpt-4 claude-3-sonnet gemini-pro; do expect_in "model '$model'" "$error"; done
}

@test "parameter sweep: each value of TIMEOUT_SEC is a time limit" {
  runs parameter_sweep 1 6 2
  [[ $(cat data/rollouts/*/*/regression_basic_*/run_metadata.json | grep -oE '"time_limit_seconds": [0-9]+' | sort | tr -d '\n') == \
    '"time_limit_seconds": 1800"time_limit_seconds": 3600' ]]
}
