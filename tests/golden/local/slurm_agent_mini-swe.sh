#!/usr/bin/env bash
#SBATCH --job-name=agent_mini-swe
#SBATCH --output=/checkout/runs/logs/%x-%j.out
#SBATCH --time=01:15:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@180
#
# Agent mini-swe on one competition; GRADING is auto:JOB or a URL, MODEL auto:JOB, a URL, or auto (your newest model server).
#
#   sbatch slurm_agent_mini-swe.sh COMPETITION GRADING [MODEL [FEEDBACK_MODEL [SEED [ROLLOUT]]]]
#
# Rendered by hpc-agent-bench for site local; edit the site file and render again, not this.
set -euo pipefail

SITE=local
ROOT=/checkout
[[ -r $ROOT/scripts_hpc/lib/common.sh ]] || {
  printf '%s: there is no %s on this node: the checkout must lie on a file system that compute nodes see\n' "${0##*/}" "$ROOT" >&2
  exit 3
}
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
common::check_shell
on_exit common::tell_early_end
common::tell_commit &

SCHEDULER=local
RUN_GROUP=''
IMAGES=/checkout/containers
RUNTIME=none
RUNTIME_FLAGS=()
SITE_BINDS=()
SCRATCH="${TMPDIR:-/tmp}"
SCRATCH=${SCRATCH/#\~/"${HOME:-}"}
ADDRESS_DIR=/home/user/.mlebench_addresses
LOCAL_JOBS=$ADDRESS_DIR/local_jobs
INTERFACE=lo
CPUS=2
GPUS=0
GRACE=600
CLEANUP=off
DATA=/checkout/data
RUNS=/checkout/runs
VENV=/checkout/.venv-mini-swe
AGENT=mini-swe
AGENT_FILES=/checkout/templates/agents/mini-swe
IMAGE=mini-swe
NEEDS_MODEL=1
MODEL_LABEL=''
STEP_LIMIT=250
TIME_LIMIT=900
LEAD=180
UPLOAD_MB=512
RUN_GB=200
RUN_FILES=1000000
declare -A CONTAINER_ENV=(
  [COMMAND_TIMEOUT_SECS]=300
)
# external models, by role: base URL, served name, and the variable (of the environment or .env) that holds the key
declare -A EXTERNAL=(
)

# as squeue's %i says it: an element of an array is ARRAY_INDEX
JOB_ID=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}
JOB_ID=${JOB_ID:-${SLURM_JOB_ID:-${HAB_LOCAL_JOB_ID:-$$}}}

# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"
python::isolate
# shellcheck source=scripts_hpc/lib/scheduler.sh
source "$ROOT/scripts_hpc/lib/scheduler.sh"
# shellcheck source=scripts_hpc/lib/service.sh
source "$ROOT/scripts_hpc/lib/service.sh"
# shellcheck source=scripts_hpc/lib/container.sh
source "$ROOT/scripts_hpc/lib/container.sh"
for folder in "$ADDRESS_DIR" ${RUN_GROUP:+"$RUN_GROUP"}; do
  [[ ! -d $folder ]] || LACKING=$(common::room "$folder") || die 3 "$folder: $LACKING (paths.address_dir and paths.runs of site $SITE)"
done
# shellcheck source=scripts_hpc/lib/run.sh
source "$ROOT/scripts_hpc/lib/run.sh"
# shellcheck source=scripts_hpc/lib/agent.sh
source "$ROOT/scripts_hpc/lib/agent.sh"
# shellcheck source=scripts_hpc/lib/endpoint.sh
source "$ROOT/scripts_hpc/lib/endpoint.sh"

(($# >= 2)) || die 2 "usage: sbatch slurm_agent_$AGENT.sh COMPETITION auto:GRADING_JOB|URL [MODEL …]"
COMPETITION=$1 GRADING=$2 MODEL=${3:-auto} FEEDBACK=${4:-} SEED=${5:-0} ROLLOUT=${6:-0}
[[ -n $FEEDBACK ]] || FEEDBACK=$MODEL
# shellcheck source=scripts_hpc/lib/task_competition.sh
source "$ROOT/scripts_hpc/lib/task_$TASK_KIND.sh"
task::find
container::check "$IMAGE"
run::create
on_exit 'run::close'
trap run::asked_to_end TERM INT
container::scratch "$SCRATCH"

run::find_servers
run::enlist
run::record waiting
task::lay_out

# shellcheck disable=SC2329 # agent::start calls it
start_agent() {
  local name
  CONTAINER_ENV+=(
    [COMPETITION_ID]=$COMPETITION [TIME_LIMIT_SECS]=$TIME_LIMIT [STEP_LIMIT]=$STEP_LIMIT [SEED]=$SEED
    [DATA_DIR]=$(container::inside "$PUBLIC" /home/data) [SUBMISSION_DIR]=$(container::inside "$RUN/submission" /home/submission)
    [LOGS_DIR]=$(container::inside "$RUN/logs" /home/logs) [CODE_DIR]=$(container::inside "$RUN/code" /home/code)
    [AGENT_DIR]=$(container::inside "$RUN/overlay" /home/agent)
    [WORKSPACES_DIR]=$(container::inside "$RUN/workspaces" /home/agent/workspaces)
    [EXPERIMENT_DIR]=$(container::inside "$RUN/workspaces" /home/experiments) [EXPERIMENT_NAME]=$RUN_NAME
    [ENDPOINTS_FILE]=$(container::inside "$JOB_TMP/endpoints" /home/agent/endpoints)/env
    [OMP_NUM_THREADS]=$CPUS [PYTHONDONTWRITEBYTECODE]=1
  )
  container::exec "$IMAGE" --contained --bind "$PUBLIC:/home/data:ro" --bind "$RUN/submission:/home/submission" \
    --bind "$RUN/logs:/home/logs" --bind "$RUN/code:/home/code" --bind "$RUN/overlay:/home/agent:ro" \
    --bind "$RUN/workspaces:/home/agent/workspaces" --bind "$JOB_TMP/endpoints:/home/agent/endpoints:ro" \
    --bind "$RUN/workspaces:/home/experiments" \
    --pwd "$(container::inside "$RUN/workspaces" /home/agent/workspaces)" -- \
    bash "$(container::inside "$RUN/overlay" /home/agent)/start.sh"
}

# The agent starts up while the servers do; it waits for the file of addresses itself.
(umask 077 && mkdir "$JOB_TMP/endpoints")
run::ask_endpoints
run::write_bundle
for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do
  CONTAINER_ENV[$name]=$(container::inside "$JOB_TMP/endpoints" /home/agent/endpoints)/ca.pem
done
start_reach() { # sees what the agent's container sees of the network, and shares nothing with it that can be written to
  JOB_TMP=$REACH
  CONTAINER_ENV=(
    [ENDPOINTS_FILE]=$(container::inside "$ENDPOINTS" /home/agent/endpoints)/env
    [AGENT_DIR]=$(container::inside "$RUN/overlay" /home/agent)
  )
  container::exec "$IMAGE" --contained --bind "$PUBLIC:/home/data:ro" --bind "$RUN/overlay:/home/agent:ro" \
    --bind "$ENDPOINTS:/home/agent/endpoints:ro" -- \
    bash "$(container::inside "$RUN/overlay" /home/agent)/reach.sh"
}

REACH=$JOB_TMP/reach ENDPOINTS=$JOB_TMP/endpoints
mkdir -p "$REACH/tmp" "$REACH/shm"
container::hosts
ln "$JOB_TMP/hosts" "$REACH/hosts" # names are added to it in place
set -m
start_reach </dev/null >"$REACH/said" 2>"$REACH/problem" &
REACH_PID=$!
set +m
on_exit "common::end_group $REACH_PID 5"
agent::start "$RUN/agent.log" start_agent
on_exit run::stop_agent
# before anything is made of the agent's end: without containers here it is no fault of the agent's
run::await_container
run::watch_room

run::await_services
run::begin_time
run::write_endpoints
run::record running
run::supervise
run::grade_and_finish
