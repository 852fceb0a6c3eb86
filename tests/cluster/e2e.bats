# bats file_tags=site:any
# The whole way on a real Slurm, with a real Apptainer: from one command to a graded score, and everything that a person can ask for.

setup() {
  load helpers.bash
  cluster_setup
}

teardown() { cluster_teardown; }

results() { # results FOLDER…: writes $WORK/results.csv
  try .venv-core/bin/python helpers/export_results.py "$@" -o "$WORK/results.csv"
  expect_status 0
}

cell() { # cell ROW COLUMN: of results.csv; rows count from 0
  python3 -c 'import csv, sys; print(list(csv.DictReader(open(sys.argv[1])))[int(sys.argv[2])][sys.argv[3]])' "$WORK/results.csv" "$1" "$2"
}

# bats test_tags=site:both
@test "one command: AIDE in its container, to a graded score and a row of results" {
  start whole classification_basic replay --steps 2
  finish whole 120
  expect_status 0
  # nothing is left when the command returns
  queue_empty
  expect_nothing_left 3
  expect_in 'classification_basic / aide / replay (seed 0): score 0.' "$output"
  expect_in 'not a language model' "$output"
  expect_in 'files: '"$WORK/runs/" "$output"
  [[ $output != *'without a container'* ]]

  local record run
  record=$(group whole)/workflow.json
  run=$(run_of whole)
  expect_state whole scored
  [[ $(pick "$run/run_metadata.json" "d['isolated']") == True ]]
  [[ $(pick "$record" "d['cells'][0]['images']['agent']['sha256']") == "$(sha256sum <"$HAB_CLUSTER_STATE/shared/containers/aide.sif" | cut -d' ' -f1)" ]]
  [[ $(pick "$record" "d['cells'][0]['images']['grading']['sha256']") =~ ^[0-9a-f]{64}$ ]]
  [[ $(pick "$run/grading_report.json" "d['valid_submission'] and d['score'] == d['total_score'] > 0.5") == True ]]
  [[ $(pick "$run/logs/journal.json" "len(d['nodes'])") == 2 ]]

  results "$WORK/runs"
  [[ $(wc -l <"$WORK/results.csv") == 2 ]]
  [[ $(cell 0 state) == scored && $(cell 0 isolated) == true && $(cell 0 model) == replay ]]
  [[ $(cell 0 score) == "$(pick "$run/grading_report.json" "d['score']")" ]]
  [[ $(cell 0 steps) == 2 && $(cell 0 image_digest) =~ ^[0-9a-f]{64}$ ]]
  (($(cell 0 requests) >= 2))
}

both_waiting() { [[ $(find "$(group two)" -path '*/code/waiting' | wc -l) == 2 ]]; }

@test "two rollouts share one pair of servers" {
  start two classification_basic replay --agent caller --rollouts 2 --seed 7 --json
  await 20 group two >/dev/null
  local first
  await 60 both_waiting
  [[ $(queue | wc -l) == 4 ]]
  note_secrets
  for run in "$(group two)"/classification_basic_*; do as_owner touch "$run/code/go"; done
  finish two 60
  expect_status 0
  expect_nothing_left 3
  # the tokens of the servers are nowhere in the run's folder
  expect_unknown "$(group two)"
  first=$(python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["exit_code"], [(r["seed"], r["state"]) for r in d["results"]])' <<<"$output")
  expect_in "0 [(7, 'scored'), (8, 'scored')]" "$first"
}

@test "an agent without a model needs no model server" {
  start one classification_basic --agent baseline
  finish one 60
  expect_status 0
  expect_nothing_left 3
  expect_in '/ baseline (seed 0): score 0.' "$output"
  [[ $(pick "$(group one)/workflow.json" "'model_server' in d['jobs'] or len(d['jobs']['servers'])") == 1 ]]
  # and what it was scored by is graded again, and each value of its row derived anew
  try scripts_hpc/results.sh regrade "$(run_of one)"
  expect_status 0
  expect_in ': the same (score 0.' "$output"
  expect_state one scored
  expect_nothing_left 3
  try scripts_hpc/results.sh explain "$(run_of one)"
  expect_status 0
  expect_in 'graded here by the answers in' "$output"
}

@test "regression and time series, prepared on the way, in containers, to graded scores" {
  start regression regression_basic replay --steps 1
  start series time_series_forecasting --agent baseline
  finish regression 140
  expect_status 0
  expect_in 'regression_basic / aide / replay (seed 0): score ' "$output"
  expect_in 'r2, higher is better' "$output"
  [[ $output != *'without a container'* ]]
  finish series 60
  expect_status 0
  expect_in 'time_series_forecasting / baseline (seed 0): score 0.' "$output"
  expect_in 'mape, lower is better' "$output"
  expect_nothing_left 3
}

@test "a model with a GPU: its partition, its gres, its cost; submitted with --detach, watched with --attach" {
  try scripts_hpc/run_workflow.sh classification_basic replay --agent caller --set models.replay.gpus=1 --detach
  expect_status 0
  local run=$output job
  printf 'run: %s\n' "$run" >"$WORK/gpu.err"
  job=$(job_of gpu model_server)
  await 30 job_is "$job" RUNNING
  [[ $(queue --jobs="$job" --format='%P %N %b') == "$GPU $GPU_NODE "*gpu:1 ]]
  [[ $(queue --jobs="$(job_of gpu grading_server)" --format=%P) == "$CPU" ]]
  await_working gpu
  start attached --attach "$run"
  go gpu
  finish attached 60
  expect_status 0
  expect_in 'caller / replay (seed 0): score 0.' "$output"
  expect_nothing_left 3
  results "$run"
  python3 -c 'import sys; assert 0 < float(sys.argv[1]) < 0.1, sys.argv' "$(cell 0 gpu_hours)"
}

agents_started() { # agents_started NAME COUNT: lets them end as soon as they work
  local run folder
  folder=$(group "$1") || return
  for run in "$folder"/classification_basic_*/; do
    [[ -d $run ]] || return
    as_owner mkdir -p "$run/code"
    as_owner touch "$run/code/go"
  done
  [[ $(find "$folder" -path '*/code/go' | wc -l) == "$2" ]]
}

# Compares what the export adds up to with what the accounting says of all jobs of this test, in seconds.
costs_agree() {
  results "$WORK/runs" || return
  sacct -nXP --user="$HAB_CLUSTER_USER" --starttime="$TEST_BEGAN" --format=submit,elapsedraw,cputimeraw,alloctres,state |
    awk -F'|' -v OFS='|' -v began="$TEST_BEGAN" '$1 >= began { print $2, $3, $4, $5 }' >"$WORK/sacct" # --starttime also gives what still ran then
  python3 - "$WORK" <<'PYTHON'
import csv, re, sys
rows = list(csv.DictReader(open(f"{sys.argv[1]}/results.csv")))
jobs = [line.rstrip("\n").split("|") for line in open(f"{sys.argv[1]}/sacct")]
assert rows and {row["cost_basis"] for row in rows} == {"accounting"}, rows
assert not any(state in ("RUNNING", "PENDING") for *_, state in jobs), jobs
told = [3600 * sum(float(row[column]) for row in rows) for column in ("gpu_hours", "cpu_hours")]
gpus = sum(int(seconds) * int((re.search(r"gres/gpu=(\d+)", tres) or [0, 0])[1]) for seconds, _, tres, _ in jobs)
print(f"told {told}, allocated {gpus, sum(int(cpu) for _, cpu, *_ in jobs)}, {len(rows)} rows, {len(jobs)} jobs")
assert gpus and abs(told[0] - gpus) < 0.1 and abs(told[1] - sum(int(cpu) for _, cpu, *_ in jobs)) < 0.1, jobs
PYTHON
}

@test "what it cost: a server used by two workflows, one killed with -9: all adds up to what the accounting says" {
  TEST_BEGAN=$(date +%Y-%m-%dT%H:%M:%S)
  start first classification_basic replay --agent caller --set models.replay.gpus=1 --cleanup off --seed 1
  await_working first
  go first
  finish first 60
  expect_status 0
  local model
  model=$(job_of first model_server)
  start second classification_basic replay --agent caller --set models.replay.gpus=1 --reuse-model "$model" --rollouts 4 --seed 2
  await 30 agents_started second 4
  finish second 100
  expect_status 0
  start third classification_basic replay --agent caller --set models.replay.gpus=1 --seed 9
  await_working third
  as_user scancel --batch --signal=KILL "$(job_of third model_server)" # the script alone, whatever its process number
  finish third 100
  expect_status 3
  as_user scancel "$model" "$(job_of first grading_server)"
  await 30 queue_empty
  await 30 costs_agree
  cat "$WORK"/results.csv
}

@test "rendered scripts alone with sbatch; their servers, used by a workflow with --reuse-*" {
  local render=(scripts_hpc/render.sh) grading model agent
  try "${render[@]}" --set jobs.agent.time_limit=15
  expect_status 0
  local folder=$CHECKOUT/rendered/$SITE
  grading=$(as_user sbatch --parsable "$folder/slurm_grading_server.sh" classification_basic)
  model=$(as_user sbatch --parsable "$folder/slurm_vllm_replay.sh")
  agent=$(as_user sbatch --parsable "$folder/slurm_agent_baseline.sh" classification_basic "auto:$grading")
  await 30 test -e "$ADDRESSES/vllm_replay_$model"
  await 30 test -e "$ADDRESSES/grading_server_$grading"
  [[ $(stat -c '%a %U' "$ADDRESSES/vllm_replay_$model") == "600 $HAB_CLUSTER_USER" ]]
  [[ $(head -n 1 "$ADDRESSES/vllm_replay_$model") =~ ^https://$HOST:[0-9]+$ ]]
  start reusing classification_basic replay --agent caller --steps 1 --reuse-grading "$grading" --reuse-model "$model" --cleanup off
  await_working reusing
  [[ $(queue --format=%j | sort | uniq -c | tr -s ' ' | tr '\n' ' ') == *'1 grading_server '*'1 vllm_replay '* ]]
  go reusing
  finish reusing 60
  expect_status 0
  # neither was told to go
  await 40 job_is "$agent" COMPLETED
  job_is "$grading" RUNNING
  job_is "$model" RUNNING
  local run
  run=$(find "$WORK/runs" -maxdepth 2 -name "classification_basic_$agent")
  [[ $(pick "$run/run_metadata.json" "d['state']") == scored ]]
  # AIDE by hand, with the same servers
  agent=$(as_user sbatch --parsable "$folder/slurm_agent_aide.sh" classification_basic "auto:$grading" "auto:$model")
  await 60 job_is "$agent" COMPLETED
  run=$(find "$WORK/runs" -maxdepth 2 -name "classification_basic_$agent")
  [[ $(pick "$run/run_metadata.json" "d['state']") == scored ]]
  as_user scancel "$grading" "$model"
  expect_nothing_left 15
}
