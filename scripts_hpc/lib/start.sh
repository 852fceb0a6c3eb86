# shellcheck shell=bash
# start.sh: what a command begins with: ROOT, messages, the shell's version, -h from the header of the script, and the way into Python.
# Sourced first, with the command's own arguments; the checkout is the one in which the command lies.

ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[1]}")/.." && pwd)
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
for argument in "$@"; do
  case $argument in -h | --help) common::usage "${BASH_SOURCE[1]}" && exit 0 ;; esac
done
common::check_shell
# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"

# The first argument, where it is one of the verbs: else says which there are.
start::verb() { # start::verb "VERB…" [ARGUMENT…]
  local verbs=$1
  shift
  (($#)) || { common::usage "$0" >&2 && exit 2; }
  [[ " $verbs " != *" $1 "* ]] || return 0
  local last=${verbs##* }
  verbs=${verbs% *}
  die 2 "unknown verb '$1': ${verbs// /, } or $last (--help tells more)"
}

start::python() { # start::python MODULE ARGUMENT…: the rest of the command
  python::ensure core
  exec "$PYTHON" -m "$@"
}
