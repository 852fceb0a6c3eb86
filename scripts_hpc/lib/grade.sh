# shellcheck shell=bash
# grade.sh: earlier runs are graded, by one grading server for all and a job for each, an array where there are several. Sourced by the
# commands that do it: `jobs.sh grade` for runs that ended without being graded; with --again, `results.sh regrade` for those that were
# scored; `run_benchmark.sh eval` for a round's. The checks are in helpers/jobs/grading_folder.py, what the jobs do in run.sh (run::grade_later).
# What the plan has printed (helpers/jobs/grading_folder.py) is submitted as it says:
#   FOLDER         of the jobs, with the scripts in jobs/, and an order for each run
#   COMPETITIONS   what the grading server grades
#   GRADERS        "FIRST COUNT AT_ONCE" each: an array of COUNT jobs, from order FIRST on, AT_ONCE of them at the same time; a job of its own
#                  where that is 0. They follow one another

# shellcheck source=scripts_hpc/lib/submit.sh
source "$ROOT/scripts_hpc/lib/submit.sh"
# shellcheck source=scripts_hpc/lib/scheduler.sh
source "$ROOT/scripts_hpc/lib/scheduler.sh"
# shellcheck source=scripts_hpc/lib/service.sh
source "$ROOT/scripts_hpc/lib/service.sh"

FOLDER='' SCHEDULER='' ADDRESS_DIR='' COMPETITIONS=() GRADERS=()

grade::main() { # grade::main ARGUMENTS OF jobs.sh…
  local options=() watch=() detach=0
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
  submit::plan "$PYTHON" -m helpers.jobs.later ${options[@]+"${options[@]}"}
  grade::submit
  submit::hand_over grading "$FOLDER" "$detach" "$PYTHON" -m helpers.jobs.cli attach "$FOLDER" ${watch[@]+"${watch[@]}"}
}

grade::submit() { # what the plan has printed
  local server graders first count at_once options=()
  submit::open "$FOLDER"
  SUBMIT_UNDO=grade::_abandon
  submit::job grading_server "$FOLDER/jobs/grading_server.sh" "${COMPETITIONS[@]}"
  server=$JOB
  for graders in "${GRADERS[@]}"; do
    read -r first count at_once <<<"$graders"
    options+=(--after "$server")
    if ((at_once)); then
      submit::array agent "$count" --at-once "$at_once" "${options[@]}" "$FOLDER/jobs/grade.sh" "auto:$server" "$first" "$count"
    else
      submit::job agent "${options[@]}" "$FOLDER/jobs/grade.sh" "auto:$server" "$first" "$count"
    fi
    service::enlist "grading_server_$server" "$JOB" "$FOLDER"
    options=(--after-end "$JOB")
  done
  submit::close
}

# shellcheck disable=SC2329 # submit.sh calls it
grade::_abandon() { # the server is the first that was submitted
  service::forget "grading_server_${SUBMITTED[0]#*=}"
}
