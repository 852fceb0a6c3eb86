#!/usr/bin/env bash
#SBATCH --job-name=vllm_replay
#SBATCH --output=/checkout/runs/logs/%x-%j.out
#SBATCH --time=02:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@60
#
# Model server replay (replay: not a language model), OpenAI's API.
#
#   sbatch slurm_vllm_replay.sh
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
VENV=/checkout/.venv-core
SERVED_NAME=replay
LOAD_MINUTES=5

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
service::begin vllm_replay
IMAGE=mlebench-env
container::check "$IMAGE"
container::scratch "$SCRATCH"
TOKEN=$(service::token)
# a name that only this server answers to
INSTANCE=$SERVED_NAME.job-$JOB_ID

# any; where the last one was must be forgotten before a new one is looked for, and start_server runs beside that
choose_port() { PORT=0 && rm -f "$JOB_TMP/tmp/port"; }

start_server() {
  CONTAINER_ENV=([MODEL_TOKEN]=$TOKEN [PYTHONPATH]=$(container::inside "$ROOT" /opt/hab) [PYTHONDONTWRITEBYTECODE]=1)
  container::exec "$IMAGE" --contained --bind "$ROOT/helpers:/opt/hab/helpers:ro" --bind "$ROOT/templates:/opt/hab/templates:ro" \
    --bind "$JOB_TMP/tls:/tls:ro" -- python3 -m helpers.serving.replay_server --host "$(service::bind_host)" --port "$PORT" \
    --tls-cert "$(container::inside "$JOB_TMP/tls" /tls)/cert.pem" --tls-key "$(container::inside "$JOB_TMP/tls" /tls)/key.pem" \
    --served-name "$SERVED_NAME" --served-name "$INSTANCE" --ready-file "$(container::inside "$JOB_TMP/tmp" /tmp)/port"
}

sample_server() { # in the same image, which has what tells of GPUs: how loaded the server is, beside the workflow's other records
  CONTAINER_ENV=([MODEL_TOKEN]=$TOKEN)
  container::exec "$IMAGE" --contained --bind "$ROOT/helpers/serving:/sampler:ro" \
    --bind "$JOB_TMP/tls:/tls:ro" --bind "$RUN_GROUP/services:/services" -- \
    python3 -I "$(container::inside "$ROOT/helpers/serving" /sampler)/load_sampler.py" --url "https://127.0.0.1:$PORT" \
    --cert "$(container::inside "$JOB_TMP/tls" /tls)/cert.pem" --gpus "$GPUS" \
    --output "$(container::inside "$RUN_GROUP/services" /services)/${SERVICE}_$JOB_ID.load.csv"
}

probe_server() { # a real one-token completion
  [[ -s $JOB_TMP/tmp/port ]] || return 1
  PORT=$(<"$JOB_TMP/tmp/port")
  service::probe "$TOKEN" /v1/chat/completions --max-time 60 --header 'Content-Type: application/json' \
    --data "{\"model\": \"$INSTANCE\", \"max_tokens\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"ping\"}]}"
}

publish_server() { service::publish "token=$TOKEN" "served_name=$SERVED_NAME"; }

service::serve "$LOAD_MINUTES" "load_minutes of model replay"
