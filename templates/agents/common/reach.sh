#!/usr/bin/env bash
# Says whether a container like the agent's reaches the run's servers: what can't be reached from there is no fault of the agent. The
# job runs it in a container of its own, which no agent can touch. Usage: bash reach.sh
# Prints `here` at once, as a container that can't be made doesn't, then `ok`, or `unreachable URL: why` after a minute. Only servers with a certificate of the run's are tried; none is sent a token.
set -euo pipefail
PATIENCE=${REACH_SECONDS:-60}

# try URL CERTIFICATE: whether somebody who holds that certificate answers there, whatever the answer; prints why not
try() {
  if command -v curl >/dev/null; then
    curl -q --silent --show-error --stderr - --max-time 10 --output /dev/null --noproxy '*' --cacert "$2" --capath "$AGENT_DIR" "$1"
  elif command -v python3 >/dev/null; then
    python3 -I - "$1" "$2" <<'PYTHON'
import ssl, sys, urllib.error, urllib.request

context = ssl.create_default_context(cafile=sys.argv[2])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
try:
    opener.open(sys.argv[1], timeout=10).close()
except urllib.error.HTTPError:
    pass
except OSError as error:
    sys.exit(print(error) or 1)
PYTHON
  fi
}

# reach NAME: tries one server; its address is read anew each time, for a server that was started again has another
reach() {
  local certificate=$1_CA_FILE url=$1_BASE_URL limit=$((SECONDS + PATIENCE)) problem
  if [[ "$1" == GRADING ]]; then url=GRADING_SERVER; fi
  while true; do
    # shellcheck source=/dev/null
    source "$ENDPOINTS_FILE"
    [[ -n "${!certificate:-}" ]] || return 0
    if problem=$(try "${!url}" "${!certificate}"); then return 0; fi
    if ((SECONDS >= limit)); then
      printf 'unreachable %s: %s\n' "${!url}" "${problem//$'\n'/ }"
      exit 0
    fi
    sleep 1
  done
}

printf 'here\n'
until [[ -r "$ENDPOINTS_FILE" ]]; do sleep 0.1; done
for name in GRADING AGENT_CODE AGENT_FEEDBACK; do reach "$name"; done
printf 'ok\n'
