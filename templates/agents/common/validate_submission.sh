#!/usr/bin/env bash
# Asks the grading server whether a file is a valid submission, and prints its answer (valid or invalid and why; never a score).
# Usage: bash validate_submission.sh FILE
# Reads GRADING_SERVER and GRADING_TOKEN from the environment, else from ENDPOINTS_FILE. Exit codes: 0 valid, 1 invalid, 2 usage,
# 3 no answer from the grading server.
set -euo pipefail

die() {
  local code=$1
  shift
  printf 'validate_submission: %s\n' "$*" >&2
  exit "$code"
}

# post_with_curl FILE: print the body of the answer, then the HTTP status on a line of its own (000: no answer)
# The token travels through a pipe: arguments are readable by others.
post_with_curl() {
  local escaped=${GRADING_TOKEN:-} headers=""
  escaped=${escaped//\\/\\\\}
  [[ -z "$escaped" ]] || headers="header = \"Authorization: Bearer ${escaped//\"/\\\"}\""
  curl --silent --show-error --max-time 300 --write-out '\n%{http_code}\n' --config <(printf '%s\n' "$headers") \
    --form 'file=@-;filename=submission.csv' ${COMPETITION_ID:+--form-string "competition=$COMPETITION_ID"} \
    "$GRADING_SERVER/validate" <"$1" || true
}

# post_with_python FILE: the same where there is no curl
post_with_python() {
  GRADING_SERVER=$GRADING_SERVER GRADING_TOKEN=${GRADING_TOKEN:-} python3 - "$1" <<'PYTHON'
import os, sys, urllib.error, urllib.request, uuid

boundary = uuid.uuid4().hex
parts = []
if os.environ.get("COMPETITION_ID"):
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="competition"\r\n\r\n{os.environ["COMPETITION_ID"]}\r\n'.encode())
parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="submission.csv"\r\n\r\n'.encode())
with open(sys.argv[1], "rb") as file:
    parts.append(file.read())
parts.append(f"\r\n--{boundary}--\r\n".encode())
request = urllib.request.Request(os.environ["GRADING_SERVER"] + "/validate", b"".join(parts))
request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
if os.environ["GRADING_TOKEN"]:
    request.add_header("Authorization", "Bearer " + os.environ["GRADING_TOKEN"])
try:
    with urllib.request.urlopen(request, timeout=300) as answer:
        body, status = answer.read(), answer.status
except urllib.error.HTTPError as error:
    body, status = error.read(), error.code
except OSError as error:
    print(f"validate_submission: {error}", file=sys.stderr)
    body, status = b"", 0
print(body.decode("utf-8", "replace").strip())
print(f"{status:03d}")
PYTHON
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

main() {
  if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"
    exit 0
  fi
  [[ $# -eq 1 ]] || die 2 "give one file, the submission to check"
  [[ -f "$1" && -r "$1" ]] || die 2 "'$1' is not a readable file"
  if [[ -z "${GRADING_SERVER:-}" && -r "${ENDPOINTS_FILE:-}" ]]; then
    # shellcheck source=/dev/null
    source "$ENDPOINTS_FILE"
  fi
  [[ -n "${GRADING_SERVER:-}" ]] || die 3 "no address of the grading server (GRADING_SERVER; the services may not be ready yet)"

  local answer status body
  if command -v curl >/dev/null; then
    answer=$(post_with_curl "$1")
  else
    answer=$(post_with_python "$1") || die 3 "there is neither curl nor a working python3"
  fi
  status=${answer##*$'\n'}
  body=${answer%$'\n'*}
  case "$status" in
    200) ;;
    000) die 3 "no answer from the grading server at $GRADING_SERVER" ;;
    *) die 3 "the grading server answered with HTTP $status: $(json_text error "$body")" ;;
  esac
  local verdict
  verdict=$(json_text result "$body")
  printf '%s\n' "$verdict"
  [[ "${verdict,,}" == "submission is valid"* ]]
}

main "$@"
