# shellcheck shell=bash
# task_competition.sh: the kind of task whose submission is a file of predictions, graded by the workflow's grading server. Sourced by
# run.sh. A kind of task is a file like this one, named by TASK_KIND in a job's part (part.sh), and its line in helpers/jobs/task_kinds.py:
#   task::find       sets PUBLIC, the folder that the agent has its data from; ends the job where it isn't there
#   task::lay_out    puts what else the agent works on into the run's folder
#   task::seen       prints what tells the submission as it is now from a later one
#   task::keep       takes a copy of it out of the agent's reach (sets SUBMISSION, SUBMISSION_PROBLEM, SUBMISSION_KEPT)
#   task::is_there   whether there may be one to be graded later
#   task::judge      a verdict on SUBMISSION; ends the job
#   TASK_KEPT        what a copy is called that is kept of a run which ends without being graded
#   TASK_SERVER      whether the grading server grades it
#   TASK_NOTHING     what an agent left that left nothing to be judged; TASK_WITHOUT, the same as a sentence on its end

# shellcheck disable=SC2034 # run.sh reads them, as it does what task::keep sets
TASK_KEPT=kept_submission.csv TASK_SERVER=1 TASK_NOTHING='no submission' TASK_WITHOUT='the agent ended without writing a submission'

task::find() {
  PUBLIC=$DATA/$COMPETITION/prepared/public
  common::check_prepared "$COMPETITION" public
}

task::lay_out() { :; }

task::seen() { agent::_seen "$RUN/submission/submission.csv"; }

task::is_there() { [[ -f $RUN/submission/submission.csv ]]; }

# Takes a copy of the submission, out of the agent's reach. SUBMISSION is the copy, or empty; SUBMISSION_PROBLEM says why what lies
# there is none; SUBMISSION_KEPT is what the file looked like then.
task::keep() {
  local folder=$RUN/submission code try
  SUBMISSION='' SUBMISSION_PROBLEM='' SUBMISSION_KEPT=$(task::seen)
  if [[ -L $folder || (-e $folder && ! -d $folder) ]]; then
    SUBMISSION_PROBLEM="the folder of the submission was replaced by something else: refused"
  elif [[ -d $folder && ! (-r $folder && -x $folder) ]]; then
    SUBMISSION_PROBLEM="the folder of the submission can't be read: its rights were taken away"
  elif [[ -e $folder/submission.csv || -L $folder/submission.csv ]]; then
    for ((try = 0; try < 2; try++)); do
      # the run's own disk may be full where the node's is not
      for SUBMISSION in "$JOB_TMP/submission.csv" "$RUN/.submission.csv"; do
        code=0
        SUBMISSION_PROBLEM=$(agent::copy "$folder/submission.csv" $((UPLOAD_MB * 1048576)) "$SUBMISSION") || code=$?
        ((code == 3)) || break 2
        rm -f "$SUBMISSION"
      done
      # what the agent has filled it has filled in vain
      common::end_group "$AGENT_PID" 5
      container::empty_tmp
    done
    ((code != 3 || LOSING)) || run::lose "$SUBMISSION_PROBLEM"
    ((code == 0)) || SUBMISSION=''
  fi
}

task::judge() {
  local note
  task::_grade "$SUBMISSION"
  # which file has that score: known for as long as the record is
  # shellcheck disable=SC2034
  read -r SUBMISSION_SHA256 _ < <(sha256sum <"$SUBMISSION")
  task::_keep_report
  note=$(json::text note <"$RUN/$REPORT")
  grep -qE '"valid_submission": *true' "$RUN/$REPORT" ||
    run::conclude invalid_submission "the submission can't be graded${note:+: $note}"
  # JSON's numbers are finite
  grep -qE '"total_score": *-?[0-9]' "$RUN/$REPORT" ||
    run::conclude invalid_submission "the submission has no score that is a number${note:+: $note}"
  run::conclude scored graded
}

# The report, and with it what was graded where that isn't what lies there any more.
task::_keep_report() {
  local path=$RUN/submission/submission.csv
  rm -rf "$RUN/.reserve"
  if [[ $(task::seen) != "$SUBMISSION_KEPT" ]]; then
    path=$RUN/graded_submission.csv
    { mv -f "$SUBMISSION" "$path" && SUBMISSION=$path; } || log "can't keep what was graded in $path: $(common::lacking "$RUN")"
  fi
  # the server knows the upload, not where it came from
  path=$(json::string "$path" | sed 's/[\\&|]/\\&/g')
  sed "s|\"submission_path\": *\"\"|\"submission_path\": $path|" "$JOB_TMP/report.json" |
    common::write_atomic "$RUN/$REPORT" ||
    run::lose "can't write to $RUN: $(common::lacking "$RUN")"
}

# Has the copy graded. A server that gives no answer is asked again, less and less often and not for ever; one of ours that is being
# started again, for as long as its job lives, is waited for.
task::_grade() { # task::_grade FILE: the report is $JOB_TMP/report.json
  local code problem tries=0 pause=1 since='' checked=$SECONDS
  for (( ; ; )); do
    code=$(task::_send "$1") || run::lose "$code"
    [[ $code != 200 ]] || return 0
    [[ $code == 000 ]] || task::_not_graded "$code"
    problem=$(head -n 1 "$JOB_TMP/problem")
    run::_check_servers
    if [[ -e $ADDRESS_DIR/$GRADING_JOB ]]; then
      since=${since:-$SECONDS}
      ((++tries < GRADE_TRIES && SECONDS - since < SILENT_SECONDS)) ||
        run::lose "the grading server was sent the submission $tries times and gave no answer (${problem:-no reason is known})"
      log "the grading server gave no answer (${problem:-no reason is known}); sending the submission again in $pause s"
      common::pause "$pause"
      pause=$((pause * 2))
    fi
    until [[ -e $ADDRESS_DIR/$GRADING_JOB ]]; do
      common::pause 1
      ((SECONDS - checked < 10)) || { checked=$SECONDS && run::_check_servers; }
    done
  done
}
GRADE_TRIES=8 # with pauses of 1, 2, 4, … s: about two minutes

# Sends a file to be graded, with the token that no agent sees; the address is read anew each time. Prints the HTTP code, 000 without
# an answer (curl's words are in $JOB_TMP/problem); code 1 with a sentence where this node is to blame.
task::_send() { # task::_send FILE
  local code failure=0
  local arguments=(--max-time 900 --output "$JOB_TMP/report.json" --write-out '%{http_code}' --header "X-Run-Id: $RUN_NAME"
    --form "competition=$COMPETITION" --form "file=@$1;filename=submission.csv")
  rm -f "$JOB_TMP/report.json"
  if [[ -n $GRADING_JOB ]]; then
    code=$(service::ask "$GRADING_JOB" admin_token /grade "${arguments[@]}" 2>"$JOB_TMP/problem") || failure=$?
  else
    code=$(service::curl "${GRADING_ADMIN_TOKEN:-}" "${arguments[@]}" "$GRADING/grade" 2>"$JOB_TMP/problem") || failure=$?
  fi
  case $failure in
    0) printf '%s' "$code" ;;
    # https://curl.se/libcurl/c/libcurl-errors.html
    23) printf "can't write to %s: %s" "$JOB_TMP" "$(common::lacking "$JOB_TMP")" && return 1 ;;
    26) printf "can't read %s to send it to the grading server" "$1" && return 1 ;;
    *) printf 000 ;;
  esac
}

# A refusal is the submission's own where it names its size, or where the server grades another one.
task::_not_graded() { # task::_not_graded HTTP_CODE
  local said other
  said=$(json::text error <"$JOB_TMP/report.json" 2>/dev/null) || true
  said="HTTP $1: ${said:-$(head -n 1 "$JOB_TMP/problem")}"
  case $1 in
    413) run::conclude invalid_submission "the grading server doesn't take the submission ($said)" ;;
    400 | 408 | 415 | 422 | 431 | 5??)
      for other in "$PUBLIC"/sample_submission*.csv; do break; done
      if [[ ! -r $other ]]; then
        other=$JOB_TMP/other.csv
        printf 'id\n0\n' >"$other"
      fi
      [[ $(task::_send "$other") != 200 ]] ||
        run::conclude invalid_submission "the grading server can't judge the submission, but others ($said)"
      ;;
  esac
  run::lose "the grading server refused to grade ($said)"
}
