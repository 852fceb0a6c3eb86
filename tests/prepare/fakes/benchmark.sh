# shellcheck shell=bash
# What the fake `mlebench` and `biomlbench` share; each sets PROGRAM, ID_OPTIONS and LAYOUT first.
#
# FAKE_PLANS: a folder; <id with % for />: what each attempt does, a word a line, the last one again and again (default: ok). There
# each call is noted in `calls`, and where a task is in <id>.<state>. Texts are those of the real programs (mlebench/data.py,
# utils.py; kaggle 1.6.17, and 2.2.5 where the word begins with `new-`; urllib3).

say() { printf '%s\n' "$@" >&2; }

usage() {
  say "usage: $PROGRAM prepare [-h] $1 ID [--keep-raw] [--data-dir D]" "$PROGRAM prepare: error: $2"
  exit 2
}

trace() { # trace ERROR: as Python ends with an exception
  say 'Traceback (most recent call last):' "  File \"/opt/$PROGRAM/cli.py\", line 185, in main" '    download_and_prepare_dataset(' "$@"
  exit 1
}

read_options() {
  [[ ${1:-} == prepare ]] || usage "${ID_OPTIONS[0]}" "argument command: invalid choice: '${1:-}'"
  shift
  ID='' DATA='' KEEP_RAW=0 SKIP=0 LEADERBOARD=0
  while (($#)); do
    case $1 in
      "${ID_OPTIONS[0]}" | "${ID_OPTIONS[1]}") ID=$2 && shift ;;
      --data-dir) DATA=$2 && shift ;;
      --keep-raw) KEEP_RAW=1 ;;
      --skip-verification) SKIP=1 ;;
      --overwrite-leaderboard) LEADERBOARD=1 ;;
      --overwrite-checksums) ;;
      *) usage "${ID_OPTIONS[0]}" "unrecognized arguments: $1" ;;
    esac
    shift
  done
  [[ -n $ID && -n $DATA ]] || usage "${ID_OPTIONS[0]}" 'a task and --data-dir are needed'
}

next_word() { # next_word FILE: sets WORD and counts the attempt
  local words=(ok)
  [[ ! -f $FAKE_PLANS/$FLAT ]] || mapfile -t words <"$FAKE_PLANS/$FLAT"
  local attempt
  attempt=$(grep -c . "$FAKE_PLANS/$FLAT.attempts" 2>/dev/null) || attempt=0
  printf 'x\n' >>"$FAKE_PLANS/$FLAT.attempts"
  ((attempt < ${#words[@]})) || attempt=$((${#words[@]} - 1))
  WORD=${words[attempt]}
}

make_task() { # make_task NUMBER: the layout of the real program
  local folder=$DATA/$ID
  mkdir -p "$folder/prepared/public" "$folder/prepared/private"
  ((! KEEP_RAW)) || { mkdir -p "$folder/raw" && printf 'raw\n' >"$folder/raw/data.csv"; }
  [[ $LAYOUT != zip ]] || archive "$folder/$ID.zip"
  printf '# %s, attempt %s\n' "$ID" "$1" >"$folder/prepared/public/description.md"
  printf 'id,target\n1,0\n' >"$folder/prepared/public/sample_submission.csv"
  printf 'id,target\n1,1\n' >"$folder/prepared/private/test.csv"
}

archive() { # archive FILE: an empty zip archive, where there is none yet
  [[ -e $1 ]] || { mkdir -p "$(dirname "$1")" && printf 'PK\005\006\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >"$1"; }
}

wait_for_ever() {
  sleep 1000 &
  printf '%s %s\n' "$$" "$!" >"$FAKE_PLANS/$FLAT.pids.new" # shown when it is whole
  mv "$FAKE_PLANS/$FLAT.pids.new" "$FAKE_PLANS/$FLAT.pids"
  wait || true
  wait
}

gate() {
  : >"$FAKE_PLANS/$FLAT.waiting"
  until [[ -e $FAKE_PLANS/$FLAT.open ]]; do sleep 0.02; done
}

behave() {
  local host="HTTPSConnectionPool(host='www.kaggle.com', port=443)"
  local unresolved="$host: Max retries exceeded with url: /api/v1/competitions/list (Caused by NameResolutionError(\"<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to resolve 'www.kaggle.com' ([Errno -3] Temporary failure in name resolution)\"))"
  local denied='PermissionError: Kaggle authentication failed! Please ensure you have valid Kaggle API credentials configured. Refer to the Kaggle API documentation for guidance on setting up your API token.'
  case $1 in
    ok) make_task "$(grep -c . "$FAKE_PLANS/$FLAT.attempts")" ;;
    credentials)
      say "[2026-01-01 00:00:00,000] [utils.py:36] Authentication failed: Could not find kaggle.json. Make sure it's located in ~/.config/kaggle. Or use the environment method."
      trace "OSError: Could not find kaggle.json. Make sure it's located in ~/.config/kaggle. Or use the environment method." '' "$denied"
      ;;
    refused) trace 'kaggle.rest.ApiException: (401)' 'Reason: Unauthorized' 'HTTP response body: {"code":401,"message":"Unauthenticated"}' '' "$denied" ;;
    new-credentials) # the client ends the program itself
      say 'Authentication required to call the Kaggle API.' '' '    export KAGGLE_API_TOKEN=xxxxxxxxxxxxxx  # token copied from the settings UI'
      exit 1
      ;;
    new-refused) trace 'requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://api.kaggle.com/v1/competitions.CompetitionApiService/ListCompetitions' '' "$denied" ;;
    new-rules)
      say "requests.exceptions.HTTPError: You must accept this competition's rules before you'll be able to download files."
      trace 'EOFError: EOF when reading a line'
      ;;
    new-client) trace "ModuleNotFoundError: No module named 'kaggle.rest'" ;;
    denied) trace "$denied" ;;
    rules)
      say 'kaggle.rest.ApiException: (403)' 'Reason: Forbidden' "HTTP response body: b'{\"code\":403,\"message\":\"You must accept this competition\\\\u0027s rules before you\\\\u0027ll be able to download files.\"}'"
      say 'You must accept the competition rules before downloading the dataset.'
      printf 'Would you like to open the competition page in your browser now? (y/n): '
      read -r || trace 'EOFError: EOF when reading a line'
      ;;
    forbidden) trace 'kaggle.rest.ApiException: (403)' 'Reason: Forbidden' 'HTTP response headers: HTTPHeaderDict({})' ;;
    checksum)
      archive "$DATA/$ID/$ID.zip"
      ((! SKIP)) || { make_task 1 && return; }
      trace "ValueError: Checksum for \`$DATA/$ID/$ID.zip\` does not match the expected checksum! Expected \`aaa\` but got \`bbb\`."
      ;;
    checksums) trace "ValueError: Checksums do not match for \`$ID\`!" '--- actual_checksums' '+++ expected_checksums' '-  test.csv: aaa' '+  test.csv: bbb' ;;
    unknown)
      local where=competitions
      [[ $LAYOUT == zip ]] || where=tasks
      trace "AssertionError: File \`/opt/$PROGRAM/$where/$ID/config.yaml\` does not exist."
      ;;
    network)
      mkdir -p "$DATA/$ID/raw" && printf 'part' | tee "$DATA/$ID/$ID.zip" >"$DATA/$ID/raw/half"
      trace "urllib3.exceptions.MaxRetryError: $unresolved"
      ;;
    network-in-login) trace "urllib3.exceptions.MaxRetryError: $unresolved" '' "$denied" ;;
    leaderboard) # stumbles after it has saved it
      ((! LEADERBOARD)) || trace "ValueError: '/opt/mlebench/competitions/$ID' is not in the subpath of '$PWD' OR one path is relative and the other is absolute."
      make_task 1
      ;;
    leaderboard-of-20) trace "KeyError: \"['teamNameNullable', 'teamName'] not found in axis\"" ;;
    busy) trace 'kaggle.rest.ApiException: (503)' 'Reason: Service Unavailable' ;;
    certificate) trace "$host: Max retries exceeded with url: / (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)')))" ;;
    module) trace "ModuleNotFoundError: No module named 'kaggle'" ;;
    full)
      mkdir -p "$DATA/$ID/prepared/public" && printf 'half' >"$DATA/$ID/prepared/public/train.csv"
      archive "$DATA/$ID/$ID.zip"
      cat /dev/zero >/dev/full # the kernel's own ENOSPC
      ;;
    killed) mkdir -p "$DATA/$ID/prepared/public" && kill -KILL $$ ;;
    segfault) kill -SEGV $$ ;;
    hang) wait_for_ever ;;
    stubborn) trap '' TERM && wait_for_ever ;;
    escape)
      setsid sleep 1000 &
      printf '%s %s\n' "$$" "$!" >"$FAKE_PLANS/$FLAT.pids" && wait
      ;;
    gate) gate && make_task 1 ;;
    leftover) # leaves a process behind
      sleep 1000 &
      printf '%s %s\n' "$$" "$!" >"$FAKE_PLANS/$FLAT.pids"
      make_task 1
      ;;
    shares-late) gate && behave shares ;;
    shares) # as BioML-bench's ProteinGym tasks
      local archives=$DATA/${ID%/*}/archives.zip
      [[ -e $archives ]] || { printf 'download %s\n' "$ID" >>"$FAKE_PLANS/downloads" && archive "$archives"; }
      make_task 1
      ;;
    nothing) ;;
    half) mkdir -p "$DATA/$ID/prepared/public" && printf 'x\n' >"$DATA/$ID/prepared/public/description.md" ;;
    bug) trace "  File \"/opt/prepare.py\", line 7, in prepare" "KeyError: 'target'" ;;
    talks) printf '\033[31mred\033[0m\001\tword: a long way %0400d the end\n' 7 && exit 4 ;;
    silent) exit 5 ;;
    *) say "fake $PROGRAM: the plan of $ID says $1, which means nothing" && exit 99 ;;
  esac
}

main() {
  read_options "$@"
  FLAT=${ID//\//%}
  printf '%s %s | cwd %s threads %s\n' "$PROGRAM" "$*" "$PWD" "${OMP_NUM_THREADS:-none}" >>"$FAKE_PLANS/calls"
  mkdir cache # as diskcache does at the import
  next_word
  printf '[2026-01-01 00:00:00,000] [data.py:213] Preparing %s\n' "$ID" >&2
  behave "$WORD"
}
