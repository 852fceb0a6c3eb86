#!/usr/bin/env bash
# Asks the grading server whether a file is a valid submission, and prints its answer (valid or invalid and why; never a score).
# Usage: bash validate_submission.sh FILE
# Reads GRADING_SERVER, GRADING_TOKEN and GRADING_CA_FILE (the server's certificate) from ENDPOINTS_FILE, else from the environment.
# Exit codes: 0 valid, 1 invalid, 2 usage, 3 no answer from the grading server.
set -euo pipefail

HERE=${BASH_SOURCE[0]%/*}
[[ "$HERE" != "${BASH_SOURCE[0]}" ]] || HERE=.
PATIENCE=${VALIDATE_SECONDS:-30} # seconds for a server that is being started again

die() {
  local code=$1
  shift
  printf 'validate_submission: %s\n' "$*" >&2
  exit "$code"
}

# post_with_curl FILE: print the body of the answer (or why there is none), then the HTTP status on a line of its own (000: no answer)
# The token travels through a pipe: arguments are readable by others. With a certificate of its own the server is reached directly,
# and nobody else is trusted: an empty --capath keeps curl from adding the system's authorities. -q: whatever ~/.curlrc says.
post_with_curl() {
  local escaped=${GRADING_TOKEN:-} headers="" pin=()
  escaped=${escaped//\\/\\\\}
  [[ -z "$escaped" ]] || headers="header = \"Authorization: Bearer ${escaped//\"/\\\"}\""
  [[ -z "${GRADING_CA_FILE:-}" ]] || pin=(--cacert "$GRADING_CA_FILE" --capath "$HERE" --noproxy '*')
  curl -q --silent --show-error --stderr - --max-time 300 --write-out '\n%{http_code}\n' ${pin[@]+"${pin[@]}"} \
    --config <(printf '%s\n' "$headers") \
    --form 'file=@-;filename=submission.csv' ${COMPETITION_ID:+--form-string "competition=$COMPETITION_ID"} \
    "$GRADING_SERVER/validate" <"$1" || true
}

# post_with_python FILE: the same where there is no curl
post_with_python() {
  GRADING_SERVER=$GRADING_SERVER GRADING_TOKEN=${GRADING_TOKEN:-} GRADING_CA_FILE=${GRADING_CA_FILE:-} \
    python3 "$HERE/post_submission.py" "$1"
}

# read_endpoints: what ENDPOINTS_FILE says now; a server that was started again has another address
read_endpoints() {
  [[ -r "${ENDPOINTS_FILE:-}" ]] || return 0
  # shellcheck source=/dev/null
  source "$ENDPOINTS_FILE"
}

# json_text KEY JSON: print the string that KEY has in a flat JSON object (a machine with neither jq nor python must do)
json_text() {
  local key=$1 text=$2
  [[ "$text" == *"\"$key\""* ]] || return 0
  text=${text#*"\"$key\""}
  text=${text#*\"}
  text=${text%\"*}
  printf '%b\n' "${text//\\\"/\"}"
}

# reason TEXT: the first line of curl's or Python's words
reason() {
  local line=${1%%$'\n'*}
  [[ -z "$line" ]] || printf ': %s' "$line"
  [[ "${line,,}" != *certificate* ]] || printf " (whoever answers there is not this run's grading server)"
}

main() {
  if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"
    exit 0
  fi
  [[ $# -eq 1 ]] || die 2 "give one file, the submission to check"
  [[ -f "$1" && -r "$1" ]] || die 2 "'$1' is not a readable file"
  local answer status body
  while true; do
    read_endpoints
    [[ -n "${GRADING_SERVER:-}" ]] || die 3 "no address of the grading server (GRADING_SERVER; the services may not be ready yet)"
    if command -v curl >/dev/null; then
      answer=$(post_with_curl "$1")
    else
      answer=$(post_with_python "$1") || die 3 "there is neither curl nor a working python3"
    fi
    status=${answer##*$'\n'}
    body=${answer%$'\n'*}
    # while the server is being started again there is nobody there; its new address comes with the file
    if [[ "$status" != 000 || ! -r "${ENDPOINTS_FILE:-}" ]] || ((SECONDS >= PATIENCE)); then break; fi
    sleep 0.5
  done
  case "$status" in
    200) ;;
    000) die 3 "no answer from the grading server at $GRADING_SERVER$(reason "$body")" ;;
    *) die 3 "the grading server answered with HTTP $status: $(json_text error "$body")" ;;
  esac
  local verdict
  verdict=$(json_text result "$body")
  printf '%s\n' "$verdict"
  [[ "${verdict,,}" == "submission is valid"* ]]
}

main "$@"
