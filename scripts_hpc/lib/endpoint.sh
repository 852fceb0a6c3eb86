#!/usr/bin/env bash
# endpoint.sh: asks a model for one token, to see for ourselves whether it answers those who have our key.
#
# Sourced by the agent's job (functions endpoint::*), or run by the Python helpers, with ROOT, and CA_BUNDLE where there is one:
#   endpoint.sh URL NAME KEY_VARIABLE   an empty NAME: the first model that the endpoint lists
# Codes: 0 it answers; 4 it refuses, and no second try would help (key, quota, name, address); 5 it doesn't answer now. With 4 and 5 a
# sentence on stdout, with the endpoint's own words. Needs common.sh, service.sh and container.sh.

ENDPOINT_SECONDS=30 # for one answer of one token

endpoint::ask() { # endpoint::ask URL NAME KEY [VARIABLE]: an endpoint that is somebody else's; VARIABLE: what holds the key, for the sentence
  local url=$1 name=$2 key=$3
  endpoint::_outside "$key" "$url/chat/completions" --header 'Content-Type: application/json' --data "$(endpoint::_question "$name")" |
    endpoint::_judge "model '$name' at $url" "$key" "${4:-its key}"
}

endpoint::ask_server() { # endpoint::ask_server SERVICE_JOB: a server of the run itself
  local server=$1 name
  name=$(service::lookup "$server" served_name) || name=''
  endpoint::_reply service::ask "$server" token /v1/chat/completions --header 'Content-Type: application/json' \
    --data "$(endpoint::_question "$name")" |
    endpoint::_judge "model '$name' of job ${server##*_}" "$(service::lookup "$server" token)"
}

# Prints the name of the first model that an endpoint lists, for those who gave an address alone; codes and sentence as above.
endpoint::first_model() { # endpoint::first_model URL KEY [VARIABLE]
  local url=$1 key=$2 reply name
  reply=$(endpoint::_outside "$key" "$url/models")
  if [[ ${reply##*$'\n'} == 200 && $reply =~ \"id\":\ *\"([^\"]+)\" ]]; then
    printf '%s' "${BASH_REMATCH[1]}"
    return 0
  fi
  endpoint::_judge "$url, asked for its models (MODEL_NAME would name one)," "$key" "${3:-its key}" <<<"$reply"
}

endpoint::_question() { # endpoint::_question NAME
  printf '{"model": %s, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1}' "$(json::string "$1")"
}

# What came back, printable, at most 64 KB of it, and on a last line the HTTP code; or curl's own words. Whoever answers may send
# anything, for ever.
endpoint::_reply() { # endpoint::_reply COMMAND [ARGUMENTS OF curl…]
  { "$@" --max-time "$ENDPOINT_SECONDS" --write-out $'\n%{http_code}' 2>&1 || true; } | head -c 65536 | LC_ALL=C tr -cd ' -~\n'
}

# As the agent will ask: through the proxies that its container gets, and with the certificates that it trusts.
endpoint::_outside() ( # endpoint::_outside KEY URL [ARGUMENTS OF curl…]
  declare -A found=()
  container::proxies found
  for name in "${!found[@]}"; do export "$name=${found[$name]}"; done
  endpoint::_reply service::request "${1:-none}" ${CA_BUNDLE:+--cacert "$CA_BUNDLE"} "$2" "${@:3}"
)

# Some word a quota, or a wrong key, with a code that means something else (OpenAI 429, Anthropic and Gemini 400).
QUOTA='insufficient.?(quota|balance|credits|funds)|credit balance|billing_|budget.{0,20}exceeded'
WRONG_KEY='api.?key.{0,20}(invalid|not valid|incorrect|expired)'
ANSWER='"choices":[[:space:]]*\[[[:space:]]*\{'
# a model that wants its limit on tokens otherwise is there all the same
OTHER_LIMIT='max_(completion_)?tokens'

endpoint::_judge() { # endpoint::_judge WHO KEY [VARIABLE]: says what a reply on stdin means
  local who=$1 reply code said advice=''
  if [[ $who =~ //[^/@\ ]*@ ]]; then who=${who/"${BASH_REMATCH[0]}"/"//"}; fi # a password in an address
  reply=$(cat)
  code=${reply##*$'\n'}
  if [[ $code =~ ^[0-9]{3}$ ]]; then reply=${reply%"$code"}; else code=000; fi
  said=$(endpoint::words "$(endpoint::_said "$reply")" "$2")
  [[ $code == 000 ]] || said="HTTP $code${said:+: $said}"
  shopt -s nocasematch
  if [[ $code == 402 || ($code != 2?? && $reply =~ $QUOTA) ]]; then
    advice="its quota is used up"
  elif [[ $code == 401 || $code == 403 || ($code == 400 && $reply =~ $WRONG_KEY) ]]; then
    advice="check ${3:-its key}"
  elif [[ $code == 404 ]]; then
    advice="check its name and address"
  fi
  shopt -u nocasematch
  if [[ -n $advice ]]; then
    printf '%s refuses: %s (%s)' "$who" "$said" "$advice"
    return 4
  fi
  [[ ($code == 200 && $reply =~ $ANSWER) || (($code == 400 || $code == 422) && $reply =~ $OTHER_LIMIT) ]] || {
    printf '%s gives no answer: %s' "$who" "${said:-it has no address}"
    return 5
  }
}

endpoint::_said() { # endpoint::_said REPLY: the words in it; of what has none of the usual keys, its beginning
  local key said=''
  for key in message error detail msg; do
    said=$(json::text "$key" <<<"$1")
    [[ -z $said ]] || break
  done
  printf '%s' "${said:-$1}"
}

endpoint::words() { # endpoint::words TEXT [KEY…]: on one line, at most 300 characters, without the keys
  local text=${1:0:20000} key
  for key in "${@:2}"; do
    ((${#key} < 5)) || text=${text//"$key"/***}
  done
  text=$(tr -s ' \n' ' ' <<<"$text")
  text=${text# }
  text=${text:0:300}
  printf '%s' "${text% }"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  SITE=${SITE:-}
  for lib in common service container; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts_hpc/lib/$lib.sh"
  done
  ENDPOINT_SECONDS=15
  URL=${1%/} NAME=$2 KEY=''
  [[ -z $3 ]] || KEY=$(common::key "$3")
  if [[ -z $NAME ]]; then NAME=$(endpoint::first_model "$URL" "$KEY" "$3") || { CODE=$? && printf '%s' "$NAME" && exit "$CODE"; }; fi
  endpoint::ask "$URL" "$NAME" "$KEY" "$3"
fi
