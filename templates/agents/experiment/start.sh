#!/usr/bin/env bash
# Runs the experiment agent in its workspace, EXPERIMENT_DIR: folders to work in, and links to data, code, logs and submission.
# AGENT_PYTHON names the Python to use (default: python3 of the container).
set -euo pipefail

# shellcheck source=templates/agents/common/await_endpoints.sh
source "$AGENT_DIR/await_endpoints.sh"
mkdir -p "$EXPERIMENT_DIR"/{workspace,models,results,notebooks,scripts,configs}
for name in data code logs submission; do
  variable=${name^^}_DIR
  ln -sfn "${!variable}" "$EXPERIMENT_DIR/$name"
done
export PYTHONDONTWRITEBYTECODE=1 RESULTS_DIR=$SUBMISSION_DIR TASK_TYPE=${TASK_TYPE:-general}
cd "$EXPERIMENT_DIR/workspace"
"${AGENT_PYTHON:-python3}" -u "$AGENT_DIR/experiment.py" </dev/null
[[ ! -e $SUBMISSION_DIR/submission.csv ]] || bash "$AGENT_DIR/validate_submission.sh" "$SUBMISSION_DIR/submission.csv" || true
