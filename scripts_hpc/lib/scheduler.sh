#!/usr/bin/env bash
# scheduler.sh: submit, ask, signal and cancel jobs, on Slurm or with its local twin.
#
# Sourced by the job scripts and by run_workflow.sh (functions sched::*), or run by the Python helpers:
#   scheduler.sh KIND states [ID…]     a line a job: id|STATE|reason|elapsed|node
#   scheduler.sh KIND accounting ID…   a line a job that the accounting knows: id|start (seconds since 1970)|seconds|cpus|gpus
#   scheduler.sh KIND cancel ID…
#   scheduler.sh KIND signal NAME ID   to the batch script of a running job
# KIND is slurm or local. STATE is Slurm's long word (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, …),
# or GONE for a job that the scheduler does not know any more. Exit code 3: the scheduler did not answer; nothing is known.
# An element of a job array has the id ARRAY_INDEX; an element that was cancelled before it started is GONE at once.
#
# The local twin runs the same scripts as processes of this machine. It knows jobs, dependencies, signals and time limits,
# and will never know queues, priorities or resources: that is what Slurm is for.

sched::submit() { # sched::submit [--after ID[:ID…]] SCRIPT ARGS…: prints the job id
  local after=''
  if [[ $1 == --after ]]; then
    after=$2
    shift 2
  fi
  "sched::${SCHEDULER}_submit" "$after" "$@"
}
# The elements of an array, with indices from 0, run the same script with the same arguments. (The local twin has no arrays.)
sched::submit_array() { sched::_sbatch "--array=0-$(($1 - 1))" "${@:2}"; } # sched::submit_array ELEMENTS SCRIPT ARGS…: prints its id
sched::states() { (($#)) && "sched::${SCHEDULER}_states" "$@"; }
sched::accounting() { (($#)) && "sched::${SCHEDULER}_accounting" "$@"; } # what was allocated; code 3 where there is no accounting
sched::cancel() { (($#)) && "sched::${SCHEDULER}_cancel" "$@"; }
sched::signal() { "sched::${SCHEDULER}_signal" "$@"; } # sched::signal SIGNAL ID: to the batch script of a running job

sched::alive_in() { # sched::alive_in ID…: prints those that are pending, running or ending; code 3 when nothing is known
  local states id state rest
  states=$(sched::states "$@") || return 3
  while IFS='|' read -r id state rest; do
    if sched::is_alive "$state"; then printf '%s\n' "$id"; fi
  done <<<"$states"
}

sched::is_alive() { # sched::is_alive STATE
  case $1 in
    PENDING | RUNNING | CONFIGURING | COMPLETING | SUSPENDED | RESIZING | REQUEUED | REQUEUE_HOLD | REQUEUE_FED | SIGNALING | STAGE_OUT | STOPPED | SPECIAL_EXIT | RESV_DEL_HOLD) return 0 ;;
    *) return 1 ;;
  esac
}

# ---- Slurm

sched::slurm_submit() {
  local after=$1 options=()
  shift
  # after: fires when the others have started or were cancelled, so no job waits for ever on one that never starts
  [[ -z $after ]] || options+=("--dependency=after:$after" --kill-on-invalid-dep=yes)
  sched::_sbatch ${options[@]+"${options[@]}"} "$@"
}

sched::_sbatch() { # sched::_sbatch ARGUMENTS OF sbatch…
  local id
  # Ctrl-C goes to sbatch too: a job that the scheduler has taken by then would be known to nobody
  ((BASH_SUBSHELL == 0)) || trap '' INT TERM
  id=$(sbatch --parsable "$@") || return
  printf '%s\n' "${id%%;*}"
}

# The jobs to ask for, joined by commas: of elements of arrays, each array once (thousands of ids would not fit into one argument).
sched::_slurm_ids() {
  local id
  local -A ids=()
  for id in "$@"; do ids[${id%%_*}]=1; done
  printf '%s\n' "${!ids[@]}" | sort -n | paste -sd,
}

sched::slurm_states() {
  local ids output errors code=0 options=()
  ids=$(sched::_slurm_ids "$@")
  [[ $* != *_* ]] || options=(--array) # a line an element, those that wait too
  errors=$(mktemp) || return 3
  output=$(squeue --noheader --states=all ${options[@]+"${options[@]}"} --jobs="$ids" --format='%i|%T|%r|%M|%N' 2>"$errors") || code=$?
  if ((code)) && ! grep -q 'Invalid job id' "$errors"; then
    cat "$errors" >&2
    rm -f "$errors"
    return 3
  fi
  rm -f "$errors"
  local -A known=()
  local line missing=()
  while IFS= read -r line; do
    [[ -n $line ]] || continue
    known[${line%%|*}]=$line
  done <<<"$output"
  local id
  for id in "$@"; do [[ -n ${known[$id]:-} ]] || missing+=("$id"); done
  if ((${#missing[@]})); then sched::_slurm_history "${missing[@]}"; fi
  for id in "$@"; do printf '%s\n' "${known[$id]:-$id|GONE|||}"; done
}

# Jobs that squeue has forgotten may still be in the accounting, where a site has one. Fills `known` of its caller.
sched::_slurm_history() {
  local ids line id state elapsed node
  ids=$(sched::_slurm_ids "$@")
  while IFS='|' read -r id state elapsed node; do
    # it lists whole arrays, and lags behind: what squeue knows counts
    [[ -z $id || -n ${known[$id]:-} ]] || known[$id]="$id|${state%% *}||$elapsed|$node"
  done < <(sacct -X --noheader --parsable2 --jobs="$ids" --format=jobid,state,elapsed,nodelist 2>/dev/null)
}

sched::slurm_accounting() {
  local ids output id start seconds cpus resources
  ids=$(sched::_slurm_ids "$@")
  # its daemon may be down, and the client waits for it
  output=$(SLURM_TIME_FORMAT=%s timeout 20 sacct -X --noheader --parsable2 --jobs="$ids" \
    --format=jobid,start,elapsedraw,alloccpus,alloctres) || return 3
  while IFS='|' read -r id start seconds cpus resources; do
    [[ -n $id ]] || continue
    # without a part gres/gpu: a job without GPUs, or a site that doesn't count them (AccountingStorageTRES)
    [[ ,$resources, =~ ,gres/gpu=([0-9]+), ]] || BASH_REMATCH=('' '')
    printf '%s|%s|%s|%s|%s\n' "$id" "$start" "$seconds" "$cpus" "${BASH_REMATCH[1]}"
  done <<<"$output"
}

sched::slurm_cancel() { scancel --quiet "$@"; }
sched::slurm_signal() { scancel --quiet --batch --signal="$1" "$2"; }

# ---- the local twin: a folder a job, LOCAL_JOBS/<id>/{name,state,pid,after,exit_code}

sched::local_submit() {
  local after=$1 script=$2 id
  shift 2
  ((BASH_SUBSHELL == 0)) || trap : INT TERM # the id must be told; the job itself must not inherit it
  (umask 077 && mkdir -p "$LOCAL_JOBS") || return
  id=$(sched::_local_number) || return
  printf '%s\n' "${after//:/ }" >"$LOCAL_JOBS/$id/after"
  printf 'PENDING\n' >"$LOCAL_JOBS/$id/state"
  LOCAL_JOBS=$LOCAL_JOBS setsid bash "${BASH_SOURCE[0]}" local run "$id" "$script" "$@" </dev/null >/dev/null 2>&1 &
  # the runner writes its process id first of all; until then nobody could tell that the job is alive
  while [[ ! -s $LOCAL_JOBS/$id/pid ]]; do common::pause 0.01; done
  printf '%s\n' "$id"
}

sched::_local_number() { # the next free job id; mkdir is the lock
  local id
  id=$(cat "$LOCAL_JOBS/last" 2>/dev/null || printf 0)
  for (( ; ; )); do
    id=$((id + 1))
    if mkdir "$LOCAL_JOBS/$id" 2>/dev/null; then break; fi
    [[ -d $LOCAL_JOBS/$id ]] || return 1
  done
  printf '%s\n' "$id" >"$LOCAL_JOBS/.last.$id" && mv "$LOCAL_JOBS/.last.$id" "$LOCAL_JOBS/last"
  printf '%s\n' "$id"
}

sched::_local_directive() { # sched::_local_directive SCRIPT OPTION: the value of #SBATCH --OPTION=
  sed -n "s/^#SBATCH --$2=//p" "$1" | head -n 1
}

# The start time tells a process from a later one with the same number (field 22 of /proc/PID/stat; the name may hold blanks).
sched::_local_birth() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  local -a fields
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z ]] || return 1
  printf '%s\n' "${fields[19]}"
}

# Every process of a job carries its folder in the environment, daemons included: that is how the end of a job finds them all.
sched::_local_processes() { # sched::_local_processes JOB_FOLDER
  local file
  while IFS= read -r file; do
    file=${file#/proc/}
    printf '%s\n' "${file%%/*}"
  done < <(grep -lzxFs "HAB_LOCAL_JOB=$1" /proc/[0-9]*/environ)
}

sched::local_run() { # the runner of one job: waits for what it depends on, runs the script, ends all that the script left behind
  local id=$1 script=$2 job=$LOCAL_JOBS/$1 dependency output limit child code=0 state=COMPLETED variable cancelled=0
  shift 2
  # before the process id is known: whoever reads it may cancel at once
  trap 'sched::_local_finish "$job" CANCELLED; exit 0' TERM
  printf '%s %s\n' "$$" "$(sched::_local_birth "$$")" >"$job/.pid" && mv "$job/.pid" "$job/pid"
  for dependency in $(<"$job/after"); do
    while [[ $(sched::_local_state "$dependency") == PENDING ]]; do common::pause 0.05; done
  done
  output=$(sched::_local_directive "$script" output)
  output=${output//%j/$id}
  output=${output//%x/$(sched::_local_directive "$script" job-name)}
  limit=$(sched::_seconds "$(sched::_local_directive "$script" time)")
  while IFS= read -r variable; do unset "$variable"; done < <(compgen -e SLURM_)
  # until the script can be found by its environment, a cancellation has to wait, or it would leave it behind
  trap 'cancelled=1' TERM
  HAB_LOCAL_JOB=$job HAB_LOCAL_JOB_ID=$id setsid bash "$script" "$@" >"${output:-/dev/null}" 2>&1 &
  child=$!
  printf '%s\n' "$child" >"$job/child"
  date +%s >"$job/started"
  printf 'RUNNING\n' >"$job/state"
  while kill -0 "$child" 2>/dev/null && [[ -z $(sched::_local_processes "$job") ]]; do common::pause 0.01; done
  trap 'sched::_local_finish "$job" CANCELLED; exit 0' TERM
  ((cancelled == 0)) || kill -TERM "$$"
  common::pause "$limit" "$child"
  if kill -0 "$child" 2>/dev/null; then
    state=TIMEOUT
    kill -TERM "$child" 2>/dev/null
    common::pause 30 "$child"
  fi
  kill -0 "$child" 2>/dev/null || wait "$child" || code=$?
  printf '%s\n' "$code" >"$job/exit_code"
  [[ $state == TIMEOUT || $code == 0 ]] || state=FAILED
  sched::_local_finish "$job" "$state"
}

sched::_seconds() { # sched::_seconds [D-]HH:MM:SS
  local text=$1 days=0 hours minutes seconds
  if [[ $text == *-* ]]; then days=${text%%-*} text=${text#*-}; fi
  IFS=: read -r hours minutes seconds <<<"$text"
  printf '%s\n' $((10#$days * 86400 + 10#$hours * 3600 + 10#$minutes * 60 + 10#$seconds))
}

# Ends every process of the job: TERM, then KILL after 30 s (Slurm's KillWait); then the job is what it is.
sched::_local_finish() { # sched::_local_finish JOB_FOLDER STATE
  local job=$1 state=$2 pids tenths=0 signal timer child
  trap '' TERM
  child=$(cat "$job/child" 2>/dev/null || true)
  while pids=$(sched::_local_processes "$job") && [[ -n $pids ]]; do
    signal=''
    # told once, while the script may still be tidying up; again when it has gone: it may have been starting something just then
    if ((tenths == 0)) || { ((tenths % 5 == 0)) && ! sched::_local_birth "$child" >/dev/null; }; then signal=TERM; fi
    if ((tenths >= 300)); then signal=KILL; fi
    # shellcheck disable=SC2086
    [[ -z $signal ]] || kill -s "$signal" $pids 2>/dev/null
    tenths=$((tenths + 1))
    common::pause 0.1
  done
  # a pause that was interrupted leaves its timer
  for timer in $(jobs -p); do kill "$timer" 2>/dev/null || true; done
  date +%s >"$job/ended"
  printf '%s\n' "$state" >"$job/.state" && mv "$job/.state" "$job/state"
}

sched::_local_state() { # sched::_local_state ID
  local job=$LOCAL_JOBS/$1 state pid birth
  state=$(cat "$job/state" 2>/dev/null) || {
    printf 'GONE\n'
    return 0
  }
  if [[ $state == PENDING || $state == RUNNING ]]; then
    read -r pid birth <"$job/pid" 2>/dev/null || true
    [[ -n ${pid:-} && $(sched::_local_birth "$pid") == "$birth" ]] || state=NODE_FAIL
  fi
  printf '%s\n' "$state"
}

sched::local_states() {
  local id state started ended elapsed reason
  for id in "$@"; do
    state=$(sched::_local_state "$id")
    started=$(cat "$LOCAL_JOBS/$id/started" 2>/dev/null || true)
    elapsed='' reason=''
    ended=$(cat "$LOCAL_JOBS/$id/ended" 2>/dev/null || date +%s)
    [[ -z $started ]] || elapsed=$((ended - started))
    [[ $state != PENDING ]] || reason=Dependency
    printf '%s|%s|%s|%s|%s\n' "$id" "$state" "$reason" "$elapsed" "${HOSTNAME:-localhost}"
  done
}

sched::local_accounting() { # CPUs and GPUs are not allocated here, so they are not told
  local id started ended
  for id in "$@"; do
    started=$(cat "$LOCAL_JOBS/$id/started" 2>/dev/null) || continue
    ended=$(cat "$LOCAL_JOBS/$id/ended" 2>/dev/null || date +%s)
    printf '%s|%s|%s||\n' "$id" "$started" $((ended - started))
  done
}

sched::local_cancel() {
  local id state pid
  for id in "$@"; do
    state=$(sched::_local_state "$id")
    [[ $state == PENDING || $state == RUNNING ]] || continue
    read -r pid _ <"$LOCAL_JOBS/$id/pid" || continue
    kill -TERM "$pid" 2>/dev/null || true
  done
}

sched::local_signal() {
  local pid
  [[ $(sched::_local_state "$2") == RUNNING ]] || return 0
  pid=$(cat "$LOCAL_JOBS/$2/child") && kill -s "$1" "$pid" 2>/dev/null || true
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -uo pipefail
  # shellcheck source=scripts_hpc/lib/common.sh
  source "${BASH_SOURCE[0]%/*}/common.sh"
  SCHEDULER=$1
  shift
  case $1 in
    states | accounting | cancel | signal) "sched::$1" "${@:2}" ;;
    run) sched::local_run "${@:2}" ;;
    *) printf 'scheduler.sh: unknown verb %s\n' "$1" >&2 && exit 2 ;;
  esac
fi
