# site.sh doctor on one machine: its probe is a local job, and what is broken is broken for real; and with a fake Slurm, what is refused.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  mkdir -p "$BATS_TEST_TMPDIR/runs" "$BATS_TEST_TMPDIR/addresses"
  export HAB_VENV_DIR=${HAB_VENV_DIR:-$ROOT} TMPDIR=$BATS_TEST_TMPDIR/tmp
  # a node that reaches nothing outside needs no time to find out
  export https_proxy=http://127.0.0.1:9
  mkdir "$TMPDIR"
}

teardown() { end_local_jobs; }

doctor() { try "$ROOT/scripts_hpc/site.sh" doctor --site "$SITE_FILE" "$@"; }

row() { # row STATE CHECK: what was found, of a table with --json
  python3 -c 'import json, sys
rows = json.load(sys.stdin)["findings"]
found = [one for one in rows if (one["state"], one["check"]) == tuple(sys.argv[1:3])]
print("\n".join("|".join((one["measured"], one["key"], one["advice"])) for one in found) or sys.exit(f"no such row in {rows}"))' "$1" "$2" <<<"$output"
}

no_processes() { [[ -z $(local_processes) ]]; }
nothing_left() { # of a doctor, but its result; a probe ends a moment after its last word
  wait_for 5 no_processes && [[ -z $(find "$BATS_TEST_TMPDIR" -name '.hab-doctor.*' -o -name '*_doctor' -o -name 'hab-*' -o -name '.here.yaml.*') ]]
}

started() { compgen -G "$BATS_TEST_TMPDIR/runs/.hab-doctor.*.cpu" >/dev/null; }

@test "a healthy machine: the table fits a terminal, the code is 0, and nothing is left but the result" {
  doctor
  expect_status 0
  expect_in 'STATE        CHECK' "$output"
  expect_in "site here: a run would work (" "$output"
  [[ $(wc -L <<<"$output") -le 80 && $output != *$'\e'* ]]
  [[ $(wc -l <<<"$error") -le 5 ]]
  nothing_left
  [[ $(ls -A "$BATS_TEST_TMPDIR/runs" "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/images" | grep -v : | xargs) == .doctor ]]
  grep -q '"passed": true' "$BATS_TEST_TMPDIR/runs/.doctor/here.json"
}

@test "a missing module, and a scratch that can't be used, stand in the table with their keys" {
  mkdir -p "$BATS_TEST_TMPDIR/modules/init"
  echo 'module() { echo "Unable to locate a modulefile for $2"; }' >"$BATS_TEST_TMPDIR/modules/init/bash"
  MODULESHOME=$BATS_TEST_TMPDIR/modules doctor --json --set 'environment.modules=[nothere]'
  expect_status 3
  row failure 'probe cpu' | grep -F "module nothere can't be loaded" | grep -F '|environment.modules|'
  nothing_left
  doctor --json --set paths.scratch=/proc/nowhere
  expect_status 3
  row failure 'probe cpu' | grep -F "can't make a temporary folder in /proc/nowhere (paths.scratch of site here)|paths.scratch|"
  grep -q '"passed": false' "$BATS_TEST_TMPDIR/runs/.doctor/here.json"
  nothing_left
}

@test "a clock an hour off, and a locale that the node doesn't have" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/bash\n[[ $1 != +%%s.%%N || -z ${HAB_LOCAL_JOB:-} ]] || { echo $(($(/bin/date +%%s) + 3600)).0 && exit; }\nexec /bin/date "$@"\n' >"$BATS_TEST_TMPDIR/bin/date"
  chmod +x "$BATS_TEST_TMPDIR/bin/date"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH doctor --json --set 'environment.variables={LC_ALL: xx_XX}'
  expect_status 3
  row failure clocks | grep -E "^that of .* is 3(5[0-9][0-9]|600) s or more ahead of this machine's\|scheduler.extra_sbatch\|"
  row warning locale | grep -F '|environment.variables|LC_ALL: C.UTF-8'
  nothing_left
}

@test "a wrong interface: none of this name, and what --write may not be sure of on one node" {
  cp "$SITE_FILE" "$BATS_TEST_TMPDIR/before"
  doctor --json --write --set network.interface=nope
  expect_status 3
  row failure network | grep -F 'no IPv4 address on interface nope'
  expect_in '--write: nothing that is sure to write' "$error"
  cmp "$SITE_FILE" "$BATS_TEST_TMPDIR/before"
}

@test "usage, and a site file that --write may not change, end with 2 before anything is done" {
  doctor --gpu
  expect_status 2
  expect_in 'has no GPUs to ask its scheduler for' "$error"
  doctor --model nope
  expect_status 2
  doctor --wait 0
  expect_status 2
  try "$ROOT/scripts_hpc/site.sh" doctor nowhere
  expect_status 2
  expect_in "site 'nowhere': there is no site-config/nowhere.yaml" "$error"
  if ((EUID)); then skip 'only root can give a file away'; fi
  chown 12345 "$SITE_FILE"
  doctor --write
  expect_status 2
  expect_in 'belongs to another user, and is left as it is' "$error"
  [[ ! -e $BATS_TEST_TMPDIR/runs/.doctor ]] && nothing_left
}

@test "Ctrl-C: 130, the job ends, nothing is left, and there is no table" {
  setsid --wait python3 -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])' \
    bash "$ROOT/scripts_hpc/site.sh" doctor --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" &
  wait_for 20 started
  pkill -INT -g "$(pgrep -f "site.sh doctor --site $SITE_FILE" | head -n 1)" || true
  status=0
  wait "$!" || status=$?
  [[ $status == 130 && ! -s $BATS_TEST_TMPDIR/out ]]
  wait_for 5 nothing_left
}

@test "a doctor that was killed: its job takes everything along" {
  sed "s/^NODE_SILENCE=.*/NODE_SILENCE=2/" -i "$(mkdir -p "$BATS_TEST_TMPDIR/checkout" && cp -r "$ROOT"/{scripts_hpc,helpers,templates,site-config,requirements,pyproject.toml} "$BATS_TEST_TMPDIR/checkout" && echo "$BATS_TEST_TMPDIR/checkout/scripts_hpc/lib/doctor_node.sh")"
  setsid bash "$BATS_TEST_TMPDIR/checkout/scripts_hpc/site.sh" doctor --site "$SITE_FILE" >/dev/null 2>&1 &
  wait_for 20 started
  kill -KILL -- "-$!" || kill -KILL "$!"
  started
  wait_for 30 nothing_left
}

@test "a scheduler that refuses a probe: the table says so; one that doesn't answer, too" {
  make_site slurm none
  mkdir "$BATS_TEST_TMPDIR/slurm"
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm PATH=$ROOT/tests/fakes/slurm:$PATH
  FAKE_REJECT=1 doctor --json
  expect_status 3
  row failure 'probe cpu' | grep -F 'the scheduler refused the cpu job: Invalid account or account/partition combination specified'
  nothing_left
  FAKE_TAKES=nothing doctor --json
  expect_status 3
  row failure 'job grading_server' | grep -F 'sbatch refuses it: Invalid qos specification'
  row failure 'probe cpu'
  SCHEDULER_SECONDS=1 FAKE_HANGS='sinfo scontrol' doctor --json
  expect_status 3
  row failure scheduler | grep -F "the scheduler doesn't answer: sinfo gave no answer within 1 s"
  nothing_left
}

@test "a probe that waits in the queue for too long is cancelled" {
  make_site slurm none
  mkdir "$BATS_TEST_TMPDIR/slurm"
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm PATH=$ROOT/tests/fakes/slurm:$PATH
  FAKE_STATE=PENDING FAKE_REASON=PartitionTimeLimit doctor --json
  expect_status 3
  row failure 'probe cpu' | grep -F 'asks for more time than its partition, account or QOS allows, and will never start'
  grep -q '^scancel  101$' "$FAKE_SLURM/calls"
  nothing_left
}

@test "run_workflow.sh says in one line that no doctor has passed, and workflow.json tells what it came to" {
  make_site slurm none
  make_task toy
  mkdir "$BATS_TEST_TMPDIR/slurm"
  export FAKE_SLURM=$BATS_TEST_TMPDIR/slurm PATH=$ROOT/tests/fakes/slurm:$PATH
  try "$ROOT/scripts_hpc/run_workflow.sh" toy --agent baseline --detach --site "$SITE_FILE"
  expect_status 0
  [[ $(grep -c 'has never passed its check: `scripts_hpc/site.sh doctor --site here` says' <<<"$error") == 1 ]]
  grep -q '"doctor": null' "$output/workflow.json"
  mkdir "$BATS_TEST_TMPDIR/runs/.doctor"
  (cd "$ROOT" && python3 -c 'import sys; from helpers.config import sites; from helpers.runs import doctor_record
doctor_record.write(sites.load_site(sys.argv[1]), True, {}, False)' "$SITE_FILE")
  try "$ROOT/scripts_hpc/run_workflow.sh" toy --agent baseline --detach --site "$SITE_FILE"
  expect_status 0
  [[ $error != *doctor* ]]
  grep -A2 '"doctor": {' "$output/workflow.json" | grep -q '"passed": true'
}
