# scripts_hpc/lib/service.sh and its users: a server proves that it is ours, and nobody waits for one that can't be reached.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  T=$BATS_TEST_TMPDIR
  SERVER=$BATS_TEST_DIRNAME/fakes/tls_server.py
  mkdir -m 700 "$T/addresses"
  mkdir "$T/job"
  PIDS=()
}

teardown() { ((${#PIDS[@]} == 0)) || kill -KILL "${PIDS[@]}" 2>/dev/null || true; }

stranger() { # stranger PORT [CERT KEY]: sets PORT
  : >"$T/port"
  python3 "$SERVER" "$1" "$T/stranger.log" "${@:2}" >"$T/port" 2>/dev/null 3>&- &
  PIDS+=($!)
  wait_for 10 test -s "$T/port"
  PORT=$(<"$T/port")
}

certificate() { # certificate FOLDER: somebody else's, for the same host
  mkdir "$1"
  openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext 'subjectAltName=IP:127.0.0.1' \
    -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
}

# A job script of its own; FUNCTIONS on stdin replace those below. TOKEN is what no stranger may see.
job() { # job COMMAND…
  {
    cat <<'S'
set -euo pipefail
source "$ROOT/scripts_hpc/lib/common.sh"
source "$ROOT/scripts_hpc/lib/scheduler.sh"
source "$ROOT/scripts_hpc/lib/service.sh"
source "$ROOT/scripts_hpc/lib/container.sh"
source "$ROOT/scripts_hpc/lib/run.sh"
source "$ROOT/scripts_hpc/lib/task_competition.sh"
JOB_ID=5 RUN_GROUP='' SITE=here SCHEDULER=local GRACE=1 RUNS=$T/runs INTERFACE=lo RUNTIME=none TOKEN=secret-of-the-job
ADDRESS_DIR=$T/addresses JOB_TMP=$T/job LOCAL_JOBS=$T/addresses/local_jobs
service::_unused() { return 1; }
choose_port() { PORT=0; }
start_server() { exec python3 "$SERVER" "$PORT" "$T/ours.log" "$JOB_TMP/tls/cert.pem" "$JOB_TMP/tls/key.pem" >"$T/job/port"; }
probe_server() {
  [[ -s $T/job/port ]] || return 1
  PORT=$(<"$T/job/port")
  service::probe "$TOKEN" /health --max-time 5
}
publish_server() { service::publish "token=$TOKEN"; }
S
    cat
    printf '%s\n' "$*"
  } >"$T/script"
  export T SERVER
  try bash "$T/script" </dev/null 3>&-
}

@test "a server is known by the certificate in its address file, which is 0600; strict clients take it" {
  job "service::begin vllm_x; service::serve 1 'its limit'" <<'S'
publish_server() {
  service::publish "token=$TOKEN"
  service::ask vllm_x_5 token /health --max-time 5 --fail
  python3 - "$ADDRESS_FILE" <<'P'
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
url = open(sys.argv[1]).readline().strip()
assert urllib.request.urlopen(url, context=context).read() == b"{}"
P
  stat -c ' %a' "$ADDRESS_FILE" "$T/job/tls/key.pem"
  service::lookup vllm_x_5 epoch
  SERVICE_ENDED_EARLY=1
}
S
  expect_status 0
  [[ $output == $'{} 600\n 600\n1' ]]
  grep -q 'Bearer secret-of-the-job' "$T/ours.log"
  [[ ! -e $T/addresses/vllm_x_5 ]]
}

@test "a stranger on the port, with TLS or without: no secret is sent, he is named, and another port is taken" {
  local kind port
  for kind in plain tls; do
    rm -rf "$T/job/"* "$T"/*.log "$T/stranger.tls"
    if [[ $kind == tls ]]; then
      certificate "$T/stranger.tls"
      stranger 0 "$T/stranger.tls/cert.pem" "$T/stranger.tls/key.pem"
    else
      stranger 0
    fi
    port=$PORT
    export STRANGERS_PORT=$port
    job "service::begin vllm_x; service::serve 1 'its limit'" <<'S'
# like vLLM: what it was told to listen on is taken before it listens
choose_port() { if [[ ! -e $T/job/tried ]]; then touch "$T/job/tried" && PORT=$STRANGERS_PORT; else PORT=$(service::free_port 20000 60000); fi; }
start_server() {
  ((PORT != STRANGERS_PORT)) || exec sleep 60
  exec python3 "$SERVER" "$PORT" "$T/ours.log" "$JOB_TMP/tls/cert.pem" "$JOB_TMP/tls/key.pem"
}
probe_server() { service::probe "$TOKEN" /health --max-time 5; }
publish_server() { service::publish "token=$TOKEN" && head -n 1 "$ADDRESS_FILE" && SERVICE_ENDED_EARLY=1; }
S
    expect_status 0
    expect_in "port $port of 127.0.0.1 is held by a process of user $(id -nu) that isn't our server" "$error"
    # of all that curl has to say of a certificate, a line
    grep -q "is held by a process of .*taking another port" <<<"$error"
    [[ $output == *https://127.0.0.1:* && $output != *":$port" ]]
    if grep -aq secret "$T/stranger.log"; then return 1; fi
    grep -q 'Bearer secret-of-the-job' "$T/ours.log"
  done
}

@test "what became of servers long gone, and what killed jobs had half written, is swept; what is young or used stays" {
  (cd "$T/addresses" && touch ..squeue.aBc123 .grading_server_1.aBc123 .squeue .squeue.lock vllm_x_1 vllm_x_1.failed && touch -d '8 days ago' ..squeue.aBc123 .squeue .squeue.lock vllm_x_1 vllm_x_1.failed)
  job 'service::begin vllm_x; service::_init; ls -A "$ADDRESS_DIR" | sort' <<<''
  [[ $output == $'.grading_server_1.aBc123\n.squeue\n.squeue.lock\nvllm_x_1\nvllm_x_5.consumers' ]] || { printf '%s\n%s\n' "$output" "$error" && return 1; }
}

@test "a server that dies is started again at a new port with a new epoch; meanwhile there is no address" {
  job "service::begin vllm_x; service::serve 1 'its limit'" <<'S'
publish_server() {
  service::publish "token=$TOKEN"
  sed -n '1p; /^epoch/p' "$ADDRESS_FILE" >>"$T/calls"
  ((SERVICE_EPOCH == 1)) || SERVICE_ENDED_EARLY=1
  kill -KILL "$SERVICE_PID"
  rm "$T/job/port"
}
choose_port() {
  [[ ! -e $ADDRESS_FILE ]] || echo "still there" >>"$T/calls"
  PORT=0
}
S
  expect_status 0
  mapfile -t calls <"$T/calls"
  [[ ${#calls[@]} == 4 && ${calls[1]} == epoch=1 && ${calls[3]} == epoch=2 && ${calls[0]} != "${calls[2]}" ]]
  expect_in "vllm_x died with code 137 (start 1 of 3)" "$error"
}

@test "what is to run beside a workflow's server starts with each of its starts, and ends with it; a server by itself has none" {
  sampler() { # sampler RUN_GROUP
    rm -rf "$T/job/"* "$T/sampled"
    job "RUN_GROUP=$1; service::begin vllm_x; service::serve 1 'its limit'" <<'S'
publish_server() {
  service::publish "token=$TOKEN"
  if [[ -e $T/sampled ]]; then
    for ((try = 0; try < 20; try++)); do
      common::group_runs "$(cut -d' ' -f2 "$T/sampled")" || break
      sleep 0.1
    done
    ((try < 20)) || die 9 "the first one lives"
  fi
  if ((SERVICE_EPOCH == 1)); then (sleep 0.5 && kill -KILL "$SERVICE_PID" && rm "$T/job/port") & else SERVICE_ENDED_EARLY=1; fi
}
sample_server() {
  echo "$PORT $BASHPID" >>"$T/sampled"
  # deaf, with children: it is ended all the same
  trap '' TERM
  sleep 70 &
  sleep 60
}
S
    expect_status 0
  }
  mkdir "$T/group"
  sampler "$T/group"
  [[ $(wc -l <"$T/sampled") == 2 && $(cut -d' ' -f1 "$T/sampled" | sort -u | wc -l) == 2 ]]
  while read -r _ pid; do
    wait_for 2 refuse pgrep --runstates R,S,D --pgroup "$pid"
  done <"$T/sampled"
  [[ $error != *Killed* ]]
  sampler ''
  [[ ! -e $T/sampled ]]
}

@test "what runs beside a server may fail: the server doesn't mind" {
  mkdir "$T/group"
  job "RUN_GROUP=$T/group; service::begin vllm_x; service::serve 1 'its limit'" <<'S'
publish_server() { service::publish "token=$TOKEN" && touch "$T/published"; }
sample_server() { touch "$T/sampled" && die 3 "no image here"; }
service::_unused() {
  [[ -e $T/published ]] || return 1
  common::pause 0.3
  service::_running && service::curl "$TOKEN" --cacert "$JOB_TMP/tls/cert.pem" --max-time 5 --fail "https://$HOST:$PORT/health" && SERVICE_ENDED_EARLY=1
}
S
  expect_status 0
  [[ -e $T/sampled && $output == '{}' ]]
  [[ ! -e $T/addresses/vllm_x_5.failed ]]
}

@test "a server's script that is killed with -9 leaves nothing that ran beside the server" {
  mkdir "$T/group"
  job "RUN_GROUP=$T/group VENV=$T; service::begin vllm_x; service::serve 1 'its limit'" <<'S'
start_server() {
  echo "$BASHPID" >"$T/served"
  container::exec x -- python3 "$SERVER" "$PORT" "$T/ours.log" "$JOB_TMP/tls/cert.pem" "$JOB_TMP/tls/key.pem" >"$T/job/port"
}
sample_server() { echo "$BASHPID" >"$T/sampled" && container::exec x -- sleep 60; }
publish_server() {
  service::publish "token=$TOKEN"
  (until pgrep --pgroup "$(cat "$T/sampled")" --exact sleep; do sleep 0.1; done && kill -KILL $$) >/dev/null 2>&1 &
}
S
  expect_status 137
  for group in "$(<"$T/sampled")" "$(<"$T/served")"; do wait_for 10 refuse pgrep --runstates R,S,D --pgroup "$group"; done
}

@test "a server whose container can't be made says what its node lacks" {
  job "RUNTIME=apptainer; service::begin vllm_x; service::serve 1 'its limit'" <<'S'
start_server() { echo "ERROR  : Failed to create user namespace: maximum number of user namespaces exceeded" >&2 && exit 1; }
S
  expect_status 3
  expect_in "vllm_x died twice with code 1 before it was ready: user namespaces are off or used up on this node: ask the cluster's support" "$error"
}

@test "a server that dies twice the same way before it is ready isn't started again, and those who wait hear why" {
  job "service::begin vllm_x; service::serve 1 'its limit'" <<'S'
start_server() { echo start >>"$T/calls" && exit 7; }
S
  expect_status 3
  [[ $(wc -l <"$T/calls") == 2 ]]
  expect_in "vllm_x died twice with code 7 before it was ready: see its log" "$error"
  job "service::failure 5"
  expect_status 0
  [[ $output == "vllm_x died twice with code 7 before it was ready: see its log" ]]
  job "GRADING_JOB='' MODEL_JOB=vllm_x_5 FEEDBACK_JOB=''; run::_check_servers" <<'S'
sched::alive_in() { :; }
run::lose() { printf '%s\n' "$1" && exit 3; }
S
  expect_status 3
  expect_in "job 5, a server that this run needs, has ended: vllm_x died twice with code 7 before it was ready; it left no log below $T/runs" "$output"
  # of a job by itself, of this run, and of another run that started the server
  for folder in group/logs runs/logs runs/other/logs; do
    mkdir -p "$T/$folder"
    : >"$T/$folder/vllm_x-5.out"
    job "RUN_GROUP=$T/group GRADING_JOB='' MODEL_JOB=vllm_x_5 FEEDBACK_JOB=''; run::_check_servers" <<'S'
sched::alive_in() { :; }
run::lose() { printf '%s\n' "$1" && exit 3; }
S
    expect_in "; its log is $T/$folder/vllm_x-5.out" "$output"
    rm "$T/$folder/vllm_x-5.out"
  done
}

@test "told that a job goes, a server ends at once where no other uses it and it isn't kept; the last one to go tells it, whoever started it" {
  local told="SERVICE_TOLD=1 CONSUMERS=$T/addresses/vllm_x_5.consumers SERVICE_USED=\$SECONDS SERVICE_ASKED=\$SECONDS SERVICE_PAUSE=100 GRACE=100 SERVICE_PID=\$\$"
  mkdir "$T/addresses/vllm_x_5.consumers"
  touch "$T/addresses/vllm_x_5.consumers/"{7,8}
  unused() { # unused CLEANUP LIVING_JOBS…
    job "CLEANUP=$1; $told; service::_unused && echo ends || echo stays; echo \$SERVICE_TOLD" <<S
source "$ROOT/scripts_hpc/lib/service.sh"
sched::alive_in() { printf '%s\n' ${*:2} | grep -xF "\$(printf '%s\n' "\$@")" || true; }
S
    printf '%s' "${output//$'\n'/ }"
  }
  [[ $(unused on 8) == 'stays 0' ]]
  [[ $(unused on) == 'ends 0' ]]
  [[ $(unused off) == 'stays 0' ]]
  dismissed() { # dismissed JOB
    job "CLEANUP=off; service::dismiss vllm_x_5 $1" <<'S'
sched::gone_of() { :; }
sched::signal() { echo "$*"; }
S
    printf '%s' "$output"
  }
  [[ -z $(dismissed 7) ]]
  [[ -z $(dismissed 9) ]]
  [[ $(dismissed 8) == 'USR1 5' ]]
  [[ -z $(dismissed 8) ]]
}

@test "not ready in time: the message names what sets the limit, and the reason of the last try" {
  job "service::begin grading_server; service::serve 0 'which should take seconds'" <<'S'
start_server() { exec sleep 60; }
probe_server() { PORT=9 && service::probe "$TOKEN" /health --max-time 5; }
S
  expect_status 3
  expect_in "grading_server was not ready after 0 minutes (which should take seconds); the last try to reach it: curl: (7)" "$error"
  [[ $error != *load_minutes* ]]
}

@test "a node whose name doesn't resolve, or is loopback: the server's job ends at once and names network.interface" {
  local -A answers=([localhost]='127.0.0.1 STREAM' [node1]='127.0.1.1 STREAM' [node2]='' [node3]=$'10.1.2.3 STREAM\n10.1.2.3 DGRAM' [node4]='::1 STREAM' [node6]='2001:db8::6 STREAM')
  local name
  for name in "${!answers[@]}"; do
    export NODE=$name ADDRESSES=${answers[$name]}
    job "INTERFACE='' SCHEDULER=slurm; service::host; echo \"\$HOST\"; service::bind_host" <<'S'
hostname() { echo "$NODE"; }
getent() { [[ $* == "ahosts $NODE" && -n $ADDRESSES ]] && printf '%s\n' "$ADDRESSES"; }
S
    if [[ $name == node3 ]]; then
      expect_status 0
      [[ $output == $'node3\n0.0.0.0' ]]
    else
      expect_status 3
      expect_in "this node is called '$name'" "$error"
      expect_in "network.interface of site here" "$error"
    fi
  done
}

@test "an address where nobody listens: told once a minute with the reason, then the run is lost with the URL and the key to change" {
  printf '%s\n' https://127.0.0.1:9 token=t epoch=1 >"$T/addresses/vllm_x_7"
  job "WAIT_TOLD=-60 SILENT_SECONDS=1 SILENT_SINCE=() GRADING_JOB='' MODEL_JOB=vllm_x_7 FEEDBACK_JOB='' AGENT_PID=\$\$; run::await_services" <<'S'
sched::alive_in() { printf '%s\n' "$@"; }
log() { printf '%s\n' "$*"; }
run::lose() { printf 'lost: %s\n' "$1" && exit 3; }
S
  expect_status 3
  expect_in "lost: the job of vllm_x lives, but for 1 s" "$output"
  expect_in "vllm_x (job 7) to answer at https://127.0.0.1:9: curl: (7)" "$output"
  expect_in "set network.interface of site here" "$output"
}

@test "while a model loads there is no address and no bound; what is waited for is told" {
  job "WAIT_TOLD=-60 SILENT_SECONDS=0; run::_answers vllm_x_7 || run::_bound_silence; run::_answers '?_8' || { WAIT_TOLD=-60; run::_bound_silence; }" <<'S'
run::lose() { exit 3; }
S
  expect_status 0
  expect_in "waiting for the address of vllm_x (job 7), which appears when it is ready" "$error"
  expect_in "waiting for the start of job 8" "$error"
}

@test "an address in clear, or of a stranger, gets no token" {
  certificate "$T/other"
  stranger 0
  { printf '%s\n' "http://127.0.0.1:$PORT" token=secret epoch=1 && cat "$T/other/cert.pem"; } >"$T/addresses/vllm_x_7"
  job "service::ask vllm_x_7 token /health"
  expect_status 1
  sed -i 's/^http:/https:/' "$T/addresses/vllm_x_7"
  job "service::ask vllm_x_7 token /health"
  [[ $status == 35 ]]
  if grep -aq secret "$T/stranger.log"; then return 1; fi
}

@test "the person's ~/.curlrc is not read" {
  certificate "$T/other"
  stranger 0 "$T/other/cert.pem" "$T/other/key.pem"
  certificate "$T/third"
  { printf '%s\n' "https://127.0.0.1:$PORT" token=secret epoch=1 && cat "$T/third/cert.pem"; } >"$T/addresses/vllm_x_7"
  echo insecure >"$HOME/.curlrc"
  job "service::ask vllm_x_7 token /health"
  [[ $status == 60 ]]
  [[ ! -s $T/stranger.log ]]
}

@test "proxies: only those that are set, in both spellings, with the run's own servers excepted" {
  local name
  for name in http_proxy HTTP_PROXY all_proxy ALL_PROXY https_proxy; do
    export "$name=http://p:1"
    job 'declare -A found=(); container::proxies found cpu1 gpu7; for name in "${!found[@]}"; do printf "%s=%s\n" "$name" "${found[$name]}"; done | LC_ALL=C sort'
    unset "$name"
    [[ $output == "${name^^}=http://p:1
NO_PROXY=cpu1,gpu7,localhost,127.0.0.1
${name,,}=http://p:1
no_proxy=cpu1,gpu7,localhost,127.0.0.1" ]] || { echo "$name: $output" && return 1; }
  done
  job 'declare -A found=(); container::proxies found cpu1; echo "${#found[@]}"'
  [[ $output == 0 ]]
}

@test "the agent's container knows the servers' names as its node does" {
  job 'container::add_host node9; container::add_host 10.1.1.1; container::add_host nowhere; tail -n 1 "$JOB_TMP/hosts"; diff /etc/hosts "$JOB_TMP/hosts" | grep -c "^>"' <<'S'
getent() { case "$*" in 'ahostsv4 node9') echo '10.9.9.9 STREAM node9' ;; *) return 2 ;; esac; }
S
  [[ $output == $'10.9.9.9 node9\n1' ]]
}

@test "reach.sh says whether the servers are reached, also one that moves meanwhile" {
  mkdir "$T/agent"
  cp "$ROOT/templates/agents/common/reach.sh" "$T/agent/"
  certificate "$T/ours"
  stranger 0 "$T/ours/cert.pem" "$T/ours/key.pem"
  export AGENT_DIR=$T/agent ENDPOINTS_FILE=$T/env REACH_SECONDS=0
  printf "GRADING_SERVER='https://127.0.0.1:%s'\nGRADING_CA_FILE='%s'\n" "$PORT" "$T/ours/cert.pem" >"$T/env"
  try bash "$T/agent/reach.sh"
  [[ $output == $'here\nok' ]]
  cp "$T/env" "$T/moved"
  sed -i '1s/.*/GRADING_SERVER=https:\/\/nowhere.invalid:1/' "$T/env"
  try bash "$T/agent/reach.sh"
  expect_in 'unreachable https://nowhere.invalid:1: curl: (6)' "$output"
  mkdir "$T/bin"
  printf '#!/bin/sh\ncp "%s" "%s"\n' "$T/moved" "$T/env" >"$T/bin/sleep" && chmod +x "$T/bin/sleep"
  REACH_SECONDS=60 PATH=$T/bin:$PATH try bash "$T/agent/reach.sh"
  [[ $output == $'here\nok' ]]
}

@test "an agent's container that can't reach its servers where the node does: lost; a server that is away is another matter" {
  mkdir "$T/job/reach"
  printf 'here\nunreachable https://cpu1:5: curl: (6) Could not resolve host: cpu1\n' >"$T/job/reach/said"
  job 'GRADING_JOB=grading_server_1 MODEL_JOB= FEEDBACK_JOB=; run::check_reach' <<'S'
run::lose() { printf 'lost: %s\n' "$1" && exit 3; }
run::_answers() { :; }
S
  expect_status 3
  expect_in "can't reach its servers: unreachable https://cpu1:5: curl: (6) Could not resolve host: cpu1" "$output"
  expect_in "network.interface of site here" "$output"
  job 'GRADING_JOB=grading_server_1 MODEL_JOB= FEEDBACK_JOB=; run::check_reach' <<'S'
run::lose() { exit 3; }
run::_answers() { return 1; }
S
  expect_status 0
  for said in '' 'here\n' 'here\nok\n'; do
    # shellcheck disable=SC2059 # line ends
    printf "$said" >"$T/job/reach/said"
    job 'GRADING_JOB=; run::check_reach' <<'S'
run::lose() { exit 3; }
S
    expect_status 0
  done
}

@test "the agent's endpoints: certificates to pin, a bundle for others, a token of the run's own; anew when a server moved" {
  certificate "$T/ours"
  stranger 0 "$T/ours/cert.pem" "$T/ours/key.pem"
  { printf '%s\n' "https://127.0.0.1:$PORT" token=t admin_token=a epoch=1 && cat "$T/ours/cert.pem"; } >"$T/addresses/grading_server_3"
  { printf '%s\n' "https://127.0.0.1:$PORT" token=model served_name=m epoch=1 && cat "$T/ours/cert.pem"; } >"$T/addresses/vllm_x_7"
  mkdir "$T/job/endpoints"
  job "GRADING=auto:3 MODEL=auto:7 GRADING_JOB=grading_server_3 MODEL_JOB=vllm_x_7 FEEDBACK_JOB=vllm_x_7 NEEDS_MODEL=1 TIME_LIMIT=60 FEEDBACK=''
    run::begin_time; run::write_endpoints; cp \"\$JOB_TMP/endpoints/env\" $T/first
    run::refresh_endpoints; [[ \$(stat -c %Y \$JOB_TMP/endpoints/env) ]]; cmp \$JOB_TMP/endpoints/env $T/first
    sed -i 's/:$PORT/:4/; s/epoch=1/epoch=2/' $T/addresses/vllm_x_7; run::refresh_endpoints" <<'S'
run::_own_token() { GRADING_TOKEN=run_1.abc; }
S
  expect_status 0
  (
    source "$T/first"
    [[ $GRADING_SERVER == "https://127.0.0.1:$PORT" && $GRADING_TOKEN == run_1.abc && $AGENT_CODE_API_KEY == model ]]
    cmp "$GRADING_CA_FILE" "$T/ours/cert.pem" && cmp "$AGENT_CODE_CA_FILE" "$T/ours/cert.pem" && cmp "$AGENT_FEEDBACK_CA_FILE" "$T/ours/cert.pem"
  )
  grep -qFx -- "$(sed -n 2p "$T/ours/cert.pem")" "$T/job/endpoints/ca.pem"
  expect_in "a server has another address: the agent is told" "$error"
  grep -q "^AGENT_CODE_BASE_URL='https://127.0.0.1:4/v1'" "$T/job/endpoints/env"
  [[ $(grep AGENT_DEADLINE "$T/job/endpoints/env") == "$(grep AGENT_DEADLINE "$T/first")" ]]
}

@test "a server that is started again is never looked for where the last one was" {
  mkdir "$T/job/tmp"
  JOB_TMP=$T/job
  for script in grading_server vllm_replay; do
    echo 4711 >"$JOB_TMP/tmp/port"
    eval "$(grep '^choose_port()' "$ROOT/tests/golden/local/slurm_$script.sh")"
    # before the new one is begun: that runs beside the probe
    choose_port
    [[ $PORT == 0 && ! -e $JOB_TMP/tmp/port ]]
    ! sed -n '/^start_server()/,/^}/p' "$ROOT/tests/golden/local/slurm_$script.sh" | grep 'rm '
  done
}
