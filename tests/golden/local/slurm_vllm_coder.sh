#!/usr/bin/env bash
#SBATCH --job-name=vllm_coder
#SBATCH --output=/checkout/runs/logs/%x-%j.out
#SBATCH --time=02:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@60
#
# Model server coder (Qwen/Qwen3-Coder-30B-A3B-Instruct), OpenAI's API.
#
#   sbatch slurm_vllm_coder.sh
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
CPUS=8
GPUS=1
GRACE=600
CLEANUP=off
VENV=/checkout/.venv-core
SERVED_NAME=qwen3-coder
LOAD_MINUTES=30
MODEL=Qwen/Qwen3-Coder-30B-A3B-Instruct
REVISION=main
MODEL_CACHE=/home/user/.cache/huggingface
OFFLINE=0
GPU_FLAG=--nv
LOWEST_PORT=20000
HIGHEST_PORT=60000
VLLM_OPTIONS=(
  --max-model-len 32768
  --gpu-memory-utilization 0.92
  --tensor-parallel-size 1
  --enable-auto-tool-choice --tool-call-parser qwen3_coder
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
service::begin vllm_coder
IMAGE=vllm
container::check "$IMAGE"
container::scratch "$SCRATCH"
TOKEN=$(service::token)
# a name that only this server answers to
INSTANCE=$SERVED_NAME.job-$JOB_ID

visible_gpus() { # those that the scheduler gave us; not every site hides the others
  [[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || CONTAINER_ENV[CUDA_VISIBLE_DEVICES]=$CUDA_VISIBLE_DEVICES
  [[ -z ${ROCR_VISIBLE_DEVICES:-} ]] || CONTAINER_ENV[ROCR_VISIBLE_DEVICES]=$ROCR_VISIBLE_DEVICES
}

start_server() {
  # vLLM binds with SO_REUSEADDR and listens when it has loaded: until then anybody can take the port, which the probe finds out
  CONTAINER_ENV=(
    [VLLM_API_KEY]=$TOKEN [HF_HOME]=$(container::inside "$MODEL_CACHE" /models) [HF_HUB_OFFLINE]=$OFFLINE
    [VLLM_NO_USAGE_STATS]=1 [VLLM_CACHE_ROOT]=$(container::inside "$JOB_TMP/tmp" /tmp)/vllm
  )
  visible_gpus
  local revision=(--revision "$REVISION") weights=()
  if [[ $MODEL == /* ]]; then
    revision=()
    weights=(--bind "$MODEL:$MODEL:ro")
  fi
  # online, it may fetch the weights
  ((OFFLINE)) || container::proxies CONTAINER_ENV
  container::exec vllm ${GPU_FLAG:+--gpu "$GPU_FLAG"} --bind "$JOB_TMP/tls:/tls:ro" --bind "$MODEL_CACHE:/models" ${weights[@]+"${weights[@]}"} -- \
    python3 -m vllm.entrypoints.openai.api_server --model "$MODEL" ${revision[@]+"${revision[@]}"} \
    --served-model-name "$SERVED_NAME" "$INSTANCE" --host "$(service::bind_host)" --port "$PORT" \
    --ssl-keyfile "$(container::inside "$JOB_TMP/tls" /tls)/key.pem" --ssl-certfile "$(container::inside "$JOB_TMP/tls" /tls)/cert.pem" \
    "${VLLM_OPTIONS[@]}"
}

mkdir -p "$MODEL_CACHE" || die 3 "can't make the model cache $MODEL_CACHE (paths.models of site $SITE)"
choose_port() { PORT=$(service::free_port "$LOWEST_PORT" "$HIGHEST_PORT"); }

sample_server() { # in the same image, which has what tells of GPUs: how loaded the server is, beside the workflow's other records
  CONTAINER_ENV=([MODEL_TOKEN]=$TOKEN)
  visible_gpus
  container::exec "$IMAGE" ${GPU_FLAG:+--gpu "$GPU_FLAG"} --bind "$ROOT/helpers/serving:/sampler:ro" \
    --bind "$JOB_TMP/tls:/tls:ro" --bind "$RUN_GROUP/services:/services" -- \
    python3 -I "$(container::inside "$ROOT/helpers/serving" /sampler)/load_sampler.py" --url "https://127.0.0.1:$PORT" \
    --cert "$(container::inside "$JOB_TMP/tls" /tls)/cert.pem" --gpus "$GPUS" \
    --output "$(container::inside "$RUN_GROUP/services" /services)/${SERVICE}_$JOB_ID.load.csv"
}

probe_server() { # a real one-token completion
  service::probe "$TOKEN" /v1/chat/completions --max-time 60 --header 'Content-Type: application/json' \
    --data "{\"model\": \"$INSTANCE\", \"max_tokens\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"ping\"}]}"
}

publish_server() { service::publish "token=$TOKEN" "served_name=$SERVED_NAME"; }

service::serve "$LOAD_MINUTES" "load_minutes of model coder"
