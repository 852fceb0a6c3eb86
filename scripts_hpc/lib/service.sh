# shellcheck shell=bash
# service.sh: start a server, prove it, publish its address, watch who uses it, end it; and find one. Sourced by job scripts.
# Needs common.sh and scheduler.sh; the caller sets SERVICE, JOB_ID, ADDRESS_DIR, GRACE and (a workflow) RUN_GROUP.

SERVICE_PID=''
SERVICE_EPOCH=0
SERVICE_ENDED_EARLY=0

service::token() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

service::host() { # the name under which other nodes reach this one
  local address
  if [[ -z ${INTERFACE:-} ]]; then
    hostname -f 2>/dev/null || hostname
    return
  fi
  if [[ $INTERFACE == lo ]]; then
    printf '127.0.0.1\n'
    return
  fi
  address=$(ip -4 -o addr show dev "$INTERFACE" 2>/dev/null | awk '{sub("/.*", "", $4); print $4; exit}')
  [[ -n $address ]] || die 3 "no IPv4 address on interface $INTERFACE of ${HOSTNAME:-this node} (network.interface of site $SITE): ip -4 addr shows the names"
  printf '%s\n' "$address"
}

service::bind_host() { # loopback where the site publishes loopback, else all interfaces: other nodes must get in
  if [[ ${INTERFACE:-} == lo ]]; then printf '127.0.0.1'; else printf '0.0.0.0'; fi
}

service::free_port() { # service::free_port LOWEST HIGHEST: one that nothing listens on now; the proof comes later, when ours answers
  local port try
  for ((try = 0; try < 50; try++)); do
    port=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1)))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s\n' "$port"
      return 0
    fi
  done
  die 3 "no free port between $1 and $2 on ${HOSTNAME:-this node} (network.ports of site $SITE)"
}

# A request with a bearer token that no process list shows: curl reads it from a file descriptor.
service::curl() { # service::curl TOKEN CURL_ARGS…
  local token=$1
  shift
  if command -v curl >/dev/null; then
    curl --silent --show-error --noproxy '*' --config <(printf 'header = "Authorization: Bearer %s"\n' "$token") "$@"
  elif [[ -x ${VENV:-}/bin/python ]]; then
    HAB_TOKEN=$token PYTHONPATH=$ROOT "$VENV/bin/python" -m helpers.curl "$@"
  else
    die 3 "there is no curl on ${HOSTNAME:-this node}: jobs need it (environment.modules of site $SITE may bring it)"
  fi
}

service::record() { # service::record started_at|ready_at|ended_at: the server's times, for its GPU-hours
  [[ -n ${RUN_GROUP:-} && -d $RUN_GROUP ]] || return 0
  mkdir -p "$RUN_GROUP/services"
  SERVICE_TIMES[$1]=$(common::now)
  json::object service "$SERVICE" job_id "$JOB_ID" gpus: "${GPUS:-0}" cpus: "${CPUS:-1}" \
    started_at "${SERVICE_TIMES[started_at]:-}" ready_at "${SERVICE_TIMES[ready_at]:-}" ended_at "${SERVICE_TIMES[ended_at]:-}" |
    common::write_atomic "$RUN_GROUP/services/${SERVICE}_$JOB_ID.json"
}
declare -A SERVICE_TIMES=()

service::_init() {
  (umask 077 && mkdir -p "$ADDRESS_DIR") || die 3 "can't make the address folder $ADDRESS_DIR (paths.address_dir of site $SITE)"
  chmod 700 "$ADDRESS_DIR" || die 3 "the address folder $ADDRESS_DIR isn't yours (paths.address_dir of site $SITE must be a folder of your own)"
  ADDRESS_FILE=$ADDRESS_DIR/${SERVICE}_$JOB_ID
  CONSUMERS=$ADDRESS_FILE.consumers
  on_exit service::_stop
  (umask 077 && mkdir -p "$CONSUMERS")
  trap 'log "asked to end (SIGTERM)"; exit 143' TERM
  trap 'log "interrupted"; exit 130' INT
  trap 'SERVICE_ENDED_EARLY=1' USR1
  service::record started_at
}

service::_stop() {
  # first what others see: Slurm may kill this shell while it still waits for a server that is deaf to TERM (KillWait)
  rm -f "$ADDRESS_FILE"
  rm -rf "$CONSUMERS"
  service::record ended_at
  [[ -z $SERVICE_PID ]] || common::end_group "$SERVICE_PID" 15
  service::record ended_at
  log "$SERVICE ended"
}

service::_start() { # in a process group of its own, so that all of it can be ended
  SERVICE_EPOCH=$((SERVICE_EPOCH + 1))
  # a port that somebody else took is given up; one that is published is kept, for its users can't be told of another
  [[ -f $ADDRESS_FILE ]] || choose_port
  set -m
  start_server &
  SERVICE_PID=$!
  set +m
}

service::_running() { kill -0 "$SERVICE_PID" 2>/dev/null; }

# Ready means that a real request was answered by this very server.
service::_await_ready() { # service::_await_ready MINUTES: code 1 when the process ended, or the time is up
  local limit=$((SECONDS + $1 * 60))
  while ! probe_server; do
    service::_running || return 1
    ((SERVICE_ENDED_EARLY == 0)) || return 0
    # a workflow that died before its agents were submitted must not load a model for nobody
    if [[ -n $RUN_GROUP ]] && service::_unused; then return 0; fi
    if ((SECONDS >= limit)); then
      log "$SERVICE was not ready after $1 minutes (load_minutes of the model)"
      return 1
    fi
    common::pause 0.2 "$SERVICE_PID"
  done
}

service::publish() { # service::publish URL [KEY=VALUE…]
  printf '%s\n' "$@" "epoch=$SERVICE_EPOCH" | common::write_atomic "$ADDRESS_FILE" 0600 ||
    die 3 "can't write the address file $ADDRESS_FILE: $(df -Ph "$ADDRESS_DIR" | awk 'NR==2 {print $4 " free"}')"
  service::record ready_at
  log "$SERVICE ready at $1"
}

# The jobs that use this server. The scheduler decides whether one is alive, not its file.
service::_consumers() { # prints ids; code 3 when the scheduler doesn't answer
  local file ids=()
  for file in "$CONSUMERS"/*; do
    if [[ -f $file ]]; then ids+=("${file##*/}"); fi
  done
  ((${#ids[@]})) || return 0
  sched::alive_in "${ids[@]}"
}

# Whether no job has used the server for GRACE seconds. Asks the scheduler at most every SERVICE_PAUSE seconds.
service::_unused() {
  local alive
  ((SECONDS >= SERVICE_ASKED + SERVICE_PAUSE)) || return 1
  SERVICE_ASKED=$SECONDS
  # not known is not gone: a scheduler that is down says nothing about the jobs
  if ! alive=$(service::_consumers) || [[ -n $alive ]]; then SERVICE_USED=$SECONDS; fi
  ((SECONDS - SERVICE_USED >= GRACE)) || return 1
  log "no job has used $SERVICE for $GRACE s"
  SERVICE_ENDED_EARLY=1
}

# The life of a server job. The template defines choose_port, start_server (execs the server), probe_server (a real request to
# it) and publish_server. The server is kept until its last consumer has been gone for GRACE seconds, or says so itself (USR1);
# when it dies it is started again, twice at most, on the same port, so that its users can go on. With SERVICE_MAY_END=1 a server
# that ends with code 0 is not started again.
service::serve() { # service::serve LOAD_MINUTES
  local minutes=$1 starts=0 code
  service::_init
  SERVICE_USED=$SECONDS SERVICE_ASKED=$SECONDS SERVICE_PAUSE=$((GRACE < 8 ? 1 : GRACE > 40 ? 10 : GRACE / 4))
  while ((starts++ < 3)); do
    service::_start
    if service::_await_ready "$minutes"; then
      ((SERVICE_ENDED_EARLY)) || publish_server
      # the time that a model takes to load is not time unused: a server by itself may have no users before
      [[ -n $RUN_GROUP ]] || SERVICE_USED=$SECONDS
      while service::_running && ((SERVICE_ENDED_EARLY == 0)) && ! service::_unused; do
        common::pause "$SERVICE_PAUSE" "$SERVICE_PID"
      done
      if ((SERVICE_ENDED_EARLY)); then
        log "$SERVICE is no longer needed"
        return 0
      fi
    elif service::_running; then
      return 3
    fi
    code=0
    wait "$SERVICE_PID" || code=$?
    if ((code == 0 && ${SERVICE_MAY_END:-0})); then
      log "$SERVICE ended itself"
      return 0
    fi
    log "$SERVICE died with code $code (start $starts of 3)"
    common::end_group "$SERVICE_PID" 2
  done
  return 3
}

# ---- the other side: finding a server

service::lookup() { # service::lookup SERVICE_JOB KEY: url, token, admin_token, served_name, epoch; code 1 while there is no address
  local file=$ADDRESS_DIR/$1 line first=1
  [[ -r $file ]] || return 1
  while IFS= read -r line; do
    if ((first)); then
      first=0
      [[ $2 != url ]] || { printf '%s\n' "$line" && return 0; }
    elif [[ $line == "$2="* ]]; then
      printf '%s\n' "${line#*=}"
      return 0
    fi
  done <"$file" 2>/dev/null
  return 1
}

service::enlist() { # service::enlist SERVICE_JOB CONSUMER_JOB RUN_DIRECTORY: keeps the server alive as long as this job lives
  local folder=$ADDRESS_DIR/$1.consumers
  [[ -d $folder ]] || (umask 077 && mkdir -p "$folder")
  # the workflow and the job itself may both do it just now
  printf '%s\n' "$3" | common::write_atomic "$folder/$2"
}

# The last one to go tells the server, so that no GPU waits out the grace period, and forgets one that died without a word.
service::dismiss() { # service::dismiss SERVICE_JOB CONSUMER_JOB
  local folder=$ADDRESS_DIR/$1.consumers file alive
  [[ -d $folder ]] || return 0
  rm -f "$folder/$2"
  for file in "$folder"/*; do
    [[ ! -e $file ]] || return 0
  done
  alive=$(sched::alive_in "${1##*_}") || return 0
  if [[ -z $alive ]]; then
    rm -rf "${ADDRESS_DIR:?}/$1" "$folder"
  elif [[ ${CLEANUP:-on} == on ]]; then
    sched::signal USR1 "${1##*_}"
  fi
}
