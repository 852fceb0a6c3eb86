# shellcheck shell=bash
# grade.sh: `jobs.sh grade`: a grading server, and a job for each run that ended without being graded; with --again, `results.sh regrade`: for
# each that was scored. Sourced by both; the checks are in helpers/jobs/later.py, what the jobs do in run.sh (run::grade_later).

# shellcheck source=scripts_hpc/lib/submit.sh
source "$ROOT/scripts_hpc/lib/submit.sh"
# shellcheck source=scripts_hpc/lib/scheduler.sh
source "$ROOT/scripts_hpc/lib/scheduler.sh"
# shellcheck source=scripts_hpc/lib/service.sh
source "$ROOT/scripts_hpc/lib/service.sh"

grade::main() { # grade::main ARGUMENTS OF jobs.sh…
  local options=() watch=() detach=0 server number
  while (($#)); do
    case $1 in
      --detach) detach=1 ;;
      --json) watch=(--json) ;;
      *) options+=("$1") ;;
    esac
    shift
  done
  python::ensure core
  submit::begin
  FOLDER='' SCHEDULER='' ADDRESS_DIR='' COMPETITION='' ORDERS=0
  submit::plan "$PYTHON" -m helpers.jobs.later ${options[@]+"${options[@]}"}
  submit::open "$FOLDER"
  SUBMIT_UNDO=grade::_abandon
  submit::job grading_server "$FOLDER/jobs/grading_server.sh" "$COMPETITION"
  server=$JOB
  for ((number = 0; number < ORDERS; number++)); do
    submit::job agent --after "$server" "$FOLDER/jobs/grade.sh" "$FOLDER/jobs/order_$number" "auto:$server"
    service::enlist "grading_server_$server" "$JOB" "$FOLDER"
  done
  submit::close
  submit::hand_over grading "$FOLDER" "$detach" "$PYTHON" -m helpers.jobs.cli attach "$FOLDER" ${watch[@]+"${watch[@]}"}
}

grade::_abandon() { # the server is the first that was submitted
  service::forget "grading_server_${SUBMITTED[0]#*=}"
}
