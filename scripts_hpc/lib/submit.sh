# shellcheck shell=bash
# submit.sh: the way of every kind of job into the queue. What is asked for together is submitted as a whole, or nothing is left of it.
# Sourced by the commands that submit; needs common.sh, and scheduler.sh from submit::open on.
#
# The note of what was submitted, FOLDER/jobs/submitted: a line ROLE=JOB SCRIPT ARGS… for each job, ROLE=JOB_[0-LAST] SCRIPT ARGS… for each
# array, in the order of submission, written as soon as the scheduler has taken it. Nobody else writes it.
#
# Ctrl-C: from submit::begin on this script decides what it means. Children that could leave something behind are deaf to it
# (bash starts what is in the background so); they are told by USR1, of which they die as long as they don't listen.

SUBMITTED=()      # ROLE=JOB
SUBMIT_SIGNAL=''  # INT, TERM or HUP, once one has come
SUBMIT_CHILD=''   # process id of what is told of it
SUBMIT_OPEN=''    # what to remove where nothing was submitted, from submit::open until the jobs are somebody else's
SUBMIT_SCRIPTS='' # how the commands of all jobs begin
SUBMIT_DOUBT=0    # the scheduler may have taken a job without telling
SUBMIT_UNDO=:     # a function: what is left to be done once the jobs were cancelled
SUBMIT_BEFORE=''  # the jobs that were submitted from the folder earlier, with blanks around: not this script's to end
SUBMIT_OVER=''    # who watches knows the exit code
SUBMIT_TRIES=6

submit::begin() { # to be called once all is read and the environment is there, before anything is made
  local signal
  # shellcheck disable=SC2064 # now
  for signal in INT TERM HUP; do trap "submit::_hear $signal" "$signal"; done
  on_exit submit::_undo
}

submit::_hear() {
  SUBMIT_SIGNAL=$1
  [[ -z $SUBMIT_CHILD ]] || submit::_tell
}

submit::_tell() { # Ctrl-C as USR1, the others as themselves
  kill -s "${SUBMIT_SIGNAL/#INT/USR1}" "$SUBMIT_CHILD" 2>/dev/null || true
}

submit::check() { # ends the script where it was interrupted
  [[ -z $SUBMIT_SIGNAL ]] || exit 130
}

# Runs a command that learns of signals from here alone, with the same standard input; its exit code.
submit::_attend() { # submit::_attend COMMAND…
  local code=0 again
  submit::check
  "$@" <&0 &
  SUBMIT_CHILD=$!
  [[ -z $SUBMIT_SIGNAL ]] || submit::_tell
  # bash would tell of which signal the child died
  wait "$SUBMIT_CHILD" 2>/dev/null || code=$?
  # a signal ends `wait`, not the child
  while kill -0 "$SUBMIT_CHILD" 2>/dev/null; do wait "$SUBMIT_CHILD" 2>/dev/null || true; done
  if [[ -n $SUBMIT_SIGNAL ]]; then
    again=0
    wait "$SUBMIT_CHILD" 2>/dev/null || again=$?
    ((again == 127)) || code=$again
    # where a signal meets the child's end, bash may have lost it (5.2 says -1)
    ((code >= 0)) || code=$((128 + $(kill -l "$SUBMIT_SIGNAL")))
  fi
  SUBMIT_CHILD=''
  return "$code"
}

# Runs the command that checks everything, and takes over the variables that it prints; with DRY_RUN among them, that is all.
submit::plan() { # submit::plan COMMAND…
  local file out in plan code=0
  file=$(mktemp) || {
    submit::check
    die 3 "can't write to ${TMPDIR:-/tmp}: $(common::lacking "${TMPDIR:-/tmp}")"
  }
  # shellcheck disable=SC2094 # first the one, then the other
  exec {out}>"$file" {in}<"$file"
  rm -f "$file"
  submit::_attend "$@" >&"$out" || code=$?
  # (a `cat` would hear Ctrl-C)
  IFS= read -r -d '' plan <&"$in" || true
  exec {out}>&- {in}<&-
  # what is printed is printed last, and there is a folder then: to be undone, whatever code bash has of it
  [[ -z $plan || -z $SUBMIT_SIGNAL ]] || code=0
  ((code == 0)) || submit::check
  ((code == 0)) || exit "$code"
  DRY_RUN=''
  eval "$plan"
  if [[ -n $DRY_RUN ]]; then
    submit::check
    printf '%s\n' "$DRY_RUN"
    exit 0
  fi
}

# From here on, what was made for the jobs is undone with them. Needs SCHEDULER and ADDRESS_DIR.
submit::open() { # submit::open FOLDER|SCRIPT: the folder of the jobs, whose scripts lie in its jobs/, or the script of the only one
  SUBMIT_OPEN=$1 SUBMIT_SCRIPTS=$1 SUBMIT_NOTE=/dev/null
  if [[ -d $1 ]]; then SUBMIT_SCRIPTS=$1/jobs/ SUBMIT_NOTE=$1/jobs/submitted; fi
  # (what was there before is not removed, although nothing of it is noted)
  [[ ! -e $SUBMIT_NOTE || $SUBMIT_NOTE == /dev/null ]] || SUBMIT_BEFORE=" $(sed -nE 's/^[a-z_]+=([0-9]+).*/\1/p' "$SUBMIT_NOTE" | paste -sd' ') "
  # shellcheck disable=SC2034 # for the local twin
  LOCAL_JOBS=$ADDRESS_DIR/local_jobs SCHEDULER_FRESH=1
  submit::check
  # (a job that submits another tells nobody again)
  [[ $SCHEDULER == local || -n ${SCHED_AS_BEGUN:-} ]] || submit::_tell_inputs
}

submit::_tell_inputs() { # which of the person's variables don't count; those of a job that this runs in are not theirs
  local INPUTS name own=()
  sched::inputs
  for name in ${INPUTS[@]+"${INPUTS[@]}"}; do
    [[ $name == SLURM_* && -n ${SLURM_JOB_ID:-} ]] || own+=("$name")
  done
  ((${#own[@]} == 0)) ||
    log "taken from your environment, these would change what Slurm's commands do; they are ignored (the site file says what is asked for): ${own[*]}"
}

submit::job() { submit::_submit "$1" "" "${@:2}"; } # submit::job ROLE [--after IDS] [--after-end IDS] SCRIPT ARGS…: sets JOB
submit::array() {                                   # submit::array ROLE ELEMENTS [--at-once ELEMENTS] [--after IDS] [--after-end IDS] SCRIPT ARGS…: sets JOB
  submit::_submit "$1" " (an array of $2)" --array "$2" "${@:3}"
}

submit::_submit() { # submit::_submit ROLE WHAT ARGUMENTS OF sched::submit…
  local role=$1 what="the $1 job$2" said code command elements='' pause=${HAB_SUBMIT_PAUSE:-2} try
  shift 2
  command=("$@")
  while [[ ${command[0]} == --* ]]; do
    [[ ${command[0]} != --array ]] || elements=_[0-$((command[1] - 1))]
    command=("${command[@]:2}")
  done
  for ((try = 1; ; try++)); do
    submit::check
    code=0
    said=$(sched::submit "$@" 2>&1) || code=$?
    ((code == 0)) || submit::check
    case $code in
      0) JOB=${said##*$'\n'} said=${said%"$JOB"} && break ;;
      75) ;;
      76)
        SUBMIT_DOUBT=1
        die 3 "sbatch took $what without saying its number; what it said: $said"
        ;;
      *) die 3 "the scheduler refused $what: $(submit::_words "$said"); the script is ${command[0]}" ;;
    esac
    SUBMIT_DOUBT=1
    ((try < SUBMIT_TRIES)) || die 3 "the scheduler didn't take $what in $try tries: $(submit::_words "$said"). Try again later"
    log "the scheduler didn't take $what: $(submit::_words "$said"); trying again in $pause s"
    common::pause "$pause"
    pause=$((pause < 16 ? pause * 2 : 30))
    # it may have taken it all the same
    JOB=$(submit::_strays "${command[*]}" | tail -n 1)
    [[ -z $JOB ]] || { log "it had taken it: job $JOB" && said='' && break; }
  done
  SUBMITTED+=("$role=$JOB")
  printf '%s=%s%s%s\n' "$role" "$JOB" "$elements" "$(printf ' %q' "${command[0]##*/}" "${command[@]:1}")" >>"$SUBMIT_NOTE"
  [[ -z $said ]] || printf '%s' "$said" >&2
  submit::check
}

submit::_words() { # submit::_words TEXT: what sbatch said, in one line
  sed -e '/^[[:space:]]*$/d' -e 's/^sbatch: \(error: \)\{0,1\}//' -e 's/^Batch job submission failed: //' <<<"$1" | paste -sd';' | sed 's/;/; /g'
}

# Jobs of ours that we were not told of, their ids; code 3 where the scheduler doesn't answer.
submit::_strays() { # submit::_strays [COMMAND]: with this one alone
  local id command jobs
  jobs=$(sched::jobs_of "$SUBMIT_SCRIPTS" 2>/dev/null) || return 3
  while IFS='|' read -r id command; do
    [[ -z $id || "$SUBMIT_BEFORE ${SUBMITTED[*]#*=} " == *" $id "* ]] || [[ -n ${1:-} && $command != "$1" ]] || printf '%s\n' "$id"
  done <<<"$jobs"
}

# Ends what a submission that was killed has left of an open folder: jobs of ours that are in no note.
submit::end_strays() {
  local strays
  # shellcheck disable=SC2086
  { strays=$(submit::_strays) && { [[ -z $strays ]] || strays=$(sched::alive_in $strays); }; } ||
    die 3 "the scheduler doesn't answer: whether there are jobs that a broken-off submission has left isn't known. Try again"
  [[ -n $strays ]] || return 0
  log "ending what a submission that was broken off has left: ${strays//$'\n'/ }"
  # shellcheck disable=SC2086
  sched::cancel $strays || die 3 "scancel failed: look with squeue --me"
  # shellcheck disable=SC2086
  submit::_await_end $strays
}

# All are submitted. One that was taken twice ends.
submit::close() {
  local strays
  submit::check
  if ((SUBMIT_DOUBT)) && strays=$(submit::_strays) && [[ -n $strays ]]; then
    log "cancelling what the scheduler took twice: ${strays//$'\n'/ }"
    # shellcheck disable=SC2086
    sched::cancel $strays || true
  fi
}

submit::leave() { # the jobs live on without this script
  local open=$SUBMIT_OPEN
  SUBMIT_OPEN=''
  [[ -z $SUBMIT_SIGNAL ]] || { SUBMIT_OPEN=$open && exit 130; }
  SUBMIT_OVER=1
}

submit::_undo() { # hook: nothing is left of what was submitted, or of its folder where nothing was
  local strays
  # whatever died of it; common.sh ends with this code
  # shellcheck disable=SC2034
  [[ -z $SUBMIT_SIGNAL || -n $SUBMIT_OVER ]] || EXIT_CODE=130
  [[ -n $SUBMIT_OPEN ]] || return 0
  if ((SUBMIT_DOUBT)); then
    if strays=$(submit::_strays); then
      for JOB in $strays; do SUBMITTED+=("stray=$JOB"); done
    else
      log "the scheduler doesn't answer: whether it took a job more isn't known. Look with squeue --me"
    fi
  fi
  if ((${#SUBMITTED[@]})); then
    log "cancelling what was submitted: ${SUBMITTED[*]#*=}"
    sched::cancel "${SUBMITTED[@]#*=}" || log "scancel failed: look with squeue --me"
    submit::_await_end "${SUBMITTED[@]#*=}"
    "$SUBMIT_UNDO"
  elif [[ -n $SUBMIT_SIGNAL && -z $SUBMIT_BEFORE ]]; then
    rm -rf "$SUBMIT_OPEN"
  fi
}

submit::_await_end() { # submit::_await_end ID…: what was cancelled takes its last files with it
  local until=$((SECONDS + 20)) alive
  while alive=$(sched::alive_in "$@" 2>/dev/null) && [[ -n $alive ]] && ((SECONDS < until)); do sleep 0.2; done
}

# The end of a command: says where its jobs' folder is, and leaves them to themselves or to the command that watches them.
submit::hand_over() { # submit::hand_over WHAT FOLDER DETACH COMMAND…; DETACH: 1 or 0
  printf '%s: %s\n' "$1" "$2" >&2
  (($3)) || submit::watch "${@:4}"
  submit::leave
  printf '%s\n' "$2"
  exit 0
}

# Hands the jobs over to the command that watches them. Until it listens to Ctrl-C, that ends them here; when it does, it removes a file
# (helpers/jobs/follow.py): the exit code doesn't tell, as Ctrl-C may meet the child before that has become the command.
submit::watch() { # submit::watch COMMAND…
  local code=0 unwatched=''
  if [[ -d $SUBMIT_OPEN ]] && { : >"$SUBMIT_OPEN/jobs/.unwatched"; } 2>/dev/null; then unwatched=$SUBMIT_OPEN/jobs/.unwatched; fi
  HAB_UNWATCHED=$unwatched submit::_attend "$@" || code=$?
  if [[ $SUBMIT_SIGNAL == INT && ($code == 138 || -e $unwatched) ]]; then
    [[ -n $SUBMIT_OPEN ]] || log "interrupted before it watched: the jobs go on"
    rm -f "$unwatched"
    exit 130
  fi
  rm -f "$unwatched"
  SUBMIT_OPEN='' SUBMIT_OVER=1
  exit "$code"
}
