# shellcheck shell=bash
# part.sh: what a job takes of its workflow: which rollout, and that it alone runs it. Sourced by the agents' scripts of workflows.
#
# RUN_GROUP/parts/<number> holds a line for each job that was submitted together (helpers/jobs/parts.py writes it), assignments:
#   ROLLOUT ATTEMPT CELL COMPETITION SEED   what is run: a rollout is a key of the workflow, an attempt one try at it
#   TASK_KIND, INSTANCE, TEST_IMAGE         where it is no competition: the kind of its task, and what task_<kind>.sh wants to know of it
#   TASK_TYPE, TOKEN_LIMIT, VARIABLES       what its agent's environment gets besides
#   SCRIPT                                  the script of its job, where the workflow has several
# RUN_GROUP/claims/<rollout>[.<attempt>] is a link that points to the job which runs it. It is made before anything is done, by a call
# that fails where it is there, and never removed: what was lost is tried again as another attempt.

part::take() { # part::take PARTS NUMBER ELEMENTS: ELEMENTS: how many jobs there are in this one's array
  # shellcheck disable=SC2034 # the line has them
  local line='' TASK_TYPE='' TOKEN_LIMIT='' SCRIPT='' VARIABLES=() variable
  line=$(sed -n "$(($2 + 1))p" "$RUN_GROUP/parts/$1") || true
  [[ -n $line ]] || die 3 "$RUN_GROUP/parts/$1 has no line $(($2 + 1)): was the folder moved, or is it away on ${HOSTNAME:-this node}?"
  eval "$line"
  # shellcheck disable=SC2034 # run.sh counts them
  ELEMENTS=$3
  # what the agent's entry sets, it sets for all tasks
  [[ -z $TASK_TYPE || -n ${CONTAINER_ENV[TASK_TYPE]:-} ]] || CONTAINER_ENV[TASK_TYPE]=$TASK_TYPE
  [[ -z $TOKEN_LIMIT ]] || CONTAINER_ENV[TOKEN_LIMIT]=$TOKEN_LIMIT
  for variable in ${VARIABLES[@]+"${VARIABLES[@]}"}; do CONTAINER_ENV[${variable%%=*}]=${variable#*=}; done
}

part::claim() { # ends the job where another one has claimed its rollout
  local link=$RUN_GROUP/claims/$ROLLOUT owner folder=$RUN_GROUP/${COMPETITION//\//-}_$JOB_ID
  ((ATTEMPT == 0)) || link+=.$ATTEMPT
  ! ln -sT "$JOB_ID" "$link" 2>/dev/null || { part::_lead && return 0; }
  owner=$(readlink "$link") || die 3 "can't write to $RUN_GROUP/claims: $(common::lacking "$RUN_GROUP")"
  # its own: NFS may lose the answer to a request that it has carried out; or the scheduler has started the job once more (a requeue),
  # which has had its turn
  [[ $owner != "$JOB_ID" ]] || ((${SLURM_RESTART_COUNT:-0})) || { part::_lead && return 0; }
  log "rollout $ROLLOUT is run by job $owner${SLURM_RESTART_COUNT:+ (this is start $((SLURM_RESTART_COUNT + 1)) of $JOB_ID)}: nothing is left to be done here"
  [[ $owner == "$JOB_ID" || -e $folder/overlay ]] || rm -rf "$folder"
  run::find_servers
  run::leave
  exit 0
}

# In a round of a benchmark, task_results/<stamp>-<rollout> leads to the run that counts: this one from now on.
part::_lead() {
  local link=$RUN_GROUP/task_results/${RUN_GROUP##*/}-$ROLLOUT
  [[ -d $RUN_GROUP/task_results ]] || return 0
  { ln -sfn "../${COMPETITION//\//-}_$JOB_ID" "$link.$JOB_ID" && mv -fT "$link.$JOB_ID" "$link"; } ||
    die 3 "can't write to $RUN_GROUP/task_results: $(common::lacking "$RUN_GROUP")"
}
