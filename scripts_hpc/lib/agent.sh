# shellcheck shell=bash
# agent.sh: what an agent leaves behind, read by its job: its submission, what it says of itself, its output, the room it takes.
# Nothing that an agent wrote is believed, waited for, or read without a bound. Sourced by slurm_agent_*.sh; needs common.sh.

# Copies a regular file as it is at this moment: no link is followed, no pipe waited for, no more than BYTES are read.
# Codes: 0; 1 with the reason on stdout, where what lies there can't be read, which is its writer's doing; 3 with the reason, where
# the disk it lies on fails, or the copy can't be written.
agent::copy() { # agent::copy FILE BYTES COPY
  local file=$1 limit=$2 copy=$3 before said codes try
  for ((try = 0; try < 20; try++)); do
    before=$(agent::_seen "$file")
    case $before in
      regular*) ;;
      *': '*) agent::_unreadable "$file" "$before" && return 1 || return ;;
      *) printf '%s is a link or no regular file: refused' "${file##*/}" && return 1 ;;
    esac
    if (($(cut -d'|' -f2 <<<"$before") > limit)); then
      printf '%s has %s, more than the %s that may be submitted' "${file##*/}" \
        "$(agent::_size "$(cut -d'|' -f2 <<<"$before")")" "$(agent::_size "$limit")" && return 1
    fi
    said=$(
      {
        LC_ALL=C timeout 300 dd if="$file" iflag=nofollow,nonblock,fullblock,count_bytes bs=1M count=$((limit + 1)) status=none | cat >"$copy"
        printf '\n%s %s' "${PIPESTATUS[@]}"
      } 2>&1
    )
    read -r -a codes <<<"${said##*$'\n'}"
    ((${codes[1]:-1} == 0)) || { printf "can't write %s: %s" "$copy" "$(common::lacking "${copy%/*}")" && return 3; }
    if ((codes[0])); then
      agent::_unreadable "$file" "${said%%$'\n'*}" && return 1 || return
    fi
    # what was changed meanwhile is neither the old nor the new one
    [[ $(agent::_seen "$file") != "$before" ]] || return 0
    common::pause 0.25
  done
  printf '%s was being changed while it was read' "${file##*/}"
  return 1
}

agent::_seen() { LC_ALL=C stat --format='%F|%s|%i|%z' -- "$1" 2>&1 || true; } # kind, bytes, inode and the time of the last change, which nobody can set

agent::_size() { LC_ALL=C numfmt --to=iec --suffix=B "$1"; }

agent::_unreadable() { # agent::_unreadable FILE ERROR: says why; code 3 where the disk is to blame
  printf "%s can't be read: %s" "${1##*/}" "${2##*: }"
  [[ ! $2 =~ 'Input/output error'|'Stale file handle'|'Remote I/O error'|'timed out'|'Cannot allocate memory'|'not connected' ]] || return 3
}

# ---- what it prints

AGENT_LOG_BYTES=$((4 << 20)) # kept of what an agent prints: this much of its beginning, and at least this much of its end
AGENT_LOGGER=''

# Starts COMMAND as the agent, in a process group of its own: AGENT_PID. It prints into a pipe, from which the job fills FILE: no
# descriptor of its own leads to a file of the job, which it could truncate or write over.
agent::start() { # agent::start FILE COMMAND…
  local file=$1 pipe=$JOB_TMP/agent.pipe
  shift
  { mkfifo "$pipe" && : >"$file"; } 2>/dev/null || run::lose "can't write $file: $(common::lacking "${file%/*}")"
  set -m
  (agent::_keep_output "$file" "$pipe") </dev/null &
  AGENT_LOGGER=$!
  (exec >"$pipe" 2>&1 && "$@") </dev/null &
  # shellcheck disable=SC2034 # run.sh's
  AGENT_PID=$!
  set +m
}

# When the agent has ended, its last words are in the file. What it left behind may hold the pipe for ever.
agent::end_log() {
  local logger=$AGENT_LOGGER
  [[ -n $logger ]] || return 0
  AGENT_LOGGER=''
  agent::_has_ended "$logger" 2 || kill -USR1 "$logger" 2>/dev/null || true
  agent::_has_ended "$logger" 10 || log "what the agent printed last is not in its log"
  common::end_group "$logger" 1
}

agent::_has_ended() { # agent::_has_ended PID SECONDS: waits so long for it
  local try
  for ((try = 0; try < $2 * 10; try++)); do
    kill -0 "$1" 2>/dev/null || return 0
    common::pause 0.1 "$1"
  done
  return 1
}

# The logger, a process of the job: reads PIPE until nobody can write to it any more, or until it is told so (USR1). It goes on reading
# where it can't write, as an agent would wait for it, or be ended by SIGPIPE. While FILE.last is being filled, FILE.previous is there.
agent::_keep_output() { # agent::_keep_output FILE PIPE
  local file=$1 to=$1 code left_out=0
  LOG_ENDS=0 LOG_READER=''
  container::_guard "$$" &
  # the agent's end is ours
  trap '' TERM INT HUP
  trap 'LOG_ENDS=1 && agent::_stop_reading' USR1
  exec <"$2"
  rm -f "$2"
  for (( ; ; )); do
    code=0
    agent::_read "$AGENT_LOG_BYTES" "$to" || code=$?
    ((code == 0 && LOG_ENDS == 0)) || break
    (($(stat --format=%s "$to") == AGENT_LOG_BYTES)) || break
    if [[ $to == "$file" ]]; then
      to=$file.last
    else
      [[ ! -e $file.previous ]] || left_out=$((left_out + AGENT_LOG_BYTES))
      mv -f "$file.last" "$file.previous"
    fi
  done
  if ((LOG_ENDS)); then
    # what is in the pipe by now
    dd iflag=nonblock bs=64K count=16 status=none >>"$to" 2>/dev/null || true
  elif ((code)); then
    log "can't write $to: $(common::lacking "${to%/*}"): what the agent prints is not kept any more"
    agent::_read - /dev/null || true
  fi
  agent::_join "$file" "$left_out" || log "can't write $file: what the agent printed last is in $file.previous and $file.last"
}

# A trap waits for the end of a command in the foreground, so the reader is none.
agent::_read() { # agent::_read BYTES|- FILE: from stdin, without a buffer; - is all
  if [[ $1 == - ]]; then cat >"$2" <&0 2>/dev/null & else stdbuf -o0 head --bytes="$1" >"$2" <&0 2>/dev/null & fi
  LOG_READER=$!
  ((LOG_ENDS == 0)) || agent::_stop_reading
  local code=0
  wait "$LOG_READER" || code=$?
  # that may have been the trap
  ((LOG_ENDS == 0)) || wait "$LOG_READER" 2>/dev/null || true
  LOG_READER=''
  return "$code"
}

agent::_stop_reading() { [[ -z $LOG_READER ]] || kill -KILL "$LOG_READER" 2>/dev/null || true; }

agent::_join() { # agent::_join FILE BYTES_LEFT_OUT
  local file=$1 part
  [[ -e $file.last || -e $file.previous ]] || return 0
  {
    (($2 == 0)) || printf '\n[%d bytes are left out here]\n' "$2"
    for part in previous last; do [[ ! -e $file.$part ]] || cat "$file.$part"; done
  } >>"$file" 2>/dev/null || {
    truncate --size="$AGENT_LOG_BYTES" "$file"
    return 1
  }
  rm -f "$file.previous" "$file.last"
}

# ---- what it did

# Writes logs/trajectory.json, what the agent did in one format, beside what it left itself (`results.sh trajectory` does the same later).
# In a container of the agent's image, as nodes may have no Python; it sees the logs and the run's record alone, and nothing of the agent's
# that Python would take for a module. Where that fails or takes too long there is none.
agent::write_trajectory() {
  local scratch=$JOB_TMP/trajectory pid
  [[ -d $RUN/logs && ! -L $RUN/logs && (-f $RUN/logs/journal.json || -f $RUN/logs/mini-swe.traj.json) ]] || return 0
  mkdir -p "$scratch"/{tmp,shm} 2>/dev/null || return 0
  set -m
  agent::_trajectory </dev/null >/dev/null 2>"$scratch/problem" &
  pid=$!
  set +m
  agent::_has_ended "$pid" "$TRAJECTORY_SECONDS" || log "the agent's steps couldn't be read in $TRAJECTORY_SECONDS s: scripts_hpc/results.sh trajectory reads them"
  common::end_group "$pid" 1
}

agent::_trajectory() { # in a subshell
  JOB_TMP=$scratch
  # shellcheck disable=SC2034 # container::exec's
  CONTAINER_ENV=([PYTHONPATH]=$(container::inside "$ROOT" /opt/hab) [PYTHONDONTWRITEBYTECODE]=1)
  container::exec "$IMAGE" --contained --bind "$ROOT/helpers:/opt/hab/helpers:ro" --bind "$RUN/logs:/home/run/logs" \
    --bind "$RUN/run_metadata.json:/home/run/run_metadata.json:ro" --pwd "$(container::inside "$ROOT" /opt/hab)" -- \
    python3 -m helpers.trajectories.write "$(container::inside "$RUN" /home/run)"
}
TRAJECTORY_SECONDS=30

# ---- the room that it takes

# Bytes on disk and number of names in folders; no link is followed, no other file system entered, and after two minutes what was seen
# so far counts. A folder that its owner can't look into is opened first, on the way: the next moment the agent may have closed it again.
# (-execdir, as a path may be longer than the system takes; it refuses a PATH with folders that aren't absolute.)
agent::room() { # agent::room FOLDER…: prints BYTES FILES; a file with several names has its bytes divided among them
  {
    PATH=/usr/bin:/bin timeout --foreground --kill-after=5 "$ROOM_SECONDS" \
      find "$@" -xdev \( -type d ! -perm -u=rx -execdir chmod u+rx {} \; -o -true \) -printf '%b %n %y\n' 2>/dev/null || true
  } | LC_ALL=C awk '{bytes += 512 * $1 / ($3 == "d" ? 1 : $2)} END {printf "%.0f %.0f\n", bytes, NR}'
}
ROOM_SECONDS=120

# Looks again and again at the room that an agent takes, until it is too much: then says so in one line, and ends.
agent::watch() { # agent::watch GB FILES FOLDER…
  local gb=$1 most=$2 began bytes files
  shift 2
  while kill -0 "$$" 2>/dev/null; do
    began=$(date +%s%N)
    read -r bytes files < <(agent::room "$@")
    if ! LC_ALL=C awk -v bytes="$bytes" -v gb="$gb" 'BEGIN {exit bytes > gb * 2 ^ 30}'; then
      printf 'it had written %s, more than limits.run_gb (%s)\n' "$(agent::_size "$bytes")" "$gb"
      return
    elif ((files > most)); then
      printf 'it had made %s files and folders, more than limits.run_files (%s)\n' "$files" "$most"
      return
    fi
    sleep "$(agent::pace $((($(date +%s%N) - began) / 1000000)))"
  done
}

# How long to rest after a look: looking takes a fiftieth of the time, for the file system may be slow and is everybody's.
agent::pace() { # agent::pace MILLISECONDS_OF_THE_LOOK: prints seconds, at most half an hour
  local seconds=$(($1 * 49 / 1000))
  printf '%s' "$((seconds < PACE ? PACE : seconds > 1800 ? 1800 : seconds))"
}
PACE=10 # seconds, at least
