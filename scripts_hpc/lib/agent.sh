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

agent::_size() { numfmt --to=iec --suffix=B "$1"; }

agent::_unreadable() { # agent::_unreadable FILE ERROR: says why; code 3 where the disk is to blame
  printf "%s can't be read: %s" "${1##*/}" "${2##*: }"
  [[ ! $2 =~ 'Input/output error'|'Stale file handle'|'Remote I/O error'|'timed out'|'Cannot allocate memory'|'not connected' ]] || return 3
}
