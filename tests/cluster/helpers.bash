# shellcheck shell=bash disable=SC2119,SC2120
# For the tests on the cluster: the person at the keyboard is $HAB_CLUSTER_USER, and everything that a test makes lies in $WORK.
# Nothing here sleeps for a fixed time: `await` asks until a deadline.

SITE_FILE=$CHECKOUT/tests/cluster/${HPC_SITE##*/}
USER_VARIABLES=()      # NAME=value, for as_user and start
declare -gA STARTED=() # name -> process id of a command started with `start`

# ---- before and after a test

cluster_setup() {
  site_setup
  STATE=$HAB_CLUSTER_STATE
  ADDRESSES=$STATE/shared/addresses
  # shellcheck disable=SC2034 # for the tests
  ANSWERS=$STATE/shared/data/classification_basic/prepared/private
  WORK=$CLUSTER_TESTS/$BATS_SUITE_TEST_NUMBER
  rm -rf "$WORK"
  as_owner mkdir "$WORK" "$WORK/runs" "$WORK/bin"
  USER_VARIABLES=(HPC_PATHS__RUNS="$WORK/runs" HPC_LIMITS__GRACE_SECONDS=8)
  STRANGER=${HAB_CLUSTER_USER}2 STRANGERS=()
  cd "$WORK" || return
}

site_setup() { # what differs between the two sites of up.sh
  # shellcheck disable=SC2034 # for the tests
  case $HAB_CLUSTER_SITE in
    loopback) SITE=site CPU=cpu GPU=gpu CPU_NODE=cpu2 GPU_NODE=gpu1 HOST='127\.0\.0\.1' ;;
    hosts) SITE=hosts CPU=long GPU=accel CPU_NODE=n2 GPU_NODE=g1 HOST='[ng][12]\.hab\.internal' ;;
  esac
}

cluster_teardown() { # whatever a failed test left; a failure shows the logs
  local name log
  [[ -n ${BATS_TEST_COMPLETED:-} ]] || for log in "$WORK"/*.err "$WORK"/*.out "$WORK"/runs/*/logs/*.out "$WORK"/runs/*/*/agent.log; do
    [[ ! -s $log ]] || { printf -- '--- %s\n' "${log#"$WORK"/}" && tail -n 25 "$log"; }
  done
  for name in "${!STARTED[@]}"; do kill -KILL -- "-${STARTED[$name]}" 2>/dev/null || true; done
  ((${#STRANGERS[@]} == 0)) || kill -KILL "${STRANGERS[@]}" 2>/dev/null || true
  scancel --user="$HAB_CLUSTER_USER" 2>/dev/null || true
  await 20 queue_empty || true
  local pid
  for pid in $(user_processes | awk '{print $1}'); do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$ADDRESSES"
  python "$CHECKOUT/tests/check_records.py" "$WORK"
}

as_owner() { # COMMAND…: as the user, here and in this environment
  setpriv --reuid="$HAB_CLUSTER_USER" --regid="$HAB_CLUSTER_USER" --init-groups "$@"
}

# ---- the person at the keyboard

become_user() { # COMMAND…: replaces this (sub)shell by it: as the user, in the checkout, with nothing of this environment
  local home
  home=$(getent passwd "$HAB_CLUSTER_USER" | cut -d: -f6)
  cd "$CHECKOUT" || exit
  # a shell starts what is in the background deaf to Ctrl-C
  exec setpriv --reuid="$HAB_CLUSTER_USER" --regid="$HAB_CLUSTER_USER" --init-groups env -i --default-signal=INT \
    HOME="$home" USER="$HAB_CLUSTER_USER" PATH="${USER_PATH:+$USER_PATH:}/usr/local/bin:/usr/bin:/bin" TERM=dumb \
    SLURM_CONF="$SLURM_CONF" HAB_CLUSTER_STATE="$HAB_CLUSTER_STATE" HPC_SITE="$SITE_FILE" \
    HAB_CA_BUNDLE="$HAB_CA_BUNDLE" HAB_PIP_INDEX_URL="$HAB_PIP_INDEX_URL" APPTAINER_MKSQUASHFS_ARGS="$APPTAINER_MKSQUASHFS_ARGS" \
    "${USER_VARIABLES[@]}" "$@"
}

as_user() { (become_user "$@"); }

try() { # try COMMAND…: as the user; sets status, output and error
  status=0
  output=$(as_user timeout 140 "$@" 2>"$WORK/try.err" 3>&- 4>&-) || status=$?
  error=$(<"$WORK/try.err")
}

start() { # start NAME ARGUMENT…: run_workflow.sh in the background, in a session of its own
  start_command "$1" scripts_hpc/run_workflow.sh "${@:2}"
}

start_command() { # start_command NAME COMMAND…
  local name=$1
  shift
  become_user setsid "$@" >"$WORK/$name.out" 2>"$WORK/$name.err" </dev/null 3>&- 4>&- &
  STARTED[$name]=$!
}

finish() { # finish NAME [SECONDS]: waits until it has ended; sets status, output and error
  local pid=${STARTED[$1]}
  await "${2:-100}" process_gone "$pid" || return
  status=0
  wait "$pid" || status=$?
  unset "STARTED[$1]"
  output=$(<"$WORK/$1.out")
  error=$(<"$WORK/$1.err")
}

process_gone() { ! kill -0 "$1" 2>/dev/null; }

# ---- what can be seen of a run

await() { # await SECONDS COMMAND…: asks until it succeeds
  local end=$((SECONDS + $1)) seconds=$1
  shift
  until "$@"; do
    if ((SECONDS >= end)); then
      printf 'not within %s s: %s\n' "$seconds" "$*"
      return 1
    fi
    sleep 0.1
  done
}

group() { # group NAME: the folder of a started workflow's run
  sed -n 's/^run: //p' "$WORK/$1.err" | grep .
}

pick() { # pick FILE EXPRESSION: of the JSON `d` in the file
  python3 -c "import json, sys; d = json.load(open(sys.argv[1])); print($2)" "$1"
}

job_of() { # job_of NAME grading_server|model_server|agent
  local expression="d['jobs']['$2']"
  [[ $2 != agent ]] || expression="d['jobs']['agents'][0]"
  pick "$(group "$1")/workflow.json" "$expression"
}

run_of() { # run_of NAME: the folder of its first agent
  printf '%s\n' "$(group "$1")"/classification_basic_*
}

state_of() { pick "$(run_of "$1")/run_metadata.json" "d['state']"; }

in_state() { [[ $(state_of "$1" 2>/dev/null) == "$2" ]]; }

working() { # working NAME: its agent (waiter or caller) has submitted, and waits for `go`
  [[ -e $(run_of "$1")/code/waiting ]] 2>/dev/null
}

await_working() { await 60 working "$1"; }

go() { # go NAME…: lets their agents end
  local name
  for name; do as_owner touch "$(run_of "$name")/code/go"; done
}

queue() { # queue [OPTIONS OF squeue]
  squeue --noheader --user="$HAB_CLUSTER_USER" "$@"
}

queue_empty() {
  local jobs
  jobs=$(queue) && [[ -z $jobs ]]
}

job_state() { squeue --noheader --states=all --jobs="$1" --format=%T; }

job_is() { [[ $(job_state "$1") == "$2" ]]; }

user_processes() { # without zombies
  ps --no-headers -u "$HAB_CLUSTER_USER" -o pid=,stat=,args= | awk '$2 !~ /^Z/'
}

# why a server died is kept for its consumers, and what squeue and sacct said last for everyone
addresses() { find "$ADDRESSES" -mindepth 1 ! -name '*.failed' ! -name '.squeue*' ! -name '.sacct*' 2>/dev/null; }

all_gone() { queue_empty && [[ -z $(user_processes)$(addresses) ]]; }

expect_nothing_left() { # expect_nothing_left SECONDS: no job, no process, no address
  await "$1" all_gone || {
    queue
    user_processes
    addresses
    return 1
  }
}

kill_process() { # kill_process JOB PATTERN: kill -9 of the oldest process of a job whose command line matches
  local pid pids
  pids=$(pgrep --euid "$HAB_CLUSTER_USER" --full "$2" --delimiter ,) # by number, and numbers start anew
  for pid in $(ps -o pid= --sort=start_time -p "$pids"); do
    if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -Eqx "SLURM_JOB_ID=$1|HAB_INSTANCE=.*_$1" ||
      tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "\.job-$1 "; then
      kill -KILL "$pid"
      return
    fi
  done
  printf 'job %s has no process "%s"\n' "$1" "$2"
  return 1
}

# ---- what is expected

expect_status() {
  [[ $status == "$1" ]] || {
    printf 'status %s, expected %s\nstdout: %s\nstderr: %s\n' "$status" "$1" "$output" "$error"
    return 1
  }
}

refuse() { ! "$@"; } # refuse COMMAND…: it must fail (bats takes no notice of `! COMMAND`, but of this function's code)

expect_in() { # expect_in TEXT WHERE
  [[ $2 == *"$1"* ]] || {
    printf 'expected: %s\nfound:    %s\n' "$1" "$2"
    return 1
  }
}

note_secrets() { cat "$ADDRESSES"/*[0-9] | sed -n 's/^[a-z_]*token=//p' >>"$WORK/secrets"; } # the tokens of all servers that are there now

expect_unknown() { # expect_unknown FILE_OR_FOLDER: no secret that was noted is in it
  grep -qE '^.{40}' "$WORK/secrets"
  refuse grep -raFlf "$WORK/secrets" "$1"
}

expect_state() { # expect_state NAME STATE
  in_state "$1" "$2" || {
    printf '%s is %s, expected %s: %s\n' "$1" "$(state_of "$1")" "$2" "$(cat "$(run_of "$1")/run_metadata.json")"
    return 1
  }
}

# ---- for the suites that are no bats files (vllm.sh, experiment.sh)

PASSED=0 FAILED=0
check() { # check FUNCTION WHAT
  local code began=$SECONDS
  set +e
  (set -e && "$1") >"$WORK/check.log" 2>&1
  code=$?
  set -e
  if ((code == 0)); then
    PASSED=$((PASSED + 1))
    printf 'ok %s (%d s)\n' "$2" $((SECONDS - began))
  else
    FAILED=$((FAILED + 1))
    printf 'not ok %s (%d s)\n' "$2" $((SECONDS - began))
    tail -n 60 "$WORK/check.log" | sed 's/^/#   /'
  fi
}

# ---- another user on the nodes

node_of() { queue --jobs="$1" --format=%N; } # node_of JOB

stranger() { # stranger NODE PORT|PATTERN: his process there; what it is told goes to $WORK/stranger/log
  local network=()
  [[ $HAB_CLUSTER_SITE != hosts ]] || network=(nsenter "--net=$STATE/net/$1")
  install -d -o "$STRANGER" "$WORK/stranger"
  "${network[@]}" setpriv --reuid="$STRANGER" --regid="$STRANGER" --init-groups python3 "$BATS_TEST_DIRNAME/stranger.py" \
    "$WORK/stranger/log" "$2" </dev/null >"$WORK/stranger.out" 2>&1 3>&- 4>&- &
  STRANGERS+=($!)
  await 20 grep -qs ready "$WORK/stranger/log"
}

expect_nothing_told() { # neither a request nor a secret
  refuse grep -a '^told: ' "$WORK/stranger/log"
  expect_unknown "$WORK/stranger/log"
}
