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

teardown() { # whatever still runs: each runner leads a session of its own
  local job pids runners=()
  mapfile -t runners < <(cat "$BATS_TEST_TMPDIR/runners" 2>/dev/null)
  ((${#runners[@]})) || return 0
  mapfile -t pids < <(session "${runners[@]}" && for job in "$LOCAL_JOBS"/[0-9]*; do sched::_local_processes "$job"; done)
  ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
}

script() { # script NAME [TIME], its text on stdin: writes $BATS_TEST_TMPDIR/NAME.sh
  {
    printf '#!/usr/bin/env bash\n#SBATCH --job-name=%s\n#SBATCH --output=%s/%%x-%%j.out\n#SBATCH --time=%s\n' "$1" "$BATS_TEST_TMPDIR" "${2:-00:01:00}"
    cat
  } >"$BATS_TEST_TMPDIR/$1.sh"
}

submit() { # submit [--after IDS] NAME ARGS…: sets ID. (A job must not hold the descriptor on which bats waits.)
  local options=()
  if [[ $1 == --after* ]]; then options=("$1" "$2") && shift 2; fi
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
  echo 'if [[ $jobs == *,10000007,* ]]; then echo "10000007|RUNNING|None|5|n1"; fi' >>"$BATS_TEST_TMPDIR/bin/squeue"
  echo 'if [[ $jobs == *,10029999,* ]]; then echo "10029999|COMPLETED|7|n2"; fi' >>"$BATS_TEST_TMPDIR/bin/sacct"
  chmod +x "$BATS_TEST_TMPDIR/bin/"*
  # by itself: bats looks at each command of a shell of its own, which takes a minute here
  PATH=$BATS_TEST_TMPDIR/bin:$PATH ADDRESS_DIR='' bash "$ROOT/scripts_hpc/lib/scheduler.sh" slurm states $(seq 10000000 10030000) >"$BATS_TEST_TMPDIR/states"
  [[ $(wc -l <"$BATS_TEST_TMPDIR/states") == 30001 ]]
  grep -qx '10000007|RUNNING|None|5|n1' "$BATS_TEST_TMPDIR/states"
  grep -qx '10029999|COMPLETED||7|n2' "$BATS_TEST_TMPDIR/states"
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
