#!/usr/bin/env bash
# Waits until all services of this run are ready, then exports their addresses and writes the agent's instructions.
# Usage: source "$AGENT_DIR/await_endpoints.sh"     (or run it with bash, for the instructions alone)
# Reads ENDPOINTS_FILE, which the host puts in place (lines NAME='value') when everything is ready. Ends when it is killed: the host does
# that when a service is dead for good. Writes $WORKSPACES_DIR/instructions.txt from instructions.txt and notes.md of $AGENT_DIR.
set -euo pipefail

# fill_placeholders TEXT...: print TEXT with every @NAME@ below replaced by the variable NAME
fill_placeholders() {
  local text="$*" name
  for name in COMPETITION_ID DATA_DIR SUBMISSION_DIR LOGS_DIR CODE_DIR AGENT_DIR WORKSPACES_DIR GRADING_SERVER TIME_LIMIT_SECS \
    STEP_LIMIT; do
    # the inner quotes keep a & in a value from standing for the placeholder (bash 5.2)
    text=${text//"@${name}@"/"${!name:-}"}
  done
  printf '%s\n' "$text"
}

until [[ -r "$ENDPOINTS_FILE" ]]; do sleep 0.05; done
set -a
# shellcheck source=/dev/null
source "$ENDPOINTS_FILE"
set +a

instructions=$(<"$AGENT_DIR/instructions.txt")
if [[ -f "$AGENT_DIR/notes.md" ]]; then
  instructions+=$'\n\n'$(<"$AGENT_DIR/notes.md")
fi
fill_placeholders "$instructions" >"$WORKSPACES_DIR/.instructions.txt.new"
mv -f "$WORKSPACES_DIR/.instructions.txt.new" "$WORKSPACES_DIR/instructions.txt"
unset instructions
