#!/usr/bin/env bash
#SBATCH --job-name=grading_server
#SBATCH --output=/checkout/runs/logs/%x-%j.out
#SBATCH --time=02:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@60
#
# Grading server: alone sees the answers of COMPETITION…; tells agents valid or invalid, and this workflow the score.
#
#   sbatch slurm_grading_server.sh COMPETITION…
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
CPUS=1
GPUS=0
GRACE=600
CLEANUP=off
DATA=/checkout/data
VENV=/checkout/.venv-core
UPLOAD_MB=512
JUDGEMENT_SECONDS=120
JUDGEMENT_MB=2048

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
service::begin grading_server
(($#)) || die 2 "which competition? sbatch slurm_grading_server.sh COMPETITION…"
COMPETITIONS=("$@")
for COMPETITION in "${COMPETITIONS[@]}"; do common::check_prepared "$COMPETITION" public private; done
container::check mlebench-env
container::scratch "$SCRATCH"
TOKEN=$(service::token)
ADMIN_TOKEN=$(service::token)

# any; where the last one was must be forgotten before a new one is looked for, and start_server runs beside that
choose_port() { PORT=0 && rm -f "$JOB_TMP/tmp/port"; }

start_server() {
  local options=() competition
  for competition in "${COMPETITIONS[@]}"; do options+=(--competition-id "$competition"); done
  CONTAINER_ENV=(
    [GRADING_TOKEN]=$TOKEN [GRADING_ADMIN_TOKEN]=$ADMIN_TOKEN [HAB_INSTANCE]=${SERVICE}_$JOB_ID
    [PYTHONPATH]=$(container::inside "$ROOT" /opt/hab) [PYTHONDONTWRITEBYTECODE]=1
  )
  container::exec mlebench-env --contained --bind "$ROOT/helpers:/opt/hab/helpers:ro" --bind "$DATA:/data:ro" \
    --bind "$JOB_TMP/tls:/tls:ro" -- \
    python3 -m helpers.serving.grading_server "${options[@]}" --data-dir "$(container::inside "$DATA" /data)" \
    --host "$(service::bind_host)" --port "$PORT" --workers "$CPUS" --max-upload-mb "$UPLOAD_MB" \
    --tls-cert "$(container::inside "$JOB_TMP/tls" /tls)/cert.pem" --tls-key "$(container::inside "$JOB_TMP/tls" /tls)/key.pem" \
    --judgement-seconds "$JUDGEMENT_SECONDS" --judgement-mb "$JUDGEMENT_MB" \
    --ready-file "$(container::inside "$JOB_TMP/tmp" /tmp)/port"
}

probe_server() {
  [[ -s $JOB_TMP/tmp/port ]] || return 1
  PORT=$(<"$JOB_TMP/tmp/port")
  service::probe "$TOKEN" /health --max-time 10
}

publish_server() { service::publish "token=$TOKEN" "admin_token=$ADMIN_TOKEN"; }

service::serve 10 "which should take seconds"
