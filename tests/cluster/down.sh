#!/usr/bin/env bash
# Takes the test cluster down: cancels its jobs, and ends every process, network and line of /etc/hosts that up.sh made.
# Accounting and images stay.
#
# usage: tests/cluster/down.sh [--purge] [--state-dir DIR]
#   --purge           also delete the state folder, and the users that up.sh made; Debian packages stay installed
#   --state-dir DIR   as for up.sh
# Exit: 0 down · 2 usage · 3 something does not end · 77 not root on Debian 12
set -euo pipefail

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

down::cancel_jobs() {
  local jobs
  cluster::alive slurmctld || return 0
  jobs=$(squeue -h -o %A) || return 0
  # shellcheck disable=SC2086
  [[ -z $jobs ]] || scancel $jobs || true
  cluster::wait_for 15 down::queue_empty || cluster::log "note: killing the jobs that scancel did not end"
}

down::queue_empty() {
  local jobs
  jobs=$(squeue -h -o %A) && [[ -z $jobs ]]
}

down::processes() {
  local name folder
  cluster::end_nodes
  for name in slurmctld slurmdbd mariadbd munged; do
    cluster::stop "$name"
    cluster::kill_cgroup "$name"
  done
  folder=$(cluster::cgroup) && [[ -d $folder ]] && rmdir "$folder"
  return 0
}

down::purge() {
  local user
  while read -r user; do
    userdel --remove "$user" 2>/dev/null || cluster::die 3 "user $user cannot be removed; look at 'ps -u $user'"
  done < <(cat "$STATE/users.made" 2>/dev/null)
  [[ $(readlink "$CLUSTER_APPTAINER") != "$STATE"/* ]] || rm -f "$CLUSTER_APPTAINER"
  rm -rf --one-file-system "$STATE"
}

purge=false
while (($#)); do
  case $1 in
    -h | --help) cluster::help "${BASH_SOURCE[0]}" && exit ;;
    --purge) purge=true ;;
    --state-dir)
      [[ -n ${2:-} ]] || cluster::die 2 "--state-dir needs a folder"
      STATE=$2 && shift
      ;;
    --state-dir=*) STATE=${1#*=} ;;
    *) cluster::die 2 "unknown option $1; see --help" ;;
  esac
  shift
done
cluster::require_machine
cluster::check_state_dir
if [[ ! -f $STATE/settings ]]; then
  cluster::log "no test cluster in $STATE"
  exit 0
fi
exec {lock}>"$STATE/log/lock"
flock "$lock"
site=$(cluster::setting site)
cluster::site "${site:-loopback}"
export SLURM_CONF=$STATE/etc/slurm.conf
cluster::kill_cgroup build # what a killed up.sh has left
down::cancel_jobs
down::processes
cluster::network_down
cluster::unmount
! grep -qsx "include $STATE/etc/slurm.conf" "$CLUSTER_ETC" || rm -f "$CLUSTER_ETC"
! $purge || down::purge
