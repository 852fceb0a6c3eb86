#!/usr/bin/env bash
# Runs the `command:` of an entry in site-config/agents.yaml once the services are ready.
set -euo pipefail
# shellcheck source=templates/agents/common/await_endpoints.sh
source "$AGENT_DIR/await_endpoints.sh"
exec bash -c "$AGENT_COMMAND"
