# bats file_tags=slow
# What the specification shows of benchmarks, on a real Slurm: its example configurations as they stand, but for where the tasks lie; its
# results graded anew; budgets; a nightly run. And mini-swe-agent on repositories. `make test-all` runs them.

setup_file() { export BATS_TEST_TIMEOUT=900; }

setup() {
  load helpers.bash
  cluster_setup
  as_owner cp -R "$STATE/shared/data" "$WORK/data"
  USER_VARIABLES+=(HPC_PATHS__ROLLOUTS="$WORK/rollouts" HPC_PATHS__DATA="$WORK/data")
}

teardown() { cluster_teardown; }

prepare() { # prepare TASK…: on the login node, as the images have no network
  try scripts_hpc/prepare_tasks.sh "$@" --set scheduler.kind=local --set container.runtime=none
  expect_status 0
}

quickly() { USER_VARIABLES+=("HPC_MODELS__REPLAY={steps: 1}"); }

benchmark() { # benchmark NAME STATUS ARGUMENT…
  start_command "$1" scripts_hpc/run_benchmark.sh "${@:3}"
  finish "$1" 800
  expect_status "$2"
}

example() { # example NAME: a copy of it, where its tasks lie here
  as_owner tee "$WORK/$1.toml" < <(sed "s|\"data/|\"$WORK/data/|" "$CHECKOUT/templates/benchmarks/$1.toml") >/dev/null
}

round() { compgen -G "$WORK/rollouts/$1/*" | sort | tail -n 1; }

@test "model comparison and parameter sweep, and all of a round graded anew" {
  quickly
  local aliases=(--model gpt-4=replay --model claude-3-sonnet=replay --model gemini-pro=replay)
  prepare regression_basic
  example model_comparison
  benchmark compared 0 run "$WORK/model_comparison.toml" "${aliases[@]}"
  expect_in '15 asked for: 15 graded' "$output"
  expect_in 'name=model_comparison tasks=3 parallel=2' "$error"
  benchmark again 0 eval model_comparison
  expect_in '15 of 15 graded anew, 15 with the same score' "$output"
  [[ $(pick "$(round model_comparison)/eval_manifest.json" "{one['status'] for one in d['results']}") == "{'ok'}" ]]
  example parameter_sweep
  benchmark swept 0 run "$WORK/parameter_sweep.toml" "${aliases[@]}"
  expect_in '6 asked for: 6 graded' "$output"
  [[ $(cat "$(round parameter_sweep)"/regression_basic_*/run_metadata.json | grep -oE '"time_limit_seconds": [0-9]+' | sort | uniq -c | tr -s ' \n' ' ') == \
    ' 3 "time_limit_seconds": 1800 3 "time_limit_seconds": 3600 ' ]]
  try scripts_hpc/run_benchmark.sh summarize parameter_sweep
  expect_status 0
  expect_nothing_left 5
}

@test "a budget of tokens is used up: nothing more begins; resume goes on with a larger one" {
  quickly
  as_owner tee "$WORK/bounded.toml" >/dev/null <<'TOML'
[budget]
tokens = 10
[[tasks]]
task = "classification_basic"
model = "replay"
rollouts = 4
TOML
  benchmark bounded 130 run "$WORK/bounded.toml"
  expect_in 'stopped: the budget of 10 tokens is used up (' "$output"
  expect_in '4 asked for: 1 graded, 0 failed, 3 that count nowhere. By state: 3 cancelled, 1 scored.' "$output"
  expect_nothing_left 5
  benchmark more 0 resume bounded --budget tokens=1000000
  expect_in '4 asked for: 4 graded' "$output"
  expect_nothing_left 5
}

@test "two nights, of which the second is compared with the first" {
  quickly
  as_owner cp "$CHECKOUT/templates/benchmarks/quick.toml" "$WORK/nightly.toml"
  prepare regression_basic
  start_command first templates/benchmarks/nightly.sh "$WORK/nightly.toml"
  finish first 400
  expect_status 0
  expect_in 'The first round of nightly: there is none to compare it with.' "$output"
  start_command second templates/benchmarks/nightly.sh "$WORK/nightly.toml"
  finish second 400
  expect_status 0
  expect_in '8 asked for: 8 graded' "$output"
  [[ $(compgen -G "$WORK/rollouts/nightly/*" | wc -l) == 2 ]]
  expect_nothing_left 5
}

@test "mixed workloads: three repositories, and mini-swe-agent with the replay model in its own container" {
  # its image has 400 MB of packages
  as_user timeout 600 containers/build_all_containers.sh --only mini-swe >"$WORK/build.log" 2>&1 || { tail -n 20 "$WORK/build.log" && return 1; }
  prepare repository_library repository_script repository_service
  example mixed_workloads
  benchmark mixed 0 run "$WORK/mixed_workloads.toml" --model gpt-4=replay --model claude-3-sonnet=replay --model gpt-3.5-turbo=replay
  expect_in '8 asked for: 8 graded' "$output"
  local run
  for run in "$(round mixed_workloads)"/repository_*; do
    [[ $(pick "$run/run_metadata.json" "(d['isolated'], d['agent'], d['state'])") == "(True, 'mini-swe', 'scored')" ]]
    [[ $(pick "$run/evaluation_results.json" "(d['total_score'], d['network'])") == "(1.0, 'blocked')" ]]
    [[ -s $run/logs/mini-swe.traj.json && -s $run/logs/trajectory.json && -s $run/logs/eval.log ]]
    grep -q 'not a language model' "$run/artifacts/notes.md"
  done
  expect_nothing_left 5
}
