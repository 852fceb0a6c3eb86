# run_workflow.sh against fakes: what is checked before the first submission, in which order jobs go out, what a refusal undoes.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm
  mkdir -p "$FAKE_SLURM"
  PATH=$ROOT/tests/fakes/slurm:$PATH
  make_site slurm apptainer
  make_task toy
  touch "$BATS_TEST_TMPDIR/images/"{mlebench-env,vllm,aide}.sif
}

workflow() { try "$ROOT/scripts_hpc/run_workflow.sh" "$@" --site "$SITE_FILE"; }
calls() { sed 's/ *$//' "$FAKE_SLURM/calls" 2>/dev/null || true; }
nothing_submitted() {
  [[ $(calls) != *sbatch* ]] && [[ -z $(ls -A "$BATS_TEST_TMPDIR/runs" 2>/dev/null) ]]
}

@test "--help is the header, and needs no Python" {
  PATH=/usr/bin:/bin try "$ROOT/scripts_hpc/run_workflow.sh" --help
  expect_status 0
  expect_in "Usage: scripts_hpc/run_workflow.sh [COMPETITION" "$output"
  expect_in "130 interrupted" "$output"
}

@test "all jobs go out at once: the model first, the others when it starts" {
  workflow toy 30b --detach
  expect_status 0
  [[ $(calls) == 'sbatch --parsable vllm_30b.sh
sbatch --parsable --dependency=after:101 --kill-on-invalid-dep=yes grading_server.sh toy
sbatch --parsable --dependency=after:101:102 --kill-on-invalid-dep=yes agent.sh 0 0 1 auto:102 auto:101' ]] || {
    calls
    return 1
  }
  [[ -f $output/workflow.json ]]
  grep -q '"model_server": "101"' "$output/workflow.json"
  grep -q '"state": "waiting"' "$output/toy_103/run_metadata.json"
  [[ $(cat "$BATS_TEST_TMPDIR/addresses/vllm_30b_101.consumers/103") == "$output" ]]
  [[ -f $BATS_TEST_TMPDIR/addresses/grading_server_102.consumers/103 ]]
}

@test "a model that needs no GPU doesn't hold the grading server back" {
  workflow toy replay --detach
  expect_status 0
  expect_in 'sbatch --parsable grading_server.sh toy' "$(calls)"
  expect_in 'after:101:102' "$(calls)"
}

@test "rollouts are jobs of their own with seeds of their own" {
  workflow toy replay --rollouts 3 --seed 7 --detach
  expect_status 0
  expect_in 'agent.sh 0 0 1 auto:102 auto:101' "$(calls)"
  expect_in 'agent.sh 0 2 1 auto:102 auto:101' "$(calls)"
  [[ $(<"$output/parts/0") == $'ROLLOUT=0 ATTEMPT=0 CELL=0 COMPETITION=toy SEED=7
ROLLOUT=1 ATTEMPT=0 CELL=0 COMPETITION=toy SEED=8
ROLLOUT=2 ATTEMPT=0 CELL=0 COMPETITION=toy SEED=9' ]]
  [[ $(grep -c agent.sh <<<"$(calls)") == 3 ]]
}

@test "a refused agent cancels the servers that were submitted before it" {
  FAKE_REJECT=3 workflow toy 30b
  expect_status 3
  expect_in "Invalid account" "$error"
  expect_in "the scheduler refused the agent job" "$error"
  expect_in "scancel  101 102" "$(calls)"
  [[ $error != *Traceback* ]]
}

@test "a refused first job cancels nothing and ends with 3" {
  FAKE_REJECT=1 workflow toy 30b
  expect_status 3
  [[ $(calls) != *scancel* ]]
}

@test "an unknown model is found before anything is submitted" {
  workflow toy 31b
  expect_status 2
  expect_in "model '31b': not in site-config/models.yaml. Known models: 30b, 80b, coder" "$error"
  nothing_submitted
}

@test "all mistakes are named at once" {
  workflow nowhere 31b --agent aidee
  expect_status 2
  expect_in "model '31b'" "$error"
  expect_in "agent 'aidee'" "$error"
  expect_in "competition 'nowhere' isn't prepared: there is no $BATS_TEST_TMPDIR/data/nowhere/prepared/public" "$error"
  expect_in "Give --prepare" "$error"
  nothing_submitted
}

@test "a task that can't be read is not taken for one that isn't prepared" {
  local manifest=$BATS_TEST_TMPDIR/data/classification_basic/prepared/manifest.json
  make_task classification_basic
  mkdir "$manifest" # root can read all else
  workflow classification_basic 30b
  expect_status 2
  [[ $error == "error: competition 'classification_basic': $manifest can't be read: Is a directory (paths.data of site here)." ]]
  nothing_submitted
  rm -r "$manifest" "$BATS_TEST_TMPDIR/data/classification_basic/prepared/private"
  workflow classification_basic 30b
  expect_status 2
  expect_in "competition 'classification_basic' isn't prepared: there is no " "$error"
  refuse grep "Did you mean" <<<"$error"
}

@test "a partition that the cluster doesn't have" {
  workflow toy 30b gpuu
  expect_status 2
  expect_in "partition 'gpuu' (partitions.gpu.name of site here) isn't one of this cluster: cpu, gpu" "$error"
  nothing_submitted
}

@test "secrets of the site stand in a file of the user's own, and in no other" {
  HPC_ENVIRONMENT__PROXY=http://me:hush-hush@proxy:1 workflow toy replay --detach --set environment.variables.MY_TOKEN=abcd1234efgh
  expect_status 0
  [[ $(stat -c %a "$output/jobs/environment") == 600 ]]
  [[ $(grep -cE 'hush-hush|abcd1234efgh' "$output/jobs/environment") == 3 ]]
  [[ $(grep -rlE 'hush-hush|abcd1234efgh' "$BATS_TEST_TMPDIR/runs" "$FAKE_SLURM") == "$output/jobs/environment" ]]
  grep -qF "source $output/jobs/environment" "$output/jobs/agent.sh"
  [[ $error != *hush-hush* ]]
  # it would be an argument of the job, which everybody sees
  workflow toy --reuse-model http://me:hush-hush@host/v1
  expect_status 2
  expect_in '--reuse-model: the URL holds a password' "$error"
  [[ $error != *hush-hush* ]]
}

@test "partitions as arguments, empty ones kept, and the cleanup word" {
  workflow toy 30b "" cpu off --detach
  expect_status 0
  grep -q -- '--partition=gpu' "$output/jobs/vllm_30b.sh"
  grep -q 'CLEANUP=off' "$output/jobs/agent.sh"
  workflow toy 30b gpu cpu maybe
  expect_status 2
  expect_in "maybe" "$error"
}

@test "a wrong value is told by the name that the person typed" {
  workflow toy replay --rollouts 0
  expect_status 2
  [[ $error == "run_workflow.sh: Invalid value for '--rollouts': 0 is not in the range 1<=x<=1000 (--help tells more)" ]] || {
    printf '%s\n' "$error"
    return 1
  }
  for command in 'render.sh' 'models.sh download' 'site.sh list' 'tasks.sh list'; do
    read -ra words <<<"$command"
    try "$ROOT/scripts_hpc/${words[0]}" "${words[@]:1}" --nonsense
    expect_status 2
    [[ $error == "${words[0]}: No such option"* && $error != *$'\n'* ]]
  done
}

@test "a missing image says how to build it" {
  rm "$BATS_TEST_TMPDIR/images/vllm.sif"
  workflow toy 30b
  expect_status 2
  expect_in "containers/build_all_containers.sh --site here --only vllm" "$error"
  nothing_submitted
}

@test "more GPUs than a node has" {
  try "$ROOT/scripts_hpc/run_workflow.sh" toy 80b --site "$SITE_FILE" --set gpu.per_node=1
  expect_status 2
  expect_in "model '80b' needs 2 GPUs on one node; site here has 1" "$error"
}

@test "an agent that may outlive its servers" {
  workflow toy 30b --time-limit 7200
  expect_status 2
  expect_in "the agent's job may take 02:45:00" "$error"
  expect_in "jobs.model_server.time of site here is 01:30:00: lower --time-limit" "$error"
  nothing_submitted
}

@test "a key that is nowhere" {
  workflow toy gpt-mini
  expect_status 2
  expect_in "OPENAI_API_KEY is neither in the environment nor in" "$error"
}

start_endpoint() { # a stand-in for somebody's endpoint; endpoint MANNER makes it gpt-mini's
  "${HAB_CORE_PYTHON:-python3}" "$ROOT/tests/fakes/model_server.py" "$BATS_TEST_TMPDIR/asked" >"$BATS_TEST_TMPDIR/port" 3>&- &
  SERVER=$!
  wait_for 10 test -s "$BATS_TEST_TMPDIR/port"
  PORT=$(<"$BATS_TEST_TMPDIR/port")
}
endpoint() {
  sed -i '/^models:/d' "$SITE_FILE"
  printf 'models: {gpt-mini: {base_url: "http://127.0.0.1:%s/%s/v1"}}\n' "$PORT" "$1" >>"$SITE_FILE"
}
teardown() { [[ -z ${SERVER:-} ]] || kill "$SERVER"; }

@test "an external model needs no server job, and its key goes nowhere" {
  start_endpoint
  endpoint answers
  OPENAI_API_KEY=sk-very-secret workflow toy gpt-mini --detach
  expect_status 0
  [[ $(calls) != *vllm* ]]
  expect_in "agent.sh 0 0 1 auto:101 external" "$(calls)"
  refuse grep -r sk-very-secret "$output" "$FAKE_SLURM"
  error=$(grep -v '^note: site here has never passed its check' <<<"$error")
  [[ -z $error || $error == "run: "* ]]
  # code and feedback are one model
  [[ $(<"$BATS_TEST_TMPDIR/asked") == 'POST /answers/v1/chat/completions Bearer sk-very-secret {"model": "gpt-4.1-mini",'* ]]
  [[ $(wc -l <"$BATS_TEST_TMPDIR/asked") == 1 ]]
}

@test "an external model that refuses us is found before anything is submitted; one that can't be asked from here is only told" {
  local manner words
  start_endpoint
  export OPENAI_API_KEY=sk-very-secret
  while IFS='|' read -r manner words; do
    endpoint "$manner"
    workflow toy gpt-mini --dry-run
    expect_status 2
    expect_in "error: model 'gpt-4.1-mini' at http://127.0.0.1:$PORT/$manner/v1 refuses: HTTP $words" "$error"
    [[ $error != *sk-very-secret* && $error != *Traceback* ]]
  done <<'WORDS'
401|401: Incorrect API key provided: ***. You can find it. (check OPENAI_API_KEY).
402|402: Insufficient Balance (its quota is used up).
403|403: <html> <head><title>403 Forbidden</title></head> </html> (check OPENAI_API_KEY).
404|404: The model `m` does not exist. (check its name and address).
quota|429: You exceeded your current quota (its quota is used up).
WORDS
  workflow toy gpt-mini --detach
  expect_status 2
  nothing_submitted
  endpoint 429
  workflow toy gpt-mini --dry-run
  expect_status 0
  expect_in "note: from here, model 'gpt-4.1-mini' at http://127.0.0.1:$PORT/429/v1 gives no answer: HTTP 429: Rate limit reached" "$error"
  PORT=9 endpoint answers
  workflow toy gpt-mini --dry-run
  expect_status 0
  expect_in "gives no answer: curl: (7)" "$error"
  expect_in "the agent's job will ask again." "$error"
  # an address that was given takes the model's place, and has the key of such addresses
  MODEL_API_KEY=sk-other workflow toy gpt-mini --reuse-model "http://127.0.0.1:$PORT/404" --dry-run
  expect_status 2
  expect_in "http://127.0.0.1:$PORT/404/v1, asked for its models (MODEL_NAME would name one), refuses: HTTP 404" "$error"
  expect_in "GET /404/v1/models Bearer sk-other" "$(<"$BATS_TEST_TMPDIR/asked")"
}

@test "the way to an external model is the site's proxy, with curl and without" {
  start_endpoint
  local tool
  endpoint x
  sed -i 's|127.0.0.1:[0-9]*/x|nowhere.invalid/401|' "$SITE_FILE"
  export OPENAI_API_KEY=sk-very-secret
  mkdir "$BATS_TEST_TMPDIR/bin"
  for tool in ${PATH//://* }/*; do
    [[ ${tool##*/} == curl || -e $BATS_TEST_TMPDIR/bin/${tool##*/} ]] || ln -s "$tool" "$BATS_TEST_TMPDIR/bin/"
  done
  for path in "$PATH" "$BATS_TEST_TMPDIR/bin"; do
    PATH=$path try "$ROOT/scripts_hpc/run_workflow.sh" toy gpt-mini --dry-run --site "$SITE_FILE" --set "environment.proxy=http://127.0.0.1:$PORT/"
    expect_status 2
    expect_in "POST http://nowhere.invalid/401/v1/chat/completions Bearer sk-very-secret" "$(<"$BATS_TEST_TMPDIR/asked")"
    rm "$BATS_TEST_TMPDIR/asked"
  done
}

@test "an unreadable half of the data" {
  rm -r "$BATS_TEST_TMPDIR/data/toy/prepared/private"
  workflow toy 30b
  expect_status 2
  expect_in "there is no $BATS_TEST_TMPDIR/data/toy/prepared/private (paths.data of site here)" "$error"
}

@test "a run that could cost much needs --yes" {
  try "$ROOT/scripts_hpc/run_workflow.sh" toy 80b --site "$SITE_FILE" --set jobs.model_server.time=99:00:00 --detach </dev/null
  expect_status 2
  expect_in "198 GPU-hours, more than limits.confirm_gpu_hours = 100: give --yes" "$error"
  nothing_submitted
  try "$ROOT/scripts_hpc/run_workflow.sh" toy 80b --site "$SITE_FILE" --set jobs.model_server.time=99:00:00 --detach --yes
  expect_status 0
}

@test "--dry-run shows the jobs and submits nothing" {
  workflow toy 80b --dry-run
  expect_status 0
  expect_in "vllm_80b.sh: --job-name=vllm_80b --time=01:30:00 --cpus-per-task=16 --mem=128G --partition=gpu --gres=gpu:2" "$output"
  expect_in "at most 3.0 GPU-hours" "$output"
  nothing_submitted
}

@test "a model's folder, a bind and a scratch folder that no container can be given" {
  workflow toy 30b --set "models.30b.repo=/models/a,b"
  expect_status 2
  expect_in "model '30b': repo: /models/a,b holds ',': nothing with it in its name can be bound into a container." "$error"
  workflow toy 30b --set 'container.binds=["/data/a,b"]'
  expect_status 2
  expect_in "container.binds" "$error"
  # shellcheck source=scripts_hpc/lib/common.sh
  run bash -c 'source "$0/lib/common.sh"; source "$0/lib/container.sh"; RUNTIME=apptainer SITE=here; container::scratch "$1"' "$ROOT/scripts_hpc" "$BATS_TEST_TMPDIR/a:b"
  [[ $status == 2 && ! -e $BATS_TEST_TMPDIR/a:b ]]
  expect_in "holds ':' or ','" "$output"
  nothing_submitted
}

@test "1,000 rollouts whose servers live for two waves only: said, with what all of them would take" {
  # 28 agents at once; an hour to load at most, 15 minutes for the last grading, each agent 3 hours
  many=(toy 30b --rollouts 1000 --time-limit 10800 --dry-run --yes --set jobs.model_server.time=08:00:00
    --set jobs.grading_server.time=2-00:00:00 --set models.30b.load_minutes=60)
  FAKE_MAX_TIME=UNLIMITED workflow "${many[@]}"
  expect_status 0
  expect_in "note: 1000 rollouts are 36 waves, as partition cpu runs 28 of them at once, and the servers live for 2 (jobs.grading_server.time 2-00:00:00, jobs.model_server.time 08:00:00): what begins later would be lost. All of them take up to 4-22:00:00 and 118.0 GPU-hours: set jobs.grading_server.time and jobs.model_server.time to that, or --rollouts to 56." "$output"
  expect_in "at most 8.0 GPU-hours; 1000 rollout(s)" "$output"
  # nobody is told to set what would be refused: partition cpu allows two days
  workflow "${many[@]}"
  expect_in "118.0 GPU-hours: no server may live for so long here: set --rollouts to 56." "$output"
  # what they live for is enough
  workflow toy 30b --rollouts 56 --time-limit 10800 --dry-run --set jobs.model_server.time=08:00:00 --set jobs.grading_server.time=08:00:00 --set models.30b.load_minutes=60
  refuse grep waves <<<"$output"
  # memory counts where it is asked for
  workflow toy 30b --rollouts 9 --time-limit 10800 --dry-run --set jobs.model_server.time=05:00:00 --set jobs.grading_server.time=05:00:00 --set jobs.agent.memory_gb=30
  expect_in "9 rollouts are 2 waves, as partition cpu runs 7 of them at once, and the servers live for 1" "$output"
}

@test "--dry-run writes nothing: no folder, no fingerprint" {
  find "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/images" | sort >"$BATS_TEST_TMPDIR/before"
  workflow toy replay --dry-run
  expect_status 0
  find "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/images" | sort | diff "$BATS_TEST_TMPDIR/before" -
  [[ ! -e $BATS_TEST_TMPDIR/runs && ! -e $BATS_TEST_TMPDIR/addresses ]]
}

@test "a folder that can't be made is exit 2 in every command, with the key to change" {
  local command
  mkdir -p "$BATS_TEST_TMPDIR/file"
  touch "$BATS_TEST_TMPDIR/images/"{experiment,prepare}.sif "$BATS_TEST_TMPDIR/file/runs"
  for command in 'run_workflow.sh toy replay' 'run_notebook.sh toy' 'prepare_tasks.sh t1'; do
    # shellcheck disable=SC2086
    try "$ROOT/scripts_hpc/"$command --site "$SITE_FILE" --set "paths.runs=$BATS_TEST_TMPDIR/file/runs/mine"
    expect_status 2
    expect_in "error: can't make $BATS_TEST_TMPDIR/file/runs/mine (paths.runs of site here): $BATS_TEST_TMPDIR/file/runs is no folder that you can write. Set paths.runs to a folder that you can write." "$error"
  done
  try "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output "$BATS_TEST_TMPDIR/file/runs/mine"
  expect_status 2
  expect_in "error: $BATS_TEST_TMPDIR/file/runs/mine: Not a directory" "$error"
}

@test "reusing a server that doesn't run" {
  workflow toy replay --reuse-grading 55
  expect_status 3
  expect_in "job 55 is no running grading server of yours" "$error"
}

@test "unknown options, missing values, too many arguments" {
  workflow toy 30b --frobnicate
  expect_status 2
  expect_in "unknown option --frobnicate" "$error"
  try "$ROOT/scripts_hpc/run_workflow.sh" toy 30b --seed
  expect_status 2
  expect_in "--seed needs a value" "$error"
  workflow a b c d e f
  expect_status 2
  expect_in "too many arguments: f" "$error"
  workflow toy 30b --steps many
  expect_status 2
  expect_in "many" "$error"
}

@test "on a cluster without arguments: which competition?" {
  workflow
  expect_status 2
  expect_in "which competition?" "$error"
}

@test "--attach to something that is no run" {
  try "$ROOT/scripts_hpc/run_workflow.sh" --attach "$BATS_TEST_TMPDIR"
  expect_status 2
  expect_in "is no run of this tool" "$error"
}

@test "a scheduler that doesn't answer is not a job that is gone" {
  workflow toy replay --detach
  run_dir=$output
  FAKE_SQUEUE_DOWN=1 "$ROOT/scripts_hpc/run_workflow.sh" --attach "$run_dir" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  local watcher=$!
  wait_for 20 grep -q '(job 103): ?' "$BATS_TEST_TMPDIR/out"
  # a session's end ends no jobs
  kill -TERM "$watcher"
  status=0
  wait "$watcher" || status=$?
  output=$(<"$BATS_TEST_TMPDIR/out") error=''
  expect_status 143
  expect_in "SIGTERM: nobody watches any more, and nothing more is ended. To watch again: scripts_hpc/run_workflow.sh --attach $run_dir" "$output"
  refuse grep -q scancel "$FAKE_SLURM/calls"
  grep -q '"state": "waiting"' "$run_dir/toy_103/run_metadata.json"
}

@test "a job that ended without a word is lost, not a zero" {
  workflow toy replay --detach
  run_dir=$output
  sed -i 's/ .*/ NODE_FAIL/' "$FAKE_SLURM/jobs"
  try "$ROOT/scripts_hpc/run_workflow.sh" --attach "$run_dir" --json
  expect_status 3
  expect_in '"state": "lost"' "$output"
  expect_in 'NODE_FAIL' "$output"
}

@test "a checkout with a blank in its path is refused with one message" {
  mkdir -p "$BATS_TEST_TMPDIR/a b/scripts_hpc"
  cp -R "$ROOT/scripts_hpc/." "$BATS_TEST_TMPDIR/a b/scripts_hpc/"
  try "$BATS_TEST_TMPDIR/a b/scripts_hpc/run_workflow.sh" toy
  expect_status 2
  expect_in "holds a blank" "$error"
}

@test "a runs folder that can't be written" {
  try "$ROOT/scripts_hpc/run_workflow.sh" toy replay --site "$SITE_FILE" --set paths.runs=/proc/nowhere
  expect_status 2
  expect_in "paths.runs of site here" "$error"
}

@test "a task of BioML-bench: its slash is a folder of the data, and a dash in the run's name" {
  make_task manual/toy
  workflow manual/toy 30b --detach
  expect_status 0
  expect_in "agent.sh 0 0 1 auto:102" "$(calls)"
  expect_in "COMPETITION=manual/toy" "$(<"$output/parts/0")"
  grep -q '"competition": "manual/toy"' "$output/manual-toy_103/run_metadata.json"
  [[ -f $output/manual-toy_103/run_metadata.json ]]
  workflow ../toy 30b
  expect_status 2
  expect_in "competition '../toy': letters, digits" "$error"
  make_task temp/toy
  workflow temp/toy 30b
  expect_status 2
  expect_in "competition 'temp/toy': 'temp' is another folder's name, beside those of tasks (rollouts, runs, tasks, temp are no ids)." "$error"
}

@test "data that are damaged are no data" {
  printf '{"files": {"private/answers.csv": 4}}\n' >"$BATS_TEST_TMPDIR/data/toy/prepared/manifest.json"
  workflow toy 30b --detach
  expect_status 2
  expect_in "prepared/private/answers.csv has 5 bytes instead of 4" "$error"
  nothing_submitted
}

@test "--prepare prepares what is missing, by a folder of one's own; without it and without a terminal nobody is asked" {
  mkdir -p "$BATS_TEST_TMPDIR/tasks/mine/raw"
  printf 'id,target\n1,a\n2,b\n' >"$BATS_TEST_TMPDIR/tasks/mine/raw/all.csv"
  cat >"$BATS_TEST_TMPDIR/tasks/mine/prepare.py" <<'PY'
import json

def prepare(raw, public, private):
    text = (raw / "all.csv").read_text()
    for path in (public / "sample_submission.csv", private / "answers.csv"):
        path.write_text(text)
    (public / "description.md").write_text("mine")
    grading = {"metric": "accuracy", "id_column": "id", "target_column": "target"}
    (private / "grading.json").write_text(json.dumps(grading))
PY
  export HPC_PATHS__TASKS=$BATS_TEST_TMPDIR/tasks
  sed -i 's/kind: slurm/kind: local/; s/runtime: apptainer/runtime: none/' "$SITE_FILE"
  export HAB_VENV_DIR=$ROOT
  workflow mine --agent baseline --dry-run --prepare
  expect_status 0
  expect_in "first, the task is prepared" "$output"
  workflow mine --agent baseline
  expect_status 2
  expect_in "competition 'mine' isn't prepared" "$error"
  [[ ! -e $BATS_TEST_TMPDIR/data/mine ]]
  workflow mine --agent baseline --prepare --detach
  expect_status 0
  [[ -s $BATS_TEST_TMPDIR/data/mine/prepared/private/answers.csv ]]
  workflow --attach "$output"
  echo 'def prepare(raw, public, private): raise ValueError("no such raw data")' >"$BATS_TEST_TMPDIR/tasks/mine/prepare.py"
  rm -r "$BATS_TEST_TMPDIR/data/mine"
  workflow mine --agent baseline --prepare
  expect_status 3
  expect_in "no such raw data" "$error"
  [[ $error != *Traceback* ]]
}

@test "--script: for the agents that take one, and only files that are there" {
  workflow toy --agent baseline --script /nowhere.py
  expect_status 2
  expect_in "--script /nowhere.py: there is no such file" "$error"
  expect_in "agent 'baseline' runs none; these do: experiment" "$error"
  printf 'print(1)\n' >"$BATS_TEST_TMPDIR/mine.py"
  touch "$BATS_TEST_TMPDIR/images/experiment.sif"
  workflow toy --agent experiment/dev --script "$BATS_TEST_TMPDIR/mine.py" --detach
  expect_status 0
  [[ $(<"$output/jobs/script.py") == 'print(1)' ]]
  grep -q "$output/jobs/script.py" "$output/jobs/agent.sh"
  grep -q '^TIME_LIMIT=600$' "$output/jobs/agent.sh"
  [[ $output == *_run-group_experiment-dev ]]
}

@test "offline compute nodes: a model of which a part is missing is found before anything is submitted" {
  local snapshot=$BATS_TEST_TMPDIR/models/hub/models--Qwen--Qwen3-30B-A3B-Instruct-2507/snapshots/$(printf 'a%.0s' {1..40})
  mkdir -p "$snapshot" "$snapshot/../../refs"
  printf 'a%.0s' {1..40} >"$snapshot/../../refs/main"
  printf '{}' | tee "$snapshot/config.json" >"$snapshot/tokenizer.json"
  printf '\2\0\0\0\0\0\0\0{}' >"$snapshot/model-00001-of-00002.safetensors"
  workflow toy 30b --dry-run --set environment.offline=true
  expect_status 2
  expect_in "model '30b': Qwen/Qwen3-30B-A3B-Instruct-2507 at main is incomplete in $snapshot: model-00002-of-00002.safetensors is missing" "$error"
  expect_in "On a login node: scripts_hpc/models.sh download 30b --site here" "$error"
  nothing_submitted
  cp "$snapshot/model-00001-of-00002.safetensors" "$snapshot/model-00002-of-00002.safetensors"
  workflow toy 30b --dry-run --set environment.offline=true
  expect_status 0
  # a folder is looked at on every site: nobody could fetch what it lacks
  printf 'models: {30b: {repo: %s}}\n' "$BATS_TEST_TMPDIR/none" >>"$SITE_FILE"
  workflow toy 30b --dry-run
  expect_status 2
  expect_in "model '30b': there is no folder $BATS_TEST_TMPDIR/none; copy what is missing there, or set its \`repo\`." "$error"
}

@test "--model-set changes a model for one run: its script, its record and its configuration hash" {
  local plain hash
  workflow toy 30b --detach
  plain=$output
  workflow toy 30b --detach --model-set context_length=16384 --model-set 'vllm_args=--max-num-seqs 64'
  expect_status 0
  expect_in '--max-model-len 16384' "$(<"$output/jobs/vllm_30b.sh")"
  expect_in '  --max-num-seqs
  64' "$(<"$output/jobs/vllm_30b.sh")"
  [[ $(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["cells"][0]["model_config"]["context_length"])' "$output/workflow.json") == 16384 ]]
  hash=$(grep '"config_hash"' "$output/workflow.json")
  [[ -n $hash && $hash != "$(grep '"config_hash"' "$plain/workflow.json")" ]]
}

@test "more agents than requests that the model server works on at once: said, where it was set so" {
  local note="note: the server of model '30b' works on at most 2 requests at once (--max-num-seqs in its vllm_args), and 3 agents may ask it: the others wait."
  workflow toy 30b --rollouts 3 --model-set 'vllm_args=--max-num-seqs 2' --dry-run
  expect_status 0
  expect_in "$note" "$output"
  workflow toy 30b --rollouts 3 --model-set 'vllm_args=--max-num-seqs 2' --detach
  expect_status 0
  expect_in "$note" "$error"
  workflow toy 30b --rollouts 3 --model-set 'vllm_args=--max-num-seqs 3' --dry-run
  expect_status 0
  [[ $output != *'at once'* ]]
}

@test "--model-set with a wrong key, without a model, and with a server that runs already" {
  workflow toy 30b --model-set max_len=5
  expect_status 2
  expect_in 'error: --model-set max_len: unknown key; a model has these keys: served_name, repo,' "$error"
  workflow toy --agent baseline --model-set gpus=1
  expect_status 2
  expect_in 'error: --model-set changes a model server that this run starts, and it starts none.' "$error"
  workflow toy 30b --reuse-model 7 --model-set gpus=1
  expect_status 2
  expect_in 'it starts none' "$error"
  workflow toy --model-set
  expect_status 2
  nothing_submitted
}
