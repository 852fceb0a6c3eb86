#!/usr/bin/env bash
# Runs mini-swe-agent. The driver waits for the services itself, after its imports: those take seconds, and the services are starting meanwhile.
# AGENT_PYTHON names the Python that has mini-swe-agent (default: python3 of the container).
set -euo pipefail

export PYTHONDONTWRITEBYTECODE=1
# it has no settings but ours; prices come with the package, and nobody is told anything
export MSWEA_CONFIGURED=true MSWEA_SILENT_STARTUP=1 MSWEA_GLOBAL_CONFIG_DIR=${TMPDIR:-/tmp}/mini-swe MSWEA_COST_TRACKING=ignore_errors
export LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_MODE=PRODUCTION LITELLM_TELEMETRY=False DO_NOT_TRACK=1
exec "${AGENT_PYTHON:-python3}" -u "$AGENT_DIR/driver.py" </dev/null
