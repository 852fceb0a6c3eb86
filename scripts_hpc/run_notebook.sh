#!/usr/bin/env bash
# Usage: scripts_hpc/run_notebook.sh TASK [options]
#
# Starts JupyterLab on a prepared task, as a job in the experiment container. It sees the public half of the task's data (the folder
# `data`, read-only), never the answers, and a folder for notebooks that is kept. The command waits until JupyterLab answers, then prints
# how to reach it: an ssh command for your own machine, and the address for your browser. The address holds a token, so it is printed only
# if the output is a terminal.
#
# Options
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE    override a key of the site, e.g. --set jobs.agent.memory_gb=64 (repeatable); the job is as large as an
#                      agent's
#   --time-limit SECONDS   instead of jobs.agent.time_limit
#   -h, --help         this text
#
# JupyterLab ends at its time limit, with scancel, or when nothing has happened in it for limits.idle_server_minutes. Ctrl-C while the
# command waits cancels the job. Without Slurm it runs as a process of this machine.
# Exit codes: 0 it answers; 2 usage or configuration; 3 infrastructure (rejected, died); 130 interrupted.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
# shellcheck source=scripts_hpc/lib/submit.sh
source "$ROOT/scripts_hpc/lib/submit.sh"
common::check_shell

TASK='' OPTIONS=()
while (($#)); do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    --site | --set | --time-limit)
      (($# >= 2)) || die 2 "$1 needs a value (--help tells which)"
      OPTIONS+=("$1" "$2")
      shift
      ;;
    -h | --help) common::usage "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) die 2 "unknown option $1 (--help lists them)" ;;
    *)
      [[ -z $TASK ]] || die 2 "one task at a time: $TASK or $1"
      TASK=$1
      ;;
  esac
  shift
done
# shellcheck disable=SC2218  # defined in common.sh
[[ -n $TASK ]] || die 2 "which task? For example: scripts_hpc/run_notebook.sh classification_basic"

# shellcheck source=scripts_hpc/lib/python.sh
source "$ROOT/scripts_hpc/lib/python.sh"
# shellcheck source=scripts_hpc/lib/scheduler.sh
source "$ROOT/scripts_hpc/lib/scheduler.sh"
# shellcheck source=scripts_hpc/lib/service.sh
source "$ROOT/scripts_hpc/lib/service.sh"
python::ensure core
# from here on, as bash can't be interrupted while it reads a file with "$(…)" in it: the trap would be parsed in its midst
submit::begin
VENV=${PYTHON%/bin/*} # service::curl's, where there is no curl
NOTEBOOK='' NOTEBOOKS='' SCHEDULER='' ADDRESS_DIR='' ISOLATED='' IDLE_MINUTES='' LIMIT=''
submit::plan "$PYTHON" -m helpers.jobs.notebook ${OPTIONS[@]+"${OPTIONS[@]}"} -- "$TASK"

# ---- submit, and wait until it answers

submit::open "$NOTEBOOK"

published() {
  URL=$(service::lookup "notebook_$JOB" url) && TOKEN=$(service::lookup "notebook_$JOB" token)
}
answers() { service::ask "notebook_$JOB" token /api/status --max-time 5 --output /dev/null --fail 2>/dev/null; }

SHOWN='' LOOKS=10
check_job() { # says what it waits for; ends when the job is gone
  local line state reason why
  line=$(sched::states "$JOB") || return 0 # not known is not gone
  IFS='|' read -r _ state reason _ NODE <<<"$line"
  if ! sched::is_alive "$state" && [[ -n $(sched::gone_of "$JOB" || true) ]]; then
    tail -n 5 "$NOTEBOOK/logs/notebook-$JOB.out" >&2 2>/dev/null || true
    why=$(service::failure "$JOB")
    submit::leave
    die 3 "job $JOB ended before JupyterLab answered ($state${why:+: $why}): its log is $NOTEBOOK/logs/notebook-$JOB.out"
  fi
  [[ $SHOWN == "$state $reason" ]] || log "job $JOB: $state${reason:+ ($reason)}"
  case $SHOWN:$state:$reason in
    "$state $reason":* | *:PENDING:None | *:PENDING:Priority | *:PENDING:Resources) ;;
    *:PENDING:*)
      why=$("$PYTHON" -m helpers.jobs.kinds.notebook "$NOTEBOOK" 2>/dev/null) || true
      submit::check
      [[ -z $why ]] || die 3 "$why"
      ;;
  esac
  # quick while something changes, at last once a minute
  LOOKS=$((LOOKS < 160 ? LOOKS * 5 / 4 : 200))
  [[ $SHOWN == "$state $reason" ]] || LOOKS=10
  SHOWN="$state $reason"
}

NODE=''
submit::job notebook "$NOTEBOOK/jobs/notebook.sh" "$TASK"
submit::close
until published; do
  check_job
  for ((i = 0; i < LOOKS; i++)); do
    submit::check
    ! published || break
    common::pause 0.3
  done
done
check_job
LATEST=$((SECONDS + 20)) NOTE=''
until answers; do
  submit::check
  # it has answered on its own node, or there were no address
  ((SECONDS < LATEST)) || { NOTE="it doesn't answer this machine, though: ssh to a machine that reaches $URL" && break; }
  common::pause 0.5
done
submit::leave
trap - INT TERM HUP

# ---- tell how to reach it

ADDRESS=$ADDRESS_DIR/notebook_$JOB
PORT=${URL##*:} HOST=${URL#https://}
HOST=${HOST%:*}
SHARED=$URL
printf 'JupyterLab on %s is ready: job %s%s, for %s at most, or until %s minutes without use%s\n' \
  "$TASK" "$JOB" "${NODE:+ on $NODE}" "$LIMIT" "$IDLE_MINUTES" "${NOTE:+; $NOTE}"
if [[ $SCHEDULER != local ]]; then
  SHARED=https://localhost:8888
  printf '  on your machine:  ssh -N -L 8888:%s:%s %s@%s\n' "$HOST" "$PORT" "$(id -un)" "$(hostname -f 2>/dev/null || hostname)"
fi
if [[ -t 1 ]]; then
  printf '  in your browser:  %s/lab?token=%s\n' "$SHARED" "$TOKEN"
else
  printf '  in your browser:  %s/lab, with the token that this prints: sed -n s/^token=//p %s\n' "$SHARED" "$ADDRESS"
fi
printf '  its certificate is its own: your browser asks once; SHA-256 %s\n' "$(openssl x509 -noout -fingerprint -sha256 -in "$ADDRESS" | sed 's/.*=//')"
if [[ $SCHEDULER == local ]]; then
  printf '  to end it:        kill %s\n' "$(cut -d' ' -f1 "$LOCAL_JOBS/$JOB/pid")"
else
  printf '  to end it:        scancel %s\n' "$JOB"
fi
printf '  your notebooks:   %s\n' "$NOTEBOOKS"
((ISOLATED)) || printf 'It runs without a container: unlike an agent in one, you could read the answers from there.\n'
