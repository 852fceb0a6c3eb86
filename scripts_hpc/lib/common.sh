# shellcheck shell=bash
# common.sh: messages, usage, exit hooks, JSON. Sourced; defines functions only.

# A log that takes no more words (a full disk, a quota) ends nothing.
# by the clock of whoever reads it, as Slurm's own messages in the same logs; times of other clocks are marked (Z, UTC)
log() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2 || true; }

DIED='' # the sentence of `die`, for exit hooks
die() { # die [exit code] message
  local code=1
  if [[ $1 =~ ^[0-9]+$ ]]; then
    code=$1
    shift
  fi
  # shellcheck disable=SC2034 # service.sh tells it to those who wait
  DIED=$*
  printf '%s: %s\n' "${0##*/}" "$*" >&2 || true
  exit "$code"
}

common::usage() { # common::usage FILE: the header comment of a script is its help
  local line first=1
  while IFS= read -r line; do
    if ((first)); then first=0 && continue; fi
    [[ $line == \#* ]] || break
    line=${line#\#}
    printf '%s\n' "${line# }"
  done <"$1"
}

common::check_shell() { # needs ROOT
  ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) ||
    die 2 "needs bash 4.4 or newer, found $BASH_VERSION: try 'module load bash', or put a newer bash first on PATH"
  # neither #SBATCH lines nor --bind can hold them
  [[ ${CHECKOUT:-$ROOT} != *[[:space:]:,]* ]] || die 2 "the path of this checkout holds a blank, ':' or ',' (${CHECKOUT:-$ROOT}): move it to a path without"
  common::check_env_file
  common::check_libraries
}

# What modules and profiles set for every program. A library to preload that a node lacks makes every command say so, also where its
# words are read; and with settings of OpenSSL for another version, or with providers that aren't there, no program can use TLS.
common::check_libraries() {
  local said
  if [[ -n ${LD_PRELOAD:-} ]]; then
    said=$(env true 2>&1) || true
    [[ -z $said ]] || { unset LD_PRELOAD && log "LD_PRELOAD is left out: ${said%%$'\n'*}"; }
  fi
  if [[ -n ${OPENSSL_CONF:-} ]] && command -v openssl >/dev/null && ! openssl rand -hex 1 >/dev/null 2>&1; then
    log "OPENSSL_CONF is left out: with $OPENSSL_CONF openssl can't even draw random numbers"
    unset OPENSSL_CONF
  fi
}

common::check_env_file() { # a word on keys that others can read; needs ROOT
  local file=${CHECKOUT:-$ROOT}/.env
  [[ -z $(find -L "$file" -maxdepth 0 -perm /077 2>/dev/null) ]] ||
    printf '%s: others on this machine can read the keys in %s: chmod 600 %q\n' "${0##*/}" "$file" "$file" >&2
}

# Which code a job that was submitted by hand runs; needs ROOT. For the background: on a slow file system git takes its time. It takes
# no lock, which would be in the way of who works in the checkout.
common::tell_commit() {
  local said changed=''
  said=$(timeout 20 git --no-optional-locks -c "safe.directory=$ROOT" -C "$ROOT" status --porcelain=v2 --branch --untracked-files=no 2>/dev/null) ||
    said='# branch.oid an unknown commit'
  [[ $said != *$'\n'[12u]' '* ]] || changed=', with changes'
  said=${said#*'# branch.oid '}
  log "runs the code of $ROOT as it is now: ${said%%$'\n'*}$changed"
}

common::key() { # common::key VARIABLE: a key, from the environment, else from .env; nothing else of .env is read; needs ROOT
  local name=$1 line file=${CHECKOUT:-$ROOT}/.env
  if [[ -n ${!name:-} ]]; then
    printf '%s' "${!name}"
    return
  fi
  [[ -r $file ]] || return 0
  line=$(grep -E "^(export +)?$name=" "$file" | tail -n 1) || return 0
  line=${line#*=}
  line=${line%$'\r'}
  case $line in
    \"*\") line=${line:1:-1} ;;
    \'*\') line=${line:1:-1} ;;
  esac
  printf '%s' "$line"
}

# What helpers/data/layout.py asks of a task before its jobs are submitted, for scripts that are submitted by hand. Needs DATA and SITE.
common::check_prepared() { # common::check_prepared TASK public|private…
  local folder=$DATA/$1/prepared half problem=''
  for half in "${@:2}"; do
    if [[ ! -d $folder/$half ]]; then
      problem="there is no $folder/$half"
    elif [[ -z $(ls -A "$folder/$half") ]]; then
      problem="$folder/$half is empty"
    elif [[ $half == public && ! -f $folder/public/description.md ]]; then
      problem="$folder/public has no description.md"
    else
      continue
    fi
    die 2 "competition '$1' isn't prepared: $problem (paths.data of site $SITE). Use scripts_hpc/prepare_tasks.sh $1 --site $SITE"
  done
}

# One EXIT trap a process: hooks are added to it, last in first out, and it keeps the exit code.
EXIT_HOOKS=()
on_exit() { # on_exit 'command line'
  EXIT_HOOKS+=("$1") EXIT_OWNER=$BASHPID
  trap common::run_exit_hooks EXIT
}
common::run_exit_hooks() {
  # for the hooks: what ended the process
  EXIT_CODE=$? EXIT_COMMAND=$BASH_COMMAND
  # A child that is ended before it is the program that it was forked for is a copy of this shell, with its trap: its end isn't ours.
  # (`exit` doesn't end it there.)
  [[ $BASHPID == "$EXIT_OWNER" ]] || kill -KILL "$BASHPID"
  local i
  trap - EXIT
  trap '' TERM INT HUP USR1
  set +e
  for ((i = ${#EXIT_HOOKS[@]} - 1; i >= 0; i--)); do eval "${EXIT_HOOKS[i]}"; done
  exit "$EXIT_CODE"
}

# A hook: strict mode ends a script without a word. Who ended it by `exit` or `die` has spoken, here or in a $(…).
common::tell_early_end() {
  ((EXIT_CODE)) || return 0
  # shellcheck disable=SC2016 # a pattern
  case $EXIT_CODE:$EXIT_COMMAND in
    *:exit*) ;;
    [234]:*'$('* | 130:*'$('* | *:return*) log "ended with code $EXIT_CODE" ;;
    *) printf '%s: ended early: this failed with exit code %d: %s\n' "${0##*/}" "$EXIT_CODE" "${EXIT_COMMAND:0:300}" >&2 ;;
  esac
}

common::now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

common::write_atomic() { # common::write_atomic FILE [mode], text on stdin
  local file=$1 mode=${2:-0644} temporary
  temporary=$(mktemp "${file%/*}/.${file##*/}.XXXXXX") || return
  if cat >"$temporary" && chmod "$mode" "$temporary" && mv -f "$temporary" "$file"; then return 0; fi
  rm -f "$temporary"
  return 1
}

# Whether a megabyte can be written to a folder; code 1, with the reason, where it can't. `df` knows nothing of quotas.
common::room() { # common::room FOLDER
  local folder=$1 file out said free code=0
  # who is asked to end between the next two lines would leave the file
  ((BASH_SUBSHELL == 0)) || trap '' INT TERM HUP
  if file=$(LC_ALL=C mktemp "$folder/.room.XXXXXX" 2>&1) && exec {out}>"$file"; then
    rm -f "$file"
    # a network file system says it only at fsync
    said=$(LC_ALL=C dd if=/dev/zero bs=1M count=1 conv=fsync 2>&1 >&"$out") || code=1
    exec {out}>&-
    ((code)) || return 0
  else
    said=$file
  fi
  free=$(df -Ph "$folder" 2>/dev/null | awk 'NR==2 {print $4}')
  case $said in
    *'Disk quota exceeded'*) printf "your quota is used up (the disk itself has %s free): delete something of yours, or ask for more" "$free" ;;
    *'No space left on device'*)
      if [[ $(df -Pi "$folder" 2>/dev/null | awk 'NR==2 {print $4}') == 0 ]]; then free='no inodes'; fi
      printf 'the disk is full (%s free)' "$free"
      ;;
    *) printf "nothing can be written (%s)" "${said##*: }" ;;
  esac
  return 1
}

# Why a write to a folder has just failed, in words.
common::lacking() { ! common::room "$1" || printf 'it is not known why, for a megabyte can be written there now'; } # common::lacking FOLDER

json::string() { # json::string TEXT: quoted, in UTF-8; control characters become blanks, what was cut within a character goes
  local text=$1 LC_ALL=C
  if [[ $text == *[$'\200'-$'\377']* ]]; then
    text=$(iconv -c -f UTF-8 -t UTF-8 <<<"$text" 2>/dev/null) || [[ -n $text ]] || text=${1//[$'\200'-$'\377']/?}
  fi
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//[$'\001'-$'\037']/ }
  printf '"%s"' "$text"
}

json::object() { # json::object KEY VALUE …; KEY:=VALUE (key ends in ':') takes the value as it is: numbers, true, null
  local separator='' key value
  printf '{'
  while (($# >= 2)); do
    key=$1 value=$2
    shift 2
    printf '%s' "$separator"
    separator=', '
    if [[ $key == *: ]]; then
      printf '"%s": %s' "${key%:}" "${value:-null}"
    elif [[ -z $value ]]; then
      printf '"%s": null' "$key"
    else
      printf '"%s": %s' "$key" "$(json::string "$value")"
    fi
  done
  printf '}\n'
}

# The first string that JSON on stdin has under a key: on one line, printable, at most 300 characters; nothing where there is none.
json::text() { # json::text KEY
  local text
  text=$(LC_ALL=C tr -cd ' -~\n' | grep -oE "\"$1\": *\"([^\"\\\\]|\\\\.)*\"" | head -n 1) || true
  text=${text#*:*\"}
  text=${text%\"}
  text=${text//\\[nrt]/ }
  text=${text//\\\"/\"}
  printf '%s' "${text:0:300}"
}

# Sleeps up to SECONDS, but returns at once when a PID ends. A trapped signal interrupts it too.
common::pause() { # common::pause SECONDS [PID…]
  local timer
  sleep "$1" &
  timer=$!
  if (($# > 1)); then wait -n "${@:2}" "$timer" 2>/dev/null || true; else wait "$timer" 2>/dev/null || true; fi
  # by KILL: one that isn't `sleep` yet would run this shell's traps; without the shell's word on it
  disown "$timer" 2>/dev/null || true
  kill -KILL "$timer" 2>/dev/null || true
}

# The start time tells a process from a later one with the same number (field 22 of /proc/PID/stat; the name may hold blanks).
common::birth() { # common::birth PID: code 1 for one that has ended
  local BIRTH
  common::_born "$1" || return 1
  printf '%s\n' "$BIRTH"
}
common::runs() { # common::runs PID BIRTH: whether the process with this number is still the one that was born then
  local BIRTH
  common::_born "$1" && [[ $BIRTH == "$2" ]]
}
common::_born() { # common::_born PID: sets BIRTH, without a process of its own: thousands may be asked for
  local stat
  local -a lines fields
  { mapfile -t lines <"/proc/${1:-nobody}/stat"; } 2>/dev/null || return 1
  stat=${lines[*]-}
  read -ra fields <<<"${stat##*) }" || return 1
  [[ ${fields[0]-Z} != Z ]] || return 1
  BIRTH=${fields[19]-}
}

# Whether a process group has a live member. Zombies don't count: when they are reaped is up to their parent, which may be slow.
common::group_runs() { # common::group_runs PID; fields of /proc/PID/stat behind the name: state, parent, group
  awk -v group="$1" '{sub(/^.*\) /, ""); if ($3 == group && $1 != "Z") found = 1} END {exit !found}' \
    < <(cat /proc/[0-9]*/stat 2>/dev/null)
}

# Ends a process group: TERM, then KILL after SECONDS. (Servers ignore TERM while they load; children stay behind a KILL of the parent.)
common::end_group() { # common::end_group PID [SECONDS]
  local pid=$1 seconds=${2:-15} waited=0
  kill -TERM -- "-$pid" 2>/dev/null || return 0
  while common::group_runs "$pid"; do
    if ((waited++ >= seconds * 10)); then
      kill -KILL -- "-$pid" 2>/dev/null || true
      break
    fi
    common::pause 0.1
  done
  wait "$pid" 2>/dev/null || true
}
