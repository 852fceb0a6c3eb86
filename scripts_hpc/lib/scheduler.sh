#!/usr/bin/env bash
# scheduler.sh: submit, ask, signal and cancel jobs, on Slurm or with its local twin.
#
# Sourced by the job scripts and by run_workflow.sh (functions sched::*), or run by the Python helpers:
#   scheduler.sh KIND states [ID…]     a line a job: id|STATE|reason|elapsed|node
#   scheduler.sh KIND accounting ID…   a line a job that the accounting knows: id|start (seconds since 1970)|seconds|cpus|gpus
#                                      of both: - instead of IDs for those on standard input, a line each, as many as there are
#   scheduler.sh KIND jobs_of PREFIX   a line id|command for each of the user's jobs whose command begins so
#   scheduler.sh KIND cancel ID…
#   scheduler.sh KIND signal NAME ID   to the batch script of a running job
#   scheduler.sh slurm ask COMMAND…    one of Slurm's own commands, as it is called here
# KIND is slurm or local. STATE is Slurm's long word (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, …),
# or GONE for a job that the scheduler does not know any more. Exit code 3: the scheduler did not answer; nothing is known.
# An element of a job array has the id ARRAY_INDEX; an element that was cancelled before it started is GONE at once on Slurm. The array's
# own number stands for an element that lives, else for the first.
# Every question has SCHEDULER_SECONDS: a daemon that hangs is one that doesn't answer. Answers are shared (sched::_shared).
#
# The local twin runs the same scripts as processes of this machine. It knows jobs, job arrays of which so many elements run at a time,
# dependencies, signals and time limits, and will never know queues, priorities or resources: that is what Slurm is for.

# The id is the last line; what the scheduler says besides goes to stderr. Code 75: a fault of the kind that passes, after which the
# scheduler may have taken the job all the same; 76: it took the job without saying which; any other: it refused. An array's elements,
# with indices from 0, run the same script with the same arguments: on Slurm as many at a time as there is room for, here at most as many
# as the machine has processors.
sched::submit() { # sched::submit [--after IDS|--after-any IDS] [--after-end IDS] [--array ELEMENTS] [--at-once ELEMENTS] SCRIPT ARGS…; IDS: ID[:ID…]
  local after='' after_end='' elements='' at_once=''
  while [[ $1 == --* ]]; do
    case $1 in
      --after) after=$2 ;;                  # when they have started, or were cancelled: no job waits for ever on one that never starts
      --after-any) after=${2//:/?after:} ;; # when one of them has; alone (Slurm knows no brackets)
      --after-end) after_end=$2 ;;
      --array) elements=$2 ;;
      --at-once) at_once=$2 ;;
      *) die 2 "sched::submit: unknown option $1" ;;
    esac
    shift 2
  done
  "sched::${SCHEDULER}_submit" "$@"
}
sched::jobs_of() { "sched::${SCHEDULER}_jobs_of" "$@"; } # sched::jobs_of PREFIX: id|command of the user's jobs whose command begins so; code 3
sched::states() { (($#)) && "sched::${SCHEDULER}_states" "$@"; }
sched::accounting() { (($#)) && "sched::${SCHEDULER}_accounting" "$@"; } # what was allocated; code 3 where there is no accounting
sched::cancel() { (($#)) && "sched::${SCHEDULER}_cancel" "$@"; }
sched::left() { "sched::${SCHEDULER}_left" "$@"; }     # sched::left ID: seconds until its time limit, of a job that runs; nothing for others; code 3
sched::signal() { "sched::${SCHEDULER}_signal" "$@"; } # sched::signal SIGNAL ID: to the batch script of a running job

: "${SCHEDULER_SECONDS:=20}"

SCHED_ALIVE='PENDING|RUNNING|CONFIGURING|COMPLETING|SUSPENDED|RESIZING|REQUEUED|REQUEUE_HOLD|REQUEUE_FED|SIGNALING|STAGE_OUT|STOPPED'
SCHED_ALIVE+='|SPECIAL_EXIT|RESV_DEL_HOLD'
sched::is_alive() { [[ $1 =~ ^($SCHED_ALIVE)$ ]]; } # sched::is_alive STATE

sched::alive_in() { # sched::alive_in ID…: prints those that are pending, running or ending; code 3 when nothing is known
  local states id state rest
  states=$("sched::${SCHEDULER}_queued" "$@") || return 3
  while IFS='|' read -r id state rest; do
    if sched::is_alive "$state"; then printf '%s\n' "$id"; fi
  done <<<"$states"
}

: "${SCHEDULER_FRESH:=10}" # so many seconds old an answer may be that another job of the user was given; 0: none
: "${SCHEDULER_DOUBT:=4}"

# Those of the jobs that are gone: two looks, SCHEDULER_DOUBT seconds apart, say so. Code 3 when nothing is known.
sched::gone_of() { # sched::gone_of ID…
  local alive id gone look fresh=$SCHEDULER_FRESH
  for look in 1 2; do
    alive=$(SCHEDULER_FRESH=$fresh sched::alive_in "$@") || return 3
    gone=()
    for id in "$@"; do [[ $'\n'$alive$'\n' == *$'\n'"$id"$'\n'* ]] || gone+=("$id"); done
    ((${#gone[@]})) || return 0
    set -- "${gone[@]}"
    ((look == 2)) || common::pause "$SCHEDULER_DOUBT"
    fresh=$((SCHEDULER_DOUBT / 2)) # another answer than the first, whoever asks for it
  done
  printf '%s\n' "$@"
}

# ---- Slurm

# One of Slurm's commands, for so long and no longer, and without the variables that give its options other values (SBATCH_PARTITION,
# SQUEUE_USERS, SLURM_TIME_FORMAT): the site file says what is asked for. Ctrl-C doesn't reach one that changes something.
sched::_call() ( # sched::_call COMMAND ARGUMENTS…
  group=(--foreground) code=0
  [[ $1 != sbatch && $1 != scancel ]] || group=()
  if [[ $1 == sbatch && -n ${SCHED_AS_BEGUN:-} ]]; then
    (sched::_as_begun timeout --kill-after=5 "$SCHEDULER_SECONDS" "$@") || code=$?
  else
    sched::inputs
    ((${#INPUTS[@]} == 0)) || unset "${INPUTS[@]}"
    timeout ${group[@]+"${group[@]}"} --kill-after=5 "$SCHEDULER_SECONDS" "$@" || code=$?
  fi
  ((code != 124 && code != 137)) || printf '%s gave no answer within %s s\n' "$1" "$SCHEDULER_SECONDS" >&2
  exit "$code"
)

# From within a job: a command with the environment that the job was given, and not with what its script has made of that since, as sbatch
# hands it on: links of a chain would add to it, each its own. What Slurm sets for a job anew (https://slurm.schedmd.com/gres.html) is left out.
sched::_as_begun() { # sched::_as_begun COMMAND…
  local HAB_PAIR HAB_PAIRS=() HAB_PATH=$PATH INPUTS
  { mapfile -t -d '' HAB_PAIRS <"/proc/$$/environ"; } 2>/dev/null || true
  if ((${#HAB_PAIRS[@]})); then
    for HAB_PAIR in $(compgen -e); do export -n "${HAB_PAIR?}"; done
    for HAB_PAIR in "${HAB_PAIRS[@]}"; do
      # (functions are exported still; some of the shell's own can't be set)
      [[ ! $HAB_PAIR =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] || export "${HAB_PAIR?}" 2>/dev/null || true
    done
  fi
  type -P "$4" >/dev/null || PATH=$HAB_PATH
  unset CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL
  sched::inputs
  ((${#INPUTS[@]} == 0)) || unset "${INPUTS[@]}"
  exec "$@"
}

# Sets INPUTS to the variables that are kept from Slurm's commands: all but those that say which cluster it is, and who asks there.
sched::inputs() {
  local name
  INPUTS=()
  for name in "${!SBATCH_@}" "${!SQUEUE_@}" "${!SCANCEL_@}" "${!SACCT_@}" "${!SINFO_@}" "${!SCONTROL_@}" "${!SLURM_@}"; do
    case $name in
      SLURM_CONF | SLURM_CONF_SERVER | SLURM_CLUSTERS | SLURM_JWT | SLURM_SACK_*) ;;
      *) INPUTS+=("$name") ;;
    esac
  done
}

# Faults that pass (https://github.com/SchedMD/slurm, src/common/slurm_errno.c, and what sbatch.c tries again by itself).
SCHED_PASSING='Socket timed out|Unable to contact slurm controller|temporarily unable to accept job|Slurm job queue full|Zero Bytes were transmitted'
SCHED_PASSING+='|Message (send|receive) failure|Communication (connection|shutdown) failure|Connection timed out|Connection (reset|refused)|Rate limit exceeded'
SCHED_PASSING+='|backup controller in standby mode|Resource temporarily unavailable|not responding|Transport endpoint is not connected|gave no answer within'

sched::slurm_submit() {
  local options=() dependency='' output code=0 id errors
  [[ -z $after ]] || dependency=after:$after
  [[ -z $after_end ]] || dependency+=${dependency:+,}afterany:$after_end
  [[ -z $dependency ]] || options+=("--dependency=$dependency" --kill-on-invalid-dep=yes)
  [[ -z $elements ]] || options+=("--array=0-$((elements - 1))${at_once:+%$at_once}")
  # Ctrl-C goes to sbatch too: a job that the scheduler has taken by then would be known to nobody
  ((BASH_SUBSHELL == 0)) || trap '' INT TERM HUP
  errors=$(mktemp) || return
  # it tries again by itself, for two minutes
  output=$(SCHEDULER_SECONDS=180 sched::_call sbatch --parsable ${options[@]+"${options[@]}"} "$@" 2>"$errors") || code=$?
  cat "$errors" >&2
  if ((code)); then
    ! grep -qE "$SCHED_PASSING" "$errors" || code=75
    [[ -s $errors || -z $output ]] || printf '%s\n' "$output" >&2
  elif ! id=$(grep -xE '[0-9]+(;[^[:space:]]+)?' <<<"$output"); then
    # a wrapper or a profile of the site may print what it likes, but not instead of the id
    printf '%s\n' "${output:-(nothing)}" >&2
    code=76
  fi
  rm -f "$errors"
  ((code == 0)) || return "$code"
  id=${id##*$'\n'}
  printf '%s\n' "${id%%;*}"
}

sched::slurm_jobs_of() {
  local output id command
  output=$(sched::_call squeue --noheader --states=all --all --user="$UID" --format='%F|%o') || return 3
  while IFS='|' read -r id command; do
    [[ $command != "$1"* ]] || printf '%s|%s\n' "$id" "$command"
  done < <(sort -u <<<"$output")
}

# The jobs to ask for, joined by commas: of elements of arrays, each array once. A line has as many as one argument may be long (128 KiB).
sched::_slurm_ids() {
  local id
  local -A ids=()
  for id in "$@"; do ids[${id%%_*}]=1; done
  printf '%s\n' "${!ids[@]}" | sort -n | xargs -n 10000 | tr ' ' ,
}

sched::slurm_queued() { sched::_shared squeue "$SCHEDULER_FRESH" "$@"; } # sched::slurm_queued ID…: their states, as far as squeue knows them

# Jobs that squeue has forgotten may still be in the accounting, where a site has one.
sched::slurm_states() {
  local lines gone
  lines=$(sched::slurm_queued "$@") || return 3
  mapfile -t gone < <(sed -n 's/^\([^|]*\)|GONE|.*/\1/p' <<<"$lines")
  sed '/^[^|]*|GONE|/d' <<<"$lines"
  ((${#gone[@]} == 0)) || sched::_shared sacct 60 "${gone[@]}"
}

# What squeue and sacct said last serves all jobs of a user, on all nodes: squeue is asked for all that he has, and the answer lies beside
# the addresses, a line a job, with the moment of the question (ms since 1970) before it. Who finds it too old asks, and others wait
# for his answer. Where an old one would do, there are some seconds between two questions of squeue.
sched::_shared() ( # sched::_shared squeue|sacct SECONDS ID…: their lines in an answer that is not older than that; code 3
  command=$1 fresh=$2 file=/dev/null code=0
  shift 2
  began=$(date +%s%3N)
  oldest=$((began - fresh * 1000))
  # another user's folder has answers on his jobs
  if [[ -O ${ADDRESS_DIR:-} ]] && { : >>"$ADDRESS_DIR/.$command"; } 2>/dev/null; then file=$ADDRESS_DIR/.$command; fi
  ! sched::_told "$oldest" "$began" "$@" <"$file" || return 0
  if [[ -f $file ]] && { exec {lock}>>"$file.lock"; } 2>/dev/null; then
    # a file system without locks costs some calls more
    flock --wait "$SCHEDULER_SECONDS" --conflict-exit-code 99 "$lock" 2>/dev/null || code=$?
    if ((code == 99)); then
      printf 'another of your jobs waits for %s, for more than %s s\n' "$command" "$SCHEDULER_SECONDS" >&2
      return 3
    fi
    ! sched::_told "$oldest" "$began" "$@" <"$file" || return 0
    [[ $command != squeue || $fresh == 0 ]] || common::pause "$(sched::_too_soon <"$file")"
  fi
  asked=$(date +%s%3N)
  answer=$("sched::_ask_$command" "$file" "$@") || return 3
  answer=$(awk -v asked="$asked" '{ print asked "|" $0 }' <<<"$answer")
  # the accounting was asked for these jobs alone
  [[ $command == squeue ]] || answer+=$'\n'$(awk -F'|' -v oldest="$oldest" '$1 + 0 >= oldest' "$file")
  [[ ! -f $file ]] || common::write_atomic "$file" 0600 <<<"$answer" 2>/dev/null || true
  sched::_told "$asked" "$asked" "$@" <<<"$answer"
)

sched::_too_soon() { # of an answer on stdin: the seconds until another question may be asked, 3 s after that one
  awk -F'|' -v now="$(date +%s%3N)" '{ left = $1 + 3000 - now; exit } END { print (left > 0 && left <= 3000) ? int(left / 1000) + 1 : 0 }'
}

# The lines of these jobs in an answer on stdin. Code 1 when one isn't in it, unless all that there are were asked for since BEGAN: then it
# is GONE (a job may have been submitted after an older question). What is older than OLDEST, or of a clock far ahead, counts for nothing.
# An array's own number stands for an element that lives, else for the first.
sched::_told() { # sched::_told OLDEST BEGAN ID…
  awk -F'|' -v oldest="$1" -v began="$2" -v alive="^($SCHED_ALIVE)\$" '
    FNR == NR { id[NR] = $1; count = NR; next }
    $1 + 0 < oldest || $1 - began > 60000 || ($2 in said) { next }
    $2 == "" { all = all || $1 >= began; next }
    {
      said[$2] = substr($0, length($1 $2) + 2)
      array = $2
      if (sub(/_.*/, "", array) && (!(array in said) || $3 ~ alive)) said[array] = said[$2]
    }
    END {
      for (i = 1; i <= count; i++) if (!(id[i] in said) && !all) exit 1
      for (i = 1; i <= count; i++) print id[i] ((id[i] in said) ? said[id[i]] : "|GONE|||")
    }' <(printf '%s\n' "${@:3}") -
}

# An empty line, as all were asked for, and a line a job. Where answers aren't shared, these jobs are all.
sched::_ask_squeue() { # sched::_ask_squeue FILE ID…; code 3
  local which=(--user="$UID") output
  [[ -f $1 ]] || mapfile -t which < <(sched::_slurm_ids "${@:2}" | sed 's/^/--jobs=/')
  # more than one argument holds: asked for all that there are, of everybody
  ((${#which[@]} == 1)) || which=()
  printf '\n'
  # in hidden partitions too
  output=$(sched::_call squeue --noheader --states=all --array --all ${which[@]+"${which[@]}"} --format='%i|%T|%r|%M|%N' 2>&1) || case $output in
    *'Invalid job id'*) output='' ;;
    *) printf '%s\n' "$output" >&2 && return 3 ;;
  esac
  printf '%s\n' "$output"
}

sched::_ask_sacct() { # sched::_ask_sacct FILE ID…
  sched::_sacct jobid,state,elapsed,nodelist "${@:2}" 2>/dev/null |
    awk -F'|' 'NF > 3 { sub(/ .*/, "", $2); print $1 "|" $2 "||" $3 "|" $4 }'
  printf '%s|GONE|||\n' "${@:2}"
}

sched::_sacct() { # sched::_sacct FORMAT ID…: its lines, times in seconds since 1970
  local ids
  while read -r ids <&3; do
    sched::_call env SLURM_TIME_FORMAT=%s sacct -X --noheader --parsable2 --jobs="$ids" --format="$1" || return
  done 3< <(sched::_slurm_ids "${@:2}")
}

sched::slurm_accounting() {
  local output
  # its daemon may be down, and the client waits for it
  output=$(sched::_sacct jobid,start,elapsedraw,alloccpus,alloctres "$@") || return 3
  # without a part gres/gpu: a job without GPUs, or a site that doesn't count them (AccountingStorageTRES)
  awk -F'|' '$1 != "" {
    resources = "," $5 ","
    gpus = match(resources, /,gres\/gpu=[0-9]+,/) ? substr(resources, RSTART + 10, RLENGTH - 11) : ""
    print $1 "|" $2 "|" $3 "|" $4 "|" gpus
  }' <<<"$output"
}

sched::slurm_left() {
  local state left
  left=$(sched::_call squeue --noheader --jobs="$1" --format='%T|%L') || return 3
  IFS='|' read -r state left <<<"$left"
  [[ $state == RUNNING && $left =~ ^([0-9]+-)?[0-9:]+$ ]] || return 0
  # without hours, or less
  if [[ $left != *-* ]]; then
    while [[ $left != *:*:* ]]; do left=0:$left; done
  fi
  sched::_seconds "$left"
}

sched::slurm_cancel() { sched::_call scancel --quiet "$@"; }
sched::slurm_signal() { sched::_call scancel --quiet --batch --signal="$1" "$2"; }

# ---- the local twin: a folder a job, LOCAL_JOBS/<id>/{name,state,pid,after,exit_code}
#
# An array's folder has its number of elements and the process id of the runner that starts them. An element's folder, LOCAL_JOBS/<id>_<index>,
# is made by the element's own runner, which does with it what it does for any job; until then, the array's folder tells what the element is.

sched::local_submit() {
  local script=$1 id runner run=(run)
  shift
  [[ ${elements:-1} =~ ^[1-9][0-9]*$ && ${at_once:-1} =~ ^[1-9][0-9]*$ ]] || {
    printf 'an array has at least one element, and runs at least one at a time, not %s and %s\n' "${elements:-1}" "${at_once:-1}" >&2
    return 1
  }
  ((BASH_SUBSHELL == 0)) || trap : INT TERM # the id must be told; the job itself must not inherit it
  (umask 077 && mkdir -p "$LOCAL_JOBS") || return
  id=$(sched::_local_number) || return
  # what is to wait for the first of several waits for all here, where none has to queue
  after=${after//\?after:/:}
  printf '%s\n' "${after//:/ }" >"$LOCAL_JOBS/$id/after"
  printf '%s\n' "${after_end//:/ }" >"$LOCAL_JOBS/$id/after_end"
  if [[ -n $elements ]]; then
    run=(run_array "${at_once:-$(nproc)}")
    printf '%s\n' "$elements" >"$LOCAL_JOBS/$id/elements"
  fi
  printf 'PENDING\n' >"$LOCAL_JOBS/$id/state"
  # a job that submits another takes it for none of its own processes
  LOCAL_JOBS=$LOCAL_JOBS env -u HAB_LOCAL_JOB -u HAB_LOCAL_JOB_ID -u HAB_LOCAL_ELEMENT \
    setsid bash "${BASH_SOURCE[0]}" local "${run[@]}" "$id" "$script" "$@" </dev/null >/dev/null 2>&1 &
  # the runner writes its process id first of all; until then nobody could tell that the job is alive
  runner=$!
  until [[ -s $LOCAL_JOBS/$id/pid ]]; do
    kill -0 "$runner" 2>/dev/null || [[ -s $LOCAL_JOBS/$id/pid ]] || {
      printf 'job %s ended before it began: is %s still there, and can it be written?\n' "$id" "$LOCAL_JOBS" >&2
      return 1
    }
    common::pause 0.01
  done
  printf '%s\n' "$id"
}

sched::local_jobs_of() { :; } # whoever submits here is always told the id

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

sched::_local_directive() { # sched::_local_directive SCRIPT OPTION: the value of #SBATCH --OPTION=, without its quotes
  sed -n "s/^#SBATCH --$2=//p" "$1" | head -n 1 | xargs -r printf '%s\n'
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
  local id=$1 script=$2 job=$LOCAL_JOBS/$1 output limit child code=0 state=COMPLETED variable cancelled=0
  shift 2
  # before the process id is known: whoever reads it may cancel at once
  trap 'sched::_local_finish "$job" CANCELLED; exit 0' TERM
  unset HAB_LOCAL_ELEMENT
  if [[ $id == *_* ]]; then
    sched::_local_begin "$id"
    export HAB_LOCAL_ELEMENT=${id#*_}
  else
    sched::_local_register "$job"
    sched::_local_await "$job"
  fi
  output=$(sched::_local_output "$script" "$id")
  limit=$(sched::_local_directive "$script" time)
  limit=$(sched::_seconds "${limit:-365-00:00:00}") # none was asked for: none
  while IFS= read -r variable; do unset "$variable"; done < <(compgen -e SLURM_)
  # until the script can be found by its environment, a cancellation has to wait, or it would leave it behind
  trap 'cancelled=1' TERM
  HAB_LOCAL_JOB=$job HAB_LOCAL_JOB_ID=$id setsid bash "$script" "$@" >"${output:-/dev/null}" 2>&1 &
  child=$!
  printf '%s\n' "$child" >"$job/child"
  date +%s >"$job/started"
  printf '%s\n' "$limit" >"$job/limit"
  sched::_local_tell "$job" RUNNING
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

sched::_local_register() { # sched::_local_register JOB_FOLDER: that of this process
  printf '%s %s\n' "$$" "$(common::birth "$$")" >"$1/.pid" && mv "$1/.pid" "$1/pid"
}

sched::_local_tell() { printf '%s\n' "$2" >"$1/.state" && mv "$1/.state" "$1/state"; } # sched::_local_tell JOB_FOLDER STATE

sched::_local_await() { # sched::_local_await JOB_FOLDER: until all has happened that it depends on
  local dependency STATE REASON
  local -a starts ends
  read -ra starts <"$1/after"
  read -ra ends <"$1/after_end"
  for dependency in $(sched::_local_each ${starts[@]+"${starts[@]}"}); do
    while sched::_local_state "$dependency" && [[ $STATE == PENDING ]]; do common::pause 0.05; done
  done
  for dependency in $(sched::_local_each ${ends[@]+"${ends[@]}"}); do
    while sched::_local_state "$dependency" && sched::is_alive "$STATE"; do common::pause 0.05; done
  done
}

# An element becomes a job, unless it was cancelled. Whoever cancels it leaves his mark first and then looks for the process id; here it
# is the other way round, so that one of the two sees the other.
sched::_local_begin() { # sched::_local_begin ID; ends the runner of one that isn't to begin
  local job=$LOCAL_JOBS/$1 STATE REASON
  sched::_local_unbegun "$1"
  if [[ $STATE != PENDING ]] || ! mkdir "$job"; then exit 0; fi
  sched::_local_register "$job"
  sched::_local_tell "$job" PENDING
  sched::_local_unbegun "$1"
  [[ $STATE == PENDING ]] || { sched::_local_finish "$job" "$STATE" && exit 0; }
}

sched::_local_output() { # sched::_local_output SCRIPT ID: where its output goes
  local output
  output=$(sched::_local_directive "$1" output)
  output=${output//'%%'/$'\001'}
  output=${output//%j/$2}
  output=${output//%A/${2%_*}}
  [[ $2 != *_* ]] || output=${output//%a/${2#*_}}
  output=${output//%x/$(sched::_local_directive "$1" job-name)}
  printf '%s\n' "${output//$'\001'/%}"
}

# The runner of an array: it starts the next element when one has ended, and lives until the last has.
sched::local_run_array() { # sched::local_run_array AT_ONCE ID SCRIPT ARGS…
  local at_once=$1 id=$2 array=$LOCAL_JOBS/$2 elements index STATE REASON
  local -A running=() # process ids, and their elements
  shift 2
  trap 'sched::_local_end_array "$array"; exit 0' TERM
  sched::_local_register "$array"
  sched::_local_await "$array"
  sched::_local_tell "$array" RUNNING
  elements=$(<"$array/elements")
  for ((index = 0; index < elements; index++)); do
    while ((${#running[@]} >= at_once)); do sched::_local_reap; done
    sched::_local_unbegun "${id}_$index"
    [[ $STATE == PENDING ]] || continue
    setsid bash "${BASH_SOURCE[0]}" local run "${id}_$index" "$@" &
    running[$!]=$index
  done
  while ((${#running[@]})); do sched::_local_reap; done
  sched::_local_tell "$array" COMPLETED
}

sched::_local_reap() { # waits until one of the array's running elements has ended, for a second at most
  local pid alive job
  common::pause 1 "${!running[@]}"
  # by the shell's own list: a number may be another process's by now
  alive=$'\n'$(jobs -pr)$'\n'
  for pid in "${!running[@]}"; do
    [[ $alive != *$'\n'"$pid"$'\n'* ]] || continue
    # its runner was killed before it could say a word
    job=$LOCAL_JOBS/${id}_${running[$pid]}
    sched::_local_unbegun "${id}_${running[$pid]}"
    [[ -e $job/state || $STATE != PENDING ]] || { mkdir -p "$job" && sched::_local_tell "$job" NODE_FAIL; }
    unset "running[$pid]"
  done
}

sched::_local_end_array() { # sched::_local_end_array ARRAY_FOLDER: nothing more starts, and what runs is cancelled
  trap '' TERM
  : >"$1/cancelled"
  # the timer of a pause that was interrupted, too
  # shellcheck disable=SC2046
  kill -TERM $(jobs -pr) 2>/dev/null
  sched::_local_tell "$1" CANCELLED
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
    if ((tenths == 0)) || { ((tenths % 5 == 0)) && ! common::birth "$child" >/dev/null; }; then signal=TERM; fi
    if ((tenths >= 300)); then signal=KILL; fi
    # shellcheck disable=SC2086
    [[ -z $signal ]] || kill -s "$signal" $pids 2>/dev/null
    tenths=$((tenths + 1))
    common::pause 0.1
  done
  # a pause that was interrupted leaves its timer
  for timer in $(jobs -p); do kill "$timer" 2>/dev/null || true; done
  date +%s >"$job/ended"
  sched::_local_tell "$job" "$state"
}

# All that follows starts no process for a job that is looked at: there may be thousands.

sched::_local_read() { # sched::_local_read VARIABLE FILE: sets it to the first line, or to nothing
  printf -v "$1" %s ''
  { IFS= read -r "${1?}" <"$2"; } 2>/dev/null || true
}

sched::_local_look() { # sched::_local_look JOB_FOLDER: sets STATE
  local line
  sched::_local_read STATE "$1/state"
  if [[ $STATE == PENDING || $STATE == RUNNING ]]; then
    sched::_local_read line "$1/pid"
    if ! common::runs "${line% *}" "${line#* }"; then
      # it may have ended between the two looks
      sched::_local_read STATE "$1/state"
      [[ $STATE != PENDING && $STATE != RUNNING ]] || STATE=NODE_FAIL
    fi
  fi
  : "${STATE:=GONE}"
}

sched::_local_array() { # sched::_local_array ID: sets ELEMENTS, to 0 for what is no array, and ARRAY_STATE
  local STATE
  sched::_local_read ELEMENTS "$LOCAL_JOBS/$1/elements"
  : "${ELEMENTS:=0}"
  ((ELEMENTS)) || return 0
  sched::_local_look "$LOCAL_JOBS/$1"
  [[ ($STATE != PENDING && $STATE != RUNNING) || ! -e $LOCAL_JOBS/$1/cancelled ]] || STATE=CANCELLED
  ARRAY_STATE=$STATE
}

sched::_local_unbegun() { # sched::_local_unbegun ID: sets STATE and REASON of an element that has no folder
  local ARRAY_STATE ELEMENTS
  sched::_local_array "${1%%_*}"
  sched::_local_waits "$1"
}
sched::_local_waits() { # the same, where its array is known
  local index=${1#*_}
  REASON=''
  if [[ ! $index =~ ^(0|[1-9][0-9]{0,8})$ ]] || ((index >= ELEMENTS)); then
    STATE=GONE
  elif [[ $ARRAY_STATE == CANCELLED || -e $LOCAL_JOBS/${1%%_*}/cancelled_$index ]]; then
    STATE=CANCELLED
  elif [[ $ARRAY_STATE == PENDING ]]; then
    STATE=PENDING REASON=Dependency
  elif [[ $ARRAY_STATE == RUNNING ]]; then
    STATE=PENDING REASON=JobArrayTaskLimit
  else
    STATE=NODE_FAIL
  fi
}

# An element's folder is looked at after its array's: while there is none, the array lives or has ended without it.
sched::_local_state() { # sched::_local_state ID: sets STATE, and REASON, of a job or an element
  local ARRAY_STATE ELEMENTS
  [[ $1 != *_* ]] || sched::_local_array "${1%%_*}"
  sched::_local_of_array "$1"
}
sched::_local_of_array() { # the same, where its array is known
  REASON=''
  sched::_local_look "$LOCAL_JOBS/$1"
  if [[ $STATE == PENDING ]]; then
    REASON=Dependency
    [[ $1 != *_* ]] || REASON=JobArrayTaskLimit
  elif [[ $STATE == GONE && $1 == *_* ]]; then
    sched::_local_waits "$1"
  fi
}

sched::_local_each() { # sched::_local_each ID…: the jobs, and of an array its elements
  local id index ELEMENTS ARRAY_STATE
  for id in "$@"; do
    sched::_local_array "$id"
    if ((ELEMENTS)); then
      for ((index = 0; index < ELEMENTS; index++)); do printf '%s\n' "${id}_$index"; done
    else
      printf '%s\n' "$id"
    fi
  done
}

# Sets ELEMENT to one that runs, else one that waits, else the first; STATE and REASON to what it was then: a second look might find it
# ended while others live.
sched::_local_spokesman() { # sched::_local_spokesman ARRAY
  local index found='' reason=''
  ELEMENT=${1}_0
  for ((index = 0; index < ELEMENTS; index++)); do
    sched::_local_of_array "${1}_$index"
    [[ $STATE == PENDING || $STATE == RUNNING || -z $found ]] || continue
    ELEMENT=${1}_$index found=$STATE reason=$REASON
    [[ $STATE != RUNNING ]] || break
  done
  STATE=$found REASON=$reason
}

sched::_local_elapsed() { # sched::_local_elapsed ID: sets STARTED and ELAPSED, to nothing for a job that hasn't begun
  local ended
  ELAPSED=''
  sched::_local_read STARTED "$LOCAL_JOBS/$1/started"
  [[ -n $STARTED ]] || return 0
  sched::_local_read ended "$LOCAL_JOBS/$1/ended"
  [[ -n $ended ]] || printf -v ended '%(%s)T' -1
  # the shell's clock may be a tick behind
  ELAPSED=$((ended > STARTED ? ended - STARTED : 0))
}

sched::local_states() {
  local id known='' STARTED ELAPSED STATE REASON ELEMENT ELEMENTS=0 ARRAY_STATE=''
  for id in "$@"; do
    ELEMENT=$id ELAPSED=''
    if [[ $id != *_* ]]; then
      sched::_local_array "$id"
      known=$id
    elif [[ ${id%%_*} != "$known" ]]; then
      known=${id%%_*}
      sched::_local_array "$known"
    fi
    if [[ $id != *_* ]] && ((ELEMENTS)); then sched::_local_spokesman "$id"; else sched::_local_of_array "$id"; fi
    [[ $STATE == PENDING ]] || sched::_local_elapsed "$ELEMENT"
    printf '%s|%s|%s|%s|%s\n' "$id" "$STATE" "$REASON" "$ELAPSED" "${HOSTNAME:-localhost}"
  done
}

sched::local_queued() { sched::local_states "$@"; }

sched::local_accounting() { # CPUs and GPUs are not allocated here, so they are not told; an array is a line for each element that began
  local id STARTED ELAPSED
  for id in $(sched::_local_each "$@"); do
    sched::_local_elapsed "$id"
    [[ -z $STARTED ]] || printf '%s|%s|%s||\n' "$id" "$STARTED" "$ELAPSED"
  done
}

sched::local_left() {
  local limit started now STATE REASON
  sched::_local_state "$1"
  [[ $STATE == RUNNING ]] || return 0
  sched::_local_read limit "$LOCAL_JOBS/$1/limit"
  sched::_local_read started "$LOCAL_JOBS/$1/started"
  [[ -n $limit && -n $started ]] || return 0
  printf -v now '%(%s)T' -1
  printf '%s\n' $((started + limit - now))
}

sched::local_cancel() {
  local id index ELEMENTS ARRAY_STATE
  for id in "$@"; do
    sched::_local_array "$id"
    if ((ELEMENTS == 0)); then
      sched::_local_cancel_one "$id"
      continue
    fi
    if [[ $ARRAY_STATE == PENDING || $ARRAY_STATE == RUNNING ]]; then
      : >"$LOCAL_JOBS/$id/cancelled" || continue
      sched::_local_term "$id"
    fi
    # whether or not its runner lives
    for ((index = 0; index < ELEMENTS; index++)); do sched::_local_cancel_one "${id}_$index"; done
  done
}

sched::_local_cancel_one() { # sched::_local_cancel_one ID: a job or an element
  local STATE REASON
  sched::_local_state "$1"
  [[ $STATE == PENDING || $STATE == RUNNING ]] || return 0
  if [[ $STATE == PENDING && $1 == *_* ]]; then : >"$LOCAL_JOBS/${1%%_*}/cancelled_${1#*_}" || return 0; fi
  sched::_local_term "$1"
}

sched::_local_term() { # sched::_local_term ID: its runner, where it has one
  local line
  sched::_local_read line "$LOCAL_JOBS/$1/pid"
  if common::runs "${line% *}" "${line#* }"; then kill -TERM "${line% *}" 2>/dev/null || true; fi
}

sched::local_signal() {
  local id pid STATE REASON
  for id in $(sched::_local_each "$2"); do
    sched::_local_state "$id"
    [[ $STATE == RUNNING ]] || continue
    sched::_local_read pid "$LOCAL_JOBS/$id/child"
    [[ -z $pid ]] || kill -s "$1" "$pid" 2>/dev/null || true
  done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -uo pipefail
  # shellcheck source=scripts_hpc/lib/common.sh
  source "${BASH_SOURCE[0]%/*}/common.sh"
  SCHEDULER=$1
  shift
  case $1 in
    states | accounting)
      if [[ ${2:-} == - ]]; then mapfile -t IDS; else IDS=("${@:2}"); fi
      "sched::$1" ${IDS[@]+"${IDS[@]}"}
      ;;
    cancel | signal | jobs_of) "sched::$1" "${@:2}" ;;
    ask) sched::_call "${@:2}" ;;
    run | run_array) "sched::local_$1" "${@:2}" ;;
    *) printf 'scheduler.sh: unknown verb %s\n' "$1" >&2 && exit 2 ;;
  esac
fi
