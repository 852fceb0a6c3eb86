#!/usr/bin/env bash
#SBATCH --job-name=doctor_gpu
#SBATCH --output=/dev/null
#SBATCH --time=00:02:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@10
#
# A probe of site.sh doctor: what a job finds on its node. It ends by itself within a minute, and takes its files along.
#
#   sbatch slurm_doctor_gpu.sh
#
# Rendered by hpc-agent-bench for site local; edit the site file and render again, not this.
set -euo pipefail

# Nothing of the site is believed yet: each of its folders holds a file of the doctor's, and what is found is told in the first folder in
# which that is here too.
PROBE=gpu
NONCE=feed
DOCTOR=/runs/doctor
KEYS=(runs data)
FOLDERS=(/runs '/some data')
COUNT=2
REPORT='' MARK='' HERE=''
for ((i = 0; i < 20 * COUNT; i++)); do
  key=${KEYS[i % COUNT]} file=${FOLDERS[i % COUNT]}/.hab-doctor.$NONCE
  words=$(cat "$file" 2>/dev/null) || words=''
  if [[ " $HERE " != *" $key "* && $words == "$NONCE "* && $words == *" $key "* ]]; then
    HERE+=" $key" MARK=${MARK:-$file} REPORT=${REPORT:-$file.$PROBE}
  fi
  # files may be late
  ((i % COUNT < COUNT - 1)) || { (($(wc -w <<<"$HERE") < COUNT)) && sleep 0.5; } || break
done
# nobody would hear of it, or nobody asks any more
[[ -n $REPORT ]] || exit 0
# over nothing that somebody has laid there
set -o noclobber
exec >"$REPORT.log" 2>&1
: >"$REPORT"
# a report that was taken away stays away
tell() { [[ ! -e $REPORT ]] || printf '%s\t%s\n' "$1" "${2//[$'\t\n']/ }" >>"$REPORT"; }
tell node "${SLURMD_NODENAME:-${HOSTNAME:-$(hostname)}}"
for i in "${!KEYS[@]}"; do
  if [[ " $HERE " != *" ${KEYS[i]} "* ]]; then
    tell folder "${KEYS[i]} $([[ -d ${FOLDERS[i]} ]] && printf other || printf absent)"
  elif ! { : >"${FOLDERS[i]}/.hab-doctor.$NONCE.$PROBE.here"; } 2>/dev/null; then
    tell folder "${KEYS[i]} readonly"
  else
    tell folder "${KEYS[i]} same"
  fi
done
set +o noclobber
tell time "$(date +%s.%N)"

SITE=local
# a copy, so that what is submitted isn't changed by a later change of the checkout
ROOT=/runs/doctor/jobs/code
CHECKOUT=/checkout
[[ -r $ROOT/scripts_hpc/lib/common.sh ]] || {
  printf '%s: there is no %s on this node: paths.runs must lie on a file system that compute nodes see\n' "${0##*/}" "$ROOT" >&2
  exit 3
}
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
common::check_shell
on_exit common::tell_early_end

SCHEDULER=local
RUN_GROUP=/runs/doctor
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
GPUS=1
GRACE=20
CLEANUP=on
VENV=/checkout/.venv-core
LISTED_KEYS=()
LISTED=()
PORTS=(20000 60000)
PEERS=()
GPU_FLAG=--nv
IMAGE_NAMES=()
OUTSIDE=(https://huggingface.co https://pypi.org)
CA_BUNDLE=''
PROXY=http://proxy:3128

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
# shellcheck source=scripts_hpc/lib/doctor_node.sh
source "$ROOT/scripts_hpc/lib/doctor_node.sh"
node::probe
