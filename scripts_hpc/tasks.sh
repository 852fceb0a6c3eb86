#!/usr/bin/env bash
# Usage: scripts_hpc/tasks.sh list [--type TYPE] [--difficulty LEVEL] [--json]
#        scripts_hpc/tasks.sh show ID [--json] | types [--json]
#        scripts_hpc/tasks.sh create [--from FILE] [--id ID --name NAME --type TYPE --dataset-type TYPE …] [--json]
#        scripts_hpc/tasks.sh generate-data ID DIR [--seed N] [--force] [--check]
#        scripts_hpc/tasks.sh validate ID RESULTS_DIR [--data-dir DIR] [--json]
#        scripts_hpc/tasks.sh config ID OUT [--set KEY=VALUE]…
#
#   list, show      the tasks: those of this project, and your own
#   types           the types of tasks, and the keys that each takes; `create` has an option for every key (--n-samples, --metric, …)
#   create          makes a definition of your own, by asking questions, or from options alone
#   generate-data   makes a task's data in a folder of DIR, with the answers in a private half. The seed is random unless given; data that
#                   are prepared already are left alone. --check only says whether they are: it ends with 2 if they aren't
#   validate        checks an agent's results (a folder with submission.csv and other outputs, or the folder of a run) by everything that
#                   the task's definition asks for; it ends with 1 if they aren't good enough
#   config          writes a task's definition, and the settings of a run on it, to the file OUT; --set KEY=VALUE changes a setting
#
#   --tasks-dir DIR     your own definitions; default: paths.tasks of the site, else tasks/
#   --site NAME         a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --set KEY=VALUE     override a key of the site, e.g. --set paths.tasks=/scratch/me/tasks (not of `config`)
#   --json              for programs
#   -h, --help          this text
#
# Exit codes: 0 done; 1 not good enough; 2 usage or configuration; 3 disk full; 130 interrupted.
set -euo pipefail
# shellcheck source=scripts_hpc/lib/start.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/start.sh"
start::verb "list show types create generate-data validate config" "$@"
# the site, as its environment variables say it
ARGUMENTS=("$1") VERB=$1
shift
while (($#)); do
  case $1 in
    --site=* | --set=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    --site | --set)
      (($# >= 2)) || die 2 "$1 needs a value (--help tells which)"
      if [[ $1 == --site ]]; then
        export HPC_SITE=$2
      elif [[ $VERB == config ]]; then
        ARGUMENTS+=("$1" "$2")
      else
        [[ $2 =~ ^([a-z_]+)\.([a-z0-9_.]+)= ]] || die 2 "--set $2: must be key=value, for example --set paths.data=/scratch/me/data"
        NAME=HPC_${BASH_REMATCH[1]}__${BASH_REMATCH[2]//./__}
        export "${NAME^^}=${2#*=}"
      fi
      shift
      ;;
    *) ARGUMENTS+=("$1") ;;
  esac
  shift
done
start::python helpers.tasks.cli "${ARGUMENTS[@]}"
