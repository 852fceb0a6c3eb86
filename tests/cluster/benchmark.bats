# bats file_tags=site:any
# Benchmarks on a real Slurm: rollouts as elements of arrays, which share what runs at once.

setup() {
  load helpers.bash
  cluster_setup
  USER_VARIABLES+=(HPC_PATHS__ROLLOUTS="$WORK/rollouts")
}

teardown() { cluster_teardown; }

round() { compgen -G "$WORK/rollouts/many/*"; }
agents_running() { as_user squeue --me --noheader --array --states=RUNNING,COMPLETING --format=%j | grep -c '^agent_' || true; }

@test "a round of two kinds of agents, cut into arrays that follow one another: all graded, never more at once than asked" {
  as_owner tee "$WORK/many.toml" >/dev/null <<'TOML'
parallel = 2
replicas = 2

[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 5

[[tasks]]
task = "classification_basic"
model = "gpt-4"
steps = 1
rollouts = 2
TOML
  start_command many scripts_hpc/run_benchmark.sh run "$WORK/many.toml" --model gpt-4=replay --set limits.max_array_size=3
  local running most=0
  until process_gone "${STARTED[many]}"; do
    running=$(agents_running)
    ((running <= most)) || most=$running
    sleep 0.5
  done
  finish many
  expect_status 0
  queue_empty
  expect_nothing_left 3
  ((most >= 1 && most <= 2))
  expect_in '7 asked for: 7 graded' "$output"
  expect_in '✓ All 7 tasks completed!' "$error"
  local round stamp
  round=$(round) stamp=${round##*/}
  # 5 are cut to 3 and 2, each as an array; each of the model's two servers has an array of its own
  [[ $(grep -c '^agent=[0-9]*_\[0-' "$round/jobs/submitted") == 4 && $(grep -c '^model_server=' "$round/jobs/submitted") == 2 ]]
  local number
  for number in 5 6; do pick "$round/task_results/$stamp-$number/run_metadata.json" "d['model_job']"; done | sort -u >"$WORK/servers"
  [[ $(wc -l <"$WORK/servers") == 2 ]]
  [[ $(pick "$round/manifest.json" "sorted({r['state'] for r in d['results']})") == "['scored']" ]]
  [[ $(pick "$round/manifest.json" "[r['attempts'] for r in d['results']]") == '[1, 1, 1, 1, 1, 1, 1]' ]]
  [[ $(pick "$round/task_results/$stamp-6/evaluation_results.json" "d['total_score'] > 0.5 and d['run_id'][-2:]") == -6 ]]
  [[ $(pick "$round/task_results/$stamp-6/run_metadata.json" "d['isolated']") == True ]]
  try scripts_hpc/jobs.sh status "$round"
  expect_status 0
  expect_in '5 of 5 rollouts scored' "$output"
  try scripts_hpc/results.sh export "$round" --json
  expect_status 0
  [[ $(grep -c '"state": "scored"' <<<"$output") == 7 ]]
}

@test "an element whose rollout another job has claimed does nothing, and the round is what it was" {
  as_owner tee "$WORK/many.toml" >/dev/null <<'TOML'
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 2
TOML
  start_command many scripts_hpc/run_benchmark.sh run "$WORK/many.toml"
  await 40 round >/dev/null
  local round
  round=$(round)
  submitted() { grep -q '^agent=' "$round/jobs/submitted"; }
  await 40 submitted
  # the same array once more, as if its answer had been lost
  local grading
  grading=$(sed -n 's/^grading_server=\([0-9]*\) .*/\1/p' "$round/jobs/submitted")
  try sbatch --parsable --array=0-1 "$round/jobs/agent.sh" 0 0 2 "auto:$grading" external
  expect_status 0
  local again=$output
  finish many
  expect_status 0
  await 60 queue_empty
  [[ $(compgen -G "$round/classification_basic_*" | wc -l) == 2 && $(ls "$round/claims" | wc -l) == 2 ]]
  [[ -n $again && $(grep -l 'nothing is left to be done here' "$round"/logs/*.out | wc -l) == 2 ]]
  [[ $(pick "$round/manifest.json" "[(r['state'], r['attempts']) for r in d['results']]") == "[('scored', 1), ('scored', 1)]" ]]
}

@test "a round of more rollouts than the queue takes: nobody watches, its own jobs submit the rest, and the queue never holds more" {
  as_owner tee "$WORK/many.toml" >/dev/null <<'TOML'
parallel = 3
[[tasks]]
task = "classification_basic"
agent = "baseline"
rollouts = 9
TOML
  try scripts_hpc/run_benchmark.sh run "$WORK/many.toml" --set limits.max_submit=8 --detach
  expect_status 0
  local round=$output queued most=0
  expect_in 'note: 9 rollouts are more than limits.max_submit (8) lets into the queue: 1 array is submitted now' "$error"
  SECONDS=0
  until queue_empty && ((SECONDS > 2)); do
    queued=$(queue --array | wc -l)
    ((queued <= most)) || most=$queued
    ((SECONDS < 180))
    sleep 0.3
  done
  ((most >= 5 && most <= 8))
  [[ $(grep -c '^agent=' "$round/jobs/submitted") == 3 && $(grep -c '^grading_server=' "$round/jobs/submitted") == 1 ]]
  [[ $(grep -l 'submitted what follows array' "$round"/logs/agent*.out | wc -l) == 2 ]]
  expect_nothing_left 10
  try scripts_hpc/run_benchmark.sh attach "$round"
  expect_status 0
  expect_in '9 asked for: 9 graded' "$output"
  [[ $(pick "$round/manifest.json" "{(r['state'], r['attempts'], r['status']) for r in d['results']}") == "{('scored', 1, 'launched')}" ]]
}
