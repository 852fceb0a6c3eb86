#!/usr/bin/env bash
#SBATCH --job-name=notebook
#SBATCH --output=/checkout/runs/logs/%x-%j.out
#SBATCH --time=00:15:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@60
#
# JupyterLab on the public half of TASK, with a folder for notebooks that stays; run_notebook.sh tells how to reach it.
#
#   sbatch slurm_notebook.sh TASK
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
GRACE=900
CLEANUP=off
DATA=/checkout/data
NOTEBOOKS=/checkout/notebooks
VENV=/checkout/.venv-experiment
LOWEST_PORT=20000
HIGHEST_PORT=60000
IDLE_SECONDS=600

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
service::begin notebook
# it ends itself when nothing has happened for IDLE_SECONDS
SERVICE_MAY_END=1
(($# == 1)) || die 2 "which task? sbatch slurm_notebook.sh TASK"
TASK=$1
PUBLIC=$DATA/$TASK/prepared/public
NOTEBOOKS+=/${TASK//\//-}
common::check_prepared "$TASK" public
container::check experiment
container::isolated || [[ -x $VENV/bin/jupyter-lab ]] || die 2 "there is no JupyterLab in $VENV"
container::scratch "$SCRATCH"
{ mkdir -p "$NOTEBOOKS" && ln -sfn "$(container::inside "$PUBLIC" /home/data)" "$NOTEBOOKS/data"; } ||
  die 3 "can't write to $NOTEBOOKS (paths.notebooks of site $SITE): $(common::lacking "${NOTEBOOKS%/*}")"
TOKEN=$(service::token)

choose_port() { PORT=$(service::free_port "$LOWEST_PORT" "$HIGHEST_PORT"); }

start_server() {
  local folder options
  folder=$(container::inside "$NOTEBOOKS" /home/experiments)
  options=(
    --no-browser --ServerApp.ip="$(service::bind_host)" --ServerApp.port="$PORT" --ServerApp.port_retries=0 --ServerApp.root_dir="$folder"
    # kernels and terminals that nobody uses end, and then the server; one that computes goes on
    --ServerApp.shutdown_no_activity_timeout="$IDLE_SECONDS" --MappingKernelManager.cull_idle_timeout="$IDLE_SECONDS"
    --MappingKernelManager.cull_connected=True --TerminalManager.cull_inactive_timeout="$IDLE_SECONDS"
    # it may not call its makers
    --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None --LabApp.extension_manager=readonly
  )
  ((EUID)) || options+=(--allow-root)
  options+=(--ServerApp.certfile="$(container::inside "$JOB_TMP/tls" /tls)/cert.pem" --ServerApp.keyfile="$(container::inside "$JOB_TMP/tls" /tls)/key.pem")
  CONTAINER_ENV=(
    [JUPYTER_TOKEN]=$TOKEN [SHELL]=/bin/bash [OMP_NUM_THREADS]=$CPUS [TASK_ID]=$TASK [EXPERIMENT_NAME]=$TASK
    [DATA_DIR]=$(container::inside "$PUBLIC" /home/data) [EXPERIMENT_DIR]=$folder
    [WANDB_MODE]=offline [RAY_USAGE_STATS_ENABLED]=0 [DO_NOT_TRACK]=true [GIT_PYTHON_REFRESH]=quiet
  )
  container::proxies CONTAINER_ENV
  container::exec experiment --contained --bind "$JOB_TMP/tls:/tls:ro" --bind "$PUBLIC:/home/data:ro" --bind "$NOTEBOOKS:/home/experiments" --pwd "$folder" -- \
    jupyter-lab "${options[@]}"
}

probe_server() { service::probe "$TOKEN" /api/status --max-time 10; }

publish_server() { service::publish "token=$TOKEN"; }

service::serve 5 "which should take seconds"
