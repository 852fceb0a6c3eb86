# Tasks that are repositories, from their preparation to their score, on one machine: as a workflow, and in a benchmark beside competitions.
bats_require_minimum_version 1.5.0

setup_file() {
  export BATS_TEST_TIMEOUT=300 # six runs, one after the other where the machine is busy
  export DATA=$BATS_FILE_TMPDIR/data COPY=$BATS_FILE_TMPDIR/checkout
  mkdir "$COPY"
  (cd "$BATS_TEST_DIRNAME/.." && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create) | tar -x -C "$COPY"
  cat >>"$COPY/site-config/agents.yaml" <<YAML
solver: {command: 'git -C "\$WORKSPACES_DIR/repo" apply $COPY/tests/repositories/solutions/\$COMPETITION_ID.patch; echo "what I did" >"\$WORKSPACES_DIR/repo/notes.md"', image: aide, needs_model: false}
late: {command: 'git -C "\$WORKSPACES_DIR/repo" apply $COPY/tests/repositories/solutions/\$COMPETITION_ID.patch; sleep 60; echo >"\$WORKSPACES_DIR/repo/late"', image: aide, needs_model: false}
idle: {command: 'true', image: aide, needs_model: false}
vandal: {command: 'rm -rf "\$WORKSPACES_DIR/repo"; echo mine >"\$WORKSPACES_DIR/repo"', image: aide, needs_model: false}
told: {command: 'cat "\$DATA_DIR/description.md" >"\$WORKSPACES_DIR/repo/told"; env >"\$WORKSPACES_DIR/repo/variables"; ls -a "\$DATA_DIR" >"\$WORKSPACES_DIR/repo/seen"', image: aide, needs_model: false}
YAML
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$BATS_TEST_DIRNAME/..}
  "$COPY/scripts_hpc/prepare_tasks.sh" repository_library repository_script repository_service classification_basic --site local --data-dir "$DATA" >/dev/null
}

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT} HPC_SITE=$SITE_FILE
  cp -r "$DATA" "$BATS_TEST_TMPDIR/"
  cd "$BATS_TEST_TMPDIR"
}

teardown() {
  end_local_jobs
}

workflow() { try "$COPY/scripts_hpc/run_workflow.sh" "$@"; }
benchmark() { try "$COPY/scripts_hpc/run_benchmark.sh" "$@"; }
run_of() { printf '%s\n' "$BATS_TEST_TMPDIR"/runs/*/"$1"_*; }

@test "a repository is laid out, its diff taken, and its test scripts run: score, files and reasons; no grading server is started" {
  workflow repository_library --agent solver
  expect_status 0
  expect_in 'repository_library / solver (seed 0): score 1.0 (rubrics, higher is better)' "$output"
  local run
  run=$(run_of repository_library)
  [[ $(<"$run/artifacts/notes.md") == 'what I did' ]]
  grep -q '^diff --git a/intervals/core.py' "$run/artifacts/diff.patch"
  expect_in '"total_score": 1.0' "$(<"$run/evaluation_results.json")"
  expect_in 'merge.sh: passed' "$(<"$run/logs/eval.log")"
  [[ -s $run/scoring_results.md && ! -e $(dirname "$run")/jobs/grading_server.sh ]]
  refuse grep -q grading_server= "$(dirname "$run")/jobs/submitted"
  try "$COPY/scripts_hpc/results.sh" export runs
  expect_in 'repository_library,,solver,0,scored,1.0,rubrics,false' "$output"
  try "$COPY/scripts_hpc/results.sh" explain "$run"
  expect_status 0
  expect_in 'evaluation_results.json: the scripts that passed on' "$output"
  refuse grep -q differs <<<"$output"
  # another score than the scripts give is found out
  sed -i 's/"success": true/"success": false/' "$run/evaluation_results.json"
  try "$COPY/scripts_hpc/results.sh" explain "$run"
  expect_status 3
  try "$COPY/scripts_hpc/results.sh" regrade "$run"
  expect_status 2
  expect_in "its task is a repository, whose tests run in the run's own job alone" "$error"
}

@test "an agent that changes nothing, one that destroys its copy, and one that works on after its time" {
  workflow repository_script --agent idle
  expect_status 4
  expect_in 'no_submission: the agent ended without changing anything in the repository' "$output"
  workflow repository_script --agent vandal
  expect_status 4
  expect_in 'invalid_submission: ' "$output"
  rm -rf runs
  workflow repository_script --agent late --time-limit 3
  expect_status 0
  local run
  run=$(run_of repository_script)
  expect_in '"time_limit_reached": true' "$(<"$run/run_metadata.json")"
  expect_in '"state": "scored"' "$(<"$run/run_metadata.json")"
  refuse grep -q late "$run/artifacts/diff.patch"
}

@test "a benchmark of competitions and repositories: one round, one summary; overrides of an entry, or none" {
  cat >overrides.json <<'JSON'
{"lm_instructions": "Do something else.", "environment_variables": {"COLOUR": "blue"}, "inject_files": [{"path": "EXTRA.md", "content": "x"}]}
JSON
  cat >mixed.toml <<'TOML'
parallel = 2
[[tasks]]
task = "classification_basic"
agent = "baseline"
[[tasks]]
prepared_dir = "data/repository_script"
agents = ["solver", "told"]
[[tasks]]
prepared_dir = "data/repository_service/prepared"
agent = "solver"
[[tasks]]
task = "repository_script"
agent = "told"
overrides = "overrides.json"
[[tasks]]
task = "repository_script"
agent = "told"
apply_overrides = false
TOML
  benchmark run mixed.toml
  expect_status 0
  expect_in '6 asked for: 6 graded' "$output"
  local round other
  round=$(printf '%s\n' data/rollouts/mixed/*)
  expect_in '| repository_script | told | overrides=none@' "$(<"$round/summary.md")"
  [[ $(grep -c '| repository_script | told | COLOUR=blue, overrides=overrides.json@' "$round/summary.md") -ge 1 ]]
  other=$(grep -l '+COLOUR=blue' data/runs/*/artifacts/diff.patch)
  grep -q '^+Do something else.' "$other"
  [[ $(grep -l '^+Do something else.' data/runs/*/artifacts/diff.patch | wc -l) == 1 ]]
  # nothing of the private half, and no way to it
  grep -A9 'b/seen' "$other" | grep -q '^+base.git'
  refuse grep -rqE 'rubrics|test_scripts|evaluation.json' "$round"/repository_script_*/artifacts/diff.patch
  for run in "$round"/repository_script_*; do
    try "$COPY/scripts_hpc/results.sh" explain "$run"
    expect_status 0
  done
  # as the specification's troubleshooting has it
  for run in data/runs/*; do [[ $run == *-0 || -s $run/logs/eval.log ]]; done
  try "$COPY/scripts_hpc/run_benchmark.sh" summarize mixed
  expect_status 0
}

@test "the specification's mixed workloads, with an agent that needs no model; without one it is mini-swe" {
  local aliases=(--model gpt-4=replay --model claude-3-sonnet=replay --model gpt-3.5-turbo=replay)
  benchmark run "$COPY/templates/benchmarks/mixed_workloads.toml" "${aliases[@]}" --dry-run --set container.runtime=apptainer --set paths.containers=nowhere
  expect_status 2
  expect_in "mini-swe.sif" "$error"
  sed '/^model =/a agent = "solver"' "$COPY/templates/benchmarks/mixed_workloads.toml" >mixed_workloads.toml
  benchmark run mixed_workloads.toml "${aliases[@]}"
  expect_status 0
  expect_in "name=mixed_workloads tasks=3 parallel=4" "$error"
  expect_in '8 asked for: 8 graded' "$output"
  # document 001, "Troubleshooting"
  for run in data/runs/*; do [[ -s $run/logs/eval.log ]]; done
}

@test "overrides that are wrong are told before anything starts, each with its key; those of a competition too" {
  printf '{"lm_instruction": "x", "inject_files": [{"path": "../../out", "content": ""}]}' >bad.json
  cat >bad.toml <<'TOML'
[[tasks]]
task = "repository_script"
agent = "solver"
overrides = "bad.json"
[[tasks]]
task = "classification_basic"
agent = "baseline"
overrides = "bad.json"
TOML
  benchmark run bad.toml
  expect_status 2
  expect_in 'lm_instruction' "$error"
  expect_in '../../out' "$error"
  expect_in '[[tasks]] 2: overrides are for tasks that are repositories, and this one is a competition: leave them out.' "$error"
  [[ ! -e data/rollouts && ! -e data/repository_script/instances ]]
}
