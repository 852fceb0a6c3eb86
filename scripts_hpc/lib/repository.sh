# shellcheck shell=bash
# repository.sh: what an agent made of a repository: its diff, a fresh checkout with it, the task's test scripts there, and their score.
# Sourced by job scripts; needs common.sh, container.sh, agent.sh and run.sh, and what these need: ROOT, RUN, COMPETITION, JOB_TMP, RUNTIME,
# IMAGES, VENV. The agent has ended.
#
# $RUN/artifacts/            diff.patch, repo_info.json, notes.md (helpers/repositories/diff.py)
# $RUN/logs/eval.log         what was done, and what each script printed
# $RUN/evaluation_results.json, scoring_results.md, grading_report.json (helpers/repositories/score.py)

TEST_SECONDS=1800     # that a test script may take
TEST_GB=4             # that a test script may write, the checkout included; no file may be larger
TEST_FILES=500000     # and so many files and folders
TEST_OUTPUT_KB=32     # kept of a script's output: this much of its beginning, and at least this much of its end
DIFF_MB=100           # that a diff may have
REPOSITORY_NOTES=''   # a file in which the agent may have left notes, where not in notes.md at the top of its folder
REPOSITORY_SAID=''    # one line on how it ended
REPOSITORY_NETWORK='' # of the test scripts: blocked or unblocked
REPOSITORY_SERVER='' REPOSITORY_SERVES='' REPOSITORY_ASK='' REPOSITORY_ANSWER='' REPOSITORY_SLOTS='' REPOSITORY_DIFF=''

# Makes the folder that an agent begins with. Codes as below.
repository::lay_out() { # repository::lay_out INSTANCE FOLDER IMAGE
  local instance=$1 image=$3 code=0
  repository::_step checkout --base "$instance/public/base.git" --out "$2" --scratch "$JOB_TMP" || code=$?
  # nothing of it is there while the agent works
  repository::_stop_serving
  return "$code"
}

repository::_stop_serving() {
  [[ -z $REPOSITORY_SERVER ]] || common::end_group "$REPOSITORY_SERVER" 2
  [[ -z $REPOSITORY_ASK ]] || exec {REPOSITORY_ASK}>&- {REPOSITORY_ANSWER}<&-
  REPOSITORY_SERVER='' REPOSITORY_SERVES='' REPOSITORY_ASK='' REPOSITORY_ANSWER=''
}

# What an agent has made of it, into $RUN/artifacts. Codes as below.
repository::diff() { # repository::diff INSTANCE WORK IMAGE
  local instance=$1 image=$3
  repository::_step diff --base "$instance/public/base.git" --work "$2" --out "$RUN/artifacts" --limit-mb "$DIFF_MB" \
    --scratch "$JOB_TMP" ${REPOSITORY_NOTES:+--notes "$REPOSITORY_NOTES"} || return
  REPOSITORY_DIFF=$REPOSITORY_SAID
}

# Grades what lies in an agent's folder. INSTANCE holds public/ and private/ (helpers/repositories/instance.py). Codes, with one line in
# REPOSITORY_SAID: 0 scored; 3 where the infrastructure is to blame; 4 where the agent's work can't be graded. Where a DIFF is given, that
# is graded, and WORK isn't looked at.
repository::grade() { # repository::grade INSTANCE WORK IMAGE [DIFF]
  local instance=$1 work=$2 image=$3 given=${4:-} checkout=$JOB_TMP/checkout results=$JOB_TMP/results log=$JOB_TMP/eval.log
  # agent.sh starts the scripts, too, and keeps what they print
  # shellcheck disable=SC2034
  local AGENT_PID='' AGENT_LOGGER='' AGENT_LOG_BYTES=$((TEST_OUTPUT_KB << 10)) code=0
  REPOSITORY_SAID=''
  [[ ! -e $checkout && ! -e $JOB_TMP/outputs ]] || container::_remove "$checkout" "$JOB_TMP/outputs"
  if mkdir -p "$JOB_TMP/outputs" 2>/dev/null && : >"$log" && : >"$results"; then
    repository::_grade || code=$?
  else
    repository::_ours "can't write to $JOB_TMP: $(common::lacking "$JOB_TMP")" || code=$?
  fi
  repository::_note "$REPOSITORY_SAID"
  repository::_keep_log || log "can't write $RUN/logs/eval.log: $(common::lacking "$RUN")"
  container::_remove "$checkout" "$JOB_TMP/outputs" "$JOB_TMP/tests"
  return "$code"
}

repository::_grade() {
  local diff=$given info make=()
  if [[ -z $given ]]; then
    diff=$RUN/artifacts/diff.patch
    repository::diff "$instance" "$work" "$image" || return
  fi
  info=${diff%/*}/repo_info.json
  if [[ -f $info ]]; then
    set -- --info "$info"
    [[ -z $REPOSITORY_DIFF ]] || repository::_note "$REPOSITORY_DIFF"
  fi
  make=(checkout --base "$instance/public/base.git" --diff "$diff" --out "$checkout" --scratch "$JOB_TMP" "$@")
  repository::_step "${make[@]}" || return
  repository::_step evaluation --instance "$instance/private" --out "$JOB_TMP/scripts" || return
  repository::_find_network || return
  repository::_run_scripts || return
  repository::_step score --instance "$instance/private" --results "$results" --diff "$diff" --task-id "$COMPETITION" \
    --run-id "$(run::public_id)" --out "$RUN" --network "$REPOSITORY_NETWORK" --report "$REPORT" \
    ${EARLIER_GRADES:+--report-only} \
    ${AGENT_STARTED:+--started "$AGENT_STARTED"} ${AGENT_ENDED:+--ended "$AGENT_ENDED"} || return
  # shellcheck disable=SC2034 # run::finish writes no other one
  EVALUATED=1
}

repository::_ours() { REPOSITORY_SAID=$1 && return 3; } # repository::_ours SENTENCE

repository::_note() { # repository::_note LINE: for eval.log
  printf '%(%H:%M:%S)T %s\n' -1 "$1" >>"$log" || true
}

# ---- the steps that read and write repositories: Python and git, on this node or, where it hasn't both, in the image

# Does a step of helpers/repositories/serve.py. Codes: 0; 4 where the agent's doing is why it can't be done, else 3. REPOSITORY_SAID is the
# line that it says.
repository::_step() { # repository::_step NAME ARGUMENTS…
  local code='' said=''
  REPOSITORY_SAID=''
  [[ $REPOSITORY_SERVES == all || $REPOSITORY_SERVES == "$instance" ]] && kill -0 "$REPOSITORY_SERVER" 2>/dev/null || repository::_serve || return
  # a trapped signal ends a `read`, and not the step
  { printf '%s\0' "$@" '' >&"$REPOSITORY_ASK"; } 2>/dev/null || true
  until [[ -n $code ]] || ! kill -0 "$REPOSITORY_SERVER" 2>/dev/null; do
    IFS=' ' read -r -t 5 -u "$REPOSITORY_ANSWER" code said || code=''
  done
  case $code in
    0 | 4) REPOSITORY_SAID=$said && return "$code" ;;
    *) repository::_ours "${said:-the step $1 of grading ended without a word (code ${code:-unknown})}" ;;
  esac
}

repository::_serve() { # starts the process that does them; it ends with its input, and so with this job
  local python='' from to
  python=$(repository::_python) || true
  if [[ -z $python ]] && ! container::isolated; then
    repository::_ours "${HOSTNAME:-this node} has no Python of 3.8 or later, or no git: grading needs both"
    return
  fi
  repository::_stop_serving
  # a container sees what it was made with
  REPOSITORY_SERVES=${python:+all}
  REPOSITORY_SERVES=${REPOSITORY_SERVES:-$instance}
  # shellcheck disable=SC2094 # whose own end stays open, so that nobody waits for the other's
  { mkfifo -m 0600 "$JOB_TMP/ask" "$JOB_TMP/answer" &&
    exec {REPOSITORY_ASK}<>"$JOB_TMP/ask" {REPOSITORY_ANSWER}<>"$JOB_TMP/answer" {from}<"$JOB_TMP/ask" {to}>"$JOB_TMP/answer"; } 2>/dev/null || {
    repository::_ours "can't write to $JOB_TMP: $(common::lacking "$JOB_TMP")"
    return
  }
  rm -f "$JOB_TMP/ask" "$JOB_TMP/answer"
  set -m
  (repository::_be_served "$python") <&"$from" >&"$to" 2>"$JOB_TMP/steps" &
  REPOSITORY_SERVER=$!
  set +m
  exec {from}<&- {to}>&-
  # a worker of repository::grade_each ends it itself
  [[ $REPOSITORY_SLOTS ]] || on_exit "common::end_group $REPOSITORY_SERVER 2"
}

repository::_be_served() { # repository::_be_served PYTHON
  local path
  if [[ -n $1 ]]; then
    container::_close_files
    container::_guard "$$" &
    # its folder comes first where modules are looked for
    cd "$ROOT" && PYTHONPATH=$ROOT exec "$1" -s -m helpers.repositories.serve
  fi
  set --
  for path in "$ROOT" "$instance"; do set -- "$@" --bind "$path:$path:ro"; done
  for path in "$RUN" "$JOB_TMP"; do set -- "$@" --bind "$path:$path"; done
  # shellcheck disable=SC2034 # container::exec's
  CONTAINER_ENV=([PYTHONPATH]=$ROOT)
  container::exec "$image" --contained "$@" --pwd "$ROOT" -- python3 -s -m helpers.repositories.serve
}

repository::_python() { # prints a Python of this node that does, where there is a git, too
  local python
  command -v git >/dev/null || return
  for python in "${VENV:-}/bin/python" python3; do
    ! "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || { printf '%s' "$python" && return; }
  done
  return 1
}

# ---- the test scripts

repository::_find_network() { # sets REPOSITORY_NETWORK
  local problem log=${log:-/dev/null}
  [[ -n $CONTAINER_NO_NET ]] || container::empty_tmp
  container::find_no_net "$image" || {
    problem=$(container::fault "$JOB_TMP/no_net") || problem=$(head -c 300 "$JOB_TMP/no_net")
    repository::_ours "no container can be made on ${HOSTNAME:-this node} to grade in: ${problem#: }"
    return
  }
  REPOSITORY_NETWORK=blocked
  [[ $CONTAINER_NO_NET != none ]] || {
    REPOSITORY_NETWORK=unblocked
    repository::_note "the test scripts' network is open: ${HOSTNAME:-this node} lets an ordinary user make none"
    log "the test scripts' network is open: ${HOSTNAME:-this node} lets an ordinary user make none"
  }
}

repository::_run_scripts() { # those that $JOB_TMP/scripts lists
  local words=() number=0 path count
  mapfile -d '' words <"$JOB_TMP/scripts"
  while ((${#words[@]})); do
    path=${words[0]} count=${words[1]}
    repository::_run_script "$((number += 1))" "$path" "${words[@]:2:count}" || return
    words=("${words[@]:2+count}")
  done
}

# Runs one to its end, or to what it may take; a line of results for score.py.
repository::_run_script() { # repository::_run_script NUMBER PATH WORDS…
  local path=$2 output=$JOB_TMP/outputs/$1 began ended milliseconds code=0 state why=''
  shift
  # what the agent, or another script, left in /tmp and so in its home is nothing to this one
  container::empty_tmp
  repository::_lay_tests || return
  [[ -z $REPOSITORY_SLOTS ]] || read -r -N 1 -u "$REPOSITORY_SLOTS" _ || true
  began=$(repository::_milliseconds)
  agent::start "$output" repository::_exec "${@:2}"
  repository::_await_script
  milliseconds=$((ended - began))
  agent::end_log
  json::object path "$path" state "$state" exit_code: "$code" seconds: "$((milliseconds / 1000)).$(printf %03d $((milliseconds % 1000)))" \
    limit: "$TEST_SECONDS" why "$why" output "$output" >>"$results"
  repository::_note "$path: $state${why:+ ($why)}, exit code $code"
  case $state in timed_out | killed | too_much) repository::_renew ;; esac
}

repository::_milliseconds() {
  local now=${EPOCHREALTIME:-} # bash 5
  [[ -n $now ]] || now=$(date +%s.%6N)
  now=${now//[!0-9]/}
  printf '%d' $((now / 1000))
}

repository::_renew() { # who comes next doesn't find what one left that was ended on its way
  container::_remove "$checkout"
  repository::_step "${make[@]}"
}

repository::_await_script() { # sets state, code, why and ended
  local began=$SECONDS room=$JOB_TMP/room watcher=''
  state=''
  : >"$room"
  while kill -0 "$AGENT_PID" 2>/dev/null; do
    # what is over at once isn't looked at: no single file can be too large
    [[ -n $watcher ]] || ((SECONDS - began < 2)) || repository::_watch_room
    why=$(<"$room")
    if [[ -n $why ]]; then state=too_much; elif ((SECONDS - began >= TEST_SECONDS)); then state=timed_out; fi
    [[ -z $state ]] || break
    common::pause 1 "$AGENT_PID"
  done
  if [[ -n $state ]]; then common::end_group "$AGENT_PID" 5 && code=137; else wait "$AGENT_PID" 2>/dev/null || code=$?; fi
  ended=$(repository::_milliseconds)
  [[ -z $REPOSITORY_SLOTS ]] || printf . >&"$REPOSITORY_SLOTS"
  [[ -z $watcher ]] || kill -TERM -- "-$watcher" 2>/dev/null || true
  repository::_end_rest
  [[ -n $state ]] || repository::_judge
}

repository::_watch_room() { # sets watcher
  set -m
  # shellcheck disable=SC2034 # agent::watch's
  (container::_close_files && PACE=1 && agent::watch "$TEST_GB" "$TEST_FILES" "$checkout" "$JOB_TMP/tmp" "$JOB_TMP/shm" >"$room") </dev/null 2>/dev/null &
  watcher=$!
  set +m
}

repository::_judge() { # by its exit code
  case $code in
    0) state=passed ;;
    126 | 127) state=not_started why="$(head -c 2000 "$output" | tail -n 1 | head -c 300)" ;;
    153) state=too_much why="a file of more than $TEST_GB GB" ;;
    *) if ((code > 128 && code <= 192)); then state=killed; else state=failed; fi ;;
  esac
}

# Nothing of it runs on: not what left its process group either, which without a container nothing else ends.
repository::_end_rest() {
  local file try
  kill -KILL -- "-$AGENT_PID" 2>/dev/null || true
  container::isolated || for ((try = 0; try < 50; try++)); do
    file=$(grep -lzsxF "HAB_TEST_SCRIPT=$AGENT_PID.$JOB_TMP" /proc/[0-9]*/environ) || true
    [[ -n $file ]] || break
    # shellcheck disable=SC2046 # numbers
    kill -KILL $(sed -E 's|/proc/([0-9]+)/.*|\1|' <<<"$file") 2>/dev/null || true
  done
}

# Without a container a script could write to the tests: it has a copy, each time anew.
repository::_lay_tests() {
  container::isolated && return
  container::_remove "$JOB_TMP/tests"
  { cp -R "$instance/private/tests" "$JOB_TMP/tests" && chmod -R a-w "$JOB_TMP/tests"; } 2>/dev/null ||
    repository::_ours "can't copy $instance/private/tests to $JOB_TMP: $(common::lacking "$JOB_TMP")"
}

repository::_kilobytes() { # of TEST_GB, which may be a part of one
  if [[ $TEST_GB =~ ^[0-9]+$ ]]; then printf '%d' $((TEST_GB << 20)); else LC_ALL=C awk -v gb="$TEST_GB" 'BEGIN {printf "%d", gb * 1048576}'; fi
}

repository::_exec() { # repository::_exec WORDS…: the script's; of what there is, it sees the checkout and this task's tests
  local tests
  tests=$(container::inside "$JOB_TMP/tests" /home/tests)
  # shellcheck disable=SC2034 # container::exec's
  CONTAINER_ENV=(
    [HAB_TEST_SCRIPT]=$BASHPID.$JOB_TMP [TESTS_DIR]=$tests [REPO_DIR]=$(container::inside "$checkout" /home/repo)
    [TASK_ID]=$COMPETITION [PYTHONDONTWRITEBYTECODE]=1 [CI]=1
  )
  # where memory runs out, the job is not what is ended
  { printf 800 >/proc/self/oom_score_adj; } 2>/dev/null || true
  ulimit -c 0
  ulimit -f "$(repository::_kilobytes)" 2>/dev/null || true
  container::exec "$image" --contained --no-net --bind "$checkout:/home/repo" --bind "$instance/private/tests:/home/tests:ro" \
    --pwd "$(container::inside "$checkout" /home/repo)" -- "$@" "$tests/$path"
}

# ---- many runs in one job

# Grades many, with at most SLOTS test scripts at a time: what comes before and after a script is done while others run. For each line of
# stdin `COMMAND… LINE` is called, in one of a few processes that have each a JOB_TMP of its own: it sets RUN, RUN_NAME, COMPETITION and
# what else is the run's own, and calls repository::grade. IMAGE is one of theirs.
repository::grade_each() { # repository::grade_each SLOTS IMAGE COMMAND…
  local slots=$1 image=$2 number worker workers=() turn lines
  shift 2
  # found out once for all of them
  repository::_find_network || { log "$REPOSITORY_SAID" && return 3; }
  mkfifo -m 0600 "$JOB_TMP/slots" "$JOB_TMP/turn" || return 3
  exec {REPOSITORY_SLOTS}<>"$JOB_TMP/slots" {turn}<>"$JOB_TMP/turn" {lines}<&0
  rm -f "$JOB_TMP/slots" "$JOB_TMP/turn"
  printf "%${slots}s" '' >&"$REPOSITORY_SLOTS"
  printf . >&"$turn"
  set -m
  for ((number = 0; number < 3 * slots; number++)); do
    repository::_grade_in_turn "$JOB_TMP/grading.$number" "$@" </dev/null &
    workers+=("$!")
  done
  set +m
  for worker in "${workers[@]}"; do
    while kill -0 "$worker" 2>/dev/null; do common::pause 1 "$worker"; done
    common::end_group "$worker" 5
  done
  exec {REPOSITORY_SLOTS}>&- {turn}>&- {lines}<&-
  REPOSITORY_SLOTS=''
}

repository::_grade_in_turn() { # repository::_grade_in_turn JOB_TMP COMMAND…
  local line taken
  set +m # a worker's children are of its group, but for those that are to end alone
  JOB_TMP=$1
  shift
  container::_guard "$$" &
  mkdir -p "$JOB_TMP/tmp" "$JOB_TMP/shm"
  for (( ; ; )); do
    read -r -N 1 -u "$turn" _
    taken=0
    IFS= read -r -u "$lines" line || taken=$?
    printf . >&"$turn"
    ((taken == 0)) || break
    "$@" "$line" || log "$line: $REPOSITORY_SAID"
  done
  [[ -z $REPOSITORY_SERVER ]] || common::end_group "$REPOSITORY_SERVER" 2
  container::_remove "$JOB_TMP"
}

# ---- eval.log

# The agent could write to the folder of logs, and may have left a link in the place of either.
repository::_keep_log() {
  local folder=$RUN/logs name=eval.log file number=0 words=()
  [[ -z $EARLIER_GRADES ]] || name=eval_$JOB_ID.log
  [[ -d $folder && ! -L $folder ]] || rm -f "$folder"
  mkdir -p "$folder" && chmod u+rwx "$folder" && container::_remove "$folder/$name" || return
  {
    cat "$log"
    [[ ! -f $JOB_TMP/scripts ]] || mapfile -d '' words <"$JOB_TMP/scripts"
    while ((${#words[@]})); do
      file=$JOB_TMP/outputs/$((number += 1))
      printf '\n==> %s <==\n' "${words[0]}"
      [[ ! -f $file ]] || LC_ALL=C tr -d '\000-\010\013-\037\177' <"$file"
      words=("${words[@]:2+${words[1]}}")
    done
  } | common::write_atomic "$folder/$name"
}
