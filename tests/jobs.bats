# jobs.sh: the command itself, on the local twin with real processes and on a stand-in for Slurm.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  make_site local none
  RUNS=$BATS_TEST_TMPDIR/runs
  GROUP=$RUNS/2026-01-02T03-04-05-UTC_run-group_aide
  LOCAL_JOBS=$BATS_TEST_TMPDIR/addresses/local_jobs
  SCHEDULER=local
  source "$ROOT/scripts_hpc/lib/common.sh"
  source "$ROOT/scripts_hpc/lib/scheduler.sh"
  mkdir -p "$GROUP/"{logs,jobs}
  cd "$BATS_TEST_TMPDIR"
}

session() { # session PID…: the processes of the sessions that they lead, without zombies
  local file stat fields
  for file in /proc/[0-9]*/stat; do
    { read -r stat <"$file"; } 2>/dev/null || continue
    read -ra fields <<<"${stat##*) }"
    if [[ " $* " == *" ${fields[3]} "* && ${fields[0]} != Z ]]; then printf '%s\n' "${file//[^0-9]/}"; fi
  done
}

teardown() { # whatever still runs: each runner leads a session of its own
  local job pids runners=()
  mapfile -t runners < <(cat "$BATS_TEST_TMPDIR/runners" 2>/dev/null)
  ((${#runners[@]})) || return 0
  mapfile -t pids < <(session "${runners[@]}" && for job in "$LOCAL_JOBS"/[0-9]*; do sched::_local_processes "$job"; done)
  ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
}

jobs() { try "$ROOT/scripts_hpc/jobs.sh" "$@" --site "$SITE_FILE"; }

start() { # start NAME, its text on stdin: a job of the run; sets ID
  local script=$GROUP/jobs/$1.sh
  printf '#SBATCH --job-name=%s\n#SBATCH --output=%s/logs/%%x-%%j.out\n#SBATCH --time=00:01:00\n' "$1" "$GROUP" >"$script"
  cat >>"$script"
  ID=$(sched::submit "$script" 3>&-)
  cut -d' ' -f1 "$LOCAL_JOBS/$ID/pid" >>"$BATS_TEST_TMPDIR/runners"
}

record() { # record KIND GRADING AGENT: workflow.json, and the agent's run
  cat >"$GROUP/workflow.json" <<JSON
{"competition": "toy", "agent": "aide", "model": "30b", "site": "here", "jobs": {"grading_server": "$2", "agents": ["$3"]},
 "config": {"scheduler": {"kind": "$1"}, "paths": {"address_dir": "$BATS_TEST_TMPDIR/addresses"}}}
JSON
  mkdir -p "$GROUP/toy_$3"
  printf '{"state": "running", "job_id": "%s", "agent": "aide", "reason": ""}\n' "$3" >"$GROUP/toy_$3/run_metadata.json"
}

pick() { # pick EXPRESSION: of the JSON `d` that was printed
  python3 -c "import json, sys; d = json.load(sys.stdin); print($1)" <<<"$output"
}

await() { # await ID STATE
  local i
  for ((i = 0; i < 200; i++)); do
    [[ $(sched::states "$1" | cut -d'|' -f2) != "$2" ]] || return 0
    sleep 0.05
  done
  sched::states "$1"
  return 1
}

@test "--help is the header, anywhere on the line, without Python (its time: tests/performance/bench_commands.py)" {
  PATH=/usr/bin:/bin HAB_PYTHON=/nonexistent try "$ROOT/scripts_hpc/jobs.sh" status --help
  expect_status 0
  expect_in 'Usage: scripts_hpc/jobs.sh status|logs|stop|why|attach|grade [RUN]' "$output"
  expect_in 'Exit codes: 0 done' "$output"
  [[ $output != *'set -euo'* && -z $error ]]
}

@test "no verb, or one that is not there" {
  try "$ROOT/scripts_hpc/jobs.sh"
  expect_status 2
  expect_in 'Usage:' "$error"
  [[ -z $output ]]
  try "$ROOT/scripts_hpc/jobs.sh" kill
  expect_status 2
  expect_in "unknown verb 'kill'" "$error"
  jobs status --frobnicate
  expect_status 2
  jobs stop a b
  expect_status 2
}

@test "an unknown run: exit 2, and the newest are named" {
  record local 1 2
  jobs status 77
  expect_status 2
  expect_in "'77' is no run" "$error"
  expect_in "${GROUP##*/}" "$error"
  [[ $error != *Traceback* ]]
}

@test "an unknown site, and one without runs" {
  try "$ROOT/scripts_hpc/jobs.sh" status --site nowhere
  expect_status 2
  expect_in nowhere "$error"
  rm -r "$RUNS"
  jobs status
  expect_status 2
  expect_in "no runs yet in $RUNS" "$error"
}

@test "a folder named helpers where one stands is not taken for ours" {
  mkdir helpers
  printf 'raise SystemExit("not ours")\n' | tee helpers/__init__.py >helpers/jobs.py
  record local 1 2
  jobs logs
  expect_status 0
  expect_in '== agent aide (job 2)' "$output"
}

@test "status, why and stop of real jobs" {
  start grading_server <<<'sleep 300'
  start agent_aide <<<'trap "echo told; exit 143" TERM; echo hello; sleep 301 & wait'
  record local 1 2
  await 2 RUNNING
  jobs status
  expect_status 0
  expect_in "$GROUP" "$output"
  [[ $output =~ grading\ server\ +job\ 1\ +RUNNING ]]
  [[ $output =~ toy_2\ +running ]]
  jobs why 2
  expect_status 0
  expect_in 'agent aide (job 2) is at work' "$output"
  expect_in 'grading server (job 1) is starting' "$output"
  jobs logs agent
  expect_in hello "$output"

  jobs stop
  expect_status 0
  expect_in 'stopped: grading server (job 1), agent aide (job 2)' "$output"
  [[ -z $(sched::_local_processes "$LOCAL_JOBS/1")$(sched::_local_processes "$LOCAL_JOBS/2") ]]
  grep -q '"state": "cancelled"' "$GROUP/toy_2/run_metadata.json"
  jobs stop
  expect_status 0
  expect_in 'nothing to stop' "$output"
}

@test "the runner of a job killed with -9: the run is lost, and why says so" {
  start agent_aide <<<'sleep 300'
  record local '' 1
  await 1 RUNNING
  kill -KILL "$(cut -d' ' -f1 "$LOCAL_JOBS/1/pid")"
  jobs status --json
  expect_status 0
  [[ $(pick 'd["jobs"][0]["state"], d["runs"][0]["state"]') == 'NODE_FAIL lost' ]]
  jobs why
  expect_in 'agent aide (job 1) is lost: job 1 ended without a result' "$output"
}

@test "why repeats what a job said when it died" {
  start agent_aide <<SH
source "$ROOT/scripts_hpc/lib/common.sh"
die 3 "the image x.sif is missing: build it with containers/build_all_containers.sh"
SH
  record local '' 1
  rm -r "$GROUP/toy_1"
  await 1 FAILED
  jobs why 1
  expect_status 0
  [[ $output == "agent aide (job 1) failed; it says 'the image x.sif is missing': build it with containers/build_all_containers.sh." ]]
}

@test "slurm: states and reasons; a scheduler that is down is exit 3 and settles nothing" {
  export FAKE_SLURM=$BATS_TEST_TMPDIR
  PATH=$ROOT/tests/fakes/slurm:$PATH
  printf '101 PENDING\n102 PENDING\n' >"$FAKE_SLURM/jobs"
  record slurm 101 102
  jobs status 102
  expect_status 0
  [[ $output =~ agent\ aide\ +job\ 102\ +PENDING ]]
  jobs why
  expect_in 'grading server (job 101) was just submitted' "$output"
  FAKE_SQUEUE_DOWN=1 jobs status
  expect_status 3
  expect_in "doesn't answer" "$error"
  expect_in 'toy_102  running' "$error"
  FAKE_SQUEUE_DOWN=1 jobs stop
  expect_status 3
  refuse grep -q scancel "$FAKE_SLURM/calls"
  grep -q '"state": "running"' "$GROUP/toy_102/run_metadata.json"

  jobs stop --json
  expect_status 0
  grep -qx 'scancel  101 102' "$FAKE_SLURM/calls"
  [[ $(pick '*(job["id"] for job in d["stopped"]), d["runs"][0]["state"]') == '101 102 cancelled' ]]
}

@test "logs -f shows what real jobs write until they are gone; Ctrl-C ends it with 130, and no job" {
  local out=$BATS_TEST_TMPDIR/out code=0
  start agent_aide <<<'echo first; until [[ -e go ]]; do sleep 0.1; done; echo last'
  record local '' 1
  await 1 RUNNING
  (cd "$BATS_TEST_TMPDIR" && exec setsid "$ROOT/scripts_hpc/jobs.sh" logs -f --site "$SITE_FILE" >"$out" 2>&1 3>&-) &
  wait_for 10 grep -q first "$out"
  # as a terminal does it: to all of the session in the foreground
  kill -INT -- "-$!"
  wait "$!" || code=$?
  ((code == 130)) || { echo "code $code: $(<"$out")" && return 1; }
  refuse grep -q Traceback "$out"
  [[ $(sched::states 1) == *RUNNING* ]]
  (cd "$BATS_TEST_TMPDIR" && exec "$ROOT/scripts_hpc/jobs.sh" logs -f --site "$SITE_FILE" >"$out" 2>&1 3>&-) &
  wait_for 10 grep -q first "$out"
  touch go "$GROUP/go" "$GROUP/jobs/go"
  wait "$!"
  grep -qx last "$out"
}
