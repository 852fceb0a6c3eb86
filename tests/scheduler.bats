# scripts_hpc/lib/scheduler.sh: the local twin with real processes, and what is asked of Slurm.
bats_require_minimum_version 1.5.0

setup() {
  load common.bash
  export LOCAL_JOBS=$BATS_TEST_TMPDIR/jobs
  SCHEDULER=local
  source "$ROOT/scripts_hpc/lib/common.sh"
  source "$ROOT/scripts_hpc/lib/scheduler.sh"
}

session() { # session PID…: the processes of the sessions that they lead, without zombies
  local file stat fields
  for file in /proc/[0-9]*/stat; do
    { read -r stat <"$file"; } 2>/dev/null || continue
    read -ra fields <<<"${stat##*) }"
    if [[ " $* " == *" ${fields[3]} "* && ${fields[0]} != Z ]]; then printf '%s\n' "${file//[^0-9]/}"; fi
  done
}

teardown() { # whatever still runs: each runner leads a session of its own, those of elements too
  local job pids runners=()
  mapfile -t runners < <(cat "$BATS_TEST_TMPDIR/runners" 2>/dev/null)
  ((${#runners[@]})) || return 0
  # before these start the next elements
  mapfile -t pids < <(session "${runners[@]}")
  ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
  mapfile -t -O "${#runners[@]}" runners < <(cat "$LOCAL_JOBS"/*_*/pid 2>/dev/null | cut -d' ' -f1)
  mapfile -t pids < <(session "${runners[@]}" && for job in "$LOCAL_JOBS"/[0-9]*; do sched::_local_processes "$job"; done)
  ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
}

script() { # script NAME [TIME], its text on stdin: writes $BATS_TEST_TMPDIR/NAME.sh
  {
    printf '#!/usr/bin/env bash\n#SBATCH --job-name=%s\n#SBATCH --output=%s/%%x-%%j.out\n#SBATCH --time=%s\n' "$1" "$BATS_TEST_TMPDIR" "${2:-00:01:00}"
    cat
  } >"$BATS_TEST_TMPDIR/$1.sh"
}

submit() { # submit [OPTIONS] NAME ARGS…: sets ID. (A job must not hold the descriptor on which bats waits.)
  local options=()
  while [[ $1 == --* ]]; do options+=("$1" "$2") && shift 2; done
  ID=$(sched::submit "${options[@]}" "$BATS_TEST_TMPDIR/$1.sh" "${@:2}" 3>&-)
  cut -d' ' -f1 "$LOCAL_JOBS/$ID/pid" >>"$BATS_TEST_TMPDIR/runners"
}

state() { sched::states "$1" | cut -d'|' -f2; }

within() { # within SECONDS COMMAND…: until it succeeds
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < until)) || { echo "not within the time: $*" && return 1; }
    sleep 0.05
  done
}
is() { [[ $(state "$1") == "$2" ]]; }
await() { within 15 is "$1" "$2" || { echo "job $1 is $(state "$1"), not $2" && return 1; }; }
gone() { ! common::birth "$1" >/dev/null; } # a zombie is gone

hold() { # a job 1 that stays PENDING as long as this test lives, until release
  local pid=$BASHPID
  mkdir -p "$LOCAL_JOBS/1"
  printf '%s %s\n' "$pid" "$(common::birth "$pid")" >"$LOCAL_JOBS/1/pid"
  echo PENDING >"$LOCAL_JOBS/1/state"
}
release() { echo RUNNING >"$LOCAL_JOBS/1/state"; }

@test "a job gets its arguments, a log of its name, and its number" {
  script greet <<<'printf "%s|" "$HAB_LOCAL_JOB_ID" "$@"; echo oops >&2'
  submit greet 'two words' '' 3
  [[ $ID == 1 ]]
  await 1 COMPLETED
  [[ $(<"$BATS_TEST_TMPDIR/greet-1.out") == '1|two words||3|oops' ]]
}

@test "a job that fails is FAILED" {
  script fail <<<'exit 4'
  submit fail
  await "$ID" FAILED
  [[ $(<"$LOCAL_JOBS/$ID/exit_code") == 4 ]]
}

@test "a script that is not there is FAILED, and no submission hangs" {
  submit missing
  await "$ID" FAILED
}

@test "a job does not see the Slurm job that it was started in" {
  script show <<<'env | grep -c ^SLURM_ || true'
  SLURM_JOB_ID=5 SLURM_CPUS_ON_NODE=4 submit show
  await "$ID" COMPLETED
  [[ $(<"$BATS_TEST_TMPDIR/show-$ID.out") == 0 ]]
}

@test "ten jobs at once get ten numbers" {
  script nothing <<<true
  local pids=()
  for _ in {1..10}; do
    (submit nothing && echo "$ID" >>"$BATS_TEST_TMPDIR/ids") &
    pids+=("$!")
  done
  wait "${pids[@]}" # not for all: bats counts down its time limit in the background
  [[ $(sort -n "$BATS_TEST_TMPDIR/ids" | uniq | wc -l) == 10 ]]
  for id in $(<"$BATS_TEST_TMPDIR/ids"); do await "$id" COMPLETED; done
}

@test "states are a line a job in the order asked, GONE for an unknown one" {
  script nothing <<<true
  submit nothing
  await 1 COMPLETED
  try sched::states 77 1 78
  expect_status 0
  [[ $(cut -d'|' -f1,2 <<<"$output") == $'77|GONE\n1|COMPLETED\n78|GONE' ]]
  [[ $(grep -c '^[0-9]*|[A-Z_]*|[^|]*|[^|]*|[^|]*$' <<<"$output") == 3 ]]
}

@test "a job waits until those before it have started, not until they end" {
  script long <<<'sleep 30'
  script short <<<true
  hold
  submit long
  await 2 RUNNING
  submit --after 1:2 short
  sleep 0.5
  [[ $(sched::states 3 | cut -d'|' -f2,3) == 'PENDING|Dependency' ]]
  [[ ! -e $BATS_TEST_TMPDIR/short-3.out ]]
  release
  await 3 COMPLETED
  is 2 RUNNING
}

@test "a job waits until those before it have ended, however they did" {
  script long <<<'sleep 30'
  script fail <<<'exit 4'
  script short <<<true
  submit long
  submit fail
  submit --after-end 1:2 short
  await 1 RUNNING
  await 2 FAILED
  is 3 PENDING
  sched::cancel 1
  await 3 COMPLETED
}

@test "nobody waits for a job that died or never was" {
  script short <<<true
  mkdir -p "$LOCAL_JOBS/1"
  echo PENDING >"$LOCAL_JOBS/1/state"
  echo "4194305 1" >"$LOCAL_JOBS/1/pid"
  submit --after 1:99 short
  await 2 COMPLETED
}

@test "cancel: the script is told, and everything that it started ends, daemons too" {
  script family <<'SH'
trap 'echo told; exit 143' TERM
setsid sleep 300 & echo $! >>pids
(setsid nohup bash -c 'sleep 301 & echo $! >>pids; wait' >/dev/null 2>&1 &)
sleep 302 & echo $! >>pids
touch ready
wait
SH
  cd "$BATS_TEST_TMPDIR"
  submit family
  within 10 test -e ready
  within 10 grep -qc . pids
  sched::cancel "$ID"
  await "$ID" CANCELLED
  grep -q told "family-$ID.out"
  for pid in $(<pids); do gone "$pid"; done
  [[ -z $(sched::_local_processes "$LOCAL_JOBS/$ID") ]]
}

@test "cancel of a job that waits, and again of one that has ended" {
  script never <<<true
  hold
  submit --after 1 never
  is 2 PENDING
  sched::cancel 2
  await 2 CANCELLED
  [[ ! -e $BATS_TEST_TMPDIR/never-2.out ]]
  try sched::cancel 2 99
  expect_status 0
  is 2 CANCELLED
}

@test "a job cancelled the moment it was submitted is CANCELLED, never a failed node" {
  script long <<<'sleep 300'
  for _ in {1..5}; do
    submit long
    sched::cancel "$ID"
    await "$ID" CANCELLED
  done
}

@test "the time limit: the script is told first, then the job is TIMEOUT and nothing is left" {
  script slow 00:00:01 <<'SH'
trap 'echo told; exit 0' TERM
setsid sleep 300 & echo $! >pid
wait
SH
  cd "$BATS_TEST_TMPDIR"
  submit slow
  await "$ID" TIMEOUT
  grep -q told "slow-$ID.out"
  gone "$(<pid)"
}

@test "a daemon does not outlive the script that left it" {
  script leaver <<<'setsid sleep 300 & echo $! >"$PWD/pid"'
  cd "$BATS_TEST_TMPDIR"
  submit leaver
  await "$ID" COMPLETED
  gone "$(<pid)"
}

@test "USR1 reaches the script and ends nothing by itself" {
  script server <<'SH'
trap 'echo usr1; done=1' USR1
sleep 300 &
touch ready
until [[ ${done:-} ]]; do sleep 0.05; done
kill $!
SH
  cd "$BATS_TEST_TMPDIR"
  submit server
  within 10 test -e ready
  sched::signal USR1 "$ID"
  await "$ID" COMPLETED
  [[ $(<"server-$ID.out") == usr1 ]]
  try sched::signal USR1 "$ID"
  expect_status 0
  try sched::signal USR1 99
  expect_status 0
}

@test "kill -9 of a job's runner is a failed node" {
  script long <<<'sleep 300'
  submit long
  await "$ID" RUNNING
  kill -KILL "$(cut -d' ' -f1 "$LOCAL_JOBS/$ID/pid")"
  await "$ID" NODE_FAIL
  try sched::alive_in "$ID"
  expect_status 0
  [[ -z $output ]]
}

@test "a process number that was given out again is not the runner" {
  mkdir -p "$LOCAL_JOBS/1"
  echo RUNNING >"$LOCAL_JOBS/1/state"
  echo "$BASHPID 12345" >"$LOCAL_JOBS/1/pid"
  is 1 NODE_FAIL
  rm "$LOCAL_JOBS/1/pid"
  is 1 NODE_FAIL
}

@test "alive_in names those that live" {
  script long <<<'sleep 300'
  script short <<<true
  submit long
  submit short
  await 2 COMPLETED
  try sched::alive_in 1 2 99
  [[ $output == 1 ]]
}

@test "two people's local jobs don't meet: the folder is for its owner alone" {
  script short <<<true
  submit short
  [[ $(stat -c %a "$LOCAL_JOBS") == 700 ]]
}

@test "elapsed is the time of the job, and stands still when it has ended" {
  script short <<<true
  submit short
  await 1 COMPLETED
  sleep 2.2
  elapsed=$(sched::states 1 | cut -d'|' -f4)
  ((elapsed <= 1)) || { echo "elapsed $elapsed" && return 1; }
}

@test "a job that began a second after the shell's clock has run for no time" {
  script short <<<true
  submit short
  await 1 COMPLETED
  rm "$LOCAL_JOBS/1/ended"
  echo $(($(date +%s) + 2)) >"$LOCAL_JOBS/1/started"
  [[ $(sched::states 1 | cut -d'|' -f4) == 0 && $(sched::accounting 1 | cut -d'|' -f3) == 0 ]]
}

@test "no process of the runner is left after a job was cancelled" {
  script long <<<'sleep 300'
  submit long
  await "$ID" RUNNING
  runner=$(cut -d' ' -f1 "$LOCAL_JOBS/$ID/pid")
  sched::cancel "$ID"
  await "$ID" CANCELLED
  within 5 gone "$runner"
  for left in $(session "$runner"); do
    tr '\0' ' ' <"/proc/$left/cmdline"
    return 1
  done
}

@test "a process whose number once was a job's is neither cancelled nor signalled" {
  sleep 300 3>&- &
  mkdir -p "$LOCAL_JOBS/7"
  printf '%s 1\n' "$!" >"$LOCAL_JOBS/7/pid"
  printf '%s\n' "$!" >"$LOCAL_JOBS/7/child"
  echo RUNNING >"$LOCAL_JOBS/7/state"
  sched::cancel 7
  sched::signal TERM 7
  sleep 0.2 # a signal that was sent would have arrived
  kill "$!"
}

@test "the end of job 1 is not that of job 11" {
  script long <<<'sleep 300'
  submit long
  echo 10 >"$LOCAL_JOBS/last"
  submit long
  [[ $ID == 11 ]]
  await 1 RUNNING
  await 11 RUNNING
  sched::cancel 1
  await 1 CANCELLED
  mapfile -t pids < <(sched::_local_processes "$LOCAL_JOBS/11")
  ((${#pids[@]} > 0)) && is 11 RUNNING
}

@test "as a command: states, cancel, and an unknown verb" {
  script long <<<'sleep 300'
  submit long
  await 1 RUNNING
  command=("$ROOT/scripts_hpc/lib/scheduler.sh" local)
  try bash "${command[@]}" states 1 2
  expect_status 0
  expect_in '1|RUNNING|' "$output"
  expect_in '2|GONE|' "$output"
  try bash "${command[@]}" cancel 1
  expect_status 0
  await 1 CANCELLED
  try bash "${command[@]}" destroy 1
  expect_status 2
  expect_in 'unknown verb destroy' "$error"
}

@test "a time limit is read with its days" {
  [[ $(sched::_seconds 1-02:03:04) == 93784 && $(sched::_seconds 08:09:10) == 29350 ]]
}

# ---- the local twin's arrays

elements() { sched::states "$@" | cut -d'|' -f1-3 | paste -sd' '; } # elements ID…: their states and reasons, in one line
all_ended() { local ids; ids=$(sched::alive_in "$@") && [[ -z $ids ]]; }
runner() { cut -d' ' -f1 "$LOCAL_JOBS/$1/pid"; }
waiting_script() { # waiting_script NAME [TIME]: one whose elements each go on until the test writes NAME.go or NAME.go.ELEMENT
  script "$@" <<SH
echo "\$HAB_LOCAL_ELEMENT" >>$BATS_TEST_TMPDIR/$1.started
until [[ -e $BATS_TEST_TMPDIR/$1.go || -e $BATS_TEST_TMPDIR/$1.go.\$HAB_LOCAL_ELEMENT ]]; do sleep 0.05; done
SH
}
go() { : >"$BATS_TEST_TMPDIR/$1"; }

@test "an array: each element is a job with its number, its arguments, its log and its folder" {
  script greet <<<'printf "%s|" "$HAB_LOCAL_JOB_ID" "$HAB_LOCAL_ELEMENT" "$HAB_LOCAL_JOB" "${SLURM_ARRAY_TASK_ID-unset}" "$@"'
  sed -i 's/%x-%j/%x-%A-%a-%j-%%a/' "$BATS_TEST_TMPDIR/greet.sh"
  SLURM_ARRAY_TASK_ID=7 submit --array 3 greet 'two words' ''
  [[ $ID == 1 ]]
  local i
  for i in 0 1 2; do
    await "1_$i" COMPLETED
    [[ $(<"$BATS_TEST_TMPDIR/greet-1-$i-1_$i-%a.out") == "1_$i|$i|$LOCAL_JOBS/1_$i|unset|two words||" ]]
    [[ $(<"$LOCAL_JOBS/1_$i/exit_code") == 0 && $(<"$LOCAL_JOBS/1_$i/limit") == 60 && -s $LOCAL_JOBS/1_$i/started && -s $LOCAL_JOBS/1_$i/ended ]]
  done
  within 5 gone "$(runner 1)"
  [[ $(elements 1 1_3 1_00 1_x 1_) == '1|COMPLETED| 1_3|GONE| 1_00|GONE| 1_x|GONE| 1_|GONE|' ]]
  # an array of one is an array too; the next job is none
  submit --array 1 greet
  await 2_0 COMPLETED
  submit greet
  await 3 COMPLETED
  [[ $(<"$BATS_TEST_TMPDIR/greet-3-%a-3-%a.out") == "3||$LOCAL_JOBS/3|unset|" && $(elements 3_0) == '3_0|GONE|' ]]
}

@test "an array without elements is refused" {
  script short <<<true
  try sched::submit --array 0 "$BATS_TEST_TMPDIR/short.sh"
  expect_status 1
  expect_in 'an array has at least one element, and runs at least one at a time, not 0 and 1' "$error"
  try sched::submit --array 3 --at-once 0 "$BATS_TEST_TMPDIR/short.sh"
  expect_status 1
  [[ ! -e $LOCAL_JOBS ]]
}

@test "of an array no more elements run at a time than asked, by default one a processor, and all get their turn" {
  mkdir "$BATS_TEST_TMPDIR/running"
  script counted <<SH
cd $BATS_TEST_TMPDIR
touch running/\$HAB_LOCAL_ELEMENT
ls running | wc -l >>counts
until ((\$(wc -l <counts) >= 3)); do sleep 0.05; done # so three are there at once
sleep 0.2
rm running/\$HAB_LOCAL_ELEMENT
SH
  submit --array 10 --at-once 3 counted
  within 60 all_ended 1
  [[ $(sched::states 1_{0..9} | grep -c COMPLETED) == 10 && $(wc -l <"$BATS_TEST_TMPDIR/counts") == 10 ]]
  [[ $(sort -n "$BATS_TEST_TMPDIR/counts" | tail -n 1) == 3 ]]
  waiting_script long
  nproc() { echo 2; }
  submit --array 5 long
  await 2_0 RUNNING
  await 2_1 RUNNING
  sleep 0.5
  [[ $(elements 2_{0..4}) == '2_0|RUNNING| 2_1|RUNNING| 2_2|PENDING|JobArrayTaskLimit 2_3|PENDING|JobArrayTaskLimit 2_4|PENDING|JobArrayTaskLimit' ]]
  go long.go.1
  await 2_1 COMPLETED
  await 2_2 RUNNING
  is 2_0 RUNNING && is 2_3 PENDING
  go long.go
  within 15 all_ended 2
}

@test "an array waits for others as a job does, and says for what; others wait for all of it, or for one element" {
  waiting_script first
  waiting_script second
  script short <<<true
  hold
  submit --after 1 --array 3 --at-once 2 first # 2
  submit --after-end 2 --array 2 second        # 3: array after array
  submit --after 2 short                       # 4: when all of its elements have started
  submit --after-end 2_1 short                 # 5
  submit --after 2_2 short                     # 6
  sleep 0.3
  [[ $(elements 2_0 2_2 2 3_1 4 5 6) == '2_0|PENDING|Dependency 2_2|PENDING|Dependency 2|PENDING|Dependency 3_1|PENDING|Dependency 4|PENDING|Dependency 5|PENDING|Dependency 6|PENDING|Dependency' ]]
  [[ ! -e $BATS_TEST_TMPDIR/first.started ]]
  release
  await 2_1 RUNNING
  sleep 0.3
  [[ $(elements 2_2 3_0 4 5 6) == '2_2|PENDING|JobArrayTaskLimit 3_0|PENDING|Dependency 4|PENDING|Dependency 5|PENDING|Dependency 6|PENDING|Dependency' ]]
  go first.go.0
  await 4 COMPLETED
  await 6 COMPLETED
  is 2_2 RUNNING && is 5 PENDING
  go first.go.1
  await 5 COMPLETED
  is 2 RUNNING && is 3_0 PENDING
  go first.go
  await 3_1 RUNNING
  is 2 COMPLETED && go second.go
  await 3_1 COMPLETED
}

@test "the time limit of an array is each element's, and a failed one stops no other" {
  script slow 00:00:01 <<<'case $HAB_LOCAL_ELEMENT in 0) sleep 300 ;; 1) exit 4 ;; esac'
  submit --array 3 --at-once 1 slow
  await 1_2 COMPLETED
  [[ $(elements 1_{0..2} 1) == '1_0|TIMEOUT| 1_1|FAILED| 1_2|COMPLETED| 1|TIMEOUT|' && $(<"$LOCAL_JOBS/1_1/exit_code") == 4 ]]
}

@test "cancel of one element: one that waits never starts, of one that runs all ends, and the others go on" {
  waiting_script long
  submit --array 13 --at-once 2 long
  await 1_1 RUNNING
  sched::cancel 1_3 1_1
  [[ $(elements 1_3) == '1_3|CANCELLED|' ]]
  await 1_1 CANCELLED
  [[ -z $(sched::_local_processes "$LOCAL_JOBS/1_1") && -n $(sched::_local_processes "$LOCAL_JOBS/1_0") ]]
  await 1_2 RUNNING
  go long.go
  await 1_12 COMPLETED
  within 15 all_ended 1
  [[ $(sched::states 1_{0..12} | grep -c COMPLETED) == 11 && $(elements 1_1 1_3) == '1_1|CANCELLED| 1_3|CANCELLED|' ]]
  [[ $(sort -n "$BATS_TEST_TMPDIR/long.started" | paste -sd' ') == '0 1 2 4 5 6 7 8 9 10 11 12' ]]
  # of what has ended, nothing changes
  sched::cancel 1_0 1_3 1_99 1
  [[ $(elements 1_0 1_99) == '1_0|COMPLETED| 1_99|GONE|' ]]
}

@test "cancel of an array: what waits never starts, what runs ends, and no process is left" {
  waiting_script long
  submit --array 50 --at-once 3 long
  local array other
  array=$(runner 1)
  for other in 0 1 2; do await "1_$other" RUNNING; done
  mapfile -t elements < <(for other in 0 1 2; do runner "1_$other"; done)
  sched::cancel 1
  within 15 all_ended 1
  [[ $(sched::states 1_{0..49} | grep -c CANCELLED) == 50 && $(wc -l <"$BATS_TEST_TMPDIR/long.started") == 3 ]]
  for other in "$array" "${elements[@]}"; do within 5 gone "$other"; done
  [[ -z $(session "$array" "${elements[@]}") && -z $(local_processes) ]]
}

@test "cancel of an array that waits for something, also by the signal that ends any job's runner" {
  waiting_script long
  hold
  submit --after 1 --array 3 long
  submit --after 1 --array 3 long
  sched::cancel 2
  kill "$(runner 3)"
  await 3_2 CANCELLED
  for other in 2 3; do within 5 gone "$(runner "$other")"; done
  release
  [[ $(elements 2 2_0 3 3_0) == '2|CANCELLED| 2_0|CANCELLED| 3|CANCELLED| 3_0|CANCELLED|' && ! -e $LOCAL_JOBS/2_0 && ! -e $BATS_TEST_TMPDIR/long.started ]]
}

@test "an array cancelled the moment it was submitted is CANCELLED, whatever it had begun, and begins nothing more" {
  waiting_script long
  local started _
  for _ in {1..5}; do
    submit --array 20 --at-once 4 long
    sched::cancel "$ID"
    within 15 all_ended "$ID"
    within 5 gone "$(runner "$ID")"
    started=$(cat "$BATS_TEST_TMPDIR/long.started" 2>/dev/null | wc -l)
    sleep 0.3
    [[ $(seq -f "${ID}_%g" 0 19 | xargs bash "$ROOT/scripts_hpc/lib/scheduler.sh" local states | grep -c CANCELLED) == 20 ]]
    [[ $(cat "$BATS_TEST_TMPDIR/long.started" 2>/dev/null | wc -l) == "$started" && -z $(local_processes) ]]
  done
}

@test "elements that are cancelled while they are about to start have run or were cancelled, never both or neither" {
  script quick <<SH
echo "\$HAB_LOCAL_ELEMENT" >>$BATS_TEST_TMPDIR/quick.started
SH
  submit --array 40 --at-once 4 quick
  # a runner that is about to begin is told to end at any of its steps
  for element in 1_{3..39..3}; do bash "$ROOT/scripts_hpc/lib/scheduler.sh" local cancel "$element"; done
  within 60 all_ended 1
  within 5 gone "$(runner 1)"
  local index state
  for index in {0..39}; do
    state=$(state "1_$index")
    [[ $state == COMPLETED || ($state == CANCELLED && $((index % 3)) == 0) ]] || { echo "1_$index is $state" && return 1; }
    [[ $state == CANCELLED ]] || grep -qx "$index" "$BATS_TEST_TMPDIR/quick.started"
    [[ -e $LOCAL_JOBS/1_$index/started ]] || refuse grep -qx "$index" "$BATS_TEST_TMPDIR/quick.started"
  done
  [[ -z $(sort "$BATS_TEST_TMPDIR/quick.started" | uniq -d) ]]
}

@test "an element that has just become a job sees that it was cancelled meanwhile" {
  script short <<SH
touch $BATS_TEST_TMPDIR/ran
SH
  submit --array 1 short
  await 1_0 COMPLETED
  # as it is between the two looks of its runner: the array lives, and the mark came after the first
  rm -r "$LOCAL_JOBS/1_0" "$BATS_TEST_TMPDIR/ran"
  echo RUNNING >"$LOCAL_JOBS/1/state"
  local pid=$BASHPID
  printf '%s %s\n' "$pid" "$(common::birth "$pid")" >"$LOCAL_JOBS/1/pid"
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\n/bin/mkdir "$@" && touch "%s/1/cancelled_0"\n' "$LOCAL_JOBS" >"$BATS_TEST_TMPDIR/bin/mkdir"
  chmod +x "$BATS_TEST_TMPDIR/bin/mkdir"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH bash "$ROOT/scripts_hpc/lib/scheduler.sh" local run 1_0 "$BATS_TEST_TMPDIR/short.sh" 3>&-
  [[ $(<"$LOCAL_JOBS/1_0/state") == CANCELLED && ! -e $BATS_TEST_TMPDIR/ran ]]
}

@test "kill -9 of an array's runner: what waits is a failed node, what runs goes on, and nobody waits for ever" {
  waiting_script long
  script short <<<true
  submit --array 4 --at-once 2 long
  submit --after-end 1 short
  submit --after 1 short
  await 1_1 RUNNING
  is 3 PENDING
  kill -KILL "$(runner 1)"
  await 1_3 NODE_FAIL
  [[ $(elements 1_{0..3} 1) == '1_0|RUNNING| 1_1|RUNNING| 1_2|NODE_FAIL| 1_3|NODE_FAIL| 1|RUNNING|' ]]
  await 3 COMPLETED
  is 2 PENDING
  sched::cancel 1_1 1_2
  await 1_1 CANCELLED
  go long.go
  await 1_0 COMPLETED
  await 2 COMPLETED
  [[ $(elements 1_2 1_3) == '1_2|NODE_FAIL| 1_3|NODE_FAIL|' ]]
}

@test "cancel of an array whose runner was killed ends what runs of it" {
  waiting_script long
  submit --array 4 --at-once 2 long
  await 1_0 RUNNING
  await 1_1 RUNNING
  kill -KILL "$(runner 1)"
  within 5 gone "$(runner 1)"
  sched::cancel 1
  within 15 all_ended 1
  [[ $(elements 1_{0..3}) == '1_0|CANCELLED| 1_1|CANCELLED| 1_2|NODE_FAIL| 1_3|NODE_FAIL|' && -z $(local_processes) ]]
}

@test "kill -9 of an element's runner, or one that can't begin: a failed node, and the next has its turn" {
  waiting_script long
  mkdir -p "$LOCAL_JOBS/1_1"
  submit --array 3 --at-once 1 long
  await 1_0 RUNNING
  is 1_1 PENDING
  kill -KILL "$(runner 1_0)"
  await 1_2 RUNNING
  [[ $(elements 1_0 1_1) == '1_0|NODE_FAIL| 1_1|NODE_FAIL|' ]]
  go long.go
  await 1_2 COMPLETED
}

@test "the time that is left, a signal to the script, and the accounting, of elements and of all of an array" {
  script server <<'SH'
trap 'echo usr1; done=1' USR1
touch "ready.$HAB_LOCAL_ELEMENT"
until [[ ${done:-} ]]; do sleep 0.05; done
SH
  cd "$BATS_TEST_TMPDIR"
  submit --array 4 --at-once 3 server
  local element
  for element in 0 1 2; do within 10 test -e "ready.$element"; done
  (($(sched::left 1_1) > 40 && $(sched::left 1_1) <= 60))
  [[ -z $(sched::left 1_3)$(sched::left 1_7)$(sched::left 1) ]]
  [[ $(sched::accounting 1_2 1_3) =~ ^1_2\|[0-9]+\|[0-9]+\|\|$ ]]
  [[ $(sched::accounting 1 | cut -d'|' -f1) == $'1_0\n1_1\n1_2' ]]
  sched::signal USR1 1_1
  await 1_1 COMPLETED
  [[ $(<server-1_1.out) == usr1 ]]
  is 1_0 RUNNING
  within 10 test -e ready.3
  sched::signal USR1 1
  within 15 all_ended 1
  [[ $(sched::states 1_{0..3} | grep -c COMPLETED) == 4 && $(sched::accounting 1 99 | wc -l) == 4 ]]
}

@test "a thousand elements are submitted at once, are one process, and are asked for without any" {
  waiting_script long
  local command=("$ROOT/scripts_hpc/lib/scheduler.sh" local states)
  SECONDS=0
  submit --array 1000 --at-once 2 long
  ((SECONDS <= 2))
  await 1_1 RUNNING
  # (as a command: bats looks at each step of a shell of its own)
  SECONDS=0
  PATH=/nowhere "$BASH" "${command[@]}" 1_{0..999} 1 >"$BATS_TEST_TMPDIR/states"
  ((SECONDS <= 2))
  [[ $(cut -d'|' -f2,3 "$BATS_TEST_TMPDIR/states" | sort | uniq -c | tr -s ' ') == $' 998 PENDING|JobArrayTaskLimit\n 3 RUNNING|' ]]
  # the runner and its timer
  (($(session "$(runner 1)" | wc -l) <= 2))
  SECONDS=0
  PATH=/nowhere "$BASH" "${command[@]/states/cancel}" 1_{2..301}
  PATH=/nowhere "$BASH" "${command[@]}" 1_{2..301} >"$BATS_TEST_TMPDIR/states"
  ((SECONDS <= 3))
  [[ $(grep -c '|CANCELLED||' "$BATS_TEST_TMPDIR/states") == 300 ]]
  "$BASH" "${command[@]/states/cancel}" 1
  within 15 is 1 CANCELLED
  [[ $(wc -l <"$BATS_TEST_TMPDIR/long.started") == 2 ]]
}

@test "Ctrl-C while a job or an array is submitted: its number is told, and it goes on" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  # once: the runner is to find the real one
  printf '#!/usr/bin/env bash\nkill -INT -- "-$GROUP"\nPATH=${PATH#*:}\nexec setsid "$@"\n' >"$BATS_TEST_TMPDIR/bin/setsid"
  chmod +x "$BATS_TEST_TMPDIR/bin/setsid"
  waiting_script long
  local array
  for array in '' '--array 2 --at-once 1'; do
    SCHEDULER=local try "$(command -v setsid)" --wait env --default-signal=INT bash -c "
      trap 'echo pressed' INT
      export GROUP=\$\$ PATH=$BATS_TEST_TMPDIR/bin:\$PATH
      source '$ROOT/scripts_hpc/lib/common.sh' && source '$ROOT/scripts_hpc/lib/scheduler.sh'
      job=\$(sched::submit $array '$BATS_TEST_TMPDIR/long.sh' 3>&-) && echo \"job \$job\""
    runner "${output##* }" >>"$BATS_TEST_TMPDIR/runners"
    [[ $output == $'pressed\njob '* ]]
  done
  await 1 RUNNING
  await 2_0 RUNNING
  kill -INT "$(runner 1)" "$(runner 2)" "$(runner 2_0)"
  sleep 0.3
  go long.go
  await 1 COMPLETED
  await 2_1 COMPLETED
}

@test "a job that a job submits outlives it, and is no element of its array" {
  script child <<<'sleep 1; echo "${HAB_LOCAL_ELEMENT-none}"'
  script parent <<SH
SCHEDULER=local LOCAL_JOBS=$LOCAL_JOBS
source '$ROOT/scripts_hpc/lib/common.sh' && source '$ROOT/scripts_hpc/lib/scheduler.sh'
sched::submit '$BATS_TEST_TMPDIR/child.sh'
SH
  submit --array 1 parent
  await 1_0 COMPLETED
  [[ $(<"$BATS_TEST_TMPDIR/parent-1_0.out") == 2 ]]
  runner 2 >>"$BATS_TEST_TMPDIR/runners"
  await 2 COMPLETED
  [[ $(<"$BATS_TEST_TMPDIR/child-2.out") == none ]]
}

@test "a strict shell asks for and ends elements of all kinds" {
  waiting_script long
  submit --array 3 --at-once 1 long
  await 1_0 RUNNING
  try bash -euo pipefail -c 'SCHEDULER=local && source "$1/common.sh" && source "$1/scheduler.sh"
    sched::states 1 1_0 1_2 1_3 2 2_0 | cut -d"|" -f1,2
    sched::alive_in 1 1_2 1_3
    sched::left 1_2 && sched::left 2 && sched::signal USR2 1_2 && sched::accounting 1_1 2
    sched::cancel 1_2 1_7 2_0 2 1_0 && sched::cancel 1 && sched::states 1_2 | cut -d"|" -f2' - "$ROOT/scripts_hpc/lib"
  expect_status 0
  [[ $output == $'1|RUNNING\n1_0|RUNNING\n1_2|PENDING\n1_3|GONE\n2|GONE\n2_0|GONE\n1\n1_2\nCANCELLED' && -z $error ]]
  within 15 all_ended 1
}

# ---- Slurm

@test "slurm: dependencies by after, never afterok, and the number without the cluster's name" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nprintf "%%s " "$@" >>"%s/calls"\necho "41;big"\n' "$BATS_TEST_TMPDIR" >"$BATS_TEST_TMPDIR/bin/sbatch"
  chmod +x "$BATS_TEST_TMPDIR/bin/sbatch"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH SCHEDULER=slurm
  [[ $(sched::submit --after 7:8 job.sh a 'b c') == 41 ]]
  [[ $(<"$BATS_TEST_TMPDIR/calls") == '--parsable --dependency=after:7:8 --kill-on-invalid-dep=yes job.sh a b c ' ]]
  [[ $(sched::submit --after 7 --after-end 8:9 --array 50 --at-once 4 job.sh) == 41 ]]
  expect_in '--parsable --dependency=after:7,afterany:8:9 --kill-on-invalid-dep=yes --array=0-49%4 job.sh ' "$(<"$BATS_TEST_TMPDIR/calls")"
}

@test "slurm: a scheduler that is down is exit code 3, and no job is taken for dead" {
  export FAKE_SLURM=$BATS_TEST_TMPDIR FAKE_SQUEUE_DOWN=1
  PATH=$ROOT/tests/fakes/slurm:$PATH SCHEDULER=slurm
  try sched::states 7
  expect_status 3
  [[ -z $output ]]
  try sched::alive_in 7
  expect_status 3
  [[ -z $output ]]
}

@test "slurm: why it is down is said" {
  export FAKE_SLURM=$BATS_TEST_TMPDIR FAKE_SQUEUE_DOWN=1
  PATH=$ROOT/tests/fakes/slurm:$PATH
  try bash "$ROOT/scripts_hpc/lib/scheduler.sh" slurm states 7
  expect_status 3
  expect_in 'Unable to contact slurm controller' "$error"
}

@test "slurm: a job that is taken while Ctrl-C is pressed is known" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/usr/bin/env bash\nkill -INT -- "-$GROUP"\necho 41\n' >"$BATS_TEST_TMPDIR/bin/sbatch"
  chmod +x "$BATS_TEST_TMPDIR/bin/sbatch"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH SCHEDULER=slurm try setsid --wait env --default-signal=INT bash -c "
    trap 'echo pressed' INT
    export GROUP=\$\$
    source '$ROOT/scripts_hpc/lib/common.sh' && source '$ROOT/scripts_hpc/lib/scheduler.sh'
    job=\$(sched::submit job.sh) && echo \"job \$job\""
  [[ $output == $'pressed\njob 41' ]]
}

@test "slurm: an accounting that doesn't answer is not waited for" {
  SCHEDULER=slurm
  timeout() { printf '%s ' "$@" >"$BATS_TEST_TMPDIR/calls" && return 124; }
  try sched::accounting 7
  expect_status 3
  expect_in ' 20 env SLURM_TIME_FORMAT=%s sacct ' "$(<"$BATS_TEST_TMPDIR/calls")"
}

@test "slurm: one answer without a living job is doubted, two are believed" {
  SCHEDULER=slurm SCHEDULER_DOUBT=0
  sched::alive_in() {
    printf 'asked %s\n' "$*" >>"$BATS_TEST_TMPDIR/asked"
    (($(grep -c asked "$BATS_TEST_TMPDIR/asked") == 1)) || printf '%s\n' ${LATER-}
    printf '9\n'
  }
  LATER=7 try sched::gone_of 7 9
  [[ -z $output && $(<"$BATS_TEST_TMPDIR/asked") == $'asked 7 9\nasked 7' ]]
  rm "$BATS_TEST_TMPDIR/asked"
  try sched::gone_of 7 9
  [[ $output == 7 ]]
  sched::alive_in() { return 3; }
  try sched::gone_of 7
  expect_status 3
  [[ -z $output ]]
}

@test "slurm: an array's own number lives as long as one of its elements" {
  export FAKE_SLURM=$BATS_TEST_TMPDIR
  PATH=$ROOT/tests/fakes/slurm:$PATH SCHEDULER=slurm
  printf '7_0 COMPLETED\n7_1 RUNNING\n7_2 CANCELLED\n' >"$FAKE_SLURM/jobs"
  sched::slurm_lines() { sched::states "$@" | cut -d'|' -f1,2; }
  [[ $(sched::slurm_lines 7 7_2) == $'7|RUNNING\n7_2|CANCELLED' ]]
  sed -i 's/RUNNING/FAILED/' "$FAKE_SLURM/jobs"
  [[ $(sched::slurm_lines 7 7_1) == $'7|COMPLETED\n7_1|FAILED' ]]
}

# ---- answers are shared

shared() { # a fake Slurm with 100 running jobs, 101 to 200, and a folder of addresses
  export FAKE_SLURM=$BATS_TEST_TMPDIR
  PATH=$ROOT/tests/fakes/slurm:$PATH SCHEDULER=slurm ADDRESS_DIR=$BATS_TEST_TMPDIR/addresses
  mkdir -p "$ADDRESS_DIR"
  printf '%s RUNNING\n' {101..200} >"$FAKE_SLURM/jobs"
}
accounting() { # that knows job 7
  mkdir "$BATS_TEST_TMPDIR/bin"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  cat >"$BATS_TEST_TMPDIR/bin/sacct" <<'SH'
#!/usr/bin/env bash
echo "sacct $4" >>"$FAKE_SLURM/calls"
[[ $4 != --jobs=7 ]] || echo '7|PREEMPTED|00:00:02|n1'
SH
  chmod +x "$BATS_TEST_TMPDIR/bin/sacct"
}
asked() { grep -c "^$1" "$FAKE_SLURM/calls"; }
answers_age() { sed -i -E "s/^[0-9]+[|]/$((($(date +%s) - $2) * 1000))|/" "$ADDRESS_DIR/.$1"; } # answers_age squeue|sacct SECONDS

@test "slurm: a hundred jobs, each with a server of its own, ask a few times, then not at all while the answer is fresh" {
  shared
  local id jobs=()
  for id in {101..200}; do
    sched::alive_in "$id" >"$BATS_TEST_TMPDIR/alive.$id" &
    jobs+=($!)
  done
  wait "${jobs[@]}" # not for what bats has in the background
  for id in {101..200}; do [[ $(<"$BATS_TEST_TMPDIR/alive.$id") == "$id" ]]; done
  (($(asked squeue) <= 4)) || { cat "$FAKE_SLURM/calls" && return 1; }
  [[ $(stat -c %a "$ADDRESS_DIR/.squeue") == 600 ]]
  rm "$FAKE_SLURM/calls" && touch "$FAKE_SLURM/calls"
  for id in {101..120}; do [[ $(sched::alive_in "$id") == "$id" ]]; done
  (($(asked squeue) == 0))
  # one asks for all
  answers_age squeue 10
  for id in {101..120}; do [[ $(sched::alive_in "$id") == "$id" ]]; done
  (($(asked squeue) == 1))
  answers_age squeue 8
  sched::alive_in 101 >/dev/null
  (($(asked squeue) == 1))
  # whoever wants to know now asks
  [[ $(SCHEDULER_FRESH=0 sched::alive_in 101) == 101 && $(asked squeue) == 2 ]]
}

@test "slurm: a thousand jobs and their arrays are one question, for whoever asks" {
  shared
  { printf '%s RUNNING\n' {101..1100} && printf '7000_%s PENDING\n' {0..999}; } >"$FAKE_SLURM/jobs"
  [[ $(sched::alive_in {101..1100} 7000_{0..999} 7000 | wc -l) == 2001 ]]
  [[ $(sched::alive_in 1100 7000_999) == $'1100\n7000_999' && $(<"$FAKE_SLURM/calls") == 'squeue of all' ]]
}

@test "slurm: a job is not missed in an answer from before it was submitted" {
  shared
  [[ $(sched::alive_in 101) == 101 ]]
  echo '201 PENDING' >>"$FAKE_SLURM/jobs"
  [[ $(sched::alive_in 101 201) == $'101\n201' && $(asked squeue) == 2 ]]
  rm "$FAKE_SLURM/jobs"
  [[ -z $(sched::alive_in 202) && $(asked squeue) == 3 ]]
}

@test "slurm: many who look for a job that nobody knows don't ask all at once" {
  shared
  local pause from=$SECONDS jobs=()
  for pause in 0.{0..9} 1.{0..9}; do
    (sleep "$pause" && sched::alive_in 7) &
    jobs+=($!)
  done
  wait "${jobs[@]}"
  (($(asked squeue) <= 1 + (SECONDS - from + 1) / 3))
}

@test "slurm: the second look at a job that is gone is another than the first, and the accounting has no part in it" {
  shared
  accounting
  SCHEDULER_DOUBT=1
  echo '8 COMPLETED' >>"$FAKE_SLURM/jobs"
  [[ $(sched::gone_of 7 101) == 7 && $(asked squeue) == 2 && $(cat "$FAKE_SLURM/calls") != *sacct* ]]
  [[ $(sched::gone_of 8 101) == 8 && $(asked squeue) == 3 ]]
}

@test "slurm: the folder of another user has no answers on one's own jobs" {
  shared
  if ((EUID)); then ADDRESS_DIR=/; else chown 65534 "$ADDRESS_DIR"; fi
  [[ $(sched::alive_in 101) == 101 && $(<"$FAKE_SLURM/calls") == 'squeue 101' && ! -e $ADDRESS_DIR/.squeue ]]
}

@test "slurm: the accounting is asked once a minute for a job that squeue has forgotten, whoever asks" {
  shared
  accounting
  local _
  for _ in 1 2 3; do [[ $(SCHEDULER_FRESH=0 sched::states 7 101) == $'101|RUNNING|None|0:01|node1\n7|PREEMPTED||00:00:02|n1' ]]; done
  (($(asked squeue) == 3 && $(asked sacct) == 1))
  # asked for others meanwhile, it isn't asked for this one again
  [[ $(SCHEDULER_FRESH=0 sched::states 9) == '9|GONE|||' && $(SCHEDULER_FRESH=0 sched::states 7) == 7'|PREEMPTED|'* ]]
  [[ $(grep ^sacct "$FAKE_SLURM/calls") == $'sacct --jobs=7\nsacct --jobs=9' ]]
  answers_age sacct 61
  [[ $(SCHEDULER_FRESH=0 sched::states 7) == '7|PREEMPTED||00:00:02|n1' && $(asked sacct) == 3 ]]
}

@test "slurm: a squeue that hangs holds others up no longer than itself, and nothing is known" {
  shared
  PATH=$BATS_TEST_TMPDIR/bin:$PATH SCHEDULER_SECONDS=1
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nexec sleep 600\n' >"$BATS_TEST_TMPDIR/bin/squeue"
  chmod +x "$BATS_TEST_TMPDIR/bin/squeue"
  (sched::states 101 >/dev/null 2>&1 || true) &
  local other=$!
  wait_for 10 test -e "$ADDRESS_DIR/.squeue.lock"
  local from=$SECONDS
  try sched::states 102
  expect_status 3
  [[ $error == *'squeue gave no answer within 1 s'* || $error == *'another of your jobs waits for squeue, for more than 1 s'* ]]
  ((SECONDS - from <= 5))
  wait "$other"
}

@test "slurm: whoever can't wait for another's question any longer knows nothing, and doesn't ask too" {
  shared
  local held
  exec {held}>"$ADDRESS_DIR/.squeue.lock"
  flock "$held"
  SCHEDULER_SECONDS=1 try sched::states 101
  expect_status 3
  [[ $error == 'another of your jobs waits for squeue, for more than 1 s' && ! -e $FAKE_SLURM/calls ]]
}

@test "slurm: an answer that nobody can keep, or that is damaged, costs a call and no more" {
  shared
  # the last is by a clock that is an hour ahead
  printf '%s\n' x x\| '||' '9|101|DEAD' '|101|DEAD' "$((($(date +%s) + 3600) * 1000))|101|DEAD|" >"$ADDRESS_DIR/.squeue"
  [[ $(sched::alive_in 101) == 101 && $(asked squeue) == 1 ]]
  ADDRESS_DIR=$BATS_TEST_TMPDIR/nowhere
  [[ $(sched::alive_in 101) == 101 && $(asked squeue) == 2 ]]
}

@test "slurm: the seconds that a running job has left" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\n[ "$*" = "--noheader --jobs=7 --format=%%T|%%L" ] && echo "$SAYS"\n' >"$BATS_TEST_TMPDIR/bin/squeue"
  chmod +x "$BATS_TEST_TMPDIR/bin/squeue"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH SCHEDULER=slurm
  local said
  for said in 'RUNNING|0:59=59' 'RUNNING|09:08=548' 'RUNNING|1:00:01=3601' 'RUNNING|2-00:00:01=172801' 'COMPLETING|0:59=' 'RUNNING|UNLIMITED=' 'RUNNING|INVALID='; do
    [[ $(SAYS=${said%=*} sched::left 7) == "${said#*=}" ]]
  done
}

@test "slurm: more jobs than one argument has room for" {
  # https://github.com/acorg/slurm-pipeline/issues/45
  export FAKE_SLURM=$BATS_TEST_TMPDIR
  mkdir "$BATS_TEST_TMPDIR/bin"
  for command in squeue sacct; do printf '#!/usr/bin/env bash\n%s\n' 'for word; do [[ $word != --jobs=* ]] || jobs=,${word#--jobs=},; done' >"$BATS_TEST_TMPDIR/bin/$command"; done
  # squeue is asked once, for all that there are
  echo 'echo squeue >>"$FAKE_SLURM/calls"; if [[ -z ${jobs:-} ]]; then echo "10000007|RUNNING|None|5|n1"; fi' >>"$BATS_TEST_TMPDIR/bin/squeue"
  echo 'if [[ $jobs == *,10029999,* ]]; then echo "10029999|COMPLETED|7|n2"; fi' >>"$BATS_TEST_TMPDIR/bin/sacct"
  chmod +x "$BATS_TEST_TMPDIR/bin/"*
  # by itself: bats looks at each command of a shell of its own, which takes a minute here
  PATH=$BATS_TEST_TMPDIR/bin:$PATH ADDRESS_DIR='' bash "$ROOT/scripts_hpc/lib/scheduler.sh" slurm states $(seq 10000000 10030000) >"$BATS_TEST_TMPDIR/states"
  [[ $(wc -l <"$BATS_TEST_TMPDIR/states") == 30001 ]]
  grep -qx '10000007|RUNNING|None|5|n1' "$BATS_TEST_TMPDIR/states"
  grep -qx '10029999|COMPLETED||7|n2' "$BATS_TEST_TMPDIR/states"
  [[ $(<"$FAKE_SLURM/calls") == squeue ]]
}

@test "a local job whose runner is gone before it began is refused, not waited for" {
  script quick <<<true
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/setsid"
  chmod +x "$BATS_TEST_TMPDIR/bin/setsid"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run timeout 20 bash -c 'source "$1/common.sh" && source "$1/scheduler.sh" && SCHEDULER=local sched::submit "$2"' \
    - "$ROOT/scripts_hpc/lib" "$BATS_TEST_TMPDIR/quick.sh"
  ((status == 1))
  expect_in "ended before it began: is $LOCAL_JOBS still there" "$output"
}
