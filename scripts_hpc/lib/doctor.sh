# shellcheck shell=bash
# doctor.sh: `site.sh doctor`: checks, submits probe jobs, follows them, and leaves nothing behind. Sourced by site.sh; needs start.sh.

DOCTOR='' NONCE='' MARKED=()

doctor::run() { # doctor::run ARGUMENT…
  local probe table=()
  declare -gA AFTER=()
  # shellcheck source=scripts_hpc/lib/submit.sh
  source "$ROOT/scripts_hpc/lib/submit.sh"
  # shellcheck source=scripts_hpc/lib/scheduler.sh
  source "$ROOT/scripts_hpc/lib/scheduler.sh"
  python::ensure core
  # the last of all hooks
  on_exit doctor::_clean
  submit::begin
  SCHEDULER='' ADDRESS_DIR='' PROBES=() TABLE='' CODE=''
  [[ ! -t 1 ]] || table=(--terminal)
  submit::plan "$PYTHON" -m helpers.cluster.doctor.cli plan ${table[@]+"${table[@]}"} "$@"
  if [[ -n $CODE ]]; then
    printf '%s\n' "$TABLE"
    exit "$CODE"
  fi
  submit::open "$DOCTOR"
  local -A jobs=()
  for probe in "${PROBES[@]}"; do
    local after=${AFTER[$probe]:-}
    submit::job "$probe" ${after:+--after "${jobs[$after]}"} "$DOCTOR/jobs/$probe.sh"
    jobs[$probe]=$JOB
  done
  submit::close
  submit::watch "$PYTHON" -m helpers.cluster.doctor.cli watch "$DOCTOR"
}

# A hook: whatever ended it, its jobs end and its files go. (Where this shell itself is killed, the probes do it.)
doctor::_clean() {
  local folder
  [[ -n $DOCTOR ]] || return 0
  if [[ -d $DOCTOR && $EXIT_CODE == 3 && -n $DIED ]]; then "$PYTHON" -m helpers.cluster.doctor.cli refused "$DOCTOR" "$DIED" || true; fi
  if [[ -d $DOCTOR && ${#SUBMITTED[@]} -gt 0 ]]; then sched::cancel "${SUBMITTED[@]#*=}" || true; fi
  for folder in ${MARKED[@]+"${MARKED[@]}"}; do rm -f "$folder/.hab-doctor.$NONCE"*; done
  rm -rf "$DOCTOR"
}
