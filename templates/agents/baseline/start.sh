#!/usr/bin/env bash
# Runs the baseline: scikit-learn on the public data, no model. AGENT_PYTHON names the Python that has scikit-learn.
set -euo pipefail

# shellcheck source=../common/await_endpoints.sh
source "$AGENT_DIR/await_endpoints.sh"
export PYTHONDONTWRITEBYTECODE=1
"${AGENT_PYTHON:-python3}" -u "$AGENT_DIR/baseline.py" </dev/null
bash "$AGENT_DIR/validate_submission.sh" "$SUBMISSION_DIR/submission.csv" || true
