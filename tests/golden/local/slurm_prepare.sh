#!/usr/bin/env bash
#SBATCH --job-name=prepare
#SBATCH --output=/checkout/runs/logs/%x-%j.out
#SBATCH --time=01:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@60
#
# Prepares tasks: those named, or (in an array of prepare_tasks.sh) part FIRST + its element of the list.
#
#   sbatch slurm_prepare.sh TASK…
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
TASKS=''
VENV=/checkout/.venv-core
THREADS=2
OPTIONS=()
RAW=''
SECONDS_GIVEN=3600

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
(($#)) || [[ -n $RUN_GROUP ]] || die 2 "which tasks? sbatch slurm_prepare.sh TASK…"
container::check prepare
container::scratch "$SCRATCH"
BINDS=(--bind "$ROOT/helpers:/opt/hab/helpers:ro" --bind "$ROOT/templates:/opt/hab/templates:ro"
  --bind "$ROOT/site-config:/opt/hab/site-config:ro" --bind "$DATA:/data")
if [[ -n $RUN_GROUP ]]; then
  PART=$((${1:-0} + ${SLURM_ARRAY_TASK_ID:-${HAB_LOCAL_ELEMENT:-0}}))
  : >>"$RUN_GROUP/events/$PART" # it has started
  cp "$RUN_GROUP/parts/$PART" "$JOB_TMP/tmp/tasks"
  BINDS+=(--bind "$RUN_GROUP/events:/events")
  OPTIONS+=(--events "$(container::inside "$RUN_GROUP/events" /events)/$PART")
else
  printf '%s\n' "$@" >"$JOB_TMP/tmp/tasks"
fi

# The command sees a site of its own: where data and tasks lie in the container. Data sets come from outside: a proxy, its
# certificates, and Kaggle's credentials, which are in a folder of the job alone or in the environment of the command alone.
CONTAINER_ENV=(
  [PYTHONPATH]=$(container::inside "$ROOT" /opt/hab) [PYTHONDONTWRITEBYTECODE]=1 [PYTHONUNBUFFERED]=1
  [HPC_SITE]=local [HPC_PATHS__DATA]=$(container::inside "$DATA" /data)
)
if [[ -n $TASKS ]]; then
  BINDS+=(--bind "$TASKS:/tasks:ro")
  CONTAINER_ENV[HPC_PATHS__TASKS]=$(container::inside "$TASKS" /tasks)
fi
if [[ -n $RAW ]]; then
  RAW_INSIDE=$(container::inside "$RAW" "/raw$([[ -d $RAW ]] || printf .zip)")
  BINDS+=(--bind "$RAW:$RAW_INSIDE:ro")
  OPTIONS+=(--raw "$RAW_INSIDE")
fi
container::proxies CONTAINER_ENV
# all that Kaggle's client knows as credentials, of the first folder where one of its versions looks and there are some
for folder in ${KAGGLE_CONFIG_DIR:+"$KAGGLE_CONFIG_DIR"} "${HOME:-}/.kaggle" "${XDG_CONFIG_HOME:-${HOME:-}/.config}/kaggle"; do
  [[ ! -d $JOB_TMP/tmp/.kaggle ]] || break
  for name in access_token access_token.txt credentials.json kaggle.json; do
    [[ ! -f $folder/$name || ! -r $folder/$name ]] ||
      install -D --mode=600 "$folder/$name" "$JOB_TMP/tmp/.kaggle/$name"
  done
done
for name in KAGGLE_API_TOKEN KAGGLE_USERNAME KAGGLE_KEY; do CONTAINER_ENV[$name]=$(common::key "$name"); done
if [[ -f ${CONTAINER_ENV[KAGGLE_API_TOKEN]} ]]; then # it may name a file that holds the token
  CONTAINER_ENV[KAGGLE_API_TOKEN]=$(<"${CONTAINER_ENV[KAGGLE_API_TOKEN]}")
fi
for name in "${!CONTAINER_ENV[@]}"; do
  [[ -n ${CONTAINER_ENV[$name]} ]] || unset "CONTAINER_ENV[$name]"
done

start_preparation() {
  local temporary
  temporary=$(container::inside "$JOB_TMP/tmp" /tmp)
  container::exec prepare "${BINDS[@]}" --pwd "$temporary" -- python3 -m helpers.prepare_all_tasks --task-list "$temporary/tasks" \
    --data-dir "${CONTAINER_ENV[HPC_PATHS__DATA]}" --threads "$THREADS" ${OPTIONS[@]+"${OPTIONS[@]}"}
}

# shellcheck disable=SC2329 # the trap below calls it
asked_to_end() { # by --signal a minute or two before the time limit, or with the job
  ((SECONDS < SECONDS_GIVEN - 150)) || die 3 "reached its time limit: raise jobs.prepare.time of site $SITE"
  die 130 "was asked to end by the scheduler or a person (SIGTERM)"
}

set -m
start_preparation &
PREPARATION=$!
set +m
on_exit "common::end_group $PREPARATION 15"
trap asked_to_end TERM INT
CODE=0
wait "$PREPARATION" || CODE=$?
((CODE == 0)) || ! FAULT=$(container::fault) || die 3 "$FAULT"
exit "$CODE"
