# What becomes of an agent's repository at the end of its job: its diff, the task's test scripts in a fresh checkout, the score.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  # rights mean nothing to root: the job runs as somebody else, in a folder that both reach
  WORK=$(mktemp -d)
  AS=()
  ((UID)) || AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  mkdir -p "$WORK"/{lib,bin,images,run/logs,tmp/tmp,tmp/shm,home,instance/public,instance/private/tests,other}
  cp "$ROOT"/scripts_hpc/lib/*.sh "$WORK/lib/"
  export HOME=$WORK/home
  git init -q -b task "$WORK/source"
  printf 'def double(x):\n    return x + x\n' >"$WORK/source/code.py"
  echo '*.log' >"$WORK/source/.gitignore"
  git -C "$WORK/source" add .
  git -C "$WORK/source" -c user.name=a -c user.email=a@b commit -qm base
  git clone -q --bare "$WORK/source" "$WORK/instance/public/base.git"
  git clone -q "$WORK/instance/public/base.git" "$WORK/repo"
  echo secret >"$WORK/other/private"
  touch "$WORK/images/tests.sif"
  cat >"$WORK/job" <<'JOB'
set -euo pipefail
cd "$WORK"
for lib in common scheduler service container run agent endpoint repository; do source "lib/$lib.sh"; done
RUN=$WORK/run RUN_NAME=toy_7 RUN_GROUP=$WORK RUNS=$WORK JOB_ID=7 JOB_TMP=$WORK/tmp SITE=here RUNTIME=${RUNTIME:-none} VENV=${VENV:-/nowhere} CPUS=1
IMAGES=$WORK/images RUNTIME_FLAGS=() SITE_BINDS=() COMPETITION=toy ROLLOUT=0 SCHEDULER=local
AGENT_STARTED=2026-01-01T00:00:00Z AGENT_ENDED=2026-01-01T00:00:05Z
declare -A CONTAINER_ENV=()
trap 'exit 143' TERM # as a job script has one
eval "${DO:-}"
code=0
repository::grade "$WORK/instance" "$WORK/repo" tests || code=$?
printf '%s\n' "$REPOSITORY_SAID" "$REPOSITORY_NETWORK"
exit "$code"
JOB
}

teardown() {
  chmod -R u+rwX "$WORK"
  rm -rf "$WORK"
}

script() { # script NAME, its text on stdin
  cat >"$WORK/instance/private/tests/$1"
  SCRIPTS+=${SCRIPTS:+, }"{\"path\": \"$1\", \"rubric_id\": \"r\"}"
}

grade() { # grade [WHAT_THE_JOB_SETS]: $output is the sentence and the network
  printf '{"rubrics": [{"id": "r", "criterion": "works", "weight": 2}], "test_scripts": [%s]}' "${SCRIPTS:-}" >"$WORK/instance/private/evaluation.json"
  ((UID)) || chown -R 65534:65534 "$WORK"
  WORK=$WORK DO=${1:-} try "${AS[@]}" bash "$WORK/job"
}

result() { # result KEYS…: what evaluation_results.json has there
  python -c 'import functools, json, sys
print(json.dumps(functools.reduce(lambda data, key: data[key], sys.argv[2:], json.load(open(sys.argv[1])))))' "$WORK/run/evaluation_results.json" "$@"
}

fake_apptainer() { # notes its arguments, and runs the command as the container would, on this machine
  cat >"$WORK/bin/apptainer" <<'S'
#!/bin/bash
printf '%s\n' "$*" >>"$WORK_OF_TEST/calls"
declare -A binds
pwd=/
while [[ $1 != *.sif ]]; do
  case $1 in
    --bind) IFS=: read -r from to _ <<<"$2" && binds[$to]=$from && shift ;;
    --pwd) pwd=$2 && shift ;;
  esac
  shift
done
shift
words=()
for word; do
  for to in "${!binds[@]}"; do [[ $word != /home/* || $word != "$to"/* ]] || word=${binds[$to]}${word#"$to"}; done
  words+=("$word")
done
cd "${binds[$pwd]:-/}"
exec "${words[@]}"
S
  sed -i "s|\$WORK_OF_TEST|$WORK|" "$WORK/bin/apptainer"
  chmod +x "$WORK/bin/apptainer"
}

@test "an agent's work is scored: its diff, notes, results, a summary for people and a log" {
  echo 'y = 1' >>"$WORK/repo/code.py"
  echo 'what I did' >"$WORK/repo/notes.md"
  echo noise >"$WORK/repo/build.log"
  script good.sh <<<'cat code.py; [[ $PWD == "$REPO_DIR" && ! -e build.log ]] && grep -q "y = 1" code.py'
  script bad.sh <<<'echo it is wrong; exit 7'
  script third.py <<<'#!/usr/bin/env python3
import code; print("by its first line")'
  grade
  expect_status 0
  expect_in '2 of 3 test scripts passed' "$output"
  [[ $(result total_score) == 0.6666666666666666 && $(result evaluation total_score) == 0.6666666666666666 ]]
  [[ $(result test_results bad.sh success) == false && $(result test_results bad.sh output) == '"it is wrong\n"' ]]
  [[ $(result evaluation rubrics r weighted_score) == 1.33* && $(result evaluation rubrics r tests_passed) == 2 ]]
  [[ $(result agent_metrics time_taken_seconds) == 5.0 && $(result run_id) == '"toy_7"' ]]
  expect_in '+y = 1' "$(<"$WORK/run/artifacts/diff.patch")"
  [[ $(<"$WORK/run/artifacts/notes.md") == 'what I did' ]]
  expect_in '| r | works | 2 | 0.6667 | 2 of 3 |' "$(<"$WORK/run/scoring_results.md")"
  expect_in 'it is wrong' "$(<"$WORK/run/logs/eval.log")"
  expect_in '"total_score": 0.666' "$(<"$WORK/run/grading_report.json")"
  [[ ! -e $WORK/tmp/checkout ]]
}

@test "an agent that changed nothing has what the tests say of the untouched code" {
  script works.sh <<<'python3 -c "import code" && grep -q "x + x" code.py'
  grade
  expect_status 0
  [[ $(result total_score) == 1.0 && $(result diff_lines) == 0 && ! -s $WORK/run/artifacts/diff.patch ]]
}

@test "a script that hangs, one that is killed, one that can't be started: an end each, and the others count" {
  script hangs.sh <<<'trap "" TERM; echo waits; sleep 100'
  script killed.sh <<<'kill -9 $$'
  script missing.sh <<<'#!/nowhere/interpreter'
  script good.sh <<<true
  grade 'TEST_SECONDS=1'
  expect_status 0
  [[ $(result test_results hangs.sh state) == '"timed_out"' && $(result test_results hangs.sh output) == '"waits\n"' ]]
  [[ $(result test_results killed.sh state) == '"killed"' && $(result test_results missing.sh state) == '"not_started"' ]]
  [[ $(result total_score) == 0.25 ]]
  expect_in "1 of 4 test scripts passed; hangs.sh didn't end within 1 s and was ended; killed.sh was killed by signal 9" "$output"
  expect_in "missing.sh couldn't be started" "$output"
}

@test "a script that writes without end is ended, by the file and by the sum of them" {
  script one.sh <<<'head -c 100M /dev/zero >big'
  script many.sh <<<'for ((i = 0; i < 2000; i++)); do head -c 5M /dev/zero >"part$i"; sleep 0.02; done; true'
  script tells.sh <<<'yes | head -c 30M'
  grade 'TEST_GB=0.01'
  expect_status 0
  refuse test "$(result test_results one.sh success)" = true
  [[ $(result test_results many.sh state) == '"too_much"' ]]
  expect_in 'limits' "$(result test_results many.sh said)"
  [[ $(result test_results tells.sh success) == true ]]
  (($(stat --format=%s "$WORK/run/evaluation_results.json") < 400000 && $(stat --format=%s "$WORK/run/logs/eval.log") < 200000))
}

@test "what a script starts ends with it, also what left its process group" {
  script forks.sh <<<'for i in 1 2 3; do sleep 987 & setsid sleep 987 & done; true'
  script next.sh <<<'! pgrep -f "sleep 98[7]"'
  grade
  expect_status 0
  [[ $(result total_score) == 1.0 ]]
  refuse pgrep -f 'sleep 98[7]'
}

@test "no key, no other variable and nothing of the agent's /tmp reaches a script; the tests can't be changed" {
  mkdir -p "$WORK/tmp/tmp"
  echo 'touch ran' >"$WORK/tmp/tmp/.bashrc"
  echo planted >"$WORK/tmp/tmp/planted"
  script env.sh <<<'env | grep -q SECRET && exit 1; [[ ! -e /tmp/planted && ! -e ~/planted ]] || exit 2; echo "exit 0" >"$TESTS_DIR/last.sh" || echo kept'
  script last.sh <<<'exit 5'
  export A_SECRET=SECRET
  grade
  expect_status 0
  [[ $(result test_results env.sh success) == true ]]
  [[ $(result test_results last.sh exit_code) == 5 ]]
  [[ $(<"$WORK/instance/private/tests/last.sh") == 'exit 5' ]]
}

@test "a script sees a loopback device, where this machine lets it, and no network" {
  python -u -m http.server --bind 127.0.0.1 0 >"$WORK/port" 2>&1 3>&- &
  server=$!
  wait_for 10 grep -q port "$WORK/port"
  port=$(sed -nE 's/.* port ([0-9]+).*/\1/p' "$WORK/port")
  script reach.sh <<<"! (: </dev/tcp/127.0.0.1/$port) 2>/dev/null"
  script own.py <<<'import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())'
  grade
  kill "$server"
  expect_status 0
  [[ $output == *unblocked || $(result total_score) == 1.0 ]]
  [[ $(result network) == "\"${output##*$'\n'}\"" ]]
  [[ $(result test_results own.py success) == true ]]
}

@test "where the network can't be taken away, that is told and recorded" {
  script good.sh <<<true
  grade 'container::_hold_net() { return 1; }'
  expect_status 0
  [[ $(result network) == '"unblocked"' ]]
  expect_in "the test scripts' network is open" "$error"
}

@test "in a container: no network, the tests read-only, the checkout to write, nothing else; and only this task's tests" {
  fake_apptainer
  echo 'y = 1' >>"$WORK/repo/code.py"
  script good.sh <<<'grep -q "y = 1" code.py'
  grade "PATH=$WORK/bin:\$PATH RUNTIME=apptainer"
  expect_status 0
  [[ $(result total_score) == 1.0 ]]
  call=$(grep good.sh "$WORK/calls")
  expect_in "--containall" "$call"
  expect_in "--bind $WORK/tmp/checkout:/home/repo --bind $WORK/instance/private/tests:/home/tests:ro --pwd /home/repo $WORK/images/tests.sif" "$call"
  expect_in "bash /home/tests/good.sh" "$call"
  # the fake doesn't know --net: what was tried first is not believed
  expect_in "--net --network none" "$(head -n 1 "$WORK/calls")"
  refuse grep -q -- --net <<<"$call"
  refuse grep -q "$WORK/other" "$WORK/calls"
}

@test "without a Python on the node the steps are done in the image, without its network" {
  fake_apptainer
  script good.sh <<<true
  grade "PATH=$WORK/bin:\$PATH RUNTIME=apptainer; repository::_python() { return 1; }"
  expect_status 0
  [[ $(result total_score) == 1.0 ]]
  expect_in "--bind $WORK/instance:$WORK/instance:ro" "$(grep 'repositories.serve' "$WORK/calls")"
}

@test "no container can be made: the infrastructure is to blame, with the runtime's words" {
  printf '#!/bin/bash\necho "FATAL:   could not open image" >&2\nexit 255\n' >"$WORK/bin/apptainer"
  chmod +x "$WORK/bin/apptainer"
  script good.sh <<<true
  grade "PATH=$WORK/bin:\$PATH RUNTIME=apptainer"
  expect_status 3
  expect_in 'no container can be made' "$output"
  [[ ! -e $WORK/run/evaluation_results.json ]]
}

@test "a diff that is too large, or a folder that is gone, is the agent's; it is told in one line and in the log" {
  script good.sh <<<true
  head -c 300000 /dev/urandom >"$WORK/repo/big.bin"
  grade 'DIFF_MB=0.1'
  expect_status 4
  expect_in 'the diff is too large: it has more than 0.1 MB; the largest: big.bin (0.3 MB)' "$output"
  expect_in 'the diff is too large' "$(<"$WORK/run/logs/eval.log")"
  mv "$WORK/repo" "$WORK/gone"
  grade
  expect_status 4
  expect_in 'the repository was removed' "$output"
}

@test "a diff that doesn't apply" {
  script good.sh <<<true
  printf -- '--- a/code.py\n+++ b/code.py\n@@ -1 +1 @@\n-nothing of the kind\n+x\n' >"$WORK/given.patch"
  sed -i 's|"$WORK/repo" tests|& "$WORK/given.patch"|' "$WORK/job"
  grade
  expect_status 4
  expect_in "the diff doesn't apply: error: patch failed: code.py:1" "$output"
}

@test "folders and files that the agent has closed are opened: they are this user's" {
  script good.sh <<<'grep -q inside closed/deep/file && ! [[ -e closed/pipe ]]'
  mkdir -p "$WORK/repo/closed/deep"
  echo inside >"$WORK/repo/closed/deep/file"
  mkfifo "$WORK/repo/closed/pipe"
  chmod 0 "$WORK/repo/closed/deep/file" "$WORK/repo/closed/deep" "$WORK/repo/closed"
  grade
  expect_status 0
  [[ $(result total_score) == 1.0 ]]
  expect_in '"path": "closed/pipe"' "$(<"$WORK/run/artifacts/repo_info.json")"
}

@test "links in the place of the logs are no way out" {
  script good.sh <<<'echo said'
  rm -rf "$WORK/run/logs"
  ln -s "$WORK/other" "$WORK/run/logs"
  grade
  expect_status 0
  [[ $(ls "$WORK/other") == private && -f $WORK/run/logs/eval.log && ! -L $WORK/run/logs ]]
}

@test "many in one job: each has its own result, one that can't be graded stops no other, and few scripts run at a time" {
  script good.sh <<<'echo . >>"$REPO_DIR/../../../at_once/$$"; ls "$REPO_DIR/../../../at_once" | wc -l; sleep 0.3; rm "$REPO_DIR/../../../at_once/$$"; grep -q "run_[0-4]" code.py'
  mkdir -p "$WORK/agents" "$WORK/tmp" "$WORK/at_once"
  for n in 0 1 2 3 4 5; do
    cp -R "$WORK/repo" "$WORK/agents/run_$n"
    echo "run_$n" >>"$WORK/agents/run_$n/code.py"
  done
  rm -rf "$WORK/agents/run_2"
  sed -i '/^repository::grade /,$d' "$WORK/job"
  cat >>"$WORK/job" <<'JOB'
grade() { RUN=$WORK/runs/$1 RUN_NAME=$1 && mkdir -p "$RUN/logs" && repository::grade "$WORK/instance" "$WORK/agents/$1" tests; }
repository::grade_each 2 tests grade < <(printf '%s\n' run_{0..5})
ls "$JOB_TMP"
JOB
  grade
  expect_status 0
  refuse grep -q grading <<<"$output"
  expect_in 'run_2: the repository was removed' "$error"
  for n in 0 1 3 4 5; do
    python - "$WORK/runs/run_$n/evaluation_results.json" "$n" <<'P'
import json, sys
found = json.load(open(sys.argv[1]))
one = found["test_results"]["good.sh"]
assert found["run_id"] == f"run_{sys.argv[2]}" and one["success"] == (sys.argv[2] != "5"), found
assert int(one["output"]) <= 2, one
P
  done
}

@test "the evaluation of a scored run is not written over, and a second grade leaves it as it was" {
  script good.sh <<<true
  sed -i 's|^printf .*|run::finish scored "$REPOSITORY_SAID"|' "$WORK/job"
  grade 'AGENT=a MODEL_LABEL= SEED=0 CPUS=1 STEP_LIMIT=1 TIME_LIMIT=1'
  expect_status 0
  [[ $(result evaluation rubrics r score) == 1.0 && $(result state) == '"scored"' ]]
  script bad.sh <<<false
  grade 'AGENT=a; EARLIER_RECORD="{}" EARLIER_GRADES="{}" REPORT=grading_report_7.json'
  [[ $(result evaluation rubrics r score) == 1.0 && -f $WORK/run/logs/eval_7.log ]]
  expect_in '"total_score": 0.5' "$(<"$WORK/run/grading_report_7.json")"
}
