#!/usr/bin/env bash
# Usage: tests/cluster/experiment.sh
#
# The experiment image, built for real, and what it is for: the experiment agent, scripts and notebooks of a user, JupyterLab as a
# job, and the export to a real MLflow; on the test cluster. Opt-in (`make test-experiment`): needs root on Debian 12, the internet
# or a pip mirror, 4 GB of disk, and about ten minutes. Ends with "N passed, N failed".
set -euo pipefail
BATS_TEST_DIRNAME=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BATS_SUITE_TEST_NUMBER=experiment BATS_TEST_COMPLETED=1
case ${1:-} in -h | --help) sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;; esac
bash "$BATS_TEST_DIRNAME/up.sh" --check
# shellcheck source=tests/cluster/setup_suite.bash
source "$BATS_TEST_DIRNAME/setup_suite.bash"

TASK=classification_basic

# ---- the image

build_image() {
  local image=$HAB_CLUSTER_STATE/shared/containers/experiment.sif
  as_user containers/build_all_containers.sh --only experiment
  as_user sha256sum --check --status "$image.sha256" 2>/dev/null || (cd "${image%/*}" && sha256sum --check --status "$image.sha256")
  (($(stat -c %s "$image") < 1500000000))
}

inside() { # inside COMMAND…: in the image, with the test's folder, the checkout, and the tasks as /srv
  as_user apptainer exec --containall --bind "$WORK,$CHECKOUT:$CHECKOUT:ro,$HAB_CLUSTER_STATE/shared/data:/srv:ro" --pwd "$WORK" \
    "$HAB_CLUSTER_STATE/shared/containers/experiment.sif" env HOME=/tmp "$@"
}

# ---- the agent, and scripts

workflow() { # workflow NAME STATUS ARGUMENT…: runs it; `run` is the folder of its agent
  start "$1" "$TASK" "${@:3}"
  finish "$1" 240
  expect_status "$2"
  run=$(run_of "$1")
}

graded_variant() {
  workflow dev 0 --agent experiment/dev
  expect_in "classification_basic / experiment/dev (seed 0): score 0." "$output"
  [[ $(group dev) == *_run-group_experiment-dev ]]
  [[ $(pick "$run/run_metadata.json" "(d['agent'], d['time_limit_seconds'], d['isolated'])") == "('experiment/dev', 600, True)" ]]
  local results=$run/workspaces/results
  [[ $(pick "$results/completion_status.json" "d['success'] and d['submission']") == True ]]
  [[ $(pick "$results/environment_info.json" "(d['image']['image'], 'mlflow' in d['packages'])") == "('experiment', True)" ]]
  [[ $(pick "$results/experiment_metadata.json" "d['folders']['DATA_DIR']") == /home/data ]]
  [[ $(readlink "$run/workspaces/data") == /home/data && -d $run/workspaces/notebooks && -s $run/submission/model_summary.txt ]]
  [[ $(pick "$run/logs/journal.json" "d['nodes'][0]['metric']['value'] > 0.8") == True ]]
  expect_nothing_left 5
}

analysis() { # every chart and report that the task asks for, judged by the real validator
  TASK=data_analysis_exploratory
  start analysis "$TASK" --agent experiment/data-analysis
  finish analysis 240
  expect_status 0
  run=$(echo "$(group analysis)/$TASK"_*)
  inside env PYTHONPATH="$CHECKOUT" PYTHONDONTWRITEBYTECODE=1 HPC_SITE=local python3 -c "
import sys
from helpers.tasks.catalogue import open_registry
from helpers.tasks.utils import TaskValidator
found = TaskValidator('/srv').evaluate_task(open_registry().find('$TASK'), sys.argv[1])
assert found['success'] and not found['output_check']['files_missing'], found
" "$run/submission"
}

script_of() { # script_of NAME, text on stdin: a file of the user's, beside the run
  as_owner tee "$WORK/$1" >/dev/null
  printf '%s\n' "$WORK/$1"
}

example_script() {
  workflow example 0 --agent experiment --script "$CHECKOUT/examples/tasks/classification_example.py"
  [[ $(pick "$run/workspaces/results/experiment_metadata.json" "d['script']") == script.py ]]
  cmp "$run/code/script.py" "$CHECKOUT/examples/tasks/classification_example.py"
  [[ -s $run/submission/model_summary.txt && ! -e $run/workspaces/results/ml_pipeline_results.json ]]
}

notebook_script() { # with the packages that the specification names: tracking, and more than one process
  local file
  file=$(
    python3 - <<'PYTHON' | script_of user.ipynb
import json
cells = ["""
import os, shutil, mlflow, ray
from dask.distributed import Client, LocalCluster
mlflow.log_metric("accuracy", 0.85)
ray.init(num_cpus=1, include_dashboard=False, configure_logging=False)
assert ray.get(ray.remote(lambda x: x + 1).remote(41)) == 42
ray.shutdown()
with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client:
    assert client.submit(sum, [40, 2]).result() == 42
shutil.copy(os.environ["DATA_DIR"] + "/sample_submission.csv", os.environ["SUBMISSION_DIR"] + "/submission.csv")
print("said in a cell")
"""]
cell = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": text} for text in cells]
print(json.dumps({"cells": cell, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
PYTHON
  )
  workflow notebook 0 --agent experiment --script "$file"
  grep -q 'said in a cell' "$run/workspaces/results/script.ipynb"
  [[ -s $run/workspaces/workspace/mlflow.db ]]
  expect_nothing_left 5
}

failing_script() {
  workflow failing 4 --agent experiment --script "$(printf 'echo "no idea" >&2\nexit 3\n' | script_of bad.sh)"
  [[ $(pick "$run/run_metadata.json" "(d['state'], d['agent_exit_code'])") == "('agent_failed', 1)" ]]
  [[ $(pick "$run/workspaces/results/error_status.json" "d['error']") == 'script.sh ended with code 3: no idea' ]]
  grep -qF 'experiment: script.sh ended with code 3: no idea' "$run/agent.log"
}

# ---- JupyterLab

notebook() { # notebook ARGUMENT…: sets status, output, error, job, address and url
  try scripts_hpc/run_notebook.sh "$TASK" "$@"
  expect_status 0
  job=$(sed -n 's/.* is ready: job \([0-9]*\).*/\1/p' <<<"$output")
  address=$ADDRESSES/notebook_$job
  url=$(head -n 1 "$address")
  cp "$address" "$WORK/certificate"
}

token() { sed -n 's/^token=//p' "$address"; }

ask() { # ask TOKEN CURL_ARGUMENT…: the HTTP status; the answer in $WORK/answer
  curl --cacert "$WORK/certificate" --silent --noproxy '*' --max-time 20 --output "$WORK/answer" --write-out '%{http_code}' \
    --config <([[ -z $1 ]] || printf 'header = "Authorization: token %s"\n' "$1") "${@:2}" || true
}

gone() { [[ ! -e $address && ! -e $address.consumers ]] && ! job_is "$job" RUNNING && ! job_is "$job" COMPLETING && ! server_process; }
server_process() { pgrep --euid "$HAB_CLUSTER_USER" --full "^[^ ]*python3? .*jupyter-lab .*port=${url##*:} " | head -n 1 | grep .; }

idle_and_timed() { # two that are left alone, looked at later
  notebook --set limits.idle_server_minutes=1
  printf '%s\n' "$job" >"$WORK/idle.job"
  notebook --time-limit 120
  printf '%s\n' "$job" >"$WORK/timed.job"
}

reachable() {
  notebook
  as_owner tee "$WORK/notebook.job" <<<"$job" >/dev/null
  expect_in "ssh -N -L 8888:127.0.0.1:${url##*:} $HAB_CLUSTER_USER@" "$output"
  expect_in "scancel $job" "$output"
  [[ $(stat -c '%a %U' "$address") == "600 $HAB_CLUSTER_USER" && $(token) =~ ^[0-9a-f]{48}$ && $(sed -n 's/^epoch=//p' "$address") == 1 ]]
  [[ $(ask "$(token)" "$url/api/contents/data/train.csv") == 200 ]]
  grep -q '"content": "id,' "$WORK/answer"
  [[ $(ask "$(token)" "$url/lab") == 200 ]]
  local path
  for path in api/contents api/kernels api/status lab/tree/data; do
    [[ $(ask '' --request GET "$url/$path") == @(403|302) && $(ask 0123 --request GET "$url/$path") == @(403|302) ]]
  done
  [[ $(ask '' "$url/api/contents") == 403 ]]
}

again() { # the job of `reachable`
  job=$(<"$WORK/notebook.job")
  address=$ADDRESSES/notebook_$job
  url=$(head -n 1 "$address" 2>/dev/null || true)
  cp "$address" "$WORK/certificate"
}

on_a_terminal() { # there, and only there, the token is shown
  again
  local shown
  try script --quiet --return --command "scripts_hpc/run_notebook.sh $TASK --time-limit 300" /dev/null
  expect_status 0
  shown=$(grep -o 'token=[0-9a-f]*' <<<"$output")
  job=$(sed -n 's/.* is ready: job \([0-9]*\).*/\1/p' <<<"$output")
  address=$ADDRESSES/notebook_$job
  url=$(head -n 1 "$address")
  [[ $shown == "token=$(token)" ]]
  as_user scancel "$job"
  await 20 gone
}

token_is_nowhere() {
  again
  local secret
  secret=$(token)
  [[ $(ask '' "$url/lab?token=$secret") == 200 ]] # as a browser asks
  if grep -rlF "$secret" "$WORK/runs" "$CHECKOUT/rendered" 2>/dev/null; then return 1; fi
  if pgrep --full --list-full "$secret"; then return 1; fi
  if squeue --noheader --format=%all | grep -F "$secret" || scontrol show job "$job" | grep -F "$secret"; then return 1; fi
  as_user scontrol write batch_script "$job" - | grep -F "$secret" && return 1
  [[ $(grep -c 'token=' "$WORK"/runs/*_notebook/logs/notebook-"$job.out") == "$(grep -c 'token=\.\.\.\|token=\[secret\]' "$WORK"/runs/*_notebook/logs/notebook-"$job.out")" ]]
}

no_answers() { # as the process sees its files
  again
  local root
  root=/proc/$(server_process)/root
  [[ -s $root/home/data/train.csv && -d $root/home/experiments ]]
  [[ -s $ANSWERS/answers.csv ]]
  [[ -z $(
    find "$root/" -xdev -name answers.csv 2>/dev/null
    find "$root"/{home,tmp,mnt,srv,var,opt,root} -name answers.csv 2>/dev/null
  ) ]]
  [[ $(ask "$(token)" "$url/api/contents/%2e%2e/%2e%2e/var/tmp") == 40? ]]
}

kept() { # what is saved lies in the user's folder; the data can't be changed
  again
  local kept=$WORK/notebooks/$TASK/hello.txt file='{"type": "file", "format": "text", "content": "kept"}'
  [[ $(ask "$(token)" --request PUT --data "$file" "$url/api/contents/hello.txt") == 201 ]]
  [[ $(<"$kept") == kept && $(stat -c %U "$kept") == "$HAB_CLUSTER_USER" ]]
  [[ $(ask "$(token)" --request PUT --data "$file" "$url/api/contents/data/train.csv") == [45]* ]]
  [[ ! -e $HAB_CLUSTER_STATE/shared/data/$TASK/prepared/public/hello.txt ]]
}

second_start() { [[ $(sed -n 's/^epoch=//p' "$address") == 2 ]]; }

killed() {
  again
  local secret first=$url
  secret=$(token)
  kill -KILL "$(server_process)"
  await 60 second_start
  again
  [[ $url != "$first" && $(token) == "$secret" && $(ask "$secret" "$url/api/status") == 200 ]]
  [[ $(ask "$secret" "$first/api/status") == 000 ]]
}

cancelled() {
  again
  as_user scancel "$job"
  await 30 gone
  [[ $(ask '' "$url/api") == 000 ]]
}

refused() { # what can't start says why, before anything is submitted or when the job has died
  try scripts_hpc/run_notebook.sh no_such_task
  expect_status 2
  expect_in "task 'no_such_task' isn't prepared" "$error"
  try scripts_hpc/run_notebook.sh "$TASK" --set "paths.containers=$WORK"
  expect_status 2
  expect_in "build_all_containers.sh --site site --only experiment" "$error"
  try scripts_hpc/run_notebook.sh "$TASK" --set 'container.extra_flags=[--no-such-flag]'
  expect_status 3
  expect_in 'ended before JupyterLab answered (FAILED: ' "$error"
  expect_in 'notebook died twice with code 1 before it was ready' "$error"
}

interrupted() {
  local before
  before=$(queue | wc -l)
  become_user setsid scripts_hpc/run_notebook.sh "$TASK" --set 'scheduler.extra_sbatch=[--hold]' >"$WORK/held.out" 2>"$WORK/held.err" </dev/null &
  STARTED[held]=$!
  await 30 grep -q 'PENDING' "$WORK/held.err"
  [[ $(queue | wc -l) == $((before + 1)) ]]
  kill -INT -- "-${STARTED[held]}"
  finish held 20
  expect_status 130
  [[ $(queue | wc -l) == "$before" ]]
}

state_of_job() { sacct -nXP --jobs="$1" --format=state; }
ended_as() { [[ $(state_of_job "$1") == "$2"* ]]; }

idle_ended() { # a minute without use; jupyter looks once a minute
  job=$(<"$WORK/idle.job")
  address=$ADDRESSES/notebook_$job
  await 240 ended_as "$job" COMPLETED
  [[ ! -e $address ]]
  grep -q 'notebook ended itself' "$WORK"/runs/*_notebook/logs/notebook-"$job.out"
  job=$(<"$WORK/timed.job")
  # asked to end a minute before, so it ends by itself
  await 240 ended_as "$job" FAILED
  grep -q 'asked to end (SIGTERM)' "$WORK"/runs/*_notebook/logs/notebook-"$job.out"
  [[ ! -e $ADDRESSES/notebook_$job ]]
}

# ---- MLflow

real_mlflow() { # in the image, to a real database file: each run once
  local log="python3 $CHECKOUT/helpers/export_results.py $WORK/runs --mlflow=sqlite:///$WORK/mlflow.db"
  inside sh -c "$log" >"$WORK/first" 2>&1
  expect_in ' runs logged, 0 changed, 0 unchanged' "$(<"$WORK/first")"
  inside sh -c "$log" >"$WORK/second" 2>&1
  expect_in 'export_results: 0 runs logged, 0 changed, ' "$(<"$WORK/second")"
  inside python3 -c "
import mlflow, sys
client = mlflow.MlflowClient(tracking_uri='sqlite:///$WORK/mlflow.db')
runs = client.search_runs([client.get_experiment_by_name('$TASK').experiment_id])
run = next(run for run in runs if run.data.params['agent'] == 'experiment/dev')
assert run.data.metrics['score'] > 0.8 and run.data.tags['isolated'] == 'true' and run.info.status == 'FINISHED', run
assert len({run.data.tags['hab.key'] for run in runs}) == len(runs) >= 3, runs
"
}

nothing_left() { expect_nothing_left 20; }

main() {
  setup_suite
  trap 'cluster_teardown; teardown_suite' EXIT
  cluster_setup
  check build_image "the image is built from the rendered definition, and imports all that it is for"
  ((FAILED == 0)) || return 0
  check graded_variant "experiment/dev: a graded score, its limit, its workspace"
  check analysis "an analysis with all its charts and reports"
  check example_script "--script: an example of the repository"
  check notebook_script "--script: a notebook that uses MLflow, Ray and Dask"
  check failing_script "--script: one that fails says why; exit code 4"
  check idle_and_timed "two notebooks that nobody will use"
  check reachable "JupyterLab: reached with the token, 403 without"
  check on_a_terminal "the token is shown to terminals only"
  check token_is_nowhere "the token is in no log, script, command line or queue"
  check no_answers "the answers can't be seen"
  check kept "notebooks are kept, the data can't be changed"
  check killed "kill -9: started again, at another port, with the same token and certificate"
  check cancelled "scancel: no job, no process, no address"
  check refused "what can't start says why"
  check interrupted "Ctrl-C while waiting cancels the job"
  check idle_ended "unused, or at its limit, it ends"
  check real_mlflow "results in a real MLflow, each run once"
  check nothing_left "nothing is left"
}

main
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
((FAILED == 0 && PASSED > 0))
