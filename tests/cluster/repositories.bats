# Tasks that are repositories, in containers on a real Slurm: what the agent sees, its diff, and test scripts without network.

setup() {
  load helpers.bash
  cluster_setup
  as_owner cp -R "$STATE/shared/data" "$WORK/data"
  USER_VARIABLES+=(HPC_PATHS__ROLLOUTS="$WORK/rollouts" HPC_PATHS__DATA="$WORK/data")
}

teardown() { cluster_teardown; }

@test "three repositories and a competition are one round: laid out, changed, and tested in containers; nothing is left" {
  # on the login node, as their images have neither mle-bench nor a network
  try scripts_hpc/prepare_tasks.sh repository_library repository_script repository_service --set scheduler.kind=local --set container.runtime=none
  expect_status 0
  as_owner tee "$WORK/mixed.toml" >/dev/null <<'TOML'
parallel = 4
[[tasks]]
tasks = ["repository_library", "repository_script", "repository_service"]
agents = ["solver", "prober"]
[[tasks]]
task = "classification_basic"
agent = "baseline"
TOML
  try scripts_hpc/run_benchmark.sh run "$WORK/mixed.toml"
  expect_status 0
  queue_empty
  expect_nothing_left 3
  expect_in '7 asked for: 7 graded' "$output"
  local round run
  round=$(compgen -G "$WORK/rollouts/mixed/*")
  [[ $(pick "$round/manifest.json" "[r['score'] for r in d['results'] if r['agent'] == 'solver']") == '[1.0, 1.0, 1.0]' ]]
  for run in "$round"/task_results/*-[0-5]; do
    [[ $(pick "$run/run_metadata.json" "d['isolated']") == True ]]
    [[ $(pick "$run/evaluation_results.json" "d['network']") == blocked ]]
    [[ -s $run/logs/eval.log && -s $run/artifacts/diff.patch && -s $run/scoring_results.md ]]
  done
  # who looked around found the public half alone, and no test of its task
  run=$(grep -l '"agent": "prober"' "$round"/repository_script_*/run_metadata.json)
  grep -q '^+/home/data/description.md' "${run%/*}/artifacts/diff.patch"
  refuse grep -qE '^\+.*(evaluation\.json|/private/|/instances/|/tests/)' "${run%/*}/artifacts/diff.patch"
}
