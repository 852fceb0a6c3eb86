# shellcheck shell=bash
# task_repository.sh: the kind of task that is a repository at a commit: the agent works on a copy, what it changed is taken as a diff from
# outside, and test scripts run on a fresh checkout with that diff. Sourced by run.sh; task_competition.sh says what each function is for.
# A job's part has INSTANCE, the folder that was made of the task (helpers/repositories/instance.py), and TEST_IMAGE, in which the
# test scripts run.

# shellcheck disable=SC2034,SC2153 # run.sh reads and sets them

# shellcheck source=scripts_hpc/lib/repository.sh
source "$ROOT/scripts_hpc/lib/repository.sh"

TASK_KEPT=kept_diff.patch TASK_SERVER=0 TASK_NOTHING='no change in the repository' TASK_WITHOUT='the agent ended without changing anything in the repository'
REPOSITORY_MADE='' # once a diff was made

task::find() {
  PUBLIC=$INSTANCE/public
  [[ -d $PUBLIC/base.git && -f $INSTANCE/private/evaluation.json ]] ||
    die 2 "task '$COMPETITION': $INSTANCE isn't there, or isn't whole (paths.data of site $SITE): submit the workflow again, which makes it"
  container::check "$TEST_IMAGE"
}

task::lay_out() {
  repository::lay_out "$INSTANCE" "$RUN/workspaces/repo" "$TEST_IMAGE" || run::lose "can't lay out the repository: $REPOSITORY_SAID"
}

task::seen() { printf 'repository %s' "$REPOSITORY_MADE"; }

task::is_there() { [[ -f $RUN/$TASK_KEPT ]]; }

# A folder isn't copied while somebody writes to it: at the deadline the agent is ended first.
task::keep() {
  local code=0
  [[ -z $AGENT_PID ]] || common::end_group "$AGENT_PID" 5
  container::empty_tmp
  REPOSITORY_MADE=1
  SUBMISSION='' SUBMISSION_PROBLEM='' SUBMISSION_KEPT=$(task::seen)
  repository::diff "$INSTANCE" "$RUN/workspaces/repo" "$TEST_IMAGE" || code=$?
  case $code in
    0) [[ ! -s $RUN/artifacts/diff.patch ]] || SUBMISSION=$RUN/artifacts/diff.patch ;;
    4) SUBMISSION_PROBLEM=$REPOSITORY_SAID ;;
    *) ((LOSING)) || run::lose "$REPOSITORY_SAID" ;;
  esac
}

task::judge() {
  local code=0
  read -r SUBMISSION_SHA256 _ < <(sha256sum <"$SUBMISSION")
  repository::grade "$INSTANCE" "$RUN/workspaces/repo" "$TEST_IMAGE" "$SUBMISSION" || code=$?
  case $code in
    0) run::conclude scored "$REPOSITORY_SAID" ;;
    4) run::conclude invalid_submission "$REPOSITORY_SAID" ;;
    *) run::lose "$REPOSITORY_SAID" ;;
  esac
}
