# shellcheck shell=bash
# environment.sh: runs what a site wants at the start of its jobs (modules, lines of shell): code of strangers, that knows nothing of
# strict mode. Sourced by job scripts that have such code, after common.sh; they set SITE and ROOT.

# Between enter and leave: no strict mode, and whoever ends the shell is told. The caller puts its arguments aside itself.
environment::enter() {
  ENVIRONMENT_KEPT=("$ROOT" "$SITE" "$PWD" "$IFS" "$SHELLOPTS" "$BASHOPTS" "$PATH")
  ENVIRONMENT_DOES='environment.setup' ENVIRONMENT_SAID=''
  exec {ENVIRONMENT_LOG}>&2
  trap environment::_ended EXIT
  set +euo pipefail
}

# All as it was, but for variables, functions, limits and the umask. (DEBUG, ERR and RETURN are a function's own: the caller's task.)
environment::leave() {
  trap - EXIT INT TERM HUP QUIT USR1 USR2
  exec {ENVIRONMENT_LOG}>&-
  ROOT=${ENVIRONMENT_KEPT[0]} SITE=${ENVIRONMENT_KEPT[1]} IFS=${ENVIRONMENT_KEPT[3]}
  environment::_options "${ENVIRONMENT_KEPT[4]}" "$SHELLOPTS" set -o +o
  environment::_options "${ENVIRONMENT_KEPT[5]}" "$BASHOPTS" shopt -s -u
  # added to is what it should be; without the system's own programs nothing goes on
  if ! type -P mktemp cat date >/dev/null; then PATH=$PATH:${ENVIRONMENT_KEPT[6]}; fi
  builtin cd "${ENVIRONMENT_KEPT[2]}" 2>/dev/null || builtin cd / || exit 3
}

environment::_options() { # environment::_options BEFORE NOW COMMAND ON OFF: BEFORE and NOW are lists with colons
  local before=$1 now=$2 name
  for name in ${now//:/ }; do
    [[ :$before: == *":$name:"* ]] || "$3" "$5" "$name" 2>/dev/null
  done
  for name in ${before//:/ }; do
    [[ :$now: == *":$name:"* ]] || "$3" "$4" "$name" 2>/dev/null
  done
}

environment::_ended() {
  local code=$?
  trap - EXIT
  exec >&"$ENVIRONMENT_LOG" 2>&1
  [[ -z $ENVIRONMENT_SAID ]] || cat "$ENVIRONMENT_SAID"
  printf '%s: %s ended the job (exit code %d): no line of it may call exit, or fail under a set -e of its own\n' \
    "${0##*/}" "$ENVIRONMENT_DOES of site ${ENVIRONMENT_KEPT[1]}" "$code"
  exit 3
}

environment::module() { # environment::module NAME: loads it, or ends the job
  local name=$1 said code
  environment::_find_module || environment::_die "there is no command \`module\` on ${HOSTNAME:-this node}, so environment.modules of site ${ENVIRONMENT_KEPT[1]} can't be loaded: its init file belongs into environment.setup (source …/init/bash)"
  ENVIRONMENT_DOES="module load $name (environment.modules)"
  # in this very shell, so its words go by a file
  ENVIRONMENT_SAID=$(mktemp 2>/dev/null)
  module load "$name" >"${ENVIRONMENT_SAID:-/dev/null}" 2>&1
  code=$?
  said=$(cat "${ENVIRONMENT_SAID:-/dev/null}" && rm -f "$ENVIRONMENT_SAID")
  ENVIRONMENT_SAID=''
  [[ -z $said ]] || printf '%s\n' "$said" >&2
  # older ones say so, and end with 0
  if ((code)) || [[ $said =~ 'Unable to locate a modulefile'|ModuleCmd_[A-Za-z]+\.c\([0-9]+\):ERROR ]]; then
    said=$(grep -m 1 -iE 'error|unknown|unable|cannot' <<<"$said")
    environment::_die "module $name can't be loaded on ${HOSTNAME:-this node}: check environment.modules of site ${ENVIRONMENT_KEPT[1]} (\`module avail\` and \`module spider\` show what there is)${said:+. It says: ${said:0:200}}"
  fi
  ENVIRONMENT_DOES='environment.setup'
}

environment::_die() {
  trap - EXIT
  die 3 "$1"
}

# Not every batch shell knows `module`: it comes with login shells. The usual files are asked, in this order.
environment::_find_module() {
  local file
  for file in '' "${MODULESHOME:-}/init/bash" "${LMOD_PKG:-}/init/bash" /etc/profile.d/*lmod*.sh /etc/profile.d/*module*.sh \
    /usr/share/lmod/lmod/init/bash /usr/share/modules/init/bash /usr/share/Modules/init/bash /etc/profile; do
    # shellcheck source=/dev/null
    [[ ! -r $file ]] || . "$file"
    if type module >/dev/null 2>&1; then return 0; fi
  done
  return 1
}
