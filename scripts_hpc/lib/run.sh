# shellcheck shell=bash
# run.sh: one run of an agent, from the job script's side: its folder, its servers, its end. Sourced by slurm_agent_*.sh, with a file
# task_<kind>.sh, which knows what such tasks are made of, what is submitted, and who judges it.
# States are the words of the README; `lost` is the infrastructure's fault and never counts as a zero.
# shellcheck disable=SC2034 # some are for task_<kind>.sh and the job script

RUN='' RUN_NAME='' RUN_STATE='' RUN_REASON='' RUN_CREATED='' AGENT_PID='' AGENT_STARTED='' AGENT_ENDED='' AGENT_CODE='' TIME_LIMIT_REACHED=false DATA_FINGERPRINT=''
SUBMISSION='' SUBMISSION_PROBLEM='' SUBMISSION_KEPT='' SUBMISSION_SHA256='' LOSING=0 CELL=0 ATTEMPT=0 ELEMENTS=1 GRADING_JOB='' MODEL_JOB='' FEEDBACK_JOB='' EARLIER_RECORD='' EARLIER_GRADES='' TASK_KIND=competition REPORT=grading_report.json CUT_SHORT='' ROOM_PIPE='' ROOM_PID='' ROOM_PASSED='' EVALUATED=''
declare -gA EXTERNAL # the job script has filled it, for models whose endpoint is somebody else's

run::create() {
  if [[ -z $RUN_GROUP ]]; then RUN_GROUP=$RUNS/$(date -u +%Y-%m-%dT%H-%M-%S-UTC)_run-group_${AGENT//\//-}; fi
  RUN_CREATED=$(common::now)
  RUN_NAME=${COMPETITION//\//-}_$JOB_ID
  RUN=$RUN_GROUP/$RUN_NAME
  # which data the result is about; a workflow has made it, and a job by hand may find none
  DATA_FINGERPRINT=$(sed -n 's/.*"data_fingerprint": *"\([0-9a-f]*\)".*/\1/p' "$DATA/$COMPETITION/prepared/fingerprint.json" 2>/dev/null) || true
  { mkdir -p "$RUN"/{submission,logs,code,workspaces,overlay/workspaces,overlay/endpoints} &&
    cp -RL "$ROOT/templates/agents/common/." "$AGENT_FILES/." "$RUN/overlay/" &&
    # room and inodes for the last words: an agent that fills the disk must not take them away
    mkdir "$RUN/.reserve" && touch "$RUN/.reserve/"{1..8} && head -c 262144 /dev/urandom >"$RUN/.reserve/room"; } ||
    die 3 "can't make the run's folder $RUN: $(common::lacking "$RUNS")"
}

run::record() { # run::record STATE [REASON]: run_metadata.json, rewritten atomically, and how the run stands in its round's manifest.json
  RUN_STATE=$1 RUN_REASON=${2:-}
  run::_record || return
  run::_manifest || log "can't write ${RUN%/*}/manifest.json: who looks at the round next does it"
}

run::_record() {
  local ended=''
  [[ -z $EARLIER_GRADES ]] || { run::_record_again && return || return; }
  [[ -z $EARLIER_RECORD ]] || { run::_record_later && return || return; }
  case $RUN_STATE in waiting | running) ;; *) ended=$(common::now) ;; esac
  json::object schema: 1 run_id "$RUN_NAME" competition "$COMPETITION" agent "$AGENT" model "$MODEL_LABEL" \
    seed: "$SEED" rollout: "$ROLLOUT" attempt: "$ATTEMPT" cell: "$CELL" state "$RUN_STATE" reason "$RUN_REASON" agent_exit_code: "${AGENT_CODE:-null}" \
    time_limit_seconds: "$TIME_LIMIT" time_limit_reached: "$TIME_LIMIT_REACHED" cut_short "$CUT_SHORT" step_limit: "$STEP_LIMIT" \
    asked_to_end: "$ASKED_TO_END" data_fingerprint "$DATA_FINGERPRINT" isolated: "$(container::isolated && printf true || printf false)" cpus: "$CPUS" job_id "$JOB_ID" \
    grading_job "${GRADING_JOB##*_}" model_job "${MODEL_JOB##*_}" feedback_job "${FEEDBACK_JOB##*_}" host "${HOSTNAME:-}" created_at "$RUN_CREATED" \
    agent_started_at "$AGENT_STARTED" agent_ended_at "$AGENT_ENDED" submission_sha256 "$SUBMISSION_SHA256" ended_at "$ended" |
    common::write_atomic "$RUN/run_metadata.json"
}

run::finish() { # run::finish STATE REASON
  rm -rf "$RUN/.reserve"
  [[ $1 != lost ]] || set -- "$1" "$2$(run::_kept)"
  run::record "$1" "$2" || log "can't write $RUN/run_metadata.json"
  run::_evaluation || log "can't write $RUN/evaluation_results.json"
  # beside the record, what it can be compared with: no agent can write here
  [[ -z $AGENT_STARTED ]] || log "the agent's time: $AGENT_STARTED to ${AGENT_ENDED:-its end}"
  log "$COMPETITION: $1: $2"
}

# The entry of this run's rollout in the manifest.json of its round, where this run is the one that counts (helpers/benchmarks/manifest.py,
# which writes it too): nobody may watch the round. A record that another process has written meanwhile is what counts.
run::_manifest() (
  group=${RUN%/*} score=null tries=0 newest=-1
  [[ -f $group/manifest.json && -z $EARLIER_GRADES ]] || return 0
  exec {lock}>>"$group/jobs/.manifest" || return
  # a file system without locks: the last one who writes wins, until somebody looks
  flock --wait 30 --conflict-exit-code 99 "$lock" || (($? != 99)) || return
  for link in "$group/claims/$ROLLOUT" "$group/claims/$ROLLOUT".*; do
    [[ -L $link ]] || continue
    number=${link#"$group/claims/$ROLLOUT"}
    number=${number#.}
    tries=$((tries + 1))
    ((${number:-0} <= newest)) || { newest=${number:-0} && owner=$(readlink "$link"); }
  done
  [[ $tries == 0 || $RUN == *"_$owner" ]] || return 0
  state=$(json::text state <"$RUN/run_metadata.json")
  [[ $state != scored ]] || score=$(sed -nE 's/.*"total_score": *(-?[0-9][0-9.eE+-]*).*/\1/p' "$RUN/$REPORT" | head -n 1)
  text=$(awk -v id="\"run_id\": \"${group##*/}-$ROLLOUT\"" -v state="$state" -v score="${score:-null}" -v tries="$tries" '
    function put(key, value) { if ($0 ~ "^ *\"" key "\": ") $0 = "      \"" key "\": " value (/,$/ ? "," : "") }
    index($0, id) { mine = 1 }
    /^    }/ { mine = 0 }
    mine { put("launch_rc", 0); put("status", "\"launched\""); put("state", "\"" state "\""); put("score", score); put("attempts", tries) }
    { print }' "$group/manifest.json") || return
  [[ $text == "$(<"$group/manifest.json")" ]] || common::write_atomic "$group/manifest.json" <<<"$text"
)

# What the specification's analyses read of every run, whatever its task is: the score, null where there is none, and of one with a score
# the metrics that its task reports beside it.
run::_evaluation() {
  local score='' kind said more=()
  # whoever graded it has written all of it (repository::grade)
  [[ -z $EVALUATED || $RUN_STATE != scored ]] || return 0
  [[ -z $EARLIER_GRADES ]] || return 0
  # one that wasn't graded later either stays what it was
  [[ -z $EARLIER_RECORD || $RUN_STATE == scored || $RUN_STATE == invalid_submission ]] || return 0
  [[ $RUN_STATE != scored ]] || score=$(sed -nE 's/.*"total_score": *(-?[0-9][0-9.eE+-]*).*/\1/p' "$RUN/$REPORT" 2>/dev/null | head -n 1) || true
  for kind in ${score:+standard_metrics custom_metrics}; do
    said=$(run::_reported "$kind")
    [[ -z $said ]] || more+=("$kind:" "$said")
  done
  json::object task_id "$COMPETITION" run_id "$(run::public_id)" state "$RUN_STATE" total_score: "${score:-null}" \
    evaluation: "{\"total_score\": ${score:-null}}" ${more[@]+"${more[@]}"} | common::write_atomic "$RUN/evaluation_results.json"
}

# An object of names to numbers, as helpers/grading/report.py lets them into a report; nothing where the report has none of that name.
run::_reported() { # run::_reported KEY
  local pair='"([^"\\{}]|\\u[0-9a-fA-F]{4})+" *: *(null|-?[0-9][0-9.eE+-]*) *' found
  found=$(tr '\n' ' ' <"$RUN/$REPORT" | LC_ALL=C grep -aoE "\"$1\": *\{ *($pair(, *$pair)*)?\}" | head -n 1) || true
  printf '%s' "${found#*:}"
}

run::public_id() { # a round of a benchmark numbers its runs
  local group=${RUN%/*}
  if [[ -d $group/task_results ]]; then printf '%s-%s' "${group##*/}" "$ROLLOUT"; else printf '%s' "$RUN_NAME"; fi
}

run::close() { # the last word of a job script that died on the way, and of every other one
  local code=$EXIT_CODE
  case $RUN_STATE:$ASKED_TO_END in
    :true | waiting:true | running:true) run::finish "${RUN_STATE:-waiting}" "$ASKED" ;;
    :* | waiting:* | running:*) run::finish lost "${DIED:-the job script ended early (code $code): see its log}" ;;
  esac
  run::leave
}

run::leave() { # it uses no server any more
  run::release_models
  run::_release grading "$GRADING_JOB"
}

# Somebody wants this job to end. Near its time limit that is why, and what is there is graded; else the scheduler knows whether it
# was cancelled or had to make room, and whoever asks it settles the run (helpers/runs/metadata.py, verdict).
run::asked_to_end() {
  local left
  # bash may lose a child's exit code where a signal comes: an answer counts whatever that says, and silence is asked a second time
  left=$(sched::left "$JOB_ID") || true
  [[ $left =~ ^[0-9]+$ ]] || left=$(sched::left "$JOB_ID") || true
  if [[ ! $left =~ ^[0-9]+$ ]] || ((left > LEAD + 90)); then # Slurm may be a minute early
    ASKED_TO_END=true
    # at once: what makes room for another job is given few seconds
    run::_take_submission
    [[ -z $RUN_STATE ]] || run::record "$RUN_STATE" "$ASKED"
    run::_put_by
    exit 130
  fi
  [[ -n $AGENT_STARTED ]] || run::lose "job $JOB_ID reached its time limit while it waited for its servers"
  [[ -z $AGENT_ENDED ]] || return 0
  log "this job is near its time limit: ending the agent"
  JOB_IS_OVER=1
  AGENT_DEADLINE=$(($(date +%s) - STOP_SECONDS))
}
ASKED_TO_END=false JOB_IS_OVER=0 ASKED='asked to end by the scheduler or a person (SIGTERM)'

run::release_models() { # the run has no more to ask of them: whoever grades it holds no GPU
  RELEASED=1
  run::_release models "$MODEL_JOB" "$FEEDBACK_JOB"
}
RELEASED=0

# An array is noted as a user of its servers from its submission on; the last of its elements to go takes that back.
run::_release() { # run::_release WHAT SERVICE_JOB…
  local server array=''
  # what is being submitted needs them too, and no user of theirs yet: chain::_await does this then
  [[ -z ${CHAIN_PID:-} ]] || ! kill -0 "$CHAIN_PID" 2>/dev/null || return 0
  if run::_is_last "$1"; then array=${JOB_ID%_*}; fi
  for server in "${@:2}"; do
    [[ -z $array ]] || service::dismiss "$server" "$array"
    service::dismiss "$server" "$JOB_ID"
  done
}

run::_is_last() { # run::_is_last WHAT: whether all elements of this job's array have left; those that were killed never say so
  local left
  [[ $JOB_ID == *_* && -d $RUN_GROUP/left ]] || return 1
  : >"$RUN_GROUP/left/$JOB_ID.$1" || return 1
  left=("$RUN_GROUP/left/${JOB_ID%_*}"_*."$1")
  ((${#left[@]} >= ELEMENTS))
}

run::lose() { # run::lose REASON: ends the job, infrastructure's fault
  LOSING=1 AGENT_ENDED=${AGENT_ENDED:-$(common::now)}
  run::_take_submission
  run::finish lost "$1"
  run::_put_by
  exit 3
}

# The submission of a run that ends without being graded, as it is now: `jobs.sh grade` knows it by its checksum, and has a copy out of
# the agent's reach.
run::_take_submission() { # sets SUBMISSION_SHA256
  [[ -n $AGENT_STARTED ]] || return 0
  [[ -n $SUBMISSION_KEPT ]] || LOSING=1 task::keep
  if [[ -f $SUBMISSION ]]; then read -r SUBMISSION_SHA256 _ < <(sha256sum <"$SUBMISSION"); fi
}

run::_put_by() {
  [[ -n $SUBMISSION_SHA256 && -n $AGENT_STARTED ]] || return 0
  cp "$SUBMISSION" "$RUN/$TASK_KEPT" || {
    rm -f "$RUN/$TASK_KEPT"
    log "can't keep a copy of the submission in $RUN: $(common::lacking "$RUN")"
  }
}

run::_kept() { # what is to be said of a submission that isn't graded; helpers/runs/metadata.py says it the same way
  [[ -z $EARLIER_GRADES && -n $AGENT_STARTED$EARLIER_RECORD ]] || return 0
  if ((TASK_SERVER == 0)); then
    [[ -z $SUBMISSION_SHA256 ]] || printf '; what it had changed is kept: %s' "$RUN/$TASK_KEPT"
  elif [[ -n $SUBMISSION_SHA256 ]] || task::is_there; then
    printf '; the submission is kept: scripts_hpc/jobs.sh grade %s' "$RUN"
  fi
}

run::server() { # run::server SERVICE auto:JOB|auto|URL|external|none: prints <service>_<job>, or nothing where no job stands behind it
  local pattern=$1 given=$2 file newest='' job
  case $given in
    http://* | https://* | external | none) return 0 ;;
    auto:*)
      job=${given#auto:}
      # the address appears when the server is ready; its folder of consumers, when its job starts
      for file in "$ADDRESS_DIR"/$pattern"_$job".consumers; do
        if [[ -d $file ]]; then
          file=${file##*/}
          printf '%s\n' "${file%.consumers}"
          return 0
        fi
      done
      # not started yet: only the job id is known
      printf '%s\n' "?_$job"
      ;;
    auto)
      for file in "$ADDRESS_DIR"/$pattern; do
        [[ -f $file && ($newest == '' || $file -nt $newest) ]] && newest=$file
      done
      [[ -n $newest ]] || die 2 "no model server of yours is running: give MODEL as auto:JOB or a URL (sbatch slurm_vllm_<model>.sh starts one)"
      printf '%s\n' "${newest##*/}"
      ;;
    *) die 2 "'$given' is neither auto:JOB nor a URL" ;;
  esac
}

run::find_servers() { # from GRADING, MODEL and FEEDBACK, as they were given
  # who doesn't need it is no user of it, and neither waits for it nor dies with it
  ((TASK_SERVER)) || GRADING=none
  GRADING_JOB=$(run::server grading_server "$GRADING")
  ((NEEDS_MODEL)) || return 0
  MODEL_JOB=$(run::server 'vllm_*' "$MODEL")
  FEEDBACK_JOB=$(run::server 'vllm_*' "$FEEDBACK")
}

run::enlist() {
  local server
  for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
    [[ -z $server || $server == \?_* ]] || service::enlist "$server" "$JOB_ID" "$RUN"
  done
}

run::_jobs() { # the jobs of the servers that this run needs
  local server
  for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
    [[ -z $server || ($RELEASED == 1 && $server != "$GRADING_JOB") ]] || printf '%s\n' "${server##*_}"
  done | sort -u
}

run::_log_of() { # run::_log_of JOB: where the log of a server's job lies; that of a reused one is another run's
  local log
  for log in "$RUN_GROUP"/logs/*"-$1.out" "$RUNS"/logs/*"-$1.out" "$RUNS"/*/logs/*"-$1.out"; do
    [[ ! -f $log ]] || { printf 'its log is %s' "$log" && return; }
  done
  printf 'it left no log below %s' "$RUNS"
}

run::_check_servers() { # ends the run when a server's job is gone for good; asks the scheduler once for all
  local jobs gone job why
  mapfile -t jobs < <(run::_jobs)
  ((${#jobs[@]})) || return 0
  gone=$(sched::gone_of "${jobs[@]}") || return 0 # the scheduler didn't answer: not known is not gone
  for job in $gone; do
    why=$(service::failure "$job")
    run::lose "job $job, a server that this run needs, has ended${why:+: ${why%: see its log}}; $(run::_log_of "$job")"
  done
}

run::stop_agent() { # run::stop_agent [SECONDS]
  [[ -z $AGENT_PID ]] || common::end_group "$AGENT_PID" "${1:-15}"
  agent::end_log
}

run::_agent_running() { kill -0 "$AGENT_PID" 2>/dev/null; }

# Whether the server of that job answers, known by its certificate. Sets WAITS_FOR to what is missing, and SILENT_SINCE to when an
# address that is there was first seen not to answer.
run::_answers() { # run::_answers SERVICE_JOB
  local server=$1 path problem code=0
  case $server in
    \?_*) WAITS_FOR="the start of job ${server#\?_}" && return 1 ;;
    grading_server_*) path=/health ;;
    *) path=/v1/models ;;
  esac
  if [[ ! -e $ADDRESS_DIR/$server ]]; then
    WAITS_FOR="the address of ${server%_*} (job ${server##*_}), which appears when it is ready"
    SILENT_SINCE[$server]=''
    return 1
  fi
  problem=$(service::ask "$server" token "$path" --max-time 10 --fail --output /dev/null 2>&1) || code=$?
  if ((code == 0)); then
    SILENT_SINCE[$server]=''
    return 0
  fi
  run::_silent "$server" "$problem"
  return 1
}

run::_silent() { # run::_silent SERVICE_JOB PROBLEM: notes that a server with an address gave no answer; another address is another try
  local server=$1 url
  url=$(service::lookup "$server" url) || url=''
  [[ ${SILENT_SINCE[$server]:-} == *" $url" ]] || SILENT_SINCE[$server]="$SECONDS $url"
  local said=${2%%$'\n'*} # of a certificate curl has a paragraph to say
  WAITS_FOR="${server%_*} (job ${server##*_}) to answer at ${url:-its address}: ${said:-no answer}"
}
declare -A SILENT_SINCE=()
WAITS_FOR=''
SILENT_SECONDS=180 # how long a server's job may live, with an address, and not answer

# Bounds a wait for servers that have told an address: says once a minute what it waits for, and ends the run when a server has been
# silent for too long.
run::_bound_silence() {
  local server since
  ((SECONDS - WAIT_TOLD < 60)) || {
    WAIT_TOLD=$SECONDS
    log "waiting for $WAITS_FOR"
  }
  for server in "${!SILENT_SINCE[@]}"; do
    since=${SILENT_SINCE[$server]%% *}
    [[ -z $since ]] || ((SECONDS - since < SILENT_SECONDS)) ||
      run::lose "the job of ${server%_*} lives, but for $SILENT_SECONDS s ${HOSTNAME:-this node} got no answer: $WAITS_FOR. If nodes can't reach one another by that name, set network.interface of site $SITE (ip -4 addr shows the names)"
  done
}

# Waits until all servers answer, for as long as their jobs live: queueing and loading have no fixed time.
run::await_services() {
  local checked=$SECONDS variable server ready
  WAIT_TOLD=$SECONDS
  for (( ; ; )); do
    ready=1
    for variable in GRADING_JOB MODEL_JOB FEEDBACK_JOB; do
      server=${!variable}
      if [[ $server == \?_* ]]; then
        server=$(run::server "$([[ $variable == GRADING_JOB ]] && printf grading_server || printf 'vllm_*')" "auto:${server#\?_}")
        printf -v "$variable" %s "$server"
        [[ $server == \?_* ]] || service::enlist "$server" "$JOB_ID" "$RUN"
      fi
      [[ -z $server ]] || run::_answers "$server" || ready=0
    done
    ((ready == 0)) || return 0
    run::_check_room || true
    [[ -z $AGENT_PID ]] || run::_agent_running || {
      AGENT_CODE=0
      wait "$AGENT_PID" || AGENT_CODE=$?
      AGENT_ENDED=$(common::now)
      run::stop_agent
      run::finish agent_failed "the agent ended with code $AGENT_CODE before its servers were ready: see agent.log$(run::_remarks)"
      exit 4
    }
    if ((SECONDS - checked >= 10)); then
      checked=$SECONDS
      run::_check_servers
    fi
    run::_bound_silence
    common::pause 0.2 ${AGENT_PID:+"$AGENT_PID"}
  done
}

run::_external_roles() { # the roles of models whose endpoint is somebody else's, and how it was given: a line each
  ((NEEDS_MODEL)) || return 0
  [[ -n $MODEL_JOB ]] || printf 'CODE %s\n' "$MODEL"
  [[ -n $FEEDBACK_JOB ]] || printf 'FEEDBACK %s\n' "$FEEDBACK"
}

# Asks the endpoints that are somebody else's for one token, before any of the agent's time is spent: one that refuses us will refuse
# the agent too. One that is busy or away may come back, and the agent will try. (A server of ours has answered its own job's request
# before it told its address, and every client since.)
run::ask_endpoints() {
  local role given code asked=''
  while read -r role given <&3; do
    if [[ $given == external ]]; then
      [[ -n ${EXTERNAL[${role}_url]:-} ]] || die 2 "MODEL is 'external', but this script was rendered without a model: give MODEL as auto:JOB or a URL"
    else
      EXTERNAL[${role}_url]=${given%/} EXTERNAL[${role}_name]=${MODEL_NAME:-} EXTERNAL[${role}_key]=MODEL_API_KEY
      [[ $given == */v1 || $given == */v1/ ]] || EXTERNAL[${role}_url]+=/v1
      run::_name_model "$role"
    fi
    [[ $asked != "${EXTERNAL[${role}_url]} ${EXTERNAL[${role}_name]}" ]] || continue
    asked="${EXTERNAL[${role}_url]} ${EXTERNAL[${role}_name]}"
    code=0
    run::_in_reach endpoint::ask "${EXTERNAL[${role}_url]}" "${EXTERNAL[${role}_name]}" "$(run::_model_key "$role")" "${EXTERNAL[${role}_key]}" || code=$?
    case $code in
      0) ;;
      4) run::lose "$SAID" ;;
      *) log "$SAID; the agent will try again" ;;
    esac
  done 3< <(run::_external_roles)
}

# An address without a name: the agent can't begin without one.
run::_name_model() { # run::_name_model ROLE
  local role=$1 try code
  [[ -z ${EXTERNAL[${role}_name]} ]] || return 0
  for ((try = 0; ; try++)); do
    code=0
    run::_in_reach endpoint::first_model "${EXTERNAL[${role}_url]}" "$(run::_model_key "$role")" MODEL_API_KEY || code=$?
    ((code)) || break
    ((code == 5 && try < ${#ENDPOINT_PAUSES[@]})) || run::lose "$SAID"
    common::pause "${ENDPOINT_PAUSES[try]}"
  done
  EXTERNAL[${role}_name]=$SAID
}
ENDPOINT_PAUSES=(15 60) # seconds before a second and a third try
SAID=''

# Runs a request so that a signal to this job isn't kept waiting; what it printed is SAID.
run::_in_reach() { # run::_in_reach COMMAND…
  local code=0 pid
  "$@" >"$JOB_TMP/said" &
  pid=$!
  wait "$pid" || code=$?
  SAID=$(<"$JOB_TMP/said")
  return "$code"
}

run::_model_key() { # run::_model_key ROLE: the key of somebody else's endpoint, or nothing
  [[ -z ${EXTERNAL[$1_key]:-} ]] || common::key "${EXTERNAL[$1_key]}"
}

run::_endpoint() { # run::_endpoint ROLE SERVICE_JOB: four lines for the agent
  local role=$1 server=$2 url name key
  if [[ -n $server ]]; then
    url=$(service::lookup "$server" url)/v1
    name=$(service::lookup "$server" served_name)
    key=$(service::lookup "$server" token)
  else
    url=${EXTERNAL[${role}_url]} name=${EXTERNAL[${role}_name]} key=$(run::_model_key "$role")
  fi
  run::_line "AGENT_${role}_MODEL" "$name"
  run::_line "AGENT_${role}_BASE_URL" "$url"
  run::_line "AGENT_${role}_API_KEY" "${key:-none}"
  run::_line "AGENT_${role}_CA_FILE" "$(run::_certificate "$server")"
}

# The certificate that the agent's clients have to trust for a server, alone, as a file in its container; nothing for somebody else's.
run::_certificate() { # run::_certificate SERVICE_JOB
  local server=$1
  [[ -n $server ]] || return 0
  sed -n '/^-----BEGIN/,/^-----END/p' "$ADDRESS_DIR/$server" | common::write_atomic "$JOB_TMP/endpoints/$server.pem" || return
  printf '%s' "$(container::inside "$JOB_TMP/endpoints" /home/agent/endpoints)/$server.pem"
}

# For programs that know one bundle only: the certificates that this node trusts (or the site's bundle) and those of the run's servers.
run::write_bundle() {
  local file server
  {
    for file in "${CA_BUNDLE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
      if [[ -n $file && -r $file ]]; then cat "$file" && break; fi
    done
    for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
      [[ -z $server || ! -r $ADDRESS_DIR/$server ]] || sed -n '/^-----BEGIN/,/^-----END/p' "$ADDRESS_DIR/$server"
    done
  } | common::write_atomic "$JOB_TMP/endpoints/ca.pem"
}

run::_line() { printf "%s='%s'\n" "$1" "${2//\'/\'\\\'\'}"; }

run::_addresses() { # the addresses of the run's servers: another epoch is another address
  local server
  for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
    [[ -z $server ]] || printf '%s %s\n' "$server" "$(service::lookup "$server" epoch)"
  done
}

run::begin_time() { # the agent's time begins
  AGENT_STARTED=$(common::now)
  AGENT_DEADLINE=$(($(date +%s) + TIME_LIMIT))
}

# A token of this run's own: it may ask whether a submission is valid, and the server's log has the run's name from it.
run::_own_token() { # sets GRADING_TOKEN
  local answer problem
  problem=$(service::ask "$GRADING_JOB" admin_token /token --max-time 30 --fail --output "$JOB_TMP/token" --form "run=$RUN_NAME" 2>&1) ||
    run::lose "the grading server gave no token for this run: $problem"
  answer=$(<"$JOB_TMP/token")
  rm -f "$JOB_TMP/token"
  [[ $answer =~ \"token\":\ *\"([^\"]+)\" ]] || run::lose "the grading server gave no token for this run"
  GRADING_TOKEN=${BASH_REMATCH[1]}
}

run::write_endpoints() {
  local url=${GRADING#none} host server
  ENDPOINTS_AT=$(run::_addresses)
  [[ -z $GRADING_JOB || -n ${GRADING_TOKEN:-} ]] || run::_own_token
  [[ -z $GRADING_JOB ]] || url=$(service::lookup "$GRADING_JOB" url)
  for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
    [[ -n $server ]] || continue
    host=$(service::lookup "$server" url)
    host=${host#*://}
    container::add_host "${host%:*}"
  done
  run::write_bundle
  {
    run::_line GRADING_SERVER "$url"
    run::_line GRADING_TOKEN "${GRADING_TOKEN:-}"
    run::_line GRADING_CA_FILE "$(run::_certificate "$GRADING_JOB")"
    run::_line AGENT_DEADLINE "$AGENT_DEADLINE"
    if ((NEEDS_MODEL)); then
      run::_endpoint CODE "$MODEL_JOB"
      run::_endpoint FEEDBACK "$FEEDBACK_JOB"
    fi
    run::_proxies "$url"
  } | common::write_atomic "$JOB_TMP/endpoints/env" 0600
}

# A server that was started again has another address: the agent reads its file anew when a connection fails.
run::refresh_endpoints() {
  local now
  now=$(run::_addresses)
  # while a server is away there is no address
  [[ $now != "$ENDPOINTS_AT" && $now != *' '$'\n'* && $now != *' ' ]] || return 0
  log "a server has another address: the agent is told"
  run::write_endpoints
}

# The site's proxy leads to somebody else's endpoints; the run's own servers are reached directly.
run::_proxies() { # run::_proxies GRADING_URL
  local url server hosts=() name
  local -A found=()
  for server in '' "$MODEL_JOB" "$FEEDBACK_JOB"; do
    url=$1
    [[ -z $server ]] || url=$(service::lookup "$server" url)
    url=${url#*://}
    hosts+=("${url%%[:/]*}")
  done
  container::proxies found "${hosts[@]}"
  for name in "${!found[@]}"; do run::_line "$name" "${found[$name]}"; done | sort
}

# A container like the agent's, which no agent can touch (reach.sh), is made before the agent's. Where it can't be, there is none for the
# agent either: the run is lost, and no agent failed.
run::await_container() {
  local began=$SECONDS log=$JOB_TMP/reach/problem said problem
  until [[ -n $(run::_reach_said) ]]; do
    if ! kill -0 "$REACH_PID" 2>/dev/null && [[ -z $(run::_reach_said) ]]; then
      # in colours, and its INFO on stdout
      said=$(head -c 4000 "$log" | sed $'s/\e\\[[0-9;]*m//g' | LC_ALL=C tr -cd '\t\n -~')
      printf '%s\n' "$said" >&2 || true
      problem=$(container::fault "$log") ||
        problem="$({ grep -E '^(FATAL|ERROR)' <<<"$said" || true; } | tail -n 1 | head -c 300): see the job's log"
      run::lose "the agent's container can't be made on ${HOSTNAME:-this node}: ${problem#: }"
    fi
    ((SECONDS - began < CONTAINER_SECONDS)) ||
      run::lose "the agent's container wasn't there after $CONTAINER_SECONDS s on ${HOSTNAME:-this node}: is $IMAGES slow or away there?"
    common::pause 0.05 "$REACH_PID"
  done
}
CONTAINER_SECONDS=900 REACH_PID='' # a file system may be slow

run::_reach_said() { sed -n '/^here$/,$p' "$JOB_TMP/reach/said" 2>/dev/null || true; } # behind what Apptainer itself prints

# It says whether it reaches the run's servers. Where this node reaches them and the container doesn't, the run is lost, too.
run::check_reach() {
  local said server
  ((REACHED == 0)) && said=$(run::_reach_said | sed -n 2p | head -c 400) && [[ -n $said ]] || return 0
  REACHED=1
  [[ $said == unreachable* ]] || return 0
  for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
    # a server that is away is another matter
    [[ -z $server ]] || run::_answers "$server" || return 0
  done
  run::lose "the agent's container on ${HOSTNAME:-this node} can't reach its servers: $said. If containers can't reach nodes by that name, set network.interface of site $SITE (ip -4 addr shows the names)"
}
REACHED=0

# Watches the room that the agent takes, from its start, in the background: a slow disk holds nothing up. What was found comes through
# a pipe, as there may be no room for a file. What the run's own folder holds counts, and the node's disk, which is everybody's too.
run::watch_room() {
  mkfifo -m 0600 "$JOB_TMP/room" && exec {ROOM_PIPE}<>"$JOB_TMP/room" && rm "$JOB_TMP/room"
  set -m
  agent::watch "$RUN_GB" "$RUN_FILES" "$RUN" "$JOB_TMP/tmp" "$JOB_TMP/shm" 1>&"$ROOM_PIPE" 2>/dev/null &
  ROOM_PID=$!
  set +m
  on_exit "common::end_group $ROOM_PID 2"
}

run::_check_room() { # code 0 where the agent has taken more room than a run may: then it is ended
  [[ -n $ROOM_PIPE ]] || return 1
  IFS= read -r -t 0.01 -u "$ROOM_PIPE" ROOM_PASSED || {
    # whatever ended it, it shall not be waited for
    kill -0 "$ROOM_PID" 2>/dev/null || ROOM_PID=''
    return 1
  }
  log "ending the agent: $ROOM_PASSED"
  common::end_group "$AGENT_PID" 5
}

# Until the agent ends, its time is up, or a server's job is gone for good. What counts is what was there at the deadline. The agent
# stops itself then; a minute later we do.
STOP_SECONDS=60
run::supervise() {
  local now next
  while run::_agent_running; do
    now=$(date +%s)
    if ((now >= AGENT_DEADLINE)); then
      [[ -n $SUBMISSION_KEPT ]] || task::keep
      TIME_LIMIT_REACHED=true
    fi
    if ((now >= AGENT_DEADLINE + STOP_SECONDS)); then
      ((JOB_IS_OVER)) || log "the agent didn't stop at its time limit of $TIME_LIMIT s"
      common::end_group "$AGENT_PID" 15
      break
    fi
    ! run::_check_room || break
    run::_check_servers
    run::refresh_endpoints
    run::check_reach
    next=$(((now < AGENT_DEADLINE ? AGENT_DEADLINE : AGENT_DEADLINE + STOP_SECONDS) - now))
    common::pause "$((next < 10 ? next : 10))" "$AGENT_PID" ${ROOM_PID:+"$ROOM_PID"}
  done
  AGENT_CODE=0
  wait "$AGENT_PID" 2>/dev/null || AGENT_CODE=$?
  AGENT_ENDED=$(common::now)
  (($(date +%s) < AGENT_DEADLINE)) || TIME_LIMIT_REACHED=true
  run::stop_agent 5
}

# What is to be said beside the verdict.
run::_remarks() {
  if [[ $TIME_LIMIT_REACHED == true && $(task::seen) != "$SUBMISSION_KEPT" ]]; then
    printf '; what the agent wrote after its time limit of %s s is ignored' "$TIME_LIMIT"
  fi
  [[ -z $CUT_SHORT ]] || printf '; cut short: %s' "$CUT_SHORT"
  [[ -z $ROOM_PASSED ]] || printf '; the agent was ended: %s' "$ROOM_PASSED"
}

run::conclude() { # run::conclude STATE REASON: a verdict on what the agent did; ends the job
  run::finish "$1" "$2$(run::_remarks)"
  if [[ -n $AGENT_STARTED ]] && ((JOB_IS_OVER == 0)); then
    # the result stands; who wants this job to end needn't wait for what comes now
    trap 'exit 130' TERM INT
    run::leave
    agent::write_trajectory
  fi
  [[ $1 == scored ]] || exit 4
  exit 0
}

run::grade_and_finish() {
  [[ -n $SUBMISSION_KEPT ]] || task::keep
  run::_read_usage
  # without a submission, it counts whether they answer
  [[ -z $SUBMISSION$SUBMISSION_PROBLEM ]] || run::release_models
  [[ -z $SUBMISSION_PROBLEM ]] || run::conclude invalid_submission "$SUBMISSION_PROBLEM"
  [[ -n $SUBMISSION ]] || run::_without_submission
  (common::room "$JOB_TMP" >/dev/null) || container::empty_tmp
  task::judge
}

# What an agent says of its use of models. It is only words: none of it decides a state.
run::_read_usage() { # sets CUT_SHORT, and NO_ANSWER where it isn't said that models answered, or that none was asked
  local copy=$JOB_TMP/usage.json keys=() role server
  CUT_SHORT='' NO_ANSWER=$NEEDS_MODEL
  rm -f "$copy"
  [[ -d $RUN/logs && ! -L $RUN/logs ]] && agent::copy "$RUN/logs/usage.json" 65536 "$copy" >/dev/null || return 0
  for role in CODE FEEDBACK; do keys+=("$(run::_model_key "$role")"); done
  for server in "$GRADING_JOB" "$MODEL_JOB" "$FEEDBACK_JOB"; do
    [[ -z $server ]] || keys+=("$(service::lookup "$server" token || true)")
  done
  CUT_SHORT=$(endpoint::words "$(json::text cut_short <"$copy")" "${keys[@]}" "${GRADING_TOKEN:-}")
  if grep -qaE '"answers": *[1-9]|"requests": *0[^0-9]' "$copy"; then NO_ANSWER=0; fi
}
NO_ANSWER=0

# Whether the models answer this job, where the agent may have had no answer of any: asked here, as the agent is not believed. One that
# floods an endpoint, or uses up its quota, to be `lost` instead of without a result has to do so at its owner's cost, until after its
# own end, for longer than a limit by the minute lasts, and every time it is run again; a server of ours drops the requests of the dead.
run::_check_models() {
  local try code
  ((NO_ANSWER)) || return 0
  for ((try = 0; ; try++)); do
    code=0
    run::_models_answer || code=$?
    ((code)) || return 0
    run::_check_servers
    ((code == 5 && try < ${#ENDPOINT_PAUSES[@]})) || break
    log "$SAID; asking again in ${ENDPOINT_PAUSES[try]} s"
    common::pause "${ENDPOINT_PAUSES[try]}"
  done
  run::lose "the agent had no answer of a model, and its job has none either: $SAID"
}

run::_models_answer() { # asks each for one token; the code and SAID of the first that doesn't answer
  local server role
  for server in "$MODEL_JOB" ${FEEDBACK_JOB:+"$FEEDBACK_JOB"}; do
    [[ -z $server ]] || run::_in_reach endpoint::ask_server "$server" || return
  done
  while read -r role _ <&3; do
    run::_in_reach endpoint::ask "${EXTERNAL[${role}_url]}" "${EXTERNAL[${role}_name]}" "$(run::_model_key "$role")" "${EXTERNAL[${role}_key]}" || return
  done 3< <(run::_external_roles)
}

run::_without_submission() {
  if [[ -n $ROOM_PASSED ]]; then
    run::conclude agent_failed "the agent left $TASK_NOTHING"
  fi
  run::_check_models
  if ((JOB_IS_OVER)); then
    run::conclude timed_out "$TASK_NOTHING when job $JOB_ID reached its time limit"
  elif [[ $TIME_LIMIT_REACHED == true ]]; then
    run::conclude timed_out "$TASK_NOTHING within the time limit of $TIME_LIMIT s"
  elif ((AGENT_CODE)); then
    run::conclude agent_failed "the agent ended with code $AGENT_CODE and left $TASK_NOTHING: see agent.log"
  fi
  run::conclude no_submission "$TASK_WITHOUT"
}

# ---- graded later (scripts_hpc/jobs.sh grade): a run that ended without, by a job of its own, which grades as every other does

# The order for one run, written by helpers/jobs/orders.py, sets RUN, RUN_NAME, ROLLOUT and COMPETITION; EARLIER_RECORD, EARLIER_STATE and EARLIER_REASON, what
# the run's record says; and SUBMISSION_FILE, SUBMISSION_SHA256 and SUBMISSION_REMARK, what is graded, and how that is known. Of a run that
# was graded, EARLIER_GRADES are those that it has: another one is put beside them (scripts_hpc/results.sh regrade, run_benchmark.sh eval).
run::take_order() { # run::take_order FILE
  [[ -r $1 ]] || die 3 "can't read $1"
  # shellcheck source=/dev/null
  source "$1"
  [[ -z $EARLIER_GRADES ]] || REPORT=grading_report_$JOB_ID.json
}

run::grade_later() {
  local problem sum
  SUBMISSION=$JOB_TMP/submission.csv
  problem=$(agent::copy "$SUBMISSION_FILE" $((UPLOAD_MB * 1048576)) "$SUBMISSION") || run::lose "$problem"
  read -r sum _ < <(sha256sum <"$SUBMISSION")
  [[ $sum == "$SUBMISSION_SHA256" ]] || run::lose "$SUBMISSION_FILE was changed in the meantime"
  SUBMISSION_KEPT=$SUBMISSION_FILE
  [[ $SUBMISSION_FILE != "$RUN/submission/submission.csv" ]] || SUBMISSION_KEPT=$(agent::_seen "$SUBMISSION_FILE")
  run::grade_and_finish
}

# Into the record once, at the end: what it said stays, and an end that was graded is never written over.
run::_record_later() {
  local state=$RUN_STATE reason=$EARLIER_REASON now
  case $state in
    waiting | running) return 0 ;;
    scored | invalid_submission) reason="$RUN_REASON$SUBMISSION_REMARK; graded later, by job $JOB_ID: at first it was $EARLIER_STATE: $reason" ;;
    *) state=$EARLIER_STATE reason+="; not graded later either, by job $JOB_ID: $RUN_REASON" ;; # which says what is kept
  esac
  now=$(json::text state <"$RUN/run_metadata.json")
  [[ $now == "$EARLIER_STATE" ]] || { log "$RUN is $now by now: its record stays as it is" && return; }
  now=$(json::object state "$state" reason "$reason" cut_short "$CUT_SHORT" earlier_state "$EARLIER_STATE" earlier_reason "$EARLIER_REASON" \
    later_job "$JOB_ID" later_at "$(common::now)")
  printf '%s, %s\n' "${EARLIER_RECORD%\}}" "${now#\{}" | common::write_atomic "$RUN/run_metadata.json"
}

# Another grade beside the ones that it has: the first stays the run's result, and so do its record and its report.
run::_record_again() {
  local score='' report='' grade
  case $RUN_STATE in
    waiting | running) return 0 ;;
    scored | invalid_submission)
      if [[ -f $RUN/$REPORT ]]; then report=$REPORT; fi
      score=$(sed -nE 's/.*"total_score": *(-?[0-9][0-9.eE+-]*).*/\1/p' "$RUN/$REPORT" 2>/dev/null | head -n 1) || true
      ;;
  esac
  grade=$(json::object job "$JOB_ID" at "$(common::now)" state "$RUN_STATE" reason "$RUN_REASON" score: "${score:-null}" report "$report")
  printf '%s, "grades": [%s, %s]}\n' "${EARLIER_RECORD%\}}" "$EARLIER_GRADES" "$grade" | common::write_atomic "$RUN/run_metadata.json"
}
