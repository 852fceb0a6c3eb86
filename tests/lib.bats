# The shell library: messages, JSON, process groups, address files, virtual environments.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  # shellcheck source=scripts_hpc/lib/common.sh
  source "$ROOT/scripts_hpc/lib/common.sh"
  # shellcheck source=scripts_hpc/lib/service.sh
  source "$ROOT/scripts_hpc/lib/service.sh"
  # shellcheck source=scripts_hpc/lib/run.sh
  source "$ROOT/scripts_hpc/lib/run.sh"
  ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses
  mkdir "$ADDRESS_DIR"
}

@test "a file of keys that others can read" {
  ROOT=$BATS_TEST_TMPDIR
  [[ -z $(common::check_shell 2>&1) ]]
  touch "$ROOT/.env"
  chmod 600 "$ROOT/.env"
  [[ -z $(common::check_shell 2>&1) ]]
  for mode in 640 604; do
    chmod "$mode" "$ROOT/.env"
    run common::check_shell
    [[ $status == 0 && $output == *": others on this machine can read the keys in $ROOT/.env: chmod 600 $ROOT/.env" ]]
  done
}

@test "json::object cuts no character in two" {
  reason=$(printf 'größe größe' | head -c 3)
  json::object reason "the server said: $reason" whole 'größe' >"$BATS_TEST_TMPDIR/json"
  run python3 -c 'import json, sys; d = json.load(open(sys.argv[1], encoding="utf-8")); print(d["reason"], d["whole"] == "gr\u00f6\u00dfe")' "$BATS_TEST_TMPDIR/json"
  [[ $output == 'the server said: gr True' ]]
  iconv() { return 127; }
  [[ $(json::string "$reason!") == '"gr?!"' ]]
}

@test "json::text gives the first string under a key" {
  [[ $(json::text id <<<'{"data": [{"id":"a \"b\": c", "permission": [{"id": "d"}]}, {"id": "e"}]}') == 'a "b": c' ]]
  [[ -z $(json::text id <<<'{"id": 5}') ]]
}

@test "json::object quotes what needs it" {
  output=$(json::object text $'say "no" \\ tab\tend' number: 5 none '' list: '[1]' missing: '')
  "${HAB_CORE_PYTHON:-$ROOT/.venv-core/bin/python}" -c '
import json, sys
data = json.loads(sys.argv[1])
assert data == {"text": "say \"no\" \\ tab end", "number": 5, "none": None, "list": [1], "missing": None}, data' "$output"
}

@test "write_atomic leaves the old text when the new one can't be written" {
  echo old >"$BATS_TEST_TMPDIR/file"
  mktemp() { command mktemp -d "$BATS_TEST_TMPDIR/no-file.XXXXXX"; }
  status=0
  echo new | common::write_atomic "$BATS_TEST_TMPDIR/file" 2>/dev/null || status=$?
  [[ $status != 0 && $(<"$BATS_TEST_TMPDIR/file") == old ]]
}

@test "end_group ends a group that ignores TERM, children too" {
  set -m
  bash -c 'trap "" TERM; sleep 300 & wait; sleep 300' 3>&- &
  pid=$!
  set +m
  sleep 0.3 # the trap has to be set
  common::end_group "$pid" 1
  refuse common::group_runs "$pid"
}

@test "exit hooks run last in first out and keep the exit code" {
  cat >"$BATS_TEST_TMPDIR/s" <<'S'
source "$ROOT/scripts_hpc/lib/common.sh"
on_exit 'echo first'
on_exit 'echo second; false'
exit 7
S
  try bash "$BATS_TEST_TMPDIR/s"
  expect_status 7
  [[ $output == $'second\nfirst' ]]
}

@test "exit hooks run in the shell that has them: not in a child that is ended before it is a program of its own" {
  cat >"$BATS_TEST_TMPDIR/s" <<'S'
source "$ROOT/scripts_hpc/lib/common.sh"
on_exit 'echo "hook of $BASHPID"'
trap 'exit 143' TERM
for ((i = 0; i < 400; i++)); do
  sleep 1 & # some never hear it
  kill "$!"
  true &
  common::pause 60 "$!"
done
wait
echo "all of $BASHPID"
S
  try bash "$BATS_TEST_TMPDIR/s"
  expect_status 0
  [[ $output == "all of ${output##* }"$'\n'"hook of ${output##* }" ]]
}

@test "who is ended while it looks for room leaves no file" {
  mktemp() { command mktemp "$@" && kill -TERM "$BASHPID" && sleep 0.1; }
  mkdir "$BATS_TEST_TMPDIR/room"
  (common::room "$BATS_TEST_TMPDIR/room") || true
  [[ -z $(ls -A "$BATS_TEST_TMPDIR/room") ]]
}

@test "a user is noted though an ending server takes the folder of its users away; a folder that can't be made is told" {
  mktemp() { # the first time the folder goes just before
    [[ -e $BATS_TEST_TMPDIR/once ]] || { : >"$BATS_TEST_TMPDIR/once" && rm -r "${1%/*}"; }
    command mktemp "$@"
  }
  service::enlist vllm_x_12 34 /runs/a
  [[ $(<"$ADDRESS_DIR/vllm_x_12.consumers/34") == /runs/a ]]
  : >"$ADDRESS_DIR/vllm_x_13.consumers"
  try eval 'SITE=here; (service::enlist vllm_x_13 34 /runs/a)'
  expect_status 3
  expect_in "can't write to $ADDRESS_DIR/vllm_x_13.consumers (paths.address_dir of site here)" "$error"
}

@test "an address is read by key, and never from another server's file" {
  printf '%s\n' http://node:1 token=abc served_name=a=b epoch=2 >"$ADDRESS_DIR/vllm_x_12"
  [[ $(service::lookup vllm_x_12 url) == http://node:1 ]]
  [[ $(service::lookup vllm_x_12 token) == abc ]]
  [[ $(service::lookup vllm_x_12 served_name) == a=b ]]
  if service::lookup vllm_x_12 admin_token; then return 1; fi
  if service::lookup vllm_x_1 url; then return 1; fi
}

@test "free_port avoids one that is taken" {
  "${HAB_CORE_PYTHON:-$ROOT/.venv-core/bin/python}" -c '
import socket, time
s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1], flush=True); time.sleep(60)' >"$BATS_TEST_TMPDIR/port" 3>&- &
  server=$!
  until [[ -s $BATS_TEST_TMPDIR/port ]]; do sleep 0.05; done
  taken=$(<"$BATS_TEST_TMPDIR/port")
  status=0
  output=$(service::free_port "$taken" $((taken + 1)) 2>&1) || status=$?
  kill "$server"
  [[ $status == 3 ]]
  expect_in "no free port between" "$output"
}

@test "a key comes from the environment, else from .env, and nothing else of .env is read" {
  ROOT=$BATS_TEST_TMPDIR
  printf '%s\n' "# A_KEY=wrong" 'export A_KEY="in file"' "B_KEY='b'" 'EVIL=$(touch '"$BATS_TEST_TMPDIR"'/evil)' >"$ROOT/.env"
  [[ $(common::key A_KEY) == "in file" ]]
  [[ $(common::key B_KEY) == b ]]
  [[ $(A_KEY=env common::key A_KEY) == env ]]
  [[ -z $(common::key C_KEY) ]]
  [[ ! -e $BATS_TEST_TMPDIR/evil ]]
}

@test "a value with quotes reaches the agent as it is" {
  line=$(run::_line NAME "a'b \$HOME")
  [[ $(bash -c "$line; printf '%s' \"\$NAME\"") == "a'b \$HOME" ]]
}

@test "auto:JOB is found by its job, a missing one is told apart from a URL" {
  mkdir "$ADDRESS_DIR/vllm_30b_12.consumers"
  [[ $(run::server 'vllm_*' auto:12) == vllm_30b_12 ]]
  [[ $(run::server 'vllm_*' auto:2) == '?_2' ]]
  [[ -z $(run::server 'vllm_*' http://x:1) ]]
  try bash -c "source '$ROOT/scripts_hpc/lib/common.sh'; source '$ROOT/scripts_hpc/lib/run.sh'; ADDRESS_DIR=$ADDRESS_DIR; run::server 'vllm_*' nonsense"
  expect_status 2
  expect_in "'nonsense' is neither auto:JOB nor a URL" "$error"
}

@test "no Python new enough: the message names module load and uv" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  for name in python3 python python3.10 python3.11 python3.12 python3.13; do
    printf '#!/bin/sh\n[ "$1" = -V ] && echo Python 3.6.8 && exit 0\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/$name"
    chmod +x "$BATS_TEST_TMPDIR/bin/$name"
  done
  HAB_VENV_DIR=$BATS_TEST_TMPDIR/venvs PATH=$BATS_TEST_TMPDIR/bin:/usr/bin:/bin try "$ROOT/scripts_hpc/render.sh"
  expect_status 2
  expect_in "needs Python 3.10 or newer, found Python 3.6.8: try 'module load python', or 'uv python install 3.12'" "$error"
}

@test "a virtual environment that can't be made says where and what to set" {
  HAB_VENV_DIR=/proc/nowhere try "$ROOT/scripts_hpc/render.sh"
  expect_status 2
  expect_in "can't create the virtual environment /proc/nowhere/.venv-core" "$error"
  expect_in "Set HAB_VENV_DIR" "$error"
}

@test "an environment that fails to install is not taken for complete" {
  mkdir -p "$BATS_TEST_TMPDIR/venvs"
  HAB_VENV_DIR=$BATS_TEST_TMPDIR/venvs PIP_INDEX_URL=http://127.0.0.1:9/simple PIP_EXTRA_INDEX_URL='' PIP_FIND_LINKS='' PIP_RETRIES=0 PIP_CONFIG_FILE=/dev/null \
    try "$ROOT/scripts_hpc/render.sh"
  expect_status 3
  expect_in "set PIP_INDEX_URL, PIP_CERT or https_proxy and run again" "$error"
  [[ ! -e $BATS_TEST_TMPDIR/venvs/.venv-core/.stamp ]]
}

@test "the scripts work from their own folder" {
  cd "$ROOT/scripts_hpc"
  for script in run_workflow.sh render.sh jobs.sh run_task.sh site.sh models.sh tasks.sh results.sh; do
    try bash "$script" --help
    expect_status 0
  done
}

@test "render.sh: help, an unknown site, a folder of one's own" {
  export HAB_VENV_DIR=$ROOT
  try "$ROOT/scripts_hpc/render.sh" --help
  expect_status 0
  expect_in "Usage: scripts_hpc/render.sh" "$output"
  try "$ROOT/scripts_hpc/render.sh" --site nirvana
  expect_status 2
  expect_in "there is no site-config/nirvana.yaml. Known sites:" "$error"
  make_site slurm apptainer
  cd "$BATS_TEST_TMPDIR"
  try "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output out
  expect_status 0
  [[ -f out/slurm_vllm_80b.sh && -f out/slurm_agent_aide.sh && -f out/vllm.def ]]
}

words() { grep -v ' runs the code of ' <<<"$error"; } # what a job by hand says, beside the commit that it runs

@test "a job that is submitted by hand for a task that isn't prepared ends with the workflow's sentence, before any start" {
  export HAB_VENV_DIR=$ROOT
  make_site slurm apptainer
  "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output "$BATS_TEST_TMPDIR/out"
  unset HAB_VENV_DIR
  there=$BATS_TEST_TMPDIR/data/mine/prepared
  expect_refusal() { # expect_refusal PROBLEM SCRIPT ARGS…
    try bash "$BATS_TEST_TMPDIR/out/slurm_$2.sh" "${@:3}"
    expect_status 2
    [[ $(words) == "slurm_$2.sh: competition 'mine' isn't prepared: $1 (paths.data of site here). Use scripts_hpc/prepare_tasks.sh mine --site here" ]]
  }
  rm -rf "$BATS_TEST_TMPDIR/addresses"
  for script in grading_server notebook; do expect_refusal "there is no $there/public" "$script" mine; done
  # who waits for it hears why, also where it is the first job of all
  [[ $(cat "$BATS_TEST_TMPDIR"/addresses/grading_server_*.failed) == "competition 'mine' isn't prepared: "* && $(stat -c %a "$BATS_TEST_TMPDIR/addresses") == 700 ]]
  expect_refusal "there is no $there/public" agent_aide mine auto:1
  mkdir -p "$there/public" "$there/private"
  expect_refusal "$there/public is empty" agent_aide mine auto:1
  touch "$there/public/train.csv"
  expect_refusal "$there/public has no description.md" notebook mine
  touch "$there/public/description.md"
  make_task other
  expect_refusal "$there/private is empty" grading_server other mine
}

@test "a model server that is submitted by hand where weights are missing ends with the workflow's sentence, before any start" {
  make_site slurm apptainer
  printf 'environment: {offline: true}\n' >>"$SITE_FILE"
  mkdir -p "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/models/mine"
  "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output "$BATS_TEST_TMPDIR/out" --set "paths.models=$BATS_TEST_TMPDIR/models" \
    --set "models.own={engine: vllm, served_name: own, context_length: 1000, repo: $BATS_TEST_TMPDIR/models/mine, gpus: 1}"
  touch "$(sed -n 's/^IMAGES=//p' "$BATS_TEST_TMPDIR/out/slurm_vllm_own.sh")/vllm.sif"
  # stands for a container: only there is a Python that can read weights.py
  printf '#!/bin/bash\nwhile [[ $1 != *.sif ]]; do shift; done\nPATH=/usr/bin:/bin exec "${@:2}"\n' >"$BATS_TEST_TMPDIR/bin/apptainer"
  printf '#!/bin/sh\necho "SyntaxError: future feature annotations is not defined"\nexit 1\n' >"$BATS_TEST_TMPDIR/old"
  chmod +x "$BATS_TEST_TMPDIR/bin/apptainer" "$BATS_TEST_TMPDIR/old"
  export PATH=$BATS_TEST_TMPDIR/bin:$PATH
  local said
  for python in new old; do
    [[ $python == new ]] || cp "$BATS_TEST_TMPDIR/old" "$BATS_TEST_TMPDIR/bin/python3"
    try bash "$BATS_TEST_TMPDIR/out/slurm_vllm_30b.sh"
    expect_status 2
    said="is in $BATS_TEST_TMPDIR/models/hub; compute nodes of site here are offline. On a login node: scripts_hpc/models.sh download 30b --site here."
    [[ $(words) == "slurm_vllm_30b.sh: model '30b': nothing of "*" $said" ]]
    try bash "$BATS_TEST_TMPDIR/out/slurm_vllm_own.sh"
    expect_status 2
    [[ $(words) == "slurm_vllm_own.sh: model 'own': $BATS_TEST_TMPDIR/models/mine is incomplete: "*"; copy what is missing there, or set its \`repo\`." ]]
  done
  expect_in "model 'own': " "$(cat "$BATS_TEST_TMPDIR"/addresses/vllm_own_*.failed)"
}

@test "room is what can be written, not what df says: a quota is told as one, and nothing stays" {
  local folder=$BATS_TEST_TMPDIR/full
  mkdir "$folder"
  common::room "$folder"
  [[ -z $(ls -A "$folder") ]]
  dd() { # as GNU dd was seen to say it
    [[ $* == 'if=/dev/zero bs=1M count=1 conv=fsync' ]] || return 99
    printf "dd: error writing 'standard output': Disk quota exceeded\\n1+0 records in\\n0+0 records out\\n" >&2
    return 1
  }
  output=$(common::room "$folder") && return 1
  expect_in "your quota is used up (the disk itself has " "$output"
  [[ -z $(ls -A "$folder") ]]
  JOB_ID=1 SITE=here
  source "$ROOT/scripts_hpc/lib/container.sh"
  status=0
  output=$(container::scratch "$folder" 2>&1) || status=$?
  [[ $status == 3 ]]
  expect_in "no room in $folder (paths.scratch of site here): your quota is used up" "$output"
  status=0
  output=$(common::room "$folder/none") || status=$?
  [[ $status == 1 && $output == "nothing can be written (No such file or directory)" ]]
}

@test "render.sh makes no folder of a site that is elsewhere, and its own folder of logs where sbatch is" {
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT}
  make_site slurm apptainer
  sed -i 's|^  runs: .*|  runs: /proc/nowhere/runs|' "$SITE_FILE"
  mkdir "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/laptop"
  printf '#!/bin/sh\nexit 9\n' >"$BATS_TEST_TMPDIR/bin/sbatch" && chmod +x "$BATS_TEST_TMPDIR/bin/sbatch"
  for name in bash dirname basename cksum cut grep cat; do ln -s "$(type -P "$name")" "$BATS_TEST_TMPDIR/laptop/$name"; done
  PATH=$BATS_TEST_TMPDIR/laptop try "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output "$BATS_TEST_TMPDIR/out"
  expect_status 0
  [[ -z $error && -f $BATS_TEST_TMPDIR/out/slurm_vllm_80b.sh ]]
  PATH=$BATS_TEST_TMPDIR/bin:$PATH try "$ROOT/scripts_hpc/render.sh" --site "$SITE_FILE" --output "$BATS_TEST_TMPDIR/out"
  expect_status 0
  expect_in "note: can't make /proc/nowhere/runs/logs" "$error"
}

@test "a server's consumer is noted by the workflow and by its job at once: neither gets in the other's way" {
  pids=()
  for ((i = 0; i < 40; i++)); do
    service::enlist grading_server_1 2 "$BATS_TEST_TMPDIR/run" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  [[ $(ls -A "$ADDRESS_DIR/grading_server_1.consumers") == 2 ]]
}

@test "a command's times are all of one clock, the reader's, as Slurm's own words in the same log" {
  local zone shell python
  for zone in UTC-5:30 UTC+3; do
    shell=$(TZ=$zone log word 2>&1)
    python=$(TZ=$zone python -c 'from helpers.jobs.watch import _plain; _plain([("agent", "1", "RUNNING", "", "")], {})' 2>&1)
    [[ ${shell:0:4} == "${python:0:4}" && $shell == "$(TZ=$zone date +%H)"* ]] || {
      printf '%s\n' "$shell" "$python"
      return 1
    }
  done
}

@test "verbs: help at once, one that isn't there, options of a site" {
  export HAB_VENV_DIR=$ROOT
  for script in site jobs tasks results models; do
    HAB_VENV_DIR=/nonexistent try "$ROOT/scripts_hpc/$script.sh" --help
    expect_status 0
    expect_in "Usage: scripts_hpc/$script.sh" "$output"
    try "$ROOT/scripts_hpc/$script.sh"
    expect_status 2
    expect_in "Usage: scripts_hpc/$script.sh" "$error"
    try "$ROOT/scripts_hpc/$script.sh" frobnicate
    expect_status 2
    [[ $error == "$script.sh: unknown verb 'frobnicate': "*" or "*" (--help tells more)" ]]
  done
  make_site slurm apptainer
  try "$ROOT/scripts_hpc/models.sh" list --site "$SITE_FILE" --set models.30b.gpus=7
  expect_status 0
  [[ $(grep '^30b ' <<<"$output") == '30b           vllm         7    32768  Qwen/'*' (weights not here)' ]]
  try "$ROOT/scripts_hpc/site.sh" list --site della
  [[ $(grep '^[*]' <<<"$output") == '*  della '* ]]
  try "$ROOT/scripts_hpc/site.sh" list --site della --json
  [[ $(python3 -c 'import json, sys; print(*(one["name"] for one in json.load(sys.stdin) if one["used_here"]))' <<<"$output") == della ]]
  mkdir "$BATS_TEST_TMPDIR/tasks"
  sed 's/"classification_basic"/"mine"/' "$ROOT/templates/tasks/classification_basic.json" >"$BATS_TEST_TMPDIR/tasks/mine.json"
  try "$ROOT/scripts_hpc/tasks.sh" show mine --json --site "$SITE_FILE" --set "paths.tasks=$BATS_TEST_TMPDIR/tasks"
  expect_status 0
  try "$ROOT/scripts_hpc/tasks.sh" show mine --site="$SITE_FILE"
  expect_status 2
  try "$ROOT/scripts_hpc/tasks.sh" list --site "$SITE_FILE" --set paths
  expect_status 2
  expect_in '--set paths: must be key=value' "$error"
  try "$ROOT/scripts_hpc/results.sh" export --site "$SITE_FILE" --set "paths.runs=$BATS_TEST_TMPDIR/none"
  expect_status 2
  expect_in "$BATS_TEST_TMPDIR/none: there is no such folder" "$error"
  try "$ROOT/scripts_hpc/results.sh" columns
  expect_status 0
  expect_in 'CPU-hours of the agent' "$output"
}
