# shellcheck shell=bash
# workflow.sh: the servers and the agents of a workflow into the queue, all at once. Sourced by run_workflow.sh and run_benchmark.sh, and by
# the jobs of rounds that submit more (workflow::next); needs submit.sh, scheduler.sh, service.sh and run.sh. What the plan has printed (helpers/jobs/workflow.py) is submitted as it says:
#   RUN_GROUP          its folder, with the scripts in jobs/
#   COMPETITIONS       what the grading server grades; nothing where no task needs one
#   GRADING_ARGUMENT   the grading server to be used, as agents are told of it; empty: one is started
#   MODEL_QUEUES       1 where the servers of models wait for GPUs
#   PARTS              which file of parts/ the agents read
#   AGENTS             "SCRIPT FIRST COUNT AT_ONCE BEFORE MODEL FEEDBACK" each: COUNT jobs of a script, from part FIRST on; as an array, AT_ONCE
#                      of them at the same time, or jobs of their own where that is 0; they begin when those of entry BEFORE have ended, or
#                      without waiting for others where it is -. MODEL, FEEDBACK: a model with a server of this workflow (jobs/vllm_<model>.sh;
#                      MODEL#2 is its second server), or as agents are told of it (external, auto:JOB, a URL), or - for none
#   SERVING            "MODEL=JOB" each: servers that run already (a round that goes on)
#   AFTER_END          jobs of agents that are still there, joined by colons: no new agent begins before these have ended
#   TOGETHER, PARALLEL (on one machine) all of these as one array of that script, so many at the same time

declare -A MODEL_JOBS=() # of each model with a server: its job
AGENT_JOBS=()            # of each entry: its jobs, joined by colons
CONSUMERS_NOTED=()       # SERVICE_JOB/CONSUMER

workflow::submit() {
  local entry before model feedback server
  # shellcheck disable=SC2034 # submit.sh calls it
  SUBMIT_UNDO=workflow::_abandon
  for server in ${SERVING[@]+"${SERVING[@]}"}; do MODEL_JOBS[${server%=*}]=${server##*=}; done
  for entry in "${AGENTS[@]}"; do
    read -r _ _ _ _ before model feedback <<<"$entry"
    if [[ $before == - ]]; then workflow::_models "$model" "$feedback"; fi
  done
  workflow::_grading
  if [[ -n ${TOGETHER:-} ]]; then
    workflow::_together
  else
    for entry in "${AGENTS[@]}"; do workflow::_agents "$entry"; done
  fi
  (trap '' INT TERM HUP && exec "$PYTHON" -m helpers workflow submitted "$RUN_GROUP") || exit 3
  submit::close
}

# From a job of the workflow: an entry of AGENTS more, to begin when the job's own array has ended. Of its servers, those that have ended are
# started again then.
workflow::next() { # workflow::next PARTS ENTRY ARRAY
  local script first count at_once model feedback
  read -r script first count at_once _ model feedback <<<"$2"
  PARTS=$1 AGENT_JOBS=("$3")
  submit::open "$RUN_GROUP"
  workflow::_read_servers
  # a workflow that began without one needs none
  ((${#COMPETITIONS[@]})) || GRADING_ARGUMENT=none
  if [[ -z $GRADING_ARGUMENT ]]; then
    submit::job grading_server --after-end "$3" "$RUN_GROUP/jobs/grading_server.sh" "${COMPETITIONS[@]}"
    GRADING_ARGUMENT=auto:$JOB
  fi
  workflow::_agents "$script $first $count $at_once 0 $model $feedback"
}

# Sets MODEL_JOBS, GRADING_ARGUMENT and COMPETITIONS to the servers in the note (submit.sh) that aren't known to have ended.
workflow::_read_servers() {
  local line words=() job model grading='' gone
  COMPETITIONS=()
  while IFS= read -r line; do
    [[ $line =~ ^(grading|model|feedback)_server=[0-9]+\  ]] || continue
    eval "words=(${line#*=})" # quoted by submit.sh
    case $line in
      grading_*) grading=${words[0]} COMPETITIONS=("${words[@]:2}") ;;
      *)
        model=${words[1]#vllm_}
        MODEL_JOBS[${model%.sh}${words[2]:+#${words[2]}}]=${words[0]}
        ;;
    esac
  done <"$SUBMIT_NOTE"
  # not known is not gone
  gone=$(sched::gone_of ${grading:+"$grading"} "${MODEL_JOBS[@]}") || gone=''
  for model in "${!MODEL_JOBS[@]}"; do
    job=${MODEL_JOBS[$model]}
    [[ $'\n'$gone$'\n' != *$'\n'"$job"$'\n'* ]] || unset "MODEL_JOBS[$model]"
  done
  GRADING_ARGUMENT=''
  [[ -z $grading || $'\n'$gone$'\n' == *$'\n'"$grading"$'\n'* ]] || GRADING_ARGUMENT=auto:$grading
}

workflow::_models() { # workflow::_models MODEL FEEDBACK [AFTER_END]: their servers, where they have some that aren't there yet
  local role=model_server model number
  for model in "$1" "$2"; do
    if [[ -f $RUN_GROUP/jobs/vllm_${model%#*}.sh && -z ${MODEL_JOBS[$model]:-} ]]; then
      number=${model#"${model%#*}"}
      # the number is for whoever reads the note
      submit::job "$role" ${3:+--after-end "$3"} "$RUN_GROUP/jobs/vllm_${model%#*}.sh" ${number:+"${number#?}"}
      MODEL_JOBS[$model]=$JOB
    fi
    role=feedback_server
  done
}

# Where all agents wait for GPUs, the grading server starts with the first model and not days before.
workflow::_grading() {
  local entry before model after=''
  ((${#COMPETITIONS[@]})) || GRADING_ARGUMENT=none
  [[ -z $GRADING_ARGUMENT ]] || return 0
  for entry in "${AGENTS[@]}"; do
    read -r _ _ _ _ before model _ <<<"$entry"
    [[ $before != - || -n ${MODEL_JOBS[$model]:-} ]] || MODEL_QUEUES=0
  done
  ((MODEL_QUEUES == 0)) || after=$(IFS=: && printf '%s' "${MODEL_JOBS[*]}")
  submit::job grading_server ${after:+--after-any "$after"} "$RUN_GROUP/jobs/grading_server.sh" "${COMPETITIONS[@]}"
  GRADING_ARGUMENT=auto:$JOB
}

workflow::_agents() { # workflow::_agents ENTRY
  local script first count at_once before model feedback options=() arguments=() after='' servers=() jobs='' number
  read -r script first count at_once before model feedback <<<"$1"
  options=(${AFTER_END:+--after-end "$AFTER_END"})
  if [[ $before != - ]]; then
    options=(--after-end "${AGENT_JOBS[before]}")
    workflow::_models "$model" "$feedback" "${AGENT_JOBS[before]}"
  fi
  workflow::_arguments "$model" "$feedback"
  options+=(${after:+--after "$after"})
  if ((at_once)); then
    submit::array agent "$count" --at-once "$at_once" ${options[@]+"${options[@]}"} "$RUN_GROUP/jobs/$script" "$PARTS" "$first" "$count" "${arguments[@]}"
    workflow::_note
  else
    for ((number = first; number < first + count; number++)); do
      submit::job agent ${options[@]+"${options[@]}"} "$RUN_GROUP/jobs/$script" "$PARTS" "$number" 1 "${arguments[@]}"
      workflow::_note
    done
  fi
  AGENT_JOBS+=("$jobs")
}

# One array for all: its script finds in jobs/arguments.PARTS the script of each part below a number, and what that is called with.
workflow::_together() {
  local script count total=0 model feedback entry arguments=() after='' servers=() jobs=''
  : >"$RUN_GROUP/jobs/arguments.$PARTS" || die 3 "can't write to $RUN_GROUP/jobs: $(common::lacking "$RUN_GROUP")"
  for entry in "${AGENTS[@]}"; do
    read -r script _ count _ _ model feedback <<<"$entry"
    workflow::_models "$model" "$feedback"
    workflow::_arguments "$model" "$feedback"
    printf '%s %s%s\n' "$((total + count))" "$script" "$(printf ' %q' "${arguments[@]}")" >>"$RUN_GROUP/jobs/arguments.$PARTS"
    total=$((total + count))
  done
  submit::array agent "$total" --at-once "$PARALLEL" ${AFTER_END:+--after-end "$AFTER_END"} ${after:+--after "$after"} "$RUN_GROUP/jobs/$TOGETHER" "$PARTS" 0 "$total"
  workflow::_note
}

workflow::_arguments() { # workflow::_arguments MODEL FEEDBACK: sets `arguments`, the caller's, to those of an agent's script behind its part
  workflow::_use 'vllm_*' "$1"
  arguments=("${ARGUMENT:-external}")
  workflow::_use 'vllm_*' "$2"
  arguments+=("$ARGUMENT")
  workflow::_use grading_server "$GRADING_ARGUMENT"
  arguments=("$ARGUMENT" "${arguments[@]}")
}

# Sets ARGUMENT to what the agents are told of a server, and adds it to `servers` and `after`, which are the caller's.
workflow::_use() { # workflow::_use SERVICE MODEL|ARGUMENT
  local server=''
  ARGUMENT=${2#-}
  if [[ -n ${MODEL_JOBS[$2]:-} ]]; then
    ARGUMENT=auto:${MODEL_JOBS[$2]} server=vllm_${2%#*}_${MODEL_JOBS[$2]}
  elif [[ $2 == auto:* && " ${SUBMITTED[*]#*=} " == *" ${2#auto:} "* ]]; then
    server=$1_${2#auto:}
  elif [[ $2 == auto:* ]]; then
    server=$(run::server "$1" "$2")
    [[ $server != \?_* ]] || die 3 "job ${2#auto:} is no running ${1%%_*} server of yours: squeue --me shows what runs"
  fi
  [[ -n $server && " ${servers[*]-} " != *" $server "* ]] || return 0
  servers+=("$server")
  after+=${after:+:}${server##*_}
}

workflow::_note() { # notes JOB as a user of `servers`, and in `jobs`
  local server
  jobs+=${jobs:+:}$JOB
  for server in ${servers[@]+"${servers[@]}"}; do
    service::enlist "$server" "$JOB" "$RUN_GROUP"
    CONSUMERS_NOTED+=("$server/$JOB")
  done
}

# shellcheck disable=SC2329 # submit.sh calls it
workflow::_abandon() {
  local noted server model
  for model in "${!MODEL_JOBS[@]}"; do
    [[ " ${SUBMITTED[*]#*=} " != *" ${MODEL_JOBS[$model]} "* ]] || service::forget "vllm_${model%#*}_${MODEL_JOBS[$model]}"
  done
  for noted in ${CONSUMERS_NOTED[@]+"${CONSUMERS_NOTED[@]}"}; do
    server=${noted%/*}
    if [[ " ${SUBMITTED[*]#*=} " == *" ${server##*_} "* ]]; then
      service::forget "$server"
    else
      rm -f "$ADDRESS_DIR/$server.consumers/${noted##*/}"
    fi
  done
  "$PYTHON" -m helpers workflow abandoned "$RUN_GROUP" "${SUBMITTED[@]#*=}"
}
