# shellcheck shell=bash
# chain.sh: the array that follows a job's own, where limits.max_submit doesn't let all of a round into the queue at once. Sourced by the
# agents' scripts of rounds; needs common.sh, scheduler.sh, service.sh, run.sh, submit.sh and workflow.sh.
#
# RUN_GROUP/jobs/next.PARTS.FIRST        what follows the array that begins with part FIRST (helpers/jobs/arrays.py writes it): an entry of
#                                        AGENTS, as workflow.sh has them
# RUN_GROUP/jobs/next.PARTS.FIRST.taken  a link to the job that submits it, or to the word of who took it so that nobody does. It is made
#                                        before anything is submitted, by a call that fails where it is there
#
# The last elements of an array look when they begin: one more than may run at once of what follows. So few are left of their own array by
# then that the whole next one finds room, and no single job's death breaks the chain. No rollout waits for it.

CHAIN_PID='' CHAIN_FILE='' CHAIN_TAKEN=0
CHAIN_LOCK_SECONDS=300
declare -A CHAIN_END=([false]=300 [true]=20) # so long a job's end waits for what it submits; where it was asked to end, it is killed soon

chain::look() { # chain::look PARTS FIRST ELEMENTS: as the job's own array was told
  local entry='' at_once
  CHAIN_FILE=$RUN_GROUP/jobs/next.$1.$2
  [[ -f $CHAIN_FILE && ! -L $CHAIN_FILE.taken ]] && read -r entry <"$CHAIN_FILE" || return 0
  read -r _ _ _ at_once _ <<<"$entry"
  ((${JOB_ID##*_} + at_once + 1 >= $3)) || return 0
  chain::_submit "$1" "$entry" &
  CHAIN_PID=$!
  # the last of all hooks: first comes what the run itself has to say
  EXIT_HOOKS=(chain::_await "${EXIT_HOOKS[@]}")
}

# A process of its own, which neither hears the job's signals nor runs its hooks.
chain::_submit() { # chain::_submit PARTS ENTRY
  trap '' INT TERM HUP USR1
  EXIT_HOOKS=()
  on_exit chain::_undo
  chain::_lock
  [[ ! -f $RUN_GROUP/stopped.$1.json ]] || exit 0
  ln -sT "$JOB_ID" "$CHAIN_FILE.taken" 2>/dev/null || exit 0
  CHAIN_TAKEN=1
  # `resume` may have come first
  [[ -f $CHAIN_FILE ]] || exit 0
  # shellcheck disable=SC2034 # for sched::_call
  SCHED_AS_BEGUN=1
  workflow::next "$1" "$2" "${JOB_ID%_*}"
  log "submitted what follows array ${JOB_ID%_*}: job $JOB"
}

# One submission from the same folder at a time, as run_benchmark.sh does it; where a file system has no locks, what was taken is taken.
chain::_lock() {
  local lock code=0
  { exec {lock}>>"$RUN_GROUP/jobs/.resume"; } 2>/dev/null || return 0
  flock --wait "$CHAIN_LOCK_SECONDS" --conflict-exit-code 99 "$lock" 2>/dev/null || code=$?
  ((code != 99)) || die 3 "somebody else has been submitting jobs of this round for $CHAIN_LOCK_SECONDS s: what follows array ${JOB_ID%_*} isn't submitted by this job"
}

# A hook: what could not be submitted is left to another of the last elements, or to `resume`. What the scheduler may have taken all the
# same isn't tried again.
chain::_undo() {
  ((EXIT_CODE && CHAIN_TAKEN)) && [[ " ${SUBMITTED[*]} " != *' agent='* ]] || return 0
  # servers that it alone would have used
  ((${#SUBMITTED[@]} == 0)) || sched::cancel "${SUBMITTED[@]#*=}" || true
  ((SUBMIT_DOUBT)) || rm -f "$CHAIN_FILE.taken"
  log "what follows array ${JOB_ID%_*} isn't submitted by this job; where no other does, scripts_hpc/run_benchmark.sh resume $RUN_GROUP goes on"
}

# A hook: the scheduler ends all processes of a job that has ended. Until it is submitted, what follows has only this job to keep its servers.
chain::_await() {
  local until=$((SECONDS + CHAIN_END[$ASKED_TO_END]))
  while kill -0 "$CHAIN_PID" 2>/dev/null && ((SECONDS < until)); do common::pause 1 "$CHAIN_PID"; done
  CHAIN_PID=''
  run::leave
}
