#!/usr/bin/env bash
# A test agent that attacks the sandbox it runs in (see attack.py), and then behaves.
set -euo pipefail

# shellcheck source=templates/agents/common/await_endpoints.sh
source "$AGENT_DIR/await_endpoints.sh"
exec "${AGENT_PYTHON:-python3}" -u "$AGENT_DIR/attack.py" </dev/null
