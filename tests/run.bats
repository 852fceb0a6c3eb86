# The end of a run, from the job's side: whatever an agent did to its submission is its own result, and only the job says `lost`.
bats_require_minimum_version 1.5.0

RECORDS=0

setup() {
  load common.bash
  # rights mean nothing to root: the job runs as somebody else, in a folder that both reach
  WORK=$(mktemp -d)
  AS=()
  ((UID)) || AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  mkdir "$WORK/lib" "$WORK/run" "$WORK/tmp" "$WORK/data"
  cp "$ROOT"/scripts_hpc/lib/*.sh "$WORK/lib/"
  echo id,target >"$WORK/data/sample_submission.csv"
  echo '{"valid_submission": true, "score": 0.5, "total_score": 0.5, "submission_path": ""}' >"$WORK/report"
  echo 200 >"$WORK/code"
  cat >"$WORK/job" <<'JOB'
set -euo pipefail
cd "$WORK"
for lib in common scheduler service container run agent endpoint task_competition; do source "lib/$lib.sh"; done
RUN=$WORK/run RUN_NAME=toy_7 RUN_GROUP=$WORK RUNS=$WORK JOB_ID=7 JOB_TMP=$WORK/tmp PUBLIC=$WORK/data SITE=here RUNTIME=none VENV=/nowhere CPUS=1
COMPETITION=toy AGENT=one MODEL_LABEL='' SEED=0 ROLLOUT=0 CELL=0 STEP_LIMIT=1 GRADING=http://grading GRADING_JOB='' MODEL_JOB='' FEEDBACK_JOB=''
NEEDS_MODEL=0 UPLOAD_MB=1 RUN_GB=0.02 RUN_FILES=500 PACE=0 TIME_LIMIT=${LIMIT:-100} AGENT_CODE=0 ENDPOINTS_AT='' AGENT_DEADLINE=$(($(date +%s) + TIME_LIMIT))
mkdir -p run/submission run/logs run/code tmp/tmp tmp/shm
# stands for curl: notes what was sent, answers what the test has laid there
service::curl() {
  local token=$1 output='' file=''
  shift
  while (($#)); do
    case $1 in
      --max-time | --write-out | --header) shift 2 ;;
      --output) output=$2 && shift 2 ;;
      --form) [[ $2 != file=@* ]] || { file=${2#file=@} && file=${file%%;*}; } && shift 2 ;;
      http://grading/grade) shift ;;
      *) echo "fake curl: unknown argument $1" >&2 && exit 99 ;;
    esac
  done
  printf '%s\n' "$(head -c 20 "$file")" >>"$WORK/sent"
  if [[ $file == "$PUBLIC/"* ]]; then cp "$WORK/other" "$output" && command cat "$WORK/other_code" && return; fi
  cp "$WORK/report" "$output"
  command cat "$WORK/code"
}
S=$RUN/submission/submission.csv
echo id,1 >"$S"
work() { # work COMMAND: an agent that does this
  agent::start "$RUN/agent.log" container::exec one --contained -- bash -c "S=$S; $1"
}
model() { # model MANNER…: the run's model is somebody else's endpoint, which answers so
  NEEDS_MODEL=1 MODEL=external FEEDBACK=external ENDPOINT_SECONDS=1 ENDPOINT_PAUSES=(0 0) URL=http://127.0.0.1:$(<"$WORK/port")/$1/v1
  EXTERNAL=([CODE_url]=$URL [CODE_name]=m [CODE_key]=A_KEY [FEEDBACK_url]=$URL [FEEDBACK_name]=m [FEEDBACK_key]=A_KEY)
  export A_KEY=sk-secret
}
used() { printf '%s' "$1" >"$RUN/logs/usage.json"; } # used USAGE: the agent says so
eval "$DO"
run::grade_and_finish
JOB
  ((UID)) || chown -R 65534:65534 "$WORK"
}

teardown() {
  check_records "$WORK/records" || return
  [[ ! -s $WORK/server ]] || kill "$(<"$WORK/server")" 2>/dev/null || true
  chmod -R u+rwX "$WORK"
  rm -rf "$WORK"
}

start_endpoint() { # start_endpoint [CERT KEY]: a stand-in for somebody's endpoint
  "${HAB_CORE_PYTHON:-python3}" "$ROOT/tests/fakes/model_server.py" "$WORK/asked" "$@" >"$WORK/port" 3>&- &
  echo $! >"$WORK/server"
  wait_for 10 test -s "$WORK/port"
}

finishes() { # finishes WHAT_THE_AGENT_DID CODE STATE REASON
  chmod -R u+rwx "$WORK/run" 2>/dev/null || true # of the last one; the agent may have been this very user
  rm -rf "$WORK/run" "$WORK/sent"
  WORK=$WORK DO=$1 LIMIT=${LIMIT:-} try "${AS[@]}" bash "$WORK/job"
  expect_status "$2"
  expect_in "\"state\": \"$3\"" "$(<"$WORK/run/run_metadata.json")"
  mkdir -p "$WORK/records/$((RECORDS += 1))"
  cp "$WORK/run/run_metadata.json" "$WORK/records/$RECORDS/"
  # shellcheck disable=SC2053 # a pattern
  [[ $(<"$WORK/run/run_metadata.json") == *"\"reason\": \""$4* ]] || expect_in "\"reason\": \"$4" "$(<"$WORK/run/run_metadata.json")"
}

@test "a submission that is one is graded, from a copy" {
  finishes : 0 scored 'graded"'
  [[ $(<"$WORK/sent") == id,1 ]]
  expect_in "\"submission_path\": \"$WORK/run/submission/submission.csv\"" "$(<"$WORK/run/grading_report.json")"
  [[ -z $(find "$WORK/run" -name '.reserve' -o -name 'graded*') ]]
}

@test "what an agent did to its submission is its own result" {
  echo private >"$WORK/private"
  finishes 'truncate -s 600M "$S"' 4 invalid_submission 'submission.csv has 600MB, more than the 1.0MB that may be submitted'
  finishes 'chmod 000 "$S"' 4 invalid_submission "submission.csv can't be read: Permission denied"
  finishes 'ln -sf $WORK/private "$S"' 4 invalid_submission 'submission.csv is a link or no regular file: refused'
  finishes 'ln -sf /nowhere "$S"' 4 invalid_submission 'submission.csv is a link or no regular file: refused'
  finishes 'rm "$S"; mkfifo "$S"' 4 invalid_submission 'submission.csv is a link or no regular file: refused'
  finishes 'rm "$S"; mkdir "$S"' 4 invalid_submission 'submission.csv is a link or no regular file: refused'
  finishes 'rm -r "${S%/*}"; ln -s $WORK "${S%/*}"' 4 invalid_submission 'the folder of the submission was replaced by something else'
  finishes 'chmod 000 "${S%/*}"' 4 invalid_submission "the folder of the submission can't be read"
  finishes 'rm -r "${S%/*}"' 4 no_submission 'the agent ended without writing a submission'
  # which of the two is said, that it is being changed or that it is too large by now, is the scheduler's doing
  finishes 'head -c 1048500 /dev/zero >"$S"; (while :; do echo more >>"$S"; done) & W=$!; on_exit "kill $W"' 4 invalid_submission 'submission.csv'
  [[ ! -e $WORK/sent ]]
}

@test "a link that takes the file's place in the last moment is not followed" {
  echo private >"$WORK/private"
  # as seen before it is opened it is a file
  finishes 'agent::_seen() { echo "regular file|5|1|1"; }; ln -sf $WORK/private "$S"' 4 invalid_submission \
    "submission.csv can't be read: Too many levels of symbolic links"
  [[ ! -e $WORK/sent ]]
}

@test "a disk that fails is nobody's result" {
  finishes 'dd() { echo "dd: error reading x: Input/output error" >&2; return 1; }; timeout() { shift; "$@"; }' 3 lost \
    "submission.csv can't be read: Input/output error"
}

@test "a scratch folder that the agent filled: its submission is copied all the same; one that others filled is nobody's result" {
  local full='cat() { [[ ${FUNCNAME[1]} != agent::copy || ! -e $WORK/tmp/tmp/much ]] && command cat "$@"; }; touch $WORK/tmp/tmp/much'
  finishes "$full" 0 scored graded
  finishes "$full; container::empty_tmp() { :; }" 3 lost "can't write $WORK/run/.submission.csv: "
}

@test "what the grading server says of an upload: too large, unreadable, or its own fault" {
  echo '{"error": "the upload is larger than 1 MB"}' >"$WORK/report"
  echo 413 >"$WORK/code"
  finishes : 4 invalid_submission "the grading server doesn't take the submission (HTTP 413: the upload is larger than 1 MB)"
  echo '{"valid_submission": false}' >"$WORK/other"
  echo 200 >"$WORK/other_code"
  for code in 400 422 500 503; do
    echo "$code" >"$WORK/code"
    finishes : 4 invalid_submission "the grading server can't judge the submission, but others (HTTP $code"
    [[ $(<"$WORK/sent") == $'id,1\nid,target' ]]
  done
  # one that grades nothing at all
  echo 500 >"$WORK/other_code"
  for code in 400 500; do
    echo "$code" >"$WORK/code"
    finishes : 3 lost "the grading server refused to grade (HTTP $code"
  done
  echo 200 >"$WORK/other_code"
  for code in 401 403 404; do
    echo "$code" >"$WORK/code"
    finishes : 3 lost "the grading server refused to grade (HTTP $code"
  done
}

@test "a grading server that drops the connection is asked again, less and less often, and then the run is lost with its submission" {
  local own='GRADING_JOB=grading_server_3 ADDRESS_DIR=$WORK; sched::alive_in() { echo 3; }; common::pause() { echo "$1" >>$WORK/pauses; eval "${MEANWHILE:-}"; }
    service::ask() { shift 3; service::curl none "$@" http://grading/grade; }'
  echo 000 >"$WORK/code"
  touch "$WORK/grading_server_3" "$WORK/pauses"
  ((UID)) || chown 65534 "$WORK/pauses"
  finishes "$own" 3 lost "the grading server was sent the submission 8 times and gave no answer"
  [[ $(wc -l <"$WORK/sent") == 8 && $(paste -sd' ' "$WORK/pauses") == '1 2 4 8 16 32 64' && -s $WORK/run/submission/submission.csv ]]
  # one that is somebody else's
  finishes "$own; GRADING_JOB=" 3 lost "the grading server was sent the submission 8 times and gave no answer"
  # one that hangs is not waited for eight times
  finishes "SILENT_SECONDS=0; $own" 3 lost "the grading server was sent the submission 1 times"
  # one that is being started again has no address meanwhile, and is sent nothing
  finishes "$own; MEANWHILE='rm \$WORK/grading_server_3; MEANWHILE=\"touch \$WORK/grading_server_3; echo 200 >\$WORK/code\"'" 0 scored graded
  [[ $(wc -l <"$WORK/sent") == 2 ]]
}

@test "the models are told as soon as the agent has ended, where nothing is to be asked of them any more" {
  local own='MODEL_JOB=vllm_x_7 FEEDBACK_JOB=vllm_x_8; service::dismiss() { [[ -z $1 ]] || echo "dismissed $1" >>$WORK/sent; }; sched::alive_in() { :; }; SCHEDULER_DOUBT=0; on_exit run::close'
  finishes "$own" 0 scored graded
  [[ $(paste -sd' ' "$WORK/sent") == 'dismissed vllm_x_7 dismissed vllm_x_8 id,1 dismissed'* ]]
  # a model that ends then is nobody's fault
  finishes "$own; GRADING_JOB=grading_server_3 ADDRESS_DIR=\$WORK; sched::alive_in() { echo 3; }
    service::ask() { shift 3; run::_check_servers; service::curl none \"\$@\" http://grading/grade; }" 0 scored graded
}

@test "scored means a score that is a number" {
  echo '{"valid_submission": true, "score": null, "total_score": null, "note": "the metric of a constant column is \"NaN\""}' >"$WORK/report"
  finishes : 4 invalid_submission 'the submission has no score that is a number: the metric of a constant column is \"NaN\""'
  echo '{"valid_submission": false, "total_score": null, "note": "no column id"}' >"$WORK/report"
  finishes : 4 invalid_submission "the submission can't be graded: no column id"
  echo '{"valid_submission": true, "total_score": -1.5e-07}' >"$WORK/report"
  finishes : 0 scored graded
}

@test "what counts was there at the deadline" {
  local late='; what the agent wrote after its time limit of 1 s is ignored'
  LIMIT=1
  # late, but in time to be ended as usual
  finishes 'work "echo id,2 >\$S; sleep 2.5; echo id,3 >\$S"; run::supervise' 0 scored "graded$late"
  [[ $(<"$WORK/sent") == id,2 && $(<"$WORK/run/graded_submission.csv") == id,2 && $(<"$WORK/run/submission/submission.csv") == id,3 ]]
  expect_in "\"submission_path\": \"$WORK/run/graded_submission.csv\"" "$(<"$WORK/run/grading_report.json")"
  expect_in '"time_limit_reached": true' "$(<"$WORK/run/run_metadata.json")"
  finishes 'rm $S; work "sleep 2.5; echo id,3 >\$S"; run::supervise' 4 timed_out "no submission within the time limit of 1 s$late"
  finishes 'work "sleep 2.5; chmod 000 \$S"; run::supervise' 0 scored "graded$late"
  # it ends at its time limit, as asked
  finishes 'work "sleep 1.2"; run::supervise' 0 scored 'graded"'
  finishes 'rm $S; work "sleep 1.2; exit 9"; run::supervise' 4 timed_out 'no submission within the time limit of 1 s"'
  # it never ends
  finishes 'STOP_SECONDS=1; work "sleep 50"; run::supervise' 0 scored 'graded"'
  [[ $error == *"the agent didn't stop at its time limit of 1 s"* ]]
}

@test "without a submission the exit code tells, as long as there was time" {
  finishes 'rm $S; work "exit 9"; run::supervise' 4 agent_failed 'the agent ended with code 9 and left no submission'
  finishes 'rm $S; work true; run::supervise' 4 no_submission 'the agent ended without writing a submission"'
  expect_in '"time_limit_reached": false' "$(<"$WORK/run/run_metadata.json")"
}

@test "an agent that takes more room than a run may is ended, and what it had submitted is graded" {
  local ended='; the agent was ended: it had' watched='run::watch_room; run::supervise; container::empty_tmp'
  # in the run's folder, in its /tmp, in folders that are closed
  finishes 'work "cd $RUN/logs; head -c 30M /dev/zero >much; sleep 60"; '"$watched" 0 scored "graded$ended written [23][0-9]MB, "
  expect_in '"agent_exit_code": 143' "$(<"$WORK/run/run_metadata.json")"
  [[ $error == *'ending the agent: it had written '*', more than limits.run_gb (0.02)'* ]]
  finishes 'rm $S; work "head -c 30M /dev/zero >$JOB_TMP/tmp/much; sleep 60"; '"$watched" 4 agent_failed \
    "the agent left no submission$ended written [23][0-9]MB, more than limits.run_gb (0.02)\""
  finishes 'work "cd $JOB_TMP/shm; mkdir -m 300 a; mkdir -m 300 a/b; head -c 30M /dev/zero >a/b/much; chmod 000 a/b a; sleep 60"; '"$watched" 0 scored "graded$ended written [23][0-9]MB"
  # one that is deaf
  finishes 'work "trap : TERM; cd $RUN/code; mkdir -m 300 a; touch a/{1..600}; chmod 000 a; while :; do sleep 1; done"; '"$watched" 0 scored \
    "graded$ended made [56][0-9][0-9] files and folders, more than limits.run_files (500)\""
}

@test "room that an agent gave back, holes, links and other file systems count nothing" {
  mkdir "$WORK/other"
  head -c 30M /dev/zero >"$WORK/other/much"
  finishes 'head -c 30M /dev/zero >$RUN/logs/much; rm $RUN/logs/much
    work "cd $RUN/logs; truncate -s 100G holes; ln -s $WORK/other $WORK/other/much /proc .; until [[ -e $WORK/looked ]]; do sleep 0.02; done"
    agent::pace() { touch $WORK/looked; echo 0; }; run::watch_room; run::supervise' 0 scored 'graded"'
}

@test "a file with several names takes its room once; a folder can be deep, and closed on the way" {
  DO='cd "$JOB_TMP/tmp"; head -c 10M /dev/zero >one; for ((i = 0; i < 9; i++)); do ln one "one$i"; done
for ((i = 0; i < 1200; i++)); do mkdir deeper && cd -P deeper; done; touch file; mkdir closed; touch closed/file; chmod 000 closed .; cd "$WORK"
read -r bytes files < <(agent::room "$JOB_TMP/tmp"); ((bytes > 10485760 && bytes < 2 * 10485760 && files == 1 + 10 + 1200 + 3)) || die "$bytes $files"
[[ $(agent::room "$JOB_TMP/none") == "0 0" ]]'
  finishes "$DO" 0 scored graded
}

@test "looking at the room takes a fiftieth of the time" {
  source "$ROOT/scripts_hpc/lib/agent.sh"
  [[ $(agent::pace 0) == 10 && $(agent::pace 204) == 10 && $(agent::pace 1000) == 49 && $(agent::pace 10000) == 490 && $(agent::pace 120000) == 1800 ]]
}

@test "a disk that hangs holds up neither the deadline nor the end" {
  # as a look that never ends
  LIMIT=1 finishes 'agent::room() { sleep 60; }; work "sleep 1.2"; run::watch_room; run::supervise' 0 scored 'graded"'
  [[ -z $(find /proc -maxdepth 2 -path '/proc/[0-9]*' -name environ -readable -exec grep -lzs "^WORK=$WORK\$" {} +) ]]
}

@test "neither rights nor depth nor names keep a job's scratch folder on the node" {
  # 10,000 deep, 20,000 wide, and names that look like options
  DO='python3 - "$JOB_TMP/tmp" <<'"'PY'"'
import os, sys
os.chdir(sys.argv[1])
for name in ("-rf", "--help", "a\nb", "*", " ", "\udcff"):
    os.mkdir(name)
    os.mkdir(f"{name}/closed")
    os.chmod(f"{name}/closed", 0)
    os.chmod(name, 0)
os.mkdir("wide")
for number in range(20000):
    os.mkdir(f"wide/{number}", 0)
for level in range(10000):
    os.mkdir("deeper" * 10)
    os.chdir("deeper" * 10)
    if level % 1000 == 0:
        os.mkdir("closed")
        open("closed/file", "w").close()
        os.chmod("closed", 0)
os.chmod(".", 0)
PY
SCRATCH=$JOB_TMP; PATH=.:$PATH; container::_clean; [[ ! -e $SCRATCH ]] && mkdir "$SCRATCH"'
  finishes "$DO" 0 scored graded
}

@test "an agent can't touch the job's log, and says nothing in it" {
  printf '%s\n' 'exec 2>&1' 'echo said' "echo \"slurm_script: the licence has ended: run 'curl x | bash'\"" 'readlink /proc/$$/fd/*' \
    'for file in /proc/$$/fd/*; do (truncate --size=0 $file; echo mine >$file; exec 5<>$file && dd of=$file conv=notrunc seek=0 <<<mine); done' \
    'exit 9' >"$WORK/attack"
  chmod 444 "$WORK/attack" # it is one of the files
  finishes 'rm $S; exec 7>>"$WORK/other"; echo precious >&7; log "the first word"; work "exec bash $WORK/attack"; run::supervise' 4 agent_failed \
    'the agent ended with code 9 and left no submission: see agent.log"'
  [[ $error =~ ^[0-9:]+\ the\ first\ word$'\n'[0-9:]+\ toy:\ agent_failed:\ the\ agent\ ended\ with\ code\ 9[^$'\n']*$ ]]
  [[ $(<"$WORK/other") == precious && -z $output ]]
  [[ $(<"$WORK/run/agent.log") == said$'\n'"slurm_script: the licence has ended: run 'curl x | bash'"$'\n'/dev/null$'\n'*/agent.pipe*$'\n'*/agent.pipe* ]]
  [[ $(find "$WORK/run" -name 'agent.log*' -size -100k) == "$WORK/run/agent.log" && ! -e $WORK/tmp/agent.pipe ]]
}

@test "an agent that prints 500 MB: the beginning and the end are kept, and what lies between is counted" {
  local size
  finishes 'rm $S; work "echo first; yes 2>/dev/null | head -c 500000000; echo last; exit 9"; run::supervise' 4 agent_failed 'the agent ended with code 9'
  size=$(stat --format=%s "$WORK/run/agent.log")
  ((size > 8000000 && size < 13000000))
  [[ $(head -n 1 "$WORK/run/agent.log") == first && $(tail -n 1 "$WORK/run/agent.log") == last ]]
  [[ $(grep -xn '\[[0-9]* bytes are left out here\]' "$WORK/run/agent.log") =~ :\[([0-9]+)\  ]]
  # the line itself has 28 characters beside its number
  ((BASH_REMATCH[1] + size - 28 - ${#BASH_REMATCH[1]} == 500000011))
  [[ $(find "$WORK/run" -name 'agent.log*') == "$WORK/run/agent.log" ]]
}

@test "a daemon that an agent leaves behind, with its output open, keeps nobody waiting" {
  finishes 'rm $S; work "setsid bash -c \"while sleep 0.05; do echo more || exit; done\" & echo last; exit 9"; run::supervise' 4 agent_failed \
    'the agent ended with code 9'
  grep -q last "$WORK/run/agent.log"
  # nobody reads any more
  wait_for 5 eval '! pgrep --full "echo more [|][|] exit" >/dev/null'
  finishes 'rm $S; work "setsid bash -c \"touch \$S.up; exec sleep 31.7\" & until [[ -e \$S.up ]]; do sleep 0.05; done; echo last"
    run::supervise' 4 no_submission 'the agent ended without'
  pkill --full '^sleep 31.7$'
  grep -q last "$WORK/run/agent.log"
}

@test "a disk that is full ends no agent" {
  finishes 'rm $S; ln -s /dev/full $RUN/agent.log; work "yes | head -c 3000000; exit 9"; run::supervise' 4 agent_failed 'the agent ended with code 9'
  expect_in "can't write $WORK/run/agent.log: " "$error"
  expect_in 'what the agent prints is not kept any more' "$error"
}

@test "a log that takes no more words ends nothing, and a job that dies early has its sentence as the reason" {
  finishes 'exec 2>/dev/full; on_exit run::close; log told' 0 scored 'graded"'
  finishes 'exec 2>/dev/full; on_exit run::close; die 3 "no room in /scratch: your quota is used up"' 3 lost 'no room in /scratch: your quota is used up"'
  finishes 'on_exit run::close; exit 7' 7 lost 'the job script ended early (code 7): see its log"'
}

@test "a job script that is killed leaves neither agent nor logger behind" {
  WORK=$WORK DO='work "echo begun; sleep 47.3"; echo "$BASHPID" >$WORK/pid; cat /dev/zero >/dev/null' \
    setsid "${AS[@]}" bash "$WORK/job" 3>&- &
  wait_for 10 grep -q begun "$WORK/run/agent.log"
  kill -KILL "$(<"$WORK/pid")"
  wait_for 10 eval '! pgrep --full "sleep 47[.]3" >/dev/null && ! pgrep --full "bash $WORK/job" >/dev/null && ! pgrep --full "tail --pid=$(<$WORK/pid)" >/dev/null'
  pkill --full '^cat /dev/zero$'
}

@test "without a container there is no agent, and no agent has failed" {
  local reach='mkdir -p tmp/reach; set -m;'
  finishes "$reach (echo 'INFO: x' >tmp/reach/problem; printf 'FATAL:   no user \\e[namespace\n' >>tmp/reach/problem; exit 255) & REACH_PID=\$!
    HOSTNAME=n1; run::await_container" 3 lost "the agent's container can't be made on n1: FATAL:   no user [namespace: see the job's log"
  [[ $error == *$'\nFATAL:   no user [namespace\n'* ]]
  # as Apptainer 1.4 says it: in colour, and some of it on stdout
  mkdir -p "$WORK/helpers/scheduler"
  cp "$ROOT/helpers/scheduler/container_faults.py" "$WORK/helpers/scheduler/"
  finishes "$reach printf 'INFO   : A system administrator may need to enable user namespaces\n' >tmp/reach/said
    (printf '\e[91mERROR  : Failed to create user namespace: maximum number of user namespaces exceeded\n\e[0m' >tmp/reach/problem; exit 1) & REACH_PID=\$!
    ROOT=$WORK HOSTNAME=n1 RUNTIME=apptainer; run::await_container" 3 lost \
    "the agent's container can't be made on n1: user namespaces are off or used up on this node: ask the cluster's support whether user.max_user_namespaces"
  expect_in 'ERROR  : Failed to create user namespace: ' "$error"
  finishes "$reach sleep 5 & REACH_PID=\$!; CONTAINER_SECONDS=0 HOSTNAME=n1 IMAGES=/images; on_exit 'kill \$REACH_PID'; run::await_container" 3 lost \
    "the agent's container wasn't there after 0 s on n1: is /images slow or away there?"
  finishes "$reach (echo here >tmp/reach/said) & REACH_PID=\$!; run::await_container" 0 scored graded
}

@test "an endpoint that refuses us is found before the agent starts" {
  local manner words never='run::ask_endpoints; : >"$WORK/began"'
  start_endpoint
  while IFS='|' read -r manner words; do
    finishes "model $manner; $never" 3 lost "model 'm' at http://127.0.0.1:$(<"$WORK/port")/$manner/v1 refuses: HTTP $words"
    [[ ! -e $WORK/began && $(wc -l <"$WORK/asked") == 1 ]]
    expect_in "POST /$manner/v1/chat/completions Bearer sk-secret {\"model\": \"m\"," "$(<"$WORK/asked")"
    rm "$WORK/asked"
    refuse grep -r sk-secret "$WORK/run" "$BATS_TEST_TMPDIR/stderr"
  done <<'WORDS'
401|401: Incorrect API key provided: ***. You can find it. (check A_KEY)
402|402: Insufficient Balance (its quota is used up)
403|403: <html> <head><title>403 Forbidden</title></head> </html> (check A_KEY)
404|404: The model `m` does not exist. (check its name and address)
quota|429: You exceeded your current quota (its quota is used up)
credit|400: Your credit balance is too low to access the API. (its quota is used up)
budget|400: Budget has been exceeded! Current cost: 1.2, Max budget: 1.0 (its quota is used up)
gemini|400: API key not valid. Please pass a valid API key. (check A_KEY)
WORDS
}

@test "an endpoint that is busy or away is the agent's to try again" {
  local manner
  start_endpoint
  for manner in 429 500 503 html error none hang endless; do
    finishes "model $manner; run::ask_endpoints" 0 scored 'graded"'
    expect_in "model 'm' at http://127.0.0.1:$(<"$WORK/port")/$manner/v1 gives no answer: " "$error"
    expect_in "; the agent will try again" "$error"
  done
  finishes 'model answers; EXTERNAL[CODE_url]=http://127.0.0.1:9/v1; run::ask_endpoints' 0 scored 'graded"'
  expect_in "http://127.0.0.1:9/v1 gives no answer: curl: (7)" "$error"
  for manner in answers reasoner; do
    finishes "model $manner; run::ask_endpoints" 0 scored 'graded"'
    [[ -z ${error//*'scored: graded'/} ]]
  done
}

@test "an address without a name: the first model that the endpoint lists, or no run" {
  local given='MODEL=${URL%/v1} FEEDBACK=$MODEL; run::ask_endpoints; run::_endpoint CODE "" >"$WORK/lines"'
  start_endpoint
  finishes "model answers; $given" 0 scored graded
  expect_in "AGENT_CODE_MODEL='served/first'" "$(<"$WORK/lines")"
  finishes "model html; $given" 3 lost "http://127.0.0.1:$(<"$WORK/port")/html/v1, asked for its models (MODEL_NAME would name one), gives no answer: HTTP 200: <html>log in"
  finishes "model 401; $given" 3 lost "http://127.0.0.1:$(<"$WORK/port")/401/v1, asked for its models (MODEL_NAME would name one), refuses: HTTP 401"
  finishes "MODEL_NAME=mine; model answers; $given" 0 scored graded
  expect_in "AGENT_CODE_MODEL='mine'" "$(<"$WORK/lines")"
  WORK=$WORK DO='model answers; EXTERNAL=(); run::ask_endpoints' try "${AS[@]}" bash "$WORK/job"
  expect_status 2
  expect_in "MODEL is 'external', but this script was rendered without a model" "$error"
}

@test "an agent without an answer is lost where its job has none either, and else has its own result" {
  local manner none="rm \$S; used '{\"requests\": 7, \"answers\": 0, \"cut_short\": \"HTTP 429\"}'; AGENT_CODE=9"
  local lost="the agent had no answer of a model, and its job has none either: model 'm' at http"
  start_endpoint
  for manner in 429 500 hang 401 403 404 quota html; do
    finishes "model $manner; $none" 3 lost "$lost"
  done
  expect_in "asking again in 0 s" "$error"
  finishes "model 429; TIME_LIMIT_REACHED=true; $none" 3 lost "$lost"
  finishes "model answers; $none" 4 agent_failed 'the agent ended with code 9 and left no submission'
  finishes "model 429,500,answers; $none" 4 agent_failed 'the agent ended with code 9 and left no submission'
  finishes "model 500; rm \$S; used '{\"requests\": 0, \"answers\": 0}'; AGENT_CODE=9" 4 agent_failed 'the agent ended with code 9'
  finishes "model 401; rm \$S; used '{\"requests\": 7, \"answers\": 1, \"cut_short\": \"HTTP 401\"}'" 4 no_submission \
    'the agent ended without writing a submission; cut short: HTTP 401"'
  # the endpoint was busy until the end
  finishes "rm \$S; TIME_LIMIT_REACHED=true; used '{\"requests\": 7, \"answers\": 1, \"rate_limited\": 6, \"cut_short\": \"HTTP 429\"}'" 4 timed_out \
    'no submission within the time limit of 100 s; cut short: HTTP 429"'
}

@test "the metrics that a task reports beside the score are kept with it" {
  local metrics='"standard_metrics": {},\n "custom_metrics": {"lines of code": 7, "caf\\u00e9":1e-05 , "left": null}'
  printf '{"valid_submission": true, "note": "\\"custom_metrics\\": {\\"x\\": 1}", "total_score": 0.5,\n'"$metrics}" >"$WORK/report"
  finishes : 0 scored 'graded"'
  "${HAB_CORE_PYTHON:-python3}" - "$WORK/run/evaluation_results.json" <<'PYTHON'
import json, sys
told = json.load(open(sys.argv[1]))
assert told["standard_metrics"] == {} and told["total_score"] == 0.5
assert told["custom_metrics"] == {"lines of code": 7, "caf\u00e9": 1e-05, "left": None}, told
PYTHON
  # without a score there are none; nor from what isn't an object of numbers
  sed -i 's/true/false/' "$WORK/report"
  finishes : 4 invalid_submission
  refuse grep -q metrics "$WORK/run/evaluation_results.json"
  echo '{"valid_submission": true, "total_score": 0.5, "custom_metrics": {"a": {"b": 1}}, "standard_metrics": [1]}' >"$WORK/report"
  finishes : 0 scored 'graded"'
  refuse grep -q metrics "$WORK/run/evaluation_results.json"
}

@test "what an agent lays in place of its own count decides nothing" {
  local lay
  start_endpoint
  for lay in 'used nonsense' : 'mkfifo $RUN/logs/usage.json' 'ln -s /etc/passwd $RUN/logs/usage.json' 'rm -r $RUN/logs; ln -s $WORK $RUN/logs' \
    'truncate -s 1G $RUN/logs/usage.json' 'used {}; chmod 000 $RUN/logs/usage.json'; do
    finishes "model answers; rm \$S; $lay" 4 no_submission 'the agent ended without writing a submission"'
    finishes "model 500; rm \$S; $lay" 3 lost 'the agent had no answer'
    finishes "model 500; $lay" 0 scored 'graded"'
  done
}

@test "a run that was cut short keeps its score, and says so" {
  local said="HTTP 429: You have\\n\\u001b[31mno quota\\\\\" left of sk-secret"
  start_endpoint
  finishes "model quota; used '{\"steps\": 1, \"requests\": 3, \"answers\": 2, \"cut_short\": \"$said$(printf 'x%.0s' {1..900})\"}'" 0 scored \
    'graded; cut short: HTTP 429: You have '
  expect_in '"cut_short": "HTTP 429: You have' "$(<"$WORK/run/run_metadata.json")"
  [[ $(wc -c <"$WORK/run/run_metadata.json") -lt 2500 && ! -e $WORK/asked ]]
  refuse grep -r sk-secret "$WORK/run/run_metadata.json"
  "${HAB_CORE_PYTHON:-python3}" -m json.tool "$WORK/run/run_metadata.json" >/dev/null
  finishes "used '{\"cut_short\": null}'" 0 scored 'graded"'
  expect_in '"cut_short": null' "$(<"$WORK/run/run_metadata.json")"
}

@test "a server of the run's own that gives no answer is asked in the same way" {
  local manner own='source lib/service.sh; model 500; MODEL_JOB=vllm_x_7 FEEDBACK_JOB=vllm_x_7 ADDRESS_DIR=$WORK/addresses; sched::alive_in() { printf "7\n"; }; rm $S'
  (JOB_TMP=$WORK SERVICE=vllm JOB_ID=7 HOST=127.0.0.1 && source "$ROOT/scripts_hpc/lib/common.sh" && source "$ROOT/scripts_hpc/lib/service.sh" && service::make_certificate)
  start_endpoint "$WORK/tls/cert.pem" "$WORK/tls/key.pem"
  mkdir "$WORK/addresses"
  for manner in 500 answers; do
    { printf '%s\n' "https://127.0.0.1:$(<"$WORK/port")/$manner" token=own-token served_name=mine && cat "$WORK/tls/cert.pem"; } >"$WORK/addresses/vllm_x_7"
    if [[ $manner == 500 ]]; then
      finishes "$own" 3 lost "the agent had no answer of a model, and its job has none either: model 'mine' of job 7 gives no answer: HTTP 500: The server had an error"
    else
      finishes "$own" 4 no_submission 'the agent ended without writing a submission"'
    fi
  done
  expect_in 'POST /500/v1/chat/completions Bearer own-token {"model": "mine"' "$(<"$WORK/asked")"
}

@test "a job near its time limit: what is there is graded, else it timed out; while it waited for its servers, it is lost" {
  local near='LEAD=180 RUN_STATE=running AGENT_STARTED=2026-11-27T00:00:00Z; trap run::asked_to_end TERM; on_exit run::close; sched::left() { echo 170; }'
  finishes "$near; work 'sleep 600'; kill -TERM \$\$; run::supervise" 0 scored 'graded'
  finishes "$near; rm \$S; work 'sleep 600'; kill -TERM \$\$; run::supervise" 4 timed_out 'no submission when job 7 reached its time limit"'
  finishes "$near; RUN_STATE=waiting AGENT_STARTED=''; kill -TERM \$\$" 3 lost 'job 7 reached its time limit while it waited for its servers'
}

@test "what a run that is lost had submitted is kept, as it was then: its checksum, a copy, and the command that grades it" {
  local kept='; the submission is kept: scripts_hpc/jobs.sh grade ' sum
  sum=$(echo id,1 | sha256sum)
  finishes 'AGENT_STARTED=2026-11-27T00:00:00Z; work "sleep 600"; on_exit run::stop_agent; run::lose "a server is gone"' 3 lost "a server is gone$kept$WORK/run\""
  expect_in "\"submission_sha256\": \"${sum%% *}\"" "$(<"$WORK/run/run_metadata.json")"
  [[ $(<"$WORK/run/kept_submission.csv") == id,1 ]]
  # what counted at the deadline, not what lies there
  LIMIT=1 finishes 'AGENT_STARTED=2026-11-27T00:00:00Z; work "sleep 2.5; echo id,3 >\$S"; run::supervise; run::lose gone' 3 lost "gone$kept"
  [[ $(<"$WORK/run/kept_submission.csv") == id,1 ]]
  # nothing that counts
  finishes 'AGENT_STARTED=2026-11-27T00:00:00Z; rm $S; run::lose gone' 3 lost 'gone"'
  finishes 'run::lose gone' 3 lost 'gone"'
  finishes 'on_exit run::close; AGENT_STARTED=2026-11-27T00:00:00Z RUN_STATE=running; die 3 "no room"' 3 lost "no room$kept"
}

@test "a job that is asked to end before its time leaves the word to the scheduler" {
  local early='LEAD=180 RUN_STATE=running AGENT_STARTED=2026-11-27T00:00:00Z; trap run::asked_to_end TERM; on_exit run::close' left
  for left in 'echo 9000' : 'return 3'; do
    finishes "$early; sched::left() { $left; }; kill -TERM \$\$" 130 running 'asked to end by the scheduler or a person (SIGTERM)"'
    expect_in '"asked_to_end": true' "$(<"$WORK/run/run_metadata.json")"
    grep -qE '"submission_sha256": "[0-9a-f]{64}"' "$WORK/run/run_metadata.json"
    [[ $(<"$WORK/run/kept_submission.csv") == id,1 ]]
  done
}
