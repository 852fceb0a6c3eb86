#!/usr/bin/env bash
# Runs AIDE. The driver waits for the services itself, after its imports: those take seconds, and the services are starting meanwhile.
# AGENT_PYTHON names the Python that has aideml (default: python3 of the container).
set -euo pipefail

export PYTHONDONTWRITEBYTECODE=1
exec "${AGENT_PYTHON:-python3}" -u "$AGENT_DIR/driver.py" </dev/null
