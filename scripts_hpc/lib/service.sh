# shellcheck shell=bash
# service.sh: start a server, prove it, publish its address, watch who uses it, end it; and find one. Sourced by job scripts.
# Needs common.sh and scheduler.sh; the caller sets SERVICE, JOB_ID, ADDRESS_DIR, GRACE and (a workflow) RUN_GROUP.

SERVICE_PID=''
SERVICE_SAMPLER=''
SERVICE_EPOCH=0
SERVICE_ENDED_EARLY=0
SERVICE_TOLD=0

service::token() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# Sets HOST, the name under which other nodes reach this one. A name that its own node can't resolve, or resolves to loopback, would
# only make the agents wait.
service::host() {
  local addresses
  if [[ -n ${INTERFACE:-} && $INTERFACE != lo ]]; then
    HOST=$(ip -4 -o addr show dev "$INTERFACE" 2>/dev/null | awk '{sub("/.*", "", $4); print $4; exit}')
    [[ -n $HOST ]] || die 3 "no IPv4 address on interface $INTERFACE of ${HOSTNAME:-this node} (network.interface of site $SITE): ip -4 addr shows the names"
  elif service::_loopback; then
    HOST=127.0.0.1
  else
    HOST=$(hostname -f 2>/dev/null || hostname)
    addresses=$(getent ahosts "$HOST" | awk '{print $1}' | sort -u | paste -sd' ') || true
    [[ -n $addresses ]] ||
      die 3 "this node is called '$HOST', which it can't resolve, so no other node could reach it by that name: set network.interface of site $SITE to the interface of the cluster's network (ip -4 addr shows the names)"
    [[ $addresses == *.* ]] ||
      die 3 "this node is called '$HOST', which is $addresses there and no IPv4 address, on which servers listen: set network.interface of site $SITE to the interface of the cluster's network (ip -4 addr shows the names)"
    [[ " $addresses " != *' 127.'* && " $addresses " != *' ::1 '* ]] ||
      die 3 "this node is called '$HOST', which is $addresses there: no other node could reach it. Set network.interface of site $SITE to the interface of the cluster's network (ip -4 addr shows the names)"
  fi
}

# Published on loopback: where the site says so, and on a machine that has no other nodes.
service::_loopback() { [[ ${INTERFACE:-} == lo || (-z ${INTERFACE:-} && ${SCHEDULER:-} == local) ]]; }

service::bind_host() { # loopback where that is published, else all interfaces: other nodes must get in
  if service::_loopback; then printf '127.0.0.1'; else printf '0.0.0.0'; fi
}

# Makes the job's own key and certificate, in $JOB_TMP/tls: nodes are shared and ports are anybody's, so an answer alone proves
# nothing. The certificate goes into the address file, and who finds the server there trusts that one alone.
service::make_certificate() { # needs HOST and JOB_TMP
  local folder=$JOB_TMP/tls name=DNS problem
  command -v openssl >/dev/null ||
    die 3 "there is no openssl on ${HOSTNAME:-this node}: servers prove with it who they are (environment.modules of site $SITE may bring it)"
  [[ ! $HOST =~ ^[0-9.]+$ ]] || name=IP
  # a configuration of our own: the machine's, or a module's, may add what clients refuse, and -addext is missing in old versions. Strict
  # clients (Python 3.13) want these extensions of a certificate that vouches for itself.
  (umask 077 && mkdir "$folder") || die 3 "can't make $folder"
  printf '%s\n' '[req]' 'distinguished_name = name' 'prompt = no' 'x509_extensions = extensions' \
    '[name]' "CN = ${SERVICE}_$JOB_ID" '[extensions]' 'basicConstraints = critical, CA:TRUE' \
    'keyUsage = critical, digitalSignature, keyCertSign' 'extendedKeyUsage = serverAuth' 'subjectKeyIdentifier = hash' \
    "subjectAltName = $name:$HOST, DNS:localhost, IP:127.0.0.1" >"$folder/settings"
  problem=$( (umask 077 && OPENSSL_CONF=$folder/settings openssl req -new -x509 -sha256 -days 365 -nodes \
    -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -keyout "$folder/key.pem" -out "$folder/cert.pem") 2>&1) ||
    die 3 "openssl on ${HOSTNAME:-this node} can't make a certificate: $problem"
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

# A request with a bearer token that no process list shows: curl reads it from a file descriptor. With --cacert, nothing is sent
# before the server has proven to hold that certificate. (--capath: else the system's authorities are believed too.) The person's ~/.curlrc, which might say otherwise, isn't read.
service::request() { # service::request TOKEN CURL_ARGS…
  local token=$1
  shift
  if command -v curl >/dev/null; then
    curl --disable --silent --show-error --config <(printf 'header = "Authorization: Bearer %s"\n' "$token") "$@"
  elif [[ -x ${VENV:-}/bin/python ]]; then
    HAB_TOKEN=$token PYTHONPATH=$ROOT "$VENV/bin/python" -m helpers.lib.curl "$@"
  else
    die 3 "there is no curl on ${HOSTNAME:-this node}: jobs need it (environment.modules of site $SITE may bring it)"
  fi
}

service::curl() { service::request "$1" --noproxy '*' "${@:2}"; } # the run's own servers are reached directly

# A request to the server of a job, found and known by its address file; code 1 while there is no address.
service::ask() { # service::ask SERVICE_JOB TOKEN_KEY PATH CURL_ARGS…
  local file=$ADDRESS_DIR/$1 url token
  url=$(service::lookup "$1" url) && token=$(service::lookup "$1" "$2") && [[ $url == https://* ]] || return 1
  service::curl "$token" --cacert "$file" --capath "$ADDRESS_DIR" "${@:4}" "$url$3"
}

# A request of a server's job to its own server. Sets PROBE_PROBLEM where it fails, and returns curl's code.
service::probe() { # service::probe TOKEN PATH CURL_ARGS…: the answer is in $JOB_TMP/answer
  local code=0
  # shellcheck disable=SC2153 # choose_port sets it
  PROBE_PROBLEM=$(service::curl "$1" --cacert "$JOB_TMP/tls/cert.pem" --capath "$ADDRESS_DIR" --output "$JOB_TMP/answer" --fail "${@:3}" "https://$HOST:$PORT$2" 2>&1) || code=$?
  # of a certificate it has a paragraph to say
  PROBE_PROBLEM=${PROBE_PROBLEM%%$'\n'*}
  return "$code"
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

# The first words of a server's job: from here on, whatever ends it early is told to those who wait for its address.
service::begin() { # service::begin SERVICE
  SERVICE=$1 ADDRESS_FILE=$ADDRESS_DIR/$1_$JOB_ID
  on_exit service::_tell_failure
}

service::_tell_failure() { # a file beside the address: the sentence with which the job died
  # a job by itself may be the first that needs the folder
  [[ -n $DIED ]] && (umask 077 && mkdir -p "$ADDRESS_DIR") 2>/dev/null || return 0
  printf '%s\n' "$DIED" | common::write_atomic "$ADDRESS_FILE.failed" 0600
}

service::failure() { # service::failure JOB: why that server's job died, where it said so
  local file
  for file in "$ADDRESS_DIR"/*_"$1".failed; do
    [[ ! -f $file ]] || head -n 1 "$file"
  done
}

service::_init() {
  (umask 077 && mkdir -p "$ADDRESS_DIR") || die 3 "can't make the address folder $ADDRESS_DIR (paths.address_dir of site $SITE)"
  chmod 700 "$ADDRESS_DIR" || die 3 "the address folder $ADDRESS_DIR isn't yours (paths.address_dir of site $SITE must be a folder of your own)"
  CONSUMERS=$ADDRESS_FILE.consumers
  on_exit service::_stop
  # what became of servers long gone, and what a job that was killed had half written (common::write_atomic)
  find "$ADDRESS_DIR" -maxdepth 1 -type f \( -name '*.failed' -mtime +7 -o -name '.*.??????' -mmin +60 \) -delete 2>/dev/null || true
  (umask 077 && mkdir -p "$CONSUMERS")
  trap 'log "asked to end (SIGTERM)"; exit 143' TERM
  trap 'log "interrupted"; exit 130' INT
  trap 'SERVICE_TOLD=1' USR1
  service::record started_at
}

service::_stop() {
  # first what others see: Slurm may kill this shell while it still waits for a server that is deaf to TERM (KillWait)
  rm -f "$ADDRESS_FILE"
  rm -rf "$CONSUMERS"
  service::record ended_at
  service::_end_sampler
  [[ -z $SERVICE_PID ]] || common::end_group "$SERVICE_PID" 15
  service::record ended_at
  log "$SERVICE ended"
}

service::_start() { # in a process group of its own, so that all of it can be ended
  SERVICE_EPOCH=$((SERVICE_EPOCH + 1))
  # never the port of a server that died: anybody may have taken it since
  choose_port
  set -m
  start_server &
  SERVICE_PID=$!
  set +m
}

# Of a workflow's server that a template has a sample_server for: that runs beside it, in a process group of its own, for as long as it
# serves. Nothing waits for it, or minds its end.
service::_sample() {
  [[ -n ${RUN_GROUP:-} && -d $RUN_GROUP/services ]] && declare -F sample_server >/dev/null || return 0
  set -m
  sample_server &
  SERVICE_SAMPLER=$!
  disown "$SERVICE_SAMPLER" 2>/dev/null || true # no word of its end, which may have come
  set +m
}

# (Its group has its number to itself, also when it ended long ago: container::_guard is in it.)
service::_end_sampler() {
  [[ -z $SERVICE_SAMPLER ]] || common::end_group "$SERVICE_SAMPLER" 2
  SERVICE_SAMPLER=''
}

service::_running() { kill -0 "$SERVICE_PID" 2>/dev/null; }

# Whether somebody else answers on the port: curl's codes for a certificate that isn't ours (60, 51) and for no TLS at all (35)
# (https://curl.se/libcurl/c/libcurl-errors.html). Sets STRANGER.
service::_stranger() { # service::_stranger CODE_OF_CURL
  local code=$1 user
  STRANGER=''
  [[ $code == 60 || $code == 51 || $code == 35 ]] || return 1
  user=$(service::_port_owner "$PORT")
  STRANGER="port $PORT of $HOST is held by a process ${user:+of user $user }that isn't our server ($PROBE_PROBLEM)"
}

service::_port_owner() { # service::_port_owner PORT: the user who listens there (proc(5), /proc/net/tcp: local address, state 0A, uid)
  local uid
  uid=$(awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port {print $8; exit}' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  [[ -z $uid ]] || id -nu "$uid" 2>/dev/null || printf '%s' "$uid"
}

# Ready means that a real request was answered by this very server. Code 1: the process ended, or the time is up; 2: somebody else
# sits on its port.
service::_await_ready() { # service::_await_ready MINUTES KEY
  local limit=$((SECONDS + $1 * 60)) said=$SECONDS begun=$SECONDS pause=0.05 code strange=0
  PROBE_PROBLEM=''
  for (( ; ; )); do
    code=0
    probe_server || code=$?
    ((code)) || return 0
    if ! service::_stranger "$code"; then strange=0; elif ((++strange == 2)); then return 2; fi
    service::_running || return 1
    ((SERVICE_ENDED_EARLY == 0)) || return 0
    # a workflow that died before its agents were submitted must not load a model for nobody
    if [[ -n $RUN_GROUP ]] && service::_unused; then return 0; fi
    if ((SECONDS >= limit)); then
      SERVICE_FAILURE="$SERVICE was not ready after $1 minutes ($2)${PROBE_PROBLEM:+; the last try to reach it: $PROBE_PROBLEM}"
      log "$SERVICE_FAILURE"
      return 1
    fi
    if ((SECONDS - said >= 60)); then
      said=$SECONDS
      log "$SERVICE isn't ready yet, after $(((SECONDS - limit) / 60 + $1)) of at most $1 minutes${PROBE_PROBLEM:+: $PROBE_PROBLEM}"
    fi
    # a small server needs a second, a model minutes
    ((SECONDS - begun < 3)) || pause=0.2
    common::pause "$pause" "$SERVICE_PID"
  done
}

service::publish() { # service::publish [KEY=VALUE…]: the URL, these, and the certificate that proves the server
  { printf '%s\n' "https://$HOST:$PORT" "$@" "epoch=$SERVICE_EPOCH" && cat "$JOB_TMP/tls/cert.pem"; } |
    common::write_atomic "$ADDRESS_FILE" 0600 ||
    die 3 "can't write the address file $ADDRESS_FILE: $(common::lacking "$ADDRESS_DIR")"
  service::record ready_at
  log "$SERVICE ready at https://$HOST:$PORT"
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

# Whether no job has used the server for GRACE seconds; or uses it now, where one told it that it goes (USR1) and the server isn't kept
# for others (CLEANUP): so it ends with its last user, whoever that is. Asks the scheduler at most every SERVICE_PAUSE seconds.
service::_unused() {
  local told=0
  if ((SERVICE_TOLD)) && [[ $CLEANUP == on ]]; then told=1; fi
  SERVICE_TOLD=0
  ((told || SECONDS >= SERVICE_ASKED + SERVICE_PAUSE)) || return 1
  SERVICE_ASKED=$SECONDS
  ! service::_used || return 1
  ((told || SECONDS - SERVICE_USED >= GRACE)) || return 1
  # one look decides nothing; that no job is noted is no look
  if [[ -n $(ls -A "$CONSUMERS") ]]; then
    common::pause 2 "$SERVICE_PID"
    ! service::_used || return 1
  fi
  ((told)) || log "no job has used $SERVICE for $GRACE s${GRACE_KEY:+ ($GRACE_KEY of site $SITE: jobs whose GPUs idle for longer are killed)}"
  SERVICE_ENDED_EARLY=1
}

service::_used() {
  local alive
  # not known is not gone: a scheduler that is down says nothing about the jobs
  if alive=$(service::_consumers) && [[ -z $alive ]]; then return 1; fi
  SERVICE_USED=$SECONDS
}

# The life of a server job. The template defines choose_port, start_server (execs the server), probe_server (a real request to
# it) and publish_server, and sample_server where something is to run beside the server (execs that).
# The server is kept until its last consumer has been gone for GRACE seconds, or has told that it goes (USR1).
# When it dies it is started again, twice at most, at a new address; not when it died twice the same way before it was ready. A port
# that somebody else holds costs no start, five times. With SERVICE_MAY_END=1 a server that ends with code 0 is not started again.
service::serve() { # service::serve MINUTES KEY: how long it may take to get ready, and what sets that
  local minutes=$1 key=$2 starts=0 ports=0 code ready died=''
  service::_init
  service::host
  service::make_certificate
  SERVICE_USED=$SECONDS SERVICE_ASKED=$SECONDS SERVICE_PAUSE=$((GRACE < 8 ? 1 : GRACE > 40 ? 10 : GRACE / 4))
  while ((starts++ < 3)); do
    service::_start
    ready=0
    service::_await_ready "$minutes" "$key" || ready=$?
    if ((ready == 0)); then
      if ((SERVICE_ENDED_EARLY == 0)); then
        publish_server
        service::_sample
      fi
      # the time that a model takes to load is not time unused: a server by itself may have no users before
      [[ -n $RUN_GROUP ]] || SERVICE_USED=$SECONDS
      while service::_running && ((SERVICE_ENDED_EARLY == 0)) && ! service::_unused; do
        common::pause "$SERVICE_PAUSE" "$SERVICE_PID"
      done
      if ((SERVICE_ENDED_EARLY)); then
        log "$SERVICE is no longer needed"
        return 0
      fi
      # its port is anybody's now
      rm -f "$ADDRESS_FILE"
      service::_end_sampler
    elif ((ready == 2)); then
      log "$STRANGER: taking another port"
      common::end_group "$SERVICE_PID" 15
      ((++ports < 5)) || die 3 "$STRANGER, and so it was with four other ports"
      starts=$((starts - 1))
      continue
    elif service::_running; then
      die 3 "$SERVICE_FAILURE"
    fi
    code=0
    wait "$SERVICE_PID" || code=$?
    if ((code == 0 && ${SERVICE_MAY_END:-0})); then
      log "$SERVICE ended itself"
      return 0
    fi
    log "$SERVICE died with code $code (start $starts of 3)"
    common::end_group "$SERVICE_PID" 2
    [[ $ready == 0 || $died != "$code" ]] || die 3 "$SERVICE died twice with code $code before it was ready: $(container::fault || printf 'see its log')"
    died=$([[ $ready == 0 ]] || printf '%s' "$code")
  done
  die 3 "$SERVICE died three times, the last time with code $code: $(container::fault || printf 'see its log')"
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
  local folder=$ADDRESS_DIR/$1.consumers try
  for try in 1 2; do
    [[ -d $folder ]] || (umask 077 && mkdir -p "$folder" 2>/dev/null) || true
    # The workflow and the job itself may both do it just now. A server that ends takes the folder away: the job will say so
    ! printf '%s\n' "$3" | common::write_atomic "$folder/$2" 2>/dev/null || return 0
  done
  die 3 "can't write to $folder (paths.address_dir of site $SITE): $(common::lacking "$ADDRESS_DIR")"
}

service::forget() { rm -rf "${ADDRESS_DIR:?}/$1" "$ADDRESS_DIR/$1.consumers"; } # service::forget SERVICE_JOB: of a job that was taken back

# The last one to go tells the server, which knows whether it is to end then, so that no GPU waits out the grace period; one that died
# without a word is forgotten.
service::dismiss() { # service::dismiss SERVICE_JOB CONSUMER_JOB; SERVICE_JOB may be empty
  local folder file gone
  [[ -n $1 ]] || return 0
  folder=$ADDRESS_DIR/$1.consumers
  rm "$folder/$2" 2>/dev/null || return 0
  for file in "$folder"/*; do
    [[ ! -e $file ]] || return 0
  done
  gone=$(sched::gone_of "${1##*_}") || return 0
  if [[ -n $gone ]]; then
    rm -rf "${ADDRESS_DIR:?}/$1" "$folder"
  else
    sched::signal USR1 "${1##*_}"
  fi
}
