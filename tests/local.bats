# The whole path on this machine without Slurm: real servers, real agents, real grading; and what is left when things go wrong.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  export HAB_VENV_DIR=$ROOT
  export HPC_MODELS__REPLAY='{steps: 1}'
  "$ROOT/.venv-core/bin/python" -m helpers.tasks.cli generate-data classification_basic "$BATS_TEST_TMPDIR/data" --seed 1 >/dev/null
}

teardown() {
  end_local_jobs
  check_records "$BATS_TEST_TMPDIR/runs"
}

workflow() { try "$ROOT/scripts_hpc/run_workflow.sh" "$@" --site "$SITE_FILE"; }
nothing_left() { [[ -z $(local_processes) ]] && [[ -z $(find "$BATS_TEST_TMPDIR/addresses" -maxdepth 1 -type f) ]]; }
run_of() { ls -d "$BATS_TEST_TMPDIR"/runs/*/classification_basic_*; }
state_is() {
  grep -q "\"state\": \"$1\"" "$(run_of)/run_metadata.json" || {
    cat "$(run_of)/run_metadata.json"
    return 1
  }
}

in_background() { # in_background ARGS…: a workflow in a process group of its own; sets PID
  set -m
  "$ROOT/scripts_hpc/run_workflow.sh" "$@" --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  PID=$!
  set +m
}

@test "without arguments, where there is no Slurm, and no curl: AIDE, replay, classification_basic, a graded score" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  for tool in /usr/bin/* /bin/*; do
    # a plain Debian has no curl either
    case ${tool##*/} in sbatch | squeue | scancel | curl) ;; *) ln -sf "$tool" "$BATS_TEST_TMPDIR/bin/" ;; esac
  done
  export HPC_PATHS__DATA=$BATS_TEST_TMPDIR/data HPC_PATHS__RUNS=$BATS_TEST_TMPDIR/runs HPC_PATHS__ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses
  cd "$BATS_TEST_TMPDIR"
  PATH=$BATS_TEST_TMPDIR/bin try "$ROOT/scripts_hpc/run_workflow.sh"
  expect_status 0
  expect_in "classification_basic / aide / replay (seed 0): score 0." "$output"
  expect_in "is not a language model" "$output"
  expect_in "ran without a container" "$output"
  [[ -s $(run_of)/logs/journal.json && -s $(run_of)/submission/submission.csv ]]
  # what the agent did, in one format
  grep -q '"schema_version": "ATIF-v1.7".*replay is not a language model' "$(run_of)/logs/trajectory.json"
  grep -q "\"session_id\": \"$(basename "$(run_of)")\"" "$(run_of)/logs/trajectory.json"
  grep -q '"total_score"' "$(run_of)/grading_report.json"
  # how loaded its model was
  grep -qE 'Z,[01],0,[0-9]+,[0-9]+,$' "$BATS_TEST_TMPDIR"/runs/*/services/vllm_replay_*.load.csv
  grep -q "\"submission_path\": *\"$(run_of)/submission/submission.csv\"" "$(run_of)/grading_report.json"
  nothing_left
}

@test "an endpoint that refuses AIDE after it has let its job in: lost, with the endpoint's words" {
  local reason="the agent had no answer of a model, and its job has none either: model 'm' at http"
  python3 "$ROOT/tests/fakes/model_server.py" "$BATS_TEST_TMPDIR/asked" >"$BATS_TEST_TMPDIR/port" 3>&- &
  wait_for 10 test -s "$BATS_TEST_TMPDIR/port"
  # asked before anything is submitted, by the job, by the agent, and by the job
  MODEL_BASE_URL=http://127.0.0.1:$(<"$BATS_TEST_TMPDIR/port")/answers,answers,quota/v1 MODEL_NAME=m MODEL_API_KEY=sk-very-secret \
    workflow classification_basic endpoint
  kill $!
  expect_status 3
  expect_in "lost: $reason" "$output"
  expect_in "refuses: HTTP 429: You exceeded your current quota (its quota is used up)" "$output"
  state_is lost
  expect_in '"cut_short": "code model' "$(<"$(run_of)/run_metadata.json")"
  [[ $(wc -l <"$BATS_TEST_TMPDIR/asked") == 4 ]]
  refuse grep -r sk-very-secret "$BATS_TEST_TMPDIR/runs"
  nothing_left
}

@test "rollouts share their servers, --json tells all, tokens are nowhere" {
  workflow classification_basic --agent baseline --rollouts 2 --json
  expect_status 0
  [[ $(grep -c '"state": "scored"' <<<"$output") == 2 ]]
  nothing_left
  # the document's commands, as written there
  cd "$BATS_TEST_TMPDIR"
  command -v jq >/dev/null || jq() { python3 -c 'import json, sys; print(json.load(sys.stdin)["total_score"])'; }
  [[ $(cat runs/*/grading_report.json) == *'"total_runs": 2,'*'"total_valid_submissions": 2,'* ]]
  for dir in runs/*/; do
    echo "$(basename "$dir"),$(cat "$dir/grading_report.json" | jq '.total_score')"
  done > results.csv
  [[ $(cat results.csv) =~ ^[^,]*_run-group_baseline,0\.[0-9]+$ ]]
  refuse grep -rE 'token=[0-9a-f]{20}' "$BATS_TEST_TMPDIR/runs"
}

@test "a run ends no server that it was lent; jobs.sh stop ends those of the run that started them" {
  local lent
  workflow classification_basic --agent baseline --cleanup off
  expect_status 0
  lent=$(sed -n 's/^grading_server=\([0-9]*\) .*/\1/p' "$BATS_TEST_TMPDIR"/runs/*/jobs/submitted)
  workflow classification_basic --agent baseline --reuse-grading "$lent" --seed 2
  expect_status 0
  [[ $(<"$BATS_TEST_TMPDIR/addresses/local_jobs/$lent/state") == RUNNING && -s $BATS_TEST_TMPDIR/addresses/grading_server_$lent ]]
  try "$ROOT/scripts_hpc/jobs.sh" stop "$lent" --site "$SITE_FILE"
  expect_status 0
  expect_in "stopped: grading server (job $lent)" "$output"
  nothing_left
}

@test "a library to preload that isn't there, and OpenSSL settings that no program here can use" {
  printf '%s\n' 'openssl_conf = init' '[init]' 'providers = list' '[list]' 'fips = one' '[one]' 'activate = 1' >"$BATS_TEST_TMPDIR/openssl.cnf"
  LD_PRELOAD=/soft/xalt/libxalt_init.so OPENSSL_CONF=$BATS_TEST_TMPDIR/openssl.cnf workflow classification_basic --agent baseline
  expect_status 0
  expect_in 'score 0.' "$output"
  expect_in "LD_PRELOAD is left out: ERROR: ld.so: object '/soft/xalt/libxalt_init.so'" "$error"
  expect_in "OPENSSL_CONF is left out: with $BATS_TEST_TMPDIR/openssl.cnf openssl can't even draw random numbers" "$error"
}

@test "folders with blanks, quotes, '%', '&' and '|' in their names" {
  local odd="$BATS_TEST_TMPDIR/it's 50%j & \"more\" | less#"
  sed -i "s#$BATS_TEST_TMPDIR/\(runs\|addresses\|data\)\$#\"&\"#" "$SITE_FILE"
  mkdir "$odd"
  mv "$BATS_TEST_TMPDIR/data" "$odd/"
  export HPC_PATHS__RUNS="'${odd//\'/\'\'}/runs'" HPC_PATHS__ADDRESS_DIR="'${odd//\'/\'\'}/addresses'" HPC_PATHS__DATA="'${odd//\'/\'\'}/data'"
  workflow classification_basic --agent baseline
  expect_status 0
  expect_in 'score 0.' "$output"
  [[ -s $(echo "$odd"/runs/*/logs/agent_baseline-*.out) ]]
  python3 -c 'import glob, json, sys; [one] = glob.glob(glob.escape(sys.argv[1]) + "/runs/*/classification*/grading_report.json"); assert json.load(open(one))["submission_path"].startswith(sys.argv[1])' "$odd"
}

@test "a result names its data: the same command on other data says so, and neither result takes the other's place" {
  workflow classification_basic --agent baseline --seed 3
  expect_status 0
  [[ $error != *'are not those of its earlier results'* ]]
  "$ROOT/.venv-core/bin/python" -m helpers.tasks.cli generate-data classification_basic "$BATS_TEST_TMPDIR/data" --seed 2 --force >/dev/null
  workflow classification_basic --agent baseline --seed 3 --dry-run
  expect_in "the data of 'classification_basic' are not those of its earlier results" "$output"
  workflow classification_basic --agent baseline --seed 3
  expect_status 0
  expect_in "note: the data of 'classification_basic' are not those of its earlier results (fingerprint " "$error"
  "$ROOT/.venv-core/bin/python" "$ROOT/helpers/export_results.py" "$BATS_TEST_TMPDIR/runs" -o "$BATS_TEST_TMPDIR/results.csv"
  [[ $(wc -l <"$BATS_TEST_TMPDIR/results.csv") == 3 ]]
  for run in "$BATS_TEST_TMPDIR"/runs/*/classification_basic_*; do
    data=$(sed -n 's/.*"data_fingerprint": "\([0-9a-f]\{64\}\)".*/\1/p' "$run/run_metadata.json")
    grep -q "\"data_fingerprint\": \"$data\"" "${run%/*}/workflow.json"
    [[ $(grep -c ",$data," "$BATS_TEST_TMPDIR/results.csv") == 1 ]]
    # an agent could try out guesses of the answers on it
    refuse grep -rqF "$data" "$run" --exclude=run_metadata.json
  done
}

@test "an agent whose command fails ends with 4 and says so" {
  sed -i '/^limits/d' "$SITE_FILE"
  mkdir "$BATS_TEST_TMPDIR/copy"
  (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create) | tar -x -C "$BATS_TEST_TMPDIR/copy"
  cat >>"$BATS_TEST_TMPDIR/copy/site-config/agents.yaml" <<'YAML'
failing: {command: "echo no idea >&2; exit 5", image: aide, needs_model: false}
linking: {command: "ln -s $DATA_DIR/sample_submission.csv $SUBMISSION_DIR/submission.csv", image: aide, needs_model: false}
bad: {command: "echo id,target > $SUBMISSION_DIR/submission.csv", image: aide, needs_model: false}
silent: {command: "true", image: aide, needs_model: false}
good: {command: "cp $DATA_DIR/sample_submission.csv $SUBMISSION_DIR/submission.csv", image: aide, needs_model: false}
YAML
  for case in failing:agent_failed:4 linking:invalid_submission:4 bad:invalid_submission:4 silent:no_submission:4 good:scored:0; do
    IFS=: read -r agent state code <<<"$case"
    rm -rf "$BATS_TEST_TMPDIR/runs"
    try "$BATS_TEST_TMPDIR/copy/scripts_hpc/run_workflow.sh" classification_basic --agent "$agent" --site "$SITE_FILE"
    expect_status "$code"
    state_is "$state"
  done
  nothing_left
}

@test "Ctrl-C while the agent runs: 130, cancelled, nothing left" {
  in_background classification_basic replay
  wait_for 30 grep -q "agent aide.*- running" "$BATS_TEST_TMPDIR/out"
  kill -INT -- "-$PID"
  status=0
  wait "$PID" || status=$?
  [[ $status == 130 ]]
  state_is cancelled
  nothing_left
}

@test "the orchestrator is killed: the run goes on, and --attach finds the score" {
  in_background classification_basic replay
  wait_for 30 grep -q "agent aide.*- " "$BATS_TEST_TMPDIR/out"
  kill -KILL -- "-$PID"
  wait_for 60 state_is scored
  wait_for 15 nothing_left
  run_dir=$(run_of)
  # nobody has looked yet; whoever looks first writes the report over all runs
  [[ ! -e ${run_dir%/*}/grading_report.json ]]
  try "$ROOT/scripts_hpc/jobs.sh" status "${run_dir%/*}"
  expect_status 0
  grep -q '"total_runs": 1' "${run_dir%/*}/grading_report.json"
  rm "${run_dir%/*}/grading_report.json"
  try "$ROOT/scripts_hpc/run_workflow.sh" --attach "${run_dir%/*}"
  expect_status 0
  expect_in "score 0." "$output"
  grep -q '"total_runs": 1' "${run_dir%/*}/grading_report.json"
}

@test "the grading server's processes are killed: it is started again, and the run is scored" {
  export HPC_MODELS__REPLAY='{steps: 3}'
  in_background classification_basic replay
  wait_for 40 grep -q "agent aide.*- running" "$BATS_TEST_TMPDIR/out"
  for pid in $(pgrep -f "helpers.serving.grading_server --competition-id classification_basic --data-dir $BATS_TEST_TMPDIR/data"); do
    kill -KILL "$pid"
  done
  status=0
  wait "$PID" || status=$?
  [[ $status == 0 ]] || cat "$BATS_TEST_TMPDIR/out"
  [[ $status == 0 ]]
  grep -q "died with code" "$BATS_TEST_TMPDIR"/runs/*/logs/grading_server-*.out
  state_is scored
  nothing_left
}

@test "the grading server's job is cancelled: the run is lost, not a zero, and the model server goes too" {
  in_background classification_basic replay
  wait_for 40 grep -q "agent aide.*- running" "$BATS_TEST_TMPDIR/out"
  LOCAL_JOBS=$BATS_TEST_TMPDIR/addresses/local_jobs bash "$ROOT/scripts_hpc/lib/scheduler.sh" local cancel 2
  status=0
  wait "$PID" || status=$?
  [[ $status == 3 ]]
  state_is lost
  nothing_left
}

@test "a scratch folder that can't be written" {
  workflow classification_basic --agent baseline --set paths.scratch=/proc/nowhere
  expect_status 3
  expect_in "can't make a temporary folder in /proc/nowhere (paths.scratch of site here)" "$(cat "$BATS_TEST_TMPDIR"/runs/*/logs/*)"
  nothing_left
}
